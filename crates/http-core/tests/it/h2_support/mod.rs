//! A connection in memory: the server under test on one end, a client on the other.

mod app;
mod raw;

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use hearth_http_core::{
    Abuse, Connection, ConnectionError, ConnectionInfo, Exchange, Handler, Observer, Outcome,
    Portable, Protocol, Settings, TokioWatch, Watch, WatchEvent,
};
use http::{HeaderMap, Request, Response};
use parking_lot::Mutex;
use tokio::{io::DuplexStream, task::JoinHandle};

pub(crate) use self::{
    app::{App, pattern},
    raw::{Frame, Raw, block, integer, kind, request_fields},
};

/// What the server end of a connection did.
pub(crate) struct Server {
    pub(crate) task: JoinHandle<Result<(), ConnectionError>>,
    pub(crate) drain: Drain,
    pub(crate) log: Arc<Log>,
}

impl Server {
    /// Serves a connection in memory whose pipes hold `capacity` bytes; answers the client's end.
    pub(crate) fn start_with(
        handler: impl Handler,
        mut settings: Settings,
        capacity: usize,
    ) -> (Self, DuplexStream) {
        let (near, far) = tokio::io::duplex(capacity);
        let log = Arc::new(Log::default());
        settings.observer = Some(Arc::<Log>::clone(&log));
        let drain = Drain::default();
        let watch = TestWatch { timer: TokioWatch::new(), drain: drain.clone(), reported: false };
        let connection = Connection::new(
            Portable(near),
            Arc::new(handler),
            Arc::new(settings),
            Arc::new(ConnectionInfo::new(7, None, None)),
            watch,
            Protocol::Http2,
        );
        (Self { task: tokio::spawn(connection), drain, log }, far)
    }

    pub(crate) fn start(settings: Settings) -> (Self, DuplexStream) {
        Self::start_with(App, settings, 1 << 20)
    }

    /// How the connection ended; fails the test if it does not.
    pub(crate) async fn end(self) -> Result<(), ConnectionError> {
        let ended = tokio::time::timeout(Duration::from_secs(100_000), self.task).await;
        ended.expect("the connection ends").expect("the connection does not panic")
    }
}

/// What the observer saw.
#[derive(Debug, Default)]
pub(crate) struct Log {
    pub(crate) exchanges: Mutex<Vec<(u16, Outcome, u64)>>,
    pub(crate) abuses: Mutex<Vec<Abuse>>,
}

impl Log {
    pub(crate) fn exchanges(&self) -> Vec<(u16, Outcome, u64)> {
        self.exchanges.lock().clone()
    }

    pub(crate) fn abuses(&self) -> Vec<Abuse> {
        self.abuses.lock().clone()
    }
}

impl Observer for Log {
    fn on_exchange(&self, exchange: &Exchange<'_>) {
        let seen = (exchange.status.as_u16(), exchange.outcome, exchange.body_bytes);
        self.exchanges.lock().push(seen);
    }

    fn on_abuse(&self, _connection: &Arc<ConnectionInfo>, abuse: Abuse) {
        self.abuses.lock().push(abuse);
    }
}

/// The order to drain.
#[derive(Clone, Default)]
pub(crate) struct Drain(Arc<(AtomicBool, Mutex<Option<Waker>>)>);

impl Drain {
    pub(crate) fn order(&self) {
        self.0.0.store(true, Ordering::SeqCst);
        if let Some(waker) = self.0.1.lock().take() {
            waker.wake();
        }
    }
}

struct TestWatch {
    timer: TokioWatch,
    drain: Drain,
    reported: bool,
}

impl Watch for TestWatch {
    fn now(&self) -> Instant {
        self.timer.now()
    }

    fn set_deadline(&mut self, deadline: Option<Instant>) {
        self.timer.set_deadline(deadline);
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<WatchEvent> {
        *self.drain.0.1.lock() = Some(cx.waker().clone());
        if self.is_draining() && !self.reported {
            self.reported = true;
            return Poll::Ready(WatchEvent::Drain);
        }
        self.timer.poll_event(cx)
    }

    fn is_draining(&self) -> bool {
        self.drain.0.0.load(Ordering::SeqCst)
    }
}

/// A client that behaves.
pub(crate) struct Client {
    pub(crate) send: SendRequest<Bytes>,
    pub(crate) task: JoinHandle<Result<(), h2::Error>>,
}

impl Client {
    pub(crate) async fn connect(io: DuplexStream) -> Self {
        Self::connect_with(io, &h2::client::Builder::new()).await
    }

    pub(crate) async fn connect_with(io: DuplexStream, builder: &h2::client::Builder) -> Self {
        let (send, connection) = builder.handshake(io).await.expect("handshake");
        Self { send, task: tokio::spawn(connection) }
    }

    /// Sends a request with this content; an empty one ends with its head.
    pub(crate) fn request(&mut self, request: Request<()>, content: &[u8]) -> ResponseFuture {
        let (response, mut stream) =
            self.send.send_request(request, content.is_empty()).expect("send");
        if !content.is_empty() {
            stream.send_data(Bytes::copy_from_slice(content), true).expect("send");
        }
        response
    }

    pub(crate) async fn exchange(&mut self, request: Request<()>, content: &[u8]) -> Answer {
        self.send.clone().ready().await.expect("ready");
        let response = self.request(request, content).await.expect("response");
        collect(response).await.expect("content")
    }

    pub(crate) async fn get(&mut self, path: &str) -> Answer {
        self.exchange(get(path), b"").await
    }
}

/// A whole response.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) fields: HeaderMap,
    pub(crate) content: Vec<u8>,
    pub(crate) trailers: Option<HeaderMap>,
}

impl Answer {
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.content).expect("text")
    }

    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.fields.get(name).map(|value| value.to_str().expect("text"))
    }
}

pub(crate) async fn collect(response: Response<h2::RecvStream>) -> Result<Answer, h2::Error> {
    let (parts, mut body) = response.into_parts();
    let mut content = Vec::new();
    while let Some(data) = body.data().await {
        let data = data?;
        body.flow_control().release_capacity(data.len())?;
        content.extend_from_slice(&data);
    }
    let trailers = body.trailers().await?;
    Ok(Answer { status: parts.status.as_u16(), fields: parts.headers, content, trailers })
}

pub(crate) fn get(path: &str) -> Request<()> {
    Request::get(format!("https://a.test{path}")).body(()).expect("request")
}

pub(crate) fn post(path: &str) -> Request<()> {
    Request::post(format!("https://a.test{path}")).body(()).expect("request")
}

/// Settings with some limits changed.
pub(crate) fn settings(change: impl FnOnce(&mut Settings)) -> Settings {
    let mut settings = Settings::default();
    change(&mut settings);
    settings
}

/// Fails the test if `future` takes longer than any sensible time, by the test's clock.
pub(crate) async fn soon<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(Duration::from_secs(10), future).await.expect("in time")
}
