//! Update expressions on JB1, by splicing: members that do not change are copied as bytes.

use std::borrow::Cow;

use super::{
    CONTAINER_HEAD, Container, Kind, Limits, Name, OBJECT, from_value, get, integer, items, kind,
    members, number, parse::escape, put_integer, put_name,
};
use crate::{
    codec::put_bytes,
    error::{DocumentError, Error},
};

/// A list of changes to one document, applied together.
///
/// ```
/// use hearth_jsonstore::Update;
/// let update = Update::new().set("name.first", "Ada").inc("visits", 1).unset("draft");
/// # assert_eq!(update.paths().count(), 3);
/// ```
#[derive(Debug, Clone, Default)]
pub struct Update {
    ops: Vec<(String, UpdateOp)>,
}

#[derive(Debug, Clone)]
pub(crate) enum UpdateOp {
    Inc(serde_json::Number),
    Max(serde_json::Value),
    Min(serde_json::Value),
    Mul(serde_json::Number),
    Push(serde_json::Value),
    Set(serde_json::Value),
    Unset,
}

impl Update {
    /// No changes yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// From the document form: `{"$set": {"a.b": 1}, "$inc": {"n": 2}}`.
    ///
    /// # Errors
    /// An unknown operator, or an operand of the wrong type.
    pub fn from_json(value: &serde_json::Value) -> Result<Self, Error> {
        let bad = |path: &str, reason| Error::InvalidUpdate { path: path.to_owned(), reason };
        let operators = value.as_object().ok_or_else(|| bad("", "an update is an object"))?;
        let mut update = Self::new();
        for (operator, fields) in operators {
            let fields =
                fields.as_object().ok_or_else(|| bad(operator, "an operator takes an object"))?;
            for (path, operand) in fields {
                let number = || match operand {
                    serde_json::Value::Number(number) => Ok(number.clone()),
                    _ => Err(bad(path, "the operand is a number")),
                };
                let op = match operator.as_str() {
                    "$inc" => UpdateOp::Inc(number()?),
                    "$max" => UpdateOp::Max(operand.clone()),
                    "$min" => UpdateOp::Min(operand.clone()),
                    "$mul" => UpdateOp::Mul(number()?),
                    "$push" => UpdateOp::Push(operand.clone()),
                    "$set" => UpdateOp::Set(operand.clone()),
                    "$unset" => UpdateOp::Unset,
                    _ => return Err(bad(operator, "no such operator")),
                };
                update.ops.push((path.clone(), op));
            }
        }
        Ok(update)
    }

    /// `$set`: the field gets this value; missing parents become objects.
    #[must_use]
    pub fn set(self, path: &str, value: impl Into<serde_json::Value>) -> Self {
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

    /// `$push`: appends to an array; a missing field counts as empty.
    #[must_use]
    pub fn push(self, path: &str, value: impl Into<serde_json::Value>) -> Self {
        self.with(path, UpdateOp::Push(value.into()))
    }

    /// The paths this update touches.
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        self.ops.iter().map(|(path, _)| path.as_str())
    }

    fn with(mut self, path: &str, op: UpdateOp) -> Self {
        self.ops.push((path.to_owned(), op));
        self
    }
}

/// The document after the update.
pub(crate) fn apply(document: &[u8], update: &Update, limits: &Limits) -> Result<Vec<u8>, Error> {
    let mut now = Cow::Borrowed(document);
    for (path, op) in &update.ops {
        let steps = split(path)?;
        if steps.first().is_some_and(|s| s == b"_id") {
            return Err(DocumentError::IdChanged.into());
        }
        let mut out = Vec::with_capacity(now.len() + 64);
        edit(&now, &steps, path, op, limits, &mut out)?;
        now = Cow::Owned(out);
    }
    if now.len() > limits.bytes_max {
        return Err(DocumentError::TooLarge { limit: limits.bytes_max }.into());
    }
    Ok(now.into_owned())
}

fn split(path: &str) -> Result<Vec<Vec<u8>>, Error> {
    path.split('.')
        .map(|step| {
            if step.is_empty() {
                return Err(Error::InvalidUpdate {
                    path: path.to_owned(),
                    reason: "a step of the path is empty",
                });
            }
            let mut out = Vec::with_capacity(step.len());
            escape(step, &mut out);
            Ok(out)
        })
        .collect()
}

/// Writes `value` to `out` with the change at `steps` made.
fn edit(
    value: &[u8],
    steps: &[Vec<u8>],
    path: &str,
    op: &UpdateOp,
    limits: &Limits,
    out: &mut Vec<u8>,
) -> Result<(), Error> {
    let refuse = |reason| Error::InvalidUpdate { path: path.to_owned(), reason };
    let Some((step, rest)) = steps.split_first() else {
        return leaf(Some(value), path, op, limits, out);
    };
    match kind(value).ok_or(DocumentError::Malformed)? {
        Kind::Object => {}
        Kind::Array => return edit_array(value, step, rest, path, op, limits, out),
        // Nothing is there to remove, so nothing changes.
        _ if matches!(op, UpdateOp::Unset) => {
            out.extend_from_slice(value);
            return Ok(());
        }
        _ => return Err(refuse("a step of the path is neither object nor array")),
    }
    let removes = rest.is_empty() && matches!(op, UpdateOp::Unset);
    let exists = get(value, step).is_some();
    let mut container = Container::begin(out, true);
    for member in members(value).ok_or(DocumentError::Malformed)? {
        let (name, item) = member.ok_or(DocumentError::Malformed)?;
        if name.escaped == step.as_slice() {
            if removes {
                continue;
            }
            container.next(out);
            put_name(out, name);
            edit(item, rest, path, op, limits, out)?;
        } else {
            container.next(out);
            put_name(out, name);
            out.extend_from_slice(item);
        }
    }
    if !exists && !matches!(op, UpdateOp::Unset) {
        if rest.len() > limits.depth_max {
            return Err(DocumentError::TooDeep { limit: limits.depth_max }.into());
        }
        container.next(out);
        put_name(out, Name { escaped: step, has_escapes: step.contains(&b'\\') });
        create(rest, path, op, limits, out)?;
    }
    container.finish(out).map_err(|_| DocumentError::Malformed.into())
}

fn edit_array(
    value: &[u8],
    step: &[u8],
    rest: &[Vec<u8>],
    path: &str,
    op: &UpdateOp,
    limits: &Limits,
    out: &mut Vec<u8>,
) -> Result<(), Error> {
    let refuse = |reason| Error::InvalidUpdate { path: path.to_owned(), reason };
    let index: usize = std::str::from_utf8(step)
        .ok()
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| refuse("a step into an array is a number"))?;
    let mut container = Container::begin(out, false);
    let mut count = 0;
    for (i, item) in items(value).ok_or(DocumentError::Malformed)?.enumerate() {
        let item = item.ok_or(DocumentError::Malformed)?;
        container.next(out);
        if i != index {
            out.extend_from_slice(item);
        } else if rest.is_empty() && matches!(op, UpdateOp::Unset) {
            // Positions of the others must not move.
            out.push(super::NULL);
        } else {
            edit(item, rest, path, op, limits, out)?;
        }
        count = i + 1;
    }
    if index >= count && !matches!(op, UpdateOp::Unset) {
        if index > count {
            return Err(refuse("the position is beyond the end of the array"));
        }
        container.next(out);
        create(rest, path, op, limits, out)?;
    }
    container.finish(out).map_err(|_| DocumentError::Malformed.into())
}

/// The missing parents, then the leaf.
fn create(
    steps: &[Vec<u8>],
    path: &str,
    op: &UpdateOp,
    limits: &Limits,
    out: &mut Vec<u8>,
) -> Result<(), Error> {
    let Some((step, rest)) = steps.split_first() else {
        return leaf(None, path, op, limits, out);
    };
    let mut container = Container::begin(out, true);
    container.next(out);
    put_name(out, Name { escaped: step, has_escapes: step.contains(&b'\\') });
    create(rest, path, op, limits, out)?;
    container.finish(out).map_err(|_| DocumentError::Malformed.into())
}

fn leaf(
    old: Option<&[u8]>,
    path: &str,
    op: &UpdateOp,
    limits: &Limits,
    out: &mut Vec<u8>,
) -> Result<(), Error> {
    match op {
        UpdateOp::Set(value) => out.extend_from_slice(&from_value(value, limits)?),
        UpdateOp::Unset => {}
        UpdateOp::Inc(by) => arithmetic(old, path, by, i128::checked_add, |a, b| a + b, out)?,
        UpdateOp::Mul(by) => arithmetic(old, path, by, i128::checked_mul, |a, b| a * b, out)?,
        UpdateOp::Min(value) | UpdateOp::Max(value) => {
            let new = from_value(value, limits)?;
            let keep = match old {
                None => false,
                Some(old) => {
                    let (mut a, mut b) = (Vec::new(), Vec::new());
                    crate::key::encode(old, &mut a).ok_or(DocumentError::Malformed)?;
                    crate::key::encode(&new, &mut b).ok_or(DocumentError::Malformed)?;
                    if matches!(op, UpdateOp::Min(_)) { a <= b } else { a >= b }
                }
            };
            out.extend_from_slice(if keep { old.unwrap_or_default() } else { &new });
        }
        UpdateOp::Push(value) => {
            let mut container = Container::begin(out, false);
            if let Some(old) = old {
                let list = items(old).ok_or_else(|| Error::InvalidUpdate {
                    path: path.to_owned(),
                    reason: "the field is not an array",
                })?;
                for item in list {
                    container.next(out);
                    out.extend_from_slice(item.ok_or(DocumentError::Malformed)?);
                }
            }
            container.next(out);
            out.extend_from_slice(&from_value(value, limits)?);
            container.finish(out).map_err(|_| DocumentError::Malformed)?;
        }
    }
    Ok(())
}

fn arithmetic(
    old: Option<&[u8]>,
    path: &str,
    by: &serde_json::Number,
    exact: fn(i128, i128) -> Option<i128>,
    float: fn(f64, f64) -> f64,
    out: &mut Vec<u8>,
) -> Result<(), Error> {
    let refuse = |reason| Error::InvalidUpdate { path: path.to_owned(), reason };
    const ZERO: &[u8] = &[super::INTEGER];
    let old = old.unwrap_or(ZERO);
    let step = by.as_i64().map(i128::from).or_else(|| by.as_u64().map(i128::from));
    if let (Some(a), Some(b)) = (integer(old), step) {
        let sum = exact(a, b).ok_or_else(|| refuse("the result is beyond 64 bits"))?;
        if let Ok(sum) = i64::try_from(sum) {
            put_integer(out, sum);
        } else if let Ok(sum) = u64::try_from(sum) {
            out.push(super::UNSIGNED);
            out.extend_from_slice(&sum.to_le_bytes());
        } else {
            return Err(refuse("the result is beyond 64 bits"));
        }
        return Ok(());
    }
    let a = number(old).ok_or_else(|| refuse("the field is not a number"))?;
    let b = by.as_f64().ok_or_else(|| refuse("the operand is not a number"))?;
    let sum = serde_json::Number::from_f64(float(a, b))
        .ok_or_else(|| refuse("the result is not a finite number"))?;
    out.push(super::DECIMAL);
    put_bytes(out, sum.to_string().as_bytes());
    Ok(())
}

/// The object with one more member in front; for giving a document its `_id`.
pub(crate) fn with_first_member(
    object: &[u8],
    escaped: &[u8],
    value: &[u8],
) -> Result<Vec<u8>, DocumentError> {
    let mut out = Vec::with_capacity(object.len() + value.len() + escaped.len() + CONTAINER_HEAD);
    if object.first() != Some(&OBJECT) {
        return Err(DocumentError::NotAnObject);
    }
    let mut container = Container::begin(&mut out, true);
    container.next(&out);
    put_name(&mut out, Name { escaped, has_escapes: false });
    out.extend_from_slice(value);
    for member in members(object).ok_or(DocumentError::Malformed)? {
        let (name, item) = member.ok_or(DocumentError::Malformed)?;
        container.next(&out);
        put_name(&mut out, name);
        out.extend_from_slice(item);
    }
    container.finish(&mut out).map_err(|_| DocumentError::Malformed)?;
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jb1::{parse, print};
    use serde_json::json;

    #[track_caller]
    #[expect(clippy::needless_pass_by_value, reason = "rows are literals")]
    fn check(document: &str, update: serde_json::Value, want: Result<&str, &str>) {
        let limits = Limits::default();
        let bytes = parse(document.as_bytes(), &limits).unwrap();
        let got = Update::from_json(&update).and_then(|u| apply(&bytes, &u, &limits));
        let got = got.map(|bytes| {
            let mut out = Vec::new();
            print(&bytes, &mut out).unwrap();
            // The result must be exactly what parsing it gives: tables and lengths included.
            assert_eq!(parse(&out, &limits).unwrap(), bytes);
            String::from_utf8(out).unwrap()
        });
        match (&got, want) {
            (Ok(got), Ok(want)) => assert_eq!(got, want),
            (Err(e), Err(want)) => assert!(e.to_string().contains(want), "{e}"),
            _ => panic!("got {got:?}, want {want:?}"),
        }
    }

    #[test]
    fn updates() {
        let doc = r#"{"_id":1,"a":{"b":2},"n":5,"l":[1,2]}"#;
        check(doc, json!({"$set": {"a.b": "x"}}), Ok(r#"{"_id":1,"a":{"b":"x"},"n":5,"l":[1,2]}"#));
        check(
            doc,
            json!({"$set": {"p.q.r": 1}}),
            Ok(r#"{"_id":1,"a":{"b":2},"n":5,"l":[1,2],"p":{"q":{"r":1}}}"#),
        );
        check(doc, json!({"$set": {"l.1": 9}}), Ok(r#"{"_id":1,"a":{"b":2},"n":5,"l":[1,9]}"#));
        check(doc, json!({"$set": {"l.2": 3}}), Ok(r#"{"_id":1,"a":{"b":2},"n":5,"l":[1,2,3]}"#));
        check(doc, json!({"$set": {"l.5": 3}}), Err("beyond the end"));
        check(doc, json!({"$set": {"n.x": 3}}), Err("neither object nor array"));
        check(
            doc,
            json!({"$unset": {"a": 1, "zz.y": 1, "n.x": 1}}),
            Ok(r#"{"_id":1,"n":5,"l":[1,2]}"#),
        );
        check(
            doc,
            json!({"$inc": {"n": 2, "m": -1}}),
            Ok(r#"{"_id":1,"a":{"b":2},"n":7,"l":[1,2],"m":-1}"#),
        );
        check(
            doc,
            json!({"$inc": {"n": i64::MAX}}),
            Ok(r#"{"_id":1,"a":{"b":2},"n":9223372036854775812,"l":[1,2]}"#),
        );
        check(doc, json!({"$inc": {"n": u64::MAX}}), Err("beyond 64 bits"));
        check(doc, json!({"$inc": {"n": 0.5}}), Ok(r#"{"_id":1,"a":{"b":2},"n":5.5,"l":[1,2]}"#));
        check(doc, json!({"$inc": {"a": 1}}), Err("not a number"));
        check(doc, json!({"$mul": {"n": 3}}), Ok(r#"{"_id":1,"a":{"b":2},"n":15,"l":[1,2]}"#));
        check(
            doc,
            json!({"$min": {"n": 3}, "$max": {"a.b": 7}}),
            Ok(r#"{"_id":1,"a":{"b":7},"n":3,"l":[1,2]}"#),
        );
        check(
            doc,
            json!({"$push": {"l": {"x": 1}}}),
            Ok(r#"{"_id":1,"a":{"b":2},"n":5,"l":[1,2,{"x":1}]}"#),
        );
        check(doc, json!({"$push": {"n": 1}}), Err("not an array"));
        check(doc, json!({"$set": {"_id": 2}}), Err("_id"));
        check(doc, json!({"$set": {"a..b": 2}}), Err("empty"));
        check(doc, json!({"$nope": {"a": 2}}), Err("no such operator"));
        let many = r#"{"a":1,"b":2,"c":3,"d":4,"e":5,"f":6,"g":7,"h":8}"#;
        check(
            many,
            json!({"$set": {"i": 9}}),
            Ok(r#"{"a":1,"b":2,"c":3,"d":4,"e":5,"f":6,"g":7,"h":8,"i":9}"#),
        );
        check(
            many,
            json!({"$unset": {"a": 9}}),
            Ok(r#"{"b":2,"c":3,"d":4,"e":5,"f":6,"g":7,"h":8}"#),
        );
    }

    #[test]
    fn an_id_is_put_in_front() {
        let limits = Limits::default();
        let doc = parse(br#"{"a":1,"b":2}"#, &limits).unwrap();
        let id = parse(b"\"x\"", &limits).unwrap();
        let out = with_first_member(&doc, b"_id", &id).unwrap();
        assert_eq!(out, parse(br#"{"_id":"x","a":1,"b":2}"#, &limits).unwrap());
    }
}
