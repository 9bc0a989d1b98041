//! From what queries cost to a list of advice.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use super::{
    Advice, AdviceAction,
    need::{Fields, Need, holds_of},
    sample::Sample,
    shapes::Record,
};
use crate::{
    engine::{Core, KeyspaceKind},
    error::Result,
    index::{BTreeIndex, Collation, Index, IndexKind},
    observe::Operation,
};

/// Queries that an index would have helped lately, before it is spoken of.
const EXECUTIONS_MIN: f64 = 5.0;
/// An index has to spare this part of what its queries look at.
const SPARED_MIN: f64 = 0.5;
/// Indexes that are thought of for one collection.
const CANDIDATES_MAX: usize = 16;
/// An index that nobody used for so long, with the store open, is spoken of.
const UNUSED_AFTER: Duration = Duration::from_secs(3600);
/// Queries of whatever kind that have to have come meanwhile.
const USES_MIN: u64 = 100;

/// An index to make.
#[derive(Debug)]
struct Candidate {
    fields: Fields,
    served: Vec<(Need, Record)>,
}

impl Core {
    /// See `Store::advice`.
    pub(crate) fn advice(self: &Arc<Self>) -> Result<Vec<Advice>> {
        let mut records: BTreeMap<u32, Vec<Record>> = BTreeMap::new();
        for (keyspace, record) in self.advisor.shapes.of_now(self.options.env.now()) {
            records.entry(keyspace).or_default().push(record);
        }
        let (mut create, mut drop) = (Vec::new(), Vec::new());
        for (name, keyspace, kind) in self.keyspaces() {
            if kind != KeyspaceKind::Documents {
                continue;
            }
            let state = self.collection_state(keyspace).unwrap_or_default();
            if let Some(records) = records.remove(&keyspace) {
                create.extend(self.to_create(&name, keyspace, records, &state.indexes)?);
            }
            drop.extend(redundant(&name, &state.indexes));
            drop.extend(self.unused(&name, &state.indexes));
        }
        create
            .sort_by(|a, b| b.rows_saved.cmp(&a.rows_saved).then_with(|| a.reason.cmp(&b.reason)));
        create.extend(drop);
        Ok(create)
    }

    fn to_create(
        self: &Arc<Self>,
        collection: &str,
        keyspace: u32,
        records: Vec<Record>,
        indexes: &[Arc<BTreeIndex>],
    ) -> Result<Vec<Advice>> {
        let candidates = candidates(records, indexes);
        if candidates.is_empty() {
            return Ok(Vec::new());
        }
        let sample = self.sample(keyspace)?;
        let mut found = Vec::new();
        for mut candidate in candidates {
            candidate.keep_one_array(&sample);
            let is_there = indexes.iter().any(|index| {
                index.partial().is_none() && index.definition.fields.starts_with(&candidate.fields)
            });
            if !is_there && !candidate.fields.is_empty() {
                found.extend(candidate.advice(collection, &sample));
            }
        }
        Ok(found)
    }

    fn unused(&self, collection: &str, indexes: &[Arc<BTreeIndex>]) -> Vec<Advice> {
        let now = self.options.env.now();
        let uses: u64 = indexes.iter().map(|index| index.uses()).sum();
        let is_of_no_use = |index: &&Arc<BTreeIndex>| {
            let known = now.saturating_sub(index.known_since());
            index.is_ready()
                && index.uses() == 0
                && known >= UNUSED_AFTER
                && serves_reads_only(index)
        };
        if uses < USES_MIN && self.observer.count_of(Operation::Find) < USES_MIN {
            return Vec::new();
        }
        let advice = |index: &Arc<BTreeIndex>| {
            let hours = now.saturating_sub(index.known_since()).as_secs() / 3600;
            let reason = format!("no query used it for {hours} hours, and every write keeps it up");
            about(collection, AdviceAction::DropUnused, index, reason)
        };
        indexes.iter().filter(is_of_no_use).map(advice).collect()
    }
}

/// The indexes for these queries, those that serve several once.
fn candidates(mut records: Vec<Record>, indexes: &[Arc<BTreeIndex>]) -> Vec<Candidate> {
    records.sort_by(|a, b| b.waste().total_cmp(&a.waste()).then_with(|| a.text.cmp(&b.text)));
    let needs: Vec<(Need, Record)> = records
        .into_iter()
        .filter_map(|record| Some((Need::of(&record.query)?, record)))
        .filter(|(need, _)| !indexes.iter().any(|index| need.is_served_by_index(&index.definition)))
        .collect();
    // Fields that many queries give values for come first, so that one index serves them.
    let mut weight: BTreeMap<String, u64> = BTreeMap::new();
    for (need, _) in &needs {
        for path in &need.equal {
            *weight.entry(path.clone()).or_default() += 1;
        }
    }
    let first = |path: &str| weight.get(path).copied().unwrap_or_default();
    let mut all: Vec<Candidate> = Vec::new();
    for (need, record) in needs {
        if let Some(candidate) = all.iter_mut().find(|c| need.is_served_by(&c.fields)) {
            candidate.served.push((need, record));
            continue;
        }
        let fields = need.fields(first);
        // One that goes on where another ends does what both do.
        let serves_all = |candidate: &Candidate| {
            candidate.served.iter().all(|(need, _)| need.is_served_by(&fields))
        };
        if let Some(candidate) = all.iter_mut().find(|candidate| serves_all(candidate)) {
            candidate.fields = fields;
            candidate.served.push((need, record));
        } else if all.len() < CANDIDATES_MAX {
            all.push(Candidate { fields, served: vec![(need, record)] });
        }
    }
    all
}

impl Candidate {
    /// Only one field of an index may be, or lie in, an array.
    fn keep_one_array(&mut self, sample: &Sample) {
        let mut has_one = false;
        self.fields.retain(|(path, _)| {
            let is_array = sample.has_array_at(path);
            let keep = !(is_array && has_one);
            has_one |= is_array;
            keep
        });
    }

    /// `None` if it would not help enough.
    fn advice(&self, collection: &str, sample: &Sample) -> Option<Advice> {
        let (mut executions, mut examined, mut saved, mut seconds) = (0.0, 0.0, 0.0, 0.0);
        let mut part_max = 0.0_f64;
        for (need, record) in &self.served {
            let part = sample
                .part(|document| holds_of(record.query.filter.expr(), &self.fields, document));
            let mut rows = part * sample.total as f64;
            // In the order that is wanted it can stop early.
            if let Some(limit) = record.query.limit.filter(|_| !need.sort.is_empty()) {
                rows = rows.min(limit.saturating_add(record.query.skip) as f64);
            }
            let spared = (record.examined - record.executions * rows).max(0.0);
            part_max = part_max.max(rows / (sample.total as f64).max(1.0));
            executions += record.executions;
            examined += record.examined;
            saved += spared;
            seconds += record.seconds * spared / record.examined.max(1.0);
        }
        if executions < EXECUTIONS_MIN || saved < examined * SPARED_MIN {
            return None;
        }
        let index = Index { fields: self.fields.clone(), ..Index::default() };
        let looked = (examined / executions).round();
        let would = ((examined - saved) / executions).round().max(1.0);
        let reason = format!(
            "{executions:.0} queries lately looked at {looked} rows each; with it about {would}, \
             {:.1} % of the collection",
            part_max * 100.0
        );
        Some(Advice {
            collection: collection.to_owned(),
            action: AdviceAction::Create,
            index,
            reason,
            queries: self.served.iter().map(|(_, record)| record.public()).collect(),
            rows_saved: saved.round() as u64,
            time_saved: Duration::from_secs_f64(seconds),
        })
    }
}

/// Indexes that do nothing which another one does not do as well.
fn redundant(collection: &str, indexes: &[Arc<BTreeIndex>]) -> Vec<Advice> {
    let mut found = Vec::new();
    for (i, index) in indexes.iter().enumerate() {
        let better = indexes.iter().enumerate().find(|(j, other)| {
            // Of two that are the same, the later one may go, and rather what was made by itself.
            let is_same = other.definition.fields.len() == index.definition.fields.len();
            let goes_first = match (index.is_automatic(), other.is_automatic()) {
                (true, false) => true,
                (false, true) => false,
                _ => *j < i,
            };
            *j != i && other.is_ready() && is_covered_by(index, other) && (!is_same || goes_first)
        });
        if let Some((_, better)) = better {
            let reason = format!("`{}` does all that it does", better.name());
            found.push(about(collection, AdviceAction::DropRedundant, index, reason));
        }
    }
    found
}

/// Whether each use of the one could be one of the other.
fn is_covered_by(one: &BTreeIndex, other: &BTreeIndex) -> bool {
    let (a, b) = (&one.definition, &other.definition);
    let same_kind = a.kind == IndexKind::BTree
        && b.kind == IndexKind::BTree
        && a.collation == Collation::Binary
        && b.collation == Collation::Binary
        && a.partial == b.partial
        && a.sparse == b.sparse;
    if !same_kind || !serves_reads_only(one) || a.fields.len() > b.fields.len() {
        return false;
    }
    let agrees = |invert: bool| {
        a.fields.iter().zip(&b.fields).all(|((path, direction), (other, other_direction))| {
            let same = direction == other_direction;
            path == other && same != invert
        })
    };
    let holds =
        |path: &String| b.include.contains(path) || b.fields.iter().any(|(field, _)| field == path);
    // A sparse index leaves out what has none of its fields: with more fields, less.
    let same_documents = !a.sparse || a.fields.len() == b.fields.len();
    same_documents && (agrees(false) || agrees(true)) && a.include.iter().all(holds)
}

/// It refuses nothing, and nothing expires by it.
fn serves_reads_only(index: &BTreeIndex) -> bool {
    !index.definition.unique && index.definition.expire_after_ms.is_none()
}

fn about(collection: &str, action: AdviceAction, index: &BTreeIndex, reason: String) -> Advice {
    Advice {
        collection: collection.to_owned(),
        action,
        index: index.definition.clone(),
        reason,
        queries: Vec::new(),
        rows_saved: 0,
        time_saved: Duration::ZERO,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        index::Direction,
        plan::Query,
        query::{Filter, Sort},
    };

    #[expect(clippy::needless_pass_by_value, reason = "rows are literals")]
    fn need(filter: serde_json::Value, sort: &[(&str, bool)]) -> Option<Need> {
        let fields = sort.iter().map(|(path, up)| json!({ *path: if *up { 1 } else { -1 } }));
        let sort = Sort::from_json(&fields.collect()).unwrap();
        let filter = Filter::from_json(&filter).unwrap();
        Need::of(&Query { filter, sort, limit: Some(10), ..Query::default() })
    }

    fn names(fields: &[(String, Direction)]) -> Vec<String> {
        let name = |(path, direction): &(String, Direction)| match direction {
            Direction::Ascending => path.clone(),
            Direction::Descending => format!("-{path}"),
        };
        fields.iter().map(name).collect()
    }

    #[test]
    fn equality_then_sort_then_range() {
        let wanted = need(json!({"a": {"$gt": 1}, "b": 2, "c": "x"}), &[("d", false)]).unwrap();
        assert_eq!(names(&wanted.fields(|_| 0)), ["b", "c", "-d", "a"]);
        assert_eq!(names(&wanted.fields(|path| u64::from(path == "c"))), ["c", "b", "-d", "a"]);
        let wanted = need(json!({"a": {"$gte": 1, "$lt": 5}, "b": {"$in": [1, 2]}}), &[]).unwrap();
        assert_eq!(names(&wanted.fields(|_| 0)), ["b", "a"]);
        let by_order = need(json!({}), &[("a", true), ("_id", true), ("z", true)]).unwrap();
        assert_eq!(names(&by_order.fields(|_| 0)), ["a"]);
        // A field and its part cannot both be in one.
        let wanted = need(json!({"a": {"x": 1}, "a.b": 1, "c": 1}), &[]).unwrap();
        assert_eq!(names(&wanted.fields(|_| 0)), ["a", "c"]);
        for (filter, why) in [
            (json!({"_id": 5, "a": 1}), "by id already"),
            (json!({"a": {"$exists": true}}), "no values"),
            (json!({"$or": [{"a": 1}, {"b": 1}]}), "alternatives are not looked into"),
        ] {
            assert_eq!(need(filter, &[]), None, "{why}");
        }
    }

    #[test]
    fn one_index_serves_several() {
        let is_served = |need: &Option<Need>, index: Index| {
            need.as_ref().is_some_and(|need| need.is_served_by_index(&index))
        };
        let both = need(json!({"a": 1, "b": 2}), &[]);
        assert!(is_served(&both, Index::on("b").and("a").and("c")));
        assert!(!is_served(&both, Index::on("a").and("c").and("b")));
        assert!(!is_served(&both, Index::on("a").and("b").partial(json!({"c": 1}))));
        let sorted = need(json!({"a": 1}), &[("b", true), ("c", false)]);
        assert!(is_served(&sorted, Index::on("a").and("b").and_descending("c")));
        assert!(is_served(&sorted, Index::on("a").and_descending("b").and("c")), "backward");
        assert!(!is_served(&sorted, Index::on("a").and("b").and("c")));
        let ranged = need(json!({"a": 1, "b": {"$lt": 5}}), &[]);
        assert!(is_served(&ranged, Index::on("a").and_descending("b")));
        assert!(!is_served(&ranged, Index::on("b").and("a")));
        let one = need(json!({"a": 1}), &[]);
        assert!(is_served(&one, Index::hash("a")) && !is_served(&ranged, Index::hash("a")));
    }
}
