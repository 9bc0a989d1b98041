//! The content of a request on its way to the handler.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll, Waker, ready},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, StatusCode, header};
use http_body::{Frame, SizeHint};
use parking_lot::Mutex;

use super::codec::{Content, Failure};
use crate::{BodyError, BodyStream, Limits};

/// What the driver and the body, which the handler may have given away, know of each other.
#[derive(Default)]
pub(super) struct Progress {
    /// The handler asked for content; what `Expect: 100-continue` waits for.
    asked: AtomicBool,
    /// The handler waits, and nothing has come.
    waiting: AtomicBool,
    /// Content that the handler took.
    bytes: AtomicU64,
    fate: Mutex<Fate>,
}

#[derive(Default)]
struct Fate {
    /// The status that the failure of the body means for the response.
    status: Option<StatusCode>,
    /// The driver has lost patience.
    timed_out: bool,
    waker: Option<Waker>,
    /// Content that the handler did not want.
    unread: Option<Content>,
}

impl Progress {
    pub(super) fn is_asked(&self) -> bool {
        self.asked.load(Relaxed)
    }

    pub(super) fn is_waiting(&self) -> bool {
        self.waiting.load(Relaxed)
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Relaxed)
    }

    /// What the response must be, whatever the handler made of the failure.
    pub(super) fn failure(&self) -> Option<StatusCode> {
        self.fate.lock().status
    }

    /// The content, if the handler let go of it before its end.
    pub(super) fn take_unread(&self) -> Option<Content> {
        self.fate.lock().unread.take()
    }

    /// Ends the body with [`BodyError::Timeout`].
    pub(super) fn time_out(&self) {
        let mut fate = self.fate.lock();
        fate.timed_out = true;
        if let Some(waker) = fate.waker.take() {
            waker.wake();
        }
    }
}

/// A request's content as a [`BodyStream`].
pub(super) struct Upload {
    /// There until the end.
    content: Option<Content>,
    progress: Arc<Progress>,
    stage: Stage,
    limit: u64,
    left: Option<u64>,
    trailer_bytes_max: usize,
    trailer_count_max: usize,
}

#[derive(Clone, Copy, PartialEq)]
enum Stage {
    Data,
    Trailers,
    End,
}

impl Upload {
    pub(super) fn new(content: Content, len: Option<u64>, limits: &Limits) -> Self {
        Self {
            content: Some(content),
            progress: Arc::default(),
            stage: Stage::Data,
            limit: limits.body_bytes_max,
            left: len,
            trailer_bytes_max: limits.trailer_bytes_max,
            trailer_count_max: limits.trailer_count_max,
        }
    }

    pub(super) fn progress(&self) -> Arc<Progress> {
        Arc::clone(&self.progress)
    }

    fn fail(&mut self, status: StatusCode, error: BodyError) -> Poll<Option<Polled>> {
        self.stage = Stage::End;
        self.progress.waiting.store(false, Relaxed);
        self.progress.fate.lock().status = Some(status);
        Poll::Ready(Some(Err(error)))
    }

    fn too_large(&mut self) -> Poll<Option<Polled>> {
        self.fail(StatusCode::PAYLOAD_TOO_LARGE, BodyError::TooLarge { limit: self.limit })
    }

    /// The peer reset the stream, or broke its framing: nobody is left to be answered.
    fn failed(&mut self, failure: &Failure) -> Poll<Option<Polled>> {
        self.stage = Stage::End;
        self.content = None;
        self.progress.waiting.store(false, Relaxed);
        Poll::Ready(Some(Err(match failure {
            Failure::Protocol(_) => BodyError::Malformed("stream error"),
            Failure::Peer(_) | Failure::Io(_) => BodyError::Aborted,
        })))
    }

    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Polled>> {
        loop {
            let Some(content) = &mut self.content else { return Poll::Ready(None) };
            let data = match ready!(content.poll_data(cx)) {
                Some(Ok(data)) => data,
                Some(Err(failure)) => return self.failed(&failure),
                None => {
                    self.stage = Stage::Trailers;
                    return self.poll_trailers(cx);
                }
            };
            // The window opens again only when the handler takes the octets.
            content.release(data.len());
            if data.is_empty() {
                continue;
            }
            let len = data.len() as u64;
            self.left = self.left.map(|left| left.saturating_sub(len));
            let total = self.progress.bytes.fetch_add(len, Relaxed) + len;
            if total > self.limit {
                return self.too_large();
            }
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
    }

    fn poll_trailers(&mut self, cx: &mut Context<'_>) -> Poll<Option<Polled>> {
        let Some(content) = &mut self.content else { return Poll::Ready(None) };
        let trailers = match ready!(content.poll_trailers(cx)) {
            Ok(trailers) => trailers,
            Err(failure) => return self.failed(&failure),
        };
        self.stage = Stage::End;
        self.content = None;
        let Some(fields) = trailers.filter(|fields| !fields.is_empty()) else {
            return Poll::Ready(None);
        };
        let bytes: usize =
            fields.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
        if bytes > self.trailer_bytes_max || fields.len() > self.trailer_count_max {
            let error = BodyError::Malformed("trailer section too large");
            return self.fail(StatusCode::BAD_REQUEST, error);
        }
        if has_forbidden(&fields) {
            let error = BodyError::Malformed("field not allowed in trailers");
            return self.fail(StatusCode::BAD_REQUEST, error);
        }
        Poll::Ready(Some(Ok(Frame::trailers(fields))))
    }
}

impl BodyStream for Upload {
    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        if this.stage == Stage::End {
            return Poll::Ready(None);
        }
        this.progress.asked.store(true, Relaxed);
        if this.left.is_some_and(|left| left + this.progress.bytes() > this.limit) {
            return this.too_large();
        }
        let polled = match this.stage {
            Stage::Data => this.poll_data(cx),
            _ => this.poll_trailers(cx),
        };
        if polled.is_pending() {
            let mut fate = this.progress.fate.lock();
            if fate.timed_out {
                drop(fate);
                return this.fail(StatusCode::REQUEST_TIMEOUT, BodyError::Timeout);
            }
            fate.waker = Some(cx.waker().clone());
        }
        this.progress.waiting.store(polled.is_pending(), Relaxed);
        polled
    }

    fn size_hint(&self) -> SizeHint {
        match self.left {
            Some(left) if self.stage == Stage::Data => SizeHint::with_exact(left),
            None if self.content.as_ref().is_some_and(|content| !content.is_end()) => {
                SizeHint::default()
            }
            _ => SizeHint::with_exact(0),
        }
    }

    fn set_limit(mut self: Pin<&mut Self>, bytes_max: u64) {
        self.limit = bytes_max;
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        // A little more is read, so that a small rest need not be answered with a reset.
        self.progress.fate.lock().unread = self.content.take();
    }
}

type Polled = Result<Frame<Bytes>, BodyError>;

/// Whether fields stand there that steer framing, routing or authentication (RFC 9110 §6.5.1).
fn has_forbidden(trailers: &HeaderMap) -> bool {
    const FORBIDDEN: [HeaderName; 14] = [
        header::AUTHORIZATION,
        header::CACHE_CONTROL,
        header::CONTENT_ENCODING,
        header::CONTENT_LENGTH,
        header::CONTENT_RANGE,
        header::CONTENT_TYPE,
        header::COOKIE,
        header::EXPECT,
        header::HOST,
        header::MAX_FORWARDS,
        header::PROXY_AUTHORIZATION,
        header::SET_COOKIE,
        header::TE,
        header::TRAILER,
    ];
    trailers.keys().any(|name| FORBIDDEN.contains(name))
}
