//! All figures at one moment, as a value.

use std::{sync::atomic::Ordering::Relaxed, time::Duration};

use super::{Latency, Operation};
use crate::{
    api::{Stats, Store},
    engine::Core,
};

/// How often one operation was done, and how long it took.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct OperationMetrics {
    /// Which.
    pub operation: Operation,
    /// How often, since the store was opened.
    pub count: u64,
    /// How long. Of `Get` one in sixteen is timed.
    pub latency: Latency,
}

/// All figures at one moment.
///
/// [`Metrics::prometheus`] and [`Metrics::json`] render them; two readings compare with
/// [`Latency::since`].
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Metrics {
    /// When, in milliseconds since the Unix epoch.
    pub wall_ms: u64,
    /// For how long the store has been open.
    pub uptime: Duration,
    /// Every operation, in the order of [`Operation::ALL`]. Zeros if `Options::metrics` is off.
    pub operations: Vec<OperationMetrics>,
    /// What `Store::stats` says.
    pub stats: Stats,
    /// Queries that took longer than `Options::slow_query`.
    pub slow_queries: u64,
    /// Full memtables that wait to be flushed.
    pub frozen_memtables: u64,
    /// Bytes of log that no segment holds yet: what recovery would replay.
    pub log_backlog_bytes: u64,
    /// Bytes free for the store on its disk; `None` if the disk does not say.
    pub disk_free_bytes: Option<u64>,
    /// Bytes per second that compaction may read now.
    pub compaction_bytes_per_second: u64,
    /// The log failed: nothing is written any more.
    pub writes_stopped: bool,
    /// The most changes that wait in one text index to be folded into it.
    pub text_pending: u64,
    /// Guarded sessions.
    pub sessions: u64,
    /// Operations of guarded sessions that were let in, had to wait, and were refused.
    pub guarded: [u64; 3],
    /// Rows that queries looked at and did not return, of those that do so much; see
    /// [`Store::advice`].
    pub wasted_rows: u64,
    /// Shapes of such queries that are remembered.
    pub query_shapes: u64,
    /// Indexes that were made and dropped by themselves since the store was opened.
    pub automatic_indexes: [u64; 2],
}

impl Metrics {
    /// One operation.
    ///
    /// # Panics
    /// Never: every operation is there.
    pub fn operation(&self, operation: Operation) -> &OperationMetrics {
        &self.operations[operation as usize]
    }
}

impl Store {
    /// All figures now. It takes some locks for a short time, so once a second is often enough.
    pub fn metrics(&self) -> Metrics {
        gather(self.core())
    }
}

pub(super) fn gather(core: &Core) -> Metrics {
    let observer = &core.observer;
    let tree = core.tree();
    let tables: Vec<_> = tree.frozen.iter().chain([&tree.active]).cloned().collect();
    let floor = core.log.floor(&tables);
    let text = core.text.all().into_iter().map(|state| state.pending.load(Relaxed)).max();
    let counters = &core.sessions.counters;
    Metrics {
        wall_ms: core.options.env.wall_ms(),
        uptime: core.options.env.now().saturating_sub(observer.opened_at),
        operations: Operation::ALL.into_iter().map(|o| observer.operation(o)).collect(),
        stats: Stats::of(core),
        slow_queries: observer.slow.count(),
        frozen_memtables: tree.frozen.len() as u64,
        log_backlog_bytes: core.log.with_wal(|wal| wal.backlog(floor)),
        disk_free_bytes: core.options.vfs.free_space(&core.options.path).ok(),
        compaction_bytes_per_second: core.pace.rate(),
        writes_stopped: core.log.is_poisoned(),
        text_pending: text.unwrap_or_default(),
        sessions: core.sessions.session_count() as u64,
        guarded: [&counters.admitted, &counters.delayed, &counters.refused]
            .map(|counter| counter.load(Relaxed)),
        wasted_rows: core.advisor.shapes.wasted(),
        query_shapes: core.advisor.shapes.count(),
        automatic_indexes: core.advisor.automatic_counts(),
    }
}
