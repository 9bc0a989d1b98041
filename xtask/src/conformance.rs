//! `cargo xtask conformance`: protocol suites against `examples/referee`.
//!
//! Ours are ordinary tests; here they run alone and say what they did. `h2spec`, a program of others that no package
//! registry of this project brings, runs besides where it is installed.

use std::{
    net::TcpListener,
    process::{Command, Stdio},
    time::Duration,
};

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
    let folder = workspace::target_folder();
    let (certificate, key) = (folder.join("h2spec-cert.pem"), folder.join("h2spec-key.pem"));
    let mut openssl = Command::new("openssl");
    openssl.args([
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
    ]);
    openssl.args(["-days", "2", "-subj", "/CN=localhost", "-keyout"]).arg(&key);
    process::run(openssl.arg("-out").arg(&certificate).stderr(Stdio::null()))?;
    let (plain, tls) = (free_port()?, free_port()?);
    let mut referee = Command::new(folder.join("debug/referee"));
    referee.env("PORT", &plain).env("TPORT", &tls).env("CERT", &certificate).env("KEY", &key);
    let mut referee = referee.spawn().context("the referee")?;
    std::thread::sleep(Duration::from_millis(500));
    let spec = |port: &str, args: &[&str]| {
        let host = ["--strict", "-h", "127.0.0.1", "-p", port];
        process::run(Command::new(&h2spec).args(host).args(args))
    };
    let result = spec(&plain, &[]).and_then(|()| spec(&tls, &["-t", "-k"]));
    let _ = referee.kill();
    let _ = referee.wait();
    result
}

/// A port that was free a moment ago.
fn free_port() -> anyhow::Result<String> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port().to_string())
}
