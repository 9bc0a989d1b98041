//! The byte stream within an HTTP/2 stream, after CONNECT (RFC 9113 §8.5, RFC 8441).

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::codec::{Content, Outgoing, Reason};
use crate::Transport;

/// Octets of DATA frames in both directions.
pub(super) struct Tunnel {
    /// `None` once the peer has ended its side.
    content: Option<Content>,
    unread: Bytes,
    outgoing: Outgoing,
    is_shut: bool,
}

impl Tunnel {
    pub(super) fn new(content: Option<Content>, outgoing: Outgoing) -> Self {
        Self { content, unread: Bytes::new(), outgoing, is_shut: false }
    }
}

impl Transport for Tunnel {}

impl AsyncRead for Tunnel {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.unread.is_empty() {
            let Some(content) = &mut self.content else { return Poll::Ready(Ok(())) };
            match ready!(content.poll_data(cx)) {
                Some(Ok(data)) => self.unread = data,
                Some(Err(_)) => return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
                None => self.content = None,
            }
        }
        let len = self.unread.len().min(buf.remaining());
        buf.put_slice(self.unread.get(..len).unwrap_or_default());
        self.unread.advance(len);
        if let Some(content) = &mut self.content {
            content.release(len);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Tunnel {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let gone = |_| io::Error::from(io::ErrorKind::BrokenPipe);
        if self.is_shut {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let room = self.outgoing.poll_room(cx, bytes.len().min(WRITE_MAX)).map_err(gone)?;
        if room == 0 {
            return Poll::Pending;
        }
        let data = Bytes::copy_from_slice(bytes.get(..room).unwrap_or_default());
        self.outgoing.send(data, false).map_err(gone)?;
        Poll::Ready(Ok(room))
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // What was written leaves when the connection has nothing else to do.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !std::mem::replace(&mut self.is_shut, true) {
            let gone = |_| io::Error::from(io::ErrorKind::BrokenPipe);
            self.outgoing.send(Bytes::new(), true).map_err(gone)?;
        }
        Poll::Ready(Ok(()))
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        if !self.is_shut && self.outgoing.send(Bytes::new(), true).is_err() {
            self.outgoing.reset(Reason::CANCEL);
        }
    }
}

const WRITE_MAX: usize = 16 * 1024;
