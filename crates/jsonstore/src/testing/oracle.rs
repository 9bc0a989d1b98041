//! A filter evaluator on plain values, as obvious as it can be: the oracle of the real one.

use std::cmp::Ordering;

use serde_json::Value;

/// Whether the document matches a valid filter without `$text` and `$expr`.
///
/// # Panics
/// On an operator it does not know.
pub fn naive_matches(filter: &Value, document: &Value) -> bool {
    let members = filter.as_object().expect("a filter is an object");
    members.iter().all(|(name, operand)| {
        let each = || operand.as_array().expect("a list of filters").iter();
        match name.as_str() {
            "$and" => each().all(|filter| naive_matches(filter, document)),
            "$or" => each().any(|filter| naive_matches(filter, document)),
            "$nor" => !each().any(|filter| naive_matches(filter, document)),
            path => {
                let steps: Vec<&str> = path.split('.').collect();
                field_holds(document, &steps, operand)
            }
        }
    })
}

fn operators(operand: &Value) -> Option<&serde_json::Map<String, Value>> {
    operand.as_object().filter(|members| members.keys().any(|name| name.starts_with('$')))
}

/// All the conditions on one path, each on its own.
fn field_holds(document: &Value, steps: &[&str], operand: &Value) -> bool {
    let Some(members) = operators(operand) else {
        return reached(document, steps).iter().any(|value| equals(*value, operand));
    };
    members.iter().all(|(name, operand)| match name.as_str() {
        "$ne" => !field_holds(document, steps, &wrap("$eq", operand)),
        "$nin" => !field_holds(document, steps, &wrap("$in", operand)),
        "$not" => !field_holds(document, steps, operand),
        "$all" => {
            let items = operand.as_array().expect("a list");
            !items.is_empty()
                && items.iter().all(|item| match item.get("$elemMatch") {
                    Some(_) => field_holds(document, steps, item),
                    None => field_holds(document, steps, &wrap("$eq", item)),
                })
        }
        "$exists" => reached(document, steps).iter().any(Option::is_some) == (*operand == true),
        "$size" | "$elemMatch" => {
            whole(document, steps).iter().any(|value| value_holds(*value, name, operand))
        }
        _ => reached(document, steps).iter().any(|value| value_holds(*value, name, operand)),
    })
}

fn wrap(name: &str, operand: &Value) -> Value {
    Value::Object([(name.to_owned(), operand.clone())].into_iter().collect())
}

/// One operator on one value.
fn value_holds(value: Option<&Value>, name: &str, operand: &Value) -> bool {
    let compares = |accepts: fn(Ordering) -> bool| {
        let value = value.unwrap_or(&Value::Null);
        class(value) == class(operand) && accepts(order(value, operand))
    };
    match name {
        "$eq" => equals(value, operand),
        "$ne" => !equals(value, operand),
        "$gt" => compares(Ordering::is_gt),
        "$gte" => compares(Ordering::is_ge),
        "$lt" => compares(Ordering::is_lt),
        "$lte" => compares(Ordering::is_le),
        "$in" => operand.as_array().expect("a list").iter().any(|item| equals(value, item)),
        "$nin" => !operand.as_array().expect("a list").iter().any(|item| equals(value, item)),
        "$not" => !all_hold(value, operand),
        "$exists" => value.is_some() == (*operand == true),
        "$size" => value
            .and_then(Value::as_array)
            .is_some_and(|items| Some(items.len() as u64) == operand.as_u64()),
        "$type" => value.is_some_and(|value| match operand.as_str() {
            Some("string") => value.is_string(),
            Some("number") => value.is_number(),
            Some("bool") => value.is_boolean(),
            Some("array") => value.is_array(),
            Some("object") => value.is_object(),
            Some("null") => value.is_null(),
            _ => panic!("no type {operand}"),
        }),
        "$mod" => {
            let number = |value: &Value| value.as_f64().map(|float| float.trunc() as i64);
            match (value.and_then(number), number(&operand[0]), number(&operand[1])) {
                (Some(value), Some(divisor), Some(remainder)) => value % divisor == remainder,
                _ => false,
            }
        }
        "$regex" => {
            let pattern = regex::Regex::new(operand.as_str().expect("a pattern"));
            let pattern = pattern.expect("the pattern is valid");
            value.and_then(Value::as_str).is_some_and(|text| pattern.is_match(text))
        }
        "$elemMatch" => value.and_then(Value::as_array).is_some_and(|items| {
            items.iter().any(|item| match operators(operand) {
                Some(members) if !members.keys().any(|name| is_logical(name)) => {
                    all_hold(Some(item), operand)
                }
                _ => (item.is_object() || item.is_array()) && naive_matches(operand, item),
            })
        }),
        _ => panic!("no operator {name}"),
    }
}

fn is_logical(name: &str) -> bool {
    matches!(name, "$and" | "$or" | "$nor")
}

fn all_hold(value: Option<&Value>, tests: &Value) -> bool {
    let members = tests.as_object().expect("operators");
    members.iter().all(|(name, operand)| value_holds(value, name, operand))
}

/// The values at a path, those in an array at its end one by one and then the array.
fn reached<'a>(document: &'a Value, steps: &[&str]) -> Vec<Option<&'a Value>> {
    let mut found = Vec::new();
    walk(document, steps, true, true, &mut found);
    found
}

fn whole<'a>(document: &'a Value, steps: &[&str]) -> Vec<Option<&'a Value>> {
    let mut found = Vec::new();
    walk(document, steps, false, true, &mut found);
    found
}

fn walk<'a>(
    value: &'a Value,
    steps: &[&str],
    opens: bool,
    is_root: bool,
    found: &mut Vec<Option<&'a Value>>,
) {
    let Some((step, rest)) = steps.split_first() else {
        if opens && let Value::Array(items) = value {
            found.extend(items.iter().map(Some));
        }
        return found.push(Some(value));
    };
    match value {
        Value::Object(members) => match members.get(*step) {
            Some(member) => walk(member, rest, opens, false, found),
            None => found.push(None),
        },
        Value::Array(items) if is_root => match step.parse().ok().and_then(|i: usize| items.get(i))
        {
            Some(item) => walk(item, rest, opens, false, found),
            None => found.push(None),
        },
        Value::Array(items) => {
            for (i, item) in items.iter().enumerate() {
                let is_here = i.to_string() == *step;
                if item.is_object() {
                    walk(item, steps, opens, false, found);
                }
                if is_here && rest.is_empty() {
                    found.push(Some(item));
                } else if is_here && (item.is_object() || item.is_array()) {
                    walk(item, rest, opens, false, found);
                }
            }
        }
        _ => found.push(None),
    }
}

fn equals(value: Option<&Value>, operand: &Value) -> bool {
    order(value.unwrap_or(&Value::Null), operand) == Ordering::Equal
}

fn class(value: &Value) -> u8 {
    match value {
        Value::Null => 0,
        Value::Bool(_) => 1,
        Value::Number(_) => 2,
        Value::String(_) => 3,
        Value::Array(_) => 4,
        Value::Object(_) => 5,
    }
}

/// The order of values. Numbers of a test are small enough to be exact as floats.
pub fn order(a: &Value, b: &Value) -> Ordering {
    match (a, b) {
        (Value::Bool(a), Value::Bool(b)) => a.cmp(b),
        (Value::Number(a), Value::Number(b)) => {
            a.as_f64().partial_cmp(&b.as_f64()).expect("JSON has no NaN")
        }
        (Value::String(a), Value::String(b)) => a.as_bytes().cmp(b.as_bytes()),
        (Value::Array(a), Value::Array(b)) => {
            let first = a.iter().zip(b).map(|(a, b)| order(a, b)).find(|order| order.is_ne());
            first.unwrap_or_else(|| a.len().cmp(&b.len()))
        }
        (Value::Object(a), Value::Object(b)) => {
            let (mut a, mut b): (Vec<_>, Vec<_>) = (a.iter().collect(), b.iter().collect());
            a.sort_by_key(|member| member.0);
            b.sort_by_key(|member| member.0);
            let pairs = a.iter().zip(&b);
            let first = pairs
                .map(|(a, b)| a.0.cmp(b.0).then_with(|| order(a.1, b.1)))
                .find(|order| order.is_ne());
            first.unwrap_or_else(|| a.len().cmp(&b.len()))
        }
        (a, b) => class(a).cmp(&class(b)),
    }
}
