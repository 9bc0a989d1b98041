//! Where certificates, keys, accounts and the state of orders are kept.

mod file;
mod lease;
mod memory;

use std::{any::Any, fmt, future::Future, io, pin::Pin, time::Duration};

pub(crate) use self::file::replace;
pub use self::{
    file::{FileStorage, LockKind},
    memory::MemoryStorage,
};

/// What a [`Storage`] answers with.
pub type StorageFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, StorageError>> + Send + 'a>>;

/// Keeps small values by key, and locks. Several processes, or machines, may share one.
///
/// A key is a path of one or more segments, `certificates/example.com.pem`; see [`check_key`].
///
/// # Cancel safety
/// Implementations must make [`store`](Self::store) all or nothing: after a crash at any moment the
/// old or the new value is there, whole.
pub trait Storage: fmt::Debug + Send + Sync + 'static {
    /// The value of `key`, `None` where there is none.
    fn load<'a>(&'a self, key: &'a str) -> StorageFuture<'a, Option<Vec<u8>>>;

    /// Sets `key` to `value`, durably and at once. Values hold private keys: nobody else may read them.
    fn store<'a>(&'a self, key: &'a str, value: &'a [u8]) -> StorageFuture<'a, ()>;

    /// Removes `key`; that there was none is no error.
    fn remove<'a>(&'a self, key: &'a str) -> StorageFuture<'a, ()>;

    /// The keys directly beneath the folder `prefix`, sorted.
    fn list<'a>(&'a self, prefix: &'a str) -> StorageFuture<'a, Vec<String>>;

    /// Takes the lock `name`, or answers `None` at once where somebody has it. The lock of a process
    /// that died must become free by itself.
    fn try_lock<'a>(&'a self, name: &'a str) -> StorageFuture<'a, Option<StorageLock>>;
}

/// A lock, held until it is dropped.
pub struct StorageLock {
    token: u64,
    _held: Box<dyn Any + Send>,
}

/// The storage failed. Whoever runs this machine must act.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StorageError {
    /// The key is no path of permitted segments: a bug in the caller.
    #[error("{key:?} is no key of a storage")]
    Key {
        /// The key.
        key: String,
    },
    /// The medium failed, is full, or denies access.
    #[error("cannot {action} {what}: check the disk's space and that this user may write there")]
    Io {
        /// What was being done.
        action: &'static str,
        /// The file or key.
        what: String,
        /// What the system says.
        source: io::Error,
    },
}

impl StorageLock {
    /// A lock that ends when `held` is dropped. Each time a lock changes hands `token` must grow, so that
    /// storages that fence can refuse a holder that was thought dead.
    pub fn new(token: u64, held: impl Any + Send) -> Self {
        Self { token, _held: Box::new(held) }
    }

    /// The fencing token.
    #[must_use]
    pub fn token(&self) -> u64 {
        self.token
    }
}

impl fmt::Debug for StorageLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StorageLock").field("token", &self.token).finish_non_exhaustive()
    }
}

/// Whether `key` is one: segments of `[A-Za-z0-9._+@-]`, not beginning with a dot, with `/` between.
///
/// # Errors
/// [`StorageError::Key`] where it is not.
pub fn check_key(key: &str) -> Result<(), StorageError> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._+@-".contains(&byte);
    let is_segment = |segment: &str| {
        !segment.is_empty()
            && segment.len() <= 255
            && !segment.starts_with('.')
            && segment.bytes().all(allowed)
    };
    if key.split('/').all(is_segment) {
        return Ok(());
    }
    Err(StorageError::Key { key: key.to_owned() })
}

/// Waits for a lock, at most that long.
pub(crate) async fn lock_within(
    storage: &dyn Storage,
    name: &str,
    patience: Duration,
) -> Result<Option<StorageLock>, StorageError> {
    const PAUSE: Duration = Duration::from_millis(50);
    let deadline = tokio::time::Instant::now() + patience;
    loop {
        if let Some(lock) = storage.try_lock(name).await? {
            return Ok(Some(lock));
        }
        if tokio::time::Instant::now() >= deadline {
            return Ok(None);
        }
        tokio::time::sleep(PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    use super::check_key;

    #[test]
    fn keys_cannot_leave_their_folder() {
        for key in ["a", "certificates/example.com.pem", "a/b/c", "x@y+z_w-1"] {
            assert!(check_key(key).is_ok(), "{key:?}");
        }
        for key in ["", "/a", "a/", "a//b", "../a", "a/..", "a/.b", "a b", "a\\b", "a\0", "ä"] {
            assert!(check_key(key).is_err(), "{key:?}");
        }
    }
}
