//! Alerts that fire and end without flapping, and the score that follows from them.

use std::{collections::VecDeque, time::Duration};

use serde_json::{Value, json};

use super::{
    Metrics, metrics,
    rules::{AlertRule, Reading, Sample, readings},
};
use crate::{api::Store, engine::Core, options::Options};

/// A rule that fires.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Alert {
    /// Which, with its code, meaning and advice.
    pub rule: AlertRule,
    /// It cannot wait.
    pub is_critical: bool,
    /// Since when, in milliseconds since the Unix epoch.
    pub since_ms: u64,
    /// The figure now, in seconds, bytes, parts of one, or a number.
    pub value: f64,
    /// Its limit.
    pub limit: f64,
    /// The figure in words.
    pub detail: String,
}

/// How a store is: what is wrong, and how wrong.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Health {
    /// 100 if nothing is wrong, 0 if nothing can be written; the worst alert decides, and each other
    /// one takes five more.
    pub score: u8,
    /// The worst first.
    pub alerts: Vec<Alert>,
}

impl Alert {
    /// The members of the struct, with `code`, `meaning` and `advice`.
    pub fn json(&self) -> Value {
        json!({
            "code": self.rule.code(),
            "critical": self.is_critical,
            "since_ms": self.since_ms,
            "value": self.value,
            "limit": self.limit,
            "detail": self.detail,
            "meaning": self.rule.meaning(),
            "advice": self.rule.advice(),
        })
    }

    fn score(&self) -> u8 {
        self.rule.score(self.is_critical)
    }
}

impl Health {
    fn of(mut alerts: Vec<Alert>) -> Self {
        alerts.sort_by_key(Alert::score);
        let worst = alerts.first().map_or(100, Alert::score);
        let others = u8::try_from(alerts.len().saturating_sub(1) * 5).unwrap_or(u8::MAX);
        Self { score: worst.saturating_sub(others), alerts }
    }

    /// `score` and `alerts`.
    pub fn json(&self) -> Value {
        json!({
            "score": self.score,
            "alerts": self.alerts.iter().map(Alert::json).collect::<Vec<_>>(),
        })
    }
}

impl std::fmt::Display for Health {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "health {} of 100", self.score)?;
        for alert in &self.alerts {
            let mark = if alert.is_critical { "critical: " } else { "" };
            writeln!(f, "{} {mark}{}", alert.rule.code(), alert.rule.meaning())?;
            writeln!(f, "         {}", alert.detail)?;
            writeln!(f, "         {}", alert.rule.advice())?;
        }
        Ok(())
    }
}

impl Store {
    /// What is wrong with the store, and what to do about it.
    ///
    /// Rates are of the last minute or so ([`crate::AlertLimits::window`]). They are taken now and, if
    /// the store has threads, every few seconds; so an alert begins and ends when nobody asks, too,
    /// and each beginning and end is an event of `tracing`, target `jsonstore::alert`.
    pub fn health(&self) -> Health {
        evaluate(self.core()).1
    }
}

/// How often the ticker looks.
pub(crate) const PERIOD: Duration = Duration::from_secs(5);
/// Samples that a window is made of, about.
const SAMPLES: u32 = 6;

/// What the rules found so far.
#[derive(Debug, Default)]
pub(super) struct Judge {
    /// Of the last window, the oldest first; one is as old as the window or older.
    samples: VecDeque<Sample>,
    states: [State; AlertRule::ALL.len()],
}

#[derive(Debug, Clone, Default)]
struct State {
    exceeded_since: Option<Duration>,
    calm_since: Option<Duration>,
    alert: Option<Alert>,
}

pub(super) fn evaluate(core: &Core) -> (Metrics, Health) {
    let metrics = metrics::gather(core);
    let now = core.options.env.now();
    let mut judge = core.observer.judge.lock();
    let health = judge.hear(&metrics, now, &core.options);
    (metrics, health)
}

impl Judge {
    /// What follows from these figures. The first sample is that of the opening: nothing yet.
    fn hear(&mut self, metrics: &Metrics, now: Duration, options: &Options) -> Health {
        let limits = &options.alerts;
        if self.samples.is_empty() {
            let at = now.saturating_sub(metrics.uptime);
            self.samples.push_back(Sample::nothing(at));
        }
        let is_old = |sample: &Sample| sample.at + limits.window <= now;
        while self.samples.get(1).is_some_and(is_old) {
            self.samples.pop_front();
        }
        let earlier = self.samples.front().cloned().unwrap_or_default();
        let found = readings(metrics, &earlier, now, options);
        let due = self.samples.back().map_or(now, |last| last.at + limits.window / SAMPLES);
        if due <= now {
            self.samples.push_back(Sample::of(metrics, now));
        }
        let mut alerts = Vec::new();
        for (rule, state) in AlertRule::ALL.into_iter().zip(&mut self.states) {
            let reading = found.iter().find(|reading| reading.rule == rule);
            state.hear(rule, reading, now, metrics.wall_ms, options);
            alerts.extend(state.alert.clone());
        }
        Health::of(alerts)
    }
}

impl State {
    /// A rule of which nothing is known now is calm: nobody reads, nobody syncs.
    fn hear(
        &mut self,
        rule: AlertRule,
        reading: Option<&Reading>,
        now: Duration,
        wall_ms: u64,
        options: &Options,
    ) {
        let limits = &options.alerts;
        let since = |held: bool, since: Option<Duration>| held.then(|| since.unwrap_or(now));
        let is_exceeded = reading.is_some_and(|reading| reading.is_exceeded);
        let is_calm = reading.is_none_or(|reading| reading.is_calm);
        self.exceeded_since = since(is_exceeded, self.exceeded_since);
        self.calm_since = since(is_calm, self.calm_since);
        let is_fact = reading.is_some_and(|reading| reading.is_fact);
        let fires = |from: Duration| is_fact || now.saturating_sub(from) >= limits.fires_after;
        let ends = |from: Duration| is_fact || now.saturating_sub(from) >= limits.ends_after;
        match (&mut self.alert, reading) {
            (None, Some(reading)) if self.exceeded_since.is_some_and(fires) => {
                let (code, detail) = (rule.code(), &reading.detail);
                tracing::warn!(target: "jsonstore::alert", code, detail, "{}", rule.meaning());
                self.alert = Some(Alert {
                    rule,
                    is_critical: reading.is_critical,
                    since_ms: wall_ms,
                    value: reading.value,
                    limit: reading.limit,
                    detail: reading.detail.clone(),
                });
            }
            (Some(_), _) if self.calm_since.is_some_and(ends) => {
                tracing::info!(target: "jsonstore::alert", code = rule.code(), "over");
                self.alert = None;
            }
            (Some(alert), Some(reading)) => {
                (alert.is_critical, alert.value) = (reading.is_critical, reading.value);
                alert.detail.clone_from(&reading.detail);
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{Latency, Operation, OperationMetrics, histogram::Cells},
        *,
    };
    use crate::api::Stats;

    const SECOND: Duration = Duration::from_secs(1);

    /// Of a store that does well.
    fn well() -> Metrics {
        let operation =
            |operation| OperationMetrics { operation, count: 0, latency: Latency::default() };
        Metrics {
            wall_ms: 0,
            uptime: Duration::ZERO,
            operations: Operation::ALL.into_iter().map(operation).collect(),
            stats: Stats::default(),
            slow_queries: 0,
            frozen_memtables: 0,
            log_backlog_bytes: 0,
            disk_free_bytes: Some(1 << 40),
            compaction_bytes_per_second: 1 << 30,
            writes_stopped: false,
            text_pending: 0,
            sessions: 0,
            guarded: [0; 3],
            wasted_rows: 0,
            query_shapes: 0,
            automatic_indexes: [0; 2],
        }
    }

    fn set_syncs(metrics: &mut Metrics, count: u32, took: Duration) {
        let cells = Cells::new();
        (0..count).for_each(|_| cells.time(took));
        let mut latency = Latency::default();
        cells.add_to(&mut latency);
        metrics.operations[Operation::Sync as usize].latency = latency;
    }

    fn codes(health: &Health) -> Vec<&'static str> {
        health.alerts.iter().map(|alert| alert.rule.code()).collect()
    }

    /// What comes of figures that stay so for as long as it takes to fire.
    fn steady(change: impl Fn(&mut Metrics)) -> Health {
        let (mut judge, options) = (Judge::default(), Options::new("unused"));
        let mut metrics = well();
        change(&mut metrics);
        judge.hear(&metrics, 5 * SECOND, &options);
        judge.hear(&metrics, 15 * SECOND, &options)
    }

    #[test]
    fn each_rule_fires_beyond_its_limit_and_not_before() {
        type Change = fn(&mut Metrics);
        const MS: fn(u64) -> Duration = Duration::from_millis;
        let rows: [(&str, Change, Change); 12] = [
            ("H-DB-001", |m| m.stats.background_error = Some("no".into()), |_| {}),
            (
                "H-DB-002",
                |m| (m.stats.caches[3], m.stats.caches[4]) = (499, 501),
                |m| (m.stats.caches[3], m.stats.caches[4]) = (500, 500),
            ),
            ("H-DB-003", |m| m.stats.segments[0] = 9, |m| m.stats.segments[0] = 8),
            ("H-DB-004", |m| m.stats.damage.push("seg/1".into()), |_| {}),
            (
                "H-DB-005",
                |m| m.disk_free_bytes = Some((1 << 30) - 1),
                |m| m.disk_free_bytes = Some(1 << 30),
            ),
            ("H-DB-006", |m| m.stats.expiry_lag_ms = 600_001, |m| m.stats.expiry_lag_ms = 600_000),
            ("H-DB-007", |m| m.guarded = [100, 21, 0], |m| m.guarded = [100, 20, 0]),
            ("H-DB-008", |m| m.slow_queries = 31, |m| m.slow_queries = 30),
            (
                "H-DB-009",
                |m| m.stats.snapshots = (1, 300_001),
                |m| m.stats.snapshots = (1, 300_000),
            ),
            ("H-DB-010", |m| set_syncs(m, 20, MS(101)), |m| set_syncs(m, 19, MS(101))),
            ("H-DB-011", |m| m.text_pending = 8193, |m| m.text_pending = 8192),
            ("H-DB-012", |m| m.writes_stopped = true, |_| {}),
        ];
        let mut rules = AlertRule::ALL.into_iter();
        for (code, beyond, within) in rows {
            assert_eq!(rules.next().map(AlertRule::code), Some(code));
            let found = steady(beyond);
            assert_eq!(codes(&found), [code]);
            assert!(found.score < 90 && !found.alerts[0].rule.advice().is_empty());
            assert_eq!((steady(within).score, steady(within).alerts), (100, vec![]), "{code}");
        }
        assert_eq!(rules.next(), None);
        // The other ways to the same.
        assert_eq!(codes(&steady(|m| m.frozen_memtables = 3)), ["H-DB-003"]);
        assert!(steady(|m| m.frozen_memtables = 2).alerts.is_empty());
        assert_eq!(codes(&steady(|m| m.stats.lost.push((5, 9)))), ["H-DB-004"]);
        assert_eq!(codes(&steady(|m| m.guarded = [40, 0, 11])), ["H-DB-007"]);
        assert!(steady(|m| m.guarded = [0, 0, 49]).alerts.is_empty(), "too few to tell");
        assert!(steady(|m| set_syncs(m, 20, MS(90))).alerts.is_empty());
        assert!(steady(|m| m.disk_free_bytes = None).alerts.is_empty());
    }

    #[test]
    fn the_worst_decides_and_the_others_count() {
        let disk = steady(|m| m.disk_free_bytes = Some(1000));
        assert!(disk.alerts[0].is_critical, "less than the reserve");
        assert_eq!(disk.score, 25);
        let both = steady(|m| {
            m.stats.snapshots = (1, 1 << 40);
            m.stats.segments[0] = 99;
        });
        assert_eq!((both.score, codes(&both)), (55, vec!["H-DB-003", "H-DB-009"]));
        assert_eq!(steady(|m| m.writes_stopped = true).score, 0);
    }

    #[test]
    fn an_alert_does_not_flap() {
        let (mut judge, options) = (Judge::default(), Options::new("unused"));
        let mut hear = |seconds: u32, age_ms: u64| {
            let mut metrics = well();
            (metrics.stats.snapshots, metrics.wall_ms) = ((1, age_ms), u64::from(seconds));
            let health = judge.hear(&metrics, seconds * SECOND, &options);
            health.alerts.first().map(|alert| (alert.since_ms, alert.value))
        };
        // Short peaks are none.
        for second in 0..60 {
            assert_eq!(hear(second, if second % 10 == 9 { 0 } else { 400_000 }), None);
        }
        assert_eq!(hear(60, 400_000), None);
        assert_eq!(hear(69, 400_000), None);
        assert_eq!(hear(70, 400_000), Some((70, 400.0)));
        // On the right side, but not by a fifth.
        for second in 71..300 {
            assert_eq!(hear(second, 290_000), Some((70, 290.0)));
        }
        // A fifth, but not for long.
        assert_eq!(hear(300, 200_000), Some((70, 200.0)));
        assert_eq!(hear(359, 200_000), Some((70, 200.0)));
        assert_eq!(hear(360, 200_000), None);
        assert_eq!(hear(361, 400_000), None);
        assert_eq!(hear(371, 400_000), Some((371, 400.0)));
    }

    #[test]
    fn rates_are_of_the_last_minute() {
        let (mut judge, options) = (Judge::default(), Options::new("unused"));
        let mut metrics = well();
        let mut fired = Vec::new();
        for second in (0..400).step_by(5) {
            // Two in a second, for a minute and a half.
            metrics.slow_queries = 2 * u64::from(u32::min(second, 90));
            metrics.uptime = second * SECOND;
            fired.push(!judge.hear(&metrics, second * SECOND, &options).alerts.is_empty());
            assert!(judge.samples.len() <= SAMPLES as usize + 2);
        }
        let first = fired.iter().position(|fires| *fires).unwrap() * 5;
        let last = fired.iter().rposition(|fires| *fires).unwrap() * 5;
        assert!((20..=40).contains(&first), "{first}");
        // 30 in a minute pass 45 s after the end, 24 after 48 s; then it is calm for a minute.
        assert!((190..=230).contains(&last), "{last}");
    }
}
