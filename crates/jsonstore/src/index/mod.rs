//! Secondary indexes: keyspaces that follow the documents of a collection in the same log record.
//!
//! - `definition`: what an index is, as JSON and as a builder
//! - `entry`: the keys and values it keeps, and what they say about documents
//! - `btree`: one index of a collection; follows each change
//! - `build`: making and emptying indexes while writers go on
//! - `load`: an index follows a bulk load
//! - `collate`: strings that differ in case or marks only
//! - `catalog`: indexes in the settings of a collection; making and dropping them
//! - `verify`: proof that indexes and documents agree

mod btree;
mod build;
mod catalog;
mod collate;
mod definition;
mod entry;
mod load;
mod verify;

pub(crate) use self::{
    btree::{BTreeIndex, Flags},
    build::Job,
    entry::Shape,
};
pub use self::{
    catalog::IndexInfo,
    definition::{Collation, Direction, Index, IndexKind},
};

/// Bytes of one indexed value as a key. A document with a larger one is refused; a hash index has no
/// such limit.
pub(crate) const VALUE_BYTES_MAX: usize = 1024;
/// Entries that one document may have in one index: elements of an array.
pub(crate) const ENTRIES_MAX: usize = 10_000;
/// Fields of one index, as in MongoDB.
pub(crate) const FIELDS_MAX: usize = 32;
/// Indexes of one collection, as in MongoDB.
pub(crate) const INDEXES_MAX: usize = 64;

#[cfg(test)]
mod tests;
