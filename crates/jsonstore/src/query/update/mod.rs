//! Updates: MongoDB's operators, JSON Patch (RFC 6902) and Merge Patch (RFC 7396).

mod arrays;
mod edit;
mod merge;
mod parse;
mod patch;
mod select;
mod upsert;

use std::{borrow::Cow, sync::Arc};

use serde_json::{Number, Value};

use self::{
    merge::merge,
    patch::JsonPatch,
    select::{ArrayFilter, area, may_meet},
};
use super::filter::{ElemMatch, Filter};
use crate::{
    env::wall_ms,
    error::{DocumentError, Error, Result},
    jb1::{self, Limits},
    query::Sort,
};

#[cfg(any(test, feature = "testing"))]
pub(crate) use self::patch::JsonPatch as Patch;
pub(crate) use self::{
    edit::{with_field, with_first_member},
    upsert::new_document,
};

/// Operators and fields of one update; also the operations of a JSON Patch. Each rewrites the
/// document.
pub(crate) const UPDATE_OPERATIONS_MAX: usize = 1024;
/// How many `null`s a position beyond the end of an array may put in between.
pub(crate) const ARRAY_PADDING_MAX: usize = 1024;
/// Array filters of one update.
pub(crate) const ARRAY_FILTERS_MAX: usize = 64;

const CONFLICT: &str = "two changes touch this field or a part of it";

/// A list of changes to one document, applied together.
///
/// Two changes of one field, or of a field and a part of it, are a conflict; the update is refused
/// when it is applied.
///
/// ```
/// use hearth_jsonstore::Update;
/// let update = Update::new().set("name.first", "Ada").inc("visits", 1).unset("draft");
/// # assert_eq!(update.paths().count(), 3);
/// ```
#[derive(Debug, Clone, Default)]
pub struct Update {
    changes: Vec<Change>,
    /// What the changes read or write, each path once.
    paths: Vec<String>,
    /// What is set on insert only.
    insert_paths: Vec<String>,
    /// The first path that two changes touch.
    conflict: Option<String>,
    array_filters: Vec<ArrayFilter>,
    /// Whether a path has a `$`, a `$[]` or a `$[name]`.
    is_positional: bool,
    /// Whether two changes mean one field if their array filters mean one element.
    may_meet: bool,
}

#[derive(Debug, Clone)]
enum Change {
    At {
        path: String,
        op: UpdateOp,
    },
    JsonPatch(Arc<JsonPatch>),
    MergePatch(Arc<Value>),
    /// Only where an upsert makes a new document.
    OnInsert {
        path: String,
        value: Value,
    },
    Rename {
        from: String,
        to: String,
    },
}

/// What happens to the field at a path.
#[derive(Debug, Clone)]
enum UpdateOp {
    AddToSet(Vec<Value>),
    CurrentDate(Clock),
    Inc(Number),
    Max(Value),
    Min(Value),
    Mul(Number),
    Pop { first: bool },
    Pull(Arc<ElemMatch>),
    Push(Push),
    Set(Value),
    SetStored(Vec<u8>),
    Unset,
}

/// How `$currentDate` writes the time.
#[derive(Debug, Clone, Copy)]
enum Clock {
    /// RFC 3339 in UTC, to the millisecond.
    Date,
    /// Milliseconds since 1970.
    Timestamp,
}

/// `$push` with its modifiers, done in this order.
#[derive(Debug, Clone, Default)]
struct Push {
    values: Vec<Value>,
    /// Before the element there; from the end if negative. None appends.
    position: Option<i64>,
    sort: Option<PushSort>,
    /// How many of the first are kept, or of the last if negative.
    slice: Option<i64>,
}

#[derive(Debug, Clone)]
enum PushSort {
    Fields(Sort),
    Whole { ascending: bool },
}

impl Update {
    /// No changes yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// From the document form: `{"$set": {"a.b": 1}, "$inc": {"n": 2}}`.
    ///
    /// # Errors
    /// An unknown operator, an operand of the wrong type, two changes of one field.
    pub fn from_json(value: &Value) -> Result<Self> {
        let update = parse::parse(value)?;
        update.check()?;
        Ok(update)
    }

    /// An RFC 6902 JSON Patch. If its `test` does not hold when it is applied, nothing changes and
    /// the operation fails with `Error::TestFailed`: compare and set.
    ///
    /// # Errors
    /// `InvalidUpdate` if it is not a JSON Patch.
    pub fn json_patch(patch: &Value) -> Result<Self> {
        let patch = JsonPatch::from_json(patch)?;
        let mut update = Self::new();
        update.add(Change::JsonPatch(Arc::new(patch)));
        Ok(update)
    }

    /// An RFC 7396 Merge Patch: members given replace those there, `null` removes one.
    ///
    /// # Errors
    /// `InvalidUpdate` if it is no object, because the result would be no document.
    pub fn merge_patch(patch: &Value) -> Result<Self> {
        merge::paths(patch)?;
        let mut update = Self::new();
        update.add(Change::MergePatch(Arc::new(patch.clone())));
        Ok(update)
    }

    /// `$set`: the field gets this value; missing parents become objects.
    #[must_use]
    pub fn set(self, path: &str, value: impl Into<Value>) -> Self {
        self.with(path, UpdateOp::Set(value.into()))
    }

    /// `$unset`: the field goes.
    #[must_use]
    pub fn unset(self, path: &str) -> Self {
        self.with(path, UpdateOp::Unset)
    }

    /// `$inc`: adds; a missing field counts as 0. Integers stay exact or the update fails.
    #[must_use]
    pub fn inc(self, path: &str, by: i64) -> Self {
        self.with(path, UpdateOp::Inc(by.into()))
    }

    /// `$mul`: multiplies; a missing field becomes 0. Integers stay exact or the update fails.
    #[must_use]
    pub fn mul(self, path: &str, by: i64) -> Self {
        self.with(path, UpdateOp::Mul(by.into()))
    }

    /// `$min`: the field gets this value if that is smaller, or if there is none.
    #[must_use]
    pub fn min(self, path: &str, value: impl Into<Value>) -> Self {
        self.with(path, UpdateOp::Min(value.into()))
    }

    /// `$max`: the field gets this value if that is larger, or if there is none.
    #[must_use]
    pub fn max(self, path: &str, value: impl Into<Value>) -> Self {
        self.with(path, UpdateOp::Max(value.into()))
    }

    /// `$push`: appends to an array; a missing field counts as empty.
    #[must_use]
    pub fn push(self, path: &str, value: impl Into<Value>) -> Self {
        let push = Push { values: vec![value.into()], ..Push::default() };
        self.with(path, UpdateOp::Push(push))
    }

    /// `$addToSet`: appends to an array unless an equal value is there.
    #[must_use]
    pub fn add_to_set(self, path: &str, value: impl Into<Value>) -> Self {
        self.with(path, UpdateOp::AddToSet(vec![value.into()]))
    }

    /// `$rename`: the field moves to another path, over what is there.
    #[must_use]
    pub fn rename(mut self, from: &str, to: &str) -> Self {
        let change = Change::Rename { from: from.to_owned(), to: to.to_owned() };
        if is_same_or_inside(from, to) || is_same_or_inside(to, from) {
            self.conflict.get_or_insert_with(|| from.to_owned());
        }
        self.add(change);
        self
    }

    /// `$setOnInsert`: the field gets this value where an upsert makes a new document; nothing
    /// happens to one that is there.
    #[must_use]
    pub fn set_on_insert(mut self, path: &str, value: impl Into<Value>) -> Self {
        self.add(Change::OnInsert { path: path.to_owned(), value: value.into() });
        self
    }

    /// What `$[name]` in a path stands for, as MongoDB's `arrayFilters`: each filter looks at an
    /// element by its name.
    ///
    /// ```
    /// use hearth_jsonstore::Update;
    /// use serde_json::json;
    ///
    /// let update = Update::from_json(&json!({"$set": {"lines.$[late].state": "due"}}))?
    ///     .array_filters(&json!([{"late.days": {"$gt": 30}}]))?;
    /// let before = json!({"lines": [{"days": 40}, {"days": 3}]});
    /// let after = json!({"lines": [{"days": 40, "state": "due"}, {"days": 3}]});
    /// assert_eq!(update.apply_json(&before)?, after);
    /// # hearth_jsonstore::Result::Ok(())
    /// ```
    ///
    /// # Errors
    /// `InvalidUpdate` or `InvalidFilter` if one of them is no filter by one name, or there are
    /// more than 64. That a name is missing, or not used, is told when the update is applied.
    pub fn array_filters(mut self, filters: &Value) -> Result<Self> {
        let filters = filters.as_array().ok_or_else(|| refuse("", "array filters are an array"))?;
        if filters.len() > ARRAY_FILTERS_MAX {
            return Err(refuse("", "the update has more than 64 array filters"));
        }
        self.array_filters = filters.iter().map(ArrayFilter::from_json).collect::<Result<_>>()?;
        Ok(self)
    }

    /// The paths that this update reads or writes; the empty one is the whole document. Where it
    /// means elements of an array it is the array.
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        let is_positional = self.is_positional;
        self.paths.iter().map(move |path| if is_positional { area(path) } else { path })
    }

    /// The document after the update. Times are taken from this machine's clock.
    ///
    /// # Errors
    /// As when a stored document is updated: `InvalidUpdate`, `TestFailed`, `Document`.
    pub fn apply_json(&self, document: &Value) -> Result<Value> {
        self.applied(document, None)
    }

    /// The document after the update, with `$` standing for the element of an array by which it
    /// matches the filter; see [`Collection::update_many`](crate::Collection::update_many).
    ///
    /// # Errors
    /// As [`Update::apply_json`]; `InvalidUpdate` if it does not match by an element of that array.
    pub fn apply_json_found_by(&self, filter: &Filter, document: &Value) -> Result<Value> {
        self.applied(document, Some(filter))
    }

    /// The document that an upsert stores if the filter finds none, but for an `_id` that nothing
    /// gives it; see [`Collection::upsert_one`](crate::Collection::upsert_one).
    ///
    /// # Errors
    /// As [`Update::apply_json`]; `InvalidFilter` if the filter wants one field to be two values.
    pub fn insert_json(&self, filter: &Filter) -> Result<Value> {
        let new = new_document(filter, &self.stamped(wall_ms()), &Limits::default())?;
        super::to_value(&new).ok_or_else(|| DocumentError::Malformed.into())
    }

    fn applied(&self, document: &Value, filter: Option<&Filter>) -> Result<Value> {
        let limits = Limits::default();
        let bytes = jb1::from_value(document, &limits)?;
        if !document.is_object() {
            return Err(DocumentError::NotAnObject.into());
        }
        let update = match filter {
            Some(filter) => self.found_by(filter, &bytes)?,
            None => Cow::Borrowed(self),
        };
        let after = apply(&bytes, &update.stamped(wall_ms()), &limits)?;
        super::to_value(&after).ok_or_else(|| DocumentError::Malformed.into())
    }

    /// The update with the time in place of `$currentDate`: what happens must not depend on when
    /// it is applied again.
    pub(crate) fn stamped(&self, wall_ms: u64) -> Cow<'_, Self> {
        let is_open =
            |change: &Change| matches!(change, Change::At { op: UpdateOp::CurrentDate(_), .. });
        if !self.changes.iter().any(is_open) {
            return Cow::Borrowed(self);
        }
        let mut update = self.clone();
        for change in &mut update.changes {
            if let Change::At { op, .. } = change
                && let UpdateOp::CurrentDate(clock) = op
            {
                *op = UpdateOp::Set(clock.read(wall_ms));
            }
        }
        Cow::Owned(update)
    }

    /// # Errors
    /// `InvalidUpdate` if two changes touch one field, or there are too many of them.
    pub(crate) fn check(&self) -> Result<()> {
        if let Some(path) = &self.conflict {
            return Err(refuse(path, CONFLICT));
        }
        if self.changes.len() > UPDATE_OPERATIONS_MAX {
            return Err(refuse("", "the update has more than 1024 changes"));
        }
        Ok(())
    }

    fn with(mut self, path: &str, op: UpdateOp) -> Self {
        self.add(Change::At { path: path.to_owned(), op });
        self
    }

    fn add(&mut self, change: Change) {
        // Beyond the limit the update is refused anyway, and comparing would take ever longer.
        if self.changes.len() <= UPDATE_OPERATIONS_MAX {
            let paths = change.paths();
            let clashes = |path: &&String| {
                let mut others = self.paths.iter().chain(&self.insert_paths);
                others.any(|other| is_same_or_inside(path, other) || is_same_or_inside(other, path))
            };
            let conflict = paths.iter().find(clashes).cloned();
            self.conflict = self.conflict.take().or(conflict);
            self.is_positional |= paths.iter().any(|path| path.contains(".$"));
            if self.is_positional {
                let mut pairs = paths.iter().flat_map(|a| self.paths.iter().map(move |b| (a, b)));
                self.may_meet |= pairs.any(|(a, b)| may_meet(a, b));
            }
            match change {
                Change::OnInsert { .. } => self.insert_paths.extend(paths),
                _ => self.paths.extend(paths),
            }
        }
        self.changes.push(change);
    }
}

impl Change {
    /// What it reads or writes.
    fn paths(&self) -> Vec<String> {
        match self {
            Self::At { path, .. } | Self::OnInsert { path, .. } => vec![path.clone()],
            Self::JsonPatch(patch) => patch.paths(),
            Self::MergePatch(patch) => merge::paths(patch).unwrap_or_default(),
            Self::Rename { from, to } => vec![from.clone(), to.clone()],
        }
    }
}

impl Clock {
    fn read(self, wall_ms: u64) -> Value {
        match self {
            Self::Date => super::time::rfc3339(wall_ms).into(),
            Self::Timestamp => wall_ms.into(),
        }
    }
}

/// The document after the update.
pub(crate) fn apply(document: &[u8], update: &Update, limits: &Limits) -> Result<Vec<u8>> {
    update.check()?;
    update.check_array_filters()?;
    let selection = update.select(document)?;
    let mut now = document.to_vec();
    for (i, change) in update.changes.iter().enumerate() {
        now = match change {
            Change::At { path, op } => edit::apply(&now, path, op, selection.of(i), limits)?,
            Change::JsonPatch(patch) => kept_id(document, patch.apply(&now, limits)?)?,
            Change::MergePatch(patch) => kept_id(document, merge(&now, patch, limits)?)?,
            Change::OnInsert { .. } => continue,
            Change::Rename { from, to } => edit::rename(&now, from, to, limits)?,
        };
        if now.len() > limits.bytes_max {
            return Err(DocumentError::TooLarge { limit: limits.bytes_max }.into());
        }
    }
    Ok(now)
}

/// A Merge Patch on any value, which need not be a document.
#[cfg(any(test, feature = "testing"))]
pub(crate) fn merge_patched(target: &[u8], patch: &Value) -> Result<Vec<u8>> {
    merge(target, patch, &Limits::default())
}

fn kept_id(before: &[u8], after: Vec<u8>) -> Result<Vec<u8>> {
    if jb1::kind(&after) != Some(jb1::Kind::Object) {
        return Err(DocumentError::NotAnObject.into());
    }
    if jb1::get(before, b"_id") != jb1::get(&after, b"_id") {
        return Err(DocumentError::IdChanged.into());
    }
    Ok(after)
}

/// True if `path` is `outer`, or lies in it.
fn is_same_or_inside(path: &str, outer: &str) -> bool {
    match path.strip_prefix(outer) {
        Some(rest) => outer.is_empty() || rest.is_empty() || rest.starts_with('.'),
        None => false,
    }
}

fn refuse(path: &str, reason: &'static str) -> Error {
    Error::InvalidUpdate { path: path.to_owned(), reason }
}
