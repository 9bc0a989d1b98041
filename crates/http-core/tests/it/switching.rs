//! Switches of protocol: RFC 9110 §7.8.

use hearth_http_core::{Request, Response, Settings, handler_fn};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{Echo, Peer};

async fn switch(req: Request) -> Response {
    if req.path() == "/bare" {
        return Response::status_only(http::StatusCode::SWITCHING_PROTOCOLS);
    }
    Response::upgrade("chat".parse().unwrap(), async |mut io| {
        let mut word = [0; 5];
        io.read_exact(&mut word).await.unwrap();
        word.reverse();
        io.write_all(&word).await.unwrap();
    })
}

fn upgrade(path: &str, fields: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: a\r\n{fields}\r\n")
}

const OFFER: &str = "connection: keep-alive, Upgrade\r\nupgrade: x, Chat\r\n";

#[tokio::test(start_paused = true)]
async fn the_handler_gets_the_stream() {
    let head = "HTTP/1.1 101 Switching Protocols\r\nupgrade: chat\r\nconnection: upgrade\r\n\r\n";
    let mut peer = Peer::new(handler_fn(switch));
    peer.send(upgrade("/", OFFER)).await;
    assert_eq!(peer.receive().await, head);
    peer.send("hello").await;
    assert_eq!(peer.receive_all().await, "olleh");
    assert!(peer.ended().await.is_ok());
    // Bytes that came behind the request belong to the new protocol.
    let mut peer = Peer::new(handler_fn(switch));
    peer.send(upgrade("/", OFFER) + "he").await;
    peer.send("llo").await;
    assert_eq!(peer.receive_all().await, format!("{head}olleh"));
    // But not the body, which is the request's (Pingora, CVE-2026-2833).
    let mut peer = Peer::new(handler_fn(switch));
    peer.send(upgrade("/", &format!("{OFFER}content-length: 3\r\n")) + "abchello").await;
    assert_eq!(peer.receive_all().await, format!("{head}olleh"));
}

#[tokio::test(start_paused = true)]
async fn only_what_was_offered() {
    for (path, fields) in [
        ("/", ""),
        ("/", "upgrade: chat\r\n"),
        ("/", "connection: upgrade\r\n"),
        ("/", "connection: upgrade\r\nupgrade: chat2\r\n"),
        ("/bare", OFFER),
    ] {
        let mut peer = Peer::new(handler_fn(switch));
        peer.send(upgrade(path, fields)).await;
        let answer = peer.receive().await;
        assert!(answer.starts_with("HTTP/1.1 500 "), "{path} {fields}: {answer}");
    }
    let mut peer = Peer::new(handler_fn(switch));
    peer.send(upgrade("/", OFFER).replace("HTTP/1.1", "HTTP/1.0")).await;
    assert!(peer.receive().await.starts_with("HTTP/1.1 500 "));
}

#[tokio::test(start_paused = true)]
async fn an_unwanted_offer_is_ignored() {
    let mut peer = Peer::new(Echo::default());
    for offer in
        [OFFER, "connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: \r\n"]
    {
        peer.send(upgrade("/", offer)).await;
        assert!(peer.receive().await.starts_with("HTTP/1.1 200 OK\r\n"));
    }
}

#[tokio::test(start_paused = true)]
async fn h2c_only_where_it_is_allowed() {
    let offer = "connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAAP__\r\n";
    let mut settings = Settings::default();
    settings.h2c_upgrade = true;
    for (fields, status) in [
        (offer.to_owned(), 101),
        (offer.replace("http2-settings: A", "x: A"), 200),
        (offer.replace(", http2-settings", ""), 200),
        (format!("{offer}http2-settings: AAMAAABk\r\n"), 200),
        (offer.replace("AAMAAABkAAQAAP__", "!"), 200),
        (format!("{offer}content-length: 1\r\n"), 200),
    ] {
        let mut peer = Peer::with(Echo::default(), settings.clone());
        let body = if fields.contains("content-length") { "x" } else { "" };
        peer.send(upgrade("/", &fields) + body).await;
        let answer = peer.receive().await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{fields}: {answer}");
    }
    let mut peer = Peer::with(Echo::default(), settings);
    peer.send(upgrade("/early", offer) + "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")
        .await;
    let mut all = Vec::new();
    while !all.ends_with(b"GET /early ") {
        assert_ne!(peer.io.read_buf(&mut all).await.unwrap(), 0, "{all:?}");
    }
    let head = b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n";
    assert!(all.starts_with(head));
}
