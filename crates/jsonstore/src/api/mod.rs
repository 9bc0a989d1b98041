//! What users hold: stores, collections, transactions, snapshots, cursors.

mod aggregate;
mod collection;
mod cursor;
mod document;
mod executor;
mod find;
mod follow;
mod keyspace;
mod load;
mod modify;
mod prepared;
mod scan;
mod store;
mod transaction;

pub use self::{
    collection::Collection,
    cursor::Cursor,
    document::{Document, Input},
    executor::block_on,
    find::Find,
    keyspace::Keyspace,
    load::Load,
    modify::Upserted,
    prepared::Prepared,
    scan::Range,
    store::{Snapshot, Stats, Store},
    transaction::{Isolation, Target, Transaction},
};

#[cfg(any(test, feature = "testing"))]
pub(crate) use self::executor::inline;
pub(crate) use self::{document::Parsed, executor::may_block};
