//! The sending half of an exchange: content into the output.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use hearth_http_core::{
    Body, BodyError,
    client::{put_chunk_size, put_last_chunk},
};
use http::HeaderMap;
use http_body::Body as _;

use super::wire::Wire;

/// How a request's content is delimited (RFC 9112 §6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    Chunked,
    Length(u64),
    None,
}

/// What remains to be sent.
pub(crate) struct Sender {
    body: Body,
    framing: Framing,
    /// Bytes of content that still have to come, for a known length.
    rest: u64,
    /// The chunk before, which lies in the output, still lacks its end.
    owes_chunk_end: bool,
    /// Waits for `100 Continue`.
    pub(crate) is_held: bool,
    /// All of it lies in the output.
    is_complete: bool,
    /// Something was written since this was last looked at.
    pub(crate) has_progressed: bool,
}

/// Why sending failed.
#[derive(Debug)]
pub(crate) enum SendError {
    /// The content's own source.
    Body(BodyError),
    /// More or less content than its length had promised.
    Length,
    /// The connection; the peer may have answered nevertheless.
    Wire(io::Error),
}

impl Framing {
    pub(crate) fn of(body: &Body) -> Self {
        match body.len() {
            Some(0) => Self::None,
            Some(len) => Self::Length(len),
            None => Self::Chunked,
        }
    }
}

impl Sender {
    /// Sends `body` behind the head that lies in the output already.
    pub(crate) fn new(body: Body, framing: Framing, is_held: bool) -> Self {
        let is_complete = framing == Framing::None;
        let rest = if let Framing::Length(len) = framing { len } else { 0 };
        Self {
            body,
            framing,
            rest,
            owes_chunk_end: false,
            is_held: is_held && !is_complete,
            is_complete,
            has_progressed: false,
        }
    }

    /// Sends as much as can be sent; ready when all of it has left.
    pub(crate) fn poll(
        &mut self,
        wire: &mut Wire,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), SendError>> {
        loop {
            // Content that is there already shares a packet with the head.
            let mut is_starved = self.is_held;
            self.end_chunk(wire);
            while !self.is_complete && !is_starved && wire.has_room() {
                match Pin::new(&mut self.body).poll_frame(cx) {
                    Poll::Pending => is_starved = true,
                    Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                        Ok(data) => self.put(data, wire)?,
                        Err(frame) => self.finish(frame.into_trailers().ok().as_ref(), wire)?,
                    },
                    Poll::Ready(Some(Err(error))) => {
                        return Poll::Ready(Err(SendError::Body(error)));
                    }
                    Poll::Ready(None) => self.finish(None, wire)?,
                }
            }
            if wire.has_output() {
                ready!(wire.poll_write(cx)).map_err(SendError::Wire)?;
                self.has_progressed = true;
                continue;
            }
            ready!(wire.poll_flush(cx)).map_err(SendError::Wire)?;
            if self.is_complete {
                return Poll::Ready(Ok(()));
            }
            if is_starved {
                return Poll::Pending;
            }
        }
    }

    fn put(&mut self, data: Bytes, wire: &mut Wire) -> Result<(), SendError> {
        if data.is_empty() {
            return Ok(());
        }
        match self.framing {
            Framing::Chunked => {
                put_chunk_size(&mut wire.out, true, data.len());
                self.owes_chunk_end = true;
            }
            Framing::Length(_) => {
                let rest = self.rest.checked_sub(data.len() as u64);
                self.rest = rest.ok_or(SendError::Length)?;
            }
            Framing::None => return Err(SendError::Length),
        }
        wire.put(data);
        self.end_chunk(wire);
        Ok(())
    }

    /// Ends a chunk at once: the next one may be long in coming, and the peer may wait for the end.
    fn end_chunk(&mut self, wire: &mut Wire) {
        if self.owes_chunk_end && !wire.has_payload() {
            wire.out.extend_from_slice(b"\r\n");
            self.owes_chunk_end = false;
        }
    }

    fn finish(&mut self, trailers: Option<&HeaderMap>, wire: &mut Wire) -> Result<(), SendError> {
        if self.rest > 0 {
            return Err(SendError::Length);
        }
        if self.framing == Framing::Chunked {
            put_last_chunk(&mut wire.out, true, trailers);
        }
        self.is_complete = true;
        self.body = Body::Empty;
        Ok(())
    }
}
