//! What a request costs in calls of the transport.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use hearth_http_core::{Connection, ConnectionInfo, Protocol, Settings, TokioWatch, Transport};
use hearth_net::TcpTransport;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};

use crate::support::hello;

#[derive(Default)]
struct Counts {
    reads: AtomicU64,
    writes: AtomicU64,
}

/// Counts what moves bytes. What is pending costs no system call: the reactor knows it beforehand,
/// because a read that did not fill its buffer has emptied the socket.
struct Counting {
    inner: TcpTransport,
    counts: Arc<Counts>,
}

impl Transport for Counting {}

impl AsyncRead for Counting {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.inner).poll_read(cx, buf);
        self.counts.reads.fetch_add(u64::from(read.is_ready()), Ordering::Relaxed);
        read
    }
}

impl AsyncWrite for Counting {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.counts.writes.fetch_add(1, Ordering::Relaxed);
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.counts.writes.fetch_add(1, Ordering::Relaxed);
        Pin::new(&mut self.inner).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[tokio::test]
async fn a_request_costs_one_read_and_one_write() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    let counts = Arc::new(Counts::default());
    let counted = counts.clone();
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.expect("a connection");
        let transport = Counting { inner: TcpTransport::new(stream), counts: counted };
        let (settings, info) = (Arc::new(Settings::default()), Arc::new(ConnectionInfo::default()));
        let (handler, watch) = (Arc::new(hello()), TokioWatch::new());
        Connection::new(transport, handler, settings, info, watch, Protocol::Auto).await
    });
    let mut client = tokio::net::TcpStream::connect(address).await.expect("it listens");
    for round in 1..=100 {
        client.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.expect("sent");
        let mut answer = [0; 1024];
        let len = client.read(&mut answer).await.expect("an answer");
        assert!(answer[..len].ends_with(b"hello"), "head and body come at once");
        assert_eq!(counts.writes.load(Ordering::Relaxed), round);
        assert_eq!(counts.reads.load(Ordering::Relaxed), round);
    }
}
