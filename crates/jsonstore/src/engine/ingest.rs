//! Bulk loading: sorted segments written directly, named by one edit of the manifest.
//!
//! Nothing of a load is visible or survives before `finish`; then all of it is and does.

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering, mpsc},
    thread::JoinHandle,
};

use super::Core;
use crate::{
    bugs::bug,
    codec::put_varint,
    error::{Error, Result},
    frame::{FLAG_LOAD, FrameType},
    lsm::{LEVELS, Levels, Output},
    manifest::Manifest,
    memtable::Memtable,
    segment::SegmentInfo,
    wal::{Record, WalWriter},
};

/// Entries are handed to the writer in pieces of this size.
const CHUNK_BYTES: usize = 256 << 10;
/// Unsorted entries are kept up to this size, then written as a sorted run.
const RUN_BYTES: usize = 24 << 20;

/// Takes pairs: key, and value unless it is deleted.
pub(super) type Visit<'a> = dyn FnMut(&[u8], Option<&[u8]>) -> Result<()> + 'a;

/// Pairs in one piece of memory: no allocation for each, and none that passes between threads.
#[derive(Debug, Default)]
pub(super) struct Batch {
    bytes: Vec<u8>,
    entries: Vec<Entry>,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    at: u32,
    key: u32,
    /// `DELETED` for none.
    value: u32,
}

const DELETED: u32 = u32::MAX;

impl Batch {
    pub(super) fn push(&mut self, key: &[u8], value: Option<&[u8]>) {
        // A batch is handed on long before it holds 4 GiB.
        let [at, key_len, value_len] =
            [self.bytes.len(), key.len(), value.map_or(DELETED as usize, <[u8]>::len)]
                .map(|n| u32::try_from(n).expect("a batch is small"));
        self.bytes.extend_from_slice(key);
        self.bytes.extend_from_slice(value.unwrap_or_default());
        self.entries.push(Entry { at, key: key_len, value: value_len });
    }

    fn key(&self, entry: Entry) -> &[u8] {
        &self.bytes[entry.at as usize..][..entry.key as usize]
    }

    fn value(&self, entry: Entry) -> Option<&[u8]> {
        let from = entry.at as usize + entry.key as usize;
        (entry.value != DELETED).then(|| &self.bytes[from..][..entry.value as usize])
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(super) fn each(&self, visit: &mut Visit<'_>) -> Result<()> {
        self.entries.iter().try_for_each(|entry| visit(self.key(*entry), self.value(*entry)))
    }

    fn last_key(&self) -> Option<&[u8]> {
        self.entries.last().map(|entry| self.key(*entry))
    }

    /// Memory it takes.
    pub(super) fn size(&self) -> usize {
        self.bytes.len() + self.entries.len() * size_of::<Entry>()
    }

    /// By key; of equal keys only the one that came last stays.
    pub(super) fn sort(&mut self) {
        let bytes = &self.bytes;
        let key = |e: &Entry| &bytes[e.at as usize..][..e.key as usize];
        // Stable, so of equal keys the one that came last is last.
        self.entries.sort_by(|a, b| key(a).cmp(key(b)));
        self.entries.dedup_by(|later, kept| {
            let same = key(later) == key(kept);
            if same {
                *kept = *later;
            }
            same
        });
    }

    pub(super) fn write(&self, output: &mut Output<'_>, keyspace: u32, seq: u64) -> Result<()> {
        for entry in &self.entries {
            output.add(keyspace, self.key(*entry), seq, self.value(*entry), None)?;
        }
        Ok(())
    }
}

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
    batch: Batch,
    /// While keys only rise, they stream straight into a writer.
    stream: Option<Stream>,
    last: Vec<u8>,
    is_unsorted: bool,
}

#[derive(Debug)]
struct Stream {
    send: mpsc::SyncSender<Batch>,
    writer: JoinHandle<Result<Vec<SegmentInfo>>>,
}

impl Ingest {
    /// The caller holds the store locked, so that no commit of documents comes between.
    pub(crate) fn new(core: &Arc<Core>) -> Result<Self> {
        core.check_open()?;
        let seq = core.log.reserve();
        Ok(Self { core: Arc::clone(core), seq, keyspaces: BTreeMap::new(), runs: Vec::new() })
    }

    /// The number that it will have.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn seq(&self) -> u64 {
        self.seq
    }

    /// Sets a pair, or removes it if there is no value.
    pub(crate) fn put(&mut self, keyspace: u32, key: &[u8], value: Option<&[u8]>) -> Result<()> {
        let part = self.keyspaces.entry(keyspace).or_default();
        let last = part.batch.last_key().unwrap_or(&part.last);
        if !part.is_unsorted && key <= last && !last.is_empty() {
            if part.stream.is_some() {
                // The order broke: what was streamed becomes a run of its own.
                let run = part.end_stream(&self.core, keyspace, self.seq)?;
                self.runs.push(run);
            }
            part.is_unsorted = true;
        }
        part.batch.push(key, value);
        let bytes = part.batch.size();
        if !part.is_unsorted && bytes >= CHUNK_BYTES && self.core.options.env.has_threads() {
            part.stream(&self.core, keyspace, self.seq)?;
        } else if bytes >= RUN_BYTES {
            let run = part.write_run(&self.core, keyspace, self.seq)?;
            self.runs.push(run);
        }
        Ok(())
    }

    /// Writes the rest and makes everything visible and durable at once.
    pub(crate) fn finish(mut self) -> Result<()> {
        let parts = std::mem::take(&mut self.keyspaces);
        let (core, seq) = (&self.core, self.seq);
        let end = move |keyspace, mut part: Part| part.end_stream(core, keyspace, seq);
        let ended: Vec<Result<Vec<SegmentInfo>>> = if core.options.env.has_threads() {
            // Most of it is sorting, compressing and waiting for the disk.
            std::thread::scope(|scope| {
                let running: Vec<_> = parts
                    .into_iter()
                    .map(|(keyspace, part)| scope.spawn(move || end(keyspace, part)))
                    .collect();
                running.into_iter().map(|t| t.join().unwrap_or(Err(Error::Closed))).collect()
            })
        } else {
            parts.into_iter().map(|(keyspace, part)| end(keyspace, part)).collect()
        };
        for run in ended {
            self.runs.push(run?);
        }
        let runs = std::mem::take(&mut self.runs);
        self.core.install_ingest(&runs, self.seq)
    }
}

impl Part {
    fn stream(&mut self, core: &Arc<Core>, keyspace: u32, seq: u64) -> Result<()> {
        let batch = self.take_batch();
        if self.stream.is_none() {
            let (send, receive) = mpsc::sync_channel::<Batch>(4);
            let core = Arc::clone(core);
            let writer = std::thread::spawn(move || {
                let next = || core.next_file.fetch_add(1, Ordering::Relaxed);
                let mut output = Output::new(core.output_config(&next));
                for batch in receive {
                    batch.write(&mut output, keyspace, seq)?;
                }
                output.finish()
            });
            self.stream = Some(Stream { send, writer });
        }
        if let Some(stream) = &self.stream
            && stream.send.send(batch).is_err()
        {
            // The writer has stopped; its error comes from joining it.
            self.end_stream(core, keyspace, seq)?;
        }
        Ok(())
    }

    /// What was gathered; the next batch will be about as large.
    fn take_batch(&mut self) -> Batch {
        self.last.clear();
        self.last.extend_from_slice(self.batch.last_key().unwrap_or_default());
        let next = Batch {
            bytes: Vec::with_capacity(self.batch.bytes.len() * 9 / 8),
            entries: Vec::with_capacity(self.batch.entries.len() * 9 / 8),
        };
        std::mem::replace(&mut self.batch, next)
    }

    /// Writes the rest; with no stream, as a run.
    fn end_stream(&mut self, core: &Core, keyspace: u32, seq: u64) -> Result<Vec<SegmentInfo>> {
        let Some(stream) = self.stream.take() else { return self.write_run(core, keyspace, seq) };
        let _ = stream.send.send(self.take_batch());
        drop(stream.send);
        stream.writer.join().unwrap_or(Err(Error::Closed))
    }

    fn write_run(&mut self, core: &Core, keyspace: u32, seq: u64) -> Result<Vec<SegmentInfo>> {
        let mut batch = self.take_batch();
        if self.is_unsorted {
            batch.sort();
        }
        let next = || core.next_file.fetch_add(1, Ordering::Relaxed);
        let mut output = Output::new(core.output_config(&next));
        batch.write(&mut output, keyspace, seq)?;
        output.finish()
    }
}

impl Core {
    fn install_ingest(&self, runs: &[Vec<SegmentInfo>], seq: u64) -> Result<()> {
        loop {
            // Everything older goes to segments first: the load lies above it, and with the load's
            // number the manifest says that none of it is needed from the log.
            let skip = bug("load_unflushed");
            if !skip {
                self.checkpoint()?;
            }
            let mut manifest = self.manifest.lock();
            let is_flushed =
                |active: &Memtable| skip || (active.is_empty() && self.tree().frozen.is_empty());
            let name = |wal: &mut WalWriter| self.name_ingest(&mut manifest, wal, runs, seq);
            if let Some(named) = self.log.take_reserved(seq, is_flushed, name)? {
                named?;
                break;
            }
            if self.log.is_poisoned() {
                return Err(self.log.poison_error());
            }
            drop(manifest);
            // Whoever commits has a thread that leads, or is carried here.
            if !self.log.step() {
                std::thread::yield_now();
            }
        }
        self.wake_background();
        Ok(())
    }

    /// While no group is being written.
    fn name_ingest(
        &self,
        manifest: &mut Manifest,
        wal: &mut WalWriter,
        runs: &[Vec<SegmentInfo>],
        seq: u64,
    ) -> Result<()> {
        // Says in the log that it does not hold this load, for whoever replays it.
        let mut payload = vec![0];
        put_varint(&mut payload, self.options.env.wall_ms());
        let flags = if bug("load_unmarked") { 0 } else { FLAG_LOAD };
        let mark = Record { kind: FrameType::Mark, seq, flags, payload: payload.into() };
        if let Err(e) = wal.append(&[mark], true) {
            self.log.poison(&format!("writing to the log failed: {e}"));
            return Err(self.log.poison_error());
        }
        let mut levels = Levels::clone(&self.tree().levels);
        for run in runs {
            let level = self.level_for(&levels, run);
            for info in run {
                let at = if level == 0 {
                    0
                } else {
                    levels.levels[level].partition_point(|s| s.info.min_key < info.min_key)
                };
                let segment = self.segment(info.clone());
                levels.levels[level].insert(at, segment);
            }
        }
        let flushed = self.flushed_seq.load(Ordering::Relaxed);
        // No memtable holds anything.
        let state = self.state(&levels, flushed.max(seq), wal.durable());
        if let Err(e) = manifest.append(&state) {
            // Whether it is named is open: a commit that replaces a document of it could not know its
            // entries in indexes, so none may follow.
            if !bug("load_in_doubt") {
                self.fail(&e);
            }
            return Err(e);
        }
        self.flushed_seq.fetch_max(seq, Ordering::Relaxed);
        self.change_tree(|tree| tree.levels = Arc::new(levels));
        self.versions.note_all(seq);
        self.log.publish_to(seq);
        Ok(())
    }

    /// Level 0 if anything overlaps; otherwise the level whose size suits the store.
    pub(super) fn level_for(&self, levels: &Levels, run: &[SegmentInfo]) -> usize {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_equal_keys_the_last_stays() {
        let mut batch = Batch::default();
        let pairs: [(&[u8], &[u8]); 6] =
            [(b"b", b"1"), (b"", b""), (b"a", b"2"), (b"b", b"3"), (b"", b"4"), (b"a", b"")];
        for (key, value) in pairs {
            batch.push(key, Some(value));
        }
        batch.push(b"c", Some(b"5"));
        batch.push(b"c", None);
        assert_eq!(batch.last_key(), Some(&b"c"[..]));
        batch.sort();
        let left: Vec<_> = batch.entries.iter().map(|e| (batch.key(*e), batch.value(*e))).collect();
        let want: [(&[u8], Option<&[u8]>); 4] =
            [(b"", Some(b"4")), (b"a", Some(b"")), (b"b", Some(b"3")), (b"c", None)];
        assert_eq!(left, want);
    }
}
