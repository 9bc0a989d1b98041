//! The content of a response on its way to the peer, one turn at a time.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::HeaderMap;

use super::codec::{Outgoing, Reason};
use crate::{Body, BodyError, BodyStream, pieces::Pieces};

/// Content that has not been sent.
pub(super) struct Sender {
    outgoing: Outgoing,
    source: Source,
    /// Taken from the source, and not sent.
    piece: Bytes,
    /// The source has nothing more.
    is_last: bool,
    trailers: Option<HeaderMap>,
    /// What the head promised and is still owed.
    owed: Option<u64>,
}

enum Source {
    /// All of it is in `piece`.
    Memory,
    File(Pieces),
    Stream(Pin<Box<dyn BodyStream>>),
}

/// How a turn ended.
#[derive(Debug)]
pub(super) enum Turn {
    /// So many octets went to the codec; there is more.
    Sent(usize),
    /// The peer's window for this stream is closed; the stream's waker will tell.
    Blocked,
    /// The peer's window for the connection is closed.
    Held,
    /// The source has nothing yet; the stream's waker will tell.
    Waiting,
    /// The last octets went to the codec.
    Done(usize),
    /// The source failed.
    Failed(BodyError),
    /// The stream is gone.
    Gone,
}

impl Sender {
    pub(super) fn new(outgoing: Outgoing, body: Body, length: Option<u64>) -> Self {
        let (source, piece) = match body {
            Body::File(file) => (Source::File(Pieces::new(file)), Bytes::new()),
            Body::Stream(stream) => (Source::Stream(stream), Bytes::new()),
            body => (Source::Memory, into_bytes(body)),
        };
        let is_last = matches!(source, Source::Memory);
        Self { outgoing, source, piece, is_last, trailers: None, owed: length }
    }

    /// Sends at most `unit` octets; none of content where that is zero.
    pub(super) fn turn(&mut self, cx: &mut Context<'_>, unit: usize) -> Turn {
        if self.piece.is_empty() && !self.is_last {
            match self.poll_source(cx) {
                Poll::Pending => return Turn::Waiting,
                Poll::Ready(Err(error)) => return Turn::Failed(error),
                Poll::Ready(Ok(())) => {}
            }
        }
        if self.piece.is_empty() {
            return self.finish();
        }
        if unit == 0 {
            return Turn::Held;
        }
        let room = match self.outgoing.poll_room(cx, unit.min(self.piece.len())) {
            Ok(0) => return Turn::Blocked,
            Ok(room) => room,
            Err(_) => return Turn::Gone,
        };
        let now = self.piece.split_to(room);
        let end = self.is_last && self.piece.is_empty() && self.trailers.is_none();
        match self.outgoing.send(now, end) {
            Ok(()) if end => Turn::Done(room),
            Ok(()) => Turn::Sent(room),
            Err(_) => Turn::Gone,
        }
    }

    pub(super) fn reset(&mut self, reason: Reason) {
        self.outgoing.reset(reason);
    }

    pub(super) fn into_outgoing(self) -> Outgoing {
        self.outgoing
    }

    fn finish(&mut self) -> Turn {
        let sent = match self.trailers.take() {
            Some(trailers) => self.outgoing.send_trailers(trailers),
            None => self.outgoing.send(Bytes::new(), true),
        };
        if sent.is_ok() { Turn::Done(0) } else { Turn::Gone }
    }

    /// Puts the next octets into `piece`, or finds the end.
    fn poll_source(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BodyError>> {
        match &mut self.source {
            Source::Memory => self.is_last = true,
            Source::File(pieces) => {
                match std::task::ready!(pieces.poll_piece(cx)) {
                    Ok(piece) => self.piece = piece,
                    Err(error) => return Poll::Ready(Err(BodyError::File(error))),
                }
                self.is_last = pieces.left() == 0;
            }
            Source::Stream(_) => return self.poll_stream(cx),
        }
        Poll::Ready(Ok(()))
    }

    fn poll_stream(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BodyError>> {
        let Source::Stream(stream) = &mut self.source else { return Poll::Ready(Ok(())) };
        while self.piece.is_empty() && !self.is_last {
            let Some(frame) = std::task::ready!(stream.as_mut().poll_frame(cx)) else {
                self.is_last = true;
                break;
            };
            match frame?.into_data() {
                Ok(data) => self.piece = data,
                Err(frame) => {
                    self.trailers = frame.into_trailers().ok();
                    self.is_last = true;
                }
            }
        }
        if let Some(owed) = &mut self.owed {
            // A response whose content is not as long as its head says would be malformed.
            let len = self.piece.len() as u64;
            if len > *owed || (self.is_last && len < *owed) {
                let why = "content differs from its announced length";
                return Poll::Ready(Err(BodyError::Source(why.into())));
            }
            *owed -= len;
            self.is_last |= *owed == 0 && len > 0 && stream.size_hint().exact() == Some(0);
        }
        Poll::Ready(Ok(()))
    }
}

/// Content that lies in memory, in one piece.
pub(super) fn into_bytes(body: Body) -> Bytes {
    match body {
        Body::Static(bytes) => Bytes::from_static(bytes),
        Body::Bytes(bytes) => bytes,
        Body::Owned(bytes) => bytes.into(),
        Body::Empty | Body::File(_) | Body::Stream(_) => Bytes::new(),
    }
}
