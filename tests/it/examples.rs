//! Every example starts and does what it says.

use std::fs;

use hearth_e2e::{h1::Client, h2};
use http::Method;
use tempfile::TempDir;

use crate::servers;

fn referee_root() -> TempDir {
    let root = TempDir::new().expect("a folder");
    fs::create_dir_all(root.path().join("s")).expect("a folder");
    fs::create_dir_all(root.path().join("z")).expect("a folder");
    fs::write(root.path().join("s/1k.html"), "x".repeat(1024)).expect("a file");
    fs::write(root.path().join("s/100k.bin"), vec![7; 100 << 10]).expect("a file");
    fs::write(root.path().join("z/data.json"), format!("[{}1]", "1,".repeat(50_000)))
        .expect("a file");
    root
}

#[test]
fn the_referee_answers_what_suites_ask() {
    let root = referee_root();
    let server = servers::referee(root.path(), &[]);
    let mut client = Client::connect(server.address()).expect("a connection");
    let rows = [
        ("/plaintext", 200, Some("Hello, World!"), "text/plain"),
        ("/json", 200, Some(r#"{"message":"Hello, World!"}"#), "application/json"),
        ("/users/123", 200, Some("123"), "text/plain"),
        ("/s/1k.html", 200, None, "text/html"),
        ("/s/100k.bin", 200, None, "application/octet-stream"),
        ("/nowhere", 404, None, ""),
    ];
    for (target, status, body, kind) in rows {
        let answer = client.get(target).expect(target);
        assert_eq!(answer.status, status, "{target}");
        if let Some(body) = body {
            assert_eq!(String::from_utf8_lossy(&answer.body), body, "{target}");
        }
        assert!(answer.field("content-type").unwrap_or_default().starts_with(kind), "{target}");
    }
    assert!(client.get("/").expect("the start").body.len() >= 4);
    for encoding in ["gzip", "br", "zstd"] {
        let request = "GET /z/data.json HTTP/1.1\r\nhost: localhost\r\naccept-encoding: ";
        client.send(&format!("{request}{encoding}\r\n\r\n")).expect("a request");
        let answer = client.read(false).expect(encoding);
        assert_eq!(answer.field("content-encoding"), Some(encoding));
        assert!(answer.body.len() < 60_000, "{encoding}: {} bytes", answer.body.len());
    }
    client.send("GET / HTTP/1.1\r\nhost: alt.test\r\n\r\n").expect("a request");
    assert!(client.read(false).expect("the second site").body.starts_with(b"ALT"));
    client
        .send("POST /echo HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n")
        .expect("a request");
    assert_eq!(client.read(false).expect("the echo").body, b"hello");
}

#[tokio::test]
async fn the_referee_echoes_over_h2() {
    let root = referee_root();
    let server = servers::referee(root.path(), &[]);
    let config = server.certificate.client("h2").expect("TLS settings");
    for (address, tls) in [(server.address(), None), (server.tls, Some(config))] {
        let client = h2::Client::connect(address, tls).await.expect("a connection");
        let content = bytes::Bytes::from(vec![b'e'; 300_000]);
        let answer = client.request(Method::POST, "/echo", &[], content.clone()).await;
        assert!(answer.expect("the echo").body == content, "the echo differs");
    }
}
