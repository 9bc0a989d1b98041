//! Bodies of requests, as handlers see them.

use std::time::Duration;

use hearth_http_core::{Body, BodyError, Request, Response, Settings, StatusCode, handler_fn};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{Echo, Peer, read};

fn post(fields: &str) -> String {
    format!("POST / HTTP/1.1\r\nhost: a\r\n{fields}\r\n")
}

const CONTINUE: &str = "HTTP/1.1 100 Continue\r\n\r\n";

#[tokio::test(start_paused = true)]
async fn large_uploads_arrive_whole() {
    for (fields, framed) in
        [("content-length: 1000003\r\n", false), ("transfer-encoding: chunked\r\n", true)]
    {
        let handler = handler_fn(async |mut req: Request| {
            let body = req.take_body().collect(2_000_000).await.unwrap();
            Response::new(format!(
                "{} {}",
                body.len(),
                body.iter().map(|&b| u64::from(b)).sum::<u64>()
            ))
        });
        let content: Vec<u8> = (0..1_000_003_u32).map(|n| (n % 251) as u8).collect();
        let mut peer =
            Peer::watched(handler, Settings::default(), hearth_http_core::TokioWatch::new(), 4000);
        let mut wire = post(fields).into_bytes();
        if framed {
            for chunk in content.chunks(70_001) {
                wire.extend_from_slice(format!("{:x};x=y\r\n", chunk.len()).as_bytes());
                wire.extend_from_slice(chunk);
                wire.extend_from_slice(b"\r\n");
            }
            wire.extend_from_slice(b"0\r\nx-sum: 1\r\n\r\n");
        } else {
            wire.extend_from_slice(&content);
        }
        peer.send(wire).await;
        let sum = content.iter().map(|&byte| u64::from(byte)).sum::<u64>();
        assert!(peer.receive().await.ends_with(&format!("\r\n\r\n1000003 {sum}")));
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_is_read_before_it_is_wanted() {
    let handler = handler_fn(async |mut req: Request| {
        tokio::time::sleep(Duration::from_secs(20)).await;
        Response::new(req.take_body().collect(1 << 20).await.unwrap().len().to_string())
    });
    let watch = hearth_http_core::TokioWatch::new();
    let mut peer = Peer::watched(handler, Settings::default(), watch, 1000);
    peer.send(post("content-length: 500000\r\n")).await;
    // The pipe and one read buffer take something; the rest has to wait, at no peril.
    let content = vec![b'x'; 500_000];
    let early = tokio::time::timeout(Duration::from_secs(10), peer.io.write_all(&content)).await;
    assert!(early.is_err(), "half a megabyte was taken from a handler that did not ask");
}

#[tokio::test(start_paused = true)]
async fn limits() {
    let check = |fields: &'static str, content: &'static str, want: &'static str| async move {
        let mut settings = Settings::default();
        settings.limits.body_bytes_max = 10;
        let mut peer = Peer::with(Echo::default(), settings);
        peer.send(post(fields) + content).await;
        let answer = peer.receive().await;
        assert!(answer.starts_with(want), "{fields} {content}: {answer}");
        assert_eq!(answer.contains("connection: close"), !want.contains("200"), "{answer}");
    };
    let (ok, large) = ("HTTP/1.1 200 OK", "HTTP/1.1 413 Payload Too Large");
    check("content-length: 10\r\n", "0123456789", ok).await;
    check("content-length: 11\r\n", "0123456789a", large).await;
    check("content-length: 11\r\n", "", large).await;
    check("content-length: 9999999999999999\r\n", "", large).await;
    // Nobody is asked to send what would be refused.
    check("expect: 100-continue\r\ncontent-length: 11\r\n", "", large).await;
    let chunked = "transfer-encoding: chunked\r\n";
    check(chunked, "a\r\n0123456789\r\n0\r\n\r\n", ok).await;
    check(chunked, "5\r\n01234\r\n5\r\n56789\r\n0\r\n\r\n", ok).await;
    check(chunked, "b\r\n0123456789a\r\n0\r\n\r\n", large).await;
    check(chunked, "5\r\n01234\r\n6\r\n56789a\r\n0\r\n\r\n", large).await;
    check(chunked, "5\r\n01234\r\n5\r\n56789\r\n1\r\na\r\n", large).await;
    check(chunked, "fffffffff\r\n01234567890", large).await;
}

#[tokio::test(start_paused = true)]
async fn a_handler_sets_its_own_limit() {
    let handler = handler_fn(async |mut req: Request| {
        let limit = req.path().trim_start_matches('/').parse().unwrap();
        req.body_mut().limit(limit);
        let seen = read(req.body_mut()).await;
        Response::new(seen.map_or_else(|error| error.to_string(), |body| body.len().to_string()))
    });
    let mut settings = Settings::default();
    settings.limits.body_bytes_max = 100;
    let mut peer = Peer::with(handler, settings);
    let content = "x".repeat(1000);
    peer.send(format!("POST /1000 HTTP/1.1\r\nhost: a\r\ncontent-length: 1000\r\n\r\n{content}"))
        .await;
    assert!(peer.receive().await.ends_with("\r\n\r\n1000"));
    peer.send(format!("POST /999 HTTP/1.1\r\nhost: a\r\ncontent-length: 1000\r\n\r\n{content}"))
        .await;
    assert!(peer.receive().await.starts_with("HTTP/1.1 413 "));
}

#[tokio::test(start_paused = true)]
async fn one_hundred_continue() {
    let expecting = post("expect: 100-continue\r\ncontent-length: 2\r\n");
    // Asked for, because the handler reads.
    let mut peer = Peer::new(Echo::default());
    peer.send(&expecting).await;
    assert_eq!(peer.receive().await, CONTINUE);
    peer.send("hi").await;
    assert!(peer.receive().await.ends_with("POST / hi"));
    // Not asked for, because the body is there already (RFC 9110 §10.1.1).
    peer.send(expecting.clone() + "hi").await;
    assert!(peer.receive().await.starts_with("HTTP/1.1 200 OK"));
    peer.send(post("expect: 100-continue\r\ntransfer-encoding: chunked\r\n")).await;
    assert_eq!(peer.receive().await, CONTINUE);
    peer.send("2\r\nhi\r\n0\r\n\r\n").await;
    assert!(peer.receive().await.ends_with("POST / hi"));
    // Not asked for, because there is none.
    peer.send(post("expect: 100-continue\r\ncontent-length: 0\r\n")).await;
    assert!(peer.receive().await.starts_with("HTTP/1.1 200 OK"));
    // Not asked for, because HTTP/1.0 knows no such thing.
    let mut peer = Peer::new(Echo::default());
    peer.send("POST / HTTP/1.0\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n").await;
    assert_eq!(peer.receive().await, "");
    peer.send("hi").await;
    assert!(peer.receive().await.starts_with("HTTP/1.1 200 OK"));
    // Not asked for, because the handler does not want it: then nobody knows what comes next.
    let mut peer = Peer::new(handler_fn(async |_| Response::status_only(StatusCode::FORBIDDEN)));
    peer.send(expecting).await;
    let answer = peer.receive().await;
    assert!(
        answer.starts_with("HTTP/1.1 403 ") && answer.contains("connection: close"),
        "{answer}"
    );
}

#[tokio::test(start_paused = true)]
async fn unread_bodies_are_drained_within_limits() {
    let ignores = || handler_fn(async |_| Response::new("no"));
    let next = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";
    for (fields, content, kept) in [
        ("content-length: 5000\r\n", "x".repeat(5000), true),
        ("content-length: 65536\r\n", "x".repeat(65536), true),
        ("content-length: 65537\r\n", "x".repeat(65537), false),
        (
            "transfer-encoding: chunked\r\n",
            format!("2000\r\n{}\r\n0\r\n\r\n", "x".repeat(0x2000)),
            true,
        ),
        (
            "transfer-encoding: chunked\r\n",
            format!("12000\r\n{}\r\n0\r\n\r\n", "x".repeat(0x12000)),
            false,
        ),
        (
            "transfer-encoding: chunked\r\n",
            format!("2000\r\n{}\r\nbad\r\n\r\n", "x".repeat(0x2000)),
            false,
        ),
    ] {
        let mut peer = Peer::new(ignores());
        let _ = peer.io.write_all((post(fields) + &content + next).as_bytes()).await;
        let _ = peer.half_close().await;
        let answer = peer.receive_all().await;
        let count = answer.matches("HTTP/1.1 200 OK").count();
        assert_eq!(count, if kept { 2 } else { 1 }, "{fields} {}", content.len());
    }
    // A body that does not come is waited for, but not for long.
    let mut peer = Peer::new(ignores());
    peer.send(post("content-length: 5\r\n") + "abc").await;
    let start = tokio::time::Instant::now();
    let answer = peer.receive_all().await;
    assert!(answer.ends_with("no"), "{answer}");
    assert_eq!(start.elapsed(), Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn a_large_unread_body_does_not_cost_the_response() {
    // Read on after the answer, else the reset would destroy it on its way (RFC 9112 §9.6).
    let peer = Peer::watched(
        handler_fn(async |_| Response::status_only(StatusCode::UNAUTHORIZED)),
        Settings::default(),
        hearth_http_core::TokioWatch::new(),
        4000,
    );
    let (mut read, mut write) = tokio::io::split(peer.io);
    let sender = tokio::spawn(async move {
        let sent = write.write_all(post("content-length: 3000000\r\n").as_bytes()).await;
        let all = write.write_all(&vec![b'x'; 3_000_000]).await;
        (sent.is_ok(), all.is_ok(), write)
    });
    let mut answer = Vec::new();
    read.read_to_end(&mut answer).await.unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 401 "));
    let (head, all, _write) = sender.await.unwrap();
    assert!(head && all, "the peer could send to its end");
    peer.served.abort();
}

#[tokio::test(start_paused = true)]
async fn trailers_are_kept_apart() {
    let handler = handler_fn(async |mut req: Request| {
        let mut seen = format!("{:?}", req.header("x-sum"));
        while let Some(frame) = req.body_mut().frame().await {
            match frame.unwrap().into_data() {
                Ok(data) => seen += std::str::from_utf8(&data).unwrap(),
                Err(frame) => seen += &format!("{:?}", frame.into_trailers().unwrap()),
            }
        }
        Response::new(seen)
    });
    let mut peer = Peer::new(handler);
    let head = post("transfer-encoding: chunked\r\n");
    peer.send(head + "1\r\na\r\n0\r\nx-sum: 1\r\n\r\n").await;
    assert!(peer.receive().await.ends_with("\r\n\r\nNonea{\"x-sum\": \"1\"}"));
}

#[tokio::test(start_paused = true)]
async fn a_body_can_be_the_response() {
    let handler =
        handler_fn(async |mut req: Request| Response::new(Body::from_http_body(req.take_body())));
    let mut peer = Peer::new(handler);
    peer.send(post("transfer-encoding: chunked\r\n")).await;
    peer.send("5\r\nhello\r\n").await;
    assert!(peer.receive().await.ends_with("\r\n\r\n5\r\nhello"));
    peer.send("3\r\n, x\r\n0\r\n\r\n").await;
    assert_eq!(peer.receive().await, "\r\n3\r\n, x\r\n0\r\n\r\n");
    // The connection goes on.
    peer.send(post("content-length: 100000\r\n") + &"y".repeat(100_000)).await;
    let answer = peer.receive().await;
    assert_eq!(answer.matches('y').count(), 100_000);
    assert!(!answer.contains("connection: close"), "{}", &answer[..200]);
    peer.send(post("content-length: 1\r\n") + "z").await;
    assert!(peer.receive().await.contains('z'));
}

#[tokio::test(start_paused = true)]
async fn another_task_may_read_the_body() {
    let handler = handler_fn(async |mut req: Request| {
        let body = req.take_body();
        let reader = tokio::spawn(async move { body.collect(1 << 20).await.unwrap().len() });
        Response::new(reader.await.unwrap().to_string())
    });
    let mut peer =
        Peer::watched(handler, Settings::default(), hearth_http_core::TokioWatch::new(), 1000);
    peer.send(post("content-length: 100000\r\n")).await;
    peer.send("z".repeat(100_000)).await;
    assert!(peer.receive().await.ends_with("100000"));
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_outlives_its_exchange_is_told() {
    let (tell, told) = tokio::sync::oneshot::channel();
    let tell = std::sync::Mutex::new(Some(tell));
    let handler = handler_fn(move |mut req: Request| {
        let (mut body, mut tell) = (req.take_body(), tell.lock().unwrap().take());
        tokio::spawn(async move {
            while let Some(frame) = body.frame().await {
                if let Err(error) = frame {
                    tell.take().unwrap().send(error).unwrap();
                }
            }
        });
        std::future::ready(Response::new("early"))
    });
    let mut peer = Peer::new(handler);
    peer.send(post("content-length: 10\r\n") + "abc").await;
    assert!(peer.receive_all().await.ends_with("early"));
    assert!(matches!(told.await.unwrap(), BodyError::Aborted));
}
