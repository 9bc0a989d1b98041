//! `cargo xtask bench swap`: certificates swapped under handshakes, at a rate that only an optimised build reaches.

use crate::process;

/// Handshakes per second below which it has failed; both sides of each are on this machine.
const RATE_MIN: &str = "1000";

pub(super) fn run() -> anyhow::Result<()> {
    let mut test = process::cargo(&["test", "--release", "--package", "hearth-tls-acme"]);
    test.args(["--test", "it", "certificates_are_swapped", "--", "--nocapture"]);
    process::run(test.env("E2E_LONG", "1").env("E2E_RATE_MIN", RATE_MIN))
}
