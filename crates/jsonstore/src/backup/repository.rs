//! A folder of backups.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    BackupError, BackupProgress, DeepReport, DrillReport, RestoreOptions, RestoreReport, Retention,
    record::{BYTES_MAX, BackupInfo, FILE, Record},
    restore, retention, verify,
};
use crate::{
    api::may_block,
    crypt::MasterKey,
    env::{Env, RealEnv},
    error::{Error, Result},
    vfs::{LockGuard, OpenMode, RealVfs, Vfs, read_exact_at},
};

/// A folder of backups: what is in it, whether it is sound, and back from it.
///
/// Operations take long and read the disk; they run on a thread of their own unless called within
/// [`crate::block_on`].
#[derive(Debug, Clone)]
pub struct Backups {
    repository: Arc<Repository>,
}

impl Backups {
    /// The backups in this folder.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        let (vfs, env) = (Arc::new(RealVfs), Arc::new(RealEnv::new()));
        let repository = Repository { vfs, env, dir: folder.into(), key: None };
        Self { repository: Arc::new(repository) }
    }

    /// With the key of [`crate::BackupOptions::key`].
    #[must_use]
    pub fn with_key(self, key: MasterKey) -> Self {
        self.with(|repository| repository.key = Some(key))
    }

    /// On another disk and clock.
    #[must_use]
    pub fn with_disk(self, vfs: Arc<dyn Vfs>, env: Arc<dyn Env>) -> Self {
        self.with(|repository| (repository.vfs, repository.env) = (vfs, env))
    }

    /// All backups, oldest first.
    ///
    /// # Errors
    /// [`Error::Corruption`] names the first record that is damaged.
    pub async fn list(&self) -> Result<Vec<BackupInfo>> {
        self.run(|repository| {
            let records = repository.records()?;
            records.into_values().map(|record| record.map(|r| r.info)).collect()
        })
        .await
    }

    /// Compares every file that a backup needs, also those in backups it builds on, with its hash.
    /// Returns the bytes that were read.
    ///
    /// # Errors
    /// [`Error::Corruption`] names the file; [`BackupError::MissingLink`], [`BackupError::NoBackup`].
    pub async fn verify(&self, name: &str) -> Result<u64> {
        self.verify_with_progress(name, |_| {}).await
    }

    /// As [`Backups::verify`], telling how far it is.
    ///
    /// # Errors
    /// As [`Backups::verify`].
    pub async fn verify_with_progress(
        &self,
        name: &str,
        mut progress: impl FnMut(BackupProgress) + Send + 'static,
    ) -> Result<u64> {
        let name = name.to_owned();
        self.run(move |repository| verify::hashes(repository, &name, &mut progress)).await
    }

    /// As [`Backups::verify`]; then the backup is restored aside, opened for reading, and every block,
    /// every document and every id is checked. `key` is the store's own.
    ///
    /// # Errors
    /// As [`Backups::verify`], and what opening and verifying a store give.
    pub async fn verify_deep(
        &self,
        name: &str,
        key: Option<MasterKey>,
        mut progress: impl FnMut(BackupProgress) + Send + 'static,
    ) -> Result<DeepReport> {
        let name = name.to_owned();
        self.run(move |repository| verify::deep(repository, &name, key, &mut progress)).await
    }

    /// Makes a store of a backup, as it was at the moment that the options name. It is assembled
    /// aside and gets its name at the end, so it is there as a whole or not at all.
    ///
    /// # Errors
    /// Those of [`BackupError`] that say which part is missing; [`Error::WrongKey`].
    pub async fn restore(&self, options: RestoreOptions) -> Result<RestoreReport> {
        self.restore_with_progress(options, |_| {}).await
    }

    /// As [`Backups::restore`], telling how far it is.
    ///
    /// # Errors
    /// As [`Backups::restore`].
    pub async fn restore_with_progress(
        &self,
        options: RestoreOptions,
        mut progress: impl FnMut(BackupProgress) + Send + 'static,
    ) -> Result<RestoreReport> {
        self.run(move |repository| restore::restore(repository, &options, &mut progress)).await
    }

    /// Proves that the newest backup can be restored: restores it into a folder of its own inside
    /// `scratch`, opens it, verifies everything, and removes it again.
    ///
    /// # Errors
    /// As [`Backups::restore`] and [`crate::Store::verify`].
    pub async fn drill(
        &self,
        scratch: impl Into<PathBuf>,
        key: Option<MasterKey>,
        mut progress: impl FnMut(BackupProgress) + Send + 'static,
    ) -> Result<DrillReport> {
        let scratch = scratch.into();
        self.run(move |repository| verify::drill(repository, &scratch, key, &mut progress)).await
    }

    /// Removes the backups that `retention` does not keep; returns their names. What a kept backup
    /// builds on is kept, and so is one full backup that was just now found to be sound.
    ///
    /// # Errors
    /// [`BackupError::NoSoundFull`]: then nothing was removed.
    pub async fn retain(&self, retention: Retention) -> Result<Vec<String>> {
        self.run(move |repository| retention::retain(repository, &retention)).await
    }

    fn with(mut self, change: impl FnOnce(&mut Repository)) -> Self {
        change(Arc::make_mut(&mut self.repository));
        self
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Repository) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        if may_block() || !self.repository.env.has_threads() {
            return work(&self.repository);
        }
        let repository = Arc::clone(&self.repository);
        crate::pool::Pool::new().run(move || work(&repository)).await
    }
}

/// A folder of backups, and how it is reached.
#[derive(Debug, Clone)]
pub(crate) struct Repository {
    pub(crate) vfs: Arc<dyn Vfs>,
    pub(crate) env: Arc<dyn Env>,
    pub(crate) dir: PathBuf,
    pub(crate) key: Option<MasterKey>,
}

/// Records by number.
pub(crate) type Records = BTreeMap<u64, Result<Record>>;

impl Repository {
    /// Makes the folder, keeps other processes out, and removes what was not finished.
    pub(crate) fn prepare(&self) -> Result<LockGuard> {
        let dir = &self.dir;
        self.vfs.create_dir(dir).map_err(|e| Error::io("create", dir, e))?;
        let lock = dir.join("LOCK");
        let guard = self.vfs.lock(&lock).map_err(|e| match e.kind() {
            io::ErrorKind::WouldBlock => Error::Locked { path: dir.clone() },
            _ => Error::io("lock", &lock, e),
        })?;
        for name in self.vfs.list(dir).map_err(|e| Error::io("list", dir, e))? {
            if name.starts_with("tmp-") {
                remove_tree(&*self.vfs, &dir.join(name));
            }
        }
        Ok(guard)
    }

    /// Every backup in the folder.
    pub(crate) fn records(&self) -> Result<Records> {
        let mut records = BTreeMap::new();
        let names = match self.vfs.list(&self.dir) {
            Ok(names) => names,
            Err(e) if e.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(e) => return Err(Error::io("list", &self.dir, e)),
        };
        for name in names {
            if let Some(number) = number_of(&name) {
                records.insert(number, self.record(&name));
            }
        }
        Ok(records)
    }

    /// The record of one backup.
    pub(crate) fn record(&self, name: &str) -> Result<Record> {
        let missing =
            || BackupError::NoBackup { name: name.to_owned(), path: self.dir.clone() }.into();
        if number_of(name).is_none() {
            return Err(missing());
        }
        let path = self.dir.join(name).join(FILE);
        let file = match self.vfs.open(&path, OpenMode::Read) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Err(missing()),
            Err(e) => return Err(Error::io("open", &path, e)),
        };
        let length = file.len().map_err(|e| Error::io("stat", &path, e))?;
        let mut text = vec![0; length.min(BYTES_MAX) as usize];
        read_exact_at(&*file, &mut text, 0).map_err(|e| Error::io("read", &path, e))?;
        Record::decode(name, &text)
    }

    /// The backup and all that it builds on, newest first. Each must be the one that its child was
    /// made after.
    pub(crate) fn chain(&self, name: &str) -> Result<Vec<Record>> {
        let mut chain = vec![self.record(name)?];
        while let Some(last) = chain.last()
            && let Some((parent, hash)) = last.info.parent.as_ref().zip(last.parent_hash)
        {
            let found = match self.record(parent) {
                Ok(found) => found,
                Err(Error::Backup(BackupError::NoBackup { .. })) => {
                    return Err(last.missing_link(parent));
                }
                Err(e) => return Err(e),
            };
            if found.hash != hash {
                return Err(last.missing_link(parent));
            }
            chain.push(found);
        }
        if let Some(record) = chain.first() {
            record.check_key(self.key.as_ref())?;
        }
        Ok(chain)
    }

    /// Makes names durable.
    pub(crate) fn sync_dir(&self, path: &Path) -> Result<()> {
        self.vfs.sync_dir(path).map_err(|e| Error::io("sync", path, e))
    }
}

/// The number in a backup's name, if it is one.
fn number_of(name: &str) -> Option<u64> {
    let (number, kind) = name.split_once('-')?;
    let known = ["full", "incremental", "differential"].contains(&kind);
    (known && number.len() >= 6 && number.bytes().all(|b| b.is_ascii_digit()))
        .then(|| number.parse().ok())
        .flatten()
}

/// Removes a folder of ours with its known parts, as far as that goes.
pub(crate) fn remove_tree(vfs: &dyn Vfs, dir: &Path) {
    for part in ["seg", "wal", "tmp", ""] {
        let path = if part.is_empty() { dir.to_path_buf() } else { dir.join(part) };
        for name in vfs.list(&path).unwrap_or_default() {
            // A subfolder refuses; it went, or stays, by itself.
            let _ = vfs.remove(&path.join(name));
        }
        let _ = vfs.remove_dir(&path);
    }
}
