//! A range that lies in one run of segments, as nearly all do of an index that was not written to lately:
//! nothing has to be merged, copied or kept for it.

use std::{slice, sync::Arc};

use super::{LEVELS, Levels, Tree};
use crate::{
    error::Result,
    memtable::Memtable,
    segment::{RangeKeys, Segment, VisitKey},
};

impl Tree {
    /// Visits up to `limit` of the keys in a range of full keys that exist in a snapshot, as the
    /// iterator of `range` does. Returns how many; `None`, without having visited any, if what there is
    /// lies in more than one place.
    ///
    /// # Errors
    /// Those of `visit`; I/O errors and `Error::Corruption`; the hidden error of `would_block`, perhaps
    /// after some were visited.
    pub(crate) fn visit_one_run(
        &self,
        keyspace: u32,
        (from, to): (&[u8], &[u8]),
        snapshot: u64,
        limit: usize,
        visit: &mut VisitKey<'_>,
    ) -> Result<Option<usize>> {
        let (first, end) = (in_keyspace(keyspace, from), in_keyspace(keyspace, to));
        let is_in =
            |table: &Arc<Memtable>| table.estimate(keyspace, first.unwrap_or_default(), end, 1) > 0;
        if self.tables().any(is_in) {
            return Ok(None);
        }
        let Some(run) = self.levels.one_run(from, to) else { return Ok(None) };
        let mut keys = RangeKeys::new(from, to, snapshot, limit);
        for segment in run {
            if !keys.go_on(segment, visit)? {
                break;
            }
        }
        Ok(Some(limit - keys.rest()))
    }
}

/// What of a full key stands behind its keyspace; `None` if that is another one.
pub(crate) fn in_keyspace(keyspace: u32, full: &[u8]) -> Option<&[u8]> {
    full.strip_prefix(&keyspace.to_be_bytes())
}

impl Levels {
    /// The segments that hold something of a range of full keys, if they follow one another.
    fn one_run(&self, from: &[u8], to: &[u8]) -> Option<&[Arc<Segment>]> {
        let touches = |segment: &&Arc<Segment>| {
            segment.info.max_key.as_slice() >= from && segment.info.min_key.as_slice() < to
        };
        let newest = self.levels[0].iter().filter(touches).map(slice::from_ref);
        let sorted = (1..LEVELS).map(|level| {
            let all = &self.levels[level][..];
            let start = all.partition_point(|s| s.info.max_key.as_slice() < from);
            let rest = all.get(start..).unwrap_or_default();
            let end = rest.partition_point(|s| s.info.min_key.as_slice() < to);
            rest.get(..end).unwrap_or_default()
        });
        let mut runs = newest.chain(sorted).filter(|run| !run.is_empty());
        let only = runs.next().unwrap_or_default();
        runs.next().is_none().then_some(only)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Store, block_on,
        engine::View,
        key::Id,
        lsm::full_key,
        testing::{SimEnv, SimVfs, small_options},
    };

    const KEYS: u64 = 300;

    /// Several versions of most keys in segments of about so many bytes, and who sees which.
    fn store(segment_bytes: u64) -> (Store, Vec<crate::Snapshot>) {
        let mut options = small_options(&SimVfs::new(), &Arc::new(SimEnv::new(1)));
        options.segment_bytes = segment_bytes;
        options.memory_budget = 4 << 20;
        let store = block_on(Store::open(options)).unwrap();
        let c = store.collection("c").unwrap();
        let mut snapshots = vec![store.snapshot()];
        for round in 0..4 {
            for id in (0..KEYS).filter(|id| round == 0 || id % 3 > 0) {
                if (id + round) % 7 == 0 {
                    block_on(c.delete(id)).unwrap();
                } else {
                    let pad = "x".repeat(id as usize % 50);
                    let text = format!(r#"{{"_id":{id},"round":{round},"pad":"{pad}"}}"#);
                    block_on(c.put(&text)).unwrap();
                }
            }
            snapshots.push(store.snapshot());
        }
        block_on(store.compact()).unwrap();
        (store, snapshots)
    }

    #[test]
    fn one_run_is_walked_as_the_iterator_does() {
        for segment_bytes in [4 << 10, 1 << 20] {
            let (store, snapshots) = store(segment_bytes);
            let core = store.core();
            let (keyspace, _) = core.keyspace("c").unwrap();
            // So often that segments get tables of their blocks in between.
            let ranges = (0..120).map(|i| (i * 7 % KEYS, i * 7 % KEYS + i * i % 90, i % 4));
            for (from, to, many) in ranges.chain([(0, 999, 3), (500, 600, 3)]) {
                let (from, to) = (Id::from(from).0, Id::from(to).0);
                let limit = [1, 10, 30, 10_000][many as usize];
                let bounds = (full_key(keyspace, &from), full_key(keyspace, &to));
                for snapshot in &snapshots {
                    let mut iter = core.range(keyspace, &from, Some(&to), snapshot.seq()).unwrap();
                    let mut want = Vec::new();
                    while want.len() < limit
                        && let Some(entry) = iter.next_visible().unwrap()
                    {
                        want.push(entry.key.to_vec());
                    }
                    let (tree, at) = core.moment(View::Snapshot(snapshot.seq())).unwrap();
                    let mut found = Vec::new();
                    let visit = &mut |key: &[u8]| {
                        found.push(key.to_vec());
                        Ok(())
                    };
                    let range = (&bounds.0[..], &bounds.1[..]);
                    let count = tree.visit_one_run(keyspace, range, at, limit, visit).unwrap();
                    assert_eq!(found, want);
                    assert_eq!(count, Some(want.len()));
                }
            }
        }
    }

    #[test]
    fn what_a_memtable_holds_is_not_one_run() {
        let (store, _snapshots) = store(1 << 20);
        let core = store.core();
        let (keyspace, _) = core.keyspace("c").unwrap();
        let is_one_run = |id: u64| {
            let range = [id, id + 1].map(|id| full_key(keyspace, &Id::from(id).0));
            let (tree, at) = core.moment(View::Newest(0)).unwrap();
            let range = (&range[0][..], &range[1][..]);
            tree.visit_one_run(keyspace, range, at, 9, &mut |_| Ok(())).unwrap().is_some()
        };
        assert!(is_one_run(8) && is_one_run(9));
        block_on(store.collection("c").unwrap().put(r#"{"_id":8,"round":9}"#)).unwrap();
        assert!(!is_one_run(8) && is_one_run(9));
    }
}
