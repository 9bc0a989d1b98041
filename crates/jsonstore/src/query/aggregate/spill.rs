//! Sorting more rows than fit into memory: sorted runs in temporary files, merged at the end.

use std::{cmp::Reverse, collections::BinaryHeap, path::PathBuf, sync::Arc};

use bytes::Bytes;

use super::{Context, run::too_large};
use crate::{
    codec::{Reader, put_bytes},
    crypt::{FileCipher, MasterKey},
    error::{Error, Result},
    vfs::{OpenMode, VFile, Vfs, read_exact_at, write_all_at},
};

/// Runs that are merged at once; more are merged into one first. Each takes a frame of memory.
const RUNS_MAX: usize = 32;
/// Bytes of rows that are sealed and written together; a longer row is a frame of its own.
const FRAME_BYTES: usize = 32 << 10;
/// What a row takes besides its bytes, roughly.
const ROW_BYTES: usize = 64;

pub(super) type Row = (Vec<u8>, Bytes);
pub(super) type SortedRows = Box<dyn Iterator<Item = Result<Row>> + Send>;

/// Takes rows in any order and gives them sorted by key; rows of one key keep their order.
pub(super) struct Sorter {
    context: Context,
    memory: usize,
    /// Only so many of the first rows are wanted.
    limit: Option<usize>,
    rows: Vec<Row>,
    bytes: usize,
    runs: Vec<Run>,
    spilled: u64,
}

impl Sorter {
    pub(super) fn new(context: &Context, memory: usize, limit: Option<usize>) -> Self {
        Self {
            context: context.clone(),
            memory,
            limit,
            rows: Vec::new(),
            bytes: 0,
            runs: Vec::new(),
            spilled: 0,
        }
    }

    pub(super) fn push(&mut self, key: Vec<u8>, row: Bytes) -> Result<()> {
        self.bytes += key.len() + row.len() + ROW_BYTES;
        self.rows.push((key, row));
        if let Some(limit) = self.limit
            && self.rows.len() >= limit.saturating_mul(2).max(64)
        {
            self.sort();
        }
        if self.bytes > self.memory {
            self.sort();
            // The limit may have made room.
            if self.bytes > self.memory / 2 {
                self.spill()?;
            }
        }
        Ok(())
    }

    pub(super) fn finish(mut self) -> Result<SortedRows> {
        self.sort();
        if self.runs.is_empty() {
            return Ok(Box::new(self.rows.into_iter().map(Ok)));
        }
        self.spill()?;
        Ok(Box::new(Merge::new(self.runs)?))
    }

    fn sort(&mut self) {
        self.rows.sort_by(|a, b| a.0.cmp(&b.0));
        if let Some(limit) = self.limit
            && limit < self.rows.len()
        {
            self.rows.truncate(limit);
            let size = |row: &Row| row.0.len() + row.1.len() + ROW_BYTES;
            self.bytes = self.rows.iter().map(size).sum();
        }
    }

    fn spill(&mut self) -> Result<()> {
        if self.runs.len() == RUNS_MAX {
            let merged = Merge::new(std::mem::take(&mut self.runs))?;
            let run = self.write(merged)?;
            self.runs.push(run);
        }
        let rows = std::mem::take(&mut self.rows);
        self.bytes = 0;
        let run = self.write(rows.into_iter().map(Ok))?;
        self.runs.push(run);
        Ok(())
    }

    fn write(&mut self, rows: impl Iterator<Item = Result<Row>>) -> Result<Run> {
        let mut run = Run::create(&self.context)?;
        let mut frame = Vec::with_capacity(FRAME_BYTES + 1024);
        for row in rows {
            let (key, row) = row?;
            put_bytes(&mut frame, &key);
            put_bytes(&mut frame, &row);
            if frame.len() >= FRAME_BYTES {
                self.spilled += run.append(&frame)?;
                frame.clear();
            }
            if self.spilled > self.context.spill_bytes_max {
                return Err(too_large("bytes of temporary files", self.context.spill_bytes_max));
            }
        }
        self.spilled += run.append(&frame)?;
        Ok(run)
    }
}

/// Sorted rows in a file, which goes when this does.
struct Run {
    vfs: Arc<dyn Vfs>,
    path: PathBuf,
    file: Arc<dyn VFile>,
    cipher: FileCipher,
    len: u64,
    /// Where the next frame is read.
    at: u64,
    frame: Vec<u8>,
    frame_at: usize,
}

impl Run {
    fn create(context: &Context) -> Result<Self> {
        let random = || context.env.random();
        let path = context.folder.join(format!("spill-{:016x}.tmp", random()));
        let mut secret = [0; 32];
        for piece in secret.chunks_mut(8) {
            piece.copy_from_slice(&random().to_le_bytes());
        }
        // Nobody else ever reads the file, so nobody else gets the key.
        let cipher = MasterKey::new(secret).file_cipher([0; 16], 0, &[0; 32]);
        let file = context.vfs.open(&path, OpenMode::Create);
        let file = file.map_err(|error| Error::io("create", &path, error))?;
        let vfs = Arc::clone(&context.vfs);
        Ok(Self { vfs, path, file, cipher, len: 0, at: 0, frame: Vec::new(), frame_at: 0 })
    }

    /// Length and sealed bytes.
    fn append(&mut self, frame: &[u8]) -> Result<u64> {
        if frame.is_empty() {
            return Ok(0);
        }
        let sealed = self.cipher.seal(self.len, 0, frame);
        let mut bytes = Vec::with_capacity(sealed.len() + 4);
        bytes.extend_from_slice(&(sealed.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&sealed);
        let written = write_all_at(&*self.file, &bytes, self.len);
        written.map_err(|error| Error::io("write", &self.path, error))?;
        self.len += bytes.len() as u64;
        Ok(bytes.len() as u64)
    }

    fn next(&mut self) -> Result<Option<Row>> {
        if self.frame_at == self.frame.len() && !self.read_frame()? {
            return Ok(None);
        }
        let mut reader = Reader::at(&self.frame, self.frame_at);
        let row = reader.bytes().and_then(|key| Some((key.to_vec(), reader.bytes()?)));
        let (key, row) = row.ok_or_else(|| self.damaged())?;
        let row = (key, Bytes::copy_from_slice(row));
        self.frame_at = reader.position();
        Ok(Some(row))
    }

    fn read_frame(&mut self) -> Result<bool> {
        if self.at == self.len {
            return Ok(false);
        }
        let mut head = [0; 4];
        let read = |into: &mut [u8], at| {
            read_exact_at(&*self.file, into, at)
                .map_err(|error| Error::io("read", &self.path, error))
        };
        read(&mut head, self.at)?;
        let len = u64::from(u32::from_le_bytes(head));
        if len > self.len - self.at {
            return Err(self.damaged());
        }
        let mut sealed = vec![0; len as usize];
        read(&mut sealed, self.at + 4)?;
        let frame = self.cipher.open(self.at, 0, &sealed).ok_or_else(|| self.damaged())?;
        self.frame = frame;
        self.frame_at = 0;
        self.at += 4 + len;
        Ok(true)
    }

    fn damaged(&self) -> Error {
        Error::corrupt(self.path.display(), self.at, "a temporary file changed while it was used")
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let _ = self.vfs.remove(&self.path);
    }
}

/// The rows of all runs, sorted; of equal keys those of the earlier run first.
struct Merge {
    runs: Vec<Run>,
    heads: BinaryHeap<Reverse<(Vec<u8>, usize, Bytes)>>,
}

impl Merge {
    fn new(mut runs: Vec<Run>) -> Result<Self> {
        let mut heads = BinaryHeap::with_capacity(runs.len());
        for (i, run) in runs.iter_mut().enumerate() {
            if let Some((key, row)) = run.next()? {
                heads.push(Reverse((key, i, row)));
            }
        }
        Ok(Self { runs, heads })
    }
}

impl Iterator for Merge {
    type Item = Result<Row>;

    fn next(&mut self) -> Option<Result<Row>> {
        let Reverse((key, i, row)) = self.heads.pop()?;
        match self.runs[i].next() {
            Ok(Some((key, row))) => self.heads.push(Reverse((key, i, row))),
            Ok(None) => {}
            Err(error) => return Some(Err(error)),
        }
        Some(Ok((key, row)))
    }
}
