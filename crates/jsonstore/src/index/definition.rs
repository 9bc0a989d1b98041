//! What an index is.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::FIELDS_MAX;
use crate::{
    error::{Error, Result},
    query::{Filter, Path},
};

/// In which order an index holds the values of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Direction {
    /// Smallest first.
    #[default]
    Ascending,
    /// Largest first.
    Descending,
}

/// How an index is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum IndexKind {
    /// In order: answers equality, ranges and sorts.
    #[default]
    BTree,
    /// By a hash of the value: answers equality only, but takes values of any size, each in 16 bytes.
    Hash,
}

/// Which strings are one key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Collation {
    /// Equal ones; they sort by code point.
    #[default]
    Binary,
    /// Those that differ in case or marks only, too: `zoe` is `Zoë`.
    CaseInsensitive,
}

/// The definition of a secondary index; [`crate::Collection::create_index`] makes it.
///
/// A field that is missing counts as `null`, unless the index is sparse. Of an array each element is
/// indexed; one of the fields may be, or go through, an array.
///
/// ```
/// use hearth_jsonstore::Index;
///
/// let by_name = Index::on("name.last").and("name.first").collation_case_insensitive();
/// let by_email = Index::on("email").unique().sparse();
/// let newest = Index::on("state").and_descending("created").include("title");
/// let sessions = Index::on("seen").expire_after(std::time::Duration::from_secs(30 * 60));
/// # for index in [by_name, by_email, newest, sessions] {
/// #     assert_eq!(Index::from_json(&index.to_json())?, index);
/// # }
/// # hearth_jsonstore::Result::Ok(())
/// ```
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Index {
    pub(crate) name: Option<String>,
    pub(crate) fields: Vec<(String, Direction)>,
    pub(crate) kind: IndexKind,
    pub(crate) unique: bool,
    pub(crate) sparse: bool,
    pub(crate) partial: Option<Value>,
    pub(crate) collation: Collation,
    pub(crate) include: Vec<String>,
    /// Milliseconds after the date in its field, from which on a document has expired.
    pub(crate) expire_after_ms: Option<u64>,
    /// The store made it by itself, and may drop it. It never refuses a document.
    pub(crate) automatic: bool,
}

impl Index {
    /// An index on a field, in ascending order.
    pub fn on(path: &str) -> Self {
        Self::default().and(path)
    }

    /// An index on a field, in descending order.
    pub fn on_descending(path: &str) -> Self {
        Self::default().and_descending(path)
    }

    /// A hash index on a field.
    pub fn hash(path: &str) -> Self {
        Self { kind: IndexKind::Hash, ..Self::on(path) }
    }

    /// Then by this field, ascending.
    #[must_use]
    pub fn and(mut self, path: &str) -> Self {
        self.fields.push((path.to_owned(), Direction::Ascending));
        self
    }

    /// Then by this field, descending.
    #[must_use]
    pub fn and_descending(mut self, path: &str) -> Self {
        self.fields.push((path.to_owned(), Direction::Descending));
        self
    }

    /// Its name: 1 to 64 bytes of a-z, 0-9, `_` and `-`. Default: made from the fields.
    #[must_use]
    pub fn name(mut self, name: &str) -> Self {
        self.name = Some(name.to_owned());
        self
    }

    /// No two documents have the same key. Default: they may.
    #[must_use]
    pub fn unique(mut self) -> Self {
        self.unique = true;
        self
    }

    /// Documents that have none of the fields are left out. Default: they count as `null`.
    #[must_use]
    pub fn sparse(mut self) -> Self {
        self.sparse = true;
        self
    }

    /// Only documents that match this filter are indexed. Default: all.
    #[must_use]
    pub fn partial(mut self, filter: Value) -> Self {
        self.partial = Some(filter);
        self
    }

    /// Strings that differ in case or marks only are one key. Default: they are two.
    #[must_use]
    pub fn collation_case_insensitive(mut self) -> Self {
        self.collation = Collation::CaseInsensitive;
        self
    }

    /// Keeps this field beside the key, so that queries that need no others do not read documents.
    #[must_use]
    pub fn include(mut self, path: &str) -> Self {
        self.include.push(path.to_owned());
        self
    }

    /// Documents expire so long after the date in its one field: an RFC 3339 string or milliseconds
    /// since 1970, of an array the earliest; without a date never. What has expired no read shows,
    /// and it is deleted in the background. In milliseconds; at most
    /// 68 years. Default: documents stay.
    ///
    /// [`crate::Collection::set_expire_after`] changes it later.
    #[must_use]
    pub fn expire_after(mut self, after: Duration) -> Self {
        self.expire_after_ms = Some(u64::try_from(after.as_millis()).unwrap_or(u64::MAX));
        self
    }

    /// From the form that [`Index::to_json`] gives:
    /// `{"fields": [{"state": 1}, {"created": -1}], "unique": true, …}`.
    ///
    /// # Errors
    /// [`Error::InvalidIndex`] names what is wrong.
    pub fn from_json(value: &Value) -> Result<Self> {
        let bad = |reason: String| invalid("", reason);
        let members = value.as_object().ok_or_else(|| bad("an index is an object".into()))?;
        let mut index = Self::default();
        for (member, value) in members {
            let wrong = || bad(format!("{member} has the wrong form"));
            let flag = || value.as_bool().ok_or_else(wrong);
            match member.as_str() {
                "name" => index.name = Some(value.as_str().ok_or_else(wrong)?.to_owned()),
                "fields" => index.fields = fields_from_json(value).ok_or_else(wrong)?,
                "kind" => {
                    index.kind = match value.as_str() {
                        Some("btree") => IndexKind::BTree,
                        Some("hash") => IndexKind::Hash,
                        _ => return Err(wrong()),
                    }
                }
                "unique" => index.unique = flag()?,
                "sparse" => index.sparse = flag()?,
                "partial" => index.partial = Some(value.clone()),
                "collation" => {
                    index.collation = match value.as_str() {
                        Some("binary") => Collation::Binary,
                        Some("case_insensitive") => Collation::CaseInsensitive,
                        _ => return Err(wrong()),
                    }
                }
                "include" => {
                    let paths = value.as_array().ok_or_else(wrong)?;
                    let paths = paths.iter().map(|path| path.as_str().map(str::to_owned));
                    index.include = paths.collect::<Option<_>>().ok_or_else(wrong)?;
                }
                "automatic" => index.automatic = flag()?,
                "expire_after_ms" => {
                    index.expire_after_ms = Some(value.as_u64().ok_or_else(wrong)?);
                }
                _ => return Err(bad(format!("an index has no {member}"))),
            }
        }
        Ok(index)
    }

    /// The definition as JSON; members that have their default are left out.
    pub fn to_json(&self) -> Value {
        let mut out = Map::new();
        if let Some(name) = &self.name {
            out.insert("name".into(), json!(name));
        }
        let fields = self.fields.iter().map(|(path, direction)| {
            let direction = if *direction == Direction::Ascending { 1 } else { -1 };
            json!({ path: direction })
        });
        out.insert("fields".into(), fields.collect());
        if self.kind == IndexKind::Hash {
            out.insert("kind".into(), json!("hash"));
        }
        let flags =
            [("unique", self.unique), ("sparse", self.sparse), ("automatic", self.automatic)];
        for (name, value) in flags {
            if value {
                out.insert(name.into(), json!(true));
            }
        }
        if let Some(partial) = &self.partial {
            out.insert("partial".into(), partial.clone());
        }
        if self.collation == Collation::CaseInsensitive {
            out.insert("collation".into(), json!("case_insensitive"));
        }
        if !self.include.is_empty() {
            out.insert("include".into(), json!(self.include));
        }
        if let Some(ms) = self.expire_after_ms {
            out.insert("expire_after_ms".into(), json!(ms));
        }
        Value::Object(out)
    }

    /// As the store makes it by itself.
    pub(crate) fn automatic(self) -> Self {
        let mut name = format!("auto_{}", self.effective_name());
        name.truncate(NAME_BYTES_MAX);
        Self { name: Some(name), automatic: true, ..self }
    }

    /// The name it was given, or one made from its fields: `state_created_desc`.
    pub(crate) fn effective_name(&self) -> String {
        if let Some(name) = &self.name {
            return name.clone();
        }
        let mut made = String::new();
        for (path, direction) in &self.fields {
            if !made.is_empty() {
                made.push('_');
            }
            let plain = |c: char| {
                let c = c.to_ascii_lowercase();
                if c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' { c } else { '_' }
            };
            made.extend(path.chars().map(plain));
            if *direction == Direction::Descending {
                made.push_str("_desc");
            }
        }
        if self.kind == IndexKind::Hash {
            made.push_str("_hash");
        }
        made.truncate(NAME_BYTES_MAX);
        made
    }

    /// Fails if the parts do not fit together; otherwise the parsed paths and filter.
    pub(crate) fn check(&self) -> Result<Checked> {
        let name = self.effective_name();
        let bad = |reason: &str| Err(invalid(&name, reason));
        let allowed = |b: u8| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-');
        if self.fields.is_empty() {
            return bad("it has no field");
        }
        if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.bytes().all(allowed) {
            return bad("a name is 1 to 64 bytes of a-z, 0-9, _ and -");
        }
        if self.fields.len() + self.include.len() > FIELDS_MAX {
            return bad("it has more than 32 fields");
        }
        let paths = self.fields.iter().map(|(path, _)| path).chain(&self.include);
        let paths = paths.map(|path| Path::parse(path)).collect::<Result<Vec<_>>>()?;
        for (i, path) in paths.iter().enumerate() {
            let within = |a: &Path, b: &Path| a.steps().starts_with(b.steps());
            if paths[..i].iter().any(|other| within(path, other) || within(other, path)) {
                return bad("one of its fields is or lies in another");
            }
        }
        if self.kind == IndexKind::Hash && (self.fields.len() > 1 || !self.include.is_empty()) {
            return bad("a hash index has one field");
        }
        if self.kind == IndexKind::Hash && self.fields[0].1 == Direction::Descending {
            return bad("a hash index has no order");
        }
        if self.automatic && (self.unique || self.expire_after_ms.is_some()) {
            return bad("an automatic index is for queries only");
        }
        if let Some(ms) = self.expire_after_ms {
            if self.fields.len() > 1 {
                return bad("an index of several fields cannot expire documents");
            }
            if self.kind == IndexKind::Hash || self.collation != Collation::Binary {
                return bad(
                    "what expires documents is in the order of dates: no hash, no collation",
                );
            }
            if self.fields[0].0 == "_id" {
                return bad("ids do not expire");
            }
            if ms > EXPIRE_AFTER_MS_MAX {
                return bad("documents expire within 68 years of their date, or never");
            }
        }
        let partial = self.partial.as_ref().map(Filter::from_json).transpose()?;
        if partial.as_ref().is_some_and(|filter| filter.text().is_some()) {
            return bad("a partial index cannot depend on full text");
        }
        Ok(Checked { name, paths, partial })
    }
}

/// What [`Index::check`] made sure of.
pub(crate) struct Checked {
    pub(crate) name: String,
    /// Of the fields, then of what is included.
    pub(crate) paths: Vec<Path>,
    pub(crate) partial: Option<Filter>,
}

const NAME_BYTES_MAX: usize = 64;
/// As in MongoDB: 2^31 - 1 seconds.
const EXPIRE_AFTER_MS_MAX: u64 = 2_147_483_647_000;

pub(super) fn invalid(index: &str, reason: impl Into<String>) -> Error {
    Error::InvalidIndex { index: index.to_owned(), reason: reason.into() }
}

/// `[{"a": 1}, {"b": -1}]`, or `{"a": 1}` for one field, or just `"a"`.
fn fields_from_json(value: &Value) -> Option<Vec<(String, Direction)>> {
    let one = |value: &Value| -> Option<(String, Direction)> {
        if let Some(path) = value.as_str() {
            return Some((path.to_owned(), Direction::Ascending));
        }
        let members = value.as_object().filter(|members| members.len() == 1)?;
        let (path, direction) = members.iter().next()?;
        let direction = match direction.as_f64() {
            Some(1.0) => Direction::Ascending,
            Some(-1.0) => Direction::Descending,
            _ => return None,
        };
        Some((path.clone(), direction))
    };
    match value {
        Value::Array(all) => all.iter().map(one).collect(),
        value => one(value).map(|field| vec![field]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(json: &Value, want: std::result::Result<&str, &str>) {
        let got = Index::from_json(json).and_then(|index| {
            assert_eq!(Index::from_json(&index.to_json()).unwrap(), index);
            index.check().map(|checked| checked.name)
        });
        match (&got, want) {
            (Ok(name), Ok(want)) => assert_eq!(name, want),
            (Err(e), Err(want)) => assert!(e.to_string().contains(want), "{e}"),
            _ => panic!("{json}: got {got:?}, want {want:?}"),
        }
    }

    #[test]
    fn definitions() {
        check(&json!({"fields": "email"}), Ok("email"));
        check(&json!({"fields": {"a.B": -1}}), Ok("a_b_desc"));
        check(&json!({"fields": ["a", {"b": -1}], "name": "x"}), Ok("x"));
        check(&json!({"fields": "a", "kind": "hash"}), Ok("a_hash"));
        check(
            &json!({"fields": "a", "unique": true, "sparse": true, "collation": "case_insensitive",
                "partial": {"n": {"$gt": 1}}, "include": ["b", "c"]}),
            Ok("a"),
        );
        check(&json!({"fields": {"at": -1}, "expire_after_ms": 0}), Ok("at_desc"));
        check(
            &json!({"fields": "at", "expire_after_ms": 2_147_483_647_000_u64, "unique": true,
                "sparse": true, "partial": {"n": 1}, "include": ["b"]}),
            Ok("at"),
        );
        check(&json!({"fields": "at", "expire_after_ms": 2_147_483_647_001_u64}), Err("68 years"));
        check(
            &json!({"fields": "at", "expire_after_ms": -1}),
            Err("expire_after_ms has the wrong"),
        );
        check(&json!({"fields": ["a", "b"], "expire_after_ms": 1}), Err("several fields"));
        check(&json!({"fields": "a", "kind": "hash", "expire_after_ms": 1}), Err("no hash"));
        check(
            &json!({"fields": "a", "collation": "case_insensitive", "expire_after_ms": 1}),
            Err("no collation"),
        );
        check(&json!({"fields": "_id", "expire_after_ms": 1}), Err("ids do not expire"));
        check(&json!({"fields": []}), Err("no field"));
        check(&json!([]), Err("an object"));
        check(&json!({"fields": [{"a": 1, "b": 1}]}), Err("fields has the wrong form"));
        check(&json!({"fields": {"a": 2}}), Err("fields has the wrong form"));
        check(&json!({"fields": "a", "name": "A"}), Err("a name is"));
        check(&json!({"fields": "a", "name": ""}), Err("a name is"));
        check(&json!({"fields": "a", "uniq": true}), Err("no uniq"));
        check(&json!({"fields": "a", "unique": 1}), Err("unique has the wrong form"));
        check(&json!({"fields": ["a", "a.b"]}), Err("lies in another"));
        check(&json!({"fields": "a", "include": ["a"]}), Err("lies in another"));
        check(&json!({"fields": "a..b"}), Err("empty"));
        check(&json!({"fields": ["a", "b"], "kind": "hash"}), Err("one field"));
        check(&json!({"fields": {"a": -1}, "kind": "hash"}), Err("no order"));
        check(&json!({"fields": "a", "kind": "rtree"}), Err("kind has the wrong form"));
        check(&json!({"fields": "a", "partial": {"a": {"$nope": 1}}}), Err("$nope"));
        check(&json!({"fields": "a", "partial": {"$text": {"$search": "x"}}}), Err("full text"));
        let many: Vec<String> = (0..33).map(|i| format!("f{i}")).collect();
        check(&json!({ "fields": many }), Err("more than 32"));
    }
}
