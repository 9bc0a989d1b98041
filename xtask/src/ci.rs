//! `cargo xtask ci`: what every push must pass.

use std::time::Instant;

use anyhow::Context as _;

use crate::{
    process::{self, cargo},
    test, tidy,
    workspace::{self, Package},
};

pub(crate) fn run() -> anyhow::Result<()> {
    let mut times = Vec::new();
    let mut step = |name: &'static str, task: &dyn Fn() -> anyhow::Result<()>| {
        eprintln!("== {name}");
        let start = Instant::now();
        let result = task().with_context(|| format!("step {name}"));
        times.push((name, start.elapsed()));
        result
    };
    step("fmt", &|| process::run(&mut cargo(&["fmt", "--all", "--check"])))?;
    step("tidy", &tidy::run)?;
    step("clippy", &clippy)?;
    step("rustdoc", &rustdoc)?;
    step("features", &features)?;
    step("no hyper in the binary", &no_hyper)?;
    step("test", &|| {
        // Nothing may be skipped here: the programs were installed, or the step fails.
        let mut command = std::process::Command::new(std::env::current_exe()?);
        process::run(command.arg("test").env(test::NO_SKIP, "1"))
    })?;
    eprintln!("\n  step                      seconds");
    for (name, time) in times {
        eprintln!("  {name:<24} {:>8.1}", time.as_secs_f64());
    }
    Ok(())
}

fn clippy() -> anyhow::Result<()> {
    let mut clippy = cargo(&["clippy", "--workspace", "--all-targets", "--all-features"]);
    process::run(clippy.args(["--", "-D", "warnings"]))
}

fn rustdoc() -> anyhow::Result<()> {
    let mut doc = cargo(&["doc", "--workspace", "--no-deps", "--all-features"]);
    process::run(doc.env("RUSTDOCFLAGS", "-D warnings"))
}

/// Each crate alone, without features and with each of them: a crate must not lean on what another
/// one happens to switch on. What has no features is tested as it is by the last step, and only built here.
fn features() -> anyhow::Result<()> {
    for package in workspace::packages()?.iter().filter(|package| package.is_crate()) {
        if package.features.is_empty() {
            alone(&["check", "--quiet", "--all-targets"], package, None)?;
            continue;
        }
        alone(&["test", "--quiet"], package, None)?;
        for feature in &package.features {
            alone(&["test", "--quiet"], package, Some(feature))?;
        }
    }
    Ok(())
}

fn alone(what: &[&str], package: &Package, feature: Option<&str>) -> anyhow::Result<()> {
    let mut command = cargo(what);
    command.args(["--no-default-features", "--package", &package.name]);
    if let Some(feature) = feature {
        command.args(["--features", feature]);
    }
    process::run(&mut command)
}

fn no_hyper() -> anyhow::Result<()> {
    let tree = process::output(&mut cargo(&["tree", "-p", "hearth-server", "-e", "normal"]))?;
    let hyper = tree.lines().find(|line| line.contains(" hyper v"));
    anyhow::ensure!(hyper.is_none(), "the binary depends on hyper: {}", hyper.unwrap_or_default());
    Ok(())
}
