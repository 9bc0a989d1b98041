//! A connection while it has something to do: from the first byte of a request to the last of the
//! answer.

use std::{
    future::{Future, poll_fn},
    panic::{AssertUnwindSafe, catch_unwind},
    pin::{Pin, pin},
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use http::StatusCode;
use smallvec::SmallVec;

use super::{
    End, Handover,
    body::Incoming,
    clock::BodyClock,
    core::{Alarm, Core, io_error},
    encode,
    output::Output,
    parse::{HeadParser, Parsed},
    refusal::Refusal,
};
use crate::{
    BodyError, ConnectionError, Exchange, Handler, Head, Outcome, Request, Response, Transport,
    Watch, connection::Interim, pool,
};

/// Buffers and the state of the current exchange.
pub(crate) struct Active<'c, T: Transport, W: Watch> {
    pub(crate) core: &'c mut Core<T, W>,
    pub(crate) input: BytesMut,
    pub(crate) output: Output,
    parser: HeadParser,
    /// When the first byte of the current request was seen.
    begun: Instant,
    pub(crate) incoming: Incoming,
    body_clock: BodyClock,
    /// What the peer is told if the body failed before the response began.
    body_failure: Option<StatusCode>,
    /// The peer waits for `100 Continue` before it sends its body.
    pub(crate) owes_continue: bool,
    handler_deadline: Option<Instant>,
    /// Since when the transport has taken nothing although output waits.
    pub(crate) write_stalled_since: Option<Instant>,
    /// Responses in the output since it was last empty.
    batched: usize,
    records: SmallVec<[Record; 1]>,
}

/// An exchange whose response was not handed to the transport yet. Exists only for an observer.
struct Record {
    head: Option<Head>,
    status: StatusCode,
    body_bytes: u64,
    begun: Instant,
    outcome: Outcome,
}

/// What comes before an exchange.
enum Next {
    Closed,
    Http2,
    Idle,
    Refused(Refusal),
    Request(Parsed),
}

/// How the handler ended.
pub(crate) enum Called {
    Panicked,
    Response(Response),
    TimedOut,
}

/// What follows an exchange.
pub(crate) enum After {
    /// The connection ends; what the peer still sends is read first if this is set.
    Close {
        linger: bool,
    },
    /// The connection cannot be used any more.
    Abort(ConnectionError),
    Continue,
    End(End),
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
        Self {
            core,
            input,
            output: Output::default(),
            parser: HeadParser::default(),
            begun,
            incoming: Incoming::default(),
            body_clock: BodyClock::default(),
            body_failure: None,
            owes_continue: false,
            handler_deadline: None,
            write_stalled_since: None,
            batched: 0,
            records: SmallVec::new(),
        }
    }

    /// Serves requests until there is nothing to do.
    pub(crate) async fn run<H: Handler>(mut self, handler: &H) -> Result<End, ConnectionError> {
        loop {
            let after = match poll_fn(|cx| self.poll_head(cx)).await? {
                Next::Request(parsed) => self.exchange(handler, parsed).await,
                Next::Idle => return Ok(End::Idle),
                Next::Http2 => return Ok(self.hand_over_http2(Bytes::new())),
                Next::Closed => After::Close { linger: false },
                Next::Refused(refusal) => {
                    self.refuse(refusal, None).await;
                    return Err(ConnectionError::Protocol(refusal.reason()));
                }
            };
            match after {
                After::Continue => {}
                After::End(end) => return Ok(end),
                After::Close { linger } => {
                    self.close(linger).await?;
                    return Ok(End::Closed);
                }
                After::Abort(error) => return Err(error),
            }
        }
    }

    /// What was read so far, and `request`, go to the HTTP/2 driver.
    pub(crate) fn hand_over_http2(&mut self, request: Bytes) -> End {
        let early = self.input.split().freeze();
        End::Handover(Box::new(Handover::Http2 { early, request }))
    }

    /// The head of the next request. Output is written before this waits for input.
    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<Next, ConnectionError>> {
        loop {
            let is_idle = self.input.is_empty() && self.parser.is_fresh();
            if !is_idle && let Some(next) = self.parse_head() {
                return Poll::Ready(Ok(next));
            }
            ready!(self.poll_flush_or_stall(cx, false))?;
            if self.core.read_closed || (is_idle && self.core.is_draining) {
                return Poll::Ready(Ok(Next::Closed));
            }
            if is_idle {
                return Poll::Ready(Ok(Next::Idle));
            }
            match self.poll_read(cx) {
                Poll::Ready(Ok(_)) => continue,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {}
            }
            let deadline = self.head_deadline();
            if ready!(self.core.poll_watch(cx, Some(deadline))) == Alarm::Expired {
                return Poll::Ready(Ok(Next::Refused(Refusal::HeadTooSlow)));
            }
        }
    }

    fn parse_head(&mut self) -> Option<Next> {
        if self.core.sniffs_http2 {
            let len = self.input.len().min(PREFACE.len());
            if self.input.get(..len) == PREFACE.get(..len) {
                return (len == PREFACE.len()).then_some(Next::Http2);
            }
            self.core.sniffs_http2 = false;
        }
        match self.parser.parse(&mut self.input, &self.core.settings.limits) {
            Ok(None) => None,
            Ok(Some(parsed)) => Some(Next::Request(parsed)),
            Err(refusal) => Some(Next::Refused(refusal)),
        }
    }

    /// A fixed time for the whole head, and a least rate after the first second.
    fn head_deadline(&self) -> Instant {
        let limits = &self.core.settings.limits;
        let by_rate = self.input.len() as u64 / limits.head_rate_min.max(1);
        let by_rate = Duration::from_secs(1 + by_rate);
        self.begun + limits.head_timeout.min(by_rate)
    }

    /// Answers one request.
    async fn exchange<H: Handler>(&mut self, handler: &H, parsed: Parsed) -> After {
        let Parsed { head, facts } = parsed;
        self.core.requests += 1;
        if let Some(request) = self.h2c_request(&head, &facts) {
            return self.switch_to_http2(request).await;
        }
        let is_observed = self.core.settings.observer.is_some();
        let kept = (is_observed || facts.offers_upgrade).then(|| head.clone());
        let limits = &self.core.settings.limits;
        let body = match Incoming::start(facts.framing, &mut self.input, limits) {
            Ok((incoming, body)) => {
                self.incoming = incoming;
                body
            }
            Err(refusal) => {
                self.refuse(refusal, kept).await;
                return After::Abort(ConnectionError::Protocol(refusal.reason()));
            }
        };
        self.body_clock = BodyClock::default();
        self.body_failure = None;
        self.owes_continue = facts.expects_continue && !self.incoming.is_done();
        let request = Request::new(head, body, self.core.info.clone());
        let called = {
            // `call` itself runs within the block, so that a panic there is caught as well.
            let mut future = pin!(async move { handler.call(request).await });
            let limit = self.core.settings.limits.handler_timeout;
            self.handler_deadline = limit.map(|limit| self.core.watch.now() + limit);
            poll_fn(|cx| self.poll_call(cx, future.as_mut(), facts.is_http11)).await
        };
        self.handler_deadline = None;
        let after = match called {
            Ok(called) => self.respond(called, &facts, kept).await,
            Err(error) => {
                self.record(kept, CLIENT_CLOSED, 0, Outcome::PeerGone);
                After::Abort(error)
            }
        };
        self.begun = self.core.watch.now();
        after
    }

    /// Polls the handler, and serves it meanwhile: its body, its early hints, earlier output.
    fn poll_call<F: Future<Output = Response>>(
        &mut self,
        cx: &mut Context<'_>,
        mut handler: Pin<&mut F>,
        is_http11: bool,
    ) -> Poll<Result<Called, ConnectionError>> {
        loop {
            self.incoming.wake_when_wanted(cx.waker());
            // The future is not polled again after a panic, so nothing can see it half changed.
            let polled = catch_unwind(AssertUnwindSafe(|| handler.as_mut().poll(cx)));
            self.put_interim(is_http11);
            match polled {
                Err(_) => return Poll::Ready(Ok(Called::Panicked)),
                Ok(Poll::Ready(response)) => return Poll::Ready(Ok(Called::Response(response))),
                Ok(Poll::Pending) => {}
            }
            if self.poll_serve(cx)?.is_ready() {
                continue;
            }
            match ready!(self.poll_alarm(cx)) {
                None => {}
                Some(Cause::Handler) => return Poll::Ready(Ok(Called::TimedOut)),
                Some(Cause::Body) => self.check_body_clock(),
                Some(Cause::Write) => return Poll::Ready(Err(WRITE_STALLED)),
            }
        }
    }

    /// Does what there is to do while a handler or a response's source waits. Ready when it has
    /// reason to be polled again.
    pub(crate) fn poll_serve(&mut self, cx: &mut Context<'_>) -> Result<Poll<()>, ConnectionError> {
        if self.incoming.is_wanted() {
            if self.poll_feed(cx).is_ready() {
                return Ok(Poll::Ready(()));
            }
        } else if self.incoming.is_done() {
            self.read_ahead(cx)?;
        }
        if let Poll::Ready(Err(error)) = self.poll_flush(cx, false) {
            return Err(error);
        }
        Ok(Poll::Pending)
    }

    /// Gives the handler the next piece of the body. Ready when it has one, or will get no more.
    fn poll_feed(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            match self.incoming.feed(&mut self.input, &self.core.settings.limits) {
                Ok(true) => return Poll::Ready(()),
                Ok(false) => {}
                Err(refusal) => {
                    self.fail_body(BodyError::Malformed(refusal.reason()), refusal.status());
                    return Poll::Ready(());
                }
            }
            if std::mem::take(&mut self.owes_continue) && self.input.is_empty() {
                self.output.buffer().extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
            }
            // The peer may wait for this output. If it cannot be written now, reading goes on.
            let flushed = self.poll_flush(cx, false);
            if self.core.read_closed || matches!(flushed, Poll::Ready(Err(_))) {
                self.fail_body(BodyError::Aborted, StatusCode::BAD_REQUEST);
                return Poll::Ready(());
            }
            match self.poll_read(cx) {
                Poll::Ready(Ok(read)) => self.body_clock.receive(read, self.core.watch.now()),
                Poll::Ready(Err(_)) => {
                    self.fail_body(BodyError::Aborted, StatusCode::BAD_REQUEST);
                    return Poll::Ready(());
                }
                Poll::Pending => {
                    self.body_clock.wait(self.core.watch.now());
                    return Poll::Pending;
                }
            }
        }
    }

    fn fail_body(&mut self, error: BodyError, status: StatusCode) {
        self.body_failure = Some(status);
        self.incoming.fail(error);
    }

    pub(crate) fn check_body_clock(&mut self) {
        if self.body_clock.is_late(self.core.watch.now(), &self.core.settings.limits) {
            self.fail_body(BodyError::Timeout, StatusCode::REQUEST_TIMEOUT);
        }
    }

    /// The status that a failed body calls for, whatever the handler made of it.
    pub(crate) fn body_failure(&self) -> Option<StatusCode> {
        let too_large = || self.incoming.is_too_large().then_some(StatusCode::PAYLOAD_TOO_LARGE);
        self.body_failure.or_else(too_large)
    }

    /// Reads a little of what follows the request, which tells whether the peer is still there. Its
    /// end of the stream alone tells nothing: it may have closed only its own direction.
    fn read_ahead(&mut self, cx: &mut Context<'_>) -> Result<(), ConnectionError> {
        while !self.core.read_closed && self.input.len() < pool::READ_BYTES {
            match self.poll_read(cx) {
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) => return Err(error),
                Poll::Pending => break,
            }
        }
        Ok(())
    }

    fn put_interim(&mut self, is_http11: bool) {
        for (_, interim) in self.core.info.take_interim() {
            match interim {
                Interim::Hints(links) if is_http11 => {
                    encode::put_early_hints(self.output.buffer(), &links);
                }
                Interim::Hints(_) | Interim::Push(_) => {}
            }
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
        if read.is_err() {
            self.core.read_closed = true;
        }
        Poll::Ready(read.map_err(io_error))
    }

    fn make_room(&mut self, is_large: bool) {
        if !self.input.is_empty() {
            return self.input.reserve(pool::READ_BYTES);
        }
        let fresh = if is_large { pool::large_read_buffer() } else { pool::read_buffer() };
        pool::give_read_buffer(std::mem::replace(&mut self.input, fresh));
    }

    /// Writes what there is, and reports the exchanges that are complete with it.
    pub(crate) fn poll_flush(
        &mut self,
        cx: &mut Context<'_>,
        more: bool,
    ) -> Poll<Result<(), ConnectionError>> {
        let flushed = self.output.poll_flush(cx, &mut self.core.transport, more);
        match flushed {
            Poll::Ready(Ok(())) => {
                self.write_stalled_since = None;
                self.batched = 0;
                self.output.progress = 0;
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

    /// Notes an exchange for the observer, which hears of it when its last byte is handed over.
    pub(crate) fn record(
        &mut self,
        head: Option<Head>,
        status: StatusCode,
        body_bytes: u64,
        outcome: Outcome,
    ) {
        if self.core.settings.observer.is_none() {
            return;
        }
        self.records.push(Record { head, status, body_bytes, begun: self.begun, outcome });
        if self.output.is_empty() {
            self.report(false);
        }
    }

    fn report(&mut self, is_peer_gone: bool) {
        if self.records.is_empty() {
            return;
        }
        let now = self.core.watch.now();
        for record in std::mem::take(&mut self.records) {
            let is_lost = is_peer_gone && record.outcome == Outcome::Complete;
            if let Some(observer) = &self.core.settings.observer {
                observer.on_exchange(&Exchange {
                    connection: &self.core.info,
                    head: record.head.as_ref(),
                    status: record.status,
                    body_bytes: record.body_bytes,
                    duration: now.saturating_duration_since(record.begun),
                    outcome: if is_lost { Outcome::PeerGone } else { record.outcome },
                });
            }
        }
    }
}

impl<T: Transport, W: Watch> Drop for Active<'_, T, W> {
    fn drop(&mut self) {
        // Whatever was not handed over by now will never be.
        self.report(true);
        self.output.release();
        // The head that was last parsed may share the input: it is gone before this is dropped.
        pool::give_read_buffer(std::mem::take(&mut self.input));
    }
}

/// What logs show where no status was sent because the peer went away first; nginx's number.
pub(crate) const CLIENT_CLOSED: StatusCode = match StatusCode::from_u16(499) {
    Ok(status) => status,
    Err(_) => unreachable!(),
};
/// RFC 9113 §3.4.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// With less room than this a read is not worth its system call.
const READ_ROOM_MIN: usize = 512;
pub(crate) const WRITE_STALLED: ConnectionError =
    ConnectionError::Timeout("the peer takes no output");
