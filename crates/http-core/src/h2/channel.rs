//! Where the content of a stream changes hands: between the connection and the handler, or what the
//! handler gave it to, which may be another task.

use std::{
    collections::VecDeque,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderMap, StatusCode};
use http_body::{Frame, SizeHint};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::{BodyError, BodyStream, Transport};

/// The connection's end. The lock is contended only where the handler's end is in another task.
#[derive(Debug)]
pub(super) struct Channel(Mutex<State>);

#[derive(Debug)]
struct State {
    /// Received, and not taken.
    received: VecDeque<Bytes>,
    /// Received in such small pieces that keeping each would cost more than copying it.
    small: BytesMut,
    trailers: Option<HeaderMap>,
    /// The peer has sent everything.
    is_ended: bool,
    /// What the reader is told, once, instead of the rest.
    error: Option<BodyError>,
    /// What the failure means for the response, whatever the handler makes of it.
    status: Option<StatusCode>,
    /// Octets that are still to come, where that was announced; the received ones included.
    left: Option<u64>,
    /// Octets that the reader took.
    taken: u64,
    /// Of those, the ones that the connection has not noticed.
    unnoticed: usize,
    bytes_max: u64,
    /// The reader asked for content.
    is_asked: bool,
    /// It found none, and waits.
    is_waiting: bool,
    /// It is gone.
    is_dropped: bool,
    reader: Option<Waker>,

    /// Of a tunnel: what is to be sent.
    sending: VecDeque<Bytes>,
    sending_len: usize,
    is_send_ended: bool,
    writer: Option<Waker>,

    /// Wakes the connection.
    bell: Waker,
}

/// The handler's end of a request's content.
pub(super) struct Upload(Arc<Channel>);

/// The handler's end of a tunnel (RFC 9113 §8.5, RFC 8441).
pub(super) struct Tunnel(Arc<Channel>);

impl Channel {
    pub(super) fn new(left: Option<u64>, bytes_max: u64, bell: Waker) -> Arc<Self> {
        Arc::new(Self(Mutex::new(State {
            received: VecDeque::new(),
            small: BytesMut::new(),
            trailers: None,
            is_ended: false,
            error: None,
            status: None,
            left,
            taken: 0,
            unnoticed: 0,
            bytes_max,
            is_asked: false,
            is_waiting: false,
            is_dropped: false,
            reader: None,
            sending: VecDeque::new(),
            sending_len: 0,
            is_send_ended: false,
            writer: None,
            bell,
        })))
    }

    /// Content came. False if nobody wants it.
    pub(super) fn receive(&self, content: Bytes) -> bool {
        let state = &mut *self.0.lock();
        if state.is_dropped {
            return false;
        }
        if content.len() < SMALL {
            state.small.extend_from_slice(&content);
        } else {
            if !state.small.is_empty() {
                let small = state.small.split().freeze();
                state.received.push_back(small);
            }
            state.received.push_back(content);
        }
        state.wake_reader();
        true
    }

    /// The peer has sent everything.
    pub(super) fn end(&self, trailers: Option<HeaderMap>) {
        let state = &mut *self.0.lock();
        state.trailers = trailers;
        state.is_ended = true;
        state.wake_reader();
    }

    /// There will be no more, and that is not as it should be.
    pub(super) fn fail(&self, error: BodyError, status: Option<StatusCode>) {
        let state = &mut *self.0.lock();
        if !state.is_ended && state.error.is_none() {
            state.error = Some(error);
            state.status = state.status.or(status);
        }
        state.wake_reader();
        if let Some(writer) = state.writer.take() {
            writer.wake();
        }
    }

    /// Octets that were taken since the last call: the peer may send as many again.
    pub(super) fn notice(&self) -> usize {
        std::mem::take(&mut self.0.lock().unnoticed)
    }

    /// Octets that nobody will notice any more when they are taken, because the stream is over.
    pub(super) fn leave(&self) -> usize {
        let state = &mut *self.0.lock();
        std::mem::take(&mut state.unnoticed) + state.queued()
    }

    pub(super) fn is_asked(&self) -> bool {
        self.0.lock().is_asked
    }

    pub(super) fn is_waiting(&self) -> bool {
        self.0.lock().is_waiting
    }

    pub(super) fn taken(&self) -> u64 {
        self.0.lock().taken
    }

    /// What the response must be.
    pub(super) fn status(&self) -> Option<StatusCode> {
        self.0.lock().status
    }

    /// Of a tunnel: the next piece to be sent, at most so long. `None` at the end.
    pub(super) fn poll_sending(&self) -> Poll<Option<Bytes>> {
        let state = &mut *self.0.lock();
        let Some(piece) = state.sending.pop_front() else {
            return if state.is_send_ended { Poll::Ready(None) } else { Poll::Pending };
        };
        state.sending_len -= piece.len();
        if let Some(writer) = state.writer.take() {
            writer.wake();
        }
        Poll::Ready(Some(piece))
    }
}

impl State {
    fn wake_reader(&mut self) {
        self.is_waiting = false;
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }

    /// The next content that came.
    fn next(&mut self) -> Option<Bytes> {
        let next = self.received.pop_front();
        next.or_else(|| (!self.small.is_empty()).then(|| self.small.split().freeze()))
    }

    /// Notes that the reader took so many octets.
    fn took(&mut self, len: usize) {
        self.taken += len as u64;
        self.left = self.left.map(|left| left.saturating_sub(len as u64));
        let before = self.unnoticed;
        self.unnoticed += len;
        // In its own task the connection looks by itself; from another one it has to be told, but
        // not for every piece.
        if before < NOTICE && self.unnoticed >= NOTICE {
            self.bell.wake_by_ref();
        }
    }

    fn wait(&mut self, cx: &Context<'_>) {
        self.is_waiting = true;
        self.reader = Some(cx.waker().clone());
    }

    fn too_large(&mut self) -> BodyError {
        self.status = Some(StatusCode::PAYLOAD_TOO_LARGE);
        self.is_ended = true;
        self.left = Some(0);
        self.drop_received();
        BodyError::TooLarge { limit: self.bytes_max }
    }

    /// Nobody will take what came, nor what comes.
    fn drop_received(&mut self) {
        self.is_dropped = true;
        self.unnoticed += self.queued();
        self.received.clear();
        self.small.clear();
    }

    fn let_go(&mut self) {
        self.drop_received();
        self.bell.wake_by_ref();
    }

    fn queued(&self) -> usize {
        self.received.iter().map(Bytes::len).sum::<usize>() + self.small.len()
    }
}

impl Upload {
    pub(super) fn new(channel: Arc<Channel>) -> Self {
        Self(channel)
    }
}

impl BodyStream for Upload {
    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let state = &mut *self.0.0.lock();
        state.is_asked = true;
        if state.left.is_some_and(|left| left > 0 && left + state.taken > state.bytes_max) {
            return Poll::Ready(Some(Err(state.too_large())));
        }
        if let Some(content) = state.next() {
            if state.taken + content.len() as u64 > state.bytes_max {
                return Poll::Ready(Some(Err(state.too_large())));
            }
            state.took(content.len());
            return Poll::Ready(Some(Ok(Frame::data(content))));
        }
        if let Some(error) = state.error.take() {
            state.is_ended = true;
            return Poll::Ready(Some(Err(error)));
        }
        if state.is_ended {
            return Poll::Ready(state.trailers.take().map(|fields| Ok(Frame::trailers(fields))));
        }
        state.wait(cx);
        Poll::Pending
    }

    fn size_hint(&self) -> SizeHint {
        let state = self.0.0.lock();
        match state.left {
            Some(left) => SizeHint::with_exact(left),
            None if state.is_ended && state.error.is_none() => {
                SizeHint::with_exact(state.queued() as u64)
            }
            None => SizeHint::default(),
        }
    }

    fn set_limit(self: Pin<&mut Self>, bytes_max: u64) {
        self.0.0.lock().bytes_max = bytes_max;
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        self.0.0.lock().let_go();
    }
}

impl Tunnel {
    pub(super) fn new(channel: Arc<Channel>) -> Self {
        Self(channel)
    }
}

impl Transport for Tunnel {}

impl AsyncRead for Tunnel {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let state = &mut *self.0.0.lock();
        let Some(mut content) = state.next() else {
            if state.error.is_some() {
                return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
            }
            if state.is_ended {
                return Poll::Ready(Ok(()));
            }
            state.wait(cx);
            return Poll::Pending;
        };
        let len = content.len().min(buf.remaining());
        buf.put_slice(content.get(..len).unwrap_or_default());
        content.advance(len);
        if !content.is_empty() {
            state.received.push_front(content);
        }
        state.took(len);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Tunnel {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let state = &mut *self.0.0.lock();
        if state.is_send_ended || state.error.is_some() {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let room = SENDING_MAX.saturating_sub(state.sending_len);
        if room == 0 {
            state.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let len = bytes.len().min(room);
        if len > 0 {
            state.sending.push_back(Bytes::copy_from_slice(bytes.get(..len).unwrap_or_default()));
            state.sending_len += len;
            state.bell.wake_by_ref();
        }
        Poll::Ready(Ok(len))
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // What was written leaves when the connection has nothing else to do.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let state = &mut *self.0.0.lock();
        state.is_send_ended = true;
        state.bell.wake_by_ref();
        Poll::Ready(Ok(()))
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        let state = &mut *self.0.0.lock();
        state.is_send_ended = true;
        state.let_go();
    }
}

/// Below this a piece is copied: kept as it is, it would hold a whole buffer of input.
const SMALL: usize = 4 * 1024;
/// After so many octets the connection is told, so that the window does not run dry.
const NOTICE: usize = 32 * 1024;
/// What a tunnel may write ahead of the peer.
const SENDING_MAX: usize = 64 * 1024;
