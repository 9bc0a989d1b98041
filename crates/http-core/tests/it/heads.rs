//! Request line and header section: RFC 9112 §2, §3, §5 and RFC 9110 §5.

use hearth_http_core::{Request, Response, Settings, handler_fn};

use crate::support::{Peer, answered, conversation, refused};

#[test]
fn request_lines() {
    for (rule, line, status) in [
        ("RFC 9112 §3: three parts", "GET /", 400),
        ("RFC 9112 §3: three parts", "GET", 400),
        ("RFC 9112 §3: three parts", "GET / HTTP/1.1 x", 400),
        ("RFC 9112 §3: no leading space", " GET / HTTP/1.1", 400),
        ("RFC 9112 §3: single space", "GET  / HTTP/1.1", 400),
        ("RFC 9112 §3: single space", "GET /  HTTP/1.1", 400),
        ("RFC 9112 §3: no trailing space", "GET / HTTP/1.1 ", 400),
        ("RFC 9112 §3: space, not tab", "GET\t/ HTTP/1.1", 400),
        ("RFC 9112 §3: space, not tab", "GET /\tHTTP/1.1", 400),
        ("RFC 9112 §3.1: method is a token", "G(T / HTTP/1.1", 400),
        ("RFC 9112 §3.1: method is a token", "GÉT / HTTP/1.1", 400),
        ("RFC 9112 §3.1: method is a token", "\"GET\" / HTTP/1.1", 400),
        ("RFC 9112 §3: unknown long method", &format!("{} / HTTP/1.1", "A".repeat(33)), 501),
        ("RFC 9112 §2.3: version", "GET / HTTP/2.0", 505),
        ("RFC 9112 §2.3: version", "GET / HTTP/3.0", 505),
        ("RFC 9112 §2.3: version", "GET / HTTP/0.9", 505),
        ("RFC 9112 §2.3: version", "GET / HTTP/1.2", 505),
        ("RFC 9112 §2.3: version", "GET / HTTP/1.9", 505),
        ("RFC 9112 §2.3: name is case-sensitive", "GET / http/1.1", 400),
        ("RFC 9112 §2.3: one digit each", "GET / HTTP/1.10", 400),
        ("RFC 9112 §2.3: one digit each", "GET / HTTP/11.1", 400),
        ("RFC 9112 §2.3: one digit each", "GET / HTTP/1", 400),
        ("RFC 9112 §2.3: one digit each", "GET / HTTP/1.", 400),
        ("RFC 9112 §2.3: one digit each", "GET / HTTP/.1", 400),
        ("RFC 9112 §2.3: digits", "GET / HTTP/a.b", 400),
        ("RFC 9112 §2.3: name", "GET / HTPT/1.1", 400),
        ("RFC 9112 §2.3: name", "GET / XHTTP/1.1", 400),
        ("RFC 9112 §2.3: name", "GET / 1.1", 400),
        ("RFC 9112 §3.2.1: origin-form", "GET foo HTTP/1.1", 400),
        ("RFC 9112 §3.2.1: origin-form", "GET ?a=b HTTP/1.1", 400),
        ("RFC 9112 §3.2: no fragment", "GET /#a HTTP/1.1", 400),
        ("RFC 9112 §3.2: ASCII", "GET /é HTTP/1.1", 400),
        ("RFC 9112 §3.2: visible", "GET /a\u{0}b HTTP/1.1", 400),
        ("RFC 9112 §3.2: visible", "GET /a\u{7f}b HTTP/1.1", 400),
        ("RFC 9112 §3.2.2: scheme", "GET ftp://a/ HTTP/1.1", 400),
        ("RFC 9112 §3.2.2: scheme", "GET file:///etc/passwd HTTP/1.1", 400),
        ("RFC 9110 §4.2.4: no user information", "GET http://u@a/ HTTP/1.1", 400),
        ("RFC 9110 §4.2.1: a host", "GET http:///x HTTP/1.1", 400),
        ("RFC 9112 §3.2.3: for CONNECT alone", "GET a:80 HTTP/1.1", 400),
        ("RFC 9110 §9.3.6: no tunnels here", "CONNECT a:80 HTTP/1.1", 501),
        ("RFC 9112 §3.2.3: authority-form", "CONNECT / HTTP/1.1", 400),
        ("RFC 9112 §3.2.3: authority-form", "CONNECT http://a/ HTTP/1.1", 400),
        ("RFC 9112 §3.2.4: for OPTIONS alone", "GET * HTTP/1.1", 400),
        ("RFC 9112 §3.2.4: an asterisk", "OPTIONS *a HTTP/1.1", 400),
    ] {
        refused(rule, format!("{line}\r\nhost: a\r\n\r\n"), status);
    }
}

#[test]
fn garbage_is_told_apart_at_once() {
    // Not only at the end of a head that never comes.
    for garbage in ["\x16\x03\x01\x02\x00\x01\x00\x01", "\0", "{\"a\":1}", "SSH-2.0-x\r\n", "é"] {
        refused("not HTTP", garbage, 400);
    }
    assert_eq!(conversation(b"GET / HTTP/1.1\r\nho", 100), (String::new(), 0), "cut short");
    assert_eq!(conversation(b"", 1), (String::new(), 0), "nothing at all");
}

#[test]
fn targets_arrive_as_sent() {
    for (target, seen) in [
        ("GET /", "GET / "),
        ("GET /a%2Fb%00?x=%20&y#".trim_end_matches('#'), "GET /a%2Fb%00?x=%20&y "),
        ("GET //a//b/../c", "GET //a//b/../c "),
        ("GET /a{}|^`\"<>\\", "GET /a{}|^`\"<>\\ "),
        ("GET http://a/x?y", "GET http://a/x?y "),
        ("GET HTTP://A", "GET HTTP://A "),
        ("OPTIONS *", "OPTIONS * "),
        ("get /", "get / "),
        ("M-SEARCH /", "M-SEARCH / "),
        ("TRACE /", "TRACE / "),
        ("DELETE /", "DELETE / "),
        ("PROPFIND /", "PROPFIND / "),
    ] {
        answered("RFC 9112 §3", format!("{target} HTTP/1.1\r\nhost: a\r\n\r\n"), &[seen]);
    }
}

#[test]
fn line_ends() {
    for (rule, input) in [
        ("RFC 9112 §2.2: CR LF", "GET / HTTP/1.1\nhost: a\r\n\r\n"),
        ("RFC 9112 §2.2: CR LF", "GET / HTTP/1.1\r\nhost: a\n\r\n"),
        ("RFC 9112 §2.2: CR LF", "GET / HTTP/1.1\r\nhost: a\r\n\n"),
        ("RFC 9112 §2.2: CR LF", "GET / HTTP/1.1\r\nhost: a\n\n"),
        ("RFC 9112 §2.2: CR LF", "GET / HTTP/1.1\r\nhost: a\r\nx: y\nz: w\r\n\r\n"),
        ("RFC 9112 §2.2: CR LF", "GET / HTTP/1.1\n\n"),
        ("RFC 9112 §2.2: no lone CR", "GET / HTTP/1.1\rhost: a\r\n\r\n"),
        ("RFC 9112 §2.2: no lone CR", "GET / HTTP/1.1\r\nhost: a\rx: y\r\n\r\n"),
        ("RFC 9112 §2.2: no lone CR", "GET / HTTP/1.1\r\nhost: a\r\r\n\r\n"),
        ("RFC 9112 §2.2: no lone CR", "GET / HTTP/1.1\r\nhost: a\r\n\r\r\n"),
        ("RFC 9112 §2.2: no lone CR", "GET /\r HTTP/1.1\r\nhost: a\r\n\r\n"),
        ("RFC 9112 §2.2: one empty line", "\r\n\r\nGET / HTTP/1.1\r\nhost: a\r\n\r\n"),
        ("RFC 9112 §2.2: CR LF", "\nGET / HTTP/1.1\r\nhost: a\r\n\r\n"),
        ("RFC 9112 §2.2: CR LF", "\rGET / HTTP/1.1\r\nhost: a\r\n\r\n"),
        ("RFC 9112 §2.2: white space first", "GET / HTTP/1.1\r\n host: a\r\n\r\n"),
        ("RFC 9112 §5.2: no folding", "GET / HTTP/1.1\r\nhost: a\r\nx: y\r\n z\r\n\r\n"),
        ("RFC 9112 §5.2: no folding", "GET / HTTP/1.1\r\nhost: a\r\nx: y\r\n\tz\r\n\r\n"),
    ] {
        refused(rule, input, 400);
    }
    answered("RFC 9112 §2.2", "\r\nGET / HTTP/1.1\r\nhost: a\r\n\r\n", &["GET / "]);
    answered(
        "RFC 9112 §2.2: behind a POST",
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\n\r\nx\r\nGET / HTTP/1.1\r\nhost: a\r\n\r\n",
        &["POST / x", "GET / "],
    );
}

#[test]
fn field_lines() {
    for (rule, line) in [
        ("RFC 9112 §5.1: no space before the colon", "x : y"),
        ("RFC 9112 §5.1: no tab before the colon", "x\t: y"),
        ("RFC 9110 §5.1: a name", ": y"),
        ("RFC 9110 §5.1: a name", " : y"),
        ("RFC 9112 §5: a colon", "x"),
        ("RFC 9112 §5: a colon", "x y"),
        ("RFC 9110 §5.1: token", "x(: y"),
        ("RFC 9110 §5.1: token", "x/y: z"),
        ("RFC 9110 §5.1: token", "x@y: z"),
        ("RFC 9110 §5.1: token", "x[]: z"),
        ("RFC 9110 §5.1: token", "\"x\": z"),
        ("RFC 9110 §5.1: token", "xé: z"),
        ("RFC 9110 §5.1: token", "x\0: z"),
        ("RFC 9110 §5.1: token", "x\u{7f}: z"),
        ("RFC 9110 §5.5: no NUL", "x: y\0z"),
        ("RFC 9110 §5.5: no control byte", "x: y\u{1}z"),
        ("RFC 9110 §5.5: no control byte", "x: y\u{b}z"),
        ("RFC 9110 §5.5: no control byte", "x: y\u{c}z"),
        ("RFC 9110 §5.5: no control byte", "x: y\u{1b}z"),
        ("RFC 9110 §5.5: no DEL", "x: y\u{7f}z"),
    ] {
        refused(rule, format!("GET / HTTP/1.1\r\nhost: a\r\n{line}\r\n\r\n"), 400);
    }
    for line in [
        "x:",
        "x: ",
        "x:y",
        "x: y",
        "x:  \t y \t ",
        "x: a\tb",
        "x: ü",
        "!#$%&'*+-.^_`|~: y",
        "X-UPPER: y",
        "x: \"a:b\"",
        "x: :",
        "x:::",
    ] {
        answered(
            "RFC 9110 §5",
            format!("GET / HTTP/1.1\r\nhost: a\r\n{line}\r\n\r\n"),
            &["GET / "],
        );
    }
}

#[test]
fn hosts() {
    for (rule, lines) in [
        ("RFC 9112 §3.2: exactly one", ""),
        ("RFC 9112 §3.2: exactly one", "host: a\r\nhost: a\r\n"),
        ("RFC 9112 §3.2: exactly one", "host: a\r\nHost: b\r\n"),
        ("RFC 9110 §7.2: valid", "host:\r\n"),
        ("RFC 9110 §7.2: valid", "host: a b\r\n"),
        ("RFC 9110 §7.2: valid", "host: a,b\r\n"),
        ("RFC 9110 §7.2: valid", "host: a, b\r\n"),
        ("RFC 9110 §7.2: valid", "host: a/b\r\n"),
        ("RFC 9110 §7.2: valid", "host: http://a\r\n"),
        ("RFC 9110 §7.2: no user information", "host: u@a\r\n"),
        ("RFC 9110 §7.2: no user information", "host: u:p@a\r\n"),
        ("RFC 9110 §7.2: port", "host: a:b\r\n"),
        ("RFC 9110 §7.2: port", "host: a:80:80\r\n"),
        ("RFC 9110 §7.2: port", "host: a:65536\r\n"),
        ("RFC 9110 §7.2: port", "host: a:-1\r\n"),
        ("RFC 3986 §3.2.2: literal", "host: [::1\r\n"),
        ("RFC 3986 §3.2.2: literal", "host: ::1\r\n"),
        ("RFC 3986 §3.2.2: literal", "host: [a]\r\n"),
        ("RFC 3986 §3.2.2: reg-name", "host: a\\b\r\n"),
        ("RFC 3986 §3.2.2: reg-name", "host: a?b\r\n"),
        ("RFC 3986 §3.2.2: reg-name", "host: a#b\r\n"),
        ("RFC 3986 §3.2.2: reg-name", "host: ä\r\n"),
    ] {
        refused(rule, format!("GET / HTTP/1.1\r\n{lines}\r\n"), 400);
    }
    for host in ["a", "A.Test", "a:80", "a:", "127.0.0.1", "[::1]:8080", "a_b", "localhost."] {
        answered("RFC 9110 §7.2", format!("GET / HTTP/1.1\r\nhost: {host}\r\n\r\n"), &["GET / "]);
    }
    refused("RFC 9112 §3.2.2: same authority", "GET http://a/ HTTP/1.1\r\nhost: b\r\n\r\n", 400);
    refused("RFC 9112 §3.2: host beside absolute-form", "GET http://a/ HTTP/1.1\r\n\r\n", 400);
    answered(
        "RFC 9112 §3.2.2",
        "GET http://A:80/ HTTP/1.1\r\nhost: a\r\n\r\n",
        &["GET http://A:80/ "],
    );
    answered("RFC 9112 §3.2: HTTP/1.0 knew no Host", "GET / HTTP/1.0\r\n\r\n", &["GET / "]);
    refused("RFC 9112 §3.2: but one at most", "GET / HTTP/1.0\r\nhost: a\r\nhost: a\r\n\r\n", 400);
    refused("RFC 9112 §3.2: and a valid one", "GET / HTTP/1.0\r\nhost: a b\r\n\r\n", 400);
}

#[test]
fn sizes() {
    let get =
        |target: &str, fields: &str| format!("GET {target} HTTP/1.1\r\nhost: a\r\n{fields}\r\n");
    let path = |len: usize| format!("/{}", "a".repeat(len - 1));
    let fields = |count: usize| "x: y\r\n".repeat(count);
    refused("target_bytes_max", get(&path(8193), ""), 414);
    refused("target_bytes_max, no end in sight", format!("GET /{}", "a".repeat(20_000)), 414);
    refused("header_count_max", get("/", &fields(100)), 431);
    refused("header_count_max, no end in sight", format!("GET / HTTP/1.1\r\n{}", fields(200)), 431);
    refused("head_bytes_max", get("/", &format!("x: {}\r\n", "y".repeat(16_384))), 431);
    refused("head_bytes_max, no end", format!("GET / HTTP/1.1\r\nx: {}", "y".repeat(17_000)), 431);
    let long = path(8192);
    answered("target_bytes_max", get(&long, ""), &[&format!("GET {long} ")]);
    answered("header_count_max", get("/", &fields(99)), &["GET / "]);
    answered("head_bytes_max", get("/", &format!("x: {}\r\n", "y".repeat(16_000))), &["GET / "]);
}

#[test]
fn expectations_and_options() {
    let get = |field: &str| format!("GET / HTTP/1.1\r\nhost: a\r\n{field}\r\n\r\n");
    refused("RFC 9110 §10.1.1", get("expect: 200-ok"), 417);
    refused("RFC 9110 §10.1.1", get("expect: 100-continue, x"), 417);
    refused("RFC 9110 §10.1.1", get("expect:"), 417);
    answered("RFC 9110 §10.1.1", "GET / HTTP/1.0\r\nexpect: x\r\n\r\n", &["GET / "]);
    answered("RFC 9110 §10.1.1", get("Expect: 100-Continue"), &["GET / "]);
    for option in ["content-length", "Transfer-Encoding", "close, host", "host"] {
        refused("RFC 9110 §7.6.1", get(&format!("connection: {option}")), 400);
    }
    for option in ["x", "te, x", "keep-alive", ",, close ,", ""] {
        answered("RFC 9110 §7.6.1", get(&format!("connection: {option}")), &["GET / "]);
    }
}

#[tokio::test(start_paused = true)]
async fn names_with_underscores_can_be_left_out() {
    let fields = handler_fn(async |req: Request| {
        let names = req.head().fields().map(|(name, _)| String::from_utf8_lossy(name).into_owned());
        Response::new(names.collect::<Vec<_>>().join(" "))
    });
    let handler = std::sync::Arc::new(fields);
    for (drop, seen) in [(false, "host X_y x-z content_length"), (true, "host x-z")] {
        let mut settings = Settings::default();
        settings.drop_underscore_fields = drop;
        let mut peer = Peer::with(handler.clone(), settings);
        let input = "GET / HTTP/1.1\r\nhost: a\r\nX_y: 1\r\nx-z: 2\r\ncontent_length: 3\r\n\r\n";
        peer.send(input).await;
        let answer = peer.receive().await;
        assert!(answer.ends_with(&format!("\r\n\r\n{seen}")), "{answer}");
    }
}
