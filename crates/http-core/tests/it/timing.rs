//! Limits of time: each on a clock that stands still until a test moves it.

use std::time::Duration;

use hearth_http_core::{ConnectionError, Request, Response, Settings, TokioWatch, handler_fn};
use tokio::time::{Instant, sleep};

use crate::support::{Echo, Peer};

const GET: &str = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

/// Reads until the connection closes; answers what came and how long it took.
async fn until_closed(peer: &mut Peer) -> (String, Duration) {
    let start = Instant::now();
    let answer = peer.receive_all().await;
    (answer, start.elapsed())
}

#[tokio::test(start_paused = true)]
async fn silence() {
    let mut peer = Peer::new(Echo::default());
    assert_eq!(
        until_closed(&mut peer).await,
        (String::new(), seconds(30)),
        "first_request_timeout"
    );
    let mut peer = Peer::new(Echo::default());
    for _ in 0..3 {
        sleep(seconds(29)).await;
        peer.send(GET).await;
        assert!(peer.receive().await.contains("200 OK"));
        sleep(seconds(40)).await;
        peer.send(GET).await;
        assert!(peer.receive().await.contains("200 OK"));
    }
    let (answer, time) = until_closed(&mut peer).await;
    assert_eq!(answer, "");
    assert!(time > seconds(74) && time <= seconds(75), "idle_timeout: {time:?}");
    assert!(peer.ended().await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn slow_heads() {
    // Typed by hand: no faster than 256 bytes per second, but done in time.
    let mut peer = Peer::new(Echo::default());
    let start = Instant::now();
    for byte in GET.bytes() {
        tokio::io::AsyncWriteExt::write_all(&mut peer.io, &[byte]).await.expect("no end yet");
        sleep(Duration::from_millis(300)).await;
    }
    assert!(peer.receive().await.contains("200 OK"), "head_rate_grace");
    assert!(start.elapsed() > seconds(7) && start.elapsed() < seconds(10));
    // Slowloris: a byte now and then.
    let mut peer = Peer::new(Echo::default());
    let start = Instant::now();
    for byte in GET.bytes() {
        if tokio::io::AsyncWriteExt::write_all(&mut peer.io, &[byte]).await.is_err() {
            break;
        }
        sleep(seconds(1)).await;
    }
    let answer = peer.receive_all().await;
    assert!(answer.starts_with("HTTP/1.1 408 Request Timeout\r\n"), "{answer}");
    assert!(answer.contains("connection: close"), "{answer}");
    assert!(start.elapsed() < seconds(36), "{:?}", start.elapsed());
    let echo = Echo::default();
    // At the least rate, but without an end.
    let mut peer = Peer::new(echo.clone());
    let begin = Instant::now();
    peer.send("GET / HTTP/1.1\r\nx: ").await;
    let mut closed = None;
    for _ in 0..600 {
        if tokio::io::AsyncWriteExt::write_all(&mut peer.io, &[b'y'; 30]).await.is_err() {
            closed = Some(begin.elapsed());
            break;
        }
        sleep(Duration::from_millis(100)).await;
    }
    assert!(peer.receive_all().await.starts_with("HTTP/1.1 408 "));
    assert!(closed.is_some_and(|after| after > seconds(40) && after <= seconds(46)), "{closed:?}");
    assert_eq!(echo.calls(), 0);
    // A second head on the same connection has its own time.
    let mut peer = Peer::new(Echo::default());
    peer.send(GET).await;
    assert!(peer.receive().await.contains("200 OK"));
    sleep(seconds(20)).await;
    peer.send(&GET[..20]).await;
    sleep(Duration::from_millis(900)).await;
    peer.send(&GET[20..]).await;
    assert!(peer.receive().await.contains("200 OK"));
}

#[tokio::test(start_paused = true)]
async fn slow_bodies() {
    let post =
        |length: usize| format!("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: {length}\r\n\r\n");
    // Nothing comes.
    let mut peer = Peer::new(Echo::default());
    peer.send(post(10)).await;
    let start = Instant::now();
    let answer = peer.receive_all().await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert!(
        start.elapsed() >= seconds(30) && start.elapsed() <= seconds(36),
        "{:?}",
        start.elapsed()
    );
    // Drops.
    let mut peer = Peer::new(Echo::default());
    peer.send(post(1000)).await;
    let start = Instant::now();
    for _ in 0..100 {
        if tokio::io::AsyncWriteExt::write_all(&mut peer.io, b"x").await.is_err() {
            break;
        }
        sleep(Duration::from_millis(200)).await;
    }
    let answer = peer.receive_all().await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert!(start.elapsed() < seconds(26), "{:?}", start.elapsed());
    // Slow, but not too slow; and a handler that takes its time is not the peer's fault.
    let handler = handler_fn(async |mut req: Request| {
        sleep(seconds(100)).await;
        Response::new(req.take_body().collect(1 << 20).await.unwrap().len().to_string())
    });
    let mut peer = Peer::new(handler);
    peer.send(post(20_000)).await;
    sleep(seconds(99)).await;
    for _ in 0..20 {
        peer.send([b'x'; 1000]).await;
        sleep(Duration::from_millis(800)).await;
    }
    assert!(peer.receive().await.ends_with("\r\n\r\n20000"));
}

#[tokio::test(start_paused = true)]
async fn peers_that_take_nothing() {
    let handler = || handler_fn(async |_| Response::new(vec![b'x'; 100_000]));
    let mut peer = Peer::watched(handler(), Settings::default(), TokioWatch::new(), 1000);
    peer.send(GET).await;
    sleep(seconds(29)).await;
    // A little progress is progress.
    let mut some = [0; 500];
    tokio::io::AsyncReadExt::read_exact(&mut peer.io, &mut some).await.unwrap();
    let start = Instant::now();
    let end = peer.served.await.unwrap();
    assert!(matches!(end, Err(ConnectionError::Timeout(_))), "{end:?}");
    assert_eq!(start.elapsed(), seconds(30));
}

#[tokio::test(start_paused = true)]
async fn lingering_ends() {
    let mut peer = Peer::new(Echo::default());
    peer.send("BAD\r\n\r\n").await;
    let start = Instant::now();
    assert!(peer.receive_all().await.starts_with("HTTP/1.1 400 "));
    assert_eq!(start.elapsed(), Duration::ZERO, "the answer and the end of stream come at once");
    // A peer that goes on sending is listened to, not for ever.
    let _ = peer.send("x".repeat(100_000)).await;
    let _ = peer.served.await.unwrap();
    assert_eq!(start.elapsed(), seconds(5));
}
