//! `cargo xtask sanitize`: the store's tests under the address and the thread sanitizer, and a few under Miri.

use std::{
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context as _, bail};

use crate::{process, workspace};

const TARGET: &str = "x86_64-unknown-linux-gnu";

/// Where rustup puts the sources of the standard library.
const SOURCES: &str = "lib/rustlib/src/rust/library";

/// What the thread sanitizer, ten times slower, leaves to the others that run the same tests: what one thread
/// does alone, and the tests of the sanitizer itself.
const NOT_THREADED: &[&str] = &["race::", "rot::", "small_worlds::"];

/// What Miri, a thousand times slower, can run: no files, no code that is not Rust.
const INTERPRETED: &[&str] = &["codec::", "jb1::", "key::", "memtable::"];

pub(crate) fn run(which: &[String]) -> anyhow::Result<()> {
    match which.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => {
            address()?;
            thread()?;
            miri()
        }
        ["address"] => address(),
        ["miri"] => miri(),
        ["thread"] => thread(),
        _ => bail!("sanitize what? `address`, `thread`, `miri`, or nothing for all"),
    }
}

fn address() -> anyhow::Result<()> {
    eprintln!("== address sanitizer");
    process::run(&mut tests("address", &["--lib", "--test", "it"]))
}

/// It has to see std as well: without, what `Arc`, `OnceLock` and channels order looks like races.
fn thread() -> anyhow::Result<()> {
    need("rust-src", SOURCES)?;
    eprintln!("== thread sanitizer");
    let mut all = tests("thread", &["--lib", "--test", "it"]);
    all.arg("--").args(NOT_THREADED.iter().flat_map(|part| ["--skip", part]));
    process::run(&mut all)?;

    eprintln!("== thread sanitizer: what commits order is no race");
    let one = |name| {
        let mut test = tests("thread", &["--test", "it"]);
        test.args(["--", "--exact", name]);
        test
    };
    process::run(&mut one("race::a_commit_orders_what_was_before_it"))?;

    eprintln!("== thread sanitizer: a race on purpose");
    let output = one("race::clients_that_share_memory_race").stderr(Stdio::piped()).output()?;
    let report = String::from_utf8_lossy(&output.stderr);
    if output.status.success() || !report.contains("ThreadSanitizer: data race") {
        bail!("the race on purpose was not reported:\n{report}");
    }
    eprintln!("reported, as it must be");
    Ok(())
}

/// `cargo test` of the store, built with a sanitizer.
fn tests(sanitizer: &str, targets: &[&str]) -> Command {
    let mut cargo = nightly("cargo");
    cargo.args(["+nightly", "test", "--package", "hearth-jsonstore", "--features", "mmap,testing"]);
    // With a target named, build scripts are built without the sanitizer.
    cargo.args(["--profile", "sim", "--target", TARGET]).args(targets);
    // So that a report names lines.
    cargo.env("CARGO_PROFILE_SIM_DEBUG", "line-tables-only");
    cargo.env("CARGO_TARGET_DIR", workspace::target_folder().join(sanitizer));
    let mut flags = format!("-Zsanitizer={sanitizer}");
    if sanitizer == "thread" {
        cargo.arg("-Zbuild-std");
        flags.push_str(" --cfg hearth_bug=\"race\"");
    }
    cargo.env("RUSTFLAGS", flags);
    cargo
}

fn miri() -> anyhow::Result<()> {
    need("rust-src", SOURCES)?;
    need("miri", "bin/cargo-miri")?;
    eprintln!("== Miri");
    let mut cargo = nightly("cargo");
    cargo.args(["+nightly", "miri", "test", "--package", "hearth-jsonstore", "--lib"]);
    cargo.args(["--features", "testing", "--"]).args(INTERPRETED);
    process::run(cargo.env("CARGO_TARGET_DIR", workspace::target_folder().join("miri")))
}

/// A component of the nightly toolchain, known by a file, which rustup fetches where it is not.
fn need(component: &str, file: &str) -> anyhow::Result<()> {
    let mut rustc = nightly("rustc");
    let sysroot = process::output(rustc.args(["+nightly", "--print", "sysroot"]))?;
    if Path::new(sysroot.trim()).join(file).exists() {
        return Ok(());
    }
    let mut add = nightly("rustup");
    process::run(add.args(["component", "add", component, "--toolchain", "nightly"]))
        .with_context(|| format!("this needs the component `{component}` of the nightly toolchain"))
}

/// Cargo sets variables for us that the nightly toolchain must not see.
fn nightly(program: &str) -> Command {
    let mut command = Command::new(program);
    command.env_remove("CARGO").env_remove("RUSTUP_TOOLCHAIN").current_dir(workspace::root());
    command
}
