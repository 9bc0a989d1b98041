//! Where there is no io_uring.

use std::{
    convert::Infallible,
    io::{self, IoSlice},
    net::TcpStream,
    sync::Arc,
    task::{Context, Poll},
};

use rustix::fd::BorrowedFd;
use tokio::io::ReadBuf;

/// There is none.
#[derive(Debug)]
pub(crate) enum Ring {}

/// There is none. Only this module may know, or the compiler warns of code elsewhere that never runs.
#[derive(Debug)]
pub(crate) struct RingStream(Infallible);

impl Ring {
    pub(crate) fn probe() -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(crate) fn new() -> io::Result<Arc<Self>> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(crate) fn run(self: Arc<Self>) -> io::Result<std::future::Ready<()>> {
        match *self {}
    }

    pub(crate) fn has_failed(&self) -> bool {
        match *self {}
    }

    pub(crate) fn end(&self) {
        match *self {}
    }
}

impl RingStream {
    pub(crate) fn new(ring: &Arc<Ring>, _stream: TcpStream) -> Self {
        match **ring {}
    }

    pub(crate) fn poll_read(
        &self,
        _cx: &mut Context<'_>,
        _buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.0 {}
    }

    pub(crate) fn poll_write(
        &self,
        _cx: &mut Context<'_>,
        _slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.0 {}
    }

    pub(crate) fn poll_direct(
        &self,
        _cx: &mut Context<'_>,
        _send: impl FnMut(BorrowedFd<'_>) -> rustix::io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        match self.0 {}
    }

    pub(crate) fn poll_flush(&self, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.0 {}
    }

    pub(crate) fn poll_shutdown(&self, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.0 {}
    }
}
