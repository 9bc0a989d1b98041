//! Handlers and bodies that misbehave, and what observers learn.

use std::{
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::Duration,
};

use hearth_http_core::{
    Body, BodyError, BodyStream, Bytes, ConnectionError, Exchange, FileBody, Observer, Outcome,
    Request, Response, Settings, handler_fn,
};
use http_body::Frame;

use crate::{responses::Pieces, support::Peer};

#[derive(Default)]
struct Notes(Mutex<Vec<(u16, u64, Outcome, String)>>);

impl Observer for Notes {
    fn on_exchange(&self, exchange: &Exchange<'_>) {
        let path = exchange.head.map_or("-", |head| head.path()).to_owned();
        let note = (exchange.status.as_u16(), exchange.body_bytes, exchange.outcome, path);
        self.0.lock().unwrap().push(note);
    }
}

/// Gives one piece, then does what it is for.
struct Fails(Option<Bytes>, fn() -> Polled);

type Polled = Poll<Option<Result<Frame<Bytes>, BodyError>>>;

impl BodyStream for Fails {
    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.0.take() {
            Some(data) => Poll::Ready(Some(Ok(Frame::data(data)))),
            None => (self.1)(),
        }
    }
}

async fn misbehave(req: Request) -> Response {
    let piece = Some(Bytes::from_static(b"abc"));
    match req.path() {
        "/panic" => panic!("the handler panics"),
        "/panic-later" => {
            tokio::time::sleep(Duration::from_millis(1)).await;
            panic!("the handler panics later")
        }
        "/body-panic" => Response::new(Body::stream(Fails(piece, || panic!("the body panics")))),
        "/body-fails" => {
            let fail = || Poll::Ready(Some(Err(BodyError::Source("broken".into()))));
            Response::new(Body::stream(Fails(piece, fail)))
        }
        "/file-shrinks" => {
            let file = std::fs::File::open("/proc/self/comm").unwrap();
            Response::new(FileBody { file: Arc::new(file), offset: 0, len: 1_000_000 })
        }
        "/hangs" => std::future::pending().await,
        "/large" => Response::new(vec![b'x'; 10_000]),
        "/stream" => Response::new(Body::stream(Pieces::new(&["ab", "cd"]))),
        _ => Response::new("fine"),
    }
}

async fn run(
    requests: &str,
    settings: Settings,
) -> (String, Vec<(u16, u64, Outcome, String)>, Result<(), ConnectionError>) {
    let notes = Arc::new(Notes::default());
    let mut settings = settings;
    settings.observer = Some(notes.clone());
    let mut peer = Peer::with(handler_fn(misbehave), settings);
    peer.send(requests).await;
    peer.half_close().await;
    let answer = peer.receive_all().await;
    let end = peer.ended().await;
    let notes = std::mem::take(&mut *notes.0.lock().unwrap());
    (answer, notes, end)
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n")
}

#[tokio::test(start_paused = true)]
async fn panics_become_500() {
    for path in ["/panic", "/panic-later"] {
        let (answer, notes, _) =
            run(&(get("/") + &get(path) + &get("/")), Settings::default()).await;
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 2, "{answer}");
        assert!(answer.contains("HTTP/1.1 500 Internal Server Error\r\n"), "{answer}");
        assert_eq!(answer.matches("connection: close").count(), 1, "{answer}");
        let want = [
            (200, 4, Outcome::Complete, "/".to_owned()),
            (500, 26, Outcome::Panicked, path.to_owned()),
        ];
        assert_eq!(notes, want);
    }
}

#[tokio::test(start_paused = true)]
async fn broken_bodies_end_the_connection() {
    for (path, sent, outcome) in [
        ("/body-panic", 3, Outcome::Panicked),
        ("/body-fails", 3, Outcome::BodyFailed),
        ("/file-shrinks", 0, Outcome::BodyFailed),
    ] {
        let (answer, notes, end) = run(&(get(path) + &get("/")), Settings::default()).await;
        assert_eq!(answer.matches("HTTP/1.1 200 OK").count(), 1, "{answer}");
        assert!(!answer.contains("\r\n0\r\n"), "it does not look complete: {answer}");
        assert_eq!(notes[0].2, outcome, "{path}");
        assert!(notes[0].1 == sent || path == "/file-shrinks", "{notes:?}");
        assert_eq!(notes.len(), 1);
        assert!(end.is_err(), "{path}");
    }
}

#[tokio::test(start_paused = true)]
async fn handlers_can_be_given_a_time() {
    let mut settings = Settings::default();
    settings.limits.handler_timeout = Some(Duration::from_secs(7));
    let start = tokio::time::Instant::now();
    let mut peer = Peer::with(handler_fn(misbehave), settings);
    peer.send(get("/hangs") + &get("/")).await;
    assert_eq!(peer.receive().await, "");
    tokio::time::sleep(Duration::from_secs(7)).await;
    let answer = peer.receive().await;
    assert!(answer.starts_with("HTTP/1.1 503 Service Unavailable\r\n"), "{answer}");
    assert!(answer.ends_with("fine"), "the connection goes on: {answer}");
    assert!(start.elapsed() < Duration::from_secs(8));
}

#[tokio::test(start_paused = true)]
async fn observers_hear_of_everything_once() {
    let requests = get("/")
        + &get("/large")
        + &get("/stream")
        + "HEAD /large HTTP/1.1\r\nhost: a\r\n\r\n"
        + "BAD";
    let (_, notes, _) = run(&(requests + "\r\n\r\n"), Settings::default()).await;
    let want = [
        (200, 4, Outcome::Complete, "/".to_owned()),
        (200, 10_000, Outcome::Complete, "/large".to_owned()),
        (200, 4, Outcome::Complete, "/stream".to_owned()),
        (200, 0, Outcome::Complete, "/large".to_owned()),
        (400, 16, Outcome::Refused, "-".to_owned()),
    ];
    assert_eq!(notes, want);
}

#[tokio::test(start_paused = true)]
async fn observers_hear_of_peers_that_leave() {
    let notes = Arc::new(Notes::default());
    let mut settings = Settings::default();
    settings.observer = Some(notes.clone());
    let watch = hearth_http_core::TokioWatch::new();
    let mut peer = Peer::watched(handler_fn(misbehave), settings, watch, 1000);
    peer.send(get("/large")).await;
    tokio::task::yield_now().await;
    let end = peer.ended().await;
    assert!(matches!(end, Err(ConnectionError::PeerGone)), "{end:?}");
    let notes = notes.0.lock().unwrap();
    assert_eq!((notes.len(), notes[0].2), (1, Outcome::PeerGone));
}
