//! What a peer sees of a connection, over a byte stream in memory.

mod support;

mod basics;
