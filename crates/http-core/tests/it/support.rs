//! A connection in memory and a peer that writes raw bytes to it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use hearth_http_core::{
    Body, BodyError, Connection, ConnectionError, ConnectionInfo, Handler, Portable, Protocol,
    Request, Response, Settings, StatusCode, TokioWatch, Watch,
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

/// The whole body, under whatever limit is set for it.
pub(crate) async fn read(body: &mut Body) -> Result<Vec<u8>, BodyError> {
    let mut all = Vec::new();
    while let Some(frame) = body.frame().await {
        all.extend_from_slice(frame?.data_ref().map_or(&[][..], |data| data));
    }
    Ok(all)
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
        match read(req.body_mut()).await {
            Ok(body) => {
                let body = String::from_utf8_lossy(&body).into_owned();
                let (method, target) = (req.method(), req.head().target());
                Response::new(format!("{method} {target} {body}"))
            }
            Err(error) => Response::new(error.to_string()).with_status(StatusCode::IM_A_TEAPOT),
        }
    }
}

/// Sends `input`; it must be refused with `status`, once, and the connection closed, and no
/// handler may see a request.
#[track_caller]
pub(crate) fn refused(rule: &str, input: impl AsRef<[u8]>, status: u16) {
    let input = input.as_ref();
    let shown = String::from_utf8_lossy(input).chars().take(200).collect::<String>();
    // In one piece, and byte by byte: how the bytes arrive must not matter.
    for piece in [input.len(), 1] {
        let (answer, calls) = conversation(input, piece);
        let told = format!("{rule}, pieces of {piece}: {shown:?} -> {answer:?}");
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{told}");
        assert!(answer.contains("\r\nconnection: close\r\n"), "{told}");
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{told}");
        assert_eq!(calls, 0, "a handler was reached: {told}");
    }
}

/// Sends `input`; it must be answered by the handler with 200 and this text, as often as there are
/// texts.
#[track_caller]
pub(crate) fn answered(rule: &str, input: impl AsRef<[u8]>, texts: &[&str]) {
    let input = input.as_ref();
    let shown = String::from_utf8_lossy(input).chars().take(200).collect::<String>();
    for piece in [input.len(), 1] {
        let (answer, calls) = conversation(input, piece);
        let told = format!("{rule}, pieces of {piece}: {shown:?} -> {answer:?}");
        let bodies: Vec<_> = answer.split("HTTP/1.1 200 OK\r\n").skip(1).collect();
        let bodies: Vec<_> = bodies.iter().map(|r| r.split_once("\r\n\r\n").unwrap().1).collect();
        assert_eq!(bodies, texts, "{told}");
        assert_eq!(calls, texts.len(), "{told}");
    }
}

/// What comes back for `input`, sent in pieces of this length, and how often the handler was called.
pub(crate) fn conversation(input: &[u8], piece: usize) -> (String, usize) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let echo = Echo::default();
        let mut peer = Peer::new(echo.clone());
        for piece in input.chunks(piece.max(1)) {
            // A connection that has refused already may be closed.
            if peer.io.write_all(piece).await.is_err() {
                break;
            }
            for _ in 0..3 {
                tokio::task::yield_now().await;
            }
        }
        let _ = peer.io.shutdown().await;
        let answer = peer.receive_all().await;
        let _ = peer.ended().await;
        (answer, echo.calls())
    })
}
