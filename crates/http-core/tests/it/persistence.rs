//! How long a connection lasts: RFC 9112 §9.

use std::time::Duration;

use hearth_http_core::{Request, Response, Settings, TokioWatch, handler_fn, header};

use crate::support::{Echo, Peer};

/// Sends a request with this line and these fields; answers the response's head, and whether a
/// second request is answered.
async fn twice(line: &str, fields: &str) -> (String, bool) {
    let mut peer = Peer::new(Echo::default());
    peer.send(format!("{line}\r\nhost: a\r\n{fields}\r\n")).await;
    let first = peer.receive().await;
    let second = "GET /2 HTTP/1.1\r\nhost: a\r\n\r\n";
    let sent = tokio::io::AsyncWriteExt::write_all(&mut peer.io, second.as_bytes()).await;
    let second = if sent.is_ok() { peer.receive().await } else { String::new() };
    let head = first.split_once("\r\n\r\n").expect("a response").0;
    (head.to_lowercase(), !second.is_empty())
}

#[tokio::test(start_paused = true)]
async fn the_peer_decides() {
    for (line, fields, persists) in [
        ("GET / HTTP/1.1", "", true),
        ("GET / HTTP/1.1", "connection: keep-alive\r\n", true),
        ("GET / HTTP/1.1", "connection: Close\r\n", false),
        ("GET / HTTP/1.1", "connection: x, close\r\n", false),
        ("GET / HTTP/1.1", "connection: x\r\nconnection: close\r\n", false),
        ("GET / HTTP/1.1", "connection: keep-alive, close\r\n", false),
        ("GET / HTTP/1.1", "connection: closed\r\n", true),
        ("GET / HTTP/1.1", "x: close\r\n", true),
        ("GET / HTTP/1.0", "", false),
        ("GET / HTTP/1.0", "connection: keep-alive\r\n", true),
        ("GET / HTTP/1.0", "connection: Keep-Alive\r\n", true),
        ("GET / HTTP/1.0", "connection: keep-alive, close\r\n", false),
        ("GET / HTTP/1.0", "connection: x\r\n", false),
    ] {
        let (head, again) = twice(line, fields).await;
        assert_eq!(again, persists, "{line} {fields:?}");
        assert!(head.starts_with("http/1.1 200 "), "{head}");
        assert_eq!(head.contains("\r\nconnection: close"), !persists, "{line} {fields:?}: {head}");
        // RFC 9112 §9.3: an HTTP/1.0 peer must be told that the connection stays.
        let told = head.contains("\r\nconnection: keep-alive");
        assert_eq!(told, persists && line.ends_with("1.0"), "{line} {fields:?}: {head}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_handler_may_close() {
    let handler = handler_fn(async |_| {
        Response::text("bye").with_header(header::CONNECTION, "x, Close".parse().unwrap())
    });
    let mut peer = Peer::new(handler);
    peer.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n".repeat(2)).await;
    let answer = peer.receive_all().await;
    assert_eq!(answer.matches("HTTP/1.1 200 OK").count(), 1, "{answer}");
    assert_eq!(answer.matches("connection: ").count(), 1, "{answer}");
    assert!(answer.contains("\r\nconnection: close\r\n"), "{answer}");
}

#[tokio::test(start_paused = true)]
async fn requests_per_connection_are_limited() {
    let mut settings = Settings::default();
    settings.limits.requests_per_connection_max = 3;
    let echo = Echo::default();
    let mut peer = Peer::with(echo.clone(), settings);
    peer.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n".repeat(5)).await;
    let answer = peer.receive_all().await;
    assert_eq!(answer.matches("HTTP/1.1 200 OK").count(), 3, "{answer}");
    assert_eq!(answer.matches("connection: close").count(), 1, "{answer}");
    assert_eq!(echo.calls(), 3);
}

#[tokio::test(start_paused = true)]
async fn old_connections_end() {
    let mut peer = Peer::new(Echo::default());
    let get = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";
    for minute in 0..53 {
        peer.send(get).await;
        let answer = peer.receive().await;
        assert!(!answer.contains("connection"), "minute {minute}: {answer}");
        tokio::time::sleep(Duration::from_secs(60)).await;
    }
    for _ in 0..14 {
        peer.send(get).await;
        if peer.receive().await.contains("connection: close") {
            return assert!(peer.ended().await.is_ok());
        }
        tokio::time::sleep(Duration::from_secs(60)).await;
    }
    panic!("it is older than 66 minutes");
}

#[tokio::test(start_paused = true)]
async fn pipelined_requests_are_answered_in_order() {
    let mut settings = Settings::default();
    settings.limits.pipeline_depth_max = 4;
    let handler = handler_fn(async |req: Request| {
        // The first takes longest.
        let wait = req.path().len() as u64;
        if wait > 2 {
            tokio::time::sleep(Duration::from_secs(wait)).await;
        }
        Response::new(req.path().to_owned())
    });
    let mut peer = Peer::with(handler, settings);
    let paths = ["/aaa", "/aa", "/a", "/", "/bbbb", "/b"];
    let requests = paths.map(|path| format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n"));
    peer.send(requests.concat()).await;
    peer.half_close().await;
    let answer = peer.receive_all().await;
    let bodies: Vec<_> = answer
        .split("HTTP/1.1 200 OK\r\n")
        .filter_map(|r| Some(r.split_once("\r\n\r\n")?.1))
        .collect();
    assert_eq!(bodies, paths);
}

#[tokio::test(start_paused = true)]
async fn finished_responses_do_not_wait_for_a_slow_handler() {
    let handler = handler_fn(async |req: Request| {
        if req.path() == "/slow" {
            std::future::pending::<()>().await;
        }
        Response::new("fast")
    });
    let mut peer = Peer::new(handler);
    peer.send("GET / HTTP/1.1\r\nhost: a\r\n\r\nGET /slow HTTP/1.1\r\nhost: a\r\n\r\n").await;
    assert!(peer.receive().await.ends_with("fast"));
}

#[tokio::test(start_paused = true)]
async fn a_peer_may_close_its_direction_first() {
    let handler = handler_fn(async |_| {
        tokio::time::sleep(Duration::from_secs(3)).await;
        Response::new("late")
    });
    let mut peer = Peer::new(handler);
    peer.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n".repeat(2)).await;
    peer.half_close().await;
    let answer = peer.receive_all().await;
    assert_eq!(answer.matches("late").count(), 2, "{answer}");
    assert_eq!(answer.matches("connection: close").count(), 1, "{answer}");
}

#[tokio::test(start_paused = true)]
async fn a_drain_ends_connections_in_good_order() {
    let (order, drain) = tokio::sync::watch::channel(false);
    let peer = |handler: Echo| {
        Peer::watched(handler, Settings::default(), TokioWatch::with_drain(drain.clone()), 1 << 16)
    };
    let get = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";
    let (mut idle, mut new, mut silent, mut half) = (
        peer(Echo::default()),
        peer(Echo::default()),
        peer(Echo::default()),
        peer(Echo::default()),
    );
    idle.send(get).await;
    assert!(idle.receive().await.contains("200 OK"));
    half.send(&get[..10]).await;
    tokio::time::sleep(Duration::from_millis(1)).await;

    order.send(true).unwrap();
    let start = tokio::time::Instant::now();
    assert_eq!(idle.receive_all().await, "", "an idle connection is closed at once");
    assert_eq!(start.elapsed(), Duration::ZERO);
    new.send(get).await;
    let answer = new.receive_all().await;
    assert!(answer.contains("200 OK") && answer.contains("connection: close"), "{answer}");
    half.send(&get[10..]).await;
    let answer = half.receive_all().await;
    assert!(answer.contains("200 OK") && answer.contains("connection: close"), "{answer}");
    assert_eq!(silent.receive_all().await, "");
    assert_eq!(start.elapsed(), Duration::from_secs(1), "a new connection gets a moment");
}
