//! What is answered before anything else, on every listener.

use std::{fmt, sync::Arc};

use hearth_http_core::{Handler, Request, Response};
use hearth_tls_acme::Http01;

use super::{is_nonce, proof};

/// Answers probes and certification authorities, and leaves the rest to another handler.
pub struct Front<H> {
    secret: Option<[u8; 32]>,
    http01: Option<Http01>,
    inner: Arc<H>,
}

impl<H: Handler> Front<H> {
    /// Stands before `inner`.
    pub fn new(secret: Option<[u8; 32]>, http01: Option<Http01>, inner: Arc<H>) -> Self {
        Self { secret, http01, inner }
    }
}

impl<H: Handler> Handler for Front<H> {
    async fn call(&self, req: Request) -> Response {
        // One comparison for every other request.
        if let Some(known) = req.path().strip_prefix(WELL_KNOWN) {
            let nonce = known.strip_prefix("hearth-probe/").filter(|nonce| is_nonce(nonce));
            if let (Some(secret), Some(nonce)) = (&self.secret, nonce) {
                return Response::text(proof(secret, nonce));
            }
            if let Some(http01) = &self.http01
                && let Some(response) = http01.respond(req.path()).await
            {
                return response;
            }
        }
        self.inner.call(req).await
    }
}

/// RFC 8615.
const WELL_KNOWN: &str = "/.well-known/";

impl<H> fmt::Debug for Front<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Front")
    }
}
