//! A response as a handler makes it.

use std::{future::Future, pin::Pin, sync::Arc};

use bytes::Bytes;
use http::{Extensions, HeaderName, HeaderValue, StatusCode, header};

use crate::{
    Body, Headers, Upgraded,
    h1::encode,
    pool::{self, Pool},
};

/// What runs on the connection after a protocol switch.
pub(crate) type OnUpgrade =
    Box<dyn FnOnce(Upgraded) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send>;

/// A response: status, header fields, body.
///
/// The connection adds `content-length` or `transfer-encoding`, `date`, and `connection` where the
/// protocol needs them; a handler sets none of these.
///
/// It is one pointer wide, because it is moved through every middleware; what it points to is
/// recycled by the thread.
pub struct Response {
    /// Full until the response is dropped.
    memory: Option<Box<Parts>>,
}

#[derive(Default)]
struct Parts {
    status: StatusCode,
    /// The list behind it is recycled with the rest.
    headers: Headers,
    body: Body,
    prepared: Option<Arc<Prepared>>,
    extensions: Extensions,
    on_upgrade: Option<OnUpgrade>,
}

thread_local! {
    static POOL: Pool<Box<Parts>> = const { Pool::new(128) };
}

/// Status, fields and content of a response that is sent many times, encoded once.
///
/// [`Response::prepared`] sends one with a single copy.
#[derive(Debug)]
pub struct Prepared {
    pub(crate) status: StatusCode,
    pub(crate) headers: Headers,
    pub(crate) body: Bytes,
    /// HTTP/1.1 status line and field lines, `content-length` included; without date and end.
    pub(crate) h1: Bytes,
    pub(crate) has_server: bool,
}

impl Prepared {
    /// Encodes a response once. Fields that are the connection's business, such as `content-length`
    /// and `date`, are left out.
    #[must_use]
    pub fn new(status: StatusCode, mut headers: Headers, body: Bytes) -> Self {
        headers.retain(|name, _| !encode::is_framing_field(name) && *name != header::DATE);
        let mut h1 = Vec::with_capacity(256);
        encode::put_status_line(&mut h1, status);
        for (name, value) in headers.iter() {
            encode::put_field(&mut h1, name, value);
        }
        if !encode::has_no_content(status) {
            encode::put_length(&mut h1, body.len() as u64);
        }
        let has_server = headers.contains(&header::SERVER);
        Self { status, headers, body, h1: h1.into(), has_server }
    }

    /// The content.
    #[must_use]
    pub fn body(&self) -> &Bytes {
        &self.body
    }
}

impl Response {
    /// `200 OK` with this body and no fields.
    #[must_use]
    pub fn new(body: impl Into<Body>) -> Self {
        let mut response = Self::default();
        response.parts_mut().body = body.into();
        response
    }

    /// An empty response with this status.
    #[must_use]
    pub fn status_only(status: StatusCode) -> Self {
        let mut response = Self::default();
        response.parts_mut().status = status;
        response
    }

    /// A response whose content is the status in words, for instance `404 Not Found`.
    #[must_use]
    pub fn status_text(status: StatusCode) -> Self {
        let text = format!("{} {}\n", status.as_str(), status.canonical_reason().unwrap_or(""));
        Self::text(text).with_status(status)
    }

    /// Text, as `text/plain; charset=utf-8`.
    #[must_use]
    pub fn text(text: impl Into<Body>) -> Self {
        Self::new(text).with_header(
            header::CONTENT_TYPE,
            const { HeaderValue::from_static("text/plain; charset=utf-8") },
        )
    }

    /// HTML, as `text/html; charset=utf-8`.
    #[must_use]
    pub fn html(text: impl Into<Body>) -> Self {
        Self::new(text).with_header(
            header::CONTENT_TYPE,
            const { HeaderValue::from_static("text/html; charset=utf-8") },
        )
    }

    /// A response that was encoded before: one copy, nothing allocated.
    #[must_use]
    pub fn prepared(prepared: Arc<Prepared>) -> Self {
        let mut response = Self::status_only(prepared.status);
        response.parts_mut().prepared = Some(prepared);
        response
    }

    /// `101 Switching Protocols` (HTTP/1.1) or `200` (extended CONNECT): after the head was sent, `run` gets the
    /// byte stream and owns the connection, or the stream, until it ends.
    ///
    /// The request must have carried matching `Upgrade` and `Connection` fields, otherwise 500 is sent instead.
    pub fn upgrade<F, Fut>(protocol: HeaderValue, run: F) -> Self
    where
        F: FnOnce(Upgraded) -> Fut + Send + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let mut response = Self::status_only(StatusCode::SWITCHING_PROTOCOLS)
            .with_header(header::UPGRADE, protocol);
        response.parts_mut().on_upgrade = Some(Box::new(move |io| Box::pin(run(io))));
        response
    }

    /// The status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.parts().status
    }

    /// Changes the status.
    pub fn set_status(&mut self, status: StatusCode) {
        self.unprepared().status = status;
    }

    /// Changes the status.
    #[must_use]
    pub fn with_status(mut self, status: StatusCode) -> Self {
        self.set_status(status);
        self
    }

    /// Sets a field.
    #[must_use]
    pub fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers_mut().insert(name, value);
        self
    }

    /// The fields.
    #[must_use]
    pub fn headers(&self) -> &Headers {
        let parts = self.parts();
        parts.prepared.as_ref().map_or(&parts.headers, |prepared| &prepared.headers)
    }

    /// The fields, to change them. A prepared response becomes an ordinary one.
    pub fn headers_mut(&mut self) -> &mut Headers {
        &mut self.unprepared().headers
    }

    /// The length of the body, where it is known.
    #[must_use]
    pub fn body_len(&self) -> Option<u64> {
        let parts = self.parts();
        parts.prepared.as_ref().map_or_else(|| parts.body.len(), |p| Some(p.body.len() as u64))
    }

    /// The body; a prepared response becomes an ordinary one.
    pub fn body_mut(&mut self) -> &mut Body {
        &mut self.unprepared().body
    }

    /// Takes the body out.
    #[must_use]
    pub fn take_body(&mut self) -> Body {
        std::mem::take(self.body_mut())
    }

    /// Replaces the body.
    #[must_use]
    pub fn with_body(mut self, body: impl Into<Body>) -> Self {
        *self.body_mut() = body.into();
        self
    }

    /// Values that handlers leave for middleware and observers.
    #[must_use]
    pub fn extensions(&self) -> &Extensions {
        &self.parts().extensions
    }

    /// Values that handlers leave for middleware and observers.
    pub fn extensions_mut(&mut self) -> &mut Extensions {
        &mut self.parts_mut().extensions
    }

    /// The prepared form, if it is one still.
    #[must_use]
    pub fn as_prepared(&self) -> Option<&Arc<Prepared>> {
        self.parts().prepared.as_ref()
    }

    /// The body of a response that is not prepared.
    pub(crate) fn plain_body(&self) -> &Body {
        &self.parts().body
    }

    pub(crate) fn take_upgrade(&mut self) -> Option<OnUpgrade> {
        self.parts_mut().on_upgrade.take()
    }

    /// As a response of the `http` crate.
    #[must_use]
    pub fn into_http(mut self) -> http::Response<Body> {
        let parts = self.unprepared();
        let mut response = http::Response::new(std::mem::take(&mut parts.body));
        *response.status_mut() = parts.status;
        *response.headers_mut() = std::mem::take(&mut parts.headers).into();
        *response.extensions_mut() = std::mem::take(&mut parts.extensions);
        response
    }

    /// From a response of the `http` crate.
    #[must_use]
    pub fn from_http(response: http::Response<Body>) -> Self {
        let (http, body) = response.into_parts();
        let mut response = Self::new(body);
        let parts = response.parts_mut();
        parts.status = http.status;
        parts.headers = http.headers.into();
        parts.extensions = http.extensions;
        response
    }

    fn parts(&self) -> &Parts {
        self.memory.as_deref().expect("full until dropped")
    }

    fn parts_mut(&mut self) -> &mut Parts {
        self.memory.as_deref_mut().expect("full until dropped")
    }

    /// The parts of a response that is to be changed, so that it cannot stay prepared.
    fn unprepared(&mut self) -> &mut Parts {
        let parts = self.parts_mut();
        if let Some(prepared) = parts.prepared.take() {
            parts.headers = prepared.headers.clone();
            parts.body = prepared.body.clone().into();
        }
        parts
    }
}

impl Default for Response {
    /// `200 OK` without content.
    fn default() -> Self {
        Self { memory: Some(pool::take(&POOL).unwrap_or_default()) }
    }
}

impl Drop for Response {
    fn drop(&mut self) {
        if let Some(mut memory) = self.memory.take() {
            // One by one: what is moved less is stored and loaded less.
            memory.status = StatusCode::OK;
            memory.headers.clear();
            if !matches!(memory.body, Body::Empty) {
                memory.body = Body::Empty;
            }
            memory.prepared = None;
            if !memory.extensions.is_empty() {
                memory.extensions = Extensions::new();
            }
            memory.on_upgrade = None;
            pool::give(&POOL, memory);
        }
    }
}

impl std::fmt::Debug for Response {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Response")
            .field("status", &self.status())
            .field("headers", self.headers())
            .field("body_len", &self.body_len())
            .finish_non_exhaustive()
    }
}
