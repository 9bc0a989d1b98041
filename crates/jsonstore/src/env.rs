//! The clock, randomness and threads, behind a seam so that a simulated run can replay.

use std::{
    fmt,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

/// Everything the engine asks of its surroundings except the disk.
pub trait Env: Send + Sync + fmt::Debug {
    /// Monotonic time since an arbitrary start.
    fn now(&self) -> Duration;
    /// Milliseconds since the Unix epoch; may jump either way.
    fn wall_ms(&self) -> u64;
    /// Random bits, unpredictable in production.
    fn random(&self) -> u64;
    /// True if the engine may start threads; otherwise someone calls `step`.
    fn has_threads(&self) -> bool;
}

/// The operating system.
#[derive(Debug)]
pub struct RealEnv {
    start: Instant,
    fallback: AtomicU64,
}

impl RealEnv {
    /// The clock starts now.
    pub fn new() -> Self {
        Self { start: Instant::now(), fallback: AtomicU64::new(0) }
    }
}

impl Default for RealEnv {
    fn default() -> Self {
        Self::new()
    }
}

impl Env for RealEnv {
    fn now(&self) -> Duration {
        self.start.elapsed()
    }

    fn wall_ms(&self) -> u64 {
        wall_ms()
    }

    fn random(&self) -> u64 {
        let mut bytes = [0; 8];
        let flags = rustix::rand::GetRandomFlags::empty();
        match rustix::rand::getrandom(&mut bytes, flags) {
            Ok(8) => u64::from_le_bytes(bytes),
            // Salts need to be distinct, not secret; keys never come from here alone.
            _ => {
                let count = self.fallback.fetch_add(1, Ordering::Relaxed);
                let nanos = self.start.elapsed().as_nanos() as u64 ^ self.wall_ms();
                xxhash_rust::xxh3::xxh3_64_with_seed(&count.to_le_bytes(), nanos)
            }
        }
    }

    fn has_threads(&self) -> bool {
        true
    }
}

/// Milliseconds since the Unix epoch by this machine's clock.
pub(crate) fn wall_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
