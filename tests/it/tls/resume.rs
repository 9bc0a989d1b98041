//! Sessions that were begun before a restart, as openssl resumes them after it.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use hearth_e2e::peers;
use hearth_tls_acme::{Clock, TicketFile, TicketSecret};
use tempfile::TempDir;

use super::{s_client, text};
use crate::servers::{self, Server};

const VERSIONS: [&str; 2] = ["-tls1_2", "-tls1_3"];

/// A server, and openssl with one session of each version.
struct Visitor {
    openssl: PathBuf,
    server: Server,
    _root: TempDir,
}

impl Visitor {
    fn new(more: &str) -> Option<Self> {
        let openssl = peers::find("openssl")?;
        let root = TempDir::new().expect("a folder");
        fs::write(root.path().join("index.html"), "hello").expect("a file");
        let server = servers::hearth(root.path(), more);
        let visitor = Self { openssl, server, _root: root };
        for version in VERSIONS {
            let session = visitor.session(version);
            let said = visitor.visit(version, &["-sess_out", text(&session)]);
            assert!(said.contains("hello") && !said.contains("Reused"), "{version}: {said}");
        }
        Some(visitor)
    }

    fn session(&self, version: &str) -> PathBuf {
        self.server.folder.path().join(format!("session{version}"))
    }

    fn visit(&self, version: &str, more: &[&str]) -> String {
        let more = [&[version], more].concat();
        let folder = self.server.folder.path();
        s_client(&self.openssl, self.server.tls, folder, ("localhost", "localhost"), &more)
    }

    /// Whether the sessions of before are resumed; answered are they in any case.
    #[track_caller]
    fn check(&self, want: bool, what: &str) {
        for version in VERSIONS {
            let said = self.visit(version, &["-sess_in", text(&self.session(version))]);
            let log = self.server.program.log();
            assert!(said.contains("hello"), "{what}, {version}: {said}\n{log}");
            assert_eq!(said.contains("Reused, TLSv1"), want, "{what}, {version}: {said}\n{log}");
        }
    }

    fn stop(&mut self) {
        let status = self.server.program.stop().expect("it ends");
        assert!(status.success(), "{}", self.server.program.log());
    }

    fn state(&self) -> PathBuf {
        self.server.folder.path().join("state")
    }

    /// The file that waits for the next process.
    fn file(&self) -> PathBuf {
        let is_ours = |path: &PathBuf| path.to_string_lossy().contains("/tickets-");
        let mut found = fs::read_dir(self.state()).expect("the state").flatten();
        found.find_map(|entry| Some(entry.path()).filter(is_ours)).expect("a file of tickets")
    }
}

#[test]
fn a_session_outlives_the_process() {
    let Some(mut visitor) = Visitor::new("") else { return };
    visitor.check(true, "before");
    visitor.stop();
    servers::restart(&mut visitor.server);
    visitor.check(true, "after a restart");
    // What nobody could announce leaves the keys as well: they were written when they were drawn.
    visitor.server.program.signal("KILL").expect("killed");
    let _ = visitor.server.program.wait();
    servers::restart(&mut visitor.server);
    visitor.check(true, "after being killed");
    visitor.server.program.log_until(|log| log.contains("resumed")).expect("a line");
}

#[test]
fn nothing_is_kept_where_it_shall_not_be() {
    let Some(mut visitor) = Visitor::new("[tls]\nkeep_tickets = false\n") else { return };
    visitor.check(true, "before");
    visitor.stop();
    assert!(!visitor.state().exists());
    servers::restart(&mut visitor.server);
    visitor.check(false, "after a restart");
}

#[derive(Debug)]
struct Earlier(Duration);

impl Clock for Earlier {
    fn now(&self) -> SystemTime {
        SystemTime::now() - self.0
    }
}

/// Writes the file that a process with another clock would have left.
fn leave(visitor: &Visitor, hours: u64) {
    let service = visitor.server.tls.to_string();
    let clock = Arc::new(Earlier(Duration::from_secs(hours * 3600)));
    let secret = TicketSecret::with_clock(clock);
    let _ = secret.export().expect("random numbers");
    let file = TicketFile::new(&visitor.state(), &service);
    assert_eq!(file.path(), visitor.file(), "the server's");
    file.store(&secret).expect("written");
}

#[test]
fn a_file_that_does_not_fit_is_refused() {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let Some(mut visitor) = Visitor::new("") else { return };
    type Spoil = fn(&Visitor, &Path);
    let rows: &[(&str, Spoil, &str)] = &[
        (
            "damaged",
            |_, file| {
                let mut bytes = fs::read(file).expect("the file");
                bytes[60] ^= 1;
                fs::write(file, bytes).expect("written");
            },
            "is damaged",
        ),
        ("empty", |_, file| fs::write(file, "").expect("written"), "is damaged"),
        (
            "open to others",
            |_, file| {
                fs::set_permissions(file, fs::Permissions::from_mode(0o644)).expect("changed");
            },
            "is open to other users",
        ),
        (
            "a link",
            |_, file| {
                let elsewhere = file.with_file_name("elsewhere");
                fs::rename(file, &elsewhere).expect("renamed");
                symlink(elsewhere, file).expect("linked");
            },
            "is a link",
        ),
        (
            "of another service",
            |visitor, file| {
                let other = TicketFile::new(&visitor.state(), "192.0.2.1:443");
                let secret = TicketSecret::new();
                let _ = secret.export().expect("random numbers");
                other.store(&secret).expect("written");
                fs::rename(other.path(), file).expect("renamed");
            },
            "belongs to another service",
        ),
        ("of yesterday", |visitor, _| leave(visitor, 24), "have ended meanwhile"),
    ];
    for (what, spoil, words) in rows {
        visitor.stop();
        spoil(&visitor, &visitor.file());
        servers::restart(&mut visitor.server);
        visitor.check(false, what);
        let log = visitor.server.program.log_until(|log| log.contains(words)).expect(what);
        assert_eq!(log.contains("tickets-refused"), *what != "of yesterday", "{what}: {log}");
        // Its own sessions are resumed, and by the next process, too.
        for version in VERSIONS {
            let session = visitor.session(version);
            visitor.visit(version, &["-sess_out", text(&session)]);
        }
        visitor.check(true, what);
        visitor.stop();
        servers::restart(&mut visitor.server);
        visitor.check(true, what);
    }
}
