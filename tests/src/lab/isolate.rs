//! A world of its own for a process: mounts, process ids, and with them everything the process makes.
//!
//! Network namespaces, mounts and daemons live inside; when the first process in there ends, by whatever means, the
//! kernel ends the others and takes the rest back. Nothing has to be torn down, so nothing can be left behind, and
//! two runs cannot meet.

use std::{
    fs,
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context as _, ensure};

/// Where the lab keeps its files: a file system in memory that only the lab sees.
pub const FOLDER: &str = "/run/hearth-lab";
/// Said to the process inside, so that it knows where it is.
const INSIDE: &str = "E2E_LAB_INSIDE";

/// A command that runs `program` in a world of its own, and does not outlive the caller's thread.
#[must_use]
pub fn isolated(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "unshare", "--pid", "--fork", "--kill-child=KILL"]);
    command.args(["--mount", "--mount-proc", "--propagation", "private", "--"]);
    command.arg(program).env(INSIDE, "1");
    command
}

/// Whether this process was started by [`isolated`].
#[must_use]
pub fn is_inside() -> bool {
    std::env::var_os(INSIDE).is_some()
}

/// Replaces this process by itself in a world of its own.
///
/// # Errors
/// When it cannot be started; it does not return otherwise.
pub fn enter() -> anyhow::Result<()> {
    let mut command = isolated(&std::env::current_exe()?);
    Err(command.args(std::env::args_os().skip(1)).exec()).context("setpriv (util-linux)")
}

/// Lays the lab's own folders over those of the machine. They vanish with the world.
pub(super) fn mount(resolver: &str) -> anyhow::Result<()> {
    ensure!(is_inside(), "the lab needs a world of its own");
    for folder in ["/run/netns", FOLDER] {
        fs::create_dir_all(folder).with_context(|| folder.to_owned())?;
        run("mount", &["-t", "tmpfs", "-o", "mode=0755", "hearth-lab", folder])?;
    }
    let ours = format!("{FOLDER}/resolv.conf");
    fs::write(&ours, format!("nameserver {resolver}\noptions timeout:2 attempts:2\n"))?;
    // Where it is a link, the bind mount goes over what it leads to.
    let theirs = fs::canonicalize("/etc/resolv.conf").context("/etc/resolv.conf")?;
    run("mount", &["--bind", &ours, &theirs.to_string_lossy()])
}

pub(super) fn run(program: &str, args: &[&str]) -> anyhow::Result<()> {
    let output = Command::new(program).args(args).stdin(Stdio::null()).output();
    let output = output.with_context(|| format!("cannot start {program}"))?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{program} {}: {}", args.join(" "), complaint.trim());
    Ok(())
}
