//! A folder of files.

use std::{
    fs, io,
    io::Write as _,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use super::{Storage, StorageError, StorageFuture, StorageLock, check_key, lease};

/// Keeps each value as a file of its own, readable by its owner only, and replaced by renaming.
#[derive(Debug, Clone)]
pub struct FileStorage {
    root: PathBuf,
    lock_kind: LockKind,
}

/// How a [`FileStorage`] locks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum LockKind {
    /// By the kernel (`flock`), which frees the locks of a dead process at once. For local disks.
    #[default]
    Kernel,
    /// By a file that its holder touches every 5 s and that is void after 10 s without. For network
    /// file systems whose locks do not reach other machines; their clocks must agree within seconds.
    Lease,
}

impl FileStorage {
    /// Keeps everything beneath `root`, which is made where it is missing.
    ///
    /// # Errors
    /// [`StorageError::Io`] where that is not possible.
    pub fn open(root: impl Into<PathBuf>) -> Result<Self, StorageError> {
        let root = root.into();
        create_folder(&root).map_err(|source| failed("create", &root, source))?;
        Ok(Self { root, lock_kind: LockKind::default() })
    }

    /// Changes how it locks. Everybody who shares the folder must lock in the same way.
    #[must_use]
    pub fn with_locks(mut self, kind: LockKind) -> Self {
        self.lock_kind = kind;
        self
    }

    /// The folder.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Runs `work` where it may block.
    fn blocking<T: Send + 'static>(
        &self,
        key: &str,
        work: impl FnOnce(&Path) -> Result<T, StorageError> + Send + 'static,
    ) -> StorageFuture<'static, T> {
        if let Err(error) = check_key(key) {
            return Box::pin(std::future::ready(Err(error)));
        }
        let path = self.root.join(key);
        Box::pin(async move {
            let joined = tokio::task::spawn_blocking(move || work(&path)).await;
            joined.unwrap_or_else(|error| {
                let source = io::Error::other(error);
                Err(StorageError::Io { action: "reach", what: "the storage".into(), source })
            })
        })
    }
}

impl Storage for FileStorage {
    fn load<'a>(&'a self, key: &'a str) -> StorageFuture<'a, Option<Vec<u8>>> {
        self.blocking(key, |path| match fs::read(path) {
            Ok(value) => Ok(Some(value)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed("read", path, error)),
        })
    }

    fn store<'a>(&'a self, key: &'a str, value: &'a [u8]) -> StorageFuture<'a, ()> {
        let value = value.to_vec();
        self.blocking(key, move |path| {
            replace(path, &value).map_err(|error| failed("write", path, error))
        })
    }

    fn remove<'a>(&'a self, key: &'a str) -> StorageFuture<'a, ()> {
        self.blocking(key, |path| match fs::remove_file(path) {
            Ok(()) => sync_folder(path).map_err(|error| failed("remove", path, error)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(failed("remove", path, error)),
        })
    }

    fn list<'a>(&'a self, prefix: &'a str) -> StorageFuture<'a, Vec<String>> {
        let folder = prefix.to_owned();
        self.blocking(prefix, move |path| {
            let entries = match fs::read_dir(path) {
                Ok(entries) => entries,
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
                Err(error) => return Err(failed("list", path, error)),
            };
            let names = entries.flatten().filter(|entry| entry.path().is_file());
            let names = names.filter_map(|entry| entry.file_name().into_string().ok());
            // Temporary files of writers that died are no values.
            let keys = names.map(|name| format!("{folder}/{name}"));
            let mut keys: Vec<_> = keys.filter(|key| check_key(key).is_ok()).collect();
            keys.sort();
            Ok(keys)
        })
    }

    fn try_lock<'a>(&'a self, name: &'a str) -> StorageFuture<'a, Option<StorageLock>> {
        let key = format!("locks/{name}.lock");
        if let Err(error) = check_key(&key) {
            return Box::pin(std::future::ready(Err(error)));
        }
        if self.lock_kind == LockKind::Lease || cfg!(not(unix)) {
            let path = self.root.join(&key);
            return Box::pin(lease::try_take(path));
        }
        self.blocking(&key, |path| kernel_lock(path).map_err(|error| failed("lock", path, error)))
    }
}

#[cfg(unix)]
fn kernel_lock(path: &Path) -> io::Result<Option<StorageLock>> {
    use rustix::fs::{FlockOperation, flock};
    static TOKENS: AtomicU64 = AtomicU64::new(1);
    if let Some(folder) = path.parent() {
        create_folder(folder)?;
    }
    let file = private_options().truncate(false).open(path)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(StorageLock::new(TOKENS.fetch_add(1, Ordering::Relaxed), file))),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

#[cfg(not(unix))]
fn kernel_lock(_path: &Path) -> io::Result<Option<StorageLock>> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Writes beside `path` and renames, so that a crash leaves the old or the new content.
pub(crate) fn replace(path: &Path, value: &[u8]) -> io::Result<()> {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    if let Some(folder) = path.parent() {
        create_folder(folder)?;
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let count = COUNTER.fetch_add(1, Ordering::Relaxed);
    let temporary = path.with_file_name(format!(".{name}.{}-{count}", std::process::id()));
    let mut file = private_options().truncate(true).open(&temporary)?;
    let written = file.write_all(value).and_then(|()| file.sync_all());
    drop(file);
    let renamed = written.and_then(|()| fs::rename(&temporary, path));
    if renamed.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    renamed?;
    sync_folder(path)
}

/// The options of a file that only its owner may read.
pub(super) fn private_options() -> fs::OpenOptions {
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

pub(super) fn create_folder(folder: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}

/// Makes a rename or a removal survive power loss.
#[cfg(unix)]
fn sync_folder(path: &Path) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::File::open(folder)?.sync_all()?;
    }
    Ok(())
}

/// Elsewhere folders are no files that could be written back.
#[cfg(not(unix))]
fn sync_folder(_path: &Path) -> io::Result<()> {
    Ok(())
}

pub(super) fn failed(action: &'static str, path: &Path, source: io::Error) -> StorageError {
    StorageError::Io { action, what: path.display().to_string(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn keeps_replaces_lists_and_removes() {
        let dir = tempfile::tempdir().expect("a directory");
        let storage = FileStorage::open(dir.path().join("deep/er")).expect("a storage");
        assert_eq!(storage.load("a/b").await.expect("read"), None);
        storage.store("a/b", b"one").await.expect("written");
        storage.store("a/b", b"two").await.expect("written");
        storage.store("a/c", b"").await.expect("written");
        assert_eq!(storage.load("a/b").await.expect("read").as_deref(), Some(&b"two"[..]));
        fs::write(storage.root().join("a/.b.1-2"), b"left behind").expect("written");
        assert_eq!(storage.list("a").await.expect("listed"), ["a/b", "a/c"]);
        assert_eq!(storage.list("nothing").await.expect("listed"), Vec::<String>::new());
        storage.remove("a/b").await.expect("removed");
        storage.remove("a/b").await.expect("was not there");
        assert_eq!(storage.load("a/b").await.expect("read"), None);
        assert!(matches!(storage.load("../x").await, Err(StorageError::Key { .. })));
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = |path: &str| {
                fs::metadata(storage.root().join(path)).expect("there").permissions().mode() & 0o777
            };
            assert_eq!((mode("a"), mode("a/c")), (0o700, 0o600));
        }
    }

    #[tokio::test]
    async fn locks_exclude_each_other() {
        for kind in [LockKind::Kernel, LockKind::Lease] {
            let dir = tempfile::tempdir().expect("a directory");
            let open = || FileStorage::open(dir.path()).expect("a storage").with_locks(kind);
            let (one, two) = (open(), open());
            let lock = one.try_lock("x").await.expect("works").expect("is free");
            assert!(two.try_lock("x").await.expect("works").is_none(), "{kind:?}");
            assert!(two.try_lock("y").await.expect("works").is_some(), "{kind:?}");
            let token = lock.token();
            drop(lock);
            let again = two.try_lock("x").await.expect("works").expect("is free");
            assert!(again.token() > token, "{kind:?}");
        }
    }
}
