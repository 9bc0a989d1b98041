//! Walking a segment in order.

use bytes::Bytes;

use super::{
    Handle,
    block::{BlockIter, ValueKind},
    compress::{Packed, Value},
    kind,
    read::{Segment, decode_handle},
};
use crate::{error::Result, memtable::Entry};

/// Walks a segment in order. Keys of the entries have the keyspace in front.
#[derive(Debug)]
pub(crate) struct SegmentIter<S> {
    segment: S,
    top: Option<BlockIter>,
    index: Option<BlockIter>,
    data: Option<BlockIter>,
    use_cache: bool,
    /// Values come as stored, with the dictionary they need.
    packed: bool,
    /// `seek` stands on an entry that was not taken yet.
    on_entry: bool,
    /// `top` and `index` do not stand at the data block yet: most who seek need no other.
    is_detached: bool,
    /// Which block of the fence `data` is, if it was found by that.
    place: Option<usize>,
    /// It ends before this key.
    until: Option<Vec<u8>>,
}

impl<S: std::ops::Deref<Target = Segment>> SegmentIter<S> {
    pub(crate) fn new(segment: S) -> Self {
        Self {
            segment,
            top: None,
            index: None,
            data: None,
            use_cache: true,
            packed: false,
            on_entry: false,
            is_detached: false,
            place: None,
            until: None,
        }
    }

    /// Ends before this key, with its keyspace in front.
    pub(crate) fn until(mut self, full: Option<&[u8]>) -> Self {
        self.until = full.map(<[u8]>::to_vec);
        self
    }

    /// For compaction and scrubbing, which must not push useful blocks out of the cache.
    pub(crate) fn new_uncached(segment: S) -> Self {
        Self { use_cache: false, ..Self::new(segment) }
    }

    /// As `new_uncached`, with values as they are stored.
    pub(crate) fn new_packed(segment: S) -> Self {
        Self { packed: true, ..Self::new_uncached(segment) }
    }

    /// Positions before the first entry at or after the target.
    pub(crate) fn seek(&mut self, full: &[u8], seq: u64) -> Result<()> {
        self.top = None;
        self.index = None;
        self.data = None;
        self.on_entry = false;
        self.is_detached = self.use_cache;
        self.place = None;
        let open = self.segment.open()?;
        let handle = if !self.use_cache {
            self.descend(full, seq)?
        } else if let Some(fence) = self.segment.fence(open) {
            self.place = fence.find(full, seq);
            self.place.and_then(|place| fence.handle(place))
        } else {
            self.segment.find_by_blocks(open, full, seq, &mut None)?
        };
        let Some(handle) = handle else { return Ok(()) };
        let mut data = self.block(kind::DATA, handle)?;
        self.on_entry = data.seek(full, seq).is_some();
        self.data = Some(data);
        Ok(())
    }

    /// Positions `top` and `index` at the data block of the target.
    fn descend(&mut self, full: &[u8], seq: u64) -> Result<Option<Handle>> {
        let bad = |kind| self.segment.bad_block(kind);
        let open = self.segment.open()?;
        let mut top = BlockIter::new(open.top.clone()).ok_or_else(|| bad(kind::TOP))?;
        if top.seek(full, seq).is_none() {
            return Ok(None);
        }
        let handle = decode_handle(top.value_bytes()).ok_or_else(|| bad(kind::TOP))?;
        let mut index = self.block(kind::INDEX, handle)?;
        index.seek(full, seq).ok_or_else(|| bad(kind::INDEX))?;
        let handle = decode_handle(index.value_bytes()).ok_or_else(|| bad(kind::INDEX))?;
        self.top = Some(top);
        self.index = Some(index);
        Ok(Some(handle))
    }

    /// The next entry.
    pub(crate) fn take(&mut self) -> Result<Option<Entry>> {
        if !self.step()? {
            return Ok(None);
        }
        let Some(data) = &self.data else { return Ok(None) };
        let (key, seq) = (Bytes::copy_from_slice(&data.key), data.seq);
        let is_packed =
            self.packed && matches!(data.kind, ValueKind::Compressed | ValueKind::Coded);
        let packed = match is_packed {
            true => {
                let dictionary = self.segment.open()?.dictionary.clone();
                Some(Packed { kind: data.kind, dictionary })
            }
            false => None,
        };
        let value = match is_packed {
            true => Some(data.value()),
            false => self.value()?.map(Value::into_bytes),
        };
        Ok(Some(Entry { key, seq, value, packed }))
    }

    /// Steps to the next entry, if there is one.
    pub(crate) fn step(&mut self) -> Result<bool> {
        loop {
            let Some(data) = &mut self.data else { return Ok(false) };
            if std::mem::take(&mut self.on_entry) || data.next().is_some() {
                let is_in = self.until.as_ref().is_none_or(|until| data.key < *until);
                if !is_in {
                    self.data = None;
                }
                return Ok(is_in);
            }
            self.data = self.next_data()?;
        }
    }

    /// Full key and sequence number of the entry it stands on.
    pub(crate) fn at(&self) -> Option<(&[u8], u64)> {
        self.data.as_ref().map(|data| (&data.key[..], data.seq))
    }

    /// The value of that entry, unless it is a deletion.
    fn value(&self) -> Result<Option<Value>> {
        let Some(data) = &self.data else { return Ok(None) };
        self.segment.value(data.kind, data.value_bytes(), || data.value())
    }

    /// Visits the entry it stands on, with its key in the keyspace, if that is the newest version in a
    /// snapshot of a key other than `last`, and exists. `last` is that key from then on.
    pub(crate) fn visit_newest<T>(
        &self,
        snapshot: u64,
        last: &mut Vec<u8>,
        visit: impl FnOnce(&[u8], u64, Value) -> T,
    ) -> Result<Option<T>> {
        let Some((full, seq)) = self.at() else { return Ok(None) };
        // Older versions of the same key are of no interest.
        if seq > snapshot || full == &last[..] {
            return Ok(None);
        }
        last.clear();
        last.extend_from_slice(full);
        let key = full.get(4..).unwrap_or_default();
        Ok(self.value()?.map(|value| visit(key, seq, value)))
    }

    fn next_data(&mut self) -> Result<Option<BlockIter>> {
        if let Some(place) = &mut self.place {
            *place += 1;
            let fence = self.segment.open()?.fence.get();
            let handle = fence.and_then(|fence| fence.handle(*place));
            return handle.map(|handle| self.block(kind::DATA, handle)).transpose();
        }
        if std::mem::take(&mut self.is_detached)
            && let Some(data) = &self.data
        {
            // Where the block ends is what its handle is found by.
            let (last, seq) = (data.key.clone(), data.seq);
            self.descend(&last, seq)?;
        }
        loop {
            let Some(index) = &mut self.index else { return Ok(None) };
            if index.next().is_some() {
                let handle = decode_handle(index.value_bytes())
                    .ok_or_else(|| self.segment.bad_block(kind::INDEX))?;
                return Ok(Some(self.block(kind::DATA, handle)?));
            }
            let Some(top) = &mut self.top else { return Ok(None) };
            if top.next().is_none() {
                self.index = None;
                return Ok(None);
            }
            let handle = decode_handle(top.value_bytes())
                .ok_or_else(|| self.segment.bad_block(kind::TOP))?;
            self.index = Some(self.block(kind::INDEX, handle)?);
        }
    }

    fn block(&self, kind: u8, handle: Handle) -> Result<BlockIter> {
        let open = self.segment.open()?;
        if self.use_cache {
            return self.segment.iter_block(open, kind, handle);
        }
        let block = self.segment.read_block(&*open.file, open.cipher.as_ref(), kind, handle)?;
        BlockIter::new(block).ok_or_else(|| self.segment.bad_block(kind))
    }
}
