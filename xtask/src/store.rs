//! The parts of the store's suite that need an optimised build of their own: fault simulation for
//! a while, and the proof that the suite catches every deliberate bug.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Context as _;

use crate::{process, workspace};

/// Crashes and recoveries per second of processor time, below which the simulator is too slow: where nothing
/// else runs, and on a machine that others use, too, where a figure of time must not fail a push.
const RATE_MIN: &str = "1000";
const RATE_MIN_SHARED: &str = "500";

pub(crate) fn run(long: bool) -> anyhow::Result<()> {
    let suite = build()?;
    let (seconds, rate_min) = if long { (600, RATE_MIN) } else { (60, RATE_MIN_SHARED) };
    simulate(&suite.integration, seconds, rate_min)?;
    every_byte(&suite.integration)?;
    loom()?;
    eprintln!("== deliberate bugs");
    let mut teeth = Command::new(&suite.teeth);
    teeth.arg("--nocapture");
    teeth.env("E2E_TEETH_SUITE", &suite.integration).env("E2E_TEETH_UNIT", &suite.unit);
    process::run(&mut teeth)
}

/// Flips every byte of a small store, one at a time.
fn every_byte(suite: &Path) -> anyhow::Result<()> {
    eprintln!("== bit rot");
    let mut command = Command::new(suite);
    command.args(["rot::every", "--nocapture"]).env("E2E_EVERY_BYTE", "1");
    process::run(&mut command)
}

/// Every interleaving, up to some preemptions, of the code that threads meet in.
pub(crate) fn loom() -> anyhow::Result<()> {
    eprintln!("== loom models");
    let mut cargo = process::cargo(&["test", "--package", "hearth-jsonstore", "--profile", "sim"]);
    cargo.args(["--lib", "--features", "testing", "models::"]).env("RUSTFLAGS", "--cfg loom");
    process::run(cargo.env("CARGO_TARGET_DIR", workspace::target_folder().join("loom")))
}

struct Suite {
    unit: PathBuf,
    integration: PathBuf,
    teeth: PathBuf,
}

/// One build for all bugs: the cfg brings them in, an environment variable arms one at a time.
fn build() -> anyhow::Result<Suite> {
    let mut cargo = process::cargo(&["test", "--package", "hearth-jsonstore", "--profile", "sim"]);
    cargo.args([
        "--lib",
        "--test",
        "it",
        "--test",
        "teeth",
        "--no-run",
        "--features",
        "schema,testing",
    ]);
    cargo.args(["--message-format", "json-render-diagnostics"]);
    cargo.env("RUSTFLAGS", "--cfg hearth_bug=\"any\"");
    cargo.env("CARGO_TARGET_DIR", workspace::target_folder().join("faults"));
    cargo.stderr(std::process::Stdio::inherit());
    let messages = process::output(&mut cargo)?;
    let executable = |target: &str| {
        let values = messages.lines().filter_map(|line| serde_json::from_str(line).ok());
        let mut named =
            values.filter(|value: &serde_json::Value| value["target"]["name"] == target);
        let path = named.find_map(|value| value["executable"].as_str().map(PathBuf::from));
        path.with_context(|| format!("cargo built no `{target}`"))
    };
    Ok(Suite {
        unit: executable("hearth_jsonstore")?,
        integration: executable("it")?,
        teeth: executable("teeth")?,
    })
}

/// Random worlds on every core, each from seeds of its own.
fn simulate(suite: &Path, seconds: u32, rate_min: &str) -> anyhow::Result<()> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    eprintln!("== fault simulation, {seconds} s on {cores} cores");
    let mut children = Vec::new();
    for core in 0..cores {
        let mut command = Command::new(suite);
        command.args(["simulation::random", "--nocapture"]);
        command.env("E2E_SIM_SECONDS", seconds.to_string());
        command.env("E2E_SIM_FIRST", (core * 1_000_000 + 1).to_string());
        command.env("E2E_SIM_RATE_MIN", rate_min);
        children.push(command.spawn().context("cannot start the simulator")?);
    }
    // All are waited for before any result is looked at, so that none is left behind.
    let ends: Vec<_> = children.iter_mut().map(std::process::Child::wait).collect();
    for end in ends {
        anyhow::ensure!(end?.success(), "the simulation found a fault: its seed is above");
    }
    Ok(())
}
