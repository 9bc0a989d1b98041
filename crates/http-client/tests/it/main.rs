//! The client through its public interface, against peers that do what the test says.

mod framing;
mod pool;
mod requests;
mod support;
