//! Filters with values that come later: `{"email": {"$param": 0}}`.

use serde_json::{Map, Value, json};

use super::{
    filter::{Filter, Operand},
    order::Bracket,
    path::Path,
};
use crate::{
    error::{Error, Result},
    key,
};

/// Parameters of one template.
const PARAMS_MAX: usize = 64;
/// Filters inside filters that may hold parameters.
const DEPTH_MAX: usize = super::filter::FILTER_DEPTH_MAX;
const PARAM: &str = "$param";

/// A value for a parameter of a [`crate::Prepared`] query. It is a value whatever it holds, never an
/// operator.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum Param<'a> {
    /// `true` or `false`.
    Boolean(bool),
    /// A number; one that is not finite is `null`.
    Float(f64),
    /// A number.
    Integer(i64),
    /// A string.
    Text(&'a str),
    /// A number.
    Unsigned(u64),
    /// Anything.
    Value(&'a Value),
}

impl Param<'_> {
    fn to_json(self) -> Value {
        match self {
            Self::Boolean(value) => json!(value),
            Self::Float(value) => json!(value),
            Self::Integer(value) => json!(value),
            Self::Text(value) => json!(value),
            Self::Unsigned(value) => json!(value),
            Self::Value(value) => value.clone(),
        }
    }

    /// Appends it as `key::encode` does. `None` for what an index does not simply hold.
    fn put_key(self, out: &mut Vec<u8>) -> Option<Bracket> {
        match self {
            Self::Boolean(value) => {
                out.push(if value { key::TRUE } else { key::FALSE });
                Some(Bracket::Boolean)
            }
            Self::Float(value) => {
                key::put_float(out, Some(value).filter(|value| value.is_finite())?);
                Some(Bracket::Number)
            }
            Self::Integer(value) => {
                key::put_integer(out, i128::from(value));
                Some(Bracket::Number)
            }
            Self::Text(value) => {
                key::put_string(out, value.as_bytes());
                Some(Bracket::String)
            }
            Self::Unsigned(value) => {
                key::put_integer(out, i128::from(value));
                Some(Bracket::Number)
            }
            Self::Value(value) => {
                let operand = Operand::new(value).ok()?;
                out.extend_from_slice(&operand.key);
                is_simple(operand.bracket).then_some(operand.bracket)
            }
        }
    }
}

macro_rules! params {
    ($($from:ty => $variant:ident),+ $(,)?) => {$(
        impl From<$from> for Param<'_> {
            fn from(value: $from) -> Self {
                Self::$variant(value.into())
            }
        }
    )+};
}

params!(bool => Boolean, f64 => Float, i32 => Integer, i64 => Integer, u32 => Unsigned, u64 => Unsigned);

impl<'a> From<&'a str> for Param<'a> {
    fn from(text: &'a str) -> Self {
        Self::Text(text)
    }
}

impl<'a> From<&'a String> for Param<'a> {
    fn from(text: &'a String) -> Self {
        Self::Text(text)
    }
}

impl<'a> From<&'a Value> for Param<'a> {
    fn from(value: &'a Value) -> Self {
        Self::Value(value)
    }
}

/// How a field is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Comparison {
    Eq,
    Gt,
    Gte,
    Lt,
    Lte,
}

/// What a field is compared with.
#[derive(Debug, Clone)]
pub(crate) enum Slot {
    Fixed(Operand),
    Param(usize),
}

impl Slot {
    /// Appends the key of the value; `None` if an index does not simply hold such values.
    pub(crate) fn put_key(&self, values: &[Param<'_>], out: &mut Vec<u8>) -> Option<Bracket> {
        match self {
            Self::Fixed(operand) => {
                out.extend_from_slice(&operand.key);
                Some(operand.bracket)
            }
            Self::Param(at) => values.get(*at)?.put_key(out),
        }
    }
}

/// A comparison of one field.
#[derive(Debug, Clone)]
pub(crate) struct Comparing {
    pub(crate) path: Path,
    pub(crate) comparison: Comparison,
    pub(crate) slot: Slot,
}

/// A filter that lacks some of its values.
#[derive(Debug)]
pub(crate) struct Template {
    json: Value,
    params: usize,
    /// The whole of it, if it only compares fields with values.
    pub(crate) comparings: Option<Vec<Comparing>>,
}

impl Template {
    /// # Errors
    /// `InvalidFilter`, also for a parameter where no value can stand.
    pub(crate) fn new(json: &Value) -> Result<Self> {
        let mut params = 0;
        let filled = fill(json, &mut |number| {
            params = params.max(number + 1);
            Ok(Value::from(0))
        })?;
        Filter::from_json(&filled)?;
        Ok(Self { json: json.clone(), params, comparings: comparings(json) })
    }

    /// The filter with these values.
    ///
    /// # Errors
    /// `InvalidFilter` if they are too few or too many, or one does not fit its operator.
    pub(crate) fn filter(&self, values: &[Param<'_>]) -> Result<Filter> {
        self.check(values)?;
        Filter::from_json(&fill(&self.json, &mut |number| {
            values.get(number).map(|value| value.to_json()).ok_or_else(|| misplaced(PARAM))
        })?)
    }

    /// # Errors
    /// `InvalidFilter` if the values are too few or too many.
    pub(crate) fn check(&self, values: &[Param<'_>]) -> Result<()> {
        if values.len() == self.params {
            return Ok(());
        }
        let reason = format!("{} values for {} parameters", values.len(), self.params);
        Err(Error::InvalidFilter { path: PARAM.to_owned(), reason })
    }
}

fn is_simple(bracket: Bracket) -> bool {
    matches!(bracket, Bracket::Boolean | Bracket::Number | Bracket::String)
}

/// The number of a parameter.
fn param(value: &Value) -> Option<Result<usize>> {
    let object = value.as_object().filter(|object| object.len() == 1)?;
    let number = object.get(PARAM)?.as_u64().and_then(|number| usize::try_from(number).ok());
    let number = number.filter(|number| *number < PARAMS_MAX);
    Some(number.ok_or_else(|| {
        let reason = format!("a parameter is a number below {PARAMS_MAX}");
        Error::InvalidFilter { path: PARAM.to_owned(), reason }
    }))
}

fn misplaced(path: &str) -> Error {
    let reason = "a parameter stands for the value of a field or the operand of a comparison";
    Error::InvalidFilter { path: path.to_owned(), reason: reason.to_owned() }
}

type Values<'a> = dyn FnMut(usize) -> Result<Value> + 'a;

/// The filter with values for its parameters.
fn fill(filter: &Value, values: &mut Values<'_>) -> Result<Value> {
    fill_filter(filter, values, 0)
}

fn fill_filter(filter: &Value, values: &mut Values<'_>, depth: usize) -> Result<Value> {
    let Some(members) = filter.as_object().filter(|_| depth < DEPTH_MAX) else {
        return without(filter, "");
    };
    let mut out = Map::new();
    for (name, value) in members {
        let filled = match (name.as_str(), value) {
            ("$and" | "$or" | "$nor", Value::Array(all)) => {
                all.iter().map(|one| fill_filter(one, values, depth + 1)).collect::<Result<_>>()?
            }
            (name, value) if name.starts_with('$') => without(value, name)?,
            (_, value) => fill_field(value, values, depth + 1)?,
        };
        out.insert(name.clone(), filled);
    }
    Ok(Value::Object(out))
}

/// What is demanded of a field.
fn fill_field(value: &Value, values: &mut Values<'_>, depth: usize) -> Result<Value> {
    if let Some(number) = param(value) {
        // Whatever the value holds, it is no operator.
        return Ok(json!({ "$eq": values(number?)? }));
    }
    let is_operators = |members: &&Map<String, Value>| {
        depth < DEPTH_MAX && members.keys().any(|name| name.starts_with('$'))
    };
    let Some(members) = value.as_object().filter(is_operators) else { return without(value, "") };
    let mut out = Map::new();
    for (name, operand) in members {
        let filled = match (name.as_str(), operand) {
            ("$eq" | "$ne" | "$gt" | "$gte" | "$lt" | "$lte", operand) => match param(operand) {
                Some(number) => values(number?)?,
                None => without(operand, name)?,
            },
            ("$in" | "$nin" | "$all", Value::Array(all)) => {
                let mut one = |one: &Value| match param(one) {
                    Some(number) => values(number?),
                    None => without(one, name),
                };
                all.iter().map(&mut one).collect::<Result<_>>()?
            }
            ("$not", operand) => match param(operand) {
                Some(_) => return Err(misplaced(name)),
                None => fill_field(operand, values, depth + 1)?,
            },
            ("$elemMatch", Value::Object(inner)) => {
                match inner.keys().any(|name| name.starts_with('$')) {
                    true if param(operand).is_some() => return Err(misplaced(name)),
                    true => fill_field(operand, values, depth + 1)?,
                    false => fill_filter(operand, values, depth + 1)?,
                }
            }
            _ => without(operand, name)?,
        };
        out.insert(name.clone(), filled);
    }
    Ok(Value::Object(out))
}

/// A part of a filter in which no parameter may stand.
fn without(value: &Value, path: &str) -> Result<Value> {
    fn holds(value: &Value) -> bool {
        match value {
            Value::Array(all) => all.iter().any(holds),
            Value::Object(all) => all.iter().any(|(name, value)| name == PARAM || holds(value)),
            _ => false,
        }
    }
    if holds(value) { Err(misplaced(path)) } else { Ok(value.clone()) }
}

/// The filter as comparisons; `None` if it is more than that.
fn comparings(filter: &Value) -> Option<Vec<Comparing>> {
    let mut all = Vec::new();
    for (name, value) in filter.as_object()? {
        if name.starts_with('$') {
            return None;
        }
        let path = Path::parse(name).ok()?;
        let mut add = |comparison: Comparison, value: &Value| {
            let slot = slot(value)?;
            all.push(Comparing { path: path.clone(), comparison, slot });
            Some(())
        };
        match value.as_object().filter(|_| param(value).is_none()) {
            None => add(Comparison::Eq, value)?,
            Some(operators) => {
                for (name, operand) in operators {
                    let comparison = match name.as_str() {
                        "$eq" => Comparison::Eq,
                        "$gt" => Comparison::Gt,
                        "$gte" => Comparison::Gte,
                        "$lt" => Comparison::Lt,
                        "$lte" => Comparison::Lte,
                        _ => return None,
                    };
                    add(comparison, operand)?;
                }
            }
        }
    }
    Some(all)
}

fn slot(value: &Value) -> Option<Slot> {
    if let Some(number) = param(value) {
        return number.ok().map(Slot::Param);
    }
    let operand = Operand::new(value).ok()?;
    is_simple(operand.bracket).then_some(Slot::Fixed(operand))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn filled(template: &Value, values: &[Param<'_>], want: &Value) {
        let template = Template::new(template).unwrap();
        let got = template.filter(values).unwrap();
        assert_eq!(format!("{got:?}"), format!("{:?}", Filter::from_json(want).unwrap()));
    }

    #[test]
    fn parameters_stand_for_values() {
        let p = |n: usize| json!({ "$param": n });
        filled(&json!({"a": p(0)}), &["x".into()], &json!({"a": "x"}));
        filled(
            &json!({"a": {"$gte": p(1), "$lt": p(0)}, "b": 5}),
            &[9.into(), 2.5.into()],
            &json!({"a": {"$gte": 2.5, "$lt": 9}, "b": 5}),
        );
        filled(
            &json!({"$or": [{"a": {"$in": [1, p(0)]}}, {"b": {"$not": {"$gt": p(1)}}}]}),
            &[true.into(), 7_u64.into()],
            &json!({"$or": [{"a": {"$in": [1, true]}}, {"b": {"$not": {"$gt": 7}}}]}),
        );
        filled(
            &json!({"a": {"$elemMatch": {"b": p(0), "c": {"$ne": p(0)}}}}),
            &["x".into()],
            &json!({"a": {"$elemMatch": {"b": "x", "c": {"$ne": "x"}}}}),
        );
    }

    #[test]
    fn a_value_is_no_operator() {
        let sly = json!({"$ne": null});
        let template = Template::new(&json!({"a": {"$param": 0}})).unwrap();
        let filter = template.filter(&[(&sly).into()]).unwrap();
        assert!(!filter.matches_json(&json!({"a": "secret"})).unwrap());
    }

    #[test]
    fn parameters_stand_nowhere_else() {
        for bad in [
            json!({"$param": 0}),
            json!({"a": {"b": {"$param": 0}}}),
            json!({"a": {"$not": {"$param": 0}}}),
            json!({"a": {"$in": {"$param": 0}}}),
            json!({"a": {"$exists": {"$param": 0}}}),
            json!({"$expr": {"$eq": ["$a", {"$param": 0}]}}),
            json!({"a": {"$param": -1}}),
            json!({"a": {"$param": PARAMS_MAX}}),
            json!({"a": {"$param": 0, "$gt": 5}}),
        ] {
            assert!(matches!(Template::new(&bad), Err(Error::InvalidFilter { .. })), "{bad}");
        }
        let template = Template::new(&json!({"a": {"$param": 1}})).unwrap();
        assert!(template.filter(&[1.into()]).is_err(), "too few");
        assert!(template.filter(&[1.into(), 2.into(), 3.into()]).is_err(), "too many");
    }
}
