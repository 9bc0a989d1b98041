//! Limits on connections.

use std::time::{Duration, Instant};

use hearth_http_core::{Response, handler_fn};
use hearth_net::NetLimits;

use crate::support::{eventually, hello, settings, start_with, strict};

#[test]
fn connections_of_an_address_are_limited() {
    let mut limits = strict();
    limits.connections_per_ip_max = 3;
    let server = start_with(hello(), limits, |listener| listener);
    let mut clients: Vec<_> = (0..3).map(|_| server.client()).collect();
    for client in &mut clients {
        client.get("/").expect("an answer");
    }
    assert!(server.client().closes().is_some(), "the fourth is turned away");
    assert_eq!(server.handle.stats().shed_per_ip, 1);
    drop(clients);
    eventually("they are counted off", || server.handle.stats().open == 0);
    assert_eq!(server.client().get("/").expect("there is room again").1, "hello");
}

#[test]
fn new_connections_of_an_address_have_a_rate() {
    let mut limits = strict();
    limits.new_connections_per_ip_burst = 5;
    limits.new_connections_per_ip_rate = 5;
    let server = start_with(hello(), limits, |listener| listener);
    for _ in 0..5 {
        server.client().get("/").expect("within the burst");
    }
    assert!(server.client().closes().is_some(), "the sixth is turned away");
    assert_eq!(server.handle.stats().shed_rate, 1);
    std::thread::sleep(Duration::from_millis(400));
    server.client().get("/").expect("one has come back");
}

#[test]
fn a_full_worker_accepts_no_more_until_there_is_room() {
    let mut limits = NetLimits::default();
    limits.connections_per_worker_max = 2;
    let (open, gate) = tokio::sync::watch::channel(false);
    let handler = handler_fn(move |_| {
        let mut gate = gate.clone();
        async move {
            gate.wait_for(|is_open| *is_open).await.expect("the test opens it");
            Response::text("done")
        }
    });
    let server = start_with(handler, limits, |listener| listener);
    let ask = || {
        let mut client = server.client();
        client.send("/").expect("sent");
        client
    };
    let clients = [ask(), ask()];
    eventually("it is full", || server.handle.stats().accept_paused > 0);
    let mut waiting = ask();
    std::thread::sleep(Duration::from_millis(100));
    let stats = server.handle.stats();
    assert_eq!((stats.open, stats.accepted), (2, 2), "the third waits in the backlog");
    open.send(true).expect("handlers wait");
    for mut client in clients {
        assert_eq!(client.answer().expect("an answer").1, "done");
    }
    assert_eq!(waiting.answer().expect("it had its turn").1, "done");
}

#[test]
fn idle_connections_make_room() {
    let mut limits = NetLimits::default();
    limits.connections_per_worker_max = 10;
    let server = start_with(hello(), limits, |listener| listener);
    let mut idle = Vec::new();
    for _ in 0..10 {
        let mut client = server.client();
        client.get("/").expect("an answer");
        idle.push(client);
    }
    let mut next = server.client();
    assert_eq!(next.get("/").expect("there is room").1, "hello");
    assert!(server.handle.stats().shed_idle >= 1);
    assert!(idle[0].closes().is_some(), "the one that is idle longest went");
    assert!(server.handle.stats().open <= 10);
}

#[test]
fn idle_time_shrinks_in_a_crowd() {
    let mut limits = NetLimits::default();
    limits.connections_per_worker_max = 10;
    let server = start_with(hello(), limits, |listener| listener);
    let mut clients: Vec<_> = (0..9).map(|_| server.client()).collect();
    eventually("nine of ten are there", || server.handle.stats().open == 9);
    for client in &mut clients {
        client.get("/").expect("an answer");
    }
    let begin = Instant::now();
    assert!(clients[8].closes().is_some());
    let waited = begin.elapsed();
    assert!(waited > Duration::from_secs(4) && waited < Duration::from_secs(9), "{waited:?}");
}

#[test]
fn limits_of_http_hold_on_the_wheel() {
    let quick = settings(|settings| {
        settings.limits.idle_timeout = Duration::from_millis(300);
        settings.limits.first_request_timeout = Duration::from_millis(600);
    });
    let server = start_with(hello(), NetLimits::default(), |listener| listener.settings(quick));
    let mut silent = server.client();
    let mut idle = server.client();
    idle.get("/").expect("an answer");
    let idle = idle.closes().expect("closed");
    assert!(idle > Duration::from_millis(250) && idle < Duration::from_secs(2), "{idle:?}");
    assert!(silent.closes().is_some());
}
