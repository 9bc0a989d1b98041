//! HTTP-01: tokens by their names (RFC 8555 §8.3).

use std::{collections::HashMap, sync::Arc};

use hearth_http_core::{Middleware, Next, Request, Response};
use http::{HeaderValue, header};
use parking_lot::RwLock;

use crate::storage::{Storage, StorageError};

/// The tokens that authorities are about to ask for; cheap to clone.
///
/// As a [`Middleware`] it must stand before redirects, authentication and the choice of a site, on
/// every listener on port 80: authorities ask by plain HTTP, for any name, before there is a certificate.
/// What it does not know goes on to what stands behind it, so that other ACME clients still work.
#[derive(Debug, Clone)]
pub struct Http01 {
    tokens: Arc<RwLock<HashMap<Box<str>, Box<str>>>>,
    storage: Option<Arc<dyn Storage>>,
}

const PREFIX: &str = "/.well-known/acme-challenge/";

impl Http01 {
    /// No tokens, and none but this process's.
    #[must_use]
    pub fn new() -> Self {
        Self { tokens: Arc::default(), storage: None }
    }

    /// Also answers for the other processes that share `storage`: behind a load balancer any of them may
    /// be asked.
    #[must_use]
    pub fn shared(storage: Arc<dyn Storage>) -> Self {
        Self { tokens: Arc::default(), storage: Some(storage) }
    }

    /// What to answer to a request for `path`, from memory.
    #[must_use]
    pub fn answer(&self, path: &str) -> Option<String> {
        let token = token_of(path)?;
        self.tokens.read().get(token).map(ToString::to_string)
    }

    /// The response to a request for `path`, if it is for a token that is known here, or in the storage.
    ///
    /// # Cancel safety
    /// Nothing is changed.
    pub async fn respond(&self, path: &str) -> Option<Response> {
        let token = token_of(path)?;
        let known = self.answer(path);
        let text = match (known, &self.storage) {
            (Some(text), _) => text,
            (None, Some(storage)) => {
                let bytes = storage.load(&key(token)).await.ok().flatten()?;
                String::from_utf8(bytes).ok()?
            }
            (None, None) => return None,
        };
        let plain = HeaderValue::from_static("text/plain");
        let mut response = Response::text(text);
        response.headers_mut().insert(header::CONTENT_TYPE, plain);
        Some(response)
    }

    pub(crate) async fn present(&self, token: &str, text: &str) -> Result<(), StorageError> {
        if let Some(storage) = &self.storage {
            storage.store(&key(token), text.as_bytes()).await?;
        }
        self.tokens.write().insert(token.into(), text.into());
        Ok(())
    }

    pub(crate) async fn remove(&self, token: &str) -> Result<(), StorageError> {
        self.tokens.write().remove(token);
        match &self.storage {
            Some(storage) => storage.remove(&key(token)).await,
            None => Ok(()),
        }
    }
}

impl Default for Http01 {
    fn default() -> Self {
        Self::new()
    }
}

impl Middleware for Http01 {
    async fn handle(&self, req: Request, next: Next<'_>) -> Response {
        if req.path().starts_with(PREFIX)
            && let Some(response) = self.respond(req.path()).await
        {
            return response;
        }
        next.run(req).await
    }
}

/// RFC 8555 §8.1: base64url, so nothing else is looked up anywhere.
fn token_of(path: &str) -> Option<&str> {
    let token = path.strip_prefix(PREFIX)?;
    is_token(token).then_some(token)
}

pub(crate) fn is_token(token: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    (1..=128).contains(&token.len()) && token.bytes().all(allowed)
}

fn key(token: &str) -> String {
    format!("challenges/{token}")
}

#[cfg(test)]
mod tests {
    use hearth_http_core::{BoxHandler, BoxMiddleware, Chain, handler_fn};
    use http::StatusCode;

    use super::*;
    use crate::MemoryStorage;

    #[tokio::test]
    async fn answers_tokens_and_passes_on_the_rest() {
        let storage: Arc<dyn Storage> = Arc::new(MemoryStorage::new());
        let (one, two) = (Http01::shared(storage.clone()), Http01::shared(storage));
        one.present("tok-EN_1", "tok-EN_1.thumb").await.expect("stored");
        let behind =
            BoxHandler::new(handler_fn(async |_| Response::status_only(StatusCode::IM_A_TEAPOT)));
        for node in [&one, &two] {
            let chain = Chain::new([BoxMiddleware::new(node.clone())], behind.clone());
            let get = async |path: &str| {
                let mut response = chain.run(Request::get(path).expect("a request")).await;
                let body = response.take_body().collect(1000).await.expect("a body");
                (response.status().as_u16(), String::from_utf8_lossy(&body).into_owned())
            };
            let good = get("/.well-known/acme-challenge/tok-EN_1").await;
            assert_eq!(good, (200, "tok-EN_1.thumb".to_owned()));
            for path in [
                "/",
                "/.well-known/acme-challenge/",
                "/.well-known/acme-challenge/other",
                "/.well-known/acme-challenge/../tok-EN_1",
                "/.well-known/acme-challenge/tok-EN_1/",
                "/.well-known/acme-challenge/tok%2DEN_1",
            ] {
                assert_eq!(get(path).await.0, 418, "{path}");
            }
        }
        one.remove("tok-EN_1").await.expect("removed");
        assert!(two.respond("/.well-known/acme-challenge/tok-EN_1").await.is_none());
    }
}
