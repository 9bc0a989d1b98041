//! The content of a response that has not been sent.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::HeaderMap;

use super::channel::Channel;
use crate::{Body, BodyError, BodyStream, pieces::Pieces};

/// Content, and where more of it comes from.
pub(super) struct Sender {
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
    Tunnel(Arc<Channel>),
}

/// What comes next.
#[derive(Debug)]
pub(super) enum Next {
    /// So many octets are there.
    Content(usize),
    /// The end, perhaps with a trailer section.
    End(Option<HeaderMap>),
    /// The source failed.
    Failed(BodyError),
    /// Nothing yet; the stream's waker will tell.
    Waiting,
}

impl Sender {
    pub(super) fn new(body: Body, length: Option<u64>) -> Self {
        let (source, piece) = match body {
            Body::File(file) => (Source::File(Pieces::new(file)), Bytes::new()),
            Body::Stream(stream) => (Source::Stream(stream), Bytes::new()),
            body => (Source::Memory, into_bytes(body)),
        };
        let is_last = matches!(source, Source::Memory);
        Self { source, piece, is_last, trailers: None, owed: length }
    }

    /// What a tunnel writes.
    pub(super) fn tunnel(channel: Arc<Channel>) -> Self {
        let source = Source::Tunnel(channel);
        Self { source, piece: Bytes::new(), is_last: false, trailers: None, owed: None }
    }

    /// Whether the next octets are still in a file: a stream without a window does not read them, so that peers
    /// which keep it closed make us hold nothing.
    pub(super) fn is_in_file(&self) -> bool {
        self.piece.is_empty()
            && matches!(&self.source, Source::File(pieces) if pieces.left() > 0 && !self.is_last)
    }

    /// What comes next; of a file no more than `window` octets are read, or little more.
    pub(super) fn next(&mut self, cx: &mut Context<'_>, window: usize) -> Next {
        if self.piece.is_empty() && !self.is_last {
            match self.poll_source(cx, window) {
                Poll::Pending => return Next::Waiting,
                Poll::Ready(Err(error)) => return Next::Failed(error),
                Poll::Ready(Ok(())) => {}
            }
        }
        match self.piece.len() {
            0 => Next::End(self.trailers.take()),
            len => Next::Content(len),
        }
    }

    /// Takes at most `len` octets of what is there, and whether that was all there will ever be.
    pub(super) fn take(&mut self, len: usize) -> (Bytes, bool) {
        let content = self.piece.split_to(len.min(self.piece.len()));
        (content, self.is_last && self.piece.is_empty() && self.trailers.is_none())
    }

    /// Puts the next octets into `piece`, or finds the end.
    fn poll_source(&mut self, cx: &mut Context<'_>, window: usize) -> Poll<Result<(), BodyError>> {
        match &mut self.source {
            Source::Memory => self.is_last = true,
            Source::File(pieces) => {
                match ready!(pieces.poll_piece(cx, window)) {
                    Ok(piece) => self.piece = piece,
                    Err(error) => return Poll::Ready(Err(BodyError::File(error))),
                }
                self.is_last = pieces.left() == 0;
            }
            Source::Tunnel(channel) => match ready!(channel.poll_sending()) {
                Some(piece) => self.piece = piece,
                None => self.is_last = true,
            },
            Source::Stream(_) => return self.poll_stream(cx),
        }
        Poll::Ready(Ok(()))
    }

    fn poll_stream(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BodyError>> {
        let Source::Stream(stream) = &mut self.source else { return Poll::Ready(Ok(())) };
        while self.piece.is_empty() && !self.is_last {
            let Some(frame) = ready!(stream.as_mut().poll_frame(cx)) else {
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
