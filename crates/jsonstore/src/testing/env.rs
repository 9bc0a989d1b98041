//! A clock that moves when told, randomness from a seed, no threads.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use crate::Env;

/// Surroundings that replay.
#[derive(Debug)]
pub struct SimEnv {
    now_us: AtomicU64,
    wall_ms: AtomicU64,
    state: AtomicU64,
}

impl SimEnv {
    /// Everything random follows from the seed.
    pub fn new(seed: u64) -> Self {
        Self {
            now_us: AtomicU64::new(0),
            wall_ms: AtomicU64::new(1_800_000_000_000),
            state: AtomicU64::new(seed),
        }
    }

    /// Moves the monotonic clock.
    pub fn advance(&self, by: Duration) {
        self.now_us.fetch_add(by.as_micros() as u64, Ordering::Relaxed);
        self.wall_ms.fetch_add(by.as_millis() as u64, Ordering::Relaxed);
    }

    /// Sets the wall clock, backwards too.
    pub fn set_wall_ms(&self, to: u64) {
        self.wall_ms.store(to, Ordering::Relaxed);
    }
}

impl Env for SimEnv {
    fn now(&self) -> Duration {
        Duration::from_micros(self.now_us.load(Ordering::Relaxed))
    }

    fn wall_ms(&self) -> u64 {
        self.wall_ms.load(Ordering::Relaxed)
    }

    fn random(&self) -> u64 {
        let state = self.state.fetch_add(0x9E37_79B9_7F4A_7C15, Ordering::Relaxed);
        mix(state.wrapping_add(0x9E37_79B9_7F4A_7C15))
    }

    fn has_threads(&self) -> bool {
        false
    }
}

/// splitmix64's finalizer.
pub(crate) fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// A small generator for choices of the simulation itself.
#[derive(Debug, Clone)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(mix(seed ^ 0x5DEE_CE66_D1CE_4E5B))
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        mix(self.0)
    }

    pub(crate) fn below(&mut self, n: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(n)) >> 64) as u64
    }

    pub(crate) fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}
