//! A pipeline from its array.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::{
    GROUP_FIELDS_MAX, Lookup, PIPELINE_STAGES_MAX, Stage, Unwind,
    group::{Accumulator, Field, Group},
};
use crate::{
    error::{Error, Result},
    query::{
        expression::Expression,
        filter::Filter,
        path::{Path, Step},
        projection::Projection,
        sort::Sort,
    },
};

pub(super) fn parse(value: &Value) -> Result<Vec<Stage>> {
    let list = value.as_array().ok_or_else(|| bad("", "a pipeline is an array of stages"))?;
    if list.len() > PIPELINE_STAGES_MAX {
        return Err(bad("", format!("a pipeline has at most {PIPELINE_STAGES_MAX} stages")));
    }
    let mut stages = Vec::with_capacity(list.len());
    for (i, value) in list.iter().enumerate() {
        let mut members = value.as_object().into_iter().flatten();
        let (Some((name, operand)), None) = (members.next(), members.next()) else {
            return Err(bad(&i.to_string(), "a stage is an object with one operator"));
        };
        stages.push(stage(name, operand).map_err(|error| placed(i, name, error))?);
    }
    limit_sorts(&mut stages);
    Ok(stages)
}

fn placed(i: usize, name: &str, error: Error) -> Error {
    match error {
        Error::InvalidFilter { path, reason } => {
            let separator = if path.is_empty() { "" } else { "." };
            Error::InvalidFilter { path: format!("{i}.{name}{separator}{path}"), reason }
        }
        error => error,
    }
}

fn stage(name: &str, operand: &Value) -> Result<Stage> {
    Ok(match name {
        "$addFields" | "$set" => Stage::Project(Projection::computed(operand)?),
        "$count" => match operand.as_str() {
            Some(name) if !name.is_empty() && !name.starts_with('$') && !name.contains('.') => {
                Stage::Count(Step::new(name))
            }
            _ => return Err(bad("", "the operand is the name of a field")),
        },
        "$group" => Stage::Group(Arc::new(group(operand)?)),
        "$limit" => match operand.as_u64() {
            Some(count) if count > 0 => Stage::Limit(count),
            _ => return Err(bad("", "the operand is a whole number, 1 or more")),
        },
        "$lookup" => Stage::Lookup(Arc::new(lookup(operand)?)),
        "$match" => {
            let filter = Filter::from_json(operand)?;
            if filter.text().is_some() {
                return Err(bad("$text", "only a find can search for text"));
            }
            Stage::Match(filter)
        }
        "$project" => match operand.as_object() {
            Some(members) if !members.is_empty() => Stage::Project(Projection::from_json(operand)?),
            _ => return Err(bad("", "the operand is an object with at least one field")),
        },
        "$skip" => match operand.as_u64() {
            Some(count) => Stage::Skip(count),
            None => return Err(bad("", "the operand is a whole number, 0 or more")),
        },
        "$sort" => {
            let sort = Sort::from_json(operand)?;
            if sort.is_empty() {
                return Err(bad("", "a sort names at least one field"));
            }
            Stage::Sort { sort, limit: None }
        }
        "$unset" => Stage::Project(unset(operand)?),
        "$unwind" => Stage::Unwind(Arc::new(unwind(operand)?)),
        _ => return Err(bad("", "no such stage")),
    })
}

fn group(operand: &Value) -> Result<Group> {
    let members = operand.as_object().ok_or_else(|| bad("", "the operand is an object"))?;
    let id = members.get("_id").ok_or_else(|| bad("_id", "what to group by is missing"))?;
    if members.len() > GROUP_FIELDS_MAX {
        return Err(bad("", format!("a group has at most {GROUP_FIELDS_MAX} fields")));
    }
    let mut fields = Vec::new();
    for (name, value) in members.iter().filter(|(name, _)| *name != "_id") {
        if name.starts_with('$') || name.contains('.') || name.is_empty() {
            return Err(bad(name, "a field of a group has a plain name"));
        }
        let mut operators = value.as_object().into_iter().flatten();
        let (Some((operator, operand)), None) = (operators.next(), operators.next()) else {
            return Err(bad(name, "a field of a group is an object with one accumulator"));
        };
        let accumulator = Accumulator::by_name(operator);
        let accumulator = accumulator.ok_or_else(|| bad(name, "no such accumulator"))?;
        let value = match (accumulator, operand) {
            (Accumulator::Count, Value::Object(members)) if members.is_empty() => json!(null),
            (Accumulator::Count, _) => return Err(bad(name, "$count takes {}")),
            _ => operand.clone(),
        };
        fields.push(Field {
            name: Step::new(name),
            accumulator,
            value: Expression::from_json(&value)?,
        });
    }
    Ok(Group { id: Expression::from_json(id)?, fields })
}

fn lookup(operand: &Value) -> Result<Lookup> {
    let members = operand.as_object().ok_or_else(|| bad("", "the operand is an object"))?;
    known(members, &["as", "foreignField", "from", "localField"])?;
    let text = |name: &str| {
        members.get(name).and_then(Value::as_str).ok_or_else(|| bad(name, "a string is missing"))
    };
    Ok(Lookup {
        from: text("from")?.into(),
        local: Path::parse(text("localField")?)?,
        foreign: Path::parse(text("foreignField")?)?,
        into: Path::parse(text("as")?)?,
    })
}

fn unset(operand: &Value) -> Result<Projection> {
    let names = match operand {
        Value::Array(names) => names.as_slice(),
        one => std::slice::from_ref(one),
    };
    let mut members = Map::new();
    for name in names {
        let name =
            name.as_str().ok_or_else(|| bad("", "the operand is a name or a list of them"))?;
        members.insert(name.to_owned(), json!(0));
    }
    Projection::from_json(&Value::Object(members))
}

fn unwind(operand: &Value) -> Result<Unwind> {
    let empty = Map::new();
    let (path, options) = match operand {
        Value::Object(members) => (members.get("path"), members),
        path => (Some(path), &empty),
    };
    known(options, &["includeArrayIndex", "path", "preserveNullAndEmptyArrays"])?;
    let path = path.and_then(Value::as_str).and_then(|path| path.strip_prefix('$'));
    let path = path.ok_or_else(|| bad("path", "the path is a string that begins with $"))?;
    let keeps_empty = match options.get("preserveNullAndEmptyArrays") {
        None => false,
        Some(Value::Bool(yes)) => *yes,
        Some(_) => return Err(bad("preserveNullAndEmptyArrays", "the option is true or false")),
    };
    let index = match options.get("includeArrayIndex") {
        None => None,
        Some(Value::String(name)) => Some(Path::parse(name)?),
        Some(_) => return Err(bad("includeArrayIndex", "the option is the name of a field")),
    };
    Ok(Unwind { path: Path::parse(path)?, keeps_empty, index })
}

fn known(members: &Map<String, Value>, names: &[&str]) -> Result<()> {
    match members.keys().find(|name| !names.contains(&name.as_str())) {
        Some(name) => Err(bad(name, "no such option")),
        None => Ok(()),
    }
}

/// A sort before a limit needs to keep only so many documents.
fn limit_sorts(stages: &mut [Stage]) {
    for at in 0..stages.len() {
        let (before, after) = stages.split_at_mut(at + 1);
        let Some(Stage::Sort { limit, .. }) = before.last_mut() else { continue };
        let mut skipped = 0_u64;
        for stage in after {
            match stage {
                Stage::Skip(count) => skipped = skipped.saturating_add(*count),
                Stage::Limit(count) => {
                    *limit = usize::try_from(count.saturating_add(skipped)).ok();
                    break;
                }
                _ => break,
            }
        }
    }
}

fn bad(path: &str, reason: impl Into<String>) -> Error {
    Error::InvalidFilter { path: path.to_owned(), reason: reason.into() }
}
