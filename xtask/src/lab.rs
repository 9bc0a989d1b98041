//! `cargo xtask lab`: a household behind a router, with an internet around it, on this machine.

use std::process::Command;

use crate::{process, programs, workspace};

pub(crate) fn run(args: &[String]) -> anyhow::Result<()> {
    for program in programs::install(programs::LAB) {
        eprintln!("xtask: {} (Debian: {}) is not installed", program.name, program.package);
    }
    let packages = ["--package", "hearth-server", "--package", "hearth-e2e"];
    let binaries = ["--bin", "hearth", "--bin", "lab"];
    process::run(process::cargo(&["build", "--quiet"]).args(packages).args(binaries))?;
    let lab = workspace::target_folder().join("debug/lab");
    process::run(Command::new(lab).args(args))
}
