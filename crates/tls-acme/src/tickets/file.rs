//! The file that hands the keys of session tickets to the process that is started next.

use std::{
    fs, io,
    io::Read as _,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use aws_lc_rs::digest::{SHA256, digest};

use super::{AdoptTicketsError, EXPORT_LEN, PERIOD_SECONDS, TicketSecret};
use crate::storage::replace;

/// A file for the keys of one service, which only its owner can read.
///
/// It holds the keys of at most twelve hours and is replaced when one is drawn, so that what an old copy of it opens
/// is little. It is taken over once it is the file of the same service, of this user, closed to all others, whole,
/// and young enough.
#[derive(Debug, Clone)]
pub struct TicketFile {
    path: PathBuf,
    service: [u8; 32],
}

/// Why a file was not taken over, or not written. The service goes on with keys of its own.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TicketFileError {
    /// What is in it does not fit.
    #[error("{} was not taken over: {reason}", path.display())]
    Adopt {
        /// The file.
        path: PathBuf,
        /// How it does not fit.
        reason: AdoptTicketsError,
    },
    /// It was changed, or cut off.
    #[error("{} is damaged", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
    },
    /// It is somebody else's, or others could have read or written it.
    #[error("{} {reason}", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The system refuses.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was being done.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

impl TicketFile {
    /// The file in `folder` for a service, which is whatever has one place in the world and one process at a time:
    /// its addresses, for instance.
    #[must_use]
    pub fn new(folder: &Path, service: &str) -> Self {
        let hash = digest(&SHA256, service.as_bytes());
        let service = <[u8; 32]>::try_from(hash.as_ref()).unwrap_or_default();
        let short: String = service.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        Self { path: folder.join(format!("{PREFIX}{short}")), service }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Takes its keys over; `false` where there is none. Files of other services whose keys have ended are removed.
    ///
    /// # Errors
    /// [`TicketFileError`]; the secret is as it was then.
    pub fn load(&self, secret: &TicketSecret) -> Result<bool, TicketFileError> {
        self.sweep();
        let Some(bytes) = self.read()? else { return Ok(false) };
        let path = || self.path.clone();
        let exported = self.open(&bytes)?;
        let adopted = secret.adopt(exported);
        adopted.map(|()| true).map_err(|reason| match reason {
            AdoptTicketsError::Malformed => TicketFileError::Damaged { path: path() },
            reason => TicketFileError::Adopt { path: path(), reason },
        })
    }

    /// Writes the keys, if there are any yet, in the place of what was there.
    ///
    /// # Errors
    /// [`TicketFileError::Io`]; what was there is as it was.
    pub fn store(&self, secret: &TicketSecret) -> Result<(), TicketFileError> {
        let Some(exported) = secret.export_drawn() else { return Ok(()) };
        let mut bytes = Vec::with_capacity(FILE_LEN);
        bytes.extend(MAGIC);
        bytes.extend(self.service);
        bytes.extend(exported);
        bytes.extend(digest(&SHA256, &bytes).as_ref());
        replace(&self.path, &bytes).map_err(|source| self.failed("write", source))
    }

    /// Writes the keys whenever one was drawn, until it is dropped.
    ///
    /// # Cancel safety
    /// Dropped, it leaves the old file or the new one.
    pub async fn keep(self, secret: TicketSecret) {
        let mut has_told = false;
        loop {
            secret.changed().await;
            let (file, keys) = (self.clone(), secret.clone());
            let stored = tokio::task::spawn_blocking(move || file.store(&keys)).await;
            if let Ok(Err(error)) = stored
                && !std::mem::replace(&mut has_told, true)
            {
                tracing::warn!(%error, "a restart will end the TLS sessions of visitors");
            }
        }
    }

    /// The whole file, if it is one to be trusted.
    fn read(&self) -> Result<Option<Vec<u8>>, TicketFileError> {
        let mut options = fs::OpenOptions::new();
        options.read(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, NO_LINKS);
        let file = match options.open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            #[cfg(unix)]
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) => {
                let reason = "is a link: it leads to what somebody else may have written";
                return Err(TicketFileError::Foreign { path: self.path.clone(), reason });
            }
            Err(error) => return Err(self.failed("open", error)),
        };
        let metadata = file.metadata().map_err(|error| self.failed("look at", error))?;
        if let Some(reason) = foreign(&metadata) {
            return Err(TicketFileError::Foreign { path: self.path.clone(), reason });
        }
        let mut bytes = Vec::with_capacity(FILE_LEN);
        // A byte more than it may have tells that it has more.
        let mut file = file.take(FILE_LEN as u64 + 1);
        file.read_to_end(&mut bytes).map_err(|error| self.failed("read", error))?;
        Ok(Some(bytes))
    }

    /// What was exported.
    fn open<'a>(&self, bytes: &'a [u8]) -> Result<&'a [u8], TicketFileError> {
        let whole = bytes.split_last_chunk::<32>().filter(|_| bytes.len() == FILE_LEN);
        let whole = whole.filter(|(body, sum)| digest(&SHA256, body).as_ref() == sum.as_slice());
        let body = whole.and_then(|(body, _)| body.strip_prefix(MAGIC));
        let Some((service, exported)) = body.and_then(|body| body.split_first_chunk::<32>()) else {
            return Err(TicketFileError::Damaged { path: self.path.clone() });
        };
        if *service != self.service {
            let reason = "belongs to another service";
            return Err(TicketFileError::Foreign { path: self.path.clone(), reason });
        }
        Ok(exported)
    }

    /// Removes files that nobody needs any more: old keys are for nobody to find.
    fn sweep(&self) {
        let Some(entries) = self.path.parent().and_then(|folder| fs::read_dir(folder).ok()) else {
            return;
        };
        let is_ours = |entry: &fs::DirEntry| {
            entry.file_name().to_str().is_some_and(|name| name.starts_with(PREFIX))
        };
        for entry in entries.flatten().filter(is_ours).take(SWEPT_MAX) {
            let written = entry.metadata().and_then(|metadata| metadata.modified());
            let age = written.ok().and_then(|at| SystemTime::now().duration_since(at).ok());
            // That of this service is judged, and replaced.
            if age.is_some_and(|age| age > AGE_MAX) && entry.path() != self.path {
                let _ = fs::remove_file(entry.path());
            }
        }
    }

    fn failed(&self, action: &'static str, source: io::Error) -> TicketFileError {
        TicketFileError::Io { action, path: self.path.clone(), source }
    }
}

/// Why the keys of a file are not to be trusted. Who can plant keys can read the tickets that they seal.
#[cfg(unix)]
fn foreign(metadata: &fs::Metadata) -> Option<&'static str> {
    use std::os::unix::fs::MetadataExt as _;
    if !metadata.is_file() {
        return Some("is no file");
    }
    if metadata.uid() != rustix::process::geteuid().as_raw() {
        return Some("belongs to another user");
    }
    (metadata.mode() & 0o077 != 0).then_some("is open to other users")
}

/// Elsewhere the folder decides who may write there.
#[cfg(not(unix))]
fn foreign(metadata: &fs::Metadata) -> Option<&'static str> {
    (!metadata.is_file()).then_some("is no file")
}

#[cfg(unix)]
const NO_LINKS: i32 = rustix::fs::OFlags::NOFOLLOW.bits().cast_signed();
const PREFIX: &str = "tickets-";
const MAGIC: &[u8] = b"hearth tickets 1\n";
/// Beginning, service, keys, digest of all that.
const FILE_LEN: usize = MAGIC.len() + 32 + EXPORT_LEN + 32;
/// No key is accepted for longer.
const AGE_MAX: Duration = Duration::from_secs(2 * PERIOD_SECONDS);
/// Files that are looked at in one go.
const SWEPT_MAX: usize = 1_000;

#[cfg(test)]
mod tests {
    use std::sync::{Arc, atomic::Ordering};

    use rustls::server::ProducesTickets;

    use super::{super::FakeClock, *};

    fn secret(clock: &Arc<FakeClock>) -> TicketSecret {
        TicketSecret::with_clock(clock.clone())
    }

    #[test]
    fn a_successor_takes_the_keys_over() {
        let dir = tempfile::tempdir().expect("a folder");
        let clock = Arc::new(FakeClock::default());
        let file = TicketFile::new(dir.path(), "[::]:443");
        let old = secret(&clock);
        assert!(!file.load(&old).expect("none"));
        file.store(&old).expect("nothing to write");
        assert!(!file.path().exists(), "nobody has shaken hands yet");
        let ticket = old.encrypt(b"state").expect("sealed");
        file.store(&old).expect("written");
        let new = secret(&clock);
        assert!(file.load(&new).expect("taken over"));
        assert_eq!(new.decrypt(&ticket).as_deref(), Some(&b"state"[..]));
        let other = TicketFile::new(dir.path(), "[::]:8443");
        assert!(!other.load(&new).expect("none"), "another service has another file");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = fs::metadata(file.path()).expect("there").permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
    }

    /// A file, what is done to it, and what is said of it then.
    fn check(spoil: impl FnOnce(&TicketFile, &FakeClock), words: &str) {
        let dir = tempfile::tempdir().expect("a folder");
        let clock = Arc::new(FakeClock(std::sync::atomic::AtomicU64::new(PERIOD_SECONDS * 100)));
        let file = TicketFile::new(dir.path(), "[::]:443");
        let old = secret(&clock);
        let ticket = old.encrypt(b"state").expect("sealed");
        file.store(&old).expect("written");
        spoil(&file, &clock);
        let new = secret(&clock);
        let own = new.encrypt(b"own").expect("sealed");
        let error = file.load(&new).expect_err(words).to_string();
        assert!(error.contains(words) && error.contains("tickets-"), "{error}");
        assert_eq!(new.decrypt(&ticket), None, "{words}");
        assert_eq!(new.decrypt(&own).as_deref(), Some(&b"own"[..]), "{words}");
        // The service goes on, and its own keys are there for the next.
        if fs::symlink_metadata(file.path()).is_ok_and(|metadata| !metadata.is_dir()) {
            file.store(&new).expect("replaced");
            assert!(file.load(&secret(&clock)).expect("as good as any"), "{words}");
        }
    }

    #[test]
    fn a_damaged_file_is_refused() {
        for place in [0, MAGIC.len() + 3, MAGIC.len() + 32 + 7, MAGIC.len() + 50, FILE_LEN - 1] {
            let flip = |file: &TicketFile, _: &FakeClock| {
                let mut bytes = fs::read(file.path()).expect("there");
                assert_eq!(bytes.len(), FILE_LEN);
                bytes[place] ^= 1;
                fs::write(file.path(), bytes).expect("written");
            };
            check(flip, "is damaged");
        }
        for len in [0, 1, FILE_LEN - 1, FILE_LEN + 1, 1 << 20] {
            let resize = |file: &TicketFile, _: &FakeClock| {
                let mut bytes = fs::read(file.path()).expect("there");
                bytes.resize(len, 0);
                fs::write(file.path(), bytes).expect("written");
            };
            check(resize, "is damaged");
        }
    }

    #[test]
    fn keys_of_another_time_are_refused() {
        let at = |periods| {
            move |_: &TicketFile, clock: &FakeClock| {
                clock.0.store(PERIOD_SECONDS * periods, Ordering::Relaxed);
            }
        };
        check(at(102), "have ended");
        check(at(98), "from the future");
    }

    #[test]
    fn a_file_of_somebody_else_is_refused() {
        let of_another_service = |file: &TicketFile, clock: &FakeClock| {
            let folder = file.path().parent().expect("a folder");
            let other = TicketFile::new(folder, "[::]:8443");
            let clock = Arc::new(FakeClock(clock.0.load(Ordering::Relaxed).into()));
            let keys = secret(&clock);
            keys.encrypt(b"x").expect("sealed");
            other.store(&keys).expect("written");
            fs::rename(other.path(), file.path()).expect("renamed");
        };
        check(of_another_service, "belongs to another service");
        #[cfg(unix)]
        {
            use std::os::unix::fs::{PermissionsExt, symlink};
            for mode in [0o640, 0o604, 0o620] {
                let open = |file: &TicketFile, _: &FakeClock| {
                    let mode = fs::Permissions::from_mode(mode);
                    fs::set_permissions(file.path(), mode).expect("changed");
                };
                check(open, "is open to other users");
            }
            let link = |file: &TicketFile, _: &FakeClock| {
                let elsewhere = file.path().with_file_name("elsewhere");
                fs::rename(file.path(), &elsewhere).expect("renamed");
                symlink(elsewhere, file.path()).expect("linked");
            };
            check(link, "is a link");
            let folder = |file: &TicketFile, _: &FakeClock| {
                fs::remove_file(file.path()).expect("removed");
                fs::create_dir(file.path()).expect("made");
            };
            check(folder, "is no file");
            if rustix::process::geteuid().is_root() {
                let give = |file: &TicketFile, _: &FakeClock| {
                    std::os::unix::fs::chown(file.path(), Some(1), None).expect("given away");
                };
                check(give, "belongs to another user");
            }
        }
    }

    #[test]
    fn old_files_are_swept_away() {
        let dir = tempfile::tempdir().expect("a folder");
        let clock = Arc::new(FakeClock::default());
        let store = |service| {
            let keys = secret(&clock);
            keys.encrypt(b"x").expect("sealed");
            let file = TicketFile::new(dir.path(), service);
            file.store(&keys).expect("written");
            file
        };
        let (old, young, own) = (store("old"), store("young"), store("own"));
        fs::write(dir.path().join("certificate"), "").expect("written");
        let long_ago = SystemTime::now() - AGE_MAX - Duration::from_secs(60);
        for path in [old.path(), own.path(), &dir.path().join("certificate")] {
            let file = fs::File::options().append(true).open(path).expect("there");
            file.set_modified(long_ago).expect("set");
        }
        let _ = own.load(&secret(&clock));
        assert!(!old.path().exists() && young.path().exists() && own.path().exists());
        assert!(dir.path().join("certificate").exists());
    }

    #[tokio::test]
    async fn keys_are_written_when_they_are_drawn() {
        let dir = tempfile::tempdir().expect("a folder");
        let clock = Arc::new(FakeClock::default());
        let file = TicketFile::new(dir.path(), "[::]:443");
        let keys = secret(&clock);
        let kept = tokio::spawn(file.clone().keep(keys.clone()));
        let mut tickets = Vec::new();
        for period in 0..2 {
            clock.0.store(PERIOD_SECONDS * period, Ordering::Relaxed);
            tickets.push(keys.encrypt(b"x").expect("sealed"));
            let opens = |ticket: &Vec<u8>| {
                let new = secret(&clock);
                let _ = file.load(&new);
                new.decrypt(ticket).is_some()
            };
            let begin = std::time::Instant::now();
            while !tickets.iter().all(opens) {
                assert!(begin.elapsed() < Duration::from_secs(20), "not written");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        kept.abort();
    }
}
