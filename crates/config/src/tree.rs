//! The merged configuration: values that know their span, and paths into them.

use std::fmt;

use crate::source::Span;

/// A value, where it was written, and what it overrides.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) value: Value,
    pub(crate) span: Span,
    /// What an earlier layer said.
    pub(crate) shadowed: Option<Box<Node>>,
    /// Already reported: the decoder passes over it, so that one error does not hide the next.
    pub(crate) pruned: bool,
}

#[derive(Debug, Clone)]
pub(crate) enum Value {
    Array(Vec<Node>),
    Bool(bool),
    Datetime(String),
    Float(f64),
    Integer(i128),
    Null,
    String(String),
    Table(Table),
    /// From a variable or an argument: typed by what the key wants.
    Text(String),
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Table {
    /// In the order of the text.
    pub(crate) entries: Vec<Entry>,
}

#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) key_span: Span,
    pub(crate) node: Node,
}

impl Node {
    pub(crate) fn new(value: Value, span: Span) -> Self {
        Self { value, span, shadowed: None, pruned: false }
    }

    pub(crate) fn empty_table(span: Span) -> Self {
        Self::new(Value::Table(Table::default()), span)
    }

    /// Whether something right below was cut off.
    pub(crate) fn has_pruned_child(&self) -> bool {
        match &self.value {
            Value::Array(items) => items.iter().any(|item| item.pruned),
            Value::Table(table) => table.entries.iter().any(|entry| entry.node.pruned),
            _ => false,
        }
    }

    pub(crate) fn child(&self, segment: &Segment) -> Option<&Self> {
        match (&self.value, segment) {
            (Value::Array(items), Segment::Index(at)) => items.get(*at),
            (Value::Table(table), Segment::Key(key)) => table.entry(key).map(|entry| &entry.node),
            _ => None,
        }
    }

    pub(crate) fn child_mut(&mut self, segment: &Segment) -> Option<&mut Self> {
        match (&mut self.value, segment) {
            (Value::Array(items), Segment::Index(at)) => items.get_mut(*at),
            (Value::Table(table), Segment::Key(key)) => {
                table.entries.iter_mut().find(|e| e.key == *key).map(|e| &mut e.node)
            }
            _ => None,
        }
    }

    /// The deepest node there is along `path`, with the part of the path that leads to it.
    pub(crate) fn deepest<'a>(&self, path: &'a [Segment]) -> (&Self, &'a [Segment]) {
        let mut node = self;
        for (depth, segment) in path.iter().enumerate() {
            match node.child(segment) {
                Some(child) => node = child,
                None => return (node, path.get(..depth).unwrap_or(path)),
            }
        }
        (node, path)
    }

    pub(crate) fn at_mut(&mut self, path: &[Segment]) -> Option<&mut Self> {
        path.iter().try_fold(self, |node, segment| node.child_mut(segment))
    }

    /// Calls `visit` for every node but the root, parents first; below a node for which it returns
    /// `false` it does not go.
    pub(crate) fn walk(&self, path: &mut Path, visit: &mut impl FnMut(&Path, &Self) -> bool) {
        let mut step = |segment: Segment, child: &Self| {
            path.0.push(segment);
            if visit(path, child) {
                child.walk(path, visit);
            }
            path.0.pop();
        };
        match &self.value {
            Value::Array(items) => {
                for (at, item) in items.iter().enumerate() {
                    step(Segment::Index(at), item);
                }
            }
            Value::Table(table) => {
                for entry in &table.entries {
                    step(Segment::Key(entry.key.clone()), &entry.node);
                }
            }
            _ => {}
        }
    }

    /// Calls `visit` for every node that is shown whole: plain values, and arrays of them.
    pub(crate) fn walk_leaves(&self, visit: &mut impl FnMut(&Path, &Self)) {
        self.walk(&mut Path::default(), &mut |path, node| {
            let is_leaf = node.is_leaf();
            if is_leaf {
                visit(path, node);
            }
            !is_leaf
        });
    }

    fn is_leaf(&self) -> bool {
        match &self.value {
            // An entry that was overridden has a source of its own to show.
            Value::Array(items) => {
                let simple = |item: &Self| !item.value.is_container() && item.shadowed.is_none();
                items.iter().all(simple)
            }
            Value::Table(table) => table.entries.is_empty(),
            _ => true,
        }
    }
}

impl Value {
    /// With its article, for messages.
    pub(crate) fn type_name(&self) -> &'static str {
        match self {
            Self::Array(_) => "an array",
            Self::Bool(_) => "a boolean",
            Self::Datetime(_) => "a date-time",
            Self::Float(_) => "a float",
            Self::Integer(_) => "an integer",
            Self::Null => "null",
            Self::String(_) => "a string",
            Self::Table(_) => "a table",
            Self::Text(_) => "text",
        }
    }

    pub(crate) fn is_container(&self) -> bool {
        matches!(self, Self::Array(_) | Self::Table(_))
    }
}

impl fmt::Display for Value {
    /// In TOML's notation, on one line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Array(items) => {
                f.write_str("[")?;
                for (at, item) in items.iter().enumerate() {
                    write!(f, "{}{}", if at == 0 { "" } else { ", " }, item.value)?;
                }
                f.write_str("]")
            }
            Self::Bool(value) => value.fmt(f),
            Self::Datetime(text) => f.write_str(text),
            Self::Float(value) => write!(f, "{value:?}"),
            Self::Integer(value) => value.fmt(f),
            Self::Null => f.write_str("null"),
            Self::String(text) | Self::Text(text) => write_quoted(f, text),
            Self::Table(table) => {
                f.write_str("{")?;
                for (at, entry) in table.entries.iter().enumerate() {
                    f.write_str(if at == 0 { " " } else { ", " })?;
                    write_key(f, &entry.key)?;
                    write!(f, " = {}", entry.node.value)?;
                }
                f.write_str(if table.entries.is_empty() { "}" } else { " }" })
            }
        }
    }
}

impl Table {
    pub(crate) fn entry(&self, key: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.key == key)
    }
}

/// One step into a tree.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Segment {
    Index(usize),
    Key(String),
}

/// Steps from the root; prints as `sites[0].root`.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Path(pub(crate) Vec<Segment>);

impl Path {
    pub(crate) fn join(&self, segment: Segment) -> Self {
        let mut path = self.clone();
        path.0.push(segment);
        path
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, segment) in self.0.iter().enumerate() {
            match segment {
                Segment::Index(index) => write!(f, "[{index}]")?,
                Segment::Key(key) => {
                    f.write_str(if at == 0 { "" } else { "." })?;
                    write_key(f, key)?;
                }
            }
        }
        Ok(())
    }
}

/// Whether TOML takes `key` without quotes.
pub(crate) fn is_bare(key: &str) -> bool {
    !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
}

fn write_key(f: &mut fmt::Formatter<'_>, key: &str) -> fmt::Result {
    if is_bare(key) { f.write_str(key) } else { write_quoted(f, key) }
}

fn write_quoted(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    f.write_str("\"")?;
    for c in text.chars() {
        match c {
            '"' => f.write_str("\\\"")?,
            '\\' => f.write_str("\\\\")?,
            '\n' => f.write_str("\\n")?,
            '\t' => f.write_str("\\t")?,
            c if c.is_control() => write!(f, "\\u{:04X}", c as u32)?,
            c => write!(f, "{c}")?,
        }
    }
    f.write_str("\"")
}
