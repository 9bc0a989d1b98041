//! What was chosen for queries of one shape, so that the next of them need not be planned.
//!
//! Only choices that look at few rows are remembered: there planning costs more than the answer, and a
//! choice that suits one value and not the next costs little before it is noticed.

use std::collections::HashMap;

use parking_lot::Mutex;

use super::Query;
use crate::codec::{StableBuilder, hash_key};

/// Shapes remembered per collection; beyond it all are forgotten.
const SHAPES_MAX: usize = 512;
/// Plans that expect to look at more rows than this are made anew each time.
const ROWS_MAX: u64 = 200;
/// After so many uses a choice is made again: the documents may have changed.
const USES_MAX: u32 = 1000;

/// The way that was chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Choice {
    Ids,
    /// The place of the index in the state of the collection.
    Index(usize),
}

#[derive(Debug, Clone, Copy)]
struct Remembered {
    choice: Choice,
    rows: u64,
    /// One range of an index was all of it.
    is_single: bool,
    uses: u32,
}

/// The choices of one state of a collection: a new state, as every change of its indexes makes one,
/// begins without any.
#[derive(Debug, Default)]
pub(crate) struct Choices(Mutex<HashMap<u64, Remembered, StableBuilder>>);

impl Choices {
    /// What was chosen for the shape, with the rows that it was expected to look at.
    pub(crate) fn recall(&self, shape: u64) -> Option<(Choice, u64)> {
        let mut all = self.0.lock();
        let found = all.get_mut(&shape)?;
        found.uses += 1;
        let answer = (found.choice, found.rows);
        if found.uses >= USES_MAX {
            all.remove(&shape);
        }
        Some(answer)
    }

    /// The same, if one range of an index was all that the choice came to.
    pub(crate) fn recall_single(&self, shape: u64) -> Option<(Choice, u64)> {
        self.0.lock().get(&shape).filter(|found| found.is_single)?;
        self.recall(shape)
    }

    pub(crate) fn remember(&self, shape: u64, choice: Choice, rows: u64, is_single: bool) {
        if rows > ROWS_MAX {
            return;
        }
        let mut all = self.0.lock();
        if all.len() >= SHAPES_MAX {
            all.clear();
        }
        all.insert(shape, Remembered { choice, rows, is_single, uses: 0 });
    }

    /// It proved wrong.
    pub(crate) fn forget(&self, shape: u64) {
        self.0.lock().remove(&shape);
    }
}

impl Query {
    /// Equal for queries that one plan suits, and mostly not for others; `None` if each is planned for
    /// itself.
    pub(crate) fn shape(&self) -> Option<u64> {
        if self.hint.is_some() || self.filter.text().is_some() {
            return None;
        }
        let mut shape = self.filter.fingerprint();
        let mut add = |kind: u32, bytes: &[u8]| {
            shape = shape.rotate_left(7) ^ hash_key(kind, bytes);
        };
        for by in &*self.sort.fields {
            add(40 + u32::from(by.ascending), by.path.as_str().as_bytes());
        }
        // How many are wanted decides between one plan and another, but only roughly.
        let wanted = self.limit.map_or(u64::MAX, |limit| limit.saturating_add(self.skip));
        add(42, &[wanted.leading_zeros() as u8, u8::from(self.counts)]);
        if let Some(path) = &self.distinct {
            add(43, path.as_str().as_bytes());
        }
        if let Some(projection) = &self.projection {
            add(44, &[]);
            for path in projection.fields().into_iter().flatten() {
                add(45, path.as_str().as_bytes());
            }
        }
        Some(shape)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;
    use crate::{
        Collection, Index, Store, block_on,
        plan::Execution,
        query::{Filter, Sort},
        testing::{SimEnv, SimVfs, small_options},
    };

    /// Answers the query as `find` does; what it found, whether the plan was recalled, plans given up.
    fn answer(docs: &Collection, query: Query) -> (usize, bool, u64) {
        let hold = Arc::clone(&docs.store.snapshot().hold);
        let (core, keyspace) = (docs.store.core(), docs.existing().unwrap());
        let mut execution =
            Execution::new(core, keyspace, Arc::new(query), hold.seq, hold).unwrap();
        let is_recalled = execution.is_recalled();
        let mut count = 0;
        loop {
            match execution.next(core).unwrap().len() {
                0 => return (count, is_recalled, execution.actuals.switches),
                more => count += more,
            }
        }
    }

    #[test]
    fn a_choice_serves_the_next_query_and_is_given_up_where_it_does_not_suit() {
        let options = small_options(&SimVfs::new(), &Arc::new(SimEnv::new(1)));
        let store = block_on(Store::open(options)).unwrap();
        let docs = store.collection("c").unwrap();
        block_on(docs.create_index(Index::on("kind"))).unwrap();
        block_on(docs.create_index(Index::on("n"))).unwrap();
        for id in 0..6000 {
            let kind = if id % 1000 == 0 { "rare" } else { "common" };
            block_on(docs.put(&format!(r#"{{"_id":{id},"kind":"{kind}","n":{id}}}"#))).unwrap();
        }
        let query = |kind: &str, n: u64| Query {
            filter: Filter::from_json(&json!({"kind": kind, "n": {"$gte": n}})).unwrap(),
            ..Query::default()
        };
        assert_eq!(answer(&docs, query("rare", 0)), (6, false, 0));
        assert_eq!(answer(&docs, query("rare", 3000)), (3, true, 0));
        // By `kind` this would look at nearly everything.
        assert_eq!(answer(&docs, query("common", 5990)), (10, true, 1));
        assert!(!answer(&docs, query("rare", 0)).1, "it was forgotten");
        block_on(docs.drop_index("n")).unwrap();
        assert!(!answer(&docs, query("rare", 0)).1, "other indexes, other choices");
    }

    #[test]
    fn choices_are_bounded_and_wear_out() {
        let choices = Choices::default();
        choices.remember(1, Choice::Ids, ROWS_MAX + 1, false);
        assert_eq!(choices.recall(1), None, "too many rows to be worth it");
        choices.remember(1, Choice::Index(2), 3, false);
        assert_eq!(choices.recall_single(1), None);
        for _ in 0..USES_MAX {
            assert_eq!(choices.recall(1), Some((Choice::Index(2), 3)));
        }
        assert_eq!(choices.recall(1), None, "it is time to look again");
        for shape in 0..SHAPES_MAX as u64 + 10 {
            choices.remember(shape, Choice::Ids, 1, false);
        }
        assert!(choices.0.lock().len() <= SHAPES_MAX);
        choices.forget(SHAPES_MAX as u64 + 9);
        assert_eq!(choices.recall(SHAPES_MAX as u64 + 9), None);
    }

    #[test]
    fn a_shape_is_what_decides_the_plan() {
        let query = |filter: serde_json::Value| Query {
            filter: Filter::from_json(&filter).unwrap(),
            ..Query::default()
        };
        let base = query(json!({"a": 1, "b": {"$gt": "x"}}));
        let same = query(json!({"b": {"$gt": "yyy"}, "a": 2.5}));
        assert_eq!(base.shape(), same.shape());
        let limit = |limit| Query { limit: Some(limit), ..base.clone() };
        assert_eq!(limit(100).shape(), limit(101).shape());
        let sorted = Query { sort: Sort::new().ascending("a").unwrap(), ..base.clone() };
        let others = [
            query(json!({"a": 1, "b": {"$gte": "x"}})),
            query(json!({"a": "1", "b": {"$gt": "x"}})),
            query(json!({"a": 1, "c": {"$gt": "x"}})),
            query(json!({"$or": [{"a": 1}, {"b": {"$gt": "x"}}]})),
            limit(1),
            sorted,
            Query { counts: true, ..base.clone() },
        ];
        let mut shapes: Vec<_> = others.iter().map(Query::shape).collect();
        shapes.push(base.shape());
        shapes.sort_unstable();
        shapes.dedup();
        assert_eq!(shapes.len(), others.len() + 1);
        assert_eq!(Query { hint: Some("_id".into()), ..base }.shape(), None);
    }
}
