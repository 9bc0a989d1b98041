//! Runs the binary.

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;

/// How long anything may take before the test fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// The binary, without the variables of whoever runs the tests.
pub(crate) fn hearth() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hearth"));
    for (name, _) in std::env::vars_os() {
        let name_text = name.to_string_lossy();
        if name_text.starts_with("HEARTH_") || name_text == "PORT" || name_text == "NO_COLOR" {
            command.env_remove(&name);
        }
    }
    command.stdin(Stdio::null());
    command
}

/// Runs it to its end.
pub(crate) fn run(command: &mut Command) -> Output {
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let pid = child.id();
    // A server that should have refused to start would hold the test for ever.
    let (done, is_done) = std::sync::mpsc::channel::<()>();
    let watchdog = std::thread::spawn(move || {
        if is_done.recv_timeout(PATIENCE) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
            signal(pid, "KILL");
        }
    });
    let output = child.wait_with_output().unwrap();
    drop(done);
    watchdog.join().unwrap();
    output
}

/// Sends a signal by its name.
pub(crate) fn signal(pid: u32, name: &str) {
    let status = Command::new("kill").arg(format!("-{name}")).arg(pid.to_string()).status();
    assert!(status.unwrap().success(), "kill -{name} {pid}");
}

/// A server that listens.
pub(crate) struct Server {
    child: Child,
    pub(crate) banner: Value,
    stderr: PathBuf,
}

impl Server {
    /// Starts `hearth serve --json ARGS`, and waits until it listens. Its log goes to a file in `dir`.
    pub(crate) fn start(dir: &Path, arguments: &[&str]) -> Self {
        Self::start_with(dir, hearth().arg("serve").arg("--json").args(arguments))
    }

    pub(crate) fn start_with(dir: &Path, command: &mut Command) -> Self {
        let stderr = dir.join("stderr.log");
        let log = fs::File::create(&stderr).unwrap();
        let mut child = command.stdout(Stdio::piped()).stderr(log).spawn().unwrap();
        let mut line = String::new();
        let stdout = child.stdout.take().unwrap();
        let mut stdout = BufReader::new(stdout);
        stdout.read_line(&mut line).unwrap();
        child.stdout = Some(stdout.into_inner());
        let banner = serde_json::from_str(&line).unwrap_or_else(|_| {
            panic!("did not start: {line}{}", fs::read_to_string(&stderr).unwrap())
        });
        Self { child, banner, stderr }
    }

    /// The address of the listener with this number.
    pub(crate) fn address(&self, index: usize) -> SocketAddr {
        self.banner["listeners"][index]["address"].as_str().unwrap().parse().unwrap()
    }

    pub(crate) fn signal(&self, name: &str) {
        signal(self.child.id(), name);
    }

    /// Waits for the end.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(start.elapsed() < PATIENCE, "still runs:\n{}", self.log());
            std::thread::yield_now();
        }
    }

    /// What it has said so far.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.stderr).unwrap_or_default()
    }

    /// Waits until it has said this.
    pub(crate) fn wait_for_log(&self, text: &str) {
        wait_for(|| self.log().contains(text), || format!("no `{text}` in:\n{}", self.log()));
    }

    /// What is left on standard output, after its end.
    pub(crate) fn rest_of_stdout(&mut self) -> String {
        let mut text = String::new();
        self.child.stdout.take().unwrap().read_to_string(&mut text).unwrap();
        text
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until something is true.
pub(crate) fn wait_for(is_true: impl Fn() -> bool, otherwise: impl Fn() -> String) {
    let start = Instant::now();
    while !is_true() {
        assert!(start.elapsed() < PATIENCE, "{}", otherwise());
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A folder with a small site in it.
pub(crate) fn site() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("site");
    fs::create_dir_all(root.join("docs")).unwrap();
    fs::create_dir_all(root.join("empty")).unwrap();
    fs::write(root.join("index.html"), "<h1>home</h1>\n").unwrap();
    fs::write(root.join("404.html"), "<h1>nothing here</h1>\n").unwrap();
    fs::write(root.join("docs/index.html"), "<h1>docs</h1>\n").unwrap();
    fs::write(root.join("style.css"), "body { margin: 0 }\n".repeat(200)).unwrap();
    fs::write(root.join(".secret"), "secret\n").unwrap();
    dir
}
