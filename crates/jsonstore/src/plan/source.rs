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
    lsm::{MergeBack, MergeIter, Tree, VisitEntry},
    segment::Value,
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
        /// Only these ids count, each once.
        only: Option<Only>,
        is_covered: bool,
    },
    /// Documents of these ids, the next one last.
    Given(Vec<Bytes>),
}

/// Ids that an index finds.
#[derive(Debug)]
pub(crate) enum Only {
    ToGather(Arc<BTreeIndex>, Box<Ranges>),
    Gathered(HashSet<Bytes>),
}

impl Only {
    /// Gathers them; says how many entries that took.
    fn gather(&mut self, core: &Core, snapshot: u64) -> Result<u64> {
        let Self::ToGather(index, ranges) = self else { return Ok(0) };
        let (mut ids, mut ends) = (Vec::new(), Vec::new());
        let mut one = |key: &[u8], _: u64, _: Value| {
            ids.extend_from_slice(index.id_in(key)?);
            ends.push(ids.len());
            Ok(())
        };
        let count = ranges.visit(core, index.keyspace, snapshot, usize::MAX, &mut one)?;
        *self = Self::Gathered(split(ids, &ends).into_iter().collect());
        Ok(count as u64)
    }

    /// True once for each of them.
    fn take(&mut self, id: &[u8]) -> bool {
        match self {
            Self::ToGather(..) => false,
            Self::Gathered(ids) => ids.remove(id),
        }
    }
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
                only: None,
                is_covered,
            },
            Access::Both { gathered, walked } => {
                let (index, ranges) = (Arc::clone(&gathered.index), ranges(&gathered.ranges));
                Self::Index {
                    scans: [one(walked)].into(),
                    seen: None,
                    only: Some(Only::ToGather(index, Box::new(ranges))),
                    is_covered: false,
                }
            }
            Access::Union(scans) => Self::Index {
                scans: scans.iter().map(one).collect(),
                seen: Some(HashSet::new()),
                only: None,
                is_covered: false,
            },
        }
    }

    /// Gathered ids that were not met yet, and no more.
    pub(crate) fn left(&self) -> Option<u64> {
        match self {
            Self::Index { only: Some(Only::Gathered(ids)), .. } => Some(ids.len() as u64),
            _ => None,
        }
    }

    /// Goes on with the gathered ids that were not met yet, in their own order.
    pub(crate) fn into_left(self) -> Self {
        match self {
            Self::Index { only: Some(Only::Gathered(ids)), .. } => {
                let mut ids: Vec<Bytes> = ids.into_iter().collect();
                ids.sort_unstable_by(|a, b| b.cmp(a));
                Self::Given(ids)
            }
            other => other,
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
            Self::Given(rest) => {
                let from = rest.len().saturating_sub(size);
                let mut ids = rest.split_off(from);
                ids.reverse();
                ids.retain(|id| !hidden.contains(id));
                Ok((from > 0 || !ids.is_empty()).then_some((Rows { found: Vec::new(), ids }, 0)))
            }
            Self::Index { scans, seen, only, is_covered } => {
                let Some((index, ranges)) = scans.front_mut() else { return Ok(None) };
                let gathered = only.as_mut().map_or(Ok(0), |only| only.gather(core, snapshot))?;
                let mut rows = Rows::default();
                // One piece of memory for all of them.
                let (mut ids, mut ends) = (Vec::new(), Vec::new());
                let mut one = |key: &[u8], _: u64, value: Value| {
                    let id = index.id_in(key)?;
                    if hidden.contains(id)
                        || seen.as_ref().is_some_and(|seen| seen.contains(id))
                        || only.as_mut().is_some_and(|only| !only.take(id))
                    {
                        return Ok(());
                    }
                    if let Some(seen) = seen {
                        seen.insert(Bytes::copy_from_slice(id));
                    }
                    let covered = match *is_covered {
                        true => index.covered(key, value.bytes()),
                        false => None,
                    };
                    if let Some(value) = covered {
                        let value = FoundValue::Jb1(Bytes::from(value));
                        let id = Bytes::copy_from_slice(id);
                        // The version of the entry is not that of the document.
                        rows.found.push(Found { id, rev: 0, value });
                    } else {
                        // From here on documents are read, this batch in whole, in its order.
                        *is_covered = false;
                        for found in rows.found.drain(..) {
                            ids.extend_from_slice(&found.id);
                            ends.push(ids.len());
                        }
                        ids.extend_from_slice(id);
                        ends.push(ids.len());
                    }
                    Ok(())
                };
                let count = ranges.visit(core, index.keyspace, snapshot, size, &mut one)?;
                if count == 0 {
                    scans.pop_front();
                }
                rows.ids = split(ids, &ends);
                Ok(Some((rows, gathered + count as u64)))
            }
        }
    }
}

/// Pieces of one piece of memory.
fn split(bytes: Vec<u8>, ends: &[usize]) -> Vec<Bytes> {
    let bytes = Bytes::from(bytes);
    let mut from = 0;
    let piece = |end: &usize| {
        let piece = bytes.slice(from..*end);
        from = *end;
        piece
    };
    ends.iter().map(piece).collect()
}

/// Ranges of a keyspace that are gone through in their order, or all of it backward.
#[derive(Debug)]
pub(crate) struct Ranges {
    rest: VecDeque<KeyRange>,
    current: Option<Walk>,
    is_backward: bool,
}

#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "there is one of it, and it is not moved about")]
pub(super) enum Walk {
    Backward(MergeBack),
    Forward(MergeIter),
}

impl Walk {
    pub(super) fn new(
        tree: &Tree,
        keyspace: u32,
        from: &[u8],
        to: Option<&[u8]>,
        at: u64,
        is_backward: bool,
    ) -> Result<Self> {
        Ok(match is_backward {
            true => Self::Backward(tree.range_back(keyspace, from, to, at)?),
            false => Self::Forward(tree.range(keyspace, from, to, at)?),
        })
    }

    /// Visits up to `limit` entries; says how many.
    pub(super) fn visit(&mut self, limit: usize, visit: &mut VisitEntry<'_>) -> Result<usize> {
        let iter = match self {
            Self::Backward(iter) => iter,
            Self::Forward(iter) => return iter.visit(limit, visit),
        };
        let mut count = 0;
        while count < limit
            && let Some(entry) = iter.next_visible()?
        {
            visit(&entry.key, entry.seq, Value::Shared(entry.value.unwrap_or_default()))?;
            count += 1;
        }
        Ok(count)
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

    /// Visits up to `size` entries; says how many, none at the end.
    fn visit(
        &mut self,
        core: &Core,
        keyspace: u32,
        snapshot: u64,
        size: usize,
        visit: &mut VisitEntry<'_>,
    ) -> Result<usize> {
        let mut count = 0;
        while count < size {
            let Some(iter) = &mut self.current else {
                let Some(range) = self.rest.pop_front() else { break };
                let (from, to) = range.keys();
                let to = to.as_deref();
                let (tree, at) = core.moment(View::Snapshot(snapshot))?;
                let walk = Walk::new(&tree, keyspace, &from, to, at, self.is_backward)?;
                self.current = Some(walk);
                continue;
            };
            let visited = iter.visit(size - count, visit)?;
            count += visited;
            if count < size {
                self.current = None;
            }
        }
        Ok(count)
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
        let mut found = Vec::new();
        let count = self.visit(core, keyspace, snapshot, size, &mut |id, rev, value| {
            let (id, value) = (Bytes::copy_from_slice(id), FoundValue::Jb1(value.into_bytes()));
            found.push(Found { id, rev, value });
            Ok(())
        })?;
        Ok((count > 0).then_some((found, count as u64)))
    }
}
