//! What serves a [`Handler`](hearth_http_core::Handler) on the wire: sockets, workers, TLS.
//!
//! A [`Server`] has listeners and workers. Each worker is a thread with an event loop, sockets,
//! timers and counters of its own; connections never move between them. Limits on connections,
//! graceful drain, a watchdog and a [`BlockingPool`] come with it.
//! Not here: HTTP (`hearth-http-core`), certificates from an authority (`hearth-tls-acme`),
//! configuration files and signals (`hearth-server`).
//!
//! ```
//! use std::sync::Arc;
//! use hearth_http_core::{Response, handler_fn};
//! use hearth_net::{Listener, Server};
//!
//! # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
//! let handler = Arc::new(handler_fn(async |_request| Response::text("Hello, World!")));
//! let server = Server::builder().listen(Listener::bind(([127, 0, 0, 1], 0)), handler).bind()?;
//! println!("listening on http://{}", server.local_addrs()[0]);
//! # let stop = std::future::ready(());
//! let report = server.run(stop).await?;
//! println!("{} connections were cut off", report.aborted);
//! # Ok::<_, Box<dyn std::error::Error>>(())
//! # })?;
//! # Ok::<_, Box<dyn std::error::Error>>(())
//! ```
#![deny(unsafe_code)] // but for `ring::kernel`

mod accept;
mod blocking;
mod drain;
mod limits;
mod listener;
mod per_ip;
#[cfg_attr(not(target_os = "linux"), path = "ring/absent.rs")]
mod ring;
mod server;
mod service;
mod stats;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod tls;
mod transport;
mod watchdog;
mod wheel;
mod worker;

pub use crate::{
    blocking::{BlockingError, BlockingPool},
    drain::DrainReport,
    limits::{IpPrefix, NetLimits},
    listener::{BindError, Listener},
    server::{Handle, Io, Server, ServerBuilder, StartError},
    stats::Stats,
    tls::{
        CertError, CertMap, CertStore, Certificate, ChooseConfig, ClientTrust, HandshakeError,
        Hold, HoldHandshake, Tickets, TlsConfig, TlsConfigBuilder, TlsError, TlsTransport,
    },
    transport::TcpTransport,
};

#[doc = include_str!("../README.md")]
#[cfg(doctest)]
struct ReadmeDoctests;
