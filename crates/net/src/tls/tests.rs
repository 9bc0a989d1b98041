//! The encrypted transport over a stream that counts.

use std::{
    io::{self, Read, Write},
    sync::Arc,
};

use hearth_http_core::{
    Bytes, Connection, ConnectionInfo, Protocol, Response, Settings, TokioWatch, Transport,
    handler_fn,
};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{
    CertMap, CertStore, Handshake, TlsConfig, TlsTransport,
    counting::{Counting, Counts},
    testing, trust,
};
use crate::TcpTransport;

type Client = rustls::StreamOwned<rustls::ClientConnection, std::net::TcpStream>;

/// Both ends of an encrypted stream; the server's counts.
async fn pair() -> (TlsTransport<Counting<TcpTransport>>, Client, Arc<Counts>) {
    let mut map = CertMap::new();
    map.set_default(testing::certificate(&["a.test"]));
    let config = TlsConfig::builder(Arc::new(CertStore::new(map))).build().expect("options");
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    let client = tokio::task::spawn_blocking(move || {
        let mut stream = std::net::TcpStream::connect(address).expect("it listens");
        let name = ServerName::try_from("a.test").expect("a name");
        let client = rustls::ClientConnection::new(trust::client_config(&[]), name);
        let mut client = client.expect("a client");
        while client.is_handshaking() {
            client.complete_io(&mut stream).expect("a handshake");
        }
        rustls::StreamOwned::new(client, stream)
    });
    let (stream, _) = listener.accept().await.expect("a connection");
    let counts = Arc::new(Counts::default());
    let io = Counting::new(TcpTransport::new(stream), &counts);
    let mut handshake = Handshake::new(io, &Arc::new(config));
    let transport = std::future::poll_fn(|cx| handshake.poll(cx)).await.expect("a handshake");
    (transport, client.await.expect("no panic"), counts)
}

/// Reads so many bytes on another thread.
async fn receive(mut client: Client, len: usize) -> (Client, Vec<u8>) {
    let read = move || {
        let mut bytes = vec![0; len];
        client.read_exact(&mut bytes).expect("as many as that");
        (client, bytes)
    };
    tokio::task::spawn_blocking(read).await.expect("no panic")
}

#[tokio::test]
async fn a_response_of_1_kb_is_one_write() {
    let (transport, mut client, counts) = pair().await;
    let (_, handshake) = counts.take();
    assert!(handshake <= 2, "the server's flight, and perhaps its tickets: {handshake}");
    let body = Bytes::from(vec![b'x'; 1024]);
    let handler = handler_fn(move |_| {
        let body = body.clone();
        async { Response::new(body) }
    });
    let (settings, info) = (Arc::new(Settings::default()), Arc::new(ConnectionInfo::default()));
    let (handler, watch) = (Arc::new(handler), TokioWatch::new());
    let protocol = Protocol::Http1;
    tokio::spawn(Connection::new(transport, handler, settings, info, watch, protocol));
    for round in 0..20 {
        let (back, ()) = tokio::task::spawn_blocking(move || {
            client.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").expect("sent");
            client.flush().expect("sent");
            let mut answer = Vec::new();
            while !answer.ends_with(&[b'x'; 1024]) {
                let mut piece = [0; 4096];
                let len = client.read(&mut piece).expect("an answer");
                answer.extend_from_slice(&piece[..len]);
            }
            (client, ())
        })
        .await
        .expect("no panic");
        client = back;
        let (reads, writes) = counts.take();
        // Before the first request the tickets may have left by themselves.
        let of_tickets = if round == 0 { writes.saturating_sub(1) } else { 0 };
        assert_eq!((reads, writes - of_tickets), (1, 1));
    }
}

#[tokio::test]
async fn slices_share_records_and_calls() {
    let (mut transport, client, counts) = pair().await;
    counts.take();
    let (head, body) = (vec![b'h'; 200], vec![b'b'; 30_000]);
    let slices = [io::IoSlice::new(&head), io::IoSlice::new(&[]), io::IoSlice::new(&body)];
    let written = transport.write_vectored(&slices).await.expect("written");
    assert_eq!(written, 30_200);
    assert_eq!(counts.take().1, 1);
    let (_, bytes) = receive(client, 30_200).await;
    assert!(bytes == [head, body].concat());
}

#[tokio::test]
async fn what_is_announced_waits_for_what_follows() {
    let (mut transport, client, counts) = pair().await;
    transport.flush().await.expect("flushed");
    counts.take();
    let written = std::future::poll_fn(|cx| transport.poll_write_more(cx, b"head ")).await;
    assert_eq!(written.expect("taken"), 5);
    assert_eq!(counts.take().1, 0, "nothing is sent yet");
    transport.write_all(b"body").await.expect("written");
    assert_eq!(counts.take().1, 1);
    let (client, bytes) = receive(client, 9).await;
    assert_eq!(bytes, b"head body");
    // And without anything behind it, a flush sends it.
    let _ = std::future::poll_fn(|cx| transport.poll_write_more(cx, b"alone")).await;
    transport.flush().await.expect("flushed");
    assert_eq!(receive(client, 5).await.1, b"alone");
}

#[tokio::test]
async fn halves_in_two_tasks_do_not_lose_each_other() {
    let (transport, mut client, _) = pair().await;
    let (mut read, mut write) = tokio::io::split(transport);
    let len = 8 * 1024 * 1024;
    // The peer reads nothing for a while, so the writer waits; the reader waits, too.
    let writer = tokio::spawn(async move {
        write.write_all(&vec![b'w'; len]).await.expect("written");
        write.flush().await.expect("flushed");
    });
    let reader = tokio::spawn(async move {
        let mut bytes = vec![0; 10];
        for _ in 0..5 {
            read.read_exact(&mut bytes).await.expect("read");
        }
    });
    let peer = tokio::task::spawn_blocking(move || {
        for _ in 0..5 {
            std::thread::sleep(std::time::Duration::from_millis(20));
            client.write_all(&[b'p'; 10]).expect("sent");
            client.flush().expect("sent");
        }
        let mut bytes = vec![0; len];
        client.read_exact(&mut bytes).expect("all of it");
        assert!(bytes.iter().all(|byte| *byte == b'w'));
    });
    for task in [writer, reader, peer] {
        let done = tokio::time::timeout(std::time::Duration::from_secs(20), task).await;
        done.expect("it does not hang").expect("no panic");
    }
}
