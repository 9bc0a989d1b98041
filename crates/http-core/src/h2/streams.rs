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
use http::{HeaderMap, HeaderValue, Method, StatusCode, Version, header};

use super::{
    channel::{Channel, Tunnel, Upload},
    frame::Reason,
    head::Received,
    respond::Framing,
    run::Run,
    send::{Next, Sender, into_bytes},
    slots::{Exchange, Overdue, Stage, TunnelStage},
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
    pub(super) fn admit(&mut self, stream: u32, received: Received, ends: bool, now: Instant) {
        let limits = &self.settings.limits;
        let streams_max = usize::try_from(limits.h2_streams_max).unwrap_or(usize::MAX);
        if self.slots.live() - self.pushes >= streams_max || !self.slots.has_room() {
            return self.link.put_reset(stream, Reason::RefusedStream);
        }
        self.requests += 1;
        self.ledger.progress();
        if self.requests >= limits.requests_per_connection_max {
            self.announce_end(now);
        }
        let Received { method, content_length, expects_continue, priority, head, .. } = received;
        let mut exchange = Exchange::new(stream, method, now);
        exchange.priority = priority;
        exchange.send_window = self.link.peer.initial_window;
        exchange.recv_window = self.link.stream_window;
        exchange.is_received = ends;
        exchange.content_left = content_length.filter(|_| !ends);
        exchange.expects_continue = expects_continue && !ends;
        match head {
            Ok(head) => self.start(exchange, head, now),
            Err(status) => self.refuse(exchange, status, now),
        }
    }

    /// Resets a stream that has no place, because of something that the peer did.
    pub(super) fn refuse_stream(&mut self, stream: u32, reason: Reason, now: Instant) {
        if let Some(index) = self.slots.find(stream) {
            return self.reset(index, reason, now);
        }
        self.link.put_reset(stream, reason);
        self.blame(reason);
    }

    /// Resets a stream.
    pub(super) fn reset(&mut self, index: usize, reason: Reason, now: Instant) {
        let Some(slot) = self.slots.get(index) else { return };
        self.link.put_reset(slot.exchange.stream, reason);
        self.blame(reason);
        self.close(index, Outcome::PeerGone, now);
    }

    /// The window of a stream was opened, perhaps.
    pub(super) fn unblock(&mut self, index: usize) {
        if let Some(slot) = self.slots.get(index)
            && slot.exchange.send_window > 0
            && matches!(slot.stage, Stage::Sending(_) | Stage::Tunnel(_))
        {
            self.turns.enter(index, slot.exchange.stream, slot.exchange.priority);
        }
    }

    /// Polls what a stream's waker rang for.
    pub(super) fn poll_slot(&mut self, index: usize, now: Instant) {
        self.heed_channel(index);
        let Some(slot) = self.slots.get(index) else { return };
        match &mut slot.stage {
            Stage::Handling => self.poll_handler(index, now),
            Stage::Sending(_) => {
                self.turns.enter(index, slot.exchange.stream, slot.exchange.priority);
            }
            Stage::Tunnel(_) => self.poll_tunnel(index, now),
            Stage::Draining(_) | Stage::Free | Stage::Done => {}
        }
    }

    /// Ends an exchange, whatever state it is in.
    pub(super) fn close(&mut self, index: usize, outcome: Outcome, now: Instant) {
        self.report(index, outcome, now);
        let Some(slot) = self.slots.get(index) else { return };
        if slot.exchange.stream % 2 == 0 {
            self.pushes -= 1;
        }
        if let Some(channel) = slot.exchange.channel.take() {
            channel.fail(BodyError::Aborted, None);
            self.link.give_back(channel.leave());
        }
        // Both belong to the application, whose destructors may panic.
        let dropped = catch_unwind(AssertUnwindSafe(|| {
            slot.future.set(None);
            slot.stage = Stage::Done;
        }));
        if let Err(panic) = dropped {
            self.report_panic(&*panic);
        }
        self.turns.leave(index);
        self.slots.close(index);
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
                if let Some(channel) = &slot.exchange.channel {
                    channel.fail(BodyError::Timeout, Some(StatusCode::REQUEST_TIMEOUT));
                }
            }
            Overdue::Drain => self.reset(index, Reason::NoError, now),
            Overdue::Write => self.reset(index, Reason::Cancel, now),
        }
    }

    /// Lets streams send, the most urgent first, as long as there is room for output.
    pub(super) fn pump(&mut self, now: Instant) {
        let output_max = self.settings.limits.output_bytes_max;
        while !self.turns.is_empty() && self.link.out.pending() < output_max {
            if self.link.send_window <= 0 {
                // What needs no window need not wait for one: an end, or trailers.
                for index in self.turns.slots() {
                    self.serve(index, now);
                }
                return;
            }
            let Some(index) = self.turns.next() else { return };
            self.serve(index, now);
        }
    }

    /// One turn of one stream: a frame, or a few where whole responses go first.
    fn serve(&mut self, index: usize, now: Instant) {
        let is_incremental =
            self.slots.get(index).is_some_and(|slot| slot.exchange.priority.incremental);
        let frames = if is_incremental { 1 } else { FRAMES_PER_TURN };
        for _ in 0..frames {
            if !self.serve_frame(index, now) {
                return;
            }
        }
    }

    /// Sends one frame. False if the stream's turn is over.
    fn serve_frame(&mut self, index: usize, now: Instant) -> bool {
        let Some(slot) = self.slots.get(index) else {
            self.turns.leave(index);
            return false;
        };
        let sender = match &mut slot.stage {
            Stage::Sending(sender) => Some(&mut **sender),
            Stage::Tunnel(tunnel) => tunnel.sender.as_mut(),
            _ => None,
        };
        let Some(sender) = sender else {
            self.turns.leave(index);
            return false;
        };
        let window = self.link.send_window.min(slot.exchange.send_window);
        let window = usize::try_from(window).unwrap_or(0);
        if window == 0 && sender.is_in_file() {
            // A stream waits for its own window by itself, for the connection's in its turn.
            if slot.exchange.send_window <= 0 {
                self.turns.leave(index);
            }
            return false;
        }
        let mut cx = Context::from_waker(&slot.waker);
        let next = catch_unwind(AssertUnwindSafe(|| sender.next(&mut cx, window)));
        if std::mem::take(&mut slot.exchange.awaits_source) {
            slot.exchange.moved = now;
        }
        match next {
            Ok(Next::Content(len)) => {
                if window == 0 {
                    if slot.exchange.send_window <= 0 {
                        self.turns.leave(index);
                    }
                    return false;
                }
                let len = len.min(window).min(self.link.peer.frame_max).min(CONTENT_MAX);
                let (content, is_end) = sender.take(len);
                slot.exchange.send_window -= len as i64;
                slot.exchange.body_bytes += len as u64;
                slot.exchange.moved = now;
                self.link.put_data(slot.exchange.stream, content, is_end);
                self.ledger.progress();
                if is_end {
                    self.sent(index, now);
                }
                !is_end
            }
            Ok(Next::End(trailers)) => {
                self.put_end(index, trailers, now);
                false
            }
            Ok(Next::Waiting) => {
                slot.exchange.awaits_source = true;
                self.turns.leave(index);
                false
            }
            Ok(Next::Failed(error)) => {
                self.report_body(index, &error);
                self.fail(index, Outcome::BodyFailed, now);
                false
            }
            Err(panic) => {
                self.report_panic(&*panic);
                self.fail(index, Outcome::Panicked, now);
                false
            }
        }
    }

    fn put_end(&mut self, index: usize, trailers: Option<HeaderMap>, now: Instant) {
        let Some(slot) = self.slots.get(index) else { return };
        let stream = slot.exchange.stream;
        match trailers {
            None => self.link.put_data(stream, Bytes::new(), true),
            Some(trailers) => self.link.put_fields(stream, true, |encoder, out| {
                for (name, value) in &trailers {
                    encoder.field(out, name, value);
                }
            }),
        }
        self.sent(index, now);
    }

    /// A response that cannot be finished: nothing of ours can be said any more.
    fn fail(&mut self, index: usize, outcome: Outcome, now: Instant) {
        if let Some(slot) = self.slots.get(index) {
            self.link.put_reset(slot.exchange.stream, Reason::Internal);
        }
        self.close(index, outcome, now);
    }

    /// The last frame of a response was put into the output.
    fn sent(&mut self, index: usize, now: Instant) {
        self.turns.leave(index);
        let Some(slot) = self.slots.get(index) else { return };
        let outcome = slot.exchange.outcome;
        if let Stage::Tunnel(tunnel) = &mut slot.stage {
            tunnel.sender = None;
            if tunnel.run.is_none() {
                self.finish(index, outcome, now);
            }
            return;
        }
        self.finish(index, outcome, now);
    }

    /// Our side of the stream is closed.
    fn finish(&mut self, index: usize, outcome: Outcome, now: Instant) {
        let Some(slot) = self.slots.get(index) else { return };
        if slot.exchange.is_received {
            return self.close(index, outcome, now);
        }
        // The rest of a request that was answered before its end is read for a while: past a certain
        // amount, or time, it is reset with NO_ERROR (RFC 9113 §8.1).
        self.report(index, outcome, now);
        let Some(slot) = self.slots.get(index) else { return };
        slot.exchange.moved = now;
        slot.stage = Stage::Draining(self.settings.limits.drain_bytes_max);
        if let Some(channel) = slot.exchange.channel.take() {
            channel.fail(BodyError::Aborted, None);
            self.link.give_back(channel.leave());
        }
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

    /// A stream went wrong by the peer's fault.
    fn blame(&mut self, reason: Reason) {
        let is_ours = matches!(
            reason,
            Reason::NoError | Reason::Cancel | Reason::Internal | Reason::RefusedStream
        );
        if !is_ours && let Err(abuse) = self.ledger.own_reset() {
            self.caught = Some(abuse);
        }
    }

    /// Answers a request that no handler sees.
    fn refuse(&mut self, mut exchange: Exchange, status: StatusCode, now: Instant) {
        exchange.outcome = Outcome::Refused;
        self.blame(Reason::Protocol);
        if let Some(index) = self.slots.open(exchange) {
            self.respond(index, Response::status_text(status), now);
        }
    }

    /// Calls the handler.
    fn start(&mut self, mut exchange: Exchange, head: Head, now: Instant) {
        if self.settings.observer.is_some() || self.settings.push {
            exchange.head = Some(head.clone());
        }
        let stream = exchange.stream;
        let has_content = !exchange.is_received;
        let is_connect = exchange.method == Method::CONNECT;
        let length = exchange.content_left;
        let Some(index) = self.slots.open(exchange) else { return };
        let Some(slot) = self.slots.get(index) else { return };
        let mut body = Body::Empty;
        if has_content {
            let bytes_max = self.settings.limits.body_bytes_max;
            let channel = Channel::new(length, bytes_max, slot.waker.clone());
            slot.exchange.channel = Some(Arc::clone(&channel));
            if !is_connect {
                body = Body::stream(Upload::new(channel));
            }
        }
        let mut request = Request::new(head, body, Arc::clone(&self.info));
        if self.settings.drop_underscore_fields {
            request.drop_underscore_fields();
        }
        request.set_stream_id(stream);
        slot.future.set(Some((self.call)(request)));
        self.poll_handler(index, now);
    }

    fn poll_handler(&mut self, index: usize, now: Instant) {
        let Some(slot) = self.slots.get(index) else { return };
        let mut cx = Context::from_waker(&slot.waker);
        let future = slot.future.as_mut();
        let poll = AssertUnwindSafe(|| future.as_pin_mut().map(|future| future.poll(&mut cx)));
        let polled = catch_unwind(poll);
        self.heed_interims(now);
        self.heed_channel(index);
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

    fn poll_tunnel(&mut self, index: usize, now: Instant) {
        let Some(slot) = self.slots.get(index) else { return };
        let Stage::Tunnel(tunnel) = &mut slot.stage else { return };
        let mut polled = Ok(Poll::Pending);
        if let Some(run) = &mut tunnel.run {
            let mut cx = Context::from_waker(&slot.waker);
            polled = catch_unwind(AssertUnwindSafe(|| run.as_mut().poll(&mut cx)));
        }
        match polled {
            Ok(Poll::Pending) => self.ledger.progress(),
            Ok(Poll::Ready(())) => tunnel.run = None,
            Err(panic) => {
                self.report_panic(&*panic);
                return self.fail(index, Outcome::Panicked, now);
            }
        }
        if tunnel.run.is_none() && tunnel.sender.is_none() {
            return self.finish(index, Outcome::Complete, now);
        }
        self.turns.enter(index, slot.exchange.stream, slot.exchange.priority);
        self.heed_channel(index);
    }

    /// Opens the peer's windows again for what the handler has taken.
    fn heed_channel(&mut self, index: usize) {
        let Some(slot) = self.slots.get(index) else { return };
        let exchange = &mut slot.exchange;
        let Some(channel) = &exchange.channel else { return };
        let taken = channel.notice();
        if taken == 0 {
            return;
        }
        self.ledger.progress();
        self.link.give_back(taken);
        exchange.returned += taken as i64;
        if !exchange.is_received && exchange.returned >= self.link.stream_window / 2 {
            let octets = exchange.returned as u32;
            super::frame::put_window(self.link.out.buffer(), exchange.stream, octets);
            exchange.recv_window += exchange.returned;
            exchange.returned = 0;
        }
    }

    /// The handler waits: perhaps for content, perhaps for content that waits for `100 Continue`.
    fn heed_upload(&mut self, index: usize, now: Instant) {
        let Some(slot) = self.slots.get(index) else { return };
        let exchange = &mut slot.exchange;
        exchange.upload_moved(now);
        if exchange.expects_continue
            && exchange.channel.as_ref().is_some_and(|channel| channel.is_asked())
        {
            exchange.expects_continue = false;
            self.link.put_fields(exchange.stream, false, |encoder, out| {
                encoder.status(out, StatusCode::CONTINUE);
            });
        }
    }

    /// Sends what handlers asked for before their responses.
    fn heed_interims(&mut self, now: Instant) {
        for (stream, interim) in self.info.take_interim() {
            let Some(index) = self.slots.find(stream) else { continue };
            if !self.slots.get(index).is_some_and(|slot| matches!(slot.stage, Stage::Handling)) {
                continue;
            }
            match interim {
                Interim::Hints(links) => self.put_hints(stream, &links),
                Interim::Push(target) => self.push(index, &target, now),
            }
        }
    }

    fn put_hints(&mut self, stream: u32, links: &[HeaderValue]) {
        self.link.put_fields(stream, false, |encoder, out| {
            encoder.status(out, StatusCode::EARLY_HINTS);
            for link in links {
                encoder.field(out, &header::LINK, link);
            }
        });
    }

    /// Promises a response to `target` and lets the handler make it. Without effect where push is off,
    /// the peer does not want it, or the target is malformed.
    fn push(&mut self, index: usize, target: &str, now: Instant) {
        let peer = &self.link.peer;
        let is_wanted = self.settings.push
            && peer.accepts_push
            && !self.link.is_peer_going
            && self.pushes < usize::try_from(peer.streams_max).unwrap_or(usize::MAX)
            && self.slots.has_room();
        let Some(slot) = self.slots.get(index).filter(|_| is_wanted) else { return };
        let stream = slot.exchange.stream;
        // A promise within a promise is not allowed (RFC 9113 §8.4).
        let Some(head) = slot.exchange.head.as_ref().filter(|_| stream % 2 == 1) else { return };
        let Some(head) = promised(head, target) else { return };
        let scheme = self.info.scheme();
        let promise = self.link.put_promise(stream, |encoder, out| {
            encoder.once(out, ":method", b"GET");
            encoder.once(out, ":scheme", scheme.as_bytes());
            encoder.once(out, ":authority", head.authority().unwrap_or_default().as_bytes());
            encoder.once(out, ":path", head.target().as_bytes());
            for (name, value) in head.fields().filter(|(name, _)| *name != b"host") {
                encoder.once(out, std::str::from_utf8(name).unwrap_or_default(), value);
            }
        });
        self.pushes += 1;
        let mut exchange = Exchange::new(promise, Method::GET, now);
        exchange.send_window = self.link.peer.initial_window;
        self.start(exchange, head, now);
    }

    /// Sends the head of a response, and its content if that is small.
    fn respond(&mut self, index: usize, mut response: Response, now: Instant) {
        let Some(slot) = self.slots.get(index) else { return };
        if let Some(status) = slot.exchange.channel.as_ref().and_then(|channel| channel.status()) {
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
        let (stream, status) = (slot.exchange.stream, response.status());
        slot.exchange.status = status;
        slot.exchange.moved = now;
        self.heads.put(&mut self.link, stream, status, response.headers(), framing, now);
        if !framing.has_content {
            return self.sent(index, now);
        }
        let body = match response.as_prepared() {
            Some(prepared) => Body::Bytes(prepared.body.clone()),
            None => response.take_body(),
        };
        self.send(index, body, framing.length, now);
    }

    fn send(&mut self, index: usize, body: Body, length: Option<u64>, now: Instant) {
        let Some(slot) = self.slots.get(index) else { return };
        let exchange = &mut slot.exchange;
        let in_memory = !matches!(body, Body::File(_) | Body::Stream(_));
        let len = length.and_then(|len| usize::try_from(len).ok()).filter(|len| *len <= SMALL);
        let window = self.link.send_window.min(exchange.send_window);
        let has_room = self.link.out.pending() < self.settings.limits.output_bytes_max;
        if let (true, true, Some(len)) = (in_memory, has_room, len)
            && len as i64 <= window
            && !self.turns.is_waiting(exchange.priority.urgency)
        {
            exchange.body_bytes = len as u64;
            exchange.send_window -= len as i64;
            self.link.put_data(exchange.stream, into_bytes(body), true);
            return self.sent(index, now);
        }
        self.turns.enter(index, exchange.stream, exchange.priority);
        slot.stage = Stage::Sending(Box::new(Sender::new(body, length)));
    }

    /// Turns the stream into a stream of bytes.
    fn upgrade(&mut self, index: usize, response: &Response, run: OnUpgrade, now: Instant) {
        let Some(slot) = self.slots.get(index) else { return };
        if slot.exchange.method != Method::CONNECT {
            let error = Response::status_text(StatusCode::INTERNAL_SERVER_ERROR);
            return self.respond(index, error, now);
        }
        let exchange = &mut slot.exchange;
        let waker = slot.waker.clone();
        let new = || {
            let channel = Channel::new(None, u64::MAX, waker);
            channel.end(None);
            channel
        };
        let channel = Arc::clone(exchange.channel.get_or_insert_with(new));
        let upgraded = Upgraded::new(Bytes::new(), Box::new(Tunnel::new(Arc::clone(&channel))));
        exchange.status = StatusCode::OK;
        let framing = Framing { has_content: true, length: None };
        let stream = exchange.stream;
        self.heads.put(&mut self.link, stream, StatusCode::OK, response.headers(), framing, now);
        match catch_unwind(AssertUnwindSafe(|| run(upgraded))) {
            Ok(run) => {
                let sender = Some(Sender::tunnel(channel));
                slot.stage = Stage::Tunnel(Box::new(TunnelStage { run: Some(run), sender }));
                self.poll_tunnel(index, now);
            }
            Err(panic) => {
                self.report_panic(&*panic);
                self.fail(index, Outcome::Panicked, now);
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
fn promised(head: &Head, target: &str) -> Option<Head> {
    let authority = head.authority()?;
    let memory = BytesMut::with_capacity(256);
    let mut promised = HeadBuilder::new(Method::GET, target, Version::HTTP_2, memory)
        .authority(authority)
        .field(b"host", authority.as_bytes());
    for name in ["accept-encoding", "accept-language", "user-agent"] {
        if let Some(value) = head.header(name) {
            promised = promised.field(name.as_bytes(), value);
        }
    }
    promised.build().ok().filter(|_| target.starts_with('/'))
}

/// Content up to this length goes out with its head, if nobody more urgent waits.
const SMALL: usize = CONTENT_MAX;
/// What one DATA frame carries: with its head it fills a TLS record.
const CONTENT_MAX: usize = 16 * 1024 - 9;
/// What one whole response sends before others are asked.
const FRAMES_PER_TURN: usize = 4;
