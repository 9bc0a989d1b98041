//! Frames on their way to the transport.

use std::{
    collections::VecDeque,
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{Buf, Bytes};
use smallvec::SmallVec;

use crate::{
    Transport,
    pool::{self, Pool},
};

/// Output that the transport has not taken: small things in one buffer, large ones beside it.
#[derive(Debug, Default)]
pub(super) struct Output {
    /// Frames, but for the content that lies in `pieces`. Frames may be appended at any time.
    pub(super) buffer: Vec<u8>,
    taken: usize,
    /// Content, and where in `buffer` it belongs.
    pieces: VecDeque<(usize, Bytes)>,
    pieces_len: usize,
    /// Whether the transport takes many slices in one call.
    is_direct: bool,
    /// Bytes that the transport took, ever.
    pub(super) sent: u64,
}

impl Output {
    pub(super) fn new(is_direct: bool) -> Self {
        Self { is_direct, ..Self::default() }
    }

    /// Bytes that wait.
    pub(super) fn pending(&self) -> usize {
        self.buffer.len() - self.taken + self.pieces_len
    }

    /// The buffer, to append frames to.
    pub(super) fn buffer(&mut self) -> &mut Vec<u8> {
        if self.buffer.capacity() == 0 {
            self.buffer = pool::take(&BUFFERS).unwrap_or_else(|| Vec::with_capacity(BUFFER_BYTES));
        }
        &mut self.buffer
    }

    /// Appends content: copied, unless it is large and the transport takes it where it lies.
    pub(super) fn put(&mut self, content: Bytes) {
        if self.is_direct && content.len() >= PIECE_MIN {
            self.pieces_len += content.len();
            self.pieces.push_back((self.buffer.len(), content));
        } else {
            self.buffer().extend_from_slice(&content);
        }
    }

    /// Hands everything to the transport, then flushes it.
    pub(super) fn poll_drain<T: Transport>(
        &mut self,
        transport: &mut T,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        while self.pending() > 0 {
            let Poll::Ready(taken) = self.poll_write(transport, cx)? else {
                self.compact();
                return Poll::Pending;
            };
            if taken == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.sent += taken as u64;
            self.advance(taken);
        }
        self.taken = 0;
        give(std::mem::take(&mut self.buffer));
        Pin::new(transport).poll_flush(cx)
    }

    fn poll_write<T: Transport>(
        &self,
        transport: &mut T,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        let transport = Pin::new(transport);
        if self.pieces.is_empty() {
            return transport.poll_write(cx, self.buffer.get(self.taken..).unwrap_or_default());
        }
        let mut slices = SmallVec::<[IoSlice<'_>; SLICES]>::new();
        let mut at = self.taken;
        for (place, piece) in self.pieces.iter().take(SLICES / 2 - 1) {
            slices.push(IoSlice::new(self.buffer.get(at..*place).unwrap_or_default()));
            slices.push(IoSlice::new(piece));
            at = *place;
        }
        let end = self.pieces.get(SLICES / 2 - 1).map_or(self.buffer.len(), |(place, _)| *place);
        slices.push(IoSlice::new(self.buffer.get(at..end).unwrap_or_default()));
        transport.poll_write_vectored(cx, &slices)
    }

    fn advance(&mut self, mut len: usize) {
        while len > 0 {
            let end = self.pieces.front().map_or(self.buffer.len(), |(place, _)| *place);
            let here = len.min(end - self.taken);
            self.taken += here;
            len -= here;
            let Some((_, piece)) = self.pieces.front_mut().filter(|_| len > 0) else { continue };
            let here = len.min(piece.len());
            piece.advance(here);
            self.pieces_len -= here;
            len -= here;
            if piece.is_empty() {
                self.pieces.pop_front();
            }
        }
    }

    /// Forgets what was taken, if that is most of the buffer: a peer that is never quite up to date
    /// must not make it grow.
    fn compact(&mut self) {
        if self.taken > self.buffer.len() / 2 {
            self.buffer.drain(..self.taken);
            for (place, _) in &mut self.pieces {
                *place -= self.taken;
            }
            self.taken = 0;
        }
    }
}

fn give(mut buffer: Vec<u8>) {
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
/// From here on a slice of its own costs less than a copy.
const PIECE_MIN: usize = 4 * 1024;
const SLICES: usize = 32;

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

    use super::*;

    /// Takes at most so many bytes in a call.
    struct Sip {
        taken: Vec<u8>,
        at_once: usize,
        is_vectored: bool,
        is_full: bool,
    }

    impl Sip {
        /// Every other call finds no room.
        fn take(&mut self, bytes: &[u8]) -> Poll<io::Result<usize>> {
            self.is_full = !self.is_full;
            if self.is_full {
                return Poll::Pending;
            }
            let len = bytes.len().min(self.at_once);
            self.taken.extend_from_slice(&bytes[..len]);
            Poll::Ready(Ok(len))
        }
    }

    impl Transport for Sip {}

    impl AsyncRead for Sip {
        fn poll_read(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            _: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    impl AsyncWrite for Sip {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            self.take(bytes)
        }

        fn poll_write_vectored(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            slices: &[IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            let all: Vec<u8> = slices.iter().flat_map(|slice| slice.to_vec()).collect();
            self.take(&all)
        }

        fn is_write_vectored(&self) -> bool {
            self.is_vectored
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[test]
    fn everything_leaves_in_order() {
        for is_vectored in [false, true] {
            for at_once in [100, 4096, 5000, 1 << 20] {
                let mut transport = Sip { taken: Vec::new(), at_once, is_vectored, is_full: false };
                let mut output = Output::new(is_vectored);
                let mut want = Vec::new();
                for round in 0..40usize {
                    let small = vec![round as u8; round % 5];
                    let large = vec![0x80 | round as u8; 4000 + 10 * round];
                    output.buffer().extend_from_slice(&small);
                    output.put(large.clone().into());
                    want.extend([small, large].concat());
                }
                assert_eq!(output.pending(), want.len());
                let mut cx = Context::from_waker(std::task::Waker::noop());
                while output.poll_drain(&mut transport, &mut cx).is_pending() {}
                assert!(transport.taken == want, "vectored {is_vectored}, {at_once} at once");
                assert_eq!((output.pending(), output.sent), (0, want.len() as u64));
            }
        }
    }
}
