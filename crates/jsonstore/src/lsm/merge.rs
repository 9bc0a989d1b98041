//! Merging sorted sources into one order.

use std::{collections::VecDeque, sync::Arc};

use super::CHUNK;
use crate::{
    error::Result,
    memtable::{Entry, Memtable},
    segment::{Segment, SegmentIter},
};

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
        let keyspace = Some(crate::segment::keyspace_of(full));
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
                        if crate::segment::keyspace_of(&entry.key) != *keyspace {
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
}

/// All versions of all sources in order: key, then newest first.
#[derive(Debug)]
pub(crate) struct MergeIter {
    sources: Vec<(Option<Entry>, Source)>,
    snapshot: u64,
}

impl MergeIter {
    pub(crate) fn new(sources: Vec<Source>, snapshot: u64) -> Result<Self> {
        let mut heads = Vec::with_capacity(sources.len());
        for mut source in sources {
            let head = source.next()?;
            if head.is_some() {
                heads.push((head, source));
            }
        }
        Ok(Self { sources: heads, snapshot })
    }

    /// The next version, whatever its age.
    pub(crate) fn next_version(&mut self) -> Result<Option<Entry>> {
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
