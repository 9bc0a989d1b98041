//! A request as a handler sees it.

use std::{ops::Range, sync::Arc};

use bytes::{Bytes, BytesMut};
use http::{Extensions, Method, Version};

use crate::{Body, ConnectionInfo, Head, HeadBuilder, InvalidHead, PathParams};

/// A request: head, body, what the router found, and the connection it came on.
#[derive(Debug)]
pub struct Request {
    head: Head,
    body: Body,
    params: PathParams,
    connection: Arc<ConnectionInfo>,
    extensions: Extensions,
    stream_id: u32,
}

impl Request {
    /// A request from its parts.
    #[must_use]
    pub fn new(head: Head, body: impl Into<Body>, connection: Arc<ConnectionInfo>) -> Self {
        Self {
            head,
            body: body.into(),
            params: PathParams::default(),
            connection,
            extensions: Extensions::new(),
            stream_id: 0,
        }
    }

    /// A GET request without a connection, for tests.
    ///
    /// # Errors
    /// [`InvalidHead`] where `target` is malformed.
    pub fn get(target: &str) -> Result<Self, InvalidHead> {
        Self::build(Method::GET, target, &[], Body::Empty)
    }

    /// A request without a connection, for tests and for requests made by the program itself.
    ///
    /// # Errors
    /// [`InvalidHead`] where `target` or a field is malformed.
    pub fn build(
        method: Method,
        target: &str,
        fields: &[(&str, &str)],
        body: impl Into<Body>,
    ) -> Result<Self, InvalidHead> {
        let memory = BytesMut::with_capacity(256);
        let mut builder = HeadBuilder::new(method, target, Version::HTTP_11, memory);
        for (name, value) in fields {
            builder = builder.field(name.as_bytes(), value.as_bytes());
        }
        Ok(Self::new(builder.build()?, body, Arc::default()))
    }

    /// The head.
    #[must_use]
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// Replaces the head, as a rewrite of the target does. Path parameters are ranges of the old target: set them
    /// anew.
    pub fn set_head(&mut self, head: Head) {
        self.head = head;
    }

    /// The method.
    #[must_use]
    pub fn method(&self) -> &Method {
        self.head.method()
    }

    /// The raw path, see [`Head::path`].
    #[must_use]
    pub fn path(&self) -> &str {
        self.head.path()
    }

    /// The raw query, see [`Head::query`].
    #[must_use]
    pub fn query(&self) -> Option<&str> {
        self.head.query()
    }

    /// The first value of a field, see [`Head::header`].
    #[must_use]
    pub fn header(&self, name: impl AsRef<str>) -> Option<&[u8]> {
        self.head.header(name)
    }

    /// The first value of a field as text, see [`Head::header_str`].
    #[must_use]
    pub fn header_str(&self, name: impl AsRef<str>) -> Option<&str> {
        self.head.header_str(name)
    }

    /// The raw text of a path parameter, or of a host parameter of that name.
    #[must_use]
    pub fn param(&self, name: &str) -> Option<&str> {
        match self.params.range(name) {
            Some(range) => self.head.target().get(range),
            None => self.head.authority()?.get(self.params.host_range(name)?),
        }
    }

    /// The raw bytes of a path parameter, shared with the head: no copy, no allocation.
    #[must_use]
    pub fn param_bytes(&self, name: &str) -> Option<Bytes> {
        let range: Range<usize> = self.params.range(name)?;
        Some(self.head.target_bytes(range))
    }

    /// What the router found.
    #[must_use]
    pub fn params(&self) -> &PathParams {
        &self.params
    }

    /// Stores what the router found.
    pub fn set_params(&mut self, params: PathParams) {
        self.params = params;
    }

    /// The body.
    #[must_use]
    pub fn body(&self) -> &Body {
        &self.body
    }

    /// The body, to read it or to set its limit.
    pub fn body_mut(&mut self) -> &mut Body {
        &mut self.body
    }

    /// Takes the body out.
    #[must_use]
    pub fn take_body(&mut self) -> Body {
        std::mem::take(&mut self.body)
    }

    /// The connection on which the request came.
    #[must_use]
    pub fn connection(&self) -> &Arc<ConnectionInfo> {
        &self.connection
    }

    /// Values that middleware leaves for those behind it.
    #[must_use]
    pub fn extensions(&self) -> &Extensions {
        &self.extensions
    }

    /// Values that middleware leaves for those behind it.
    pub fn extensions_mut(&mut self) -> &mut Extensions {
        &mut self.extensions
    }

    /// Sends `103 Early Hints` (RFC 8297) with these `Link` values at once, while the handler goes on.
    /// Nothing is sent to an HTTP/1.0 peer.
    pub fn early_hints(&self, links: &[http::HeaderValue]) {
        self.connection.push_interim(self.stream_id, crate::connection::Interim::hints(links));
    }

    /// Asks for a server push of `target` (HTTP/2 only): sent if the listener allows push and the peer did not
    /// disable it, otherwise ignored. Prefer [`early_hints`](Self::early_hints): browsers dropped push.
    pub fn push(&self, target: &str) {
        self.connection
            .push_interim(self.stream_id, crate::connection::Interim::Push(target.into()));
    }

    /// Used by the HTTP/2 driver to tell streams of one connection apart.
    pub(crate) fn set_stream_id(&mut self, id: u32) {
        self.stream_id = id;
    }
}
