//! The manifest: which segments make up the store, and from where the log counts.
//!
//! It is a log of frames, each holding the whole state; the last valid one counts. CURRENT names
//! the manifest in force and is replaced atomically.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{
    bugs::bug,
    codec::{Reader, crc, put_bytes, put_varint},
    crypt::{FileCipher, MasterKey},
    env::Env,
    error::{Error, Result},
    frame::{self, ALIGN, Frame, FrameType},
    segment::SegmentInfo,
    vfs::{OpenMode, VFile, Vfs, read_file, write_all_at},
};

const MAGIC: &[u8; 8] = b"HEARTHMF";
pub(crate) const VERSION: u32 = 1;
/// Above this a new manifest begins.
const ROTATE_BYTES: u64 = 4 << 20;
const KEY_CHECK: &[u8] = b"the right key";
/// File ids of manifests in key derivation; segments and log files use other ranges.
const KEY_RANGE: u64 = 1 << 62;

/// What one edit says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct State {
    pub(crate) next_file: u64,
    /// Every commit up to here is in segments.
    pub(crate) flushed_seq: u64,
    /// The log is needed from here on.
    pub(crate) wal_floor: u64,
    pub(crate) wal_file_bytes: u64,
    /// Level of each segment; level 0 is newest first.
    pub(crate) segments: Vec<(u8, SegmentInfo)>,
}

#[derive(Debug)]
pub(crate) struct Manifest {
    vfs: Arc<dyn Vfs>,
    env: Arc<dyn Env>,
    dir: PathBuf,
    key: Option<MasterKey>,
    pub(crate) store_id: [u8; 16],
    number: u64,
    file: Arc<dyn VFile>,
    salt: u32,
    cipher: Option<FileCipher>,
    position: u64,
    prev_lsn: u64,
    seq: u64,
    failed: bool,
}

impl Manifest {
    /// The manifest of a new store. CURRENT is written last, so a store exists or does not.
    pub(crate) fn create(
        vfs: Arc<dyn Vfs>,
        env: Arc<dyn Env>,
        dir: &Path,
        key: Option<MasterKey>,
        store_id: [u8; 16],
        state: &State,
    ) -> Result<Self> {
        Self::write_new(vfs, env, dir, key, store_id, 1, 0, state)
    }

    /// Reads the manifest that CURRENT names and begins a new one with its last state.
    pub(crate) fn open(
        vfs: Arc<dyn Vfs>,
        env: Arc<dyn Env>,
        dir: &Path,
        key: Option<MasterKey>,
        read_only: bool,
    ) -> Result<(Self, State)> {
        let number = read_current(&*vfs, dir)?;
        let name = file_name(number);
        let path = dir.join(&name);
        let image = read_file(&*vfs, &path).map_err(|e| match e.kind() {
            io::ErrorKind::NotFound => Error::corrupt("CURRENT", 0, format!("{name} is missing")),
            _ => Error::io("read", &path, e),
        })?;
        let header = read_header(&image, number)
            .ok_or_else(|| Error::corrupt(&name, 0, "the header is damaged"))?;
        if header.version > VERSION {
            return Err(Error::UnknownFormat { file: name, found: header.version, known: VERSION });
        }
        let cipher = header.check_key(key.as_ref(), number)?;
        let last = read_edits(&image, number, &header, cipher.as_ref())?;
        let mode = if read_only { OpenMode::Read } else { OpenMode::Write };
        let file = vfs.open(&path, mode).map_err(|e| Error::io("open", &path, e))?;
        if !read_only && !bug("act_on_cached_manifest") {
            // The last edit, and the name CURRENT, may be only in the system's cache. Files are
            // removed on their word, so they are made durable first.
            let edit = image.get(last.start..last.end).unwrap_or_default();
            write_all_at(&*file, edit, last.start as u64)
                .and_then(|()| file.sync_all())
                .and_then(|()| vfs.sync_dir(dir))
                .map_err(|e| Error::io("sync", &path, e))?;
        }
        let position = frame::align_up(last.end as u64);
        let manifest = Self {
            vfs,
            env,
            dir: dir.to_path_buf(),
            key,
            store_id: header.store_id,
            number,
            file,
            salt: header.salt,
            cipher,
            position,
            prev_lsn: last.lsn,
            seq: last.seq,
            failed: false,
        };
        Ok((manifest, last.state))
    }

    /// Replaces a manifest whose end may hold a torn edit, so that no stale frame can follow.
    pub(crate) fn renew(&mut self, state: &State) -> Result<()> {
        let old = self.dir.join(file_name(self.number));
        let fresh = Self::write_new(
            Arc::clone(&self.vfs),
            Arc::clone(&self.env),
            &self.dir,
            self.key.clone(),
            self.store_id,
            self.number + 1,
            self.seq,
            state,
        )?;
        *self = fresh;
        // A manifest that CURRENT does not name is removed at the next open, too.
        let _ = self.vfs.remove(&old);
        Ok(())
    }

    /// Makes `state` the state. Durable when it returns.
    ///
    /// After an error nothing is known about the file, so the manifest refuses all further edits.
    pub(crate) fn append(&mut self, state: &State) -> Result<()> {
        if self.failed {
            return Err(Error::Poisoned { cause: "an earlier edit of the manifest failed".into() });
        }
        if self.position > ROTATE_BYTES {
            return self.renew(state).inspect_err(|_| self.failed = true);
        }
        let bytes = self.encode(state);
        let path = self.dir.join(file_name(self.number));
        let end = self.position + bytes.len() as u64;
        let done = write_all_at(&*self.file, &bytes, self.position)
            .and_then(|()| if bug("skip_manifest_sync") { Ok(()) } else { self.file.sync_all() });
        if let Err(e) = done {
            self.failed = true;
            return Err(Error::io("write", path, e));
        }
        self.position = end;
        Ok(())
    }

    fn encode(&mut self, state: &State) -> Vec<u8> {
        self.seq += 1;
        let lsn = base_lsn(self.number) + self.position;
        let frame = Frame {
            lsn,
            prev_lsn: self.prev_lsn,
            durable_lsn: lsn,
            seq: self.seq,
            kind: FrameType::Edit,
            flags: 0,
        };
        self.prev_lsn = lsn;
        let mut bytes = Vec::new();
        frame::encode(&mut bytes, &frame, &encode_state(state), self.salt, self.cipher.as_ref());
        bytes.resize(bytes.len().next_multiple_of(ALIGN as usize), 0);
        bytes
    }

    #[expect(clippy::too_many_arguments, reason = "private, called twice")]
    fn write_new(
        vfs: Arc<dyn Vfs>,
        env: Arc<dyn Env>,
        dir: &Path,
        key: Option<MasterKey>,
        store_id: [u8; 16],
        number: u64,
        seq: u64,
        state: &State,
    ) -> Result<Self> {
        let name = file_name(number);
        let path = dir.join(&name);
        let io = |op: &'static str| {
            let path = path.clone();
            move |e| Error::io(op, path, e)
        };
        let file = vfs.open(&path, OpenMode::Create).map_err(io("create"))?;
        let (block, salt, cipher) = header_block(&*env, key.as_ref(), store_id, number);
        let mut manifest = Self {
            vfs,
            env,
            dir: dir.to_path_buf(),
            key,
            store_id,
            number,
            file,
            salt,
            cipher,
            position: ALIGN,
            prev_lsn: base_lsn(number),
            seq,
            failed: false,
        };
        let edit = manifest.encode(state);
        write_all_at(&*manifest.file, &block, 0).map_err(io("write"))?;
        write_all_at(&*manifest.file, &edit, ALIGN).map_err(io("write"))?;
        manifest.file.sync_all().map_err(io("sync"))?;
        manifest.position = ALIGN + edit.len() as u64;
        write_current(&*manifest.vfs, dir, &name)?;
        Ok(manifest)
    }
}

/// A manifest file that holds just this state, for a backup.
pub(crate) fn image(
    env: &dyn Env,
    key: Option<&MasterKey>,
    store_id: [u8; 16],
    number: u64,
    state: &State,
) -> Vec<u8> {
    let (mut image, salt, cipher) = header_block(env, key, store_id, number);
    let base = base_lsn(number);
    let lsn = base + ALIGN;
    let kind = FrameType::Edit;
    let frame = Frame { lsn, prev_lsn: base, durable_lsn: lsn, seq: 1, kind, flags: 0 };
    frame::encode(&mut image, &frame, &encode_state(state), salt, cipher.as_ref());
    image.resize(image.len().next_multiple_of(ALIGN as usize), 0);
    image
}

fn base_lsn(number: u64) -> u64 {
    number << 32
}

pub(crate) fn file_name(number: u64) -> String {
    format!("MANIFEST-{number:06}")
}

/// Write aside, sync, rename, sync the directory.
pub(crate) fn write_current(vfs: &dyn Vfs, dir: &Path, name: &str) -> Result<()> {
    let text = format!("{name} {:08x}\n", crc(0, name.as_bytes()));
    let aside = dir.join("CURRENT.tmp");
    let io = |op: &'static str| move |e| Error::io(op, "CURRENT", e);
    let file = vfs.open(&aside, OpenMode::Create).map_err(io("create"))?;
    write_all_at(&*file, text.as_bytes(), 0).map_err(io("write"))?;
    if !bug("skip_current_sync") {
        file.sync_all().map_err(io("sync"))?;
    }
    // The manifest's own name must be durable before CURRENT can point to it.
    if !bug("skip_manifest_dir_sync") {
        vfs.sync_dir(dir).map_err(io("sync the directory of"))?;
    }
    vfs.rename(&aside, &dir.join("CURRENT")).map_err(io("rename"))?;
    if !bug("skip_current_dir_sync") {
        vfs.sync_dir(dir).map_err(io("sync the directory of"))?;
    }
    Ok(())
}

/// The number of the manifest in force; `NotFound` in `Error::Io` if there is no CURRENT.
pub(crate) fn read_current(vfs: &dyn Vfs, dir: &Path) -> Result<u64> {
    let path = dir.join("CURRENT");
    let bytes = read_file(vfs, &path).map_err(|e| Error::io("read", &path, e))?;
    let bad = || Error::corrupt("CURRENT", 0, "the file is damaged");
    let text = std::str::from_utf8(&bytes).map_err(|_| bad())?;
    let (name, sum) = text.strip_suffix('\n').and_then(|t| t.split_once(' ')).ok_or_else(bad)?;
    if format!("{:08x}", crc(0, name.as_bytes())) != sum {
        return Err(bad());
    }
    let number = name.strip_prefix("MANIFEST-").and_then(|n| n.parse().ok());
    number.filter(|n| file_name(*n) == name).ok_or_else(bad)
}

struct Header {
    version: u32,
    store_id: [u8; 16],
    salt: u32,
    key_salt: [u8; 32],
    check: Vec<u8>,
    end: usize,
}

impl Header {
    fn check_key(&self, key: Option<&MasterKey>, number: u64) -> Result<Option<FileCipher>> {
        match (key, self.check.is_empty()) {
            (None, true) => Ok(None),
            (None, false) => Err(Error::WrongKey("the store is encrypted and no key was given")),
            (Some(_), true) => {
                Err(Error::WrongKey("a key was given but the store is not encrypted"))
            }
            (Some(key), false) => {
                let cipher = key.file_cipher(self.store_id, number | KEY_RANGE, &self.key_salt);
                match cipher.open(0, FILE_HEADER_KIND, &self.check) {
                    Some(clear) if clear == KEY_CHECK => Ok(Some(cipher)),
                    _ => Err(Error::WrongKey("the key does not open this store")),
                }
            }
        }
    }
}

const FILE_HEADER_KIND: u8 = 5;

fn header_block(
    env: &dyn Env,
    key: Option<&MasterKey>,
    store_id: [u8; 16],
    number: u64,
) -> (Vec<u8>, u32, Option<FileCipher>) {
    let salt = env.random() as u32;
    let mut key_salt = [0; 32];
    for part in key_salt.chunks_exact_mut(8) {
        part.copy_from_slice(&env.random().to_le_bytes());
    }
    let cipher = key.map(|key| key.file_cipher(store_id, number | KEY_RANGE, &key_salt));
    let check = cipher.as_ref().map(|c| c.seal(0, FILE_HEADER_KIND, KEY_CHECK)).unwrap_or_default();
    let mut payload = Vec::new();
    payload.extend_from_slice(MAGIC);
    payload.extend_from_slice(&VERSION.to_le_bytes());
    // Feature bits: compatible, read-only compatible, incompatible. None exist yet.
    payload.extend_from_slice(&[0; 12]);
    payload.extend_from_slice(&store_id);
    payload.extend_from_slice(&salt.to_le_bytes());
    payload.extend_from_slice(&key_salt);
    put_bytes(&mut payload, &check);
    let lsn = base_lsn(number);
    let frame =
        Frame { lsn, prev_lsn: 0, durable_lsn: 0, seq: 0, kind: FrameType::FileHeader, flags: 0 };
    let mut block = Vec::with_capacity(ALIGN as usize);
    frame::encode(&mut block, &frame, &payload, 0, None);
    block.resize(ALIGN as usize, 0);
    (block, salt, cipher)
}

fn read_header(image: &[u8], number: u64) -> Option<Header> {
    let found = frame::decode(image, 0, base_lsn(number), 0)?;
    let mut reader = Reader::new(image.get(found.payload.0..found.payload.1)?);
    if found.frame.kind != FrameType::FileHeader || reader.take(8)? != MAGIC {
        return None;
    }
    let version = reader.u32()?;
    let incompatible = {
        reader.u32()?;
        reader.u32()?;
        reader.u32()?
    };
    Some(Header {
        // A feature this program does not know is as bad as a newer version.
        version: if incompatible == 0 { version } else { version.max(VERSION + 1) },
        store_id: reader.array()?,
        salt: reader.u32()?,
        key_salt: reader.array()?,
        check: reader.bytes()?.to_vec(),
        end: found.end,
    })
}

struct Last {
    state: State,
    start: usize,
    lsn: u64,
    seq: u64,
    end: usize,
}

fn read_edits(
    image: &[u8],
    number: u64,
    header: &Header,
    cipher: Option<&FileCipher>,
) -> Result<Last> {
    let name = file_name(number);
    let base = base_lsn(number);
    let mut at = header.end.next_multiple_of(ALIGN as usize);
    let mut last = None;
    let mut prev = base;
    while let Some(found) = frame::decode(image, at, base, header.salt) {
        if found.frame.prev_lsn != prev || found.frame.kind != FrameType::Edit {
            break;
        }
        let payload = frame::payload(image, &found, cipher)
            .map_err(|e| Error::corrupt(&name, at as u64, e))?;
        let state = decode_state(&payload)
            .ok_or_else(|| Error::corrupt(&name, at as u64, "an edit is malformed"))?;
        prev = found.frame.lsn;
        last = Some(Last {
            state,
            start: at,
            lsn: found.frame.lsn,
            seq: found.frame.seq,
            end: found.end,
        });
        at = found.end.next_multiple_of(ALIGN as usize);
    }
    // Every edit was durable before the next was written: a later one proves this one was damaged.
    let mut later = at + ALIGN as usize;
    while later < image.len() {
        if frame::decode(image, later, base, header.salt).is_some() {
            return Err(Error::corrupt(&name, at as u64, "an edit is damaged"));
        }
        later += ALIGN as usize;
    }
    last.ok_or_else(|| Error::corrupt(&name, at as u64, "the first edit is damaged"))
}

fn encode_state(state: &State) -> Vec<u8> {
    let mut out = Vec::with_capacity(64 + state.segments.len() * 80);
    for number in [state.next_file, state.flushed_seq, state.wal_floor, state.wal_file_bytes] {
        put_varint(&mut out, number);
    }
    put_varint(&mut out, state.segments.len() as u64);
    for (level, info) in &state.segments {
        out.push(*level);
        for number in [info.number, info.bytes, info.entries, info.tombstones, info.max_seq] {
            put_varint(&mut out, number);
        }
        put_bytes(&mut out, &info.min_key);
        put_bytes(&mut out, &info.max_key);
    }
    out
}

fn decode_state(bytes: &[u8]) -> Option<State> {
    let mut reader = Reader::new(bytes);
    let mut state = State {
        next_file: reader.varint()?,
        flushed_seq: reader.varint()?,
        wal_floor: reader.varint()?,
        wal_file_bytes: reader.varint()?,
        segments: Vec::new(),
    };
    for _ in 0..reader.varint()? {
        let level = reader.u8()?;
        let info = SegmentInfo {
            number: reader.varint()?,
            bytes: reader.varint()?,
            entries: reader.varint()?,
            tombstones: reader.varint()?,
            max_seq: reader.varint()?,
            min_key: reader.bytes()?.to_vec(),
            max_key: reader.bytes()?.to_vec(),
        };
        state.segments.push((level, info));
    }
    (reader.is_empty() && state.wal_file_bytes >= 4 * ALIGN).then_some(state)
}

/// Decodes an untrusted manifest image; for fuzzing.
#[cfg(any(test, feature = "testing"))]
pub(crate) fn decode_untrusted(image: &[u8]) -> bool {
    let state = decode_state(image).is_some();
    let header = read_header(image, 1);
    state || header.is_some_and(|h| read_edits(image, 1, &h, None).is_ok())
}
