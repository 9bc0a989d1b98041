//! `cargo xtask test`: every test, with the programs they need.

use anyhow::bail;

use crate::{process, programs, store, workspace};

/// Read by tests that would otherwise skip a part: with it set, a missing program is a failure.
pub(crate) const NO_SKIP: &str = "E2E_NO_SKIP";
/// Read by tests that have a longer form.
const LONG: &str = "E2E_LONG";

pub(crate) fn run(args: &[String]) -> anyhow::Result<()> {
    let mut long = false;
    let mut only = Vec::new();
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        match (arg.as_str(), args.clone().next()) {
            ("--long", _) => long = true,
            ("-p", Some(name)) => {
                only.extend(["-p".to_owned(), name.clone()]);
                args.next();
            }
            (other, _) => bail!("test does not know `{other}`"),
        }
    }
    for program in [programs::TESTS, programs::LAB].into_iter().flat_map(programs::install) {
        let text = "is not installed: the tests that need it will say so and skip that part";
        eprintln!("xtask: {} (Debian: {}) {text}", program.name, program.package);
    }
    let which: Vec<&str> = match only.is_empty() {
        true => vec!["--workspace"],
        false => only.iter().map(String::as_str).collect(),
    };
    let mut tests = process::cargo(&["test", "--all-features"]);
    if only.is_empty() {
        // The end-to-end tests start these. Built with the features of all, nothing is compiled twice.
        process::run(&mut process::cargo(&["build", "--workspace", "--bins", "--all-features"]))?;
        tests.env("E2E_BIN_DIR", workspace::target_folder().join("debug"));
    }
    if only.is_empty() || only.iter().any(|name| name == "hearth-tls-acme") {
        match programs::acme2certifier(&workspace::target_folder()) {
            Some(python) => drop(tests.env("E2E_ACME2CERTIFIER", python)),
            None => eprintln!(
                "xtask: acme2certifier cannot be installed (Debian: python3-venv): the test that needs it \
                 will say so"
            ),
        }
    }
    tests.args(which);
    if long {
        tests.env(LONG, "1");
    }
    process::run(&mut tests)?;
    if only.is_empty() || only.iter().any(|name| name == "hearth-jsonstore") {
        store::run(long)?;
    }
    Ok(())
}
