//! `cargo xtask conformance`: protocol suites against `examples/referee`.
//!
//! Ours are ordinary tests; here they run alone and say what they did. `h2spec`, a program of others that no package
//! registry of this project brings, runs besides where it is installed.

use std::{net::TcpListener, process::Command, time::Duration};

use anyhow::Context as _;

use crate::{process, programs, workspace};

pub(crate) fn run() -> anyhow::Result<()> {
    eprintln!("== HTTP/1.1 as raw bytes, limits, attacks");
    let mut ours = process::cargo(&["test", "--package", "hearth-e2e", "--test", "it", "--"]);
    process::run(ours.args(["conformance", "limits", "attacks", "--nocapture"]))?;
    eprintln!("== HTTP/2 as raw frames");
    let mut frames = process::cargo(&["test", "--package", "hearth-http-core", "--test", "it"]);
    process::run(frames.args(["--all-features", "--", "h2_"]))?;
    let Some(h2spec) = programs::find("h2spec") else {
        eprintln!("xtask: SKIPPED: h2spec is not in PATH (github.com/summerwind/h2spec)");
        return Ok(());
    };
    process::run(&mut process::cargo(&["build", "--package", "example-referee"]))?;
    // A port that was free a moment ago.
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port().to_string();
    let referee = workspace::target_folder().join("debug/referee");
    let mut referee = Command::new(referee).env("PORT", &port).spawn().context("the referee")?;
    std::thread::sleep(Duration::from_millis(500));
    let result = process::run(Command::new(h2spec).args(["-h", "127.0.0.1", "-p", &port]));
    let _ = referee.kill();
    let _ = referee.wait();
    result
}
