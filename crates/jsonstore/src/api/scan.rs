//! Documents in the order of their ids.

use std::sync::Arc;

use bytes::Bytes;

use super::{Collection, Cursor, Document, Snapshot, cursor::Batches};
use crate::{
    engine::Core,
    error::Result,
    expiry::Hide,
    jb1,
    key::{Id, prefix_end},
    lsm::MergeIter,
    memtable::Entry,
    observe::{Operation, Trace, Watch},
};

/// Documents fetched at a time.
const CHUNK: usize = 64;

/// Which ids a scan covers.
#[derive(Debug, Clone, Default)]
pub struct Range {
    from: Vec<u8>,
    /// Exclusive.
    to: Option<Vec<u8>>,
}

impl Range {
    /// Every id.
    pub fn all() -> Self {
        Self::default()
    }

    /// From this id on.
    #[must_use]
    pub fn from(mut self, id: impl Into<Id>) -> Self {
        self.from = id.into().0;
        self
    }

    /// Up to, not including, this id.
    #[must_use]
    pub fn to(mut self, id: impl Into<Id>) -> Self {
        self.to = Some(id.into().0);
        self
    }

    /// Ids that are arrays and begin with these parts.
    pub fn prefix(parts: &[Id]) -> Self {
        let mut from = Id::tuple(parts).0;
        // Without its end mark the encoding is a prefix of every longer tuple.
        from.pop();
        let to = prefix_end(&from);
        Self { from, to }
    }

    pub(crate) fn bounds(&self) -> (&[u8], Option<&[u8]>) {
        (&self.from, self.to.as_deref())
    }
}

impl From<std::ops::RangeFull> for Range {
    fn from(_: std::ops::RangeFull) -> Self {
        Self::all()
    }
}

/// Documents in the order of their ids, as a snapshot sees them.
pub(crate) struct Scan {
    snapshot: Snapshot,
    keyspace: u32,
    range: Range,
    iter: Option<(MergeIter, Hide)>,
    returned: u64,
    watch: Watch,
}

impl Scan {
    pub(crate) fn cursor(collection: &Collection, snapshot: Snapshot, range: Range) -> Cursor {
        let batches = collection.existing().map(|keyspace| -> Box<dyn Batches> {
            Box::new(Self {
                snapshot,
                keyspace,
                range,
                iter: None,
                returned: 0,
                watch: Watch::default(),
            })
        });
        Cursor::new(&collection.store, batches)
    }
}

impl Batches for Scan {
    fn next(&mut self, core: &Arc<Core>) -> Result<Vec<Document>> {
        let mut watch = std::mem::take(&mut self.watch);
        let found = watch.around(core, || self.next_batch(core));
        self.watch = watch;
        self.returned += found.as_ref().map_or(0, Vec::len) as u64;
        found
    }
}

impl Drop for Scan {
    fn drop(&mut self) {
        let core = &self.snapshot.hold.core;
        self.watch.end(core, Operation::Scan, Some(self.keyspace), || Trace {
            shape: "a range of ids".to_owned(),
            plan: "the order of ids".to_owned(),
            documents: self.returned,
            returned: self.returned,
            ..Trace::default()
        });
    }
}

impl Scan {
    fn next_batch(&mut self, core: &Core) -> Result<Vec<Document>> {
        core.log.check_snapshot(self.snapshot.seq())?;
        let (iter, hide) = match &mut self.iter {
            Some(iter) => iter,
            none => {
                let iter = core.iter(self.keyspace, &self.range.from, self.snapshot.seq())?;
                none.insert((iter, core.hide(self.keyspace, &self.snapshot.hold)))
            }
        };
        let mut documents = Vec::with_capacity(CHUNK);
        while documents.len() < CHUNK {
            let entry = iter.next_visible()?;
            let in_range = |e: &Entry| self.range.to.as_ref().is_none_or(|to| e.key[..] < to[..]);
            let Some(entry) = entry.filter(in_range) else { break };
            let value = entry.value.unwrap_or_default();
            if hide.hides(&value) {
                continue;
            }
            let mut json = Vec::new();
            jb1::print(&value, &mut json)?;
            documents.push(Document { rev: entry.seq, json: Bytes::from(json) });
        }
        Ok(documents)
    }
}
