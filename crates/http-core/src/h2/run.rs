//! The connection: reads, lets the streams work, sends, and decides when it is over.

use std::{
    future::Future,
    io,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use tokio::io::AsyncReadExt;

use super::{
    frame::{self, Fault, Reason, kind},
    ledger::Ledger,
    link::Link,
    priority::Turns,
    ready::Ready,
    receive::END_PING,
    respond::Heads,
    slots::Slots,
    timers::{Due, Sight, Timers},
};
use crate::{
    ConnectionError, ConnectionInfo, Outcome, Request, Response, Settings, Transport, Watch,
    connection::Abuse, pool,
};

/// One HTTP/2 connection whose requests `call` answers.
pub(super) struct Run<T, W, C, F> {
    pub(super) link: Link,
    /// Received, and not understood yet. Without memory while there is nothing.
    pub(super) input: BytesMut,
    /// The request that came as HTTP/1.1: frames that are understood behind the first SETTINGS.
    pub(super) inserted: Bytes,
    pub(super) call: C,
    pub(super) settings: Arc<Settings>,
    pub(super) info: Arc<ConnectionInfo>,
    pub(super) slots: Slots<F>,
    pub(super) turns: Turns,
    pub(super) ledger: Ledger,
    pub(super) heads: Heads,
    /// Where the text of heads is put.
    pub(super) memory: BytesMut,
    pub(super) requests: u64,
    /// Streams that we promised and have not finished.
    pub(super) pushes: usize,
    pub(super) ending: Ending,
    /// Resets by the peer that the ledger does not know of.
    pub(super) resets: usize,
    /// Octets of frames that brought no stream forward, likewise.
    pub(super) overhead: usize,
    /// Abuse that was noticed while a stream was dealt with.
    pub(super) caught: Option<Abuse>,
    transport: T,
    watch: W,
    ready: Arc<Ready>,
    timers: Timers,
    /// The deadline that the watch has.
    armed: Option<Instant>,
    received: u64,
    /// Why the connection ends, if that is not in good order.
    fault: Option<ConnectionError>,
    /// Everything was said: what is left is to be heard.
    lingers: bool,
}

/// How the end of the connection is coming.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    No,
    /// GOAWAY without a last stream was sent: requests that are on their way are answered.
    Announced,
    /// GOAWAY named the last stream: it ends with those that have begun.
    Final,
    /// Every stream is gone.
    Aborted,
}

/// Why the peer is heard no longer.
#[derive(Debug, Clone, Copy)]
pub(super) enum Stop {
    Abuse(Abuse),
    Fault(Fault),
}

impl From<Fault> for Stop {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl From<Abuse> for Stop {
    fn from(abuse: Abuse) -> Self {
        Self::Abuse(abuse)
    }
}

/// The connection is over.
struct Finished;

impl<T, W, C, F> Run<T, W, C, F>
where
    T: Transport,
    W: Watch,
    C: Fn(Request) -> F,
    F: Future<Output = Response>,
{
    pub(super) fn new(
        transport: T,
        early: Bytes,
        inserted: Bytes,
        call: C,
        settings: Arc<Settings>,
        info: Arc<ConnectionInfo>,
        watch: W,
    ) -> Self {
        let limits = &settings.limits;
        let now = watch.now();
        // Streams that do not count any more may still be finishing, and there may be pushes.
        let streams =
            usize::try_from(limits.h2_streams_max).unwrap_or(STREAMS_MAX).min(STREAMS_MAX);
        let ready = Ready::new(2 * streams + 64);
        Self {
            link: Link::new(&settings, transport.is_write_vectored()),
            received: early.len() as u64,
            input: BytesMut::from(early),
            inserted,
            slots: Slots::new(Arc::clone(&ready)),
            turns: Turns::default(),
            ledger: Ledger::new(limits, now),
            heads: Heads::new(settings.server.clone()),
            memory: BytesMut::new(),
            requests: 0,
            pushes: 0,
            ending: Ending::No,
            resets: 0,
            overhead: 0,
            caught: None,
            timers: Timers::new(limits, info.id, now),
            armed: None,
            fault: None,
            lingers: false,
            call,
            settings,
            info,
            transport,
            watch,
            ready,
        }
    }

    fn work(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Finished>> {
        let now = self.watch.now();
        self.poll_watch(cx, now)?;
        // What had been read before this connection was known to be one.
        let mut has_input = !self.input.is_empty();
        for _ in 0..TURNS_MAX {
            if self.lingers {
                ready!(self.poll_linger(cx))?;
            }
            if has_input {
                has_input = false;
                self.hear(now);
            }
            let is_read_up = self.read(cx, now)?;
            self.poll_slots(now);
            self.pump(now);
            self.end_if_done(now);
            let drained = self.link.out.poll_drain(&mut self.transport, cx);
            if let Poll::Ready(Err(error)) = drained {
                return Poll::Ready(Err(self.finish_io(error)));
            }
            if self.lingers || !self.ready.is_quiet() {
                continue;
            }
            if drained.is_ready() && (!is_read_up || self.can_send()) {
                continue;
            }
            self.observe(now);
            if self.arm(cx) {
                break;
            }
            if self.ready.end() {
                return Poll::Pending;
            }
        }
        // Others on this thread have waited long enough.
        self.observe(now);
        let _ = self.ready.end();
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Reads and understands what there is. False if it was left at that.
    fn read(&mut self, cx: &mut Context<'_>, now: Instant) -> Result<bool, Finished> {
        while self.ending != Ending::Aborted && !self.lingers {
            if self.link.out.pending() >= self.settings.limits.output_bytes_max {
                // A peer that does not read is not heard: whatever it wants would be more output.
                return Ok(false);
            }
            if self.input.capacity() - self.input.len() < READ_MIN {
                self.grow_input();
            }
            let read = pin!(self.transport.read_buf(&mut self.input)).poll(cx);
            match read {
                Poll::Pending => break,
                Poll::Ready(Err(error)) => return Err(self.finish_io(error)),
                Poll::Ready(Ok(0)) => {
                    return Err(self.finish_io(io::ErrorKind::UnexpectedEof.into()));
                }
                Poll::Ready(Ok(len)) => self.received += len as u64,
            }
            self.hear(now);
        }
        if self.input.is_empty() {
            pool::give_read_buffer(std::mem::take(&mut self.input));
        }
        Ok(true)
    }

    fn grow_input(&mut self) {
        if self.input.is_empty() {
            self.input = pool::large_read_buffer();
        } else {
            self.input.reserve(pool::READ_LARGE_BYTES);
        }
    }

    /// Understands what was read.
    fn hear(&mut self, now: Instant) {
        match self.receive(now) {
            Ok(()) => {}
            Err(Stop::Abuse(abuse)) => self.send_away(abuse, now),
            Err(Stop::Fault(fault)) => {
                tracing::debug!(
                    connection = self.info.id,
                    rule = fault.rule,
                    "HTTP/2 protocol error"
                );
                self.fault.get_or_insert(ConnectionError::Protocol(fault.rule));
                self.abort(fault.reason, now);
            }
        }
    }

    /// Polls the streams whose wakers rang.
    fn poll_slots(&mut self, now: Instant) {
        for word in 0.. {
            let Some(mut bits) = self.ready.take_word(word) else { break };
            while bits != 0 {
                self.poll_slot(word * 64 + bits.trailing_zeros() as usize, now);
                bits &= bits - 1;
            }
        }
    }

    /// Whether a stream could send more at once.
    fn can_send(&self) -> bool {
        !self.lingers && !self.turns.is_empty() && self.link.send_window > 0
    }

    fn finish_io(&mut self, error: io::Error) -> Finished {
        use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
        match error.kind() {
            BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof => {
                // Between requests nobody is missed.
                if self.slots.live() > 0 {
                    self.fault.get_or_insert(ConnectionError::PeerGone);
                }
            }
            _ => {
                self.fault.get_or_insert(ConnectionError::Io(error));
            }
        }
        Finished
    }

    /// Ends the connection if nothing is left of it but its end.
    fn end_if_done(&mut self, now: Instant) {
        if self.lingers || self.slots.live() > 0 {
            return;
        }
        if self.link.is_peer_going && self.ending == Ending::No {
            self.name_last_stream();
        }
        if matches!(self.ending, Ending::Final | Ending::Aborted) {
            self.lingers = true;
            self.timers.close_after(self.settings.limits.linger_timeout, now);
        }
    }

    /// Waits until the peer has seen our last frames: closing on unread bytes would reset them away.
    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Finished>> {
        let Poll::Ready(drained) = self.link.out.poll_drain(&mut self.transport, cx) else {
            return self.park(cx);
        };
        if drained.is_err() {
            return Poll::Ready(Err(Finished));
        }
        match Pin::new(&mut self.transport).poll_shutdown(cx) {
            Poll::Pending => return self.park(cx),
            Poll::Ready(Err(_)) => return Poll::Ready(Err(Finished)),
            Poll::Ready(Ok(())) => {}
        }
        let until = self.received + LINGER_BYTES;
        while self.received < until {
            self.input.clear();
            if self.input.capacity() < READ_MIN {
                self.grow_input();
            }
            match pin!(self.transport.read_buf(&mut self.input)).poll(cx) {
                Poll::Pending => return self.park(cx),
                Poll::Ready(Ok(len)) if len > 0 => self.received += len as u64,
                Poll::Ready(_) => break,
            }
        }
        Poll::Ready(Err(Finished))
    }

    /// Waits for the peer, or the deadline.
    fn park(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Finished>> {
        let now = self.watch.now();
        self.observe(now);
        if self.arm(cx) {
            cx.waker().wake_by_ref();
        }
        let _ = self.ready.end();
        Poll::Pending
    }

    /// First phase of GOAWAY (RFC 9113 §6.8): what has begun, or is on its way, is answered.
    pub(super) fn announce_end(&mut self, now: Instant) {
        if self.ending != Ending::No {
            return;
        }
        self.ending = Ending::Announced;
        let out = self.link.out.buffer();
        frame::put_go_away(out, frame::STREAM_MAX, Reason::NoError);
        frame::put_frame(out, kind::PING, 0, 0, END_PING);
        self.timers.close_after(END_GRACE, now);
    }

    /// Second phase: no stream after the last is served.
    pub(super) fn name_last_stream(&mut self) {
        if matches!(self.ending, Ending::No | Ending::Announced) {
            self.ending = Ending::Final;
            let last = self.link.last_stream;
            self.link.final_stream = Some(last);
            frame::put_go_away(self.link.out.buffer(), last, Reason::NoError);
            self.timers.close_later();
        }
    }

    /// GOAWAY, and the end of every stream.
    fn abort(&mut self, reason: Reason, now: Instant) {
        if self.ending != Ending::Aborted {
            self.ending = Ending::Aborted;
            self.close_all(now);
            let last = self.link.last_stream;
            frame::put_go_away(self.link.out.buffer(), last, reason);
        }
    }

    /// Ends a connection whose peer costs more than it is worth.
    fn send_away(&mut self, abuse: Abuse, now: Instant) {
        if self.ending == Ending::Aborted {
            return;
        }
        let peer = self.info.peer;
        tracing::warn!(connection = self.info.id, ?peer, %abuse, "HTTP/2 peer sent away");
        if let Some(observer) = &self.settings.observer {
            observer.on_abuse(&self.info, abuse);
        }
        self.fault.get_or_insert(ConnectionError::Protocol(abuse.reason()));
        self.abort(Reason::EnhanceYourCalm, now);
    }

    fn close_all(&mut self, now: Instant) {
        for index in self.slots.indices() {
            if self.slots.get(index).is_some() {
                self.close(index, Outcome::PeerGone, now);
            }
        }
        self.turns.clear();
    }

    /// Does what time asks for.
    fn on_time(&mut self, now: Instant) -> Result<(), Finished> {
        while let Some(due) = self.timers.due(now) {
            match due {
                Due::Sweep => self.sweep(now),
                Due::Age | Due::Idle => self.announce_end(now),
                Due::Ping => {
                    frame::put_frame(self.link.out.buffer(), kind::PING, 0, 0, b"still up");
                }
                Due::PingLost => {
                    self.fault.get_or_insert(ConnectionError::PeerGone);
                    return Err(Finished);
                }
                Due::SlowFrame => self.send_away(Abuse::SlowFrame, now),
                Due::WriteStall => {
                    let why = "the peer takes no output";
                    self.fault.get_or_insert(ConnectionError::Timeout(why));
                    return Err(Finished);
                }
                Due::Close if self.ending == Ending::Announced => self.name_last_stream(),
                Due::Close => return Err(Finished),
            }
        }
        Ok(())
    }

    /// Looks whether a stream is overdue.
    fn sweep(&mut self, now: Instant) {
        let mut nearest: Option<Instant> = None;
        for index in self.slots.indices() {
            let Some(slot) = self.slots.get(index) else { continue };
            let (overdue, next) = slot.check(&self.settings.limits, now);
            nearest = Some(nearest.map_or(next, |nearest| nearest.min(next)));
            if let Some(overdue) = overdue {
                self.overdue(index, overdue, now);
            }
        }
        // A stream that begins before then has its own deadline later.
        self.timers.set_sweep(nearest.map(|at| at.max(now + TICK)));
    }

    /// Notes what the work left.
    fn observe(&mut self, now: Instant) {
        let live = self.slots.live();
        let is_inside = !self.input.is_empty() || self.link.block.is_some();
        let inside = is_inside && self.link.content.is_none() && !self.lingers;
        let sight = Sight {
            live,
            requests: self.requests,
            inside: inside.then_some(self.link.frames),
            received: self.received,
            sent: self.link.out.sent,
            has_output: self.link.out.pending() > 0,
            is_ending: self.ending != Ending::No || self.lingers,
        };
        self.timers.observe(sight, now);
        if live == 0 {
            self.slots.shrink();
            if self.memory.capacity() > 0 {
                pool::give_read_buffer(std::mem::take(&mut self.memory));
            }
        }
    }

    /// Tells the watch when to wake us. A watch that fires early costs a look; moving it costs for
    /// every request. Answers whether that time has come already.
    fn arm(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(next) = self.timers.next() else { return false };
        if self.armed.is_some_and(|armed| armed <= next) {
            return false;
        }
        self.armed = Some(next);
        self.watch.set_deadline(Some(next));
        let has_event = self.watch.poll_event(cx).is_ready();
        if has_event {
            self.armed = None;
        }
        has_event
    }

    fn poll_watch(&mut self, cx: &mut Context<'_>, now: Instant) -> Result<(), Finished> {
        while let Poll::Ready(event) = self.watch.poll_event(cx) {
            match event {
                crate::WatchEvent::Drain => {}
                crate::WatchEvent::Deadline => self.armed = None,
            }
        }
        if self.watch.is_draining() {
            self.announce_end(now);
        }
        // Due or not: asking costs less than being told exactly.
        self.on_time(now)
    }
}

impl<T, W, C, F> Future for Run<T, W, C, F>
where
    T: Transport,
    W: Watch,
    C: Fn(Request) -> F + Unpin,
    F: Future<Output = Response>,
{
    type Output = Result<(), ConnectionError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let run = self.get_mut();
        run.ready.begin(cx.waker());
        match run.work(cx) {
            Poll::Pending | Poll::Ready(Ok(())) => Poll::Pending,
            Poll::Ready(Err(Finished)) => {
                let now = run.watch.now();
                run.close_all(now);
                Poll::Ready(run.fault.take().map_or(Ok(()), Err))
            }
        }
    }
}

/// Whatever the limits say: each costs a place.
const STREAMS_MAX: usize = 10_000;
/// After so many turns other connections get theirs.
const TURNS_MAX: usize = 16;
/// Less room than this is not worth a read.
const READ_MIN: usize = 1024;
/// What a peer may still send when everything is over.
const LINGER_BYTES: u64 = 256 * 1024;
/// For the last round trip of an orderly end.
const END_GRACE: Duration = Duration::from_secs(1);
/// No finer than any clock we have.
const TICK: Duration = Duration::from_millis(1);
