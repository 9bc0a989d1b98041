//! What is particular to HTTP/2: order, push, hints, tunnels, the end of a connection.

use std::time::Duration;

use bytes::Bytes;
use hearth_http_core::{Outcome, Settings};
use http::Request;

use crate::h2_support::{Client, Frame, Raw, Server, get, kind, request_fields, settings, soon};

/// A GET of 60,000 octets with this priority.
fn prioritised(stream: u32, priority: &str) -> Frame {
    let mut fields = request_fields("GET", "/bytes/60000").to_vec();
    if !priority.is_empty() {
        fields.push(("priority", priority));
    }
    Frame::request(stream, &fields)
}

/// The streams of the DATA frames that answer these requests, repeats in a row left out.
async fn order_of_data(requests: Vec<Frame>) -> Vec<u32> {
    let (_server, io) = Server::start(Settings::default());
    let mut raw = Raw::connect(io).await;
    raw.send(Frame::window(0, 10_000_000)).await;
    let mut left = requests.iter().filter(|frame| frame.kind == kind::HEADERS).count();
    raw.send_bytes(&requests.iter().flat_map(Frame::bytes).collect::<Vec<_>>()).await;
    let mut order = Vec::new();
    while left > 0 {
        let frame = soon(raw.until(&[kind::DATA])).await;
        if order.last() != Some(&frame.stream) {
            order.push(frame.stream);
        }
        left -= usize::from(frame.is_end());
    }
    order
}

#[tokio::test]
async fn urgent_responses_go_first() {
    let requests = vec![
        prioritised(1, "u=5"),
        prioritised(3, "u=7"),
        prioritised(5, "u=0"),
        prioritised(7, ""),
        prioritised(9, "u=5"),
    ];
    assert_eq!(order_of_data(requests).await, [5, 7, 1, 9, 3]);
}

#[tokio::test]
async fn incremental_responses_share() {
    let requests = vec![prioritised(1, "i"), prioritised(3, "i"), prioritised(5, "i")];
    let order = order_of_data(requests).await;
    assert!(order.len() >= 9, "{order:?}");
    assert_eq!(order[..6], [1, 3, 5, 1, 3, 5]);
}

#[tokio::test]
async fn priority_updates_are_heeded() {
    let update = Frame::new(kind::PRIORITY_UPDATE, 0, 0, *b"\0\0\0\x05u=0");
    let requests = vec![prioritised(1, ""), prioritised(3, ""), prioritised(5, ""), update];
    assert_eq!(order_of_data(requests).await, [5, 1, 3]);
}

#[tokio::test]
async fn early_hints_come_before_the_response() {
    let (_server, io) = Server::start(Settings::default());
    let mut raw = Raw::connect(io).await;
    raw.send(Frame::get(1, "/hints")).await;
    let hints = soon(raw.until(&[kind::HEADERS])).await;
    assert_eq!((hints.status(), hints.is_end()), (103, false));
    let response = soon(raw.until(&[kind::HEADERS])).await;
    assert_eq!(response.status(), 200);
}

#[tokio::test]
async fn content_is_invited_when_it_is_asked_for() {
    let (_server, io) = Server::start(Settings::default());
    let mut raw = Raw::connect(io).await;
    for (stream, path, invited) in [(1, "/length", true), (3, "/static", false)] {
        let mut fields = request_fields("POST", path).to_vec();
        fields.push(("expect", "100-continue"));
        raw.send(Frame { flags: 4, ..Frame::request(stream, &fields) }).await;
        let first = soon(raw.until(&[kind::HEADERS])).await;
        assert_eq!(first.status(), if invited { 100 } else { 200 }, "{path}");
        raw.send(Frame::new(kind::DATA, 1, stream, *b"abc")).await;
        while !soon(raw.until(&[kind::DATA])).await.is_end() {}
    }
}

#[tokio::test]
async fn push_where_both_sides_want_it() {
    for (allowed, wanted) in [(true, true), (true, false), (false, true)] {
        let (server, io) = Server::start(settings(|s| s.push = allowed));
        let mut builder = h2::client::Builder::new();
        builder.enable_push(wanted);
        let mut client = Client::connect_with(io, &builder).await;
        let mut response = client.request(get("/push"), b"");
        let mut promises = response.push_promises();
        let answer = crate::h2_support::collect(soon(response).await.unwrap()).await.unwrap();
        assert_eq!(answer.text(), "pushed");
        let promise = soon(promises.push_promise()).await;
        assert_eq!(promise.is_some(), allowed && wanted, "allowed {allowed}, wanted {wanted}");
        if let Some(promise) = promise {
            let (request, response) = promise.unwrap().into_parts();
            assert_eq!(request.uri().to_string(), "http://a.test/static");
            let pushed = crate::h2_support::collect(soon(response).await.unwrap()).await.unwrap();
            assert_eq!(pushed.text(), "static");
        }
        let count = if allowed && wanted { 2 } else { 1 };
        assert_eq!(server.log.exchanges().len(), count);
    }
}

fn socket_request() -> Request<()> {
    let mut request = Request::connect("https://a.test/socket").body(()).expect("a request");
    request.extensions_mut().insert(h2::ext::Protocol::from_static("test"));
    request
}

#[tokio::test]
async fn extended_connect_makes_a_tunnel() {
    let (server, io) = Server::start(settings(|s| s.extended_connect = true));
    let mut client = Client::connect(io).await;
    assert_eq!(client.get("/").await.status, 200);
    assert!(client.send.is_extended_connect_protocol_enabled());
    let (response, mut send) = client.send.send_request(socket_request(), false).unwrap();
    let response = soon(response).await.unwrap();
    assert_eq!((response.status().as_u16(), response.headers().get("upgrade")), (200, None));
    let mut receive = response.into_body();
    for text in ["hello", "again"] {
        send.send_data(Bytes::from(text), false).unwrap();
        assert_eq!(soon(receive.data()).await.unwrap().unwrap(), text);
    }
    // Other streams go on beside it.
    assert_eq!(soon(client.get("/")).await.text(), "home");
    // More than any window.
    let sent = crate::h2_support::pattern(600_000);
    let all = Bytes::from(sent.clone());
    send.send_data(all, true).unwrap();
    let mut echo = Vec::new();
    while let Some(data) = soon(receive.data()).await {
        let data = data.unwrap();
        receive.flow_control().release_capacity(data.len()).unwrap();
        echo.extend_from_slice(&data);
    }
    assert!(echo == sent);
    tokio::task::yield_now().await;
    assert_eq!(server.log.exchanges().last(), Some(&(200, Outcome::Complete, 600_010)));
}

#[tokio::test]
async fn extended_connect_only_where_it_is_offered() {
    let (_server, io) = Server::start(Settings::default());
    let mut raw = Raw::connect(io).await;
    let mut fields = request_fields("CONNECT", "/socket").to_vec();
    fields.push((":protocol", "test"));
    raw.send(Frame::request(1, &fields)).await;
    let frame = soon(raw.until(&[kind::RST_STREAM, kind::HEADERS])).await;
    assert_eq!((frame.kind, frame.code()), (kind::RST_STREAM, 1));
}

#[tokio::test(start_paused = true)]
async fn draining_finishes_what_has_begun() {
    let (server, io) = Server::start(Settings::default());
    let mut raw = Raw::connect(io).await;
    raw.send(Frame::get(1, "/after/20")).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    server.drain.order();
    let first = raw.until(&[kind::GOAWAY]).await;
    assert_eq!((first.last_stream(), first.code()), (0x7fff_ffff, 0));
    let ping = raw.until(&[kind::PING]).await;
    // A request that was on its way is still answered.
    raw.send(Frame::get(3, "/")).await;
    assert_eq!(raw.until(&[kind::HEADERS]).await.stream, 3);
    raw.send(Frame::new(kind::PING, 1, 0, ping.payload)).await;
    let second = raw.until(&[kind::GOAWAY]).await;
    assert_eq!((second.last_stream(), second.code()), (3, 0));
    let response = raw.until(&[kind::HEADERS]).await;
    assert_eq!((response.stream, response.status()), (1, 200));
    raw.rest().await;
    drop(raw);
    assert!(server.end().await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn draining_does_not_wait_for_the_silent() {
    let (server, io) = Server::start(Settings::default());
    let mut raw = Raw::connect(io).await;
    let before = tokio::time::Instant::now();
    server.drain.order();
    // The ping that the first GOAWAY comes with is never answered.
    let frames = raw.rest().await;
    assert_eq!(frames.iter().filter(|frame| frame.kind == kind::GOAWAY).count(), 2);
    assert!(before.elapsed() < Duration::from_secs(2), "{:?}", before.elapsed());
    drop(raw);
    assert!(server.end().await.is_ok());
}

#[tokio::test]
async fn a_connection_ends_after_its_last_request() {
    let limit = settings(|s| s.limits.requests_per_connection_max = 5);
    let (server, io) = Server::start(limit);
    let mut client = Client::connect(io).await;
    for _ in 0..5 {
        assert_eq!(soon(client.get("/")).await.status, 200);
    }
    assert!(soon(client.task).await.unwrap().is_ok());
    assert!(soon(server.end()).await.is_ok());
}
