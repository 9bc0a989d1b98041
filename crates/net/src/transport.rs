//! A TCP stream as a transport.

use std::{
    fs::File,
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll},
};

use hearth_http_core::Transport;
use rustix::{
    io::Errno,
    net::{RecvFlags, SendFlags},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, Interest, ReadBuf},
    net::TcpStream,
};

/// A TCP stream that can send files and hold back a head for the body behind it.
#[derive(Debug)]
pub struct TcpTransport {
    stream: TcpStream,
    /// Nothing was read yet: data may be there although the reactor does not know it.
    is_fresh: bool,
    /// The last call sent a full turn of a file: the others come first.
    has_had_turn: bool,
}

impl TcpTransport {
    /// Bytes of a file sent before other connections have their turn. Larger turns are slower:
    /// what was read from the page cache no longer is in the processor's when it is sent.
    pub const TURN: usize = 256 * 1024;

    /// A transport over a stream that was just accepted.
    #[must_use]
    pub fn new(stream: TcpStream) -> Self {
        Self { stream, is_fresh: true, has_had_turn: false }
    }

    /// The stream.
    #[must_use]
    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Reads past the reactor, which would have to be asked once before it knows of data that came
    /// together with the connection.
    fn try_first_read(&mut self, buf: &mut ReadBuf<'_>) -> io::Result<bool> {
        self.is_fresh = false;
        let space = buf.initialize_unfilled();
        match rustix::net::recv(&self.stream, space, RecvFlags::DONTWAIT) {
            Ok((read, _)) => {
                buf.advance(read);
                Ok(true)
            }
            Err(Errno::AGAIN | Errno::INTR) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Calls `send` as soon as the socket takes bytes, until it does not say `WouldBlock`.
    fn poll_send(
        &self,
        cx: &mut Context<'_>,
        mut send: impl FnMut(&TcpStream) -> rustix::io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            std::task::ready!(self.stream.poll_write_ready(cx))?;
            let sent = self
                .stream
                .try_io(Interest::WRITABLE, || send(&self.stream).map_err(io::Error::from));
            match sent {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => return Poll::Ready(other),
            }
        }
    }
}

impl Transport for TcpTransport {
    fn can_send_file(&self) -> bool {
        cfg!(target_os = "linux")
    }

    #[cfg(target_os = "linux")]
    fn poll_send_file(
        &mut self,
        cx: &mut Context<'_>,
        file: &File,
        offset: u64,
        len: usize,
    ) -> Poll<io::Result<usize>> {
        if std::mem::take(&mut self.has_had_turn) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let len = len.min(Self::TURN);
        let sent = std::task::ready!(self.poll_send(cx, |stream| {
            let mut position = offset;
            rustix::fs::sendfile(stream, file, Some(&mut position), len)
        }))?;
        self.has_had_turn = sent == Self::TURN;
        Poll::Ready(Ok(sent))
    }

    fn poll_write_more(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        #[cfg(target_os = "linux")]
        let flags = SendFlags::NOSIGNAL | SendFlags::MORE;
        #[cfg(not(target_os = "linux"))]
        let flags = SendFlags::empty();
        self.poll_send(cx, |stream| rustix::net::send(stream, bytes, flags))
    }
}

impl AsyncRead for TcpTransport {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.is_fresh && buf.remaining() > 0 && self.try_first_read(buf)? {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for TcpTransport {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The kernel has everything that was written.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
