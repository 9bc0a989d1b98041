//! `cargo xtask bench store DIR [DOCUMENTS]`: queries that an index answers, beside SQLite.

use crate::{process, workspace};

pub(super) fn run(args: &[String]) -> anyhow::Result<()> {
    let manifest = workspace::root().join("benches/store/Cargo.toml");
    let mut bench = process::cargo(&["run", "--release", "--locked", "--manifest-path"]);
    bench.arg(manifest).arg("--target-dir").arg(workspace::target_folder().join("bench-store"));
    process::run(bench.arg("--").args(args))
}
