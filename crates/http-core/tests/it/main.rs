//! What a peer sees of a connection, over a byte stream in memory.
#![allow(clippy::unwrap_used, reason = "a failure here is a failed test")]

mod support;

mod bodies;
mod chunked;
mod contained;
mod h2_attacks;
mod h2_messages;
mod h2_random;
mod h2_spec;
mod h2_streams;
mod h2_support;
mod h2_times;
mod heads;
mod persistence;
mod responses;
mod smuggling;
mod switching;
mod timing;
