//! The caches above the file system: L1 holds printed documents, L2 holds blocks as stored, L3 maps
//! segments into memory if asked to.

mod block;
mod clock;
mod document;
mod map;

pub(crate) use self::{
    block::BlockCache,
    clock::Clock,
    document::{CachedDocument, DocumentCache, VersionTable},
    map::{MapBudget, SegmentMap},
};
