//! The binary, as its users meet it.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

mod certificates;
mod client;
mod command_line;
mod descriptors;
mod logs;
mod probe;
mod process;
mod reload;
mod serve;
mod signals;
mod tls;
mod wrong_configs;
