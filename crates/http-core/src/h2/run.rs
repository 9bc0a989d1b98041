//! The connection: reads, lets the streams work, sends, and decides when it is over.

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use bytes::BytesMut;

use super::{
    codec::{Codec, Failure, Pings, Reason},
    ledger::Ledger,
    meter::Signals,
    priority::Turns,
    ready::Ready,
    respond::Heads,
    slots::{Slots, bit},
    timers::{Due, Sight, Timers},
    wire::Wire,
};
use crate::{
    ConnectionError, ConnectionInfo, Outcome, Request, Response, Settings, Transport, Watch,
    connection::Abuse,
};

/// One HTTP/2 connection whose requests `call` answers.
pub(super) struct Run<T: Transport, W, C, F> {
    pub(super) wire: Wire<T>,
    pub(super) codec: Codec<T>,
    pub(super) call: C,
    pub(super) settings: Arc<Settings>,
    pub(super) info: Arc<ConnectionInfo>,
    pub(super) ready: Arc<Ready>,
    pub(super) slots: Slots<F>,
    pub(super) turns: Turns,
    pub(super) ledger: Ledger,
    pub(super) heads: Heads,
    /// Where the text of heads is put.
    pub(super) memory: BytesMut,
    pub(super) requests: u64,
    pub(super) ending: Ending,
    /// Abuse that was noticed while a request was taken on.
    pub(super) caught: Option<Abuse>,
    codec_waker: Waker,
    watch: W,
    timers: Timers,
    /// The deadline that the watch has.
    armed: Option<Instant>,
    signals: Signals,
    pings: Option<Pings>,
    /// Why the connection ends, if that is not in good order.
    fault: Option<ConnectionError>,
    lingers: bool,
}

/// How the end of the connection is coming.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    No,
    /// GOAWAY without a last stream was sent: streams that began are answered.
    Announced,
    /// GOAWAY was sent, every stream is gone.
    Aborted,
}

/// What to do after a turn of work.
enum Next {
    Again,
    Wait,
    Finish,
}

impl<T, W, C, F> Run<T, W, C, F>
where
    T: Transport,
    W: Watch,
    C: Fn(Request) -> F,
    F: Future<Output = Response>,
{
    pub(super) fn new(
        wire: Wire<T>,
        call: C,
        settings: Arc<Settings>,
        info: Arc<ConnectionInfo>,
        watch: W,
    ) -> Self {
        let limits = &settings.limits;
        let now = watch.now();
        // Streams that the codec counts no more may still be finishing here, and there may be pushes.
        let streams =
            usize::try_from(limits.h2_streams_max).unwrap_or(STREAMS_MAX).min(STREAMS_MAX);
        let ready = Ready::new(2 * streams + 64);
        let codec_waker = ready.waker(CODEC);
        ready.set(CODEC);
        Self {
            codec: Codec::new(wire.clone(), &settings),
            slots: Slots::new(Arc::clone(&ready)),
            turns: Turns::default(),
            ledger: Ledger::new(limits, now),
            heads: Heads::new(settings.server.clone()),
            memory: BytesMut::new(),
            requests: 0,
            ending: Ending::No,
            caught: None,
            timers: Timers::new(limits, info.id, now),
            armed: None,
            signals: Signals::default(),
            pings: None,
            fault: None,
            lingers: false,
            wire,
            call,
            settings,
            info,
            ready,
            codec_waker,
            watch,
        }
    }

    /// One turn of work: frames in, streams, frames out.
    fn turn(&mut self, now: Instant) -> Next {
        if self.lingers {
            return self.linger();
        }
        if self.ready.take(CODEC)
            && let Err(end) = self.exchange(now)
        {
            return self.finish_codec(end);
        }
        let heeded = self.heed_signals(now);
        if let Some(abuse) = heeded.err().or_else(|| self.caught.take()) {
            self.send_away(abuse, now);
        }
        self.poll_slots(now);
        if let Err(end) = self.pump(now) {
            return self.finish_codec(end);
        }
        Next::Wait
    }

    /// Reads frames, accepts requests and moves queued frames to the wire.
    pub(super) fn exchange(&mut self, now: Instant) -> Result<(), Option<Failure>> {
        let waker = self.codec_waker.clone();
        let mut cx = Context::from_waker(&waker);
        loop {
            match self.codec.poll_accept(&mut cx) {
                Poll::Pending => return Ok(()),
                Poll::Ready(None) => return Err(None),
                Poll::Ready(Some(Err(failure))) => return Err(Some(failure)),
                Poll::Ready(Some(Ok(incoming))) => self.admit(incoming, now),
            }
        }
    }

    /// Looks at what the meters noticed.
    fn heed_signals(&mut self, now: Instant) -> Result<(), Abuse> {
        for is_inbound in [true, false] {
            let mut signals = std::mem::take(&mut self.signals);
            {
                let pipe = &mut *self.wire.lock();
                let meter = if is_inbound { &mut pipe.inbound } else { &mut pipe.outbound };
                if !meter.signals().is_empty() {
                    std::mem::swap(meter.signals(), &mut signals);
                }
            }
            let heeded = if signals.is_empty() {
                Ok(())
            } else if is_inbound {
                self.heed_peer(&signals, now)
            } else {
                self.heed_codec(&signals, now)
            };
            signals.clear();
            self.signals = signals;
            heeded?;
        }
        Ok(())
    }

    /// What the peer did.
    fn heed_peer(&mut self, signals: &Signals, now: Instant) -> Result<(), Abuse> {
        for (stream, _) in &signals.resets {
            if let Some(index) = self.slots.find(*stream) {
                self.close(index, Outcome::PeerGone, now);
            }
        }
        for (stream, priority) in &signals.priorities {
            if let Some(index) = self.slots.find(*stream)
                && let Some(slot) = self.slots.get(index)
            {
                slot.exchange.priority = *priority;
                self.turns.change(index, *priority);
            }
        }
        if !signals.resets.is_empty() {
            self.ledger.peer_reset(signals.resets.len(), now)?;
        }
        if self.ending == Ending::Aborted {
            return Ok(());
        }
        self.ledger.overhead(signals.overhead_bytes, now)
    }

    /// What left for the peer.
    fn heed_codec(&mut self, signals: &Signals, now: Instant) -> Result<(), Abuse> {
        for stream in &signals.ended {
            if let Some(index) = self.slots.find(*stream) {
                self.flushed(index, now);
            }
        }
        for (stream, code) in &signals.resets {
            if let Some(index) = self.slots.find(*stream) {
                self.close(index, Outcome::PeerGone, now);
            }
            if is_fault_of_peer(Reason::from(*code)) {
                self.ledger.own_reset()?;
            }
        }
        Ok(())
    }

    /// Polls the streams whose wakers rang.
    fn poll_slots(&mut self, now: Instant) {
        for word in 0.. {
            let Some(mut bits) = self.ready.take_word(word) else { break };
            while bits != 0 {
                let index = word * 64 + bits.trailing_zeros() as usize;
                bits &= bits - 1;
                if index == CODEC {
                    // Taken along with the others: it is still to be served.
                    self.ready.set(CODEC);
                } else {
                    self.poll_slot(index - bit(0), now);
                }
            }
        }
    }

    /// Hands the output to the transport.
    fn drain(&mut self) -> Next {
        if self.lingers {
            return Next::Wait;
        }
        let mut cx = Context::from_waker(&self.codec_waker);
        let polled = self.wire.lock().poll_drain(&mut cx);
        match polled {
            Poll::Ready(Err(error)) => self.finish_io(error),
            // There is room again for those who have more to send.
            Poll::Ready(Ok(())) if self.has_turns() => Next::Again,
            _ => Next::Wait,
        }
    }

    fn has_turns(&self) -> bool {
        !self.turns.is_empty() && self.wire.lock().send_window() > 0
    }

    /// The codec is finished: what is left is to close the transport without losing the last frames.
    fn finish_codec(&mut self, end: Option<Failure>) -> Next {
        match end {
            Some(Failure::Io(error)) => return self.finish_io(error),
            Some(Failure::Protocol(reason)) => {
                if !self.codec.is_open() {
                    // The codec has no connection yet on which it could say so (RFC 9113 §3.4).
                    self.wire.lock().append(&go_away(reason));
                }
                self.fault.get_or_insert(ConnectionError::Protocol(describe(reason)));
            }
            Some(Failure::Peer(reason)) if reason != Reason::NO_ERROR => {
                self.fault.get_or_insert(ConnectionError::PeerGone);
            }
            _ => {}
        }
        self.begin_linger()
    }

    fn finish_io(&mut self, error: io::Error) -> Next {
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
        Next::Finish
    }

    fn begin_linger(&mut self) -> Next {
        let now = self.watch.now();
        self.close_all(now);
        self.lingers = true;
        self.timers.close_after(self.settings.limits.linger_timeout, now);
        self.linger()
    }

    /// Waits until the peer has seen our last frames: closing on unread bytes would reset them away.
    fn linger(&mut self) -> Next {
        let _ = self.ready.take(CODEC);
        let mut cx = Context::from_waker(&self.codec_waker);
        let pipe = &mut *self.wire.lock();
        match pipe.poll_shutdown(&mut cx) {
            Poll::Pending => Next::Wait,
            Poll::Ready(Err(_)) => Next::Finish,
            Poll::Ready(Ok(())) => match pipe.poll_discard(&mut cx, LINGER_BYTES) {
                Poll::Ready(()) => Next::Finish,
                Poll::Pending => Next::Wait,
            },
        }
    }

    /// Two-phase GOAWAY (RFC 9113 §6.8): what has begun, or is on its way, is answered.
    pub(super) fn announce_end(&mut self, now: Instant) {
        if self.ending == Ending::No {
            self.ending = Ending::Announced;
            self.codec.announce_end();
            self.ready.set(CODEC);
            if !self.codec.is_open() {
                self.timers.close_after(END_GRACE, now);
            }
        }
    }

    /// GOAWAY, and the end of every stream.
    fn abort(&mut self, reason: Reason, now: Instant) {
        if self.ending != Ending::Aborted {
            self.ending = Ending::Aborted;
            self.close_all(now);
            self.codec.abort(reason);
            self.ready.set(CODEC);
            self.timers.close_after(self.settings.limits.linger_timeout, now);
        }
    }

    /// Ends a connection whose peer costs more than it is worth.
    fn send_away(&mut self, abuse: Abuse, now: Instant) {
        if self.ending == Ending::Aborted {
            return;
        }
        tracing::warn!(connection = self.info.id, peer = ?self.info.peer, %abuse, "HTTP/2 peer sent away");
        if let Some(observer) = &self.settings.observer {
            observer.on_abuse(&self.info, abuse);
        }
        self.fault.get_or_insert(ConnectionError::Protocol(abuse.reason()));
        self.abort(Reason::ENHANCE_YOUR_CALM, now);
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
    fn on_time(&mut self, now: Instant) -> Next {
        while let Some(due) = self.timers.due(now) {
            match due {
                Due::Sweep => self.sweep(now),
                Due::Age => self.announce_end(now),
                Due::Idle if self.codec.has_streams() => self.abort(Reason::NO_ERROR, now),
                Due::Idle => self.announce_end(now),
                Due::Ping => self.ping(),
                Due::PingLost => {
                    self.fault.get_or_insert(ConnectionError::PeerGone);
                    return Next::Finish;
                }
                Due::SlowFrame => self.send_away(Abuse::SlowFrame, now),
                Due::WriteStall => {
                    self.fault.get_or_insert(ConnectionError::Timeout("the peer takes no output"));
                    return Next::Finish;
                }
                Due::Close if self.ending == Ending::Announced && self.codec.is_open() => {
                    self.abort(Reason::NO_ERROR, now);
                }
                Due::Close => return Next::Finish,
            }
        }
        Next::Wait
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
        let sweep = nearest.map(|at| at.max(now + TICK));
        self.timers.set_sweep(sweep);
    }

    fn ping(&mut self) {
        if self.pings.is_none() {
            self.pings = self.codec.take_pings();
        }
        if let Some(pings) = &mut self.pings {
            // The answer itself does not matter: any byte shows that the peer is there.
            let _ = pings.poll_answer(&mut Context::from_waker(Waker::noop()));
            pings.send();
            self.ready.set(CODEC);
        }
    }

    /// Notes what the turn of work left.
    fn observe(&mut self, now: Instant) {
        let live = self.slots.live();
        let sight = {
            let pipe = self.wire.lock();
            Sight {
                live,
                requests: self.requests,
                inside: pipe.inbound.inside(),
                received: pipe.received,
                sent: pipe.sent,
                has_output: pipe.pending() > 0,
                is_ending: self.ending != Ending::No || self.lingers,
            }
        };
        self.timers.observe(sight, now);
        if self.ending == Ending::Announced {
            match live {
                0 if !self.timers.is_closing() => self.timers.close_after(END_GRACE, now),
                0 => {}
                _ => self.timers.close_later(),
            }
        }
        if live == 0 {
            self.slots.shrink();
            self.memory = BytesMut::new();
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

    fn poll_watch(&mut self, cx: &mut Context<'_>, now: Instant) -> Next {
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

    fn work(&mut self, cx: &mut Context<'_>) -> Next {
        let now = self.watch.now();
        if let Next::Finish = self.poll_watch(cx, now) {
            return Next::Finish;
        }
        for _ in 0..TURNS_MAX {
            if let Next::Finish = self.turn(now) {
                return Next::Finish;
            }
            if !self.ready.is_quiet() {
                continue;
            }
            match self.drain() {
                Next::Finish => return Next::Finish,
                Next::Again => continue,
                Next::Wait => {}
            }
            self.observe(now);
            if self.arm(cx) {
                return Next::Again;
            }
            if self.ready.end() {
                return Next::Wait;
            }
        }
        let _ = self.drain();
        Next::Again
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
            Next::Wait => Poll::Pending,
            Next::Again => {
                // Others on this thread have waited long enough.
                let _ = run.ready.end();
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Next::Finish => {
                let now = run.watch.now();
                run.close_all(now);
                Poll::Ready(run.fault.take().map_or(Ok(()), Err))
            }
        }
    }
}

/// Whether we reset a stream because of something that the peer did wrong.
fn is_fault_of_peer(reason: Reason) -> bool {
    !matches!(
        reason,
        Reason::NO_ERROR | Reason::CANCEL | Reason::INTERNAL_ERROR | Reason::REFUSED_STREAM
    )
}

/// RFC 9113 §7.
fn describe(reason: Reason) -> &'static str {
    match reason {
        Reason::PROTOCOL_ERROR => "protocol error",
        Reason::FLOW_CONTROL_ERROR => "flow-control error",
        Reason::STREAM_CLOSED => "frame on a closed stream",
        Reason::FRAME_SIZE_ERROR => "frame of a wrong size",
        Reason::COMPRESSION_ERROR => "header compression error",
        Reason::ENHANCE_YOUR_CALM => "excessive load",
        _ => "connection error",
    }
}

/// A GOAWAY frame that names no stream.
fn go_away(reason: Reason) -> [u8; 17] {
    let [r0, r1, r2, r3] = u32::from(reason).to_be_bytes();
    [0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, r0, r1, r2, r3]
}

/// The bit of the codec.
const CODEC: usize = 0;
/// Whatever the limits say: each costs a place.
const STREAMS_MAX: usize = 10_000;
/// After so many turns other connections get theirs.
const TURNS_MAX: usize = 16;
/// What a peer may still send when everything is over.
const LINGER_BYTES: u64 = 256 * 1024;
/// For the last round trip of an orderly end.
const END_GRACE: Duration = Duration::from_secs(1);
/// No finer than any clock we have.
const TICK: Duration = Duration::from_millis(1);
