//! Sorting more pairs than fit into memory: sorted runs as segments that no manifest names.

use std::sync::{Arc, atomic::Ordering};

use super::{
    Core,
    ingest::{Batch, Visit},
};
use crate::{
    error::Result,
    lsm::{LEVELS, Levels, MergeIter, Output, Plan, Source, full_key},
    segment::{Segment, SegmentInfo},
};

/// Pairs are gathered up to this size, then written as a sorted run.
const RUN_BYTES: usize = 16 << 20;

/// Pairs of one keyspace, in any order. Memory is bounded; what is too much goes to files, which go
/// with the sorter, or at the next opening.
#[derive(Debug)]
pub(crate) struct Sorter {
    core: Arc<Core>,
    keyspace: u32,
    batch: Batch,
    runs: Vec<Vec<Arc<Segment>>>,
    run_bytes: usize,
    /// Pairs that were pushed.
    pub(crate) count: u64,
}

impl Sorter {
    pub(crate) fn new(core: &Arc<Core>, keyspace: u32) -> Self {
        // A store that is only read gets no files.
        let run_bytes = match core.options.read_only {
            true => usize::MAX,
            false => RUN_BYTES.min(core.options.memtable_limit()),
        };
        let core = Arc::clone(core);
        Self { core, keyspace, batch: Batch::default(), runs: Vec::new(), run_bytes, count: 0 }
    }

    /// # Errors
    /// I/O errors.
    pub(crate) fn push(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<()> {
        self.count += 1;
        self.batch.push(key, value);
        if self.batch.size() >= self.run_bytes { self.end_run() } else { Ok(()) }
    }

    /// All pairs in order; of equal keys the one that was pushed last.
    ///
    /// # Errors
    /// I/O errors, and those of `visit`.
    pub(crate) fn finish(mut self, visit: &mut Visit<'_>) -> Result<()> {
        if self.runs.is_empty() {
            self.batch.sort();
            return self.batch.each(visit);
        }
        self.end_run()?;
        let from = full_key(self.keyspace, &[]);
        let mut sources = Vec::with_capacity(self.runs.len());
        for run in &self.runs {
            sources.push(Source::keyspace(run.clone(), &from, None)?);
        }
        let mut merge = MergeIter::new(sources, u64::MAX)?;
        let mut last = None;
        while let Some(entry) = merge.next_version()? {
            // A later run has a larger number, so it comes first.
            if last.as_ref() != Some(&entry.key) {
                visit(&entry.key, entry.value.as_deref())?;
                last = Some(entry.key);
            }
        }
        Ok(())
    }

    fn end_run(&mut self) -> Result<()> {
        if self.batch.is_empty() {
            return Ok(());
        }
        self.batch.sort();
        let core = &self.core;
        let next = || core.next_file();
        let mut output = Output::new(core.output_config(&next));
        self.batch.write(&mut output, self.keyspace, self.runs.len() as u64 + 1)?;
        let infos: Vec<SegmentInfo> = output.finish()?;
        let segments: Vec<_> = infos.into_iter().map(|info| core.segment(info)).collect();
        // Nobody names them, so they go with the last who reads them.
        segments.iter().for_each(|segment| segment.supersede());
        self.runs.push(segments);
        self.batch = Batch::default();
        Ok(())
    }
}

impl Core {
    /// The number of a new segment.
    pub(crate) fn next_file(&self) -> u64 {
        self.next_file.fetch_add(1, Ordering::Relaxed)
    }

    /// Removes segments that no manifest names.
    pub(crate) fn remove_segments(&self, run: &[SegmentInfo]) {
        for info in run {
            self.segment(info.clone()).supersede();
        }
    }

    /// Adds segments whose pairs are older than what is there, as of a snapshot that was registered
    /// ever since: a deletion that is newer than it has not gone. They are put below all that overlaps
    /// them: a deletion goes once nothing lies below it, and what it hid would come back from above.
    ///
    /// # Errors
    /// `SnapshotTooOld` if it was given up: nothing was added then. I/O errors: what was added may be
    /// named by the manifest or not, so its files stay; the next opening removes them if it is not.
    pub(crate) fn install_below(&self, run: Vec<SegmentInfo>, snapshot: u64) -> Result<()> {
        // A compaction under way does not know of them, and may drop deletions that hide them.
        let _one = self.compact_lock.lock();
        let checked = self.log.check_snapshot(snapshot).and_then(|()| self.check_open());
        checked.inspect_err(|_| self.remove_segments(&run))?;
        let (Some(first), Some(last)) = (run.first(), run.last()) else { return Ok(()) };
        let levels = Arc::clone(&self.tree().levels);
        let overlapping = |level| levels.overlapping(level, &first.min_key, &last.max_key);
        let deepest = (0..LEVELS).rev().find(|level| !overlapping(*level).is_empty());
        let level = match deepest {
            None => self.level_for(&levels, &run),
            Some(0) => 1,
            Some(level) => {
                let below = overlapping(level);
                let inputs = run.into_iter().map(|info| self.segment(info)).collect();
                return self
                    .compact(&Plan { from: level - 1, inputs, below, rewrites: false }, &levels);
            }
        };
        let mut manifest = self.manifest.lock();
        let tree = self.tree.load_full();
        let mut levels = Levels::clone(&tree.levels);
        for info in run {
            let list = &mut levels.levels[level];
            let at = list.partition_point(|s| s.info.min_key < info.min_key);
            list.insert(at, self.segment(info));
        }
        let flushed = self.flushed_seq.load(Ordering::Relaxed);
        let tables: Vec<_> = tree.frozen.iter().chain([&tree.active]).cloned().collect();
        let floor = self.log.floor(&tables);
        manifest.append(&self.state(&levels, flushed, floor)).inspect_err(|e| self.fail(e))?;
        self.change_tree(|tree| tree.levels = Arc::new(levels));
        drop(manifest);
        self.wake_background();
        Ok(())
    }
}
