//! What responses look like on the wire: RFC 9112 §6, RFC 9110 §6.4, §8.6 and §15.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use hearth_http_core::{
    Body, BodyError, BodyStream, Bytes, FileBody, Headers, Prepared, Request, Response, StatusCode,
    handler_fn, header,
};
use http_body::Frame;

use crate::support::Peer;

/// Content in pieces of unknown total length, perhaps with trailers.
pub(crate) struct Pieces(pub(crate) Vec<Frame<Bytes>>);

impl Pieces {
    pub(crate) fn new(pieces: &[&'static str]) -> Self {
        Self(
            pieces
                .iter()
                .rev()
                .map(|piece| Frame::data(Bytes::from_static(piece.as_bytes())))
                .collect(),
        )
    }
}

impl BodyStream for Pieces {
    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        Poll::Ready(self.0.pop().map(Ok))
    }
}

async fn exchange(
    request: &str,
    response: impl Fn() -> Response + Send + Sync + 'static,
) -> String {
    let mut peer = Peer::new(handler_fn(move |_: Request| std::future::ready(response())));
    peer.send(request).await;
    peer.half_close().await;
    peer.receive_all().await
}

const GET: &str = "GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
const KEEP: &str = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";
const HEAD: &str = "HEAD / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
const OLD: &str = "GET / HTTP/1.0\r\n\r\n";
const CLOSE: &str = "connection: close\r\n\r\n";

#[tokio::test(start_paused = true)]
async fn known_lengths() {
    let bodies: [fn() -> Body; 4] = [
        || Body::Static(b"hello"),
        || Body::Bytes(Bytes::from_static(b"hello")),
        || Body::Owned(b"hello".to_vec()),
        || Body::File(file(b"xxhelloxx", 2, 5)),
    ];
    for body in bodies {
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n{CLOSE}");
        assert_eq!(exchange(GET, move || Response::new(body())).await, format!("{head}hello"));
        assert_eq!(exchange(OLD, move || Response::new(body())).await, format!("{head}hello"));
        assert_eq!(exchange(HEAD, move || Response::new(body())).await, head);
    }
    let empty = format!("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n{CLOSE}");
    assert_eq!(exchange(GET, || Response::new(())).await, empty);
    assert_eq!(exchange(GET, || Response::new(Vec::new())).await, empty);
}

fn file(content: &[u8], offset: u64, len: u64) -> FileBody {
    let path =
        std::env::temp_dir().join(format!("hearth-core-{}-{offset}-{len}", std::process::id()));
    std::fs::write(&path, content).unwrap();
    let file = std::fs::File::open(&path).unwrap();
    std::fs::remove_file(path).unwrap();
    FileBody { file: Arc::new(file), offset, len }
}

#[tokio::test(start_paused = true)]
async fn large_bodies_arrive_whole() {
    let large: &'static [u8] =
        (0..1_000_003_u32).map(|n| (n % 251) as u8).collect::<Vec<_>>().leak();
    let bodies: [fn(&'static [u8]) -> Body; 4] = [
        Body::Static,
        |large| Body::Bytes(Bytes::from_static(large)),
        |large| Body::Owned(large.to_vec()),
        |large| Body::File(file(large, 0, large.len() as u64)),
    ];
    for body in bodies {
        // A narrow pipe, so that writes are cut at odd places.
        let handler = handler_fn(move |_| std::future::ready(Response::new(body(large))));
        let watch = hearth_http_core::TokioWatch::new();
        let mut peer = Peer::watched(handler, Default::default(), watch, 5000);
        peer.send(KEEP.repeat(2)).await;
        peer.half_close().await;
        let mut all = Vec::new();
        tokio::io::AsyncReadExt::read_to_end(&mut peer.io, &mut all).await.unwrap();
        let first = memchr::memmem::find(&all, b"\r\n\r\n").unwrap() + 4;
        assert!(all[first..].starts_with(large));
        assert!(all.ends_with(large));
    }
}

#[tokio::test(start_paused = true)]
async fn unknown_lengths() {
    let pieces =
        || Response::new(Body::stream(Pieces::new(&["Hello", "", ", ", "World, for a while"])));
    let chunks = "5\r\nHello\r\n2\r\n, \r\n12\r\nWorld, for a while\r\n0\r\n\r\n";
    let chunked = format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n{CLOSE}");
    assert_eq!(exchange(GET, pieces).await, format!("{chunked}{chunks}"));
    assert_eq!(exchange(HEAD, pieces).await, chunked);
    // RFC 9112 §6.1: an HTTP/1.0 peer cannot be sent chunks.
    let old = format!("HTTP/1.1 200 OK\r\n{CLOSE}Hello, World, for a while");
    assert_eq!(exchange(OLD, pieces).await, old);
    let kept = "GET / HTTP/1.0\r\nconnection: keep-alive\r\n\r\n";
    assert_eq!(exchange(kept, pieces).await, old);
    let none = || Response::new(Body::stream(Pieces::new(&[])));
    assert_eq!(exchange(GET, none).await, format!("{chunked}0\r\n\r\n"));
    let large = || Response::new(Body::stream(Pieces::new(&[&"x".repeat(5000).leak()[..], "y"])));
    let large = exchange(GET, large).await;
    assert!(large.ends_with(&format!("1388\r\n{}\r\n1\r\ny\r\n0\r\n\r\n", "x".repeat(5000))));
}

#[tokio::test(start_paused = true)]
async fn announced_lengths_of_streams_are_kept() {
    let of = |length: &'static str| {
        move || {
            let body = Body::stream(Pieces::new(&["Hel", "lo"]));
            Response::new(body).with_header(header::CONTENT_LENGTH, length.parse().unwrap())
        }
    };
    let head = |length| format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n{CLOSE}");
    assert_eq!(exchange(GET, of("5")).await, head(5) + "Hello");
    // Too little or too much: what was promised cannot be kept, so the connection ends.
    assert_eq!(exchange(GET, of("6")).await, head(6) + "Hello");
    assert_eq!(exchange(GET, of("4")).await, head(4) + "Hel");
    let chunked = exchange(GET, of("x")).await;
    assert!(chunked.contains("transfer-encoding: chunked"), "{chunked}");
}

#[tokio::test(start_paused = true)]
async fn trailers_only_where_they_are_wanted() {
    let with_trailers = || {
        let mut trailers = http::HeaderMap::new();
        trailers.insert("x-sum", "1".parse().unwrap());
        trailers.insert("content-length", "1".parse().unwrap());
        let frames = vec![Frame::trailers(trailers), Frame::data(Bytes::from_static(b"a"))];
        Response::new(Body::stream(Pieces(frames)))
    };
    let plain = exchange(GET, with_trailers).await;
    assert!(plain.ends_with("\r\n\r\n1\r\na\r\n0\r\n\r\n"), "{plain}");
    let wanted = GET.replace("host", "te: trailers\r\nhost");
    let answer = exchange(&wanted, with_trailers).await;
    assert!(answer.ends_with("\r\n\r\n1\r\na\r\n0\r\nx-sum: 1\r\n\r\n"), "{answer}");
}

#[tokio::test(start_paused = true)]
async fn some_statuses_have_no_content() {
    for (status, line) in [(204, "204 No Content"), (304, "304 Not Modified")] {
        let status = StatusCode::from_u16(status).unwrap();
        let want = format!("HTTP/1.1 {line}\r\n{CLOSE}");
        for request in [GET, HEAD] {
            let with_body = move || Response::new("x").with_status(status);
            assert_eq!(exchange(request, with_body).await, want);
            let stream =
                move || Response::new(Body::stream(Pieces::new(&["x"]))).with_status(status);
            assert_eq!(exchange(request, stream).await, want);
            let prepared = move || {
                let body = Bytes::from_static(b"x");
                Response::prepared(Arc::new(Prepared::new(status, Headers::new(), body)))
            };
            assert_eq!(exchange(request, prepared).await, want);
        }
    }
    // RFC 9110 §15.2: a handler has nothing interim to say as its last word.
    for status in [100, 101, 102, 103] {
        let status = StatusCode::from_u16(status).unwrap();
        let answer = exchange(GET, move || Response::status_only(status)).await;
        assert!(answer.starts_with("HTTP/1.1 500 "), "{answer}");
    }
    let odd = exchange(GET, || Response::status_only(StatusCode::from_u16(299).unwrap())).await;
    assert!(odd.starts_with("HTTP/1.1 299 \r\n"), "{odd}");
}

#[tokio::test(start_paused = true)]
async fn a_head_request_may_be_answered_without_a_body() {
    // RFC 9110 §9.3.2: the length that a GET would have had.
    let sized = || Response::new(()).with_header(header::CONTENT_LENGTH, "77".parse().unwrap());
    let want = format!("HTTP/1.1 200 OK\r\ncontent-length: 77\r\n{CLOSE}");
    assert_eq!(exchange(HEAD, sized).await, want);
    assert_eq!(exchange(GET, sized).await, want.replace("77", "0"));
}

#[tokio::test(start_paused = true)]
async fn framing_is_not_the_handlers_business() {
    let meddling = || {
        let mut response = Response::new("hello");
        for (name, value) in [
            ("content-length", "3"),
            ("transfer-encoding", "gzip"),
            ("connection", "keep-alive, x"),
            ("keep-alive", "timeout=5"),
            ("x", "y"),
        ] {
            let name = name.parse().unwrap();
            response = response.with_header(name, value.parse().unwrap());
        }
        response
    };
    let want = format!("HTTP/1.1 200 OK\r\nx: y\r\ncontent-length: 5\r\n{CLOSE}hello");
    assert_eq!(exchange(GET, meddling).await, want);
    let prepared = move || {
        let response = meddling();
        let body = Bytes::from_static(b"hello");
        let prepared = Prepared::new(StatusCode::OK, response.headers().clone(), body);
        Response::prepared(Arc::new(prepared))
    };
    assert_eq!(exchange(GET, prepared).await, want);
    let head = want.strip_suffix("hello").unwrap();
    assert_eq!(exchange(HEAD, prepared).await, head);
}

#[tokio::test(start_paused = true)]
async fn date_and_server() {
    let mut settings = hearth_http_core::Settings::default();
    settings.server = Some("hearth".parse().unwrap());
    let own = |req: Request| {
        let response = Response::new(());
        std::future::ready(match req.path() {
            "/" => response,
            _ => response
                .with_header(header::SERVER, "mine".parse().unwrap())
                .with_header(header::DATE, "then".parse().unwrap()),
        })
    };
    let mut peer = Peer::with(handler_fn(own), settings);
    peer.send(format!("{KEEP}GET /own HTTP/1.1\r\nhost: a\r\n\r\n")).await;
    peer.half_close().await;
    let mut all = String::new();
    tokio::io::AsyncReadExt::read_to_string(&mut peer.io, &mut all).await.unwrap();
    let (first, second) = all.split_once("\r\n\r\n").unwrap();
    assert!(first.contains("\r\nserver: hearth\r\ndate: ") && first.ends_with(" GMT"), "{first}");
    assert!(second.contains("\r\nserver: mine\r\ndate: then\r\n"), "{second}");
    assert_eq!(second.matches("date:").count() + second.matches("server:").count(), 2, "{second}");
}

#[tokio::test(start_paused = true)]
async fn early_hints_come_first() {
    let handler = handler_fn(async |req: Request| {
        req.early_hints(&["</a.css>; rel=preload".parse().unwrap(), "</b.js>".parse().unwrap()]);
        tokio::task::yield_now().await;
        Response::new("x")
    });
    let mut peer = Peer::new(handler);
    peer.send(format!("{KEEP}GET / HTTP/1.0\r\n\r\n")).await;
    let answer = peer.receive_all().await;
    let hints = "HTTP/1.1 103 Early Hints\r\nlink: </a.css>; rel=preload\r\nlink: </b.js>\r\n\r\nHTTP/1.1 200 ";
    assert!(answer.starts_with(hints), "{answer}");
    assert_eq!(answer.matches("103").count(), 1, "HTTP/1.0 knows no interim responses: {answer}");
}
