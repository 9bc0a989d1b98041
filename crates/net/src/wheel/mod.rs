//! The timers of a worker: one coarse clock, one entry per connection, one order to drain.
//!
//! A connection moves its deadline with every request, and almost none of them ever passes. So
//! moving one only stores a number; the entry stays where it is in the wheel and is looked at when
//! its old time comes. Only a deadline that moves *forward* of that place has to touch the wheel.

mod slots;
mod watch;

use std::{
    cmp::Reverse,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
    task::Waker,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tokio::sync::Notify;

use self::slots::Slots;
pub(crate) use self::watch::WheelWatch;

/// How coarse the clock is.
pub(crate) const TICK: Duration = Duration::from_millis(TICK_MILLIS);
const TICK_MILLIS: u64 = 100;
/// Ticks after which a clock that nobody reads goes to sleep.
const IDLE_TICKS: u32 = 5;
/// The tick that never comes. Ticks of a connection have 32 bits, which last 13 years, so that what
/// an idle connection costs is small.
const NEVER: u32 = u32::MAX;
/// A connection that is not idle.
const BUSY: u32 = 0;

/// The timers of one worker.
#[derive(Debug)]
pub(crate) struct Wheel {
    origin: Instant,
    /// Milliseconds since `origin`, as of the last tick or look at the real clock.
    clock: AtomicU64,
    /// Time has passed unseen: the next who reads the clock has to look at the real one.
    is_stale: AtomicBool,
    /// Somebody read the clock since the last tick.
    was_read: AtomicBool,
    /// The clock stands still until somebody reads it or an entry is due.
    asleep: AtomicBool,
    draining: AtomicBool,
    /// Connections are scarce: idle ones have to go sooner.
    crowded: AtomicBool,
    /// Looks at the wheel that were made, for the watchdog.
    beats: AtomicU64,
    resume: Notify,
    /// Numbers the moments at which connections went idle.
    moment: AtomicU32,
    slots: Mutex<Slots<Cell>>,
}

/// What a connection and the wheel share.
#[derive(Debug)]
struct Cell {
    /// The tick at which the connection wants to be woken.
    deadline: AtomicU32,
    /// The tick at which the wheel will look at `deadline`. Changed only under the wheel's lock.
    armed: AtomicU32,
    /// The number of the moment since which the connection waits for a request, or `BUSY`. Those
    /// that wait longest go first when connections are scarce.
    idle_since: AtomicU32,
    /// This connection is to drain, whatever the others do.
    shed: AtomicBool,
    waker: Mutex<Option<Waker>>,
}

impl Wheel {
    /// A wheel whose time begins now. It stands still until [`run`](Self::run) is polled.
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            origin: tokio::time::Instant::now().into_std(),
            clock: AtomicU64::new(0),
            is_stale: AtomicBool::new(true),
            was_read: AtomicBool::new(false),
            asleep: AtomicBool::new(true),
            draining: AtomicBool::new(false),
            crowded: AtomicBool::new(false),
            beats: AtomicU64::new(0),
            resume: Notify::new(),
            moment: AtomicU32::new(BUSY),
            slots: Mutex::new(Slots::new()),
        })
    }

    /// Adds a connection.
    pub(crate) fn watch(self: &Arc<Self>) -> WheelWatch {
        WheelWatch::new(self.clone())
    }

    /// Turns the wheel for ever.
    pub(crate) async fn run(self: Arc<Self>) {
        let mut idle_ticks = 0;
        loop {
            if idle_ticks < IDLE_TICKS {
                let next = (u64::from(self.tick()) + 1) * TICK_MILLIS;
                tokio::time::sleep_until(self.instant(next).into()).await;
            } else {
                self.sleep().await;
            }
            self.turn();
            let was_read = self.was_read.swap(false, Ordering::Relaxed);
            idle_ticks = if was_read { 0 } else { idle_ticks + 1 };
        }
    }

    /// The time as of this turn of the event loop, if [`expire_clock`](Self::expire_clock) is called
    /// in each; otherwise as of the last tick.
    pub(crate) fn now(&self) -> Instant {
        if self.is_stale.load(Ordering::Relaxed) {
            self.is_stale.store(false, Ordering::Relaxed);
            self.set_clock();
            if self.asleep.load(Ordering::Relaxed) {
                self.rouse();
            }
        }
        // Reading first keeps the line shared when many threads read the clock.
        if !self.was_read.load(Ordering::Relaxed) {
            self.was_read.store(true, Ordering::Relaxed);
        }
        self.instant(self.clock.load(Ordering::Relaxed))
    }

    /// The event loop has waited, so that the time is another.
    pub(crate) fn expire_clock(&self) {
        self.is_stale.store(true, Ordering::Relaxed);
    }

    /// Tells every connection to finish. Those that come later are told at once.
    pub(crate) fn drain(&self) {
        self.draining.store(true, Ordering::SeqCst);
        let all: Vec<_> = self.slots.lock().items().cloned().collect();
        all.iter().for_each(|cell| cell.wake());
    }

    /// Whether connections were told to finish.
    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Tells at most `count` idle connections to finish, those that are idle longest first;
    /// answers how many it told.
    pub(crate) fn shed_idle(&self, count: usize) -> usize {
        let mut chosen: Vec<_> = {
            let slots = self.slots.lock();
            let idle = slots.items().filter(|cell| cell.is_idle());
            idle.filter(|cell| !cell.shed.load(Ordering::Relaxed)).cloned().collect()
        };
        if chosen.len() > count {
            // Numbers come round after some hours, so they are compared by distance.
            let now = self.moment.load(Ordering::Relaxed);
            let moments =
                |cell: &Arc<Cell>| now.wrapping_sub(cell.idle_since.load(Ordering::Relaxed));
            chosen.select_nth_unstable_by_key(count, |cell| Reverse(moments(cell)));
            chosen.truncate(count);
        }
        for cell in &chosen {
            cell.shed.store(true, Ordering::SeqCst);
            cell.wake();
        }
        chosen.len()
    }

    /// How many connections it watches over.
    pub(crate) fn len(&self) -> usize {
        self.slots.lock().len()
    }

    /// Whether connections are scarce, which shortens the time that one may idle.
    pub(crate) fn set_crowded(&self, crowded: bool) {
        self.crowded.store(crowded, Ordering::Relaxed);
    }

    /// How often [`run`](Self::run) came round.
    pub(crate) fn beats(&self) -> u64 {
        self.beats.load(Ordering::Relaxed)
    }

    /// Wakes a sleeping clock, so that the worker shows whether it lives.
    pub(crate) fn rouse(&self) {
        self.resume.notify_one();
    }

    /// Waits until an entry is due or somebody reads the clock.
    async fn sleep(&self) {
        let due = {
            let slots = self.slots.lock();
            // Under the lock: whoever links an entry after this sees that the wheel sleeps.
            self.asleep.store(true, Ordering::SeqCst);
            self.expire_clock();
            slots.next_tick()
        };
        let roused = pin!(self.resume.notified());
        match due {
            Some(tick) => {
                let due = self.instant(tick * TICK_MILLIS).into();
                let _either = tokio::time::timeout_at(due, roused).await;
            }
            None => roused.await,
        }
    }

    /// Looks at every entry whose time has come.
    fn turn(&self) {
        self.asleep.store(false, Ordering::SeqCst);
        self.set_clock();
        self.beats.fetch_add(1, Ordering::Relaxed);
        let tick = self.tick();
        let mut due = Vec::new();
        self.slots.lock().advance(u64::from(tick), |cell| {
            // The connection stores its deadline before it reads `armed`, here it is the other way
            // round: one of the two sees the other, so that no deadline is lost.
            cell.armed.store(NEVER, Ordering::SeqCst);
            let deadline = cell.deadline.load(Ordering::SeqCst);
            if deadline <= tick {
                due.push(cell.clone());
            }
            if deadline <= tick || deadline == NEVER {
                return None;
            }
            cell.armed.store(deadline, Ordering::SeqCst);
            Some(u64::from(deadline))
        });
        due.iter().for_each(|cell| cell.wake());
    }

    /// Makes sure that the entry is looked at when its deadline comes.
    fn arm(&self, index: u32, cell: &Cell) {
        let mut slots = self.slots.lock();
        let deadline = cell.deadline.load(Ordering::SeqCst);
        if deadline < cell.armed.load(Ordering::SeqCst) {
            // The wheel looks earlier at what is further away than its ring is long, and then links
            // it again; `armed` need not know of that.
            slots.link(index, u64::from(deadline));
            cell.armed.store(deadline, Ordering::SeqCst);
            if self.asleep.load(Ordering::SeqCst) {
                self.rouse();
            }
        }
    }

    fn set_clock(&self) {
        let elapsed = tokio::time::Instant::now().into_std().duration_since(self.origin);
        self.clock.store(elapsed.as_millis() as u64, Ordering::Relaxed);
    }

    fn tick(&self) -> u32 {
        narrow(self.clock.load(Ordering::Relaxed) / TICK_MILLIS)
    }

    /// The number of this moment, for a connection that goes idle.
    fn next_moment(&self) -> u32 {
        // Two threads may get the same number, which makes them equal, as they almost are.
        let next = self.moment.load(Ordering::Relaxed).wrapping_add(1).max(BUSY + 1);
        self.moment.store(next, Ordering::Relaxed);
        next
    }

    fn instant(&self, millis: u64) -> Instant {
        self.origin + Duration::from_millis(millis)
    }

    /// The first tick that is not before `instant`.
    fn tick_of(&self, instant: Instant) -> u32 {
        let since = instant.saturating_duration_since(self.origin);
        let whole = since.as_secs().saturating_mul(1000 / TICK_MILLIS);
        let rest = since.subsec_nanos().div_ceil(TICK.subsec_nanos());
        narrow(whole.saturating_add(u64::from(rest)))
    }
}

fn narrow(tick: u64) -> u32 {
    u32::try_from(tick).unwrap_or(NEVER - 1).min(NEVER - 1)
}

impl Cell {
    fn is_idle(&self) -> bool {
        self.idle_since.load(Ordering::Relaxed) != BUSY
    }

    fn wake(&self) {
        // Cloned, so that no lock is held while foreign code runs.
        let waker = self.waker.lock().clone();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}
