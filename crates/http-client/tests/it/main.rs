//! The client through its public interface, against peers that do what the test says.

mod cancel;
mod framing;
#[cfg(feature = "http2")]
mod h2;
mod pool;
mod redirects;
mod requests;
#[cfg(unix)]
mod sockets;
mod support;
mod timeouts;
#[cfg(feature = "tls")]
mod tls;
