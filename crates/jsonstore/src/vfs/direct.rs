//! Writes past the system's cache that are durable when they return: one call to the system for two,
//! and nothing is copied.

use std::{
    fs::File,
    io::{self, IoSlice},
    os::fd::AsRawFd,
    sync::{
        OnceLock,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use rustix::{
    fs::{Mode, OFlags, open},
    io::{Errno, ReadWriteFlags, pwritev2},
};

/// What a direct write begins and ends on, in the file and in memory: what every disk in use asks for, or more.
const ALIGN: usize = 4096;

/// A second descriptor of a file.
#[derive(Debug, Default)]
pub(super) struct Direct {
    /// Opened for the first direct write, if that can be.
    file: OnceLock<Option<File>>,
    /// It can be opened so, but not written.
    is_refused: AtomicBool,
}

impl Direct {
    /// How much of `bytes` was written and survives power loss: 0 where that cannot be done directly.
    ///
    /// # Errors
    /// Whatever the system says; it must not be retried.
    pub(super) fn write(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<usize> {
        let begins = [bytes.as_ptr().addr(), bytes.len(), offset as usize];
        if begins.iter().any(|begin| begin % ALIGN != 0) || self.is_refused.load(Relaxed) {
            return Ok(0);
        }
        let Some(direct) = self.file.get_or_init(|| reopen(file)) else { return Ok(0) };
        match pwritev2(direct, &[IoSlice::new(bytes)], offset, ReadWriteFlags::DSYNC) {
            Err(Errno::INTR) => Ok(0),
            // The file system, or an old kernel, knows no such write: nothing was written.
            Err(Errno::INVAL | Errno::OPNOTSUPP | Errno::NOSYS) => {
                self.is_refused.store(true, Relaxed);
                Ok(0)
            }
            written => Ok(written?),
        }
    }
}

fn reopen(file: &File) -> Option<File> {
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    let flags = OFlags::WRONLY | OFlags::DIRECT | OFlags::CLOEXEC;
    open(path, flags, Mode::empty()).ok().map(File::from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vfs::{OpenMode, RealVfs, Vfs, read_exact_at, write_all_at};

    /// Sizes that begin and end on a boundary and such that do not, between writes of the other kind.
    #[test]
    fn both_kinds_of_writes_see_each_other() {
        let dir = tempfile::tempdir().unwrap();
        let file = RealVfs.open(&dir.path().join("log"), OpenMode::Create).unwrap();
        let mut model = vec![0; 16 * ALIGN];
        write_all_at(&*file, &model, 0).unwrap();
        let mut memory = vec![0; 6 * ALIGN];
        let boundary = memory.as_ptr().addr().wrapping_neg() % ALIGN;
        let writes = [(0, 0, 1), (0, 1, 4), (0, 3, 2), (7, 5, 1), (0, 14, 2), (0, 14, 1)];
        for (round, (shift, block, blocks)) in writes.into_iter().enumerate() {
            memory.fill(round as u8 + 1);
            let bytes = &memory[boundary + shift..][..blocks * ALIGN];
            let at = block * ALIGN;
            file.write_durably(bytes, at as u64).unwrap();
            model[at..at + bytes.len()].copy_from_slice(bytes);
            // Dirty in the cache when the next one comes.
            file.pwrite(b"cached", at as u64 + 100).unwrap();
            model[at + 100..at + 106].copy_from_slice(b"cached");
            let mut read = vec![0; model.len()];
            read_exact_at(&*file, &mut read, 0).unwrap();
            assert!(read == model, "round {round}");
        }
        assert_eq!(file.len().unwrap(), model.len() as u64);
    }

    #[test]
    fn what_is_on_no_boundary_is_left_to_others() {
        let file = tempfile::tempfile().unwrap();
        let memory = vec![0; 3 * ALIGN];
        let boundary = memory.as_ptr().addr().wrapping_neg() % ALIGN;
        for (bytes, offset) in [
            (&memory[boundary + 1..][..ALIGN], 0),
            (&memory[boundary..][..ALIGN - 1], 0),
            (&memory[boundary..][..ALIGN], 512),
        ] {
            assert_eq!(Direct::default().write(&file, bytes, offset).unwrap(), 0);
        }
        assert_eq!(file.metadata().unwrap().len(), 0, "nothing was written");
    }
}
