//! Bounds on what requests may cost.

use std::sync::atomic::{AtomicUsize, Ordering};

use hearth_http_core::{HeaderValue, Middleware, Next, Request, Response, StatusCode, header};

/// Refuses request bodies larger than this, for the routes that it stands around: 413 at once where the length
/// is announced, otherwise an error in the handler that reads too far.
#[derive(Debug, Clone, Copy)]
pub struct BodyLimit {
    bytes_max: u64,
}

impl BodyLimit {
    /// Accepts bodies of up to `bytes_max` bytes; replaces the listener's own limit, up or down.
    #[must_use]
    pub fn new(bytes_max: u64) -> Self {
        Self { bytes_max }
    }
}

impl Middleware for BodyLimit {
    async fn handle(&self, mut req: Request, next: Next<'_>) -> Response {
        if req.body().len().is_some_and(|len| len > self.bytes_max) {
            return Response::status_text(StatusCode::PAYLOAD_TOO_LARGE);
        }
        req.body_mut().limit(self.bytes_max);
        next.run(req).await
    }
}

/// Lets so many requests at once through to the handler; the others get 503 and are told to come back.
///
/// A request counts until its response begins, not until its body was sent.
#[derive(Debug)]
pub struct ConcurrencyLimit {
    count_max: usize,
    count: AtomicUsize,
}

impl ConcurrencyLimit {
    /// Lets up to `count_max` requests through at once.
    #[must_use]
    pub fn new(count_max: usize) -> Self {
        Self { count_max, count: AtomicUsize::new(0) }
    }

    fn enter(&self) -> Option<Permit<'_>> {
        let permit = Permit(&self.count);
        // Counted before it is looked at, so that two cannot take the last place; the permit takes it back.
        (self.count.fetch_add(1, Ordering::Relaxed) < self.count_max).then_some(permit)
    }
}

impl Middleware for ConcurrencyLimit {
    async fn handle(&self, req: Request, next: Next<'_>) -> Response {
        let Some(_permit) = self.enter() else {
            return Response::status_text(StatusCode::SERVICE_UNAVAILABLE)
                .with_header(header::RETRY_AFTER, HeaderValue::from_static("1"));
        };
        next.run(req).await
    }
}

/// A request that is counted; also when its future is dropped half way.
struct Permit<'a>(&'a AtomicUsize);

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
