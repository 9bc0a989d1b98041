//! The merged layers, and what can be asked of them.

use std::{
    collections::BTreeSet,
    fmt,
    path::{Path as FsPath, PathBuf},
    sync::Arc,
};

use serde::{Serialize, de::DeserializeOwned};

use crate::{
    de,
    diagnostic::Report,
    diff::{self, Change},
    explain::{self, Explained},
    loader::Limits,
    source::{Sources, Span},
    spanned::Spanned,
    tree::{Node, Path, Segment},
};

/// A decoded configuration with the document it came from.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Loaded<T> {
    /// What the program works with.
    pub config: T,
    /// Where all of it was written.
    pub document: Document,
}

impl<T: Serialize> Loaded<T> {
    /// Every key with its value and source, those at their defaults included.
    pub fn explain(&self) -> Vec<Explained> {
        self.document.explain_with(&self.config)
    }
}

/// The layers of one load, merged but not typed.
#[derive(Clone)]
pub struct Document {
    root: Node,
    sources: Arc<Sources>,
    secrets: BTreeSet<Span>,
    limits: Limits,
}

impl Document {
    pub(crate) fn new(root: Node, sources: Arc<Sources>, limits: Limits) -> Self {
        let mut secrets = BTreeSet::new();
        root.walk(&mut Path::default(), &mut |path, node| {
            let mut layer = Some(node);
            while let Some(node) = layer {
                if is_secret(path) {
                    secrets.insert(node.span);
                }
                layer = node.shadowed.as_deref();
            }
            true
        });
        Self { root, sources, secrets, limits }
    }

    /// Decodes into a typed configuration. Keys that the type does not know are errors.
    ///
    /// # Errors
    /// Everything that is wrong, in one report.
    pub fn decode<T: DeserializeOwned>(&mut self) -> Result<T, Report> {
        let (value, report) = self.decode_partial();
        match value {
            Some(value) if !report.has_errors() => Ok(value),
            _ => Err(report),
        }
    }

    /// Like [`decode`](Self::decode), but gives what could be decoded beside the errors, the rest
    /// at its defaults: for checks that have more to say about a file that is wrong already.
    pub fn decode_partial<T: DeserializeOwned>(&mut self) -> (Option<T>, Report) {
        let mut report = self.report();
        let (value, secrets) =
            de::decode(&self.root, &mut report, self.limits.diagnostics_max, self.limits.depth_max);
        self.secrets.extend(secrets);
        (value, report)
    }

    /// An empty report over these texts, for what is found wrong after decoding.
    pub fn report(&self) -> Report {
        Report::new(Arc::clone(&self.sources), self.secrets.clone())
    }

    /// The texts that were read.
    pub fn sources(&self) -> &Sources {
        &self.sources
    }

    /// A path as the operator meant it: relative to the file it stands in, or to the working
    /// directory if it came from a variable or an argument.
    pub fn resolve(&self, path: &Spanned<PathBuf>) -> PathBuf {
        match self.sources.base_dir(path.span()) {
            Some(dir) => dir.join(path.value()),
            None => <PathBuf as AsRef<FsPath>>::as_ref(path.value()).to_owned(),
        }
    }

    /// Every key that is set, with its value, its source, and what it overrides.
    pub fn explain(&self) -> Vec<Explained> {
        explain::explain(self)
    }

    /// Like [`explain`](Self::explain), with the defaults that `effective` has beyond.
    pub fn explain_with(&self, effective: &impl Serialize) -> Vec<Explained> {
        explain::explain_with(self, effective)
    }

    pub(crate) fn root(&self) -> &Node {
        &self.root
    }

    pub(crate) fn is_secret(&self, path: &Path, node: &Node) -> bool {
        is_secret(path) || self.secrets.contains(&node.span)
    }
}

impl fmt::Debug for Document {
    // The values may be secrets; `explain` shows those that are not.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Document").field("sources", &self.sources).finish_non_exhaustive()
    }
}

/// The keys whose values differ, in the order of their paths.
pub fn diff(old: &Document, new: &Document) -> Vec<Change> {
    diff::diff(old, new)
}

/// By name, for what no `Secret` type has marked.
pub(crate) fn is_secret(path: &Path) -> bool {
    path.0.iter().any(|segment| match segment {
        Segment::Index(_) => false,
        Segment::Key(key) => is_secret_name(key),
    })
}

fn is_secret_name(key: &str) -> bool {
    let key = key.to_ascii_lowercase().replace('-', "_");
    // `password_file` holds a path and `token_lifetime` a time: only a last word tells a secret.
    let last = key.rsplit('_').next().unwrap_or_default();
    SECRET_WORDS.contains(&last) || key.ends_with("api_key") || key.ends_with("secret_key")
}

const SECRET_WORDS: &[&str] = &[
    "apikey",
    "credential",
    "credentials",
    "passphrase",
    "passwd",
    "password",
    "passwords",
    "secret",
    "secrets",
    "token",
    "tokens",
];
