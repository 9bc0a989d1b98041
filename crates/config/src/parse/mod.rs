//! Text to tree: one function per format, all of them with spans and all of them total.

mod json;
mod toml;
#[cfg(feature = "yaml")]
mod yaml;

use std::path::Path;

use crate::{
    code::codes,
    diagnostic::Diagnostic,
    source::{SourceId, Span},
    tree::Node,
};

pub(crate) use self::toml::value as toml_value;

/// The notations a file can be written in, told apart by its extension.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Format {
    /// RFC 8259, nothing beyond it.
    Json,
    /// TOML 1.1.
    Toml,
    /// YAML 1.2 by its core schema, without aliases and tags.
    #[cfg(feature = "yaml")]
    Yaml,
}

impl Format {
    /// Every extension there is a parser for, in the order they are looked for.
    #[cfg(not(feature = "yaml"))]
    pub const EXTENSIONS: &[&str] = &["toml", "json"];
    /// Every extension there is a parser for, in the order they are looked for.
    #[cfg(feature = "yaml")]
    pub const EXTENSIONS: &[&str] = &["toml", "json", "yaml", "yml"];

    /// The format of a path by its extension; without one (`/dev/stdin`) it is TOML.
    pub fn of(path: &Path) -> Option<Self> {
        let Some(extension) = path.extension() else { return Some(Self::Toml) };
        match extension.to_str()?.to_ascii_lowercase().as_str() {
            "json" => Some(Self::Json),
            "toml" => Some(Self::Toml),
            #[cfg(feature = "yaml")]
            "yaml" | "yml" => Some(Self::Yaml),
            _ => None,
        }
    }
}

/// Where text becomes nodes: spans are made here, problems are gathered here.
pub(crate) struct Context<'a> {
    pub(crate) source: SourceId,
    /// What to add to an offset, for text that lies inside a larger one.
    pub(crate) base: usize,
    pub(crate) depth_max: usize,
    pub(crate) problems: &'a mut Vec<Diagnostic>,
}

impl Context<'_> {
    fn span(&self, range: std::ops::Range<usize>) -> Span {
        Span::new(self.source, self.base + range.start..self.base + range.end)
    }

    fn too_deep(&mut self, span: Span) {
        let message = format!("values are nested more than {} levels deep", self.depth_max);
        // Every sibling at that depth would say the same.
        if self.problems.iter().all(|problem| problem.code() != codes::TOO_DEEP) {
            let problem = Diagnostic::error(codes::TOO_DEEP, message).at(span, "too deep");
            self.problems.push(problem.with_help("flatten the structure"));
        }
    }
}

/// Reads a whole document. What comes back with problems is only good for showing them.
pub(crate) fn document(format: Format, text: &str, context: &mut Context<'_>) -> Node {
    match format {
        Format::Json => json::document(text, context),
        Format::Toml => toml::document(text, context),
        #[cfg(feature = "yaml")]
        Format::Yaml => yaml::document(text, context),
    }
}
