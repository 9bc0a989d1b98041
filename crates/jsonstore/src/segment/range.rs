//! The keys of a range, looked at where they lie: no block is taken out of the cache, no value expanded.

use std::ops::ControlFlow;

use bytes::Bytes;

use super::{
    block::{self, ValueKind, WalkEntry},
    iter::SegmentIter,
    kind,
    read::{Segment, touch_ends},
};
use crate::error::Result;

/// What is done with a key, without its keyspace.
///
/// It is called while others who want to change a cache have to wait, so it must not ask one.
pub(crate) type VisitKey<'a> = dyn FnMut(&[u8]) -> Result<()> + 'a;

/// A walk over the keys that exist in a snapshot, through segments that follow one another.
#[derive(Debug)]
pub(crate) struct RangeKeys<'a> {
    /// The first full key, and the first one behind the range.
    from: &'a [u8],
    to: &'a [u8],
    snapshot: u64,
    /// How many more are wanted.
    rest: usize,
    /// The full key it came to.
    key: Vec<u8>,
    /// Whether older versions of it are of no interest.
    is_decided: bool,
}

impl<'a> RangeKeys<'a> {
    pub(crate) fn new(from: &'a [u8], to: &'a [u8], snapshot: u64, limit: usize) -> Self {
        let key = Vec::with_capacity(2 * from.len());
        Self { from, to, snapshot, rest: limit, key, is_decided: false }
    }

    /// How many more are wanted.
    pub(crate) fn rest(&self) -> usize {
        self.rest
    }

    /// Goes through the next segment. `false` at the end of the range, or if no more are wanted.
    ///
    /// # Errors
    /// Those of `visit`; I/O errors and `Error::Corruption`; the hidden error of `would_block`.
    pub(crate) fn go_on(&mut self, segment: &Segment, visit: &mut VisitKey<'_>) -> Result<bool> {
        let open = segment.open()?;
        let Some(fence) = segment.fence(open) else { return self.step_through(segment, visit) };
        let mut from = Some(self.from);
        let mut place = fence.find(self.from, u64::MAX);
        while let Some(handle) = place.and_then(|place| fence.handle(place)) {
            if self.rest == 0 {
                return Ok(false);
            }
            let walk = |block: &Bytes| {
                touch_ends(block);
                self.walk(block, from.take(), visit)
            };
            let walked = segment.in_block(open, kind::DATA, handle, walk)?;
            match walked.ok_or_else(|| segment.bad_block(kind::DATA))? {
                ControlFlow::Continue(()) => place = place.map(|place| place + 1),
                ControlFlow::Break(result) => return result.map(|()| false),
            }
        }
        Ok(self.rest > 0)
    }

    /// `None` if the block is malformed.
    fn walk(
        &mut self,
        block: &[u8],
        from: Option<&[u8]>,
        visit: &mut VisitKey<'_>,
    ) -> Option<ControlFlow<Result<()>>> {
        let Self { to, snapshot, rest, key, is_decided, .. } = self;
        block::walk(block, from, key, |WalkEntry { full, is_new, seq, kind }| {
            if is_new {
                if full >= *to {
                    return ControlFlow::Break(Ok(()));
                }
                *is_decided = false;
            }
            if *is_decided || seq > *snapshot {
                return ControlFlow::Continue(());
            }
            *is_decided = true;
            if kind == ValueKind::Deleted {
                return ControlFlow::Continue(());
            }
            let visited = visit(full.get(4..).unwrap_or_default());
            *rest -= 1;
            match visited {
                Ok(()) if *rest > 0 => ControlFlow::Continue(()),
                visited => ControlFlow::Break(visited),
            }
        })
    }

    /// The same where nothing says which block comes next.
    fn step_through(&mut self, segment: &Segment, visit: &mut VisitKey<'_>) -> Result<bool> {
        if !std::mem::replace(&mut self.is_decided, true) {
            self.key.clear();
        }
        let mut iter = SegmentIter::new(segment);
        iter.seek(self.from, u64::MAX)?;
        while self.rest > 0 && iter.step()? {
            if iter.at().is_none_or(|(full, _)| full >= self.to) {
                return Ok(false);
            }
            let visited =
                iter.visit_newest(self.snapshot, &mut self.key, |key, _, _| visit(key))?;
            if let Some(visited) = visited {
                visited?;
                self.rest -= 1;
            }
        }
        Ok(self.rest > 0)
    }
}
