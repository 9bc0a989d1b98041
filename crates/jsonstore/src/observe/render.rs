//! Figures as text for Prometheus, and as JSON.

use std::fmt::Write;

use serde_json::{Map, Value, json};

use super::Metrics;

/// What a figure is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Counter,
    Gauge,
}

use Kind::{Counter, Gauge};

/// A metric with one value for each set of labels.
struct Family {
    /// With its unit; a counter ends in `_total`.
    name: String,
    kind: Kind,
    help: &'static str,
    /// Labels as they are written, and the value.
    values: Vec<(String, f64)>,
}

impl Metrics {
    /// The text format of Prometheus (version 0.0.4), with names and units as `OpenMetrics` wants them.
    /// Serve it as `text/plain; version=0.0.4`.
    pub fn prometheus(&self) -> String {
        let mut out = String::new();
        for family in self.families() {
            let kind = if family.kind == Counter { "counter" } else { "gauge" };
            let name = &family.name;
            let _ = writeln!(out, "# HELP {name} {}\n# TYPE {name} {kind}", family.help);
            for (labels, value) in family.values {
                let _ = writeln!(out, "{name}{labels} {value}");
            }
        }
        let name = "jsonstore_operation_duration_seconds";
        let help = "How long operations took; of get one in sixteen is timed.";
        let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} histogram");
        for found in &self.operations {
            let (operation, latency) = (found.operation.name(), &found.latency);
            let count = latency.count();
            let label = format!("operation=\"{operation}\"");
            for (bound, below) in latency.doublings() {
                let bound = bound.as_secs_f64();
                let _ = writeln!(out, "{name}_bucket{{{label},le=\"{bound}\"}} {below}");
            }
            let sum = latency.total().as_secs_f64();
            let _ = writeln!(out, "{name}_bucket{{{label},le=\"+Inf\"}} {count}");
            let _ = writeln!(out, "{name}_sum{{{label}}} {sum}\n{name}_count{{{label}}} {count}");
        }
        out
    }

    /// The same as an object: metrics by their Prometheus name without the prefix, and `operations`
    /// with `count`, `timed`, `total_seconds`, `p50_seconds`, `p99_seconds`, `p999_seconds`.
    pub fn json(&self) -> Value {
        let mut all = Map::new();
        all.insert("wall_ms".to_owned(), self.wall_ms.into());
        for family in self.families() {
            let name = family.name.trim_start_matches("jsonstore_");
            let value = match &family.values[..] {
                [(labels, value)] if labels.is_empty() => number(*value),
                values => values
                    .iter()
                    .map(|(labels, value)| (label_value(labels), number(*value)))
                    .collect::<Map<_, _>>()
                    .into(),
            };
            all.insert(name.to_owned(), value);
        }
        let operations = self.operations.iter().map(|found| {
            let latency = &found.latency;
            let at = |part| latency.quantile(part).map(|took| took.as_secs_f64());
            let figures = json!({
                "count": found.count,
                "timed": latency.count(),
                "total_seconds": latency.total().as_secs_f64(),
                "p50_seconds": at(0.5),
                "p99_seconds": at(0.99),
                "p999_seconds": at(0.999),
            });
            (found.operation.name().to_owned(), figures)
        });
        all.insert("operations".to_owned(), operations.collect::<Map<_, _>>().into());
        all.remove("operations_total");
        Value::Object(all)
    }

    fn families(&self) -> Vec<Family> {
        let mut all = Vec::new();
        self.put_work(&mut all);
        self.put_space(&mut all);
        self.put_contention(&mut all);
        self.put_integrity(&mut all);
        all
    }

    fn put_work(&self, all: &mut Vec<Family>) {
        let stats = &self.stats;
        let counts = self.operations.iter().map(|o| (o.operation.name(), o.count));
        all.push(many("operations_total", Counter, "Operations done.", "operation", counts));
        let [flushes, compactions, written] = stats.background;
        let [admitted, delayed, refused] = self.guarded;
        let [hidden, expired] = stats.expired;
        let [made, dropped] = self.automatic_indexes;
        for (name, kind, help, value) in [
            ("uptime_seconds", Gauge, "Since the store was opened.", self.uptime.as_secs_f64()),
            ("last_commit", Gauge, "Sequence number of the last commit.", float(stats.visible_seq)),
            ("commits_total", Counter, "Commits written.", float(stats.commits)),
            ("commit_groups_total", Counter, "Groups they were written in.", float(stats.groups)),
            ("log_syncs_total", Counter, "Syncs of the log.", float(stats.syncs)),
            (
                "log_written_bytes_total",
                Counter,
                "Bytes written to the log.",
                float(stats.log_bytes_written),
            ),
            ("flushes_total", Counter, "Memtables flushed.", float(flushes)),
            ("compactions_total", Counter, "Compactions done.", float(compactions)),
            (
                "compaction_written_bytes_total",
                Counter,
                "Bytes that compactions wrote.",
                float(written),
            ),
            (
                "slow_queries_total",
                Counter,
                "Queries that took longer than the threshold.",
                float(self.slow_queries),
            ),
            ("expired_deleted_total", Counter, "Documents deleted when expired.", float(expired)),
            ("expired_hidden_total", Counter, "Reads that left out a document.", float(hidden)),
            (
                "expiry_lag_seconds",
                Gauge,
                "How late the last pass deleted what had expired.",
                float(stats.expiry_lag_ms) / 1e3,
            ),
            ("sessions", Gauge, "Guarded sessions.", float(self.sessions)),
            (
                "wasted_rows_total",
                Counter,
                "Rows that queries looked at and did not return, where an index may help.",
                float(self.wasted_rows),
            ),
            ("query_shapes", Gauge, "Shapes of such queries.", float(self.query_shapes)),
            ("automatic_indexes_made_total", Counter, "Indexes made by themselves.", float(made)),
            (
                "automatic_indexes_dropped_total",
                Counter,
                "Of these, dropped again.",
                float(dropped),
            ),
        ] {
            all.push(one(name, kind, help, value));
        }
        let outcomes = [("admitted", admitted), ("delayed", delayed), ("refused", refused)];
        let help = "Operations of guarded sessions by what became of them.";
        all.push(many("guarded_operations_total", Counter, help, "outcome", outcomes));
    }

    fn put_space(&self, all: &mut Vec<Family>) {
        let stats = &self.stats;
        let levels = || (0..stats.segments.len()).map(|level| level.to_string());
        all.push(many("segments", Gauge, "Segments.", "level", levels().zip(stats.segments)));
        let bytes = levels().zip(stats.segment_bytes);
        all.push(many("segment_bytes", Gauge, "Bytes of segments.", "level", bytes));
        let [hits, misses, bytes, block_hits, block_misses, block_bytes] = stats.caches;
        let both = |documents, blocks| [("documents", documents), ("blocks", blocks)];
        for (name, kind, help, values) in [
            ("cache_hits_total", Counter, "Found in the cache.", both(hits, block_hits)),
            ("cache_misses_total", Counter, "Not in the cache.", both(misses, block_misses)),
            ("cache_bytes", Gauge, "Bytes in the cache.", both(bytes, block_bytes)),
        ] {
            all.push(many(name, kind, help, "cache", values));
        }
        for (name, help, value) in [
            ("memtable_bytes", "Bytes in memtables.", stats.memtable_bytes),
            ("frozen_memtables", "Full memtables that wait to be flushed.", self.frozen_memtables),
            ("log_backlog_bytes", "Bytes of log that no segment holds.", self.log_backlog_bytes),
            ("mapped_bytes", "Bytes of mapped segments in memory.", stats.mapped_bytes),
            (
                "compaction_limit_bytes_per_second",
                "What compaction may read now.",
                self.compaction_bytes_per_second,
            ),
            (
                "text_pending_changes",
                "The most changes that wait in one text index.",
                self.text_pending,
            ),
        ] {
            all.push(one(name, Gauge, help, float(value)));
        }
        if let Some(free) = self.disk_free_bytes {
            all.push(one("disk_free_bytes", Gauge, "Bytes free on the disk.", float(free)));
        }
    }

    fn put_contention(&self, all: &mut Vec<Family>) {
        let stats = &self.stats;
        let [waits, victims, reordered, timeouts] = stats.locks;
        let (snapshots, age_ms) = stats.snapshots;
        for (name, kind, help, value) in [
            ("lock_waits_total", Counter, "Requests for a lock that had to wait.", float(waits)),
            ("lock_timeouts_total", Counter, "Waits for a lock given up.", float(timeouts)),
            ("locks", Gauge, "Locks held or waited for.", float(stats.lock_entries)),
            (
                "conflicts_total",
                Counter,
                "Transactions refused by a conflict.",
                float(stats.conflicts),
            ),
            ("stalls_total", Counter, "Writers slowed down.", float(stats.stalls)),
            ("snapshots", Gauge, "Snapshots held.", float(snapshots)),
            ("snapshot_age_seconds", Gauge, "Age of the oldest snapshot.", float(age_ms) / 1e3),
        ] {
            all.push(one(name, kind, help, value));
        }
        let outcomes = [("victim", victims), ("reordered", reordered)];
        all.push(many("deadlocks_total", Counter, "Deadlocks broken.", "outcome", outcomes));
    }

    fn put_integrity(&self, all: &mut Vec<Family>) {
        let stats = &self.stats;
        let failing = u64::from(stats.background_error.is_some());
        for (name, kind, help, value) in [
            ("scrubbed_bytes_total", Counter, "Bytes re-read to find rot.", stats.scrubbed_bytes),
            ("damaged_files", Gauge, "Files in which rot was found.", stats.damage.len() as u64),
            ("lost_log_ranges", Gauge, "Ranges that salvage gave up.", stats.lost.len() as u64),
            ("background_failing", Gauge, "1 while background work fails.", failing),
            ("writes_stopped", Gauge, "1 after the log failed.", u64::from(self.writes_stopped)),
        ] {
            all.push(one(name, kind, help, float(value)));
        }
    }
}

fn one(name: &str, kind: Kind, help: &'static str, value: f64) -> Family {
    let values = vec![(String::new(), value)];
    Family { name: format!("jsonstore_{name}"), kind, help, values }
}

/// Names of labels and their values are ours: nothing in them has to be escaped.
fn many(
    name: &str,
    kind: Kind,
    help: &'static str,
    label: &str,
    values: impl IntoIterator<Item = (impl std::fmt::Display, u64)>,
) -> Family {
    let labelled = |(of, value)| (format!("{{{label}=\"{of}\"}}"), float(value));
    let values = values.into_iter().map(labelled).collect();
    Family { name: format!("jsonstore_{name}"), kind, help, values }
}

/// As Prometheus has it: beyond 2^53 the last digits go.
fn float(value: u64) -> f64 {
    value as f64
}

fn number(value: f64) -> Value {
    if value.fract() == 0.0 && value.abs() < 9e15 { json!(value as i64) } else { json!(value) }
}

/// `documents` of `{cache="documents"}`.
fn label_value(labels: &str) -> String {
    labels.split('"').nth(1).unwrap_or_default().to_owned()
}
