//! `cargo xtask`: every developer task, one file each. CI calls nothing else.
#![forbid(unsafe_code)]

mod bench;
mod ci;
mod conformance;
mod fuzz;
mod lab;
mod portable;
mod process;
mod programs;
mod sanitize;
mod store;
mod test;
mod tidy;
mod workspace;

use std::process::ExitCode;

const HELP: &str = "\
cargo xtask TASK [OPTIONS]

  test [--long] [-p CRATE]...   every test of the workspace; installs the programs they need where it may
  ci                            fmt, clippy, tidy, rustdoc, features, test: what every push must pass
  tidy                          layers, file budgets, required files, links, what must not be said
  bench http|router|store|swap  measurements beside peers; `bench http --help` lists its options
  conformance                   protocol suites against examples/referee
  lab list|run|shell [..]       a household behind a router, in network namespaces; needs root
  loom                          the store's loom models
  sanitize [address|thread|miri]  the store's tests under sanitizers; needs a nightly toolchain
  portable                      whether it compiles for macOS and Windows; needs rustup
  fuzz [SECONDS] [TARGET]...    fuzz targets, all or these, for SECONDS each (default 60); needs a nightly toolchain
";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let (task, rest) = match args.split_first() {
        Some((task, rest)) => (task.as_str(), rest),
        None => ("help", &[][..]),
    };
    let result = match task {
        "test" => test::run(rest),
        "ci" => ci::run(),
        "tidy" => tidy::run(),
        "bench" => bench::run(rest),
        "conformance" => conformance::run(),
        "portable" => portable::run(),
        "fuzz" => fuzz::run(rest),
        "lab" => lab::run(rest),
        "loom" => store::loom(),
        "sanitize" => sanitize::run(rest),
        "help" | "--help" | "-h" => {
            print!("{HELP}");
            Ok(())
        }
        other => Err(anyhow::anyhow!("no task named `{other}`; `cargo xtask help` lists them")),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
