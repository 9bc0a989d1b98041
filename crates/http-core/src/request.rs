//! A request as a handler sees it.

use std::{ops::Range, sync::Arc};

use bytes::{Buf, Bytes, BytesMut};
use http::{Extensions, Method, Version};

use crate::{
    Body, ConnectionInfo, Head, HeadBuilder, InvalidHead, PathParams,
    pool::{self, Pool},
};

/// A request: head, body, what the router found, and the connection it came on.
///
/// It is one pointer wide, because it is moved through every middleware; what it points to is
/// recycled by the thread.
pub struct Request {
    /// Full until the request is dropped.
    memory: Option<Box<Parts>>,
}

#[derive(Debug)]
struct Parts {
    head: Head,
    body: Body,
    params: PathParams,
    connection: Arc<ConnectionInfo>,
    extensions: Extensions,
    stream_id: u32,
    /// Memory for the text of heads, [`TEXT_BYTES`] large, while the head does not have it.
    text: Bytes,
    /// Whether the head has it.
    lent_text: bool,
}

impl Default for Parts {
    fn default() -> Self {
        Self {
            head: Head::vacant(),
            body: Body::Empty,
            params: PathParams::default(),
            connection: Arc::default(),
            extensions: Extensions::new(),
            stream_id: 0,
            text: Bytes::new(),
            lent_text: false,
        }
    }
}

impl Parts {
    /// Memory for the text of a head that nobody has a part of.
    fn own_text(&mut self) -> Option<BytesMut> {
        let text = std::mem::take(&mut self.text);
        if text.is_empty() {
            return Some(new_text());
        }
        match text.try_into_mut() {
            Ok(mut text) => {
                text.clear();
                Some(text)
            }
            Err(text) => {
                self.text = text;
                None
            }
        }
    }

    /// Takes the memory back from the head that is going to be replaced.
    fn return_text(&mut self) {
        if std::mem::take(&mut self.lent_text) {
            self.text = std::mem::take(&mut self.head.memory);
        }
    }
}

/// Memory for the text of heads.
fn new_text() -> BytesMut {
    let mut text = BytesMut::with_capacity(TEXT_BYTES);
    // Only memory that was shared once can be frozen and thawed again without an allocation.
    drop(text.split_to(0));
    text
}

/// Heads up to this size are copied, which costs less than to share the buffer that they came in: to count
/// who has a part of that takes two locked instructions.
const TEXT_BYTES: usize = 1024;

thread_local! {
    static POOL: Pool<Box<Parts>> = const { Pool::new(128) };
}

impl Request {
    /// A request from its parts.
    #[must_use]
    pub fn new(head: Head, body: impl Into<Body>, connection: Arc<ConnectionInfo>) -> Self {
        let mut memory = pool::take(&POOL).unwrap_or_default();
        memory.head = head;
        memory.body = body.into();
        memory.connection = connection;
        Self { memory: Some(memory) }
    }

    /// A request whose head is filled in where it lies.
    pub(crate) fn vacant(connection: &Arc<ConnectionInfo>) -> Self {
        let mut memory = pool::take(&POOL).unwrap_or_default();
        // The last request here may have come on the same connection: then nothing is counted.
        if !Arc::ptr_eq(&memory.connection, connection) {
            memory.connection = connection.clone();
        }
        Self { memory: Some(memory) }
    }

    /// Takes the text of the head, `len` bytes, off the front of `input`.
    pub(crate) fn take_text(&mut self, input: &mut BytesMut, len: usize) {
        let parts = self.parts_mut();
        parts.return_text();
        match if len <= TEXT_BYTES { parts.own_text() } else { None } {
            Some(mut text) => {
                text.extend_from_slice(input.get(..len).unwrap_or_default());
                input.advance(len);
                parts.head.memory = text.freeze();
                parts.lent_text = true;
            }
            None => parts.head.memory = input.split_to(len).freeze(),
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
        &self.parts().head
    }

    /// Replaces the head, as a rewrite of the target does. Path parameters are ranges of the old target: set them
    /// anew.
    pub fn set_head(&mut self, head: Head) {
        let parts = self.parts_mut();
        parts.return_text();
        parts.head = head;
    }

    /// The method.
    #[must_use]
    pub fn method(&self) -> &Method {
        self.parts().head.method()
    }

    /// The raw path, see [`Head::path`].
    #[must_use]
    pub fn path(&self) -> &str {
        self.parts().head.path()
    }

    /// The raw query, see [`Head::query`].
    #[must_use]
    pub fn query(&self) -> Option<&str> {
        self.parts().head.query()
    }

    /// The first value of a field, see [`Head::header`].
    #[must_use]
    pub fn header(&self, name: impl AsRef<str>) -> Option<&[u8]> {
        self.parts().head.header(name)
    }

    /// The first value of a field as text, see [`Head::header_str`].
    #[must_use]
    pub fn header_str(&self, name: impl AsRef<str>) -> Option<&str> {
        self.parts().head.header_str(name)
    }

    /// The raw text of a path parameter, or of a host parameter of that name.
    #[must_use]
    pub fn param(&self, name: &str) -> Option<&str> {
        let parts = self.parts();
        match parts.params.range(name) {
            Some(range) => parts.head.target().get(range),
            None => parts.head.authority()?.get(parts.params.host_range(name)?),
        }
    }

    /// The raw bytes of a path parameter, shared with the head: no copy, no allocation.
    #[must_use]
    pub fn param_bytes(&self, name: &str) -> Option<Bytes> {
        let range: Range<usize> = self.parts().params.range(name)?;
        Some(self.parts().head.target_bytes(range))
    }

    /// What the router found.
    #[must_use]
    pub fn params(&self) -> &PathParams {
        &self.parts().params
    }

    /// Stores what the router found.
    pub fn set_params(&mut self, params: PathParams) {
        self.parts_mut().params = params;
    }

    /// The body.
    #[must_use]
    pub fn body(&self) -> &Body {
        &self.parts().body
    }

    /// The body, to read it or to set its limit.
    pub fn body_mut(&mut self) -> &mut Body {
        &mut self.parts_mut().body
    }

    /// Takes the body out.
    #[must_use]
    pub fn take_body(&mut self) -> Body {
        std::mem::take(&mut self.parts_mut().body)
    }

    /// The connection on which the request came.
    #[must_use]
    pub fn connection(&self) -> &Arc<ConnectionInfo> {
        &self.parts().connection
    }

    /// Values that middleware leaves for those behind it.
    #[must_use]
    pub fn extensions(&self) -> &Extensions {
        &self.parts().extensions
    }

    /// Values that middleware leaves for those behind it.
    pub fn extensions_mut(&mut self) -> &mut Extensions {
        &mut self.parts_mut().extensions
    }

    /// Sends `103 Early Hints` (RFC 8297) with these `Link` values at once, while the handler goes on.
    /// Nothing is sent to an HTTP/1.0 peer.
    pub fn early_hints(&self, links: &[http::HeaderValue]) {
        self.parts()
            .connection
            .push_interim(self.parts().stream_id, crate::connection::Interim::hints(links));
    }

    /// Asks for a server push of `target` (HTTP/2 only): sent if the listener allows push and the peer did not
    /// disable it, otherwise ignored. Prefer [`early_hints`](Self::early_hints): browsers dropped push.
    pub fn push(&self, target: &str) {
        self.parts()
            .connection
            .push_interim(self.parts().stream_id, crate::connection::Interim::Push(target.into()));
    }

    /// As a request of the `http` crate, with extensions; path parameters and connection are left
    /// behind. Allocates, see [`Head::header_map`].
    ///
    /// # Errors
    /// Where `http` cannot express the target.
    pub fn into_http(mut self) -> Result<http::Request<Body>, http::Error> {
        let mut parts = http::request::Parts::try_from(self.head())?;
        parts.extensions = std::mem::take(self.extensions_mut());
        Ok(http::Request::from_parts(parts, self.take_body()))
    }

    /// From a request of the `http` crate; it belongs to no connection.
    ///
    /// # Errors
    /// [`InvalidHead`] where it does not fit into a [`Head`].
    pub fn from_http(request: http::Request<Body>) -> Result<Self, InvalidHead> {
        let (mut parts, body) = request.into_parts();
        let extensions = std::mem::take(&mut parts.extensions);
        let mut request = Self::new(Head::try_from(&parts)?, body, Arc::default());
        *request.extensions_mut() = extensions;
        Ok(request)
    }

    /// Takes every field of this name away, in any case: for middleware that undoes what the field says.
    /// How the message is framed was settled before.
    pub fn remove_header(&mut self, name: &str) {
        let head = &mut self.parts_mut().head;
        let mut slots = std::mem::take(&mut head.slots);
        slots.retain(|slot| !head.bytes(slot.name).eq_ignore_ascii_case(name.as_bytes()));
        head.slots = slots;
    }

    /// See [`Settings::drop_underscore_fields`](crate::Settings::drop_underscore_fields).
    pub(crate) fn drop_underscore_fields(&mut self) {
        let head = &mut self.parts_mut().head;
        let mut slots = std::mem::take(&mut head.slots);
        slots.retain(|slot| !head.bytes(slot.name).contains(&b'_'));
        head.slots = slots;
    }

    /// Used by the HTTP/2 driver to tell streams of one connection apart.
    pub(crate) fn set_stream_id(&mut self, id: u32) {
        self.parts_mut().stream_id = id;
    }

    pub(crate) fn head_mut(&mut self) -> &mut Head {
        &mut self.parts_mut().head
    }

    fn parts(&self) -> &Parts {
        self.memory.as_deref().expect("full until dropped")
    }

    fn parts_mut(&mut self) -> &mut Parts {
        self.memory.as_deref_mut().expect("full until dropped")
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        if let Some(mut memory) = self.memory.take() {
            memory.return_text();
            memory.head.clear();
            // Most have none of these: a look is cheaper than to drop nothing.
            if !matches!(memory.body, Body::Empty) {
                memory.body = Body::Empty;
            }
            memory.params.clear();
            if !memory.extensions.is_empty() {
                memory.extensions = Extensions::new();
            }
            memory.stream_id = 0;
            pool::give(&POOL, memory);
        }
    }
}

impl std::fmt::Debug for Request {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.parts().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_survive_the_http_crate() {
        let fields = [("host", "a"), ("x-y", "1"), ("x-y", "2")];
        let mut request = Request::build(Method::POST, "/a?b=c", &fields, "hi").unwrap();
        request.extensions_mut().insert(7_u8);
        let http = request.into_http().unwrap();
        assert_eq!((http.method(), http.uri().path()), (&Method::POST, "/a"));
        assert_eq!(http.headers().get_all("x-y").iter().count(), 2);
        let request = Request::from_http(http).unwrap();
        assert_eq!((request.path(), request.query()), ("/a", Some("b=c")));
        assert_eq!(request.head().header_all("x-y").collect::<Vec<_>>(), [b"1", b"2"]);
        assert_eq!(request.head().authority(), Some("a"));
        assert_eq!(request.extensions().get::<u8>(), Some(&7));
        assert_eq!(request.body().as_bytes(), Some(&b"hi"[..]));
    }
}
