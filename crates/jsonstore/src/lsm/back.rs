//! A range of a keyspace from its end.

use std::{collections::VecDeque, sync::Arc};

use bytes::Bytes;

use super::{CHUNK, Tree, full_key};
use crate::{
    error::Result,
    memtable::{Entry, Memtable},
    segment::{Segment, SegmentBack},
};

/// One sorted run of versions, the last key first; of one key the oldest version first.
#[derive(Debug)]
enum Source {
    Memtable {
        table: Arc<Memtable>,
        keyspace: u32,
        from: Vec<u8>,
        /// Before which key and version to go on.
        to: Option<(Bytes, u64)>,
        chunk: VecDeque<Entry>,
        done: bool,
    },
    /// Segments that follow one another, the next one last.
    Segments { rest: Vec<Arc<Segment>>, current: Option<SegmentBack>, from: Vec<u8>, to: Vec<u8> },
}

impl Source {
    fn next(&mut self) -> Result<Option<Entry>> {
        match self {
            Self::Memtable { table, keyspace, from, to, chunk, done } => {
                if chunk.is_empty() && !*done {
                    let before = to.as_ref().map(|(key, seq)| (&key[..], *seq));
                    *chunk = table.chunk_back(*keyspace, from, before, CHUNK).into();
                    *done = chunk.len() < CHUNK;
                    *to = chunk.back().map(|last| (last.key.clone(), last.seq));
                }
                Ok(chunk.pop_front())
            }
            Self::Segments { rest, current, from, to } => loop {
                if let Some(mut entry) =
                    current.as_mut().map(SegmentBack::take).transpose()?.flatten()
                {
                    entry.key = entry.key.slice(4..);
                    return Ok(Some(entry));
                }
                let Some(next) = rest.pop() else { return Ok(None) };
                *current = Some(SegmentBack::new(next, from.clone(), to.clone())?);
            },
        }
    }
}

/// What exists in a snapshot, the last key first.
#[derive(Debug)]
pub(crate) struct MergeBack {
    sources: Vec<(Option<Entry>, Source)>,
    snapshot: u64,
}

impl MergeBack {
    fn new(sources: Vec<Source>, snapshot: u64) -> Result<Self> {
        let mut heads = Vec::with_capacity(sources.len());
        for mut source in sources {
            let head = source.next()?;
            if head.is_some() {
                heads.push((head, source));
            }
        }
        Ok(Self { sources: heads, snapshot })
    }

    /// The key before that exists in the snapshot, with its newest version there.
    pub(crate) fn next_visible(&mut self) -> Result<Option<Entry>> {
        loop {
            let heads = self.sources.iter().filter_map(|(head, _)| head.as_ref());
            let Some(key) = heads.map(|entry| &entry.key).max().cloned() else { return Ok(None) };
            let mut newest: Option<Entry> = None;
            for (head, source) in &mut self.sources {
                while let Some(entry) = head.take_if(|entry| entry.key == key) {
                    let is_newer = newest.as_ref().is_none_or(|newest| newest.seq < entry.seq);
                    if entry.seq <= self.snapshot && is_newer {
                        newest = Some(entry);
                    }
                    *head = source.next()?;
                }
            }
            if let Some(entry) = newest.filter(|entry| entry.value.is_some()) {
                return Ok(Some(entry));
            }
        }
    }
}

impl Tree {
    /// The keys of a keyspace from `from` on, before `to`, the last first.
    pub(crate) fn range_back(
        &self,
        keyspace: u32,
        from: &[u8],
        to: Option<&[u8]>,
        snapshot: u64,
    ) -> Result<MergeBack> {
        let table = |table: &Arc<Memtable>| Source::Memtable {
            table: Arc::clone(table),
            keyspace,
            from: from.to_vec(),
            to: to.map(|to| (Bytes::copy_from_slice(to), u64::MAX)),
            chunk: VecDeque::new(),
            done: false,
        };
        let mut sources: Vec<Source> = self.tables().map(table).collect();
        let from = full_key(keyspace, from);
        let to = to.map_or_else(|| full_key(keyspace + 1, &[]), |to| full_key(keyspace, to));
        sources.extend(self.levels.runs(&from, &to).map(|rest| {
            let (from, to) = (from.clone(), to.clone());
            Source::Segments { rest, current: None, from, to }
        }));
        MergeBack::new(sources, snapshot)
    }
}
