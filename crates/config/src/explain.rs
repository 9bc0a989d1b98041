//! Which value holds, and who said so.

use std::fmt;

use serde::Serialize;
use serde_json::Value as Json;

use crate::{
    document::{Document, is_secret},
    spanned::REDACTED,
    text,
    tree::{Node, Path, Segment, Value},
};

/// One key of the effective configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Explained {
    /// `listen.port`, `sites[0].root`.
    pub key: String,
    /// In TOML's notation; secrets are redacted.
    pub value: String,
    /// `hearth.toml:3:8`, `environment variable HEARTH_…`, `command line, --port`, `default`.
    pub source: String,
    /// What earlier layers said, nearest first.
    pub overrides: Vec<Overridden>,
}

/// A value that a later layer has replaced.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Overridden {
    /// In TOML's notation; secrets are redacted.
    pub value: String,
    /// Where it was written.
    pub source: String,
}

impl fmt::Display for Explained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} = {}  # {}", self.key, self.value, self.source)?;
        for below in &self.overrides {
            write!(f, ", over {} from {}", below.value, below.source)?;
        }
        Ok(())
    }
}

pub(crate) fn explain(document: &Document) -> Vec<Explained> {
    let mut list = Vec::new();
    document.root().walk_leaves(&mut |path, node| list.push(entry(document, path, node)));
    list
}

pub(crate) fn explain_with(document: &Document, effective: &impl Serialize) -> Vec<Explained> {
    let mut list = explain(document);
    // What cannot be written as JSON has no defaults to show.
    if let Ok(effective) = serde_json::to_value(effective) {
        defaults(document.root(), &effective, &mut Path::default(), &mut list);
    }
    list
}

fn defaults(set: &Node, effective: &Json, path: &mut Path, list: &mut Vec<Explained>) {
    let mut step = |segment: Segment, value: &Json| {
        path.0.push(segment);
        match path.0.last().and_then(|segment| set.child(segment)) {
            Some(node) => defaults(node, value, path, list),
            None => all_defaults(value, path, list),
        }
        path.0.pop();
    };
    match (&set.value, effective) {
        (Value::Table(_), Json::Object(map)) => {
            map.iter().for_each(|(key, value)| step(Segment::Key(key.clone()), value));
        }
        (Value::Array(_), Json::Array(items)) => {
            items.iter().enumerate().for_each(|(at, value)| step(Segment::Index(at), value));
        }
        // Set, and whole: nothing below it is a default.
        _ => {}
    }
}

fn all_defaults(value: &Json, path: &mut Path, list: &mut Vec<Explained>) {
    match value {
        Json::Null => {}
        Json::Object(map) if !map.is_empty() => {
            for (key, value) in map {
                path.0.push(Segment::Key(key.clone()));
                all_defaults(value, path, list);
                path.0.pop();
            }
        }
        _ => list.push(Explained {
            key: path.to_string(),
            value: if is_secret(path) { REDACTED.to_owned() } else { value.to_string() },
            source: "default".to_owned(),
            overrides: Vec::new(),
        }),
    }
}

fn entry(document: &Document, path: &Path, node: &Node) -> Explained {
    let secret = document.is_secret(path, node);
    let shown = |node: &Node| if secret { REDACTED.to_owned() } else { text::canonical(node) };
    let source = |node: &Node| document.sources().location(node.span).to_string();
    let mut overrides = Vec::new();
    let mut below = node.shadowed.as_deref();
    while let Some(node) = below {
        overrides.push(Overridden { value: shown(node), source: source(node) });
        below = node.shadowed.as_deref();
    }
    Explained { key: path.to_string(), value: shown(node), source: source(node), overrides }
}
