//! An HTTP client with a pool: HTTP/1.1, HTTP/2, TLS.
//!
//! For what a server asks of others: backends, certificate authorities, name services, identity
//! providers. Everything has a bound and a deadline, responses are parsed as strictly as requests
//! are, and nothing runs behind the caller's back. See [`Client`].
//! Not here: cookies, caching, content decoding, proxies from the environment.
//!
//! Features: `http2` (by ALPN and by prior knowledge), `tls` (https), `webpki-roots` (Mozilla's list
//! of authorities), `json`. HTTP/1.1 is always there.
#![forbid(unsafe_code)]

mod client;
mod clock;
mod connect;
mod error;
mod exchange;
mod h1;
#[cfg(feature = "http2")]
mod h2;
mod options;
mod pool;
mod redirect;
mod request;
mod response;
mod stats;
mod target;
#[cfg(feature = "tls")]
mod tls;

#[cfg(feature = "tls")]
pub use crate::tls::{InvalidPem, TlsOptions};
pub use crate::{
    client::Client,
    connect::{Dial, DialFuture},
    error::{Actor, ClientError, ErrorKind, TimeoutKind},
    options::{ClientLimits, ClientOptions, ConnectTo, PoolOptions, Timeouts, Versions},
    request::ClientRequest,
    response::ClientResponse,
    stats::ClientStats,
};

#[doc = include_str!("../README.md")]
#[cfg(doctest)]
struct ReadmeDoctests;
