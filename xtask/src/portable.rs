//! `cargo xtask portable`: whether the server compiles for systems that this machine is not.

use std::{fs, path::PathBuf, process::Command};

use anyhow::Context as _;

use crate::{process, workspace};

const TARGETS: &[&str] = &["aarch64-apple-darwin", "x86_64-pc-windows-gnu"];

pub(crate) fn run() -> anyhow::Result<()> {
    let compiler = compiler()?;
    for target in TARGETS {
        eprintln!("== {target}");
        process::run(Command::new("rustup").args(["target", "add", target]))?;
        let mut check = process::cargo(&["check", "--package", "hearth-server"]);
        check.args(["--target", target]);
        let suffix = target.replace('-', "_");
        check.env(format!("CC_{suffix}"), &compiler).env(format!("AR_{suffix}"), &compiler);
        check.env("AWS_LC_SYS_PREBUILT_NASM", "1");
        process::run(check.env("RUSTFLAGS", "-D warnings"))?;
    }
    Ok(())
}

/// A C compiler that makes empty files: what is only checked is not linked.
fn compiler() -> anyhow::Result<PathBuf> {
    let folder = workspace::target_folder().join("portable");
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let path = folder.join("cc");
    let text = "#!/bin/sh\nfor word in \"$@\"; do [ \"$before\" != -o ] || : > \"$word\"; before=$word; done\n";
    fs::write(&path, text)?;
    process::run(Command::new("chmod").arg("+x").arg(&path))?;
    Ok(path)
}
