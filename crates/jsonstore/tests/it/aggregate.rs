//! Pipelines: rows of data, the naive evaluator, little memory, hostile ones.

use hearth_jsonstore::{
    Error, Pipeline,
    testing::{Cases, aggregate, naive_pipeline, order},
};
use serde_json::{Value, json};

const PLENTY: usize = 16 << 20;

fn run(pipeline: &Value, documents: &[Value], memory: usize) -> Vec<Value> {
    let parsed = Pipeline::from_json(pipeline).unwrap();
    let (rows, left) = aggregate(&parsed, documents, &[], memory).unwrap();
    assert_eq!(left, 0, "a temporary file is left");
    rows
}

/// MongoDB's manual, reference/operator/aggregation: a pipeline over the documents below.
const ROWS: &[(&str, &str)] = &[
    (r#"[{"$match":{"k":"a"}},{"$count":"n"}]"#, r#"[{"n":2}]"#),
    (r#"[{"$match":{"k":"zz"}},{"$count":"n"}]"#, "[]"),
    (
        r#"[{"$group":{"_id":"$k","s":{"$sum":"$p"},"a":{"$avg":"$p"},"n":{"$sum":1},"c":{"$count":{}}}},{"$sort":{"_id":1}}]"#,
        r#"[{"_id":"a","s":12,"a":6.0,"n":2,"c":2},{"_id":"b","s":20,"a":20.0,"n":1,"c":1}]"#,
    ),
    (
        r#"[{"$group":{"_id":null,"t":{"$sum":{"$multiply":["$p","$q"]}},"min":{"$min":"$p"},"max":{"$max":"$p"}}}]"#,
        r#"[{"_id":null,"t":80,"min":2,"max":20}]"#,
    ),
    (
        r#"[{"$group":{"_id":{"x":"$k"},"f":{"$first":"$i"},"l":{"$last":"$i"},"p":{"$push":"$i"}}},{"$sort":{"f":1}}]"#,
        r#"[{"_id":{"x":"a"},"f":1,"l":3,"p":[1,3]},{"_id":{"x":"b"},"f":2,"l":2,"p":[2]}]"#,
    ),
    (r#"[{"$sort":{"p":-1}},{"$limit":1},{"$project":{"_id":0,"i":1}}]"#, r#"[{"i":2}]"#),
    (
        r#"[{"$sort":{"p":1}},{"$skip":1},{"$limit":1},{"$project":{"_id":0,"i":1}}]"#,
        r#"[{"i":1}]"#,
    ),
    (
        r#"[{"$unwind":"$l"},{"$project":{"i":1,"l":1}}]"#,
        r#"[{"i":1,"l":"x"},{"i":1,"l":"y"},{"i":3,"l":"z"}]"#,
    ),
    (
        r#"[{"$unwind":{"path":"$l","preserveNullAndEmptyArrays":true,"includeArrayIndex":"at"}},{"$project":{"i":1,"l":1,"at":1}}]"#,
        r#"[{"i":1,"l":"x","at":0},{"i":1,"l":"y","at":1},{"i":2,"at":null},{"i":3,"l":"z","at":null}]"#,
    ),
    (
        r#"[{"$addFields":{"o.t":{"$add":["$p","$q"]},"k":"$i"}},{"$project":{"o":1,"k":1}},{"$limit":1}]"#,
        r#"[{"o":{"t":12},"k":1}]"#,
    ),
    (r#"[{"$unset":["k","l","p"]},{"$limit":1}]"#, r#"[{"i":1,"q":2}]"#),
    (r#"[{"$group":{"_id":"$missing"}}]"#, r#"[{"_id":null}]"#),
    ("[{\"$skip\":9}]", "[]"),
];

#[test]
fn stages_do_what_the_manual_says() {
    let documents = [
        json!({"i": 1, "k": "a", "p": 10, "q": 2, "l": ["x", "y"]}),
        json!({"i": 2, "k": "b", "p": 20, "q": 1, "l": []}),
        json!({"i": 3, "k": "a", "p": 2, "q": 20, "l": "z"}),
    ];
    for (pipeline, want) in ROWS {
        let pipeline: Value = serde_json::from_str(pipeline).unwrap();
        let want: Vec<Value> = serde_json::from_str(want).unwrap();
        assert_eq!(run(&pipeline, &documents, PLENTY), want, "{pipeline}");
    }
}

#[test]
fn a_lookup_joins() {
    let pipeline = json!([{
        "$lookup": {"from": "stock", "localField": "item", "foreignField": "sku", "as": "stock"}
    }]);
    let parsed = Pipeline::from_json(&pipeline).unwrap();
    let orders = [json!({"item": "a"}), json!({"item": ["a", "b"]}), json!({"n": 1})];
    let stock = [json!({"sku": "a"}), json!({"sku": ["b", "c"]}), json!({"x": 1})];
    let (got, _) = aggregate(&parsed, &orders, &stock, PLENTY).unwrap();
    assert_eq!(got, naive_pipeline(&pipeline, &orders, &stock));
    assert_eq!(got[1]["stock"], json!([{"sku": "a"}, {"sku": ["b", "c"]}]));
    assert_eq!(got[2]["stock"], json!([{"x": 1}]));
}

fn rounds(short: u64) -> u64 {
    if std::env::var_os("E2E_LONG").is_some() { short * 100 } else { short }
}

fn stage(cases: &mut Cases) -> Value {
    let name = |cases: &mut Cases| ["a", "b", "c"][cases.below(3)];
    let field = |cases: &mut Cases| format!("${}", name(cases));
    match cases.below(9) {
        0 => json!({"$match": cases.filter()}),
        1 => json!({"$limit": 1 + cases.below(30)}),
        2 => json!({"$skip": cases.below(10)}),
        3 => json!({"$sort": [{"a": 1}, {"b": -1}]}),
        4 => json!({"$unwind": field(cases)}),
        5 => {
            json!({"$unwind": {"path": field(cases), "preserveNullAndEmptyArrays": true}})
        }
        6 => json!({"$addFields": {(name(cases)): field(cases), "d": cases.below(4)}}),
        7 => json!({"$group": {
            "_id": field(cases),
            "a": {"$sum": field(cases)}, "b": {"$push": field(cases)}, "c": {"$min": field(cases)},
            "d": {"$max": field(cases)}, "e": {"$first": field(cases)}, "f": {"$last": field(cases)},
            "g": {"$addToSet": field(cases)}, "h": {"$avg": field(cases)}, "i": {"$sum": 1}
        }}),
        _ => json!({
            "$lookup": {"from": "x", "localField": name(cases), "foreignField": name(cases), "as": "c"}
        }),
    }
}

/// With plenty of memory and with so little that everything spills, the answer is the oracle's.
#[test]
fn pipelines_agree_with_the_oracle() {
    for seed in 0..rounds(150) {
        let mut cases = Cases::new(seed);
        let documents: Vec<Value> = (0..60).map(|_| cases.document()).collect();
        let other: Vec<Value> = (0..5).map(|_| cases.document()).collect();
        // A lookup multiplies what a later one reads; one is enough.
        let mut stages: Vec<Value> = (0..1 + cases.below(4)).map(|_| stage(&mut cases)).collect();
        let mut lookups = 0;
        stages.retain(|stage| {
            lookups += u32::from(stage.get("$lookup").is_some());
            stage.get("$lookup").is_none() || lookups == 1
        });
        // Groups come in an order of their own, so nothing that depends on it follows them.
        if let Some(at) = stages.iter().position(|stage| stage.get("$group").is_some()) {
            stages.truncate(at + 1);
        }
        let is_grouped = stages.last().is_some_and(|stage| stage.get("$group").is_some());
        let pipeline = json!(stages);
        let mut want = naive_pipeline(&pipeline, &documents, &other);
        for memory in [PLENTY, 24 << 10] {
            let parsed = Pipeline::from_json(&pipeline).unwrap();
            let (mut got, left) = match aggregate(&parsed, &documents, &other, memory) {
                Ok(got) => got,
                // One group may be more than so little memory holds.
                Err(Error::QueryLimit { .. }) if memory < PLENTY => continue,
                Err(error) => panic!("{seed}: {pipeline}: {error}"),
            };
            if is_grouped {
                got.sort_by(|a, b| order(&a["_id"], &b["_id"]));
                want.sort_by(|a, b| order(&a["_id"], &b["_id"]));
            }
            assert!(same(&json!(got), &json!(want)), "{seed}: {pipeline}\n{got:?}\n{want:?}");
            assert_eq!(left, 0);
        }
    }
}

/// Numbers of two kinds are the same, as are the sums of floats in two orders.
fn same(a: &Value, b: &Value) -> bool {
    order(a, b).is_eq()
}

#[test]
fn sorts_and_groups_spill_and_leave_nothing() {
    let documents: Vec<Value> = (0..20_000_u32)
        .map(|i| json!({"i": i, "k": i.wrapping_mul(2_654_435_761) % 9973}))
        .collect();
    let sorted = run(&json!([{"$sort": [{"k": 1}, {"i": -1}]}]), &documents, 64 << 10);
    let keys: Vec<_> = sorted.iter().map(|row| (row["k"].as_u64(), row["i"].as_u64())).collect();
    assert!(keys.is_sorted_by(|a, b| a.0 < b.0 || a.0 == b.0 && a.1 > b.1) && keys.len() == 20_000);
    let group = json!([{"$group": {"_id": "$k", "n": {"$sum": 1}, "i": {"$push": "$i"}}}]);
    let groups = run(&group, &documents, 256 << 10);
    assert!(groups.len() > 8000, "{} groups", groups.len());
    let total: u64 = groups.iter().map(|group| group["n"].as_u64().unwrap()).sum();
    assert_eq!(total, 20_000);
    // Stable: documents of one key keep their order.
    let stable = run(&json!([{"$sort": {"x": 1}}]), &documents, 64 << 10);
    assert_eq!(stable, documents);
    let top = run(&json!([{"$sort": {"i": -1}}, {"$limit": 3}]), &documents, 64 << 10);
    assert_eq!(top[2]["i"], json!(19_997));
}

#[test]
fn what_cannot_be_bounded_is_refused() {
    let documents: Vec<Value> = (0..2000).map(|i| json!({"i": i, "s": "x".repeat(100)})).collect();
    let pipeline = json!([{"$group": {"_id": null, "all": {"$push": "$s"}}}]);
    let parsed = Pipeline::from_json(&pipeline).unwrap();
    let error = aggregate(&parsed, &documents, &[], 64 << 10).unwrap_err();
    assert!(matches!(error, Error::QueryLimit { limit: 65_536, .. }), "{error}");
}

#[test]
fn bad_pipelines_are_named() {
    for (pipeline, want) in [
        (json!({}), "an array of stages"),
        (json!([1]), "one operator"),
        (json!([{"$match": {}, "$limit": 1}]), "one operator"),
        (json!([{"$nope": 1}]), "no such stage"),
        (json!([{"$limit": 0}]), "1 or more"),
        (json!([{"$skip": -1}]), "0 or more"),
        (json!([{"$count": "$x"}]), "the name of a field"),
        (json!([{"$sort": {}}]), "at least one field"),
        (json!([{"$sort": {"a": 1, "b": 1}}]), "one object for each"),
        (json!([{"$project": {}}]), "at least one field"),
        (json!([{"$group": {}}]), "what to group by"),
        (json!([{"$group": {"_id": 1, "a": 1}}]), "one accumulator"),
        (json!([{"$group": {"_id": 1, "a": {"$nope": 1}}}]), "no such accumulator"),
        (json!([{"$group": {"_id": 1, "a.b": {"$sum": 1}}}]), "a plain name"),
        (json!([{"$unwind": "l"}]), "begins with $"),
        (json!([{"$unwind": {"path": "$l", "x": 1}}]), "no such option"),
        (json!([{"$lookup": {"from": "x"}}]), "a string is missing"),
        (json!([{"$match": {"$text": {"$search": "x"}}}]), "only a find"),
        (json!(vec![json!({"$skip": 1}); 65]), "at most 64 stages"),
    ] {
        let error = Pipeline::from_json(&pipeline).unwrap_err().to_string();
        assert!(error.contains(want), "{pipeline}: {error}");
    }
    match Pipeline::from_json(&json!([{"$skip": 1}, {"$match": {"a": {"$in": 1}}}])) {
        Err(Error::InvalidFilter { path, .. }) => assert_eq!(path, "1.$match.a.$in"),
        other => panic!("{other:?}"),
    }
}
