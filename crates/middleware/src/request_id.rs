//! An id for every request.

use std::{
    hash::{BuildHasher, RandomState},
    sync::atomic::{AtomicU64, Ordering},
};

use hearth_http_core::{HeaderName, HeaderValue, Middleware, Next, Request, Response};

/// The id of a request, among its extensions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestId(HeaderValue);

impl RequestId {
    /// The id.
    #[must_use]
    pub fn as_str(&self) -> &str {
        // Made of visible ASCII here, or checked to be.
        self.0.to_str().unwrap_or_default()
    }
}

/// Gives every request an id: a [`RequestId`] among its extensions and `x-request-id` in its response.
///
/// An id that the client sends is passed on if it is harmless: up to 128 letters, digits and `-_.:+/=`.
#[derive(Debug)]
pub struct AssignRequestId {
    pass_on: bool,
    count: AtomicU64,
    seed: RandomState,
}

impl AssignRequestId {
    /// Passes on ids that clients send, and makes one where there is none.
    #[must_use]
    pub fn new() -> Self {
        Self { pass_on: true, count: AtomicU64::new(0), seed: RandomState::new() }
    }

    /// Makes an id for every request, whatever clients send: where they are not trusted to name their own.
    #[must_use]
    pub fn always_new(mut self) -> Self {
        self.pass_on = false;
        self
    }

    fn id_for(&self, req: &Request) -> HeaderValue {
        let theirs = req.header(NAME.as_str()).filter(|id| self.pass_on && is_harmless(id));
        theirs.and_then(|id| HeaderValue::from_bytes(id).ok()).unwrap_or_else(|| self.make())
    }

    /// Two keyed hashes of a counter: no two alike, and none tells how many came before.
    fn make(&self) -> HeaderValue {
        let count = self.count.fetch_add(1, Ordering::Relaxed);
        let (high, low) = (self.seed.hash_one((count, 0u8)), self.seed.hash_one((count, 1u8)));
        HeaderValue::try_from(format!("{high:016x}{low:016x}")).expect("hex digits are valid")
    }
}

impl Default for AssignRequestId {
    fn default() -> Self {
        Self::new()
    }
}

impl Middleware for AssignRequestId {
    async fn handle(&self, mut req: Request, next: Next<'_>) -> Response {
        let id = self.id_for(&req);
        req.extensions_mut().insert(RequestId(id.clone()));
        next.run(req).await.with_header(NAME, id)
    }
}

fn is_harmless(id: &[u8]) -> bool {
    (1..=128).contains(&id.len())
        && id.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_.:+/=".contains(byte))
}

const NAME: HeaderName = HeaderName::from_static("x-request-id");
