//! The crate from outside: against real authorities, and against one of our own that says what those do not.
#![allow(clippy::unwrap_used)]

mod bad_input;
#[cfg(unix)]
mod kill;
mod on_demand;
mod pebble;
mod profiles;
mod renewal;
mod second_ca;
mod stand_in;
mod support;
mod swap;
#[path = "../../../net/tests/it/trust.rs"]
mod trust;
