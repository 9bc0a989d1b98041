//! What a peer sees of a connection, over a byte stream in memory.

mod support;

mod basics;
mod chunked;
mod h2_messages;
mod h2_support;
mod heads;
mod smuggling;
