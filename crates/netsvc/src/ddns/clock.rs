//! The time of day, which tests make up.

use std::time::{SystemTime, UNIX_EPOCH};

/// A clock that tells the time of day.
pub trait WallClock: Send + Sync {
    /// Seconds since 1970.
    fn unix_seconds(&self) -> u64;
}

/// The clock of this machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl WallClock for SystemClock {
    fn unix_seconds(&self) -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        since.map_or(0, |since| since.as_secs())
    }
}
