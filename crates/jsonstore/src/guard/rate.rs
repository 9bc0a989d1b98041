//! Rates: so much in a second, in bursts of so much.

use std::time::Duration;

/// How much of something may happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// In the long run.
    pub per_second: u64,
    /// At once, after a pause.
    pub burst: u64,
}

/// Keeps a rate, by the generic cell rate algorithm: it knows only when the next one is due.
#[derive(Debug, Default)]
pub(super) struct Meter {
    /// When everything that was taken is paid for, on the monotonic clock.
    paid_at: Duration,
}

impl Meter {
    /// Takes an amount, and says how long to wait before using it. Takes nothing if that would be
    /// longer than `wait_max`; the error says when to come again.
    pub(super) fn take(
        &mut self,
        rate: Rate,
        amount: u64,
        now: Duration,
        wait_max: Duration,
    ) -> Result<Duration, Duration> {
        let time_of = |amount: u64| {
            let nanos = u128::from(amount) * 1_000_000_000 / u128::from(rate.per_second.max(1));
            Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
        };
        let from = self.paid_at.max(now);
        // What is larger than a burst goes alone, after a full pause.
        let ahead = time_of(amount.min(rate.burst.max(1)));
        let paid_at = from.saturating_add(time_of(amount));
        let wait = from
            .saturating_add(ahead)
            .saturating_sub(now.saturating_add(time_of(rate.burst.max(1))));
        if wait > wait_max {
            return Err(wait - wait_max);
        }
        self.paid_at = paid_at;
        Ok(wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    #[test]
    fn a_burst_then_the_rate() {
        let rate = Rate { per_second: 10, burst: 3 };
        let mut meter = Meter::default();
        let now = MS(1000);
        let mut take = |now, max| meter.take(rate, 1, now, max);
        for _ in 0..3 {
            assert_eq!(take(now, MS(0)), Ok(MS(0)));
        }
        assert_eq!(take(now, MS(0)), Err(MS(100)));
        assert_eq!(take(now, MS(1000)), Ok(MS(100)));
        assert_eq!(take(now, MS(1000)), Ok(MS(200)));
        // After a pause there is one burst, whatever the pause.
        let later = MS(60_000);
        let taken = (0..10).filter(|_| take(later, MS(0)).is_ok()).count();
        assert_eq!(taken, 3);
    }

    #[test]
    fn the_long_run_keeps_the_rate() {
        let rate = Rate { per_second: 1000, burst: 50 };
        let mut meter = Meter::default();
        let taken =
            (0..10_000).filter(|ms| meter.take(rate, 7, MS(*ms), MS(0)).is_ok()).count() as u64 * 7;
        assert!((9_900..=10_060).contains(&taken), "{taken}");
    }

    #[test]
    fn what_is_larger_than_a_burst_is_not_refused_for_ever() {
        let rate = Rate { per_second: 100, burst: 10 };
        let mut meter = Meter::default();
        assert_eq!(meter.take(rate, 1000, MS(0), MS(0)), Ok(MS(0)));
        assert_eq!(meter.take(rate, 1, MS(9_000), MS(0)), Err(MS(910)));
        assert_eq!(meter.take(rate, 1, MS(9_910), MS(0)), Ok(MS(0)));
    }
}
