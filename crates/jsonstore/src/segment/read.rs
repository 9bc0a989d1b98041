//! Reading a segment: lazily, block by block, each checked before it is believed.

use std::{
    path::PathBuf,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU32, Ordering::Relaxed},
    },
};

use bytes::Bytes;

use super::{
    FOOTER, HEADER, Handle, MAGIC, VERSION,
    block::{self, BlockIter, ValueKind},
    build::SegmentInfo,
    compress::{Dictionaries, Dictionary, Value, decompress},
    fence::Fence,
    filter::Filter,
    iter::SegmentIter,
    kind,
};
use crate::{
    bugs::bug,
    cache::{BlockCache, SegmentMap},
    codec::{Reader, crc},
    crypt::{FileCipher, MasterKey},
    engine::{Blocking, would_block},
    error::{Error, Result},
    memtable::Entry,
    vfs::{OpenMode, VFile, Vfs, read_exact_at},
};

/// No value is ever larger; a length beyond it is damage.
const VALUE_BYTES_MAX: usize = 64 << 20;

/// An open segment. The file goes when the last reader of a superseded one is done.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) info: SegmentInfo,
    path: PathBuf,
    name: String,
    vfs: Arc<dyn Vfs>,
    cache: Arc<BlockCache>,
    dictionaries: Arc<Dictionaries>,
    store_id: [u8; 16],
    key: Option<MasterKey>,
    open: OnceLock<Open>,
    superseded: AtomicBool,
}

#[derive(Debug)]
pub(super) struct Open {
    pub(super) file: Arc<dyn VFile>,
    pub(super) cipher: Option<FileCipher>,
    pub(super) top: Bytes,
    filter: Filter,
    pub(super) dictionary: Option<Arc<Dictionary>>,
    hash: [u8; 32],
    map: Option<SegmentMap>,
    /// About where the data blocks end.
    data_end: u64,
    /// Where they lie, once that is worth it, and how often it was looked for.
    pub(super) fence: OnceLock<Fence>,
    finds: AtomicU32,
}

impl Open {
    /// What this holds as long as the segment is there.
    fn held_bytes(&self) -> usize {
        size_of::<Self>() + self.top.len() + self.filter.0.len()
    }
}

/// A fence is made when so many keys were looked for: whoever opens a store for a few reads no more
/// than these need. If there is no room for it, that is asked again after as many.
const FINDS_WITHOUT_FENCE: u32 = 64;
/// How many times smaller than its segment a fence is, about, where values are short.
const FENCE_SHARE: u64 = 64;

/// Keys that are looked for together: what one of them needs of memory comes while the others wait.
const WINDOW: usize = 16;
/// Keys whose blocks are fetched together.
const BLOCKS_MAX: usize = 128;
/// As much at the beginning of a block is mostly searched.
const SEARCHED_BYTES: usize = 128;
/// What comes from memory at a time.
const CACHE_LINE: usize = 64;

/// The block that was looked into last, by its offset: whoever looks for several keys in order mostly
/// needs it again.
type Pinned = Option<(u64, Bytes)>;

/// What is done with a version that was found: its sequence number, and its value unless it was
/// deleted.
pub(crate) type Visit<'a> = dyn FnMut(&Probe<'_>, u64, Option<Value>) -> Result<()> + 'a;

/// A key that is looked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Probe<'a> {
    /// With its keyspace in front.
    pub(crate) full: &'a [u8],
    pub(crate) hash: u64,
    /// What the caller calls it.
    pub(crate) place: usize,
    pub(crate) is_found: bool,
}

impl<'a> Probe<'a> {
    pub(crate) fn key(&self) -> &'a [u8] {
        self.full.get(4..).unwrap_or_default()
    }
}

impl Segment {
    /// Nothing is read until the first use, so opening a store does not depend on its size.
    pub(crate) fn new(
        vfs: Arc<dyn Vfs>,
        cache: Arc<BlockCache>,
        dictionaries: Arc<Dictionaries>,
        path: PathBuf,
        store_id: [u8; 16],
        key: Option<MasterKey>,
        info: SegmentInfo,
    ) -> Self {
        let name = format!("seg/{:08x}.seg", info.number);
        let open = OnceLock::new();
        let superseded = AtomicBool::new(false);
        Self { info, path, name, vfs, cache, dictionaries, store_id, key, open, superseded }
    }

    /// The file is removed when the last reader lets go.
    pub(crate) fn supersede(&self) {
        self.superseded.store(true, Relaxed);
    }

    pub(crate) fn covers(&self, full_key: &[u8]) -> bool {
        self.info.min_key.as_slice() <= full_key && full_key <= self.info.max_key.as_slice()
    }

    /// Visits the newest version at or below `snapshot` of each key that was not found yet and is
    /// here. Keys in order share blocks.
    pub(crate) fn find_all(
        &self,
        probes: &mut [Probe<'_>],
        snapshot: u64,
        visit: &mut Visit<'_>,
    ) -> Result<()> {
        if let [probe] = probes {
            return self.find_one(probe, snapshot, visit);
        }
        for probes in probes.chunks_mut(BLOCKS_MAX) {
            let handles = self.handles(probes, snapshot)?;
            // What was found elsewhere must not depend on whether this file can be opened.
            if handles.is_empty() {
                continue;
            }
            let mut blocks = self.data_blocks(&handles)?.into_iter();
            let mut handles = &handles[..];
            for (from, window) in (0..).step_by(WINDOW).zip(probes.chunks_mut(WINDOW)) {
                let count = handles.partition_point(|(at, _)| *at < from + window.len());
                let (own, rest) = handles.split_at(count);
                handles = rest;
                let places = own.iter().map(|(at, _)| at - from);
                let blocks: Vec<(usize, Bytes)> = places.zip(blocks.by_ref()).collect();
                touch(blocks.iter().map(|(_, block)| block.get(..SEARCHED_BYTES).unwrap_or(block)));
                let tails = blocks.iter().map(|(_, block)| block.get(block.len() - 1..));
                touch(tails.map(Option::unwrap_or_default));
                self.visit_blocks(window, &blocks, snapshot, visit)?;
            }
        }
        Ok(())
    }

    fn find_one(&self, probe: &mut Probe<'_>, snapshot: u64, visit: &mut Visit<'_>) -> Result<()> {
        if probe.is_found || !self.covers(probe.full) {
            return Ok(());
        }
        let open = self.open()?;
        if !open.filter.may_contain(probe.hash) {
            return Ok(());
        }
        let handle = self.find(open, probe.full, snapshot, &mut None)?;
        let Some(handle) = handle else { return Ok(()) };
        let found = self.in_block(open, kind::DATA, handle, |block| {
            touch_ends(block);
            let found = block::find(block, probe.full, snapshot).filter(|found| found.is_exact)?;
            let shared = || block.slice_ref(found.value);
            let value = match found.kind {
                // Which may be long: not while others wait.
                ValueKind::Compressed => Err(shared()),
                kind => Ok(self.value(kind, found.value, shared)),
            };
            Some((found.seq, value))
        })?;
        let Some((seq, value)) = found else { return Ok(()) };
        let value = match value {
            Ok(value) => value?,
            Err(packed) => self.value(ValueKind::Compressed, &packed, Bytes::new)?,
        };
        probe.is_found = true;
        visit(probe, seq, value)
    }

    /// The blocks that keys may be in, which were not found yet.
    fn handles(&self, probes: &[Probe<'_>], snapshot: u64) -> Result<Vec<(usize, Handle)>> {
        let mut handles = Vec::with_capacity(probes.len());
        let mut places = Vec::with_capacity(probes.len());
        let mut index = None;
        for (at, probe) in probes.iter().enumerate() {
            if probe.is_found || !self.covers(probe.full) {
                continue;
            }
            let open = self.open()?;
            if !open.filter.may_contain(probe.hash) {
                continue;
            }
            if let Some(fence) = self.fence(open) {
                places.extend(fence.find(probe.full, snapshot).map(|place| (at, place)));
            } else if let Some(handle) =
                self.find_by_blocks(open, probe.full, snapshot, &mut index)?
            {
                handles.push((at, handle));
            }
        }
        // One after the other without a search in between: memory gives them together.
        if let Some(fence) = self.open.get().and_then(|open| open.fence.get()) {
            let handle = |(at, place)| fence.handle(place).map(|handle| (at, handle));
            handles.extend(places.into_iter().filter_map(handle));
        }
        Ok(handles)
    }

    fn data_blocks(&self, handles: &[(usize, Handle)]) -> Result<Vec<Bytes>> {
        let open = self.open()?;
        let mut last: Pinned = None;
        let mut one = |handle| self.pinned_block(open, kind::DATA, handle, &mut last).cloned();
        if open.map.is_some() || handles.len() < 2 {
            return handles.iter().map(|(_, handle)| one(*handle)).collect();
        }
        let offsets: Vec<u64> = handles.iter().map(|(_, handle)| handle.offset).collect();
        let known = self.cache.get_all(self.info.number, &offsets).into_iter();
        known
            .zip(handles)
            .map(|(known, (_, handle))| known.map_or_else(|| one(*handle), Ok))
            .collect()
    }

    /// Visits those keys of a window that are in the blocks they should be in.
    fn visit_blocks(
        &self,
        window: &mut [Probe<'_>],
        blocks: &[(usize, Bytes)],
        snapshot: u64,
        visit: &mut Visit<'_>,
    ) -> Result<()> {
        let mut found = [const { None }; WINDOW];
        for (found, (at, block)) in found.iter_mut().zip(blocks) {
            let entry = block::find(block, window[*at].full, snapshot);
            *found = entry.filter(|entry| entry.is_exact);
        }
        touch(found.iter().flatten().map(|found| found.value));
        for (found, (at, block)) in found.iter().zip(blocks) {
            let Some(found) = found else { continue };
            let probe = &mut window[*at];
            probe.is_found = true;
            let value = self.value(found.kind, found.value, || block.slice_ref(found.value))?;
            visit(probe, found.seq, value)?;
        }
        Ok(())
    }

    /// About how many versions lie between two full keys: counted in the blocks that the ends lie in,
    /// for what is between by its bytes.
    pub(crate) fn estimate(&self, from: &[u8], to: &[u8]) -> Result<u64> {
        if to <= from || self.info.max_key.as_slice() < from || self.info.min_key.as_slice() >= to {
            return Ok(0);
        }
        if self.info.min_key.as_slice() >= from && self.info.max_key.as_slice() < to {
            return Ok(self.info.entries);
        }
        let open = self.open()?;
        let Some(first) = self.find(open, from, u64::MAX, &mut None)? else { return Ok(0) };
        let last = self.find(open, to, u64::MAX, &mut None)?;
        let rank = |handle: Handle, key: &[u8]| -> Result<(u64, u64)> {
            let block = self.block(open, kind::DATA, handle)?;
            let ranked = block::rank(&block, key, u64::MAX);
            let (before, all) = ranked.ok_or_else(|| self.bad_block(kind::DATA))?;
            Ok((before as u64, all as u64))
        };
        let (before, all) = rank(first, from)?;
        let Some(last) = last else {
            return Ok(all - before + self.entries_between(open, first, open.data_end));
        };
        let (end, _) = rank(last, to)?;
        if last.offset == first.offset {
            return Ok(end.saturating_sub(before));
        }
        Ok(all - before + self.entries_between(open, first, last.offset) + end)
    }

    /// About how many versions lie behind a block and before `end`.
    fn entries_between(&self, open: &Open, block: Handle, end: u64) -> u64 {
        let bytes = end.saturating_sub(block.offset + u64::from(block.len));
        let all = u128::from(bytes) * u128::from(self.info.entries);
        (all / u128::from(open.data_end).max(1)) as u64
    }

    /// Reads and checks every block and the hash of the whole file. Returns bytes read.
    pub(crate) fn verify(&self, check: &mut dyn FnMut(Entry) -> Result<()>) -> Result<u64> {
        let open = self.open()?;
        let mut bytes = vec![0; (self.info.bytes as usize).saturating_sub(FOOTER)];
        read_exact_at(&*open.file, &mut bytes, 0).map_err(|e| Error::io("read", &self.path, e))?;
        let mut iter = SegmentIter::new_uncached(self);
        iter.seek(&[], u64::MAX)?;
        let mut count = 0;
        while let Some(entry) = iter.take()? {
            count += 1;
            check(entry)?;
        }
        if count != self.info.entries {
            let text = format!("{count} entries found, {} expected", self.info.entries);
            return Err(Error::corrupt(&self.name, 0, text));
        }
        if blake3::hash(&bytes).as_bytes() != &open.hash {
            return Err(Error::corrupt(&self.name, 0, "the hash of the file is wrong"));
        }
        Ok(self.info.bytes)
    }

    /// The value that is stored like this, unless it is a deletion; `shared` is what is stored.
    pub(super) fn value(
        &self,
        kind: ValueKind,
        stored: &[u8],
        shared: impl FnOnce() -> Bytes,
    ) -> Result<Option<Value>> {
        match kind {
            ValueKind::Deleted => Ok(None),
            ValueKind::Raw => Ok(Some(Value::Shared(shared()))),
            ValueKind::Compressed | ValueKind::Coded => {
                let dictionary = self.open()?.dictionary.as_deref();
                let value = decompress(kind, stored, dictionary, VALUE_BYTES_MAX);
                let bad = || Error::corrupt(&self.name, 0, "a value does not decompress");
                value.map(Some).ok_or_else(bad)
            }
        }
    }

    /// The data block that would hold the target.
    fn find(
        &self,
        open: &Open,
        full: &[u8],
        seq: u64,
        pinned: &mut Pinned,
    ) -> Result<Option<Handle>> {
        if let Some(fence) = self.fence(open) {
            return Ok(fence.find(full, seq).and_then(|place| fence.handle(place)));
        }
        self.find_by_blocks(open, full, seq, pinned)
    }

    pub(super) fn find_by_blocks(
        &self,
        open: &Open,
        full: &[u8],
        seq: u64,
        pinned: &mut Pinned,
    ) -> Result<Option<Handle>> {
        let Some(top) = block::find(&open.top, full, seq) else { return Ok(None) };
        let handle = decode_handle(top.value).ok_or_else(|| self.bad_block(kind::TOP))?;
        let index = self.pinned_block(open, kind::INDEX, handle, pinned)?;
        let Some(index) = block::find(index, full, seq) else { return Ok(None) };
        decode_handle(index.value).ok_or_else(|| self.bad_block(kind::INDEX)).map(Some)
    }

    /// The fence, if there is one.
    pub(super) fn fence<'a>(&self, open: &'a Open) -> Option<&'a Fence> {
        if let Some(fence) = open.fence.get() {
            return Some(fence);
        }
        let finds = open.finds.fetch_add(1, Relaxed);
        if finds % FINDS_WITHOUT_FENCE == FINDS_WITHOUT_FENCE - 1 {
            self.make_fence(open);
        }
        open.fence.get()
    }

    /// Does nothing where there is no room, or an index block cannot be read: whoever needs that one
    /// will say why.
    #[cold]
    fn make_fence(&self, open: &Open) {
        let about = (self.info.bytes / FENCE_SHARE) as usize;
        if !self.cache.has_room_for_fence(about) {
            return;
        }
        let Ok(fence) = self.fence_of(open) else { return };
        let bytes = fence.bytes();
        if open.fence.set(fence).is_ok() {
            self.cache.note_fence(bytes);
        }
    }

    fn fence_of(&self, open: &Open) -> Result<Fence> {
        let mut fence = Fence::builder();
        let bad = |kind| self.bad_block(kind);
        let mut top = BlockIter::new(open.top.clone()).ok_or_else(|| bad(kind::TOP))?;
        while top.next().is_some() {
            let handle = decode_handle(top.value_bytes()).ok_or_else(|| bad(kind::TOP))?;
            let mut index = self.iter_block(open, kind::INDEX, handle)?;
            while index.next().is_some() {
                let handle = decode_handle(index.value_bytes());
                fence.add(&index.key, index.seq, handle.ok_or_else(|| bad(kind::INDEX))?);
            }
        }
        Ok(fence.finish())
    }

    /// The block at hand, if it is the one, or else the one fetched in its place.
    fn pinned_block<'a>(
        &self,
        open: &Open,
        kind: u8,
        handle: Handle,
        pinned: &'a mut Pinned,
    ) -> Result<&'a Bytes> {
        if pinned.as_ref().is_none_or(|(offset, _)| *offset != handle.offset) {
            *pinned = Some((handle.offset, self.block(open, kind, handle)?));
        }
        pinned.as_ref().map(|(_, block)| block).ok_or_else(|| self.bad_block(kind))
    }

    fn block(&self, open: &Open, kind: u8, handle: Handle) -> Result<Bytes> {
        if let Some(map) = &open.map {
            return self.mapped_block(map, kind, handle);
        }
        match self.cache.get(self.info.number, handle.offset) {
            Some(block) => Ok(block),
            None => self.fetched_block(open, kind, handle),
        }
    }

    /// What `read` makes of a block where it lies. Others may have to wait for it: it must not take
    /// long, and not ask for another block.
    #[inline]
    pub(super) fn in_block<T>(
        &self,
        open: &Open,
        kind: u8,
        handle: Handle,
        read: impl FnOnce(&Bytes) -> T,
    ) -> Result<T> {
        if let Some(map) = &open.map {
            return Ok(read(&self.mapped_block(map, kind, handle)?));
        }
        match self.cache.read(self.info.number, handle.offset, read) {
            Ok(done) => Ok(done),
            Err(read) => Ok(read(&self.fetched_block(open, kind, handle)?)),
        }
    }

    /// A block that the cache does not have.
    #[cold]
    fn fetched_block(&self, open: &Open, kind: u8, handle: Handle) -> Result<Bytes> {
        let block = self.read_block(&*open.file, open.cipher.as_ref(), kind, handle)?;
        self.cache.insert(self.info.number, handle.offset, block.clone());
        Ok(block)
    }

    pub(super) fn iter_block(&self, open: &Open, kind: u8, handle: Handle) -> Result<BlockIter> {
        BlockIter::new(self.block(open, kind, handle)?).ok_or_else(|| self.bad_block(kind))
    }

    fn mapped_block(&self, map: &SegmentMap, kind: u8, handle: Handle) -> Result<Bytes> {
        let Handle { offset, len, .. } = handle;
        let block = map.block(offset, len);
        let block = block
            .ok_or_else(|| Error::corrupt(&self.name, offset, "a block lies beyond the file"))?;
        if !map.is_checked(offset, len) {
            // Its pages may have to be read first.
            if Blocking::is_forbidden() {
                return Err(would_block());
            }
            self.check_block(kind, handle, &block)?;
            map.note_checked(&self.cache.maps, offset, len);
        }
        Ok(block)
    }

    fn check_block(&self, kind: u8, handle: Handle, bytes: &[u8]) -> Result<()> {
        if crc(u32::from(kind), bytes) != handle.crc && !bug("ignore_block_crc") {
            let text = "the checksum of a block is wrong";
            return Err(Error::corrupt(&self.name, handle.offset, text));
        }
        Ok(())
    }

    /// Its mapping, if it was opened with one.
    pub(crate) fn map(&self) -> Option<&SegmentMap> {
        self.open.get().and_then(|open| open.map.as_ref())
    }

    /// The block that says where the others are.
    pub(super) fn top(&self) -> Result<Bytes> {
        Ok(self.open()?.top.clone())
    }

    pub(super) fn cached_block(&self, kind: u8, handle: Handle) -> Result<Bytes> {
        self.block(self.open()?, kind, handle)
    }

    /// What a value is that is stored like this.
    pub(super) fn stored_value(&self, kind: ValueKind, stored: &Bytes) -> Result<Option<Bytes>> {
        Ok(self.value(kind, stored, || stored.clone())?.map(Value::into_bytes))
    }

    pub(super) fn bad_block(&self, kind: u8) -> Error {
        Error::corrupt(&self.name, 0, format!("a block of kind {kind} is malformed"))
    }

    pub(super) fn read_block(
        &self,
        file: &dyn VFile,
        cipher: Option<&FileCipher>,
        kind: u8,
        handle: Handle,
    ) -> Result<Bytes> {
        if handle.offset.saturating_add(u64::from(handle.len)) > self.info.bytes {
            return Err(Error::corrupt(&self.name, handle.offset, "a block lies beyond the file"));
        }
        if Blocking::is_forbidden() {
            return Err(would_block());
        }
        let mut bytes = vec![0; handle.len as usize];
        read_exact_at(file, &mut bytes, handle.offset)
            .map_err(|e| self.read_error(handle.offset, e))?;
        self.check_block(kind, handle, &bytes)?;
        match cipher {
            None => Ok(Bytes::from(bytes)),
            Some(cipher) => {
                cipher.open(handle.offset, kind, &bytes).map(Bytes::from).ok_or_else(|| {
                    Error::corrupt(&self.name, handle.offset, "the seal of a block does not open")
                })
            }
        }
    }

    fn read_error(&self, offset: u64, e: std::io::Error) -> Error {
        if e.kind() == std::io::ErrorKind::UnexpectedEof {
            return Error::corrupt(
                &self.name,
                offset,
                "the file is shorter than the manifest says",
            );
        }
        Error::io("read", &self.path, e)
    }

    pub(super) fn open(&self) -> Result<&Open> {
        if let Some(open) = self.open.get() {
            return Ok(open);
        }
        let fresh = self.open_now()?;
        Ok(self.open.get_or_init(|| {
            self.cache.note_top(fresh.held_bytes());
            fresh
        }))
    }

    fn open_now(&self) -> Result<Open> {
        if Blocking::is_forbidden() {
            return Err(would_block());
        }
        let file = self.vfs.open(&self.path, OpenMode::Read).map_err(|e| match e.kind() {
            std::io::ErrorKind::NotFound => Error::corrupt(&self.name, 0, "the file is missing"),
            _ => Error::io("open", &self.path, e),
        })?;
        let len = file.len().map_err(|e| Error::io("stat", &self.path, e))?;
        if len != self.info.bytes {
            let text = format!("the file has {len} bytes, the manifest says {}", self.info.bytes);
            return Err(Error::corrupt(&self.name, len, text));
        }
        let mut header = [0; HEADER];
        read_exact_at(&*file, &mut header, 0).map_err(|e| self.read_error(0, e))?;
        let cipher = self.check_header(&header)?;
        let mut footer = [0; FOOTER];
        let at = len - FOOTER as u64;
        read_exact_at(&*file, &mut footer, at).map_err(|e| self.read_error(at, e))?;
        let (handles, hash) = self.check_footer(&footer, at)?;
        let read = |kind, handle| self.read_block(&*file, cipher.as_ref(), kind, handle);
        let top = read(kind::TOP, handles[0])?;
        let filter = Filter(Arc::new(read(kind::FILTER, handles[1])?));
        let dictionary = match handles[2].len {
            0 => None,
            _ => {
                let bytes = read(kind::DICTIONARY, handles[2])?;
                let keyspace = keyspace_of(&self.info.max_key);
                Some(self.dictionaries.for_segment(keyspace, &bytes))
            }
        };
        read(kind::STATS, handles[3])?;
        // Blocks of an encrypted store must be copied anyway. Without a mapping they are read.
        let maps = cipher.is_none() && self.cache.maps.bytes_max > 0;
        let map = if maps { file.map().ok().flatten().map(SegmentMap::new) } else { None };
        let map = map.filter(|map| map.block(0, FOOTER as u32).is_some());
        // Index blocks lie between, but they are few.
        let data_end = handles[0].offset;
        let (fence, finds) = (OnceLock::new(), AtomicU32::new(0));
        Ok(Open { file, cipher, top, filter, dictionary, hash, map, data_end, fence, finds })
    }

    fn check_header(&self, header: &[u8; HEADER]) -> Result<Option<FileCipher>> {
        let bad = |detail: &str| Error::corrupt(&self.name, 0, detail);
        let mut reader = Reader::new(header);
        let short = || bad("the header is short");
        let magic = reader.take(8).ok_or_else(short)?;
        let version = reader.u32().ok_or_else(short)?;
        let sealed = reader.u32().ok_or_else(short)? != 0;
        let store_id: [u8; 16] = reader.array().ok_or_else(short)?;
        let number = reader.u64().ok_or_else(short)?;
        let salt: [u8; 32] = reader.array().ok_or_else(short)?;
        reader.u32().ok_or_else(short)?;
        let sum = reader.u32().ok_or_else(short)?;
        if magic != MAGIC || crc(0, &header[..HEADER - 4]) != sum {
            return Err(bad("the header is damaged"));
        }
        if version > VERSION {
            return Err(Error::UnknownFormat {
                file: self.name.clone(),
                found: version,
                known: VERSION,
            });
        }
        if store_id != self.store_id || number != self.info.number {
            return Err(bad("the file belongs to another store or has another number"));
        }
        match (&self.key, sealed) {
            (Some(key), true) => Ok(Some(key.file_cipher(store_id, number, &salt))),
            (None, false) => Ok(None),
            (None, true) => Err(Error::WrongKey("the store is encrypted and no key was given")),
            (Some(_), false) => Err(bad("a clear segment in an encrypted store")),
        }
    }

    fn check_footer(&self, footer: &[u8; FOOTER], at: u64) -> Result<([Handle; 4], [u8; 32])> {
        let bad = |detail: &str| Error::corrupt(&self.name, at, detail);
        let short = || bad("the footer is short");
        let sum = Reader::at(footer, FOOTER - 4).u32().ok_or_else(short)?;
        if crc(0, &footer[..FOOTER - 4]) != sum {
            return Err(bad("the footer is damaged"));
        }
        let mut reader = Reader::new(footer);
        let mut handles = [Handle::default(); 4];
        for handle in &mut handles {
            handle.offset = reader.u64().ok_or_else(short)?;
            handle.len = reader.u32().ok_or_else(short)?;
            handle.crc = reader.u32().ok_or_else(short)?;
        }
        reader.u64().ok_or_else(short)?;
        reader.u64().ok_or_else(short)?;
        if reader.u64().ok_or_else(short)? != self.info.number {
            return Err(bad("the footer belongs to another segment"));
        }
        Ok((handles, reader.array().ok_or_else(short)?))
    }
}

impl Drop for Segment {
    fn drop(&mut self) {
        if let Some(map) = self.map() {
            map.forget(&self.cache.maps);
        }
        if let Some(open) = self.open.get() {
            self.cache.forget_top(open.held_bytes());
            if let Some(fence) = open.fence.get() {
                self.cache.forget_fence(fence.bytes());
            }
        }
        if self.superseded.load(Relaxed) {
            self.cache.forget(self.info.number);
            // A file that stays is unnamed, hence removed at the next open.
            let _ = self.vfs.remove(&self.path);
        }
    }
}

/// Reads of each piece what has to come from memory, all at once: what is read one after the other is
/// waited for one after the other.
fn touch<'a>(pieces: impl Iterator<Item = &'a [u8]>) {
    let lines = |piece: &'a [u8]| piece.iter().step_by(CACHE_LINE);
    std::hint::black_box(pieces.flat_map(lines).fold(0_u8, |all, byte| all ^ byte));
}

/// The same of what a search in a block mostly looks at.
pub(super) fn touch_ends(block: &[u8]) {
    let ends = [block.get(..SEARCHED_BYTES).unwrap_or(block), &block[block.len().max(1) - 1..]];
    touch(ends.into_iter());
}

/// The keyspace in front of a full key.
pub(crate) fn keyspace_of(full_key: &[u8]) -> u32 {
    full_key.first_chunk::<4>().map_or(0, |b| u32::from_be_bytes(*b))
}

pub(super) fn decode_handle(bytes: &[u8]) -> Option<Handle> {
    let mut reader = Reader::new(bytes);
    let offset = reader.varint()?;
    let len = u32::try_from(reader.varint()?).ok()?;
    Some(Handle { offset, len, crc: reader.u32()? })
}
