//! From the first byte of a request to the handler's response.

use std::{
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::StatusCode;

use super::{
    active::{Active, Cause, WRITE_STALLED},
    body::Incoming,
    clock::BodyClock,
    core::Alarm,
    encode,
    fields::Framing,
    parse::Parsed,
    refusal::Refusal,
    respond::Slow,
};
use crate::{BodyError, ConnectionError, Request, Response, Transport, Watch, connection::Interim};

/// What a connection does next.
pub(crate) enum Next {
    /// Nothing: wait, and own nothing meanwhile.
    Idle,
    /// Call the handler.
    Request(Request),
    /// Something for which no handler is needed.
    Slow(Slow),
}

/// How the handler ended.
pub(crate) enum Called {
    /// The peer went away before the handler was done.
    Gone(ConnectionError),
    Panicked,
    Response(Response),
    TimedOut,
}

impl<T: Transport, W: Watch> Active<'_, T, W> {
    /// The next request, if there is one. Output is written before this waits for input.
    pub(crate) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Next> {
        loop {
            let is_idle = self.input.is_empty() && self.parser.is_fresh();
            if !is_idle && let Some(next) = self.parse() {
                return Poll::Ready(next);
            }
            // The others that have something to read go first, then all write, one after the other: a peer that
            // is busy with the first answer need not be woken for the next, and waking is what costs most.
            if is_idle && !self.output.is_empty() && !std::mem::replace(&mut self.has_yielded, true)
            {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            if let Err(error) = ready!(self.poll_flush_or_stall(cx, false)) {
                return Poll::Ready(Next::Slow(Slow::Abort(error)));
            }
            self.has_yielded = false;
            if self.core.read_closed || (is_idle && self.core.is_draining) {
                return Poll::Ready(Next::Slow(Slow::Close { linger: false }));
            }
            if is_idle {
                return Poll::Ready(Next::Idle);
            }
            match self.poll_read(cx) {
                Poll::Ready(Ok(_)) if self.must_yield(cx) => return Poll::Pending,
                Poll::Ready(Ok(_)) => continue,
                Poll::Ready(Err(error)) => return Poll::Ready(Next::Slow(Slow::Abort(error))),
                Poll::Pending => {}
            }
            let deadline = self.head_deadline();
            if ready!(self.core.poll_watch(cx, Some(deadline))) == Alarm::Expired {
                return Poll::Ready(Next::Slow(Slow::Refuse(Refusal::HeadTooSlow)));
            }
        }
    }

    /// A fixed time for the whole head, and a least rate after its grace.
    fn head_deadline(&self) -> Instant {
        let limits = &self.core.settings.limits;
        let Some(earned) = (self.input.len() as u64).checked_div(limits.head_rate_min) else {
            return self.begun + limits.head_timeout;
        };
        // Who waits for the end of many heads may run out of connections.
        let is_crowded = self.core.watch.is_crowded();
        let grace = if is_crowded { CROWDED_HEAD_GRACE } else { limits.head_rate_grace };
        let by_rate = grace.min(limits.head_rate_grace) + Duration::from_secs(earned);
        self.begun + limits.head_timeout.min(by_rate)
    }

    fn parse(&mut self) -> Option<Next> {
        if self.core.sniffs_http2 {
            let len = self.input.len().min(PREFACE.len());
            if self.input.get(..len) == PREFACE.get(..len) {
                let is_whole = len == PREFACE.len();
                return is_whole.then(|| Next::Slow(Slow::Http2(Bytes::new())));
            }
            self.core.sniffs_http2 = false;
        }
        let core = &*self.core;
        match self.parser.parse(&mut self.input, &core.settings.limits, &core.info) {
            Ok(None) => None,
            Ok(Some(parsed)) => Some(self.begin(parsed)),
            // RFC 9113 §3.4: no preface, and no request line either. It would take an answer for frames.
            Err(Refusal::Malformed) if core.requests == 0 && is_foreign(&self.input) => {
                Some(Next::Slow(Slow::Abort(ConnectionError::Protocol("this is not HTTP"))))
            }
            Err(refusal) => Some(Next::Slow(Slow::Refuse(refusal))),
        }
    }

    /// Starts an exchange.
    fn begin(&mut self, parsed: Parsed) -> Next {
        let Parsed { mut request, facts } = parsed;
        self.core.requests = self.core.requests.saturating_add(1);
        self.facts = facts;
        if self.core.settings.drop_underscore_fields {
            request.drop_underscore_fields();
        }
        if facts.offers_upgrade
            && let Some(request) = self.h2c_request(request.head())
        {
            return Next::Slow(Slow::SwitchToHttp2(request));
        }
        if facts.offers_upgrade || self.core.settings.observer.is_some() {
            self.keep(request.head());
        }
        if facts.framing != Framing::None {
            let limits = &self.core.settings.limits;
            match Incoming::start(facts.framing, &mut self.input, limits) {
                Ok((incoming, body)) => {
                    self.incoming = incoming;
                    *request.body_mut() = body;
                }
                Err(refusal) => return Next::Slow(Slow::Refuse(refusal)),
            }
            self.body_clock = BodyClock::default();
            self.owes_continue = facts.expects_continue && !self.incoming.is_done();
        } else if !self.incoming.is_fresh() {
            self.incoming = Incoming::default();
        }
        let limit = self.core.settings.limits.handler_timeout;
        self.handler_deadline = limit.map(|limit| self.core.watch.now() + limit);
        Next::Request(request)
    }

    /// Polls the handler, and serves it meanwhile: its body, its early hints, earlier output.
    pub(crate) fn poll_call<F: Future<Output = Response>>(
        &mut self,
        cx: &mut Context<'_>,
        mut handler: Pin<&mut F>,
    ) -> Poll<Called> {
        loop {
            self.incoming.wake_when_wanted(cx.waker());
            // The future is not polled again after a panic, so nothing can see it half changed.
            let polled = catch_unwind(AssertUnwindSafe(|| handler.as_mut().poll(cx)));
            if self.core.info.has_interim() {
                self.put_interim();
            }
            match polled {
                Err(_) => return Poll::Ready(Called::Panicked),
                Ok(Poll::Ready(response)) => return Poll::Ready(Called::Response(response)),
                Ok(Poll::Pending) => {}
            }
            match self.poll_serve(cx) {
                Ok(Poll::Ready(())) => continue,
                Ok(Poll::Pending) => {}
                Err(error) => return Poll::Ready(Called::Gone(error)),
            }
            match ready!(self.poll_alarm(cx)) {
                None => {}
                Some(Cause::Handler) => return Poll::Ready(Called::TimedOut),
                Some(Cause::Body) => self.check_body_clock(),
                Some(Cause::Write) => return Poll::Ready(Called::Gone(WRITE_STALLED)),
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

    fn put_interim(&mut self) {
        for (_, interim) in self.core.info.take_interim() {
            match interim {
                Interim::Hints(links) if self.facts.is_http11 => {
                    encode::put_early_hints(self.output.buffer(), &links);
                }
                Interim::Hints(_) | Interim::Push(_) => {}
            }
        }
    }
}

/// Whether the first line has three words, of which neither the second could be a request target nor the
/// third a protocol version.
fn is_foreign(input: &[u8]) -> bool {
    let line = input.split(|&byte| byte == b'\r').next().unwrap_or_default();
    let words: Vec<&[u8]> = line.split(|&byte| byte == b' ').collect();
    let [_, target, version] = words[..] else { return false };
    let is_target = |word: &[u8]| word.iter().any(|byte| b"/*:?#.".contains(byte));
    !is_target(target) && !version.contains(&b'/')
}

/// How long a head may take while connections are scarce, before its rate counts.
const CROWDED_HEAD_GRACE: Duration = Duration::from_secs(1);
/// RFC 9113 §3.4.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
