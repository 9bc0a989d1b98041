//! What watches over a connection: its clock, its deadline and the order to drain.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use tokio::{
    sync::watch::Receiver,
    time::{Sleep, sleep_until},
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
    /// Whether connections are scarce, so that those who are slow have less time.
    fn is_crowded(&self) -> bool {
        false
    }
}

/// [`Watch`] on tokio's timer, with a [`tokio::sync::watch`] channel as the order to drain.
pub struct TokioWatch {
    deadline: Option<Instant>,
    /// Fires at the deadline or before it: moving a deadline into the future costs nothing until
    /// the timer has fired in vain.
    sleep: Option<Pin<Box<Sleep>>>,
    drain: Option<Drain>,
}

struct Drain {
    order: Receiver<bool>,
    /// Gone when the order was reported.
    given: Option<Pin<Box<dyn Future<Output = bool> + Send>>>,
}

impl TokioWatch {
    /// A watch that never drains.
    #[must_use]
    pub fn new() -> Self {
        Self { deadline: None, sleep: None, drain: None }
    }

    /// A watch that orders to drain when `order` becomes true.
    #[must_use]
    pub fn with_drain(order: Receiver<bool>) -> Self {
        let mut changes = order.clone();
        let given = Box::pin(async move { changes.wait_for(|given| *given).await.is_ok() });
        Self { drain: Some(Drain { order, given: Some(given) }), ..Self::new() }
    }

    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<WatchEvent> {
        let Some(drain) = &mut self.drain else { return Poll::Pending };
        let Some(given) = &mut drain.given else { return Poll::Pending };
        let is_given = ready!(given.as_mut().poll(cx));
        drain.given = None;
        // Without a sender nobody can give the order any more.
        if is_given { Poll::Ready(WatchEvent::Drain) } else { Poll::Pending }
    }

    fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Poll<WatchEvent> {
        let Some(deadline) = self.deadline.map(tokio::time::Instant::from) else {
            return Poll::Pending;
        };
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        if sleep.deadline() > deadline {
            sleep.as_mut().reset(deadline);
        }
        loop {
            ready!(sleep.as_mut().poll(cx));
            if sleep.deadline() >= deadline {
                self.deadline = None;
                return Poll::Ready(WatchEvent::Deadline);
            }
            sleep.as_mut().reset(deadline);
        }
    }
}

impl Default for TokioWatch {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for TokioWatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokioWatch").field("deadline", &self.deadline).finish_non_exhaustive()
    }
}

impl Watch for TokioWatch {
    fn now(&self) -> Instant {
        tokio::time::Instant::now().into_std()
    }

    fn set_deadline(&mut self, deadline: Option<Instant>) {
        self.deadline = deadline;
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<WatchEvent> {
        match self.poll_drain(cx) {
            Poll::Ready(event) => Poll::Ready(event),
            Poll::Pending => self.poll_deadline(cx),
        }
    }

    fn is_draining(&self) -> bool {
        self.drain.as_ref().is_some_and(|drain| *drain.order.borrow())
    }
}
