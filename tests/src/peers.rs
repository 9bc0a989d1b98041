//! Programs of others that the tests use as peers.

use std::{
    env,
    path::PathBuf,
    process::{Command, Output, Stdio},
};

/// Where a program is; `None` skips the part that needs it, and says so. Where
/// `E2E_NO_SKIP` is set, as in CI, a missing program is a failure.
///
/// # Panics
/// When the program is missing and nothing may be skipped.
#[must_use]
pub fn find(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = env::split_paths(&path).chain(["/usr/sbin".into()]);
    let found = folders.map(|folder| folder.join(name)).find(|file| file.is_file());
    if found.is_none() {
        let text =
            format!("SKIPPED: {name} is not installed (`cargo xtask test` installs it as root)");
        assert!(env::var_os("E2E_NO_SKIP").is_none(), "{text}");
        eprintln!("{text}");
    }
    found
}

/// Runs a command to its end, at most for this many seconds.
///
/// # Errors
/// When it cannot be started.
pub fn run(seconds: u32, command: &mut Command) -> anyhow::Result<Output> {
    let mut bounded = Command::new("timeout");
    bounded.args(["-k", "5", &seconds.to_string()]).arg(command.get_program());
    bounded.args(command.get_args()).stdin(Stdio::null());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => bounded.env(name, value),
            None => bounded.env_remove(name),
        };
    }
    if let Some(folder) = command.get_current_dir() {
        bounded.current_dir(folder);
    }
    Ok(bounded.output()?)
}
