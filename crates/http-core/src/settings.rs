//! What the connections of one listener have in common.

use std::sync::Arc;

use http::HeaderValue;

use crate::{Limits, Observer};

/// Settings of a listener's connections, shared by all of them.
#[derive(Clone, Default)]
#[non_exhaustive]
pub struct Settings {
    /// Bounds on sizes, times, rates and counts.
    pub limits: Limits,
    /// Is told of every exchange.
    pub observer: Option<Arc<dyn Observer>>,
    /// The `server` field of every response; none by default.
    pub server: Option<HeaderValue>,
    /// Whether request fields with `_` in their names are left out, because what stands behind may
    /// not tell `_` from `-`, as CGI does. Default no.
    pub drop_underscore_fields: bool,
    /// Whether `Upgrade: h2c` is honoured on cleartext connections. Default no.
    pub h2c_upgrade: bool,
    /// Whether extended CONNECT (RFC 8441) is offered to HTTP/2 peers. Default no.
    pub extended_connect: bool,
    /// Whether [`Request::push`](crate::Request::push) may send push promises. Default no.
    pub push: bool,
}

impl std::fmt::Debug for Settings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Settings").field("limits", &self.limits).finish_non_exhaustive()
    }
}

/// Which protocol a connection speaks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/2 if the first bytes are its preface (RFC 9113 §3.4), otherwise HTTP/1.1. For cleartext.
    #[default]
    Auto,
    /// HTTP/1.1 and 1.0; what ALPN `http/1.1`, or no ALPN, means.
    Http1,
    /// HTTP/2; what ALPN `h2` means.
    Http2,
}
