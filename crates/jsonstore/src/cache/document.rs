//! L1: documents as JSON text. A hit touches neither memtable nor segment.
//!
//! An entry is right for a snapshot if nothing wrote its key after the entry was loaded. Writers
//! record their sequence number in a slot per key hash before they become visible; two keys may
//! share a slot, which costs a look-up but never gives a stale document.

use std::sync::atomic::{AtomicU64 as Counter, AtomicUsize};

use bytes::Bytes;

use super::clock::{Clock, SHARD_SHIFT};
use crate::{
    bugs::bug,
    expiry::{Hide, Stamp},
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

const SHARDS: usize = if cfg!(loom) { 1 } else { 16 };
/// A model explores every access, so it must have few.
const SLOTS_MIN: usize = if cfg!(loom) { 1 } else { 64 };
const SLOTS_MAX: usize = 1 << 16;
const OVERHEAD: usize = 128;

/// The newest sequence number written to any key of a slot.
#[derive(Debug)]
pub(crate) struct VersionTable(Vec<AtomicU64>);

impl VersionTable {
    pub(crate) fn new(memory_budget: usize) -> Self {
        let slots = (memory_budget / 256).next_power_of_two().clamp(SLOTS_MIN, SLOTS_MAX);
        Self((0..slots).map(|_| AtomicU64::new(0)).collect())
    }

    /// Before the commit `seq` can become visible.
    pub(crate) fn note(&self, hash: u64, seq: u64) {
        if !bug("no_cache_invalidation") {
            self.slot(hash).fetch_max(seq, Ordering::SeqCst);
        }
    }

    /// Everything cached before the commit `seq` is stale.
    pub(crate) fn note_all(&self, seq: u64) {
        for slot in &self.0 {
            slot.fetch_max(seq, Ordering::SeqCst);
        }
    }

    fn newest(&self, hash: u64) -> u64 {
        self.slot(hash).load(Ordering::SeqCst)
    }

    /// There is a power of two of them.
    fn slot(&self, hash: u64) -> &AtomicU64 {
        &self.0[hash as usize & (self.0.len() - 1)]
    }
}

#[derive(Debug, Clone)]
pub(crate) struct CachedDocument {
    /// The version.
    pub(crate) seq: u64,
    /// The snapshot at which it was the newest.
    pub(crate) loaded_at: u64,
    /// When it expires.
    pub(crate) stamp: Stamp,
    pub(crate) json: Bytes,
}

#[derive(Debug)]
pub(crate) struct DocumentCache {
    shards: Vec<Mutex<Clock<(u32, Bytes), CachedDocument>>>,
    bytes: AtomicUsize,
    pub(crate) hits: Counter,
    pub(crate) misses: Counter,
}

impl DocumentCache {
    pub(crate) fn new(memory_budget: usize) -> Self {
        let counters = (memory_budget / 8192).next_power_of_two().clamp(64, 1 << 14);
        Self {
            shards: (0..SHARDS).map(|_| Mutex::new(Clock::new(Some(counters)))).collect(),
            bytes: AtomicUsize::new(0),
            hits: Counter::new(0),
            misses: Counter::new(0),
        }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Lets go of documents until no more than `capacity` is left.
    pub(crate) fn shrink(&self, capacity: usize) {
        if self.bytes() <= capacity {
            return;
        }
        for shard in &self.shards {
            let mut shard = shard.lock();
            let before = shard.bytes();
            shard.shrink(capacity / SHARDS);
            self.bytes.fetch_sub(before - shard.bytes(), Ordering::Relaxed);
        }
    }

    /// What is known of a document, if anything; `None` in it if it is hidden.
    pub(crate) fn get(
        &self,
        versions: &VersionTable,
        keyspace: u32,
        key: &[u8],
        hash: u64,
        snapshot: u64,
        hide: &Hide,
    ) -> Option<Option<(u64, Bytes)>> {
        let shard = self.shards[(hash >> SHARD_SHIFT) as usize % SHARDS].lock();
        let found = shard.get(hash, |(ks, k)| *ks == keyspace && k == key);
        let fresh = found.filter(|d| d.seq <= snapshot && versions.newest(hash) <= d.loaded_at);
        let known = fresh.and_then(|d| {
            let is_hidden = hide.hides_cached(d.stamp)?;
            Some((!is_hidden).then(|| (d.seq, d.json.clone())))
        });
        let counter = if known.is_some() { &self.hits } else { &self.misses };
        counter.fetch_add(1, Ordering::Relaxed);
        known
    }

    /// `cached` is asked for only if it is let in: text that only the caller has needs no counting.
    pub(crate) fn insert(
        &self,
        keyspace: u32,
        key: &[u8],
        hash: u64,
        json: &Bytes,
        capacity: usize,
        cached: impl FnOnce(Bytes) -> CachedDocument,
    ) {
        let weight = key.len() + json.len() + OVERHEAD;
        let mut shard = self.shards[(hash >> SHARD_SHIFT) as usize % SHARDS].lock();
        let before = shard.bytes();
        shard.insert(hash, weight, capacity / SHARDS, || {
            ((keyspace, Bytes::copy_from_slice(key)), cached(json.clone()))
        });
        let after = shard.bytes();
        if after >= before {
            self.bytes.fetch_add(after - before, Ordering::Relaxed);
        } else {
            self.bytes.fetch_sub(before - after, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_later_write_makes_an_entry_stale() {
        let (cache, versions) = (DocumentCache::new(1 << 20), VersionTable::new(1 << 20));
        let json = Bytes::from_static(b"{}");
        let entry = |json| CachedDocument { seq: 5, loaded_at: 7, stamp: Stamp::default(), json };
        cache.insert(1, b"k", 42, &json, 1 << 20, entry);
        let all = Hide::nothing();
        let look = |key, snapshot| cache.get(&versions, 1, key, 42, snapshot, &all).flatten();
        let get = |snapshot| look(b"k", snapshot).map(|(seq, _)| seq);
        assert_eq!(get(4), None, "older than the version");
        assert_eq!(get(6), Some(5));
        assert_eq!(get(9), Some(5), "nothing was written since");
        versions.note(42, 8);
        assert_eq!(get(9), None);
        assert_eq!(look(b"other", 9), None, "another key of the same hash");
    }
}
