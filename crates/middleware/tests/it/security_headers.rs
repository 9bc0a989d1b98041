//! Fields that make browsers careful.

use std::{sync::Arc, time::Duration};

use hearth_http_core::{Body, ConnectionInfo, HeaderValue, Request, Response, TlsInfo, header};
use hearth_middleware::{SecurityHeaders, StrictTransport};

use crate::{around, field, get};

#[tokio::test]
async fn security_headers() {
    let strict = StrictTransport {
        max_age: Duration::from_millis(600_999),
        subdomains: true,
        preload: false,
    };
    let policy = SecurityHeaders::new()
        .content_security_policy("default-src 'self'")
        .expect("a policy")
        .frame_options(Some(HeaderValue::from_static("DENY")))
        .referrer_policy(None)
        .strict_transport(strict);
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
    let request = get("/", &[]);
    let encrypted = app.run(Request::new(request.head().clone(), Body::Empty, tls)).await;
    let hsts = field(&encrypted, "strict-transport-security");
    assert_eq!(hsts, Some("max-age=600; includeSubDomains"));
    assert!(SecurityHeaders::new().content_security_policy("a\nb").is_err());
}

#[tokio::test]
async fn strict_transport_alone() {
    let strict =
        StrictTransport { max_age: Duration::from_secs(9), subdomains: false, preload: true };
    let app = around(SecurityHeaders::none().strict_transport(strict), |_| Response::text("ok"));
    let tls = Arc::new(ConnectionInfo::default().with_tls(TlsInfo::default()));
    let request = get("/", &[]);
    let response = app.run(Request::new(request.head().clone(), Body::Empty, tls)).await;
    assert_eq!(field(&response, "strict-transport-security"), Some("max-age=9; preload"));
    assert_eq!(field(&response, "x-content-type-options"), None);
}
