//! Requests in the clear.

use std::{
    io::Write,
    net::TcpListener,
    sync::{Arc, Mutex},
};

use hearth_http_core::{FileBody, Request, Response, handler_fn};
use hearth_net::Listener;

use crate::support::{Running, builder, eventually, hello, local, start};

#[test]
fn answers_on_a_connection_that_is_kept() {
    let server = start(hello());
    let mut client = server.client();
    for _ in 0..3 {
        let (head, body) = client.get("/").expect("an answer");
        assert!(head.starts_with("http/1.1 200 ok\r\n"), "{head}");
        assert_eq!(body, "hello");
    }
    drop(client);
    eventually("the connection is counted off", || server.handle.stats().open == 0);
    let stats = server.handle.stats();
    assert_eq!((stats.accepted, stats.closed, stats.failed), (1, 1, 0));
}

#[test]
fn a_file_goes_through_the_kernel() {
    let mut file = tempfile::tempfile().expect("a file");
    let content: String = (0..200_000).map(|line| format!("line {line}\n")).collect();
    file.write_all(content.as_bytes()).expect("written");
    let (file, len) = (Arc::new(file), content.len() as u64);
    let server = start(handler_fn(move |_| {
        let file = FileBody { file: file.clone(), offset: 5, len: len - 5 };
        async move { Response::new(file) }
    }));
    let mut client = server.client();
    for _ in 0..2 {
        let (_, body) = client.get("/").expect("an answer");
        assert!(body == content[5..], "the file arrives as it is");
    }
}

#[test]
fn the_handler_knows_the_connection() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let noted = seen.clone();
    let server = start(handler_fn(move |request: Request| {
        let connection = request.connection();
        noted.lock().expect("no panic").push((
            connection.id,
            connection.peer,
            connection.local,
            connection.scheme(),
        ));
        async { Response::text("") }
    }));
    let (mut first, mut second) = (server.client(), server.client());
    first.get("/").expect("an answer");
    second.get("/").expect("an answer");
    let seen = seen.lock().expect("no panic");
    assert_ne!(seen[0].0, seen[1].0, "ids differ");
    assert_eq!(seen[0].1, first.stream.local_addr().ok());
    assert_eq!(seen[0].2, Some(server.address()));
    assert_eq!(seen[0].3, "http");
}

#[test]
fn several_listeners_have_handlers_of_their_own() {
    let handler =
        |text: &'static str| Arc::new(handler_fn(move |_| async move { Response::text(text) }));
    let builder = builder().workers(2);
    let builder = builder.listen(Listener::bind(local()), handler("one"));
    let builder = builder.listen(Listener::bind(local()), handler("two"));
    let server = builder.bind().expect("free ports");
    let addresses = server.local_addrs().to_vec();
    let _handle = server.start().expect("threads");
    for (address, want) in addresses.into_iter().zip(["one", "two"]) {
        let (_, body) = crate::support::Client::connect(address).get("/").expect("an answer");
        assert_eq!(body, want);
    }
}

#[test]
fn sockets_can_be_taken_over() {
    let socket = TcpListener::bind(local()).expect("a free port");
    let address = socket.local_addr().expect("bound");
    // Two workers share the one socket.
    let builder = builder().workers(2);
    let builder = builder.listen(Listener::from_std(vec![socket]), Arc::new(hello()));
    let server = builder.bind().expect("already bound");
    assert_eq!(server.local_addrs(), [address]);
    let server = Running { handle: server.start().expect("threads") };
    let clients: Vec<_> = (0..20).map(|_| server.client()).collect();
    for mut client in clients {
        assert_eq!(client.get("/").expect("an answer").1, "hello");
    }
    let sockets = server.handle.sockets().expect("descriptors");
    assert_eq!((sockets[0].0, sockets[0].1.len()), (address, 1));
}

#[test]
fn run_ends_with_its_future() {
    let server = builder().workers(1).listen(Listener::bind(local()), Arc::new(hello()));
    let server = server.bind().expect("a free port");
    let address = server.local_addrs()[0];
    let report = crate::support::block_on(server.run(async move {
        let answer = tokio::task::spawn_blocking(move || {
            crate::support::Client::connect(address).get("/").map(|(_, body)| body)
        });
        assert_eq!(answer.await.expect("no panic").expect("an answer"), "hello");
    }));
    let report = report.expect("threads");
    assert_eq!((report.aborted, report.stuck_workers), (0, 0));
}

#[test]
fn a_run_that_is_dropped_closes_everything() {
    let server = builder().workers(1).listen(Listener::bind(local()), Arc::new(hello()));
    let server = server.bind().expect("a free port");
    let address = server.local_addrs()[0];
    let mut client = None;
    crate::support::block_on(async {
        let run = server.run(std::future::pending());
        let connect = tokio::task::spawn_blocking(move || {
            let mut client = crate::support::Client::connect(address);
            client.get("/").expect("an answer");
            client
        });
        tokio::select! {
            _ = run => unreachable!("it runs for ever"),
            connected = connect => client = connected.ok(),
        }
    });
    assert!(client.expect("connected").closes().is_some());
    eventually("the port is free", || TcpListener::bind(address).is_ok());
}
