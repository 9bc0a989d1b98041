//! What queries cost, by shape.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;

use super::{AutoIndex, QueryShape};
use crate::{
    engine::Core,
    index::BTreeIndex,
    plan::{Actuals, Plan, Query},
};

/// Shapes that are remembered; beyond it the one that wastes least goes.
const SHAPES_MAX: usize = 512;
/// A query that looks at so few rows more than it returns is served well.
const WASTE_MIN: u64 = 32;
/// Figures are halved in so long.
const HALF_LIFE: Duration = Duration::from_secs(3600);
/// Operands of a filter, in bytes, beyond which it is not kept for estimates.
const OPERAND_BYTES_MAX: usize = 4096;

/// The shapes of queries that look at more than they return.
#[derive(Debug, Default)]
pub(crate) struct Shapes {
    all: Mutex<BTreeMap<(u32, u64), Record>>,
    /// Rows that queries looked at and did not return, of those that do so much.
    wasted: AtomicU64,
}

/// What queries of one shape cost.
#[derive(Debug, Clone)]
pub(super) struct Record {
    /// The last one of them.
    pub(super) query: Arc<Query>,
    /// The shape for people.
    pub(super) text: String,
    pub(super) executions: f64,
    pub(super) examined: f64,
    pub(super) returned: f64,
    pub(super) seconds: f64,
    /// When these were counted, on the monotonic clock.
    at: Duration,
}

impl Shapes {
    pub(crate) fn count(&self) -> u64 {
        self.all.lock().len() as u64
    }

    pub(crate) fn wasted(&self) -> u64 {
        self.wasted.load(Ordering::Relaxed)
    }

    /// What is known of each collection, as of now.
    pub(super) fn of_now(&self, now: Duration) -> Vec<(u32, Record)> {
        let all = self.all.lock();
        let aged = all.iter().map(|((keyspace, _), record)| {
            let mut record = record.clone();
            record.age(now);
            (*keyspace, record)
        });
        aged.collect()
    }
}

impl Record {
    fn age(&mut self, now: Duration) {
        let halvings = now.saturating_sub(self.at).as_secs_f64() / HALF_LIFE.as_secs_f64();
        let left = 0.5_f64.powf(halvings);
        for figure in
            [&mut self.executions, &mut self.examined, &mut self.returned, &mut self.seconds]
        {
            *figure *= left;
        }
        self.at = now;
    }

    pub(super) fn waste(&self) -> f64 {
        self.examined - self.returned
    }

    pub(super) fn public(&self) -> QueryShape {
        QueryShape {
            shape: self.text.clone(),
            executions: self.executions.round() as u64,
            examined: self.examined.round() as u64,
            returned: self.returned.round() as u64,
            time: Duration::from_secs_f64(self.seconds.max(0.0)),
        }
    }
}

impl Core {
    /// A query is over: its indexes were used, and if it looked at much more than it returned, an
    /// index may help. `text` is asked for only the first time.
    pub(crate) fn note_query(
        &self,
        keyspace: u32,
        query: &Arc<Query>,
        plan: &Plan,
        (actuals, took): (&Actuals, Duration),
        text: impl FnOnce() -> String,
    ) {
        plan.indexes().for_each(BTreeIndex::note_use);
        let examined = actuals.entries.max(actuals.documents);
        let waste = examined.saturating_sub(actuals.returned);
        if waste < WASTE_MIN || self.advisor.mode == AutoIndex::Off {
            return;
        }
        let shapes = &self.advisor.shapes;
        shapes.wasted.fetch_add(waste, Ordering::Relaxed);
        let Some(shape) = query.shape() else { return };
        if query.filter.operand_bytes() > OPERAND_BYTES_MAX {
            return;
        }
        let now = self.options.env.now();
        let mut all = shapes.all.lock();
        if all.len() >= SHAPES_MAX && !all.contains_key(&(keyspace, shape)) {
            all.values_mut().for_each(|record| record.age(now));
            let least = all.iter().min_by(|(_, a), (_, b)| a.waste().total_cmp(&b.waste()));
            if let Some(least) = least.map(|(key, _)| *key) {
                all.remove(&least);
            }
        }
        let record = all.entry((keyspace, shape)).or_insert_with(|| Record {
            query: Arc::clone(query),
            text: text(),
            executions: 0.0,
            examined: 0.0,
            returned: 0.0,
            seconds: 0.0,
            at: now,
        });
        record.age(now);
        record.query = Arc::clone(query);
        record.executions += 1.0;
        record.examined += examined as f64;
        record.returned += actuals.returned as f64;
        record.seconds += took.as_secs_f64();
    }
}
