//! What keeps an index small and quick: building it, folding changes into parts, merging parts.
//!
//! Each piece of work reads one snapshot, writes the pages of a new part, which nobody looks at yet,
//! and then, in one transaction, a roster that names it. A crash before that leaves pages that no
//! roster names; they go before the next part is written.

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering},
};

use bytes::Bytes;

use super::{
    assemble::Assembly,
    build::renumber,
    list::{NONE, Postings},
    part::{DictionaryIter, PageSink, PartReader, PartWriter, TermInfo},
    roster::{self, Build, PartEntry, Roster},
    state::{Changed, Dead, SnapshotPages, TextState, chains},
};
use crate::{
    bugs::bug,
    commit::Op,
    engine::{Core, Hold},
    error::{Error, Result},
};

/// Changes are folded in portions of about this size.
const FOLD_BYTES: usize = 4 << 20;
/// Parts of like size that are merged into one.
const FAN: usize = 8;
/// A part does not grow beyond this by merging.
const PART_DOCS_MAX: u64 = 4 << 20;
/// Bytes of a transaction that writes pages.
const PAGES_BYTES_MAX: usize = 1 << 20;
/// Keys removed in one transaction.
const REMOVED_MAX: usize = 512;

/// What the keeper of an index remembers between two pieces of work.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    /// What it wrote last; it may not be visible to others yet.
    seq: u64,
    /// Changes with smaller numbers were all submitted with smaller sequence numbers.
    barrier: u64,
    /// No pages are left of a piece of work that failed.
    is_clear: bool,
    /// When the store was opened, nothing was known of changes.
    is_counted: bool,
}

/// What was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Work {
    None,
    Some,
}

impl TextState {
    /// Does one piece of work, if there is any. With `force`, every change is folded.
    pub(crate) fn work(self: &Arc<Self>, core: &Arc<Core>, force: bool) -> Result<Work> {
        let mut progress = self.upkeep.lock();
        let Some(_unit) = core.upkeep.begin() else { return Ok(Work::None) };
        let done = self.work_locked(core, &mut progress, force);
        if done.is_err() {
            progress.is_clear = false;
        }
        done
    }

    fn work_locked(
        self: &Arc<Self>,
        core: &Arc<Core>,
        progress: &mut Progress,
        force: bool,
    ) -> Result<Work> {
        core.check_open()?;
        if core.options.read_only {
            return Ok(Work::None);
        }
        let due = self.pending.load(Ordering::Relaxed) >= core.options.text_fold_changes as u64;
        let hold = Hold::new(core, false, progress.seq);
        let roster = self.roster(core, hold.seq)?;
        let mut job = Job { core, state: self, seq: hold.seq, roster, progress };
        if !job.roster.is_ready() {
            return job.build();
        }
        if !job.roster.dropped.is_empty() {
            return job.drop_parts();
        }
        if (due || force || !job.progress.is_counted) && job.fold(force)? == Work::Some {
            return Ok(Work::Some);
        }
        let inputs = job.pick();
        if inputs.is_empty() { Ok(Work::None) } else { job.merge(&inputs) }
    }
}

/// One piece of work, at one snapshot.
struct Job<'a> {
    core: &'a Core,
    state: &'a Arc<TextState>,
    seq: u64,
    roster: Roster,
    progress: &'a mut Progress,
}

impl Job<'_> {
    /// The next documents of a collection that was there before the index.
    fn build(&mut self) -> Result<Work> {
        let Build::Upto(from) = self.roster.build.clone() else { return Ok(Work::None) };
        self.clear()?;
        let mut assembly = Assembly::new(self.state);
        let mut upto = from.clone();
        let mut iter = self.core.iter(self.state.documents, &from, self.seq)?;
        let limit = self.core.options.text_build_bytes;
        let is_done = loop {
            let Some(entry) = iter.next_visible()? else { break true };
            if entry.key == from {
                continue;
            }
            assembly.add_document(&entry.key, &entry.value.unwrap_or_default());
            upto = entry.key;
            if assembly.bytes() >= limit {
                break false;
            }
        };
        // Their changes so far are in what was read.
        let all = self.state.changes(self.core, self.seq, self.roster.changes_from)?;
        let covered = |c: &&Changed| c.id > from && (is_done || c.id <= upto);
        if !bug("text_build_keeps_changes") {
            assembly.consume(all.iter().filter(covered));
        }
        self.roster.build = if is_done { Build::Done } else { Build::Upto(upto) };
        self.progress.is_counted = false;
        self.publish(assembly)
    }

    /// Turns changes into a part.
    fn fold(&mut self, force: bool) -> Result<Work> {
        let changes = self.state.changes(self.core, self.seq, self.roster.changes_from)?;
        self.state.pending.store(changes.len() as u64, Ordering::Relaxed);
        self.progress.is_counted = true;
        let least = if force { 1 } else { self.core.options.text_fold_changes.max(1) };
        if changes.len() < least {
            return Ok(Work::None);
        }
        self.clear()?;
        let mut bytes = 0;
        let fits = changes.iter().position(|c| {
            bytes += c.takes.len() + c.adds.len();
            bytes > FOLD_BYTES
        });
        let (folded, rest) = changes.split_at(fits.map_or(changes.len(), |at| at.max(1)));
        let mut assembly = Assembly::new(self.state);
        for (id, chain) in chains(folded) {
            assembly.apply(&id, &chain)?;
        }
        assembly.consume(folded);
        // Every change below the barrier is visible here, so it is folded or in the rest.
        if self.progress.barrier <= self.seq + 1 {
            let first = rest.iter().map(|c| c.number).min();
            let from = first.map_or(self.progress.barrier, |n| n.min(self.progress.barrier));
            self.roster.changes_from = self.roster.changes_from.max(from);
        }
        let done = self.publish(assembly)?;
        self.progress.barrier = self.core.stamp_barrier();
        self.state.pending.store(rest.len() as u64, Ordering::Relaxed);
        Ok(done)
    }

    /// Writes the part and everything that changes with it.
    fn publish(&mut self, mut assembly: Assembly) -> Result<Work> {
        let pages = SnapshotPages {
            core: self.core,
            keyspace: self.state.keyspace,
            snapshot: self.seq,
            cache: None,
        };
        let known = self.roster.parts.len();
        if !assembly.is_empty() {
            let number = self.roster.next_part;
            let mut sink = LogSink::new(self.core, self.state.keyspace, number);
            let docs = assembly.write(&mut sink)?;
            sink.flush()?;
            self.roster.next_part += 1;
            self.roster.parts.push(PartEntry { number, docs, dead: 0 });
        }
        let mut ops = assembly.finish(&pages, &mut self.roster, known)?;
        ops.push(self.roster_op());
        self.commit(&ops)
    }

    /// Which parts to merge; empty if none.
    fn pick(&self) -> Vec<usize> {
        let parts = &self.roster.parts;
        let dying = |p: &PartEntry| p.docs >= 64 && p.dead > p.docs / 2;
        if let Some(at) = parts.iter().position(dying) {
            return vec![at];
        }
        let mut tiers: BTreeMap<u32, (Vec<usize>, u64)> = BTreeMap::new();
        let unit = self.core.options.text_fold_changes.max(1) as u64;
        for (at, part) in parts.iter().enumerate() {
            let mut size = u64::from(part.live()) / unit;
            let mut tier = 0;
            while size >= FAN as u64 / 2 {
                size /= FAN as u64;
                tier += 1;
            }
            let (members, docs) = tiers.entry(tier).or_default();
            if *docs + u64::from(part.live()) <= PART_DOCS_MAX {
                *docs += u64::from(part.live());
                members.push(at);
            }
        }
        let full = tiers.into_values().find(|(members, _)| members.len() >= FAN);
        full.map(|(members, _)| members).unwrap_or_default()
    }

    /// Merges parts into one, without their dead.
    fn merge(&mut self, inputs: &[usize]) -> Result<Work> {
        self.clear()?;
        let pages = SnapshotPages {
            core: self.core,
            keyspace: self.state.keyspace,
            snapshot: self.seq,
            cache: None,
        };
        let entries: Vec<PartEntry> = inputs.iter().map(|at| self.roster.parts[*at]).collect();
        let headers = entries
            .iter()
            .map(|part| self.state.header(&pages, part.number))
            .collect::<Result<Vec<_>>>()?;
        let readers: Vec<PartReader<'_>> =
            headers.iter().zip(&entries).map(|(h, e)| pages.part(h, e.number)).collect();
        let number = self.roster.next_part;
        let mut sink = LogSink::new(self.core, self.state.keyspace, number);
        let mut dead: Vec<Dead<'_>> = entries.iter().map(|e| Dead::new(&pages, e)).collect();
        let fields = self.state.scheme.fields();
        let docs = merge_parts(&readers, &mut dead, fields, &mut sink)?;
        sink.flush()?;
        self.roster.next_part += 1;
        self.roster.dropped.extend(entries.iter().map(|e| e.number));
        self.roster.parts.retain(|part| !entries.contains(part));
        self.roster.parts.push(PartEntry { number, docs, dead: 0 });
        self.commit(&[self.roster_op()])
    }

    /// Removes pages of parts that were merged.
    fn drop_parts(&mut self) -> Result<Work> {
        let Some(part) = self.roster.dropped.first().copied() else { return Ok(Work::None) };
        let mut ops = Vec::new();
        for prefix in roster::part_prefixes(part) {
            self.remove_from(&prefix, |key| key.starts_with(&prefix), &mut ops)?;
        }
        if ops.len() < REMOVED_MAX {
            self.roster.dropped.remove(0);
            ops.push(self.roster_op());
        }
        self.commit(&ops)
    }

    /// Removes pages that no roster ever named.
    fn clear(&mut self) -> Result<()> {
        while !self.progress.is_clear {
            let mut ops = Vec::new();
            for prefix in roster::part_prefixes(self.roster.next_part) {
                self.remove_from(&prefix, |key| key[0] == prefix[0], &mut ops)?;
            }
            self.progress.is_clear = ops.len() < REMOVED_MAX;
            if !ops.is_empty() {
                self.commit(&ops)?;
                // What is gone shows in a newer snapshot only.
                self.seq = self.seq.max(self.progress.seq);
            }
        }
        Ok(())
    }

    fn remove_from(
        &self,
        from: &[u8],
        belongs: impl Fn(&[u8]) -> bool,
        ops: &mut Vec<Op>,
    ) -> Result<()> {
        let mut iter = self.core.iter(self.state.keyspace, from, self.seq)?;
        while ops.len() < REMOVED_MAX
            && let Some(entry) = iter.next_visible()?
            && belongs(&entry.key)
        {
            ops.push(Op { keyspace: self.state.keyspace, key: entry.key, value: None });
        }
        Ok(())
    }

    fn roster_op(&self) -> Op {
        let value = Some(self.roster.encode());
        Op { keyspace: self.state.keyspace, key: roster::roster_key(), value }
    }

    fn commit(&mut self, ops: &[Op]) -> Result<Work> {
        let ticket = self.core.submit(ops, None, false)?;
        self.core.log.wait(&ticket)?;
        self.progress.seq = ticket.seq;
        Ok(Work::Some)
    }
}

/// Pages on their way through the log.
struct LogSink<'a> {
    core: &'a Core,
    keyspace: u32,
    part: u64,
    ops: Vec<Op>,
    bytes: usize,
}

impl<'a> LogSink<'a> {
    fn new(core: &'a Core, keyspace: u32, part: u64) -> Self {
        Self { core, keyspace, part, ops: Vec::new(), bytes: 0 }
    }

    fn flush(&mut self) -> Result<()> {
        if !self.ops.is_empty() {
            // The roster comes later in the same log, so nobody needs to wait for this.
            self.core.submit(&self.ops, None, true)?;
            self.ops.clear();
            self.bytes = 0;
        }
        Ok(())
    }
}

impl PageSink for LogSink<'_> {
    fn put(&mut self, section: u8, page: u32, bytes: &[u8]) -> Result<()> {
        if self.core.is_stopping() {
            return Err(Error::Closed);
        }
        let most = PAGES_BYTES_MAX.min(self.core.options.wal_file_bytes as usize / 4);
        if self.bytes + bytes.len() > most {
            self.flush()?;
        }
        self.bytes += bytes.len() + 32;
        let key = Bytes::copy_from_slice(&roster::page_key(self.part, section, page));
        let value = Some(Bytes::copy_from_slice(bytes));
        self.ops.push(Op { keyspace: self.keyspace, key, value });
        Ok(())
    }
}

/// Writes one part with the live documents of several; returns how many they are.
fn merge_parts(
    readers: &[PartReader<'_>],
    dead: &mut [Dead<'_>],
    fields: usize,
    sink: &mut dyn PageSink,
) -> Result<u32> {
    let mut docs: Vec<(Vec<u8>, usize, u32)> = Vec::new();
    for (input, reader) in readers.iter().enumerate() {
        let mut ids = reader.ids();
        for doc in 0..reader.header.docs {
            if !dead[input].contains(doc)? {
                docs.push((ids.get(doc)?.to_vec(), input, doc));
            }
        }
    }
    docs.sort();
    let mut numbers: Vec<Vec<u32>> =
        readers.iter().map(|r| vec![NONE; r.header.docs as usize]).collect();
    for (new, (_, input, old)) in docs.iter().enumerate() {
        numbers[*input][*old as usize] = new as u32;
    }
    let mut lengths = Vec::with_capacity(fields);
    for field in 0..fields {
        let mut of: Vec<_> = readers.iter().map(|r| r.lengths(field as u8)).collect();
        let all: Result<Vec<u32>> =
            docs.iter().map(|(_, input, old)| of[*input].get(*old)).collect();
        lengths.push(all?);
    }
    let ids: Vec<&[u8]> = docs.iter().map(|(id, ..)| &id[..]).collect();
    let has_positions = readers.first().is_some_and(|r| r.header.has_positions);
    let mut writer = PartWriter::new(sink, has_positions, &ids, lengths)?;
    let mut terms: Vec<(DictionaryIter<'_>, Option<TermInfo>)> = Vec::new();
    for reader in readers {
        let mut iter = reader.terms(&[]);
        let first = iter.next()?;
        terms.push((iter, first));
    }
    while let Some(term) = least_term(&terms) {
        let (mut all, mut net) = (Pieces::default(), 0);
        for (input, (iter, head)) in terms.iter_mut().enumerate() {
            let Some(info) = head.filter(|_| iter.term == term) else { continue };
            net += i64::from(info.extent.df) + info.adjustment;
            if info.extent.df > 0 {
                let mut postings = Postings::default();
                readers[input].cursor(term[0], &info)?.read_all(&mut postings)?;
                all.push(&renumber(&postings, &numbers[input]));
            }
            *head = iter.next()?;
        }
        let postings = all.join();
        let adjustment = net - postings.docs.len() as i64;
        if !postings.docs.is_empty() || adjustment != 0 {
            writer.term(&term, adjustment, &postings)?;
        }
    }
    writer.finish()?;
    Ok(docs.len() as u32)
}

fn least_term(terms: &[(DictionaryIter<'_>, Option<TermInfo>)]) -> Option<Vec<u8>> {
    terms.iter().filter(|(_, head)| head.is_some()).map(|(iter, _)| &iter.term).min().cloned()
}

/// Postings of one term from several parts, numbered anew.
#[derive(Default)]
struct Pieces {
    all: Postings,
    is_unsorted: bool,
}

impl Pieces {
    fn push(&mut self, piece: &Postings) {
        let before = self.all.docs.last().zip(piece.docs.first());
        self.is_unsorted |= before.is_some_and(|(last, next)| last > next);
        self.all.docs.extend_from_slice(&piece.docs);
        self.all.counts.extend_from_slice(&piece.counts);
        self.all.positions.extend_from_slice(&piece.positions);
    }

    fn join(self) -> Postings {
        if !self.is_unsorted {
            return self.all;
        }
        let most = self.all.docs.iter().max().map_or(0, |d| *d as usize + 1);
        let identity: Vec<u32> = (0..most as u32).collect();
        renumber(&self.all, &identity)
    }
}
