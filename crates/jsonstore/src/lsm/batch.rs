//! Looking for many keys at once: one pass over each memtable and each segment, in the order of the
//! keys, so that neighbours share the blocks they lie in.

use super::{Levels, Tree};
use crate::{
    error::Result,
    segment::{Probe, Value, Visit, word},
};

/// Keys of one keyspace to look for.
#[derive(Debug)]
pub(crate) struct Batch {
    keyspace: u32,
    /// The keys one after another, each with the keyspace in front.
    full: Vec<u8>,
    keys: Vec<Key>,
}

/// One key of a batch.
#[derive(Debug)]
struct Key {
    /// Where its full key lies.
    from: usize,
    to: usize,
    hash: u64,
    /// What the caller calls it.
    place: usize,
}

impl Batch {
    pub(crate) fn new(keyspace: u32) -> Self {
        Self { keyspace, full: Vec::new(), keys: Vec::new() }
    }

    /// Adds a key with its hash; `place` comes back with what is found.
    pub(crate) fn add(&mut self, key: &[u8], hash: u64, place: usize) {
        let from = self.full.len();
        self.full.extend_from_slice(&self.keyspace.to_be_bytes());
        self.full.extend_from_slice(key);
        self.keys.push(Key { from, to: self.full.len(), hash, place });
    }

    /// In their order.
    fn probes(&self) -> Vec<Probe<'_>> {
        let full = |key: &Key| &self.full[key.from..key.to];
        let keyed = |key| {
            // The keyspace is the same in all. Words compare more quickly than keys, and mostly differ.
            (word(full(key), size_of::<u32>()), key)
        };
        let mut keys: Vec<(u64, &Key)> = self.keys.iter().map(keyed).collect();
        keys.sort_unstable_by(|(a, key), (b, other)| {
            a.cmp(b).then_with(|| full(key).cmp(full(other)))
        });
        let probe = |(_, key): (u64, &Key)| Probe {
            full: full(key),
            hash: key.hash,
            place: key.place,
            is_found: false,
        };
        keys.into_iter().map(probe).collect()
    }
}

impl Tree {
    /// Visits the newest version at or below `snapshot` of each key, as `Tree::get` finds that of
    /// one.
    pub(crate) fn find(&self, batch: &Batch, snapshot: u64, visit: &mut Visit<'_>) -> Result<()> {
        self.find_probes(batch.keyspace, &mut batch.probes(), snapshot, visit)
    }

    /// Of keys in their order.
    pub(super) fn find_probes(
        &self,
        keyspace: u32,
        probes: &mut [Probe<'_>],
        snapshot: u64,
        visit: &mut Visit<'_>,
    ) -> Result<()> {
        for table in self.tables() {
            let Some(shard) = table.shard(keyspace) else { continue };
            for probe in probes.iter_mut().filter(|probe| !probe.is_found) {
                if let Some((seq, value)) = shard.get(probe.key(), snapshot) {
                    probe.is_found = true;
                    visit(probe, seq, value.map(Value::Shared))?;
                }
            }
        }
        self.levels.find(probes, snapshot, visit)
    }
}

impl Levels {
    fn find(&self, probes: &mut [Probe<'_>], snapshot: u64, visit: &mut Visit<'_>) -> Result<()> {
        for segment in &self.levels[0] {
            segment.find_all(probes, snapshot, visit)?;
        }
        for level in self.levels[1..].iter().filter(|level| !level.is_empty()) {
            let mut rest = &mut *probes;
            let mut at = 0;
            while let Some(first) = rest.first() {
                at += level[at..].partition_point(|s| s.info.max_key.as_slice() < first.full);
                let Some(segment) = level.get(at) else { break };
                let max_key = segment.info.max_key.as_slice();
                let within = rest.partition_point(|probe| probe.full <= max_key);
                segment.find_all(&mut rest[..within], snapshot, visit)?;
                // Versions of one key may lie on both sides of a border between segments.
                let done = rest.partition_point(|probe| probe.full < max_key);
                rest = &mut rest[done..];
                at += 1;
            }
        }
        Ok(())
    }
}
