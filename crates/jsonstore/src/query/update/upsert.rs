//! The document that an upsert stores when its filter finds none.

use serde_json::Value;

use super::{Change, Update, UpdateOp, apply, edit::with_field, refuse, with_first_member};
use crate::{
    error::{DocumentError, Result},
    jb1::{self, Limits},
    query::{Filter, order::compare},
};

/// What the filter says it is equal to, after the update. `_id` is there only if one of them gave it.
pub(crate) fn new_document(filter: &Filter, update: &Update, limits: &Limits) -> Result<Vec<u8>> {
    let mut fields = filter.expr().equalities()?;
    fields.sort_by_key(|(path, _)| path.as_str() != "_id");
    let mut document = jb1::from_value(&Value::Object(serde_json::Map::new()), limits)?;
    for (path, operand) in fields {
        document = with_field(&document, path, Some(&operand.jb1), limits)?;
    }
    let (update, id) = update.inserting()?;
    let document = apply(&document, &update, limits)?;
    let Some(id) = id else { return Ok(document) };
    let id = jb1::from_value(&id, limits)?;
    match jb1::get(&document, b"_id") {
        None => Ok(with_first_member(&document, b"_id", &id)?),
        Some(same) if compare(same, &id).is_eq() => Ok(document),
        Some(_) => Err(DocumentError::IdChanged.into()),
    }
}

impl Update {
    /// The update as it makes a new document, without the `_id` that it gives to that.
    ///
    /// # Errors
    /// `InvalidUpdate` if it has a `$`, which stands for what was found, or gives two ids.
    fn inserting(&self) -> Result<(Self, Option<Value>)> {
        self.check()?;
        let mut update = Self { array_filters: self.array_filters.clone(), ..Self::new() };
        let mut id = None;
        for change in &self.changes {
            let change = match change {
                Change::OnInsert { path, value } => {
                    Change::At { path: path.clone(), op: UpdateOp::Set(value.clone()) }
                }
                change => change.clone(),
            };
            match change {
                Change::At { path, op: UpdateOp::Set(value) } if path == "_id" => id = Some(value),
                change => update.add(change),
            }
        }
        if update.needs_filter() {
            return Err(refuse("$", "it stands for what the filter found, and that found nothing"));
        }
        Ok((update, id))
    }
}
