//! The streams of a connection: from a request to the last octet of its response.

use std::{
    any::Any,
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, Version, header};

use super::{
    codec::{Content, Failure, Incoming, Outgoing, Reason, Responder},
    priority::Priority,
    request,
    respond::Framing,
    run::{Ending, Run},
    send::{Sender, Turn, into_bytes},
    slots::{Exchange, Overdue, Stage, bit},
    tunnel::Tunnel,
    upload::Upload,
};
use crate::{
    Body, BodyError, Head, HeadBuilder, Outcome, Request, Response, Transport, Upgraded, Watch,
    connection::Interim, response::OnUpgrade,
};

impl<T, W, C, F> Run<T, W, C, F>
where
    T: Transport,
    W: Watch,
    C: Fn(Request) -> F,
    F: Future<Output = Response>,
{
    /// Takes a request on.
    pub(super) fn admit(&mut self, incoming: Incoming, now: Instant) {
        let Incoming { stream, parts, protocol, content, mut responder } = incoming;
        if self.ending == Ending::Aborted || self.was_reset(stream) {
            return;
        }
        if !self.slots.has_room() {
            return responder.reset(Reason::REFUSED_STREAM);
        }
        self.requests += 1;
        self.ledger.progress();
        if self.requests >= self.settings.limits.requests_per_connection_max {
            self.announce_end(now);
        }
        let limits = &self.settings.limits;
        let mut exchange = Exchange::new(stream, parts.method.clone(), now);
        let head = request::head(&parts, protocol.as_deref(), limits, &mut self.memory);
        let head = match head {
            Ok(head) => head,
            Err(status) => return self.refuse(exchange, responder, status, now),
        };
        if let Some(field) = parts.headers.get("priority") {
            exchange.priority = Priority::parse(field.as_bytes());
        }
        exchange.expects_continue = content.is_some() && parts.headers.contains_key(header::EXPECT);
        let body = self.body(&parts.headers, content, &mut exchange);
        let mut request = Request::new(head, body, Arc::clone(&self.info));
        request.set_stream_id(stream);
        self.start(exchange, responder, request, now);
    }

    /// Polls what a stream's waker rang for.
    pub(super) fn poll_slot(&mut self, index: usize, now: Instant) {
        let Some(slot) = self.slots.get(index) else { return };
        match &mut slot.stage {
            Stage::Handling(_) => self.poll_handler(index, now),
            Stage::Sending(_) => {
                self.turns.enter(index, slot.exchange.stream, slot.exchange.priority);
            }
            Stage::Tunnel(run) => {
                let mut cx = Context::from_waker(&slot.waker);
                match catch_unwind(AssertUnwindSafe(|| run.as_mut().poll(&mut cx))) {
                    Ok(Poll::Pending) => self.ledger.progress(),
                    Ok(Poll::Ready(())) => self.close(index, Outcome::Complete, now),
                    Err(panic) => {
                        self.report_panic(&*panic);
                        self.close(index, Outcome::Panicked, now);
                    }
                }
            }
            Stage::Draining(..) => self.drain_request(index, now),
            Stage::Free | Stage::Flushed | Stage::Flushing(_) => {}
        }
    }

    /// The last frame of a response passed the meter.
    pub(super) fn flushed(&mut self, index: usize, now: Instant) {
        let Some(slot) = self.slots.get(index) else { return };
        if !matches!(slot.stage, Stage::Flushing(_)) {
            return;
        }
        let outcome = slot.exchange.outcome;
        let unread = slot.exchange.upload.as_ref().and_then(|upload| upload.take_unread());
        let Some(content) = unread else { return self.close(index, outcome, now) };
        self.report(index, outcome, now);
        if let Some(slot) = self.slots.get(index) {
            slot.exchange.moved = now;
            slot.stage = Stage::Draining(content, self.settings.limits.drain_bytes_max);
        }
        self.drain_request(index, now);
    }

    /// Reads on in a request that was answered before its end. Past a certain amount, or time, it is
    /// reset with NO_ERROR (RFC 9113 §8.1), which the codec does when the stream is dropped.
    fn drain_request(&mut self, index: usize, now: Instant) {
        let Some(slot) = self.slots.get(index) else { return };
        let Stage::Draining(content, left) = &mut slot.stage else { return };
        let mut cx = Context::from_waker(&slot.waker);
        loop {
            match content.poll_data(&mut cx) {
                Poll::Pending => return,
                Poll::Ready(Some(Ok(data))) if data.len() as u64 <= *left => {
                    content.release(data.len());
                    *left -= data.len() as u64;
                }
                Poll::Ready(_) => return self.close(index, Outcome::Complete, now),
            }
        }
    }

    /// Ends an exchange, whatever state it is in.
    pub(super) fn close(&mut self, index: usize, outcome: Outcome, now: Instant) {
        self.report(index, outcome, now);
        let Some(slot) = self.slots.get(index) else { return };
        // Both belong to the application, whose destructors may panic.
        let dropped = catch_unwind(AssertUnwindSafe(|| {
            slot.future.set(None);
            slot.stage = Stage::Flushed;
        }));
        if let Err(panic) = dropped {
            self.report_panic(&*panic);
        }
        self.turns.leave(index);
        self.slots.close(index, now);
    }

    /// Tells ledger and observer how an exchange ended, once.
    fn report(&mut self, index: usize, outcome: Outcome, now: Instant) {
        let Some(slot) = self.slots.get(index) else { return };
        let exchange = &mut slot.exchange;
        if std::mem::replace(&mut exchange.is_reported, true) {
            return;
        }
        if outcome == Outcome::Complete {
            self.ledger.completed();
        }
        if let Some(observer) = &self.settings.observer {
            let head = exchange.head.as_ref();
            let mut seen = crate::Exchange::new(&self.info, head, exchange.status);
            seen.body_bytes = exchange.body_bytes;
            seen.duration = now.saturating_duration_since(exchange.began);
            seen.outcome = outcome;
            observer.on_exchange(&seen);
        }
    }

    /// A stream's patience, or ours with it, is at its end.
    pub(super) fn overdue(&mut self, index: usize, overdue: Overdue, now: Instant) {
        let Some(slot) = self.slots.get(index) else { return };
        tracing::debug!(connection = self.info.id, stream = slot.exchange.stream, ?overdue);
        match overdue {
            Overdue::Handler => {
                self.drop_handler(index);
                tracing::warn!(connection = self.info.id, index, "a handler exceeded its time");
                self.respond(index, Response::status_text(StatusCode::SERVICE_UNAVAILABLE), now);
            }
            Overdue::Upload => {
                if let Some(upload) = &slot.exchange.upload {
                    upload.time_out();
                }
            }
            Overdue::Drain => self.close(index, Outcome::Complete, now),
            Overdue::Write => {
                slot.reset(Reason::CANCEL);
                self.close(index, Outcome::PeerGone, now);
            }
        }
    }

    /// Lets streams send, the most urgent first, as long as there is room on the wire.
    pub(super) fn pump(&mut self, now: Instant) -> Result<(), Option<Failure>> {
        let mut left = PUMP_BYTES;
        while left > 0 && !self.turns.is_empty() {
            let (has_room, window) = {
                let pipe = self.wire.lock();
                (pipe.has_room(), pipe.send_window())
            };
            if !has_room {
                break;
            }
            if window <= 0 {
                // What needs no window need not wait for one: an end, or trailers.
                for index in self.turns.slots() {
                    self.serve(index, 0, now);
                }
                return self.exchange(now);
            }
            let Some(index) = self.turns.next() else { break };
            let unit = self.unit(index);
            left = left.saturating_sub(self.serve(index, unit, now));
            // What was sent goes to the wire, and a more urgent request may have come.
            self.exchange(now)?;
        }
        Ok(())
    }

    /// How much a stream may send in one turn.
    fn unit(&mut self, index: usize) -> usize {
        match self.slots.get(index) {
            Some(slot) if slot.exchange.priority.incremental => UNIT_INCREMENTAL,
            _ => UNIT,
        }
    }

    /// One turn of one stream; answers how much it sent.
    fn serve(&mut self, index: usize, unit: usize, now: Instant) -> usize {
        let Some(slot) = self.slots.get(index) else {
            self.turns.leave(index);
            return 0;
        };
        let Stage::Sending(sender) = &mut slot.stage else {
            self.turns.leave(index);
            return 0;
        };
        let mut cx = Context::from_waker(&slot.waker);
        let turn = catch_unwind(AssertUnwindSafe(|| sender.turn(&mut cx, unit)));
        if std::mem::take(&mut slot.exchange.awaits_source) {
            slot.exchange.moved = now;
        }
        let Ok(Turn::Sent(len) | Turn::Done(len)) = turn else {
            self.hold(index, turn, now);
            return 0;
        };
        slot.exchange.body_bytes += len as u64;
        slot.exchange.moved = now;
        self.ledger.progress();
        if let Ok(Turn::Done(_)) = turn {
            self.turns.leave(index);
            if let Stage::Sending(sender) = std::mem::replace(&mut slot.stage, Stage::Flushed) {
                slot.stage = Stage::Flushing(sender.into_outgoing());
            }
        }
        len
    }

    /// A turn in which nothing was sent.
    fn hold(&mut self, index: usize, turn: std::thread::Result<Turn>, now: Instant) {
        let Some(slot) = self.slots.get(index) else { return };
        match turn {
            Ok(Turn::Held | Turn::Sent(_) | Turn::Done(_)) => {}
            Ok(Turn::Blocked) => self.turns.leave(index),
            Ok(Turn::Waiting) => {
                slot.exchange.awaits_source = true;
                self.turns.leave(index);
            }
            Ok(Turn::Gone) => self.close(index, Outcome::PeerGone, now),
            Ok(Turn::Failed(error)) => {
                slot.reset(Reason::INTERNAL_ERROR);
                self.report_body(index, &error);
                self.close(index, Outcome::BodyFailed, now);
            }
            Err(panic) => {
                slot.reset(Reason::INTERNAL_ERROR);
                self.report_panic(&*panic);
                self.close(index, Outcome::Panicked, now);
            }
        }
    }

    /// Whether the peer has reset a stream that was not accepted yet.
    fn was_reset(&self, stream: u32) -> bool {
        let pipe = &mut *self.wire.lock();
        pipe.inbound.signals().resets.iter().any(|(reset, _)| *reset == stream)
    }

    /// Answers a request that no handler sees.
    fn refuse(
        &mut self,
        mut exchange: Exchange,
        responder: Responder,
        status: StatusCode,
        now: Instant,
    ) {
        exchange.outcome = Outcome::Refused;
        if let Err(abuse) = self.ledger.own_reset() {
            self.caught = Some(abuse);
        }
        if let Some(index) = self.slots.open(exchange, responder) {
            self.respond(index, Response::status_text(status), now);
        }
    }

    /// The content of a request as the handler gets it.
    fn body(&self, fields: &HeaderMap, content: Option<Content>, exchange: &mut Exchange) -> Body {
        let Some(content) = content else { return Body::Empty };
        if exchange.method == Method::CONNECT {
            exchange.content = Some(content);
            return Body::Empty;
        }
        let length = fields.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok());
        let length = length.and_then(|digits| digits.parse().ok());
        let upload = Upload::new(content, length, &self.settings.limits);
        exchange.upload = Some(upload.progress());
        Body::stream(upload)
    }

    /// Calls the handler.
    fn start(
        &mut self,
        mut exchange: Exchange,
        responder: Responder,
        request: Request,
        now: Instant,
    ) {
        if self.settings.observer.is_some() || self.settings.push {
            exchange.head = Some(request.head().clone());
        }
        let Some(index) = self.slots.open(exchange, responder) else { return };
        if let Some(slot) = self.slots.get(index) {
            slot.future.set(Some((self.call)(request)));
        }
        self.poll_handler(index, now);
    }

    fn poll_handler(&mut self, index: usize, now: Instant) {
        let Some(slot) = self.slots.get(index) else { return };
        let mut cx = Context::from_waker(&slot.waker);
        let future = slot.future.as_mut();
        let poll = AssertUnwindSafe(|| future.as_pin_mut().map(|future| future.poll(&mut cx)));
        let polled = catch_unwind(poll);
        self.heed_interims(now);
        match polled {
            Ok(None) => {}
            Ok(Some(Poll::Pending)) => self.heed_upload(index, now),
            Ok(Some(Poll::Ready(response))) => {
                self.drop_handler(index);
                self.respond(index, response, now);
            }
            Err(panic) => {
                self.report_panic(&*panic);
                self.drop_handler(index);
                if let Some(slot) = self.slots.get(index) {
                    slot.exchange.outcome = Outcome::Panicked;
                }
                self.respond(index, Response::status_text(StatusCode::INTERNAL_SERVER_ERROR), now);
            }
        }
    }

    fn drop_handler(&mut self, index: usize) {
        let Some(slot) = self.slots.get(index) else { return };
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| slot.future.set(None))) {
            self.report_panic(&*panic);
        }
    }

    /// The handler waits: perhaps for content, perhaps for content that waits for `100 Continue`.
    fn heed_upload(&mut self, index: usize, now: Instant) {
        let Some(slot) = self.slots.get(index) else { return };
        if slot.exchange.upload_moved(now) {
            self.ledger.progress();
        }
        let exchange = &mut slot.exchange;
        if exchange.expects_continue
            && exchange.upload.as_ref().is_some_and(|upload| upload.is_asked())
            && let Stage::Handling(responder) = &mut slot.stage
        {
            exchange.expects_continue = false;
            responder.send_interim(StatusCode::CONTINUE, HeaderMap::new());
        }
    }

    /// Sends what handlers asked for before their responses.
    fn heed_interims(&mut self, now: Instant) {
        for (stream, interim) in self.info.take_interim() {
            let Some(index) = self.slots.find(stream) else { continue };
            match interim {
                Interim::Hints(links) => self.send_hints(index, links),
                Interim::Push(target) => self.push(index, &target, now),
            }
        }
    }

    fn send_hints(&mut self, index: usize, links: Vec<HeaderValue>) {
        if let Some(slot) = self.slots.get(index)
            && let Stage::Handling(responder) = &mut slot.stage
        {
            let mut fields = HeaderMap::with_capacity(links.len());
            for link in links {
                let _ = fields.try_append(header::LINK, link);
            }
            responder.send_interim(StatusCode::EARLY_HINTS, fields);
        }
    }

    /// Promises a response to `target` and lets the handler make it. Without effect where push is off,
    /// the peer has disabled it, or the target is malformed.
    fn push(&mut self, index: usize, target: &str, now: Instant) {
        if !self.settings.push || !self.slots.has_room() {
            return;
        }
        let scheme = self.info.scheme();
        let Some(slot) = self.slots.get(index) else { return };
        let (Stage::Handling(responder), Some(head)) = (&mut slot.stage, &slot.exchange.head)
        else {
            return;
        };
        let Some((uri, head)) = promised(head, scheme, target) else { return };
        let mut fields = head.header_map();
        fields.remove(header::HOST);
        let Some((stream, responder)) = responder.push(uri, fields) else { return };
        let exchange = Exchange::new(stream, Method::GET, now);
        let mut request = Request::new(head, Body::Empty, Arc::clone(&self.info));
        request.set_stream_id(stream);
        self.start(exchange, responder, request, now);
    }

    /// Sends the head of a response, and its content if that is small.
    fn respond(&mut self, index: usize, mut response: Response, now: Instant) {
        let Some(slot) = self.slots.get(index) else { return };
        let failure = slot.exchange.upload.as_ref().and_then(|upload| upload.failure());
        if let Some(status) = failure {
            // As in HTTP/1.1, where the rest of the content makes the connection unusable.
            response = Response::status_text(status);
        }
        if let Some(run) = response.take_upgrade() {
            return self.upgrade(index, &response, run, now);
        }
        if response.status().is_informational() {
            response = Response::status_text(StatusCode::INTERNAL_SERVER_ERROR);
        }
        let framing = Framing::of(&response, &slot.exchange.method);
        let fields = self.heads.fields(response.headers(), framing, now);
        let Stage::Handling(responder) = &mut slot.stage else { return };
        slot.exchange.status = response.status();
        slot.exchange.moved = now;
        match responder.send_head(response.status(), fields, !framing.has_content) {
            Err(_) => self.close(index, Outcome::PeerGone, now),
            Ok(outgoing) if !framing.has_content => slot.stage = Stage::Flushing(outgoing),
            Ok(outgoing) => {
                let body = match response.as_prepared() {
                    Some(prepared) => Body::Bytes(prepared.body.clone()),
                    None => response.take_body(),
                };
                self.send(index, outgoing, body, framing.length, now);
            }
        }
    }

    fn send(
        &mut self,
        index: usize,
        mut outgoing: Outgoing,
        body: Body,
        length: Option<u64>,
        now: Instant,
    ) {
        let Some(slot) = self.slots.get(index) else { return };
        let exchange = &mut slot.exchange;
        let in_memory = !matches!(body, Body::File(_) | Body::Stream(_));
        let is_small = in_memory && length.is_some_and(|len| len <= SMALL);
        if is_small && !self.turns.is_waiting(exchange.priority.urgency) {
            exchange.body_bytes = length.unwrap_or_default();
            if outgoing.send(into_bytes(body), true).is_ok() {
                slot.stage = Stage::Flushing(outgoing);
            } else {
                self.close(index, Outcome::PeerGone, now);
            }
            return;
        }
        self.turns.enter(index, exchange.stream, exchange.priority);
        slot.stage = Stage::Sending(Box::new(Sender::new(outgoing, body, length)));
    }

    /// Turns the stream into a stream of bytes.
    fn upgrade(&mut self, index: usize, response: &Response, run: OnUpgrade, now: Instant) {
        let Some(slot) = self.slots.get(index) else { return };
        if slot.exchange.method != Method::CONNECT {
            let error = Response::status_text(StatusCode::INTERNAL_SERVER_ERROR);
            return self.respond(index, error, now);
        }
        let framing = Framing { has_content: true, length: None };
        let fields = self.heads.fields(response.headers(), framing, now);
        let Stage::Handling(responder) = &mut slot.stage else { return };
        slot.exchange.status = StatusCode::OK;
        let Ok(outgoing) = responder.send_head(StatusCode::OK, fields, false) else {
            return self.close(index, Outcome::PeerGone, now);
        };
        let tunnel = Tunnel::new(slot.exchange.content.take(), outgoing);
        let upgraded = Upgraded::new(Bytes::new(), Box::new(tunnel));
        match catch_unwind(AssertUnwindSafe(|| run(upgraded))) {
            Ok(future) => {
                slot.stage = Stage::Tunnel(future);
                self.ready.set(bit(index));
            }
            Err(panic) => {
                self.report_panic(&*panic);
                self.close(index, Outcome::Panicked, now);
            }
        }
    }

    fn report_panic(&self, panic: &(dyn Any + Send)) {
        let message = panic.downcast_ref::<&str>().copied();
        let message = message.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
        tracing::error!(connection = self.info.id, message, "a handler panicked");
    }

    fn report_body(&self, index: usize, error: &BodyError) {
        let error = error as &dyn std::error::Error;
        tracing::warn!(connection = self.info.id, index, error, "a response could not be finished");
    }
}

/// The request that a push promise stands for: what the client would have sent.
fn promised(head: &Head, scheme: &str, target: &str) -> Option<(Uri, Head)> {
    let authority = head.authority()?;
    let builder = Uri::builder().scheme(scheme).authority(authority).path_and_query(target);
    let uri = builder.build().ok()?;
    let memory = BytesMut::with_capacity(256);
    let mut promised = HeadBuilder::new(Method::GET, target, Version::HTTP_2, memory)
        .authority(authority)
        .field(b"host", authority.as_bytes());
    for name in ["accept-encoding", "accept-language", "user-agent"] {
        if let Some(value) = head.header(name) {
            promised = promised.field(name.as_bytes(), value);
        }
    }
    let head = promised.build().ok()?;
    target.starts_with('/').then_some((uri, head))
}

/// Content up to this length goes to the codec with its head, if nobody more urgent waits.
const SMALL: u64 = 16 * 1024;
/// What one stream sends before others are asked.
const UNIT: usize = 64 * 1024;
/// The same where sharing is of use: one frame.
const UNIT_INCREMENTAL: usize = 16 * 1024;
/// What all streams send before the transport is looked at again.
const PUMP_BYTES: usize = 256 * 1024;
