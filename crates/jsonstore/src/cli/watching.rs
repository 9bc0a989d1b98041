//! `health`, `metrics`, `slow`, `advice`, `top`: how a store does.
//!
//! Figures live in the process that has the store open. The shell asks its own store; beside another
//! program `--from` reads the file that this one writes (`Options::report`).

use std::{
    fmt::Write as _,
    io::{IsTerminal, Write},
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use crate::{Advice, Metrics, SlowQuery, Store, block_on};
use anyhow::{Context, Result, bail};
use clap::Args;
use rustix::event::{PollFd, PollFlags, poll};
use serde_json::Value;

/// Slow queries that `top` shows.
const SLOW_SHOWN: usize = 5;
/// A report of a program that runs is at most five seconds old.
const STALE_SECONDS: u64 = 15;

#[derive(Debug, Args)]
pub(super) struct HealthCommand {
    #[command(flatten)]
    source: Source,
    /// Fail below this score.
    #[arg(long, value_name = "SCORE", default_value_t = 0)]
    at_least: u64,
}

#[derive(Debug, Args)]
pub(super) struct SlowCommand {
    #[command(flatten)]
    source: Source,
}

#[derive(Debug, Args)]
pub(super) struct AdviceCommand {
    #[command(flatten)]
    source: Source,
}

#[derive(Debug, Args)]
pub(super) struct TopCommand {
    #[command(flatten)]
    source: Source,
    /// Seconds between two looks.
    #[arg(long, default_value_t = 1.0)]
    every: f64,
    /// Look so many times; by default until Enter.
    #[arg(long)]
    count: Option<u64>,
}

#[derive(Debug, Args)]
pub(super) struct MetricsCommand {
    /// For Prometheus rather than as JSON.
    #[arg(long)]
    prometheus: bool,
}

#[derive(Debug, Args)]
struct Source {
    /// The report of the program that has the store open: what `--report` or `Options::report` names.
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,
}

impl Source {
    /// The report in the file; `None` if there is none, and the store itself is asked.
    fn read(&self) -> Result<Option<Value>> {
        self.from.as_deref().map(read).transpose()
    }
}

fn read(path: &Path) -> Result<Value> {
    let text = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut report: Value = serde_json::from_slice(&text)
        .with_context(|| format!("{} is no report", path.display()))?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64;
    let written_ms = report["metrics"]["wall_ms"].as_u64().context("the report has no time")?;
    let age_seconds = now.saturating_sub(written_ms) / 1000;
    if age_seconds > STALE_SECONDS {
        eprintln!("the report is {age_seconds} s old: is the program that writes it running?");
    }
    report["age_seconds"] = age_seconds.into();
    Ok(report)
}

impl HealthCommand {
    pub(super) fn run(&self, store: Option<&Store>, as_json: bool) -> Result<()> {
        let health = match (self.source.read()?, store) {
            (Some(report), _) => report["health"].clone(),
            (None, Some(store)) => store.health().json(),
            (None, None) => bail!("there is no store"),
        };
        let score = health["score"].as_u64().context("the report has no score")?;
        if as_json {
            println!("{health}");
        } else {
            let mut text = format!("health {score} of 100\n");
            put_alerts(&health, &mut text);
            print!("{text}");
        }
        if score < self.at_least {
            bail!("the score is below {}", self.at_least);
        }
        Ok(())
    }
}

fn put_alerts(health: &Value, out: &mut String) {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    for alert in health["alerts"].as_array().into_iter().flatten() {
        let mark = if alert["critical"] == true { "critical: " } else { "" };
        let _ = writeln!(out, "{} {mark}{}", text(&alert["code"]), text(&alert["meaning"]));
        let _ = writeln!(out, "         {}", text(&alert["detail"]));
        let _ = writeln!(out, "         {}", text(&alert["advice"]));
    }
}

impl MetricsCommand {
    pub(super) fn run(&self, store: &Store) {
        let metrics = store.metrics();
        match self.prometheus {
            true => print!("{}", metrics.prometheus()),
            false => println!("{}", metrics.json()),
        }
    }
}

impl SlowCommand {
    pub(super) fn run(&self, store: Option<&Store>, as_json: bool) -> Result<()> {
        let slow = match (self.source.read()?, store) {
            (Some(report), _) => report["slow"].clone(),
            (None, Some(store)) => store.slow_queries().iter().map(SlowQuery::json).collect(),
            (None, None) => bail!(
                "slow queries are known to the program that has the store open: \
                 let it write a report and name that with --from"
            ),
        };
        for query in slow.as_array().into_iter().flatten() {
            match as_json {
                true => println!("{query}"),
                false => print!("{}", slow_query(query)),
            }
        }
        Ok(())
    }
}

impl AdviceCommand {
    pub(super) async fn run(&self, store: Option<&Store>, as_json: bool) -> Result<()> {
        let advice = match (self.source.read()?, store) {
            (Some(report), _) => report["advice"].clone(),
            (None, Some(store)) => store.advice().await?.iter().map(Advice::json).collect(),
            (None, None) => bail!("there is no store"),
        };
        let all = advice.as_array().map_or(&[][..], Vec::as_slice);
        for advice in all {
            match as_json {
                true => println!("{advice}"),
                false => print!("{}", one_advice(advice)),
            }
        }
        if all.is_empty() && !as_json {
            println!(
                "no index would help, and none is too many, as far as queries tell since the store was opened"
            );
        }
        Ok(())
    }
}

fn one_advice(advice: &Value) -> String {
    let text = |name: &str| advice[name].as_str().unwrap_or_default().to_owned();
    let collection = text("collection");
    let command = match advice["action"].as_str() {
        Some("create") => format!("index create {collection} '{}'", advice["index"]),
        _ => format!("index drop {collection} {}", advice["index"]["name"].as_str().unwrap_or("?")),
    };
    let mut out = format!("{command}\n      {}\n", text("reason"));
    for query in advice["queries"].as_array().into_iter().flatten() {
        let shape = query["shape"].as_str().unwrap_or_default();
        let _ = writeln!(out, "      {} times: {shape}", query["executions"]);
    }
    out
}

fn slow_query(query: &Value) -> String {
    let text = |name: &str| query[name].as_str().unwrap_or_default().to_owned();
    format!(
        "{:>9.1} ms  {} {}: {}\n              {}; {} entries, {} documents looked at, {} returned\n",
        query["took_ms"].as_f64().unwrap_or_default(),
        text("operation"),
        text("collection"),
        text("shape"),
        text("plan"),
        query["entries"],
        query["documents"],
        query["returned"],
    )
}

impl TopCommand {
    /// Until Enter, or so many times. On a terminal each look takes the place of the one before.
    pub(super) fn run(&self, store: Option<&Store>, as_json: bool) -> Result<()> {
        let pause = Duration::try_from_secs_f64(self.every).context("no such time")?;
        let on_screen = std::io::stdout().is_terminal() && !as_json;
        let mut earlier: Option<Metrics> = None;
        let mut looks = 0;
        loop {
            let report = match (self.source.read()?, store) {
                (Some(report), _) => report,
                (None, Some(store)) => {
                    let (metrics, report) = store.report(earlier.as_ref());
                    earlier = Some(metrics);
                    report
                }
                (None, None) => bail!(
                    "what happens is known to the program that has the store open: \
                     let it write a report and name that with --from"
                ),
            };
            let mut out = std::io::stdout().lock();
            match (as_json, on_screen) {
                (true, _) => writeln!(out, "{report}")?,
                // Home, and away with what is below.
                (false, true) => writeln!(out, "\x1b[H\x1b[J{}Enter ends it", screen(&report))?,
                (false, false) => writeln!(out, "{}", screen(&report))?,
            }
            out.flush()?;
            drop(out);
            looks += 1;
            if self.count.is_some_and(|count| looks >= count) || ends(pause)? {
                return Ok(());
            }
        }
    }
}

/// Waits; true if the user pressed Enter meanwhile.
fn ends(pause: Duration) -> Result<bool> {
    let input = std::io::stdin();
    if !input.is_terminal() {
        std::thread::sleep(pause);
        return Ok(false);
    }
    let timeout = pause.try_into().context("no such time")?;
    let ready = poll(&mut [PollFd::new(&input, PollFlags::IN)], Some(&timeout))?;
    if ready > 0 {
        input.read_line(&mut String::new())?;
    }
    Ok(ready > 0)
}

/// A report for people.
fn screen(report: &Value) -> String {
    let metrics = &report["metrics"];
    let figure = |name: &str| metrics[name].as_f64().unwrap_or_default();
    let age = report["age_seconds"].as_u64();
    let mut out = age.map_or_else(String::new, |age| format!("{age} s ago: "));
    let _ = writeln!(
        out,
        "up {:.0} s, commit {}, health {} of 100, {} sessions, {} slow queries\n",
        figure("uptime_seconds"),
        metrics["last_commit"],
        report["health"]["score"],
        metrics["sessions"],
        metrics["slow_queries_total"],
    );
    let _ = writeln!(
        out,
        "{:<12}{:>12}{:>12}{:>12}{:>12}{:>12}",
        "", "in all", "per second", "p50", "p99", "worst"
    );
    for (name, all) in metrics["operations"].as_object().into_iter().flatten() {
        let recent = &report["recent"][name];
        let rate = recent["per_second"].as_f64().unwrap_or_default();
        let took = |name: &str| recent[name].as_f64().map_or_else(String::new, duration);
        let [p50, p99, worst] = ["p50_seconds", "p99_seconds", "worst_seconds"].map(took);
        // A number, for values of JSON take no width.
        let count = all["count"].as_u64().unwrap_or_default();
        let _ = writeln!(out, "{name:<12}{count:>12}{rate:>12.1}{p50:>12}{p99:>12}{worst:>12}");
    }
    let mega = |bytes: &Value| bytes.as_f64().unwrap_or_default() / 1e6;
    let sum = |of: &Value| -> f64 {
        of.as_object().into_iter().flatten().filter_map(|(_, value)| value.as_f64()).sum()
    };
    let _ = writeln!(
        out,
        "\nmemory: {:.1} MB of documents, {:.1} MB of blocks, {:.1} MB in memtables",
        mega(&metrics["cache_bytes"]["documents"]),
        mega(&metrics["cache_bytes"]["blocks"]),
        mega(&metrics["memtable_bytes"]),
    );
    let _ = writeln!(
        out,
        "disk: {} segments, {:.1} MB; {:.1} MB of log not in segments; {:.0} MB free\n",
        sum(&metrics["segments"]),
        sum(&metrics["segment_bytes"]) / 1e6,
        mega(&metrics["log_backlog_bytes"]),
        mega(&metrics["disk_free_bytes"]),
    );
    put_alerts(&report["health"], &mut out);
    let slow = report["slow"].as_array().map_or(&[][..], Vec::as_slice);
    for query in slow.iter().rev().take(SLOW_SHOWN) {
        out.push_str(&slow_query(query));
    }
    out
}

fn duration(seconds: f64) -> String {
    format!("{:.1?}", Duration::from_secs_f64(seconds))
}

/// Runs what asks another program rather than the store, which it therefore cannot open.
pub(super) fn without_store(command: &super::Command, as_json: bool) -> Option<Result<()>> {
    match command {
        super::Command::Health(health) if health.source.from.is_some() => {
            Some(health.run(None, as_json))
        }
        super::Command::Advice(advice) if advice.source.from.is_some() => {
            Some(block_on(advice.run(None, as_json)))
        }
        super::Command::Slow(slow) => Some(slow.run(None, as_json)),
        super::Command::Top(top) => Some(top.run(None, as_json)),
        _ => None,
    }
}
