//! What all services have in common that speak HTTP.

use std::time::Duration;

use hearth_http_client::{Client, ClientError, ClientRequest};
use http::{
    HeaderName, HeaderValue, Method, StatusCode,
    header::{ACCEPT, AUTHORIZATION, USER_AGENT},
};

use crate::ddns::{ProviderError, ProviderErrorKind, Secret};

/// A service's address and how to speak to it.
#[derive(Clone)]
pub(super) struct Service {
    pub(super) name: &'static str,
    client: Client,
    /// Scheme and authority, without a slash at the end.
    endpoint: String,
    secrets: Vec<Secret>,
}

/// An answer whose content has been read.
pub(super) struct Reply {
    pub(super) status: StatusCode,
    pub(super) retry_after: Option<Duration>,
    pub(super) text: String,
}

impl Service {
    pub(super) fn new(
        name: &'static str,
        client: Client,
        endpoint: Option<&str>,
        default_endpoint: &str,
    ) -> Self {
        let endpoint = endpoint.unwrap_or(default_endpoint).trim_end_matches('/').to_owned();
        Self { name, client, endpoint, secrets: Vec::new() }
    }

    /// Adds a secret that must not be seen in what the service answers.
    pub(super) fn hiding(mut self, secret: &Secret) -> Self {
        self.secrets.push(secret.clone());
        self
    }

    pub(super) fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// The part of the endpoint that goes into `host`.
    pub(super) fn authority(&self) -> &str {
        let rest = self.endpoint.split_once("://").map_or(self.endpoint.as_str(), |(_, rest)| rest);
        rest.split('/').next().unwrap_or_default()
    }

    pub(super) fn get(&self, path: &str) -> Result<ClientRequest, ProviderError> {
        self.request(Method::GET, path)
    }

    pub(super) fn request(
        &self,
        method: Method,
        path: &str,
    ) -> Result<ClientRequest, ProviderError> {
        let url = format!("{}{path}", self.endpoint);
        let request = ClientRequest::new(method, &url).map_err(|_| {
            // Not the reason: it could repeat the URL.
            self.error(ProviderErrorKind::Refused, "the address of the service is no URL")
        })?;
        let agent = HeaderValue::from_static(concat!("hearth/", env!("CARGO_PKG_VERSION")));
        Ok(request
            .with_header(USER_AGENT, agent)
            .with_header(ACCEPT, HeaderValue::from_static("*/*"))
            .with_timeout(TIMEOUT))
    }

    /// Adds `authorization`.
    pub(super) fn authorized(
        &self,
        request: ClientRequest,
        credentials: &str,
    ) -> Result<ClientRequest, ProviderError> {
        let mut value = HeaderValue::from_str(credentials).map_err(|_| {
            self.error(ProviderErrorKind::BadAuth, "the token has characters that none has")
        })?;
        value.set_sensitive(true);
        Ok(request.with_header(AUTHORIZATION, value))
    }

    /// Sends a request and reads the answer, of whatever status.
    pub(super) async fn send(&self, request: ClientRequest) -> Result<Reply, ProviderError> {
        let unreachable = |error: ClientError| {
            use hearth_http_client::ErrorKind;
            let kind = match error.kind() {
                ErrorKind::Protocol | ErrorKind::TooLarge => ProviderErrorKind::Garbled,
                _ => ProviderErrorKind::Unreachable,
            };
            let failed = self.error(kind, error.to_string());
            let failed = if error.is_unprocessed() { failed.with_unsent() } else { failed };
            failed.with_source(error)
        };
        let response = self.client.send(request).await.map_err(unreachable)?;
        let (status, retry_after) = (response.status(), response.retry_after());
        let bytes = response.bytes(REPLY_BYTES_MAX).await.map_err(unreachable)?;
        let text = String::from_utf8_lossy(&bytes).into_owned();
        Ok(Reply { status, retry_after, text })
    }

    /// An error of this service.
    pub(super) fn error(
        &self,
        kind: ProviderErrorKind,
        detail: impl Into<String>,
    ) -> ProviderError {
        ProviderError::new(self.name, kind, self.redacted(&detail.into()))
    }

    /// An error about an answer, with its beginning.
    pub(super) fn bad_reply(&self, kind: ProviderErrorKind, reply: &Reply) -> ProviderError {
        let detail = format!("{} {}", reply.status.as_u16(), excerpt(&reply.text));
        self.error(kind, detail.trim_end()).with_retry_after(reply.retry_after)
    }

    /// What the status alone says, for statuses that mean the same everywhere.
    pub(super) fn check_status(&self, reply: &Reply) -> Result<(), ProviderError> {
        let kind = match reply.status.as_u16() {
            200..=299 => return Ok(()),
            401 | 403 => ProviderErrorKind::BadAuth,
            404 => ProviderErrorKind::NoHost,
            408 | 409 | 423 | 425 => ProviderErrorKind::Busy,
            429 => ProviderErrorKind::RateLimited,
            500.. => ProviderErrorKind::Busy,
            // A redirect is a captive portal, or a service that has moved.
            300..=399 => ProviderErrorKind::Garbled,
            _ => ProviderErrorKind::Refused,
        };
        Err(self.bad_reply(kind, reply))
    }

    fn redacted(&self, text: &str) -> String {
        let secrets = self.secrets.iter().map(Secret::expose).filter(|secret| secret.len() >= 4);
        let mut text = text.to_owned();
        for secret in secrets {
            text = text.replace(secret, "[redacted]");
        }
        text
    }
}

/// Adds a field.
pub(super) fn with_field(
    request: ClientRequest,
    name: HeaderName,
    value: &'static str,
) -> ClientRequest {
    request.with_header(name, HeaderValue::from_static(value))
}

/// The beginning of a text in one line, without what could mislead a terminal.
pub(super) fn excerpt(text: &str) -> String {
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut visible: String =
        words.chars().filter(|char| !char.is_control()).take(EXCERPT_CHARS_MAX).collect();
    if visible.len() < words.len() {
        visible.push('…');
    }
    visible
}

/// A part of a URL, with everything escaped that is not unreserved (RFC 3986 §2.3).
pub(super) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                out.push(char::from(byte));
            }
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

/// `Basic` credentials (RFC 7617).
pub(super) fn basic(user: &str, password: &Secret) -> String {
    use base64::{Engine, prelude::BASE64_STANDARD};
    format!("Basic {}", BASE64_STANDARD.encode(format!("{user}:{}", password.expose())))
}

/// Slow services take some 10 s; what takes longer hangs.
const TIMEOUT: Duration = Duration::from_secs(30);

/// The longest proper answer is a list of records of one name.
const REPLY_BYTES_MAX: u64 = 256 * 1024;

const EXCERPT_CHARS_MAX: usize = 120;
