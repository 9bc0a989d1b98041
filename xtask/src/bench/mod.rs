//! `cargo xtask bench`: measurements beside peers.

mod http;
mod servers;
mod store;
mod swap;
mod table;

use anyhow::bail;

use crate::process;

pub(crate) fn run(args: &[String]) -> anyhow::Result<()> {
    match args.split_first() {
        Some((what, rest)) if what == "http" => http::run(rest),
        Some((what, rest)) if what == "router" => {
            let mut bench = process::cargo(&["bench", "--package", "hearth-router"]);
            process::run(bench.arg("--").args(rest))
        }
        Some((what, rest)) if what == "store" => store::run(rest),
        Some((what, [])) if what == "swap" => swap::run(),
        _ => bail!("bench what? `http`, `router`, `store` or `swap`"),
    }
}
