//! What is compressed, how, and that it can be decompressed.

use std::{
    io::Read,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use hearth_http_core::{
    Body, BodyError, BodyStream, Coding, FileBody, HeaderValue, Headers, Method, Prepared, Request,
    Response, StatusCode, header,
};
use hearth_middleware::{Compress, Levels};
use http_body::Frame;

use crate::{around, content, field, get};

const CODINGS: [&str; 4] = ["br", "deflate", "gzip", "zstd"];

fn text(len: usize) -> Vec<u8> {
    let words = ["stream ", "frame ", "window ", "{\"id\": ", "buffer\n"];
    let mut text = Vec::new();
    let mut state = 7u32;
    while text.len() < len {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        text.extend_from_slice(words[(state >> 16) as usize % words.len()].as_bytes());
        text.extend_from_slice(format!("{}", state % 100).as_bytes());
    }
    text.truncate(len);
    text
}

fn decode(coding: Option<&str>, bytes: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::new();
    match coding {
        None => decoded.extend_from_slice(bytes),
        Some("br") => {
            brotli::Decompressor::new(bytes, 4096).read_to_end(&mut decoded).expect("brotli");
        }
        Some("deflate") => {
            flate2::read::ZlibDecoder::new(bytes).read_to_end(&mut decoded).expect("zlib");
        }
        Some("gzip") => {
            flate2::read::MultiGzDecoder::new(bytes).read_to_end(&mut decoded).expect("gzip");
        }
        Some("zstd") => decoded = zstd::decode_all(bytes).expect("zstd"),
        Some(other) => panic!("{other}"),
    }
    decoded
}

fn html(body: impl Into<Body>) -> Response {
    Response::html(body)
        .with_header(header::ETAG, HeaderValue::from_static("\"v1\""))
        .with_header(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"))
}

async fn ask(
    compress: Compress,
    accept: &str,
    make: impl Fn(&Request) -> Response + Send + Sync + 'static,
) -> Response {
    around(compress, make).run(get("/", &[("accept-encoding", accept)])).await
}

#[tokio::test]
async fn content_survives() {
    let directory = tempfile::tempdir().expect("a directory");
    for len in [512, 1000, 70_000, 256 * 1024, 256 * 1024 + 1, 1_000_000] {
        let original = text(len);
        let path = directory.path().join(len.to_string());
        std::fs::write(&path, &original).expect("writing");
        let file = Arc::new(std::fs::File::open(&path).expect("the file"));
        for coding in CODINGS {
            for kind in 0..5 {
                let (original_, file) = (original.clone(), Arc::clone(&file));
                let make = move |_: &Request| match kind {
                    0 => html(original_.clone()),
                    1 => html(Bytes::from(original_.clone())),
                    2 => html(FileBody { file: Arc::clone(&file), offset: 0, len: len as u64 }),
                    3 => {
                        let mut headers = Headers::new();
                        headers.append(header::CONTENT_TYPE, HeaderValue::from_static("text/html"));
                        headers.append(header::ETAG, HeaderValue::from_static("\"v1\""));
                        let body = Bytes::from(original_.clone());
                        Response::prepared(Arc::new(Prepared::new(StatusCode::OK, headers, body)))
                    }
                    _ => html(Body::stream(Pieces::of(&original_, 5000))),
                };
                let response = ask(Compress::new(), coding, make).await;
                let what = format!("{coding}, {len} bytes, kind {kind}");
                assert_eq!(response.status(), StatusCode::OK, "{what}");
                assert_eq!(field(&response, "content-encoding"), Some(coding), "{what}");
                assert_eq!(field(&response, "vary"), Some("accept-encoding"), "{what}");
                assert_eq!(field(&response, "etag"), Some("W/\"v1\""), "{what}");
                assert_eq!(field(&response, "accept-ranges"), None, "{what}");
                let at_once = kind != 4 && len <= 256 * 1024;
                assert_eq!(response.body_len().is_some(), at_once, "{what}");
                let encoded = content(response).await;
                assert!(encoded.len() < original.len(), "{what}");
                assert_eq!(decode(Some(coding), &encoded), original, "{what}");
            }
        }
    }
}

#[tokio::test]
async fn every_level_works() {
    let original = text(20_000);
    for level in 0..=22 {
        let mut levels = Levels::default();
        (levels.brotli, levels.deflate, levels.zstd) = (level, level, level);
        for coding in CODINGS {
            for streamed in [false, true] {
                let body = original.clone();
                let make = move |_: &Request| match streamed {
                    true => html(Body::stream(Pieces::of(&body, 3000))),
                    false => html(body.clone()),
                };
                let response = ask(Compress::new().levels(levels), coding, make).await;
                let encoded = content(response).await;
                assert_eq!(decode(Some(coding), &encoded), original, "{coding} {level}");
            }
        }
    }
}

/// RFC 9110 §12.5.3.
#[tokio::test]
async fn negotiation() {
    for (accept, want) in [
        ("", None),
        ("identity", None),
        ("gzip", Some("gzip")),
        ("deflate", Some("deflate")),
        ("gzip, deflate, br, zstd", Some("zstd")),
        ("gzip, deflate, br", Some("br")),
        ("br;q=0.5, gzip;q=0.8", Some("gzip")),
        ("gzip;q=0", None),
        ("identity, gzip;q=0.5", None),
        ("*", Some("zstd")),
        ("*;q=0, gzip", Some("gzip")),
        ("zstd;q=0, *", Some("br")),
        ("*;q=0", None), // nothing is acceptable: the content as it is may still be of use
        ("identity;q=0, gzip", Some("gzip")),
    ] {
        let response = ask(Compress::new(), accept, |_| html(text(1000))).await;
        assert_eq!(field(&response, "content-encoding"), want, "{accept}");
        assert_eq!(field(&response, "vary"), Some("accept-encoding"), "{accept}");
        let etag = if want.is_some() { "W/\"v1\"" } else { "\"v1\"" };
        assert_eq!(field(&response, "etag"), Some(etag), "{accept}");
    }
    let none = around(Compress::new(), |_| html(text(1000))).run(get("/", &[])).await;
    assert_eq!(field(&none, "content-encoding"), None);
    assert_eq!(field(&none, "vary"), Some("accept-encoding"));
    let only = Compress::new().codings([Coding::Gzip]);
    let response = ask(only, "gzip, br, zstd", |_| html(text(1000))).await;
    assert_eq!(field(&response, "content-encoding"), Some("gzip"));
}

#[tokio::test]
async fn left_alone() {
    type Make = fn() -> Response;
    let rows: [(&str, Make); 9] = [
        ("small", || html(text(511))),
        ("empty", || Response::html("")),
        ("no type", || Response::new(text(1000))),
        ("an image", || {
            Response::new(text(1000))
                .with_header(header::CONTENT_TYPE, HeaderValue::from_static("image/png"))
        }),
        ("encoded", || {
            html(text(1000)).with_header(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"))
        }),
        ("a part", || {
            html(text(1000))
                .with_status(StatusCode::PARTIAL_CONTENT)
                .with_header(header::CONTENT_RANGE, HeaderValue::from_static("bytes 0-999/5000"))
        }),
        ("no-transform", || {
            html(text(1000)).with_header(
                header::CACHE_CONTROL,
                HeaderValue::from_static("max-age=60, No-Transform"),
            )
        }),
        ("events", || {
            Response::new(text(1000))
                .with_header(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"))
        }),
        ("no content", || Response::status_only(StatusCode::NO_CONTENT)),
    ];
    for (what, make) in rows {
        let before = make();
        let response = ask(Compress::new(), "gzip, br, zstd", move |_| make()).await;
        assert_eq!(field(&response, "vary"), None, "{what}");
        assert_eq!(
            field(&response, "content-encoding"),
            field(&before, "content-encoding"),
            "{what}"
        );
        assert_eq!(response.body_len(), before.body_len(), "{what}");
    }
}

#[tokio::test]
async fn what_does_not_shrink_stays() {
    let mut noise = text(2000);
    let mut state = 1u64;
    for byte in &mut noise {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        *byte = (state >> 56) as u8;
    }
    for coding in CODINGS {
        let body = noise.clone();
        let response = ask(Compress::new(), coding, move |_| html(body.clone())).await;
        assert_eq!(field(&response, "content-encoding"), None, "{coding}");
        assert_eq!(field(&response, "etag"), Some("\"v1\""));
        assert_eq!(content(response).await, noise);
    }
}

#[tokio::test]
async fn identity_refused_means_compressed_however_small() {
    let response = ask(Compress::new(), "identity;q=0, gzip", |_| html(text(100))).await;
    assert_eq!(field(&response, "content-encoding"), Some("gzip"));
}

#[tokio::test]
async fn head_has_the_fields_of_get() {
    let app = around(Compress::new(), |_| html(text(5000)));
    let fields = [("accept-encoding", "br")];
    let head = Request::build(Method::HEAD, "/", &fields, Body::Empty).expect("a request");
    let (head, get) = (app.run(head).await, app.run(get("/", &fields)).await);
    for name in ["content-encoding", "vary", "etag", "content-type", "accept-ranges"] {
        assert_eq!(field(&head, name), field(&get, name), "{name}");
    }
}

#[tokio::test]
async fn vary_is_added_once() {
    for given in ["accept-encoding", "Accept-Language, Accept-Encoding", "*"] {
        let make = move |_: &Request| {
            html(text(1000)).with_header(header::VARY, HeaderValue::from_static(given))
        };
        let response = ask(Compress::new(), "gzip", make).await;
        let all: Vec<_> = response.headers().get_all(&header::VARY).collect();
        assert_eq!(all, [given]);
    }
}

/// RFC 9110 §15.4.5: the tag of the 304 is that of the 200 that the client holds.
#[tokio::test]
async fn not_modified_echoes_the_form_that_was_sent() {
    for (accept, held, want) in [
        ("gzip", "W/\"v1\"", "W/\"v1\""),
        ("gzip", "\"v0\", W/\"v1\"", "W/\"v1\""),
        ("gzip", "\"v1\"", "\"v1\""),
        ("identity", "W/\"v1\"", "\"v1\""),
    ] {
        let app = around(Compress::new(), |_| {
            Response::status_only(StatusCode::NOT_MODIFIED)
                .with_header(header::ETAG, HeaderValue::from_static("\"v1\""))
        });
        let fields = [("accept-encoding", accept), ("if-none-match", held)];
        let response = app.run(get("/", &fields)).await;
        assert_eq!(field(&response, "etag"), Some(want), "{accept}, {held}");
    }
}

/// A reader can use what the source gave before it paused.
#[tokio::test]
async fn a_pause_flushes() {
    for coding in CODINGS {
        let pieces = Pieces { queue: Arc::default(), waker: Arc::default(), end: false };
        let queue = Arc::clone(&pieces.queue);
        let slot = Mutex::new(Some(pieces));
        let make = move |_: &Request| {
            html(Body::stream(slot.lock().expect("the lock").take().expect("one request")))
        };
        let mut response = ask(Compress::new(), coding, make).await;
        let mut body = response.take_body();
        let mut encoded = Vec::new();
        let mut cx = Context::from_waker(Waker::noop());
        for part in [&b"first "[..], &text(50_000), b"last"] {
            queue.lock().expect("the lock").push(Bytes::copy_from_slice(part));
            let before = encoded.len();
            for _ in 0..100 {
                if let Poll::Ready(Some(Ok(frame))) =
                    http_body::Body::poll_frame(Pin::new(&mut body), &mut cx)
                {
                    encoded.extend_from_slice(&frame.into_data().expect("data"));
                }
            }
            assert!(encoded.len() > before, "{coding}: nothing came");
            assert_eq!(readable_tail(coding, &encoded), part[part.len() - 4..], "{coding}");
        }
    }
}

/// The last four bytes that a decoder can make of an unfinished stream.
fn readable_tail(coding: &str, encoded: &[u8]) -> Vec<u8> {
    let mut reader: Box<dyn Read> = match coding {
        "br" => Box::new(brotli::Decompressor::new(encoded, 4096)),
        "deflate" => Box::new(flate2::read::ZlibDecoder::new(encoded)),
        "gzip" => Box::new(flate2::read::GzDecoder::new(encoded)),
        _ => Box::new(zstd::stream::read::Decoder::new(encoded).expect("a decoder")),
    };
    let mut decoded = Vec::new();
    let mut piece = [0; 1000];
    while let Ok(count @ 1..) = reader.read(&mut piece) {
        decoded.extend_from_slice(&piece[..count]);
    }
    decoded.split_off(decoded.len().saturating_sub(4))
}

/// Long work is done in turns: no poll takes in more than one step of a large body.
#[tokio::test]
async fn large_bodies_yield() {
    let original = text(2_000_000);
    let body = original.clone();
    let mut response = ask(Compress::new(), "gzip", move |_| html(body.clone())).await;
    let mut body = response.take_body();
    let mut cx = Context::from_waker(Waker::noop());
    let (mut polls, mut encoded) = (0, Vec::new());
    loop {
        polls += 1;
        match http_body::Body::poll_frame(Pin::new(&mut body), &mut cx) {
            Poll::Pending => {}
            Poll::Ready(None) => break,
            Poll::Ready(Some(frame)) => {
                encoded.extend_from_slice(&frame.expect("data").into_data().expect("data"));
            }
        }
    }
    assert!(polls > 2_000_000 / (32 * 1024), "{polls} polls");
    assert_eq!(decode(Some("gzip"), &encoded), original);
}

#[tokio::test]
async fn a_file_that_shrank_is_an_error() {
    let file = tempfile::tempfile().expect("a file");
    let file = Arc::new(file);
    let make = move |_: &Request| html(FileBody { file: Arc::clone(&file), offset: 0, len: 5000 });
    let response = ask(Compress::new(), "gzip", make).await;
    assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
}

#[tokio::test]
async fn an_error_of_the_source_is_passed_on() {
    let make = |_: &Request| html(Body::stream(Failing));
    let mut response = ask(Compress::new(), "gzip", make).await;
    assert!(matches!(response.take_body().collect(1000).await, Err(BodyError::Aborted)));
}

#[tokio::test]
async fn trailers_come_last() {
    for coding in CODINGS {
        let mut response =
            ask(Compress::new(), coding, |_| html(Body::stream(WithTrailers(0)))).await;
        let mut body = response.take_body();
        let mut encoded = Vec::new();
        let mut trailers = None;
        while let Some(frame) = body.frame().await {
            assert!(trailers.is_none());
            match frame.expect("a frame").into_data() {
                Ok(data) => encoded.extend_from_slice(&data),
                Err(frame) => trailers = frame.into_trailers().ok(),
            }
        }
        assert_eq!(decode(Some(coding), &encoded), b"content");
        assert_eq!(trailers.expect("trailers").get("x-sum").expect("the field"), "1");
    }
}

/// Gives what is in its queue; pauses, or ends, when there is nothing.
struct Pieces {
    queue: Arc<Mutex<Vec<Bytes>>>,
    waker: Arc<Mutex<Option<Waker>>>,
    end: bool,
}

impl Pieces {
    fn of(content: &[u8], size: usize) -> Self {
        let queue = content.chunks(size).map(Bytes::copy_from_slice).collect();
        Self { queue: Arc::new(Mutex::new(queue)), waker: Arc::default(), end: true }
    }
}

impl BodyStream for Pieces {
    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let mut queue = self.queue.lock().expect("the lock");
        if queue.is_empty() && !self.end {
            *self.waker.lock().expect("the lock") = Some(cx.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready((!queue.is_empty()).then(|| Ok(Frame::data(queue.remove(0)))))
    }
}

struct Failing;

impl BodyStream for Failing {
    fn poll_frame(
        self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        Poll::Ready(Some(Err(BodyError::Aborted)))
    }
}

struct WithTrailers(u8);

impl BodyStream for WithTrailers {
    fn poll_frame(
        mut self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.0 += 1;
        Poll::Ready(match self.0 {
            1 => Some(Ok(Frame::data(Bytes::from_static(b"content")))),
            2 => {
                let mut trailers = Headers::new();
                let name = hearth_http_core::HeaderName::from_static("x-sum");
                trailers.append(name, HeaderValue::from_static("1"));
                Some(Ok(Frame::trailers(trailers.into())))
            }
            _ => None,
        })
    }
}
