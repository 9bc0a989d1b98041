//! What time it is; tests say so themselves.

use std::{fmt, time::SystemTime};

/// Tells the time of day. Renewal, retries and limits are decided by it.
pub trait Clock: fmt::Debug + Send + Sync + 'static {
    /// Now.
    fn now(&self) -> SystemTime;
}

/// The system's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> SystemTime {
        SystemTime::now()
    }
}

/// Seconds since 1970; what is before counts as 1970.
pub(crate) fn unix(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// The other way round.
pub(crate) fn from_unix(seconds: u64) -> SystemTime {
    // A file may hold anything; a time beyond the year 9999 is as good as that year.
    const YEAR_10000: u64 = 253_402_300_800;
    SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(seconds.min(YEAR_10000))
}
