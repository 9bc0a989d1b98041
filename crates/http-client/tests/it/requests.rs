//! What is sent, and when.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use hearth_http_client::{ClientError, ClientRequest, ErrorKind};
use hearth_http_core::{Body, BodyError, BodyStream, Bytes};
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use http_body::Frame;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::mpsc,
};

use crate::support::{Memory, Refusing, answering, client, client_with};

const URL: &str = "http://peer.test/path?query";
const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// Content that a test sends piece by piece.
pub(crate) struct Pieces(pub(crate) mpsc::UnboundedReceiver<Result<Frame<Bytes>, BodyError>>);

impl BodyStream for Pieces {
    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.0.poll_recv(cx)
    }
}

/// A body, and the end into which its pieces are put.
pub(crate) fn pieces() -> (mpsc::UnboundedSender<Result<Frame<Bytes>, BodyError>>, Body) {
    let (send, receive) = mpsc::unbounded_channel();
    (send, Body::stream(Pieces(receive)))
}

fn post(body: impl Into<Body>) -> ClientRequest {
    ClientRequest::post(URL, body).expect("request")
}

async fn ok(client: &hearth_http_client::Client, request: ClientRequest) {
    let response = client.send(request).await.expect("response");
    assert_eq!(response.text(100).await.expect("body"), "ok");
}

#[tokio::test]
async fn a_known_length_is_told() {
    let memory = Memory::new(|_, mut peer| async move {
        let head = peer.head().await;
        assert!(head.starts_with("POST /path?query HTTP/1.1\r\nhost: peer.test\r\n"), "{head}");
        assert!(head.contains("content-length: 5\r\n"), "{head}");
        assert!(!head.contains("transfer-encoding") && !head.contains("expect"), "{head}");
        assert_eq!(peer.content(5).await, b"hello");
        peer.send(OK).await;
        let head = peer.head().await;
        assert!(head.contains("content-length: 200000\r\n"), "{head}");
        assert_eq!(peer.content(200_000).await, [7; 200_000]);
        peer.send(OK).await;
        let head = peer.head().await;
        assert!(!head.contains("content-length"), "{head}");
        peer.send(OK).await;
    });
    let client = client(&memory);
    ok(&client, post("hello")).await;
    ok(&client, post(vec![7; 200_000])).await;
    ok(&client, ClientRequest::get(URL).expect("request")).await;
    memory.done().await;
    assert_eq!(memory.dialed(), 1);
}

#[tokio::test]
async fn an_unknown_length_is_chunked_with_trailers() {
    let memory = Memory::new(|_, mut peer| async move {
        let head = peer.head().await;
        assert!(head.contains("transfer-encoding: chunked\r\n"), "{head}");
        assert!(!head.contains("content-length"), "{head}");
        let content = peer.until("0\r\nx-sum: 9\r\n\r\n").await;
        let large = "y".repeat(100_000);
        assert_eq!(content, format!("5\r\nhello\r\n186a0\r\n{large}\r\n0\r\nx-sum: 9\r\n\r\n"));
        peer.send(OK).await;
    });
    let (pieces, body) = pieces();
    let mut trailers = HeaderMap::new();
    trailers.insert("x-sum", HeaderValue::from_static("9"));
    // RFC 9110 §6.5.1: what frames the message cannot come behind it.
    trailers.insert("content-length", HeaderValue::from_static("9"));
    pieces.send(Ok(Frame::data("hello".into()))).expect("open");
    pieces.send(Ok(Frame::data(vec![b'y'; 100_000].into()))).expect("open");
    pieces.send(Ok(Frame::trailers(trailers))).expect("open");
    ok(&client(&memory), post(body)).await;
    memory.done().await;
}

#[tokio::test]
async fn content_may_follow_the_response() {
    let memory = Memory::new(|_, mut peer| async move {
        peer.head().await;
        peer.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await;
        // An echo: each piece comes back before the next one is sent.
        for piece in ["one", "two"] {
            assert_eq!(peer.content(8).await, format!("3\r\n{piece}\r\n").as_bytes());
            peer.send(format!("3\r\n{piece}\r\n")).await;
        }
        peer.until("0\r\n\r\n").await;
        peer.send("0\r\n\r\n").await;
        peer.next_head().await;
    });
    let client = client(&memory);
    let (pieces, body) = pieces();
    let mut response = client.send(post(body)).await.expect("response");
    for piece in ["one", "two"] {
        pieces.send(Ok(Frame::data(piece.into()))).expect("open");
        let frame = response.body_mut().frame().await.expect("frame").expect("data");
        assert_eq!(frame.into_data().expect("data"), piece);
    }
    drop(pieces);
    assert!(response.body_mut().frame().await.is_none());
    assert_eq!(client.stats().connections_idle, 1, "both directions are over");
    drop(client);
    memory.done().await;
}

/// RFC 9112 §9.3: who was answered before the end of the request cannot use the connection again.
#[tokio::test]
async fn an_early_answer_ends_the_upload_and_the_connection() {
    let memory = Memory::new(|_, mut peer| async move {
        peer.head().await;
        peer.send("HTTP/1.1 413 Too Large\r\ncontent-length: 2\r\n\r\nno").await;
        peer.closed().await;
    });
    let client = client(&memory);
    let (_pieces, body) = pieces();
    let response = client.send(post(body)).await.expect("response");
    assert_eq!(response.status(), 413);
    assert_eq!(response.text(100).await.expect("body"), "no");
    assert_eq!(client.stats().connections_idle, 0);
    memory.done().await;
}

/// A peer that answers and closes while we still send: the answer counts, not the broken pipe.
#[tokio::test]
async fn an_answer_before_a_broken_pipe_is_seen() {
    let memory = Memory::new(|_, mut peer| async move {
        peer.head().await;
        peer.send("HTTP/1.1 413 Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n").await;
    });
    let response = client(&memory).send(post(vec![0; 10_000_000])).await.expect("response");
    assert_eq!(response.status(), 413);
}

#[tokio::test]
async fn content_must_keep_its_promise() {
    struct Liar(u64, Option<&'static str>);
    impl BodyStream for Liar {
        fn poll_frame(
            mut self: Pin<&mut Self>,
            _cx: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
            Poll::Ready(self.1.take().map(|text| Ok(Frame::data(text.into()))))
        }
        fn size_hint(&self) -> http_body::SizeHint {
            http_body::SizeHint::with_exact(self.0)
        }
    }
    let memory = Memory::new(|_, mut peer| async move { peer.closed().await });
    let client = client(&memory);
    for len in [4, 6] {
        let error = client.send(post(Body::stream(Liar(len, Some("hello"))))).await;
        let error = error.expect_err("a lie");
        assert_eq!(error.kind(), ErrorKind::Body, "{error:?}");
    }
    let (pieces, body) = pieces();
    pieces.send(Err(BodyError::Aborted)).expect("open");
    let error = client.send(post(body)).await.expect_err("a failed source");
    assert_eq!(error.kind(), ErrorKind::Body);
    assert_eq!(client.stats().connections_idle, 0);
    memory.done().await;
}

#[tokio::test(start_paused = true)]
async fn expect_continue() {
    let interim = "HTTP/1.1 100 Continue\r\n\r\n";
    // The peer agrees; refuses; and never says anything about it.
    let memory = Memory::new(move |index, mut peer| async move {
        let head = peer.head().await;
        assert!(head.contains("expect: 100-continue\r\n"), "{head}");
        match index {
            0 => {
                let begin = tokio::time::Instant::now();
                peer.send(interim).await;
                assert_eq!(peer.content(5).await, b"hello");
                assert!(begin.elapsed().as_millis() < 1000, "the content came at once");
                peer.send(OK.replace("200 OK\r\n", "200 OK\r\nconnection: close\r\n")).await;
            }
            1 => {
                peer.send("HTTP/1.1 417 No\r\ncontent-length: 0\r\n\r\n").await;
                peer.closed().await;
            }
            _ => {
                let begin = tokio::time::Instant::now();
                assert_eq!(peer.content(5).await, b"hello");
                assert!(begin.elapsed().as_millis() >= 1000, "the client waited");
                peer.send(OK).await;
            }
        }
    });
    let client = client(&memory);
    ok(&client, post("hello").with_expect_continue()).await;
    let response = client.send(post("hello").with_expect_continue()).await.expect("response");
    assert_eq!(response.status(), 417);
    ok(&client, post("hello").with_expect_continue()).await;
    memory.done().await;
    assert_eq!(memory.dialed(), 3);
    // Without content there is nothing to wait for.
    let memory = Memory::new(|_, mut peer| async move {
        assert!(!peer.head().await.contains("expect"));
        peer.send(OK).await;
    });
    ok(
        &crate::support::client(&memory),
        ClientRequest::get(URL).expect("request").with_expect_continue(),
    )
    .await;
}

#[tokio::test]
async fn upgrades() {
    let memory = Memory::new(|_, mut peer| async move {
        let head = peer.head().await;
        assert!(head.contains("upgrade: echo\r\nconnection: upgrade\r\n"), "{head}");
        peer.send("HTTP/1.1 101 Switching\r\nupgrade: Echo\r\nconnection: Upgrade\r\n\r\nearly")
            .await;
        assert_eq!(peer.content(4).await, b"ping");
        peer.send("pong").await;
    });
    let client = client(&memory);
    let request = ClientRequest::get(URL).expect("request");
    let request = request.with_upgrade(HeaderValue::from_static("echo"));
    let response = client.send(request).await.expect("response");
    assert_eq!(response.status(), 101);
    let mut stream = response.into_upgraded().expect("a stream");
    stream.write_all(b"ping").await.expect("write");
    let mut text = String::new();
    stream.read_to_string(&mut text).await.expect("read");
    assert_eq!(text, "earlypong");
    assert_eq!(client.stats().connections_idle, 0);
    memory.done().await;
}

#[tokio::test]
async fn refused_and_malformed_upgrades() {
    let ask = async |response: &'static str| {
        let client = client(&answering(response));
        let request = ClientRequest::get(URL).expect("request");
        client.send(request.with_upgrade(HeaderValue::from_static("a, b"))).await
    };
    let response = ask(OK).await.expect("response");
    let response = response.into_upgraded().expect_err("no switch");
    assert_eq!(response.text(100).await.expect("body"), "ok");
    for response in [
        "HTTP/1.1 101 x\r\n\r\n",
        "HTTP/1.1 101 x\r\nupgrade: b\r\n\r\n",
        "HTTP/1.1 101 x\r\nconnection: upgrade\r\n\r\n",
        "HTTP/1.1 101 x\r\nconnection: upgrade\r\nupgrade: c\r\n\r\n",
    ] {
        let error = ask(response).await.expect_err(response);
        assert_eq!(error.kind(), ErrorKind::Protocol, "{response}");
    }
}

#[tokio::test]
async fn defaults_of_the_client() {
    let memory = Memory::new(|_, mut peer| async move {
        assert!(peer.head().await.contains("user-agent: hearth/0\r\n"));
        peer.send(OK).await;
        let head = peer.head().await;
        assert!(head.contains("user-agent: own\r\n") && !head.contains("hearth/0"), "{head}");
        assert!(head.starts_with("HEAD / HTTP/1.1\r\nhost: other.test\r\n"), "{head}");
        peer.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n").await;
    });
    let client = client_with(&memory, |options| {
        options.user_agent = Some(HeaderValue::from_static("hearth/0"));
    });
    ok(&client, ClientRequest::get(URL).expect("request")).await;
    let request = ClientRequest::new(Method::HEAD, "http://peer.test").expect("request");
    let request = request
        .with_header(header::USER_AGENT, HeaderValue::from_static("own"))
        .with_header(header::HOST, HeaderValue::from_static("other.test"));
    client.send(request).await.expect("response");
    memory.done().await;
}

#[tokio::test]
async fn responses_are_read_in_several_ways() {
    let response = "HTTP/1.1 429 Slow\r\nretry-after: 7\r\nset-cookie: a\r\nset-cookie: b\r\n\
                    content-length: 2\r\n\r\n\u{c4}";
    let client = client(&answering(response));
    let response = client.send(ClientRequest::get(URL).expect("request")).await.expect("response");
    assert_eq!(response.retry_after(), Some(std::time::Duration::from_secs(7)));
    assert_eq!(response.url(), URL);
    assert_eq!(response.headers().get_all(&header::SET_COOKIE).count(), 2);
    assert_eq!(response.header_str(&HeaderName::from_static("set-cookie")), Some("a"));
    let (status, headers, body) = response.into_parts();
    assert_eq!((status.as_u16(), headers.len(), body.len()), (429, 4, Some(2)));
    assert_eq!(body.collect(2).await.expect("body"), "\u{c4}");
    let client =
        crate::support::client(&answering(b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n\xff"));
    let response = client.send(ClientRequest::get(URL).expect("request")).await.expect("response");
    assert_eq!(response.text(9).await.expect_err("not UTF-8").kind(), ErrorKind::Protocol);
}

#[tokio::test]
async fn in_the_words_of_the_http_crate() {
    let memory = Memory::new(|_, mut peer| async move {
        let head = peer.head().await;
        assert!(
            head.starts_with("PATCH /path?query HTTP/1.1\r\nhost: peer.test\r\nx-a: 1\r\n"),
            "{head}"
        );
        assert_eq!(peer.content(5).await, b"hello");
        peer.send(OK).await;
    });
    let request = http::Request::patch(URL).header("x-a", "1").body("hello").expect("request");
    let request = ClientRequest::from_http(request).expect("request");
    let response = client(&memory).send(request).await.expect("response").into_http();
    assert_eq!((response.status().as_u16(), response.version()), (200, http::Version::HTTP_11));
    assert_eq!(response.headers()["content-length"], "2");
    assert_eq!(response.into_body().collect(9).await.expect("body"), "ok");
    let relative = http::Request::get("/path").body(()).expect("request");
    assert_eq!(
        ClientRequest::from_http(relative).expect_err("relative").kind(),
        ErrorKind::Request
    );
}

#[cfg(feature = "json")]
#[tokio::test]
async fn json_both_ways() {
    let memory = Memory::new(|_, mut peer| async move {
        assert!(peer.head().await.contains("content-type: application/json\r\n"));
        assert_eq!(peer.content(7).await, b"{\"a\":1}");
        peer.send("HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\n[1,2,3]").await;
        peer.head().await;
        peer.send(OK).await;
    });
    let client = client(&memory);
    let value = std::collections::BTreeMap::from([("a", 1)]);
    let request = ClientRequest::post(URL, ()).and_then(|request| request.with_json(&value));
    let response = client.send(request.expect("request")).await.expect("response");
    assert_eq!(response.json::<Vec<u8>>(100).await.expect("json"), [1, 2, 3]);
    let response = client.send(ClientRequest::get(URL).expect("request")).await.expect("response");
    let error = response.json::<Vec<u8>>(100).await.expect_err("no JSON");
    assert_eq!(error.kind(), ErrorKind::Protocol);
}

#[tokio::test]
async fn errors_tell_who_must_act_and_no_secrets() {
    use hearth_http_client::{Actor, ClientOptions};
    let mut options = ClientOptions::default();
    options.dialer = Some(std::sync::Arc::new(Refusing));
    let client = hearth_http_client::Client::new(options).expect("client");
    let request = ClientRequest::get("http://peer.test:81/update?token=secret").expect("request");
    let secret = HeaderValue::from_static("Bearer secret");
    let request = request.with_header(header::AUTHORIZATION, secret);
    assert!(!format!("{request:?}").contains("secret"));
    let error = client.send(request).await.expect_err("refused");
    assert_eq!((error.kind(), error.actor()), (ErrorKind::Connect, Actor::Environment));
    assert!(error.is_unprocessed() && error.is_retryable());
    assert_eq!(error.to_string(), "peer.test:81: cannot connect");
    assert!(std::error::Error::source(&error).is_some());
    assert!(!format!("{error:?}").contains("secret"));
    let error: ClientError = ClientRequest::get("http://u:secret@h/").expect_err("credentials");
    assert_eq!((error.kind(), error.actor()), (ErrorKind::Request, Actor::Caller));
    assert!(!error.is_retryable() && !error.to_string().contains("secret"));
    assert!(ClientRequest::new(Method::CONNECT, URL).is_err());
    #[cfg(not(feature = "tls"))]
    {
        let request = ClientRequest::get("https://peer.test/").expect("request");
        assert_eq!(client.send(request).await.expect_err("no TLS").kind(), ErrorKind::Request);
    }
}
