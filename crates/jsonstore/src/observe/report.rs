//! Everything in one JSON object, for people and for programs beside the one that has the store open.

use std::{io, path::Path, time::Duration};

use serde_json::{Map, Value, json};

use super::{Health, Metrics, health};
use crate::{
    advice::Advice,
    api::Store,
    engine::Core,
    vfs::{OpenMode, write_all_at},
};

impl Metrics {
    /// What happened since an earlier reading, by operation: `per_second`, and of those that were timed
    /// `p50_seconds`, `p99_seconds`, `worst_seconds`.
    pub fn recent(&self, earlier: &Self) -> Value {
        let elapsed = self.uptime.saturating_sub(earlier.uptime).as_secs_f64();
        let pairs = self.operations.iter().zip(&earlier.operations);
        let recent = pairs.map(|(now, then)| {
            let count = now.count.saturating_sub(then.count) as f64;
            let latency = now.latency.since(&then.latency);
            let at = |part| latency.quantile(part).map(|took| took.as_secs_f64());
            let figures = json!({
                "per_second": if elapsed > 0.0 { count / elapsed } else { 0.0 },
                "p50_seconds": at(0.5),
                "p99_seconds": at(0.99),
                "worst_seconds": at(1.0),
            });
            (now.operation.name().to_owned(), figures)
        });
        recent.collect::<Map<_, _>>().into()
    }
}

impl Store {
    /// `metrics`, `health`, `slow` queries, `advice` of the last minute, and what was `recent` since an
    /// earlier reading: what [`crate::Options::report`] writes. The reading that it is made of comes
    /// with it.
    pub fn report(&self, earlier: Option<&Metrics>) -> (Metrics, Value) {
        let (metrics, health) = health::evaluate(self.core());
        let json = report(self.core(), &metrics, &health, earlier);
        (metrics, json)
    }
}

fn report(core: &Core, metrics: &Metrics, health: &Health, earlier: Option<&Metrics>) -> Value {
    let slow: Vec<Value> = core.observer.slow.last().iter().map(super::SlowQuery::json).collect();
    json!({
        "metrics": metrics.json(),
        "recent": earlier.map(|earlier| metrics.recent(earlier)),
        "health": health.json(),
        "slow": slow,
        "advice": core.advisor.last().iter().map(Advice::json).collect::<Vec<_>>(),
    })
}

/// What the ticker remembers from one look to the next.
#[derive(Debug, Default)]
pub(crate) struct Reporter {
    at: Duration,
    last: Option<Metrics>,
}

impl Core {
    /// Looks at the alert rules, and writes the report, if it is time; for the ticker.
    pub(crate) fn watch_health(&self, reporter: &mut Reporter) {
        let now = self.options.env.now();
        if now.saturating_sub(reporter.at) < health::PERIOD {
            return;
        }
        reporter.at = now;
        let (metrics, health) = health::evaluate(self);
        if let Some(path) = &self.options.report {
            let text = match path.extension().is_some_and(|end| end == "prom") {
                true => metrics.prometheus(),
                false => report(self, &metrics, &health, reporter.last.as_ref()).to_string(),
            };
            if let Err(e) = self.replace(path, text.as_bytes()) {
                tracing::warn!(target: "jsonstore::report", "cannot write {}: {e}", path.display());
            }
        }
        reporter.last = Some(metrics);
    }

    /// Whoever reads the file sees all of it, old or new. It need not survive a power cut.
    fn replace(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let vfs = &self.options.vfs;
        let mut aside = path.as_os_str().to_owned();
        aside.push(".tmp");
        let aside = Path::new(&aside);
        let file = vfs.open(aside, OpenMode::Create)?;
        write_all_at(&*file, bytes, 0)?;
        vfs.rename(aside, path)
    }
}
