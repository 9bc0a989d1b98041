//! The abuse ledger: what a peer did that costs us and brings nobody anything.
//!
//! Each account is a bucket that honest use never fills, and that time or good use empties. The `h2`
//! crate has limits of its own beneath these; they bound memory, these bound work.

use std::time::{Duration, Instant};

use crate::{Limits, connection::Abuse};

/// The accounts of one connection.
#[derive(Debug)]
pub(super) struct Ledger {
    resets: Bucket,
    overhead: Bucket,
    /// Streams that may still go wrong; one that goes well earns one back.
    errors_left: u32,
}

/// Fills with every use and leaks with time.
#[derive(Debug)]
struct Bucket {
    level: f64,
    max: f64,
    per_second: f64,
    at: Instant,
}

impl Bucket {
    fn new(max: f64, per_second: f64, now: Instant) -> Self {
        Self { level: 0.0, max, per_second, at: now }
    }

    /// Whether it flows over.
    fn add(&mut self, amount: usize, now: Instant) -> bool {
        let leaked = now.saturating_duration_since(self.at).as_secs_f64() * self.per_second;
        self.at = now;
        self.level = (self.level - leaked).max(0.0) + amount as f64;
        self.level > self.max
    }
}

impl Ledger {
    pub(super) fn new(limits: &Limits, now: Instant) -> Self {
        let overhead_max = limits.h2_idle_bytes_max as f64;
        Self {
            resets: Bucket::new(
                f64::from(limits.h2_reset_burst),
                f64::from(limits.h2_resets_per_second),
                now,
            ),
            overhead: Bucket::new(overhead_max, overhead_max / FORGIVE.as_secs_f64(), now),
            errors_left: ERRORS_MAX,
        }
    }

    /// The peer reset streams: each may have cost a handler's work (CVE-2023-44487).
    pub(super) fn peer_reset(&mut self, streams: usize, now: Instant) -> Result<(), Abuse> {
        if self.resets.add(streams, now) { Err(Abuse::Resets) } else { Ok(()) }
    }

    /// The peer made us reset a stream, which costs as much (CVE-2025-8671).
    pub(super) fn own_reset(&mut self) -> Result<(), Abuse> {
        self.errors_left = self.errors_left.checked_sub(1).ok_or(Abuse::StreamErrors)?;
        Ok(())
    }

    /// Frames came that brought no stream forward.
    pub(super) fn overhead(&mut self, bytes: usize, now: Instant) -> Result<(), Abuse> {
        if self.overhead.add(bytes, now) { Err(Abuse::Overhead) } else { Ok(()) }
    }

    /// A stream went forward: a request came, content was read or sent.
    pub(super) fn progress(&mut self) {
        self.overhead.level = 0.0;
    }

    /// A stream ended well.
    pub(super) fn completed(&mut self) {
        self.errors_left = (self.errors_left + 1).min(ERRORS_MAX);
    }
}

/// Streams that may go wrong in a row.
const ERRORS_MAX: u32 = 32;
/// The time in which a full overhead account is forgiven: a keep-alive PING every second never fills it.
const FORGIVE: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    fn ledger() -> (Ledger, Instant) {
        let now = Instant::now();
        (Ledger::new(&Limits::default(), now), now)
    }

    #[test]
    fn a_burst_of_resets_is_allowed_once() {
        let (mut ledger, now) = ledger();
        assert_eq!(ledger.peer_reset(100, now), Ok(()));
        assert_eq!(ledger.peer_reset(1, now), Err(Abuse::Resets));
    }

    #[test]
    fn resets_are_forgiven_with_time() {
        let (mut ledger, mut now) = ledger();
        for _ in 0..100 {
            assert_eq!(ledger.peer_reset(33, now), Ok(()));
            now += Duration::from_secs(1);
        }
    }

    #[test]
    fn streams_that_go_well_pay_for_those_that_do_not() {
        let (mut ledger, _) = ledger();
        for _ in 0..1000 {
            assert_eq!(ledger.own_reset(), Ok(()));
            ledger.completed();
        }
        for _ in 0..32 {
            assert_eq!(ledger.own_reset(), Ok(()));
        }
        assert_eq!(ledger.own_reset(), Err(Abuse::StreamErrors));
    }

    #[test]
    fn overhead_counts_until_there_is_progress() {
        let (mut ledger, now) = ledger();
        assert_eq!(ledger.overhead(60_000, now), Ok(()));
        ledger.progress();
        assert_eq!(ledger.overhead(60_000, now), Ok(()));
        assert_eq!(ledger.overhead(6_000, now), Err(Abuse::Overhead));
    }

    #[test]
    fn a_ping_each_second_is_no_abuse() {
        let (mut ledger, mut now) = ledger();
        for _ in 0..10_000 {
            assert_eq!(ledger.overhead(17, now), Ok(()));
            now += Duration::from_secs(1);
        }
    }
}
