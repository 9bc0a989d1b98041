//! Locks that are files with a time in them, for file systems that do not lock.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use serde::{Deserialize, Serialize};

use super::{
    StorageError, StorageLock,
    file::{create_folder, failed, private_options, replace},
};
use crate::clock::unix;

/// How often the holder says that it lives.
const REFRESH: Duration = Duration::from_secs(5);
/// Without a word for that long it does not.
const STALE: Duration = Duration::from_secs(10);
/// Between making the file and writing to it its holder is given this many pauses.
const EMPTY_READS: u32 = 8;
const EMPTY_PAUSE: Duration = Duration::from_millis(250);

#[derive(Debug, Serialize, Deserialize)]
struct Lease {
    created: u64,
    updated: u64,
    token: u64,
    process: u32,
}

/// Refreshes the file until it is dropped, then removes it.
struct Held {
    path: PathBuf,
    token: u64,
    refresh: tokio::task::JoinHandle<()>,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.refresh.abort();
        // Who was thought dead must not take away its successor's.
        if matches!(read(&self.path), Ok(Some(lease)) if lease.token == self.token) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

pub(super) async fn try_take(path: PathBuf) -> Result<Option<StorageLock>, StorageError> {
    take(&path).await.map_err(|error| failed("lock", &path, error))
}

async fn take(path: &Path) -> io::Result<Option<StorageLock>> {
    if let Some(folder) = path.parent() {
        create_folder(folder)?;
    }
    let now = SystemTime::now();
    let mut token =
        u64::try_from(now.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_micros()))
            .unwrap_or(u64::MAX);
    // One attempt, and one more if what is in the way is stale.
    for _ in 0..2 {
        match private_options().create_new(true).open(path) {
            Ok(_made) => {
                let lease = Lease {
                    created: unix(now),
                    updated: unix(now),
                    token,
                    process: std::process::id(),
                };
                replace(path, &serde_json::to_vec(&lease)?)?;
                let refresh = tokio::spawn(refresh(path.to_owned(), lease));
                return Ok(Some(StorageLock::new(
                    token,
                    Held { path: path.to_owned(), token, refresh },
                )));
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
        let Some(held) = read_patiently(path).await? else {
            // Empty for 2 s: its holder died between making and writing it.
            remove(path)?;
            continue;
        };
        if unix(now) < held.updated.saturating_add(STALE.as_secs()) {
            return Ok(None);
        }
        token = token.max(held.token.saturating_add(1));
        remove(path)?;
    }
    Ok(None)
}

async fn refresh(path: PathBuf, mut lease: Lease) {
    loop {
        tokio::time::sleep(REFRESH).await;
        lease.updated = unix(SystemTime::now());
        let is_ours = matches!(read(&path), Ok(Some(found)) if found.token == lease.token);
        let Ok(bytes) = serde_json::to_vec(&lease) else { return };
        if !is_ours || replace(&path, &bytes).is_err() {
            tracing::error!(path = %path.display(), "a lock was lost: another process may act at the same time");
            return;
        }
    }
}

/// `None` where the file stays empty or unreadable as a lease.
async fn read_patiently(path: &Path) -> io::Result<Option<Lease>> {
    for _ in 0..EMPTY_READS {
        match read(path) {
            Ok(Some(lease)) => return Ok(Some(lease)),
            Ok(None) => tokio::time::sleep(EMPTY_PAUSE).await,
            // Freed in the meantime: as good as one that is in the way no longer.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

fn read(path: &Path) -> io::Result<Option<Lease>> {
    Ok(serde_json::from_slice(&fs::read(path)?).ok())
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_is_stale_or_empty_is_taken_over() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("x.lock");
        let now = unix(SystemTime::now());
        let write = |updated: u64| {
            let lease = Lease { created: 1, updated, token: 7, process: 1 };
            fs::write(&path, serde_json::to_vec(&lease).expect("json")).expect("written");
        };
        write(now);
        assert!(try_take(path.clone()).await.expect("works").is_none(), "its holder lives");
        write(now - 11);
        let lock = try_take(path.clone()).await.expect("works").expect("its holder is dead");
        assert!(lock.token() > 7);
        drop(lock);
        assert!(!path.exists());
        fs::write(&path, b"").expect("written");
        assert!(try_take(path.clone()).await.expect("works").is_some(), "nobody wrote to it");
    }

    #[tokio::test(start_paused = true)]
    async fn who_was_thought_dead_takes_nothing_away() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("x.lock");
        let lock = try_take(path.clone()).await.expect("works").expect("free");
        let lease = Lease { created: 1, updated: 1, token: u64::MAX, process: 1 };
        fs::write(&path, serde_json::to_vec(&lease).expect("json")).expect("written");
        drop(lock);
        assert!(path.exists());
    }
}
