//! From the handler's response to the next request, or to the end of the connection.

use std::{
    future::poll_fn,
    pin::Pin,
    task::{Poll, ready},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{StatusCode, header};

use super::{
    End,
    active::Active,
    core::Alarm,
    encode::{self, Context, Outgoing, Plan},
    exchange::Called,
    fields::Facts,
    refusal::Refusal,
    send::SendError,
};
use crate::{Body, ConnectionError, Outcome, Response, Transport, Watch, response::OnUpgrade};

/// What takes more than a moment. The usual request needs none of this, so that the future which
/// does it all is only made when it is needed.
pub(crate) enum Slow {
    /// The connection cannot be used any more.
    Abort(ConnectionError),
    /// The connection ends in good order; what the peer still sends is read first where `linger`.
    Close {
        linger: bool,
    },
    /// Read the rest of a body that nobody wanted.
    Drain,
    /// Write before more is answered.
    Flush,
    /// The peer speaks HTTP/2.
    Http2(Bytes),
    Refuse(Refusal),
    /// The head is in the output; the body follows.
    Send(Response, Plan),
    /// Give the stream to the handler's new protocol.
    Switch(Response, OnUpgrade),
    /// Go on as HTTP/2, with this as the first request.
    SwitchToHttp2(Bytes),
}

impl<T: Transport, W: Watch> Active<'_, T, W> {
    /// Puts the response into the output; answers what else has to be done for it.
    pub(crate) fn respond(&mut self, called: Called) -> Option<Slow> {
        self.handler_deadline = None;
        let mut outcome = Outcome::Complete;
        let mut response = match called {
            Called::Response(response) => response,
            Called::Panicked => {
                outcome = Outcome::Panicked;
                Response::status_text(StatusCode::INTERNAL_SERVER_ERROR)
            }
            Called::TimedOut => {
                tracing::warn!(connection = self.core.info.id, "a handler exceeded its time");
                Response::status_text(StatusCode::SERVICE_UNAVAILABLE)
            }
            Called::Gone(error) => {
                self.record(CLIENT_CLOSED, 0, Outcome::PeerGone);
                return Some(Slow::Abort(error));
            }
        };
        // A body that broke its framing, its limit or its time decides about the status.
        if let Some(status) = self.body_failure()
            && response.status() != status
            && outcome == Outcome::Complete
        {
            response = Response::status_text(status);
        }
        if let Some(run) = response.take_upgrade() {
            if self.is_offered(response.headers().get(&header::UPGRADE)) {
                return Some(Slow::Switch(response, run));
            }
            response = Response::status_text(StatusCode::INTERNAL_SERVER_ERROR);
        }
        if response.status().is_informational() {
            response = Response::status_text(StatusCode::INTERNAL_SERVER_ERROR);
        }

        let close = outcome == Outcome::Panicked || self.must_close(&response);
        let now = self.core.watch.now();
        let plan = self.put_head(&response, close, now);
        let sent = match plan.framing {
            Outgoing::None => 0,
            _ => match self.put_small_body(&response) {
                Some(len) => len,
                None => return Some(Slow::Send(response, plan)),
            },
        };
        self.record(response.status(), sent, outcome);
        drop(response);
        self.finish(plan.close, now)
    }

    fn put_head(&mut self, response: &Response, close: bool, now: Instant) -> Plan {
        let server = self.core.settings.server.as_ref();
        let context = Context { facts: &self.facts, close, server, now };
        encode::put_head(self.output.buffer(), response, &context)
    }

    /// The status that a failed body calls for, whatever the handler made of it.
    fn body_failure(&self) -> Option<StatusCode> {
        let too_large = || self.incoming.is_too_large().then_some(StatusCode::PAYLOAD_TOO_LARGE);
        self.body_failure.or_else(too_large)
    }

    /// Whether this exchange has to be the last.
    fn must_close(&self, response: &Response) -> bool {
        let has_rest = !self.incoming.is_done() && self.must_close_for_rest(response);
        !self.facts.persists
            || has_rest
            || self.body_failure().is_some()
            || (self.core.read_closed && self.input.is_empty())
            || self.core.is_at_end_of_life(self.begun)
    }

    /// Whether what is unread of the request's body forbids to go on behind it.
    fn must_close_for_rest(&self, response: &Response) -> bool {
        let drain_max = self.core.settings.limits.drain_bytes_max;
        // A streamed response may be made of the very body that is unread yet.
        let is_too_large = !matches!(response.plain_body(), Body::Stream(_))
            && self.incoming.remaining().is_some_and(|remaining| remaining > drain_max);
        // A peer that was not asked for its body may send it or not: nobody knows.
        is_too_large || self.incoming.is_broken() || self.owes_continue
    }

    /// The response is in the output, or sent: what has to be done before the next request?
    fn finish(&mut self, close: bool, now: Instant) -> Option<Slow> {
        let is_unread = !self.incoming.is_done();
        if close {
            return Some(Slow::Close { linger: is_unread || !self.input.is_empty() });
        }
        if is_unread {
            return Some(Slow::Drain);
        }
        if !self.input.is_empty() {
            self.begun = now;
        }
        self.batch().then_some(Slow::Flush)
    }

    /// Does what takes time; answers how the activity ends, unless it goes on.
    pub(crate) async fn slow(&mut self, slow: Slow) -> Result<Option<End>, ConnectionError> {
        let mut next = Some(slow);
        while let Some(slow) = next {
            next = match slow {
                Slow::Abort(error) => return Err(error),
                Slow::Close { linger } => {
                    self.close(linger).await?;
                    return Ok(Some(End::Closed));
                }
                Slow::Drain => match self.drain().await? {
                    true => self.finish(false, self.core.watch.now()),
                    false => Some(Slow::Close { linger: true }),
                },
                Slow::Flush => {
                    poll_fn(|cx| self.poll_flush_or_stall(cx, false)).await?;
                    None
                }
                Slow::Http2(request) => return Ok(Some(self.hand_over_http2(request))),
                Slow::Refuse(refusal) => return Err(self.refuse(refusal).await),
                Slow::Send(response, plan) => {
                    self.send(response, plan).await?;
                    self.finish(plan.close, self.core.watch.now())
                }
                Slow::Switch(response, run) => return self.switch(response, run).await.map(Some),
                Slow::SwitchToHttp2(request) => {
                    return self.switch_to_http2(request).await.map(Some);
                }
            };
        }
        Ok(None)
    }

    /// Sends a body that is not small, or not there yet.
    async fn send(&mut self, response: Response, plan: Plan) -> Result<(), ConnectionError> {
        let status = response.status();
        let mut sent = 0;
        let result = self.send_body(response, plan.framing, &mut sent).await;
        let (outcome, error) = match result {
            Ok(()) => {
                self.record(status, sent, Outcome::Complete);
                return Ok(());
            }
            Err(SendError::Gone(error)) => (Outcome::PeerGone, error),
            Err(SendError::Failed(error)) => {
                (Outcome::BodyFailed, ConnectionError::BodyFailed(error))
            }
            Err(SendError::Panicked) => (Outcome::Panicked, ConnectionError::Panicked),
        };
        self.record(status, sent, outcome);
        // The peer gets what there is, and learns from the early end that it is not all.
        if outcome != Outcome::PeerGone {
            let _ = poll_fn(|cx| self.poll_flush_or_stall(cx, false)).await;
        }
        Err(error)
    }

    /// Answers a request that no handler sees; the connection ends.
    async fn refuse(&mut self, refusal: Refusal) -> ConnectionError {
        self.facts = Facts::NONE;
        let response = Response::status_text(refusal.status());
        self.put_head(&response, true, self.core.watch.now());
        let sent = self.put_small_body(&response).unwrap_or_default();
        self.record(refusal.status(), sent, Outcome::Refused);
        // The answer is a courtesy; whether it arrives changes nothing.
        let _ = self.close(true).await;
        ConnectionError::Protocol(refusal.reason())
    }

    /// Sends the rest and closes. To linger is to read on until the peer has closed too: closing
    /// while its bytes are still coming would reset the connection, and the answer with it.
    async fn close(&mut self, linger: bool) -> Result<(), ConnectionError> {
        poll_fn(|cx| self.poll_flush_or_stall(cx, false)).await?;
        self.incoming.detach();
        let deadline = self.core.watch.now() + self.core.settings.limits.linger_timeout;
        let mut is_shut = false;
        poll_fn(|cx| {
            loop {
                if !is_shut {
                    match Pin::new(&mut self.core.transport).poll_shutdown(cx) {
                        Poll::Ready(Ok(())) => is_shut = true,
                        Poll::Ready(Err(_)) => return Poll::Ready(()),
                        Poll::Pending => {}
                    }
                }
                if is_shut {
                    if !linger || self.core.read_closed || self.core.watch.now() >= deadline {
                        return Poll::Ready(());
                    }
                    self.input.clear();
                    if self.poll_read(cx).is_ready() {
                        continue;
                    }
                }
                if ready!(self.core.poll_watch(cx, Some(deadline))) == Alarm::Expired {
                    return Poll::Ready(());
                }
            }
        })
        .await;
        Ok(())
    }

    /// Reads the rest of a body that nobody wanted, within limits; answers whether that was all.
    pub(crate) async fn drain(&mut self) -> Result<bool, ConnectionError> {
        self.incoming.detach();
        let deadline = self.core.watch.now() + DRAIN_TIME_MAX;
        let mut left = self.core.settings.limits.drain_bytes_max;
        poll_fn(|cx| {
            loop {
                if self.incoming.is_done() || self.incoming.is_broken() {
                    return Poll::Ready(Ok(self.incoming.is_done()));
                }
                match self.incoming.discard(&mut self.input, &self.core.settings.limits) {
                    Ok(Some(discarded)) if discarded <= left => {
                        left -= discarded;
                        continue;
                    }
                    Ok(Some(_)) | Err(_) => return Poll::Ready(Ok(false)),
                    Ok(None) => {}
                }
                // The peer may wait for the response before it sends the rest.
                if let Poll::Ready(Err(error)) = self.poll_flush(cx, false) {
                    return Poll::Ready(Err(error));
                }
                if self.core.read_closed {
                    return Poll::Ready(Ok(false));
                }
                if self.poll_read(cx)?.is_ready() {
                    continue;
                }
                if ready!(self.core.poll_watch(cx, Some(deadline))) == Alarm::Expired {
                    return Poll::Ready(Ok(false));
                }
            }
        })
        .await
    }
}

/// How long the rest of an unwanted body may take, in place of a new connection.
const DRAIN_TIME_MAX: Duration = Duration::from_secs(1);
/// What logs show where no status was sent because the peer went away first; nginx's number.
pub(crate) const CLIENT_CLOSED: StatusCode = match StatusCode::from_u16(499) {
    Ok(status) => status,
    Err(_) => unreachable!(),
};
