//! Pieces of a file, without stalling the others of the worker on a disk.

use std::{
    fs::File,
    future::Future,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use tokio::task::JoinHandle;

use crate::{
    FileBody,
    pool::{self, Pool},
};

/// Reads a [`FileBody`] piece by piece: at once what the page cache holds, the rest on the blocking pool.
pub(crate) struct Pieces {
    file: FileBody,
    reading: Option<JoinHandle<io::Result<Bytes>>>,
}

impl Pieces {
    pub(crate) fn new(file: FileBody) -> Self {
        Self { file, reading: None }
    }

    /// What is still to come.
    pub(crate) fn left(&self) -> u64 {
        self.file.len
    }

    /// The next piece, of about `wanted` bytes at most; not to be called when nothing is left.
    pub(crate) fn poll_piece(
        &mut self,
        cx: &mut Context<'_>,
        wanted: usize,
    ) -> Poll<io::Result<Bytes>> {
        if self.reading.is_none() {
            let mut file = self.file.clone();
            file.len = file.len.min(wanted.max(WANTED_MIN) as u64);
            match read_now(&file)? {
                Ok(piece) => return Poll::Ready(self.took(piece)),
                Err(memory) => {
                    self.reading =
                        Some(tokio::task::spawn_blocking(move || read_later(&file, memory)));
                }
            }
        }
        let Some(reading) = &mut self.reading else { return Poll::Pending };
        let joined = ready!(Pin::new(reading).poll(cx));
        self.reading = None;
        Poll::Ready(joined.map_err(io::Error::other)?.and_then(|piece| self.took(piece)))
    }

    fn took(&mut self, piece: Bytes) -> io::Result<Bytes> {
        if piece.is_empty() {
            // The length was promised, so this cannot be an end.
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.file.offset += piece.len() as u64;
        self.file.len -= piece.len() as u64;
        Ok(piece)
    }
}

/// Reads what costs no wait; otherwise answers the memory into which to read.
fn read_now(file: &FileBody) -> io::Result<Result<Bytes, Memory>> {
    let mut memory = Memory::take(file.len);
    let Some(len) = read_cached(file, memory.room())? else { return Ok(Err(memory)) };
    Ok(Ok(memory.into_bytes(len)))
}

fn read_later(file: &FileBody, mut memory: Memory) -> io::Result<Bytes> {
    let len = read_at(file, memory.room())?;
    Ok(memory.into_bytes(len))
}

#[cfg(target_os = "linux")]
fn read_cached(file: &FileBody, room: &mut [u8]) -> io::Result<Option<usize>> {
    use rustix::io::{Errno, ReadWriteFlags, preadv2};
    let room_len = room.len();
    let mut slices = [io::IoSliceMut::new(room)];
    match preadv2(&file.file, &mut slices, file.offset, ReadWriteFlags::NOWAIT) {
        // Less than asked for: the rest is not in the cache; what is there goes first.
        Ok(len) => Ok(Some(len)),
        Err(Errno::AGAIN) => Ok(None),
        // File systems that cannot tell, for instance some that live in memory: small reads are worth the risk.
        Err(Errno::OPNOTSUPP) if room_len <= INLINE_MAX => read_at(file, room).map(Some),
        Err(Errno::OPNOTSUPP) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

#[cfg(not(target_os = "linux"))]
fn read_cached(file: &FileBody, room: &mut [u8]) -> io::Result<Option<usize>> {
    if room.len() <= INLINE_MAX { read_at(file, room).map(Some) } else { Ok(None) }
}

fn read_at(file: &FileBody, room: &mut [u8]) -> io::Result<usize> {
    loop {
        match read_file_at(&file.file, room, file.offset) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            read => return read,
        }
    }
}

/// Reads from a place of a file, wherever others read in it.
pub(crate) fn read_file_at(file: &File, room: &mut [u8], offset: u64) -> io::Result<usize> {
    #[cfg(unix)]
    return std::os::unix::fs::FileExt::read_at(file, room, offset);
    // It moves the file's own position, too, which nobody here goes by.
    #[cfg(windows)]
    return std::os::windows::fs::FileExt::seek_read(file, room, offset);
}

/// Memory for one piece, kept by the thread: a fresh one would have to be cleared each time.
struct Memory {
    bytes: Vec<u8>,
    len: usize,
}

impl Memory {
    /// For at most `len` bytes.
    fn take(len: u64) -> Self {
        let len = usize::try_from(len).map_or(FileBody::PIECE, |len| len.min(FileBody::PIECE));
        if len <= SMALL_MAX {
            // A piece that a peer lets lie for long must not hold memory for a large one.
            return Self { bytes: vec![0; len], len };
        }
        let kept = pool::take(&KEPT);
        Self { bytes: kept.unwrap_or_else(|| vec![0; FileBody::PIECE]), len }
    }

    fn room(&mut self) -> &mut [u8] {
        self.bytes.get_mut(..self.len).unwrap_or_default()
    }

    fn into_bytes(mut self, len: usize) -> Bytes {
        self.len = len;
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for Memory {
    fn as_ref(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        if self.bytes.len() == FileBody::PIECE {
            pool::give(&KEPT, std::mem::take(&mut self.bytes));
        }
    }
}

thread_local! {
    /// At most 1 MiB for each thread.
    static KEPT: Pool<Vec<u8>> = const { Pool::new(16) };
}

/// The least that is read at a time, if there is as much.
const WANTED_MIN: usize = 1024;
/// Pieces up to this size get memory of their own size.
const SMALL_MAX: usize = 4 * 1024;
/// Read without leaving the thread where the page cache cannot be asked.
const INLINE_MAX: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use std::{io::Write, sync::Arc};

    use super::*;

    async fn pieces(contents: &[u8], offset: u64, len: u64) -> io::Result<Vec<u8>> {
        let mut file = tempfile::tempfile()?;
        file.write_all(contents)?;
        let mut pieces = Pieces::new(FileBody { file: Arc::new(file), offset, len });
        let mut all = Vec::new();
        while pieces.left() > 0 {
            all.extend_from_slice(
                &std::future::poll_fn(|cx| pieces.poll_piece(cx, usize::MAX)).await?,
            );
        }
        Ok(all)
    }

    #[tokio::test]
    async fn a_range_comes_whole() {
        let contents: Vec<u8> = (0..200_000u32).map(|index| index as u8).collect();
        let all = pieces(&contents, 10, 150_000).await.unwrap();
        assert!(all == contents[10..150_010]);
    }

    #[tokio::test]
    async fn a_shorter_file_is_an_error() {
        let error = pieces(b"short", 0, 6).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }
}
