//! HTTP/2 (RFC 9113), by prior knowledge, against a peer that does what the test says.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use ::h2::{Reason, RecvStream, server};
use hearth_http_client::{
    Client, ClientError, ClientOptions, ClientRequest, ErrorKind, TimeoutKind, Versions,
};
use hearth_http_core::{Body, Bytes};
use http::{HeaderMap, HeaderValue, Method, Request, Response, Version, header};
use http_body::Frame;
use tokio::{
    io::DuplexStream,
    time::{Instant, sleep},
};

use crate::{
    requests::pieces,
    support::{Memory, client_with},
};

const URL: &str = "http://peer.test/path?query";

type Connection = server::Connection<DuplexStream, Bytes>;
type Respond = server::SendResponse<Bytes>;

fn client_of(memory: &Arc<Memory>, change: impl FnOnce(&mut ClientOptions)) -> Client {
    client_with(memory, |options| {
        options.versions = Versions::Http2;
        change(options);
    })
}

fn client(memory: &Arc<Memory>) -> Client {
    client_of(memory, |_| {})
}

fn get(path: &str) -> ClientRequest {
    ClientRequest::get(&format!("http://peer.test{path}")).expect("request")
}

async fn fetch(client: &Client, request: ClientRequest) -> Result<Bytes, ClientError> {
    client.send(request).await?.bytes(1 << 24).await
}

/// A peer whose connections are given to `serve`, by their number.
fn peer<F: Future<Output = ()> + Send + 'static>(
    serve: impl Fn(usize, Connection) -> F + Clone + Send + Sync + 'static,
) -> Arc<Memory> {
    Memory::new(move |index, peer| {
        let serve = serve.clone();
        async move {
            let connection = server::handshake(peer.io).await.expect("a client's preface");
            serve(index, connection).await;
        }
    })
}

/// A peer that runs `answer` for every request, all at once.
fn answering<F: Future<Output = ()> + Send + 'static>(
    answer: impl Fn(Request<RecvStream>, Respond) -> F + Clone + Send + Sync + 'static,
) -> Arc<Memory> {
    peer(move |_, mut connection| {
        let answer = answer.clone();
        async move {
            while let Some(Ok((request, respond))) = connection.accept().await {
                tokio::spawn(answer(request, respond));
            }
        }
    })
}

fn respond_with(respond: &mut Respond, status: u16, body: impl Into<Bytes>) {
    let response = Response::builder().status(status).body(()).expect("response");
    let mut stream = respond.send_response(response, false).expect("an open stream");
    stream.send_data(body.into(), true).expect("an open stream");
}

/// All of a request's content and its trailers.
async fn read(mut body: RecvStream) -> (Vec<u8>, Option<HeaderMap>) {
    let mut all = Vec::new();
    while let Some(data) = body.data().await {
        let data = data.expect("data");
        body.flow_control().release_capacity(data.len()).expect("an open stream");
        all.extend_from_slice(&data);
    }
    (all, body.trailers().await.expect("trailers"))
}

#[tokio::test]
async fn requests_and_responses() {
    let memory = answering(|request, mut respond| async move {
        let (parts, body) = request.into_parts();
        let uri = parts.uri.to_string();
        let (body, trailers) = read(body).await;
        let sum = trailers.as_ref().and_then(|trailers| trailers.get("x-sum")).cloned();
        let length = parts.headers.get(header::CONTENT_LENGTH).cloned();
        let fields: Vec<&str> = parts.headers.keys().map(header::HeaderName::as_str).collect();
        let text = format!("{} {uri} {length:?} {} {sum:?} {fields:?}", parts.method, body.len());
        let response = Response::builder().header("content-length", text.len()).body(());
        let mut stream = respond.send_response(response.expect("response"), false).expect("open");
        stream.send_data(text.into(), false).expect("open");
        let mut trailers = HeaderMap::new();
        trailers.insert("x-end", HeaderValue::from_static("1"));
        stream.send_trailers(trailers).expect("open");
    });
    let client = client(&memory);
    let mut response = client.send(get("/path?query")).await.expect("response");
    assert_eq!(response.version(), Version::HTTP_2);
    let frame = response.body_mut().frame().await.expect("frame").expect("data");
    let want = "GET http://peer.test/path?query None 0 None []";
    assert_eq!(frame.into_data().expect("data"), want);
    let frame = response.body_mut().frame().await.expect("frame").expect("trailers");
    assert_eq!(frame.into_trailers().expect("trailers")["x-end"], "1");
    assert!(response.body_mut().frame().await.is_none());

    let request = ClientRequest::post(URL, vec![7; 300_000]).expect("request");
    let fields = [
        ("connection", "x"),
        ("transfer-encoding", "chunked"),
        ("te", "trailers"),
        ("host", "b.test:1"),
    ];
    let request = fields.into_iter().fold(request, |request, (name, value)| {
        request.with_header(header::HeaderName::from_static(name), HeaderValue::from_static(value))
    });
    let text = fetch(&client, request).await.expect("response");
    let want =
        "POST http://b.test:1/path?query Some(\"300000\") 300000 None [\"te\", \"content-length\"]";
    assert_eq!(text, want);

    let (send, body) = pieces();
    let mut trailers = HeaderMap::new();
    trailers.insert("x-sum", HeaderValue::from_static("9"));
    send.send(Ok(Frame::data("hello".into()))).expect("open");
    send.send(Ok(Frame::trailers(trailers))).expect("open");
    let request = ClientRequest::new(Method::PUT, URL).expect("request").with_body(body);
    let text = fetch(&client, request).await.expect("response");
    assert_eq!(text, "PUT http://peer.test/path?query None 5 Some(\"9\") []");
    let request = ClientRequest::post(URL, ()).expect("request");
    let text = fetch(&client, request).await.expect("response");
    assert_eq!(text, "POST http://peer.test/path?query Some(\"0\") 0 None [\"content-length\"]");
    assert_eq!(memory.dialed(), 1);
}

#[tokio::test]
async fn one_connection_carries_all() {
    let busy = Arc::new(AtomicUsize::new(0));
    let seen = busy.clone();
    let all_here = Arc::new(tokio::sync::Barrier::new(50));
    let memory = answering(move |request, mut respond| {
        let (busy, all_here) = (busy.clone(), all_here.clone());
        async move {
            busy.fetch_add(1, SeqCst);
            all_here.wait().await;
            respond_with(&mut respond, 200, request.uri().path().to_owned());
        }
    });
    let client = client(&memory);
    let mut requests = tokio::task::JoinSet::new();
    for index in 0..50 {
        let client = client.clone();
        requests.spawn(async move {
            let path = format!("/{index}");
            assert_eq!(fetch(&client, get(&path)).await.expect("response"), path);
        });
    }
    while let Some(done) = requests.join_next().await {
        done.expect("request");
    }
    assert_eq!((memory.dialed(), seen.load(SeqCst)), (1, 50));
    let stats = client.stats();
    assert_eq!((stats.connections_opened, stats.connections_reused), (1, 49));
}

/// A peer that allows few streams makes requests wait, not fail.
#[tokio::test]
async fn streams_wait_for_their_turn() {
    let memory = Memory::new(|_, peer| async move {
        let mut builder = server::Builder::new();
        let mut connection: Connection =
            builder.max_concurrent_streams(2).handshake(peer.io).await.expect("preface");
        while let Some(Ok((_, mut respond))) = connection.accept().await {
            tokio::spawn(async move {
                tokio::task::yield_now().await;
                respond_with(&mut respond, 200, "ok");
            });
        }
    });
    let client = client(&memory);
    fetch(&client, get("/first")).await.expect("the peer's settings are known now");
    let mut requests = tokio::task::JoinSet::new();
    for _ in 0..30 {
        let client = client.clone();
        requests.spawn(async move { fetch(&client, get("/")).await.expect("response") });
    }
    while let Some(done) = requests.join_next().await {
        assert_eq!(done.expect("request"), "ok");
    }
    assert_eq!((memory.dialed(), client.stats().retries), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn waiting_for_a_stream_ends() {
    let memory = Memory::new(|_, peer| async move {
        let mut builder = server::Builder::new();
        let mut connection: Connection =
            builder.max_concurrent_streams(1).handshake(peer.io).await.expect("preface");
        while let Some(Ok((request, mut respond))) = connection.accept().await {
            if request.uri().path() == "/silent" {
                tokio::spawn(async move {
                    sleep(Duration::from_secs(15)).await;
                    respond_with(&mut respond, 200, "late");
                });
            } else {
                respond_with(&mut respond, 200, "ok");
            }
        }
    });
    let client = client(&memory);
    fetch(&client, get("/")).await.expect("the peer's settings are known now");
    let slow = tokio::spawn({
        let client = client.clone();
        async move { fetch(&client, get("/silent")).await }
    });
    tokio::task::yield_now().await;
    let begin = Instant::now();
    let error = fetch(&client, get("/")).await.expect_err("no stream is free");
    assert_eq!(error.kind(), ErrorKind::Timeout(TimeoutKind::PoolWait));
    assert_eq!((begin.elapsed().as_secs(), error.is_retryable()), (10, true));
    let waiting = fetch(&client, get("/")).await;
    assert_eq!((waiting.expect("in time"), begin.elapsed().as_secs()), ("ok".into(), 15));
    assert_eq!(slow.await.expect("task").expect("response"), "late");
    assert_eq!(memory.dialed(), 1);
}

#[tokio::test(start_paused = true)]
async fn old_connections_are_replaced() {
    let memory = answering(|_, mut respond| async move { respond_with(&mut respond, 200, "ok") });
    let client = client_of(&memory, |options| options.pool.age_max = Duration::from_secs(100));
    for _ in 0..30 {
        fetch(&client, get("/")).await.expect("response");
        sleep(Duration::from_secs(10)).await;
    }
    assert_eq!(memory.dialed(), 3);
}

#[tokio::test]
async fn an_unread_response_stops_the_peer() {
    let sent = Arc::new(AtomicUsize::new(0));
    let seen = sent.clone();
    let memory = answering(move |request, mut respond| {
        let sent = sent.clone();
        async move {
            if request.uri().path() == "/small" {
                return respond_with(&mut respond, 200, "ok");
            }
            let mut stream = respond.send_response(Response::new(()), false).expect("open");
            for _ in 0..400 {
                stream.reserve_capacity(10_000);
                while stream.capacity() < 10_000 {
                    let room = std::future::poll_fn(|cx| stream.poll_capacity(cx)).await;
                    room.expect("open").expect("room");
                }
                stream.send_data(vec![7; 10_000].into(), false).expect("open");
                sent.fetch_add(10_000, SeqCst);
            }
            stream.send_data(Bytes::new(), true).expect("open");
        }
    });
    let client = client_of(&memory, |options| options.limits.h2_stream_window = 100_000);
    let response = client.send(get("/large")).await.expect("response");
    // Others are not held up by it.
    for _ in 0..50 {
        assert_eq!(fetch(&client, get("/small")).await.expect("response"), "ok");
    }
    assert_eq!(seen.load(SeqCst), 100_000, "the window, and no more");
    assert_eq!(response.bytes(1 << 24).await.expect("body").len(), 4_000_000);
    assert_eq!(seen.load(SeqCst), 4_000_000);
}

#[tokio::test]
async fn an_unread_request_stops_its_source() {
    let release = Arc::new(tokio::sync::Notify::new());
    let may_read = release.clone();
    let memory = answering(move |request, mut respond| {
        let may_read = may_read.clone();
        async move {
            may_read.notified().await;
            let (body, _) = read(request.into_body()).await;
            respond_with(&mut respond, 200, body.len().to_string());
        }
    });
    let client = client(&memory);
    let polled = Arc::new(AtomicUsize::new(0));
    struct Counting(Arc<AtomicUsize>);
    impl hearth_http_core::BodyStream for Counting {
        fn poll_frame(
            self: std::pin::Pin<&mut Self>,
            _cx: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Option<Result<Frame<Bytes>, hearth_http_core::BodyError>>> {
            let count = self.0.fetch_add(1, SeqCst);
            let data = (count < 400).then(|| Ok(Frame::data(vec![7; 10_000].into())));
            std::task::Poll::Ready(data)
        }
    }
    let request =
        ClientRequest::post(URL, Body::stream(Counting(polled.clone()))).expect("request");
    let exchange = tokio::spawn({
        let client = client.clone();
        async move { fetch(&client, request).await }
    });
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    // RFC 9113 §6.9.2: the first window is 65,535 bytes.
    assert!(polled.load(SeqCst) <= 8, "{} pieces were taken", polled.load(SeqCst));
    release.notify_one();
    assert_eq!(exchange.await.expect("task").expect("response"), "4000000");
}

#[tokio::test]
async fn refused_streams_are_sent_once_more() {
    let count = Arc::new(AtomicUsize::new(0));
    for (refusals, is_ok) in [(1, true), (2, false)] {
        count.store(0, SeqCst);
        let count = count.clone();
        let memory = answering(move |request, mut respond| {
            let number = count.fetch_add(1, SeqCst);
            async move {
                if number < refusals {
                    return respond.send_reset(Reason::REFUSED_STREAM);
                }
                let (body, _) = read(request.into_body()).await;
                respond_with(&mut respond, 200, body);
            }
        });
        let client = client(&memory);
        // Even a POST: the peer says that it has not looked at it.
        let request = ClientRequest::post(URL, "content").expect("request");
        match fetch(&client, request).await {
            Ok(body) => assert!(is_ok && body == "content"),
            Err(error) => {
                assert!(!is_ok && error.is_unprocessed() && error.is_retryable(), "{error:?}");
                assert_eq!(error.kind(), ErrorKind::Closed);
            }
        }
        assert_eq!((memory.dialed(), client.stats().retries), (1, 1));
    }
}

#[tokio::test]
async fn other_resets_are_errors() {
    for reason in [Reason::CANCEL, Reason::INTERNAL_ERROR, Reason::PROTOCOL_ERROR] {
        let memory = answering(move |request, mut respond| async move {
            if request.uri().path() == "/reset" {
                return respond.send_reset(reason);
            }
            let mut stream = respond.send_response(Response::new(()), false).expect("open");
            stream.send_data("half".into(), false).expect("open");
            // What was sent before a reset may be dropped with it.
            tokio::task::yield_now().await;
            stream.send_reset(reason);
        });
        let client = client(&memory);
        let error = fetch(&client, get("/reset")).await.expect_err("reset");
        assert_eq!((error.kind(), error.is_unprocessed()), (ErrorKind::Closed, false), "{reason}");
        let error = fetch(&client, get("/half")).await.expect_err("reset");
        assert_eq!((error.kind(), error.is_unprocessed()), (ErrorKind::Closed, false), "{reason}");
        assert_eq!((memory.dialed(), client.stats().retries), (1, 0));
    }
}

/// A peer that leaves: what it has seen it answers, what it has not goes elsewhere.
#[tokio::test]
async fn goaway() {
    let memory = peer(|_, mut connection| async move {
        let mut count = 0;
        while let Some(Ok((request, mut respond))) = connection.accept().await {
            count += 1;
            if count == 3 {
                connection.graceful_shutdown();
            }
            tokio::spawn(async move {
                for _ in 0..20 {
                    tokio::task::yield_now().await;
                }
                respond_with(&mut respond, 200, request.uri().path().to_owned());
            });
        }
    });
    let client = client(&memory);
    let mut requests = tokio::task::JoinSet::new();
    for index in 0..10 {
        let client = client.clone();
        requests.spawn(async move {
            let path = format!("/{index}");
            // As a POST, so that nothing is repeated which the peer might have seen.
            let request = ClientRequest::post(&format!("http://peer.test{path}"), "x");
            assert_eq!(fetch(&client, request.expect("request")).await.expect("response"), path);
        });
        tokio::task::yield_now().await;
    }
    while let Some(done) = requests.join_next().await {
        done.expect("request");
    }
    assert!(memory.dialed() > 1, "the first connection was left");
}

#[tokio::test]
async fn a_dead_connection_is_replaced() {
    let memory = peer(|index, mut connection| async move {
        while let Some(Ok((request, mut respond))) = connection.accept().await {
            if index == 0 && request.uri().path() == "/die" {
                return;
            }
            respond_with(&mut respond, 200, "ok");
        }
    });
    let client = client(&memory);
    fetch(&client, get("/")).await.expect("response");
    // It had been used before, so that it may have been dead already: a GET goes once more.
    assert_eq!(fetch(&client, get("/die")).await.expect("response"), "ok");
    assert_eq!((memory.dialed(), client.stats().retries), (2, 1));
    let memory = peer(|_, mut connection| async move {
        connection.accept().await;
    });
    let client = self::client(&memory);
    let error = fetch(&client, get("/die")).await.expect_err("closed");
    assert_eq!((error.kind(), memory.dialed()), (ErrorKind::Closed, 1), "{error:?}");
    let error = fetch(&client, get("/die")).await.expect_err("closed");
    assert_eq!((error.kind(), memory.dialed()), (ErrorKind::Closed, 2), "{error:?}");
}

/// RFC 9113 §8.1: an answer before the end of the request, and `NO_ERROR` to stop the upload.
#[tokio::test]
async fn an_early_answer_stops_the_upload() {
    let memory = answering(|_request, mut respond| async move {
        let response = Response::builder().status(413).body(()).expect("response");
        let mut stream = respond.send_response(response, false).expect("open");
        stream.send_data("no".into(), true).expect("open");
        // Dropping the request's body resets the stream.
    });
    let client = client(&memory);
    let request = ClientRequest::post(URL, vec![0; 10_000_000]).expect("request");
    let response = client.send(request).await.expect("response");
    assert_eq!(response.status(), 413);
    assert_eq!(response.text(10).await.expect("body"), "no");
    assert_eq!(client.stats().connections_idle, 1, "the connection goes on");
}

#[tokio::test]
async fn content_may_follow_the_response() {
    let memory = answering(|request, mut respond| async move {
        let mut stream = respond.send_response(Response::new(()), false).expect("open");
        let mut body = request.into_body();
        while let Some(data) = body.data().await {
            stream.send_data(data.expect("data"), false).expect("open");
        }
        stream.send_data(Bytes::new(), true).expect("open");
    });
    let client = client(&memory);
    let (send, body) = pieces();
    let request = ClientRequest::post(URL, body).expect("request");
    let mut response = client.send(request).await.expect("response");
    for piece in ["one", "two"] {
        send.send(Ok(Frame::data(piece.into()))).expect("open");
        let frame = response.body_mut().frame().await.expect("frame").expect("data");
        assert_eq!(frame.into_data().expect("data"), piece);
    }
    drop(send);
    assert!(response.body_mut().frame().await.is_none());
}

/// Dropping resets the stream and nothing else.
#[tokio::test]
async fn cancelling() {
    let resets = Arc::new(AtomicUsize::new(0));
    let seen = resets.clone();
    let memory = answering(move |request, mut respond| {
        let resets = resets.clone();
        async move {
            match request.uri().path() {
                "/ok" => respond_with(&mut respond, 200, "ok"),
                "/silent" => {
                    let reset = std::future::poll_fn(|cx| respond.poll_reset(cx)).await;
                    assert_eq!(reset.expect("a reset"), Reason::CANCEL);
                    resets.fetch_add(1, SeqCst);
                }
                _ => {
                    let mut stream = respond.send_response(Response::new(()), false).expect("open");
                    stream.send_data("half".into(), false).expect("open");
                    let reset = std::future::poll_fn(|cx| stream.poll_reset(cx)).await;
                    assert_eq!(reset.expect("a reset"), Reason::CANCEL);
                    resets.fetch_add(1, SeqCst);
                }
            }
        }
    });
    let client = client(&memory);
    for count in 1..=20 {
        let exchange = tokio::spawn({
            let client = client.clone();
            async move { client.send(get("/silent")).await }
        });
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        exchange.abort();
        assert!(exchange.await.expect_err("aborted").is_cancelled());
        let mut response = client.send(get("/half")).await.expect("response");
        response.body_mut().frame().await.expect("frame").expect("data");
        drop(response);
        assert_eq!(fetch(&client, get("/ok")).await.expect("response"), "ok");
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        assert_eq!((seen.load(SeqCst), memory.dialed()), (2 * count, 1));
    }
}

#[tokio::test]
async fn the_connection_lives_as_long_as_someone_needs_it() {
    let memory = peer(|_, mut connection| async move {
        let (_, mut respond) = connection.accept().await.expect("a request").expect("open");
        let mut stream = respond.send_response(Response::new(()), false).expect("open");
        stream.send_data("half".into(), false).expect("open");
        let rest = async {
            for _ in 0..50 {
                tokio::task::yield_now().await;
            }
            stream.send_data("rest".into(), true).expect("open");
        };
        let (_, closed) = tokio::join!(rest, connection.accept());
        assert!(closed.is_none_or(|end| end.is_err()));
    });
    let client = client(&memory);
    let response = client.send(get("/")).await.expect("response");
    drop(client);
    assert_eq!(response.bytes(100).await.expect("body"), "halfrest");
    memory.done().await;
}

#[tokio::test(start_paused = true)]
async fn timeouts_and_idle_connections() {
    let memory = answering(|request, mut respond| async move {
        match request.uri().path() {
            "/silent" => sleep(Duration::from_secs(1000)).await,
            "/half" => {
                let mut stream = respond.send_response(Response::new(()), false).expect("open");
                stream.send_data("half".into(), false).expect("open");
                sleep(Duration::from_secs(1000)).await;
            }
            _ => respond_with(&mut respond, 200, "ok"),
        }
    });
    let client = client(&memory);
    let begin = Instant::now();
    let error = fetch(&client, get("/half")).await.expect_err("too slow");
    assert_eq!(error.kind(), ErrorKind::Timeout(TimeoutKind::BodyIdle));
    assert_eq!((begin.elapsed().as_secs(), client.stats().connections_idle), (30, 1));
    let error = fetch(&client, get("/silent")).await.expect_err("too slow");
    assert_eq!(error.kind(), ErrorKind::Timeout(TimeoutKind::ResponseHead));
    assert_eq!((begin.elapsed().as_secs(), client.stats().connections_idle), (60, 0));
    fetch(&client, get("/")).await.expect("on a new connection");
    assert_eq!((memory.dialed(), client.stats().connections_idle), (2, 1));
    sleep(Duration::from_secs(61)).await;
    assert_eq!(client.stats().connections_idle, 0, "unused for a minute");
}

#[tokio::test]
async fn limits_of_the_head() {
    let memory = answering(|request, mut respond| async move {
        let mut response = Response::builder();
        match request.uri().path() {
            "/many" => {
                for index in 0..129 {
                    response = response.header(format!("x-{index}"), "y");
                }
            }
            "/large" => response = response.header("x", "y".repeat(70_000)),
            _ => {
                for _ in 0..17 {
                    let interim = Response::builder().status(103).body(()).expect("response");
                    respond.send_informational(interim).expect("open");
                }
            }
        }
        let _ = respond.send_response(response.body(()).expect("response"), true);
    });
    for (path, want) in [
        ("/many", ErrorKind::TooLarge),
        ("/interim", ErrorKind::Protocol),
        ("/large", ErrorKind::Protocol),
    ] {
        let error = fetch(&client(&memory), get(path)).await.expect_err(path);
        assert_eq!(error.kind(), want, "{path}: {error:?}");
    }
}

#[tokio::test]
async fn content_must_be_as_long_as_it_says() {
    let memory = answering(|request, mut respond| async move {
        let response = Response::builder().header("content-length", "5").body(());
        let mut stream = respond.send_response(response.expect("response"), false).expect("open");
        let text = if request.uri().path() == "/short" { "hell" } else { "hello!" };
        stream.send_data(text.into(), true).expect("open");
    });
    for path in ["/short", "/long"] {
        let error = fetch(&client(&memory), get(path)).await.expect_err(path);
        assert_eq!(error.kind(), ErrorKind::Protocol, "{path}: {error:?}");
    }
}

#[tokio::test]
async fn a_peer_that_does_not_know_http2() {
    let memory = Memory::new(|_, mut peer| async move {
        peer.send("HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n").await;
        peer.closed().await;
    });
    let error = fetch(&client(&memory), get("/")).await.expect_err("no HTTP/2");
    assert_eq!(error.kind(), ErrorKind::Protocol, "{error:?}");
}
