//! Each phase has a deadline. The clock is not the real one.

use std::{sync::Arc, time::Duration};

use hearth_http_client::{
    Client, ClientError, ClientOptions, ClientRequest, Dial, DialFuture, ErrorKind, TimeoutKind,
};
use hearth_http_core::Bytes;
use http_body::Frame;
use tokio::time::{Instant, sleep};

use crate::{
    requests::pieces,
    support::{Memory, client, client_with},
};

const URL: &str = "http://peer.test/";

fn get() -> ClientRequest {
    ClientRequest::get(URL).expect("request")
}

async fn fetch(client: &Client, request: ClientRequest) -> Result<Bytes, ClientError> {
    client.send(request).await?.bytes(1 << 20).await
}

/// The request must fail for `which` after `seconds`, and leave nothing behind.
async fn check(client: &Client, request: ClientRequest, which: TimeoutKind, seconds: u64) {
    let begin = Instant::now();
    let error = fetch(client, request).await.expect_err("too slow");
    assert_eq!(error.kind(), ErrorKind::Timeout(which), "{error:?}");
    assert_eq!(begin.elapsed().as_secs(), seconds, "{which:?}");
    assert_eq!(client.stats().connections_idle, 0, "{which:?}");
    assert!(error.is_retryable(), "{which:?}");
}

/// A peer that reads a head and then sends `pieces`, one every `pause` seconds.
fn dripping(pieces: &'static [&'static str], pause: u64) -> Arc<Memory> {
    Memory::new(move |_, mut peer| async move {
        peer.head().await;
        for piece in pieces {
            sleep(Duration::from_secs(pause)).await;
            peer.send(piece).await;
        }
        peer.closed().await;
    })
}

const HEAD: &str = "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n";

#[tokio::test(start_paused = true)]
async fn connecting() {
    struct Never;
    impl Dial for Never {
        fn dial<'a>(&'a self, _host: &'a str, _port: u16) -> DialFuture<'a> {
            Box::pin(std::future::pending())
        }
    }
    let mut options = ClientOptions::default();
    options.dialer = Some(Arc::new(Never));
    let client = Client::new(options).expect("client");
    check(&client, get(), TimeoutKind::Connect, 10).await;
}

#[cfg(feature = "tls")]
#[tokio::test(start_paused = true)]
async fn tls_handshake() {
    let memory = Memory::new(|_, mut peer| async move { peer.closed().await });
    let request = ClientRequest::get("https://peer.test/").expect("request");
    check(&client(&memory), request, TimeoutKind::Tls, 10).await;
    memory.done().await;
}

#[tokio::test(start_paused = true)]
async fn response_head() {
    let memory = dripping(&[], 0);
    check(&client(&memory), get(), TimeoutKind::ResponseHead, 30).await;
    memory.done().await;
    // Neither drops of a head nor interim responses buy time.
    let memory = dripping(&["HTTP", "/1.1", " 200", " OK\r\n", "x: y"], 10);
    check(&client(&memory), get(), TimeoutKind::ResponseHead, 30).await;
    memory.done().await;
    let memory = dripping(&["HTTP/1.1 102 x\r\n\r\n"; 10], 10);
    check(&client(&memory), get(), TimeoutKind::ResponseHead, 30).await;
    memory.done().await;
}

#[tokio::test(start_paused = true)]
async fn sending() {
    // A slow source of content is the caller's business: the clock runs from the last piece.
    let memory = Memory::new(|_, mut peer| async move {
        peer.head().await;
        peer.closed().await;
    });
    let (send, body) = pieces();
    tokio::spawn(async move {
        for _ in 0..3 {
            sleep(Duration::from_secs(25)).await;
            let _ = send.send(Ok(Frame::data("x".into())));
        }
        std::future::pending::<()>().await;
    });
    let request = ClientRequest::post(URL, body).expect("request").with_idempotent(true);
    check(&client(&memory), request, TimeoutKind::ResponseHead, 105).await;
    // A peer that takes nothing: 30 s from the last byte that it took.
    let memory = Memory::new(|_, peer| async move {
        sleep(Duration::from_secs(1000)).await;
        drop(peer);
    });
    let request = ClientRequest::post(URL, vec![0; 1 << 20]).expect("request");
    let request = request.with_idempotent(true);
    check(&client(&memory), request, TimeoutKind::ResponseHead, 30).await;
}

#[tokio::test(start_paused = true)]
async fn body() {
    let memory = dripping(&[HEAD, "abc"], 0);
    check(&client(&memory), get(), TimeoutKind::BodyIdle, 30).await;
    memory.done().await;
    // Drops do buy time here, as long as they come.
    let memory = dripping(&[HEAD, "abc", "def", "ghi"], 20);
    assert_eq!(fetch(&client(&memory), get()).await.expect("slow, but steady"), "abcdefghi");
}

/// Time in which nobody asked for content does not count against the peer.
#[tokio::test(start_paused = true)]
async fn a_slow_reader_is_not_a_slow_peer() {
    let memory = dripping(&[HEAD, "abc", "defghi"], 0);
    let mut response = client(&memory).send(get()).await.expect("response");
    for want in ["abcdefghi"] {
        sleep(Duration::from_secs(3600)).await;
        let frame = response.body_mut().frame().await.expect("frame").expect("in time");
        assert_eq!(frame.into_data().expect("data"), want);
    }
}

#[tokio::test(start_paused = true)]
async fn total() {
    let limit = Duration::from_secs(5);
    let silent = dripping(&[], 0);
    check(&client(&silent), get().with_timeout(limit), TimeoutKind::Total, 5).await;
    let stalled = dripping(&[HEAD], 2);
    check(&client(&stalled), get().with_timeout(limit), TimeoutKind::Total, 5).await;
    let dripping_for_ever = dripping(&["HTTP/1.1 200 OK\r\n\r\n", "x", "x", "x", "x", "x", "x"], 1);
    check(&client(&dripping_for_ever), get().with_timeout(limit), TimeoutKind::Total, 5).await;
    let by_default = client_with(&dripping(&[], 0), |options| options.timeouts.total = Some(limit));
    check(&by_default, get(), TimeoutKind::Total, 5).await;
}
