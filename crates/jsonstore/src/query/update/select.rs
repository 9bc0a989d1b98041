//! Positional updates: `$[]`, `$[name]` with array filters, and `$` for what a filter matched.
//!
//! Which elements a change means is settled on the document as it was, before any change is made:
//! that a change alters what an array filter looks at does not matter to the others.

use std::{borrow::Cow, collections::HashSet};

use serde_json::Value;

use super::{Change, Update, refuse};
use crate::{
    error::{DocumentError, Error, Result},
    jb1::{self, Container, Kind, Name, put_name},
    query::{
        Filter,
        path::{Step, position},
    },
};

/// Elements that one update may mean by `$[]` and `$[name]`, all changes together. A path with two
/// of them counts each twice.
pub(crate) const UPDATE_POSITIONS_MAX: usize = 1 << 20;

/// A condition on the elements that `$[name]` stands for.
#[derive(Debug, Clone)]
pub(super) struct ArrayFilter {
    name: Box<str>,
    /// Its paths begin with the name.
    filter: Filter,
}

/// The elements that each change of an update means.
#[derive(Debug, Default)]
pub(super) struct Selection {
    /// Of each change the positions, one for each `$[…]` of its path, in the order of the elements.
    positions: Vec<Vec<u32>>,
}

impl Selection {
    pub(super) fn of(&self, change: usize) -> &[u32] {
        self.positions.get(change).map_or(&[], Vec::as_slice)
    }
}

impl ArrayFilter {
    /// # Errors
    /// `InvalidUpdate` if it does not look at one name, `InvalidFilter` if it is no filter.
    pub(super) fn from_json(value: &Value) -> Result<Self> {
        let mut names = HashSet::new();
        collect_names(value, &mut names);
        let mut names = names.into_iter();
        let (Some(name), None) = (names.next(), names.next()) else {
            return Err(refuse("", "an array filter looks at elements by one name"));
        };
        let is_plain = name.starts_with(|c: char| c.is_ascii_lowercase())
            && name.bytes().all(|b| b.is_ascii_alphanumeric());
        if !is_plain {
            let reason = "the name of an array filter is letters and digits, a small letter first";
            return Err(refuse(name, reason));
        }
        Ok(Self { name: name.into(), filter: Filter::from_json(value)? })
    }

    fn matches(&self, item: &[u8]) -> bool {
        let mut document = Vec::with_capacity(item.len() + 32);
        let mut container = Container::begin(&mut document, true);
        container.next(&document);
        put_name(&mut document, Name { escaped: self.name.as_bytes(), has_escapes: false });
        document.extend_from_slice(item);
        container.finish(&mut document).is_ok() && self.filter.matches(&document)
    }
}

/// The first steps of the paths in a filter.
fn collect_names<'a>(filter: &'a Value, names: &mut HashSet<&'a str>) {
    for (name, value) in filter.as_object().into_iter().flatten() {
        match (name.starts_with('$'), value.as_array()) {
            (false, _) => {
                names.insert(name.split('.').next().unwrap_or(name));
            }
            (true, Some(list)) => list.iter().for_each(|filter| collect_names(filter, names)),
            (true, None) => {}
        }
    }
}

/// True for `$[]` and `$[name]`, as they stand in the steps of a path.
pub(super) fn is_selector(step: &Step) -> bool {
    step.escaped.starts_with(b"$[")
}

/// What is locked for a change at this path: the array, where it means elements of one.
pub(super) fn area(path: &str) -> &str {
    path.find(".$").map_or(path, |at| &path[..at])
}

/// Whether both may mean the same field, or a field and a part of it; equal steps are not looked at,
/// for that is known before.
pub(super) fn may_meet(a: &str, b: &str) -> bool {
    let is_open = |step: &str| step.starts_with('$');
    let mut differs = false;
    for (a, b) in a.split('.').zip(b.split('.')) {
        let meets = is_open(a) && (is_open(b) || position(b).is_some())
            || is_open(b) && position(a).is_some();
        if a != b && !meets {
            return false;
        }
        differs |= a != b;
    }
    differs
}

impl Update {
    /// # Errors
    /// `InvalidUpdate` if names in paths and array filters do not go together.
    pub(super) fn check_array_filters(&self) -> Result<()> {
        let mut used = HashSet::new();
        for (path, steps) in self.selecting() {
            for step in steps {
                let Some(name) = name_of(step).filter(|name| !name.is_empty()) else { continue };
                if !self.array_filters.iter().any(|filter| *filter.name == *name) {
                    return Err(refuse(path, "there is no array filter of this name"));
                }
                used.insert(name);
            }
        }
        for filter in &*self.array_filters {
            if !used.contains(&*filter.name) {
                return Err(refuse(&filter.name, "no change uses the array filter of this name"));
            }
            let same = self.array_filters.iter().filter(|other| other.name == filter.name);
            if same.count() > 1 {
                return Err(refuse(&filter.name, "two array filters have this name"));
            }
        }
        Ok(())
    }

    fn selecting(&self) -> impl Iterator<Item = (&str, std::str::Split<'_, char>)> {
        self.changes.iter().filter_map(|change| match change {
            Change::At { path, .. } if path.contains(".$[") => Some((&**path, path.split('.'))),
            _ => None,
        })
    }

    /// True if a `$` stands for what a filter matched.
    pub(crate) fn needs_filter(&self) -> bool {
        self.is_positional && self.changes.iter().any(|change| change.matched_array().is_some())
    }

    /// The update of a document that the filter found: with positions in place of `$`.
    ///
    /// # Errors
    /// `InvalidUpdate` if the filter did not match by an element of the array.
    pub(crate) fn found_by(&self, filter: &Filter, document: &[u8]) -> Result<Cow<'_, Self>> {
        if !self.needs_filter() {
            return Ok(Cow::Borrowed(self));
        }
        let mut update = Self { array_filters: self.array_filters.clone(), ..Self::new() };
        for change in &self.changes {
            let mut change = change.clone();
            if let Some((array, rest)) = change.matched_array() {
                let steps: Vec<Step> = array.split('.').map(Step::new).collect();
                let at = filter.expr().position(&steps, document);
                let reason = "the filter did not match by an element of the array that $ stands in";
                let at = at.ok_or_else(|| refuse(&format!("{array}.$"), reason))?;
                let resolved = format!("{array}.{at}{rest}");
                if let Change::At { path, .. } = &mut change {
                    *path = resolved;
                }
            }
            update.add(change);
        }
        Ok(Cow::Owned(update))
    }

    /// The elements of this document that the changes mean.
    pub(super) fn select(&self, document: &[u8]) -> Result<Selection> {
        if !self.is_positional {
            return Ok(Selection::default());
        }
        let mut left = UPDATE_POSITIONS_MAX;
        let mut positions = Vec::with_capacity(self.changes.len());
        for change in &self.changes {
            let mut found = Vec::new();
            if let Change::At { path, .. } = change
                && path.contains(".$[")
            {
                let steps: Vec<Step> = path.split('.').map(Step::new).collect();
                let mut walk = Walk { path, filters: &self.array_filters, at: Vec::new(), left };
                walk.value(document, &steps, &mut found)?;
                left = walk.left;
            }
            positions.push(found);
        }
        if self.may_meet {
            self.check_meetings(&positions)?;
        }
        Ok(Selection { positions })
    }

    /// # Errors
    /// `InvalidUpdate` if two changes mean one field, or a field and a part of it.
    fn check_meetings(&self, positions: &[Vec<u32>]) -> Result<()> {
        let mut targets: Vec<Vec<String>> = Vec::new();
        for (change, positions) in self.changes.iter().zip(positions) {
            let Change::At { path, .. } = change else { continue };
            let steps: Vec<&str> = path.split('.').collect();
            let selectors = steps.iter().filter(|step| step.starts_with("$[")).count();
            if selectors == 0 {
                targets.push(steps.iter().map(|&step| step.to_owned()).collect());
                continue;
            }
            for row in positions.chunks_exact(selectors) {
                let mut row = row.iter();
                let place = |step: &&str| match step.starts_with("$[") {
                    true => row.next().map_or_else(String::new, ToString::to_string),
                    false => (*step).to_owned(),
                };
                targets.push(steps.iter().map(place).collect());
            }
        }
        targets.sort_unstable();
        let met = targets.windows(2).find(|pair| pair[1].starts_with(&pair[0]));
        match met {
            Some(pair) => Err(refuse(&pair[1].join("."), super::CONFLICT)),
            None => Ok(()),
        }
    }
}

impl Change {
    /// Where a `$` stands: the path of the array, and what comes after the `$`.
    fn matched_array(&self) -> Option<(&str, &str)> {
        let Self::At { path, .. } = self else { return None };
        let (at, _) = path.match_indices(".$").find(|(at, _)| {
            let rest = &path[at + 2..];
            rest.is_empty() || rest.starts_with('.')
        })?;
        Some((&path[..at], &path[at + 2..]))
    }
}

/// The name in `$[name]`, empty in `$[]`.
fn name_of(step: &str) -> Option<&str> {
    step.strip_prefix("$[")?.strip_suffix(']')
}

/// Looks for the elements of one path.
struct Walk<'a> {
    path: &'a str,
    filters: &'a [ArrayFilter],
    /// Positions on the way here.
    at: Vec<u32>,
    /// How many more may be found.
    left: usize,
}

impl Walk<'_> {
    fn value(&mut self, value: &[u8], steps: &[Step], found: &mut Vec<u32>) -> Result<()> {
        if !steps.iter().any(is_selector) {
            let left = self.left.checked_sub(self.at.len());
            self.left = left.ok_or_else(|| self.refuse("it means more than 1048576 elements"))?;
            found.extend_from_slice(&self.at);
            return Ok(());
        }
        let Some((step, rest)) = steps.split_first() else { return Ok(()) };
        if is_selector(step) {
            return self.array(value, step, rest, found);
        }
        let next = match jb1::kind(value).ok_or(DocumentError::Malformed)? {
            Kind::Object => jb1::get(value, &step.escaped),
            Kind::Array => step.index.and_then(|index| jb1::items(value)?.nth(index)).flatten(),
            _ => None,
        };
        match next {
            Some(next) => self.value(next, rest, found),
            None => Err(self.refuse("there is no array whose elements could change")),
        }
    }

    fn array(
        &mut self,
        value: &[u8],
        step: &Step,
        rest: &[Step],
        found: &mut Vec<u32>,
    ) -> Result<()> {
        let Some(items) = jb1::items(value) else {
            return Err(self.refuse("what should be an array is none"));
        };
        let name = std::str::from_utf8(&step.escaped).ok().and_then(name_of);
        let filter = self.filters.iter().find(|filter| name == Some(&*filter.name));
        for (i, item) in items.enumerate() {
            let item = item.ok_or(DocumentError::Malformed)?;
            if filter.is_none_or(|filter| filter.matches(item)) {
                self.at.push(u32::try_from(i).map_err(|_| DocumentError::Malformed)?);
                self.value(item, rest, found)?;
                self.at.pop();
            }
        }
        Ok(())
    }

    fn refuse(&self, reason: &'static str) -> Error {
        refuse(self.path, reason)
    }
}
