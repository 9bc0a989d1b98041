//! A household behind a router, and what `hearth` makes of it: every scenario of `cargo xtask lab`.

use std::process::Command;

use hearth_e2e::{lab, peers, program};

/// All scenarios together; each has a limit of its own besides.
const SECONDS_MAX: u32 = 300;

#[test]
fn every_scenario_of_the_lab() {
    let missing = lab::missing();
    if !missing.is_empty() {
        let text = format!("SKIPPED: the lab needs {}", missing.join(", "));
        assert!(std::env::var_os("E2E_NO_SKIP").is_none(), "{text}");
        eprintln!("{text}");
        return;
    }
    program::built("hearth-server", "hearth").expect("the server");
    let lab = program::built("hearth-e2e", "lab").expect("the lab");
    let output = peers::run(SECONDS_MAX, Command::new(lab).args(["run", "--jobs", "3", "all"]));
    let output = output.expect("the lab starts");
    let said = String::from_utf8_lossy(&output.stdout);
    eprintln!("{said}");
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
}
