//! The tree: memtables over levels of segments, newest first.

mod back;
mod batch;
mod compact;
mod deleted;
mod merge;
mod one_run;

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;

use crate::{
    bugs::bug,
    codec::hash_key,
    error::Result,
    memtable::Memtable,
    segment::{Probe, Segment, Value, Visit},
};

pub(crate) use self::{
    back::MergeBack,
    batch::Batch,
    compact::{GcRule, Output, OutputConfig, Plan, pick, plan_l0, run, segment_path},
    deleted::pick_deleted,
    merge::{MergeIter, Source, VisitEntry},
    one_run::in_keyspace,
};

pub(crate) const LEVELS: usize = 7;

/// Entries copied from a memtable at a time, so its lock is held only briefly.
const CHUNK: usize = 64;

/// Versions counted in a memtable to estimate a range.
const ESTIMATE_MAX: usize = 1024;

/// The segments; a new one is made for every change.
#[derive(Debug, Clone, Default)]
pub(crate) struct Levels {
    /// Level 0 is newest first and overlaps; the others are sorted and do not.
    pub(crate) levels: [Vec<Arc<Segment>>; LEVELS],
}

impl Levels {
    pub(crate) fn bytes(&self, level: usize) -> u64 {
        self.levels[level].iter().map(|s| s.info.bytes).sum()
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = (usize, &Arc<Segment>)> {
        self.levels
            .iter()
            .enumerate()
            .flat_map(|(level, list)| list.iter().map(move |s| (level, s)))
    }

    /// The segments of a level that touch a range of full keys. Those of level 0 are in no order.
    pub(crate) fn overlapping(&self, level: usize, min: &[u8], max: &[u8]) -> Vec<Arc<Segment>> {
        let all = &self.levels[level];
        if level == 0 && !bug("level_0_in_order") {
            let touches = |s: &&Arc<Segment>| {
                s.info.max_key.as_slice() >= min && s.info.min_key.as_slice() <= max
            };
            return all.iter().filter(touches).cloned().collect();
        }
        let from = all.partition_point(|s| s.info.max_key.as_slice() < min);
        let to = all.partition_point(|s| s.info.min_key.as_slice() <= max);
        all.get(from..to).unwrap_or_default().to_vec()
    }

    /// Segments that hold something of a range of full keys; those of one run follow one another.
    fn runs(&self, from: &[u8], to: &[u8]) -> impl Iterator<Item = Vec<Arc<Segment>>> {
        let newest = self.levels[0].iter().filter(move |segment| {
            segment.info.max_key.as_slice() >= from && segment.info.min_key.as_slice() < to
        });
        let newest = newest.map(|segment| vec![Arc::clone(segment)]);
        let sorted = (1..LEVELS).map(move |level| self.overlapping(level, from, to));
        newest.chain(sorted).filter(|run| !run.is_empty())
    }
}

/// Everything a reader needs, as one value: replaced, never changed.
#[derive(Debug, Clone)]
pub(crate) struct Tree {
    pub(crate) active: Arc<Memtable>,
    /// Oldest first.
    pub(crate) frozen: Vec<Arc<Memtable>>,
    pub(crate) levels: Arc<Levels>,
    /// Readers of an older snapshot than this must register it, or look again.
    pub(crate) gc_seq: u64,
}

impl Tree {
    /// The newest version at or below `snapshot`.
    pub(crate) fn get(
        &self,
        keyspace: u32,
        key: &[u8],
        snapshot: u64,
    ) -> Result<Option<(u64, Option<Bytes>)>> {
        let mut found = None;
        let hash = hash_key(keyspace, key);
        self.visit(keyspace, key, hash, snapshot, &mut |_, seq, value| {
            found = Some((seq, value.map(Value::into_bytes)));
            Ok(())
        })?;
        Ok(found)
    }

    /// Visits that version, if there is one.
    pub(crate) fn visit(
        &self,
        keyspace: u32,
        key: &[u8],
        hash: u64,
        snapshot: u64,
        visit: &mut Visit<'_>,
    ) -> Result<()> {
        let full = full_key(keyspace, key);
        let probe = Probe { full: &full, hash, place: 0, is_found: false };
        self.find_probes(keyspace, &mut [probe], snapshot, visit)
    }

    /// Those that hold something, the newest first.
    fn tables(&self) -> impl Iterator<Item = &Arc<Memtable>> {
        let all = std::iter::once(&self.active).chain(self.frozen.iter().rev());
        all.filter(|table| !table.is_empty())
    }

    /// About how many versions lie in a range of keys.
    pub(crate) fn estimate(&self, keyspace: u32, from: &[u8], to: Option<&[u8]>) -> Result<u64> {
        let tables = self.frozen.iter().chain([&self.active]);
        let mut count: u64 = tables.map(|t| t.estimate(keyspace, from, to, ESTIMATE_MAX)).sum();
        let from = full_key(keyspace, from);
        let to = to.map_or_else(|| full_key(keyspace + 1, &[]), |to| full_key(keyspace, to));
        for (_, segment) in self.levels.all() {
            count += segment.estimate(&from, &to)?;
        }
        Ok(count)
    }

    /// All versions of the keys of a keyspace from `from` on, before `to`.
    pub(crate) fn range(
        &self,
        keyspace: u32,
        from: &[u8],
        to: Option<&[u8]>,
        snapshot: u64,
    ) -> Result<MergeIter> {
        let tables = self.tables().map(|table| Source::memtable(table, keyspace, from, to));
        let mut sources: Vec<Source> = tables.collect();
        let from = full_key(keyspace, from);
        let to = to.map(|to| full_key(keyspace, to));
        let end = to.clone().unwrap_or_else(|| full_key(keyspace + 1, &[]));
        for run in self.levels.runs(&from, &end) {
            sources.push(Source::keyspace(run, &from, to.as_deref())?);
        }
        MergeIter::new(sources, snapshot)
    }
}

pub(crate) fn full_key(keyspace: u32, key: &[u8]) -> Vec<u8> {
    let mut full = Vec::with_capacity(key.len() + 4);
    full.extend_from_slice(&keyspace.to_be_bytes());
    full.extend_from_slice(key);
    full
}

/// Registered snapshots: how many readers hold each.
#[derive(Debug, Default)]
pub(crate) struct Snapshots {
    pub(crate) held: BTreeMap<u64, Held>,
}

#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Held {
    pub(crate) readers: u32,
    /// Of them, serializable transactions, for which recent commits are remembered.
    pub(crate) serializable: u32,
    /// When the oldest of them began, in milliseconds of the monotonic clock.
    pub(crate) since_ms: u64,
}

impl Snapshots {
    pub(crate) fn add(&mut self, seq: u64, serializable: bool, now_ms: u64) {
        let held = self.held.entry(seq).or_default();
        if held.readers == 0 {
            held.since_ms = now_ms;
        }
        held.readers += 1;
        held.serializable += u32::from(serializable);
    }

    pub(crate) fn remove(&mut self, seq: u64, serializable: bool) {
        if let Some(held) = self.held.get_mut(&seq) {
            held.readers -= 1;
            held.serializable -= u32::from(serializable);
            if held.readers == 0 {
                self.held.remove(&seq);
            }
        }
    }

    /// Forgets those that began at or before `since_ms` and see less than `visible`; returns the
    /// newest of them. A snapshot that begins later sees more, so its number is another.
    pub(crate) fn cancel(&mut self, since_ms: u64, visible: u64) -> Option<u64> {
        let old = |(seq, held): (&u64, &Held)| held.since_ms <= since_ms && *seq < visible;
        let newest =
            self.held.iter().take_while(|entry| old(*entry)).map(|(seq, _)| *seq).last()?;
        self.held.retain(|seq, _| *seq > newest);
        Some(newest)
    }

    pub(crate) fn oldest_serializable(&self) -> Option<u64> {
        self.held.iter().find(|(_, held)| held.serializable > 0).map(|(seq, _)| *seq)
    }
}
