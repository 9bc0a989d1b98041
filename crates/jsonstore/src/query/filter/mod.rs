//! Filters: MongoDB's query documents, parsed once and matched against JB1 bytes.

mod equalities;
mod matches;
mod parse;
mod position;
mod shape;

use std::{fmt, sync::Arc};

use serde_json::Value;

#[cfg(feature = "schema")]
use super::schema::Schema;
use super::{expression::Expression, order::Bracket, path::Path};
use crate::{
    error::{DocumentError, Result},
    jb1::{self, Limits},
};

/// Operators inside operators. The parser and everything after it recurse at most this deep.
pub(crate) const FILTER_DEPTH_MAX: usize = 64;
/// Tests and logical operators of one filter.
pub(crate) const FILTER_CLAUSES_MAX: usize = 4096;
/// Values to compare with in one filter, those of `$in` counted one by one.
pub(crate) const FILTER_OPERANDS_MAX: usize = 100_000;
/// Regular expressions of one filter.
pub(crate) const REGEXES_MAX: usize = 64;
/// Bytes of a regular expression as written.
pub(crate) const REGEX_BYTES_MAX: usize = 4096;
/// Bytes of a regular expression when compiled. Matching takes time in proportion to the text.
pub(crate) const REGEX_COMPILED_BYTES_MAX: usize = 1 << 20;

/// Which documents an operation means.
///
/// The language is MongoDB's: `{"age": {"$gte": 18}, "tags": "new"}`. Values compare within one type
/// only; an array matches if one of its elements does. Cheap to clone.
///
/// ```
/// use hearth_jsonstore::Filter;
/// use serde_json::json;
///
/// let filter = Filter::from_json(&json!({"items.price": {"$lt": 5}, "state": {"$ne": "sold"}}))?;
/// assert!(filter.matches_json(&json!({"items": [{"price": 9}, {"price": 3}]}))?);
/// assert!(!filter.matches_json(&json!({"items": [{"price": "3"}]}))?);
/// # hearth_jsonstore::Result::Ok(())
/// ```
#[derive(Clone)]
pub struct Filter(Arc<Expr>);

/// A filter as a tree. `And` and `Or` hold no `And` or `Or` of their own kind.
#[derive(Debug)]
pub(crate) enum Expr {
    /// All of them; none at all is every document.
    And(Vec<Expr>),
    /// `$expr`: the value counts as true.
    Expression(Expression),
    /// `path` as a whole satisfies `test`: one of the values that it reaches does, unless the test
    /// says otherwise.
    Field { path: Path, test: Test },
    /// None of them.
    Nor(Vec<Expr>),
    /// At least one of them.
    Or(Vec<Expr>),
    /// `$jsonSchema`: the schema describes the document.
    #[cfg(feature = "schema")]
    Schema(Schema),
    /// Stands only at the top or in the topmost `And`. `matches` takes it for true, because the full
    /// text index finds these documents.
    Text(TextQuery),
}

/// What a value has to be. `$ne` and `$nin` are `Not` of `Eq` and `In`; `$all` is several tests.
#[derive(Debug)]
pub(crate) enum Test {
    /// Holds of arrays only.
    ElemMatch(ElemMatch),
    Eq(Operand),
    Exists(bool),
    Gt(Operand),
    Gte(Operand),
    /// Sorted by value, without doubles. Without any it matches nothing.
    In(Vec<Operand>),
    Lt(Operand),
    Lte(Operand),
    Mod {
        divisor: i64,
        remainder: i64,
    },
    /// Not all of them hold of the path.
    Not(Vec<Test>),
    Regex(Regex),
    /// Holds of arrays only.
    Size(u64),
    Type(TypeSet),
}

#[derive(Debug)]
pub(crate) enum ElemMatch {
    /// One element, an object or an array, matches as if it were a document.
    Document(Box<Expr>),
    /// One element satisfies all of them.
    Value(Vec<Test>),
}

/// A value to compare with.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Operand {
    pub(crate) jb1: Box<[u8]>,
    /// `key::encode` of it, the bytes of an index.
    pub(crate) key: Box<[u8]>,
    pub(crate) bracket: Bracket,
}

/// `$regex` with its `$options`.
#[derive(Clone)]
pub(crate) struct Regex {
    pub(crate) pattern: Box<str>,
    pub(crate) options: Box<str>,
    pub(crate) compiled: regex::Regex,
}

impl Regex {
    /// What every match begins with, if the pattern says so plainly: a range of an index.
    pub(crate) fn prefix(&self) -> Option<&str> {
        let rest = self.pattern.strip_prefix('^').filter(|_| self.options.is_empty())?;
        let is_plain =
            |c: char| c.is_alphanumeric() || matches!(c, ' ' | '_' | '-' | '/' | ':' | ',');
        let mut end = rest.find(|c| !is_plain(c)).unwrap_or(rest.len());
        let next = rest[end..].chars().next();
        if matches!(next, Some('|')) || rest.contains('|') {
            return None;
        }
        // The character before one of these may be absent.
        if matches!(next, Some('?' | '*' | '{')) {
            end = rest[..end].char_indices().next_back().map_or(0, |(at, _)| at);
        }
        (end > 0).then(|| &rest[..end])
    }
}

/// The types that `$type` asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct TypeSet(pub(crate) u16);

impl TypeSet {
    pub(crate) const NULL: u16 = 1;
    pub(crate) const BOOLEAN: u16 = 1 << 1;
    /// An integer of 32 bits.
    pub(crate) const INT: u16 = 1 << 2;
    /// An integer that needs more than 32 bits.
    pub(crate) const LONG: u16 = 1 << 3;
    /// Any other number.
    pub(crate) const DOUBLE: u16 = 1 << 4;
    pub(crate) const STRING: u16 = 1 << 5;
    pub(crate) const ARRAY: u16 = 1 << 6;
    pub(crate) const OBJECT: u16 = 1 << 7;

    pub(crate) fn holds(self, kind: u16) -> bool {
        self.0 & kind != 0
    }
}

/// `$text`: only parsed here; the full-text index answers it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TextQuery {
    /// Words, `"phrases"`, `-exclusions`.
    pub(crate) search: Box<str>,
    pub(crate) language: Option<Box<str>>,
    pub(crate) case_sensitive: bool,
    pub(crate) diacritic_sensitive: bool,
}

impl Filter {
    /// Every document.
    pub fn all() -> Self {
        Self(Arc::new(Expr::And(Vec::new())))
    }

    /// From the document form.
    ///
    /// # Errors
    /// `InvalidFilter` names the place and the reason: an unknown operator, an operand of the wrong
    /// type, a regular expression that does not compile, one of the limits of a filter.
    pub fn from_json(value: &Value) -> Result<Self> {
        parse::parse(value).map(|expr| Self(Arc::new(expr)))
    }

    /// Whether a document matches. `$text` counts as true.
    ///
    /// # Errors
    /// `Document` if it could not be stored: it is no object, too large or nested too deep.
    pub fn matches_json(&self, document: &Value) -> Result<bool> {
        if !document.is_object() {
            return Err(DocumentError::NotAnObject.into());
        }
        Ok(self.matches(&jb1::from_value(document, &Limits::default())?))
    }

    /// The filter without its operands: two filters of one shape can be answered by one plan.
    pub fn shape(&self) -> String {
        shape::shape(&self.0)
    }

    /// Equal for filters of one shape, and mostly not for others.
    pub(crate) fn fingerprint(&self) -> u64 {
        shape::fingerprint(&self.0)
    }

    /// Whether the document, as JB1, matches. `$text` counts as true.
    pub(crate) fn matches(&self, document: &[u8]) -> bool {
        self.0.matches(document)
    }

    /// The paths that decide whether a document matches; `false` if others may, too.
    pub(crate) fn each_path<'a>(&'a self, visit: &mut dyn FnMut(&'a Path)) -> bool {
        fn walk<'a>(expr: &'a Expr, visit: &mut dyn FnMut(&'a Path)) -> bool {
            match expr {
                Expr::And(all) | Expr::Nor(all) | Expr::Or(all) => {
                    all.iter().all(|expr| walk(expr, visit))
                }
                Expr::Field { path, .. } => {
                    visit(path);
                    true
                }
                #[cfg(feature = "schema")]
                Expr::Schema(_) => false,
                Expr::Expression(_) | Expr::Text(_) => false,
            }
        }
        walk(&self.0, visit)
    }

    /// Memory that its operands take, roughly.
    pub(crate) fn operand_bytes(&self) -> usize {
        fn of_test(test: &Test) -> usize {
            match test {
                Test::Eq(one) | Test::Gt(one) | Test::Gte(one) | Test::Lt(one) | Test::Lte(one) => {
                    one.jb1.len() + one.key.len()
                }
                Test::In(all) => all.iter().map(|one| 64 + one.jb1.len() + one.key.len()).sum(),
                Test::ElemMatch(ElemMatch::Document(expr)) => of(expr),
                Test::ElemMatch(ElemMatch::Value(tests)) | Test::Not(tests) => {
                    tests.iter().map(of_test).sum()
                }
                Test::Regex(_) => 1024,
                Test::Exists(_) | Test::Mod { .. } | Test::Size(_) | Test::Type(_) => 0,
            }
        }
        fn of(expr: &Expr) -> usize {
            match expr {
                Expr::And(all) | Expr::Nor(all) | Expr::Or(all) => all.iter().map(of).sum(),
                Expr::Field { path, test } => 64 + path.as_str().len() + of_test(test),
                Expr::Expression(_) | Expr::Text(_) => 1024,
                #[cfg(feature = "schema")]
                Expr::Schema(_) => usize::MAX / 2,
            }
        }
        of(&self.0)
    }

    pub(crate) fn from_expr(expr: Expr) -> Self {
        Self(Arc::new(expr))
    }

    pub(crate) fn expr(&self) -> &Expr {
        &self.0
    }

    /// What the full-text index has to find, if anything.
    pub(crate) fn text(&self) -> Option<&TextQuery> {
        let is_text = |expr: &&Expr| matches!(expr, Expr::Text(_));
        let found = match &*self.0 {
            Expr::And(all) => all.iter().find(is_text),
            one => Some(one),
        };
        match found {
            Some(Expr::Text(query)) => Some(query),
            _ => None,
        }
    }
}

/// The condition of `$pull`: operators on the elements, fields of elements that are objects, or a
/// value to equal.
pub(crate) fn pull_condition(value: &Value) -> Result<ElemMatch> {
    parse::pull_condition(value)
}

impl Default for Filter {
    fn default() -> Self {
        Self::all()
    }
}

impl fmt::Debug for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Operand {
    pub(crate) fn new(value: &Value) -> Result<Self> {
        let jb1 = jb1::from_value(value, &Limits::default())?;
        Self::from_jb1(jb1).ok_or(DocumentError::Malformed.into())
    }

    pub(crate) fn from_jb1(jb1: Vec<u8>) -> Option<Self> {
        let mut key = Vec::new();
        crate::key::encode(&jb1, &mut key)?;
        let bracket = super::order::bracket(&jb1)?;
        Some(Self { jb1: jb1.into(), key: key.into(), bracket })
    }
}

impl fmt::Debug for Operand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = Vec::new();
        let _ = jb1::print(&self.jb1, &mut text);
        f.write_str(&String::from_utf8_lossy(&text))
    }
}

impl fmt::Debug for Regex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/{}/{}", self.pattern, self.options)
    }
}
