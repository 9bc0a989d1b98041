//! Plain counts of what was served.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use hearth_http_core::{Abuse, ConnectionInfo, Exchange, Observer, Outcome};

use crate::thread::thread_index;

/// Counts exchanges.
#[derive(Debug)]
pub struct Traffic {
    shards: Box<[Shard]>,
}

/// The counts of some threads, aligned to two cache lines: threads that count in the same line would wait
/// for each other.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Shard {
    requests: AtomicU64,
    body_bytes: AtomicU64,
    by_class: [AtomicU64; 5],
    incomplete: AtomicU64,
    panicked: AtomicU64,
    abuses: AtomicU64,
}

/// What [`Traffic`] has counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TrafficStats {
    /// Exchanges that ended.
    pub requests: u64,
    /// Content bytes that were sent.
    pub body_bytes: u64,
    /// Responses by the first digit of their status: `[1xx, 2xx, 3xx, 4xx, 5xx]`.
    pub by_class: [u64; 5],
    /// Exchanges whose response did not reach its end.
    pub incomplete: u64,
    /// Exchanges whose handler panicked.
    pub panicked: u64,
    /// Peers that were sent away for what they did.
    pub abuses: u64,
}

impl Traffic {
    /// The counts so far.
    #[must_use]
    pub fn stats(&self) -> TrafficStats {
        let mut sum = TrafficStats::default();
        for shard in &self.shards {
            shard.add_to(&mut sum);
        }
        sum
    }
}

impl Default for Traffic {
    fn default() -> Self {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        Self { shards: (0..threads.min(64)).map(|_| Shard::default()).collect() }
    }
}

impl Observer for Traffic {
    fn on_exchange(&self, exchange: &Exchange<'_>) {
        if let Some(shard) = self.shards.get(thread_index() % self.shards.len()) {
            shard.count(exchange);
        }
    }

    fn on_abuse(&self, _connection: &Arc<ConnectionInfo>, _abuse: Abuse) {
        if let Some(shard) = self.shards.first() {
            shard.abuses.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Shard {
    fn count(&self, exchange: &Exchange<'_>) {
        let add = |counter: &AtomicU64, count| {
            counter.fetch_add(count, Ordering::Relaxed);
        };
        add(&self.requests, 1);
        add(&self.body_bytes, exchange.body_bytes);
        let class = usize::from(exchange.status.as_u16() / 100).saturating_sub(1);
        if let Some(counter) = self.by_class.get(class) {
            add(counter, 1);
        }
        match exchange.outcome {
            Outcome::PeerGone | Outcome::BodyFailed => add(&self.incomplete, 1),
            Outcome::Panicked => add(&self.panicked, 1),
            _ => {}
        }
    }

    fn add_to(&self, sum: &mut TrafficStats) {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        sum.requests += get(&self.requests);
        sum.body_bytes += get(&self.body_bytes);
        for (sum, counter) in sum.by_class.iter_mut().zip(&self.by_class) {
            *sum += get(counter);
        }
        sum.incomplete += get(&self.incomplete);
        sum.panicked += get(&self.panicked);
        sum.abuses += get(&self.abuses);
    }
}
