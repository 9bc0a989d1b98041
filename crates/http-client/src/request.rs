//! A request to be sent.

use std::{fmt, time::Duration};

use bytes::Bytes;
use hearth_http_core::{Body, FileBody, Headers};
use http::{HeaderName, HeaderValue, Method};

use crate::{ClientError, ConnectTo, ErrorKind, Versions, target::Target};

/// A request: method, URL, fields, content, and what is special about it.
///
/// The client itself writes what belongs to the connection: `host` (unless one is set), framing,
/// `connection`, `expect` and `upgrade`; such fields of the caller are left out.
pub struct ClientRequest {
    pub(crate) parts: RequestParts,
    pub(crate) body: Body,
}

/// A request without its content, which unlike that may be looked at from several places.
pub(crate) struct RequestParts {
    pub(crate) method: Method,
    pub(crate) target: Target,
    pub(crate) headers: Headers,
    pub(crate) settings: RequestSettings,
}

/// What a request asks for beside its message.
#[derive(Debug, Clone, Default)]
pub(crate) struct RequestSettings {
    pub(crate) connect_to: Option<ConnectTo>,
    pub(crate) expects_continue: bool,
    pub(crate) is_idempotent: Option<bool>,
    pub(crate) redirects_max: Option<u32>,
    pub(crate) total: Option<Duration>,
    pub(crate) upgrade: Option<HeaderValue>,
    pub(crate) versions: Option<Versions>,
}

impl ClientRequest {
    /// A request without content.
    ///
    /// # Errors
    /// [`ErrorKind::Request`] where `url` is no absolute `http` or `https` URL, or `method` is CONNECT.
    pub fn new(method: Method, url: &str) -> Result<Self, ClientError> {
        if method == Method::CONNECT {
            return Err(ClientError::new(ErrorKind::Request, "CONNECT is not offered"));
        }
        let target = Target::parse(url)?;
        let (headers, settings) = (Headers::new(), RequestSettings::default());
        let parts = RequestParts { method, target, headers, settings };
        Ok(Self { parts, body: Body::Empty })
    }

    /// A GET request.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn get(url: &str) -> Result<Self, ClientError> {
        Self::new(Method::GET, url)
    }

    /// A POST request.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn post(url: &str, body: impl Into<Body>) -> Result<Self, ClientError> {
        Ok(Self::new(Method::POST, url)?.with_body(body))
    }

    /// A request in the words of the `http` crate. Its version and extensions mean nothing here.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn from_http(request: http::Request<impl Into<Body>>) -> Result<Self, ClientError> {
        let (parts, body) = request.into_parts();
        let mut request = Self::new(parts.method, &parts.uri.to_string())?.with_body(body);
        request.parts.headers = parts.headers.into();
        Ok(request)
    }

    /// Adds a field line. Mark secrets with [`HeaderValue::set_sensitive`]: HTTP/2 then keeps them
    /// out of its compression.
    #[must_use]
    pub fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.parts.headers.append(name, value);
        self
    }

    /// Sets the content. Without a known length it is sent chunked, or as an HTTP/2 stream; its
    /// trailers are sent behind it. A file is read as it is sent, which may block on the disk.
    #[must_use]
    pub fn with_body(mut self, body: impl Into<Body>) -> Self {
        self.body = body.into();
        self
    }

    /// Sets the content to `value` as JSON.
    ///
    /// # Errors
    /// [`ErrorKind::Request`] where `value` cannot be serialised.
    #[cfg(feature = "json")]
    pub fn with_json(mut self, value: &impl serde::Serialize) -> Result<Self, ClientError> {
        let text = serde_json::to_vec(value).map_err(|error| {
            ClientError::new(ErrorKind::Request, "the content cannot be written as JSON")
                .caused_by(error)
        })?;
        let json = HeaderValue::from_static("application/json");
        self.parts.headers.insert(http::header::CONTENT_TYPE, json);
        Ok(self.with_body(text))
    }

    /// Changes how long the exchange may take, see [`Timeouts::total`](crate::Timeouts::total).
    #[must_use]
    pub fn with_timeout(mut self, total: Duration) -> Self {
        self.parts.settings.total = Some(total);
        self
    }

    /// Changes how many redirects are followed, see
    /// [`ClientOptions::redirects_max`](crate::ClientOptions::redirects_max).
    #[must_use]
    pub fn with_redirects_max(mut self, count: u32) -> Self {
        self.parts.settings.redirects_max = Some(count);
        self
    }

    /// Connects to somewhere else than where the host's name resolves to.
    #[must_use]
    pub fn with_connect_to(mut self, connect_to: ConnectTo) -> Self {
        self.parts.settings.connect_to = Some(connect_to);
        self
    }

    /// Changes which protocol versions are spoken.
    #[must_use]
    pub fn with_versions(mut self, versions: Versions) -> Self {
        self.parts.settings.versions = Some(versions);
        self
    }

    /// Lets the peer agree, or refuse, before the content is sent (RFC 9110 §10.1.1). HTTP/1.1
    /// only, and only for a request with content.
    #[must_use]
    pub fn with_expect_continue(mut self) -> Self {
        self.parts.settings.expects_continue = true;
        self
    }

    /// Offers a switch to `protocol`; if the peer agrees, the response is a 101 with a
    /// [byte stream](crate::ClientResponse::into_upgraded). HTTP/1.1 only.
    #[must_use]
    pub fn with_upgrade(mut self, protocol: HeaderValue) -> Self {
        self.parts.settings.upgrade = Some(protocol);
        self
    }

    /// Says whether it does harm if the peer acts on the request twice, where the method does not
    /// tell (RFC 9110 §9.2.2): what may be sent again when a kept connection turns out to be dead.
    #[must_use]
    pub fn with_idempotent(mut self, is_idempotent: bool) -> Self {
        self.parts.settings.is_idempotent = Some(is_idempotent);
        self
    }

    /// The method.
    #[must_use]
    pub fn method(&self) -> &Method {
        &self.parts.method
    }

    /// The URL, without its fragment.
    #[must_use]
    pub fn url(&self) -> String {
        self.parts.target.to_url()
    }

    /// The fields.
    #[must_use]
    pub fn headers(&self) -> &Headers {
        &self.parts.headers
    }

    /// The fields.
    pub fn headers_mut(&mut self) -> &mut Headers {
        &mut self.parts.headers
    }
}

impl RequestParts {
    pub(crate) fn is_idempotent(&self) -> bool {
        self.settings.is_idempotent.unwrap_or_else(|| self.method.is_idempotent())
    }
}

/// Leaves out fields and query: they may hold secrets.
impl fmt::Debug for ClientRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientRequest")
            .field("method", &self.parts.method)
            .field("origin", &self.parts.target.authority())
            .field("body", &self.body)
            .finish_non_exhaustive()
    }
}

/// A request's content, to be sent once or, where it lies still, again.
pub(crate) enum Content {
    File(FileBody),
    Memory(Bytes),
    /// `None` once it was taken.
    Stream(Option<Body>),
}

impl Content {
    /// Whether [`take`](Self::take) will work.
    pub(crate) fn is_there(&self) -> bool {
        !matches!(self, Self::Stream(None))
    }

    pub(crate) fn take(&mut self) -> Option<Body> {
        match self {
            Self::File(file) => Some(Body::File(file.clone())),
            Self::Memory(bytes) if bytes.is_empty() => Some(Body::Empty),
            Self::Memory(bytes) => Some(Body::Bytes(bytes.clone())),
            Self::Stream(body) => body.take(),
        }
    }
}

impl From<Body> for Content {
    fn from(body: Body) -> Self {
        match body {
            Body::Empty => Self::Memory(Bytes::new()),
            Body::Static(bytes) => Self::Memory(Bytes::from_static(bytes)),
            Body::Bytes(bytes) => Self::Memory(bytes),
            Body::Owned(bytes) => Self::Memory(bytes.into()),
            Body::File(file) => Self::File(file),
            stream => Self::Stream(Some(stream)),
        }
    }
}
