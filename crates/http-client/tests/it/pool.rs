//! Which connection a request gets.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use hearth_http_client::{Client, ClientRequest, ErrorKind, TimeoutKind};
use http::Method;
use tokio::time::sleep;

use crate::support::{Memory, answering, client, client_with};

const URL: &str = "http://peer.test/";
const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

async fn get(client: &Client, url: &str) {
    let response = client.send(ClientRequest::get(url).expect("request")).await.expect("response");
    assert_eq!(response.text(100).await.expect("body"), "ok");
}

#[tokio::test]
async fn connections_are_used_again() {
    for response in [
        OK.to_owned(),
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n".to_owned(),
        OK.replace("HTTP/1.1 200 OK\r\n", "HTTP/1.0 200 OK\r\nconnection: Keep-Alive\r\n"),
    ] {
        let memory = answering(response.clone());
        let client = client(&memory);
        for _ in 0..5 {
            get(&client, URL).await;
        }
        assert_eq!(memory.dialed(), 1, "{response}");
        let stats = client.stats();
        assert_eq!((stats.connections_opened, stats.connections_reused), (1, 4));
        assert_eq!((stats.connections_idle, stats.retries), (1, 0));
    }
}

#[tokio::test]
async fn what_keeps_a_connection_from_being_used_again() {
    for response in [
        OK.replace("200 OK\r\n", "200 OK\r\nconnection: close\r\n"),
        OK.replace("200 OK\r\n", "200 OK\r\nconnection: x, Close\r\n"),
        OK.replace("200 OK\r\n", "200 OK\r\nconnection: keep-alive\r\nkeep-alive: timeout=1\r\n"),
        OK.replace("HTTP/1.1", "HTTP/1.0"),
        format!("{OK}x"),
    ] {
        let memory = answering(response.clone());
        let client = client(&memory);
        get(&client, URL).await;
        get(&client, URL).await;
        assert_eq!(memory.dialed(), 2, "{response}");
    }
    let memory = answering(OK);
    let client = client_with(&memory, |options| options.pool.idle_per_origin_max = 0);
    get(&client, URL).await;
    get(&client, URL).await;
    assert_eq!(memory.dialed(), 2);
}

#[tokio::test]
async fn origins_share_nothing() {
    let memory = answering(OK);
    let client = client(&memory);
    for url in ["http://a.test/", "http://b.test/", "http://a.test:81/", "http://A.test:80/x"] {
        get(&client, url).await;
    }
    assert_eq!(memory.dialed(), 3);
    // A clone shares, another client does not.
    get(&client.clone(), "http://a.test/").await;
    assert_eq!(memory.dialed(), 3);
    get(&crate::support::client(&memory), "http://a.test/").await;
    assert_eq!(memory.dialed(), 4);
}

#[tokio::test(start_paused = true)]
async fn idle_connections_are_closed_in_time() {
    let memory = Memory::new(|index, mut peer| async move {
        let (head, limit) = match index {
            0 => ("", 60),
            _ => ("keep-alive: timeout=5, max=100\r\n", 4),
        };
        let begin = tokio::time::Instant::now();
        peer.head().await;
        peer.send(OK.replace("200 OK\r\n", &format!("200 OK\r\n{head}"))).await;
        peer.closed().await;
        assert_eq!(begin.elapsed().as_secs(), limit);
    });
    let client = client(&memory);
    let (a, b) = tokio::join!(
        client.send(ClientRequest::get(URL).expect("request")),
        client.send(ClientRequest::get(URL).expect("request")),
    );
    for response in [a, b] {
        response.expect("response").bytes(10).await.expect("body");
    }
    assert_eq!(client.stats().connections_idle, 2);
    sleep(Duration::from_secs(5)).await;
    assert_eq!(client.stats().connections_idle, 1);
    memory.done().await;
    assert_eq!(client.stats().connections_idle, 0);
}

#[tokio::test(start_paused = true)]
async fn old_connections_are_replaced() {
    let memory = answering(OK);
    let client = client_with(&memory, |options| options.pool.age_max = Duration::from_secs(100));
    for _ in 0..30 {
        get(&client, URL).await;
        sleep(Duration::from_secs(10)).await;
    }
    assert_eq!(memory.dialed(), 3);
}

#[tokio::test]
async fn dropping_the_client_closes_idle_connections() {
    let memory = Memory::new(|_, mut peer| async move {
        peer.head().await;
        peer.send(OK).await;
        peer.closed().await;
    });
    let client = client(&memory);
    get(&client, URL).await;
    drop(client);
    memory.done().await;
}

#[tokio::test(start_paused = true)]
async fn no_more_connections_than_allowed_and_a_fair_queue() {
    let busy = Arc::new(AtomicUsize::new(0));
    let seen = busy.clone();
    let memory = Memory::new(move |_, mut peer| {
        let busy = busy.clone();
        async move {
            while let Some(_head) = peer.next_head().await {
                assert!(busy.fetch_add(1, SeqCst) < 3, "more than three at once");
                sleep(Duration::from_secs(1)).await;
                busy.fetch_sub(1, SeqCst);
                peer.send(OK).await;
            }
        }
    });
    let client = client_with(&memory, |options| options.pool.connections_per_origin_max = 3);
    let mut requests = tokio::task::JoinSet::new();
    for index in 0..12_usize {
        let client = client.clone();
        requests.spawn(async move {
            get(&client, URL).await;
            index
        });
    }
    let mut order = Vec::new();
    while let Some(index) = requests.join_next().await {
        order.push(index.expect("request"));
    }
    // In threes, and nobody overtakes a three.
    for (three, indices) in order.chunks(3).enumerate() {
        assert!(indices.iter().all(|index| index / 3 == three), "{order:?}");
    }
    assert_eq!((memory.dialed(), seen.load(SeqCst)), (3, 0));
}

#[tokio::test(start_paused = true)]
async fn waiting_for_a_connection_ends() {
    let memory = Memory::new(|_, mut peer| async move { peer.closed().await });
    let client = client_with(&memory, |options| options.pool.connections_per_origin_max = 1);
    let held = tokio::spawn({
        let client = client.clone();
        async move { client.send(ClientRequest::get(URL).expect("request")).await }
    });
    tokio::task::yield_now().await;
    let begin = tokio::time::Instant::now();
    let error = client.send(ClientRequest::get(URL).expect("request")).await.expect_err("full");
    assert_eq!(error.kind(), ErrorKind::Timeout(TimeoutKind::PoolWait));
    assert!(error.is_unprocessed() && error.is_retryable());
    assert_eq!(begin.elapsed().as_secs(), 10);
    held.abort();
}

/// A kept connection that the peer closed meanwhile is noticed before anything is sent on it.
#[tokio::test]
async fn closed_connections_are_noticed() {
    let memory = Memory::new(|_, mut peer| async move {
        peer.head().await;
        peer.send(OK).await;
    });
    let client = client(&memory);
    for _ in 0..3 {
        let request = ClientRequest::post(URL, "x").expect("request");
        client.send(request).await.expect("response").bytes(10).await.expect("body");
        memory.done().await;
    }
    assert_eq!((memory.dialed(), client.stats().retries), (3, 0));
}

/// A peer that closes a kept connection while the request is on its way.
fn closing_on_reuse(answer: &'static str) -> Arc<Memory> {
    Memory::new(move |_, mut peer| async move {
        peer.head().await;
        peer.send(OK).await;
        if peer.next_head().await.is_some() {
            peer.send(answer).await;
        }
    })
}

#[tokio::test]
async fn idempotent_requests_are_sent_once_more() {
    for method in [Method::GET, Method::HEAD, Method::PUT, Method::DELETE, Method::OPTIONS] {
        let memory = closing_on_reuse("");
        let client = client(&memory);
        get(&client, URL).await;
        let request = ClientRequest::new(method.clone(), URL).expect("request").with_body("again");
        client.send(request).await.expect("response");
        assert_eq!((memory.dialed(), client.stats().retries), (2, 1), "{method}");
    }
}

#[tokio::test]
async fn what_is_not_sent_once_more() {
    let request = |method| ClientRequest::new(method, URL).expect("request");
    let stream = || hearth_http_core::Body::from_http_body(hearth_http_core::Body::from("x"));
    for (name, answer, request) in [
        ("not idempotent", "", request(Method::POST)),
        ("not idempotent by wish", "", request(Method::GET).with_idempotent(false)),
        ("a byte was received", "H", request(Method::GET)),
        ("content that is gone", "", request(Method::PUT).with_body(stream())),
    ] {
        let memory = closing_on_reuse(answer);
        let client = client(&memory);
        get(&client, URL).await;
        let error = client.send(request).await.expect_err(name);
        assert_eq!(error.kind(), ErrorKind::Closed, "{name}");
        assert_eq!((memory.dialed(), client.stats().retries), (1, 0), "{name}");
        assert_eq!(
            error.is_retryable(),
            name.ends_with("received") || name.ends_with("gone"),
            "{name}"
        );
    }
    // A new connection that dies is no stale one.
    let memory = Memory::new(|_, mut peer| async move {
        peer.head().await;
    });
    let error = client(&memory).send(request(Method::GET)).await.expect_err("closed");
    assert_eq!((error.kind(), memory.dialed()), (ErrorKind::Closed, 1));
    // By wish, a POST that does no harm twice.
    let memory = closing_on_reuse("");
    let client = client(&memory);
    get(&client, URL).await;
    client.send(request(Method::POST).with_idempotent(true)).await.expect("response");
    assert_eq!(client.stats().retries, 1);
}

#[tokio::test]
async fn many_origins_are_forgotten() {
    let memory = answering(OK.replace("200 OK\r\n", "200 OK\r\nconnection: close\r\n"));
    let client = client(&memory);
    for index in 0..600 {
        get(&client, &format!("http://host-{index}.test/")).await;
    }
    assert_eq!(client.stats().connections_idle, 0);
}
