//! The log: one endless sequence of frames in preallocated, recycled files.
//!
//! A position (`lsn`) is `file number * file size + offset`. A group of transactions is one write
//! and one sync; it ends on a 4 KiB boundary, so acknowledged bytes are never written again.

mod recover;
mod walk;

use std::{
    collections::{BTreeMap, VecDeque},
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;

pub(crate) use self::{
    recover::{Recovered, recover},
    walk::Walk,
};
use crate::{
    bugs::bug,
    codec::{Reader, crc},
    crypt::{FileCipher, MasterKey},
    env::Env,
    frame::{self, ALIGN, Frame, FrameType},
    observe::{Observer, Operation},
    vfs::{OpenMode, VFile, Vfs, write_all_at},
};

/// First bytes of the header of a log file.
const MAGIC: &[u8; 8] = b"HEARTHWL";
pub(crate) const VERSION: u32 = 1;
/// Recycled files kept for the next rollover.
const SPARES_MAX: usize = 2;
/// Bytes of the buffer that are kept from one group to the next.
const BUFFER_KEPT: usize = 1 << 20;

#[derive(Debug, Clone)]
pub(crate) struct WalConfig {
    pub(crate) dir: PathBuf,
    pub(crate) file_bytes: u64,
    /// Files grow by this much at a time, zero-written: appending then needs no journal of the
    /// file system.
    pub(crate) grow_bytes: u64,
    pub(crate) store_id: [u8; 16],
    pub(crate) key: Option<MasterKey>,
}

impl WalConfig {
    pub(crate) fn path(&self, number: u64) -> PathBuf {
        self.dir.join(format!("{number:06}.wal"))
    }

    /// Header frames are checked with a seed of the store, so files of another store fail.
    fn header_seed(&self) -> u32 {
        crc(0, &self.store_id)
    }

    fn cipher(&self, number: u64, salt: &[u8; 32]) -> Option<FileCipher> {
        // The key ids of log files and segments must not collide.
        self.key.as_ref().map(|key| key.file_cipher(self.store_id, number | 1 << 63, salt))
    }
}

/// One record to append.
#[derive(Debug, Clone)]
pub(crate) struct Record {
    pub(crate) kind: FrameType,
    pub(crate) seq: u64,
    pub(crate) flags: u8,
    pub(crate) payload: Bytes,
}

#[derive(Debug)]
struct Active {
    number: u64,
    file: Arc<dyn VFile>,
    salt: u32,
    cipher: Option<FileCipher>,
    /// Up to here blocks are allocated and written.
    grown_to: u64,
    needs_dir_sync: bool,
}

/// The only writer of the log. Whoever leads a group holds it.
#[derive(Debug)]
pub(crate) struct WalWriter {
    vfs: Arc<dyn Vfs>,
    env: Arc<dyn Env>,
    config: WalConfig,
    active: Active,
    position: u64,
    prev_lsn: u64,
    durable_lsn: u64,
    /// Numbers of older files, oldest first.
    sealed: VecDeque<u64>,
    spares: Vec<PathBuf>,
    spare_count: u64,
    /// The highest floor that was released.
    floor: u64,
    /// Floors of backups that copy the log just now.
    pins: Vec<u64>,
    /// Files from this number on are not archived yet; without an archive, none waits for it.
    unarchived_from: u64,
    buffer: Vec<u8>,
    /// Syncs done, for the statistics.
    pub(crate) syncs: u64,
    pub(crate) bytes_written: u64,
    /// Told how long each sync took.
    pub(crate) observer: Option<Arc<Observer>>,
}

impl WalWriter {
    /// The log of a new store. Durable when it returns.
    pub(crate) fn create(
        vfs: Arc<dyn Vfs>,
        env: Arc<dyn Env>,
        config: WalConfig,
    ) -> io::Result<Self> {
        Self::start(vfs, env, config, 1, 0, 0, VecDeque::new())
    }

    /// For a store opened for reading: never written to.
    pub(crate) fn detached(
        vfs: Arc<dyn Vfs>,
        env: Arc<dyn Env>,
        config: WalConfig,
    ) -> io::Result<Self> {
        let (number, path) = list(&*vfs, &config.dir)?.pop_last().ok_or(io::ErrorKind::NotFound)?;
        let file = vfs.open(&path, OpenMode::Read)?;
        let active =
            Active { number, file, salt: 0, cipher: None, grown_to: 0, needs_dir_sync: false };
        let base = number * config.file_bytes;
        Ok(Self::with(vfs, env, config, active, base, base, VecDeque::new()))
    }

    /// Goes on after recovery. Unless the store was closed in order, a new file begins, so that
    /// nothing stale can ever follow what was read.
    pub(crate) fn resume(
        vfs: Arc<dyn Vfs>,
        env: Arc<dyn Env>,
        config: WalConfig,
        found: &Recovered,
    ) -> io::Result<Self> {
        let mut sealed: VecDeque<u64> = found.files.iter().copied().collect();
        let (Some(last), Some(tail), true) = (sealed.back().copied(), found.tail, found.clean)
        else {
            let next = found.highest_number + 1;
            return Self::start(vfs, env, config, next, found.last_lsn, found.end_lsn, sealed);
        };
        sealed.pop_back();
        let file = vfs.open(&config.path(last), OpenMode::Write)?;
        let grown_to = file.len()?;
        let cipher = config.cipher(last, &tail.key_salt);
        let active =
            Active { number: last, file, salt: tail.salt, cipher, grown_to, needs_dir_sync: false };
        Ok(Self::with(
            vfs,
            env,
            config,
            active,
            frame::align_up(found.end_lsn),
            found.last_lsn,
            sealed,
        ))
    }

    fn start(
        vfs: Arc<dyn Vfs>,
        env: Arc<dyn Env>,
        config: WalConfig,
        number: u64,
        prev_lsn: u64,
        prev_end: u64,
        sealed: VecDeque<u64>,
    ) -> io::Result<Self> {
        let path = config.path(number);
        let file = vfs.open(&path, OpenMode::Create)?;
        let (header, salt, cipher) =
            file_header(&config, &*env, number, prev_lsn, prev_end, prev_end);
        write_all_at(&*file, &header, 0)?;
        file.sync_all()?;
        if !bug("skip_wal_dir_sync") {
            vfs.sync_dir(&config.dir)?;
        }
        let base = number * config.file_bytes;
        let grown_to = header.len() as u64;
        let active = Active { number, file, salt, cipher, grown_to, needs_dir_sync: false };
        Ok(Self::with(vfs, env, config, active, base + ALIGN, base, sealed))
    }

    fn with(
        vfs: Arc<dyn Vfs>,
        env: Arc<dyn Env>,
        config: WalConfig,
        active: Active,
        position: u64,
        prev_lsn: u64,
        sealed: VecDeque<u64>,
    ) -> Self {
        Self {
            vfs,
            env,
            config,
            active,
            position,
            prev_lsn,
            durable_lsn: position,
            sealed,
            spares: Vec::new(),
            spare_count: 0,
            floor: 0,
            pins: Vec::new(),
            unarchived_from: u64::MAX,
            buffer: Vec::new(),
            syncs: 0,
            bytes_written: 0,
            observer: None,
        }
    }

    /// Where the next record will lie, or after it.
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// Everything before it survives power loss.
    pub(crate) fn durable(&self) -> u64 {
        self.durable_lsn
    }

    pub(crate) fn file_bytes(&self) -> u64 {
        self.config.file_bytes
    }

    /// True if something was written since the last sync.
    pub(crate) fn is_dirty(&self) -> bool {
        self.durable_lsn < self.position
    }

    /// Bytes of log from `floor` on.
    pub(crate) fn backlog(&self, floor: u64) -> u64 {
        self.position.saturating_sub(floor)
    }

    /// Appends a group, and syncs it if asked. After an error the log must not be used again.
    pub(crate) fn append(&mut self, records: &[Record], sync: bool) -> io::Result<()> {
        let sealed = self.config.key.is_some();
        let need: usize = records.iter().map(|r| frame::encoded_len(r.payload.len(), sealed)).sum();
        let offset = self.position % self.config.file_bytes;
        if offset + need as u64 + ALIGN > self.config.file_bytes {
            self.roll()?;
        }
        let start = self.position;
        let mut buffer = std::mem::take(&mut self.buffer);
        let from = begin_aligned(&mut buffer, need);
        self.encode(&mut buffer, from, records, sync);
        if sync && !bug("no_padding") {
            // Unsynced groups before it may have left the start anywhere.
            let end = frame::align_up(start + (buffer.len() - from) as u64);
            buffer.resize(from + (end - start) as usize, 0);
        }
        let end = start + (buffer.len() - from) as u64;
        let grow_to = self.grow(&mut buffer, from, start);
        // Nothing else of the file waits for a sync: neither bytes nor blocks.
        let is_grown = grow_to > self.active.grown_to;
        let is_alone = sync && !self.is_dirty() && !is_grown && !bug("skip_log_sync");
        let (group, at) = (&buffer[from..], start % self.config.file_bytes);
        self.bytes_written += group.len() as u64;
        let (file, begun) = (&*self.active.file, self.time());
        let written = match is_alone {
            true => file.write_durably(group, at),
            false => write_all_at(file, group, at),
        };
        buffer.truncate(BUFFER_KEPT);
        buffer.shrink_to(BUFFER_KEPT);
        self.buffer = buffer;
        written?;
        self.active.grown_to = self.active.grown_to.max(grow_to);
        self.position = end;
        match sync {
            true if is_alone => self.synced(begun),
            true => self.sync(),
            false => Ok(()),
        }
    }

    /// Appends the frames of a group to the buffer, where it begins at `from`.
    fn encode(&mut self, buffer: &mut Vec<u8>, from: usize, records: &[Record], sync: bool) {
        for (i, record) in records.iter().enumerate() {
            let first = if i == 0 { frame::FLAG_FIRST } else { 0 };
            // Only what is synced ends on a boundary; recovery relies on that.
            let ends = sync && i + 1 == records.len();
            let last = if ends { frame::FLAG_LAST } else { 0 };
            let lsn = self.position + (buffer.len() - from) as u64;
            let frame = Frame {
                lsn,
                prev_lsn: self.prev_lsn,
                durable_lsn: self.durable_lsn,
                seq: record.seq,
                kind: record.kind,
                flags: record.flags | first | last,
            };
            let cipher = self.active.cipher.as_ref();
            frame::encode(buffer, &frame, &record.payload, self.active.salt, cipher);
            self.prev_lsn = lsn;
        }
    }

    /// Makes everything appended so far durable.
    pub(crate) fn sync(&mut self) -> io::Result<()> {
        let begun = self.time();
        if !bug("skip_log_sync") {
            self.active.file.sync_data()?;
        }
        self.synced(begun)
    }

    /// The time, if the observer takes it.
    fn time(&self) -> Option<Duration> {
        self.observer.as_ref().filter(|observer| observer.times()).map(|_| self.env.now())
    }

    /// Everything appended so far is in the file for good; its name has to be, too.
    fn synced(&mut self, begun: Option<Duration>) -> io::Result<()> {
        if std::mem::take(&mut self.active.needs_dir_sync) && !bug("skip_wal_dir_sync") {
            self.vfs.sync_dir(&self.config.dir)?;
        }
        if let (Some(observer), Some(begun)) = (&self.observer, begun) {
            observer.record(Operation::Sync, self.env.now().saturating_sub(begun));
        }
        self.syncs += 1;
        // What was just synced is not written again: the next record begins on a fresh block.
        if !bug("no_padding") {
            self.position = frame::align_up(self.position);
        }
        self.durable_lsn = self.position;
        Ok(())
    }

    /// Begins a new file if the current one has grown, so that the old one can go. Durable when it
    /// returns; `false` if there was no need.
    pub(crate) fn begin_file(&mut self) -> io::Result<bool> {
        if self.position % self.config.file_bytes < 2 * self.config.grow_bytes {
            return Ok(false);
        }
        self.roll()?;
        self.sync()?;
        Ok(true)
    }

    /// Files wholly below `floor` are kept as spares or removed, unless a backup or the archive
    /// still has to copy them.
    pub(crate) fn release(&mut self, floor: u64) {
        self.floor = self.floor.max(floor);
        let pinned = self.pins.iter().copied().min().unwrap_or(u64::MAX);
        let floor_number = self.floor.min(pinned) / self.config.file_bytes;
        while let Some(number) = self.sealed.front().copied() {
            if number >= floor_number || number >= self.unarchived_from {
                break;
            }
            self.sealed.pop_front();
            let path = self.config.path(number);
            if self.spares.len() < SPARES_MAX {
                self.spare_count += 1;
                let spare = self.config.dir.join(format!("spare-{}.tmp", self.spare_count));
                if self.vfs.rename(&path, &spare).is_ok() {
                    self.spares.push(spare);
                    continue;
                }
            }
            // A file that stays is found and removed at the next open.
            let _ = self.vfs.remove(&path);
        }
    }

    /// Keeps the log from `floor` on until `unpin` is called with the same.
    pub(crate) fn pin(&mut self, floor: u64) {
        self.pins.push(floor);
    }

    pub(crate) fn unpin(&mut self, floor: u64) {
        if let Some(at) = self.pins.iter().position(|pin| *pin == floor) {
            self.pins.swap_remove(at);
        }
        self.release(self.floor);
    }

    /// Files from this number on are kept until they are archived.
    pub(crate) fn archive_from(&mut self, number: u64) {
        self.unarchived_from = if bug("recycle_before_archive") { u64::MAX } else { number };
        self.release(self.floor);
    }

    /// The oldest sealed file at or above `number`, and the file that follows it.
    pub(crate) fn sealed_from(&self, number: u64) -> Option<(u64, u64)> {
        let at = self.sealed.iter().position(|sealed| *sealed >= number)?;
        let next = self.sealed.get(at + 1).copied().unwrap_or(self.active.number);
        Some((self.sealed[at], next))
    }

    /// Marks an orderly end, syncs, and gives back what was allocated ahead.
    pub(crate) fn close(&mut self, last_seq: u64) -> io::Result<()> {
        let mark = Record {
            kind: FrameType::Mark,
            seq: last_seq,
            flags: frame::FLAG_CLEAN,
            payload: Bytes::new(),
        };
        // Recovery takes the mark as proof that the file's name is durable, so that comes first.
        let need = frame::encoded_len(0, self.config.key.is_some()) as u64;
        if self.position % self.config.file_bytes + need + ALIGN > self.config.file_bytes {
            self.roll()?;
        }
        if self.active.needs_dir_sync {
            self.sync()?;
        }
        let end = self.position % self.config.file_bytes + 2 * ALIGN;
        if end < self.config.file_bytes {
            // A recycled file may hold old frames further on; they go before the mark is written.
            self.active.file.set_len(self.position % self.config.file_bytes)?;
            self.active.grown_to = self.config.file_bytes;
        }
        self.append(&[mark], true)?;
        for spare in std::mem::take(&mut self.spares) {
            let _ = self.vfs.remove(&spare);
        }
        Ok(())
    }

    /// Extends the buffer, where the group begins at `from`, with zeros if that leaves the allocated part.
    fn grow(&self, buffer: &mut Vec<u8>, from: usize, start: u64) -> u64 {
        let begin = start % self.config.file_bytes;
        let end = begin + (buffer.len() - from) as u64;
        if end <= self.active.grown_to {
            return self.active.grown_to;
        }
        let to = end.next_multiple_of(self.config.grow_bytes).min(self.config.file_bytes).max(end);
        buffer.resize(from + (to - begin) as usize, 0);
        to
    }

    /// Begins the next file. The old one is synced first: a valid header proves what came before.
    fn roll(&mut self) -> io::Result<()> {
        if self.is_dirty() && !bug("roll_without_sync") {
            self.sync()?;
        }
        let number = self.active.number + 1;
        let path = self.config.path(number);
        let (file, grown_to) = match self.spares.pop() {
            Some(spare) => {
                self.vfs.rename(&spare, &path)?;
                let file = self.vfs.open(&path, OpenMode::Write)?;
                let len = file.len()?;
                (file, len)
            }
            None => (self.vfs.open(&path, OpenMode::Create)?, 0),
        };
        let (header, salt, cipher) = file_header(
            &self.config,
            &*self.env,
            number,
            self.prev_lsn,
            self.position,
            self.durable_lsn,
        );
        write_all_at(&*file, &header, 0)?;
        self.sealed.push_back(self.active.number);
        let grown_to = grown_to.max(header.len() as u64);
        self.active = Active { number, file, salt, cipher, grown_to, needs_dir_sync: true };
        let base = number * self.config.file_bytes;
        self.prev_lsn = base;
        self.position = base + ALIGN;
        Ok(())
    }
}

/// Empties a buffer but for what comes before the boundary that a group of so many bytes then begins on, in
/// memory too: a direct write needs that.
fn begin_aligned(buffer: &mut Vec<u8>, bytes: usize) -> usize {
    buffer.clear();
    buffer.reserve(bytes + 2 * ALIGN as usize);
    let from = buffer.as_ptr().addr().wrapping_neg() % ALIGN as usize;
    buffer.resize(from, 0);
    from
}

/// The header block of a file, its salt and its cipher.
fn file_header(
    config: &WalConfig,
    env: &dyn Env,
    number: u64,
    prev_lsn: u64,
    prev_end: u64,
    durable_lsn: u64,
) -> (Vec<u8>, u32, Option<FileCipher>) {
    let salt = env.random() as u32;
    let mut key_salt = [0; 32];
    for part in key_salt.chunks_exact_mut(8) {
        part.copy_from_slice(&env.random().to_le_bytes());
    }
    let mut payload = Vec::with_capacity(96);
    payload.extend_from_slice(MAGIC);
    payload.extend_from_slice(&VERSION.to_le_bytes());
    payload.extend_from_slice(&config.store_id);
    payload.extend_from_slice(&number.to_le_bytes());
    payload.extend_from_slice(&salt.to_le_bytes());
    payload.extend_from_slice(&key_salt);
    payload.extend_from_slice(&prev_end.to_le_bytes());
    let frame = Frame {
        lsn: number * config.file_bytes,
        prev_lsn,
        durable_lsn,
        seq: 0,
        kind: FrameType::FileHeader,
        flags: 0,
    };
    let mut block = Vec::with_capacity(ALIGN as usize);
    frame::encode(&mut block, &frame, &payload, config.header_seed(), None);
    block.resize(ALIGN as usize, 0);
    (block, salt, config.cipher(number, &key_salt))
}

/// A header as read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FileHeader {
    pub(crate) salt: u32,
    /// Random, so it tells this file from every other of the same number.
    pub(crate) key_salt: [u8; 32],
    pub(crate) prev_lsn: u64,
    /// Where the preceding file ends.
    pub(crate) prev_end: u64,
    durable_lsn: u64,
    pub(crate) version: u32,
}

pub(crate) fn read_header(config: &WalConfig, number: u64, image: &[u8]) -> Option<FileHeader> {
    let found = frame::decode(image, 0, number * config.file_bytes, config.header_seed())?;
    if found.frame.kind != FrameType::FileHeader {
        return None;
    }
    let mut reader = Reader::new(image.get(found.payload.0..found.payload.1)?);
    if reader.take(8)? != MAGIC {
        return None;
    }
    let version = reader.u32()?;
    if reader.take(16)? != config.store_id || reader.u64()? != number {
        return None;
    }
    Some(FileHeader {
        salt: reader.u32()?,
        key_salt: reader.array()?,
        prev_end: reader.u64()?,
        prev_lsn: found.frame.prev_lsn,
        durable_lsn: found.frame.durable_lsn,
        version,
    })
}

/// Log files by number.
pub(crate) fn list(vfs: &dyn Vfs, dir: &Path) -> io::Result<BTreeMap<u64, PathBuf>> {
    let mut files = BTreeMap::new();
    for name in vfs.list(dir)? {
        if let Some(number) = name.strip_suffix(".wal").and_then(|n| n.parse().ok()) {
            files.insert(number, dir.join(name));
        }
    }
    Ok(files)
}
