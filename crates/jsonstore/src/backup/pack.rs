//! Packs: what a backup and the archive write themselves. A file in compressed, checksummed and, with
//! a key, sealed pieces, so that it can be read and written with little memory.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{
    codec::{Reader, crc},
    crypt::{FileCipher, MasterKey},
    env::Env,
    error::{Error, Result},
    vfs::{OpenMode, VFile, Vfs, read_exact_at, write_all_at},
};

const MAGIC: &[u8; 8] = b"HEARTHPK";
const VERSION: u32 = 1;
pub(crate) const HEADER: usize = 144;
const PIECE_HEADER: usize = 12;
/// Bytes of a piece before compression.
pub(crate) const PIECE_BYTES: usize = 1 << 20;
/// What compression and sealing may add to a piece.
const PIECE_SLACK: usize = 64 << 10;
const SEALED: u8 = 1;
const COMPRESSED: u8 = 2;
const ZSTD_LEVEL: i32 = 3;
/// File ids of packs in key derivation; other files have one of these bits or none.
const KEY_RANGE: u64 = 3 << 62;

/// What is in a pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PackKind {
    Log = 1,
    Manifest = 2,
    Segment = 3,
}

/// The clear part of a pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PackHeader {
    pub(crate) kind: PackKind,
    pub(crate) store_id: [u8; 16],
    /// Of the log file or the segment.
    pub(crate) number: u64,
    /// Of a log file: the record before it, where the preceding file ends, where this one ends.
    pub(crate) prev_lsn: u64,
    pub(crate) prev_end: u64,
    pub(crate) end: u64,
    /// When it was packed.
    pub(crate) wall_ms: u64,
    /// Of a log file: the salt that tells it from others of the same number.
    pub(crate) identity: [u8; 32],
}

impl PackHeader {
    pub(crate) fn new(kind: PackKind, store_id: [u8; 16], number: u64) -> Self {
        Self {
            kind,
            store_id,
            number,
            prev_lsn: 0,
            prev_end: 0,
            end: 0,
            wall_ms: 0,
            identity: [0; 32],
        }
    }

    fn encode(&self, flags: u8, salt: &[u8; 32]) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEADER);
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&[self.kind as u8, flags, 0, 0]);
        out.extend_from_slice(&self.store_id);
        for number in [self.number, self.prev_lsn, self.prev_end, self.end, self.wall_ms] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.extend_from_slice(&self.identity);
        out.extend_from_slice(salt);
        out.extend_from_slice(&[0; 4]);
        let sum = crc(0, &out);
        out.extend_from_slice(&sum.to_le_bytes());
        debug_assert_eq!(out.len(), HEADER);
        out
    }

    /// The header, its flags and its salt.
    fn decode(name: &str, bytes: &[u8]) -> Result<(Self, u8, [u8; 32])> {
        let bad = || Error::corrupt(name, 0, "the header of the pack is damaged");
        let mut reader = Reader::new(bytes);
        if reader.take(8).ok_or_else(bad)? != MAGIC {
            return Err(bad());
        }
        let version = reader.u32().ok_or_else(bad)?;
        let [kind, flags, _, _] = reader.array().ok_or_else(bad)?;
        let store_id = reader.array().ok_or_else(bad)?;
        let mut numbers = [0; 5];
        for number in &mut numbers {
            *number = reader.u64().ok_or_else(bad)?;
        }
        let identity = reader.array().ok_or_else(bad)?;
        let salt = reader.array().ok_or_else(bad)?;
        reader.u32().ok_or_else(bad)?;
        let sum = reader.u32().ok_or_else(bad)?;
        if crc(0, bytes.get(..HEADER - 4).unwrap_or_default()) != sum {
            return Err(bad());
        }
        if version > VERSION {
            return Err(Error::UnknownFormat {
                file: name.to_owned(),
                found: version,
                known: VERSION,
            });
        }
        let kinds = [PackKind::Log, PackKind::Manifest, PackKind::Segment];
        let kind = kinds.into_iter().find(|k| *k as u8 == kind).ok_or_else(bad)?;
        let [number, prev_lsn, prev_end, end, wall_ms] = numbers;
        let header = Self { kind, store_id, number, prev_lsn, prev_end, end, wall_ms, identity };
        Ok((header, flags, salt))
    }

    fn cipher(&self, key: &MasterKey, salt: &[u8; 32]) -> FileCipher {
        key.file_cipher(self.store_id, self.number | KEY_RANGE, salt)
    }
}

/// What was written of a file: its length and the hash of all of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Written {
    pub(crate) bytes: u64,
    pub(crate) hash: [u8; 32],
}

/// A file that is hashed while it is written, and synced at the end.
#[derive(Debug)]
pub(crate) struct HashedFile {
    path: PathBuf,
    file: Arc<dyn VFile>,
    hasher: blake3::Hasher,
    at: u64,
    synced_to: u64,
}

/// A file is synced each time it has grown by so much: one large sync at its end would hold up the
/// syncs of the log on the same disk.
const SYNC_BYTES: u64 = 8 << 20;

impl HashedFile {
    pub(crate) fn create(vfs: &dyn Vfs, path: &Path) -> Result<Self> {
        let file = vfs.open(path, OpenMode::Create).map_err(|e| Error::io("create", path, e))?;
        let hasher = blake3::Hasher::new();
        Ok(Self { path: path.to_path_buf(), file, hasher, at: 0, synced_to: 0 })
    }

    pub(crate) fn put(&mut self, bytes: &[u8]) -> Result<()> {
        write_all_at(&*self.file, bytes, self.at).map_err(|e| Error::io("write", &self.path, e))?;
        self.hasher.update(bytes);
        self.at += bytes.len() as u64;
        if self.at - self.synced_to >= SYNC_BYTES {
            self.file.sync_data().map_err(|e| Error::io("sync", &self.path, e))?;
            self.synced_to = self.at;
        }
        Ok(())
    }

    pub(crate) fn finish(self) -> Result<Written> {
        self.file.sync_all().map_err(|e| Error::io("sync", &self.path, e))?;
        Ok(Written { bytes: self.at, hash: *self.hasher.finalize().as_bytes() })
    }

    /// As `finish`, but the bytes may be lost with the power.
    fn finish_unsynced(self) -> Written {
        Written { bytes: self.at, hash: *self.hasher.finalize().as_bytes() }
    }
}

/// Writes a pack, piece by piece.
pub(crate) struct PackWriter {
    file: HashedFile,
    kind: u8,
    cipher: Option<FileCipher>,
    compresses: bool,
    header_hash: [u8; 32],
    gathered: Vec<u8>,
    index: u32,
}

impl PackWriter {
    pub(crate) fn create(
        vfs: &dyn Vfs,
        env: &dyn Env,
        path: &Path,
        header: &PackHeader,
        key: Option<&MasterKey>,
    ) -> Result<Self> {
        let mut salt = [0; 32];
        for part in salt.chunks_exact_mut(8) {
            part.copy_from_slice(&env.random().to_le_bytes());
        }
        // Segments are compressed in themselves.
        let compresses = header.kind != PackKind::Segment;
        let flags =
            if key.is_some() { SEALED } else { 0 } | if compresses { COMPRESSED } else { 0 };
        let head = header.encode(flags, &salt);
        let mut file = HashedFile::create(vfs, path)?;
        file.put(&head)?;
        Ok(Self {
            file,
            kind: header.kind as u8,
            cipher: key.map(|key| header.cipher(key, &salt)),
            compresses,
            header_hash: *blake3::hash(&head).as_bytes(),
            gathered: Vec::with_capacity(PIECE_BYTES),
            index: 0,
        })
    }

    pub(crate) fn put(&mut self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            let room = (PIECE_BYTES - self.gathered.len()).min(bytes.len());
            let (now, later) = bytes.split_at(room);
            self.gathered.extend_from_slice(now);
            bytes = later;
            if self.gathered.len() == PIECE_BYTES {
                self.end_piece()?;
            }
        }
        Ok(())
    }

    /// The last piece holds the hash of the header: what is cut off or exchanged is noticed.
    pub(crate) fn finish(mut self) -> Result<Written> {
        self.end()?;
        self.file.finish()
    }

    /// For a deliberate bug.
    pub(super) fn finish_unsynced(mut self) -> Result<Written> {
        self.end()?;
        Ok(self.file.finish_unsynced())
    }

    fn end(&mut self) -> Result<()> {
        if !self.gathered.is_empty() {
            self.end_piece()?;
        }
        let hash = self.header_hash;
        self.write_piece(0, &hash)
    }

    fn end_piece(&mut self) -> Result<()> {
        let raw = std::mem::take(&mut self.gathered);
        if self.compresses {
            let packed = zstd::bulk::compress(&raw, ZSTD_LEVEL)
                .map_err(|e| Error::io("compress", &self.file.path, e))?;
            self.write_piece(raw.len() as u32, &packed)?;
        } else {
            self.write_piece(raw.len() as u32, &raw)?;
        }
        self.gathered = raw;
        self.gathered.clear();
        Ok(())
    }

    fn write_piece(&mut self, raw_len: u32, packed: &[u8]) -> Result<()> {
        let sealed = self.cipher.as_ref().map(|c| c.seal(u64::from(self.index), self.kind, packed));
        let stored = sealed.as_deref().unwrap_or(packed);
        let mut out = Vec::with_capacity(PIECE_HEADER + stored.len());
        out.extend_from_slice(&(stored.len() as u32).to_le_bytes());
        out.extend_from_slice(&raw_len.to_le_bytes());
        let sum = crc(crc(self.index, &out), stored);
        out.extend_from_slice(&sum.to_le_bytes());
        out.extend_from_slice(stored);
        self.index += 1;
        self.file.put(&out)
    }
}

/// Reads a pack, piece by piece; each is checked before it is believed.
pub(crate) struct PackReader {
    pub(crate) header: PackHeader,
    name: String,
    path: PathBuf,
    file: Arc<dyn VFile>,
    cipher: Option<FileCipher>,
    is_compressed: bool,
    header_hash: [u8; 32],
    hasher: blake3::Hasher,
    at: u64,
    index: u32,
    is_done: bool,
}

impl PackReader {
    /// `name` is what errors call the file.
    pub(crate) fn open(
        vfs: &dyn Vfs,
        path: &Path,
        name: &str,
        key: Option<&MasterKey>,
    ) -> Result<Self> {
        let (file, head) = read_head(vfs, path, name)?;
        let (header, flags, salt) = PackHeader::decode(name, &head)?;
        let cipher = match (flags & SEALED != 0, key) {
            (false, _) => None,
            (true, None) => {
                return Err(Error::WrongKey("the backup is encrypted and no key was given for it"));
            }
            (true, Some(key)) => Some(header.cipher(key, &salt)),
        };
        let mut hasher = blake3::Hasher::new();
        hasher.update(&head);
        Ok(Self {
            header,
            name: name.to_owned(),
            path: path.to_path_buf(),
            file,
            cipher,
            is_compressed: flags & COMPRESSED != 0,
            header_hash: *blake3::hash(&head).as_bytes(),
            hasher,
            at: HEADER as u64,
            index: 0,
            is_done: false,
        })
    }

    /// The clear part alone.
    pub(crate) fn header(vfs: &dyn Vfs, path: &Path, name: &str) -> Result<PackHeader> {
        let (_, head) = read_head(vfs, path, name)?;
        PackHeader::decode(name, &head).map(|(header, ..)| header)
    }

    /// The next piece; `None` at the end.
    pub(crate) fn next_piece(&mut self) -> Result<Option<Vec<u8>>> {
        if self.is_done {
            return Ok(None);
        }
        let mut head = [0; PIECE_HEADER];
        self.read(&mut head)?;
        let mut reader = Reader::new(&head);
        let bad = |at, what| Error::corrupt(&self.name, at, what);
        let short = "a piece of the pack is damaged";
        let [stored_len, raw_len, sum] = [reader.u32(), reader.u32(), reader.u32()]
            .map(|field| field.unwrap_or_default() as usize);
        if stored_len > PIECE_BYTES + PIECE_SLACK || raw_len > PIECE_BYTES {
            return Err(bad(self.at, short));
        }
        let begins = self.at;
        self.at += PIECE_HEADER as u64;
        let mut stored = vec![0; stored_len];
        self.read(&mut stored)?;
        if crc(crc(self.index, &head[..8]), &stored) as usize != sum {
            return Err(Error::corrupt(&self.name, begins, short));
        }
        self.at += stored_len as u64;
        self.hasher.update(&head).update(&stored);
        let packed = match &self.cipher {
            None => stored,
            Some(cipher) => cipher
                .open(u64::from(self.index), self.header.kind as u8, &stored)
                .ok_or(Error::WrongKey("the key does not open this backup"))?,
        };
        self.index += 1;
        if raw_len == 0 {
            self.is_done = true;
            if packed != self.header_hash {
                return Err(Error::corrupt(&self.name, begins, "the pack has another header"));
            }
            return Ok(None);
        }
        if !self.is_compressed {
            return Ok(Some(packed));
        }
        match zstd::bulk::decompress(&packed, raw_len) {
            Ok(raw) if raw.len() == raw_len => Ok(Some(raw)),
            _ => Err(Error::corrupt(&self.name, begins, "a piece does not decompress")),
        }
    }

    /// The hash of what was read so far.
    pub(crate) fn hash(&self) -> [u8; 32] {
        *self.hasher.finalize().as_bytes()
    }

    /// All of it, up to `limit` bytes.
    pub(crate) fn read_all(mut self, limit: u64) -> Result<Vec<u8>> {
        let mut all = Vec::new();
        while let Some(piece) = self.next_piece()? {
            if all.len() as u64 + piece.len() as u64 > limit {
                return Err(Error::corrupt(&self.name, self.at, "the pack holds more than it may"));
            }
            all.extend_from_slice(&piece);
        }
        Ok(all)
    }

    fn read(&self, into: &mut [u8]) -> Result<()> {
        read_exact_at(&*self.file, into, self.at).map_err(|e| match e.kind() {
            std::io::ErrorKind::UnexpectedEof => {
                Error::corrupt(&self.name, self.at, "the pack ends too early")
            }
            _ => Error::io("read", &self.path, e),
        })
    }
}

fn read_head(vfs: &dyn Vfs, path: &Path, name: &str) -> Result<(Arc<dyn VFile>, [u8; HEADER])> {
    let file = vfs.open(path, OpenMode::Read).map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound => Error::corrupt(name, 0, "the file is missing"),
        _ => Error::io("open", path, e),
    })?;
    let mut head = [0; HEADER];
    read_exact_at(&*file, &mut head, 0).map_err(|e| match e.kind() {
        std::io::ErrorKind::UnexpectedEof => Error::corrupt(name, 0, "the pack ends too early"),
        _ => Error::io("read", path, e),
    })?;
    Ok((file, head))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{SimEnv, SimVfs};

    fn write(vfs: &SimVfs, key: Option<&MasterKey>, content: &[u8]) -> PathBuf {
        let path = PathBuf::from("/p");
        let header = PackHeader::new(PackKind::Log, [4; 16], 9);
        let mut pack = PackWriter::create(vfs, &SimEnv::new(1), &path, &header, key).unwrap();
        for part in content.chunks(1000) {
            pack.put(part).unwrap();
        }
        let written = pack.finish().unwrap();
        let file = vfs.contents(&path).unwrap();
        assert_eq!(written.bytes, file.len() as u64);
        assert_eq!(written.hash, *blake3::hash(&file).as_bytes());
        path
    }

    fn read(vfs: &SimVfs, path: &Path, key: Option<&MasterKey>) -> Result<Vec<u8>> {
        PackReader::open(vfs, path, "p", key)?.read_all(1 << 30)
    }

    #[test]
    fn packs_round_trip_and_need_their_key() {
        let key = MasterKey::new([1; 32]);
        let large: Vec<u8> = (0..3 * PIECE_BYTES + 17).map(|i| (i % 251) as u8).collect();
        for content in [&b""[..], b"x", &large] {
            for key in [None, Some(&key)] {
                let vfs = SimVfs::new();
                let path = write(&vfs, key, content);
                assert_eq!(read(&vfs, &path, key).unwrap(), content);
            }
        }
        let vfs = SimVfs::new();
        let path = write(&vfs, Some(&key), b"secret");
        for wrong in [None, Some(&MasterKey::new([2; 32]))] {
            assert!(matches!(read(&vfs, &path, wrong), Err(Error::WrongKey(_))));
        }
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_noticed() {
        for key in [None, Some(MasterKey::new([1; 32]))] {
            let vfs = SimVfs::new();
            let path = write(&vfs, key.as_ref(), b"some content of a pack");
            let image = vfs.contents(&path).unwrap();
            for byte in 0..image.len() as u64 {
                for bit in 0..8 {
                    vfs.flip_bit(&path, byte, bit);
                    assert!(read(&vfs, &path, key.as_ref()).is_err(), "byte {byte} bit {bit}");
                    vfs.flip_bit(&path, byte, bit);
                }
            }
            for len in 0..image.len() {
                let file = vfs.open(&path, OpenMode::Create).unwrap();
                write_all_at(&*file, &image[..len], 0).unwrap();
                assert!(read(&vfs, &path, key.as_ref()).is_err(), "cut at {len}");
            }
        }
    }
}
