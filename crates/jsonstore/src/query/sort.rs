//! The order of results.

use std::{cmp::Ordering, sync::Arc};

use serde_json::Value;

use super::{order::compare, path::Path};
use crate::{
    error::{Error, Result},
    jb1, key,
};

/// The fields that one sort may name, as in MongoDB.
pub(crate) const SORT_FIELDS_MAX: usize = 32;

/// By what results are ordered: fields, each ascending or descending.
///
/// A missing field counts as `null`. An array counts as its smallest element, or its largest in
/// descending order; an empty one as `null`. Values of several types follow the order of ids:
/// `null < false < true < numbers < strings < arrays < objects`.
///
/// ```
/// use hearth_jsonstore::Sort;
/// let sort = Sort::new().ascending("name")?.descending("age")?;
/// # assert_eq!(sort, Sort::from_json(&serde_json::json!([{"name": 1}, {"age": -1}]))?);
/// # hearth_jsonstore::Result::Ok(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sort {
    pub(crate) fields: Arc<[SortField]>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SortField {
    pub(crate) path: Path,
    pub(crate) ascending: bool,
}

impl Sort {
    /// No order yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// `{"name": 1}` or, for several fields, `[{"name": 1}, {"age": -1}]`.
    ///
    /// # Errors
    /// `InvalidFilter`: a direction other than 1 and -1, or an object with several fields, because
    /// the members of a JSON object have no order.
    pub fn from_json(value: &Value) -> Result<Self> {
        let parts = match value {
            Value::Array(parts) => parts.as_slice(),
            one => std::slice::from_ref(one),
        };
        let mut sort = Self::new();
        for part in parts {
            let members =
                part.as_object().ok_or_else(|| bad("", "a sort is an object, or an array"))?;
            if members.len() > 1 {
                return Err(bad("", "several fields stand in an array, one object for each"));
            }
            for (name, direction) in members {
                let ascending = match direction.as_f64() {
                    Some(1.0) => true,
                    Some(-1.0) => false,
                    _ => return Err(bad(name, "the direction is 1 or -1")),
                };
                sort = sort.with(name, ascending)?;
            }
        }
        Ok(sort)
    }

    /// Then by this field, smallest first.
    ///
    /// # Errors
    /// `InvalidFilter` if the path is none, is named already, or is one too many.
    pub fn ascending(self, path: &str) -> Result<Self> {
        self.with(path, true)
    }

    /// Then by this field, largest first.
    ///
    /// # Errors
    /// `InvalidFilter` if the path is none, is named already, or is one too many.
    pub fn descending(self, path: &str) -> Result<Self> {
        self.with(path, false)
    }

    /// Which of two documents comes first.
    ///
    /// # Errors
    /// `Document` if one of them could not be stored.
    pub fn compare_json(&self, a: &Value, b: &Value) -> Result<Ordering> {
        let limits = jb1::Limits::default();
        Ok(self.compare(&jb1::from_value(a, &limits)?, &jb1::from_value(b, &limits)?))
    }

    /// True if nothing is sorted by.
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    fn with(self, path: &str, ascending: bool) -> Result<Self> {
        let parsed = Path::parse(path)?;
        if self.fields.iter().any(|field| field.path == parsed) {
            return Err(bad(path, "the field is named twice"));
        }
        if self.fields.len() == SORT_FIELDS_MAX {
            return Err(bad(path, &format!("a sort has at most {SORT_FIELDS_MAX} fields")));
        }
        let field = SortField { path: parsed, ascending };
        let fields = self.fields.iter().cloned().chain([field]).collect();
        Ok(Self { fields })
    }

    pub(crate) fn compare(&self, a: &[u8], b: &[u8]) -> Ordering {
        for field in &*self.fields {
            let order = compare(field.value(a), field.value(b));
            if order != Ordering::Equal {
                return if field.ascending { order } else { order.reverse() };
            }
        }
        Ordering::Equal
    }

    /// Appends bytes whose order is the order of documents; `None` if the document is damaged.
    pub(crate) fn key(&self, document: &[u8], out: &mut Vec<u8>) -> Option<()> {
        for field in &*self.fields {
            let from = out.len();
            key::encode(field.value(document), out)?;
            if !field.ascending {
                // An encoding is no prefix of another, so turning its bits turns the order.
                out[from..].iter_mut().for_each(|byte| *byte = !*byte);
            }
        }
        Some(())
    }
}

impl SortField {
    /// The value that decides: the smallest or the largest that the path reaches.
    pub(crate) fn value<'a>(&self, document: &'a [u8]) -> &'a [u8] {
        let mut best: Option<&'a [u8]> = None;
        self.path.each_element(document, |value| {
            let value = value.unwrap_or(&[jb1::NULL]);
            let better = if self.ascending { Ordering::Less } else { Ordering::Greater };
            if best.is_none_or(|best| compare(value, best) == better) {
                best = Some(value);
            }
        });
        best.unwrap_or(&[jb1::NULL])
    }
}

fn bad(path: &str, reason: &str) -> Error {
    Error::InvalidFilter { path: path.to_owned(), reason: reason.to_owned() }
}
