//! Dynamic DNS.

mod logs;
mod providers;
pub(crate) mod standin;
mod updater;
