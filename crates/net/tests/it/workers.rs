//! Threads.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex},
    time::Duration,
};

use hearth_http_core::{Exchange, Observer, Response, handler_fn};
use hearth_net::{BlockingPool, Listener, NetLimits};

use crate::support::{
    Running, builder, client_config, eventually, hello, local, logs, settings, start, start_with,
    tls_config, tls_connect,
};

/// Answers the name of its thread, and keeps what threads there were.
fn names(builder: hearth_net::ServerBuilder) -> HashSet<String> {
    let seen = Arc::new(Mutex::new(HashSet::new()));
    let noted = seen.clone();
    let handler = handler_fn(move |_| {
        let name = std::thread::current().name().unwrap_or_default().to_owned();
        noted.lock().expect("no panic").insert(name);
        async { Response::text("") }
    });
    let server = builder.listen(Listener::bind(local()), Arc::new(handler)).bind();
    let server = Running { handle: server.expect("a free port").start().expect("threads") };
    let clients: Vec<_> = (0..64)
        .map(|_| {
            let mut client = server.client();
            client.get("/").expect("an answer");
            client
        })
        .collect();
    assert_eq!(server.handle.stats().open, 64);
    drop(clients);
    assert_eq!(server.drain().aborted, 0);
    seen.lock().expect("no panic").clone()
}

#[test]
fn workers_share_the_connections() {
    let seen = names(builder().workers(3));
    let want = (0..3).map(|number| format!("hearth-worker-{number}")).collect();
    assert_eq!(seen, want);
}

#[test]
fn few_connections_are_spread_evenly() {
    for _ in 0..5 {
        let handler = handler_fn(async |_| {
            Response::text(std::thread::current().name().unwrap_or_default().to_owned())
        });
        let builder = builder().workers(2);
        let server = builder.listen(Listener::bind(local()), Arc::new(handler)).bind();
        let server = Running { handle: server.expect("a free port").start().expect("threads") };
        // The kernel gives both to the same worker half of the time.
        let mut first = server.client();
        let first_name = first.get("/").expect("an answer").1;
        let second_name = server.client().get("/").expect("an answer").1;
        assert_ne!(first_name, second_name, "one for each worker");
        assert_eq!(server.handle.stats().accepted, 2);
    }
}

#[test]
fn one_runtime_can_be_shared_by_threads() {
    let seen = names(builder().shared_runtime(2));
    assert!(!seen.is_empty() && seen.iter().all(|name| name == "hearth-shared"), "{seen:?}");
}

#[test]
fn a_shared_runtime_has_tls_timers_and_drain() {
    let quick = settings(|settings| settings.limits.idle_timeout = Duration::from_millis(300));
    let listener = Listener::bind(local()).tls(tls_config(&["a.test"])).settings(quick);
    let builder = builder().shared_runtime(2).listen(listener, Arc::new(hello()));
    let server = builder.bind().expect("a free port").start().expect("threads");
    let server = Running { handle: server };
    let client = || tls_connect(server.address(), "a.test", &client_config(&[])).expect("shaken");
    let mut idle = client();
    assert_eq!(idle.get("/").expect("an answer").1, "hello");
    assert!(idle.closes().expect("its time was up") < Duration::from_secs(5));
    let mut active = client();
    active.send("/slow").expect("sent");
    eventually("it is in progress", || server.handle.stats().tls_handshakes == 2);
    std::thread::sleep(Duration::from_millis(50));
    let report = server.drain();
    assert_eq!((report.aborted, report.stuck_workers), (0, 0));
    assert_eq!(active.answer().expect("an answer").1, "slow");
}

#[test]
fn a_panicking_handler_is_contained() {
    let server = start(hello());
    let mut client = server.client();
    let (head, _) = client.get("/panic").expect("an answer");
    assert!(head.starts_with("http/1.1 500 "), "{head}");
    assert_eq!(server.client().get("/").expect("the worker lives").1, "hello");
    assert_eq!(server.handle.stats().panics, 0);
}

/// Panics where nobody catches it for the connection.
struct Explosive;

impl Observer for Explosive {
    fn on_exchange(&self, _: &Exchange<'_>) {
        panic!("for a test");
    }
}

#[test]
fn a_panicking_connection_is_contained() {
    let explosive = settings(|settings| settings.observer = Some(Arc::new(Explosive)));
    let limits = NetLimits::default();
    let server = start_with(hello(), limits, |listener| listener.settings(explosive));
    for _ in 0..3 {
        let mut client = server.client();
        let _ = client.get("/");
        assert!(client.closes().is_some());
    }
    eventually("all are counted off", || server.handle.stats().open == 0);
    assert_eq!(server.handle.stats().panics, 3);
    assert!(logs().contains("a connection's task panicked"));
    assert_eq!(server.drain().stuck_workers, 0, "the worker lives");
}

#[test]
fn a_handler_that_blocks_is_reported_once() {
    let server = start(hello());
    let mut client = server.client();
    assert_eq!(client.get("/block").expect("an answer").1, "blocked");
    let stats = server.handle.stats();
    assert_eq!(stats.stalls, 1);
    let logs = logs();
    assert!(logs.contains("the worker does nothing: a handler blocks"), "{logs}");
    eventually("the end is reported, too", || crate::support::logs().contains("goes on"));
}

#[test]
fn neither_idleness_nor_waiting_is_a_stall() {
    // Long enough that a machine under load is not taken for a stall.
    let mut limits = NetLimits::default();
    limits.stall_threshold = Duration::from_secs(1);
    let server = start_with(hello(), limits, |listener| listener);
    let mut client = server.client();
    client.get("/").expect("an answer");
    std::thread::sleep(Duration::from_millis(1500));
    for _ in 0..5 {
        client.get("/slow").expect("an answer");
    }
    assert_eq!(server.handle.stats().stalls, 0);
}

#[test]
fn blocking_work_leaves_the_worker_free() {
    let pool = BlockingPool::new(2, 10);
    let server = start(handler_fn(move |request: hearth_http_core::Request| {
        let pool = pool.clone();
        async move {
            if request.path() == "/work" {
                let work = || std::thread::sleep(Duration::from_millis(1500));
                pool.run(work).await.expect("there is room");
            }
            Response::text("done")
        }
    }));
    let mut slow = server.client();
    slow.send("/work").expect("sent");
    let begin = std::time::Instant::now();
    assert_eq!(server.client().get("/").expect("an answer").1, "done");
    assert!(begin.elapsed() < Duration::from_millis(1000));
    assert_eq!(slow.answer().expect("an answer").1, "done");
}
