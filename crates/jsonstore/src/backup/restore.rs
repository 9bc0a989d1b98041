//! Making a store of a backup.

use std::path::{Path, PathBuf};

use super::{
    BackupError, BackupProgress, BackupStep,
    create::OnProgress,
    history::{History, Sources},
    pack::{HashedFile, PIECE_BYTES, PackReader},
    record::{FileRecord, Record},
    repository::{Repository, remove_tree},
};
use crate::{
    bugs::bug,
    crypt::MasterKey,
    error::{Error, Result},
    manifest,
    segment::MAGIC,
    vfs::{OpenMode, Vfs, read_exact_at, write_all_at},
};

/// The moment to restore to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum RestorePoint {
    /// When the backup was made.
    #[default]
    Backup,
    /// The last commit that the archive and the log hold.
    Latest,
    /// After the commit with this sequence number.
    Seq(u64),
    /// Before the first commit later than this, in milliseconds since 1970. A clock that jumped while
    /// the store was written to makes this as vague as the jump.
    Time(u64),
}

impl RestorePoint {
    /// [`RestorePoint::Time`] of an RFC 3339 time in UTC, `2026-11-28T10:00:00Z`, with or without
    /// milliseconds. `None` if it is none.
    pub fn from_rfc3339(text: &str) -> Option<Self> {
        super::retention::parse_time(text).map(Self::Time)
    }
}

/// What to restore, from what, and where to.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct RestoreOptions {
    /// The folder of the new store; it must be absent or empty.
    pub target: PathBuf,
    /// The backup to begin with. Default: the newest that reaches back to the moment.
    pub backup: Option<String>,
    /// The moment. Default: when the backup was made.
    pub to: RestorePoint,
    /// The archive of the log, for moments after the backup. Default: none.
    pub archive: Option<PathBuf>,
    /// The key of the archive. Default: none.
    pub archive_key: Option<MasterKey>,
    /// A store whose log is read as well, for what is not archived yet. Default: none.
    pub log: Option<PathBuf>,
    /// The key of the store. Only [`RestorePoint::Time`] needs it. Default: none.
    pub key: Option<MasterKey>,
    /// Segments are hard-linked where the file system can. Default: false.
    pub link: bool,
}

impl RestoreOptions {
    /// The newest backup, as it was made.
    pub fn new(target: impl Into<PathBuf>) -> Self {
        Self {
            target: target.into(),
            backup: None,
            to: RestorePoint::Backup,
            archive: None,
            archive_key: None,
            log: None,
            key: None,
            link: false,
        }
    }
}

/// What a restore did.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RestoreReport {
    /// The backup it began with.
    pub backup: String,
    /// The last commit in the restored store.
    pub seq: u64,
    /// Bytes written.
    pub bytes: u64,
}

/// See [`super::Backups::restore`].
pub(crate) fn restore(
    repository: &Repository,
    options: &RestoreOptions,
    progress: OnProgress<'_>,
) -> Result<RestoreReport> {
    let vfs = &*repository.vfs;
    let is_empty = |path: &Path| match vfs.list(path) {
        Ok(names) => Ok(names.is_empty()),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(true),
        Err(e) => Err(Error::io("list", path, e)),
    };
    if !is_empty(&options.target)? {
        return Err(BackupError::TargetExists { path: options.target.clone() }.into());
    }
    let name = match &options.backup {
        Some(name) => name.clone(),
        None => choose(repository, options)?,
    };
    progress(BackupProgress { step: BackupStep::Beginning, done: 0, total: 0 });
    let chain = repository.chain(&name)?;
    let record = chain.first().ok_or_else(|| no_backup(repository, name.clone()))?;
    if let RestorePoint::Seq(seq) = options.to
        && seq < record.info.first_seq
    {
        let first = format!("sequence number {}", record.info.first_seq);
        return Err(
            BackupError::TooEarly { wanted: format!("sequence number {seq}"), first }.into()
        );
    }
    let mut aside = options.target.clone().into_os_string();
    aside.push(".restoring");
    let aside = PathBuf::from(aside);
    remove_tree(vfs, &aside);
    let mut job = Job { repository, record, options, aside, bytes: 0 };
    let done = job.run(progress);
    if done.is_err() {
        remove_tree(vfs, &job.aside);
    }
    let seq = done?;
    Ok(RestoreReport { backup: name, seq, bytes: job.bytes })
}

fn no_backup(repository: &Repository, name: String) -> Error {
    BackupError::NoBackup { name, path: repository.dir.clone() }.into()
}

/// The newest backup that reaches back to the moment, on the line that was begun last.
fn choose(repository: &Repository, options: &RestoreOptions) -> Result<String> {
    let to = options.to;
    let mut first = None;
    for (_, record) in repository.records()?.into_iter().rev() {
        let record = record?;
        if to != RestorePoint::Backup && sources(repository, &record, options).is_line_left()? {
            continue;
        }
        let info = record.info;
        let reaches = match to {
            RestorePoint::Backup | RestorePoint::Latest => true,
            RestorePoint::Seq(seq) => info.first_seq <= seq,
            RestorePoint::Time(ms) => info.wall_ms <= ms,
        };
        if reaches {
            return Ok(info.name);
        }
        first = Some(info);
    }
    let Some(first) = first else { return Err(no_backup(repository, "at all".to_owned())) };
    let (wanted, first) = match to {
        RestorePoint::Seq(seq) => {
            (format!("sequence number {seq}"), format!("sequence number {}", first.first_seq))
        }
        RestorePoint::Time(ms) => (
            super::retention::format_time(ms as i64),
            super::retention::format_time(first.wall_ms as i64),
        ),
        _ => (String::new(), String::new()),
    };
    Err(BackupError::TooEarly { wanted, first }.into())
}

fn sources<'a>(
    repository: &'a Repository,
    record: &'a Record,
    options: &'a RestoreOptions,
) -> Sources<'a> {
    Sources {
        repository,
        record,
        archive: options.archive.as_deref(),
        archive_key: options.archive_key.as_ref(),
        live: options.log.as_deref(),
        store_key: options.key.as_ref(),
    }
}

struct Job<'a> {
    repository: &'a Repository,
    record: &'a Record,
    options: &'a RestoreOptions,
    /// Assembled here, then renamed.
    aside: PathBuf,
    bytes: u64,
}

impl Job<'_> {
    fn run(&mut self, progress: OnProgress<'_>) -> Result<u64> {
        let vfs = &*self.repository.vfs;
        for part in ["", "seg", "wal", "tmp"] {
            let path = if part.is_empty() { self.aside.clone() } else { self.aside.join(part) };
            vfs.create_dir(&path).map_err(|e| Error::io("create", &path, e))?;
        }
        let sources = sources(self.repository, self.record, self.options);
        // What is missing of the log is found before anything large is copied.
        let history = sources.history(self.options.to)?;
        self.write_log(&sources, &history, progress)?;
        self.write_segments(progress)?;
        self.write_manifest()?;
        progress(BackupProgress { step: BackupStep::Finishing, done: 0, total: 1 });
        for part in ["seg", "wal", "tmp"] {
            if !(bug("restore_without_dir_sync") && part == "seg") {
                self.repository.sync_dir(&self.aside.join(part))?;
            }
        }
        // Until now it is no store: CURRENT makes it one. It also syncs the folder.
        manifest::write_current(vfs, &self.aside, &manifest::file_name(1))?;
        let target = &self.options.target;
        vfs.rename(&self.aside, target).map_err(|e| Error::io("rename", target, e))?;
        let parent = target.parent().filter(|parent| !parent.as_os_str().is_empty());
        self.repository.sync_dir(parent.unwrap_or(Path::new(".")))?;
        progress(BackupProgress { step: BackupStep::Finishing, done: 1, total: 1 });
        Ok(history.seq)
    }

    fn write_log(
        &mut self,
        sources: &Sources<'_>,
        history: &History,
        progress: OnProgress<'_>,
    ) -> Result<()> {
        let total = history.pieces.len() as u64 * self.record.log_file_bytes;
        for (i, piece) in history.pieces.iter().enumerate() {
            let done = i as u64 * self.record.log_file_bytes;
            progress(BackupProgress { step: BackupStep::Log, done, total });
            let image = sources.read(piece)?;
            let path = self.aside.join("wal").join(format!("{:06}.wal", piece.number));
            let mut file = HashedFile::create(&*self.repository.vfs, &path)?;
            for part in image.chunks(PIECE_BYTES) {
                file.put(part)?;
            }
            self.bytes += file.finish()?.bytes;
        }
        // An empty file that recovery removes, and after which it begins to count: the new line must not
        // use a number that the old one has, nor one that it has come to meanwhile.
        let beyond = history.highest + NUMBERS_AHEAD;
        let path = self.aside.join("wal").join(format!("{beyond:06}.wal"));
        HashedFile::create(&*self.repository.vfs, &path)?.finish()?;
        progress(BackupProgress { step: BackupStep::Log, done: total, total });
        Ok(())
    }

    fn write_segments(&mut self, progress: OnProgress<'_>) -> Result<()> {
        let record = self.record;
        let total = record.files_in("seg/").map(|file| file.written.bytes).sum();
        let mut done = 0;
        for file in record.files_in("seg/") {
            let mut tell = |bytes: u64| {
                let step = BackupStep::Segments;
                progress(BackupProgress { step, done: done + bytes, total });
            };
            tell(0);
            self.bytes += self.write_segment(file, &mut tell)?;
            done += file.written.bytes;
        }
        progress(BackupProgress { step: BackupStep::Segments, done, total });
        Ok(())
    }

    fn write_segment(&self, file: &FileRecord, tell: &mut dyn FnMut(u64)) -> Result<u64> {
        let vfs = &*self.repository.vfs;
        let (name, from) = place(self.repository, file);
        let target = self.aside.join(&file.name);
        let mut magic = [0; 8];
        let source = open(vfs, &from, &name)?;
        read_exact_at(&*source, &mut magic, 0)
            .map_err(|_| Error::corrupt(&name, 0, "the file is too short"))?;
        if magic != *MAGIC {
            return self.unpack_segment(file, &name, &from, &target, tell);
        }
        let linked = self.options.link && vfs.link(&from, &target).is_ok();
        let mut copy = if linked { None } else { Some(HashedFile::create(vfs, &target)?) };
        let mut hasher = blake3::Hasher::new();
        let mut at = 0;
        while at < file.written.bytes {
            let length = (file.written.bytes - at).min(PIECE_BYTES as u64);
            let mut piece = vec![0; length as usize];
            read_exact_at(&*source, &mut piece, at).map_err(|e| read_error(&name, &from, at, e))?;
            hasher.update(&piece);
            if let Some(copy) = &mut copy {
                copy.put(&piece)?;
            }
            at += length;
            tell(at);
        }
        if *hasher.finalize().as_bytes() != file.written.hash {
            return Err(wrong_hash(&name));
        }
        copy.map_or(Ok(0), |copy| copy.finish().map(|written| written.bytes))
    }

    fn unpack_segment(
        &self,
        file: &FileRecord,
        name: &str,
        from: &Path,
        target: &Path,
        tell: &mut dyn FnMut(u64),
    ) -> Result<u64> {
        let vfs = &*self.repository.vfs;
        let mut pack = PackReader::open(vfs, from, name, self.repository.key.as_ref())?;
        let mut copy = HashedFile::create(vfs, target)?;
        let mut bytes = 0;
        while let Some(piece) = pack.next_piece()? {
            copy.put(&piece)?;
            bytes += piece.len() as u64;
            tell(bytes.min(file.written.bytes));
        }
        if pack.hash() != file.written.hash {
            return Err(wrong_hash(name));
        }
        copy.finish().map(|written| written.bytes)
    }

    fn write_manifest(&mut self) -> Result<()> {
        let vfs = &*self.repository.vfs;
        let file = self.record.files_in("manifest").next();
        let file = file.ok_or_else(|| {
            let name = format!("{}/{}", self.record.info.name, super::record::FILE);
            Error::corrupt(name, 0, "the record names no manifest")
        })?;
        let (name, from) = place(self.repository, file);
        let pack = PackReader::open(vfs, &from, &name, self.repository.key.as_ref())?;
        let image = pack.read_all(MANIFEST_BYTES_MAX)?;
        let path = self.aside.join(manifest::file_name(1));
        let io = |op: &'static str| {
            let path = path.clone();
            move |e| Error::io(op, path, e)
        };
        let target = vfs.open(&path, OpenMode::Create).map_err(io("create"))?;
        write_all_at(&*target, &image, 0).map_err(io("write"))?;
        target.sync_all().map_err(io("sync"))?;
        self.bytes += image.len() as u64;
        Ok(())
    }
}

/// Log files that the old store may have begun since the last one that the restore knows of.
const NUMBERS_AHEAD: u64 = 1000;
/// No manifest is larger: a hundred thousand segments with keys of the longest kind.
const MANIFEST_BYTES_MAX: u64 = 256 << 20;

/// What errors call a file, and where it lies.
pub(crate) fn place(repository: &Repository, file: &FileRecord) -> (String, PathBuf) {
    let name = format!("{}/{}", file.stored_in, file.name);
    let path = repository.dir.join(&file.stored_in).join(&file.name);
    (name, path)
}

pub(crate) fn open(
    vfs: &dyn Vfs,
    path: &Path,
    name: &str,
) -> Result<std::sync::Arc<dyn crate::vfs::VFile>> {
    vfs.open(path, OpenMode::Read).map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound => Error::corrupt(name, 0, "the file is missing"),
        _ => Error::io("open", path, e),
    })
}

pub(crate) fn read_error(name: &str, path: &Path, at: u64, e: std::io::Error) -> Error {
    match e.kind() {
        std::io::ErrorKind::UnexpectedEof => Error::corrupt(name, at, "the file is too short"),
        _ => Error::io("read", path, e),
    }
}

pub(crate) fn wrong_hash(name: &str) -> Error {
    Error::corrupt(name, 0, "the hash of the file is wrong")
}
