//! A byte stream with the bytes that are on their way in and out.

use std::{
    io::{self, IoSlice},
    pin::{Pin, pin},
    task::{Context, Poll, Waker, ready},
};

use bytes::{Buf, Bytes, BytesMut};
use hearth_http_core::{Transport, Upgraded};
use tokio::io::{AsyncReadExt, AsyncWrite, ReadBuf};

/// A connection and its buffers.
pub(crate) struct Wire {
    io: Box<dyn Transport>,
    /// What was read and not yet used.
    pub(crate) input: BytesMut,
    /// What is to be written: heads, framing, small pieces.
    pub(crate) out: Vec<u8>,
    written: usize,
    /// A large piece behind `out`, written from where it lies.
    payload: Bytes,
    is_dirty: bool,
}

impl Wire {
    pub(crate) fn new(io: Box<dyn Transport>) -> Self {
        let input = BytesMut::new();
        let out = Vec::with_capacity(OUT_BYTES_MIN);
        Self { io, input, out, written: 0, payload: Bytes::new(), is_dirty: false }
    }

    /// Reads once and appends to `input`; 0 is the end of the stream.
    pub(crate) fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        want: usize,
    ) -> Poll<io::Result<usize>> {
        self.input.reserve(want.clamp(READ_BYTES_MIN, READ_BYTES_MAX));
        // The future holds nothing: whatever was read is in `input` when it is ready.
        pin!(self.io.read_buf(&mut self.input)).poll(cx)
    }

    /// Whether another piece of output may be put behind what is there.
    pub(crate) fn has_room(&self) -> bool {
        !self.has_payload() && self.out.len() < OUT_BYTES_MAX
    }

    /// Whether a large piece is being written, behind which nothing can be put.
    pub(crate) fn has_payload(&self) -> bool {
        !self.payload.is_empty()
    }

    /// Puts content behind `out`; only where there [is room](Self::has_room).
    pub(crate) fn put(&mut self, data: Bytes) {
        if data.len() <= COPY_BYTES_MAX {
            self.out.extend_from_slice(&data);
        } else {
            self.payload = data;
        }
    }

    pub(crate) fn has_output(&self) -> bool {
        self.written < self.out.len() || !self.payload.is_empty()
    }

    /// Writes some output.
    pub(crate) fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let head = self.out.get(self.written..).unwrap_or_default();
        let io = Pin::new(&mut *self.io);
        let count = if head.is_empty() {
            ready!(io.poll_write(cx, &self.payload))?
        } else if self.payload.is_empty() || !io.is_write_vectored() {
            ready!(io.poll_write(cx, head))?
        } else {
            let slices = [IoSlice::new(head), IoSlice::new(&self.payload)];
            ready!(io.poll_write_vectored(cx, &slices))?
        };
        if count == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        self.is_dirty = true;
        let of_head = count.min(self.out.len() - self.written);
        self.written += of_head;
        self.payload.advance((count - of_head).min(self.payload.len()));
        if self.written == self.out.len() {
            self.out.clear();
            self.written = 0;
        }
        Poll::Ready(Ok(count))
    }

    /// Sees that what was written leaves.
    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.is_dirty {
            ready!(Pin::new(&mut *self.io).poll_flush(cx))?;
            self.is_dirty = false;
        }
        Poll::Ready(Ok(()))
    }

    /// The stream without its buffers, if nothing is on its way.
    pub(crate) fn into_idle(self) -> Option<Box<dyn Transport>> {
        let is_quiet = self.input.is_empty() && !self.has_output() && !self.is_dirty;
        is_quiet.then_some(self.io)
    }

    /// The stream after a switch of protocols; what was read behind the head belongs to the new one.
    pub(crate) fn into_upgraded(self) -> Upgraded {
        Upgraded::new(self.input.freeze(), self.io)
    }
}

/// Whether a kept connection is still good: open, and silent. Bytes that nobody asked for would be
/// taken for the next response.
pub(crate) fn is_silent(io: &mut dyn Transport) -> bool {
    let mut byte = [0];
    let mut cx = Context::from_waker(Waker::noop());
    Pin::new(io).poll_read(&mut cx, &mut ReadBuf::new(&mut byte)).is_pending()
}

/// Enough for most heads.
const OUT_BYTES_MIN: usize = 512;
/// Output that may wait in `out`.
const OUT_BYTES_MAX: usize = 32 * 1024;
/// Pieces up to here are copied, which is cheaper than another slice or write.
const COPY_BYTES_MAX: usize = 8 * 1024;
const READ_BYTES_MIN: usize = 4 * 1024;
const READ_BYTES_MAX: usize = 64 * 1024;
