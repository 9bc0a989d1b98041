//! The content of a response, which owns its connection until the end.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use hearth_http_core::{BodyError, BodyStream};
use http_body::{Frame, SizeHint};

use super::{
    receive::{Piece, Receiver},
    send::{SendError, Sender},
    wire::Wire,
};
use crate::{clock::BodyClock, pool::Lease};

pub(crate) struct IncomingBody {
    /// `None` once the content is over, or has failed.
    pub(crate) wire: Option<Wire>,
    /// The request's own content, where the peer answered before it had all of it.
    pub(crate) sender: Option<Sender>,
    pub(crate) receiver: Receiver,
    /// Present where the connection may be used again.
    pub(crate) lease: Option<Lease>,
    pub(crate) keep_alive: Option<Duration>,
    pub(crate) clock: BodyClock,
    /// How much more the consumer takes.
    pub(crate) bytes_max: Option<Limit>,
}

/// A limit on content, and what is left of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limit {
    limit: u64,
    rest: u64,
}

impl Limit {
    pub(crate) fn new(limit: u64) -> Self {
        Self { limit, rest: limit }
    }

    pub(crate) fn take(&mut self, len: usize) -> Result<(), BodyError> {
        let rest = self.rest.checked_sub(len as u64);
        self.rest = rest.ok_or(BodyError::TooLarge { limit: self.limit })?;
        Ok(())
    }
}

impl IncomingBody {
    /// Ends the exchange if the rest of the content is known to be empty.
    pub(crate) fn finish_if_over(&mut self) -> bool {
        let is_over = self.receiver.rest() == Some(0);
        if is_over {
            self.finish();
        }
        is_over
    }

    /// Gives the connection back, if it can be used again, and closes it otherwise.
    fn finish(&mut self) {
        let wire = self.wire.take();
        let lease = self.lease.take();
        // A request that was not sent to its end leaves the peer waiting for the rest of it.
        if self.sender.take().is_some() {
            return;
        }
        if let (Some(lease), Some(io)) = (lease, wire.and_then(Wire::into_idle)) {
            lease.release(io, self.keep_alive);
        }
    }

    fn fail(&mut self, error: BodyError) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.wire = None;
        self.sender = None;
        self.lease = None;
        Poll::Ready(Some(Err(error)))
    }

    /// Goes on sending the request.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Result<(), BodyError> {
        let (Some(sender), Some(wire)) = (&mut self.sender, &mut self.wire) else { return Ok(()) };
        match sender.poll(wire, cx) {
            Poll::Pending => Ok(()),
            Poll::Ready(Ok(())) => {
                self.sender = None;
                Ok(())
            }
            // The peer wants no more of the request, which does not touch its response.
            Poll::Ready(Err(SendError::Wire(_))) => {
                self.sender = None;
                self.lease = None;
                Ok(())
            }
            Poll::Ready(Err(SendError::Body(error))) => Err(error),
            Poll::Ready(Err(SendError::Length)) => {
                Err(BodyError::Source("the request's content is not as long as it said".into()))
            }
        }
    }
}

impl BodyStream for IncomingBody {
    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        if this.wire.is_none() {
            return Poll::Ready(None);
        }
        if this.clock.is_over() {
            return this.fail(BodyError::Timeout);
        }
        if let Err(error) = this.poll_send(cx) {
            return this.fail(error);
        }
        loop {
            let Some(wire) = &mut this.wire else { return Poll::Ready(None) };
            match this.receiver.next(&mut wire.input) {
                Err(error) => return this.fail(error),
                Ok(Piece::Data(data)) => {
                    if let Some(Err(error)) =
                        this.bytes_max.as_mut().map(|max| max.take(data.len()))
                    {
                        return this.fail(error);
                    }
                    this.clock.on_progress();
                    // The connection is free before its last piece is looked at.
                    this.finish_if_over();
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                Ok(Piece::Trailers(trailers)) => {
                    return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
                }
                Ok(Piece::End) => {
                    this.finish();
                    return Poll::Ready(None);
                }
                Ok(Piece::NeedMore) => {}
            }
            let want = this.receiver.rest().unwrap_or(READ_BYTES);
            match wire.poll_fill(cx, usize::try_from(want).unwrap_or(usize::MAX)) {
                Poll::Ready(Ok(0)) if this.receiver.ends_with_stream() => {
                    this.lease = None;
                    this.finish();
                    return Poll::Ready(None);
                }
                Poll::Ready(Ok(0)) => return this.fail(BodyError::Aborted),
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) => return this.fail(lost(error)),
                Poll::Pending if this.clock.poll_expired(cx) => {
                    return this.fail(BodyError::Timeout);
                }
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        let rest = if self.wire.is_none() { Some(0) } else { self.receiver.rest() };
        rest.map_or_else(SizeHint::default, SizeHint::with_exact)
    }

    fn set_limit(mut self: Pin<&mut Self>, bytes_max: u64) {
        self.bytes_max = Some(Limit::new(bytes_max));
    }
}

/// A consumer may stop at the last piece of content, or not want content that has come already: the
/// connection is good nevertheless, if the end lies in the input.
impl Drop for IncomingBody {
    fn drop(&mut self) {
        while let Some(wire) = &mut self.wire {
            match self.receiver.next(&mut wire.input) {
                Ok(Piece::Data(_) | Piece::Trailers(_)) => {}
                Ok(Piece::End) => self.finish(),
                Ok(Piece::NeedMore) | Err(_) => self.wire = None,
            }
        }
    }
}

fn lost(error: io::Error) -> BodyError {
    match error.kind() {
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => BodyError::Aborted,
        _ => BodyError::Source(Box::new(error)),
    }
}

/// Content of unknown length is read in pieces of up to this size.
const READ_BYTES: u64 = 16 * 1024;
