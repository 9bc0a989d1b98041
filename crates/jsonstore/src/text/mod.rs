//! Full-text indexes.
//!
//! A document becomes terms (`analyze`, `terms`). A commit writes what it adds to an index, and what it
//! takes from it, as one *change* beside the document, in the same log record. A *part* (`part`) is an
//! immutable inverted index over many documents, cut into pages that are ordinary values of the store.
//! Now and then the changes are folded into a new part, and parts of like size are merged, each in an
//! ordinary transaction. A search reads parts and changes at one snapshot, so it sees exactly the
//! documents of that snapshot.

mod analyze;
mod api;
mod assemble;
mod bm25;
mod build;
mod error;
mod follow;
mod highlight;
mod list;
mod pages;
mod part;
mod plan;
#[cfg(any(test, feature = "testing"))]
pub(crate) mod probe;
mod query;
mod registry;
mod roster;
mod score;
mod search;
mod settings;
mod state;
mod terms;
mod upkeep;
mod verify;

pub use self::{
    api::{Found, Hit, Search, TextStats},
    error::TextError,
    highlight::{Highlight, Piece},
    query::TextQuery,
    settings::{Language, TextField, TextIndex},
};

pub(crate) use self::{
    registry::{LoadGuard, Registry, UpkeepGate, indexes},
    state::TextState,
};

fn damaged(what: &str) -> crate::error::Error {
    crate::error::Error::Corruption {
        file: "text index".into(),
        offset: 0,
        detail: format!("{what} cannot be read"),
        lost_lsn_range: None,
    }
}
