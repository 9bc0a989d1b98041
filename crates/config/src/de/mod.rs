//! Tree to typed value, with every error of the tree and not only the first.
//!
//! serde stops at the first error. Unknown keys do not stop it, because the deserializer knows the
//! field list and passes over them. For the others, the offending node is cut off and the decode
//! runs again: the key then takes its default, or its table reports a missing key, which is
//! recognised as a mere consequence. Each pass cuts a node, so the passes end.

mod error;
mod node;

use std::{cell::RefCell, collections::BTreeSet};

use serde::de::DeserializeOwned;

use self::{
    error::unknown_key,
    node::{NodeDeserializer, Trail},
};
use crate::{
    diagnostic::{Diagnostic, Report},
    source::Span,
    suggest::nearest,
    tree::{Node, Path},
};

pub(crate) use self::error::DecodeError;

/// What a decode notices beside the value.
#[derive(Default)]
struct Notes {
    unknown: RefCell<Vec<Unknown>>,
    /// Spans that were read as a `Secret`.
    secrets: RefCell<BTreeSet<Span>>,
    depth_max: usize,
    unknown_max: usize,
}

struct Unknown {
    path: Path,
    /// The key that was probably meant.
    suggestion: Option<String>,
    diagnostic: Diagnostic,
}

impl Notes {
    fn unknown_key(&self, path: Path, name: &str, span: Span, allowed: &[&str]) {
        let mut unknown = self.unknown.borrow_mut();
        // Later passes come by here again.
        if unknown.len() <= self.unknown_max && unknown.iter().all(|known| known.path != path) {
            let suggestion = nearest(name, allowed.iter().copied()).map(str::to_owned);
            let diagnostic = unknown_key(&path, name, span, allowed);
            unknown.push(Unknown { path, suggestion, diagnostic });
        }
    }

    /// Whether `key` is there, but misspelt: that it is missing need not be said.
    fn has_suggested(&self, table: &Path, key: &str) -> bool {
        self.unknown.borrow().iter().any(|unknown| {
            unknown.suggestion.as_deref() == Some(key)
                && unknown.path.0.split_last().is_some_and(|(_, parent)| *parent == *table.0)
        })
    }
}

/// Decodes `root`; the value is `None` if something that has no default was wrong.
pub(crate) fn decode<T: DeserializeOwned>(
    root: &Node,
    report: &mut Report,
    diagnostics_max: usize,
    depth_max: usize,
) -> (Option<T>, BTreeSet<Span>) {
    let notes = Notes { depth_max, unknown_max: diagnostics_max, ..Notes::default() };
    // Copied only once there is something to cut.
    let mut copy: Option<Node> = None;
    let value = loop {
        let tree = copy.as_ref().unwrap_or(root);
        let deserializer = NodeDeserializer::new(tree, Trail::Root, &notes);
        let error = match T::deserialize(deserializer) {
            Ok(value) => break Some(value),
            Err(error) => error,
        };
        report.add_secrets(notes.secrets.borrow().iter().copied());
        let path = error.path(tree);
        if !error.is_consequence(tree, &notes) {
            report.push(error.into_diagnostic(tree, |span| report.is_secret(span)));
        }
        if report.errors() >= diagnostics_max {
            report.truncate();
            break None;
        }
        if path.0.is_empty() {
            break None;
        }
        match copy.get_or_insert_with(|| root.clone()).at_mut(&path.0) {
            Some(node) if !node.pruned => node.pruned = true,
            _ => break None,
        }
    };
    for unknown in notes.unknown.into_inner() {
        if report.errors() >= diagnostics_max {
            report.truncate();
            break;
        }
        report.push(unknown.diagnostic);
    }
    let secrets = notes.secrets.into_inner();
    report.add_secrets(secrets.iter().copied());
    report.sort();
    (value, secrets)
}
