//! A process that is killed at every step loses no certificate and orders none twice.

use std::{
    os::unix::process::ExitStatusExt as _,
    process::{Command, ExitStatus, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use hearth_tls_acme::{
    CertRequest, Manager, ManagerOptions, Outcome, Responder, Storage, StorageFuture, StorageLock,
};

use crate::support::{Manners, Pebble, authority, files, is_long, local, missing, name};

/// Kills this process before or after a change to the storage.
#[derive(Debug)]
struct Deadly {
    inner: Arc<dyn Storage>,
    step: AtomicU64,
    kill_at: u64,
}

impl Deadly {
    fn step(&self) {
        if self.step.fetch_add(1, Ordering::Relaxed) == self.kill_at {
            let own = rustix::process::getpid();
            rustix::process::kill_process(own, rustix::process::Signal::KILL).unwrap();
        }
    }
}

impl Storage for Deadly {
    fn load<'a>(&'a self, key: &'a str) -> StorageFuture<'a, Option<Vec<u8>>> {
        self.inner.load(key)
    }

    fn store<'a>(&'a self, key: &'a str, value: &'a [u8]) -> StorageFuture<'a, ()> {
        Box::pin(async move {
            self.step();
            let stored = self.inner.store(key, value).await;
            self.step();
            stored
        })
    }

    fn remove<'a>(&'a self, key: &'a str) -> StorageFuture<'a, ()> {
        Box::pin(async move {
            self.step();
            let removed = self.inner.remove(key).await;
            self.step();
            removed
        })
    }

    fn list<'a>(&'a self, prefix: &'a str) -> StorageFuture<'a, Vec<String>> {
        self.inner.list(prefix)
    }

    fn try_lock<'a>(&'a self, name: &'a str) -> StorageFuture<'a, Option<StorageLock>> {
        self.inner.try_lock(name)
    }
}

/// Run by the tests below in a process of its own.
#[test]
fn child() {
    let Ok(directory) = std::env::var("E2E_CHILD_DIRECTORY") else { return };
    let var = |name: &str| std::env::var(name).unwrap();
    let storage = Deadly {
        inner: files(var("E2E_CHILD_FOLDER").as_ref()),
        step: AtomicU64::new(0),
        kill_at: var("E2E_CHILD_KILL").parse().unwrap(),
    };
    let mut options = ManagerOptions::new(Arc::new(storage));
    options.authorities = vec![authority(&directory, var("E2E_CHILD_ROOT").as_ref())];
    options.challenges.http01 = true;
    let manager = Manager::new(options);
    let port: u16 = var("E2E_CHILD_PORT").parse().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let _responder = Responder::start(&manager, [local(port)], []).unwrap();
        let wanted = CertRequest::new([name(&var("E2E_CHILD_NAME"))]).unwrap();
        let outcome = manager.issue(&wanted).await;
        assert!(matches!(outcome, Outcome::Done(_)), "{outcome:?}");
    });
}

struct Stage {
    pebble: Pebble,
    folder: tempfile::TempDir,
}

impl Stage {
    fn command(&self, name: &str, kill_at: u64) -> Command {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["kill::child", "--exact", "--nocapture"]);
        command.env("E2E_CHILD_DIRECTORY", self.pebble.directory());
        command.env("E2E_CHILD_ROOT", self.pebble.ca_file());
        command.env("E2E_CHILD_FOLDER", self.folder.path());
        command.env("E2E_CHILD_PORT", self.pebble.http_port.to_string());
        command.env("E2E_CHILD_NAME", name);
        command.env("E2E_CHILD_KILL", kill_at.to_string());
        command.stdout(Stdio::null());
        command
    }

    fn run(&self, name: &str, kill_at: u64) -> ExitStatus {
        self.command(name, kill_at).status().unwrap()
    }
}

#[test]
fn killed_at_every_step() {
    if missing("pebble", "killed_at_every_step") {
        return;
    }
    let stage =
        Stage { pebble: Pebble::start(Manners::default()), folder: tempfile::tempdir().unwrap() };
    // The account is not what is tested here.
    assert!(stage.run("first.test", u64::MAX).success());
    let mut steps = 0;
    for step in 0..200 {
        let before = stage.pebble.counts();
        let name = format!("s{step}.test");
        let status = stage.run(&name, step);
        let was_killed = status.signal() == Some(9);
        assert!(was_killed || status.success(), "{status}");
        assert!(stage.run(&name, u64::MAX).success(), "after a kill at step {step}");
        let after = stage.pebble.counts();
        let (orders, certificates) = (after.0 - before.0, after.1 - before.1);
        assert_eq!((orders, certificates), (1, 1), "killed at step {step}");
        if !was_killed {
            steps = step;
            break;
        }
    }
    println!("killed at each of {steps} steps: one order and one certificate each");
    assert!(steps > 10, "{steps}");
}

/// At any moment, also between a request and its answer.
#[test]
fn killed_at_any_moment() {
    if missing("pebble", "killed_at_any_moment") {
        return;
    }
    let stage =
        Stage { pebble: Pebble::start(Manners::default()), folder: tempfile::tempdir().unwrap() };
    assert!(stage.run("first.test", u64::MAX).success());
    let begin = std::time::Instant::now();
    assert!(stage.run("second.test", u64::MAX).success());
    let whole = begin.elapsed();
    let rounds: u32 = if is_long() { 200 } else { 15 };
    let (mut killed, mut found) = (0, stage.pebble.counts());
    let mut failed = stage.pebble.failed();
    for round in 0..rounds {
        let name = format!("r{round}.test");
        let mut child = stage.command(&name, u64::MAX).spawn().unwrap();
        std::thread::sleep(whole.mul_f64(f64::from(round + 1) / f64::from(rounds + 1)));
        child.kill().unwrap();
        killed += u32::from(child.wait().unwrap().signal() == Some(9));
        std::thread::sleep(Duration::from_millis(20));
        assert!(stage.run(&name, u64::MAX).success(), "{name}");
        let now = stage.pebble.counts();
        // Where the authority's check met nobody, because the process had just been killed, the order has
        // failed: only then is there another.
        let now_failed = stage.pebble.failed();
        let orders = 1 + (now_failed - failed);
        assert_eq!((now.0 - found.0, now.1 - found.1), (orders, 1), "{name}");
        (found, failed) = (now, now_failed);
    }
    println!("{killed} of {rounds} were killed under way: one certificate each, no order twice");
}
