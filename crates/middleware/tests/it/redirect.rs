//! Redirects.

use std::sync::Arc;

use hearth_http_core::{
    Body, ConnectionInfo, Head, HeadBuilder, Method, Request, Response, StatusCode, TlsInfo,
    Version,
};
use hearth_middleware::{HttpsOnly, InvalidRedirect, Redirects};

use crate::{around, field, get};

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
