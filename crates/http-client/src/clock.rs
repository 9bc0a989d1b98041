//! How long a response body may take.

use std::{future::Future, pin::Pin, task::Context, time::Duration};

use tokio::time::{Instant, Sleep, sleep_until};

/// The time limits of one response body. The timer is made when something has to be waited for.
pub(crate) struct BodyClock {
    idle: Duration,
    /// When the whole exchange has to be over.
    deadline: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
    is_armed: bool,
}

impl BodyClock {
    pub(crate) fn new(idle: Duration, deadline: Option<Instant>) -> Self {
        Self { idle, deadline, timer: None, is_armed: false }
    }

    /// Something arrived.
    pub(crate) fn on_progress(&mut self) {
        self.is_armed = false;
    }

    /// Whether the exchange took too long: a peer that never stops must not escape its deadline.
    pub(crate) fn is_over(&self) -> bool {
        self.deadline.is_some_and(|deadline| Instant::now() >= deadline)
    }

    /// Whether waiting has to end; wakes the task when it has.
    pub(crate) fn poll_expired(&mut self, cx: &mut Context<'_>) -> bool {
        let Self { idle, deadline, timer, is_armed } = self;
        let idle_end = || Instant::now() + *idle;
        let end = || deadline.map_or_else(idle_end, |deadline| deadline.min(idle_end()));
        let timer = timer.get_or_insert_with(|| {
            *is_armed = true;
            Box::pin(sleep_until(end()))
        });
        if !*is_armed {
            timer.as_mut().reset(end());
            *is_armed = true;
        }
        timer.as_mut().poll(cx).is_ready()
    }
}
