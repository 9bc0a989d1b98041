//! Leveled compaction: what to merge next, and which versions anyone can still see.

use std::{path::PathBuf, sync::Arc};

use bytes::Bytes;

use super::{LEVELS, Levels, MergeIter, Source};
use crate::{
    bugs::bug,
    crypt::MasterKey,
    env::Env,
    error::Result,
    memtable::Entry,
    segment::{Dictionaries, Packed, Segment, SegmentBuilder, SegmentInfo, keyspace_of},
    vfs::Vfs,
};

/// Each level holds this many times the one above.
const RATIO: u64 = 8;
/// Bytes merged between two looks at what else is going on.
const PIECE_BYTES: u64 = 256 << 10;
/// Bytes written between two offers of the processor to whoever waits for it, some 0.1 ms. A thread that computes
/// keeps it for a tick of the scheduler otherwise, which is up to 4 ms: that of a commit that waits meanwhile.
const YIELD_BYTES: usize = 16 << 10;
/// From this size on a segment ends where a keyspace ends.
const CUT_AT_KEYSPACE: u64 = 8 << 20;

/// A compaction to do.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) from: usize,
    pub(crate) inputs: Vec<Arc<Segment>>,
    /// Segments of the next level that overlap.
    pub(crate) below: Vec<Arc<Segment>>,
    /// A segment with nothing below is not just moved there.
    pub(crate) rewrites: bool,
}

/// The most urgent compaction, if any level is too large: the one that is so by the largest factor.
/// Were level 0 always first, it would be merged into a level 1 that grows and grows.
pub(crate) fn pick(
    levels: &Levels,
    l0_trigger: usize,
    base_bytes: u64,
    cursors: &mut [Vec<u8>; LEVELS],
) -> Option<Plan> {
    let score = |size: u64, target: u64| size.saturating_mul(1000) / target.max(1);
    let first = score(levels.levels[0].len() as u64, l0_trigger as u64);
    let scores = (1..LEVELS - 1).map(|level| {
        // What is exactly as large as it may be is not too large.
        let bytes = levels.bytes(level).saturating_sub(1);
        (level, score(bytes, target_bytes(levels, level, base_bytes)))
    });
    let (level, worst) = scores.fold((0, first), |a, b| if b.1 > a.1 { b } else { a });
    if worst < 1000 {
        return None;
    }
    if level == 0 {
        return Some(plan_l0(levels));
    }
    // Go round the key range, so that every part gets its turn.
    let (list, cursor) = (&levels.levels[level], &mut cursors[level]);
    let next = list.iter().find(|s| s.info.min_key > *cursor).or_else(|| list.first())?;
    cursor.clone_from(&next.info.min_key);
    Some(plan_level(levels, level, Arc::clone(next)))
}

/// Above the last level there is only a part of what it holds, so that old versions in it are merged
/// away before they take much space: all levels above together stay below a sixth of it.
fn target_bytes(levels: &Levels, level: usize, base_bytes: u64) -> u64 {
    let steps = |count: usize| RATIO.saturating_pow(count as u32);
    let own = base_bytes.saturating_mul(steps(level - 1));
    let last = (1..LEVELS).rev().find(|l| !levels.levels[*l].is_empty()).unwrap_or(1);
    if level >= last {
        return own;
    }
    own.min((levels.bytes(last) / steps(last - level)).max(base_bytes / 4))
}

/// Merges all of level 0 into level 1.
pub(crate) fn plan_l0(levels: &Levels) -> Plan {
    let inputs = levels.levels[0].clone();
    let min = inputs.iter().map(|s| s.info.min_key.clone()).min().unwrap_or_default();
    let max = inputs.iter().map(|s| s.info.max_key.clone()).max().unwrap_or_default();
    Plan { from: 0, below: levels.overlapping(1, &min, &max), inputs, rewrites: false }
}

pub(super) fn plan_level(levels: &Levels, level: usize, first: Arc<Segment>) -> Plan {
    let mut inputs = vec![first];
    // Versions of one key that lie on both sides of a border must move together.
    let list = &levels.levels[level];
    loop {
        let before = inputs.len();
        for segment in list {
            let touches = inputs.iter().any(|s| {
                s.info.number != segment.info.number
                    && s.info.max_key >= segment.info.min_key
                    && s.info.min_key <= segment.info.max_key
            });
            if touches && !inputs.iter().any(|s| s.info.number == segment.info.number) {
                inputs.push(Arc::clone(segment));
            }
        }
        if inputs.len() == before {
            break;
        }
    }
    inputs.sort_by(|a, b| a.info.min_key.cmp(&b.info.min_key));
    let min = inputs.first().map(|s| s.info.min_key.clone()).unwrap_or_default();
    let max = inputs.last().map(|s| s.info.max_key.clone()).unwrap_or_default();
    Plan { from: level, below: levels.overlapping(level + 1, &min, &max), inputs, rewrites: false }
}

/// Which versions may go.
#[derive(Debug, Clone)]
pub(crate) struct GcRule {
    /// Snapshots someone holds, and the newest visible sequence number; ascending.
    pub(crate) boundaries: Vec<u64>,
}

impl GcRule {
    /// Whether the version `seq` is what some snapshot sees, given the next newer version.
    pub(crate) fn is_needed(&self, seq: u64, newer: Option<u64>) -> bool {
        // The first boundary at or after this version sees it, unless the newer one is there, too.
        let at = if bug("gc_off_by_one") {
            self.boundaries.partition_point(|b| *b <= seq)
        } else {
            self.boundaries.partition_point(|b| *b < seq)
        };
        match (self.boundaries.get(at), newer) {
            (Some(boundary), Some(newer)) => newer > *boundary,
            (Some(_), None) => true,
            // Newer than every boundary: nobody sees it yet, but everybody will.
            (None, None) => true,
            (None, Some(_)) => !bug("gc_off_by_one"),
        }
    }

    /// The oldest snapshot that anyone holds or can take.
    pub(crate) fn oldest(&self) -> u64 {
        self.boundaries.first().copied().unwrap_or(0)
    }
}

/// Where and how segments are written.
pub(crate) struct OutputConfig<'a> {
    pub(crate) vfs: &'a dyn Vfs,
    pub(crate) env: &'a dyn Env,
    pub(crate) dictionaries: &'a Dictionaries,
    pub(crate) dir: PathBuf,
    pub(crate) store_id: [u8; 16],
    pub(crate) key: Option<MasterKey>,
    pub(crate) segment_bytes: u64,
    pub(crate) next_number: &'a dyn Fn() -> u64,
}

/// Writes a sorted stream of entries as segments.
pub(crate) struct Output<'a> {
    config: OutputConfig<'a>,
    builder: Option<SegmentBuilder<'a>>,
    last_keyspace: u32,
    last_key: Vec<u8>,
    done: Vec<SegmentInfo>,
    /// Bytes written since the processor was offered.
    since_yield: usize,
}

impl<'a> Output<'a> {
    pub(crate) fn new(config: OutputConfig<'a>) -> Self {
        Self {
            config,
            builder: None,
            last_keyspace: 0,
            last_key: Vec::new(),
            done: Vec::new(),
            since_yield: 0,
        }
    }

    pub(crate) fn add(
        &mut self,
        keyspace: u32,
        key: &[u8],
        seq: u64,
        value: Option<&[u8]>,
        packed: Option<&Packed>,
    ) -> Result<()> {
        let same_key = self.last_keyspace == keyspace && self.last_key == key;
        if let Some(builder) = &self.builder {
            let bytes = builder.bytes();
            let border = keyspace != self.last_keyspace && bytes >= CUT_AT_KEYSPACE;
            if (bytes >= self.config.segment_bytes || border) && !same_key {
                self.end_segment()?;
            }
        }
        if !same_key {
            self.last_keyspace = keyspace;
            self.last_key.clear();
            self.last_key.extend_from_slice(key);
        }
        if self.builder.is_none() {
            let number = (self.config.next_number)();
            self.builder = Some(SegmentBuilder::create(
                self.config.vfs,
                self.config.env,
                self.config.dictionaries,
                &segment_path(&self.config.dir, number),
                number,
                self.config.store_id,
                self.config.key.as_ref(),
            )?);
        }
        self.since_yield += key.len() + value.map_or(0, <[u8]>::len);
        if self.since_yield >= YIELD_BYTES {
            self.since_yield = 0;
            if self.config.env.has_threads() {
                std::thread::yield_now();
            }
        }
        let builder = self.builder.as_mut().expect("made just above");
        match (value, packed) {
            (Some(value), Some(packed)) => builder.add_packed(keyspace, key, seq, value, packed),
            _ => builder.add(keyspace, key, seq, value),
        }
    }

    /// The segments, all durable.
    pub(crate) fn finish(mut self) -> Result<Vec<SegmentInfo>> {
        self.end_segment()?;
        Ok(self.done)
    }

    fn end_segment(&mut self) -> Result<()> {
        if let Some(builder) = self.builder.take().filter(|b| !b.is_empty()) {
            self.done.push(builder.finish(&self.config.dir)?);
        }
        Ok(())
    }
}

pub(crate) fn segment_path(dir: &std::path::Path, number: u64) -> PathBuf {
    dir.join(format!("{number:08x}.seg"))
}

/// Merges the inputs of a plan. `relax` is called now and then with the bytes merged since, to give
/// way to others.
pub(crate) fn run(
    plan: &Plan,
    levels: &Levels,
    rule: &GcRule,
    config: OutputConfig<'_>,
    relax: &mut dyn FnMut(u64) -> Result<()>,
) -> Result<Vec<SegmentInfo>> {
    let mut sources = Vec::new();
    if plan.from == 0 {
        for segment in &plan.inputs {
            sources.push(Source::packed(vec![Arc::clone(segment)])?);
        }
    } else {
        sources.push(Source::packed(plan.inputs.clone())?);
    }
    if !plan.below.is_empty() {
        sources.push(Source::packed(plan.below.clone())?);
    }
    let mut merge = MergeIter::new(sources, u64::MAX)?;
    let mut filter =
        Filter { rule, levels, to: plan.from + 1, key: Bytes::new(), newer: None, fresh: true };
    let mut output = Output::new(config);
    let mut bytes = 0;
    while let Some(entry) = merge.next_version()? {
        bytes += (entry.key.len() + entry.value.as_ref().map_or(0, Bytes::len)) as u64 + 16;
        if bytes >= PIECE_BYTES {
            relax(std::mem::take(&mut bytes))?;
        }
        if filter.keeps(&entry) {
            let keyspace = keyspace_of(&entry.key);
            let key = entry.key.slice(4..);
            output.add(keyspace, &key, entry.seq, entry.value.as_deref(), entry.packed.as_ref())?;
        }
    }
    output.finish()
}

/// Decides entry by entry; they come newest first within a key.
struct Filter<'a> {
    rule: &'a GcRule,
    levels: &'a Levels,
    to: usize,
    key: Bytes,
    newer: Option<u64>,
    fresh: bool,
}

impl Filter<'_> {
    fn keeps(&mut self, entry: &Entry) -> bool {
        if self.fresh || entry.key != self.key {
            self.fresh = false;
            self.key = entry.key.clone();
            self.newer = None;
        }
        let needed = self.rule.is_needed(entry.seq, self.newer);
        let newest = self.newer.is_none();
        self.newer = Some(entry.seq);
        if !needed {
            return false;
        }
        if entry.value.is_none()
            && newest
            && entry.seq <= self.rule.oldest()
            && !self.hides_something(entry)
        {
            return false;
        }
        true
    }

    /// A tombstone must stay while something older may lie below it.
    fn hides_something(&self, entry: &Entry) -> bool {
        if bug("drop_tombstones_early") {
            return false;
        }
        (self.to + 1..LEVELS)
            .any(|level| self.levels.levels[level].iter().any(|segment| segment.covers(&entry.key)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_someone_sees_are_needed() {
        let rule = GcRule { boundaries: vec![5, 10, 20] };
        // Versions 3, 5, 7, 12, 25 of one key; each with the next newer one.
        let needed = [(25, None), (12, Some(25)), (7, Some(12)), (5, Some(7)), (3, Some(5))]
            .map(|(seq, newer)| rule.is_needed(seq, newer));
        assert_eq!(needed, [true, true, true, true, false]);
        assert!(!GcRule { boundaries: vec![20] }.is_needed(7, Some(12)));
        assert!(GcRule { boundaries: vec![11] }.is_needed(7, Some(12)));
        assert!(GcRule { boundaries: vec![7] }.is_needed(7, Some(12)));
    }

    fn segment(number: u64, bytes: u64) -> Arc<Segment> {
        let (min_key, max_key) = (vec![0], vec![9]);
        let info =
            SegmentInfo { number, bytes, entries: 0, tombstones: 0, min_key, max_key, max_seq: 0 };
        let vfs: Arc<dyn Vfs> = Arc::new(crate::testing::SimVfs::new());
        let cache = Arc::new(crate::cache::BlockCache::new(0, 0));
        Arc::new(Segment::new(vfs, cache, Arc::default(), "/s".into(), [0; 16], None, info))
    }

    #[test]
    fn level_0_is_in_no_order() {
        let between = |number, min: u8, max: u8| {
            let mut segment = Arc::into_inner(segment(number, 1)).unwrap();
            (segment.info.min_key, segment.info.max_key) = (vec![min], vec![max]);
            Arc::new(segment)
        };
        let mut levels = Levels::default();
        levels.levels[0] = vec![between(4, 6, 7), between(3, 0, 9), between(2, 1, 2)];
        levels.levels[1] = vec![between(5, 1, 2), between(6, 3, 5), between(7, 6, 8)];
        let touched = |level, min: u8, max: u8| -> Vec<u64> {
            let found = levels.overlapping(level, &[min], &[max]);
            found.iter().map(|segment| segment.info.number).collect()
        };
        assert_eq!(touched(0, 1, 1), [3, 2]);
        assert_eq!(touched(0, 3, 6), [4, 3]);
        assert_eq!(touched(0, 8, 9), [3]);
        assert_eq!(touched(1, 2, 3), [5, 6]);
        assert_eq!(touched(1, 9, 9), [0; 0]);
    }

    #[test]
    fn levels_above_the_last_hold_a_part_of_it() {
        let mut levels = Levels::default();
        let targets = |levels: &Levels| [1, 2, 3, 4].map(|level| target_bytes(levels, level, 128));
        assert_eq!(targets(&levels), [128, 1024, 8192, 65536], "each eight times the one above");
        levels.levels[3].push(segment(1, 6400));
        assert_eq!(targets(&levels), [100, 800, 8192, 65536]);
        levels.levels[4].push(segment(2, 16_000));
        assert_eq!(targets(&levels), [32, 250, 2000, 65536], "never less than a quarter");
    }

    #[test]
    fn the_level_that_is_most_too_large_goes_first() {
        let mut levels = Levels::default();
        let mut cursors: [Vec<u8>; LEVELS] = Default::default();
        let mut picked = |levels: &Levels| pick(levels, 4, 128, &mut cursors).map(|plan| plan.from);
        levels.levels[1].push(segment(1, 128));
        assert_eq!(picked(&levels), None);
        levels.levels[0] = (2..7).map(|number| segment(number, 10)).collect();
        assert_eq!(picked(&levels), Some(0));
        levels.levels[1].push(segment(8, 100));
        assert_eq!(picked(&levels), Some(1), "level 1 drains before it is added to");
        levels.levels[0].clear();
        levels.levels[1].pop();
        levels.levels[2].push(segment(9, 2000));
        assert_eq!(picked(&levels), Some(2));
    }
}
