//! The queries that took long, without the values that they asked for.

use std::{
    collections::VecDeque,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use parking_lot::Mutex;
use serde_json::{Value, json};

use super::Operation;
use crate::api::Store;

/// A query that took longer than [`crate::Options::slow_query`].
///
/// It holds names of fields, operators and types, never a value: what somebody searched for may be a
/// secret, and logs are read by many.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SlowQuery {
    /// When it ended, in milliseconds since the Unix epoch.
    pub wall_ms: u64,
    /// `Find`, `Scan`, `Aggregate` or `Search`.
    pub operation: Operation,
    /// The collection.
    pub collection: String,
    /// What was asked, with types in the place of values.
    pub shape: String,
    /// How it was answered.
    pub plan: String,
    /// How long the store worked on it.
    pub took: Duration,
    /// Entries of indexes that were looked at.
    pub entries: u64,
    /// Documents that were looked at.
    pub documents: u64,
    /// What was returned; of an aggregation, rows.
    pub returned: u64,
}

impl SlowQuery {
    /// The members of the struct; `took_ms` for `took`.
    pub fn json(&self) -> Value {
        json!({
            "wall_ms": self.wall_ms,
            "operation": self.operation.name(),
            "collection": self.collection,
            "shape": self.shape,
            "plan": self.plan,
            "took_ms": self.took.as_secs_f64() * 1e3,
            "entries": self.entries,
            "documents": self.documents,
            "returned": self.returned,
        })
    }
}

/// The last ones, and how many there were.
#[derive(Debug)]
pub(crate) struct SlowLog {
    /// Nanoseconds; `u64::MAX` for never.
    threshold: AtomicU64,
    max: usize,
    last: Mutex<VecDeque<SlowQuery>>,
    count: AtomicU64,
}

impl SlowLog {
    pub(super) fn new(threshold: Option<Duration>, max: usize) -> Self {
        let log = Self {
            threshold: AtomicU64::new(u64::MAX),
            max: max.max(1),
            last: Mutex::default(),
            count: AtomicU64::new(0),
        };
        log.set_threshold(threshold);
        log
    }

    fn set_threshold(&self, threshold: Option<Duration>) {
        let nanos = threshold.map(|t| u64::try_from(t.as_nanos()).unwrap_or(u64::MAX));
        self.threshold.store(nanos.unwrap_or(u64::MAX), Relaxed);
    }

    pub(super) fn is_slow(&self, took: Duration) -> bool {
        took.as_nanos() >= u128::from(self.threshold.load(Relaxed))
    }

    pub(super) fn is_off(&self) -> bool {
        self.threshold.load(Relaxed) == u64::MAX
    }

    pub(super) fn add(&self, query: SlowQuery) {
        tracing::warn!(
            target: "jsonstore::slow",
            operation = query.operation.name(),
            collection = query.collection,
            shape = query.shape,
            plan = query.plan,
            took_ms = query.took.as_secs_f64() * 1e3,
            entries = query.entries,
            documents = query.documents,
            returned = query.returned,
            "slow query"
        );
        self.count.fetch_add(1, Relaxed);
        let mut last = self.last.lock();
        if last.len() >= self.max {
            last.pop_front();
        }
        last.push_back(query);
    }

    pub(super) fn count(&self) -> u64 {
        self.count.load(Relaxed)
    }

    pub(super) fn last(&self) -> Vec<SlowQuery> {
        self.last.lock().iter().cloned().collect()
    }
}

impl Store {
    /// The last queries that took longer than [`crate::Options::slow_query`], the oldest first; at most
    /// [`crate::Options::slow_queries_max`].
    pub fn slow_queries(&self) -> Vec<SlowQuery> {
        self.core().observer.slow.last()
    }

    /// From now on queries that take at least so long are slow; none are with `None`.
    pub fn set_slow_query(&self, threshold: Option<Duration>) {
        self.core().observer.slow.set_threshold(threshold);
    }
}
