//! `cargo xtask fuzz`: every fuzz target for a while.

use std::fs;

use anyhow::Context as _;

use crate::{process, workspace};

pub(crate) fn run(args: &[String]) -> anyhow::Result<()> {
    let seconds: u32 = match args.first() {
        Some(seconds) => seconds.parse().context("fuzz takes a number of seconds")?,
        None => 60,
    };
    let folder = workspace::root().join("fuzz/fuzz_targets");
    let mut targets = Vec::new();
    for entry in
        fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))?
    {
        let name = entry?.file_name().to_string_lossy().into_owned();
        targets.extend(name.strip_suffix(".rs").map(str::to_owned));
    }
    targets.sort();
    for target in targets {
        eprintln!("== fuzz {target}, {seconds} s");
        let mut fuzz = std::process::Command::new("cargo");
        // Cargo sets these for us; the nightly toolchain must find its own.
        fuzz.env_remove("CARGO").env_remove("RUSTUP_TOOLCHAIN").current_dir(workspace::root());
        // Targets that have a valid input to begin with put it there.
        fuzz.env("E2E_SEED_DIR", workspace::root().join("fuzz/corpus").join(&target));
        fuzz.args(["+nightly", "fuzz", "run", &target, "--"]);
        fuzz.arg(format!("-max_total_time={seconds}"));
        process::run(fuzz.args(["-rss_limit_mb=2048", "-timeout=10"]))?;
    }
    Ok(())
}
