//! What follows the documents of a collection: indexes, full text, rules, change feeds.
//!
//! A follower sees each change of a document under the record's lock, before it is logged, and adds
//! its own changes to the same log record. So what it keeps is never older or newer than the
//! documents, whatever happens; and it may refuse the change.

use std::{fmt::Debug, sync::Arc};

use bytes::Bytes;

use crate::{
    commit::Op,
    engine::Core,
    error::{Error, Result},
    index::{Flags, Shape},
    live::Notice,
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
    /// As these, with a number at bytes 1 to 8 of the key that rises with every commit which changes
    /// the same document; filled in when the record gets its place in the log.
    pub(crate) stamped: Vec<Op>,
    /// Checked before that, with the claimed keys locked.
    pub(crate) claims: Vec<Claim>,
    /// Set when that is durable.
    pub(crate) marks: Vec<Mark>,
    /// Sent once it can be seen.
    pub(crate) notices: Vec<Notice>,
}

/// That an index has met an array is in the log.
#[derive(Debug, Clone)]
pub(crate) struct Mark {
    pub(crate) flags: Arc<Flags>,
    pub(crate) fields: u32,
}

impl Mark {
    /// It is durable.
    pub(crate) fn set(&self) {
        self.flags.note_marked(self.fields);
    }
}

/// After the transaction no other key of the keyspace may begin with this prefix.
#[derive(Debug, Clone)]
pub(crate) struct Claim {
    pub(crate) keyspace: u32,
    pub(crate) prefix: Bytes,
    /// The key that may.
    pub(crate) key: Bytes,
    /// Of the index, for the error.
    pub(crate) shape: Arc<Shape>,
}

impl Claim {
    /// All transactions lock claims in this order.
    pub(crate) fn order(&self) -> (u32, &Bytes, &Bytes) {
        (self.keyspace, &self.prefix, &self.key)
    }

    pub(crate) fn refusal(&self) -> Error {
        let key = self.shape.describe(&self.prefix);
        Error::DuplicateKey { index: self.shape.name.clone(), key }
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
    fn loader(self: Arc<Self>, _core: &Arc<Core>) -> Result<Option<Box<dyn Loader>>> {
        Ok(None)
    }
}

/// Takes changes of a load: keyspace, key, and value unless it is deleted.
pub(crate) type Sink<'a> = dyn FnMut(u32, &[u8], Option<&[u8]>) -> Result<()> + 'a;

/// Follows a bulk load, in which each document comes once.
pub(crate) trait Loader: Send + Debug {
    /// Takes one document. What it adds to the effects must not come again.
    fn add(&mut self, change: &Change<'_>, effects: &mut Effects) -> Result<()>;

    /// The rest, best in the order of keys. If it refuses, nothing of the load happens.
    fn finish(self: Box<Self>, sink: &mut Sink<'_>) -> Result<()>;
}
