//! The newest versions in memory: one ordered map per keyspace, behind its own lock.
//!
//! Writers hold a lock for a few hundred nanoseconds per entry and scans copy a chunk at a time, so
//! nobody waits long. Keys and values are slices of the log record that brought them: no copies.

use std::{
    borrow::Borrow,
    cmp::Ordering,
    collections::BTreeMap,
    ops::Bound,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
};

use bytes::Bytes;
use parking_lot::RwLock;

use crate::segment::Packed;

/// One version of one key; no value means it was deleted.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) key: Bytes,
    pub(crate) seq: u64,
    pub(crate) value: Option<Bytes>,
    /// The value is as a segment stores it; only compaction asks for such.
    pub(crate) packed: Option<Packed>,
}

/// What an entry costs beyond its bytes: the node, its share of the tree, the slice headers.
const ENTRY_OVERHEAD: usize = 144;

#[derive(Debug)]
pub(crate) struct Memtable {
    shards: RwLock<BTreeMap<u32, Arc<Shard>>>,
    bytes: AtomicUsize,
    /// A position in the log at or before the first record of this memtable.
    first_lsn: AtomicU64,
    last_seq: AtomicU64,
}

/// The versions of one keyspace.
#[derive(Debug, Default)]
pub(crate) struct Shard(RwLock<BTreeMap<MemKey, Option<Bytes>>>);

impl Shard {
    /// The newest version at or below `snapshot`.
    pub(crate) fn get(&self, key: &[u8], snapshot: u64) -> Option<(u64, Option<Bytes>)> {
        let shard = self.0.read();
        let from = Probe::new(key, snapshot);
        let (found, value) = shard
            .range::<dyn Keyed, _>((Bound::Included(&from as &dyn Keyed), Bound::Unbounded))
            .next()?;
        (found.key == key).then(|| (found.seq, value.clone()))
    }
}

impl Memtable {
    pub(crate) fn new() -> Self {
        Self {
            shards: RwLock::default(),
            bytes: AtomicUsize::new(0),
            first_lsn: AtomicU64::new(u64::MAX),
            last_seq: AtomicU64::new(0),
        }
    }

    /// Built at once from what recovery read; much faster than inserting one by one.
    pub(crate) fn from_entries(keyspaces: BTreeMap<u32, Vec<Entry>>) -> Self {
        let table = Self::new();
        let mut bytes = 0;
        let mut last_seq = 0;
        let mut shards = BTreeMap::new();
        let build = |entries: Vec<Entry>| -> Shard {
            let pairs = entries.into_iter().map(|e| (MemKey::new(e.key, e.seq), e.value));
            Shard(RwLock::new(pairs.collect()))
        };
        for entries in keyspaces.values() {
            for entry in entries {
                bytes += entry_bytes(&entry.key, entry.value.as_ref());
                last_seq = last_seq.max(entry.seq);
            }
        }
        std::thread::scope(|scope| {
            let total: usize = keyspaces.values().map(Vec::len).sum();
            let mut running = Vec::new();
            for (keyspace, entries) in keyspaces {
                // Small ones are not worth a thread, and simulations stay single-threaded.
                if total < 50_000 {
                    shards.insert(keyspace, Arc::new(build(entries)));
                } else {
                    running.push((keyspace, scope.spawn(move || build(entries))));
                }
            }
            for (keyspace, handle) in running {
                let shard = handle.join().expect("building an ordered map does not panic");
                shards.insert(keyspace, Arc::new(shard));
            }
        });
        *table.shards.write() = shards;
        table.bytes.store(bytes, Relaxed);
        table.last_seq.store(last_seq, Relaxed);
        table
    }

    pub(crate) fn insert(&self, keyspace: u32, key: Bytes, seq: u64, value: Option<Bytes>) {
        self.bytes.fetch_add(entry_bytes(&key, value.as_ref()), Relaxed);
        self.last_seq.fetch_max(seq, Relaxed);
        let shard = match self.shard(keyspace) {
            Some(shard) => shard,
            None => Arc::clone(self.shards.write().entry(keyspace).or_default()),
        };
        shard.0.write().insert(MemKey::new(key, seq), value);
    }

    /// The newest version at or below `snapshot`.
    #[cfg(test)]
    fn get(&self, keyspace: u32, key: &[u8], snapshot: u64) -> Option<(u64, Option<Bytes>)> {
        self.shard(keyspace)?.get(key, snapshot)
    }

    /// What it holds of one keyspace, if anything.
    pub(crate) fn shard(&self, keyspace: u32) -> Option<Arc<Shard>> {
        self.shards.read().get(&keyspace).cloned()
    }

    /// Up to `limit` entries from (`key`, `seq`) on, or after that one, in order; those of `to` and of
    /// keys behind it are left out.
    pub(crate) fn chunk(
        &self,
        keyspace: u32,
        (key, seq, after): (&[u8], u64, bool),
        to: Option<&[u8]>,
        limit: usize,
    ) -> Vec<Entry> {
        if to.is_some_and(|to| to <= key) {
            return Vec::new();
        }
        let Some(shard) = self.shard(keyspace) else { return Vec::new() };
        let shard = shard.0.read();
        let (from, end) = (Probe::new(key, seq), to.map(|to| Probe::new(to, u64::MAX)));
        let from: &dyn Keyed = &from;
        let from = if after { Bound::Excluded(from) } else { Bound::Included(from) };
        let to = match &end {
            Some(end) => Bound::Excluded(end as &dyn Keyed),
            None => Bound::Unbounded,
        };
        shard
            .range::<dyn Keyed, _>((from, to))
            .take(limit)
            .map(|(key, value)| entry(key, value))
            .collect()
    }

    /// Up to `limit` entries of the keys from `from` on, the last first: those before (`to`, `seq`), or
    /// of all keys.
    pub(crate) fn chunk_back(
        &self,
        keyspace: u32,
        from: &[u8],
        to: Option<(&[u8], u64)>,
        limit: usize,
    ) -> Vec<Entry> {
        if to.is_some_and(|(to, seq)| to < from || (to == from && seq == u64::MAX)) {
            return Vec::new();
        }
        let Some(shard) = self.shard(keyspace) else { return Vec::new() };
        let shard = shard.0.read();
        let (from, end) = (Probe::new(from, u64::MAX), to.map(|(to, seq)| Probe::new(to, seq)));
        let from = Bound::Included(&from as &dyn Keyed);
        let to = match &end {
            Some(end) => Bound::Excluded(end as &dyn Keyed),
            None => Bound::Unbounded,
        };
        let range = shard.range::<dyn Keyed, _>((from, to));
        range.rev().take(limit).map(|(key, value)| entry(key, value)).collect()
    }

    /// How many versions lie in a range of keys; counts no further than `limit`, and guesses then.
    pub(crate) fn estimate(
        &self,
        keyspace: u32,
        from: &[u8],
        to: Option<&[u8]>,
        limit: usize,
    ) -> u64 {
        if to.is_some_and(|to| to <= from) {
            return 0;
        }
        let Some(shard) = self.shard(keyspace) else { return 0 };
        let shard = shard.0.read();
        let (from, end) = (Probe::new(from, u64::MAX), to.map(|to| Probe::new(to, u64::MAX)));
        let from = Bound::Included(&from as &dyn Keyed);
        let to = match &end {
            Some(end) => Bound::Excluded(end as &dyn Keyed),
            None => Bound::Unbounded,
        };
        let counted = shard.range::<dyn Keyed, _>((from, to)).take(limit).count();
        let all = shard.len();
        if counted == limit { (all / 2).max(limit) as u64 } else { counted as u64 }
    }

    pub(crate) fn keyspaces(&self) -> Vec<u32> {
        self.shards.read().keys().copied().collect()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes.load(Relaxed)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.last_seq() == 0
    }

    pub(crate) fn last_seq(&self) -> u64 {
        self.last_seq.load(Relaxed)
    }

    /// A commit without changes counts, too: its number must not be given out again.
    pub(crate) fn note_seq(&self, seq: u64) {
        self.last_seq.fetch_max(seq, Relaxed);
    }

    pub(crate) fn note_lsn(&self, lsn: u64) {
        self.first_lsn.fetch_min(lsn, Relaxed);
    }

    pub(crate) fn first_lsn(&self) -> u64 {
        self.first_lsn.load(Relaxed)
    }
}

fn entry(key: &MemKey, value: &Option<Bytes>) -> Entry {
    Entry { key: key.key.clone(), seq: key.seq, value: value.clone(), packed: None }
}

fn entry_bytes(key: &Bytes, value: Option<&Bytes>) -> usize {
    key.len() + value.map_or(0, Bytes::len) + ENTRY_OVERHEAD
}

/// Orders by key, then newest first. The first bytes lie inline, which saves most cache misses.
#[derive(Debug)]
struct MemKey {
    prefix: u64,
    seq: u64,
    key: Bytes,
}

impl MemKey {
    fn new(key: Bytes, seq: u64) -> Self {
        Self { prefix: prefix(&key), seq, key }
    }
}

struct Probe<'a> {
    prefix: u64,
    seq: u64,
    key: &'a [u8],
}

impl<'a> Probe<'a> {
    fn new(key: &'a [u8], seq: u64) -> Self {
        Self { prefix: prefix(key), seq, key }
    }
}

fn prefix(key: &[u8]) -> u64 {
    let mut bytes = [0; 8];
    let n = key.len().min(8);
    bytes[..n].copy_from_slice(&key[..n]);
    u64::from_be_bytes(bytes)
}

/// What stored keys and probes have in common, so that a lookup needs no allocation.
trait Keyed {
    fn parts(&self) -> (u64, &[u8], u64);
}

impl Keyed for MemKey {
    fn parts(&self) -> (u64, &[u8], u64) {
        (self.prefix, &self.key, self.seq)
    }
}

impl Keyed for Probe<'_> {
    fn parts(&self) -> (u64, &[u8], u64) {
        (self.prefix, self.key, self.seq)
    }
}

impl<'a> Borrow<dyn Keyed + 'a> for MemKey {
    fn borrow(&self) -> &(dyn Keyed + 'a) {
        self
    }
}

impl Ord for dyn Keyed + '_ {
    fn cmp(&self, other: &Self) -> Ordering {
        let (a, b) = (self.parts(), other.parts());
        a.0.cmp(&b.0).then_with(|| a.1.cmp(b.1)).then_with(|| b.2.cmp(&a.2))
    }
}

impl PartialOrd for dyn Keyed + '_ {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for dyn Keyed + '_ {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for dyn Keyed + '_ {}

impl Ord for MemKey {
    fn cmp(&self, other: &Self) -> Ordering {
        let (a, b): (&dyn Keyed, &dyn Keyed) = (self, other);
        a.cmp(b)
    }
}

impl PartialOrd for MemKey {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for MemKey {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for MemKey {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_seen_by_snapshot() {
        let table = Memtable::new();
        let put = |key: &'static [u8], seq, value: Option<&'static [u8]>| {
            table.insert(1, Bytes::from_static(key), seq, value.map(Bytes::from_static));
        };
        put(b"a", 1, Some(b"1"));
        put(b"a", 5, Some(b"5"));
        put(b"a", 9, None);
        put(b"ab", 2, Some(b"x"));
        put(b"aaaaaaaaab", 3, Some(b"y"));
        let seen = |snapshot| table.get(1, b"a", snapshot).map(|(seq, _)| seq);
        assert_eq!(
            (seen(0), seen(1), seen(4), seen(5), seen(99)),
            (None, Some(1), Some(1), Some(5), Some(9))
        );
        assert_eq!(table.get(2, b"a", 99), None);
        assert_eq!(table.get(1, b"aaaaaaaaaa", 99), None);
        let order: Vec<_> = table
            .chunk(1, (b"", u64::MAX, false), None, 99)
            .iter()
            .map(|e| (e.key.clone(), e.seq))
            .collect();
        let want: [(&[u8], u64); 5] =
            [(b"a", 9), (b"a", 5), (b"a", 1), (b"aaaaaaaaab", 3), (b"ab", 2)];
        assert_eq!(order, want.map(|(k, s)| (Bytes::from_static(k), s)));
        assert_eq!(table.chunk(1, (b"a", 5, true), None, 1)[0].seq, 1);
        assert!(table.chunk(1, (b"a", 9, false), Some(b"a"), 9).is_empty());
        assert!(table.chunk(1, (b"b", 9, false), Some(b"a"), 9).is_empty());
        let before_aa = table.chunk(1, (b"", 9, false), Some(b"aa"), 9);
        assert!(before_aa.len() == 3 && before_aa.iter().all(|entry| entry.key == b"a"[..]));
        assert_eq!(table.last_seq(), 9);
    }
}
