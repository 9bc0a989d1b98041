//! The alert rules: what is measured, from when on it is too much, and who must do what.

use std::time::Duration;

use super::{Latency, Metrics, Operation};
use crate::options::Options;

/// From when on the alert rules fire.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct AlertLimits {
    /// Free bytes of the disk. Default: 1 GiB; below `Options::disk_reserve_bytes` it is critical.
    pub disk_free_bytes_min: u64,
    /// Segments of level 0; as much as three memtables that wait. Default: 8, from where writers are
    /// slowed down.
    pub level0_segments_max: usize,
    /// Age of a snapshot. Default: 5 minutes.
    pub snapshot_age_max: Duration,
    /// Part of the look-ups that the block cache answers. Default: 0.5, of 1,000 look-ups or more.
    pub cache_hit_rate_min: f64,
    /// What one sync of the log in a hundred takes. Default: 100 ms, of 20 syncs or more.
    pub sync_p99_max: Duration,
    /// Slow queries in a minute. Default: 30.
    pub slow_queries_per_minute_max: f64,
    /// Changes that wait in one text index. Default: 8,192.
    pub text_pending_max: u64,
    /// Part of the operations of guarded sessions that wait or are refused. Default: 0.2, of 50 or more.
    pub throttled_share_max: f64,
    /// How late expired documents are deleted. Default: 10 minutes.
    pub expiry_lag_max: Duration,
    /// What rates and latencies are taken over. Default: 1 minute.
    pub window: Duration,
    /// How long a limit is exceeded before its rule fires. Default: 10 s.
    pub fires_after: Duration,
    /// How long the figure is a fifth on the right side of its limit before the alert ends. Default: 1
    /// minute.
    pub ends_after: Duration,
}

impl Default for AlertLimits {
    fn default() -> Self {
        Self {
            disk_free_bytes_min: 1 << 30,
            level0_segments_max: 8,
            snapshot_age_max: Duration::from_secs(300),
            cache_hit_rate_min: 0.5,
            sync_p99_max: Duration::from_millis(100),
            slow_queries_per_minute_max: 30.0,
            text_pending_max: 8192,
            throttled_share_max: 0.2,
            expiry_lag_max: Duration::from_secs(600),
            window: Duration::from_secs(60),
            fires_after: Duration::from_secs(10),
            ends_after: Duration::from_secs(60),
        }
    }
}

/// A rate of fewer look-ups, syncs or operations than this says nothing.
const LOOKUPS_MIN: u64 = 1000;
const SYNCS_MIN: u64 = 20;
const GUARDED_MIN: u64 = 50;
/// Memtables that wait to be flushed when writers have to.
const FROZEN_MAX: u64 = 3;
/// How far on the right side of its limit a figure has to be for an alert to end.
const MARGIN: f64 = 0.2;

/// What can be wrong. Each has a code in `docs/errors.md`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AlertRule {
    /// Background work fails again and again.
    BackgroundFailing,
    /// Most look-ups in the block cache go to the disk.
    CacheTooSmall,
    /// Writers outrun flushes and compactions.
    CompactionBehind,
    /// Stored data turned out to be damaged.
    DamageFound,
    /// The disk is nearly full.
    DiskNearlyFull,
    /// Expired documents stay longer than they should.
    ExpiryBehind,
    /// Many sessions have to wait or are refused.
    SessionsThrottled,
    /// Many queries are slow.
    SlowQueries,
    /// Somebody holds a snapshot for long.
    SnapshotHeld,
    /// The disk takes long to sync the log.
    SyncSlow,
    /// A text index has many changes that are not folded in.
    TextBehind,
    /// The log failed, and nothing can be written.
    WritesStopped,
}

impl AlertRule {
    /// Every one, in the order of their names.
    pub const ALL: [Self; 12] = [
        Self::BackgroundFailing,
        Self::CacheTooSmall,
        Self::CompactionBehind,
        Self::DamageFound,
        Self::DiskNearlyFull,
        Self::ExpiryBehind,
        Self::SessionsThrottled,
        Self::SlowQueries,
        Self::SnapshotHeld,
        Self::SyncSlow,
        Self::TextBehind,
        Self::WritesStopped,
    ];

    /// Stable, `H-DB-…`.
    pub fn code(self) -> &'static str {
        self.text().0
    }

    /// What it means.
    pub fn meaning(self) -> &'static str {
        self.text().2
    }

    /// Who must do what.
    pub fn advice(self) -> &'static str {
        self.text().3
    }

    /// What is left of a hundred points while it fires.
    pub(super) fn score(self, is_critical: bool) -> u8 {
        let score = self.text().1;
        if is_critical { score / 2 } else { score }
    }

    /// Code, score, meaning, advice.
    fn text(self) -> (&'static str, u8, &'static str, &'static str) {
        match self {
            Self::BackgroundFailing => (
                "H-DB-001",
                30,
                "flushing, compacting, indexing or archiving fails, so the log grows",
                "Operator: read the cause and remove it; the store tries again by itself.",
            ),
            Self::CacheTooSmall => (
                "H-DB-002",
                85,
                "most reads go to the disk",
                "Operator: raise `memory_budget`, or index the queries that read the most.",
            ),
            Self::CompactionBehind => (
                "H-DB-003",
                60,
                "data is written faster than it can be compacted; writers are slowed down",
                "Operator: write less at a time or in a bulk load; a faster disk if it goes on.",
            ),
            Self::DamageFound => (
                "H-DB-004",
                10,
                "stored data is damaged or was lost",
                "Operator: run `verify`, restore what it names from a backup, and check the disk.",
            ),
            Self::DiskNearlyFull => (
                "H-DB-005",
                50,
                "the disk is nearly full; below the reserve writes are refused",
                "Operator: free space or enlarge the disk; close snapshots, then compact.",
            ),
            Self::ExpiryBehind => (
                "H-DB-006",
                85,
                "expired documents are hidden but still take space",
                "Operator: look for long transactions on them, and for a disk that is too busy.",
            ),
            Self::SessionsThrottled => (
                "H-DB-007",
                75,
                "many operations of guarded sessions wait for their turn or are refused",
                "Operator: find out whether one user is greedy; otherwise raise `guard` limits.",
            ),
            Self::SlowQueries => (
                "H-DB-008",
                80,
                "many queries take longer than `slow_query`",
                "Developer: look at the slow queries; give those that read all documents an index.",
            ),
            Self::SnapshotHeld => (
                "H-DB-009",
                80,
                "somebody holds an old snapshot, so nothing that it sees can be removed",
                "Developer: end cursors and transactions sooner; they may have been forgotten.",
            ),
            Self::SyncSlow => (
                "H-DB-010",
                70,
                "the disk takes long to make commits durable",
                "Operator: look what else writes to the disk, and whether it is failing.",
            ),
            Self::TextBehind => (
                "H-DB-011",
                80,
                "a text index has many changes that are not folded in, so searches get slower",
                "Operator: write less at a time; look whether background work fails.",
            ),
            Self::WritesStopped => (
                "H-DB-012",
                0,
                "writing to the log failed, so nothing more is written; reading goes on",
                "Operator: see to the disk, then open the store again. Nothing acknowledged is lost.",
            ),
        }
    }
}

/// What a rule finds.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Reading {
    pub(super) rule: AlertRule,
    pub(super) value: f64,
    pub(super) limit: f64,
    pub(super) is_critical: bool,
    pub(super) is_exceeded: bool,
    /// Well on the right side.
    pub(super) is_calm: bool,
    /// Nothing that comes and goes: it fires at once.
    pub(super) is_fact: bool,
    pub(super) detail: String,
}

/// What rates are taken from.
#[derive(Debug, Clone, Default)]
pub(super) struct Sample {
    pub(super) at: Duration,
    block_hits: u64,
    block_misses: u64,
    syncs: Latency,
    slow: u64,
    guarded: [u64; 3],
}

impl Sample {
    /// Of a store that was just opened.
    pub(super) fn nothing(at: Duration) -> Self {
        Self { at, ..Self::default() }
    }

    pub(super) fn of(metrics: &Metrics, at: Duration) -> Self {
        Self {
            at,
            block_hits: metrics.stats.caches[3],
            block_misses: metrics.stats.caches[4],
            syncs: metrics.operation(Operation::Sync).latency.clone(),
            slow: metrics.slow_queries,
            guarded: metrics.guarded,
        }
    }
}

/// Every rule of which something is known. Rates are of the time since `earlier`.
pub(super) fn readings(
    metrics: &Metrics,
    earlier: &Sample,
    now: Duration,
    options: &Options,
) -> Vec<Reading> {
    let limits = &options.alerts;
    let mut all = levels(metrics, options);
    all.extend(facts(metrics));
    let later = Sample::of(metrics, now);
    let elapsed = now.saturating_sub(earlier.at);
    let hits = later.block_hits.saturating_sub(earlier.block_hits);
    let lookups = hits + later.block_misses.saturating_sub(earlier.block_misses);
    if lookups >= LOOKUPS_MIN {
        let (rate, min) = (hits as f64 / lookups as f64, limits.cache_hit_rate_min);
        let detail = format!("the block cache answers {:.0} % of {lookups} look-ups", rate * 100.0);
        all.push(below(AlertRule::CacheTooSmall, rate, min, detail));
    }
    let syncs = later.syncs.since(&earlier.syncs);
    if let Some(p99) = syncs.quantile(0.99).filter(|_| syncs.count() >= SYNCS_MIN) {
        let max = limits.sync_p99_max.as_secs_f64();
        let detail = format!("one sync of the log in a hundred takes {p99:.1?} or longer");
        all.push(above(AlertRule::SyncSlow, p99.as_secs_f64(), max, detail));
    }
    let slow = later.slow.saturating_sub(earlier.slow);
    // Of a short time it is what happened, not what would.
    let minutes = (elapsed.as_secs_f64() / 60.0).max(limits.window.as_secs_f64() / 60.0);
    let rate = if minutes > 0.0 { slow as f64 / minutes } else { 0.0 };
    let detail = format!("{slow} slow queries in {:.0} s", elapsed.as_secs_f64());
    all.push(above(AlertRule::SlowQueries, rate, limits.slow_queries_per_minute_max, detail));
    let [admitted, delayed, refused] =
        [0, 1, 2].map(|at| later.guarded[at].saturating_sub(earlier.guarded[at]));
    let asked = admitted + refused;
    if asked >= GUARDED_MIN {
        let share = (delayed + refused) as f64 / asked as f64;
        let detail = format!("of {asked} operations {delayed} had to wait, {refused} were refused");
        all.push(above(AlertRule::SessionsThrottled, share, limits.throttled_share_max, detail));
    }
    all
}

/// What is as it is now.
fn levels(metrics: &Metrics, options: &Options) -> Vec<Reading> {
    let (limits, stats) = (&options.alerts, &metrics.stats);
    let mut all = Vec::new();
    if let Some(free) = metrics.disk_free_bytes {
        let min = limits.disk_free_bytes_min as f64;
        let detail = format!("{free} bytes are free");
        let mut reading = below(AlertRule::DiskNearlyFull, free as f64, min, detail);
        reading.is_critical = free < options.disk_reserve_bytes;
        all.push(reading);
    }
    let (level0, frozen) = (stats.segments[0], metrics.frozen_memtables);
    let of_level0 = level0 as f64 / limits.level0_segments_max.max(1) as f64;
    // As many as may be is as bad as one more.
    let behind = of_level0.max(frozen as f64 / (FROZEN_MAX as f64 - 0.5));
    let detail = format!("{level0} segments in level 0, {frozen} memtables wait to be flushed");
    all.push(above(AlertRule::CompactionBehind, behind, 1.0, detail));
    let (count, age_ms) = stats.snapshots;
    let age = Duration::from_millis(age_ms);
    let detail = format!("the oldest of {count} snapshots is {age:.0?} old");
    let max = limits.snapshot_age_max.as_secs_f64();
    all.push(above(AlertRule::SnapshotHeld, age.as_secs_f64(), max, detail));
    let pending = metrics.text_pending;
    let detail = format!("{pending} changes wait in one text index");
    let max = limits.text_pending_max as f64;
    all.push(above(AlertRule::TextBehind, pending as f64, max, detail));
    let lag = Duration::from_millis(stats.expiry_lag_ms);
    let detail = format!("documents are deleted {lag:.0?} after they expired");
    let max = limits.expiry_lag_max.as_secs_f64();
    all.push(above(AlertRule::ExpiryBehind, lag.as_secs_f64(), max, detail));
    all
}

/// What is so or is not.
fn facts(metrics: &Metrics) -> [Reading; 3] {
    let stats = &metrics.stats;
    let fact = |rule, holds: bool, detail: String| Reading {
        rule,
        value: f64::from(u8::from(holds)),
        limit: 0.0,
        is_critical: false,
        is_exceeded: holds,
        is_calm: !holds,
        is_fact: true,
        detail,
    };
    let failure = stats.background_error.clone();
    let mut damage = stats.damage.clone();
    damage.extend(stats.lost.iter().map(|(from, to)| format!("log {from}..{to} is lost")));
    [
        fact(AlertRule::BackgroundFailing, failure.is_some(), failure.unwrap_or_default()),
        fact(AlertRule::DamageFound, !damage.is_empty(), damage.join("; ")),
        fact(AlertRule::WritesStopped, metrics.writes_stopped, "the log failed".to_owned()),
    ]
}

fn above(rule: AlertRule, value: f64, limit: f64, detail: String) -> Reading {
    let (is_exceeded, is_calm) = (value > limit, value <= limit * (1.0 - MARGIN));
    let (is_critical, is_fact) = (false, false);
    Reading { rule, value, limit, is_critical, is_exceeded, is_calm, is_fact, detail }
}

fn below(rule: AlertRule, value: f64, limit: f64, detail: String) -> Reading {
    let (is_exceeded, is_calm) = (value < limit, value >= limit * (1.0 + MARGIN));
    let (is_critical, is_fact) = (false, false);
    Reading { rule, value, limit, is_critical, is_exceeded, is_calm, is_fact, detail }
}
