//! The byte stream below a connection.

use std::{
    fs::File,
    io,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A byte stream that may know how to send a file without copying it through user space.
///
/// Every method beyond [`AsyncRead`] and [`AsyncWrite`] has a correct default, so that a wrapper
/// has to implement only what it can do better. [`Portable`] makes one of any stream.
pub trait Transport: AsyncRead + AsyncWrite + Unpin + Send + 'static {
    /// Whether [`poll_send_file`](Self::poll_send_file) works here. False for TLS.
    fn can_send_file(&self) -> bool {
        false
    }

    /// Sends at most `len` bytes of `file` from `offset`; answers how many the kernel took.
    /// `Ok(0)` with `len > 0` means that the file is shorter than it was.
    ///
    /// # Errors
    /// `Unsupported` unless [`can_send_file`](Self::can_send_file) says otherwise.
    fn poll_send_file(
        &mut self,
        _cx: &mut Context<'_>,
        _file: &File,
        _offset: u64,
        _len: usize,
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(Err(io::ErrorKind::Unsupported.into()))
    }

    /// Like `poll_write`, with the hint that more bytes follow at once (`MSG_MORE`), so that a
    /// response head and the file behind it share a packet.
    fn poll_write_more(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(self).poll_write(cx, bytes)
    }
}

/// Any byte stream as a [`Transport`], without the shortcuts.
#[derive(Debug)]
pub struct Portable<T>(pub T);

impl<T: AsyncRead + AsyncWrite + Unpin + Send + 'static> Transport for Portable<T> {}

impl<T: AsyncRead + Unpin> AsyncRead for Portable<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Portable<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
