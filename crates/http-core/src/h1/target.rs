//! Request targets and hosts (RFC 9112 §3.2), which `http::Uri` takes too lightly.

use http::Method;

use super::{classes::host_len, refusal::Refusal};
use crate::head::Span;

/// The parts of a request target, as spans of the head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) path: Span,
    pub(crate) query: Option<Span>,
    /// Of an absolute-form target.
    pub(crate) authority: Option<Span>,
    /// Of an absolute-form target: the port that its scheme implies.
    pub(crate) default_port: &'static [u8],
}

impl Target {
    /// Takes `target` apart, which is the text at `span` of the head and has no byte but those of
    /// [`target_len`](super::classes::target_len).
    pub(crate) fn parse(method: &Method, target: &[u8], span: Span) -> Result<Self, Refusal> {
        match target {
            _ if method == Method::CONNECT => {
                // Checked only to tell malformed from unwanted.
                Err(if is_authority(target) { Refusal::Connect } else { Refusal::Target })
            }
            [b'/', ..] => Ok(Self::with_path(target, span, 0)),
            b"*" if method == Method::OPTIONS => Ok(Self::with_path(target, span, 0)),
            _ => Self::absolute(target, span),
        }
    }

    fn absolute(target: &[u8], span: Span) -> Result<Self, Refusal> {
        let (scheme_len, default_port): (usize, &[u8]) = match target {
            _ if starts_with(target, b"https://") => (5, b"443"),
            _ if starts_with(target, b"http://") => (4, b"80"),
            _ => return Err(Refusal::Target),
        };
        let authority_start = scheme_len + 3;
        let rest = target.get(authority_start..).unwrap_or_default();
        let len = rest.iter().position(|byte| matches!(byte, b'/' | b'?')).unwrap_or(rest.len());
        let authority = rest.get(..len).unwrap_or_default();
        if !is_authority(authority) {
            return Err(Refusal::Target);
        }
        let path_start = authority_start + len;
        let mut parts = Self::with_path(target, span, path_start);
        if target.get(path_start) != Some(&b'/') {
            // An empty path means `/` (RFC 9110 §4.2.3); the one behind the scheme serves.
            let slash = add(span.start, scheme_len + 1);
            parts.path = Span { start: slash, end: slash + 1 };
        }
        parts.authority = Some(Span {
            start: add(span.start, authority_start),
            end: add(span.start, authority_start + len),
        });
        parts.default_port = default_port;
        Ok(parts)
    }

    fn with_path(target: &[u8], span: Span, path_start: usize) -> Self {
        let rest = target.get(path_start..).unwrap_or_default();
        let start = add(span.start, path_start);
        let (path, query) = match rest.iter().position(|&byte| byte == b'?') {
            Some(mark) => {
                let query = Span { start: add(start, mark + 1), end: span.end };
                (Span { start, end: add(start, mark) }, Some(query))
            }
            None => (Span { start, end: span.end }, None),
        };
        Self { path, query, authority: None, default_port: b"" }
    }
}

/// Whether this is `uri-host [ ":" port ]` with a host (RFC 9110 §7.2, RFC 3986 §3.2). No user
/// information, which a Host field never carries and an `http` target must not.
pub(crate) fn is_authority(text: &[u8]) -> bool {
    // Nearly all are plain names or IPv4 addresses.
    match text.split_at_checked(host_len(text)) {
        Some(([_, ..], [])) => return true,
        Some(([_, ..], [b':', port @ ..])) => return is_port(port),
        _ => {}
    }
    let (host, port) = split_port(text);
    is_host(host) && is_port(port)
}

fn is_port(port: &[u8]) -> bool {
    if port.len() > 5 {
        return false;
    }
    let mut number = 0;
    for byte in port {
        if !byte.is_ascii_digit() {
            return false;
        }
        number = number * 10 + u32::from(byte - b'0');
    }
    number <= u32::from(u16::MAX)
}

/// Whether two authorities name the same host and port.
pub(crate) fn is_same_authority(a: &[u8], b: &[u8], default_port: &[u8]) -> bool {
    let ((host_a, port_a), (host_b, port_b)) = (split_port(a), split_port(b));
    let or_default = |port| if port == b"" { default_port } else { port };
    host_a.eq_ignore_ascii_case(host_b) && or_default(port_a) == or_default(port_b)
}

/// Host, and what follows the colon. An IPv6 literal keeps its brackets.
fn split_port(text: &[u8]) -> (&[u8], &[u8]) {
    let position = |wanted| text.iter().position(|&byte| byte == wanted);
    let host_len = match text {
        [b'[', ..] => position(b']').map_or(text.len(), |end| end + 1),
        _ => position(b':').unwrap_or(text.len()),
    };
    match text.split_at_checked(host_len) {
        Some((host, [])) => (host, b""),
        Some((host, [b':', port @ ..])) => (host, port),
        // Something between the bracket and the colon: no port, and no digits either.
        _ => (text, b"!"),
    }
}

fn is_host(host: &[u8]) -> bool {
    if let [b'[', literal @ .., b']'] = host {
        let text = std::str::from_utf8(literal).unwrap_or_default();
        return text.parse::<std::net::Ipv6Addr>().is_ok() || is_future_literal(literal);
    }
    // RFC 3986 reg-name, which hardly ever has percent escapes.
    let mut rest = host;
    loop {
        rest = match rest.split_at_checked(host_len(rest)) {
            Some((_, [])) => return !host.is_empty(),
            Some((_, [b'%', high, low, rest @ ..]))
                if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() =>
            {
                rest
            }
            _ => return false,
        };
    }
}

/// `"v" 1*HEXDIG "." 1*( unreserved / sub-delims / ":" )`.
fn is_future_literal(text: &[u8]) -> bool {
    let [b'v' | b'V', rest @ ..] = text else { return false };
    let Some(dot) = memchr::memchr(b'.', rest) else { return false };
    let (version, address) = rest.split_at(dot);
    let is_address = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:".contains(byte);
    !version.is_empty()
        && version.iter().all(u8::is_ascii_hexdigit)
        && address.len() > 1
        && address.iter().all(is_address)
}

fn starts_with(text: &[u8], prefix: &[u8]) -> bool {
    text.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
}

fn add(start: u16, offset: usize) -> u16 {
    // A head is below 64 KiB, so offsets within it always fit.
    start.saturating_add(u16::try_from(offset).unwrap_or(u16::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(
        method: &str,
        target: &str,
        want: Result<(&str, Option<&str>, Option<&str>), Refusal>,
    ) {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let memory = format!("GET {target} HTTP/1.1");
        let end = u16::try_from(4 + target.len()).unwrap();
        let parsed = match super::super::classes::target_len(target.as_bytes()) {
            len if len == target.len() => {
                Target::parse(&method, target.as_bytes(), Span { start: 4, end })
            }
            _ => Err(Refusal::Target),
        };
        let text = |span: Span| &memory[usize::from(span.start)..usize::from(span.end)];
        let got = parsed.map(|t| (text(t.path), t.query.map(text), t.authority.map(text)));
        assert_eq!(got, want, "{target}");
    }

    #[test]
    fn the_four_forms() {
        // Origin-form, RFC 9112 §3.2.1.
        check("GET", "/", Ok(("/", None, None)));
        check("GET", "/a/b?c=d?e", Ok(("/a/b", Some("c=d?e"), None)));
        check("GET", "/?", Ok(("/", Some(""), None)));
        check("GET", "//evil/y", Ok(("//evil/y", None, None)));
        check("GET", "/%2e%2E/", Ok(("/%2e%2E/", None, None)));
        check("GET", "/a#b", Err(Refusal::Target));
        check("GET", "/ä", Err(Refusal::Target));
        check("GET", "/a\u{7f}", Err(Refusal::Target));
        check("GET", "foo", Err(Refusal::Target));
        check("GET", "?a", Err(Refusal::Target));
        // Absolute-form, RFC 9112 §3.2.2.
        check("GET", "http://a.test/x?y", Ok(("/x", Some("y"), Some("a.test"))));
        check("GET", "HTTPS://a.test:8443/", Ok(("/", None, Some("a.test:8443"))));
        check("GET", "http://a.test", Ok(("/", None, Some("a.test"))));
        check("GET", "http://a.test?q", Ok(("/", Some("q"), Some("a.test"))));
        check("GET", "http://[::1]:80/x", Ok(("/x", None, Some("[::1]:80"))));
        check("GET", "http:///x", Err(Refusal::Target));
        check("GET", "http:/x", Err(Refusal::Target));
        check("GET", "http", Err(Refusal::Target));
        check("GET", "http://u:p@a.test/", Err(Refusal::Target));
        check("GET", "http://a.test:99999/", Err(Refusal::Target));
        check("GET", "ftp://a.test/", Err(Refusal::Target));
        check("GET", "httpsx://a.test/", Err(Refusal::Target));
        // Authority-form, RFC 9112 §3.2.3: for CONNECT only.
        check("CONNECT", "a.test:443", Err(Refusal::Connect));
        check("CONNECT", "/", Err(Refusal::Target));
        check("GET", "a.test:443", Err(Refusal::Target));
        // Asterisk-form, RFC 9112 §3.2.4: for OPTIONS only.
        check("OPTIONS", "*", Ok(("*", None, None)));
        check("GET", "*", Err(Refusal::Target));
        check("OPTIONS", "**", Err(Refusal::Target));
    }

    #[test]
    fn authorities() {
        for good in [
            "a",
            "a.test",
            "a.test:",
            "a.test:80",
            "127.0.0.1:65535",
            "[::1]",
            "[::1]:8080",
            "xn--bcher-kva.example",
            "a_b.test",
            "a%20b",
            "[v1.x:y]",
            "a.test.",
        ] {
            assert!(is_authority(good.as_bytes()), "{good}");
        }
        for bad in [
            "",
            ":",
            ":80",
            "a b",
            "a:b",
            "a:80:80",
            "a@b",
            "a/b",
            "a?b",
            "a,b",
            "[::1",
            "::1",
            "[::1]x",
            "[::1]x:80",
            "[x]",
            "[]",
            "a:65536",
            "a:-1",
            "a:+1",
            "a%2",
            "a%zz",
            "a\\b",
            "a\"b",
            "<a>",
            "a:80 ",
            "a:0000080",
            "[v.x]",
        ] {
            assert!(!is_authority(bad.as_bytes()), "{bad}");
        }
    }

    #[test]
    fn the_same_authority() {
        assert!(is_same_authority(b"A.test", b"a.TEST", b"80"));
        assert!(is_same_authority(b"a.test:80", b"a.test", b"80"));
        assert!(!is_same_authority(b"a.test:81", b"a.test", b"80"));
        assert!(!is_same_authority(b"a.test", b"b.test", b"80"));
    }
}
