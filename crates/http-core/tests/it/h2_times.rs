//! Timeouts, by a clock that stands still unless everybody waits.

use std::time::Duration;

use hearth_http_core::{Abuse, ConnectionError, Settings};
use tokio::time::Instant;

use crate::h2_support::{Client, Frame, Raw, Server, kind, settings};

/// The code of the last GOAWAY, and after how many seconds the connection ended.
async fn outlast(raw: &mut Raw) -> (Option<u32>, u64) {
    let start = Instant::now();
    let frames = raw.rest().await;
    let seconds = start.elapsed().as_secs();
    (frames.iter().rfind(|frame| frame.kind == kind::GOAWAY).map(Frame::code), seconds)
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_says_nothing() {
    let (server, io) = Server::start(Settings::default());
    let mut raw = Raw { io };
    let (_, seconds) = outlast(&mut raw).await;
    assert!((30..33).contains(&seconds), "{seconds}");
    drop(raw);
    assert!(server.end().await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_never_asks() {
    let (server, io) = Server::start(Settings::default());
    let mut raw = Raw::connect(io).await;
    let (code, seconds) = outlast(&mut raw).await;
    assert!(code == Some(0) && (30..33).contains(&seconds), "{code:?} {seconds}");
    drop(raw);
    assert!(server.end().await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_is_closed_in_good_order() {
    let (server, io) = Server::start(Settings::default());
    let mut raw = Raw::connect(io).await;
    raw.probe(1).await;
    let (code, seconds) = outlast(&mut raw).await;
    assert!(code == Some(0) && (75..78).contains(&seconds), "{code:?} {seconds}");
    drop(raw);
    assert!(server.end().await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn frames_that_do_not_end() {
    let whole = Frame::get(3, "/").bytes();
    let unfinished = Frame { flags: 1, ..Frame::get(3, "/") }.bytes();
    for bytes in [&whole[..5], &whole[..20], &unfinished[..]] {
        let (server, io) = Server::start(Settings::default());
        let mut raw = Raw::connect(io).await;
        raw.probe(1).await;
        raw.send_bytes(bytes).await;
        let (code, seconds) = outlast(&mut raw).await;
        assert!(code == Some(11) && (10..13).contains(&seconds), "{code:?} {seconds}");
        assert_eq!(server.log.abuses(), [Abuse::SlowFrame]);
    }
}

#[tokio::test(start_paused = true)]
async fn content_that_does_not_come() {
    let (server, io) = Server::start(Settings::default());
    let mut raw = Raw::connect(io).await;
    raw.send(Frame::post(1, "/length")).await;
    let start = Instant::now();
    let response = raw.until(&[kind::HEADERS]).await;
    assert_eq!(response.status(), 408);
    // Slower than the least pace counts before silence does.
    assert!((5..31).contains(&start.elapsed().as_secs()), "{:?}", start.elapsed());
    assert_eq!(raw.probe(3).await, 200);
    drop(server);
}

#[tokio::test(start_paused = true)]
async fn content_that_dribbles() {
    let (_server, io) = Server::start(Settings::default());
    let mut raw = Raw::connect(io).await;
    raw.send(Frame::post(1, "/length")).await;
    let start = Instant::now();
    let status = loop {
        // An octet each second, until the server has enough of it.
        raw.send(Frame::new(kind::DATA, 0, 1, [b'x'])).await;
        match tokio::time::timeout(Duration::from_secs(1), raw.next()).await {
            Ok(Some(frame)) if frame.kind == kind::HEADERS => break frame.status(),
            Ok(frame) => assert!(frame.is_some(), "the connection stays"),
            Err(_) => assert!(start.elapsed() < Duration::from_secs(100)),
        }
    };
    assert_eq!(status, 408);
    assert!((5..11).contains(&start.elapsed().as_secs()), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_never_answers() {
    let limit = settings(|s| s.limits.handler_timeout = Some(Duration::from_secs(3)));
    let (_server, io) = Server::start(limit);
    let mut client = Client::connect(io).await;
    let start = Instant::now();
    assert_eq!(client.get("/never").await.status, 503);
    assert_eq!(start.elapsed().as_secs(), 3);
    assert_eq!(client.get("/after/2").await.status, 200);
    assert_eq!(client.get("/after/4").await.status, 503);
}

#[tokio::test(start_paused = true)]
async fn a_quiet_source_is_no_stall() {
    let (_server, io) = Server::start(Settings::default());
    let mut client = Client::connect(io).await;
    let response = client.request(crate::h2_support::get("/quiet"), b"").await.unwrap();
    let mut body = response.into_body();
    assert_eq!(body.data().await.unwrap().unwrap().len(), 5);
    let quiet = tokio::time::timeout(Duration::from_secs(3000), body.data()).await;
    assert!(quiet.is_err(), "the stream is still open");
    assert_eq!(client.get("/").await.status, 200);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_vanished_is_noticed() {
    let (server, io) = Server::start(Settings::default());
    let mut raw = Raw::connect(io).await;
    raw.send(Frame::get(1, "/never")).await;
    let start = Instant::now();
    raw.until(&[kind::PING]).await;
    assert_eq!(start.elapsed().as_secs(), 30);
    let ended = server.end().await;
    assert!(matches!(ended, Err(ConnectionError::PeerGone)), "{ended:?}");
    assert!((40..42).contains(&start.elapsed().as_secs()), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn an_old_connection_ends_after_its_streams() {
    let (server, io) = Server::start(Settings::default());
    let mut client = Client::connect(io).await;
    let start = Instant::now();
    assert_eq!(client.get("/after/5000").await.text(), "at last");
    assert!(client.task.await.unwrap().is_ok());
    assert!(start.elapsed() < Duration::from_secs(5003));
    assert!(server.end().await.is_ok());
}
