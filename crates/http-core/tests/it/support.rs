//! A connection in memory and a peer that writes raw bytes to it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use hearth_http_core::{
    Connection, ConnectionError, ConnectionInfo, Handler, Portable, Protocol, Request, Response,
    Settings, StatusCode, TokioWatch, Watch,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream},
    task::JoinHandle,
};

/// The peer's end, and the task that serves the other.
pub(crate) struct Peer {
    pub(crate) io: DuplexStream,
    pub(crate) served: JoinHandle<Result<(), ConnectionError>>,
}

impl Peer {
    pub(crate) fn new(handler: impl Handler) -> Self {
        Self::with(handler, Settings::default())
    }

    pub(crate) fn with(handler: impl Handler, settings: Settings) -> Self {
        Self::watched(handler, settings, TokioWatch::new(), 1 << 20)
    }

    /// `pipe` is how many bytes fit into the stream in each direction.
    pub(crate) fn watched(
        handler: impl Handler,
        settings: Settings,
        watch: impl Watch,
        pipe: usize,
    ) -> Self {
        let (io, ours) = tokio::io::duplex(pipe);
        let connection = Connection::new(
            Portable(ours),
            Arc::new(handler),
            Arc::new(settings),
            Arc::new(ConnectionInfo::default()),
            watch,
            Protocol::Auto,
        );
        Self { io, served: tokio::spawn(connection) }
    }

    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.io.write_all(bytes.as_ref()).await.expect("the connection is open");
    }

    /// What has come by the time when the connection has nothing more to say.
    pub(crate) async fn receive(&mut self) -> String {
        let mut all = Vec::new();
        let quiet = Duration::from_millis(20);
        while let Ok(Ok(1..)) = tokio::time::timeout(quiet, self.io.read_buf(&mut all)).await {}
        undated(&all)
    }

    /// Everything until the connection closes.
    pub(crate) async fn receive_all(&mut self) -> String {
        let mut all = Vec::new();
        self.io.read_to_end(&mut all).await.expect("a stream in memory does not fail");
        undated(&all)
    }

    pub(crate) async fn half_close(&mut self) {
        self.io.shutdown().await.expect("open");
    }

    pub(crate) async fn ended(self) -> Result<(), ConnectionError> {
        drop(self.io);
        self.served.await.expect("a connection does not panic")
    }
}

/// Removes the one thing in a response that changes from run to run.
fn undated(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes).into_owned();
    let Some(start) = text.find("date: ") else { return text };
    let len = "date: Fri, 20 Nov 2026 12:00:00 GMT\r\n".len();
    let (before, rest) = text.split_at(start);
    format!("{before}{}", undated(&rest.as_bytes()[len..]))
}

/// Answers each request with what it was, and counts them.
#[derive(Clone, Default)]
pub(crate) struct Echo {
    pub(crate) calls: Arc<AtomicUsize>,
}

impl Echo {
    pub(crate) fn calls(&self) -> usize {
        self.calls.load(Ordering::Relaxed)
    }
}

impl Handler for Echo {
    async fn call(&self, mut req: Request) -> Response {
        self.calls.fetch_add(1, Ordering::Relaxed);
        match req.take_body().collect(u64::MAX).await {
            Ok(body) => {
                let body = String::from_utf8_lossy(&body).into_owned();
                let (method, target) = (req.method(), req.head().target());
                Response::new(format!("{method} {target} {body}"))
            }
            Err(error) => Response::new(error.to_string()).with_status(StatusCode::IM_A_TEAPOT),
        }
    }
}
