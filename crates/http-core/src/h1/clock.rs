//! How long a body may take to arrive.

use std::time::{Duration, Instant};

use crate::Limits;

/// Measures the time that the connection waits for content; the time a handler takes to ask for
/// it does not count.
#[derive(Debug, Default)]
pub(crate) struct BodyClock {
    /// Since when nothing came although the handler waits.
    silent_since: Option<Instant>,
    /// From where on the window's waiting is not yet in `waited`.
    counted_from: Option<Instant>,
    /// Time waited, and bytes received, in this window.
    waited: Duration,
    bytes: u64,
}

impl BodyClock {
    /// Nothing is there: the waiting begins, or goes on.
    pub(crate) fn wait(&mut self, now: Instant) {
        self.silent_since.get_or_insert(now);
        self.counted_from.get_or_insert(now);
    }

    /// Content came.
    pub(crate) fn receive(&mut self, bytes: usize, now: Instant) {
        self.count(now);
        self.silent_since = None;
        self.counted_from = None;
        self.bytes += bytes as u64;
    }

    /// When [`is_late`](Self::is_late) has to be asked, if the connection is waiting.
    pub(crate) fn deadline(&self, limits: &Limits) -> Option<Instant> {
        let window_end = self.counted_from? + WINDOW.saturating_sub(self.waited);
        Some(window_end.min(self.silent_since? + limits.body_stall_timeout))
    }

    /// Whether the peer is too slow: silent for too long, or below the rate in a whole window. A
    /// window without a byte is left to the first rule, so that a pause is no crime.
    pub(crate) fn is_late(&mut self, now: Instant, limits: &Limits) -> bool {
        if self.silent_since.is_some_and(|since| now >= since + limits.body_stall_timeout) {
            return true;
        }
        self.count(now);
        if self.waited < WINDOW {
            return false;
        }
        let bytes_min = limits.body_rate_min.saturating_mul(WINDOW.as_secs());
        let is_slow = self.bytes > 0 && self.bytes < bytes_min;
        self.waited = Duration::ZERO;
        self.bytes = 0;
        is_slow
    }

    fn count(&mut self, now: Instant) {
        if let Some(from) = &mut self.counted_from {
            self.waited += now.saturating_duration_since(*from);
            *from = now;
        }
    }
}

/// Rates are averaged over this much waiting.
const WINDOW: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a peer that sends `bytes` every `every` seconds; answers when it is given up.
    fn late_after(bytes: usize, every: u64, seconds: u64) -> Option<u64> {
        let limits = Limits::default();
        let (start, mut clock) = (Instant::now(), BodyClock::default());
        for second in 0..seconds {
            let now = start + Duration::from_secs(second);
            if clock.deadline(&limits).is_some_and(|at| now >= at) && clock.is_late(now, &limits) {
                return Some(second);
            }
            if second % every == every - 1 {
                clock.receive(bytes, now);
            }
            clock.wait(now);
        }
        None
    }

    #[test]
    fn slow_and_silent_peers_are_late() {
        assert_eq!(late_after(0, 100, 90), Some(30), "silence");
        assert_eq!(late_after(1, 1, 90), Some(5), "a trickle");
        assert_eq!(late_after(1023, 1, 90), Some(5), "just below the rate");
        assert_eq!(late_after(1024, 1, 90), None, "the rate");
        assert_eq!(late_after(100_000, 20, 90), None, "bursts with pauses");
        assert_eq!(late_after(10, 20, 90).map(|at| at < 30), Some(true), "drops with pauses");
    }

    #[test]
    fn time_in_the_handler_does_not_count() {
        let limits = Limits::default();
        let (start, mut clock) = (Instant::now(), BodyClock::default());
        clock.receive(1, start);
        assert_eq!(clock.deadline(&limits), None);
        assert!(!clock.is_late(start + Duration::from_secs(60), &limits));
    }
}
