//! Making a backup.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use super::{
    BackupError, BackupOptions, BackupProgress, BackupStep,
    archive::read_log_header,
    pack::{HashedFile, PackHeader, PackKind, PackWriter, Written},
    record::{BackupInfo, BackupKind, FILE, FileRecord, Record},
    repository::{Repository, remove_tree},
};
use crate::{
    bugs::bug,
    engine::{Core, Pin},
    env::Env,
    error::{Error, Result},
    frame::FrameType,
    lsm::segment_path,
    manifest,
    segment::{FOOTER, SegmentInfo, hash_in_footer},
    vfs::{OpenMode, read_exact_at, write_all_at},
    wal::{self, Walk},
};

/// Bytes between two looks at the limits. Smaller than a piece: a core that hashes a whole one keeps
/// commits waiting for a millisecond.
const STEP_BYTES: usize = 128 << 10;

/// What a backup did.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct BackupReport {
    /// The backup.
    pub info: BackupInfo,
    /// Segments copied, linked, and left where an earlier backup has them.
    pub segments: [u64; 3],
    /// Bytes of the log before compression.
    pub log_bytes: u64,
}

/// Told of every piece.
pub(crate) type OnProgress<'a> = &'a mut (dyn FnMut(BackupProgress) + Send);

/// Makes a backup. On an error nothing of it remains, and the store goes on.
pub(crate) fn create(
    core: &Arc<Core>,
    options: &BackupOptions,
    progress: OnProgress<'_>,
) -> Result<BackupReport> {
    core.check_open()?;
    if core.options.read_only {
        return Err(Error::ReadOnly);
    }
    let _one = core.backup_lock.try_lock().ok_or(BackupError::Busy)?;
    let repository = Repository {
        vfs: Arc::clone(&core.options.vfs),
        env: Arc::clone(&core.options.env),
        dir: options.destination.clone(),
        key: options.key.clone(),
    };
    let _lock = repository.prepare()?;
    let (number, parent) = choose_parent(&repository, core.store_id(), options.kind)?;
    let kind = if parent.is_some() { options.kind } else { BackupKind::Full };
    let name = format!("{number:06}-{}", kind.name());
    let early = bug("backup_log_before_pin").then(|| core.log.with_wal(|wal| wal.durable()));
    progress(BackupProgress { step: BackupStep::Beginning, done: 0, total: 0 });
    let mut pin = core.pin();
    pin.end = early.unwrap_or(pin.end);
    if bug("backup_without_pin") {
        core.log.with_wal(|wal| wal.unpin(pin.state.wal_floor));
    }
    let mut job = Job {
        core,
        options,
        folder: repository.dir.join(format!("tmp-{name}")),
        repository: &repository,
        name,
        parent,
        pin,
        throttle: Throttle::new(options),
        files: Vec::new(),
        counts: [0; 3],
        log_bytes: 0,
        last_seq: 0,
        commits_end: 0,
    };
    let made = job.run(kind, progress);
    if made.is_err() {
        // What stays is removed by the next backup.
        remove_tree(&*repository.vfs, &job.folder);
    }
    let info = made?;
    Ok(BackupReport { info, segments: job.counts, log_bytes: job.log_bytes })
}

/// The number of the new backup, and the one it builds on. Without one it becomes a full backup.
fn choose_parent(
    repository: &Repository,
    store_id: [u8; 16],
    kind: BackupKind,
) -> Result<(u64, Option<Record>)> {
    let records = repository.records()?;
    let newest = records.keys().next_back().copied().unwrap_or(0);
    let is_full = |record: &Record| record.info.kind == BackupKind::Full;
    let mut parent = None;
    for (_, record) in records.into_iter().rev() {
        // A record that is damaged is an error: what builds on it could not be restored.
        let record = record?;
        if record.store_id != store_id {
            return Err(BackupError::OtherStore { path: repository.dir.clone() }.into());
        }
        let fits = match kind {
            BackupKind::Full => false,
            BackupKind::Incremental => true,
            BackupKind::Differential => is_full(&record),
        };
        if fits && parent.is_none() {
            record.check_key(repository.key.as_ref())?;
            parent = Some(record);
        }
    }
    Ok((newest + 1, parent))
}

struct Job<'a> {
    core: &'a Arc<Core>,
    options: &'a BackupOptions,
    repository: &'a Repository,
    /// Written aside, then renamed.
    folder: PathBuf,
    name: String,
    parent: Option<Record>,
    pin: Pin,
    throttle: Throttle,
    files: Vec<FileRecord>,
    counts: [u64; 3],
    log_bytes: u64,
    last_seq: u64,
    commits_end: u64,
}

impl Job<'_> {
    fn run(&mut self, kind: BackupKind, progress: OnProgress<'_>) -> Result<BackupInfo> {
        let repository = self.repository;
        let vfs = &*repository.vfs;
        for part in ["", "seg", "wal"] {
            let path = if part.is_empty() { self.folder.clone() } else { self.folder.join(part) };
            vfs.create_dir(&path).map_err(|e| Error::io("create", &path, e))?;
        }
        self.last_seq = self.pin.state.flushed_seq;
        self.commits_end = self.pin.state.wal_floor;
        // The log goes first, so that it is held up for a short time only.
        self.copy_log(progress)?;
        self.core.log.with_wal(|wal| wal.unpin(self.pin.state.wal_floor));
        self.copy_segments(progress)?;
        self.write_manifest()?;
        progress(BackupProgress { step: BackupStep::Finishing, done: 0, total: 1 });
        let info = self.write_record(kind)?;
        let target = repository.dir.join(&self.name);
        vfs.rename(&self.folder, &target).map_err(|e| Error::io("rename", &target, e))?;
        repository.sync_dir(&repository.dir)?;
        progress(BackupProgress { step: BackupStep::Finishing, done: 1, total: 1 });
        Ok(info)
    }

    fn copy_log(&mut self, progress: OnProgress<'_>) -> Result<()> {
        let config = self.core.wal_config();
        let (floor, end) = (self.pin.state.wal_floor, self.pin.end);
        let paths = wal::list(&*self.repository.vfs, &config.dir)
            .map_err(|e| Error::io("list", &config.dir, e))?;
        let total = end.saturating_sub(floor);
        let mut number = floor / config.file_bytes;
        loop {
            let step = BackupStep::Log;
            progress(BackupProgress { step, done: self.log_bytes.min(total), total });
            // The next file is the one whose header says that it follows this one. What begins
            // after the end does not belong to it.
            let mut next = None;
            for later in paths.range(number + 1..).map(|(later, _)| *later) {
                if later * config.file_bytes >= end {
                    break;
                }
                let header = read_log_header(&*self.repository.vfs, &config, later)?;
                if let Some(header) = header.filter(|h| h.prev_end / config.file_bytes == number) {
                    next = Some((later, header.prev_end));
                    break;
                }
            }
            self.copy_log_file(number, next.map_or(end, |(_, cut)| cut))?;
            match next {
                Some((later, _)) => number = later,
                None => return Ok(()),
            }
        }
    }

    fn copy_log_file(&mut self, number: u64, cut: u64) -> Result<()> {
        let config = self.core.wal_config();
        let path = config.path(number);
        let file = format!("wal/{number:06}.wal");
        let vfs = &*self.repository.vfs;
        let source = vfs.open(&path, OpenMode::Read).map_err(|e| Error::io("open", &path, e))?;
        let length = source.len().map_err(|e| Error::io("stat", &path, e))?;
        // The end lies on a boundary, the file may end at the last record.
        let length = length.min(cut.saturating_sub(number * config.file_bytes));
        let mut image = vec![0; length as usize];
        read_exact_at(&*source, &mut image, 0).map_err(|e| Error::io("read", &path, e))?;
        let header = wal::read_header(&config, number, &image)
            .ok_or_else(|| Error::corrupt(&file, 0, "the header of the log file is damaged"))?;
        let mut walk = Walk::new(&config, number, header, &image, self.pin.state.wal_floor);
        while let Some(found) = walk.next() {
            self.last_seq = self.last_seq.max(found.frame.seq);
            if found.frame.kind == FrameType::Commit {
                self.commits_end = walk.end_lsn(&found);
            }
        }
        let head = PackHeader {
            prev_lsn: header.prev_lsn,
            prev_end: header.prev_end,
            end: cut,
            wall_ms: self.core.options.env.wall_ms(),
            identity: header.key_salt,
            ..PackHeader::new(PackKind::Log, self.core.store_id(), number)
        };
        let name = format!("wal/{number:06}.log");
        let mut pack = self.create_pack(&name, &head)?;
        for piece in image.chunks(STEP_BYTES) {
            self.throttle.take(piece.len(), self.core, &*self.repository.env);
            pack.put(piece)?;
        }
        let written = pack.finish()?;
        self.log_bytes += length;
        self.note(name, written, None);
        Ok(())
    }

    fn copy_segments(&mut self, progress: OnProgress<'_>) -> Result<()> {
        let segments: Vec<SegmentInfo> =
            self.pin.state.segments.iter().map(|(_, info)| info.clone()).collect();
        let total = segments.iter().map(|info| info.bytes).sum();
        let mut done = 0;
        let skipped = usize::from(bug("backup_forgets_segment"));
        for info in segments.into_iter().skip(skipped) {
            let mut tell = |bytes: u64| {
                let step = BackupStep::Segments;
                progress(BackupProgress { step, done: done + bytes, total });
            };
            tell(0);
            self.copy_segment(&info, &mut tell)?;
            done += info.bytes;
        }
        progress(BackupProgress { step: BackupStep::Segments, done, total });
        Ok(())
    }

    fn copy_segment(&mut self, info: &SegmentInfo, tell: &mut dyn FnMut(u64)) -> Result<()> {
        let path = segment_path(&self.core.segments_dir(), info.number);
        let name = format!("seg/{:08x}.seg", info.number);
        let vfs = Arc::clone(&self.repository.vfs);
        let source = vfs.open(&path, OpenMode::Read).map_err(|e| Error::io("open", &path, e))?;
        let body = info.bytes.saturating_sub(FOOTER as u64);
        let mut footer = [0; FOOTER];
        read_exact_at(&*source, &mut footer, body).map_err(|e| Error::io("read", &path, e))?;
        let want = hash_in_footer(&footer)
            .ok_or_else(|| Error::corrupt(&name, body, "the footer is damaged"))?;
        let footer_hash = *blake3::hash(&footer).as_bytes();
        if let Some(known) = self.in_parent(&name, &footer_hash) {
            self.files.push(known);
            self.counts[2] += 1;
            return Ok(());
        }
        let mut sink = self.segment_sink(&name, info.number, &path)?;
        let mut hasher = blake3::Hasher::new();
        let mut at = 0;
        while at < body {
            let length = (body - at).min(STEP_BYTES as u64) as usize;
            self.throttle.take(length, self.core, &*self.repository.env);
            let mut piece = vec![0; length];
            read_exact_at(&*source, &mut piece, at).map_err(|e| Error::io("read", &path, e))?;
            hasher.update(&piece);
            sink.put(&piece)?;
            at += length as u64;
            tell(at);
        }
        sink.put(&footer)?;
        // What is rotten must not become a backup.
        if *hasher.finalize().as_bytes() != want {
            return Err(Error::corrupt(&name, 0, "the hash of the file is wrong"));
        }
        self.counts[usize::from(matches!(sink, Sink::Linked(..)))] += 1;
        let written = sink.finish()?;
        self.note(name, written, Some(footer_hash));
        Ok(())
    }

    /// A segment of the same content that an earlier backup holds. Numbers alone would not do: after a
    /// restore they are given out again.
    fn in_parent(&self, name: &str, footer: &[u8; 32]) -> Option<FileRecord> {
        let known = self.parent.as_ref()?.files.iter().find(|file| file.name == name)?;
        let same = known.footer.as_ref() == Some(footer) || bug("backup_trusts_numbers");
        same.then(|| known.clone())
    }

    fn segment_sink(&self, name: &str, number: u64, from: &Path) -> Result<Sink> {
        let vfs = &*self.repository.vfs;
        let path = self.folder.join(name);
        if self.options.key.is_some() && self.core.options.key.is_none() {
            let head = PackHeader::new(PackKind::Segment, self.core.store_id(), number);
            return Ok(Sink::Sealed(Box::new(self.create_pack(name, &head)?)));
        }
        if self.options.link && vfs.link(from, &path).is_ok() {
            return Ok(Sink::Linked(Box::default(), 0));
        }
        Ok(Sink::Copied(Box::new(HashedFile::create(vfs, &path)?)))
    }

    fn write_manifest(&mut self) -> Result<()> {
        let core = self.core;
        let key = core.options.key.as_ref();
        let image = manifest::image(self.env(), key, core.store_id(), 1, &self.pin.state);
        let head = PackHeader::new(PackKind::Manifest, core.store_id(), 1);
        let mut pack = self.create_pack("manifest", &head)?;
        pack.put(&image)?;
        let written = pack.finish()?;
        self.note("manifest".to_owned(), written, None);
        Ok(())
    }

    fn write_record(&mut self, kind: BackupKind) -> Result<BackupInfo> {
        let own = self.files.iter().filter(|file| file.stored_in == self.name);
        let info = BackupInfo {
            name: self.name.clone(),
            kind,
            parent: self.parent.as_ref().map(|parent| parent.info.name.clone()),
            seq: self.last_seq,
            first_seq: self.pin.state.flushed_seq,
            wall_ms: self.core.options.env.wall_ms(),
            bytes: own.map(|file| file.written.bytes).sum(),
            is_sealed: self.options.key.is_some(),
            is_encrypted: self.core.options.key.is_some(),
        };
        let mut record = Record::new(
            info,
            self.parent.as_ref().map(|parent| parent.hash),
            self.core.store_id(),
            [self.pin.state.wal_floor, self.commits_end, self.pin.end],
            self.pin.state.wal_file_bytes,
            std::mem::take(&mut self.files),
            self.options.key.as_ref(),
        );
        let text = record.encode();
        let path = self.folder.join(FILE);
        let repository = self.repository;
        let io = |op: &'static str| {
            let path = path.clone();
            move |e| Error::io(op, path, e)
        };
        let file = repository.vfs.open(&path, OpenMode::Create).map_err(io("create"))?;
        write_all_at(&*file, text.as_bytes(), 0).map_err(io("write"))?;
        file.sync_all().map_err(io("sync"))?;
        for part in ["seg", "wal"] {
            repository.sync_dir(&self.folder.join(part))?;
        }
        repository.sync_dir(&self.folder)?;
        Ok(record.info)
    }

    fn create_pack(&self, name: &str, head: &PackHeader) -> Result<PackWriter> {
        let path = self.folder.join(name);
        let key = self.options.key.as_ref();
        PackWriter::create(&*self.repository.vfs, self.env(), &path, head, key)
    }

    fn note(&mut self, name: String, written: Written, footer: Option<[u8; 32]>) {
        let stored_in = self.name.clone();
        self.files.push(FileRecord { name, stored_in, written, footer });
    }

    fn env(&self) -> &dyn Env {
        &*self.repository.env
    }
}

/// Where a segment goes.
enum Sink {
    Copied(Box<HashedFile>),
    /// Nothing is written, but it is read all the same, for its hash.
    Linked(Box<blake3::Hasher>, u64),
    Sealed(Box<PackWriter>),
}

impl Sink {
    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        match self {
            Self::Copied(file) => file.put(bytes),
            Self::Linked(hasher, length) => {
                hasher.update(bytes);
                *length += bytes.len() as u64;
                Ok(())
            }
            Self::Sealed(pack) => pack.put(bytes),
        }
    }

    fn finish(self) -> Result<Written> {
        match self {
            Self::Copied(file) => file.finish(),
            Self::Linked(hasher, bytes) => {
                Ok(Written { bytes, hash: *hasher.finalize().as_bytes() })
            }
            Self::Sealed(pack) => pack.finish(),
        }
    }
}

/// Limits how fast bytes are copied, so that commits get their share of the disk.
struct Throttle {
    bytes_per_second_max: u64,
    busy_bytes_per_second_max: u64,
    /// Commits until the last step.
    commits: u64,
    /// What was copied is paid for at this time, on the monotonic clock.
    paid_at: Duration,
}

impl Throttle {
    fn new(options: &BackupOptions) -> Self {
        Self {
            bytes_per_second_max: options.bytes_per_second_max,
            busy_bytes_per_second_max: options.busy_bytes_per_second_max,
            commits: 0,
            paid_at: Duration::ZERO,
        }
    }

    fn take(&mut self, bytes: usize, core: &Core, env: &dyn Env) {
        let commits = core.log.commits.load(Ordering::Relaxed);
        let is_busy = std::mem::replace(&mut self.commits, commits) != commits;
        let limits =
            [Some(self.bytes_per_second_max), is_busy.then_some(self.busy_bytes_per_second_max)];
        let limit = limits.into_iter().flatten().filter(|limit| *limit > 0).min();
        let Some(limit) = limit.filter(|_| env.has_threads()) else { return };
        let now = env.now();
        let nanos = bytes as u64 * 1_000_000_000 / limit;
        self.paid_at = self.paid_at.max(now) + Duration::from_nanos(nanos);
        std::thread::sleep(self.paid_at - now);
    }
}
