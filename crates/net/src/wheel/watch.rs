//! One connection's end of the wheel.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use hearth_http_core::{Watch, WatchEvent};
use parking_lot::Mutex;

use super::{BUSY, Cell, NEVER, Wheel};

/// How long a connection may idle while connections are scarce.
const CROWDED_IDLE_TIMEOUT: Duration = Duration::from_secs(5);

/// A connection's clock, deadline and order to drain.
#[derive(Debug)]
pub(crate) struct WheelWatch {
    wheel: Arc<Wheel>,
    cell: Arc<Cell>,
    /// The waker that `cell` has, to see without a lock that it is the right one.
    waker: Option<Waker>,
    index: u32,
    told_to_drain: bool,
}

impl WheelWatch {
    pub(super) fn new(wheel: Arc<Wheel>) -> Self {
        let cell = Arc::new(Cell {
            deadline: AtomicU32::new(NEVER),
            armed: AtomicU32::new(NEVER),
            idle_since: AtomicU32::new(BUSY),
            shed: AtomicBool::new(false),
            waker: Mutex::new(None),
        });
        let index = wheel.slots.lock().insert(cell.clone());
        Self { wheel, cell, waker: None, index, told_to_drain: false }
    }

    fn store_deadline(&mut self, tick: u32) {
        // With a coarse clock most requests of a busy connection end here.
        if tick == self.cell.deadline.load(Ordering::Relaxed) {
            return;
        }
        self.cell.deadline.store(tick, Ordering::SeqCst);
        if tick < self.cell.armed.load(Ordering::SeqCst) {
            self.wheel.arm(self.index, &self.cell);
        }
    }

    fn take_event(&mut self) -> Option<WatchEvent> {
        if !self.told_to_drain && self.is_draining() {
            self.told_to_drain = true;
            return Some(WatchEvent::Drain);
        }
        if self.cell.deadline.load(Ordering::Relaxed) <= self.wheel.tick() {
            self.store_deadline(NEVER);
            return Some(WatchEvent::Deadline);
        }
        None
    }

    /// Whether the cell has this waker already; otherwise it gets it.
    fn has_waker(&mut self, waker: &Waker) -> bool {
        if self.waker.as_ref().is_some_and(|known| known.will_wake(waker)) {
            return true;
        }
        *self.cell.waker.lock() = Some(waker.clone());
        self.waker = Some(waker.clone());
        false
    }
}

impl Watch for WheelWatch {
    fn now(&self) -> Instant {
        self.wheel.now()
    }

    fn set_deadline(&mut self, deadline: Option<Instant>) {
        self.cell.idle_since.store(BUSY, Ordering::Relaxed);
        let tick = deadline.map_or(NEVER, |deadline| self.wheel.tick_of(deadline));
        self.store_deadline(tick);
    }

    fn set_idle_deadline(&mut self, idle_timeout: Duration) {
        let timeout =
            if self.is_crowded() { idle_timeout.min(CROWDED_IDLE_TIMEOUT) } else { idle_timeout };
        let deadline = self.wheel.tick_of(self.now() + timeout);
        self.store_deadline(deadline);
        self.cell.idle_since.store(self.wheel.next_moment(), Ordering::Relaxed);
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<WatchEvent> {
        if let Some(event) = self.take_event() {
            return Poll::Ready(event);
        }
        if self.has_waker(cx.waker()) {
            return Poll::Pending;
        }
        // What happened before the wheel had the waker has woken nobody.
        self.take_event().map_or(Poll::Pending, Poll::Ready)
    }

    fn is_draining(&self) -> bool {
        self.wheel.is_draining() || self.cell.shed.load(Ordering::Relaxed)
    }

    fn is_crowded(&self) -> bool {
        self.wheel.crowded.load(Ordering::Relaxed)
    }
}

impl Drop for WheelWatch {
    fn drop(&mut self) {
        self.wheel.slots.lock().remove(self.index);
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, pin::pin};

    use super::*;
    use crate::wheel::TICK;

    /// A watch on a running wheel.
    fn start() -> WheelWatch {
        let wheel = Wheel::new();
        tokio::spawn(wheel.clone().run());
        wheel.watch()
    }

    async fn event(watch: &mut WheelWatch) -> WatchEvent {
        poll_fn(|cx| watch.poll_event(cx)).await
    }

    fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    #[tokio::test(start_paused = true)]
    async fn deadlines_come_late_by_a_tick_but_never_early() {
        // The ring is 51.2 s long: below, at and above it, and far above.
        for millis in [1, 99, 100, 101, 5_000, 51_199, 51_200, 51_201, 75_000, 3_600_000] {
            let mut watch = start();
            let begin = tokio::time::Instant::now();
            let timeout = Duration::from_millis(millis);
            watch.set_deadline(Some(watch.now() + timeout));
            assert_eq!(event(&mut watch).await, WatchEvent::Deadline);
            let took = begin.elapsed();
            assert!(took >= timeout && took <= timeout + 2 * TICK, "{timeout:?} took {took:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_deadline_moves_both_ways() {
        let mut watch = start();
        let begin = watch.now();
        watch.set_deadline(Some(begin + seconds(75)));
        watch.set_deadline(Some(begin + seconds(10)));
        tokio::time::sleep(seconds(9)).await;
        watch.set_deadline(Some(begin + seconds(30)));
        assert_eq!(event(&mut watch).await, WatchEvent::Deadline);
        let took = tokio::time::Instant::now().into_std() - begin;
        assert!(took >= seconds(30) && took < seconds(31), "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_removed_deadline_does_not_come() {
        let mut watch = start();
        watch.set_deadline(Some(watch.now() + seconds(1)));
        watch.set_deadline(None);
        assert!(tokio::time::timeout(seconds(100), event(&mut watch)).await.is_err());
        // And its entry, which fell out of the wheel, is put back by the next one.
        watch.set_deadline(Some(watch.now() + seconds(1)));
        assert_eq!(event(&mut watch).await, WatchEvent::Deadline);
    }

    #[tokio::test(start_paused = true)]
    async fn the_clock_sleeps_while_nobody_reads_it() {
        let watch = start();
        tokio::time::sleep(seconds(100)).await;
        let beats = watch.wheel.beats();
        assert!(beats < 20, "{beats} ticks in 100 s without a deadline");
        let real = tokio::time::Instant::now().into_std();
        assert!(watch.now() + TICK > real, "the first look finds a fresh clock");
        tokio::time::sleep(seconds(1)).await;
        assert!(watch.now() + 2 * TICK > tokio::time::Instant::now().into_std());
    }

    #[tokio::test(start_paused = true)]
    async fn the_clock_is_that_of_the_turn() {
        let watch = start();
        let begin = watch.now();
        tokio::time::advance(Duration::from_millis(7)).await;
        assert_eq!(watch.now(), begin, "between ticks it stands still");
        watch.wheel.expire_clock();
        assert_eq!(watch.now() - begin, Duration::from_millis(7));
    }

    #[tokio::test(start_paused = true)]
    async fn a_sleeping_clock_wakes_for_a_deadline() {
        let mut watch = start();
        watch.set_deadline(Some(watch.now() + seconds(40)));
        assert_eq!(event(&mut watch).await, WatchEvent::Deadline);
        assert!(watch.wheel.beats() < 20, "{} ticks in 40 s", watch.wheel.beats());
    }

    #[tokio::test(start_paused = true)]
    async fn drain_reaches_the_waiting_and_the_late() {
        let mut early = start();
        let wheel = early.wheel.clone();
        {
            let mut waiting = pin!(event(&mut early));
            assert!(tokio::time::timeout(seconds(1), &mut waiting).await.is_err());
            wheel.drain();
            assert_eq!(waiting.await, WatchEvent::Drain);
        }
        assert!(early.is_draining());
        let mut late = wheel.watch();
        assert_eq!(event(&mut late).await, WatchEvent::Drain);
        let again = tokio::time::timeout(seconds(1), event(&mut late)).await;
        assert!(again.is_err(), "drain is reported once");
    }

    #[tokio::test(start_paused = true)]
    async fn shedding_begins_with_those_that_are_idle_longest() {
        let mut busy = start();
        let wheel = busy.wheel.clone();
        busy.set_deadline(Some(busy.now() + seconds(1)));
        let mut oldest = wheel.watch();
        oldest.set_idle_deadline(seconds(30));
        tokio::time::sleep(seconds(1)).await;
        let mut younger = wheel.watch();
        younger.set_idle_deadline(seconds(30));
        assert_eq!(wheel.shed_idle(1), 1);
        assert!(oldest.is_draining() && !younger.is_draining() && !busy.is_draining());
        assert_eq!(event(&mut oldest).await, WatchEvent::Drain);
        assert_eq!(wheel.shed_idle(5), 1, "nobody is told twice, the busy not at all");
    }

    #[tokio::test(start_paused = true)]
    async fn idle_time_shrinks_when_it_is_crowded() {
        let mut watch = start();
        assert!(!watch.is_crowded());
        watch.wheel.set_crowded(true);
        assert!(watch.is_crowded(), "and who sends a head slowly has less time, too");
        let begin = tokio::time::Instant::now();
        watch.set_idle_deadline(seconds(75));
        assert_eq!(event(&mut watch).await, WatchEvent::Deadline);
        assert!(begin.elapsed() < seconds(6));
    }

    #[test]
    fn watches_are_small() {
        assert!(size_of::<WheelWatch>() <= 40, "{}", size_of::<WheelWatch>());
        // With the counts of its `Arc` it takes a chunk of 64 bytes.
        assert!(size_of::<Cell>() <= 40, "{}", size_of::<Cell>());
    }

    #[tokio::test(start_paused = true)]
    async fn dropped_watches_leave_nothing_behind() {
        let first = start();
        let wheel = first.wheel.clone();
        for _ in 0..1000 {
            let mut watch = wheel.watch();
            watch.set_deadline(Some(watch.now() + seconds(75)));
        }
        assert_eq!(wheel.slots.lock().items().count(), 1);
        assert_eq!(wheel.slots.lock().next_tick(), None);
    }
}
