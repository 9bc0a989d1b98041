//! Looking for many keys at once: one pass over each memtable and each segment, in the order of the
//! keys, so that neighbours share the blocks they lie in.

use bytes::Bytes;

use super::{Levels, Tree};
use crate::{error::Result, segment::Pinned};

/// A version of a key: its sequence number, and its value unless it was deleted.
type Version = (u64, Option<Bytes>);

/// Keys of one keyspace to look for.
#[derive(Debug)]
pub(crate) struct Batch {
    keyspace: u32,
    /// The keys one after another, each with the keyspace in front.
    full: Vec<u8>,
    probes: Vec<Probe>,
}

/// One key of a batch.
#[derive(Debug)]
pub(crate) struct Probe {
    /// Where its full key lies.
    from: usize,
    to: usize,
    hash: u64,
    /// What the caller calls it.
    place: usize,
    found: Option<Version>,
}

impl Batch {
    pub(crate) fn new(keyspace: u32) -> Self {
        Self { keyspace, full: Vec::new(), probes: Vec::new() }
    }

    /// Adds a key with its hash; `place` comes back with what is found.
    pub(crate) fn add(&mut self, key: &[u8], hash: u64, place: usize) {
        let from = self.full.len();
        self.full.extend_from_slice(&self.keyspace.to_be_bytes());
        self.full.extend_from_slice(key);
        self.probes.push(Probe { from, to: self.full.len(), hash, place, found: None });
    }

    /// Place, key, hash and version of each key that was found, in the order of the keys.
    pub(crate) fn into_found(
        self,
        mut each: impl FnMut(usize, &[u8], u64, Version) -> Result<()>,
    ) -> Result<()> {
        for probe in self.probes {
            if let Some(version) = probe.found {
                each(probe.place, &self.full[probe.from + 4..probe.to], probe.hash, version)?;
            }
        }
        Ok(())
    }

    fn sort(&mut self) {
        let full = &self.full;
        self.probes.sort_unstable_by(|a, b| full[a.from..a.to].cmp(&full[b.from..b.to]));
    }
}

impl Tree {
    /// Finds the newest version at or below `snapshot` of each key, as `Tree::get` does of one.
    pub(crate) fn find(&self, batch: &mut Batch, snapshot: u64) -> Result<()> {
        batch.sort();
        let Batch { keyspace, full, probes } = batch;
        let tables = std::iter::once(&self.active).chain(self.frozen.iter().rev());
        for table in tables.filter(|table| !table.is_empty()) {
            let Some(shard) = table.shard(*keyspace) else { continue };
            for probe in probes.iter_mut().filter(|probe| probe.found.is_none()) {
                probe.found = shard.get(&full[probe.from + 4..probe.to], snapshot);
            }
        }
        self.levels.find(full, probes, snapshot)
    }
}

impl Levels {
    fn find(&self, full: &[u8], probes: &mut [Probe], snapshot: u64) -> Result<()> {
        for segment in &self.levels[0] {
            let mut pinned = Pinned::default();
            for probe in probes.iter_mut().filter(|probe| probe.found.is_none()) {
                let key = &full[probe.from..probe.to];
                probe.found = segment.get(key, probe.hash, snapshot, &mut pinned)?;
            }
        }
        for level in self.levels[1..].iter().filter(|level| !level.is_empty()) {
            let mut at = 0;
            let mut pinned = Pinned::default();
            for probe in probes.iter_mut().filter(|probe| probe.found.is_none()) {
                let key = &full[probe.from..probe.to];
                let skipped = level[at..].partition_point(|s| s.info.max_key.as_slice() < key);
                if skipped > 0 {
                    at += skipped;
                    pinned = Pinned::default();
                }
                let Some(segment) = level.get(at) else { break };
                probe.found = segment.get(key, probe.hash, snapshot, &mut pinned)?;
                // Versions of one key may lie on both sides of a border between segments.
                let mut next = at + 1;
                while probe.found.is_none()
                    && let Some(segment) = level.get(next).filter(|s| s.covers(key))
                {
                    let mut pinned = Pinned::default();
                    probe.found = segment.get(key, probe.hash, snapshot, &mut pinned)?;
                    next += 1;
                }
            }
        }
        Ok(())
    }
}
