//! HTTP/2: frames and header blocks.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Instant,
};

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::{
    Connection, Protocol, Response, Settings, Transport, Watch, WatchEvent, h2, handler_fn,
};

/// A connection on which `data` is said behind the preface must not panic, must come to rest, and must
/// answer in whole frames of which the first is SETTINGS (RFC 9113 §3.4).
pub fn fuzz_http2(data: &[u8]) {
    let (step, data) =
        data.split_first().map_or((1, data), |(step, rest)| (usize::from(*step) + 1, rest));
    let said = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0", data].concat();
    let pipe = Pipe(Arc::new(Mutex::new(Said { said, at: 0, step, heard: Vec::new() })));
    let handler = handler_fn(async |mut req| match req.path().len() % 3 {
        0 => Response::new(req.take_body()),
        1 => Response::new(vec![b'x'; 100_000]),
        _ => Response::text("text"),
    });
    let settings = Settings { extended_connect: true, push: true, ..Settings::default() };
    let mut connection = Connection::new(
        pipe.clone(),
        Arc::new(handler),
        Arc::new(settings),
        Arc::default(),
        Still(Instant::now()),
        Protocol::Http2,
    );
    let mut cx = Context::from_waker(Waker::noop());
    let polls = 10 * data.len() + 1000;
    let ended = (0..polls).any(|_| Pin::new(&mut connection).poll(&mut cx).is_ready());
    assert!(ended, "the peer has left, and the connection does not end");
    drop(connection);
    let heard = std::mem::take(&mut pipe.0.lock().heard);
    let mut rest = &heard[..];
    let mut first = true;
    while let Some(([l0, l1, l2, kind, ..], _)) = rest.split_first_chunk::<9>() {
        assert!(!first || *kind == 4, "the first frame is not SETTINGS");
        first = false;
        let len = u32::from_be_bytes([0, *l0, *l1, *l2]) as usize;
        assert!(len <= 1 << 14, "a frame larger than any peer need accept");
        let Some(behind) = rest.get(9 + len..) else { return };
        rest = behind;
    }
}

/// What a header block says must be said again by what it is encoded to.
pub fn fuzz_hpack(data: &[u8]) {
    h2::fuzz_hpack(data);
}

#[derive(Clone)]
struct Pipe(Arc<Mutex<Said>>);

struct Said {
    said: Vec<u8>,
    at: usize,
    step: usize,
    heard: Vec<u8>,
}

impl Transport for Pipe {}

impl AsyncRead for Pipe {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Said { said, at, step, .. } = &mut *self.0.lock();
        let end = said.len().min(*at + (*step).min(buf.remaining()));
        buf.put_slice(said.get(*at..end).unwrap_or_default());
        *at = end;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.0.lock().heard.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// A clock that stands still.
struct Still(Instant);

impl Watch for Still {
    fn now(&self) -> Instant {
        self.0
    }

    fn set_deadline(&mut self, _: Option<Instant>) {}

    fn poll_event(&mut self, _: &mut Context<'_>) -> Poll<WatchEvent> {
        Poll::Pending
    }

    fn is_draining(&self) -> bool {
        false
    }
}
