//! Is a backup sound? By its hashes, by opening what it restores to, and by restoring it for real.

use std::{path::Path, sync::Arc, time::Duration};

use super::{
    BackupError, BackupProgress, BackupStep, RestoreOptions,
    create::OnProgress,
    pack::PIECE_BYTES,
    repository::{Repository, remove_tree},
    restore::{open, place, read_error, restore, wrong_hash},
};
use crate::{
    crypt::MasterKey,
    engine::{Core, VerifyReport},
    error::{Error, Result},
    options::Options,
    vfs::read_exact_at,
};

/// What a deep verification looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeepReport {
    /// Bytes compared with their hashes.
    pub bytes: u64,
    /// What was found in the store that the backup restores to.
    pub store: VerifyReport,
    /// The last commit in it.
    pub seq: u64,
}

/// What a restore drill showed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct DrillReport {
    /// The backup that was restored.
    pub backup: String,
    /// Bytes written, and how long that took.
    pub restored: (u64, Duration),
    /// What was found, and how long opening and reading everything took.
    pub verified: (VerifyReport, Duration),
}

/// See [`super::Backups::verify`].
pub(crate) fn hashes(repository: &Repository, name: &str, progress: OnProgress<'_>) -> Result<u64> {
    let chain = repository.chain(name)?;
    let Some(record) = chain.first() else { return Ok(0) };
    let total: u64 = record.files.iter().map(|file| file.written.bytes).sum();
    let mut done = 0;
    let mut piece = vec![0; PIECE_BYTES];
    for file in &record.files {
        let (name, path) = place(repository, file);
        // What an earlier backup holds, it must still know of.
        if !chain.iter().any(|record| record.info.name == file.stored_in) {
            return Err(record.missing_link(&file.stored_in));
        }
        let source = open(&*repository.vfs, &path, &name)?;
        let length = source.len().map_err(|e| Error::io("stat", &path, e))?;
        if length != file.written.bytes {
            let text =
                format!("the file has {length} bytes, its record says {}", file.written.bytes);
            return Err(Error::corrupt(name, length.min(file.written.bytes), text));
        }
        let mut hasher = blake3::Hasher::new();
        let mut at = 0;
        while at < length {
            progress(BackupProgress { step: BackupStep::Checking, done: done + at, total });
            let part = (length - at).min(PIECE_BYTES as u64);
            let part = piece.get_mut(..part as usize).unwrap_or_default();
            read_exact_at(&*source, part, at).map_err(|e| read_error(&name, &path, at, e))?;
            hasher.update(part);
            at += part.len() as u64;
        }
        if *hasher.finalize().as_bytes() != file.written.hash {
            return Err(wrong_hash(&name));
        }
        done += length;
    }
    progress(BackupProgress { step: BackupStep::Checking, done, total });
    Ok(done)
}

/// See [`super::Backups::verify_deep`].
pub(crate) fn deep(
    repository: &Repository,
    name: &str,
    key: Option<MasterKey>,
    progress: OnProgress<'_>,
) -> Result<DeepReport> {
    let bytes = hashes(repository, name, progress)?;
    let aside = repository.dir.join(format!("tmp-check-{name}"));
    remove_tree(&*repository.vfs, &aside);
    let mut options = RestoreOptions::new(&aside);
    options.backup = Some(name.to_owned());
    options.link = true;
    let checked = restore(repository, &options, progress).and_then(|restored| {
        let core = open_store(repository, &aside, key, true)?;
        Ok((read_all(&core, progress)?, restored.seq))
    });
    remove_tree(&*repository.vfs, &aside);
    let (store, seq) = checked?;
    Ok(DeepReport { bytes, store, seq })
}

/// See [`super::Backups::drill`].
pub(crate) fn drill(
    repository: &Repository,
    scratch: &Path,
    key: Option<MasterKey>,
    progress: OnProgress<'_>,
) -> Result<DrillReport> {
    let vfs = &*repository.vfs;
    vfs.create_dir(scratch).map_err(|e| Error::io("create", scratch, e))?;
    let target = scratch.join("restore-drill");
    remove_tree(vfs, &target);
    let begun = repository.env.now();
    let restored = restore(repository, &RestoreOptions::new(&target), progress)?;
    let took = repository.env.now().saturating_sub(begun);
    let begun = repository.env.now();
    let checked = open_store(repository, &target, key, false).and_then(|core| {
        let report = read_all(&core, progress)?;
        let found = core.log.visible();
        core.close()?;
        if found < restored.seq {
            let reached = found;
            return Err(BackupError::NotReached { wanted: restored.seq, reached }.into());
        }
        Ok(report)
    });
    remove_tree(vfs, &target);
    let verified = (checked?, repository.env.now().saturating_sub(begun));
    Ok(DrillReport { backup: restored.backup, restored: (restored.bytes, took), verified })
}

fn open_store(
    repository: &Repository,
    dir: &Path,
    key: Option<MasterKey>,
    read_only: bool,
) -> Result<Arc<Core>> {
    let mut options = Options::new(dir);
    options.create = false;
    options.read_only = read_only;
    options.key = key;
    options.vfs = Arc::clone(&repository.vfs);
    options.env = Arc::clone(&repository.env);
    Core::open(options, &mut |_| {})
}

fn read_all(core: &Arc<Core>, progress: OnProgress<'_>) -> Result<VerifyReport> {
    core.verify(&mut |done, total| {
        progress(BackupProgress { step: BackupStep::Checking, done, total });
    })
}
