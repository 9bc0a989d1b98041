//! Everything the store asks of a disk. Tests swap in one that fails, tears and forgets.

#[cfg(target_os = "linux")]
mod direct;
#[cfg(feature = "mmap")]
mod map;
mod real;
#[cfg(any(test, feature = "testing"))]
pub(crate) mod sim;

use std::{any::Any, fmt, io, path::Path, sync::Arc};

pub use self::real::RealVfs;

/// How a file is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenMode {
    /// It must exist; reading only.
    Read,
    /// It must exist; reading and writing.
    Write,
    /// It is created, or emptied if it exists.
    Create,
}

/// Holds a lock on a directory until dropped.
pub type LockGuard = Box<dyn Any + Send + Sync>;

/// A file system. Creation, renaming and removal survive power loss only after `sync_dir`.
pub trait Vfs: Send + Sync + fmt::Debug {
    /// Opens a file.
    ///
    /// # Errors
    /// Whatever the system says; `NotFound` and `StorageFull` are acted upon.
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn VFile>>;
    /// Renames a file, replacing the target; or a directory, where the target is absent or empty.
    ///
    /// # Errors
    /// Whatever the system says.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    ///
    /// # Errors
    /// Whatever the system says.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Makes the entries of a directory durable.
    ///
    /// # Errors
    /// Whatever the system says.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
    /// Names of what is in a directory, sorted; an absent directory is `NotFound`.
    ///
    /// # Errors
    /// Whatever the system says.
    fn list(&self, path: &Path) -> io::Result<Vec<String>>;
    /// Creates a directory and its parents.
    ///
    /// # Errors
    /// Whatever the system says.
    fn create_dir(&self, path: &Path) -> io::Result<()>;
    /// Gives a file a second name, which like a creation survives power loss only after `sync_dir`.
    ///
    /// # Errors
    /// Whatever the system says; callers then copy. Not every disk can, so the default cannot.
    fn link(&self, _from: &Path, _to: &Path) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
    /// Removes an empty directory.
    ///
    /// # Errors
    /// Whatever the system says; one that stays does no harm.
    fn remove_dir(&self, _path: &Path) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
    /// Takes the lock file at `path`; `WouldBlock` if another process holds it.
    ///
    /// # Errors
    /// Whatever the system says.
    fn lock(&self, path: &Path) -> io::Result<LockGuard>;
    /// Free bytes on the file system of `path`.
    ///
    /// # Errors
    /// Whatever the system says.
    fn free_space(&self, path: &Path) -> io::Result<u64>;
}

#[expect(clippy::len_without_is_empty, reason = "a file is asked for its length only")]
/// An open file. Reads and writes may be short; `read_exact_at` and `write_all_at` loop.
pub trait VFile: Send + Sync + fmt::Debug {
    /// Reads at an offset; 0 means end of file.
    ///
    /// # Errors
    /// Whatever the system says.
    fn pread(&self, into: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Writes at an offset, growing the file if needed.
    ///
    /// # Errors
    /// Whatever the system says.
    fn pwrite(&self, bytes: &[u8], offset: u64) -> io::Result<usize>;
    /// When this returns `Ok`, every earlier write of this file survives power loss.
    ///
    /// # Errors
    /// After an error the state of unsynced bytes is unknown; it must not be retried.
    fn sync_data(&self) -> io::Result<()>;
    /// Writes all of `bytes` at an offset: when this returns `Ok`, they survive power loss. Whether
    /// earlier writes do is not said.
    ///
    /// # Errors
    /// As `pwrite` and `sync_data`; it must not be retried.
    fn write_durably(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        write_all_at(self, bytes, offset)?;
        self.sync_data()
    }
    /// As `sync_data`, with all metadata of the file.
    ///
    /// # Errors
    /// As `sync_data`.
    fn sync_all(&self) -> io::Result<()>;
    /// Cuts or extends with zeros.
    ///
    /// # Errors
    /// Whatever the system says.
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// The length in bytes.
    ///
    /// # Errors
    /// Whatever the system says.
    fn len(&self) -> io::Result<u64>;
    /// The file as memory, or `None` where that cannot be. It is asked for only of files that are
    /// never written again.
    ///
    /// # Errors
    /// Whatever the system says; the file is then read instead.
    fn map(&self) -> io::Result<Option<Arc<dyn Mapped>>> {
        Ok(None)
    }
}

/// A file as memory.
pub trait Mapped: AsRef<[u8]> + Send + Sync + fmt::Debug {
    /// Lets the system take back the pages; touching them reads the file again.
    ///
    /// # Errors
    /// Whatever the system says.
    fn evict(&self) -> io::Result<()>;
}

/// Fills `into` or fails with `UnexpectedEof`.
pub(crate) fn read_exact_at(
    file: &dyn VFile,
    mut into: &mut [u8],
    mut offset: u64,
) -> io::Result<()> {
    while !into.is_empty() {
        match file.pread(into, offset) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(n) => {
                into = into.get_mut(n..).unwrap_or_default();
                offset += n as u64;
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// Reads a whole file, as far as it goes.
pub(crate) fn read_file(vfs: &dyn Vfs, path: &Path) -> io::Result<Vec<u8>> {
    let file = vfs.open(path, OpenMode::Read)?;
    let len = usize::try_from(file.len()?).unwrap_or(usize::MAX);
    let mut bytes = vec![0; len];
    read_exact_at(&*file, &mut bytes, 0)?;
    Ok(bytes)
}

/// Writes all of `bytes`.
pub(crate) fn write_all_at(
    file: &(impl VFile + ?Sized),
    mut bytes: &[u8],
    mut offset: u64,
) -> io::Result<()> {
    while !bytes.is_empty() {
        match file.pwrite(bytes, offset) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(n) => {
                bytes = bytes.get(n..).unwrap_or_default();
                offset += n as u64;
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}
