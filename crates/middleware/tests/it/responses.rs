//! Redirects, response fields, error pages, request ids.

use std::{collections::HashSet, sync::Arc};

use bytes::Bytes;
use hearth_http_core::{
    Body, ConnectionInfo, Head, HeadBuilder, HeaderName, HeaderValue, Method, Request, Response,
    StatusCode, TlsInfo, Version, header,
};
use hearth_middleware::{
    AssignRequestId, ErrorPages, HttpsOnly, InvalidRedirect, Redirects, RequestId, ResponseHeaders,
    SecurityHeaders,
};

use crate::{around, content, field, get};

#[tokio::test]
async fn redirects() {
    let rules = Redirects::new()
        .rule("/old", "/new", StatusCode::MOVED_PERMANENTLY)
        .and_then(|rules| rules.rule("/docs/*", "/book/*", StatusCode::PERMANENT_REDIRECT))
        .and_then(|rules| rules.rule("/out/*", "https://example.org/*", StatusCode::FOUND))
        .and_then(|rules| rules.rule("/all/*", "/", StatusCode::FOUND))
        .and_then(|rules| rules.rule("/q", "/r?x=1", StatusCode::FOUND))
        .and_then(|rules| rules.rule("/strip/*", "/*", StatusCode::FOUND))
        .expect("good rules");
    let app = around(rules, |_| Response::text("here"));
    for (target, status, location) in [
        ("/", 200, None),
        ("/old", 301, Some("/new")),
        ("/old?a=1", 301, Some("/new?a=1")),
        ("/old/", 200, None),
        ("/older", 200, None),
        ("/docs/a/b?c", 308, Some("/book/a/b?c")),
        ("/docs/", 308, Some("/book/")),
        ("/docs", 200, None),
        ("/out/a?b=c", 302, Some("https://example.org/a?b=c")),
        ("/all/x/y", 302, Some("/")),
        ("/q?y=2", 302, Some("/r?x=1")),
        ("/strip/a", 302, Some("/a")),
        ("/strip//evil.example", 302, Some("/evil.example")), // not to another host
        ("/strip/\\evil.example", 302, Some("/evil.example")),
    ] {
        let response = app.run(get(target, &[])).await;
        assert_eq!(response.status().as_u16(), status, "{target}");
        assert_eq!(field(&response, "location"), location, "{target}");
    }
}

#[test]
fn redirects_that_cannot_be() {
    let rule = |from: &str, to: &str, status: u16| {
        let status = StatusCode::from_u16(status).expect("a status");
        Redirects::new().rule(from, to, status).err()
    };
    let from = |text: &str| Some(InvalidRedirect::From(text.to_owned()));
    let to = |text: &str| Some(InvalidRedirect::To(text.to_owned()));
    assert_eq!(rule("old", "/new", 301), from("old"));
    assert_eq!(rule("", "/new", 301), from(""));
    assert_eq!(rule("/a/*/b", "/new", 301), from("/a/*/b"));
    assert_eq!(rule("/a?b", "/new", 301), from("/a?b"));
    assert_eq!(rule("/a", "", 301), to(""));
    assert_eq!(rule("/a", "/b c", 301), to("/b c"));
    assert_eq!(rule("/a", "/b\r\nx: y", 301), to("/b\r\nx: y"));
    assert_eq!(rule("/a", "/b/*", 301), to("/b/*"));
    assert_eq!(rule("/a/*", "/b/*/*", 301), to("/b/*/*"));
    assert_eq!(rule("/a", "/b", 200), Some(InvalidRedirect::Status(StatusCode::OK)));
    assert_eq!(rule("/a", "/b", 304), Some(InvalidRedirect::Status(StatusCode::NOT_MODIFIED)));
    assert_eq!(rule("/a", "/a?x", 301), Some(InvalidRedirect::Loop("/a".to_owned())));
    assert_eq!(rule("/a/*", "/a/b/*", 301), Some(InvalidRedirect::Loop("/a/*".to_owned())));
}

fn head(target: &str, host: Option<&str>) -> Head {
    let builder = HeadBuilder::new(Method::GET, target, Version::HTTP_11, Default::default());
    let builder = match host {
        Some(host) => builder.field(b"host", host.as_bytes()),
        None => builder,
    };
    builder.build().expect("a head")
}

#[tokio::test]
async fn https_only() {
    for (host, port, want) in [
        (Some("a.test"), 443, Some("https://a.test/x?y=1")),
        (Some("a.test:8080"), 443, Some("https://a.test/x?y=1")),
        (Some("a.test"), 8443, Some("https://a.test:8443/x?y=1")),
        (Some("[::1]:80"), 443, Some("https://[::1]/x?y=1")),
        (None, 443, None),
    ] {
        let app = around(HttpsOnly::new().port(port), |_| Response::text("here"));
        let plain = Request::new(head("/x?y=1", host), Body::Empty, Arc::default());
        let response = app.run(plain).await;
        assert_eq!(field(&response, "location"), want, "{host:?}");
        assert_eq!(response.status().as_u16(), if want.is_some() { 308 } else { 400 });
        let tls = Arc::new(ConnectionInfo::default().with_tls(TlsInfo::default()));
        let encrypted = Request::new(head("/x?y=1", host), Body::Empty, tls);
        assert_eq!(app.run(encrypted).await.status(), StatusCode::OK);
    }
}

#[tokio::test]
async fn response_fields() {
    let name = HeaderName::from_static;
    let value = HeaderValue::from_static;
    let edits = ResponseHeaders::new()
        .set(name("x-set"), value("1"))
        .and_then(|edits| edits.set_default(name("x-given"), value("ours")))
        .and_then(|edits| edits.set_default(name("x-absent"), value("ours")))
        .and_then(|edits| edits.append(name("x-more"), value("2")))
        .and_then(|edits| edits.remove(name("x-secret")))
        .expect("good fields");
    let app = around(edits, move |_| {
        ["x-set", "x-given", "x-more", "x-secret"]
            .into_iter()
            .fold(Response::text("ok"), |res, field| res.with_header(name(field), value("0")))
    });
    let response = app.run(get("/", &[])).await;
    assert_eq!(field(&response, "x-set"), Some("1"));
    assert_eq!(field(&response, "x-given"), Some("0"));
    assert_eq!(field(&response, "x-absent"), Some("ours"));
    assert_eq!(field(&response, "x-secret"), None);
    let more: Vec<_> = response.headers().get_all(&name("x-more")).cloned().collect();
    assert_eq!(more, ["0", "2"]);
    for framing in [header::CONTENT_LENGTH, header::TRANSFER_ENCODING, header::CONNECTION] {
        assert!(ResponseHeaders::new().set(framing.clone(), value("1")).is_err(), "{framing}");
    }
}

#[tokio::test]
async fn error_pages() {
    let html = HeaderValue::from_static("text/html");
    let pages = || {
        ErrorPages::new()
            .client_errors(html.clone(), Bytes::from_static(b"yours"))
            .page(StatusCode::NOT_FOUND, html.clone(), Bytes::from_static(b"nowhere"))
            .server_errors(html.clone(), Bytes::from_static(b"ours"))
    };
    type Make = fn() -> Response;
    let rows: [(Make, u16, &str); 7] = [
        (|| Response::status_text(StatusCode::NOT_FOUND), 404, "nowhere"),
        (|| Response::status_only(StatusCode::NOT_FOUND), 404, "nowhere"),
        (|| Response::status_text(StatusCode::FORBIDDEN), 403, "yours"),
        (|| Response::status_text(StatusCode::BAD_GATEWAY), 502, "ours"),
        (|| Response::text("not here").with_status(StatusCode::NOT_FOUND), 404, "not here"),
        (|| Response::html("<p>x").with_status(StatusCode::BAD_REQUEST), 400, "<p>x"),
        (|| Response::text("200 OK\n"), 200, "200 OK\n"),
    ];
    for (make, status, want) in rows {
        let response = around(pages(), move |_| make()).run(get("/", &[])).await;
        assert_eq!(response.status().as_u16(), status);
        let replaced = !want.contains(['<', ' ']);
        assert_eq!(field(&response, "content-type") == Some("text/html"), replaced, "{want}");
        assert_eq!(content(response).await, want.as_bytes());
    }
}

#[tokio::test]
async fn request_ids() {
    let mut seen = HashSet::new();
    let echo = |req: &Request| {
        let id = req.extensions().get::<RequestId>().expect("an id");
        Response::text(id.as_str().to_owned())
    };
    let app = around(AssignRequestId::new(), echo);
    let long = "x".repeat(129);
    for (sent, kept) in [
        (None, false),
        (None, false),
        (Some("abc-123"), true),
        (Some(""), false),
        (Some("a b"), false),
        (Some("a\"b"), false),
        (Some(long.as_str()), false),
    ] {
        let fields: Vec<_> = sent.iter().map(|id| ("x-request-id", *id)).collect();
        let response = app.run(get("/", &fields)).await;
        let id = field(&response, "x-request-id").expect("an id").to_owned();
        assert_eq!(sent == Some(&id), kept, "{sent:?}");
        assert!(kept || id.len() == 32);
        assert_eq!(content(response).await, id.as_bytes());
        assert!(seen.insert(id), "twice the same");
    }
    let app = around(AssignRequestId::new().always_new(), echo);
    let response = app.run(get("/", &[("x-request-id", "abc-123")])).await;
    assert_ne!(field(&response, "x-request-id"), Some("abc-123"));
}

#[tokio::test]
async fn security_headers() {
    let policy = SecurityHeaders::new()
        .content_security_policy("default-src 'self'")
        .expect("a policy")
        .frame_options(Some(HeaderValue::from_static("DENY")))
        .referrer_policy(None)
        .strict_transport(600, true);
    let app = around(policy, |req| match req.path() {
        "/own" => Response::text("ok")
            .with_header(header::X_FRAME_OPTIONS, HeaderValue::from_static("SAMEORIGIN")),
        _ => Response::text("ok"),
    });
    let response = app.run(get("/", &[])).await;
    assert_eq!(field(&response, "x-content-type-options"), Some("nosniff"));
    assert_eq!(field(&response, "x-frame-options"), Some("DENY"));
    assert_eq!(field(&response, "x-xss-protection"), Some("0"));
    assert_eq!(field(&response, "referrer-policy"), None);
    assert_eq!(field(&response, "content-security-policy"), Some("default-src 'self'"));
    assert_eq!(field(&response, "strict-transport-security"), None, "not over plain HTTP");
    let own = app.run(get("/own", &[])).await;
    assert_eq!(field(&own, "x-frame-options"), Some("SAMEORIGIN"));
    let tls = Arc::new(ConnectionInfo::default().with_tls(TlsInfo::default()));
    let encrypted = app.run(Request::new(head("/", None), Body::Empty, tls)).await;
    let hsts = field(&encrypted, "strict-transport-security");
    assert_eq!(hsts, Some("max-age=600; includeSubDomains"));
    assert!(SecurityHeaders::new().content_security_policy("a\nb").is_err());
}
