//! The caches above the file system: L1 holds printed documents, L2 holds blocks as stored.

mod block;
mod clock;
mod document;

pub(crate) use self::{
    block::BlockCache,
    document::{CachedDocument, DocumentCache, VersionTable},
};
