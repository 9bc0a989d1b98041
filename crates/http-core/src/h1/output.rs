//! What waits to be written: encoded heads and small bodies in one buffer, and one large body
//! behind them that is never copied where the transport can gather.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};

use crate::{Body, Transport, pool};

/// The output of a connection.
#[derive(Debug, Default)]
pub(crate) struct Output {
    buffer: Vec<u8>,
    /// Bytes of `buffer` that the transport took.
    buffer_sent: usize,
    /// Sent after `buffer`; always of a kind that lies in memory.
    tail: Body,
    tail_sent: usize,
    /// Bytes that the transport took since this was last set to zero.
    pub(crate) progress: u64,
    /// Whether the transport may hold bytes back until it is flushed.
    unflushed: bool,
}

impl Output {
    /// The buffer, to append to.
    pub(crate) fn buffer(&mut self) -> &mut Vec<u8> {
        debug_assert!(self.tail.is_empty(), "the tail comes last");
        if self.buffer.capacity() == 0 {
            self.buffer = pool::write_buffer();
        }
        &mut self.buffer
    }

    /// Appends content: small content is copied, so that one write does, large is only referred to.
    /// After large content nothing may be appended until [`is_empty`](Self::is_empty).
    pub(crate) fn put_body(&mut self, body: Body) {
        match body.as_bytes() {
            Some(bytes) if bytes.len() <= COPY_MAX => self.buffer().extend_from_slice(bytes),
            Some(_) => {
                debug_assert!(self.tail.is_empty(), "one tail at a time");
                self.tail = body;
                self.tail_sent = 0;
            }
            None => debug_assert!(false, "only bodies in memory are put"),
        }
    }

    /// Whether the transport took everything.
    pub(crate) fn is_empty(&self) -> bool {
        self.buffer.is_empty() && self.tail.is_empty() && !self.unflushed
    }

    /// Whether a large body waits.
    pub(crate) fn has_tail(&self) -> bool {
        !self.tail.is_empty()
    }

    /// Bytes that wait in the buffer.
    pub(crate) fn buffered(&self) -> usize {
        self.buffer.len() - self.buffer_sent
    }

    /// Writes until nothing is left. `more` tells the transport that a file follows at once.
    pub(crate) fn poll_flush<T: Transport>(
        &mut self,
        cx: &mut Context<'_>,
        transport: &mut T,
        more: bool,
    ) -> Poll<io::Result<()>> {
        while self.buffered() > 0 || self.has_tail() {
            let written = ready!(self.poll_write(cx, transport, more))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.progress += written as u64;
            self.unflushed = true;
            self.advance(written);
        }
        if self.unflushed && !more {
            ready!(Pin::new(transport).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    /// Gives the memory back; what was not written is lost.
    pub(crate) fn release(&mut self) {
        pool::give_write_buffer(std::mem::take(&mut self.buffer));
        self.buffer_sent = 0;
        self.tail = Body::Empty;
    }

    fn poll_write<T: Transport>(
        &mut self,
        cx: &mut Context<'_>,
        transport: &mut T,
        more: bool,
    ) -> Poll<io::Result<usize>> {
        if self.has_tail() && self.buffered() > 0 {
            if transport.is_write_vectored() {
                let slices = [IoSlice::new(self.head()), IoSlice::new(self.tail())];
                return Pin::new(transport).poll_write_vectored(cx, &slices);
            }
            // One full TLS record in place of a short one for the head and a long one behind it.
            let room = RECORD_BYTES.saturating_sub(self.buffer.len()).min(self.tail().len());
            let tail = self.tail.as_bytes().unwrap_or_default().get(self.tail_sent..);
            self.buffer.extend_from_slice(tail.and_then(|t| t.get(..room)).unwrap_or_default());
            self.tail_sent += room;
            self.drop_finished_tail();
        }
        if self.buffered() > 0 {
            let head = self.buffer.get(self.buffer_sent..).unwrap_or_default();
            return if more {
                transport.poll_write_more(cx, head)
            } else {
                Pin::new(transport).poll_write(cx, head)
            };
        }
        Pin::new(transport).poll_write(cx, self.tail())
    }

    fn advance(&mut self, written: usize) {
        let of_head = written.min(self.buffered());
        self.buffer_sent += of_head;
        self.tail_sent += written - of_head;
        if self.buffered() == 0 {
            self.buffer.clear();
            self.buffer_sent = 0;
        }
        self.drop_finished_tail();
    }

    fn drop_finished_tail(&mut self) {
        if self.tail_sent > 0 && self.tail().is_empty() {
            self.tail = Body::Empty;
            self.tail_sent = 0;
        }
    }

    fn head(&self) -> &[u8] {
        self.buffer.get(self.buffer_sent..).unwrap_or_default()
    }

    fn tail(&self) -> &[u8] {
        self.tail.as_bytes().and_then(|tail| tail.get(self.tail_sent..)).unwrap_or_default()
    }
}

/// Content up to this size is copied behind its head.
pub(crate) const COPY_MAX: usize = 4 * 1024;
/// Plain text of a full TLS record.
const RECORD_BYTES: usize = 16 * 1024;
