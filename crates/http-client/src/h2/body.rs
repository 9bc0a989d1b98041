//! The content of a response from a stream.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use ::h2::{Reason, RecvStream};
use bytes::Bytes;
use hearth_http_core::{BodyError, BodyStream};
use http_body::{Frame, SizeHint};

use super::{
    StreamGuard,
    pump::{Pump, PumpError},
};
use crate::{clock::BodyClock, h1::Limit};

pub(crate) struct IncomingStream {
    recv: RecvStream,
    /// The request's own content, where the peer answered before it had all of it.
    pump: Option<Pump>,
    _guard: StreamGuard,
    /// Content that is still to come, where its length was given. `h2` holds the peer to it.
    rest: Option<u64>,
    clock: BodyClock,
    bytes_max: Option<Limit>,
    has_data_ended: bool,
    is_over: bool,
}

impl IncomingStream {
    pub(crate) fn new(
        recv: RecvStream,
        pump: Option<Pump>,
        guard: StreamGuard,
        rest: Option<u64>,
        clock: BodyClock,
    ) -> Self {
        Self {
            recv,
            pump,
            _guard: guard,
            rest,
            clock,
            bytes_max: None,
            has_data_ended: false,
            is_over: false,
        }
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Frame<Bytes>>, BodyError>> {
        if self.is_over {
            return Poll::Ready(Ok(None));
        }
        if self.clock.is_over() {
            return Poll::Ready(Err(BodyError::Timeout));
        }
        if let Some(pump) = &mut self.pump {
            match pump.poll(cx) {
                Poll::Pending => {}
                Poll::Ready(Err(PumpError::Body(error))) => return Poll::Ready(Err(error)),
                // The peer may want no more of the request and still answer it (RFC 9113 §8.1).
                Poll::Ready(_) => self.pump = None,
            }
        }
        while !self.has_data_ended {
            match self.recv.poll_data(cx) {
                Poll::Pending => return self.wait(cx),
                // The end often comes in a frame of its own.
                Poll::Ready(Some(Ok(data))) if data.is_empty() => {}
                Poll::Ready(Some(Ok(data))) => return Poll::Ready(self.take(data).map(Some)),
                Poll::Ready(Some(Err(error))) if is_clean_end(&error) => {
                    return Poll::Ready(Ok(None));
                }
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(body_error(error))),
                Poll::Ready(None) => self.has_data_ended = true,
            }
        }
        match self.recv.poll_trailers(cx) {
            Poll::Pending => self.wait(cx),
            Poll::Ready(Ok(trailers)) => {
                self.is_over = true;
                Poll::Ready(Ok(trailers.map(Frame::trailers)))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(body_error(error))),
        }
    }

    fn take(&mut self, data: Bytes) -> Result<Frame<Bytes>, BodyError> {
        self.clock.on_progress();
        if let Some(max) = &mut self.bytes_max {
            max.take(data.len())?;
        }
        self.rest = self.rest.map(|rest| rest.saturating_sub(data.len() as u64));
        // Only what was taken makes room for more: a slow consumer slows the peer. The stream may be
        // over already, which makes this an error that does not matter.
        let _ = self.recv.flow_control().release_capacity(data.len());
        Ok(Frame::data(data))
    }

    fn wait(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Frame<Bytes>>, BodyError>> {
        if self.clock.poll_expired(cx) {
            Poll::Ready(Err(BodyError::Timeout))
        } else {
            Poll::Pending
        }
    }
}

impl BodyStream for IncomingStream {
    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let result = self.poll_next(cx).map(Result::transpose);
        if matches!(result, Poll::Ready(None | Some(Err(_)))) {
            self.is_over = true;
            self.pump = None;
        }
        result
    }

    fn size_hint(&self) -> SizeHint {
        let rest = if self.is_over { Some(0) } else { self.rest };
        rest.map_or_else(SizeHint::default, SizeHint::with_exact)
    }

    fn set_limit(mut self: Pin<&mut Self>, bytes_max: u64) {
        self.bytes_max = Some(Limit::new(bytes_max));
    }
}

/// RFC 9113 §8.1: a server that is done asks with `NO_ERROR` to stop the upload.
fn is_clean_end(error: &::h2::Error) -> bool {
    error.is_remote() && error.is_reset() && error.reason() == Some(Reason::NO_ERROR)
}

fn body_error(error: ::h2::Error) -> BodyError {
    if error.is_library() {
        return BodyError::Malformed("the peer broke the rules of HTTP/2");
    }
    if error.is_remote() || error.is_io() {
        return BodyError::Aborted;
    }
    BodyError::Source(Box::new(error))
}
