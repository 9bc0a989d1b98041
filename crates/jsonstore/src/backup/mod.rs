//! Backup: full, incremental and differential copies of a running store, an archive of its log, and
//! restoring to any moment that these hold (docs/file-format.md).
//!
//! A backup pins one state of the manifest and copies its segments and the log up to one position.
//! Writers never wait for it. Everything it writes has a hash in `backup.json`, which has its own.

pub(crate) mod archive;
mod create;
mod history;
mod pack;
mod record;
mod repository;
mod restore;
mod retention;
mod verify;

use std::{path::PathBuf, time::Duration};

pub use self::{
    create::BackupReport,
    record::{BackupInfo, BackupKind},
    repository::Backups,
    restore::{RestoreOptions, RestorePoint, RestoreReport},
    retention::Retention,
    verify::{DeepReport, DrillReport},
};
pub(crate) use self::{create::create, retention::format_time};
use crate::crypt::MasterKey;

/// Where sealed log files are copied before they are used again. One folder per store.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Archive {
    /// The folder.
    pub path: PathBuf,
    /// Encrypts what is written there; independent of the store's key. Default: none.
    pub key: Option<MasterKey>,
    /// Files older than this are removed. Default: none is too old.
    pub age_max: Option<Duration>,
    /// The oldest files are removed while the folder holds more than this. Default: no limit.
    pub bytes_max: Option<u64>,
}

impl Archive {
    /// In this folder, unencrypted, kept for ever.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), key: None, age_max: None, bytes_max: None }
    }
}

/// How a backup is made.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct BackupOptions {
    /// The folder of backups; this one becomes a folder in it.
    pub destination: PathBuf,
    /// What is copied. Default: everything.
    pub kind: BackupKind,
    /// Encrypts what the backup writes. Segments of an encrypted store are copied as they are, under
    /// the store's key. Default: none.
    pub key: Option<MasterKey>,
    /// Segments are hard-linked where the file system can. That is fast and takes no space, but
    /// damage to the medium then hits the store and the backup alike. Default: false.
    pub link: bool,
    /// Bytes copied per second at most; 0 is no limit. Default: 128 MiB.
    pub bytes_per_second_max: u64,
    /// The same while others commit, who wait for the processor and the disk that a backup takes; 0
    /// is no limit but the other one. Default: 32 MiB.
    pub busy_bytes_per_second_max: u64,
}

impl BackupOptions {
    /// A full backup into this folder.
    pub fn new(destination: impl Into<PathBuf>) -> Self {
        Self {
            destination: destination.into(),
            kind: BackupKind::Full,
            key: None,
            link: false,
            bytes_per_second_max: 128 << 20,
            busy_bytes_per_second_max: 32 << 20,
        }
    }
}

/// What a backup or a restore does just now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum BackupStep {
    /// It begins; nothing is pinned yet.
    Beginning,
    /// Bytes of segments copied.
    Segments,
    /// Bytes of the log copied.
    Log,
    /// Bytes read and compared.
    Checking,
    /// Everything is there; the name is changed to the final one.
    Finishing,
}

/// How far a backup or a restore is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct BackupProgress {
    /// What it does.
    pub step: BackupStep,
    /// Bytes done in this step.
    pub done: u64,
    /// Bytes to do in this step.
    pub total: u64,
}

/// What can go wrong with backups besides what can go wrong with files.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BackupError {
    /// Another backup of this store is under way. Act: wait.
    #[error("another backup is under way")]
    Busy,
    /// The archive holds a log file of another store, or of another line of this one. Act: the
    /// operator names another folder.
    #[error("{path} is the archive of another store: {file} is not a file of this one")]
    ForeignArchive {
        /// The archive.
        path: PathBuf,
        /// The file.
        file: String,
    },
    /// A bulk load does not go through the log, so no restore leads across it. Act: take a backup
    /// made after it, or stop before it.
    #[error("the log does not hold the bulk load {seq}: restore from a backup made after it")]
    LoadInTheWay {
        /// Its sequence number.
        seq: u64,
    },
    /// A backup that this one builds on is missing or was replaced. Act: the operator finds it.
    #[error("backup {backup} builds on {needs}, which is missing or another one")]
    MissingLink {
        /// The backup.
        backup: String,
        /// What it builds on.
        needs: String,
    },
    /// A part of the log is neither in the backup nor in the archive nor in the store. Act: the
    /// operator finds it, or restores to an earlier moment.
    #[error("a part of the log is missing: {found} does not follow log file {after}")]
    MissingLog {
        /// The last file that is there.
        after: u64,
        /// The next that was found.
        found: u64,
    },
    /// There is no such backup. Act: the caller.
    #[error("there is no backup {name} in {path}")]
    NoBackup {
        /// What was looked for.
        name: String,
        /// Where.
        path: PathBuf,
    },
    /// No full backup passes its check, so nothing is removed. Act: the operator makes one.
    #[error("no full backup is sound: nothing is removed")]
    NoSoundFull,
    /// The log ends before the moment that was asked for. Act: the caller.
    #[error("the log ends at sequence number {reached}, before {wanted}")]
    NotReached {
        /// The sequence number that was asked for.
        wanted: u64,
        /// The last there is.
        reached: u64,
    },
    /// The backup is of a store with another identity. Act: the operator names another folder.
    #[error("{path} holds backups of another store")]
    OtherStore {
        /// The folder.
        path: PathBuf,
    },
    /// The folder to restore into is not empty. Act: the caller.
    #[error("{path} exists and is not empty")]
    TargetExists {
        /// The folder.
        path: PathBuf,
    },
    /// The moment lies before every backup. Act: the caller.
    #[error("no backup reaches back to {wanted}; the first begins with {first}")]
    TooEarly {
        /// What was asked for.
        wanted: String,
        /// What there is.
        first: String,
    },
}
