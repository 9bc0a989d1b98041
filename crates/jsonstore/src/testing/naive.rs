//! A pipeline on plain values, stage by stage in memory: the oracle of the streaming one.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::oracle::{naive_matches, order};

/// The documents after the pipeline. Expressions are field names with `$` and constants only.
///
/// # Panics
/// On a stage it does not know.
pub fn naive_pipeline(pipeline: &Value, documents: &[Value], other: &[Value]) -> Vec<Value> {
    let mut rows = documents.to_vec();
    for stage in pipeline.as_array().expect("a list of stages") {
        let (name, operand) = stage.as_object().and_then(|s| s.iter().next()).expect("a stage");
        let number = || usize::try_from(operand.as_u64().expect("a number")).expect("small");
        rows = match name.as_str() {
            "$match" => rows.into_iter().filter(|row| naive_matches(operand, row)).collect(),
            "$limit" => rows.into_iter().take(number()).collect(),
            "$skip" => rows.into_iter().skip(number()).collect(),
            "$count" if rows.is_empty() => Vec::new(),
            "$count" => vec![json!({ (operand.as_str().expect("a name")): rows.len() })],
            "$sort" => sort(rows, operand),
            "$group" => group(&rows, operand),
            "$unwind" => rows.iter().flat_map(|row| unwind(row, operand)).collect(),
            "$addFields" => rows.into_iter().map(|row| add_fields(row, operand)).collect(),
            "$lookup" => rows.into_iter().map(|row| lookup(row, operand, other)).collect(),
            _ => panic!("no stage {name}"),
        };
    }
    rows
}

fn eval(expression: &Value, row: &Value) -> Option<Value> {
    match expression.as_str().and_then(|text| text.strip_prefix('$')) {
        Some(name) => row.get(name).cloned(),
        None => Some(expression.clone()),
    }
}

fn sort(mut rows: Vec<Value>, fields: &Value) -> Vec<Value> {
    let each = match fields {
        Value::Array(list) => list.clone(),
        one => vec![one.clone()],
    };
    rows.sort_by(|a, b| {
        each.iter()
            .flat_map(|field| field.as_object().expect("a field"))
            .map(|(name, direction)| {
                let is_ascending = *direction == json!(1);
                let (a, b) = (extreme(&a[name], is_ascending), extreme(&b[name], is_ascending));
                if is_ascending { order(a, b) } else { order(b, a) }
            })
            .find(|order| order.is_ne())
            .unwrap_or(std::cmp::Ordering::Equal)
    });
    rows
}

/// An array stands for its smallest or largest element.
fn extreme(value: &Value, smallest: bool) -> &Value {
    let Some(items) = value.as_array() else { return value };
    let best = if smallest {
        items.iter().min_by(|a, b| order(a, b))
    } else {
        items.iter().max_by(|a, b| order(a, b))
    };
    best.unwrap_or(&Value::Null)
}

fn group(rows: &[Value], operand: &Value) -> Vec<Value> {
    let mut groups: Vec<(Value, Vec<&Value>)> = Vec::new();
    for row in rows {
        let id = eval(&operand["_id"], row).unwrap_or(Value::Null);
        match groups.iter_mut().find(|(other, _)| order(other, &id).is_eq()) {
            Some((_, rows)) => rows.push(row),
            None => groups.push((id, vec![row])),
        }
    }
    let fields = operand.as_object().expect("a group");
    let one = |(id, rows): (Value, Vec<&Value>)| {
        let mut out = Map::from_iter([("_id".to_owned(), id)]);
        for (name, field) in fields.iter().filter(|(name, _)| *name != "_id") {
            let (accumulator, value) =
                field.as_object().and_then(|f| f.iter().next()).expect("one");
            let values: Vec<Option<Value>> = rows.iter().map(|row| eval(value, row)).collect();
            out.insert(name.clone(), accumulate(accumulator, &values));
        }
        Value::Object(out)
    };
    groups.into_iter().map(one).collect()
}

fn accumulate(name: &str, values: &[Option<Value>]) -> Value {
    let there = || values.iter().flatten();
    let numbers = || there().filter(|value| value.is_number());
    let some = || there().filter(|value| !value.is_null()).cloned();
    match name {
        "$count" => json!(values.len()),
        "$sum" if numbers().all(Value::is_i64) => {
            json!(numbers().filter_map(Value::as_i64).sum::<i64>())
        }
        "$sum" => json!(numbers().filter_map(Value::as_f64).sum::<f64>()),
        "$avg" if numbers().next().is_none() => Value::Null,
        "$avg" => {
            json!(numbers().filter_map(Value::as_f64).sum::<f64>() / numbers().count() as f64)
        }
        "$first" => values.first().cloned().flatten().unwrap_or(Value::Null),
        "$last" => values.last().cloned().flatten().unwrap_or(Value::Null),
        // Of equal values the first.
        "$min" => {
            some().reduce(|a, b| if order(&b, &a).is_lt() { b } else { a }).unwrap_or(Value::Null)
        }
        "$max" => {
            some().reduce(|a, b| if order(&b, &a).is_gt() { b } else { a }).unwrap_or(Value::Null)
        }
        "$push" => there().cloned().collect(),
        "$addToSet" => {
            let mut set: Vec<Value> = Vec::new();
            for value in there() {
                if !set.iter().any(|other| order(other, value).is_eq()) {
                    set.push(value.clone());
                }
            }
            set.into()
        }
        _ => panic!("no accumulator {name}"),
    }
}

fn unwind(row: &Value, operand: &Value) -> Vec<Value> {
    let path = operand.get("path").unwrap_or(operand).as_str().expect("a path");
    let name = path.strip_prefix('$').expect("a path begins with $");
    let keeps = operand.get("preserveNullAndEmptyArrays") == Some(&json!(true));
    let with = |value: Option<Value>| {
        let mut members: BTreeMap<String, Value> =
            row.as_object().expect("a document").clone().into_iter().collect();
        match value {
            Some(value) => members.insert(name.to_owned(), value),
            None => members.remove(name),
        };
        Value::Object(members.into_iter().collect())
    };
    match row.get(name) {
        Some(Value::Array(items)) if items.is_empty() && keeps => vec![with(None)],
        Some(Value::Array(items)) => items.iter().cloned().map(|item| with(Some(item))).collect(),
        None | Some(Value::Null) if !keeps => Vec::new(),
        _ => vec![row.clone()],
    }
}

fn add_fields(mut row: Value, operand: &Value) -> Value {
    let values: Vec<_> = operand
        .as_object()
        .expect("fields")
        .iter()
        .map(|(name, expression)| (name.clone(), eval(expression, &row)))
        .collect();
    let members = row.as_object_mut().expect("a document");
    for (name, value) in values {
        match value {
            Some(value) => members.insert(name, value),
            None => members.remove(&name),
        };
    }
    row
}

fn lookup(mut row: Value, operand: &Value, other: &[Value]) -> Value {
    let text = |name: &str| operand[name].as_str().expect("a string").to_owned();
    let values = match row.get(text("localField")) {
        None => vec![Value::Null],
        Some(Value::Array(items)) => items.clone(),
        Some(value) => vec![value.clone()],
    };
    let filter = json!({ (text("foreignField")): {"$in": values} });
    let found: Value =
        other.iter().filter(|document| naive_matches(&filter, document)).cloned().collect();
    row[text("as")] = found;
    row
}
