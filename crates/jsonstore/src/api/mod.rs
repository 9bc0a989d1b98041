//! What users hold: stores, collections, transactions, snapshots, cursors.

mod collection;
mod document;
mod executor;
mod follow;
mod keyspace;
mod load;
mod scan;
mod store;
mod transaction;

pub use self::{
    collection::Collection,
    document::{Document, Input},
    executor::block_on,
    keyspace::Keyspace,
    load::Load,
    scan::{Range, Scan},
    store::{Snapshot, Stats, Store},
    transaction::{Isolation, Target, Transaction},
};

#[cfg(any(test, feature = "testing"))]
pub(crate) use self::executor::inline;
pub(crate) use self::{document::Parsed, executor::may_block};
