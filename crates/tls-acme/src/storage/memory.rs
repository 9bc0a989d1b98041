//! A storage that ends with the process.

use std::{
    collections::{BTreeMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use parking_lot::Mutex;

use super::{Storage, StorageFuture, StorageLock, check_key};

/// Keeps everything in memory: for tests, and for programs that keep nothing. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct MemoryStorage {
    inner: Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    values: Mutex<BTreeMap<String, Vec<u8>>>,
    locks: Mutex<HashSet<String>>,
    tokens: AtomicU64,
}

struct Held {
    inner: Arc<Inner>,
    name: String,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.inner.locks.lock().remove(&self.name);
    }
}

impl MemoryStorage {
    /// Nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

impl Storage for MemoryStorage {
    fn load<'a>(&'a self, key: &'a str) -> StorageFuture<'a, Option<Vec<u8>>> {
        let value = check_key(key).map(|()| self.inner.values.lock().get(key).cloned());
        Box::pin(std::future::ready(value))
    }

    fn store<'a>(&'a self, key: &'a str, value: &'a [u8]) -> StorageFuture<'a, ()> {
        let stored = check_key(key).map(|()| {
            self.inner.values.lock().insert(key.to_owned(), value.to_vec());
        });
        Box::pin(std::future::ready(stored))
    }

    fn remove<'a>(&'a self, key: &'a str) -> StorageFuture<'a, ()> {
        self.inner.values.lock().remove(key);
        Box::pin(std::future::ready(check_key(key)))
    }

    fn list<'a>(&'a self, prefix: &'a str) -> StorageFuture<'a, Vec<String>> {
        let values = self.inner.values.lock();
        let is_beneath = |key: &&String| {
            let rest = key.strip_prefix(prefix).and_then(|rest| rest.strip_prefix('/'));
            rest.is_some_and(|rest| !rest.contains('/'))
        };
        let found = values.keys().filter(is_beneath).cloned().collect();
        Box::pin(std::future::ready(check_key(prefix).map(|()| found)))
    }

    fn try_lock<'a>(&'a self, name: &'a str) -> StorageFuture<'a, Option<StorageLock>> {
        let lock = check_key(name).map(|()| {
            self.inner.locks.lock().insert(name.to_owned()).then(|| {
                let token = self.inner.tokens.fetch_add(1, Ordering::Relaxed);
                let held = Held { inner: self.inner.clone(), name: name.to_owned() };
                StorageLock::new(token, held)
            })
        });
        Box::pin(std::future::ready(lock))
    }
}
