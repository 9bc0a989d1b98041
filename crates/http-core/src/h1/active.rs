//! A connection while it has something to do: from the first byte of a request to the last of the
//! answer. Here: its buffers, its waits, and what it owes the observer.

use std::{
    task::{Context, Poll, ready},
    time::Instant,
};

use bytes::{Bytes, BytesMut};
use http::StatusCode;

use super::{
    End, Handover,
    body::Incoming,
    clock::BodyClock,
    core::{Alarm, Core, io_error},
    fields::Facts,
    output::Output,
    parse::HeadParser,
    trace::Trace,
};
use crate::{ConnectionError, Head, Outcome, Transport, Watch, pool};

/// Buffers and the state of the current exchange.
pub(crate) struct Active<'c, T: Transport, W: Watch> {
    pub(crate) core: &'c mut Core<T, W>,
    pub(crate) input: BytesMut,
    pub(crate) output: Output,
    pub(crate) parser: HeadParser,
    /// When the first byte of the current request was seen.
    pub(crate) begun: Instant,
    pub(crate) facts: Facts,
    pub(crate) incoming: Incoming,
    pub(crate) body_clock: BodyClock,
    /// What the peer is told if the body failed before the response began.
    pub(crate) body_failure: Option<StatusCode>,
    /// The peer waits for `100 Continue` before it sends its body.
    pub(crate) owes_continue: bool,
    pub(crate) handler_deadline: Option<Instant>,
    /// Since when the transport has taken nothing although output waits.
    pub(crate) write_stalled_since: Option<Instant>,
    /// Responses in the output since it was last empty.
    batched: usize,
    /// Others had their turn since the output began to wait.
    pub(crate) has_yielded: bool,
    /// Reads that found something, one after the other.
    busy_reads: usize,
    trace: Option<Box<Trace>>,
}

/// What a passed deadline was for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    Body,
    Handler,
    Write,
}

impl<'c, T: Transport, W: Watch> Active<'c, T, W> {
    pub(crate) fn new(core: &'c mut Core<T, W>, input: BytesMut) -> Self {
        let begun = core.watch.now();
        let trace = core.settings.observer.is_some().then(Trace::new);
        Self {
            core,
            input,
            output: Output::default(),
            parser: HeadParser::default(),
            begun,
            facts: Facts::NONE,
            incoming: Incoming::default(),
            body_clock: BodyClock::default(),
            body_failure: None,
            owes_continue: false,
            handler_deadline: None,
            write_stalled_since: None,
            batched: 0,
            has_yielded: false,
            busy_reads: 0,
            trace,
        }
    }

    /// Reads into the input, which gets room for it: little for heads, more for bodies.
    pub(crate) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<usize, ConnectionError>> {
        let is_large = self.incoming.remaining().is_none_or(|n| n > pool::READ_BYTES as u64);
        let room_min = if is_large { pool::READ_BYTES } else { READ_ROOM_MIN };
        if self.input.capacity() - self.input.len() < room_min {
            self.make_room(is_large);
        }
        let read = ready!(self.core.poll_read(cx, &mut self.input));
        // Whatever failed, there is nothing to be expected from there any more.
        self.core.read_closed |= read.is_err();
        Poll::Ready(read.map_err(io_error))
    }

    fn make_room(&mut self, is_large: bool) {
        if !self.input.is_empty() {
            return self.input.reserve(pool::READ_BYTES);
        }
        let fresh = if is_large { pool::large_read_buffer() } else { pool::read_buffer() };
        pool::give_read_buffer(std::mem::replace(&mut self.input, fresh));
    }

    /// Reads a little of what follows the request, which tells whether the peer is still there. Its
    /// end of the stream alone tells nothing: it may have closed only its own direction.
    pub(crate) fn read_ahead(&mut self, cx: &mut Context<'_>) -> Result<(), ConnectionError> {
        while !self.core.read_closed && self.input.len() < pool::READ_BYTES {
            match self.poll_read(cx) {
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) => return Err(error),
                Poll::Pending => break,
            }
        }
        Ok(())
    }

    /// Whether this connection has had its turn. A peer that sends without pause would otherwise
    /// keep the others of the worker waiting.
    pub(crate) fn must_yield(&mut self, cx: &mut Context<'_>) -> bool {
        self.busy_reads += 1;
        let is_over = self.busy_reads.is_multiple_of(BUSY_READS_MAX);
        if is_over {
            cx.waker().wake_by_ref();
        }
        is_over
    }

    /// Writes what there is, and reports the exchanges that are complete with it.
    pub(crate) fn poll_flush(
        &mut self,
        cx: &mut Context<'_>,
        more: bool,
    ) -> Poll<Result<(), ConnectionError>> {
        match self.output.poll_flush(cx, &mut self.core.transport, more) {
            Poll::Ready(Ok(())) => {
                self.write_stalled_since = None;
                self.batched = 0;
                self.report(false);
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(error)) => {
                self.report(true);
                Poll::Ready(Err(io_error(error)))
            }
            Poll::Pending => {
                if std::mem::take(&mut self.output.progress) > 0 {
                    self.write_stalled_since = None;
                }
                self.write_stalled_since.get_or_insert_with(|| self.core.watch.now());
                Poll::Pending
            }
        }
    }

    /// Like [`poll_flush`](Self::poll_flush), for when there is nothing else to wait for.
    pub(crate) fn poll_flush_or_stall(
        &mut self,
        cx: &mut Context<'_>,
        more: bool,
    ) -> Poll<Result<(), ConnectionError>> {
        loop {
            match self.poll_flush(cx, more) {
                Poll::Ready(done) => return Poll::Ready(done),
                Poll::Pending => ready!(self.poll_write_stall(cx))?,
            }
        }
    }

    /// Waits for the end of the peer's patience with our output; ready without an error when the
    /// write is worth another try.
    pub(crate) fn poll_write_stall(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), ConnectionError>> {
        let deadline = self.write_deadline();
        match ready!(self.core.poll_watch(cx, deadline)) {
            Alarm::Expired => {
                self.report(true);
                Poll::Ready(Err(WRITE_STALLED))
            }
            Alarm::Drain => Poll::Ready(Ok(())),
        }
    }

    /// Waits for whichever deadline is next; ready without a cause for the order to drain.
    pub(crate) fn poll_alarm(&mut self, cx: &mut Context<'_>) -> Poll<Option<Cause>> {
        let limits = &self.core.settings.limits;
        let body = self.incoming.is_wanted().then(|| self.body_clock.deadline(limits)).flatten();
        let candidates = [
            (self.handler_deadline, Cause::Handler),
            (body, Cause::Body),
            (self.write_deadline(), Cause::Write),
        ];
        let next = candidates.into_iter().filter_map(|(at, cause)| Some((at?, cause)));
        let next = next.min_by_key(|(at, _)| *at);
        let alarm = ready!(self.core.poll_watch(cx, next.map(|(at, _)| at)));
        Poll::Ready(match alarm {
            Alarm::Expired => next.map(|(_, cause)| cause),
            Alarm::Drain => None,
        })
    }

    fn write_deadline(&self) -> Option<Instant> {
        let since = self.write_stalled_since?;
        Some(since + self.core.settings.limits.write_stall_timeout)
    }

    /// Counts a response that was put into the output; answers whether it is time to write.
    pub(crate) fn batch(&mut self) -> bool {
        self.batched += 1;
        let limits = &self.core.settings.limits;
        self.batched >= limits.pipeline_depth_max
            || self.output.buffered() >= limits.output_bytes_max
    }

    /// Keeps the head of the current request, whose owner will be the handler.
    pub(crate) fn keep(&mut self, head: &Head) {
        self.trace.get_or_insert_with(Trace::new).head = Some(head.clone());
    }

    /// The head of the current request, if it was kept.
    pub(crate) fn kept(&self) -> Option<&Head> {
        self.trace.as_ref()?.head.as_ref()
    }

    /// Notes an exchange for the observer, which hears of it when its last byte is handed over.
    pub(crate) fn record(&mut self, status: StatusCode, body_bytes: u64, outcome: Outcome) {
        let Some(trace) = &mut self.trace else { return };
        if self.core.settings.observer.is_none() {
            // It is here for the head alone, which an upgrade might have needed.
            trace.head = None;
            return;
        }
        trace.record(status, body_bytes, self.begun, outcome);
        if self.output.is_empty() {
            self.report(false);
        }
    }

    /// Tells the observer of the exchanges that ended.
    fn report(&mut self, is_peer_gone: bool) {
        let Some(trace) = &mut self.trace else { return };
        if !trace.is_empty()
            && let Some(observer) = &self.core.settings.observer
        {
            let now = self.core.watch.now();
            trace.report(&**observer, &self.core.info, now, is_peer_gone);
        }
    }

    /// What was read so far, and `request`, go to the HTTP/2 driver.
    pub(crate) fn hand_over_http2(&mut self, request: Bytes) -> End {
        let early = self.input.split().freeze();
        End::Handover(Box::new(Handover::Http2 { early, request }))
    }
}

impl<T: Transport, W: Watch> Drop for Active<'_, T, W> {
    fn drop(&mut self) {
        // Whatever was not handed over by now will never be.
        self.report(true);
        if let Some(trace) = self.trace.take() {
            trace.recycle();
        }
        self.output.release();
        pool::give_read_buffer(std::mem::take(&mut self.input));
    }
}

/// Reads between two turns of others.
const BUSY_READS_MAX: usize = 16;
/// With less room than this a read is not worth its system call.
const READ_ROOM_MIN: usize = 512;
pub(crate) const WRITE_STALLED: ConnectionError =
    ConnectionError::Timeout("the peer takes no output");
