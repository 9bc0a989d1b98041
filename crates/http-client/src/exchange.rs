//! What the two protocols have in common: what they are given, and what they give back.

use hearth_http_core::{Body, Headers, Upgraded};
use http::{HeaderValue, Method};
use tokio::time::Instant;

use crate::{
    ClientError, ClientLimits, Timeouts, clock::BodyClock, request::RequestSettings,
    response::ResponseHead, target::Target,
};

/// A request without its content.
#[derive(Clone, Copy)]
pub(crate) struct Order<'a> {
    pub(crate) method: &'a Method,
    pub(crate) target: &'a Target,
    pub(crate) headers: &'a Headers,
    pub(crate) user_agent: Option<&'a HeaderValue>,
    pub(crate) settings: &'a RequestSettings,
    pub(crate) timeouts: Timeouts,
    pub(crate) limits: ClientLimits,
    /// When the exchange has to be over, content included.
    pub(crate) deadline: Option<Instant>,
}

/// A response, as one of the protocols delivers it.
pub(crate) struct Answer {
    pub(crate) head: ResponseHead,
    pub(crate) body: Body,
    pub(crate) upgraded: Option<Upgraded>,
}

/// No response.
pub(crate) struct Failure {
    pub(crate) error: ClientError,
    /// The peer said nothing: a kept connection may have been dead already.
    pub(crate) is_stale: bool,
}

impl Failure {
    /// Whether the connection is dead, or seems to be.
    #[cfg(feature = "http2")]
    pub(crate) fn condemns_connection(&self) -> bool {
        use crate::{ErrorKind, TimeoutKind};
        let kind = self.error.kind();
        self.is_stale || kind == ErrorKind::Timeout(TimeoutKind::ResponseHead)
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        Self { error, is_stale: false }
    }
}

impl Order<'_> {
    pub(crate) fn body_clock(&self) -> BodyClock {
        BodyClock::new(self.timeouts.body_idle, self.deadline)
    }
}
