//! What must survive a restart, so that it sends nothing again.

use std::{
    collections::BTreeMap,
    fs, io,
    net::IpAddr,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::Notice;

/// Why there is no state to work with. Who runs the machine must act.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StateError {
    /// Another process uses the file.
    #[error("another process keeps the state of dynamic DNS in {}", .path.display())]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// The file cannot be read or its folder not be written.
    #[error("the state of dynamic DNS cannot be kept in {}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// Everything that is kept.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct State {
    version: u32,
    /// When this was written: no later state can be from before.
    pub(crate) saved_at: u64,
    /// For the digests of settings.
    pub(crate) salt: String,
    pub(crate) accounts: BTreeMap<String, AccountState>,
    /// By name and type: `example.com/A`.
    pub(crate) records: BTreeMap<String, RecordState>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct AccountState {
    /// Digest of the settings under which all else was learned.
    pub(crate) settings: String,
    pub(crate) not_before: u64,
    pub(crate) stopped: Option<SavedTrouble>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct RecordState {
    pub(crate) account: String,
    /// What the service holds, as far as we know.
    pub(crate) sent: Option<IpAddr>,
    pub(crate) sent_at: u64,
    /// When the same address is sent again, so that the service does not take the name for dead.
    pub(crate) refresh_at: u64,
    pub(crate) not_before: u64,
    pub(crate) failure_count: u32,
    pub(crate) trouble: Option<SavedTrouble>,
    pub(crate) is_stopped: bool,
    /// The address that the machine was last seen with, since when, and when it changed of late.
    pub(crate) seen: Option<IpAddr>,
    pub(crate) seen_at: u64,
    pub(crate) changes: Vec<u64>,
    /// Whether the authoritative servers show what was sent.
    pub(crate) is_shown: Option<bool>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct SavedTrouble {
    pub(crate) code: String,
    pub(crate) text: String,
    pub(crate) at: u64,
}

/// The file. While this lives, no other process has it.
pub(crate) struct StateFile {
    path: PathBuf,
    _lock: fs::File,
}

impl State {
    pub(crate) fn new() -> Self {
        let salt: [u8; 16] = crate::random::bytes();
        let salt = salt.iter().map(|byte| format!("{byte:02x}")).collect();
        Self { version: VERSION, salt, ..Self::default() }
    }
}

impl StateFile {
    /// Opens the file, or begins one. A damaged one is set aside, which the notice tells.
    pub(crate) fn open(path: &Path) -> Result<(Self, State, Option<Notice>), StateError> {
        let failed = |source| StateError::Io { path: path.to_owned(), source };
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            fs::create_dir_all(folder).map_err(failed)?;
        }
        // A file of its own, since the other one is replaced at every change.
        let lock = private().truncate(false).open(with_suffix(path, "lock")).map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => {
                return Err(StateError::InUse { path: path.to_owned() });
            }
            Err(fs::TryLockError::Error(error)) => return Err(failed(error)),
        }
        let file = Self { path: path.to_owned(), _lock: lock };
        let bytes = match fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok((file, State::new(), None));
            }
            Err(error) => return Err(failed(error)),
        };
        match serde_json::from_slice::<State>(&bytes) {
            Ok(state) if state.version == VERSION => Ok((file, state, None)),
            _ => {
                fs::rename(path, with_suffix(path, "damaged")).map_err(failed)?;
                Ok((file, State::new(), Some(Notice::StateDamaged)))
            }
        }
    }

    /// Replaces the file: at every moment, also after a crash, there is the old one or the new one.
    ///
    /// # Cancel safety
    /// The file is written even if the future is dropped.
    pub(crate) async fn save(&self, state: &State) -> io::Result<()> {
        let bytes = serde_json::to_vec_pretty(state)?;
        let path = self.path.clone();
        let written = tokio::task::spawn_blocking(move || replace(&path, &bytes)).await;
        written.map_err(io::Error::other)?
    }
}

fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    use io::Write;
    let new = with_suffix(path, "new");
    let mut file = private().truncate(true).open(&new)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    #[cfg(unix)]
    if let Some(folder) = path.parent() {
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        fs::File::open(folder)?.sync_all()?;
    }
    Ok(())
}

/// Files that nobody else may read: they tell where somebody lives.
fn private() -> fs::OpenOptions {
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(suffix);
    name.into()
}

const VERSION: u32 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn survives() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/ddns.json");
        let (file, mut state, notice) = StateFile::open(&path).unwrap();
        assert_eq!(notice, None);
        let sent = Some("192.0.2.1".parse().unwrap());
        state.records.insert("a/A".into(), RecordState { sent, ..RecordState::default() });
        file.save(&state).await.unwrap();
        assert!(matches!(StateFile::open(&path), Err(StateError::InUse { .. })));
        drop(file);
        let (_file, again, notice) = StateFile::open(&path).unwrap();
        assert_eq!((again, notice), (state, None));
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        }
    }

    #[test]
    fn damage_is_set_aside() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ddns.json");
        for damaged in ["", "{", "{\"version\":1}", "[]", "\0\0\0\0"] {
            fs::write(&path, damaged).unwrap();
            let (_file, state, notice) = StateFile::open(&path).unwrap();
            assert_eq!(notice, Some(Notice::StateDamaged), "{damaged:?}");
            assert!(state.records.is_empty());
            assert_eq!(fs::read_to_string(with_suffix(&path, "damaged")).unwrap(), damaged);
        }
    }
}
