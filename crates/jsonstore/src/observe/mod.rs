//! What the store tells of itself: how often, how long, what is slow.
//!
//! - `histogram`: latencies in buckets
//! - `metrics`: all figures as a value
//! - `render`: the same as Prometheus text and JSON
//! - `query`: where queries are timed
//! - `slow`: the queries that took long
//! - `rules`, `health`: what is wrong, and what to do about it
//! - `report`: all of it in a file, for programs beside
//!
//! Recording takes no lock and allocates nothing: relaxed counters, split among the threads.

mod health;
mod histogram;
mod metrics;
mod query;
mod render;
mod report;
mod rules;
mod slow;

use std::{
    cell::Cell,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

pub(crate) use self::query::{Trace, TraceSlot, Watch};
pub(crate) use self::report::Reporter;
use parking_lot::Mutex;

use self::{health::Judge, histogram::Cells, slow::SlowLog};
pub use self::{
    health::{Alert, Health},
    histogram::Latency,
    metrics::{Metrics, OperationMetrics},
    rules::{AlertLimits, AlertRule},
    slow::SlowQuery,
};
use crate::{engine::Core, options::Options};

/// Threads that record at the same time do so in one of at most so many places.
const SHARDS_MAX: usize = 8;
/// One `get` in so many is timed: two readings of the clock would be a tenth of a cached one.
const GET_SAMPLE: u32 = 16;

/// What is counted and timed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Operation {
    /// An aggregation, all of its stages together.
    Aggregate,
    /// From the call of `commit` until it is acknowledged.
    Commit,
    /// One compaction.
    Compaction,
    /// A query: choosing a plan and fetching, without what its caller did between two batches.
    Find,
    /// One memtable written as segments.
    Flush,
    /// One document by its id. All are counted, one in sixteen is timed.
    Get,
    /// Waiting for a lock that somebody else held.
    LockWait,
    /// Reading in the order of ids, without what its caller did between two batches.
    Scan,
    /// A search of a text index.
    Search,
    /// One sync of the log.
    Sync,
}

impl Operation {
    /// Every one, in the order of their names.
    pub const ALL: [Self; 10] = [
        Self::Aggregate,
        Self::Commit,
        Self::Compaction,
        Self::Find,
        Self::Flush,
        Self::Get,
        Self::LockWait,
        Self::Scan,
        Self::Search,
        Self::Sync,
    ];

    /// As it stands in metrics: `lock_wait`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Aggregate => "aggregate",
            Self::Commit => "commit",
            Self::Compaction => "compaction",
            Self::Find => "find",
            Self::Flush => "flush",
            Self::Get => "get",
            Self::LockWait => "lock_wait",
            Self::Scan => "scan",
            Self::Search => "search",
            Self::Sync => "sync",
        }
    }
}

/// Where everything is recorded.
#[derive(Debug)]
pub(crate) struct Observer {
    /// Empty if nothing is.
    shards: Box<[Shard]>,
    pub(crate) slow: SlowLog,
    /// On the monotonic clock.
    opened_at: Duration,
    judge: Mutex<Judge>,
}

/// On cache lines of its own.
#[derive(Debug)]
#[repr(align(128))]
struct Shard([Cells; Operation::ALL.len()]);

impl Observer {
    pub(crate) fn new(options: &Options) -> Self {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let count = match options.metrics {
            true => threads.next_power_of_two().min(SHARDS_MAX),
            false => 0,
        };
        let shard = || Shard(std::array::from_fn(|_| Cells::new()));
        Self {
            shards: std::iter::repeat_with(shard).take(count).collect(),
            slow: SlowLog::new(options.slow_query, options.slow_queries_max),
            opened_at: options.env.now(),
            judge: Mutex::default(),
        }
    }

    /// Whether anything has to be timed at all.
    pub(crate) fn times(&self) -> bool {
        !self.shards.is_empty()
    }

    pub(crate) fn record(&self, operation: Operation, took: Duration) {
        let Some(cells) = self.cells(operation) else { return };
        cells.count();
        cells.time(took);
    }

    /// Counts a `get`, and says whether to time it.
    fn count_get(&self) -> bool {
        let Some(cells) = self.cells(Operation::Get) else { return false };
        cells.count();
        thread_local! {
            static COUNT: Cell<u32> = const { Cell::new(0) };
        }
        COUNT.set(COUNT.get().wrapping_add(1));
        COUNT.get().is_multiple_of(GET_SAMPLE)
    }

    fn cells(&self, operation: Operation) -> Option<&Cells> {
        if self.shards.is_empty() {
            return None;
        }
        // The count of shards is a power of two.
        let shard = self.shards.get(thread_number() & (self.shards.len() - 1))?;
        shard.0.get(operation as usize)
    }

    pub(crate) fn count_of(&self, operation: Operation) -> u64 {
        self.operation(operation).count
    }

    fn operation(&self, operation: Operation) -> OperationMetrics {
        let mut found = OperationMetrics { operation, count: 0, latency: Latency::default() };
        for cells in self.shards.iter().filter_map(|shard| shard.0.get(operation as usize)) {
            found.count += cells.counted();
            cells.add_to(&mut found.latency);
        }
        found
    }
}

/// A running operation; forgotten unless it is told to be done.
#[derive(Debug)]
#[must_use = "what is not done is not recorded"]
pub(crate) struct Timer<'a> {
    core: &'a Core,
    operation: Operation,
    begun: Option<Duration>,
}

impl Timer<'_> {
    pub(crate) fn done(self) {
        let Some(begun) = self.begun else { return };
        let took = self.core.options.env.now().saturating_sub(begun);
        match self.operation {
            // It was counted when it began.
            Operation::Get => {
                if let Some(cells) = self.core.observer.cells(Operation::Get) {
                    cells.time(took);
                }
            }
            operation => self.core.observer.record(operation, took),
        }
    }
}

impl Core {
    pub(crate) fn timer(&self, operation: Operation) -> Timer<'_> {
        let times = match operation {
            Operation::Get => self.observer.count_get(),
            _ => self.observer.times(),
        };
        let begun = times.then(|| self.options.env.now());
        Timer { core: self, operation, begun }
    }
}

/// Threads are numbered as they come.
fn thread_number() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static NUMBER: usize = NEXT.fetch_add(1, Ordering::Relaxed);
    }
    NUMBER.with(|number| *number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_stand_at_their_place() {
        for (at, operation) in Operation::ALL.into_iter().enumerate() {
            assert_eq!(operation as usize, at);
        }
        assert!(Operation::ALL.is_sorted_by_key(|operation| operation.name()));
    }

    #[test]
    fn threads_add_up_and_off_is_off() {
        let mut options = Options::new("unused");
        let observer = Observer::new(&options);
        std::thread::scope(|scope| {
            for _ in 0..9 {
                scope.spawn(|| {
                    for _ in 0..100 {
                        observer.record(Operation::Commit, Duration::from_micros(5));
                        let _ = observer.count_get();
                    }
                });
            }
        });
        let commits = observer.operation(Operation::Commit);
        assert_eq!((commits.count, commits.latency.count()), (900, 900));
        assert_eq!(commits.latency.total(), Duration::from_micros(4500));
        assert_eq!(observer.operation(Operation::Get).count, 900);
        options.metrics = false;
        let observer = Observer::new(&options);
        observer.record(Operation::Commit, Duration::from_micros(5));
        assert!(!observer.times() && !observer.count_get());
        assert_eq!(observer.operation(Operation::Commit).count, 0);
    }
}
