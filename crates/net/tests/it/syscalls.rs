//! What a request costs in calls of the transport.

use std::sync::Arc;

use hearth_http_core::{Connection, ConnectionInfo, Protocol, Settings, TokioWatch};
use hearth_net::TcpTransport;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::{
    counting::{Counting, Counts},
    support::hello,
};

#[tokio::test]
async fn a_request_costs_one_read_and_one_write() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    let counts = Arc::new(Counts::default());
    let counted = counts.clone();
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.expect("a connection");
        let transport = Counting::new(TcpTransport::new(stream), &counted);
        let (settings, info) = (Arc::new(Settings::default()), Arc::new(ConnectionInfo::default()));
        let (handler, watch) = (Arc::new(hello()), TokioWatch::new());
        Connection::new(transport, handler, settings, info, watch, Protocol::Auto).await
    });
    let mut client = tokio::net::TcpStream::connect(address).await.expect("it listens");
    for _ in 0..100 {
        client.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.expect("sent");
        let mut answer = [0; 1024];
        let len = client.read(&mut answer).await.expect("an answer");
        assert!(answer[..len].ends_with(b"hello"), "head and body come at once");
        assert_eq!(counts.take(), (1, 1));
    }
}
