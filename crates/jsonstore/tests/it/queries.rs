//! The query language against an obvious one, on random cases.

use hearth_jsonstore::{
    Error, Filter, Sort, Update,
    testing::{Cases, naive_matches, order},
};
use serde_json::{Value, json};

fn rounds(short: u64) -> u64 {
    if std::env::var_os("E2E_LONG").is_some() { short * 100 } else { short }
}

/// Filters that fail here become rows: seed of the case.
#[test]
fn filters_agree_with_the_oracle() {
    let (mut hits, mut all) = (0, 0);
    for seed in 0..rounds(20_000) {
        let mut cases = Cases::new(seed);
        let filter = cases.filter();
        let parsed = Filter::from_json(&filter).unwrap();
        for _ in 0..4 {
            let document = cases.document();
            let got = parsed.matches_json(&document).unwrap();
            assert_eq!(got, naive_matches(&filter, &document), "{seed}: {filter} {document}");
            hits += u32::from(got);
            all += 1;
        }
    }
    // Cases that always or never match would prove nothing.
    assert!(hits > all / 10 && hits < all / 10 * 9, "{hits} of {all} match");
}

#[test]
fn updates_do_what_their_operators_say() {
    let mut applied = 0;
    for seed in 0..rounds(10_000) {
        let mut cases = Cases::new(seed);
        let (document, update) = (cases.document(), cases.update());
        let Ok(parsed) = Update::from_json(&update) else { continue };
        let touched: Vec<String> = parsed.paths().map(str::to_owned).collect();
        let after = match parsed.apply_json(&document) {
            Ok(after) => after,
            Err(Error::InvalidUpdate { .. }) => continue,
            Err(error) => panic!("{seed}: {update} {document}: {error}"),
        };
        applied += 1;
        // What is not named stays, and what is set is there.
        for (name, value) in document.as_object().unwrap() {
            let is_touched = |path: &String| path.split('.').next() == Some(name);
            if !touched.iter().any(is_touched) {
                assert_eq!(after.get(name), Some(value), "{seed}: {update} {document}");
            }
        }
        for (path, value) in update.get("$set").and_then(Value::as_object).into_iter().flatten() {
            let pointer = format!("/{}", path.replace('.', "/"));
            assert_eq!(after.pointer(&pointer), Some(value), "{seed}: {update} {document}");
        }
        for (path, value) in update.get("$max").and_then(Value::as_object).into_iter().flatten() {
            let pointer = format!("/{}", path.replace('.', "/"));
            let now = after.pointer(&pointer).unwrap();
            assert!(order(now, value).is_ge(), "{seed}: {update} {document}");
        }
    }
    assert!(applied > 2000, "{applied} updates could be applied");
}

/// A patch from one document to another, made by hand, leads there.
#[test]
fn merge_patches_lead_from_one_document_to_another() {
    fn difference(from: &Value, to: &Value) -> Value {
        let (Value::Object(old), Value::Object(new)) = (from, to) else { return to.clone() };
        let mut patch = serde_json::Map::new();
        for (name, value) in new {
            match old.get(name) {
                Some(other) if other == value => {}
                Some(other) if other.is_object() && value.is_object() => {
                    patch.insert(name.clone(), difference(other, value));
                }
                _ => {
                    patch.insert(name.clone(), value.clone());
                }
            }
        }
        for name in old.keys().filter(|name| !new.contains_key(*name)) {
            patch.insert(name.clone(), Value::Null);
        }
        Value::Object(patch)
    }
    fn has_null(value: &Value) -> bool {
        match value {
            Value::Null => true,
            Value::Object(members) => members.values().any(has_null),
            _ => false,
        }
    }
    for seed in 0..rounds(5000) {
        let mut cases = Cases::new(seed);
        let (from, to) = (cases.document(), cases.document());
        // A merge patch cannot say `null`.
        if has_null(&to) {
            continue;
        }
        let patch = difference(&from, &to);
        let after = Update::merge_patch(&patch).unwrap().apply_json(&from).unwrap();
        assert_eq!(after, to, "{seed}: {from} {patch}");
    }
}

#[test]
fn sorts_agree_with_the_order_of_values() {
    for seed in 0..rounds(200) {
        let mut cases = Cases::new(seed);
        let documents: Vec<Value> =
            (0..20).map(|i| json!({"n": i, "a": cases.value(0), "b": cases.value(0)})).collect();
        let sort = Sort::new().ascending("a").unwrap().descending("b").unwrap();
        let got = hearth_jsonstore::testing::sorted(&sort, &documents);
        let mut want = documents;
        want.sort_by(|x, y| order(&x["a"], &y["a"]).then(order(&y["b"], &x["b"])));
        assert_eq!(got, want, "{seed}");
    }
}
