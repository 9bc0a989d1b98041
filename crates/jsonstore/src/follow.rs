//! What follows the documents of a collection: indexes, full text, rules, change feeds.
//!
//! A follower sees each change of a document under the record's lock, before it is logged, and adds
//! its own changes to the same log record. So what it keeps is never older or newer than the
//! documents, whatever happens; and it may refuse the change.

#![allow(dead_code, reason = "the first follower lands next")]

use std::{fmt::Debug, sync::Arc};

use bytes::Bytes;

use crate::{
    commit::Op,
    error::{Error, Result},
};

/// A document before and after; both images are JB1.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Change<'a> {
    /// The encoded id.
    pub(crate) key: &'a Bytes,
    pub(crate) old: Option<&'a [u8]>,
    pub(crate) new: Option<&'a [u8]>,
}

/// What a change brings with it.
#[derive(Debug, Default)]
pub(crate) struct Effects {
    /// Logged in the document's own record.
    pub(crate) ops: Vec<Op>,
    /// Checked before that, with the claimed keys locked.
    pub(crate) claims: Vec<Claim>,
}

/// After the transaction no other key of the keyspace may begin with this prefix.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Claim {
    pub(crate) keyspace: u32,
    pub(crate) prefix: Bytes,
    /// The key that may.
    pub(crate) key: Bytes,
    /// The name of the index, for the error.
    pub(crate) index: Arc<str>,
}

impl Claim {
    pub(crate) fn refusal(&self) -> Error {
        Error::DuplicateKey {
            index: self.index.to_string(),
            key: crate::key::Id(self.prefix.to_vec()).to_json(),
        }
    }
}

pub(crate) trait Follower: Send + Sync + Debug {
    /// Adds what the change of a document changes here. It may refuse.
    ///
    /// Called in the order of the writes of a transaction, once for each document.
    fn follow(&self, change: &Change<'_>, effects: &mut Effects) -> Result<()>;

    /// Whether a change of these fields alone could change anything here. Who is not concerned is
    /// not asked, and the fields can be locked one by one.
    fn concerns(&self, paths: &[&str]) -> bool;

    /// For bulk loads, if there is a better way than one change after the other.
    fn loader(&self) -> Option<Box<dyn Loader>> {
        None
    }
}

/// Follows a bulk load, in which each document comes once.
pub(crate) trait Loader: Send + Debug {
    /// Takes one document. What it adds to the effects must not come again.
    fn add(&mut self, change: &Change<'_>, effects: &mut Effects) -> Result<()>;

    /// The rest.
    fn finish(self: Box<Self>, effects: &mut Effects) -> Result<()>;
}
