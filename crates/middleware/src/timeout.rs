//! An answer within a time.

use std::time::Duration;

use hearth_http_core::{Middleware, Next, Request, Response, StatusCode};

/// Gives up on a handler that has not answered within a time: the handler's future is dropped and the client
/// gets 503. The body of a response that has begun is not limited.
#[derive(Debug, Clone, Copy)]
pub struct Timeout {
    after: Duration,
    status: StatusCode,
}

impl Timeout {
    /// Gives up after this time.
    #[must_use]
    pub fn new(after: Duration) -> Self {
        Self { after, status: StatusCode::SERVICE_UNAVAILABLE }
    }

    /// What the client gets. Default 503.
    #[must_use]
    pub fn status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }
}

impl Middleware for Timeout {
    async fn handle(&self, req: Request, next: Next<'_>) -> Response {
        match tokio::time::timeout(self.after, next.run(req)).await {
            Ok(response) => response,
            Err(_elapsed) => Response::status_text(self.status),
        }
    }
}
