//! The sending half of a stream: content, as fast as the peer's windows allow.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use ::h2::{Reason, SendStream};
use bytes::Bytes;
use hearth_http_core::{Body, BodyError};
use http_body::Body as _;

/// Content on its way into a stream.
pub(crate) struct Pump {
    body: Body,
    stream: SendStream<Bytes>,
    /// What the body gave and the window has not yet taken.
    waiting: Bytes,
    has_progressed: bool,
    is_complete: bool,
}

/// Why sending ended early.
#[derive(Debug)]
pub(crate) enum PumpError {
    /// The content's own source.
    Body(BodyError),
    /// The stream was reset or its connection lost.
    Stream,
}

impl Pump {
    pub(crate) fn new(body: Body, stream: SendStream<Bytes>) -> Self {
        Self { body, stream, waiting: Bytes::new(), has_progressed: false, is_complete: false }
    }

    /// Whether anything was sent since this was last asked.
    pub(crate) fn take_progress(&mut self) -> bool {
        std::mem::take(&mut self.has_progressed)
    }

    /// Sends as much as can be sent; ready when all of it is on its way.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), PumpError>> {
        loop {
            while !self.waiting.is_empty() {
                let capacity = ready!(self.poll_capacity(cx))?;
                let piece = self.waiting.split_to(capacity.min(self.waiting.len()));
                // The end travels with the last piece, if the body knows that it is the last.
                let is_end = self.waiting.is_empty() && self.body.is_end_stream();
                self.send(piece, is_end)?;
            }
            if self.is_complete {
                return Poll::Ready(Ok(()));
            }
            match Pin::new(&mut self.body).poll_frame(cx) {
                Poll::Pending => {
                    // Nothing else would tell that the peer wants no more.
                    return match self.stream.poll_reset(cx) {
                        Poll::Pending => Poll::Pending,
                        Poll::Ready(_) => Poll::Ready(Err(PumpError::Stream)),
                    };
                }
                Poll::Ready(None) => self.send(Bytes::new(), true)?,
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => self.waiting = data,
                    Err(frame) => {
                        let trailers = frame.into_trailers().unwrap_or_default();
                        self.stream.send_trailers(trailers).map_err(|_| PumpError::Stream)?;
                        self.is_complete = true;
                    }
                },
                Poll::Ready(Some(Err(error))) => {
                    self.stream.send_reset(Reason::CANCEL);
                    return Poll::Ready(Err(PumpError::Body(error)));
                }
            }
        }
    }

    fn send(&mut self, piece: Bytes, is_end: bool) -> Result<(), PumpError> {
        self.stream.send_data(piece, is_end).map_err(|_| PumpError::Stream)?;
        self.has_progressed = true;
        self.is_complete = is_end;
        Ok(())
    }

    /// How much the windows of stream and connection take now; at least 1.
    fn poll_capacity(&mut self, cx: &mut Context<'_>) -> Poll<Result<usize, PumpError>> {
        loop {
            let capacity = self.stream.capacity();
            if capacity > 0 {
                return Poll::Ready(Ok(capacity));
            }
            self.stream.reserve_capacity(self.waiting.len().min(RESERVE_BYTES_MAX));
            match ready!(self.stream.poll_capacity(cx)) {
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Poll::Ready(Err(PumpError::Stream)),
            }
        }
    }
}

/// Capacity that one stream asks for at a time, so that others get some.
const RESERVE_BYTES_MAX: usize = 64 * 1024;
