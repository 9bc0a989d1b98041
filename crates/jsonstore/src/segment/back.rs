//! Walking a segment from its end: block by block, each taken apart as a whole, because entries
//! share what the one before them has.

use std::sync::Arc;

use bytes::Bytes;

use super::{
    Handle, Segment,
    block::{BlockIter, ValueKind},
    kind,
};
use crate::{error::Result, memtable::Entry};

/// The entries of a range of full keys, the last first: of one key the oldest first.
#[derive(Debug)]
pub(crate) struct SegmentBack {
    segment: Arc<Segment>,
    from: Vec<u8>,
    to: Vec<u8>,
    /// Blocks that are still to be looked into, the next one last.
    index: Vec<Handle>,
    data: Vec<Handle>,
    /// What is left of the block at hand, the next one last.
    entries: Vec<Stored>,
}

/// An entry of a block.
#[derive(Debug)]
struct Stored {
    key: Vec<u8>,
    seq: u64,
    kind: ValueKind,
    value: Bytes,
}

impl SegmentBack {
    /// Looks only into the block that is in memory anyway.
    pub(crate) fn new(segment: Arc<Segment>, from: Vec<u8>, to: Vec<u8>) -> Result<Self> {
        let top = segment.top()?;
        let mut back =
            Self { segment, from, to, index: Vec::new(), data: Vec::new(), entries: Vec::new() };
        back.index = back.handles(top, kind::TOP)?;
        Ok(back)
    }

    /// The entry before.
    pub(crate) fn take(&mut self) -> Result<Option<Entry>> {
        loop {
            if let Some(Stored { key, seq, kind, value }) = self.entries.pop() {
                let value = self.segment.stored_value(kind, &value)?;
                return Ok(Some(Entry { key: Bytes::from(key), seq, value, packed: None }));
            }
            if let Some(handle) = self.data.pop() {
                let block = self.segment.cached_block(kind::DATA, handle)?;
                self.entries = self.entries_of(block)?;
                continue;
            }
            let Some(handle) = self.index.pop() else { return Ok(None) };
            let block = self.segment.cached_block(kind::INDEX, handle)?;
            self.data = self.handles(block, kind::INDEX)?;
        }
    }

    /// The blocks that hold something of the range: each entry says what its block ends with.
    fn handles(&self, block: Bytes, of: u8) -> Result<Vec<Handle>> {
        let bad = || self.segment.bad_block(of);
        let mut iter = BlockIter::new(block).ok_or_else(bad)?;
        let mut handles = Vec::new();
        let mut on_entry = iter.seek(&self.from, u64::MAX);
        while on_entry.is_some() {
            handles.push(super::read::decode_handle(iter.value_bytes()).ok_or_else(bad)?);
            if iter.key >= self.to {
                break;
            }
            on_entry = iter.next();
        }
        Ok(handles)
    }

    fn entries_of(&self, block: Bytes) -> Result<Vec<Stored>> {
        let bad = || self.segment.bad_block(kind::DATA);
        let mut iter = BlockIter::new(block).ok_or_else(bad)?;
        let mut entries = Vec::new();
        let mut on_entry = iter.seek(&self.from, u64::MAX);
        while on_entry.is_some() && iter.key < self.to {
            let (key, seq, kind, value) = (iter.key.clone(), iter.seq, iter.kind, iter.value());
            entries.push(Stored { key, seq, kind, value });
            on_entry = iter.next();
        }
        Ok(entries)
    }
}
