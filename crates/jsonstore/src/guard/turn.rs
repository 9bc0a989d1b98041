//! Turns: at most so many at once, the others in the order in which they came.

use std::{
    collections::VecDeque,
    sync::Arc,
    task::{Poll, Waker},
    time::Duration,
};

use parking_lot::Mutex;

/// Lets at most so many in at once.
#[derive(Debug)]
pub(super) struct Turnstile {
    max: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    inside: usize,
    queue: VecDeque<Arc<Waiter>>,
}

#[derive(Debug)]
struct Waiter {
    deadline: Duration,
    state: Mutex<(Fate, Option<Waker>)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Waiting,
    In,
    TimedOut,
}

/// A place inside; dropping it lets the next one in.
#[derive(Debug)]
pub(super) struct Place(Arc<Turnstile>);

/// A place in the queue; dropping it leaves the queue.
#[derive(Debug)]
pub(super) struct Wait {
    turnstile: Arc<Turnstile>,
    waiter: Arc<Waiter>,
}

/// What came of asking for a place.
#[derive(Debug)]
pub(super) enum Entry {
    In(Place),
    /// The queue is as long as it may be.
    Refused,
    Wait(Wait),
}

impl Turnstile {
    pub(super) fn new(max: usize) -> Arc<Self> {
        Arc::new(Self { max: max.max(1), state: Mutex::default() })
    }

    pub(super) fn enter(self: &Arc<Self>, deadline: Duration, queue_max: usize) -> Entry {
        let mut state = self.state.lock();
        if state.inside < self.max && state.queue.is_empty() {
            state.inside += 1;
            return Entry::In(Place(Arc::clone(self)));
        }
        if state.queue.len() >= queue_max {
            return Entry::Refused;
        }
        let waiter = Arc::new(Waiter { deadline, state: Mutex::new((Fate::Waiting, None)) });
        state.queue.push_back(Arc::clone(&waiter));
        Entry::Wait(Wait { turnstile: Arc::clone(self), waiter })
    }

    /// Ends the waits whose time is over. All wait equally long, so they are the first.
    pub(super) fn expire(&self, now: Duration) {
        let mut state = self.state.lock();
        while let Some(first) = state.queue.front()
            && first.deadline <= now
        {
            let late = state.queue.pop_front();
            late.iter().for_each(|waiter| waiter.decide(Fate::TimedOut));
        }
    }

    pub(super) fn is_idle(&self) -> bool {
        let state = self.state.lock();
        state.inside == 0 && state.queue.is_empty()
    }

    fn leave(&self) {
        let mut state = self.state.lock();
        match state.queue.pop_front() {
            // The place changes hands.
            Some(next) => next.decide(Fate::In),
            None => state.inside -= 1,
        }
    }
}

impl Waiter {
    fn decide(&self, fate: Fate) {
        let mut state = self.state.lock();
        state.0 = fate;
        if let Some(waker) = state.1.take() {
            waker.wake();
        }
    }
}

impl Wait {
    /// The place, `None` if the time was over first.
    pub(super) fn poll(&mut self, waker: &Waker) -> Poll<Option<Place>> {
        let mut state = self.waiter.state.lock();
        match state.0 {
            Fate::Waiting => {
                state.1 = Some(waker.clone());
                Poll::Pending
            }
            Fate::In => {
                // It is handed on once only.
                state.0 = Fate::TimedOut;
                Poll::Ready(Some(Place(Arc::clone(&self.turnstile))))
            }
            Fate::TimedOut => Poll::Ready(None),
        }
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        let mut state = self.turnstile.state.lock();
        let before = state.queue.len();
        state.queue.retain(|waiter| !Arc::ptr_eq(waiter, &self.waiter));
        let was_queued = state.queue.len() < before;
        drop(state);
        // It was let in and nobody took the place.
        if !was_queued && self.waiter.state.lock().0 == Fate::In {
            self.turnstile.leave();
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.leave();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LATER: Duration = Duration::from_secs(5);

    fn wait(turnstile: &Arc<Turnstile>) -> Wait {
        match turnstile.enter(LATER, 10) {
            Entry::Wait(wait) => wait,
            other => panic!("{other:?}"),
        }
    }

    fn poll(wait: &mut Wait) -> Poll<Option<Place>> {
        wait.poll(Waker::noop())
    }

    #[test]
    fn in_the_order_of_coming() {
        let turnstile = Turnstile::new(1);
        let Entry::In(place) = turnstile.enter(LATER, 10) else { panic!() };
        let (mut first, mut second) = (wait(&turnstile), wait(&turnstile));
        assert!(poll(&mut first).is_pending());
        drop(place);
        assert!(poll(&mut second).is_pending(), "the place is not free, it is the first one's");
        let Poll::Ready(Some(place)) = poll(&mut first) else { panic!() };
        assert!(matches!(turnstile.enter(LATER, 1), Entry::Refused));
        drop(place);
        assert!(matches!(poll(&mut second), Poll::Ready(Some(_))));
    }

    #[test]
    fn who_leaves_the_queue_passes_the_place_on() {
        let turnstile = Turnstile::new(1);
        let Entry::In(place) = turnstile.enter(LATER, 10) else { panic!() };
        let (first, mut second) = (wait(&turnstile), wait(&turnstile));
        drop(place);
        // It was let in and goes without having noticed.
        drop(first);
        let Poll::Ready(Some(place)) = poll(&mut second) else { panic!() };
        let third = wait(&turnstile);
        drop(third);
        drop(place);
        assert!(turnstile.is_idle());
    }

    #[test]
    fn waits_end_in_time() {
        let turnstile = Turnstile::new(1);
        let Entry::In(place) = turnstile.enter(LATER, 10) else { panic!() };
        let mut late = wait(&turnstile);
        turnstile.expire(LATER - Duration::from_millis(1));
        assert!(poll(&mut late).is_pending());
        turnstile.expire(LATER);
        assert!(matches!(poll(&mut late), Poll::Ready(None)));
        drop((place, late));
        assert!(turnstile.is_idle());
    }
}
