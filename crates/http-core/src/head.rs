//! The head of a request: one piece of memory and a table of where its parts lie.

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, Version};

use crate::pool::{self, Pool};

/// Where a part of the head lies in its memory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) start: u16,
    pub(crate) end: u16,
}

impl Span {
    /// A part of a head, which is never above 64 KiB.
    #[inline]
    pub(crate) fn new(start: usize, end: usize) -> Self {
        let narrow = |at: usize| u16::try_from(at).unwrap_or(u16::MAX);
        Self { start: narrow(start), end: narrow(end) }
    }

    /// The part of `head`.
    #[inline]
    pub(crate) fn of(self, head: &[u8]) -> &[u8] {
        head.get(usize::from(self.start)..usize::from(self.end)).unwrap_or_default()
    }
}

/// One field line.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Slot {
    pub(crate) name: Span,
    pub(crate) value: Span,
}

/// The field lines of a head, in a list that the thread recycles.
#[derive(Debug, Default)]
pub(crate) struct Slots(Vec<Slot>);

thread_local! {
    static POOL: Pool<Vec<Slot>> = const { Pool::new(256) };
}

impl Slots {
    pub(crate) fn push(&mut self, slot: Slot) {
        if self.0.capacity() == 0 {
            self.0 = Self::list();
        }
        self.0.push(slot);
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn retain(&mut self, keep: impl FnMut(&Slot) -> bool) {
        self.0.retain(keep);
    }

    /// No lines, in the memory of these where that is worth keeping.
    fn clear(&mut self) {
        if self.0.capacity() > CAPACITY_MAX {
            self.0 = Vec::new();
        }
        self.0.clear();
    }

    fn list() -> Vec<Slot> {
        pool::take(&POOL).unwrap_or_else(|| Vec::with_capacity(24))
    }
}

/// A list that grew far beyond the usual is not worth keeping.
const CAPACITY_MAX: usize = 256;

impl Clone for Slots {
    fn clone(&self) -> Self {
        let mut list = Self::list();
        list.extend_from_slice(&self.0);
        Self(list)
    }
}

impl Drop for Slots {
    fn drop(&mut self) {
        if (1..=CAPACITY_MAX).contains(&self.0.capacity()) {
            self.0.clear();
            pool::give(&POOL, std::mem::take(&mut self.0));
        }
    }
}

/// Method, target and fields of a request, as they came.
///
/// The text is shared, not copied: cloning a head, or taking a [`Bytes`] of a part of it, costs a
/// reference count. Field names are compared without regard to case; values are raw bytes.
#[derive(Debug, Clone)]
pub struct Head {
    pub(crate) memory: Bytes,
    pub(crate) method: Method,
    pub(crate) version: Version,
    /// The whole request target as it came.
    pub(crate) target: Span,
    /// Path and query within `memory`; for absolute-form, what follows the authority.
    pub(crate) path: Span,
    pub(crate) query: Option<Span>,
    /// `:authority`, the authority of an absolute-form target, or the Host field.
    pub(crate) authority: Option<Span>,
    /// `:protocol` of an extended CONNECT (RFC 8441).
    pub(crate) protocol: Option<Span>,
    pub(crate) slots: Slots,
}

/// Why a head cannot be built.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidHead {
    /// More than 64 KiB in all, or more field lines than fit.
    #[error("the request head is larger than 64 KiB")]
    TooLarge,
    /// The target is no origin-form, absolute-form, authority-form or asterisk-form.
    #[error("the request target is malformed")]
    Target,
    /// A field name or value has a byte that may not stand there.
    #[error("a header field is malformed")]
    Field,
}

impl Head {
    /// A head that is nobody's, to be filled in.
    pub(crate) fn vacant() -> Self {
        Self {
            memory: Bytes::new(),
            method: Method::GET,
            version: Version::HTTP_11,
            target: Span::default(),
            path: Span::default(),
            query: None,
            authority: None,
            protocol: None,
            slots: Slots::default(),
        }
    }

    /// Lets go of the text; the list of fields stays to be used again.
    pub(crate) fn clear(&mut self) {
        self.memory = Bytes::new();
        self.method = Method::GET;
        (self.target, self.path) = (Span::default(), Span::default());
        (self.query, self.authority, self.protocol) = (None, None, None);
        self.slots.clear();
    }

    /// The method.
    #[must_use]
    pub fn method(&self) -> &Method {
        &self.method
    }

    /// The protocol version in which the request came.
    #[must_use]
    pub fn version(&self) -> Version {
        self.version
    }

    /// The request target as it came, escapes and all.
    #[must_use]
    pub fn target(&self) -> &str {
        self.text(self.target)
    }

    /// The raw path: begins with `/` (or is `*`), without the query, escapes intact.
    #[must_use]
    pub fn path(&self) -> &str {
        self.text(self.path)
    }

    /// As [`path`](Self::path), without the check that it is text.
    #[must_use]
    pub fn path_bytes(&self) -> &[u8] {
        self.bytes(self.path)
    }

    /// Where [`path`](Self::path) begins within [`target`](Self::target): after the authority of an
    /// absolute-form target, otherwise 0.
    #[must_use]
    pub fn path_start(&self) -> usize {
        usize::from(self.path.start.saturating_sub(self.target.start))
    }

    /// What follows the `?`, raw.
    #[must_use]
    pub fn query(&self) -> Option<&str> {
        self.query.map(|span| self.text(span))
    }

    /// Host and optional port that the request is for.
    #[must_use]
    pub fn authority(&self) -> Option<&str> {
        self.authority.map(|span| self.text(span))
    }

    /// The host without its port; an IPv6 literal keeps its brackets.
    #[must_use]
    pub fn host(&self) -> Option<&str> {
        self.host_bytes().and_then(|host| std::str::from_utf8(host).ok())
    }

    /// As [`host`](Self::host), without the check that it is text.
    #[must_use]
    pub fn host_bytes(&self) -> Option<&[u8]> {
        let authority = self.bytes(self.authority?);
        let mut rest = authority;
        while let [before @ .., b'0'..=b'9'] = rest {
            rest = before;
        }
        match rest {
            [host @ .., b':'] => Some(host),
            _ => Some(authority),
        }
    }

    /// `:protocol` of an extended CONNECT (RFC 8441).
    #[must_use]
    pub fn protocol(&self) -> Option<&str> {
        self.protocol.map(|span| self.text(span))
    }

    /// The first value of the field `name`, whatever its case.
    #[must_use]
    pub fn header(&self, name: impl AsRef<str>) -> Option<&[u8]> {
        let name = name.as_ref().as_bytes();
        self.fields().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// The first value of the field `name`, if it is UTF-8.
    #[must_use]
    pub fn header_str(&self, name: impl AsRef<str>) -> Option<&str> {
        self.header(name).and_then(|value| std::str::from_utf8(value).ok())
    }

    /// Every value of the field `name`, in order.
    pub fn header_all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        let wanted = name.as_bytes();
        self.fields()
            .filter(move |(known, _)| known.eq_ignore_ascii_case(wanted))
            .map(|(_, value)| value)
    }

    /// Every field line in order: name as it came, raw value.
    pub fn fields(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.slots.0.iter().map(|slot| (self.bytes(slot.name), self.bytes(slot.value)))
    }

    /// A shared piece of the request target, for instance a path parameter's value.
    #[must_use]
    pub fn target_bytes(&self, range: std::ops::Range<usize>) -> Bytes {
        let start = usize::from(self.target.start);
        let end = usize::from(self.target.end);
        let from = (start + range.start).min(end);
        self.memory.slice(from..(start + range.end).clamp(from, end))
    }

    /// The fields as a map of the `http` crate. Allocates; fields that `http` refuses are left out.
    #[must_use]
    pub fn header_map(&self) -> HeaderMap {
        let mut map = HeaderMap::with_capacity(self.slots.0.len());
        for slot in &self.slots.0 {
            let name = HeaderName::from_bytes(self.bytes(slot.name));
            let value = HeaderValue::from_maybe_shared(self.slice(slot.value));
            if let (Ok(name), Ok(value)) = (name, value) {
                // `try_`: the plain form panics above 24,576 names.
                let _ = map.try_append(name, value);
            }
        }
        map
    }

    pub(crate) fn bytes(&self, span: Span) -> &[u8] {
        span.of(&self.memory)
    }

    pub(crate) fn slice(&self, span: Span) -> Bytes {
        self.memory.slice(usize::from(span.start)..usize::from(span.end))
    }

    fn text(&self, span: Span) -> &str {
        // The parser admits only visible ASCII into targets and authorities.
        std::str::from_utf8(self.bytes(span)).unwrap_or_default()
    }
}

/// Builds a [`Head`] from parts: for tests, for HTTP/2 and for requests that come from elsewhere.
#[derive(Debug)]
pub struct HeadBuilder {
    method: Method,
    version: Version,
    memory: BytesMut,
    target: Span,
    authority: Option<Span>,
    protocol: Option<Span>,
    slots: Slots,
    error: Option<InvalidHead>,
}

impl HeadBuilder {
    /// A head with this method and target; `memory` is where the text is put.
    #[must_use]
    pub fn new(method: Method, target: &str, version: Version, memory: BytesMut) -> Self {
        let mut builder = Self {
            method,
            version,
            memory,
            target: Span::default(),
            authority: None,
            protocol: None,
            slots: Slots::default(),
            error: None,
        };
        builder.target = builder.put(target.as_bytes());
        builder
    }

    /// Adds a field line.
    #[must_use]
    pub fn field(mut self, name: &[u8], value: &[u8]) -> Self {
        if !is_field(name, value) {
            self.error = Some(InvalidHead::Field);
        }
        let slot = Slot { name: self.put(name), value: self.put(value) };
        if self.authority.is_none() && name.eq_ignore_ascii_case(b"host") {
            self.authority = Some(slot.value);
        }
        self.slots.push(slot);
        self
    }

    /// Sets the authority, as `:authority` does; it wins over a Host field.
    #[must_use]
    pub fn authority(mut self, authority: &str) -> Self {
        self.authority = Some(self.put(authority.as_bytes()));
        self
    }

    /// Sets `:protocol` of an extended CONNECT.
    #[must_use]
    pub fn protocol(mut self, protocol: &str) -> Self {
        self.protocol = Some(self.put(protocol.as_bytes()));
        self
    }

    /// The head.
    ///
    /// # Errors
    /// [`InvalidHead`] names the part that is wrong.
    pub fn build(self) -> Result<Head, InvalidHead> {
        if let Some(error) = self.error {
            return Err(error);
        }
        let memory = self.memory.freeze();
        let text = memory.get(usize::from(self.target.start)..usize::from(self.target.end));
        let text = text.unwrap_or_default();
        let visible = text.iter().all(|byte| matches!(byte, 0x21..=0x7e) && *byte != b'#');
        if text.is_empty() || !visible {
            return Err(InvalidHead::Target);
        }
        let start = self.target.start;
        let at = |index: usize| start + u16::try_from(index).unwrap_or(u16::MAX);
        let (path_end, query) = match memchr::memchr(b'?', text) {
            Some(mark) => (at(mark), Some(Span { start: at(mark + 1), end: self.target.end })),
            None => (self.target.end, None),
        };
        Ok(Head {
            method: self.method,
            version: self.version,
            target: self.target,
            path: Span { start, end: path_end },
            query,
            authority: self.authority,
            protocol: self.protocol,
            slots: self.slots,
            memory,
        })
    }

    fn put(&mut self, text: &[u8]) -> Span {
        let start = self.memory.len();
        let end = start + text.len();
        match (u16::try_from(start), u16::try_from(end)) {
            (Ok(start), Ok(end)) => {
                self.memory.put_slice(text);
                Span { start, end }
            }
            _ => {
                self.error = Some(InvalidHead::TooLarge);
                Span::default()
            }
        }
    }
}

/// Whether this may stand in a field line (RFC 9110 §5.1 and §5.5): what is built here may be
/// written to another peer one day.
fn is_field(name: &[u8], value: &[u8]) -> bool {
    let is_text = |byte: &u8| matches!(byte, b'\t' | b' '..=b'~' | 0x80..);
    !name.is_empty() && name.iter().all(|&byte| is_token_byte(byte)) && value.iter().all(is_text)
}

/// Whether a token may have this byte (RFC 9110 §5.6.2).
pub(crate) fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

impl TryFrom<&http::request::Parts> for Head {
    type Error = InvalidHead;

    fn try_from(parts: &http::request::Parts) -> Result<Self, InvalidHead> {
        let memory = BytesMut::with_capacity(512);
        let target = match parts.uri.path_and_query() {
            Some(target) => target.as_str(),
            None if parts.method == Method::OPTIONS => "*",
            None => "/",
        };
        let mut builder = HeadBuilder::new(parts.method.clone(), target, parts.version, memory);
        if let Some(authority) = parts.uri.authority() {
            builder = builder.authority(authority.as_str());
        }
        for (name, value) in &parts.headers {
            builder = builder.field(name.as_str().as_bytes(), value.as_bytes());
        }
        builder.build()
    }
}

impl TryFrom<&Head> for http::request::Parts {
    type Error = http::Error;

    fn try_from(head: &Head) -> Result<Self, http::Error> {
        let uri: Uri = head.target().parse()?;
        let request =
            http::Request::builder().method(head.method.clone()).version(head.version).uri(uri);
        let (mut parts, ()) = request.body(())?.into_parts();
        parts.headers = head.header_map();
        Ok(parts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn build(target: &str, name: &str, value: &[u8]) -> Result<Head, InvalidHead> {
        let builder = HeadBuilder::new(Method::GET, target, Version::HTTP_11, BytesMut::new());
        builder.field(name.as_bytes(), value).build()
    }

    #[test]
    fn built_heads_are_checked() {
        assert!(build("/a?b", "x-y", "a\tb \u{e9}".as_bytes()).is_ok());
        for target in ["", "a b", "/a#b", "/\u{e9}", "/\n"] {
            assert_eq!(build(target, "x", b"").unwrap_err(), InvalidHead::Target, "{target:?}");
        }
        for (name, value) in [("", ""), ("a b", ""), ("a:", ""), ("a", "b\r\nc: d"), ("a", "\0")] {
            let error = build("/", name, value.as_bytes()).unwrap_err();
            assert_eq!(error, InvalidHead::Field, "{name:?} {value:?}");
        }
        assert_eq!(build("/", "x", &[b'y'; 70_000]).unwrap_err(), InvalidHead::TooLarge);
    }

    #[test]
    fn parts_of_a_head() {
        let head = build("/a/b?c=d", "Host", b"a.test:80").unwrap();
        assert_eq!((head.path(), head.query(), head.path_start()), ("/a/b", Some("c=d"), 0));
        assert_eq!((head.authority(), head.host()), (Some("a.test:80"), Some("a.test")));
        assert_eq!(head.header("hOST"), Some(&b"a.test:80"[..]));
        assert_eq!(&head.target_bytes(3..4)[..], b"b");
        assert_eq!(&head.target_bytes(3..999)[..], b"b?c=d");
        let literal = build("/", "host", b"[::1]:80").unwrap();
        assert_eq!(literal.host(), Some("[::1]"));
    }
}
