//! The end of a server.

use std::{
    net::{TcpListener, TcpStream},
    sync::Arc,
    time::{Duration, Instant},
};

use hearth_net::Listener;

use crate::support::{Client, Running, builder, eventually, hello, local, logs, start};

#[test]
fn what_is_in_flight_is_finished() {
    let server = start(hello());
    let mut active = server.client();
    active.send("/slow").expect("sent");
    let mut idle = server.client();
    idle.get("/").expect("an answer");
    eventually("both are open", || server.handle.stats().open == 2);

    let begin = Instant::now();
    let draining = std::thread::spawn({
        let handle = server.handle.clone();
        move || crate::support::block_on(handle.drain())
    });
    assert!(idle.closes().expect("closed") < Duration::from_millis(800), "idle ones go at once");
    let (head, body) = active.answer().expect("the request is answered");
    assert_eq!(body, "slow");
    assert!(head.contains("connection: close\r\n"), "{head}");
    assert!(active.closes().is_some());

    let report = draining.join().expect("no panic");
    assert_eq!((report.open, report.aborted, report.stuck_workers), (2, 0, 0));
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
    assert!(TcpStream::connect(server.address()).is_err(), "nobody listens any more");
    assert!(logs().contains("drain: no more connections accepted"));
    assert!(logs().contains("drain: every connection ended in order"));
}

#[test]
fn a_new_connection_has_a_second_for_its_request() {
    let server = start(hello());
    let mut speaks = server.client();
    let mut silent = server.client();
    eventually("both are open", || server.handle.stats().open == 2);
    let draining = std::thread::spawn({
        let handle = server.handle.clone();
        move || crate::support::block_on(handle.drain())
    });
    eventually("the drain has begun", || TcpStream::connect(server.address()).is_err());
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(speaks.get("/").expect("it is answered").1, "hello");
    let waited = silent.closes().expect("closed");
    assert!(waited < Duration::from_secs(3), "{waited:?}");
    let report = draining.join().expect("no panic");
    assert_eq!(report.aborted, 0);
    assert!(report.duration >= Duration::from_millis(900), "{report:?}");
}

#[test]
fn the_rest_is_cut_off() {
    let server = start(hearth_http_core::handler_fn(async |_| std::future::pending().await));
    let mut client = server.client();
    client.send("/").expect("sent");
    eventually("it is open", || server.handle.stats().open == 1);
    let report = server.drain_within(Duration::from_millis(200));
    assert_eq!((report.open, report.active, report.aborted), (1, 1, 1));
    assert!(report.duration < Duration::from_secs(2), "{report:?}");
    assert!(client.closes().is_some());
    assert!(logs().contains("the rest was cut off"));
}

#[test]
fn a_second_order_cuts_off_at_once() {
    let server = start(hearth_http_core::handler_fn(async |_| std::future::pending().await));
    let mut client = server.client();
    client.send("/").expect("sent");
    eventually("it is open", || server.handle.stats().open == 1);
    let draining = std::thread::spawn({
        let handle = server.handle.clone();
        move || crate::support::block_on(handle.drain())
    });
    std::thread::sleep(Duration::from_millis(50));
    server.handle.abort();
    let report = draining.join().expect("no panic");
    assert!(report.duration < Duration::from_secs(2), "{report:?}");
    assert_eq!(report.aborted, 1);
}

#[test]
fn a_blocked_worker_does_not_hold_up_the_end_for_ever() {
    let server = start(hearth_http_core::handler_fn(async |_| {
        std::thread::sleep(Duration::from_secs(5));
        hearth_http_core::Response::text("")
    }));
    let mut client = server.client();
    client.send("/").expect("sent");
    eventually("it is open", || server.handle.stats().open == 1);
    std::thread::sleep(Duration::from_millis(50));
    let report = server.drain_within(Duration::from_millis(100));
    assert_eq!(report.stuck_workers, 1);
    assert!(report.duration < Duration::from_secs(4), "{report:?}");
}

#[test]
fn queued_connections_are_served_before_the_end() {
    // Nothing accepts while the worker is blocked, so connections queue up; then comes the drain.
    let server = start(hello());
    let mut blocking = server.client();
    blocking.send("/block").expect("sent");
    std::thread::sleep(Duration::from_millis(100));
    let queued: Vec<_> = (0..10)
        .map(|_| {
            let mut client = server.client();
            client.send("/").expect("sent");
            client
        })
        .collect();
    let draining = std::thread::spawn({
        let handle = server.handle.clone();
        move || crate::support::block_on(handle.drain())
    });
    assert_eq!(blocking.answer().expect("an answer").1, "blocked");
    for mut client in queued {
        assert_eq!(client.answer().expect("an answer").1, "hello");
    }
    assert_eq!(draining.join().expect("no panic").aborted, 0);
}

#[test]
fn sockets_can_stay_open_for_a_successor() {
    let builder = builder().workers(2).keep_listeners(true);
    let server = builder.listen(Listener::bind(local()), Arc::new(hello())).bind();
    let first = Running { handle: server.expect("a free port").start().expect("threads") };
    let address = first.address();
    assert_eq!(first.client().get("/").expect("an answer").1, "hello");
    let sockets: Vec<TcpListener> = first.handle.sockets().expect("descriptors").remove(0).1;
    first.drain();
    // Nobody accepts, and nobody refuses.
    let mut waiting: Vec<_> = (0..10).map(|_| Client::connect(address)).collect();
    for client in &mut waiting {
        client.send("/").expect("sent");
    }
    let second = crate::support::builder().workers(2);
    let second = second.listen(Listener::from_std(sockets), Arc::new(hello())).bind();
    let _second = second.expect("already bound").start().expect("threads");
    for mut client in waiting {
        assert_eq!(client.answer().expect("an answer").1, "hello");
    }
}
