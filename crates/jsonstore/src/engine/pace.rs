//! Pacing of compaction: a token bucket of bytes that narrows while readers wait too long.

use std::{
    cell::Cell,
    sync::atomic::{AtomicU32, AtomicU64, Ordering},
    time::Duration,
};

use parking_lot::Mutex;

/// Latencies are counted by power of two of microseconds.
const CLASSES: usize = 32;
/// One read in so many is timed.
const SAMPLE: u32 = 16;
/// A judgement needs this many samples.
const SAMPLES_MIN: u32 = 50;
const WINDOW: Duration = Duration::from_millis(500);
/// Compaction never gets slower than this, or writers would have to wait for it in the end.
const RATE_MIN: u64 = 8 << 20;
/// What may be used at once after a pause, as a part of a second.
const BURST: Duration = Duration::from_millis(50);

/// How fast compaction may go.
#[derive(Debug)]
pub(crate) struct Pace {
    latencies: [AtomicU32; CLASSES],
    rate: AtomicU64,
    rate_max: u64,
    /// The bucket is full at this time; before, so much is owed.
    bucket: Mutex<Bucket>,
}

#[derive(Debug, Default)]
struct Bucket {
    full_at: Duration,
    judged_at: Duration,
}

impl Pace {
    pub(crate) fn new(rate_max: u64) -> Self {
        let rate_max = rate_max.max(RATE_MIN);
        Self {
            latencies: std::array::from_fn(|_| AtomicU32::new(0)),
            rate: AtomicU64::new(rate_max),
            rate_max,
            bucket: Mutex::default(),
        }
    }

    /// Whether this read shall be timed.
    pub(crate) fn is_sampled() -> bool {
        thread_local! {
            static COUNT: Cell<u32> = const { Cell::new(0) };
        }
        COUNT.set(COUNT.get().wrapping_add(1));
        COUNT.get().is_multiple_of(SAMPLE)
    }

    /// A read took so long.
    pub(crate) fn note_read(&self, took: Duration) {
        let class = (u64::BITS - (took.as_micros() as u64).leading_zeros()) as usize;
        self.latencies[class.min(CLASSES - 1)].fetch_add(1, Ordering::Relaxed);
    }

    /// Bytes per second that compaction may read.
    pub(crate) fn rate(&self) -> u64 {
        self.rate.load(Ordering::Relaxed)
    }

    /// Takes tokens for so many bytes; returns how long to wait for them.
    pub(crate) fn take(&self, bytes: u64, now: Duration) -> Duration {
        let cost = Duration::from_nanos(bytes.saturating_mul(1_000_000_000) / self.rate());
        let mut bucket = self.bucket.lock();
        bucket.full_at = bucket.full_at.max(now) + cost;
        bucket.full_at.saturating_sub(now + BURST)
    }

    /// Now and then: narrows the rate if one read in a hundred took longer than `target`, widens it
    /// slowly otherwise.
    pub(crate) fn judge(&self, now: Duration, target: Duration) {
        {
            let mut bucket = self.bucket.lock();
            if now < bucket.judged_at + WINDOW {
                return;
            }
            bucket.judged_at = now;
        }
        let counts: Vec<u32> =
            self.latencies.iter().map(|count| count.swap(0, Ordering::Relaxed)).collect();
        let total: u32 = counts.iter().sum();
        let limit = (u64::BITS - (target.as_micros() as u64).leading_zeros()) as usize;
        let slow: u32 = counts.iter().skip(limit + 1).sum();
        let rate = self.rate();
        let next = if total >= SAMPLES_MIN && slow > total / 100 {
            rate / 2
        } else {
            rate.saturating_add(rate / 4)
        };
        self.rate.store(next.clamp(RATE_MIN, self.rate_max), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TARGET: Duration = Duration::from_millis(4);

    #[test]
    fn tokens_come_at_the_rate() {
        let pace = Pace::new(100 << 20);
        let second = Duration::from_secs(1);
        assert_eq!(pace.take(1 << 20, second), Duration::ZERO, "a burst is free");
        let wait = pace.take(100 << 20, second);
        assert!((900..1000).contains(&wait.as_millis()), "{wait:?}");
        assert_eq!(pace.take(1 << 20, second * 3), Duration::ZERO, "time fills the bucket");
    }

    #[test]
    fn slow_readers_narrow_it_and_fast_ones_widen_it() {
        let pace = Pace::new(64 << 20);
        let mut now = Duration::from_secs(1);
        let mut judge = |took: Duration| {
            (0..100).for_each(|_| pace.note_read(took));
            now += WINDOW;
            pace.judge(now, TARGET);
            pace.rate()
        };
        assert_eq!(judge(Duration::from_micros(80)), 64 << 20);
        assert_eq!(judge(Duration::from_millis(20)), 32 << 20);
        assert_eq!(judge(Duration::from_millis(20)), 16 << 20);
        for _ in 0..9 {
            judge(Duration::from_millis(20));
        }
        assert_eq!(judge(Duration::from_millis(20)), RATE_MIN, "never slower");
        assert_eq!(judge(Duration::from_micros(80)), RATE_MIN / 4 * 5);
        for _ in 0..20 {
            judge(Duration::from_micros(80));
        }
        assert_eq!(judge(Duration::from_micros(80)), 64 << 20);
    }
}
