//! Bulk loading: sorted segments written directly, named by one edit of the manifest.
//!
//! Nothing of a load is visible or survives before `finish`; then all of it is and does.

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering, mpsc},
    thread::JoinHandle,
};

use bytes::Bytes;

use super::Core;
use crate::{
    error::{Error, Result},
    lsm::{LEVELS, Levels, Output},
    segment::SegmentInfo,
};

/// Entries are handed to the writer in pieces of this size.
const CHUNK_BYTES: usize = 256 << 10;
/// Unsorted entries are kept up to this size, then written as a sorted run.
const RUN_BYTES: usize = 24 << 20;

type Pair = (Bytes, Bytes);

/// A load in progress. Dropping it leaves no trace.
#[derive(Debug)]
pub(crate) struct Ingest {
    core: Arc<Core>,
    seq: u64,
    keyspaces: BTreeMap<u32, Part>,
    runs: Vec<Vec<SegmentInfo>>,
}

/// What is gathered of one keyspace.
#[derive(Debug, Default)]
struct Part {
    pairs: Vec<Pair>,
    bytes: usize,
    /// While keys only rise, they stream straight into a writer.
    stream: Option<Stream>,
    last: Bytes,
    is_unsorted: bool,
}

#[derive(Debug)]
struct Stream {
    send: mpsc::SyncSender<Vec<Pair>>,
    writer: JoinHandle<Result<Vec<SegmentInfo>>>,
}

impl Ingest {
    /// The caller holds the store locked, so that no commit comes between.
    pub(crate) fn new(core: &Arc<Core>) -> Result<Self> {
        core.check_open()?;
        // Everything older goes to segments first: the load then lies above it.
        core.checkpoint()?;
        let seq = core.log.reserve();
        Ok(Self { core: Arc::clone(core), seq, keyspaces: BTreeMap::new(), runs: Vec::new() })
    }

    pub(crate) fn put(&mut self, keyspace: u32, key: Bytes, value: Bytes) -> Result<()> {
        let part = self.keyspaces.entry(keyspace).or_default();
        if key <= part.last && !part.last.is_empty() {
            if part.stream.is_some() {
                // The order broke: what was streamed becomes a run of its own.
                let run = part.end_stream(&self.core, keyspace, self.seq)?;
                self.runs.push(run);
            }
            part.is_unsorted = true;
        }
        part.last.clone_from(&key);
        part.bytes += key.len() + value.len() + 32;
        part.pairs.push((key, value));
        if !part.is_unsorted && part.bytes >= CHUNK_BYTES {
            part.stream(&self.core, keyspace, self.seq)?;
        } else if part.bytes >= RUN_BYTES {
            let run = part.write_run(&self.core, keyspace, self.seq)?;
            self.runs.push(run);
        }
        Ok(())
    }

    /// Writes the rest and makes everything visible and durable at once.
    pub(crate) fn finish(mut self) -> Result<u64> {
        let parts = std::mem::take(&mut self.keyspaces);
        for (keyspace, mut part) in parts {
            let run = if part.stream.is_some() {
                part.end_stream(&self.core, keyspace, self.seq)?
            } else {
                part.write_run(&self.core, keyspace, self.seq)?
            };
            self.runs.push(run);
        }
        let runs = std::mem::take(&mut self.runs);
        let seq = self.core.install_ingest(runs, self.seq)?;
        Ok(seq)
    }
}

impl Part {
    fn stream(&mut self, core: &Arc<Core>, keyspace: u32, seq: u64) -> Result<()> {
        if !core.options.env.has_threads() {
            return Ok(());
        }
        let pairs = std::mem::take(&mut self.pairs);
        self.bytes = 0;
        if self.stream.is_none() {
            let (send, receive) = mpsc::sync_channel::<Vec<Pair>>(4);
            let core = Arc::clone(core);
            let writer = std::thread::spawn(move || {
                let next = || core.next_file.fetch_add(1, Ordering::Relaxed);
                let mut output = Output::new(core.output_config(&next));
                for pairs in receive {
                    for (key, value) in pairs {
                        output.add(keyspace, &key, seq, Some(&value), None)?;
                    }
                }
                output.finish()
            });
            self.stream = Some(Stream { send, writer });
        }
        if let Some(stream) = &self.stream
            && stream.send.send(pairs).is_err()
        {
            // The writer has stopped; its error comes from joining it.
            self.end_stream(core, keyspace, seq)?;
        }
        Ok(())
    }

    fn end_stream(&mut self, core: &Core, keyspace: u32, seq: u64) -> Result<Vec<SegmentInfo>> {
        let Some(stream) = self.stream.take() else { return self.write_run(core, keyspace, seq) };
        let rest = std::mem::take(&mut self.pairs);
        self.bytes = 0;
        let _ = stream.send.send(rest);
        drop(stream.send);
        stream.writer.join().unwrap_or(Err(Error::Closed))
    }

    fn write_run(&mut self, core: &Core, keyspace: u32, seq: u64) -> Result<Vec<SegmentInfo>> {
        let mut pairs = std::mem::take(&mut self.pairs);
        self.bytes = 0;
        if self.is_unsorted {
            // Stable, so of equal keys the one that came last is last.
            pairs.sort_by(|a, b| a.0.cmp(&b.0));
        }
        let next = || core.next_file.fetch_add(1, Ordering::Relaxed);
        let mut output = Output::new(core.output_config(&next));
        for (i, (key, value)) in pairs.iter().enumerate() {
            if pairs.get(i + 1).is_some_and(|(next, _)| next == key) {
                continue;
            }
            output.add(keyspace, key, seq, Some(value), None)?;
        }
        output.finish()
    }
}

impl Core {
    fn install_ingest(&self, runs: Vec<Vec<SegmentInfo>>, seq: u64) -> Result<u64> {
        // Names of new keyspaces are on their way through the log; they must be durable first.
        loop {
            let synced =
                self.log.when_idle(|wal, _| if wal.is_dirty() { wal.sync() } else { Ok(()) });
            match synced {
                Some(Ok(())) => break,
                Some(Err(e)) => self.log.poison(&format!("writing to the log failed: {e}")),
                None => {}
            }
            if self.log.is_poisoned() {
                return Err(self.log.poison_error());
            }
            if !self.log.step() {
                std::thread::yield_now();
            }
        }
        let mut manifest = self.manifest.lock();
        let tree = self.tree.load_full();
        let mut levels = Levels::clone(&tree.levels);
        for run in runs {
            let level = self.level_for(&levels, &run);
            for info in run {
                let at = if level == 0 {
                    0
                } else {
                    levels.levels[level].partition_point(|s| s.info.min_key < info.min_key)
                };
                let segment = self.segment(info);
                levels.levels[level].insert(at, segment);
            }
        }
        let flushed = self.flushed_seq.load(Ordering::Relaxed);
        let floor = self.log.floor(&[Arc::clone(&tree.active)]);
        let state = self.state(&levels, flushed.max(seq), floor);
        manifest.append(&state)?;
        self.flushed_seq.fetch_max(seq, Ordering::Relaxed);
        self.change_tree(|tree| tree.levels = Arc::new(levels));
        drop(manifest);
        self.versions.note_all(seq);
        self.log.publish_to(seq);
        self.wake_background();
        Ok(seq)
    }

    /// Level 0 if anything overlaps; otherwise the level whose size suits the store.
    fn level_for(&self, levels: &Levels, run: &[SegmentInfo]) -> usize {
        let overlaps = run.iter().any(|info| {
            (0..LEVELS)
                .any(|level| !levels.overlapping(level, &info.min_key, &info.max_key).is_empty())
        });
        if overlaps {
            return 0;
        }
        let total: u64 = levels.all().map(|(_, s)| s.info.bytes).sum::<u64>()
            + run.iter().map(|i| i.bytes).sum::<u64>();
        let mut target = self.options.level_base_bytes;
        let mut level = 1;
        while target < total && level + 1 < LEVELS {
            target *= 8;
            level += 1;
        }
        level
    }
}
