//! What lies between the codec and the transport: a meter in each direction and one output buffer.
//!
//! The codec flushes after every frame that it does not copy. Here a flush only means that frames are
//! buffered; the driver sends them when there is nothing left to do at once, so that the answers to
//! all requests of one read leave in one write, and TLS records are filled.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use parking_lot::{Mutex, MutexGuard};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::meter::{FRAME_HEAD, Meter};
use crate::{
    Transport,
    pool::{self, Pool},
};

/// The transport, shared between the codec, which reads and writes it, and the driver, which decides
/// when output leaves and looks at the meters. Both run in one task, so the lock is never contended.
pub(super) struct Wire<T>(Arc<Mutex<Pipe<T>>>);

impl<T> Clone for Wire<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T: Transport> Wire<T> {
    pub(super) fn new(transport: T, early: Bytes, insert: Bytes, output_max: usize) -> Self {
        let insertion = (!insert.is_empty()).then_some(Insertion { need: PREFACE_LEN, insert });
        Self(Arc::new(Mutex::new(Pipe {
            direct: transport.is_write_vectored(),
            transport,
            early,
            insertion,
            output: Vec::new(),
            output_at: 0,
            output_max: output_max.max(OUTPUT_MIN),
            inbound: Meter::new(PREFACE_LEN),
            outbound: Meter::new(0),
            received: 0,
            sent: 0,
        })))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Pipe<T>> {
        self.0.lock()
    }
}

/// What a [`Wire`] shares.
pub(super) struct Pipe<T> {
    transport: T,
    /// Whether many slices go out in one call, so that large payloads need no copy.
    direct: bool,
    /// Bytes that were read before this connection was known to speak HTTP/2.
    early: Bytes,
    insertion: Option<Insertion>,
    output: Vec<u8>,
    output_at: usize,
    output_max: usize,
    pub(super) inbound: Meter,
    pub(super) outbound: Meter,
    /// Bytes read from the transport.
    pub(super) received: u64,
    /// Bytes that the transport took.
    pub(super) sent: u64,
}

/// Frames that are put into what the peer sends, behind its preface and first SETTINGS frame: the
/// request that came as HTTP/1.1 with `Upgrade: h2c`.
struct Insertion {
    /// Bytes until the next boundary.
    need: usize,
    insert: Bytes,
}

impl<T: Transport> Pipe<T> {
    /// Output that the transport has not taken.
    pub(super) fn pending(&self) -> usize {
        self.output.len() - self.output_at
    }

    /// Whether more may be made for the peer.
    pub(super) fn has_room(&self) -> bool {
        self.pending() < self.output_max
    }

    /// Flow-control octets that the peer lets us send on the connection.
    pub(super) fn send_window(&self) -> i64 {
        i64::from(INITIAL_WINDOW) + self.inbound.window_delta() + self.outbound.window_delta()
    }

    /// Puts a frame of our own behind the codec's; only when the codec is finished.
    pub(super) fn append(&mut self, frame: &[u8]) {
        self.output.extend_from_slice(frame);
    }

    /// Hands the output to the transport, then flushes that.
    pub(super) fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_output(cx))?;
        Pin::new(&mut self.transport).poll_flush(cx)
    }

    /// Reads and throws away, so that closing does not reset what was sent last. Ready at the end of
    /// what the peer sends, or when it has sent more than anybody honest would.
    pub(super) fn poll_discard(&mut self, cx: &mut Context<'_>, bytes_max: u64) -> Poll<()> {
        let mut scratch = [0; 4096];
        let until = self.received + bytes_max;
        while self.received < until {
            let mut buf = ReadBuf::new(&mut scratch);
            match ready!(Pin::new(&mut self.transport).poll_read(cx, &mut buf)) {
                Ok(()) if !buf.filled().is_empty() => self.received += buf.filled().len() as u64,
                _ => break,
            }
        }
        Poll::Ready(())
    }

    pub(super) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_drain(cx))?;
        Pin::new(&mut self.transport).poll_shutdown(cx)
    }

    fn poll_output(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(rest @ [_, ..]) = self.output.get(self.output_at..) {
            let len = ready!(Pin::new(&mut self.transport).poll_write(cx, rest))?;
            if len == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.taken(len);
        }
        self.output_at = 0;
        give_buffer(std::mem::take(&mut self.output));
        Poll::Ready(Ok(()))
    }

    fn taken(&mut self, len: usize) {
        self.output_at += len;
        self.sent += len as u64;
    }

    /// Copies what fits; waits for the transport only if nothing does.
    fn poll_buffer(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if !self.has_room() {
            let drained = self.poll_output(cx)?;
            if drained.is_pending() && !self.has_room() {
                return Poll::Pending;
            }
        }
        if self.output.capacity() == 0 {
            self.output = take_buffer();
        }
        let len = bytes.len().min(self.output_max - self.pending());
        let now = bytes.get(..len).unwrap_or_default();
        if self.output.len() + len > self.output.capacity() && self.output_at > 0 {
            self.output.drain(..self.output_at);
            self.output_at = 0;
        }
        self.output.extend_from_slice(now);
        self.outbound.pass(now);
        Poll::Ready(Ok(len))
    }

    /// Sends the output and `slices` in one call.
    fn poll_direct(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let before = self.pending();
        let mut all = smallvec::SmallVec::<[IoSlice<'_>; 8]>::new();
        if before > 0 {
            all.push(IoSlice::new(self.output.get(self.output_at..).unwrap_or_default()));
        }
        all.extend(slices.iter().copied());
        let len = ready!(Pin::new(&mut self.transport).poll_write_vectored(cx, &all))?;
        if len == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        drop(all);
        self.sent += len as u64;
        let of_output = len.min(before);
        self.output_at += of_output;
        if of_output == self.output.len() {
            self.output.clear();
            self.output_at = 0;
        }
        let mut of_slices = len - of_output;
        let taken = of_slices;
        for slice in slices {
            let now = of_slices.min(slice.len());
            self.outbound.pass(slice.get(..now).unwrap_or_default());
            of_slices -= now;
        }
        Poll::Ready(Ok(taken))
    }

    fn poll_read_wire(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.early.is_empty() {
            let len = self.early.len().min(buf.remaining());
            buf.put_slice(self.early.get(..len).unwrap_or_default());
            self.early.advance(len);
            return Poll::Ready(Ok(()));
        }
        ready!(Pin::new(&mut self.transport).poll_read(cx, buf))?;
        Poll::Ready(Ok(()))
    }

    /// Reads up to the place of the insertion, or the inserted frames themselves.
    fn poll_read_inserting(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
        mut insertion: Insertion,
    ) -> Poll<io::Result<()>> {
        if insertion.need > 0 {
            let mut piece = [0; 512];
            let want = insertion.need.min(piece.len()).min(buf.remaining());
            let mut part = ReadBuf::new(piece.get_mut(..want).unwrap_or_default());
            let polled = self.poll_read_wire(cx, &mut part);
            insertion.need -= part.filled().len();
            buf.put_slice(part.filled());
            self.inbound.pass(part.filled());
            if insertion.need == 0 && !self.inbound.settings_seen() {
                insertion.need = self.inbound.to_boundary();
            }
            self.insertion = Some(insertion);
            return polled;
        }
        let len = insertion.insert.len().min(buf.remaining());
        let frames = insertion.insert.split_to(len);
        buf.put_slice(&frames);
        self.inbound.pass(&frames);
        self.insertion = (!insertion.insert.is_empty()).then_some(insertion);
        Poll::Ready(Ok(()))
    }
}

impl<T: Transport> AsyncRead for Wire<T> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let pipe = &mut *self.lock();
        let before = buf.filled().len();
        if let Some(insertion) = pipe.insertion.take() {
            ready!(pipe.poll_read_inserting(cx, buf, insertion))?;
        } else {
            ready!(pipe.poll_read_wire(cx, buf))?;
            pipe.inbound.pass(buf.filled().get(before..).unwrap_or_default());
        }
        pipe.received += (buf.filled().len() - before) as u64;
        Poll::Ready(Ok(()))
    }
}

impl<T: Transport> AsyncWrite for Wire<T> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        // h2 uses the vectored form wherever it says that it is of use.
        self.lock().poll_buffer(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let pipe = &mut *self.lock();
        let total: usize = slices.iter().map(|slice| slice.len()).sum();
        if pipe.direct && total >= DIRECT_MIN {
            match pipe.poll_direct(cx, slices) {
                // Only older output went: what fits of the new waits in its place.
                Poll::Ready(Ok(0)) | Poll::Pending => {}
                done => return done,
            }
        }
        let mut taken = 0;
        for slice in slices.iter().filter(|slice| !slice.is_empty()) {
            match pipe.poll_buffer(cx, slice) {
                Poll::Ready(Ok(len)) => {
                    taken += len;
                    if len < slice.len() {
                        break;
                    }
                }
                _ if taken > 0 => break,
                other => return other,
            }
        }
        Poll::Ready(Ok(taken))
    }

    fn is_write_vectored(&self) -> bool {
        self.lock().direct
    }

    /// Nothing: see the module's documentation.
    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.lock().poll_shutdown(cx)
    }
}

fn take_buffer() -> Vec<u8> {
    pool::take(&BUFFERS).unwrap_or_else(|| Vec::with_capacity(BUFFER_BYTES))
}

fn give_buffer(mut buffer: Vec<u8>) {
    if (BUFFER_BYTES..=BUFFER_BYTES_MAX).contains(&buffer.capacity()) {
        buffer.clear();
        pool::give(&BUFFERS, buffer);
    }
}

thread_local! {
    /// Of the thread, so that an idle connection holds none.
    static BUFFERS: Pool<Vec<u8>> = const { Pool::new(64) };
}

const BUFFER_BYTES: usize = 16 * 1024;
const BUFFER_BYTES_MAX: usize = 128 * 1024;
/// Octets of the client's connection preface (RFC 9113 §3.4).
pub(super) const PREFACE_LEN: usize = 24;
const INITIAL_WINDOW: u32 = 65_535;
/// Below this much a copy is cheaper than a slice of its own.
const DIRECT_MIN: usize = 8 * 1024;
/// A frame and its head must fit, or no progress would be made.
const OUTPUT_MIN: usize = 16 * 1024 + FRAME_HEAD;
