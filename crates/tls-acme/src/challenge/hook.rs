//! A program of the user's that sets TXT records.

use std::{path::PathBuf, process::Stdio, time::Duration};

use tokio::{io::AsyncReadExt as _, process::Command};

use super::{DnsSolver, SolverError, SolverFuture};

/// Runs a program to set and remove TXT records: `PROGRAM present NAME VALUE`, then `PROGRAM wait NAME VALUE`,
/// and at the end `PROGRAM cleanup NAME VALUE`.
///
/// Exit code 0 means done, 75 (`EX_TEMPFAIL`) try later, any other that somebody must act. A program that
/// knows no `wait` exits with 64 (`EX_USAGE`) there; [`settle`](Self::settle) is waited instead.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct HookSolver {
    /// The program.
    pub program: PathBuf,
    /// How long one run may take. Default 120 s.
    pub timeout: Duration,
    /// How long a record takes to be seen everywhere, where the program cannot tell. Default 20 s.
    pub settle: Duration,
}

const TEMPORARY: i32 = 75;
const USAGE: i32 = 64;
/// Of what the program complains this much is shown.
const COMPLAINT_BYTES_MAX: u64 = 2000;

impl HookSolver {
    /// Runs `program`.
    pub fn new(program: impl Into<PathBuf>) -> Self {
        let (timeout, settle) = (Duration::from_secs(120), Duration::from_secs(20));
        Self { program: program.into(), timeout, settle }
    }

    /// Answers the exit code.
    async fn run(&self, verb: &str, name: &str, value: &str) -> Result<i32, SolverError> {
        let shown = self.program.display();
        let mut command = Command::new(&self.program);
        command.args([verb, name, value]).kill_on_drop(true);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|error| {
            SolverError::permanent(format!("{shown} cannot be started: {error}"))
        })?;
        let mut complaint = Vec::new();
        let stderr = child.stderr.take();
        let read = async {
            if let Some(stderr) = stderr {
                let mut rest = stderr.take(COMPLAINT_BYTES_MAX);
                let _ = rest.read_to_end(&mut complaint).await;
                // The pipe must not fill up behind what is shown.
                let _ = tokio::io::copy(&mut rest.into_inner(), &mut tokio::io::sink()).await;
            }
            child.wait().await
        };
        let status = match tokio::time::timeout(self.timeout, read).await {
            Err(_) => return Err(SolverError::new(format!("{shown} {verb} did not end in time"))),
            Ok(Err(error)) => return Err(SolverError::new(format!("{shown}: {error}"))),
            Ok(Ok(status)) => status,
        };
        let said = String::from_utf8_lossy(&complaint);
        let text = || format!("{shown} {verb} ended with {status}: {}", said.trim());
        match status.code() {
            Some(code @ (0 | USAGE)) => Ok(code),
            Some(TEMPORARY) | None => Err(SolverError::new(text())),
            Some(_) => Err(SolverError::permanent(text())),
        }
    }

    async fn run_known(&self, verb: &str, name: &str, value: &str) -> Result<(), SolverError> {
        match self.run(verb, name, value).await? {
            0 => Ok(()),
            code => {
                let text = format!("{} {verb} ended with {code}", self.program.display());
                Err(SolverError::permanent(text))
            }
        }
    }
}

impl DnsSolver for HookSolver {
    fn present<'a>(&'a self, name: &'a str, value: &'a str) -> SolverFuture<'a> {
        Box::pin(self.run_known("present", name, value))
    }

    fn wait<'a>(&'a self, name: &'a str, value: &'a str) -> SolverFuture<'a> {
        Box::pin(async move {
            if self.run("wait", name, value).await? == USAGE {
                tokio::time::sleep(self.settle).await;
            }
            Ok(())
        })
    }

    fn cleanup<'a>(&'a self, name: &'a str, value: &'a str) -> SolverFuture<'a> {
        Box::pin(self.run_known("cleanup", name, value))
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[tokio::test]
    async fn tells_what_the_program_said() {
        let dir = tempfile::tempdir().expect("a directory");
        let script = |name: &str, text: &str| {
            let path = dir.path().join(name);
            // By way of another shell: a file that was just written may still be open elsewhere.
            std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).expect("written");
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
            std::fs::set_permissions(&path, mode).expect("executable");
            let mut solver = HookSolver::new(path);
            (solver.timeout, solver.settle) =
                (Duration::from_millis(500), Duration::from_millis(1));
            solver
        };
        let log = dir.path().join("log");
        let good =
            script("good", &format!("echo \"$@\" >> {}; [ $1 != wait ] || exit 64", log.display()));
        good.present("n", "v").await.expect("done");
        good.wait("n", "v").await.expect("settled");
        good.cleanup("n", "v").await.expect("done");
        assert_eq!(
            std::fs::read_to_string(log).expect("a log"),
            "present n v\nwait n v\ncleanup n v\n"
        );
        let check = async |solver: HookSolver, is_permanent: bool, want: &str| {
            let error = solver.present("n", "v").await.expect_err("fails");
            assert_eq!(error.is_permanent, is_permanent, "{error}");
            assert!(error.text.contains(want), "{error}");
        };
        check(script("later", "echo busy >&2; exit 75"), false, "busy").await;
        check(script("never", "echo wrong password >&2; exit 1"), true, "wrong password").await;
        check(script("slow", "exec sleep 5"), false, "did not end in time").await;
        check(HookSolver::new(dir.path().join("missing")), true, "cannot be started").await;
    }
}
