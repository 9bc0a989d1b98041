//! Latencies in buckets whose width grows with the value.
//!
//! Log-linear, as in an HDR histogram: [`LINEAR`] buckets for each doubling. What is read from it is
//! the upper bound of a bucket, so at most one part in sixteen too long, or 64 ns for less than 1 µs.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

/// Buckets of one doubling.
const LINEAR: u64 = 16;
const LINEAR_BITS: u32 = LINEAR.trailing_zeros();
/// The narrowest bucket: 64 ns.
const UNIT_BITS: u32 = 6;
/// Beyond 2^37 ns, about 137 s, all is one.
const VALUE_BITS: u32 = 37;
/// One group of linear buckets, then one for each doubling.
const BUCKETS: usize = ((VALUE_BITS - UNIT_BITS - LINEAR_BITS + 1) as usize) << LINEAR_BITS;

/// Where one operation is recorded by some of the threads.
#[derive(Debug)]
pub(super) struct Cells {
    /// Operations, timed or not.
    count: AtomicU64,
    nanos: AtomicU64,
    buckets: [AtomicU64; BUCKETS],
}

impl Cells {
    pub(super) fn new() -> Self {
        Self {
            count: AtomicU64::new(0),
            nanos: AtomicU64::new(0),
            buckets: [const { AtomicU64::new(0) }; BUCKETS],
        }
    }

    pub(super) fn count(&self) {
        self.count.fetch_add(1, Relaxed);
    }

    pub(super) fn time(&self, took: Duration) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.nanos.fetch_add(nanos, Relaxed);
        self.buckets[bucket(nanos)].fetch_add(1, Relaxed);
    }

    pub(super) fn counted(&self) -> u64 {
        self.count.load(Relaxed)
    }

    pub(super) fn add_to(&self, latency: &mut Latency) {
        latency.nanos += self.nanos.load(Relaxed);
        for (sum, bucket) in latency.buckets.iter_mut().zip(&self.buckets) {
            *sum += bucket.load(Relaxed);
        }
    }
}

/// How long something took, each time it was timed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Latency {
    nanos: u64,
    buckets: Box<[u64]>,
}

impl Default for Latency {
    fn default() -> Self {
        Self { nanos: 0, buckets: vec![0; BUCKETS].into() }
    }
}

impl Latency {
    /// How often it was timed.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// All of it together, exactly.
    pub fn total(&self) -> Duration {
        Duration::from_nanos(self.nanos)
    }

    /// The time that this part of all did not exceed: `0.99` for one in a hundred that took longer.
    /// At most 1/16 above the true value, or 64 ns for less than 1 µs; `None` if nothing was timed.
    pub fn quantile(&self, part: f64) -> Option<Duration> {
        let count = self.count();
        let rank = ((part.clamp(0.0, 1.0) * count as f64).ceil() as u64).max(1);
        let mut sum = 0;
        let at = self.buckets.iter().position(|bucket| {
            sum += bucket;
            sum >= rank
        })?;
        Some(Duration::from_nanos(upper_bound(at)))
    }

    /// What came since an earlier reading of the same.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let pairs = self.buckets.iter().zip(&earlier.buckets);
        Self {
            nanos: self.nanos.saturating_sub(earlier.nanos),
            buckets: pairs.map(|(now, then)| now.saturating_sub(*then)).collect(),
        }
    }

    /// One more.
    #[cfg(feature = "cli")]
    pub(crate) fn add(&mut self, took: Duration) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.nanos += nanos;
        self.buckets[bucket(nanos)] += 1;
    }

    /// All that another thread timed.
    #[cfg(feature = "cli")]
    pub(crate) fn append(&mut self, other: &Self) {
        self.nanos += other.nanos;
        for (sum, bucket) in self.buckets.iter_mut().zip(&other.buckets) {
            *sum += bucket;
        }
    }

    /// For each doubling from 1.024 µs on: the bound, and how many did not exceed it.
    pub(super) fn doublings(&self) -> impl Iterator<Item = (Duration, u64)> + '_ {
        let mut sum = 0;
        self.buckets.chunks(LINEAR as usize).enumerate().map(move |(at, chunk)| {
            sum += chunk.iter().sum::<u64>();
            (Duration::from_nanos(upper_bound((at + 1) * LINEAR as usize - 1)), sum)
        })
    }
}

fn bucket(nanos: u64) -> usize {
    let units = nanos >> UNIT_BITS;
    if units < LINEAR {
        return units as usize;
    }
    let top = u64::BITS - 1 - units.leading_zeros();
    let shift = top - LINEAR_BITS;
    let at = u64::from(shift + 1) * LINEAR + (units >> shift) - LINEAR;
    (at as usize).min(BUCKETS - 1)
}

/// The smallest time that belongs to the next bucket.
fn upper_bound(bucket: usize) -> u64 {
    let (group, at) = (bucket as u64 / LINEAR, bucket as u64 % LINEAR);
    match group {
        0 => (at + 1) << UNIT_BITS,
        _ => (LINEAR + at + 1) << (group - 1 + u64::from(UNIT_BITS)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_meet_without_gap_or_overlap() {
        for at in 0..BUCKETS - 1 {
            let bound = upper_bound(at);
            assert_eq!(bucket(bound - 1), at, "below {bound}");
            assert_eq!(bucket(bound), at + 1, "at {bound}");
        }
        assert_eq!(upper_bound(BUCKETS - 1), 1 << VALUE_BITS);
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn quantiles_are_a_sixteenth_too_long_at_most() {
        // A value in each order of magnitude, as the only one and as one of many.
        for nanos in (0..37).flat_map(|bits| [1_u64 << bits, (1 << bits) + (1 << bits) / 3]) {
            let cells = Cells::new();
            cells.time(Duration::from_nanos(nanos));
            let mut latency = Latency::default();
            cells.add_to(&mut latency);
            let found = latency.quantile(0.5).unwrap().as_nanos() as u64;
            assert!(found > nanos && found <= nanos + (nanos / 16).max(64), "{nanos}: {found}");
            assert_eq!(latency.total(), Duration::from_nanos(nanos));
        }
        let cells = Cells::new();
        (1..=1000).for_each(|us| cells.time(Duration::from_micros(us)));
        let mut latency = Latency::default();
        assert_eq!(latency.quantile(0.5), None);
        cells.add_to(&mut latency);
        for (part, us) in [(0.5, 500_u64), (0.99, 990), (1.0, 1000)] {
            let found = latency.quantile(part).unwrap().as_nanos() as u64;
            let exact = us * 1000;
            assert!((exact..=exact + exact / 16).contains(&found), "{part}: {found}");
        }
        let before = latency.clone();
        cells.time(Duration::from_secs(1));
        cells.add_to(&mut latency);
        assert_eq!(latency.since(&before).count(), 1001);
        assert_eq!(latency.doublings().last().unwrap().1, latency.count());
    }
}
