//! The tests have teeth: each deliberate bug must be caught by the suite.
//!
//! One build with `--cfg hearth_bug="any"`, then one run of the suite per bug, armed by an
//! environment variable. Slow, so only in the long run: `HEARTH_LONG=1 cargo test --test teeth`.
#![allow(clippy::unwrap_used, reason = "a test of tests")]

use std::{
    path::PathBuf,
    process::Command,
    time::{Duration, Instant},
};

/// Each bug, and the part of the suite that has to notice it.
const BUGS: &[(&str, &str)] = &[
    ("ack_before_write", "simulation::random"),
    ("act_on_cached_manifest", "simulation::old"),
    ("drop_tombstones_early", "simulation::random"),
    ("floor_too_high", "simulation::random"),
    ("gc_ignores_snapshots", "simulation::random"),
    ("gc_off_by_one", "simulation::random"),
    ("ignore_block_crc", "rot::"),
    ("ignore_chain", "chain::"),
    ("ignore_frame_crc", "simulation::random"),
    ("ignore_salt", "chain::"),
    ("leak_locks", "isolation::a_future"),
    ("lose_last_op", "simulation::random"),
    ("no_cache_invalidation", "simulation::random"),
    ("no_padding", "simulation::random"),
    ("no_range_validation", "api::isolation"),
    ("no_validation", "isolation::simulated"),
    ("no_witness", "rot::torn"),
    ("no_write_conflict", "isolation::simulated"),
    ("publish_before_sync", "simulation::random"),
    ("recovery_without_sync", "simulation::random"),
    ("remove_before_manifest", "simulation::random"),
    ("replay_flushed", "simulation::random"),
    ("replay_stops_early", "simulation::random"),
    ("roll_without_sync", "simulation::random"),
    ("skip_current_sync", "small_worlds::every_crash"),
    ("skip_log_sync", "simulation::random"),
    ("skip_manifest_dir_sync", "small_worlds::every_crash"),
    ("skip_manifest_sync", "simulation::random"),
    ("skip_segment_dir_sync", "simulation::random"),
    ("skip_segment_sync", "simulation::random"),
    ("skip_wal_dir_sync", "simulation::random"),
    ("trust_the_cache", "simulation::old"),
    ("unfair_locks", "isolation::nobody"),
];

#[test]
fn every_bug_is_caught() {
    if std::env::var("HEARTH_LONG").is_err() && std::env::var("HEARTH_TEETH").is_err() {
        println!("skipped: set HEARTH_TEETH=1");
        return;
    }
    let binary = build();
    let only = std::env::var("HEARTH_TEETH").unwrap_or_default();
    let seconds = std::env::var("HEARTH_SIM_SECONDS").unwrap_or_else(|_| "120".to_owned());
    let mut missed = Vec::new();
    assert!(passes(&binary, "", "simulation::random", "3"), "without a bug the suite passes");
    for (bug, part) in BUGS {
        if only.len() > 1 && !bug.contains(&only) {
            continue;
        }
        let start = Instant::now();
        let passed = passes(&binary, bug, part, &seconds);
        println!(
            "{bug:<24} {} after {:.1?} ({part})",
            if passed { "MISSED" } else { "caught" },
            start.elapsed()
        );
        if passed {
            missed.push(*bug);
        }
    }
    assert!(missed.is_empty(), "not caught: {missed:?}");
}

fn build() -> PathBuf {
    let target = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("teeth");
    let output = Command::new(env!("CARGO"))
        .args(["test", "--no-run", "--test", "it", "--message-format", "json"])
        .args(["--manifest-path", concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")])
        .env("RUSTFLAGS", "--cfg hearth_bug=\"any\"")
        .env("CARGO_TARGET_DIR", target)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let executable = text
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter(|v| v["target"]["name"] == "it")
        .find_map(|v| v["executable"].as_str().map(PathBuf::from));
    executable.unwrap_or_else(|| panic!("{}", String::from_utf8_lossy(&output.stderr)))
}

/// True if the suite does not notice. A bug may also make it hang; that counts as noticed.
fn passes(binary: &PathBuf, bug: &str, part: &str, seconds: &str) -> bool {
    let mut child = Command::new(binary)
        .arg(part)
        .env("HEARTH_BUG", bug)
        .env("HEARTH_SIM_SECONDS", seconds)
        .env("RUST_BACKTRACE", "0")
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status.success();
        }
        if start.elapsed() > Duration::from_secs(300) {
            child.kill().unwrap();
            child.wait().unwrap();
            return false;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}
