//! Deliberate bugs that prove the tests have teeth. They exist only in builds with
//! `--cfg hearth_bug="any"`, where the environment variable `E2E_BUG` arms one of them;
//! `tests/teeth.rs` builds once and checks that the suite catches every one.

/// True if the named bug is armed. Constant `false` in ordinary builds.
#[inline(always)]
pub(crate) fn bug(name: &str) -> bool {
    cfg!(hearth_bug = "any") && armed(name)
}

fn armed(name: &str) -> bool {
    static ARMED: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    ARMED.get_or_init(|| std::env::var("E2E_BUG").unwrap_or_default()) == name
}
