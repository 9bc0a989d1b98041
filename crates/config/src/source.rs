//! Where configuration text comes from, and how a byte range in it becomes a line and a column.

use std::{
    fmt,
    ops::Range,
    path::{Path, PathBuf},
};

/// Names one text of a [`Sources`] table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SourceId(u32);

/// A byte range in one source. [`Span::UNKNOWN`] stands for "no text at all", as with a default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Span {
    source: SourceId,
    start: u32,
    end: u32,
}

impl Span {
    /// The span of a value that nobody wrote down.
    pub const UNKNOWN: Self = Self { source: SourceId(u32::MAX), start: 0, end: 0 };

    pub(crate) fn new(source: SourceId, range: Range<usize>) -> Self {
        let start = clamp(range.start);
        Self { source, start, end: clamp(range.end).max(start) }
    }

    /// Whether there is text behind this span.
    pub fn is_known(self) -> bool {
        self != Self::UNKNOWN
    }

    /// The source the range lies in.
    pub fn source(self) -> SourceId {
        self.source
    }

    /// The range in bytes of the source's text.
    pub fn range(self) -> Range<usize> {
        self.start as usize..self.end as usize
    }

    pub(crate) fn to_raw(self) -> (u32, u32, u32) {
        (self.source.0, self.start, self.end)
    }

    pub(crate) fn from_raw((source, start, end): (u32, u32, u32)) -> Self {
        Self { source: SourceId(source), start, end }
    }
}

/// Which layer a text belongs to; later layers override earlier ones.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Origin {
    /// A configuration file.
    File(PathBuf),
    /// Text handed over by the program.
    Text,
    /// One environment variable.
    Environment,
    /// One argument of the command line.
    CommandLine,
}

/// One text with its name.
#[derive(Clone)]
pub struct Source {
    /// The layer the text belongs to.
    pub origin: Origin,
    /// A path, the name of a variable, or a flag.
    pub name: String,
    /// The text itself; for variables and arguments in the form `NAME=value`, `--flag value`.
    pub text: String,
}

impl fmt::Debug for Source {
    // The text may hold secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source")
            .field("origin", &self.origin)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl Source {
    /// The 1-based line and column (in characters) of a byte offset.
    pub fn position(&self, offset: usize) -> Position {
        let offset = floor_boundary(&self.text, offset);
        let before = self.text.get(..offset).unwrap_or_default();
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        Position {
            line: before.bytes().filter(|&b| b == b'\n').count() + 1,
            column: before.get(line_start..).unwrap_or_default().chars().count() + 1,
        }
    }
}

/// A place in a text, for people: both numbers count from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// Lines end at `\n`.
    pub line: usize,
    /// Counted in characters, not bytes.
    pub column: usize,
}

/// Every text that one load has read.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    list: Vec<Source>,
}

impl Sources {
    pub(crate) fn add(&mut self, origin: Origin, name: String, text: String) -> SourceId {
        let id = SourceId(clamp(self.list.len()));
        self.list.push(Source { origin, name, text });
        id
    }

    /// The source with this id, if it belongs to this table.
    pub fn source(&self, id: SourceId) -> Option<&Source> {
        self.list.get(id.0 as usize)
    }

    /// The text a span covers.
    pub fn text(&self, span: Span) -> Option<&str> {
        self.source(span.source)?.text.get(span.range())
    }

    /// Where a span begins, in words: `hearth.toml:3:8`, `environment variable HEARTH_LISTEN`.
    pub fn location(&self, span: Span) -> Location<'_> {
        Location { source: self.source(span.source), span }
    }

    /// The folder that relative paths at this span are relative to: the file's own, or `None`
    /// (the working directory) for variables, arguments and text.
    pub fn base_dir(&self, span: Span) -> Option<&Path> {
        match &self.source(span.source)?.origin {
            Origin::File(path) => path.parent().filter(|dir| !dir.as_os_str().is_empty()),
            Origin::CommandLine | Origin::Environment | Origin::Text => None,
        }
    }
}

/// Prints where a span begins; made by [`Sources::location`].
#[derive(Debug, Clone, Copy)]
pub struct Location<'a> {
    source: Option<&'a Source>,
    span: Span,
}

impl fmt::Display for Location<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(source) = self.source else { return f.write_str("default") };
        match source.origin {
            Origin::File(_) | Origin::Text => {
                let at = source.position(self.span.range().start);
                write!(f, "{}:{}:{}", source.name, at.line, at.column)
            }
            Origin::Environment => write!(f, "environment variable {}", source.name),
            Origin::CommandLine => write!(f, "command line, {}", source.name),
        }
    }
}

/// The nearest character boundary at or before `offset`.
pub(crate) fn floor_boundary(text: &str, offset: usize) -> usize {
    let mut at = offset.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

// Texts are bounded by `Limits::file_bytes_max`, far below 4 GiB; clamping keeps the rest safe.
fn clamp(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX - 1)
}
