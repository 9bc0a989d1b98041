//! What watches over a connection: its clock, its deadline and the order to drain.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::{Duration, Instant},
};

/// What [`Watch::poll_event`] reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WatchEvent {
    /// The deadline passed. It is cleared by being reported.
    Deadline,
    /// The server drains: finish what has begun, start nothing new. Reported once.
    Drain,
}

/// The clock of a connection, one deadline, and the order to drain.
///
/// A connection moves its deadline with every request, so moving it must be nearly free; the
/// deadline may fire late by the implementation's tick, never early. `hearth-net` implements this on
/// a timer wheel per worker; [`TokioWatch`] on tokio's timer, for tests and simple programs.
pub trait Watch: Send + Unpin + 'static {
    /// A time that may lag the real clock by one tick.
    fn now(&self) -> Instant;
    /// Replaces the deadline; `None` removes it.
    fn set_deadline(&mut self, deadline: Option<Instant>);
    /// Replaces the deadline of a connection that waits for its next request and holds nothing else.
    /// Where connections are scarce they are closed sooner than `idle_timeout`, or told to drain.
    fn set_idle_deadline(&mut self, idle_timeout: Duration) {
        let deadline = self.now() + idle_timeout;
        self.set_deadline(Some(deadline));
    }
    /// Ready when there is something to report; otherwise the task is woken when there is.
    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<WatchEvent>;
    /// Whether the server drains, without consuming the event.
    fn is_draining(&self) -> bool;
}

/// [`Watch`] on tokio's timer, with a [`tokio::sync::watch`] channel as the order to drain.
#[derive(Debug)]
pub struct TokioWatch {
    sleep: Option<Pin<Box<tokio::time::Sleep>>>,
    deadline: Option<Instant>,
}

impl TokioWatch {
    /// A watch that never drains.
    #[must_use]
    pub fn new() -> Self {
        Self { sleep: None, deadline: None }
    }
}

impl Default for TokioWatch {
    fn default() -> Self {
        Self::new()
    }
}

impl Watch for TokioWatch {
    fn now(&self) -> Instant {
        tokio::time::Instant::now().into_std()
    }

    fn set_deadline(&mut self, deadline: Option<Instant>) {
        self.deadline = deadline;
        self.sleep = None;
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<WatchEvent> {
        let Some(deadline) = self.deadline else { return Poll::Pending };
        let sleep =
            self.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline.into())));
        std::task::ready!(sleep.as_mut().poll(cx));
        self.set_deadline(None);
        Poll::Ready(WatchEvent::Deadline)
    }

    fn is_draining(&self) -> bool {
        false
    }
}
