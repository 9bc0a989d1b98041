//! Encoded request bodies.

use std::{
    collections::VecDeque,
    io::Write as _,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use hearth_http_core::{
    Body, BodyError, BodyStream, BoxHandler, BoxMiddleware, Chain, Coding, Method, Request,
    Response, StatusCode, handler_fn,
};
use hearth_middleware::Decompress;
use http_body::Frame;

use crate::{content, field};

const CODINGS: [Coding; 4] = [Coding::Brotli, Coding::Deflate, Coding::Gzip, Coding::Zstd];

/// Gives back what it got, or the status that the error stands for, and names the fields it saw.
fn echo(decompress: Decompress) -> Chain {
    let handler = handler_fn(async |mut req: Request| {
        let seen = ["content-encoding", "content-length", "x-other"]
            .into_iter()
            .filter(|name| req.header(name).is_some())
            .collect::<Vec<_>>()
            .join(" ");
        let response = match req.take_body().collect(u64::MAX).await {
            Ok(body) => Response::new(Body::Bytes(body)),
            Err(BodyError::TooLarge { .. }) => Response::status_text(StatusCode::PAYLOAD_TOO_LARGE),
            Err(BodyError::Malformed(_)) => Response::status_text(StatusCode::BAD_REQUEST),
            Err(error) => panic!("{error}"),
        };
        let name = hearth_http_core::HeaderName::from_static("x-seen");
        response.with_header(name, seen.parse().expect("text"))
    });
    Chain::new([BoxMiddleware::new(decompress)], BoxHandler::new(handler))
}

fn encode(coding: Coding, content: &[u8]) -> Vec<u8> {
    match coding {
        Coding::Brotli => {
            let mut out = Vec::new();
            let params = brotli::enc::BrotliEncoderParams { quality: 5, ..Default::default() };
            brotli::BrotliCompress(&mut &*content, &mut out, &params).expect("encoded");
            out
        }
        Coding::Deflate => {
            let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), <_>::default());
            encoder.write_all(content).expect("encoded");
            encoder.finish().expect("encoded")
        }
        Coding::Gzip => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), <_>::default());
            encoder.write_all(content).expect("encoded");
            encoder.finish().expect("encoded")
        }
        Coding::Identity => content.to_vec(),
        Coding::Zstd => zstd::bulk::compress(content, 3).expect("encoded"),
    }
}

/// A body that comes in these pieces, with a pause before each.
struct Pieces {
    pieces: VecDeque<Bytes>,
    has_paused: bool,
}

impl BodyStream for Pieces {
    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.has_paused = !self.has_paused;
        if self.has_paused {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(self.pieces.pop_front().map(|piece| Ok(Frame::data(piece))))
    }
}

fn pieces(content: &[u8], len: usize) -> Body {
    let pieces = content.chunks(len).map(Bytes::copy_from_slice).collect();
    Body::stream(Pieces { pieces, has_paused: false })
}

fn post(codings: &[&str], body: impl Into<Body>) -> Request {
    let mut fields = vec![("x-other", "1"), ("Content-Length", "7")];
    fields.extend(codings.iter().map(|coding| ("Content-Encoding", *coding)));
    Request::build(Method::POST, "/", &fields, body).expect("a request")
}

/// 600 KB that do not repeat much: numbers in words.
fn text() -> Vec<u8> {
    let mut state = 7_u32;
    let mut text = Vec::new();
    while text.len() < 600_000 {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        text.extend_from_slice(format!("{} and {:x}\n", state >> 8, state >> 20).as_bytes());
    }
    text
}

#[tokio::test]
async fn bodies_come_as_they_were() {
    let text = text();
    let app = echo(Decompress::new());
    for coding in CODINGS {
        for (content, len) in [(&text[..], 1 << 20), (&text, 1000), (&text[..5000], 1), (b"", 3)] {
            let name = coding.name().to_ascii_uppercase();
            let request = post(&[&name], pieces(&encode(coding, content), len));
            let response = app.run(request).await;
            assert_eq!(response.status(), StatusCode::OK, "{coding:?}");
            assert_eq!(field(&response, "x-seen"), Some("x-other"), "{coding:?}");
            assert!(self::content(response).await == content, "{coding:?} in pieces of {len}");
        }
    }
}

#[tokio::test]
async fn what_is_left_alone() {
    let app = echo(Decompress::new());
    for (codings, body) in [(&[][..], "plain"), (&["identity"], "plain"), (&["", " , "], "plain")] {
        let response = app.run(post(codings, body.as_bytes().to_vec())).await;
        assert_eq!(content(response).await, body.as_bytes(), "{codings:?}");
    }
    // No content is in no coding, whatever a client says of it.
    let response = app.run(post(&["gzip"], Body::Empty)).await;
    assert_eq!(field(&response, "x-seen"), Some("content-encoding content-length x-other"));
    let response = app.run(post(&["gzip"], pieces(b"", 1))).await;
    assert_eq!((response.status(), content(response).await), (StatusCode::OK, Vec::new()));
}

#[tokio::test]
async fn unknown_codings_are_refused() {
    let app = echo(Decompress::new());
    for codings in [
        &["compress"][..],
        &["gzip, br"],
        &["gzip", "gzip"],
        &["identity, lz4"],
        &["gzip;q=1"],
        &["*"],
    ] {
        let response = app.run(post(codings, encode(Coding::Gzip, b"x"))).await;
        assert_eq!(response.status(), StatusCode::UNSUPPORTED_MEDIA_TYPE, "{codings:?}");
        assert_eq!(field(&response, "accept-encoding"), Some("zstd, br, gzip, deflate"));
    }
    let response = app.run(post(&["x-gzip"], encode(Coding::Gzip, b"old name"))).await;
    assert_eq!(content(response).await, b"old name");
}

#[tokio::test]
async fn what_is_not_in_its_coding_is_malformed() {
    let app = echo(Decompress::new());
    let text = &text()[..20_000];
    for coding in CODINGS {
        let good = encode(coding, text);
        let cut = good[..good.len() - 1].to_vec();
        let mut damaged = good.clone();
        damaged[0] ^= 0xff;
        let followed = [&good[..], b"more"].concat();
        for (what, body) in [
            ("cut", cut),
            ("begun", good[..1].to_vec()),
            ("damaged", damaged),
            ("followed by something", followed),
            ("something else", b"<html></html>".repeat(9)),
        ] {
            for len in [1 << 20, 7] {
                let response = app.run(post(&[coding.name()], pieces(&body, len))).await;
                assert_eq!(response.status(), StatusCode::BAD_REQUEST, "{coding:?}, {what}");
            }
        }
    }
}

/// RFC 1952 §2.2 and RFC 8878 §3: several members, several frames.
#[tokio::test]
async fn one_behind_the_other() {
    let app = echo(Decompress::new());
    for coding in [Coding::Gzip, Coding::Zstd] {
        let body = [encode(coding, b"one "), encode(coding, b""), encode(coding, b"two")].concat();
        for len in [1, 1000] {
            let response = app.run(post(&[coding.name()], pieces(&body, len))).await;
            assert_eq!(content(response).await, b"one two", "{coding:?}");
        }
    }
}

#[tokio::test]
async fn bombs_are_not_let_off() {
    let zeros = vec![0; 9 << 20];
    let text = text();
    for coding in CODINGS {
        let bomb = encode(coding, &zeros);
        let honest = encode(coding, &text);
        let ratio = u64::MAX;
        for (what, decompress, body, wanted) in [
            ("more than the ratio", Decompress::new().bytes_max(1 << 40), &bomb, 413),
            ("more than the size", Decompress::new().ratio_max(ratio), &bomb, 413),
            ("just too large", Decompress::new().bytes_max(text.len() as u64 - 1), &honest, 413),
            ("just fits", Decompress::new().bytes_max(text.len() as u64), &honest, 200),
        ] {
            // The handler's own limit replaces this one, so it is not one that collects.
            let handler = handler_fn(async |mut req: Request| {
                let mut body = req.take_body();
                while let Some(frame) = body.frame().await {
                    if let Err(BodyError::TooLarge { .. }) = frame {
                        assert!(body.frame().await.is_none(), "nothing comes behind an error");
                        return Response::status_text(StatusCode::PAYLOAD_TOO_LARGE);
                    }
                }
                Response::text("taken")
            });
            let app = Chain::new([BoxMiddleware::new(decompress)], BoxHandler::new(handler));
            let response = app.run(post(&[coding.name()], body.clone())).await;
            assert_eq!(response.status().as_u16(), wanted, "{coding:?}: {what}");
        }
    }
}

/// Streams with bytes changed, cut out and put in: any answer is good, but there is one, and it is small.
#[tokio::test]
async fn damage_is_survived() {
    let app = echo(Decompress::new().bytes_max(1 << 20));
    let mut state = 1_u32;
    let mut random = move |below: usize| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as usize % below
    };
    let text = text();
    for coding in CODINGS {
        let good = encode(coding, &text[..3000]);
        for _ in 0..300 {
            let mut bad = good.clone();
            for _ in 0..=random(3) {
                let at = random(bad.len());
                match random(3) {
                    0 => bad[at] = random(256) as u8,
                    1 => drop(bad.drain(at..(at + random(9)).min(bad.len()))),
                    _ => bad.insert(at, random(256) as u8),
                }
            }
            let response = app.run(post(&[coding.name()], pieces(&bad, 1 + random(500)))).await;
            assert!([200, 400, 413].contains(&response.status().as_u16()), "{coding:?}");
        }
    }
}
