//! HTTP messages, machines and connection drivers.
//!
//! One request type, one response type, one body type and two traits ([`Handler`], [`Middleware`])
//! serve HTTP/1.1 and HTTP/2 alike, over any [`Transport`].
//! Not here: sockets and threads (`hearth-net`), choice of a handler by path (`hearth-router`).

mod body;
#[cfg(feature = "client")]
pub mod client;
mod coding;
mod connection;
mod future;
mod h1;
mod h2;
mod handler;
mod head;
mod headers;
mod limits;
mod params;
mod pieces;
mod pool;
mod request;
mod response;
mod server;
mod settings;
mod slot;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod transport;
mod upgrade;
mod watch;

pub use crate::{
    body::{Body, BodyError, BodyStream, FileBody},
    coding::{AcceptEncoding, Coding, ContentEncoder},
    connection::{Abuse, ClientCertificate, ConnectionInfo, Exchange, Observer, Outcome, TlsInfo},
    future::ResponseFuture,
    handler::{BoxHandler, BoxMiddleware, Chain, Handler, Middleware, Next, handler_fn},
    head::{Head, HeadBuilder, InvalidHead},
    headers::Headers,
    limits::Limits,
    params::PathParams,
    request::Request,
    response::{Prepared, Response},
    server::{Connection, ConnectionError},
    settings::{Protocol, Settings},
    transport::{Portable, Transport},
    upgrade::Upgraded,
    watch::{TokioWatch, Watch, WatchEvent},
};
pub use bytes::Bytes;
pub use http::{Extensions, HeaderName, HeaderValue, Method, StatusCode, Version, header};

#[doc = include_str!("../README.md")]
#[cfg(doctest)]
struct ReadmeDoctests;
