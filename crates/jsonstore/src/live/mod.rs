//! What changes, as it changes: the change log of a collection, and those who follow it.
//!
//! - `record`: one changed document in the log
//! - `log`: the follower that writes it, and what is kept of it
//! - `channel`: waking those whom a commit concerns, and nobody else
//! - `watch`: changes in their order, from a position on
//! - `query`: the documents that match a filter, and how that changes
//!
//! Readers have no buffers: they read the log from where they are, so a slow one costs nothing but
//! the log that is kept anyway, and finds out when its position is no longer in it.

mod channel;
mod log;
mod query;
mod record;
mod watch;

pub(crate) use self::{channel::Notice, log::ChangeLog};
pub use self::{
    log::ChangeRetention,
    query::{LiveQuery, LiveUpdate},
    watch::{ChangeEvent, Changes, Since, Watch},
};
