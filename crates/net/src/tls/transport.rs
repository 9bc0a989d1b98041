//! An encrypted stream as a transport.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};

use hearth_http_core::{TlsInfo, Transport};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{
    buffer::Buffer,
    session::{Queues, Session},
};

/// Plaintext that is encrypted and written at once: four full records.
const BATCH: usize = 64 * 1024;
/// A full record with what stands around it.
const RECORD: usize = 16 * 1024 + 256 + 5;
/// Ciphertext above which output is sent although more was announced.
const HELD_BACK_MAX: usize = 16 * 1024;

/// The server's end of an encrypted stream, after the handshake.
///
/// What is written at once leaves in one system call, in records as full as they can be. While it
/// waits, it holds rustls' keys and state and no buffers.
#[derive(Debug)]
pub struct TlsTransport<T> {
    io: T,
    session: Session,
    queues: Queues,
    info: Option<TlsInfo>,
    /// The stream did not take all of `queues.outgoing`.
    is_blocked: bool,
    /// The stream has ended.
    is_eof: bool,
    /// We said that we send no more.
    is_closing: bool,
}

impl<T: Transport> TlsTransport<T> {
    pub(super) fn new(io: T, session: Session, queues: Queues, info: TlsInfo) -> Self {
        Self {
            io,
            session,
            queues,
            info: Some(info),
            is_blocked: false,
            is_eof: false,
            is_closing: false,
        }
    }

    /// What the handshake agreed on; `None` after it was taken.
    pub fn take_info(&mut self) -> Option<TlsInfo> {
        self.info.take()
    }

    /// Encrypts, and sends unless more was announced. Answers how much of `bytes` was taken.
    fn write(&mut self, cx: &mut Context<'_>, bytes: &[u8], more: bool) -> Poll<io::Result<usize>> {
        if self.is_closing {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if self.is_blocked {
            ready!(self.poll_send(cx))?;
        }
        let batch = bytes.get(..BATCH).unwrap_or(bytes);
        if batch.is_empty() {
            return Poll::Ready(Ok(0));
        }
        self.session.seal(&mut self.queues, batch).map_err(invalid_data)?;
        if !more || self.queues.outgoing.len() > HELD_BACK_MAX {
            // What is not sent now is kept, and the task was registered to be woken.
            let _kept = self.poll_send(cx)?;
        }
        Poll::Ready(Ok(batch.len()))
    }

    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let sent = poll_send(&mut self.io, &mut self.queues.outgoing, cx);
        self.is_blocked = sent.is_pending();
        sent
    }

    /// Gives decrypted bytes to `buf`; answers whether there were any.
    fn deliver(&mut self, buf: &mut ReadBuf<'_>) -> bool {
        let opened = &mut self.queues.opened;
        let len = opened.len().min(buf.remaining());
        buf.put_slice(&opened.filled()[..len]);
        opened.consume(len);
        opened.settle();
        len > 0
    }
}

impl<T: Transport> Transport for TlsTransport<T> {
    fn poll_write_more(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.write(cx, bytes, true)
    }
}

impl<T: Transport> AsyncRead for TlsTransport<T> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let want = buf.remaining();
        loop {
            if want == 0 || this.deliver(buf) {
                return Poll::Ready(Ok(()));
            }
            if !this.queues.sealed.is_empty() {
                let opened = this.session.open(&mut this.queues, want);
                if let Err(error) = opened {
                    // The alert is worth one attempt.
                    let _ = this.poll_send(cx);
                    return Poll::Ready(Err(invalid_data(error)));
                }
                if !this.queues.opened.is_empty() {
                    continue;
                }
            }
            if this.is_eof || this.session.is_peer_done {
                return Poll::Ready(Ok(()));
            }
            // A little more than asked for, so that a whole record fits, but never so much that
            // what cannot be delivered is decrypted.
            let len = want.clamp(RECORD, BATCH) + 512;
            match poll_receive(&mut this.io, &mut this.queues.sealed, len, cx)? {
                // A peer that closes without saying so cannot cut a request short: that has its
                // own framing.
                Poll::Ready(0) => this.is_eof = true,
                Poll::Ready(_) => {}
                Poll::Pending => {
                    this.queues.sealed.settle();
                    // What rustls had to say of its own, such as tickets, waits until here: most
                    // often a response takes it along. Where a writer waits for the stream already,
                    // this must not take its place: it may be another task.
                    if !this.is_blocked {
                        let _ = this.poll_send(cx)?;
                    }
                    return Poll::Pending;
                }
            }
        }
    }
}

impl<T: Transport> AsyncWrite for TlsTransport<T> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().write(cx, bytes, false)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let mut rest = slices.iter().filter(|slice| !slice.is_empty());
        let Some(first) = rest.next() else { return Poll::Ready(Ok(0)) };
        let Some(second) = rest.next() else { return this.write(cx, first, false) };
        if first.len() >= BATCH {
            return this.write(cx, first, false);
        }
        if this.is_blocked {
            ready!(this.poll_send(cx))?;
        }
        // Flattened, so that a small head does not get a record of its own.
        let mut flat = Buffer::default();
        for slice in [first, second].into_iter().chain(rest) {
            let room = BATCH - flat.len();
            flat.put(slice.get(..room).unwrap_or(slice));
        }
        this.write(cx, flat.filled(), false)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_send(cx))?;
        Pin::new(&mut this.io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !std::mem::replace(&mut this.is_closing, true) {
            this.session.close(&mut this.queues);
        }
        ready!(this.poll_send(cx))?;
        Pin::new(&mut this.io).poll_shutdown(cx)
    }
}

/// Writes what is in `outgoing`, until it is empty.
pub(super) fn poll_send<T: Transport>(
    io: &mut T,
    outgoing: &mut Buffer,
    cx: &mut Context<'_>,
) -> Poll<io::Result<()>> {
    while !outgoing.is_empty() {
        match Pin::new(&mut *io).poll_write(cx, outgoing.filled())? {
            Poll::Ready(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
            Poll::Ready(len) => outgoing.consume(len),
            Poll::Pending => {
                outgoing.settle();
                return Poll::Pending;
            }
        }
    }
    outgoing.settle();
    Poll::Ready(Ok(()))
}

/// Reads at most `len` bytes behind what is in `sealed`; answers how many came, 0 at the end.
pub(super) fn poll_receive<T: Transport>(
    io: &mut T,
    sealed: &mut Buffer,
    len: usize,
    cx: &mut Context<'_>,
) -> Poll<io::Result<usize>> {
    let space = sealed.spare(len);
    let mut buf = ReadBuf::new(space.get_mut(..len).unwrap_or_default());
    ready!(Pin::new(io).poll_read(cx, &mut buf))?;
    let received = buf.filled().len();
    sealed.fill(received);
    Poll::Ready(Ok(received))
}

fn invalid_data(error: rustls::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}
