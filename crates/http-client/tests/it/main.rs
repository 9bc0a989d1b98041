//! The client through its public interface, against peers that do what the test says.

mod cancel;
mod framing;
mod pool;
mod redirects;
mod requests;
mod support;
mod timeouts;
