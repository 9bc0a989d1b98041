//! The clock that decides when a cached file is looked at again.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};
use std::time::Duration;

#[cfg(unix)]
use rustix::time::{ClockId, clock_gettime};

/// A clock that stands still until it is told to move, for tests of what happens "a second later".
#[derive(Debug, Clone, Default)]
pub struct ManualClock(Arc<AtomicU64>);

impl ManualClock {
    /// A clock at its beginning.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Moves it on.
    pub fn advance(&self, by: Duration) {
        let millis = u64::try_from(by.as_millis()).unwrap_or(u64::MAX);
        self.0.fetch_add(millis, Ordering::Relaxed);
    }
}

#[derive(Debug, Clone, Default)]
pub(crate) enum Clock {
    /// The kernel's coarse monotonic clock: a read of shared memory, no system call.
    #[default]
    Coarse,
    Manual(ManualClock),
}

impl Clock {
    /// Milliseconds since some fixed point.
    pub(crate) fn now(&self) -> u64 {
        match self {
            Self::Coarse => coarse(),
            Self::Manual(clock) => clock.0.load(Ordering::Relaxed),
        }
    }
}

#[cfg(unix)]
fn coarse() -> u64 {
    let time = clock_gettime(COARSE);
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    let nanos = u64::try_from(time.tv_nsec).unwrap_or_default();
    seconds * 1000 + nanos / 1_000_000
}

/// Counted from the first call.
#[cfg(not(unix))]
fn coarse() -> u64 {
    static BEGIN: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
    let begin = BEGIN.get_or_init(std::time::Instant::now);
    u64::try_from(begin.elapsed().as_millis()).unwrap_or(u64::MAX)
}

#[cfg(target_os = "linux")]
const COARSE: ClockId = ClockId::MonotonicCoarse;
#[cfg(all(unix, not(target_os = "linux")))]
const COARSE: ClockId = ClockId::Monotonic;
