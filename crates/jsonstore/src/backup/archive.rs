//! The archive of the log: every sealed log file is copied before it is used again, so that a backup
//! and the archive together give every moment since the backup.
//!
//! Files of the archive carry their number and which file they follow. A store that was restored
//! begins its own line with a number of its own, so one folder can hold several; a restore follows
//! the one that was written to last.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use parking_lot::Mutex;

use super::{
    Archive, BackupError,
    pack::{PackHeader, PackKind, PackReader, PackWriter},
};
use crate::{
    bugs::bug,
    commit::Log,
    env::Env,
    error::{Error, Result},
    options::Options,
    vfs::{OpenMode, Vfs, read_exact_at, read_file},
    wal::{self, FileHeader, Recovered, WalConfig},
};

/// Copies log files of one store.
#[derive(Debug)]
pub(crate) struct Archiver {
    options: Archive,
    vfs: Arc<dyn Vfs>,
    env: Arc<dyn Env>,
    config: WalConfig,
    /// Only one copies at a time.
    busy: Mutex<()>,
    progress: Mutex<Progress>,
}

#[derive(Debug, Default)]
struct Progress {
    /// Files from this number on are not archived yet.
    next: u64,
    files: BTreeMap<u64, (PackHeader, u64)>,
    error: Option<Error>,
}

impl Archiver {
    /// Before recovery, which removes log files below the floor: what of them is not archived yet
    /// is copied now. A crash between the two so loses nothing.
    pub(crate) fn open(
        options: &Options,
        archive: &Archive,
        config: &WalConfig,
        floor: u64,
    ) -> Result<Self> {
        let vfs = Arc::clone(&options.vfs);
        vfs.create_dir(&archive.path).map_err(|e| Error::io("create", &archive.path, e))?;
        let files = list(&*vfs, &archive.path, &config.store_id)?;
        let archiver = Self {
            options: archive.clone(),
            vfs,
            env: Arc::clone(&options.env),
            config: config.clone(),
            busy: Mutex::new(()),
            progress: Mutex::new(Progress { files, ..Progress::default() }),
        };
        archiver.catch_up(floor / config.file_bytes)?;
        Ok(archiver)
    }

    /// Copies what lies before the file `first`, as far back as it is there and not archived.
    fn catch_up(&self, first: u64) -> Result<()> {
        let mut missing = Vec::new();
        let mut number = first;
        while let Some(header) = self.header(number)? {
            let before = header.prev_end / self.config.file_bytes;
            if before == 0 || before >= number {
                break;
            }
            if self.progress.lock().files.contains_key(&before) || self.header(before)?.is_none() {
                break;
            }
            missing.push((before, number));
            number = before;
        }
        missing.iter().rev().try_for_each(|(number, next)| self.copy(*number, *next))
    }

    /// After recovery. The next file gets a number that the archive does not know, and a file that it
    /// holds already is not written to any more.
    pub(crate) fn adopt(&self, found: &mut Recovered) -> Result<()> {
        let mut progress = self.progress.lock();
        let highest = progress.files.keys().next_back().copied().unwrap_or(0);
        let last = found.files.last().copied().unwrap_or(0);
        found.clean &= last > highest;
        found.highest_number = found.highest_number.max(highest);
        progress.next = last;
        for number in &found.files {
            let Some((archived, _)) = progress.files.get(number) else {
                progress.next = *number;
                break;
            };
            let ours = self.header(*number)?;
            if ours.is_none_or(|ours| ours.key_salt != archived.identity) {
                return Err(self.foreign(*number));
            }
        }
        Ok(())
    }

    /// Files from this number on must stay until they are archived.
    pub(crate) fn next(&self) -> u64 {
        self.progress.lock().next
    }

    /// Copies the oldest sealed file that is not archived. `false` if there is none.
    pub(crate) fn archive_one(&self, log: &Log) -> Result<bool> {
        let _one = self.busy.lock();
        let from = self.next();
        let Some((number, next)) = log.with_wal(|wal| wal.sealed_from(from)) else {
            return Ok(false);
        };
        let copied = self.copy(number, next);
        let mut progress = self.progress.lock();
        progress.error = copied.as_ref().err().cloned();
        copied?;
        progress.next = number + 1;
        drop(progress);
        log.with_wal(|wal| wal.archive_from(number + 1));
        self.expire();
        Ok(true)
    }

    /// Why it does not get on, if it does not.
    pub(crate) fn error(&self) -> Option<Error> {
        self.progress.lock().error.clone()
    }

    /// The copy is durable when this returns.
    fn copy(&self, number: u64, next: u64) -> Result<()> {
        let path = self.config.path(number);
        let image = read_file(&*self.vfs, &path).map_err(|e| Error::io("read", &path, e))?;
        let name = format!("wal/{number:06}.wal");
        let bad = || Error::corrupt(&name, 0, "the header of the log file is damaged");
        let header = wal::read_header(&self.config, number, &image).ok_or_else(bad)?;
        let end = self.header(next)?.ok_or_else(bad)?.prev_end;
        let length = end.saturating_sub(number * self.config.file_bytes) as usize;
        // The end is on a boundary, the file may end at the last record.
        let content = image.get(..length.min(image.len())).unwrap_or_default();
        let head = PackHeader {
            prev_lsn: header.prev_lsn,
            prev_end: header.prev_end,
            end,
            wall_ms: self.env.wall_ms(),
            identity: header.key_salt,
            ..PackHeader::new(PackKind::Log, self.config.store_id, number)
        };
        if let Some((known, _)) = self.progress.lock().files.get(&number) {
            if known.identity != head.identity {
                return Err(self.foreign(number));
            }
            if known.end >= end {
                return Ok(());
            }
        }
        let dir = &self.options.path;
        let aside = dir.join(format!("{number:06}.tmp"));
        let key = self.options.key.as_ref();
        let mut pack = PackWriter::create(&*self.vfs, &*self.env, &aside, &head, key)?;
        pack.put(content)?;
        let skips = bug("archive_not_synced");
        let written = if skips { pack.finish_unsynced() } else { pack.finish() }?;
        let target = dir.join(file_name(number));
        self.vfs.rename(&aside, &target).map_err(|e| Error::io("rename", &target, e))?;
        if !skips {
            self.vfs.sync_dir(dir).map_err(|e| Error::io("sync", dir, e))?;
        }
        self.progress.lock().files.insert(number, (head, written.bytes));
        Ok(())
    }

    /// Removes what is too old or too much, oldest first; never the newest file.
    fn expire(&self) {
        let now = self.env.wall_ms();
        let mut progress = self.progress.lock();
        let mut total: u64 = progress.files.values().map(|(_, bytes)| bytes).sum();
        while progress.files.len() > 1 {
            let Some((number, (header, bytes))) = progress.files.first_key_value() else { return };
            let age = now.saturating_sub(header.wall_ms);
            let is_old = self.options.age_max.is_some_and(|max| u128::from(age) > max.as_millis());
            let is_much = self.options.bytes_max.is_some_and(|max| total > max);
            if !is_old && !is_much {
                return;
            }
            total -= bytes;
            let number = *number;
            // One that stays is found again at the next opening.
            let _ = self.vfs.remove(&self.options.path.join(file_name(number)));
            progress.files.remove(&number);
        }
    }

    /// The header of a log file of the store; `None` if there is no file, or none of ours in it.
    fn header(&self, number: u64) -> Result<Option<FileHeader>> {
        read_log_header(&*self.vfs, &self.config, number)
    }

    fn foreign(&self, number: u64) -> Error {
        BackupError::ForeignArchive { path: self.options.path.clone(), file: file_name(number) }
            .into()
    }
}

/// The header of a log file, if there is a valid one.
pub(crate) fn read_log_header(
    vfs: &dyn Vfs,
    config: &WalConfig,
    number: u64,
) -> Result<Option<FileHeader>> {
    let path = config.path(number);
    let file = match vfs.open(&path, OpenMode::Read) {
        Ok(file) => file,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(Error::io("open", &path, e)),
    };
    let mut block = [0; crate::frame::ALIGN as usize];
    match read_exact_at(&*file, &mut block, 0) {
        Ok(()) => Ok(wal::read_header(config, number, &block)),
        Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => Ok(None),
        Err(e) => Err(Error::io("read", &path, e)),
    }
}

pub(crate) fn file_name(number: u64) -> String {
    format!("{number:06}.log")
}

/// Log files of a store in an archive, with the bytes they take. Others are passed over.
pub(crate) fn list(
    vfs: &dyn Vfs,
    dir: &Path,
    store_id: &[u8; 16],
) -> Result<BTreeMap<u64, (PackHeader, u64)>> {
    let mut files = BTreeMap::new();
    for name in vfs.list(dir).map_err(|e| Error::io("list", dir, e))? {
        let Some(number) = name.strip_suffix(".log").and_then(|n| n.parse().ok()) else { continue };
        let path = dir.join(&name);
        let header = PackReader::header(vfs, &path, &name)?;
        if header.store_id != *store_id || header.kind != PackKind::Log || header.number != number {
            return Err(BackupError::ForeignArchive { path: dir.to_path_buf(), file: name }.into());
        }
        let length = vfs.open(&path, OpenMode::Read).and_then(|file| file.len());
        files.insert(number, (header, length.map_err(|e| Error::io("open", &path, e))?));
    }
    Ok(files)
}

/// Where an archived file lies.
pub(crate) fn path(dir: &Path, number: u64) -> PathBuf {
    dir.join(file_name(number))
}
