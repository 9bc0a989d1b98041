//! What a connection owns all its life, and all that it owns while it is idle.

use std::{
    future::Future,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use bytes::BytesMut;
use tokio::io::AsyncReadExt;

use crate::{ConnectionError, ConnectionInfo, Settings, Transport, Watch, WatchEvent, pool};

/// Transport, clock and the few facts that outlive an exchange.
#[derive(Debug)]
pub(crate) struct Core<T, W> {
    pub(crate) transport: T,
    pub(crate) watch: W,
    pub(crate) settings: Arc<Settings>,
    pub(crate) info: Arc<ConnectionInfo>,
    /// The connection ends with the first response after this.
    retires_at: Instant,
    /// What the watch was told last.
    told: Told,
    /// Requests so far; small, because every idle connection has it.
    pub(crate) requests: u32,
    pub(crate) is_draining: bool,
    /// The peer has sent its last byte.
    pub(crate) read_closed: bool,
    /// Whether the first bytes may turn out to be the preface of HTTP/2.
    pub(crate) sniffs_http2: bool,
}

/// What a watch was told last, so that it is told only news: a request that is answered at once
/// tells it nothing but that the connection idles again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    Deadline(Option<Instant>),
    Idle,
}

/// What [`Core::poll_watch`] reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Alarm {
    /// The server drains; reported once.
    Drain,
    /// The deadline passed.
    Expired,
}

impl<T: Transport, W: Watch> Core<T, W> {
    pub(crate) fn new(
        transport: T,
        settings: Arc<Settings>,
        info: Arc<ConnectionInfo>,
        watch: W,
    ) -> Self {
        // ±10 %, so that connections that came together do not go together.
        let permille = 900 + (info.id.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) % 201;
        let age_max = settings.limits.connection_age_max.mul_f64(permille as f64 / 1000.0);
        let retires_at = watch.now() + age_max;
        Self {
            transport,
            watch,
            settings,
            info,
            retires_at,
            told: Told::Deadline(None),
            requests: 0,
            is_draining: false,
            read_closed: false,
            sniffs_http2: false,
        }
    }

    /// From now on there is nothing to do.
    pub(crate) fn start_idle(&mut self) {
        let limits = &self.settings.limits;
        let patience = match (self.is_draining, self.requests) {
            (true, _) => DRAINING_PATIENCE,
            (false, 0) => limits.first_request_timeout,
            (false, _) => limits.idle_timeout,
        };
        self.watch.set_idle_deadline(patience);
        self.told = Told::Idle;
    }

    /// Waits for the first bytes of a request, without owning a buffer meanwhile. `None` when the
    /// connection is over: the peer has closed, was idle for too long, or the server drains.
    pub(crate) fn poll_idle(&mut self, cx: &mut Context<'_>) -> Poll<Option<BytesMut>> {
        let input = ready!(self.poll_input(cx));
        if input.is_none() {
            // TLS says goodbye; if it cannot at once, so be it.
            let _ = Pin::new(&mut self.transport).poll_shutdown(cx);
        }
        Poll::Ready(input)
    }

    fn poll_input(&mut self, cx: &mut Context<'_>) -> Poll<Option<BytesMut>> {
        loop {
            // Idle connections of a server that drains are closed at once, but one that never got to
            // say a word has a moment for it: its peer may have sent a request already.
            if self.is_draining && self.requests > 0 {
                return Poll::Ready(None);
            }
            let mut input = pool::read_buffer();
            match self.poll_read(cx, &mut input) {
                Poll::Ready(Ok(1..)) => return Poll::Ready(Some(input)),
                // An error here concerns no exchange: the peer is gone, nothing is lost.
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(None),
                Poll::Pending => pool::give_read_buffer(input),
            }
            match ready!(self.poll_event(cx)) {
                Alarm::Expired => return Poll::Ready(None),
                Alarm::Drain => self.start_idle(),
            }
        }
    }

    /// Reads what there is into the spare room of `input`; 0 means that the peer has closed.
    pub(crate) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        input: &mut BytesMut,
    ) -> Poll<std::io::Result<usize>> {
        // Not `readable` and `try_read`: only this way does tokio learn from a short read that the
        // socket is empty, which spares a system call per request.
        let read = ready!(pin!(self.transport.read_buf(input)).poll(cx));
        self.read_closed |= matches!(read, Ok(0));
        Poll::Ready(read)
    }

    /// Asks the watch, with this deadline: the task is woken when there is something to report.
    pub(crate) fn poll_watch(
        &mut self,
        cx: &mut Context<'_>,
        deadline: Option<Instant>,
    ) -> Poll<Alarm> {
        if self.told != Told::Deadline(deadline) {
            self.watch.set_deadline(deadline);
            self.told = Told::Deadline(deadline);
        }
        self.poll_event(cx)
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Alarm> {
        match ready!(self.watch.poll_event(cx)) {
            WatchEvent::Drain => {
                self.is_draining = true;
                Poll::Ready(Alarm::Drain)
            }
            WatchEvent::Deadline => {
                // It is cleared by being reported.
                self.told = Told::Deadline(None);
                Poll::Ready(Alarm::Expired)
            }
        }
    }

    /// Whether the connection has lived long enough, by requests, by age, or because of a drain.
    pub(crate) fn is_at_end_of_life(&self, now: Instant) -> bool {
        self.is_draining
            || self.watch.is_draining()
            || u64::from(self.requests) >= self.settings.limits.requests_per_connection_max
            || now > self.retires_at
    }
}

pub(crate) fn io_error(error: std::io::Error) -> ConnectionError {
    use std::io::ErrorKind;
    match error.kind() {
        ErrorKind::BrokenPipe
        | ErrorKind::ConnectionAborted
        | ErrorKind::ConnectionReset
        | ErrorKind::NotConnected
        | ErrorKind::TimedOut
        | ErrorKind::UnexpectedEof => ConnectionError::PeerGone,
        _ => ConnectionError::Io(error),
    }
}

/// How long a draining server waits for the first request of a connection that it just accepted.
const DRAINING_PATIENCE: Duration = Duration::from_secs(1);
