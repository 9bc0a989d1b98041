//! A transport that counts what moves bytes.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use hearth_http_core::Transport;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Reads and writes since they were taken.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    reads: AtomicU64,
    writes: AtomicU64,
}

impl Counts {
    /// Reads and writes; counts anew.
    pub(crate) fn take(&self) -> (u64, u64) {
        (self.reads.swap(0, Ordering::SeqCst), self.writes.swap(0, Ordering::SeqCst))
    }
}

/// What is pending costs no system call: the reactor knows it beforehand, because a read that did not fill its
/// buffer has emptied the socket.
#[derive(Debug)]
pub(crate) struct Counting<T> {
    inner: T,
    counts: Arc<Counts>,
}

impl<T> Counting<T> {
    pub(crate) fn new(inner: T, counts: &Arc<Counts>) -> Self {
        Self { inner, counts: counts.clone() }
    }

    fn count_write(&self) {
        self.counts.writes.fetch_add(1, Ordering::SeqCst);
    }
}

impl<T: Transport> Transport for Counting<T> {}

impl<T: Transport> AsyncRead for Counting<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.inner).poll_read(cx, buf);
        self.counts.reads.fetch_add(u64::from(read.is_ready()), Ordering::SeqCst);
        read
    }
}

impl<T: Transport> AsyncWrite for Counting<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.count_write();
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.count_write();
        Pin::new(&mut self.inner).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
