//! What a handler may know of its connection, and what an observer learns of an exchange.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use http::{HeaderValue, StatusCode};
use parking_lot::Mutex;

use crate::Head;

/// The connection a request came on. One allocation per connection, shared by its requests.
#[derive(Debug, Default)]
pub struct ConnectionInfo {
    /// Number of the connection, unique in this process.
    pub id: u64,
    /// The other end.
    pub peer: Option<SocketAddr>,
    /// Our end.
    pub local: Option<SocketAddr>,
    /// Present when the connection is encrypted.
    pub tls: Option<Box<TlsInfo>>,
    has_interim: AtomicBool,
    interim: Mutex<Vec<(u32, Interim)>>,
}

/// What the TLS handshake agreed on.
#[derive(Debug, Clone, Default)]
pub struct TlsInfo {
    /// The server name that the client asked for.
    pub server_name: Option<Box<str>>,
    /// The application protocol, for instance `h2`.
    pub alpn: Option<Box<[u8]>>,
    /// For instance `TLSv1.3`.
    pub version: &'static str,
    /// For instance `TLS13_AES_128_GCM_SHA256`.
    pub cipher_suite: &'static str,
    /// Whether an earlier session was resumed.
    pub resumed: bool,
    /// The number of what decided which clients are let in; 0 lets everybody in. Requests that are for
    /// clients of another number were misdirected (RFC 9110 §15.5.20).
    pub client_trust: u32,
    /// The certificate that the client showed; it was verified. `None` where it was not asked to, or had none.
    pub client_certificate: Option<ClientCertificate>,
}

/// A client's own certificate, without those that lead to its root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientCertificate {
    /// The certificate, in DER form (RFC 5280).
    pub der: Box<[u8]>,
    /// The SHA-256 of that, which is what people call its fingerprint.
    pub sha256: [u8; 32],
}

/// What a handler wants sent before its response.
#[derive(Debug)]
pub(crate) enum Interim {
    /// `103 Early Hints` with these `Link` values.
    Hints(Vec<HeaderValue>),
    /// An HTTP/2 push promise for this target.
    Push(Box<str>),
}

impl Interim {
    pub(crate) fn hints(links: &[HeaderValue]) -> Self {
        Self::Hints(links.to_vec())
    }
}

impl ConnectionInfo {
    /// A description of a connection between these two ends.
    #[must_use]
    pub fn new(id: u64, peer: Option<SocketAddr>, local: Option<SocketAddr>) -> Self {
        Self { id, peer, local, ..Self::default() }
    }

    /// Adds what the TLS handshake agreed on.
    #[must_use]
    pub fn with_tls(mut self, tls: TlsInfo) -> Self {
        self.tls = Some(Box::new(tls));
        self
    }

    /// `https` or `http`.
    #[must_use]
    pub fn scheme(&self) -> &'static str {
        if self.tls.is_some() { "https" } else { "http" }
    }

    pub(crate) fn push_interim(&self, stream_id: u32, interim: Interim) {
        self.interim.lock().push((stream_id, interim));
        self.has_interim.store(true, Ordering::Release);
    }

    /// Whether handlers of this connection asked for something since the last call of
    /// [`take_interim`](Self::take_interim).
    pub(crate) fn has_interim(&self) -> bool {
        self.has_interim.load(Ordering::Acquire)
    }

    /// What handlers of this connection asked for since the last call; nearly free when that is nothing.
    pub(crate) fn take_interim(&self) -> Vec<(u32, Interim)> {
        if !self.has_interim.load(Ordering::Acquire) {
            return Vec::new();
        }
        let mut waiting = self.interim.lock();
        self.has_interim.store(false, Ordering::Release);
        std::mem::take(&mut *waiting)
    }
}

/// How an exchange ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// The whole response was handed to the transport.
    Complete,
    /// The peer went away, or stopped taking bytes, before the end.
    PeerGone,
    /// The response's body failed, for instance a file that shrank while it was sent.
    BodyFailed,
    /// The handler panicked; the peer got 500 if nothing had been sent yet.
    Panicked,
    /// The request was refused before any handler saw it (400, 408, 413, 431, …).
    Refused,
}

/// One request and what became of it, for access logs and metrics.
#[derive(Debug)]
#[non_exhaustive]
pub struct Exchange<'a> {
    /// The connection.
    pub connection: &'a Arc<ConnectionInfo>,
    /// The request; `None` where it was too broken to be parsed.
    pub head: Option<&'a Head>,
    /// The status that was sent.
    pub status: StatusCode,
    /// Content bytes that were sent, framing excluded.
    pub body_bytes: u64,
    /// From the first byte of the head to the end of the response, in the resolution of the connection's clock.
    pub duration: Duration,
    /// How it ended.
    pub outcome: Outcome,
}

impl<'a> Exchange<'a> {
    /// An exchange that was answered with `status` and nothing else; the rest can be set afterwards.
    #[must_use]
    pub fn new(
        connection: &'a Arc<ConnectionInfo>,
        head: Option<&'a Head>,
        status: StatusCode,
    ) -> Self {
        Self {
            connection,
            head,
            status,
            body_bytes: 0,
            duration: Duration::ZERO,
            outcome: Outcome::Complete,
        }
    }
}

/// Is told of every exchange after it ended. Called on the connection's task: must not block.
pub trait Observer: Send + Sync + 'static {
    /// One exchange ended.
    fn on_exchange(&self, exchange: &Exchange<'_>);

    /// A peer was sent away because of what it did, for a counter. Nothing by default.
    fn on_abuse(&self, _connection: &Arc<ConnectionInfo>, _abuse: Abuse) {}
}

/// What a peer was sent away for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Abuse {
    /// Frames that bring no stream forward: PING, SETTINGS, empty DATA, CONTINUATION and their like.
    #[error("too many bytes without any stream going forward")]
    Overhead,
    /// Streams that the peer opened and reset.
    #[error("too many streams were reset")]
    Resets,
    /// A frame, or a header section, that begins and does not end.
    #[error("a frame took too long to arrive")]
    SlowFrame,
    /// Malformed requests, and streams that we had to reset.
    #[error("too many streams were malformed")]
    StreamErrors,
}

impl Abuse {
    /// A word for it, for logs and metrics.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::Overhead => "overhead",
            Self::Resets => "resets",
            Self::SlowFrame => "slow-frame",
            Self::StreamErrors => "stream-errors",
        }
    }
}
