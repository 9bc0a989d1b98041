//! Dropping a future or a response at any point never leaves a half-used connection behind.

use std::{
    pin::pin,
    task::{Context, Poll},
};

use hearth_http_client::{Client, ClientRequest};
use tokio::task::yield_now;

use crate::support::{Memory, client_with};

/// Answers each request with its path, in small pieces.
fn echoing(is_chunked: bool) -> std::sync::Arc<Memory> {
    Memory::new(move |_, mut peer| async move {
        while let Some(head) = peer.next_head().await {
            let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
            let response = if is_chunked {
                format!(
                    "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n{path}\r\n0\r\n\r\n",
                    path.len()
                )
            } else {
                format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{path}", path.len())
            };
            for piece in response.as_bytes().chunks(7) {
                peer.send(piece).await;
                yield_now().await;
            }
        }
    })
}

async fn fetch(client: &Client, path: &str) -> String {
    let request = ClientRequest::get(&format!("http://peer.test{path}")).expect("request");
    let response = client.send(request).await.expect("response");
    response.text(100).await.expect("body")
}

/// Polls `future` at most `count` times; whether it ended.
async fn poll_times(future: impl Future, count: usize) -> bool {
    let mut future = pin!(future);
    for _ in 0..count {
        let poll = std::future::poll_fn(|cx: &mut Context<'_>| {
            Poll::Ready(future.as_mut().poll(cx).is_ready())
        });
        if poll.await {
            return true;
        }
        yield_now().await;
    }
    false
}

#[tokio::test(start_paused = true)]
async fn at_any_poll() {
    for is_chunked in [false, true] {
        let memory = echoing(is_chunked);
        // With one connection at most, a place in the pool that was not given back would stop all.
        let client = client_with(&memory, |options| options.pool.connections_per_origin_max = 1);
        let mut count = 0;
        loop {
            let path = format!("/cancelled/{count}");
            let is_done = poll_times(fetch(&client, &path), count).await;
            let path = format!("/after/{count}");
            assert_eq!(fetch(&client, &path).await, path, "after {count} polls");
            if is_done {
                break;
            }
            count += 1;
        }
        assert!(count > 8, "the exchange took only {count} polls");
    }
}

/// The same with the response's body: every number of frames, then drop.
#[tokio::test]
async fn at_any_frame() {
    for is_chunked in [false, true] {
        let memory = echoing(is_chunked);
        let client = client_with(&memory, |options| options.pool.connections_per_origin_max = 1);
        for count in 0..12 {
            let request = ClientRequest::get(&format!("http://peer.test/first/{count}"));
            let mut response = client.send(request.expect("request")).await.expect("response");
            for _ in 0..count {
                response.body_mut().frame().await;
            }
            drop(response);
            let path = format!("/after/{count}");
            assert_eq!(fetch(&client, &path).await, path, "after {count} frames");
        }
    }
}

/// Content that has arrived, but that nobody wants, costs no connection.
#[tokio::test]
async fn a_body_that_is_there_is_not_missed() {
    for body in [
        "content-length: 5\r\n\r\nhello",
        "transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    ] {
        let memory = crate::support::answering(format!("HTTP/1.1 200 OK\r\n{body}"));
        let client = crate::support::client(&memory);
        for _ in 0..3 {
            let request = ClientRequest::get("http://peer.test/").expect("request");
            drop(client.send(request).await.expect("response"));
        }
        assert_eq!(memory.dialed(), 1, "{body}");
    }
}

/// Those in the queue may give up without losing the place for the others.
#[tokio::test(start_paused = true)]
async fn in_the_queue() {
    let memory = echoing(false);
    let client = client_with(&memory, |options| options.pool.connections_per_origin_max = 1);
    let request = ClientRequest::get("http://peer.test/held").expect("request");
    let held = client.send(request).await.expect("response");
    let mut waiting = Vec::new();
    for index in 0..10 {
        let client = client.clone();
        waiting.push(tokio::spawn(async move { fetch(&client, &format!("/{index}")).await }));
        yield_now().await;
    }
    for task in waiting.iter().step_by(2) {
        task.abort();
    }
    assert_eq!(held.text(100).await.expect("body"), "/held");
    for (index, task) in waiting.into_iter().enumerate() {
        match task.await {
            Ok(body) => assert_eq!((body, index % 2), (format!("/{index}"), 1)),
            Err(error) => assert!(error.is_cancelled() && index % 2 == 0),
        }
    }
    assert_eq!(memory.dialed(), 1);
}
