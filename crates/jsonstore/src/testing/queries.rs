//! The query language from outside: patches on any value, generators, an obvious evaluator.

use serde_json::Value;

use crate::{Filter, Result, Sort, error::DocumentError, jb1, query};

/// An RFC 6902 JSON Patch on any value, which need not be a document.
///
/// # Errors
/// As `Update::json_patch` and its application.
pub fn json_patch(target: &Value, patch: &Value) -> Result<Value> {
    let limits = jb1::Limits::default();
    let patch = query::Patch::from_json(patch)?;
    value(&patch.apply(&jb1::from_value(target, &limits)?, &limits)?)
}

/// An RFC 7396 Merge Patch on any value.
///
/// # Errors
/// The result is too large or nested too deep.
pub fn merge_patch(target: &Value, patch: &Value) -> Result<Value> {
    value(&query::merge_patched(&jb1::from_value(target, &jb1::Limits::default())?, patch)?)
}

/// Whether a document given as text matches; text may hold numbers that no `Value` can.
///
/// # Panics
/// If the filter or the document is none.
pub fn matches_text(filter: &Value, document: &str) -> bool {
    let filter = Filter::from_json(filter).expect("the filter is valid");
    let document = jb1::parse(document.as_bytes(), &jb1::Limits::default());
    filter.matches(&document.expect("the document is valid"))
}

/// The documents in this order, by their keys as by comparison.
///
/// # Panics
/// If the two disagree.
pub fn sorted(sort: &Sort, documents: &[Value]) -> Vec<Value> {
    let limits = jb1::Limits::default();
    let mut rows: Vec<_> = documents
        .iter()
        .map(|document| {
            let bytes = jb1::from_value(document, &limits).expect("the document is valid");
            let mut key = Vec::new();
            sort.key(&bytes, &mut key).expect("the document is valid");
            (key, bytes, document.clone())
        })
        .collect();
    for pair in rows.windows(2) {
        assert_eq!(pair[0].0.cmp(&pair[1].0), sort.compare(&pair[0].1, &pair[1].1));
    }
    rows.sort_by(|a, b| a.0.cmp(&b.0));
    rows.into_iter().map(|(.., document)| document).collect()
}

fn value(bytes: &[u8]) -> Result<Value> {
    query::to_value(bytes).ok_or_else(|| DocumentError::Malformed.into())
}
