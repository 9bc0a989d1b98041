//! Programs of this workspace, built once and started by tests.

use std::{
    collections::HashMap,
    ffi::OsStr,
    fs,
    io::Read as _,
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Mutex, OnceLock},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};

/// How long a program may take until it answers; generous, for loaded machines.
const START_TIMEOUT: Duration = Duration::from_secs(30);
/// How long it may take to end after a signal.
pub const STOP_TIMEOUT: Duration = Duration::from_secs(40);
/// How long what happened may take to stand in the log, which threads of their own write.
const LOG_TIMEOUT: Duration = Duration::from_secs(20);

/// The root of the workspace.
#[must_use]
pub fn workspace() -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().unwrap_or(tests).to_path_buf()
}

/// Where a binary of the workspace is: in `$E2E_BIN_DIR`, which `cargo xtask test` fills; otherwise it is built, once
/// per test run.
///
/// # Errors
/// When cargo fails.
pub fn built(package: &str, binary: &str) -> anyhow::Result<PathBuf> {
    if let Some(folder) = std::env::var_os("E2E_BIN_DIR") {
        return Ok(Path::new(&folder).join(binary));
    }
    static BUILT: OnceLock<Mutex<HashMap<String, PathBuf>>> = OnceLock::new();
    let mut built =
        BUILT.get_or_init(Mutex::default).lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if let Some(path) = built.get(binary) {
        return Ok(path.clone());
    }
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(cargo);
    build.args(["build", "--package", package, "--bin", binary, "--message-format", "json"]);
    let output = build.current_dir(workspace()).stderr(Stdio::inherit()).output()?;
    anyhow::ensure!(output.status.success(), "cargo build of {package} failed");
    let text = String::from_utf8(output.stdout)?;
    let executable = text.lines().rev().find_map(|line| {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        let path = PathBuf::from(message["executable"].as_str()?);
        (path.file_stem() == Some(OsStr::new(binary))).then_some(path)
    });
    let path = executable.context("cargo named no executable")?;
    built.insert(binary.to_owned(), path.clone());
    Ok(path)
}

/// A port that was free a moment ago.
///
/// # Errors
/// When no port can be bound.
pub fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// A running program; killed when dropped.
#[derive(Debug)]
pub struct Program {
    child: Child,
    /// Where it was told to listen in the clear.
    pub address: SocketAddr,
    log: PathBuf,
}

impl Program {
    /// Starts `command` and waits until `address` accepts. What it prints goes to `log`.
    ///
    /// # Errors
    /// When it cannot be started, ends early or does not listen in time; with what it printed.
    pub fn start(command: &mut Command, address: SocketAddr, log: &Path) -> anyhow::Result<Self> {
        let file = fs::File::create(log)?;
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        let child = command.spawn().with_context(|| format!("cannot start {command:?}"))?;
        let mut program = Self { child, address, log: log.to_path_buf() };
        let start = Instant::now();
        while TcpStream::connect(address).is_err() {
            if let Some(status) = program.child.try_wait()? {
                bail!("the program ended ({status}):\n{}", program.log());
            }
            if start.elapsed() > START_TIMEOUT {
                bail!("nothing listens on {address}:\n{}", program.log());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(program)
    }

    /// What it printed so far.
    #[must_use]
    pub fn log(&self) -> String {
        let mut text = String::new();
        if let Ok(mut file) = fs::File::open(&self.log) {
            let _ = file.read_to_string(&mut text);
        }
        text
    }

    /// What it printed, once that is enough.
    ///
    /// # Errors
    /// When it is not within twenty seconds; with what it printed.
    pub fn log_until(&self, is_enough: impl Fn(&str) -> bool) -> anyhow::Result<String> {
        let start = Instant::now();
        loop {
            let log = self.log();
            if is_enough(&log) {
                return Ok(log);
            }
            if start.elapsed() > LOG_TIMEOUT {
                bail!("something is missing in the log:\n{log}");
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// The process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal by name, for instance `TERM`.
    ///
    /// # Errors
    /// When `kill` fails.
    pub fn signal(&self, name: &str) -> anyhow::Result<()> {
        let status = Command::new("kill").args(["-s", name, &self.pid().to_string()]).status()?;
        anyhow::ensure!(status.success(), "kill -s {name} failed");
        Ok(())
    }

    /// Sends SIGTERM and waits for the end.
    ///
    /// # Errors
    /// When it does not end in time.
    pub fn stop(&mut self) -> anyhow::Result<std::process::ExitStatus> {
        self.signal("TERM")?;
        self.wait()
    }

    /// Waits for the end.
    ///
    /// # Errors
    /// When it does not end in time.
    pub fn wait(&mut self) -> anyhow::Result<std::process::ExitStatus> {
        let start = Instant::now();
        while start.elapsed() < STOP_TIMEOUT {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        bail!("the program does not end:\n{}", self.log())
    }

    /// Resident memory in bytes.
    #[must_use]
    pub fn resident_bytes(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
        line.split_whitespace().next().and_then(|kib| kib.parse().ok()).unwrap_or(0_u64) * 1024
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
