//! Redirects (RFC 9110 §15.4): off unless asked for, and careful then.

use std::sync::{Arc, Mutex};

use hearth_http_client::{ClientRequest, ErrorKind};
use hearth_http_core::Body;
use http::{HeaderValue, Method, header};

use crate::support::{Memory, client, client_with};

type Log = Arc<Mutex<Vec<String>>>;

/// A peer for all origins: `/NNN/x` is a redirect of status NNN to `location`, anything else is 200.
fn redirecting(location: &'static str) -> (Arc<Memory>, Log) {
    let log = Log::default();
    let seen = log.clone();
    let memory = Memory::new(move |_, mut peer| {
        let log = log.clone();
        async move {
            while let Some(head) = peer.next_head().await {
                let length = head.split("content-length: ").nth(1).and_then(|s| s.lines().next());
                let content =
                    peer.content(length.map_or(0, |text| text.parse().expect("length"))).await;
                let mut seen = head.clone();
                seen.push_str(&String::from_utf8_lossy(&content));
                log.lock().expect("log").push(seen);
                let path = head.split(' ').nth(1).unwrap_or_default();
                match path.get(1..4).and_then(|code| code.parse::<u16>().ok()) {
                    Some(code) => {
                        let head = format!("HTTP/1.1 {code} x\r\nlocation: {location}\r\n");
                        peer.send(format!("{head}content-length: 4\r\n\r\ngone")).await;
                    }
                    None => peer.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await,
                }
            }
        }
    });
    (memory, seen)
}

fn request(method: Method, url: &str) -> ClientRequest {
    let secret = |text| HeaderValue::from_static(text);
    ClientRequest::new(method, url)
        .expect("request")
        .with_header(header::AUTHORIZATION, secret("secret"))
        .with_header(header::COOKIE, secret("secret"))
        .with_header(header::CONTENT_TYPE, secret("text/plain"))
        .with_header(header::ACCEPT, secret("text/html"))
}

#[tokio::test]
async fn methods_and_content() {
    for (status, method, want, has_content) in [
        (301, Method::GET, "GET", true),
        (301, Method::POST, "GET", false),
        (301, Method::PUT, "PUT", true),
        (302, Method::POST, "GET", false),
        (302, Method::DELETE, "DELETE", true),
        (303, Method::GET, "GET", true),
        (303, Method::POST, "GET", false),
        (303, Method::PUT, "GET", false),
        (307, Method::POST, "POST", true),
        (308, Method::POST, "POST", true),
        (308, Method::PATCH, "PATCH", true),
    ] {
        let (memory, log) = redirecting("../end?x#y");
        let url = format!("http://a.test/{status}/x");
        let request = request(method.clone(), &url).with_body("content").with_redirects_max(1);
        let response = client(&memory).send(request).await.expect("response");
        assert_eq!((response.status().as_u16(), &*response.url()), (200, "http://a.test/end?x"));
        let log = log.lock().expect("log");
        let name = format!("{status} {method}: {log:?}");
        let last = log.last().expect("request");
        assert!(last.starts_with(&format!("{want} /end?x HTTP/1.1\r\n")), "{name}");
        assert_eq!(last.ends_with("content"), has_content, "{name}");
        assert_eq!(last.contains("content-type"), has_content, "{name}");
        assert!(last.contains("authorization: secret"), "the same origin: {name}");
        assert_eq!(memory.dialed(), 1, "the connection is used again: {name}");
    }
}

#[tokio::test]
async fn credentials_stay_with_their_origin() {
    for (location, stays) in [
        ("http://a.test:80/end", true),
        ("//A.test/end", true),
        ("http://a.test:81/end", false),
        ("http://b.test/end", false),
        ("//a.test.evil.test/end", false),
    ] {
        let (memory, log) = redirecting(location);
        let request = request(Method::GET, "http://a.test/307/x").with_redirects_max(3);
        let request = request.with_header(header::HOST, HeaderValue::from_static("secret"));
        client(&memory).send(request).await.expect("response");
        let log = log.lock().expect("log");
        assert!(log[0].matches("secret").count() == 3 && log.len() == 2, "{location}");
        assert_eq!(log[1].matches("secret").count(), if stays { 3 } else { 0 }, "{location}");
        assert!(log[1].contains("accept: text/html"), "{location}");
    }
}

#[tokio::test]
async fn what_is_not_followed() {
    let stream = Body::from_http_body(Body::from("content"));
    for (name, location, status, request) in [
        ("off by default", "/end", 302, request(Method::GET, "http://a.test/302/x")),
        (
            "not modified",
            "/end",
            304,
            request(Method::GET, "http://a.test/304/x").with_redirects_max(1),
        ),
        ("choices", "/end", 300, request(Method::GET, "http://a.test/300/x").with_redirects_max(1)),
        (
            "content that is gone",
            "/end",
            307,
            request(Method::PUT, "http://a.test/307/x").with_redirects_max(1).with_body(stream),
        ),
    ] {
        // A stream is sent chunked, which this peer does not read: one request is all there is.
        let memory = Memory::new(move |_, mut peer| async move {
            peer.head().await;
            let head = format!("HTTP/1.1 {status} x\r\nlocation: {location}\r\n");
            peer.send(format!("{head}content-length: 0\r\n\r\n")).await;
        });
        let response = client(&memory).send(request).await.expect(name);
        assert_eq!(response.status().as_u16(), status, "{name}");
    }
}

#[tokio::test]
async fn what_is_refused() {
    for (location, what) in [
        ("/302/again", "too many redirects"),
        ("ftp://a.test/", "the redirect's location is malformed"),
        ("http://u:p@a.test/", "the redirect's location is malformed"),
    ] {
        let (memory, log) = redirecting(location);
        let client = client_with(&memory, |options| options.redirects_max = 5);
        let request = request(Method::GET, "http://a.test/302/x");
        let error = client.send(request).await.expect_err(location);
        assert_eq!(error.kind(), ErrorKind::Redirect, "{location}");
        assert_eq!(error.to_string(), format!("a.test: {what}"));
        let count = if location.starts_with('/') { 6 } else { 1 };
        assert_eq!(log.lock().expect("log").len(), count, "{location}");
    }
}
