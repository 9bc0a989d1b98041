//! Prepared queries beside the same ones asked in whole, and beside an obvious evaluator.

use hearth_jsonstore::{
    Collection, Document, Error, Index, Options, Param, Prepared, Sort, Store, block_on,
    testing::{Cases, naive_matches, order},
};
use serde_json::{Value, json};

const PATHS: [&str; 4] = ["a", "b", "a.b", "c"];
const OPERATORS: [&str; 5] = ["$eq", "$gt", "$gte", "$lt", "$lte"];

fn rounds(short: u64) -> u64 {
    if std::env::var_os("E2E_LONG").is_some() { short * 50 } else { short }
}

fn open() -> (tempfile::TempDir, Store, Collection) {
    let dir = tempfile::tempdir().unwrap();
    let store = block_on(Store::open(Options::new(dir.path()))).unwrap();
    let docs = store.collection("docs").unwrap();
    (dir, store, docs)
}

fn with_id(document: &Value, id: usize) -> Value {
    let mut document = document.clone();
    document["_id"] = json!(id);
    document
}

/// A filter with parameters.
fn template(cases: &mut Cases, params: &mut usize) -> Value {
    let mut next = || {
        *params += 1;
        json!({ "$param": *params - 1 })
    };
    let mut filter = serde_json::Map::new();
    for _ in 0..1 + cases.below(2) {
        let path = PATHS[cases.below(PATHS.len())];
        let condition = match cases.below(6) {
            0..3 => next(),
            3 => json!({ "$gte": next(), "$lt": next() }),
            4 => json!({ "$in": [next(), 1, next()] }),
            _ => json!({ (OPERATORS[cases.below(OPERATORS.len())]): next() }),
        };
        // A parameter is counted even if its condition is replaced.
        if let Some(old) = filter.insert(path.to_owned(), condition) {
            let both = json!([{ path: old }, { path: filter[path].clone() }]);
            return json!({ "$and": both });
        }
    }
    filter.into()
}

/// The filter with the values in place of the parameters.
fn filled(template: &Value, values: &[Value]) -> Value {
    match template {
        Value::Object(members) => match members.get("$param") {
            Some(number) => values[number.as_u64().unwrap() as usize].clone(),
            None => {
                let each = members.iter().map(|(name, value)| {
                    let is_value = !name.starts_with('$') && value.get("$param").is_some();
                    let value = filled(value, values);
                    (name.clone(), if is_value { json!({ "$eq": value }) } else { value })
                });
                Value::Object(each.collect())
            }
        },
        Value::Array(all) => all.iter().map(|one| filled(one, values)).collect(),
        other => other.clone(),
    }
}

fn sorted_ids(found: &[Value]) -> Vec<u64> {
    let mut ids: Vec<u64> = found.iter().map(|found| found["_id"].as_u64().unwrap()).collect();
    ids.sort_unstable();
    ids
}

struct World {
    docs: Collection,
    model: Vec<Option<Value>>,
}

impl World {
    fn change(&mut self, cases: &mut Cases) {
        let id = cases.below(self.model.len());
        self.model[id] = match cases.below(4) {
            0 => {
                block_on(self.docs.delete(id as u64)).unwrap();
                None
            }
            _ => {
                let document = with_id(&cases.document(), id);
                // Two arrays on one index.
                match block_on(self.docs.put(&document)) {
                    Ok(_) => Some(document),
                    Err(Error::Unindexable { .. }) => self.model[id].clone(),
                    Err(e) => panic!("{e}"),
                }
            }
        };
    }

    fn check(&self, prepared: &Prepared, template: &Value, values: &[Value], by: Option<&str>) {
        let params: Vec<Param<'_>> = values.iter().map(Param::from).collect();
        let found = block_on(prepared.collect(&params)).unwrap();
        let found: Vec<Value> = found.iter().map(Document::value).collect();
        let filter = filled(template, values);
        let is_wanted = |document: &&Value| naive_matches(&filter, document);
        let wanted: Vec<Value> = self.model.iter().flatten().filter(is_wanted).cloned().collect();
        assert_eq!(sorted_ids(&found), sorted_ids(&wanted), "{template} {values:?}");
        let unprepared = block_on(prepared.find(&params).unwrap().collect()).unwrap();
        assert_eq!(unprepared.len(), found.len());
        if let Some(path) = by {
            let of = |document: &Value| document.get(path).cloned().unwrap_or(Value::Null);
            let is_sorted = |a: &Value, b: &Value| order(&of(a), &of(b)).is_le();
            let is_plain = found.iter().all(|document| !of(document).is_array());
            assert!(!is_plain || found.is_sorted_by(is_sorted), "{template} {values:?}");
        }
        let some = block_on(prepared.take(&params, 2)).unwrap();
        assert_eq!(some.len(), found.len().min(2));
        if by.is_some() {
            let some: Vec<Value> = some.iter().map(Document::value).collect();
            assert_eq!(some, found[..some.len()], "{template} {values:?}");
        }
    }
}

#[test]
fn prepared_queries_find_what_their_filters_match() {
    for seed in 0..rounds(12) {
        let mut cases = Cases::new(seed);
        let (_dir, store, docs) = open();
        let indexes = [
            Index::on("a"),
            Index::on("b").and_descending("a"),
            Index::on_descending("c"),
            Index::on("a.b").sparse(),
            Index::on("c").and("b").name("partial").partial(json!({"b": {"$gt": 0}})),
        ];
        for index in indexes {
            if cases.below(2) == 0 {
                block_on(docs.create_index(index)).unwrap();
            }
        }
        let mut world = World { docs, model: vec![None; 60] };
        for _ in 0..60 {
            world.change(&mut cases);
        }
        for _ in 0..12 {
            let mut params = 0;
            let template = template(&mut cases, &mut params);
            let by = (cases.below(2) == 0).then(|| ["a", "c"][cases.below(2)]);
            let mut prepared = world.docs.prepare(&template).unwrap();
            if let Some(path) = by {
                prepared = prepared.sort(Sort::new().ascending(path).unwrap());
            }
            for _ in 0..8 {
                let values: Vec<Value> = (0..params).map(|_| cases.value(1)).collect();
                world.check(&prepared, &template, &values, by);
                world.change(&mut cases);
            }
            if cases.below(4) == 0 {
                block_on(store.checkpoint()).unwrap();
            }
        }
    }
}

#[test]
fn what_was_learnt_goes_with_the_index_it_was_learnt_of() {
    let (_dir, _store, docs) = open();
    block_on(docs.create_index(Index::on("n"))).unwrap();
    for id in 0..600 {
        block_on(docs.put(&json!({"_id": id, "n": id % 2, "m": id}))).unwrap();
    }
    let by_n = docs.prepare(&json!({"n": {"$param": 0}})).unwrap();
    let count = |value: i64| block_on(by_n.collect(&[value.into()])).unwrap().len();
    // More than is found in one go.
    assert_eq!([count(0), count(1), count(2)], [300, 300, 0]);
    block_on(docs.put(&json!({"_id": 0, "n": [0, 2, 2], "m": 0}))).unwrap();
    assert_eq!([count(0), count(2)], [300, 1], "an array has several entries");
    block_on(docs.drop_index("n")).unwrap();
    assert_eq!([count(0), count(1), count(2)], [300, 300, 1]);
    assert!(matches!(block_on(by_n.collect(&[])), Err(Error::InvalidFilter { .. })));
}

#[test]
fn a_range_comes_in_order_from_both_ends_and_in_parts() {
    let (_dir, _store, docs) = open();
    block_on(docs.create_index(Index::on("kind").and("n"))).unwrap();
    for id in 0..500 {
        block_on(docs.put(&json!({"_id": id, "kind": id % 3, "n": id * 7 % 500}))).unwrap();
    }
    let template =
        json!({"kind": {"$param": 0}, "n": {"$gt": {"$param": 1}, "$lte": {"$param": 2}}});
    let ascending = docs.prepare(&template).unwrap();
    let ascending = ascending.sort(Sort::new().ascending("n").unwrap());
    let descending = ascending.clone().sort(Sort::new().descending("n").unwrap()).skip(2);
    for _ in 0..3 {
        let of = |query: &Prepared, values: &[Param<'_>]| -> Vec<u64> {
            let found = block_on(query.take(values, 5)).unwrap();
            found.iter().map(|found| found.value()["n"].as_u64().unwrap()).collect()
        };
        let mut all: Vec<u64> = (0..500).filter(|id| id % 3 == 1).map(|id| id * 7 % 500).collect();
        all.retain(|n| *n > 100 && *n <= 300);
        all.sort_unstable();
        let values = [1.into(), 100.into(), 300.5.into()];
        assert_eq!(of(&ascending, &values), all[..5]);
        let back: Vec<u64> = all.iter().rev().skip(2).take(5).copied().collect();
        assert_eq!(of(&descending, &values), back);
        // Values of two types compare with nothing.
        assert!(of(&ascending, &[1.into(), 100.into(), "x".into()]).is_empty());
        assert!(of(&ascending, &[1.into(), 300.into(), 100.into()]).is_empty());
    }
}
