//! What a request costs, counted: allocations, reads and writes.
//!
//! A test binary of its own, because a counting allocator counts for the whole process.
#![allow(unsafe_code, reason = "an allocator is an unsafe trait")]
#![allow(clippy::unwrap_used, reason = "a failure here is a failed test")]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    collections::VecDeque,
    future::ready,
    io,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Instant,
};

use hearth_http_core::{
    BoxHandler, BoxMiddleware, Bytes, Chain, Connection, ConnectionInfo, Exchange, Handler,
    HeaderValue, Headers, Middleware, Next, Observer, PathParams, Prepared, Protocol, Request,
    Response, Settings, StatusCode, Transport, Watch, WatchEvent, handler_fn, header,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: every call is passed on as it came; the counter does not allocate.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's promises are passed on.
        unsafe { System.realloc(memory, layout, size) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// A peer without a socket: what it says is read, what it hears is thrown away.
#[derive(Default)]
struct Script {
    requests: VecDeque<&'static [u8]>,
    reads: usize,
    writes: usize,
    written: usize,
}

/// One thread uses it, but a transport must be `Send`.
#[derive(Clone, Default)]
struct Scripted(Arc<Mutex<Script>>);

impl AsyncRead for Scripted {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut script = self.0.lock().unwrap();
        let Some(request) = script.requests.pop_front() else { return Poll::Pending };
        script.reads += 1;
        buf.put_slice(request);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Scripted {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut script = self.0.lock().unwrap();
        script.writes += 1;
        script.written += bytes.len();
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let all = slices.iter().map(|slice| slice.len()).sum::<usize>();
        let first = slices.first().map_or(&[][..], |slice| slice);
        let rest = all - first.len();
        self.0.lock().unwrap().written += rest;
        self.poll_write(cx, first).map(|taken| taken.map(|taken| taken + rest))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl Transport for Scripted {}

/// A watch that counts how often it is touched.
struct Touched {
    now: Instant,
    touches: Arc<AtomicUsize>,
}

impl Watch for Touched {
    fn now(&self) -> Instant {
        self.now
    }

    fn set_deadline(&mut self, _: Option<Instant>) {
        self.touches.fetch_add(1, Ordering::Relaxed);
    }

    fn poll_event(&mut self, _: &mut Context<'_>) -> Poll<WatchEvent> {
        Poll::Pending
    }

    fn is_draining(&self) -> bool {
        false
    }
}

/// What one request costs in the long run.
#[derive(Debug, PartialEq)]
struct Cost {
    allocations: f64,
    reads: f64,
    writes: f64,
    deadlines: f64,
}

const ROUNDS: usize = 100;

fn cost(handler: impl Handler, settings: Settings, input: &'static [u8], requests: usize) -> Cost {
    cost_of(handler, settings, |_| input, requests)
}

/// The same where what is said differs from round to round.
fn cost_of(
    handler: impl Handler,
    settings: Settings,
    mut input: impl FnMut(usize) -> &'static [u8],
    requests: usize,
) -> Cost {
    let io = Scripted::default();
    let touches = Arc::new(AtomicUsize::new(0));
    let watch = Touched { now: Instant::now(), touches: touches.clone() };
    let mut connection = Connection::new(
        io.clone(),
        Arc::new(handler),
        Arc::new(settings),
        Arc::new(ConnectionInfo::default()),
        watch,
        Protocol::Auto,
    );
    io.0.lock().unwrap().requests.reserve(ROUNDS);
    let mut cx = Context::from_waker(Waker::noop());
    let inputs: Vec<_> = (0..ROUNDS + 10).map(&mut input).collect();
    let mut inputs = inputs.into_iter();
    let mut round = || {
        io.0.lock().unwrap().requests.extend(inputs.next());
        // Handlers that wait are woken at once.
        for _ in 0..3 {
            assert!(Pin::new(&mut connection).poll(&mut cx).is_pending());
        }
    };
    // The first rounds fill the pools.
    (0..10).for_each(|_| round());
    let read = || {
        let script = io.0.lock().unwrap();
        (ALLOCATIONS.get(), script.reads, script.writes, touches.load(Ordering::Relaxed))
    };
    let before = read();
    (0..ROUNDS).for_each(|_| round());
    let after = read();
    let per_request =
        |before: usize, after: usize| (after - before) as f64 / (ROUNDS * requests) as f64;
    Cost {
        allocations: per_request(before.0, after.0),
        reads: per_request(before.1, after.1),
        writes: per_request(before.2, after.2),
        deadlines: per_request(before.3, after.3),
    }
}

#[track_caller]
fn check(what: &str, handler: impl Handler, input: &'static [u8], allocations: f64) {
    let want = Cost { allocations, reads: 1.0, writes: 1.0, deadlines: 1.0 };
    assert_eq!(cost(handler, Settings::default(), input, 1), want, "{what}");
}

const SHORT: &[u8] = b"GET /users/123 HTTP/1.1\r\nhost: a\r\n\r\n";
const BROWSER: &[u8] = b"GET /plaintext?a=b HTTP/1.1\r\nHost: localhost:8080\r\nConnection: keep-alive\r\n\
    sec-ch-ua: \"Chromium\";v=\"140\"\r\nsec-ch-ua-mobile: ?0\r\nUpgrade-Insecure-Requests: 1\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64)\r\nAccept: text/html,application/xhtml+xml\r\n\
    Sec-Fetch-Site: none\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-User: ?1\r\nx-request-id: 1\r\n\
    Sec-Fetch-Dest: document\r\nAccept-Encoding: gzip, br\r\nAccept-Language: en\r\nCookie: a=b\r\n\r\n";
const UPLOAD: &[u8] = b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nhello";
const CHUNKED: &[u8] =
    b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";

#[test]
fn static_responses_allocate_nothing() {
    let hello = || handler_fn(async |_| Response::text("Hello, World!"));
    check("a short request", hello(), SHORT, 0.0);
    check("a browser's request", hello(), BROWSER, 0.0);
    check("erased", BoxHandler::new(hello()), BROWSER, 0.0);
    let prepared =
        Arc::new(Prepared::new(StatusCode::OK, Headers::new(), Bytes::from_static(b"hi")));
    let prepared = handler_fn(move |_| ready(Response::prepared(prepared.clone())));
    check("prepared", prepared, BROWSER, 0.0);
    let waits = handler_fn(async |_| {
        tokio::task::yield_now().await;
        Response::text("later")
    });
    // Its deadline is taken away from the idle connection while the handler waits.
    let want = Cost { allocations: 0.0, reads: 1.0, writes: 1.0, deadlines: 2.0 };
    assert_eq!(cost(waits, Settings::default(), SHORT, 1), want, "a handler that waits");
    const LARGE: &[u8] = &[b'x'; 100_000];
    check("large and static", handler_fn(async |_| Response::new(LARGE)), SHORT, 0.0);
    let shared = Bytes::from(vec![b'x'; 100_000]);
    let shared = handler_fn(move |_| ready(Response::new(shared.clone())));
    check("large and shared", shared, SHORT, 0.0);
}

#[test]
fn parameters_and_middleware_allocate_nothing() {
    struct Tag;
    impl Middleware for Tag {
        async fn handle(&self, req: Request, next: Next<'_>) -> Response {
            let tag = HeaderValue::from_static("1");
            next.run(req).await.with_header(header::VARY, tag)
        }
    }
    let names: Arc<[Box<str>]> = Arc::new(["id".into()]);
    let param = handler_fn(move |mut req: Request| {
        req.set_params(PathParams::new(names.clone(), std::iter::once(7..10)));
        ready(Response::new(req.param_bytes("id").unwrap()))
    });
    check("a parameter", param, SHORT, 0.0);
    let hello = BoxHandler::new(handler_fn(async |_| Response::text("Hello, World!")));
    let middleware = [BoxMiddleware::new(Tag), BoxMiddleware::new(Tag), BoxMiddleware::new(Tag)];
    check("three middlewares", Chain::new(middleware, hello), BROWSER, 0.0);
}

#[test]
fn content_of_unknown_size_allocates_once() {
    let json = handler_fn(async |req: Request| {
        let mut text = Vec::with_capacity(64);
        text.extend_from_slice(b"{\"path\":\"");
        text.extend_from_slice(req.path().as_bytes());
        text.extend_from_slice(b"\"}");
        Response::new(text)
    });
    check("json", json, SHORT, 1.0);
}

#[test]
fn small_uploads_allocate_nothing() {
    let echo = || {
        handler_fn(async |mut req: Request| {
            Response::new(req.take_body().collect(10).await.unwrap())
        })
    };
    check("content-length", echo(), UPLOAD, 0.0);
    check("chunked", echo(), CHUNKED, 0.0);
}

#[test]
fn an_observer_costs_no_allocation() {
    struct Counter(AtomicUsize);
    impl Observer for Counter {
        fn on_exchange(&self, exchange: &Exchange<'_>) {
            assert_eq!(exchange.head.unwrap().path(), "/plaintext");
            assert_eq!(exchange.body_bytes, 5);
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
    let counter = Arc::new(Counter(AtomicUsize::new(0)));
    let mut settings = Settings::default();
    settings.observer = Some(counter.clone());
    let hello = handler_fn(async |_| Response::text("hello"));
    let want = Cost { allocations: 0.0, reads: 1.0, writes: 1.0, deadlines: 1.0 };
    assert_eq!(cost(hello, settings, BROWSER, 1), want);
    assert_eq!(counter.0.load(Ordering::Relaxed), ROUNDS + 10);
}

#[test]
fn pipelined_requests_share_reads_and_writes() {
    let input: &'static [u8] = SHORT.repeat(16).leak();
    let hello = handler_fn(async |_| Response::text("Hello, World!"));
    let want = Cost { allocations: 0.0, reads: 0.0625, writes: 0.0625, deadlines: 0.0625 };
    assert_eq!(cost(hello, Settings::default(), input, 16), want);
}

/// The frames of eight requests: the first round says the preface and fills the peer's table.
fn http2_round(round: usize) -> &'static [u8] {
    let mut bytes = Vec::new();
    if round == 0 {
        bytes.extend_from_slice(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0");
    }
    // The connection's window is opened again for what the last round took.
    bytes.extend_from_slice(b"\0\0\x04\x08\0\0\0\0\0\0\0\x20\0");
    for request in 0..8 {
        let stream = (1 + 2 * (8 * round + request)) as u32;
        // GET, https, /, then `:authority: a.test` and `user-agent: test`, as text or by index.
        let block: &[u8] = match (round, request) {
            (0, 0) => b"\x82\x87\x84\x41\x06a.test\x7a\x04test",
            _ => b"\x82\x87\x84\xbf\xbe",
        };
        bytes.extend_from_slice(&[0, 0, block.len() as u8, 1, 5]);
        bytes.extend_from_slice(&stream.to_be_bytes());
        bytes.extend_from_slice(block);
    }
    bytes.leak()
}

#[test]
fn http2_requests_allocate_nothing() {
    // One read, one write and no timer for all requests that came together.
    let want = Cost { allocations: 0.0, reads: 0.125, writes: 0.125, deadlines: 0.0 };
    let hello = handler_fn(async |_| Response::text("Hello, World!"));
    assert_eq!(cost_of(hello, Settings::default(), http2_round, 8), want, "text");
    let prepared =
        Arc::new(Prepared::new(StatusCode::OK, Headers::new(), Bytes::from(vec![b'x'; 1000])));
    let prepared = handler_fn(move |_| ready(Response::prepared(prepared.clone())));
    assert_eq!(cost_of(prepared, Settings::default(), http2_round, 8), want, "prepared");
    let waits = handler_fn(async |_| {
        tokio::task::yield_now().await;
        Response::text("later")
    });
    let cost = cost_of(waits, Settings::default(), http2_round, 8);
    assert_eq!((cost.allocations, cost.reads), (0.0, 0.125), "handlers that wait");
}
