//! The query language from outside: patches on any value, generators, an obvious evaluator.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::Value;

use crate::{
    Filter, Pipeline, Result, Sort, Vfs,
    error::DocumentError,
    jb1, query,
    testing::{SimEnv, SimVfs},
};

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

/// Runs a pipeline over plain values with so much memory, on a disk that is simulated. Also says how
/// many temporary files are left.
///
/// # Errors
/// Those of the pipeline.
pub fn aggregate(
    pipeline: &Pipeline,
    documents: &[Value],
    other: &[Value],
    memory_max: usize,
) -> Result<(Vec<Value>, usize)> {
    let vfs = SimVfs::new();
    let folder = std::path::PathBuf::from("/spill");
    vfs.create_dir(&folder).expect("the simulated disk works");
    let stored = |documents: &[Value]| -> Result<Vec<Bytes>> {
        let limits = jb1::Limits::default();
        let bytes = documents.iter().map(|value| jb1::from_value(value, &limits));
        bytes.map(|bytes| Ok(Bytes::from(bytes?))).collect()
    };
    let context = query::Context {
        limits: jb1::Limits::default(),
        memory_max,
        spill_bytes_max: 64 << 20,
        vfs: Arc::new(vfs.clone()),
        env: Arc::new(SimEnv::new(1)),
        folder: folder.clone(),
        join: Arc::new(Other(stored(other)?)),
    };
    let source = Box::new(stored(documents)?.into_iter().map(Ok));
    let rows = pipeline.run(source, &context);
    let results = rows.map(|row| value(&row?)).collect::<Result<_>>()?;
    let left = vfs.list(&folder).expect("the simulated disk works").len();
    Ok((results, left))
}

/// The other collection of a `$lookup`.
struct Other(Vec<Bytes>);

impl query::Join for Other {
    fn find(&self, _: &str, filter: &Filter, _: usize) -> Result<Vec<Bytes>> {
        Ok(self.0.iter().filter(|document| filter.matches(document)).cloned().collect())
    }
}
