//! The streams of a connection that are being answered, in places that are used again.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::Waker,
    time::{Duration, Instant},
};

use http::{Method, StatusCode};

use super::{
    channel::Channel, priority::Priority, ready::Ready, send::Sender, timers::RATE_WINDOW,
};
use crate::{Head, Limits, Outcome};

/// One stream, or a place for one.
pub(super) struct Slot<F> {
    pub(super) waker: Waker,
    /// The handler's future lies where it was first put: the box outlives the stream.
    pub(super) future: Pin<Box<Option<F>>>,
    pub(super) stage: Stage,
    pub(super) exchange: Exchange,
}

/// How far the answer is.
pub(super) enum Stage {
    Free,
    /// The handler works.
    Handling,
    /// Content is being sent.
    Sending(Box<Sender>),
    /// The answer is complete, the request is not: so much of its content is read and dropped.
    Draining(u64),
    /// What was a stream of frames is a stream of bytes.
    Tunnel(Box<TunnelStage>),
    /// Nothing is left to do.
    Done,
}

/// A tunnel: who uses it, and what he writes. Either may end first.
pub(super) struct TunnelStage {
    pub(super) run: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    pub(super) sender: Option<Sender>,
}

/// What is known of a request and its answer.
pub(super) struct Exchange {
    pub(super) stream: u32,
    pub(super) method: Method,
    /// Kept only where somebody will ask.
    pub(super) head: Option<Head>,
    pub(super) priority: Priority,
    /// Where the content of the request goes.
    pub(super) channel: Option<Arc<Channel>>,
    /// Octets that the peer may still send, or owes, where it announced how many.
    pub(super) content_left: Option<u64>,
    /// The whole request has come.
    pub(super) is_received: bool,
    /// Octets of content that the peer accepts on this stream.
    pub(super) send_window: i64,
    /// Octets of content that we accept.
    pub(super) recv_window: i64,
    /// Octets that were taken, and that the peer was not told of.
    pub(super) returned: i64,
    pub(super) expects_continue: bool,
    pub(super) status: StatusCode,
    pub(super) body_bytes: u64,
    /// What it will have been, if it goes well from here.
    pub(super) outcome: Outcome,
    pub(super) began: Instant,
    /// When it last went forward.
    pub(super) moved: Instant,
    /// The observer was told.
    pub(super) is_reported: bool,
    /// The body's source has nothing: the peer is not to blame for the silence.
    pub(super) awaits_source: bool,
    /// Content that had been taken by `moved`.
    seen_bytes: u64,
    /// Since when, and from how much on, the pace of the upload is measured.
    rate_mark: (Instant, u64),
}

/// What is wrong with a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Overdue {
    /// The handler has not answered.
    Handler,
    /// The content of the request comes too slowly.
    Upload,
    /// The peer does not take the response.
    Write,
    /// The rest of a request that nobody wants has not come.
    Drain,
}

impl Exchange {
    pub(super) fn new(stream: u32, method: Method, now: Instant) -> Self {
        Self {
            stream,
            method,
            head: None,
            priority: Priority::default(),
            channel: None,
            content_left: None,
            is_received: true,
            send_window: 0,
            recv_window: 0,
            returned: 0,
            expects_continue: false,
            status: no_answer(),
            body_bytes: 0,
            outcome: Outcome::Complete,
            began: now,
            moved: now,
            is_reported: false,
            awaits_source: false,
            seen_bytes: 0,
            rate_mark: (now, 0),
        }
    }

    /// Whether content came since the last call.
    pub(super) fn upload_moved(&mut self, now: Instant) -> bool {
        let Some(channel) = &self.channel else { return false };
        let bytes = channel.taken();
        let moved = bytes != self.seen_bytes;
        if moved {
            self.seen_bytes = bytes;
            self.moved = now;
        }
        moved
    }

    fn check_upload(&mut self, limits: &Limits, now: Instant) -> Option<Overdue> {
        self.upload_moved(now);
        let channel = self.channel.as_ref()?;
        let (since, from) = self.rate_mark;
        let elapsed = now.saturating_duration_since(since);
        let mut is_slow = now.saturating_duration_since(self.moved) >= limits.body_stall_timeout;
        if elapsed >= RATE_WINDOW {
            let pace = (self.seen_bytes - from) as f64 / elapsed.as_secs_f64();
            is_slow |= pace < limits.body_rate_min as f64;
            self.rate_mark = (now, self.seen_bytes);
        }
        // A handler that does not ask is not waiting for the peer.
        (is_slow && channel.is_waiting()).then_some(Overdue::Upload)
    }
}

impl<F> Slot<F> {
    /// What is overdue, and when to look again.
    pub(super) fn check(&mut self, limits: &Limits, now: Instant) -> (Option<Overdue>, Instant) {
        let exchange = &mut self.exchange;
        let mut next = now + FAR;
        let mut nearer = |at: Option<Instant>| next = at.map_or(next, |at| next.min(at));
        let overdue = match &self.stage {
            Stage::Handling => {
                let deadline =
                    limits.handler_timeout.and_then(|wait| exchange.began.checked_add(wait));
                nearer(deadline);
                let slow_upload = exchange.check_upload(limits, now);
                if exchange.channel.is_some() {
                    nearer(exchange.rate_mark.0.checked_add(RATE_WINDOW));
                    let stall = exchange.moved.checked_add(limits.body_stall_timeout);
                    // A handler that does not ask may have passed it already.
                    nearer(stall.filter(|at| *at > now).or(now.checked_add(RATE_WINDOW)));
                }
                deadline.filter(|at| *at <= now).map(|_| Overdue::Handler).or(slow_upload)
            }
            Stage::Sending(_) if !exchange.awaits_source => {
                let deadline = exchange.moved.checked_add(limits.write_stall_timeout);
                nearer(deadline);
                deadline.filter(|at| *at <= now).map(|_| Overdue::Write)
            }
            Stage::Draining(_) => {
                let deadline = exchange.moved.checked_add(DRAIN_TIME);
                nearer(deadline);
                deadline.filter(|at| *at <= now).map(|_| Overdue::Drain)
            }
            _ => None,
        };
        (overdue, next)
    }
}

/// The places.
pub(super) struct Slots<F> {
    slots: Vec<Slot<F>>,
    /// The stream in each, apart: looking for one goes through them all. 0 where the place is free.
    streams: Vec<u32>,
    free: Vec<usize>,
    ready: Arc<Ready>,
}

impl<F> Slots<F> {
    pub(super) fn new(ready: Arc<Ready>) -> Self {
        Self { slots: Vec::new(), streams: Vec::new(), free: Vec::new(), ready }
    }

    /// Streams that are being answered.
    pub(super) fn live(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Whether another stream may begin.
    pub(super) fn has_room(&self) -> bool {
        !self.free.is_empty() || self.slots.len() < self.ready.capacity()
    }

    pub(super) fn get(&mut self, index: usize) -> Option<&mut Slot<F>> {
        self.slots.get_mut(index).filter(|slot| !matches!(slot.stage, Stage::Free))
    }

    /// Where the stream with this identifier is.
    pub(super) fn find(&self, stream: u32) -> Option<usize> {
        self.streams.iter().position(|known| *known == stream)
    }

    /// Every index that may be live.
    pub(super) fn indices(&self) -> std::ops::Range<usize> {
        0..self.slots.len()
    }

    /// A place for a stream; `None` where there are too many.
    pub(super) fn open(&mut self, exchange: Exchange) -> Option<usize> {
        let stage = Stage::Handling;
        let stream = exchange.stream;
        if let Some(index) = self.free.pop() {
            let slot = self.slots.get_mut(index)?;
            slot.stage = stage;
            slot.exchange = exchange;
            *self.streams.get_mut(index)? = stream;
            return Some(index);
        }
        let index = self.slots.len();
        if index >= self.ready.capacity() {
            return None;
        }
        let waker = self.ready.waker(index);
        self.slots.push(Slot { waker, future: Box::pin(None), stage, exchange });
        self.streams.push(stream);
        Some(index)
    }

    /// Frees a place.
    pub(super) fn close(&mut self, index: usize) {
        if let (Some(slot), Some(stream)) = (self.slots.get_mut(index), self.streams.get_mut(index))
            && *stream != 0
        {
            slot.stage = Stage::Free;
            slot.exchange.channel = None;
            slot.exchange.head = None;
            *stream = 0;
            self.free.push(index);
        }
    }

    /// Gives the memory of the places back, if none is used.
    pub(super) fn shrink(&mut self) {
        if self.live() == 0 && self.slots.len() > KEPT_WHEN_IDLE {
            self.free = Vec::new();
            self.slots = Vec::new();
            self.streams = Vec::new();
        }
    }
}

/// What an observer is told where the peer left before the answer: nginx's number for it.
fn no_answer() -> StatusCode {
    StatusCode::from_u16(499).unwrap_or(StatusCode::BAD_REQUEST)
}

/// How long the rest of an unwanted request is waited for.
const DRAIN_TIME: Duration = Duration::from_secs(1);
const FAR: Duration = Duration::from_secs(3600);
const KEPT_WHEN_IDLE: usize = 8;
