//! What changed between two loads.

use std::{collections::BTreeMap, fmt};

use serde::Serialize;

use crate::{document::Document, spanned::REDACTED, text, tree::Path};

/// A key whose value differs between two configurations.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Change {
    /// `listen.port`, `sites[0].root`.
    pub key: String,
    /// The value before, in TOML's notation; `None` if it was not set. Secrets are redacted.
    pub old: Option<String>,
    /// The value now; `None` if it is no longer set.
    pub new: Option<String>,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |value: &Option<String>| value.clone().unwrap_or_else(|| "not set".to_owned());
        write!(f, "{}: {} -> {}", self.key, shown(&self.old), shown(&self.new))
    }
}

pub(crate) fn diff(old: &Document, new: &Document) -> Vec<Change> {
    let (mut before, mut after) = (leaves(old), leaves(new));
    let mut keys: Vec<Path> = before.keys().chain(after.keys()).cloned().collect();
    keys.sort();
    keys.dedup();
    let change = |path: Path| {
        let (old, new) = (before.remove(&path), after.remove(&path));
        let text = |leaf: &Option<Leaf>| leaf.as_ref().map(|leaf| leaf.value.clone());
        if text(&old) == text(&new) {
            return None;
        }
        let shown = |leaf: Option<Leaf>| {
            leaf.map(|leaf| if leaf.secret { REDACTED.to_owned() } else { leaf.value })
        };
        Some(Change { key: path.to_string(), old: shown(old), new: shown(new) })
    };
    keys.into_iter().filter_map(change).collect()
}

struct Leaf {
    value: String,
    secret: bool,
}

fn leaves(document: &Document) -> BTreeMap<Path, Leaf> {
    let mut leaves = BTreeMap::new();
    document.root().walk_leaves(&mut |path, node| {
        let secret = document.is_secret(path, node);
        leaves.insert(path.clone(), Leaf { value: text::canonical(node), secret });
    });
    leaves
}
