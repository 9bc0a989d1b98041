//! The head of an HTTP/2 request: from the codec's map to a [`Head`], by the rules that the codec
//! leaves to us.

use bytes::{BufMut, BytesMut};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Version, header, request::Parts};

use crate::{
    Head, Limits,
    head::{Slot, Slots, Span},
};

/// The head, or the status that refuses the request.
///
/// `memory` is where the text is put: a block that many heads share.
pub(super) fn head(
    parts: &Parts,
    protocol: Option<&str>,
    limits: &Limits,
    memory: &mut BytesMut,
) -> Result<Head, StatusCode> {
    let authority = authority(parts)?;
    let target = target(parts, protocol.is_some(), authority)?;
    check_sizes(target, &parts.headers, limits)?;
    check_fields(&parts.headers)?;
    let mut text = Text::new(memory, text_bytes(target, authority, protocol, &parts.headers))?;
    let target_span = text.put(target.as_bytes());
    let (path, query) = split_query(target, target_span);
    let authority_span = authority.map(|authority| text.put(authority.as_bytes()));
    let protocol = protocol.map(|protocol| text.put(protocol.as_bytes()));
    let mut slots = Slots::default();
    if let (Some(value), false) = (authority_span, parts.headers.contains_key(header::HOST)) {
        // A handler finds the host where HTTP/1.1 has it.
        slots.push(Slot { name: text.put(b"host"), value });
    }
    put_fields(&parts.headers, &mut text, &mut slots);
    Ok(Head {
        memory: text.memory.freeze(),
        method: parts.method.clone(),
        version: Version::HTTP_2,
        target: target_span,
        path,
        query,
        authority: authority_span,
        protocol,
        slots,
    })
}

/// `:authority`, or the Host field where it is absent (RFC 9113 §8.3.1). Both must agree.
fn authority(parts: &Parts) -> Result<Option<&str>, StatusCode> {
    let mut hosts = parts.headers.get_all(header::HOST).iter();
    let host = hosts.next();
    let authority = parts.uri.authority().map(http::uri::Authority::as_str);
    let agrees = match (authority, host) {
        (Some(authority), Some(host)) => authority.as_bytes().eq_ignore_ascii_case(host.as_bytes()),
        _ => true,
    };
    let host = host.map(HeaderValue::to_str).transpose().map_err(|_| StatusCode::BAD_REQUEST)?;
    let authority = authority.or(host);
    // userinfo is deprecated, and a way to make one host look like another.
    let is_host = |name: &str| {
        !name.is_empty()
            && !name.contains(['@', '/', '?', '#', '\\', ' ', ','])
            && name.bytes().all(|byte| matches!(byte, 0x21..=0x7e))
    };
    if hosts.next().is_some() || !agrees || !authority.is_some_and(is_host) {
        return Err(StatusCode::BAD_REQUEST);
    }
    Ok(authority)
}

/// What HTTP/1.1 calls the request target.
fn target<'a>(
    parts: &'a Parts,
    extended: bool,
    authority: Option<&'a str>,
) -> Result<&'a str, StatusCode> {
    if parts.method == Method::CONNECT && !extended {
        return authority.ok_or(StatusCode::BAD_REQUEST);
    }
    let target = parts.uri.path_and_query().map_or("", http::uri::PathAndQuery::as_str);
    let origin_form = target.starts_with('/') || (target == "*" && parts.method == Method::OPTIONS);
    let visible = target.bytes().all(|byte| matches!(byte, 0x21..=0x7e) && byte != b'#');
    if origin_form && visible { Ok(target) } else { Err(StatusCode::BAD_REQUEST) }
}

fn check_sizes(target: &str, fields: &HeaderMap, limits: &Limits) -> Result<(), StatusCode> {
    if target.len() > limits.target_bytes_max {
        return Err(StatusCode::URI_TOO_LONG);
    }
    // As in HTTP/1.1, a line is its text and four octets around it.
    let lines: usize =
        fields.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
    if fields.len() > limits.header_count_max || target.len() + lines > limits.head_bytes_max {
        return Err(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
    }
    Ok(())
}

fn check_fields(fields: &HeaderMap) -> Result<(), StatusCode> {
    // RFC 9113 §8.2.1; the codec has refused every other octet that may not stand there.
    let is_space = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    let padded = |value: &HeaderValue| {
        let value = value.as_bytes();
        is_space(value.first()) || is_space(value.last())
    };
    if fields.values().any(padded) || fields.get_all(header::CONTENT_LENGTH).iter().count() > 1 {
        return Err(StatusCode::BAD_REQUEST);
    }
    let expect = fields.get_all(header::EXPECT).iter();
    if expect.into_iter().any(|value| !value.as_bytes().eq_ignore_ascii_case(b"100-continue")) {
        return Err(StatusCode::EXPECTATION_FAILED);
    }
    Ok(())
}

fn put_fields(fields: &HeaderMap, text: &mut Text, slots: &mut Slots) {
    let mut cookies_done = false;
    for (name, value) in fields {
        if *name == header::COOKIE {
            // RFC 9113 §8.2.3: crumbs are joined before anything else sees them.
            if !std::mem::replace(&mut cookies_done, true) {
                let crumbs = fields.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes);
                slots.push(Slot { name: text.put(b"cookie"), value: text.put_joined(crumbs) });
            }
            continue;
        }
        let name = text.put(name.as_str().as_bytes());
        slots.push(Slot { name, value: text.put(value.as_bytes()) });
    }
}

fn split_query(target: &str, span: Span) -> (Span, Option<Span>) {
    let at = |index: usize| span.start + u16::try_from(index).unwrap_or(u16::MAX);
    match memchr::memchr(b'?', target.as_bytes()) {
        Some(mark) => {
            let query = Span { start: at(mark + 1), end: span.end };
            (Span { start: span.start, end: at(mark) }, Some(query))
        }
        None => (span, None),
    }
}

/// At least as many bytes as the head's text will have.
fn text_bytes(
    target: &str,
    authority: Option<&str>,
    protocol: Option<&str>,
    fields: &HeaderMap,
) -> usize {
    let rest = authority.map_or(0, str::len) + protocol.map_or(0, str::len) + "host".len();
    let lines: usize =
        fields.iter().map(|(name, value)| name.as_str().len() + value.len() + 2).sum();
    target.len() + rest + lines
}

/// Writes text and says where it lies.
struct Text {
    memory: BytesMut,
}

impl Text {
    /// Cuts `len` bytes out of `block`. Heads are addressed with 16 bits.
    fn new(block: &mut BytesMut, len: usize) -> Result<Self, StatusCode> {
        if len > usize::from(u16::MAX) {
            return Err(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
        }
        if block.capacity() < len {
            block.reserve(len.max(BLOCK));
        }
        let rest = block.split_off(len);
        Ok(Self { memory: std::mem::replace(block, rest) })
    }

    fn put(&mut self, text: &[u8]) -> Span {
        let start = self.here();
        self.memory.put_slice(text);
        Span { start, end: self.here() }
    }

    fn put_joined<'a>(&mut self, pieces: impl Iterator<Item = &'a [u8]>) -> Span {
        let start = self.here();
        for (index, piece) in pieces.enumerate() {
            if index > 0 {
                self.memory.put_slice(b"; ");
            }
            self.memory.put_slice(piece);
        }
        Span { start, end: self.here() }
    }

    fn here(&self) -> u16 {
        u16::try_from(self.memory.len()).unwrap_or(u16::MAX)
    }
}

const BLOCK: usize = 4 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn convert(
        method: &str,
        uri: &str,
        fields: &[(&str, &str)],
        protocol: Option<&str>,
    ) -> Result<Head, StatusCode> {
        let mut request = http::Request::builder().method(method).uri(uri);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let (parts, ()) = request.body(()).unwrap().into_parts();
        let mut memory = BytesMut::new();
        head(&parts, protocol, &Limits::default(), &mut memory)
    }

    #[track_caller]
    fn refused(method: &str, uri: &str, fields: &[(&str, &str)], want: u16) {
        let status = convert(method, uri, fields, None).map(|_| ()).map_err(|s| s.as_u16());
        assert_eq!(status, Err(want), "{method} {uri} {fields:?}");
    }

    #[test]
    fn parts_of_a_head() {
        let fields = [
            ("accept", "*/*"),
            ("cookie", "a=1"),
            ("x-one", "1"),
            ("cookie", "b=2"),
            ("x-one", "2"),
        ];
        let head = convert("GET", "https://example.com:8443/a/b?c=d?e", &fields, None).unwrap();
        assert_eq!(head.method(), Method::GET);
        assert_eq!(head.version(), Version::HTTP_2);
        assert_eq!(head.target(), "/a/b?c=d?e");
        assert_eq!((head.path(), head.query()), ("/a/b", Some("c=d?e")));
        assert_eq!(
            (head.authority(), head.host()),
            (Some("example.com:8443"), Some("example.com"))
        );
        assert_eq!(head.header("Host"), Some(b"example.com:8443".as_slice()));
        assert_eq!(head.header_all("cookie").collect::<Vec<_>>(), [b"a=1; b=2"]);
        assert_eq!(head.header_all("x-one").collect::<Vec<_>>(), [b"1", b"2"]);
        assert_eq!(head.fields().count(), 5);
    }

    #[test]
    fn host_stands_in_for_authority() {
        let head = convert("GET", "/", &[("host", "example.com")], None).unwrap();
        assert_eq!(head.authority(), Some("example.com"));
        let head = convert("GET", "https://a.test/", &[("host", "A.TEST")], None).unwrap();
        assert_eq!((head.authority(), head.fields().count()), (Some("a.test"), 1));
    }

    #[test]
    fn connect_forms() {
        let head = convert("CONNECT", "example.com:443", &[], None).unwrap();
        assert_eq!((head.target(), head.protocol()), ("example.com:443", None));
        let head = convert("CONNECT", "https://example.com/chat", &[], Some("websocket")).unwrap();
        assert_eq!((head.path(), head.protocol()), ("/chat", Some("websocket")));
    }

    #[test]
    fn refusals() {
        let site = "https://a.test/";
        refused("GET", "/", &[], 400);
        refused("GET", site, &[("host", "b.test")], 400);
        refused("GET", site, &[("host", "a.test"), ("host", "a.test")], 400);
        refused("GET", "https://me@a.test/", &[], 400);
        refused("GET", "/", &[("host", "a.test/x")], 400);
        refused("GET", "/", &[("host", "")], 400);
        refused("GET", "*", &[("host", "a.test")], 400);
        refused("GET", site, &[("x", " padded")], 400);
        refused("GET", site, &[("x", "padded\t")], 400);
        refused("GET", site, &[("content-length", "1"), ("content-length", "1")], 400);
        refused("GET", site, &[("expect", "200-ok")], 417);
        refused("GET", &format!("https://a.test/{}", "x".repeat(8192)), &[], 414);
        refused("GET", site, &[("x", "1"); 101], 431);
        refused("GET", site, &[("x", &"y".repeat(16 * 1024))], 431);
    }

    #[test]
    fn what_just_fits_is_accepted() {
        assert!(convert("GET", "https://a.test/", &[("x", "1"); 100], None).is_ok());
        assert!(convert("GET", &format!("https://a.test/{}", "x".repeat(8191)), &[], None).is_ok());
        assert!(convert("POST", "https://a.test/", &[("expect", "100-Continue")], None).is_ok());
        assert!(convert("OPTIONS", "*", &[("host", "a.test")], None).is_ok());
    }

    #[test]
    fn heads_share_a_block() {
        let (parts, ()) = http::Request::get("https://a.test/x").body(()).unwrap().into_parts();
        let mut memory = BytesMut::new();
        let heads: Vec<_> =
            (0..10).map(|_| head(&parts, None, &Limits::default(), &mut memory).unwrap()).collect();
        assert!(memory.capacity() > 3000, "one block serves many heads");
        assert!(heads.iter().all(|head| head.path() == "/x"));
    }
}
