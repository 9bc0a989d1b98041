//! Merging deletions with what they delete, though no level is too large.
//!
//! Where many documents are deleted and few are written, as where all of a collection expires, the levels would
//! hold both for long: nothing grows. The result of such a merge is mostly nothing at all.

use std::sync::Arc;

use super::{
    LEVELS, Levels, Plan,
    compact::{plan_l0, plan_level},
};
use crate::segment::Segment;

/// At least one of so many entries deletes something.
const ENTRIES_FOR_ONE: u64 = 4;
/// Entries below that are rewritten at most, for each deletion.
const REWRITTEN_FOR_ONE: u64 = 4;

/// A compaction that lets go of what was deleted, from the highest level where one is worth it. Nobody who
/// sees less than `oldest` may ask for what is deleted.
pub(crate) fn pick_deleted(levels: &Levels, oldest: u64) -> Option<Plan> {
    let first = Some(plan_l0(levels)).filter(|plan| !plan.inputs.is_empty());
    let of_level = |level: usize| {
        let dense = levels.levels[level].iter().filter(|segment| is_dense(&[Arc::clone(segment)]));
        dense.map(move |segment| plan_level(levels, level, Arc::clone(segment)))
    };
    let mut plans = first.into_iter().chain((1..LEVELS - 1).flat_map(of_level));
    let found = plans.find(|plan| is_worth_it(plan, oldest));
    // Even alone: it may hold what it deletes itself.
    found.map(|plan| Plan { rewrites: true, ..plan })
}

fn is_worth_it(plan: &Plan, oldest: u64) -> bool {
    let deletions: u64 = plan.inputs.iter().map(|segment| segment.info.tombstones).sum();
    let rewritten: u64 = plan.below.iter().map(|segment| segment.info.entries).sum();
    is_dense(&plan.inputs)
        && rewritten <= deletions.saturating_mul(REWRITTEN_FOR_ONE)
        && plan.inputs.iter().all(|segment| segment.info.max_seq <= oldest)
}

fn is_dense(segments: &[Arc<Segment>]) -> bool {
    let deletions: u64 = segments.iter().map(|segment| segment.info.tombstones).sum();
    let entries: u64 = segments.iter().map(|segment| segment.info.entries).sum();
    deletions > 0 && deletions.saturating_mul(ENTRIES_FOR_ONE) >= entries
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::segment::SegmentInfo;

    /// Entries and, of them, deletions between two keys, the newest of which is number 7.
    fn segment(number: u64, (min, max): (u8, u8), entries: u64, tombstones: u64) -> Arc<Segment> {
        let (min_key, max_key) = (vec![min], vec![max]);
        let info =
            SegmentInfo { number, bytes: 1, entries, tombstones, min_key, max_key, max_seq: 7 };
        let vfs: Arc<dyn crate::vfs::Vfs> = Arc::new(crate::testing::SimVfs::new());
        let cache = Arc::new(crate::cache::BlockCache::new(0, 0));
        Arc::new(Segment::new(vfs, cache, Arc::default(), "/s".into(), [0; 16], None, info))
    }

    fn picked(levels: &Levels) -> Option<(usize, Vec<u64>, Vec<u64>)> {
        let numbers = |all: &[Arc<Segment>]| all.iter().map(|s| s.info.number).collect();
        assert!(pick_deleted(levels, 6).is_none(), "somebody may see what was deleted");
        let plan = pick_deleted(levels, 7)?;
        assert!(plan.rewrites);
        Some((plan.from, numbers(&plan.inputs), numbers(&plan.below)))
    }

    #[test]
    fn deletions_are_merged_where_that_lets_go_of_much() {
        let mut levels = Levels::default();
        levels.levels[1] = vec![segment(1, (0, 4), 100, 24), segment(2, (5, 9), 100, 25)];
        assert_eq!(picked(&levels), Some((1, vec![2], vec![])), "one of four");
        levels.levels[2] = vec![segment(3, (6, 6), 50, 0), segment(4, (7, 7), 50, 0)];
        assert_eq!(picked(&levels), Some((1, vec![2], vec![3, 4])));
        levels.levels[2].push(segment(5, (8, 9), 1, 0));
        assert_eq!(picked(&levels), None, "more would be rewritten than is worth it");
        levels.levels[3] = vec![segment(6, (8, 9), 4, 4)];
        assert_eq!(picked(&levels), Some((3, vec![6], vec![])));
        levels.levels[0] = vec![segment(7, (0, 1), 10, 10), segment(8, (0, 1), 80, 10)];
        assert_eq!(picked(&levels), Some((3, vec![6], vec![])), "all of level 0 or nothing");
        levels.levels[0].pop();
        levels.levels[1].clear();
        assert_eq!(picked(&levels), Some((0, vec![7], vec![])));
    }

    #[test]
    fn at_the_end_nothing_is_left_to_do() {
        let mut levels = Levels::default();
        levels.levels[LEVELS - 1] = vec![segment(1, (0, 9), 10, 10)];
        assert_eq!(picked(&levels), None);
    }
}
