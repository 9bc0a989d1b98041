//! Segments: immutable, sorted, checksummed files (docs/file-format.md).
//!
//! A segment is written once, synced, and only then named by the manifest. Values are compressed
//! one by one with what was learnt of the keyspace, so a read decompresses one document, not a block,
//! and the block cache holds the small form.

mod back;
mod block;
mod build;
mod compress;
mod fence;
mod filter;
mod iter;
mod range;
mod read;
mod symbols;

pub(crate) use self::{
    back::SegmentBack,
    block::word,
    build::{SegmentBuilder, SegmentInfo},
    compress::{Dictionaries, Packed, Value},
    iter::SegmentIter,
    range::{RangeKeys, VisitKey},
    read::{Probe, Segment, Visit, keyspace_of},
};

pub(crate) const MAGIC: &[u8; 8] = b"HEARTHSG";
/// 1: values are raw or zstd. 2: they may be codes of a symbol table. 3: data blocks are split.
/// 4: blocks have words to search by.
pub(crate) const VERSION: u32 = 4;
/// Clear bytes at the start of every segment.
pub(crate) const HEADER: usize = 80;
/// Clear bytes at the end.
pub(crate) const FOOTER: usize = 160;

/// The hash of a segment's content, as its footer has it; `None` if the footer is damaged.
pub(crate) fn hash_in_footer(footer: &[u8; FOOTER]) -> Option<[u8; 32]> {
    let (body, sum) = footer.split_at(FOOTER - 4);
    let sum = u32::from_le_bytes(sum.try_into().ok()?);
    (crate::codec::crc(0, body) == sum).then(|| footer.get(88..120)?.try_into().ok())?
}

/// Kinds of block, bound into the seal so that one cannot stand for another.
pub(crate) mod kind {
    pub(crate) const DATA: u8 = 1;
    pub(crate) const INDEX: u8 = 2;
    pub(crate) const TOP: u8 = 3;
    pub(crate) const FILTER: u8 = 4;
    pub(crate) const DICTIONARY: u8 = 5;
    pub(crate) const STATS: u8 = 6;
}

/// Where a block lies and what its bytes sum to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Handle {
    pub(crate) offset: u64,
    pub(crate) len: u32,
    pub(crate) crc: u32,
}
