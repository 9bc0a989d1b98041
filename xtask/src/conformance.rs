//! `cargo xtask conformance`: protocol suites against `examples/referee`.

pub(crate) fn run() -> anyhow::Result<()> {
    anyhow::bail!("not here yet")
}
