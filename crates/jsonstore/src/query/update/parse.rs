//! An update from its document form.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::{Clock, Push, PushSort, Update, UpdateOp, refuse};
use crate::{
    error::{Error, Result},
    query::{
        filter::{self, ElemMatch},
        sort::Sort,
    },
};

pub(super) fn parse(value: &Value) -> Result<Update> {
    let operators = value.as_object().ok_or_else(|| refuse("", "an update is an object"))?;
    let mut update = Update::new();
    for (operator, fields) in operators {
        let fields =
            fields.as_object().ok_or_else(|| refuse(operator, "an operator takes an object"))?;
        for (path, operand) in fields {
            update = if operator == "$rename" {
                let to = operand.as_str();
                update.rename(path, to.ok_or_else(|| refuse(path, "the new name is a string"))?)
            } else if operator == "$setOnInsert" {
                update.set_on_insert(path, operand.clone())
            } else {
                update.with(path, op(operator, path, operand)?)
            };
        }
    }
    Ok(update)
}

fn op(operator: &str, path: &str, operand: &Value) -> Result<UpdateOp> {
    let number = || match operand {
        Value::Number(number) => Ok(number.clone()),
        _ => Err(refuse(path, "the operand is a number")),
    };
    Ok(match operator {
        "$addToSet" => UpdateOp::AddToSet(add_to_set(path, operand)?),
        "$currentDate" => UpdateOp::CurrentDate(clock(path, operand)?),
        "$inc" => UpdateOp::Inc(number()?),
        "$max" => UpdateOp::Max(operand.clone()),
        "$min" => UpdateOp::Min(operand.clone()),
        "$mul" => UpdateOp::Mul(number()?),
        "$pop" => match operand.as_f64() {
            Some(1.0) => UpdateOp::Pop { first: false },
            Some(-1.0) => UpdateOp::Pop { first: true },
            _ => return Err(refuse(path, "the operand is 1 for the last or -1 for the first")),
        },
        "$pull" => UpdateOp::Pull(Arc::new(filter::pull_condition(operand)?)),
        "$pullAll" => UpdateOp::Pull(Arc::new(pull_all(path, operand)?)),
        "$push" => UpdateOp::Push(push(path, operand)?),
        "$set" => UpdateOp::Set(operand.clone()),
        "$unset" => UpdateOp::Unset,
        _ => return Err(refuse(operator, "no such operator")),
    })
}

fn add_to_set(path: &str, operand: &Value) -> Result<Vec<Value>> {
    let Some(each) = operand.get("$each") else { return Ok(vec![operand.clone()]) };
    if operand.as_object().is_some_and(|members| members.len() > 1) {
        return Err(refuse(path, "$addToSet knows no modifier but $each"));
    }
    each.as_array().cloned().ok_or_else(|| refuse(path, "$each is an array"))
}

fn clock(path: &str, operand: &Value) -> Result<Clock> {
    match operand {
        Value::Bool(true) => Ok(Clock::Date),
        Value::Object(members) if members.len() == 1 => {
            match members.get("$type").and_then(Value::as_str) {
                Some("date") => Ok(Clock::Date),
                Some("timestamp") => Ok(Clock::Timestamp),
                _ => Err(refuse(path, "$type is \"date\" or \"timestamp\"")),
            }
        }
        _ => Err(refuse(path, "the operand is true or an object with a $type")),
    }
}

fn pull_all(path: &str, operand: &Value) -> Result<ElemMatch> {
    if !operand.is_array() {
        return Err(refuse(path, "the operand is an array"));
    }
    let mut members = Map::new();
    members.insert("$in".to_owned(), operand.clone());
    filter::pull_condition(&Value::Object(members))
}

fn push(path: &str, operand: &Value) -> Result<Push> {
    let is_modified = operand.as_object().is_some_and(|members| {
        members
            .keys()
            .any(|name| matches!(name.as_str(), "$each" | "$position" | "$slice" | "$sort"))
    });
    let Some(members) = operand.as_object().filter(|_| is_modified) else {
        return Ok(Push { values: vec![operand.clone()], ..Push::default() });
    };
    let mut push = Push::default();
    for (name, value) in members {
        let integer = || value.as_i64().ok_or_else(|| refuse(path, "the modifier is an integer"));
        match name.as_str() {
            "$each" => {
                let each = value.as_array().cloned();
                push.values = each.ok_or_else(|| refuse(path, "$each is an array"))?;
            }
            "$position" => push.position = Some(integer()?),
            "$slice" => push.slice = Some(integer()?),
            "$sort" => push.sort = Some(push_sort(path, value)?),
            _ => return Err(refuse(path, "no such modifier of $push")),
        }
    }
    if !members.contains_key("$each") {
        return Err(refuse(path, "the modifiers of $push need an $each"));
    }
    Ok(push)
}

fn push_sort(path: &str, value: &Value) -> Result<PushSort> {
    match value.as_f64() {
        Some(1.0) => return Ok(PushSort::Whole { ascending: true }),
        Some(-1.0) => return Ok(PushSort::Whole { ascending: false }),
        _ => {}
    }
    match Sort::from_json(value) {
        Ok(sort) if !sort.is_empty() => Ok(PushSort::Fields(sort)),
        Err(Error::InvalidFilter { .. }) | Ok(_) => {
            Err(refuse(path, "$sort is 1, -1 or fields with 1 or -1, each in an object of its own"))
        }
        Err(error) => Err(error),
    }
}
