//! Writing a segment.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use super::{
    FOOTER, HEADER, Handle, MAGIC, VERSION,
    block::{BlockBuilder, ValueKind},
    compress::{Dictionaries, Dictionary, Packed, SAMPLES_BYTES_MAX, compress, decompress},
    filter, kind,
};
use crate::{
    bugs::bug,
    codec::{crc, hash_key, put_bytes, put_varint},
    crypt::{FileCipher, MasterKey},
    env::Env,
    error::{Error, Result},
    vfs::{OpenMode, VFile, Vfs, write_all_at},
};

/// What the system reads at least. A data block lies in one where that wastes little, for the disk takes
/// a tenth longer for two.
const PAGE: usize = 4 << 10;
/// At most so much of the end of a page stays empty.
const PAGE_LEFT_MAX: usize = 512;
const INDEX_BLOCK: usize = 8 << 10;
const WRITE_BUFFER: usize = 1 << 20;
const VALUE_BYTES_MAX: usize = 64 << 20;

/// What the manifest says of a segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SegmentInfo {
    pub(crate) number: u64,
    pub(crate) bytes: u64,
    pub(crate) entries: u64,
    pub(crate) tombstones: u64,
    /// Smallest and largest key, each with its keyspace in front.
    pub(crate) min_key: Vec<u8>,
    pub(crate) max_key: Vec<u8>,
    pub(crate) max_seq: u64,
}

/// Takes entries in order and writes them as one file.
pub(crate) struct SegmentBuilder<'a> {
    vfs: &'a dyn Vfs,
    dictionaries: &'a Dictionaries,
    path: std::path::PathBuf,
    file: Arc<dyn VFile>,
    cipher: Option<FileCipher>,
    hasher: blake3::Hasher,
    buffer: Vec<u8>,
    /// So much of the buffer went into the hash; it is fastest on large pieces.
    hashed: usize,
    /// The last value that was compressed.
    packed: Vec<u8>,
    written: u64,
    data: BlockBuilder,
    index: BlockBuilder,
    top: BlockBuilder,
    hashes: Vec<u64>,
    /// Of the keyspace being written, while samples are gathered.
    keyspace: Option<u32>,
    dictionary: Option<Arc<Dictionary>>,
    held: Vec<(Vec<u8>, u64, Vec<u8>)>,
    held_bytes: usize,
    stats: BTreeMap<u32, (u64, u64)>,
    info: SegmentInfo,
    last: (Vec<u8>, u64),
}

impl<'a> SegmentBuilder<'a> {
    pub(crate) fn create(
        vfs: &'a dyn Vfs,
        env: &dyn Env,
        dictionaries: &'a Dictionaries,
        path: &Path,
        number: u64,
        store_id: [u8; 16],
        key: Option<&MasterKey>,
    ) -> Result<Self> {
        let file = vfs.open(path, OpenMode::Create).map_err(|e| Error::io("create", path, e))?;
        let mut salt = [0; 32];
        for part in salt.chunks_exact_mut(8) {
            part.copy_from_slice(&env.random().to_le_bytes());
        }
        let mut header = Vec::with_capacity(HEADER);
        header.extend_from_slice(MAGIC);
        header.extend_from_slice(&VERSION.to_le_bytes());
        header.extend_from_slice(&u32::from(key.is_some()).to_le_bytes());
        header.extend_from_slice(&store_id);
        header.extend_from_slice(&number.to_le_bytes());
        header.extend_from_slice(&salt);
        header.extend_from_slice(&[0; 4]);
        let sum = crc(0, &header);
        header.extend_from_slice(&sum.to_le_bytes());
        debug_assert_eq!(header.len(), HEADER);
        let mut builder = Self {
            vfs,
            dictionaries,
            path: path.to_path_buf(),
            file,
            cipher: key.map(|key| key.file_cipher(store_id, number, &salt)),
            hasher: blake3::Hasher::new(),
            buffer: Vec::with_capacity(WRITE_BUFFER + (64 << 10)),
            hashed: 0,
            packed: Vec::new(),
            written: 0,
            data: BlockBuilder::default(),
            index: BlockBuilder::index(),
            top: BlockBuilder::index(),
            hashes: Vec::new(),
            keyspace: None,
            dictionary: None,
            held: Vec::new(),
            held_bytes: 0,
            stats: BTreeMap::new(),
            info: SegmentInfo {
                number,
                bytes: 0,
                entries: 0,
                tombstones: 0,
                min_key: Vec::new(),
                max_key: Vec::new(),
                max_seq: 0,
            },
            last: (Vec::new(), 0),
        };
        builder.put(&header)?;
        Ok(builder)
    }

    /// Adds an entry; keys must come in order, newest version first.
    pub(crate) fn add(
        &mut self,
        keyspace: u32,
        key: &[u8],
        seq: u64,
        value: Option<&[u8]>,
    ) -> Result<()> {
        let full = self.note(keyspace, key, seq, value.map_or(0, <[u8]>::len))?;
        let Some(value) = value else {
            self.info.tombstones += 1;
            self.release_held()?;
            return self.add_encoded(full, seq, ValueKind::Deleted, &[]);
        };
        if self.dictionary.is_some() || value.len() < 64 {
            self.release_held()?;
            return self.add_value(full, seq, value);
        }
        // The first documents of a segment wait until they can teach a dictionary.
        self.held_bytes += value.len();
        self.held.push((full, seq, value.to_vec()));
        let known = self.held.len() == 1 && self.dictionaries.for_keyspace(keyspace, &[]).is_some();
        if known || self.held_bytes >= SAMPLES_BYTES_MAX { self.release_held() } else { Ok(()) }
    }

    /// Adds a value that is compressed already: copied as it is if the dictionary is the same.
    pub(crate) fn add_packed(
        &mut self,
        keyspace: u32,
        key: &[u8],
        seq: u64,
        value: &[u8],
        packed: &Packed,
    ) -> Result<()> {
        let theirs = packed.dictionary.as_ref();
        if let Some(theirs) = theirs.filter(|_| self.dictionary.is_none()) {
            self.release_held()?;
            self.dictionary.get_or_insert_with(|| Arc::clone(theirs));
        }
        // Without a dictionary it is worth another try with one.
        if packed.fits(self.dictionary.as_ref()) {
            let full = self.note(keyspace, key, seq, value.len())?;
            self.release_held()?;
            return self.add_encoded(full, seq, packed.kind, value);
        }
        let raw = decompress(packed.kind, value, theirs.map(|d| &**d), VALUE_BYTES_MAX);
        let raw = raw.ok_or_else(|| {
            Error::corrupt(self.path.display(), 0, "a value to be merged does not decompress")
        })?;
        self.add(keyspace, key, seq, Some(raw.bytes()))
    }

    /// Counts an entry; returns its key with the keyspace in front.
    fn note(&mut self, keyspace: u32, key: &[u8], seq: u64, value_len: usize) -> Result<Vec<u8>> {
        let mut full = Vec::with_capacity(key.len() + 4);
        full.extend_from_slice(&keyspace.to_be_bytes());
        full.extend_from_slice(key);
        if self.keyspace != Some(keyspace) {
            self.release_held()?;
            self.keyspace = Some(keyspace);
        }
        if self.info.entries == 0 {
            self.info.min_key.clone_from(&full);
        }
        self.info.entries += 1;
        self.info.max_seq = self.info.max_seq.max(seq);
        let stats = self.stats.entry(keyspace).or_default();
        stats.0 += 1;
        stats.1 += (key.len() + value_len) as u64;
        let hash = hash_key(keyspace, key);
        if self.hashes.last() != Some(&hash) {
            self.hashes.push(hash);
        }
        Ok(full)
    }

    /// Bytes so far, about.
    pub(crate) fn bytes(&self) -> u64 {
        self.position() + (self.data.len() + self.held_bytes / 2) as u64
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.info.entries == 0
    }

    /// Writes the rest, syncs the file and its directory. Only then may the manifest name it.
    pub(crate) fn finish(mut self, dir: &Path) -> Result<SegmentInfo> {
        self.release_held()?;
        self.end_data_block()?;
        self.end_index_block()?;
        let top = self.top.finish();
        let top = self.put_block(kind::TOP, top)?;
        let filter = filter::build(&self.hashes);
        let filter = self.put_block(kind::FILTER, filter)?;
        let dictionary = match self.dictionary.take() {
            Some(d) => self.put_block(kind::DICTIONARY, d.bytes.clone())?,
            None => Handle::default(),
        };
        let mut stats = Vec::new();
        put_varint(&mut stats, self.stats.len() as u64);
        for (keyspace, (entries, bytes)) in &self.stats {
            put_varint(&mut stats, u64::from(*keyspace));
            put_varint(&mut stats, *entries);
            put_varint(&mut stats, *bytes);
        }
        put_bytes(&mut stats, &self.info.min_key);
        put_bytes(&mut stats, &self.last.0);
        let stats = self.put_block(kind::STATS, stats)?;
        self.info.max_key = std::mem::take(&mut self.last.0);
        self.put_footer([top, filter, dictionary, stats])?;
        self.flush()?;
        self.info.bytes = self.written;
        if !bug("skip_segment_sync") {
            self.file.sync_all().map_err(|e| Error::io("sync", &self.path, e))?;
        }
        if !bug("skip_segment_dir_sync") {
            self.vfs.sync_dir(dir).map_err(|e| Error::io("sync", dir, e))?;
        }
        Ok(self.info)
    }

    fn put_footer(&mut self, handles: [Handle; 4]) -> Result<()> {
        let mut footer = Vec::with_capacity(FOOTER);
        for handle in handles {
            footer.extend_from_slice(&handle.offset.to_le_bytes());
            footer.extend_from_slice(&handle.len.to_le_bytes());
            footer.extend_from_slice(&handle.crc.to_le_bytes());
        }
        footer.extend_from_slice(&self.info.entries.to_le_bytes());
        footer.extend_from_slice(&self.info.max_seq.to_le_bytes());
        footer.extend_from_slice(&self.info.number.to_le_bytes());
        self.hash();
        footer.extend_from_slice(self.hasher.finalize().as_bytes());
        footer.resize(FOOTER - 16, 0);
        footer.extend_from_slice(&VERSION.to_le_bytes());
        footer.extend_from_slice(MAGIC);
        let sum = crc(0, &footer);
        footer.extend_from_slice(&sum.to_le_bytes());
        debug_assert_eq!(footer.len(), FOOTER);
        // The hash does not cover the footer that holds it, and is not needed any more.
        self.buffer.extend_from_slice(&footer);
        Ok(())
    }

    fn release_held(&mut self) -> Result<()> {
        if self.held.is_empty() {
            return Ok(());
        }
        let held = std::mem::take(&mut self.held);
        self.held_bytes = 0;
        let keyspace = self.keyspace.unwrap_or_default();
        let samples: Vec<&[u8]> = held.iter().map(|(_, _, value)| value.as_slice()).collect();
        if self.dictionary.is_none() {
            self.dictionary = self.dictionaries.for_keyspace(keyspace, &samples);
        }
        for (key, seq, value) in held {
            self.add_value(key, seq, &value)?;
        }
        Ok(())
    }

    fn add_value(&mut self, key: Vec<u8>, seq: u64, value: &[u8]) -> Result<()> {
        let mut packed = std::mem::take(&mut self.packed);
        let kind = compress(value, self.dictionary.as_deref(), &mut packed);
        let stored = if kind == ValueKind::Raw { value } else { &packed };
        let added = self.add_encoded(key, seq, kind, stored);
        self.packed = packed;
        added
    }

    fn add_encoded(&mut self, key: Vec<u8>, seq: u64, kind: ValueKind, value: &[u8]) -> Result<()> {
        if !self.data.is_empty() {
            let (room, len) = (self.page_room(), self.data.len());
            let is_crossing = self.data.len_with(&key, seq, value.len()) > room;
            if is_crossing && room - len <= PAGE_LEFT_MAX {
                self.end_data_block()?;
            }
        }
        if self.data.is_empty() {
            self.skip_end_of_page()?;
        }
        self.data.add(&key, seq, kind, value);
        self.last = (key, seq);
        if self.data.len() >= self.page_room() { self.end_data_block() } else { Ok(()) }
    }

    /// What the data block that is being built may take: up to the end of a page, and at least half a
    /// page.
    fn page_room(&self) -> usize {
        let seal = if self.cipher.is_some() { FileCipher::TAG } else { 0 };
        let left = PAGE - self.position() as usize % PAGE;
        let room = if left < PAGE / 2 { left + PAGE } else { left };
        room - seal
    }

    /// No data block begins with little of a page left.
    fn skip_end_of_page(&mut self) -> Result<()> {
        let left = self.position().wrapping_neg() as usize % PAGE;
        if left <= PAGE_LEFT_MAX { self.put(&[0; PAGE_LEFT_MAX][..left]) } else { Ok(()) }
    }

    /// Where the next byte goes.
    fn position(&self) -> u64 {
        self.written + self.buffer.len() as u64
    }

    fn end_data_block(&mut self) -> Result<()> {
        if self.data.is_empty() {
            return Ok(());
        }
        let block = self.data.finish();
        let handle = self.put_block(kind::DATA, block)?;
        self.index.add(&self.last.0, self.last.1, ValueKind::Raw, &encode_handle(handle));
        if self.index.len() >= INDEX_BLOCK { self.end_index_block() } else { Ok(()) }
    }

    fn end_index_block(&mut self) -> Result<()> {
        if self.index.is_empty() {
            return Ok(());
        }
        let block = self.index.finish();
        let handle = self.put_block(kind::INDEX, block)?;
        self.top.add(&self.last.0, self.last.1, ValueKind::Raw, &encode_handle(handle));
        Ok(())
    }

    fn put_block(&mut self, kind: u8, block: Vec<u8>) -> Result<Handle> {
        let offset = self.position();
        let block = match &self.cipher {
            Some(cipher) => cipher.seal(offset, kind, &block),
            None => block,
        };
        // The kind seeds the checksum, so one kind of block cannot stand for another.
        let handle = Handle { offset, len: block.len() as u32, crc: crc(u32::from(kind), &block) };
        self.put(&block)?;
        Ok(handle)
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= WRITE_BUFFER { self.flush() } else { Ok(()) }
    }

    fn hash(&mut self) {
        self.hasher.update(&self.buffer[self.hashed..]);
        self.hashed = self.buffer.len();
    }

    fn flush(&mut self) -> Result<()> {
        self.hash();
        write_all_at(&*self.file, &self.buffer, self.written)
            .map_err(|e| Error::io("write", &self.path, e))?;
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        self.hashed = 0;
        Ok(())
    }
}

fn encode_handle(handle: Handle) -> Vec<u8> {
    let mut out = Vec::with_capacity(16);
    put_varint(&mut out, handle.offset);
    put_varint(&mut out, u64::from(handle.len));
    out.extend_from_slice(&handle.crc.to_le_bytes());
    out
}
