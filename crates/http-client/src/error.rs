//! Why a request got no response, or a response no end.

use std::{borrow::Cow, error::Error, fmt, io};

use hearth_http_core::BodyError;

/// A failed exchange.
///
/// Most callers log it; [`kind`](Self::kind) is for those who act. The text names the origin, never
/// a path, a query or a field, since these may hold secrets; what lies below is the
/// [`source`](Error::source).
pub struct ClientError(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    what: Cow<'static, str>,
    origin: Option<Box<str>>,
    source: Option<BoxError>,
    is_unprocessed: bool,
    is_idempotent: bool,
}

type BoxError = Box<dyn Error + Send + Sync>;

/// What failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The source of the request's content failed, or gave more or less than it had promised.
    Body,
    /// The peer closed the connection, or reset the stream, before the end of the response.
    Closed,
    /// No connection could be made.
    Connect,
    /// The host has no address, or the resolver does not answer.
    Dns,
    /// What the peer sent is not HTTP, or breaks one of its rules. The connection is closed.
    Protocol,
    /// Too many redirects, or one that must not be followed.
    Redirect,
    /// The request cannot be sent as it is: malformed URL, missing feature.
    Request,
    /// Something took longer than allowed.
    Timeout(TimeoutKind),
    /// The TLS handshake failed: usually an untrusted or expired certificate.
    Tls,
    /// The response is larger than the caller, or a limit, allows.
    TooLarge,
}

/// Which of the [`Timeouts`](crate::Timeouts) passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TimeoutKind {
    /// Nothing of an expected body arrived.
    BodyIdle,
    /// No connection was made in time, name look-up included.
    Connect,
    /// Every connection to the origin stayed in use.
    PoolWait,
    /// The request was sent, no response head came.
    ResponseHead,
    /// The TLS handshake did not end.
    Tls,
    /// The whole exchange took too long.
    Total,
}

/// Who can do something about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Actor {
    /// Who made the request: its URL, content, limits or trusted certificates.
    Caller,
    /// Who runs this machine and the network around it.
    Environment,
    /// Who runs the server.
    Peer,
}

impl ClientError {
    pub(crate) fn new(kind: ErrorKind, what: impl Into<Cow<'static, str>>) -> Self {
        Self(Box::new(Inner {
            kind,
            what: what.into(),
            origin: None,
            source: None,
            is_unprocessed: matches!(
                kind,
                ErrorKind::Connect
                    | ErrorKind::Dns
                    | ErrorKind::Tls
                    | ErrorKind::Request
                    | ErrorKind::Timeout(
                        TimeoutKind::Connect | TimeoutKind::Tls | TimeoutKind::PoolWait
                    )
            ),
            is_idempotent: false,
        }))
    }

    /// The connection broke before the response was there.
    pub(crate) fn lost(error: impl Into<BoxError>, kind: Option<io::ErrorKind>) -> Self {
        // Only TLS makes errors of that kind: an alert, for instance that our certificate is refused,
        // which in TLS 1.3 comes after the handshake.
        if kind == Some(io::ErrorKind::InvalidData) {
            return Self::new(ErrorKind::Tls, "the TLS connection failed").caused_by(error);
        }
        let what = "the connection was closed before the response";
        Self::new(ErrorKind::Closed, what).caused_by(error)
    }

    pub(crate) fn timeout(which: TimeoutKind) -> Self {
        let what = match which {
            TimeoutKind::BodyIdle => "the body stalled",
            TimeoutKind::Connect => "connecting took too long",
            TimeoutKind::PoolWait => "every connection stayed in use",
            TimeoutKind::ResponseHead => "no response came in time",
            TimeoutKind::Tls => "the TLS handshake took too long",
            TimeoutKind::Total => "the exchange took too long",
        };
        Self::new(ErrorKind::Timeout(which), what)
    }

    pub(crate) fn caused_by(mut self, source: impl Into<BoxError>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// Marks that the peer has certainly not acted on the request.
    #[cfg(feature = "http2")]
    pub(crate) fn unprocessed(mut self) -> Self {
        self.0.is_unprocessed = true;
        self
    }

    pub(crate) fn idempotent(mut self, is_idempotent: bool) -> Self {
        self.0.is_idempotent = is_idempotent;
        self
    }

    pub(crate) fn at(mut self, origin: &str) -> Self {
        self.0.origin.get_or_insert_with(|| origin.into());
        self
    }

    /// What failed.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Who can do something about it.
    #[must_use]
    pub fn actor(&self) -> Actor {
        match self.0.kind {
            ErrorKind::Body | ErrorKind::Request | ErrorKind::Tls | ErrorKind::TooLarge => {
                Actor::Caller
            }
            ErrorKind::Connect
            | ErrorKind::Dns
            | ErrorKind::Timeout(TimeoutKind::Connect | TimeoutKind::PoolWait) => {
                Actor::Environment
            }
            ErrorKind::Closed
            | ErrorKind::Protocol
            | ErrorKind::Redirect
            | ErrorKind::Timeout(_) => Actor::Peer,
        }
    }

    /// Whether the peer has certainly not acted on the request, so that even a POST may be repeated.
    #[must_use]
    pub fn is_unprocessed(&self) -> bool {
        self.0.is_unprocessed
    }

    /// Whether the same request may be sent again, and might succeed then: the failure may pass, and
    /// the peer did not act on the request or acting twice does no harm (RFC 9110 §9.2.2).
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        let may_pass = matches!(
            self.0.kind,
            ErrorKind::Closed | ErrorKind::Connect | ErrorKind::Dns | ErrorKind::Timeout(_)
        );
        may_pass && (self.0.is_unprocessed || self.0.is_idempotent)
    }
}

impl From<BodyError> for ClientError {
    fn from(error: BodyError) -> Self {
        let (kind, what) = match &error {
            BodyError::Malformed(_) => (ErrorKind::Protocol, "malformed response body"),
            BodyError::TooLarge { .. } => (ErrorKind::TooLarge, "the response is too large"),
            BodyError::Timeout => return Self::timeout(TimeoutKind::BodyIdle),
            _ => (ErrorKind::Closed, "the response ended before its end"),
        };
        Self::new(kind, what).caused_by(error)
    }
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(origin) = &self.0.origin {
            write!(f, "{origin}: ")?;
        }
        f.write_str(&self.0.what)
    }
}

impl fmt::Debug for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientError")
            .field("kind", &self.0.kind)
            .field("what", &self.0.what)
            .field("origin", &self.0.origin)
            .field("source", &self.0.source)
            .finish_non_exhaustive()
    }
}

impl Error for ClientError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source.as_deref().map(|source| source as &(dyn Error + 'static))
    }
}
