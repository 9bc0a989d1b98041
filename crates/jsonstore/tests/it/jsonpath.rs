//! RFC 9535: the public compliance suite, and paths that want too much.

use std::time::{Duration, Instant};

use hearth_jsonstore::JsonPath;
use serde_json::Value;

use crate::suites;

#[test]
fn the_compliance_suite_passes() {
    let file = "src/__tests__/jsonpath-compliance-test-suite/cts.json";
    let Some(suite) = suites::file("jsonpath-rfc9535", "1.3.0", file) else { return };
    let rows = suite["tests"].as_array().unwrap();
    let mut failures = Vec::new();
    for row in rows {
        let path = JsonPath::parse(row["selector"].as_str().unwrap());
        let is_right = match (&path, row.get("invalid_selector")) {
            (path, Some(Value::Bool(true))) => path.is_err(),
            (Err(_), _) => false,
            (Ok(path), _) => {
                let got: Vec<_> = path.query_located(&row["document"]).into_iter().collect();
                let values = Value::from(got.iter().map(|(_, v)| (*v).clone()).collect::<Vec<_>>());
                let paths = Value::from(got.into_iter().map(|(path, _)| path).collect::<Vec<_>>());
                match (row.get("result"), row.get("results")) {
                    // Some members of an object may come in any order.
                    (_, Some(results)) => results.as_array().unwrap().contains(&values),
                    (Some(result), _) => {
                        values == *result && row.get("result_paths").is_none_or(|p| *p == paths)
                    }
                    _ => false,
                }
            }
        };
        if !is_right {
            failures.push(row["name"].as_str().unwrap());
        }
    }
    assert!(rows.len() >= 687, "{} rows", rows.len());
    assert_eq!(failures, [""; 0]);
}

#[test]
fn hostile_paths_are_refused() {
    for path in [
        format!("$[?{}@.a{}]", "(".repeat(2000), ")".repeat(2000)),
        format!("${}", "[?@".repeat(1000)),
        format!("$[?{}@.a]", "!".repeat(2000)),
        "$.a".repeat(3000),
    ] {
        assert!(JsonPath::parse(&path).is_err());
    }
}

#[test]
fn nesting_up_to_the_limit_is_quick() {
    for (open, close) in [("(", ")"), ("!(", ")")] {
        let levels = if open.len() == 1 { 14 } else { 7 };
        let path = format!("$[?{}@.a == 1{}]", open.repeat(levels), close.repeat(levels));
        let start = Instant::now();
        assert!(JsonPath::parse(&path).is_ok(), "{path}");
        assert!(start.elapsed() < Duration::from_secs(2), "{path}: {:?}", start.elapsed());
    }
}
