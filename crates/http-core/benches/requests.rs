//! What a request costs in user space: a connection over a transport that is not there.
//!
//! `cargo bench -p hearth-http-core` prints nanoseconds per request. Run one row alone, for a
//! profiler, with its name as the argument.

use std::{
    future::ready,
    hint::black_box,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Instant,
};

use hearth_http_core::{
    BoxHandler, BoxMiddleware, Bytes, Chain, Connection, ConnectionInfo, Handler, HeaderValue,
    Headers, Middleware, Next, Prepared, Protocol, Request, Response, Settings, StatusCode,
    Transport, Watch, WatchEvent, handler_fn, header,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Gives the same requests again and again, once each time it is polled.
struct Endless {
    input: &'static [u8],
    is_due: bool,
}

impl AsyncRead for Endless {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.is_due = !self.is_due;
        if !self.is_due {
            return Poll::Pending;
        }
        buf.put_slice(self.input);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Endless {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        black_box(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl Transport for Endless {}

struct Frozen(Instant);

impl Watch for Frozen {
    fn now(&self) -> Instant {
        self.0
    }

    fn set_deadline(&mut self, deadline: Option<Instant>) {
        black_box(deadline);
    }

    fn poll_event(&mut self, _: &mut Context<'_>) -> Poll<WatchEvent> {
        Poll::Pending
    }

    fn is_draining(&self) -> bool {
        false
    }
}

fn measure(name: &str, handler: impl Handler, input: &'static [u8], requests: usize) {
    if std::env::args().nth(1).is_some_and(|only| !only.starts_with('-') && only != name) {
        return;
    }
    let mut settings = Settings::default();
    settings.limits.requests_per_connection_max = u64::MAX;
    let mut connection = Connection::new(
        Endless { input, is_due: false },
        Arc::new(handler),
        Arc::new(settings),
        Arc::new(ConnectionInfo::default()),
        Frozen(Instant::now()),
        Protocol::Auto,
    );
    let mut cx = Context::from_waker(Waker::noop());
    let rounds = ROUNDS / requests;
    let mut best = f64::MAX;
    for _ in 0..5 {
        let start = cpu_nanoseconds();
        for _ in 0..rounds {
            assert!(Pin::new(&mut connection).poll(&mut cx).is_pending());
        }
        best = best.min((cpu_nanoseconds() - start) / (rounds * requests) as f64);
    }
    println!("{name:>16} {best:7.1} ns");
}

/// Time on a processor, which other programs of the machine do not lengthen.
fn cpu_nanoseconds() -> f64 {
    let schedstat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    schedstat.split(' ').next().and_then(|first| first.parse().ok()).expect("Linux")
}

struct Tag;

impl Middleware for Tag {
    async fn handle(&self, req: Request, next: Next<'_>) -> Response {
        next.run(req).await.with_header(header::VARY, HeaderValue::from_static("accept"))
    }
}

fn main() {
    let hello = || handler_fn(async |_| Response::text("Hello, World!"));
    let mut headers = Headers::new();
    headers.append(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    let body = Bytes::from_static(b"Hello, World!");
    let prepared = Arc::new(Prepared::new(StatusCode::OK, headers, body));
    let prepared = move || {
        let prepared = prepared.clone();
        handler_fn(move |_| ready(Response::prepared(prepared.clone())))
    };
    measure("text", hello(), BENCH, 1);
    measure("prepared", prepared(), BENCH, 1);
    measure("browser", hello(), BROWSER, 1);
    measure("erased", BoxHandler::new(hello()), BENCH, 1);
    let middleware = std::iter::repeat_with(|| BoxMiddleware::new(Tag)).take(5);
    measure("5-middlewares", Chain::new(middleware, BoxHandler::new(hello())), BENCH, 1);
    measure("pipelined-16", hello(), BENCH.repeat(16).leak(), 16);
    measure("pipelined-prep", prepared(), BENCH.repeat(16).leak(), 16);
}

const ROUNDS: usize = 400_000;
const BENCH: &[u8] = b"GET /plaintext HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n\r\n";
const BROWSER: &[u8] = b"GET /plaintext?a=b HTTP/1.1\r\nHost: localhost:8080\r\nConnection: keep-alive\r\n\
    sec-ch-ua: \"Chromium\";v=\"140\"\r\nsec-ch-ua-mobile: ?0\r\nUpgrade-Insecure-Requests: 1\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko)\r\n\
    Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8\r\n\
    Sec-Fetch-Site: none\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-User: ?1\r\nx-request-id: 1\r\n\
    Sec-Fetch-Dest: document\r\nAccept-Encoding: gzip, br\r\nAccept-Language: en\r\nCookie: a=b\r\n\r\n";
