//! From the handler's response to the end of the exchange.

use std::{
    future::poll_fn,
    pin::Pin,
    task::{Poll, ready},
    time::Duration,
};

use http::{StatusCode, header};

use super::{
    active::{Active, After, Called},
    core::Alarm,
    encode::{self, Context, Outgoing},
    fields::{Facts, Framing},
    refusal::Refusal,
    send::SendError,
    upgrade::is_offered,
};
use crate::{Body, ConnectionError, Head, Outcome, Response, Transport, Watch};

impl<T: Transport, W: Watch> Active<'_, T, W> {
    /// Sends the response and brings the exchange to its end.
    pub(crate) async fn respond(
        &mut self,
        called: Called,
        facts: &Facts,
        kept: Option<Head>,
    ) -> After {
        let (mut response, mut outcome) = match called {
            Called::Response(response) => (response, Outcome::Complete),
            Called::TimedOut => {
                (Response::status_text(StatusCode::SERVICE_UNAVAILABLE), Outcome::Complete)
            }
            Called::Panicked => {
                (Response::status_text(StatusCode::INTERNAL_SERVER_ERROR), Outcome::Panicked)
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
            if is_offered(facts, kept.as_ref(), response.headers().get(&header::UPGRADE)) {
                return self.switch(response, run, facts, kept).await;
            }
            response = Response::status_text(StatusCode::INTERNAL_SERVER_ERROR);
        }
        if response.status().is_informational() {
            response = Response::status_text(StatusCode::INTERNAL_SERVER_ERROR);
        }

        let status = response.status();
        let close = outcome == Outcome::Panicked || self.must_close(facts, &response);
        let server = self.core.settings.server.as_ref();
        let context = Context { facts, close, server, now: self.core.watch.now() };
        let plan = encode::put_head(self.output.buffer(), &response, &context);
        let mut sent = 0;
        let result = match plan.framing {
            Outgoing::None => Ok(()),
            framing => self.send_body(&mut response, framing, facts, &mut sent).await,
        };
        drop(response);
        let abort = match result {
            Ok(()) => None,
            Err(SendError::Gone(error)) => {
                outcome = Outcome::PeerGone;
                Some(error)
            }
            Err(SendError::Failed(error)) => {
                outcome = Outcome::BodyFailed;
                Some(ConnectionError::BodyFailed(error))
            }
            Err(SendError::Panicked) => {
                outcome = Outcome::Panicked;
                Some(ConnectionError::Panicked)
            }
        };
        self.record(kept, status, sent, outcome);
        match abort {
            Some(error) => self.abort(error).await,
            None => self.finish(plan.close).await,
        }
    }

    /// Answers a request that no handler sees, and closes the connection.
    pub(crate) async fn refuse(&mut self, refusal: Refusal, head: Option<Head>) {
        let response = Response::status_text(refusal.status());
        let server = self.core.settings.server.as_ref();
        let context = Context { facts: &NO_FACTS, close: true, server, now: self.core.watch.now() };
        encode::put_head(self.output.buffer(), &response, &context);
        let text = response.body_len().unwrap_or_default();
        let mut response = response;
        self.output.put_body(response.take_body());
        self.record(head, refusal.status(), text, Outcome::Refused);
        // The answer is a courtesy; whether it arrives changes nothing.
        let _ = self.close(true).await;
    }

    /// Sends the rest and closes. To linger is to read on until the peer has closed too: closing
    /// while its bytes are still coming would reset the connection, and the answer with it.
    pub(crate) async fn close(&mut self, linger: bool) -> Result<(), ConnectionError> {
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

    /// Whether this exchange has to be the last.
    fn must_close(&self, facts: &Facts, response: &Response) -> bool {
        let drain_max = self.core.settings.limits.drain_bytes_max;
        let is_unread = !self.incoming.is_done();
        // A streamed response may be made of the very body that is unread yet.
        let is_rest_too_large = is_unread
            && !matches!(response.plain_body(), Body::Stream(_))
            && self.incoming.remaining().is_some_and(|remaining| remaining > drain_max);
        !facts.persists
            || is_rest_too_large
            || self.incoming.is_broken()
            || self.body_failure().is_some()
            // Nobody knows whether the peer will send the body that it was not asked for.
            || (is_unread && self.owes_continue)
            || (self.core.read_closed && self.input.is_empty())
            || self.core.is_at_end_of_life(self.core.watch.now())
    }

    /// The response is in the output: gets ready for what follows.
    async fn finish(&mut self, close: bool) -> After {
        if close {
            let linger = !self.incoming.is_done() || !self.input.is_empty();
            return After::Close { linger };
        }
        if !self.incoming.is_done() {
            match self.drain().await {
                Ok(true) => {}
                Ok(false) => return After::Close { linger: true },
                Err(error) => return After::Abort(error),
            }
        }
        self.incoming = super::body::Incoming::default();
        if self.batch()
            && let Err(error) = poll_fn(|cx| self.poll_flush_or_stall(cx, false)).await
        {
            return After::Abort(error);
        }
        After::Continue
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

    /// The response cannot be completed: the peer learns that from the early end.
    async fn abort(&mut self, error: ConnectionError) -> After {
        if !matches!(error, ConnectionError::PeerGone | ConnectionError::Timeout(_)) {
            let _ = poll_fn(|cx| self.poll_flush_or_stall(cx, false)).await;
        }
        After::Abort(error)
    }
}

/// What is known of a request that was not understood.
const NO_FACTS: Facts = Facts {
    framing: Framing::None,
    is_http11: true,
    is_head: false,
    persists: false,
    expects_continue: false,
    accepts_trailers: false,
    offers_upgrade: false,
};
/// How long the rest of an unwanted body may take, in place of a new connection.
const DRAIN_TIME_MAX: Duration = Duration::from_secs(1);
