//! Exchanges over HTTP/2 (RFC 9113), on the `h2` crate.
//!
//! One connection to an origin carries all of its requests. A task drives it; it is aborted when
//! neither the pool nor any response holds the connection any more.

mod body;
mod pump;

use std::{
    future::Future,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use ::h2::{
    Reason, RecvStream,
    client::{Builder, ResponseFuture, SendRequest},
};
use bytes::Bytes;
use hearth_http_core::{Body, Headers, Transport};
use http::{HeaderMap, HeaderValue, Method, Request, Uri, Version, header};
use parking_lot::Mutex;
use tokio::{
    sync::Notify,
    task::AbortHandle,
    time::{Instant, sleep_until, timeout},
};

use self::{
    body::IncomingStream,
    pump::{Pump, PumpError},
};
use crate::{
    ClientError, ClientLimits, ErrorKind, PoolOptions, TimeoutKind,
    exchange::{Answer, Failure, Order},
    h1::{is_own, wants_trailers},
    request::Content,
    response::ResponseHead,
};

/// What is known of HTTP/2 at an origin.
#[derive(Default)]
pub(crate) struct Slot {
    handle: Mutex<Option<Handle>>,
    /// Held while a first connection is made, so that requests that come together share one.
    pub(crate) dialing: tokio::sync::Mutex<()>,
    /// The last handshake chose HTTP/1.1.
    pub(crate) is_http1: AtomicBool,
}

/// A connection on which streams can be opened.
#[derive(Clone)]
pub(crate) struct Handle {
    send: SendRequest<Bytes>,
    shared: Arc<Shared>,
}

struct Shared {
    is_closed: Arc<AtomicBool>,
    born: Instant,
    streams: AtomicUsize,
    /// Told when a stream ends; wakes those who wait in their order.
    stream_ended: Notify,
    last_used: Mutex<Instant>,
    driver: AbortHandle,
}

/// Keeps the connection alive while one of its streams is.
pub(crate) struct StreamGuard(Arc<Shared>);

struct CloseOnDrop(Arc<AtomicBool>);

impl Slot {
    /// The connection, if it is open, and not too old for another request.
    pub(crate) fn open(&self, age_max: Duration) -> Option<Handle> {
        let mut slot = self.handle.lock();
        let is_over =
            |shared: &Shared| shared.is_closed.load(Relaxed) || shared.born.elapsed() >= age_max;
        if slot.as_ref().is_some_and(|handle| is_over(&handle.shared)) {
            *slot = None;
        }
        slot.clone()
    }

    /// Makes `handle` the connection for further requests.
    pub(crate) fn set(&self, handle: Handle) {
        self.is_http1.store(false, Relaxed);
        *self.handle.lock() = Some(handle);
    }

    /// Sends no more requests over `handle`. Those on their way go on.
    pub(crate) fn evict(&self, handle: &Handle) {
        let mut slot = self.handle.lock();
        if slot.as_ref().is_some_and(|known| Arc::ptr_eq(&known.shared, &handle.shared)) {
            *slot = None;
        }
    }

    /// Closes the connection if nobody used it for `idle_timeout`; answers when to look again.
    pub(crate) fn sweep(&self, now: Instant, options: &PoolOptions) -> Option<Instant> {
        let handle = self.open(options.age_max)?;
        if handle.shared.streams.load(Relaxed) > 0 {
            return Some(now + options.idle_timeout);
        }
        let expires = *handle.shared.last_used.lock() + options.idle_timeout;
        if expires > now {
            return Some(expires);
        }
        self.evict(&handle);
        None
    }
}

impl Handle {
    /// Begins a connection over `io`. The peer's first frame is not waited for.
    pub(crate) async fn start(
        io: Box<dyn Transport>,
        limits: &ClientLimits,
    ) -> Result<Self, ClientError> {
        let handshake = Builder::new()
            .enable_push(false)
            .initial_window_size(limits.h2_stream_window)
            .initial_connection_window_size(limits.h2_connection_window)
            .max_frame_size(limits.h2_frame_bytes_max.clamp(16_384, 16_777_215))
            .max_header_list_size(u32::try_from(limits.head_bytes_max).unwrap_or(u32::MAX))
            .max_send_buffer_size(limits.h2_send_buffer_max)
            .max_concurrent_reset_streams(50)
            .handshake(io);
        let (send, connection) = handshake.await.map_err(|error| classify(error).error)?;
        let is_closed = Arc::new(AtomicBool::new(false));
        let close = CloseOnDrop(is_closed.clone());
        let driver = tokio::spawn(async move {
            let _close = close;
            if let Err(error) = connection.await {
                tracing::debug!(%error, "an HTTP/2 connection failed");
            }
        });
        let shared = Shared {
            is_closed,
            born: Instant::now(),
            streams: AtomicUsize::new(0),
            stream_ended: Notify::new(),
            last_used: Mutex::new(Instant::now()),
            driver: driver.abort_handle(),
        };
        Ok(Self { send, shared: Arc::new(shared) })
    }

    /// Waits until the peer allows another stream (RFC 9113 §5.1.2). `h2` would queue it as well,
    /// but then the wait would count as time that the peer takes to answer.
    async fn stream(&self) -> StreamGuard {
        loop {
            let mut ended = pin!(self.shared.stream_ended.notified());
            // In the queue before the look, so that no end is missed between the two.
            ended.as_mut().enable();
            let streams_max = self.send.current_max_send_streams();
            let reserve = |streams| (streams < streams_max).then_some(streams + 1);
            if self.shared.streams.fetch_update(Relaxed, Relaxed, reserve).is_ok() {
                return StreamGuard(self.shared.clone());
            }
            ended.await;
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Drop for StreamGuard {
    fn drop(&mut self) {
        *self.0.last_used.lock() = Instant::now();
        self.0.streams.fetch_sub(1, Relaxed);
        self.0.stream_ended.notify_one();
    }
}

impl Drop for CloseOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

/// Sends a request over `handle` and waits for the head of the response.
///
/// # Cancel safety
/// Dropping the future resets the stream; the connection goes on.
pub(crate) async fn run(
    handle: &Handle,
    order: Order<'_>,
    content: &mut Content,
) -> Result<Answer, Failure> {
    let mut send = handle.send.clone();
    let opening = async {
        let guard = handle.stream().await;
        std::future::poll_fn(|cx| send.poll_ready(cx)).await.map(|()| guard)
    };
    let guard = match timeout(order.timeouts.pool_wait, opening).await {
        Err(_) => return Err(ClientError::timeout(TimeoutKind::PoolWait).into()),
        Ok(Err(error)) => {
            let failure = classify(error);
            return Err(Failure { error: failure.error.unprocessed(), is_stale: true });
        }
        Ok(Ok(guard)) => guard,
    };
    let body = content.take().unwrap_or_default();
    let request = head(&order, &body)?;
    let is_empty = body.is_empty();
    let (response, stream) = send.send_request(request, is_empty).map_err(classify)?;
    let pump = (!is_empty).then(|| Pump::new(body, stream));
    let mut exchange = Exchange { response, pump, interim_count: 0 };
    let response = exchange.head(&order).await?;
    into_answer(response, exchange.pump, guard, &order).map_err(Into::into)
}

/// A request on its way, until the head of its response is there.
struct Exchange {
    response: ResponseFuture,
    pump: Option<Pump>,
    interim_count: u32,
}

impl Exchange {
    async fn head(&mut self, order: &Order<'_>) -> Result<http::Response<RecvStream>, Failure> {
        let wait = order.timeouts.response_head;
        let mut timer = pin!(sleep_until(Instant::now() + wait));
        std::future::poll_fn(|cx| {
            if let Poll::Ready(result) = self.poll_head(cx, order.limits.interim_count_max) {
                return Poll::Ready(result);
            }
            if self.pump.as_mut().is_some_and(Pump::take_progress) {
                timer.as_mut().reset(Instant::now() + wait);
            }
            ready!(timer.as_mut().poll(cx));
            Poll::Ready(Err(ClientError::timeout(TimeoutKind::ResponseHead).into()))
        })
        .await
    }

    fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        interim_count_max: u32,
    ) -> Poll<Result<http::Response<RecvStream>, Failure>> {
        if let Some(pump) = &mut self.pump {
            match pump.poll(cx) {
                Poll::Pending => {}
                Poll::Ready(Ok(())) => self.pump = None,
                // What became of the stream is told by its response.
                Poll::Ready(Err(PumpError::Stream)) => self.pump = None,
                Poll::Ready(Err(PumpError::Body(error))) => {
                    let what = "the source of the request's content failed";
                    let error = ClientError::new(ErrorKind::Body, what).caused_by(error);
                    return Poll::Ready(Err(error.into()));
                }
            }
        }
        while let Poll::Ready(Some(interim)) = self.response.poll_informational(cx) {
            interim.map_err(classify)?;
            self.interim_count += 1;
            if self.interim_count > interim_count_max {
                let what = "too many interim responses";
                return Poll::Ready(Err(ClientError::new(ErrorKind::Protocol, what).into()));
            }
        }
        Pin::new(&mut self.response).poll(cx).map_err(classify)
    }
}

fn into_answer(
    response: http::Response<RecvStream>,
    pump: Option<Pump>,
    guard: StreamGuard,
    order: &Order<'_>,
) -> Result<Answer, ClientError> {
    let (parts, recv) = response.into_parts();
    if parts.headers.len() > order.limits.header_count_max {
        return Err(ClientError::new(ErrorKind::TooLarge, "the head has too many fields"));
    }
    let length = parts.headers.get(header::CONTENT_LENGTH).map(HeaderValue::as_bytes);
    let length = length.and_then(crate::h1::parse_length);
    let headers = Headers::from(parts.headers);
    let head = ResponseHead { status: parts.status, version: Version::HTTP_2, headers };
    let body = if recv.is_end_stream() {
        Body::Empty
    } else {
        Body::stream(IncomingStream::new(recv, pump, guard, length, order.body_clock()))
    };
    Ok(Answer { head, body, upgraded: None })
}

fn head(order: &Order<'_>, body: &Body) -> Result<Request<()>, ClientError> {
    let malformed = |_| ClientError::new(ErrorKind::Request, "the URL or host is malformed");
    let host = order.headers.get(&header::HOST).map(HeaderValue::as_bytes);
    let uri = Uri::builder()
        .scheme(if order.target.is_tls { "https" } else { "http" })
        .authority(host.unwrap_or(order.target.authority().as_bytes()))
        .path_and_query(&*order.target.path)
        .build()
        .map_err(malformed)?;
    let mut request = Request::new(());
    *request.method_mut() = order.method.clone();
    *request.uri_mut() = uri;
    *request.version_mut() = Version::HTTP_2;
    *request.headers_mut() = fields(order, body)?;
    Ok(request)
}

fn fields(order: &Order<'_>, body: &Body) -> Result<HeaderMap, ClientError> {
    let mut map = HeaderMap::with_capacity(order.headers.len() + 3);
    for (name, value) in order.headers.iter().filter(|(name, _)| !is_own(name)) {
        let mut value = value.clone();
        // RFC 7541 §7.1.3: what a table holds can be guessed at.
        if name == header::AUTHORIZATION || name == header::PROXY_AUTHORIZATION {
            value.set_sensitive(true);
        }
        map.try_append(name.clone(), value)
            .map_err(|_| ClientError::new(ErrorKind::Request, "the request has too many fields"))?;
    }
    if let (Some(agent), false) = (order.user_agent, map.contains_key(header::USER_AGENT)) {
        map.insert(header::USER_AGENT, agent.clone());
    }
    if wants_trailers(order.headers) {
        map.insert(header::TE, HeaderValue::from_static("trailers"));
    }
    let has_meaning = [Method::POST, Method::PUT, Method::PATCH].contains(order.method);
    if let Some(len) = body.len().filter(|&len| len > 0 || has_meaning) {
        map.insert(header::CONTENT_LENGTH, HeaderValue::from(len));
    }
    Ok(map)
}

/// What an error of the connection or stream means for the request.
fn classify(error: ::h2::Error) -> Failure {
    let is_refused = error.is_reset() && error.reason() == Some(Reason::REFUSED_STREAM);
    // A stream gets the peer's GOAWAY only if it lies above the last one that was processed.
    let is_unseen = error.is_remote() && (error.is_go_away() || is_refused);
    if error.is_io() {
        let kind = error.get_io().map(std::io::Error::kind);
        return Failure { error: ClientError::lost(error, kind), is_stale: true };
    }
    let (kind, what) = if is_unseen {
        (ErrorKind::Closed, "the peer refused the request unseen")
    } else if error.is_remote() {
        (ErrorKind::Closed, "the peer reset the stream")
    } else {
        (ErrorKind::Protocol, "the peer broke the rules of HTTP/2")
    };
    let error = ClientError::new(kind, what).caused_by(error);
    Failure { error: if is_unseen { error.unprocessed() } else { error }, is_stale: false }
}
