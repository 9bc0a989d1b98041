//! Rows in the order of a plan: entries of an index, or documents by id.

use std::{
    collections::{HashSet, VecDeque},
    sync::Arc,
};

use bytes::Bytes;

use super::{
    bounds::KeyRange,
    choose::{Access, IndexScan, Plan},
    execute::{Found, FoundValue},
};
use crate::{
    engine::{Core, View},
    error::Result,
    index::BTreeIndex,
    lsm::{MergeBack, MergeIter},
    memtable::Entry,
};

/// Rows that a plan yields, one batch after the other.
#[derive(Debug)]
pub(crate) enum Source {
    /// Documents by id.
    Ids(Ranges),
    /// Entries of indexes, each document once.
    Index {
        scans: VecDeque<(Arc<BTreeIndex>, Ranges)>,
        /// Ids that were yielded, where they could come again.
        seen: Option<HashSet<Bytes>>,
        is_covered: bool,
    },
}

/// A batch.
#[derive(Debug, Default)]
pub(crate) struct Rows {
    /// Whole documents, or all that a covered query needs of them.
    pub(crate) found: Vec<Found>,
    /// Ids of documents to fetch.
    pub(crate) ids: Vec<Bytes>,
}

impl Source {
    pub(crate) fn new(plan: &Plan) -> Self {
        let ranges = |ranges: &[KeyRange]| Ranges::new(ranges, plan.is_backward);
        let one = |scan: &IndexScan| (Arc::clone(&scan.index), ranges(&scan.ranges));
        let is_covered = plan.is_covered;
        match &plan.access {
            Access::Ids(ids) => Self::Ids(ranges(ids)),
            Access::Index(scan) => Self::Index {
                scans: [one(scan)].into(),
                seen: scan.index.is_multikey().then(HashSet::new),
                is_covered,
            },
            Access::Union(scans) => Self::Index {
                scans: scans.iter().map(one).collect(),
                seen: Some(HashSet::new()),
                is_covered: false,
            },
        }
    }

    /// The next rows with the number of entries looked at; `None` at the end. A batch may be empty.
    pub(crate) fn next(
        &mut self,
        core: &Core,
        documents: u32,
        snapshot: u64,
        hidden: &HashSet<Bytes>,
        size: usize,
    ) -> Result<Option<(Rows, u64)>> {
        match self {
            Self::Ids(ranges) => {
                let next = ranges.documents(core, documents, snapshot, size)?;
                Ok(next.map(|(mut found, entries)| {
                    found.retain(|found| !hidden.contains(&found.id));
                    (Rows { found, ids: Vec::new() }, entries)
                }))
            }
            Self::Index { scans, seen, is_covered } => {
                let Some((index, ranges)) = scans.front_mut() else { return Ok(None) };
                let entries = ranges.entries(core, index.keyspace, snapshot, size)?;
                let count = entries.len() as u64;
                if entries.is_empty() {
                    scans.pop_front();
                    return Ok(Some((Rows::default(), 0)));
                }
                let is_new = |id: &Bytes, seen: &mut Option<HashSet<Bytes>>| {
                    !hidden.contains(id) && seen.as_mut().is_none_or(|seen| seen.insert(id.clone()))
                };
                let mut rows = Rows::default();
                for entry in entries {
                    let id = index.id_of(&entry.key)?;
                    if !is_new(&id, seen) {
                        continue;
                    }
                    if *is_covered {
                        match index.covered(&entry.key, &entry.value.unwrap_or_default()) {
                            Some(value) => {
                                let value = FoundValue::Jb1(Bytes::from(value));
                                // The version of the entry is not that of the document.
                                rows.found.push(Found { id, rev: 0, value });
                                continue;
                            }
                            // From here on documents are read, this batch in whole, in its order.
                            None => {
                                *is_covered = false;
                                rows.ids.extend(rows.found.drain(..).map(|found| found.id));
                            }
                        }
                    }
                    rows.ids.push(id);
                }
                Ok(Some((rows, count)))
            }
        }
    }
}

/// Ranges of a keyspace that are gone through in their order, or all of it backward.
#[derive(Debug)]
pub(crate) struct Ranges {
    rest: VecDeque<KeyRange>,
    current: Option<Walk>,
    is_backward: bool,
}

#[derive(Debug)]
enum Walk {
    Backward(MergeBack),
    Forward(MergeIter),
}

impl Walk {
    fn next_visible(&mut self) -> Result<Option<Entry>> {
        match self {
            Self::Backward(iter) => iter.next_visible(),
            Self::Forward(iter) => iter.next_visible(),
        }
    }
}

impl Ranges {
    fn new(ranges: &[KeyRange], is_backward: bool) -> Self {
        let mut rest: VecDeque<KeyRange> = ranges.iter().cloned().collect();
        if is_backward {
            rest.make_contiguous().reverse();
        }
        Self { rest, current: None, is_backward }
    }

    /// Up to `size` entries; none at the end.
    fn entries(
        &mut self,
        core: &Core,
        keyspace: u32,
        snapshot: u64,
        size: usize,
    ) -> Result<Vec<Entry>> {
        let mut out = Vec::new();
        while out.len() < size {
            let Some(iter) = &mut self.current else {
                let Some(range) = self.rest.pop_front() else { break };
                let (from, to) = range.keys();
                let to = to.as_deref();
                self.current = Some(if self.is_backward {
                    Walk::Backward(core.range_back(keyspace, &from, to, snapshot)?)
                } else {
                    Walk::Forward(core.range(keyspace, &from, to, snapshot)?)
                });
                continue;
            };
            match iter.next_visible()? {
                Some(entry) => out.push(entry),
                None => self.current = None,
            }
        }
        Ok(out)
    }

    /// Up to about `size` documents with the number of entries looked at; `None` at the end. Single
    /// ids are looked up together.
    fn documents(
        &mut self,
        core: &Core,
        keyspace: u32,
        snapshot: u64,
        size: usize,
    ) -> Result<Option<(Vec<Found>, u64)>> {
        if self.current.is_none() {
            let is_id = |range: &KeyRange| range.as_prefix().is_some_and(|p| !p.is_empty());
            let run = self.rest.iter().take(size).take_while(|range| is_id(range)).count();
            if run > 0 {
                let key = |range: KeyRange| range.as_prefix().map(Bytes::copy_from_slice);
                let ids: Vec<Bytes> = self.rest.drain(..run).filter_map(key).collect();
                let values = core.values(keyspace, &ids, View::Snapshot(snapshot))?;
                let found = ids.into_iter().zip(values).filter_map(|(id, value)| {
                    value.map(|(rev, value)| Found { id, rev, value: FoundValue::Jb1(value) })
                });
                return Ok(Some((found.collect(), run as u64)));
            }
        }
        let entries = self.entries(core, keyspace, snapshot, size)?;
        if entries.is_empty() {
            return Ok(None);
        }
        let count = entries.len() as u64;
        let found = entries.into_iter().map(|entry| Found {
            id: entry.key,
            rev: entry.seq,
            value: FoundValue::Jb1(entry.value.unwrap_or_default()),
        });
        Ok(Some((found.collect(), count)))
    }
}
