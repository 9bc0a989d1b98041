//! A range that lies in one run of segments, as nearly all do of an index that was not written to lately:
//! nothing has to be merged, copied or kept for it.

use std::{slice, sync::Arc};

use super::{LEVELS, Levels, Tree, VisitEntry, full_key};
use crate::{
    error::Result,
    segment::{Segment, SegmentIter},
};

impl Tree {
    /// Visits up to `limit` of the keys in a range that exist in a snapshot, as the iterator of `range`
    /// does. Returns how many; `None`, without having visited any, if what there is lies in more than
    /// one place.
    ///
    /// # Errors
    /// Those of `visit`; I/O errors and `Error::Corruption`; the hidden error of `would_block`, perhaps
    /// after some were visited.
    pub(crate) fn visit_one_run(
        &self,
        (keyspace, from, to): (u32, &[u8], Option<&[u8]>),
        snapshot: u64,
        limit: usize,
        visit: &mut VisitEntry<'_>,
    ) -> Result<Option<usize>> {
        if self.tables().any(|table| table.estimate(keyspace, from, to, 1) > 0) {
            return Ok(None);
        }
        let from = full_key(keyspace, from);
        let to = to.map_or_else(|| full_key(keyspace + 1, &[]), |to| full_key(keyspace, to));
        let Some(run) = self.levels.one_run(&from, &to) else { return Ok(None) };
        let mut last = Vec::with_capacity(2 * from.len());
        let mut count = 0;
        for segment in run {
            let mut iter = SegmentIter::new(&**segment);
            iter.seek(&from, u64::MAX)?;
            while count < limit && iter.step()? {
                let Some((full, _)) = iter.at() else { break };
                if full >= &to[..] {
                    return Ok(Some(count));
                }
                if let Some(visited) = iter.visit_newest(snapshot, &mut last, &mut *visit)? {
                    visited?;
                    count += 1;
                }
            }
        }
        Ok(Some(count))
    }
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
