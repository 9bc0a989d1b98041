//! A TCP stream as a transport.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};

use hearth_http_core::Transport;
use rustix::{
    fd::{AsFd as _, BorrowedFd},
    net::SendFlags,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, Interest, ReadBuf},
    net::TcpStream,
};

use crate::ring::RingStream;

/// A TCP stream that can send files and hold back a head for the body behind it.
#[derive(Debug)]
pub struct TcpTransport {
    stream: Stream,
}

/// Who waits for the socket.
#[derive(Debug)]
enum Stream {
    Runtime(TcpStream),
    Ring(RingStream),
}

impl TcpTransport {
    /// A transport over a stream that was just accepted.
    #[must_use]
    pub fn new(stream: TcpStream) -> Self {
        Self { stream: Stream::Runtime(stream) }
    }

    pub(crate) fn on_ring(stream: RingStream) -> Self {
        Self { stream: Stream::Ring(stream) }
    }

    /// Calls `send` as soon as the socket takes bytes, until it does not say `WouldBlock`. `full` is
    /// how much it sends if the socket has room for all.
    fn poll_send(
        &self,
        cx: &mut Context<'_>,
        full: usize,
        send: impl FnMut(BorrowedFd<'_>) -> rustix::io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        match &self.stream {
            Stream::Runtime(stream) => poll_send(stream, cx, full, send),
            Stream::Ring(stream) => stream.poll_direct(cx, send),
        }
    }
}

fn poll_send(
    stream: &TcpStream,
    cx: &mut Context<'_>,
    full: usize,
    mut send: impl FnMut(BorrowedFd<'_>) -> rustix::io::Result<usize>,
) -> Poll<io::Result<usize>> {
    loop {
        ready!(stream.poll_write_ready(cx))?;
        let mut partly = None;
        let sent = stream.try_io(Interest::WRITABLE, || match send(stream.as_fd()) {
            Ok(sent) if sent < full => {
                // The socket is full: known now, so that the next call need not try in vain.
                partly = Some(sent);
                Err(io::ErrorKind::WouldBlock.into())
            }
            sent => sent.map_err(io::Error::from),
        });
        match (sent, partly) {
            (_, Some(sent)) => return Poll::Ready(Ok(sent)),
            (Err(error), _) if error.kind() == io::ErrorKind::WouldBlock => {}
            (Err(error), _) if error.kind() == io::ErrorKind::Interrupted => {}
            (sent, _) => return Poll::Ready(sent),
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
        file: &std::fs::File,
        offset: u64,
        len: usize,
    ) -> Poll<io::Result<usize>> {
        // Fewer bytes may also mean the end of the file, which says nothing about the socket.
        self.poll_send(cx, 0, |stream| {
            let mut position = offset;
            rustix::fs::sendfile(stream, file, Some(&mut position), len)
        })
    }

    fn poll_write_more(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_send(cx, bytes.len(), |stream| rustix::net::send(stream, bytes, MORE))
    }
}

#[cfg(target_os = "linux")]
const NO_SIGNAL: SendFlags = SendFlags::NOSIGNAL;
#[cfg(target_os = "linux")]
const MORE: SendFlags = SendFlags::NOSIGNAL.union(SendFlags::MORE);
#[cfg(not(target_os = "linux"))]
const NO_SIGNAL: SendFlags = SendFlags::empty();
#[cfg(not(target_os = "linux"))]
const MORE: SendFlags = SendFlags::empty();

impl AsyncRead for TcpTransport {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // The first read is tried at once: tokio takes accepted sockets for readable.
        match &mut self.stream {
            Stream::Runtime(stream) => Pin::new(stream).poll_read(cx, buf),
            Stream::Ring(stream) => stream.poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for TcpTransport {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if let Stream::Ring(stream) = &self.stream {
            return stream.poll_write(cx, &[IoSlice::new(bytes)]);
        }
        // A system call without the detour through libc, whose `send` is a cancellation point.
        self.poll_send(cx, bytes.len(), |stream| rustix::net::send(stream, bytes, NO_SIGNAL))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.stream {
            Stream::Runtime(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
            Stream::Ring(stream) => stream.poll_write(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &self.stream {
            // The kernel has everything that was written.
            Stream::Runtime(_) => Poll::Ready(Ok(())),
            Stream::Ring(stream) => stream.poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Runtime(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Ring(stream) => stream.poll_shutdown(cx),
        }
    }
}
