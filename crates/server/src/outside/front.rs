//! What is answered before anything else, on every listener.

use std::{fmt, sync::Arc};

use hearth_http_core::{Handler, Request, Response};

use super::{PATH, is_nonce, proof};

/// Answers probes, and leaves the rest to another handler.
pub struct Front<H> {
    secret: [u8; 32],
    inner: Arc<H>,
}

impl<H: Handler> Front<H> {
    /// Stands before `inner`.
    pub fn new(secret: [u8; 32], inner: Arc<H>) -> Self {
        Self { secret, inner }
    }
}

impl<H: Handler> Handler for Front<H> {
    async fn call(&self, req: Request) -> Response {
        match req.path().strip_prefix(PATH).filter(|nonce| is_nonce(nonce)) {
            Some(nonce) => Response::text(proof(&self.secret, nonce)),
            None => self.inner.call(req).await,
        }
    }
}

impl<H> fmt::Debug for Front<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Front")
    }
}
