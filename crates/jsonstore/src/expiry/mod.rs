//! Documents that expire: hidden at once, deleted in the background.
//!
//! - `rule`: when a document expires, and who does not see it any more
//! - `date`: dates in documents
//! - `sweep`: deleting what has expired, at a pace
//!
//! A reader hides by the time at which its snapshot was taken, so all it sees agrees however long it
//! takes. Whatever keeps documents and indexes in step reads what is stored and hides nothing.

mod date;
mod rule;
mod sweep;

pub(crate) use self::{
    rule::{Expiry, Hide, Stamp},
    sweep::Expirations,
};
