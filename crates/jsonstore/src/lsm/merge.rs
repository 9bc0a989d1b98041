//! Merging sorted sources into one order.

use std::{collections::VecDeque, sync::Arc};

use super::CHUNK;
use crate::{
    error::Result,
    memtable::{Entry, Memtable},
    segment::{Segment, SegmentIter, Value, keyspace_of},
};

/// What is done with an entry: its key, without the keyspace, its sequence number and its value.
pub(crate) type VisitEntry<'a> = dyn FnMut(&[u8], u64, Value) -> Result<()> + 'a;

/// One sorted run of versions. Keys carry the keyspace in front iff `full` keys were asked for.
#[derive(Debug)]
pub(crate) enum Source {
    Memtable {
        table: Arc<Memtable>,
        keyspace: u32,
        chunk: VecDeque<Entry>,
        last: Option<Entry>,
        from: Vec<u8>,
        to: Option<Vec<u8>>,
        done: bool,
    },
    Segments {
        rest: VecDeque<Arc<Segment>>,
        current: Option<Box<SegmentIter<Arc<Segment>>>>,
        keyspace: Option<u32>,
        to: Option<Vec<u8>>,
        cached: bool,
    },
}

impl Source {
    pub(crate) fn memtable(
        table: &Arc<Memtable>,
        keyspace: u32,
        from: &[u8],
        to: Option<&[u8]>,
    ) -> Self {
        Self::Memtable {
            table: Arc::clone(table),
            keyspace,
            chunk: VecDeque::new(),
            last: None,
            from: from.to_vec(),
            to: to.map(<[u8]>::to_vec),
            done: false,
        }
    }

    /// The entries of one keyspace in segments that follow one another, from `full` on, before `to`.
    pub(crate) fn keyspace(
        segments: Vec<Arc<Segment>>,
        full: &[u8],
        to: Option<&[u8]>,
    ) -> Result<Self> {
        let keyspace = Some(keyspace_of(full));
        let to = to.map(<[u8]>::to_vec);
        Self::segments(segments, full, keyspace, to)
    }

    /// All entries of segments that follow one another, values as they are stored.
    pub(crate) fn packed(segments: Vec<Arc<Segment>>) -> Result<Self> {
        Self::segments(segments, &[], None, None)
    }

    fn segments(
        segments: Vec<Arc<Segment>>,
        full: &[u8],
        keyspace: Option<u32>,
        to: Option<Vec<u8>>,
    ) -> Result<Self> {
        let mut source = Self::Segments {
            rest: VecDeque::from(segments),
            current: None,
            keyspace,
            to,
            cached: keyspace.is_some(),
        };
        source.open_next(full)?;
        Ok(source)
    }

    /// Goes to the next segment, if there is one.
    fn open_next(&mut self, full: &[u8]) -> Result<()> {
        let Self::Segments { rest, current, to, cached, .. } = self else { return Ok(()) };
        *current = None;
        if let Some(next) = rest.pop_front() {
            let iter = if *cached { SegmentIter::new(next) } else { SegmentIter::new_packed(next) };
            let mut iter = iter.until(to.as_deref());
            iter.seek(full, u64::MAX)?;
            *current = Some(Box::new(iter));
        }
        Ok(())
    }

    fn next(&mut self) -> Result<Option<Entry>> {
        match self {
            Self::Memtable { table, keyspace, chunk, last, from, to, done } => {
                if chunk.is_empty() && !*done {
                    let (key, seq, after) = match last {
                        Some(entry) => (&entry.key[..], entry.seq, true),
                        None => (&from[..], u64::MAX, false),
                    };
                    let fresh = table.chunk(*keyspace, (key, seq, after), to.as_deref(), CHUNK);
                    *done = fresh.len() < CHUNK;
                    *last = fresh.last().cloned();
                    *chunk = fresh.into();
                }
                Ok(chunk.pop_front())
            }
            Self::Segments { current, keyspace, .. } => {
                let Some(iter) = current else { return Ok(None) };
                if let Some(mut entry) = iter.take()? {
                    if let Some(keyspace) = keyspace {
                        if keyspace_of(&entry.key) != *keyspace {
                            *current = None;
                            return Ok(None);
                        }
                        entry.key = entry.key.slice(4..);
                    }
                    return Ok(Some(entry));
                }
                self.open_next(&[])?;
                self.next()
            }
        }
    }

    /// Visits the next key after `last` that exists in a snapshot, where there is no other source
    /// and nothing has to be copied; `false` at the end.
    fn next_visible(
        &mut self,
        snapshot: u64,
        last: &mut Vec<u8>,
        visit: &mut VisitEntry<'_>,
    ) -> Result<bool> {
        loop {
            let Self::Segments { current: Some(iter), keyspace, .. } = self else {
                return Ok(false);
            };
            if !iter.step()? {
                self.open_next(&[])?;
                continue;
            }
            let Some((full, _)) = iter.at() else { return Ok(false) };
            if keyspace.is_some_and(|keyspace| keyspace_of(full) != keyspace) {
                return Ok(false);
            }
            if let Some(visited) = iter.visit_newest(snapshot, last, &mut *visit)? {
                return visited.map(|()| true);
            }
        }
    }
}

/// All versions of all sources in order: key, then newest first.
#[derive(Debug)]
pub(crate) struct MergeIter {
    sources: Vec<(Option<Entry>, Source)>,
    snapshot: u64,
    /// The only source, as long as nobody asks for its entries one by one, and the key it was at last.
    single: Option<(Source, Vec<u8>)>,
}

impl MergeIter {
    pub(crate) fn new(sources: Vec<Source>, snapshot: u64) -> Result<Self> {
        let mut merge = Self { sources: Vec::with_capacity(sources.len()), snapshot, single: None };
        let is_segments = |source: &&Source| matches!(source, Source::Segments { .. });
        let may_be_single = sources.iter().filter(is_segments).count() == 1;
        for mut source in sources {
            match source {
                // A memtable that holds nothing of this is none; those come first.
                Source::Segments { keyspace: Some(_), .. }
                    if may_be_single && merge.sources.is_empty() =>
                {
                    merge.single = Some((source, Vec::new()));
                }
                _ => {
                    let head = source.next()?;
                    if head.is_some() {
                        merge.sources.push((head, source));
                    }
                }
            }
        }
        Ok(merge)
    }

    /// Visits up to `limit` of the keys that exist in the snapshot, each with its newest version
    /// there. Returns how many.
    pub(crate) fn visit(&mut self, limit: usize, visit: &mut VisitEntry<'_>) -> Result<usize> {
        let mut count = 0;
        if let Some((source, last)) = &mut self.single {
            while count < limit && source.next_visible(self.snapshot, last, visit)? {
                count += 1;
            }
            return Ok(count);
        }
        while count < limit
            && let Some(entry) = self.next_visible()?
        {
            if let Some(value) = entry.value {
                visit(&entry.key, entry.seq, Value::Shared(value))?;
            }
            count += 1;
        }
        Ok(count)
    }

    /// The next version, whatever its age.
    pub(crate) fn next_version(&mut self) -> Result<Option<Entry>> {
        if let Some((mut source, last)) = self.single.take() {
            let mut head = source.next()?;
            while head.as_ref().is_some_and(|head| last.get(4..) == Some(&head.key)) {
                head = source.next()?;
            }
            self.sources.push((head, source));
        }
        // There are few sources, so looking at each costs less than keeping a heap.
        let mut best: Option<usize> = None;
        for (i, (head, _)) in self.sources.iter().enumerate() {
            let Some(entry) = head else { continue };
            let smaller = best.and_then(|b| self.sources[b].0.as_ref()).is_none_or(|least| {
                entry.key.cmp(&least.key).then_with(|| least.seq.cmp(&entry.seq)).is_lt()
            });
            if smaller {
                best = Some(i);
            }
        }
        let Some(at) = best else { return Ok(None) };
        let (head, source) = &mut self.sources[at];
        let next = source.next()?;
        Ok(std::mem::replace(head, next))
    }

    /// The next key that exists in the snapshot, with its newest version there.
    pub(crate) fn next_visible(&mut self) -> Result<Option<Entry>> {
        loop {
            let Some(entry) = self.next_version()? else { return Ok(None) };
            if entry.seq > self.snapshot {
                continue;
            }
            // Older versions of the same key are of no interest.
            while self
                .sources
                .iter()
                .any(|(head, _)| head.as_ref().is_some_and(|h| h.key == entry.key))
            {
                self.next_version()?;
            }
            if entry.value.is_some() {
                return Ok(Some(entry));
            }
        }
    }
}
