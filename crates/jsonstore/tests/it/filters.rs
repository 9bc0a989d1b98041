//! Filters: what matches, and what is refused.

use hearth_jsonstore::{Error, Filter, Sort};
use serde_json::{Value, json};

#[track_caller]
fn refused(filter: &Value, want: &str) {
    match Filter::from_json(filter) {
        Err(error @ Error::InvalidFilter { .. }) => {
            assert!(error.to_string().contains(want), "{filter}: {error}");
        }
        other => panic!("{filter}: {other:?}"),
    }
}

#[test]
fn hostile_filters_are_named() {
    let mut deep = json!({"a": 1});
    for _ in 0..80 {
        deep = json!({"$and": [deep]});
    }
    refused(&deep, "deeper than 64");
    let mut deep = json!(1);
    for _ in 0..200 {
        deep = json!({"$not": {"$elemMatch": deep}});
    }
    refused(&json!({"a": deep}), "deeper than 64");
    let many: Vec<_> = (0..5000).map(|i| json!({"a": i})).collect();
    refused(&json!({"$or": many}), "more than 4096 clauses");
    let many: Vec<_> = (0..100_001).collect();
    refused(&json!({"a": {"$in": many}}), "more than 100000 operands");
    let many: Vec<_> = (0..65).map(|i| json!({"a": {"$regex": i.to_string()}})).collect();
    refused(&json!({"$or": many}), "more than 64 expressions");
    refused(&json!({"a": {"$regex": "a".repeat(5000)}}), "longer than 4096 bytes");
    refused(&json!({"a": {"$regex": "((a{100}){100}){100}"}}), "larger than 1048576 bytes");
    refused(&json!({"a": {"$regex": "(".repeat(1000)}}), "unclosed group");
    refused(&json!({"a": {"$regex": r"(a)\1"}}), "backreferences are not supported");
    refused(&json!({(["a"; 200].join(".")): 1}), "more than 128 steps");
}

#[test]
fn catastrophic_expressions_take_linear_time() {
    let filter = Filter::from_json(&json!({"a": {"$regex": "^(a+)+$"}})).unwrap();
    let text = format!("{}b", "a".repeat(1 << 20));
    assert!(!filter.matches_json(&json!({"a": text})).unwrap());
}

#[test]
fn shapes_hold_no_operands() {
    let shape = |filter: Value| Filter::from_json(&filter).unwrap().shape();
    assert_eq!(shape(json!({"a": 1, "b": {"$gt": 2}})), shape(json!({"b": {"$gt": 5}, "a": 7})));
    assert_eq!(
        shape(json!({"$or": [{"a": 1}, {"b": "x"}]})),
        shape(json!({"$or": [{"b": "y"}, {"a": 2}]}))
    );
    assert_ne!(shape(json!({"a": 1})), shape(json!({"a": null})));
    assert_ne!(shape(json!({"a": {"$gt": 1}})), shape(json!({"a": {"$gte": 1}})));
    assert_ne!(shape(json!({"a.b": 1})), shape(json!({"a": 1})));
}

#[test]
fn sorts_say_their_order() {
    assert!(Sort::from_json(&json!({"a": 1, "b": 1})).is_err());
    assert!(Sort::from_json(&json!({"a": 2})).is_err());
    assert!(Sort::from_json(&json!([{"a": 1}, {"a": -1}])).is_err());
    assert!(Sort::from_json(&json!([])).unwrap().is_empty());
}
