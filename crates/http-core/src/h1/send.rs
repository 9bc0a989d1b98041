//! Bodies of responses, each kind in its cheapest way.

use std::{
    future::poll_fn,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::Frame;

use super::{
    active::{Active, Cause, WRITE_STALLED},
    chunked::{put_end, put_size_line},
    core::io_error,
    encode::Outgoing,
    output::COPY_MAX,
};
use crate::{
    Body, BodyError, BodyStream, ConnectionError, FileBody, Response, Transport, Watch,
    pieces::Pieces,
};

/// Why a response could not be sent to its end.
pub(crate) enum SendError {
    /// The body's source failed, or is not as long as promised.
    Failed(BodyError),
    /// The peer went away, or takes nothing.
    Gone(ConnectionError),
    /// The body's source panicked.
    Panicked,
}

/// Where a streamed body stands.
struct Progress<'a> {
    framing: Outgoing,
    /// What is left of an announced length.
    left: Option<u64>,
    is_first_chunk: bool,
    sent: &'a mut u64,
}

impl<T: Transport, W: Watch> Active<'_, T, W> {
    /// Puts a body behind its head where it is small enough to be copied; answers its length.
    pub(crate) fn put_small_body(&mut self, response: &Response) -> Option<u64> {
        let body = match response.as_prepared() {
            Some(prepared) => &prepared.body[..],
            None => response.plain_body().as_bytes()?,
        };
        if body.len() > COPY_MAX {
            return None;
        }
        self.output.buffer().extend_from_slice(body);
        Some(body.len() as u64)
    }

    /// Sends the body of a response whose head was put into the output.
    pub(crate) async fn send_body(
        &mut self,
        mut response: Response,
        framing: Outgoing,
        sent: &mut u64,
    ) -> Result<(), SendError> {
        let body = match response.as_prepared() {
            Some(prepared) => Body::Bytes(prepared.body.clone()),
            None => response.take_body(),
        };
        drop(response);
        match body {
            Body::File(file) if self.core.transport.can_send_file() => {
                let mut file = file;
                let len = file.len;
                let result = poll_fn(|cx| self.poll_send_file(cx, &mut file)).await;
                *sent = len - file.len;
                result
            }
            Body::File(file) => self.copy_file(file, sent).await,
            Body::Stream(stream) => self.send_stream(stream, framing, sent).await,
            body => {
                *sent = body.len().unwrap_or_default();
                self.output.put_body(body);
                if self.output.has_tail() {
                    poll_fn(|cx| self.poll_flush_or_stall(cx, false)).await.map_err(gone)?;
                }
                Ok(())
            }
        }
    }

    /// The kernel sends the file, in bounded turns: others of this worker get theirs between them.
    fn poll_send_file(
        &mut self,
        cx: &mut Context<'_>,
        file: &mut FileBody,
    ) -> Poll<Result<(), SendError>> {
        ready!(self.poll_flush_or_stall(cx, file.len > 0)).map_err(gone)?;
        let mut turn = FILE_TURN_BYTES;
        while file.len > 0 {
            if turn == 0 {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            let len = usize::try_from(file.len).map_or(turn, |len| len.min(turn));
            let (source, offset) = (&file.file, file.offset);
            match self.core.transport.poll_send_file(cx, source, offset, len) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(shrunk())),
                Poll::Ready(Ok(taken)) => {
                    file.offset += taken as u64;
                    file.len = file.len.saturating_sub(taken as u64);
                    turn = turn.saturating_sub(taken);
                    self.write_stalled_since = None;
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(file_error(error))),
                Poll::Pending => {
                    self.write_stalled_since.get_or_insert_with(|| self.core.watch.now());
                    ready!(self.poll_write_stall(cx)).map_err(gone)?;
                }
            }
        }
        self.write_stalled_since = None;
        Poll::Ready(Ok(()))
    }

    /// Sends a file through memory, where the kernel cannot: through TLS, for instance.
    async fn copy_file(&mut self, file: FileBody, sent: &mut u64) -> Result<(), SendError> {
        let mut pieces = Pieces::new(file);
        while pieces.left() > 0 {
            let piece = poll_fn(|cx| pieces.poll_piece(cx, usize::MAX)).await;
            let piece = piece.map_err(|error| SendError::Failed(BodyError::File(error)))?;
            let len = piece.len() as u64;
            self.output.put_body(Body::Bytes(piece));
            poll_fn(|cx| self.poll_flush_or_stall(cx, false)).await.map_err(gone)?;
            *sent += len;
        }
        Ok(())
    }

    async fn send_stream(
        &mut self,
        mut stream: Pin<Box<dyn BodyStream>>,
        framing: Outgoing,
        sent: &mut u64,
    ) -> Result<(), SendError> {
        let mut progress = Progress {
            framing,
            left: match framing {
                Outgoing::Length(len) => Some(len),
                _ => None,
            },
            is_first_chunk: true,
            sent,
        };
        poll_fn(|cx| self.poll_stream(cx, stream.as_mut(), &mut progress)).await
    }

    fn poll_stream(
        &mut self,
        cx: &mut Context<'_>,
        mut stream: Pin<&mut dyn BodyStream>,
        progress: &mut Progress<'_>,
    ) -> Poll<Result<(), SendError>> {
        loop {
            // No more is made before the peer has taken most of what was.
            if self.output.has_tail() || self.output.buffered() >= OUTPUT_TURN_BYTES {
                ready!(self.poll_flush_or_stall(cx, false)).map_err(gone)?;
            }
            self.incoming.wake_when_wanted(cx.waker());
            // After a panic the stream is only dropped.
            let polled = catch_unwind(AssertUnwindSafe(|| stream.as_mut().poll_frame(cx)));
            match polled {
                Err(_) => return Poll::Ready(Err(SendError::Panicked)),
                Ok(Poll::Ready(None)) => return Poll::Ready(self.end_stream(progress, None)),
                Ok(Poll::Ready(Some(Err(error)))) => {
                    return Poll::Ready(Err(SendError::Failed(error)));
                }
                Ok(Poll::Ready(Some(Ok(frame)))) => {
                    if let Some(done) = self.put_frame(frame, progress) {
                        return Poll::Ready(done);
                    }
                    continue;
                }
                Ok(Poll::Pending) => {}
            }
            if self.poll_serve(cx).map_err(gone)?.is_ready() {
                continue;
            }
            match ready!(self.poll_alarm(cx)) {
                None | Some(Cause::Handler) => {}
                Some(Cause::Body) => self.check_body_clock(),
                Some(Cause::Write) => return Poll::Ready(Err(SendError::Gone(WRITE_STALLED))),
            }
        }
    }

    /// Puts a frame into the output; answers whether it was the last.
    fn put_frame(
        &mut self,
        frame: Frame<Bytes>,
        progress: &mut Progress<'_>,
    ) -> Option<Result<(), SendError>> {
        let data = match frame.into_data() {
            Ok(data) => data,
            Err(frame) => {
                let trailers = frame.into_trailers().ok()?;
                return Some(self.end_stream(progress, Some(&trailers)));
            }
        };
        // An empty chunk would end the message.
        if data.is_empty() {
            return None;
        }
        if let Some(left) = &mut progress.left {
            match left.checked_sub(data.len() as u64) {
                Some(rest) => *left = rest,
                None => return Some(Err(wrong_length())),
            }
        }
        *progress.sent += data.len() as u64;
        if progress.framing == Outgoing::Chunked {
            put_size_line(self.output.buffer(), progress.is_first_chunk, data.len());
            progress.is_first_chunk = false;
        }
        self.output.put_body(Body::Bytes(data));
        None
    }

    fn end_stream(
        &mut self,
        progress: &mut Progress<'_>,
        trailers: Option<&http::HeaderMap>,
    ) -> Result<(), SendError> {
        if progress.left.is_some_and(|left| left > 0) {
            return Err(wrong_length());
        }
        if progress.framing == Outgoing::Chunked {
            // RFC 9110 §6.5.1: trailers only for those who said that they take them.
            let trailers = trailers.filter(|_| self.facts.accepts_trailers);
            put_end(self.output.buffer(), progress.is_first_chunk, trailers);
        }
        Ok(())
    }
}

fn gone(error: ConnectionError) -> SendError {
    SendError::Gone(error)
}

fn shrunk() -> SendError {
    SendError::Failed(BodyError::File(io::ErrorKind::UnexpectedEof.into()))
}

fn wrong_length() -> SendError {
    SendError::Failed(BodyError::Source("the body is not as long as announced".into()))
}

/// `sendfile` reports trouble with the file and with the socket alike.
fn file_error(error: io::Error) -> SendError {
    match io_error(error) {
        ConnectionError::Io(error) => SendError::Failed(BodyError::File(error)),
        gone => SendError::Gone(gone),
    }
}

/// What one connection may send of a file before others get their turn: some 30 µs. What is sent and not read
/// yet stays in the processor's cache; shorter turns cost more of them.
const FILE_TURN_BYTES: usize = 256 * 1024;
/// Output that is collected before it is written: one full TLS record.
const OUTPUT_TURN_BYTES: usize = 16 * 1024;
