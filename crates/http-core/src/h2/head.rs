//! The head of a request: from the fields of a header block to a [`Head`], by the rules of RFC 9113 §8.

use bytes::{BufMut, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version, header};

use super::{
    hpack::{Field, Kind},
    priority::Priority,
};
use crate::{
    Head, Limits,
    head::{Slot, Slots, Span},
    pool,
};

/// Takes the fields of one request, in the order in which they stand.
///
/// Text goes to its final place at once. What is wrong is remembered, not reported: the rest of the
/// block has to be decoded all the same, because the next one builds on it.
#[derive(Debug)]
pub(super) struct HeadBuilder {
    memory: BytesMut,
    slots: Slots,
    method: Option<Method>,
    path: Option<Span>,
    authority: Option<Span>,
    protocol: Option<Span>,
    host: Option<Span>,
    has_scheme: bool,
    has_fields: bool,
    cookies: Vec<Span>,
    content_length: Option<u64>,
    expects_continue: bool,
    priority: Priority,
    bytes_left: usize,
    count_left: usize,
    /// RFC 9113 §8.1.1: not a request at all.
    is_malformed: bool,
    /// It is one, but not one that is served.
    refusal: Option<StatusCode>,
}

/// A request whose head is complete.
#[derive(Debug)]
pub(super) struct Received {
    pub(super) method: Method,
    pub(super) content_length: Option<u64>,
    pub(super) expects_continue: bool,
    pub(super) priority: Priority,
    /// RFC 8441: `:protocol` was there.
    pub(super) is_extended: bool,
    /// The head, or the status that refuses it.
    pub(super) head: Result<Head, StatusCode>,
}

impl HeadBuilder {
    /// For one head; its text goes into a piece of `block`, which many heads share.
    pub(super) fn new(block: &mut BytesMut, limits: &Limits) -> Self {
        if block.capacity() == 0 {
            *block = pool::read_buffer();
        } else if block.capacity() < PIECE_MIN {
            // Takes the memory of earlier heads again where nobody holds them any more.
            block.reserve(PIECE_MIN);
        }
        Self {
            memory: std::mem::take(block),
            slots: Slots::default(),
            method: None,
            path: None,
            authority: None,
            protocol: None,
            host: None,
            has_scheme: false,
            has_fields: false,
            cookies: Vec::new(),
            content_length: None,
            expects_continue: false,
            priority: Priority::default(),
            bytes_left: limits.head_bytes_max.min(usize::from(u16::MAX)),
            count_left: limits.header_count_max,
            is_malformed: false,
            refusal: None,
        }
    }

    /// Takes the next field.
    pub(super) fn field(&mut self, field: Field<'_>) {
        use Kind::{
            Authority, Connection, Malformed, Method, Path, Protocol, Scheme, Te, WrongPseudo,
        };
        let Field { name, value, kind, is_valid } = field;
        // As in HTTP/1.1, a line is its text and four octets around it.
        let size = name.len() + value.len() + 4;
        match self.bytes_left.checked_sub(size) {
            Some(left) => self.bytes_left = left,
            None => self.refuse(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE),
        }
        if !is_valid {
            self.is_malformed = true;
        }
        match kind {
            Authority | Method | Path | Protocol | Scheme => self.pseudo(kind, value),
            Connection | Malformed | WrongPseudo => self.is_malformed = true,
            Te if value != b"trailers" => self.is_malformed = true,
            _ => self.regular(kind, name, value),
        }
    }

    /// The request. `None` where it is malformed. What is left of the memory goes back to `block`.
    pub(super) fn finish(mut self, limits: &Limits, block: &mut BytesMut) -> Option<Received> {
        let received = self.check(limits);
        if received.is_none() || self.refusal.is_some() {
            // Nobody will look at the text.
            self.memory.clear();
            *block = self.memory;
            return received;
        }
        let mut received = received?;
        received.head = self.build(received.method.clone(), block);
        Some(received)
    }

    fn pseudo(&mut self, kind: Kind, value: &[u8]) {
        // RFC 9113 §8.3: before every other field, and once.
        self.is_malformed |= self.has_fields;
        match kind {
            Kind::Method => {
                let method = Method::from_bytes(value).ok();
                self.is_malformed |= method.is_none() || self.method.is_some();
                self.method = method;
            }
            Kind::Scheme => {
                self.is_malformed |= self.has_scheme || value.is_empty();
                self.has_scheme = true;
            }
            _ => {
                let span = self.put(value);
                let place = match kind {
                    Kind::Path => &mut self.path,
                    Kind::Protocol => &mut self.protocol,
                    _ => &mut self.authority,
                };
                self.is_malformed |= place.replace(span).is_some();
            }
        }
    }

    fn regular(&mut self, kind: Kind, name: &[u8], value: &[u8]) {
        self.has_fields = true;
        match self.count_left.checked_sub(1) {
            Some(left) => self.count_left = left,
            None => self.refuse(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE),
        }
        if self.refusal.is_some() {
            return;
        }
        match kind {
            Kind::ContentLength => {
                let length = parse_length(value);
                self.is_malformed |= length.is_none() || self.content_length.is_some();
                self.content_length = length;
            }
            Kind::Expect if value.eq_ignore_ascii_case(b"100-continue") => {
                self.expects_continue = true;
            }
            Kind::Expect => self.refuse(StatusCode::EXPECTATION_FAILED),
            Kind::Priority => self.priority = Priority::parse(value),
            _ => {}
        }
        if kind == Kind::Cookie {
            let crumb = self.put(value);
            return self.cookies.push(crumb);
        }
        let slot = Slot { name: self.put(name), value: self.put(value) };
        if kind == Kind::Host && self.host.replace(slot.value).is_some() {
            self.refuse(StatusCode::BAD_REQUEST);
        }
        self.slots.push(slot);
    }

    /// What can only be said of the whole.
    fn check(&mut self, limits: &Limits) -> Option<Received> {
        let method = self.method.take().filter(|_| !self.is_malformed)?;
        let is_connect = method == Method::CONNECT;
        let is_extended = self.protocol.is_some();
        // RFC 9113 §8.3.1 and §8.5, RFC 8441 §4.
        let is_complete = if is_connect && !is_extended {
            !self.has_scheme && self.path.is_none()
        } else {
            self.has_scheme && self.path.is_some_and(|path| path.end > path.start)
        };
        if !is_complete || (is_extended && !is_connect) {
            return None;
        }
        if is_connect && !is_extended {
            // As over HTTP/1.1: no tunnels to elsewhere are offered (RFC 9110 §9.3.6).
            self.refuse(StatusCode::NOT_IMPLEMENTED);
        }
        self.check_authority();
        self.check_target(&method, limits);
        Some(Received {
            is_extended,
            content_length: self.content_length,
            expects_continue: self.expects_continue,
            priority: self.priority,
            head: Err(self.refusal.unwrap_or(StatusCode::BAD_REQUEST)),
            method,
        })
    }

    /// `:authority`, or the Host field where it is absent (RFC 9113 §8.3.1). Both must agree.
    fn check_authority(&mut self) {
        if let (Some(authority), Some(host)) = (self.authority, self.host)
            && !self.text(authority).eq_ignore_ascii_case(self.text(host))
        {
            self.refuse(StatusCode::BAD_REQUEST);
        }
        self.authority = self.authority.or(self.host);
        if !self.authority.is_some_and(|authority| is_host(self.text(authority))) {
            self.refuse(StatusCode::BAD_REQUEST);
        }
    }

    fn check_target(&mut self, method: &Method, limits: &Limits) {
        let Some(path) = self.path else { return };
        let target = self.text(path);
        let is_star = target == b"*" && *method == Method::OPTIONS;
        let is_visible = target.iter().all(|byte| matches!(byte, 0x21..=0x7e) && *byte != b'#');
        if target.len() > limits.target_bytes_max {
            self.refuse(StatusCode::URI_TOO_LONG);
        } else if !(is_visible && (target.first() == Some(&b'/') || is_star)) {
            self.refuse(StatusCode::BAD_REQUEST);
        }
    }

    fn build(mut self, method: Method, block: &mut BytesMut) -> Result<Head, StatusCode> {
        self.join_cookies();
        if let (Some(value), None) = (self.authority, self.host) {
            // A handler finds the host where HTTP/1.1 has it.
            let name = self.put(b"host");
            self.slots.push(Slot { name, value });
        }
        // What HTTP/1.1 calls the request target.
        let target = self.path.unwrap_or_default();
        let mark = memchr::memchr(b'?', self.text(target));
        let at = |index: usize| target.start + u16::try_from(index).unwrap_or(u16::MAX);
        let (path, query) = match mark {
            Some(mark) => (
                Span { start: target.start, end: at(mark) },
                Some(Span { start: at(mark + 1), end: target.end }),
            ),
            None => (target, None),
        };
        let memory = self.memory.split().freeze();
        *block = self.memory;
        Ok(Head {
            memory,
            method,
            version: Version::HTTP_2,
            target,
            path,
            query,
            authority: self.authority,
            protocol: self.protocol,
            slots: self.slots,
        })
    }

    /// RFC 9113 §8.2.3: crumbs are joined before anything else sees them.
    fn join_cookies(&mut self) {
        let value = match self.cookies.as_slice() {
            [] => return,
            [only] => *only,
            crumbs => {
                let start = self.here();
                for (index, crumb) in crumbs.iter().enumerate() {
                    if index > 0 {
                        self.memory.put_slice(b"; ");
                    }
                    let (from, to) = (usize::from(crumb.start), usize::from(crumb.end));
                    self.memory.extend_from_within(from..to);
                }
                Span { start, end: self.here() }
            }
        };
        let name = self.put(b"cookie");
        self.slots.push(Slot { name, value });
    }

    fn refuse(&mut self, status: StatusCode) {
        self.refusal.get_or_insert(status);
    }

    fn put(&mut self, text: &[u8]) -> Span {
        let start = self.here();
        // A head that is refused is not stored any further; 16 bits address what is.
        if self.refusal.is_none() {
            self.memory.put_slice(text);
        }
        Span { start, end: self.here() }
    }

    fn here(&self) -> u16 {
        u16::try_from(self.memory.len()).unwrap_or(u16::MAX)
    }

    fn text(&self, span: Span) -> &[u8] {
        self.memory.get(usize::from(span.start)..usize::from(span.end)).unwrap_or_default()
    }
}

/// Takes the fields of a trailer section.
#[derive(Debug, Default)]
pub(super) struct TrailerBuilder {
    fields: HeaderMap,
    bytes: usize,
    count: usize,
    is_malformed: bool,
}

/// What is wrong with a trailer section.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WrongTrailers {
    /// RFC 9110 §6.5.1: a field that may not come so late.
    Forbidden,
    /// RFC 9113 §8.1.1.
    Malformed,
    TooLarge,
}

impl TrailerBuilder {
    pub(super) fn field(&mut self, field: Field<'_>, limits: &Limits) {
        self.bytes += field.name.len() + field.value.len() + 4;
        self.count += 1;
        let fits = self.bytes <= limits.trailer_bytes_max && self.count <= limits.trailer_count_max;
        let is_regular = !matches!(
            field.kind,
            Kind::Authority
                | Kind::Connection
                | Kind::Malformed
                | Kind::Method
                | Kind::Path
                | Kind::Protocol
                | Kind::Scheme
                | Kind::WrongPseudo
        );
        self.is_malformed |= !is_regular || !field.is_valid;
        if !fits || self.is_malformed {
            return;
        }
        let name = HeaderName::from_bytes(field.name);
        let value = HeaderValue::from_bytes(field.value);
        match (name, value) {
            (Ok(name), Ok(value)) => {
                // `try_`: the plain form panics above 24,576 names.
                let _ = self.fields.try_append(name, value);
            }
            _ => self.is_malformed = true,
        }
    }

    pub(super) fn finish(self, limits: &Limits) -> Result<HeaderMap, WrongTrailers> {
        if self.is_malformed {
            Err(WrongTrailers::Malformed)
        } else if self.bytes > limits.trailer_bytes_max || self.count > limits.trailer_count_max {
            Err(WrongTrailers::TooLarge)
        } else if self.fields.keys().any(|name| FORBIDDEN.contains(name)) {
            Err(WrongTrailers::Forbidden)
        } else {
            Ok(self.fields)
        }
    }
}

/// Digits only, as in HTTP/1.1 (RFC 9110 §8.6).
fn parse_length(value: &[u8]) -> Option<u64> {
    let digits = (1..=19).contains(&value.len()) && value.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(value).ok().filter(|_| digits)?.parse().ok()
}

/// userinfo is deprecated, and a way to make one host look like another.
fn is_host(name: &[u8]) -> bool {
    let is_allowed = |byte: &u8| HOST_OCTETS.get(usize::from(*byte)).copied().unwrap_or_default();
    !name.is_empty() && name.iter().all(is_allowed)
}

/// Visible octets that do not end a host and its port, nor belong elsewhere in a URI.
const HOST_OCTETS: [bool; 128] = {
    let mut allowed = [false; 128];
    let mut octet = 0x21;
    while octet < 0x7f {
        allowed[octet as usize] = !matches!(
            octet,
            b'@' | b'/'
                | b'?'
                | b'#'
                | b'\\'
                | b','
                | b'"'
                | b'<'
                | b'>'
                | b'^'
                | b'`'
                | b'{'
                | b'|'
                | b'}'
        );
        octet += 1;
    }
    allowed
};
/// Fields that steer framing, routing or authentication.
const FORBIDDEN: [HeaderName; 14] = [
    header::AUTHORIZATION,
    header::CACHE_CONTROL,
    header::CONTENT_ENCODING,
    header::CONTENT_LENGTH,
    header::CONTENT_RANGE,
    header::CONTENT_TYPE,
    header::COOKIE,
    header::EXPECT,
    header::HOST,
    header::MAX_FORWARDS,
    header::PROXY_AUTHORIZATION,
    header::SET_COOKIE,
    header::TE,
    header::TRAILER,
];
/// With less than this left, a new block is begun instead of growing, and so copying, the old one.
const PIECE_MIN: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    fn read(fields: &[(&str, &str)]) -> Option<Received> {
        let limits = Limits::default();
        let mut block = BytesMut::new();
        let mut builder = HeadBuilder::new(&mut block, &limits);
        for (name, value) in fields {
            let (name, value) = (name.as_bytes(), value.as_bytes());
            let is_valid = !value.starts_with(b" ");
            builder.field(Field { name, value, kind: Kind::of(name), is_valid });
        }
        builder.finish(&limits, &mut block)
    }

    const GET: [(&str, &str); 4] =
        [(":method", "GET"), (":scheme", "https"), (":authority", "a.test"), (":path", "/")];

    fn get(more: &[(&str, &str)]) -> Option<Received> {
        read(&[&GET[..], more].concat())
    }

    /// With this in place of the pseudo-header field of the same name.
    fn changed(name: &'static str, value: &'static str) -> Vec<(&'static str, &'static str)> {
        GET.map(|(known, old)| (known, if known == name { value } else { old })).to_vec()
    }

    #[test]
    fn parts_of_a_head() {
        let mut fields = changed(":path", "/a/b?c=d?e");
        fields.extend([("cookie", "a=1"), ("x-one", "1"), ("cookie", "b=2"), ("priority", "u=1")]);
        fields.extend([("content-length", "12"), ("expect", "100-Continue")]);
        let received = read(&fields).unwrap();
        assert_eq!((received.content_length, received.expects_continue), (Some(12), true));
        assert_eq!(received.priority.urgency, 1);
        let head = received.head.unwrap();
        assert_eq!((head.method(), head.version()), (&Method::GET, Version::HTTP_2));
        assert_eq!(
            (head.target(), head.path(), head.query()),
            ("/a/b?c=d?e", "/a/b", Some("c=d?e"))
        );
        assert_eq!((head.authority(), head.host()), (Some("a.test"), Some("a.test")));
        assert_eq!(head.header("Host"), Some(b"a.test".as_slice()));
        assert_eq!(head.header_all("cookie").collect::<Vec<_>>(), [b"a=1; b=2"]);
        assert_eq!(head.fields().count(), 6);
    }

    #[test]
    fn host_stands_in_for_authority() {
        let [method, scheme, _, path] = GET;
        let head = read(&[method, scheme, path, ("host", "b.test")]).unwrap().head.unwrap();
        assert_eq!(head.authority(), Some("b.test"));
        let head = get(&[("host", "A.TEST")]).unwrap().head.unwrap();
        assert_eq!((head.authority(), head.fields().count()), (Some("a.test"), 1));
    }

    #[test]
    fn an_extended_connect() {
        let mut fields = changed(":method", "CONNECT");
        fields.insert(1, (":protocol", "websocket"));
        let received = read(&fields).unwrap();
        assert!(received.is_extended);
        assert_eq!(received.head.unwrap().protocol(), Some("websocket"));
    }

    #[test]
    fn refusals() {
        #[track_caller]
        fn check(received: Option<Received>, want: u16) {
            let status = received.expect("a request").head.map(|_| ()).map_err(|s| s.as_u16());
            assert_eq!(status, Err(want));
        }
        let [method, scheme, _, path] = GET;
        check(read(&[method, scheme, path]), 400);
        check(get(&[("host", "b.test")]), 400);
        check(get(&[("host", "a.test"), ("host", "a.test")]), 400);
        for authority in ["", "me@a.test", "a.test/x", "a b", "a,b"] {
            check(read(&[method, scheme, (":authority", authority), path]), 400);
        }
        for path in ["x", "*", "/a b", "/a#b", "/\u{e4}", "http://a.test/"] {
            check(read(&[method, scheme, (":authority", "a.test"), (":path", path)]), 400);
        }
        check(read(&[(":method", "CONNECT"), (":authority", "a.test:443")]), 501);
        check(get(&[("expect", "200-ok")]), 417);
        let long = format!("/{}", "x".repeat(8192));
        check(read(&[method, scheme, (":authority", "a.test"), (":path", &long)]), 414);
        check(get(&[("x", "1"); 101]), 431);
        check(get(&[("x", &"y".repeat(16 * 1024))]), 431);
    }

    #[test]
    fn malformed_requests() {
        let [method, scheme, authority, path] = GET;
        for fields in [
            vec![scheme, authority, path],
            vec![method, authority, path],
            vec![method, scheme, authority],
            changed(":path", ""),
            changed(":method", "G T"),
            vec![method, scheme, authority, path, method],
            vec![method, scheme, authority, path, ("x", "y"), authority],
            vec![method, scheme, authority, path, (":status", "200")],
            vec![method, scheme, authority, path, (":protocol", "websocket")],
            vec![(":method", "CONNECT"), authority, path],
        ] {
            assert!(read(&fields).is_none(), "{fields:?}");
        }
        for field in [
            ("connection", "close"),
            ("te", "gzip"),
            ("X", "y"),
            ("x", " padded"),
            ("content-length", "-1"),
            ("content-length", "12345678901234567890"),
        ] {
            assert!(get(&[field]).is_none(), "{field:?}");
        }
        assert!(get(&[("content-length", "1"), ("content-length", "1")]).is_none());
        assert!(get(&[("te", "trailers")]).is_some());
    }

    #[test]
    fn what_just_fits() {
        assert!(get(&[("x", "1"); 100]).unwrap().head.is_ok());
        let long = format!("/{}", "x".repeat(8191));
        let fields = [GET[0], GET[1], GET[2], (":path", long.as_str())];
        assert!(read(&fields).unwrap().head.is_ok());
        let options = [(":method", "OPTIONS"), GET[1], GET[2], (":path", "*")];
        assert!(read(&options).unwrap().head.is_ok());
    }

    #[test]
    fn heads_share_a_block_and_its_memory_is_used_again() {
        let limits = Limits::default();
        let mut block = BytesMut::new();
        let mut heads = Vec::new();
        let mut addresses = std::collections::HashSet::new();
        for round in 0..1000 {
            let mut builder = HeadBuilder::new(&mut block, &limits);
            for (name, value) in GET {
                let (name, value) = (name.as_bytes(), value.as_bytes());
                builder.field(Field { name, value, kind: Kind::of(name), is_valid: true });
            }
            let head = builder.finish(&limits, &mut block).unwrap().head.unwrap();
            assert_eq!(head.path(), "/");
            addresses.insert(head.memory.as_ptr() as usize / 8192);
            heads.push(head);
            if round % 10 == 9 {
                heads.clear();
            }
        }
        assert!(addresses.len() <= 3, "{} blocks", addresses.len());
    }
}
