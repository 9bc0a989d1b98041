//! What is answered before anything else, on every listener.

use std::{fmt, sync::Arc};

use hearth_http_core::{Handler, Request, Response};
use hearth_netsvc::reach::Challenges;
use hearth_tls_acme::Http01;

/// Answers probes and certification authorities, and leaves the rest to another handler.
pub struct Front<H> {
    challenges: Option<Challenges>,
    http01: Option<Http01>,
    inner: Arc<H>,
}

impl<H: Handler> Front<H> {
    /// Stands before `inner`.
    pub fn new(challenges: Option<Challenges>, http01: Option<Http01>, inner: Arc<H>) -> Self {
        Self { challenges, http01, inner }
    }
}

impl<H: Handler> Handler for Front<H> {
    async fn call(&self, req: Request) -> Response {
        // One comparison for every other request.
        if req.path().starts_with(WELL_KNOWN) {
            let proof = self.challenges.as_ref().and_then(|own| own.answer(req.path()));
            if let Some(proof) = proof {
                return Response::text(proof);
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
