//! What a client is told once, for all its requests.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use http::HeaderValue;

use crate::Dial;

/// Options of a [`Client`](crate::Client). Start from the default and change fields.
#[derive(Clone, Default)]
#[non_exhaustive]
pub struct ClientOptions {
    /// How long things may take.
    pub timeouts: Timeouts,
    /// What one peer may make us hold.
    pub limits: ClientLimits,
    /// How connections are kept.
    pub pool: PoolOptions,
    /// Which protocol versions are spoken. A request may say otherwise.
    pub versions: Versions,
    /// Redirects followed for one request. Default 0: a redirect is a response like any other.
    pub redirects_max: u32,
    /// The `user-agent` of requests that bring none. Default none.
    pub user_agent: Option<HeaderValue>,
    /// Makes connections in place of the built-in TCP dialer. Default none.
    pub dialer: Option<Arc<dyn Dial>>,
    /// Trusted certificates, and our own. Default: none are trusted.
    #[cfg(feature = "tls")]
    pub tls: crate::TlsOptions,
}

/// How long each phase of a request may take.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Timeouts {
    /// Until a connection of a full pool becomes free. Default 10 s.
    pub pool_wait: Duration,
    /// Name look-up and connecting. Default 10 s.
    pub connect: Duration,
    /// TLS handshake. Default 10 s.
    pub tls: Duration,
    /// From the last progress in sending the request to the end of the response head. Default 30 s.
    pub response_head: Duration,
    /// How long `Expect: 100-continue` waits before the content is sent anyway. Default 1 s.
    pub expect_continue: Duration,
    /// Without any byte of an expected response body. Default 30 s.
    pub body_idle: Duration,
    /// From the call of `send` to the end of the response body, redirects included. Default none.
    pub total: Option<Duration>,
}

/// Bounds on what one response can make us hold. There is none on its content: whoever collects
/// that says how much.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct ClientLimits {
    /// Bytes of a response head. Default 64 KiB.
    pub head_bytes_max: usize,
    /// Field lines of a response head. Default 128, at most 256.
    pub header_count_max: usize,
    /// Bytes of a trailer section. Default 8 KiB.
    pub trailer_bytes_max: usize,
    /// Field lines of a trailer section. Default 32.
    pub trailer_count_max: usize,
    /// Interim (1xx) responses before the final one. Default 16.
    pub interim_count_max: u32,
    /// Addresses of one host that are tried. Default 8.
    pub address_count_max: usize,
    /// HTTP/2: receive window of a stream. Default 1 MiB.
    pub h2_stream_window: u32,
    /// HTTP/2: receive window of a connection. Default 4 MiB.
    pub h2_connection_window: u32,
    /// HTTP/2: largest frame we accept. Default 16 KiB.
    pub h2_frame_bytes_max: u32,
    /// HTTP/2: output buffered for one stream. Default 64 KiB.
    pub h2_send_buffer_max: usize,
}

/// How connections are kept.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct PoolOptions {
    /// Connections to one origin that are in use at once; further requests wait in order of their
    /// arrival. HTTP/2 uses one connection whatever this says. Default 64.
    pub connections_per_origin_max: usize,
    /// Connections to one origin that are kept while nobody uses them. Default 16.
    pub idle_per_origin_max: usize,
    /// How long an unused connection is kept. A shorter `keep-alive: timeout` of the peer wins.
    /// Default 60 s.
    pub idle_timeout: Duration,
    /// How old a connection may be when another request is sent on it: names come to mean other
    /// addresses. Default 1 h.
    pub age_max: Duration,
}

/// Protocol versions of HTTP.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Versions {
    /// HTTP/2 where TLS negotiates it (and this crate was built with it), HTTP/1.1 elsewhere.
    #[default]
    Auto,
    /// HTTP/1.1 only.
    Http1,
    /// HTTP/2 only: by ALPN over TLS, by prior knowledge without (RFC 9113 §3.3).
    #[cfg(feature = "http2")]
    Http2,
}

/// Where a connection goes, in place of where the URL's host resolves to.
///
/// URL, `host` field and certificate check stay those of the URL.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ConnectTo {
    /// This address.
    Address(SocketAddr),
    /// The host's IPv4 addresses only.
    Ipv4,
    /// The host's IPv6 addresses only.
    Ipv6,
    /// A Unix socket.
    #[cfg(unix)]
    Unix(std::path::PathBuf),
}

impl Versions {
    /// Whether HTTP/2 is spoken without asking.
    pub(crate) fn knows_http2(self) -> bool {
        #[cfg(feature = "http2")]
        return self == Self::Http2;
        #[cfg(not(feature = "http2"))]
        false
    }
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            pool_wait: Duration::from_secs(10),
            connect: Duration::from_secs(10),
            tls: Duration::from_secs(10),
            response_head: Duration::from_secs(30),
            expect_continue: Duration::from_secs(1),
            body_idle: Duration::from_secs(30),
            total: None,
        }
    }
}

impl Default for ClientLimits {
    fn default() -> Self {
        Self {
            head_bytes_max: 64 * 1024,
            header_count_max: 128,
            trailer_bytes_max: 8 * 1024,
            trailer_count_max: 32,
            interim_count_max: 16,
            address_count_max: 8,
            h2_stream_window: 1024 * 1024,
            h2_connection_window: 4 * 1024 * 1024,
            h2_frame_bytes_max: 16 * 1024,
            h2_send_buffer_max: 64 * 1024,
        }
    }
}

impl Default for PoolOptions {
    fn default() -> Self {
        Self {
            connections_per_origin_max: 64,
            idle_per_origin_max: 16,
            idle_timeout: Duration::from_secs(60),
            age_max: Duration::from_secs(3600),
        }
    }
}

impl std::fmt::Debug for ClientOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClientOptions")
            .field("timeouts", &self.timeouts)
            .field("limits", &self.limits)
            .field("pool", &self.pool)
            .field("versions", &self.versions)
            .field("redirects_max", &self.redirects_max)
            .field("user_agent", &self.user_agent)
            .finish_non_exhaustive()
    }
}
