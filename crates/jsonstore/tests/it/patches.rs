//! JSON Patch and Merge Patch: the public suite, the examples of the RFCs, hostile patches.

use hearth_jsonstore::{
    Error, Update,
    testing::{json_patch, merge_patch},
};
use serde_json::{Value, json};

use crate::suites;

#[test]
fn the_json_patch_suite_passes() {
    for (file, at_least) in [("tests.json", 75), ("spec_tests.json", 15)] {
        let Some(rows) = suites::file("json-patch-test-suite", "1.1.0", file) else { return };
        let mut count = 0;
        for row in rows.as_array().unwrap() {
            if row["disabled"] == json!(true) || row.get("patch").is_none() {
                continue;
            }
            count += 1;
            let got = json_patch(&row["doc"], &row["patch"]);
            match (got, row.get("expected"), row.get("error")) {
                (Ok(got), Some(want), _) => assert_eq!(got, *want, "{row}"),
                // Without either, the patch has to go through.
                (Ok(_), None, None) => {}
                (Err(_), None, Some(_)) => {}
                (got, ..) => panic!("{row}: {got:?}"),
            }
        }
        assert!(count >= at_least, "{file} has {count} rows");
    }
}

/// RFC 7396, Appendix A: target, patch, result.
const MERGES: &[(&str, &str, &str)] = &[
    (r#"{"a":"b"}"#, r#"{"a":"c"}"#, r#"{"a":"c"}"#),
    (r#"{"a":"b"}"#, r#"{"b":"c"}"#, r#"{"a":"b","b":"c"}"#),
    (r#"{"a":"b"}"#, r#"{"a":null}"#, "{}"),
    (r#"{"a":"b","b":"c"}"#, r#"{"a":null}"#, r#"{"b":"c"}"#),
    (r#"{"a":["b"]}"#, r#"{"a":"c"}"#, r#"{"a":"c"}"#),
    (r#"{"a":"c"}"#, r#"{"a":["b"]}"#, r#"{"a":["b"]}"#),
    (r#"{"a":{"b":"c"}}"#, r#"{"a":{"b":"d","c":null}}"#, r#"{"a":{"b":"d"}}"#),
    (r#"{"a":[{"b":"c"}]}"#, r#"{"a":[1]}"#, r#"{"a":[1]}"#),
    (r#"["a","b"]"#, r#"["c","d"]"#, r#"["c","d"]"#),
    (r#"{"a":"b"}"#, r#"["c"]"#, r#"["c"]"#),
    (r#"{"a":"foo"}"#, "null", "null"),
    (r#"{"a":"foo"}"#, r#""bar""#, r#""bar""#),
    (r#"{"e":null}"#, r#"{"a":1}"#, r#"{"e":null,"a":1}"#),
    ("[1,2]", r#"{"a":"b","c":null}"#, r#"{"a":"b"}"#),
    ("{}", r#"{"a":{"bb":{"ccc":null}}}"#, r#"{"a":{"bb":{}}}"#),
];

#[test]
fn the_examples_of_merge_patch_hold() {
    let value = |text: &str| -> Value { serde_json::from_str(text).unwrap() };
    for (target, patch, want) in MERGES {
        let got = merge_patch(&value(target), &value(patch)).unwrap();
        assert_eq!(got, value(want), "{target} {patch}");
    }
}

#[test]
fn patches_name_what_they_touch() {
    let paths = |update: hearth_jsonstore::Result<Update>| -> Vec<String> {
        update.unwrap().paths().map(str::to_owned).collect()
    };
    let patch = json!([
        {"op": "test", "path": "/a/b", "value": 1},
        {"op": "add", "path": "/l/0", "value": 1},
        {"op": "replace", "path": "/m/3", "value": 1},
        {"op": "move", "from": "/x/y", "path": "/z"},
        {"op": "add", "path": "/p/q.r/s", "value": 1}
    ]);
    assert_eq!(paths(Update::json_patch(&patch)), ["a.b", "l", "m.3", "p", "x.y", "z"]);
    let root = json!([{"op": "replace", "path": "", "value": {}}]);
    assert_eq!(paths(Update::json_patch(&root)), [""]);
    let patch = json!({"a": {"b": 1, "c": {}}, "d": null, "e": {"f.g": 1}});
    assert_eq!(paths(Update::merge_patch(&patch)), ["a.b", "a.c", "d", "e"]);
    assert_eq!(paths(Update::merge_patch(&json!({}))), [""; 0]);
    assert_eq!(paths(Update::merge_patch(&json!({"": 1}))), [""]);
}

#[test]
fn a_test_compares_and_sets() {
    let update = Update::json_patch(&json!([
        {"op": "test", "path": "/state", "value": "open"},
        {"op": "replace", "path": "/state", "value": "done"}
    ]))
    .unwrap();
    let done = update.apply_json(&json!({"state": "open"})).unwrap();
    assert_eq!(done, json!({"state": "done"}));
    match update.apply_json(&done) {
        Err(Error::TestFailed { pointer }) => assert_eq!(pointer, "/state"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_id_stays() {
    let document = json!({"_id": 1, "a": 2});
    for patch in [
        json!([{"op": "replace", "path": "/_id", "value": 2}]),
        json!([{"op": "remove", "path": "/_id"}]),
        json!([{"op": "replace", "path": "", "value": {"a": 1}}]),
    ] {
        let error = Update::json_patch(&patch).unwrap().apply_json(&document).unwrap_err();
        assert!(error.to_string().contains("_id"), "{patch}: {error}");
    }
    let merge = Update::merge_patch(&json!({"_id": 2})).unwrap();
    assert!(merge.apply_json(&document).is_err());
    let same = Update::merge_patch(&json!({"_id": 1, "a": 3})).unwrap();
    assert_eq!(same.apply_json(&document).unwrap(), json!({"_id": 1, "a": 3}));
    let root = json!([{"op": "replace", "path": "", "value": []}]);
    assert!(Update::json_patch(&root).unwrap().apply_json(&document).is_err());
}

#[test]
fn patches_that_grow_without_end_are_stopped() {
    let mut patch = vec![json!({"op": "add", "path": "/a", "value": ["x".repeat(1000)]})];
    for _ in 0..100 {
        patch.push(json!({"op": "copy", "from": "/a", "path": "/a/-"}));
    }
    let error = json_patch(&json!({}), &json!(patch)).unwrap_err();
    assert!(error.to_string().contains("deeper than 128") || error.to_string().contains("larger"));
    let patch = vec![json!({"op": "add", "path": "/a", "value": 1}); 2000];
    assert!(json_patch(&json!({}), &json!(patch)).unwrap_err().to_string().contains("1024"));
    let mut deep = json!(1);
    for _ in 0..120 {
        deep = json!([deep]);
    }
    let update = Update::new().set("a.b.c.d.e.f.g.h.i.j", deep.clone());
    assert!(update.apply_json(&json!({})).unwrap_err().to_string().contains("128"));
    assert!(Update::new().push("a", deep).apply_json(&json!({})).is_ok());
}
