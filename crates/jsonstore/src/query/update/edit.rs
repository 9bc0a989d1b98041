//! One change at a dotted path, by splicing: members that do not change are copied as bytes.

use serde_json::{Number, Value};

use super::{ARRAY_PADDING_MAX, UpdateOp, arrays, refuse, select::is_selector};
use crate::{
    codec::put_bytes,
    error::{DocumentError, Error, Result},
    jb1::{
        self, CONTAINER_HEAD, Container, Kind, Limits, Name, OBJECT, get, integer, items, kind,
        members, number, put_integer, put_name,
    },
    query::{
        order::compare,
        path::{PATH_STEPS_MAX, Path, Step},
    },
};

/// The document after one change; `positions` are the elements that `$[…]` in the path means.
pub(super) fn apply(
    document: &[u8],
    path: &str,
    op: &UpdateOp,
    positions: &[u32],
    limits: &Limits,
) -> Result<Vec<u8>> {
    let steps = split(path)?;
    let mut out = Vec::with_capacity(document.len() + 64);
    let edit = Edit { path, op, limits, depth: steps.len() };
    let width = steps.iter().filter(|step| is_selector(step)).count();
    edit.value(document, &steps, Meant { rows: positions, width, level: 0 }, &mut out)?;
    Ok(out)
}

/// The document with another value at a path, or without any; for computed documents, whose `_id` is
/// a field like others.
pub(crate) fn with_field(
    document: &[u8],
    path: &Path,
    value: Option<&[u8]>,
    limits: &Limits,
) -> Result<Vec<u8>> {
    let op = value.map_or(UpdateOp::Unset, |value| UpdateOp::SetStored(value.to_vec()));
    let mut out = Vec::with_capacity(document.len() + 64);
    let edit = Edit { path: path.as_str(), op: &op, limits, depth: path.steps().len() };
    edit.value(document, path.steps(), Meant::default(), &mut out)?;
    Ok(out)
}

/// `$rename`: neither path may lead through an array.
pub(super) fn rename(document: &[u8], from: &str, to: &str, limits: &Limits) -> Result<Vec<u8>> {
    let (from_steps, to_steps) = (split(from)?, split(to)?);
    through_objects(document, from, &from_steps)?;
    through_objects(document, to, &to_steps)?;
    let Some(value) = through_objects(document, from, &from_steps)? else {
        return Ok(document.to_vec());
    };
    let value = value.to_vec();
    let without = apply(document, from, &UpdateOp::Unset, &[], limits)?;
    apply(&without, to, &UpdateOp::SetStored(value), &[], limits)
}

fn through_objects<'a>(document: &'a [u8], path: &str, steps: &[Step]) -> Result<Option<&'a [u8]>> {
    let mut at = Some(document);
    for step in steps {
        if is_selector(step) {
            return Err(refuse(path, "a field in an array cannot be renamed"));
        }
        at = match at {
            Some(value) if kind(value) == Some(Kind::Array) => {
                return Err(refuse(path, "a field in an array cannot be renamed"));
            }
            Some(value) => get(value, &step.escaped),
            None => None,
        };
    }
    Ok(at)
}

fn split(path: &str) -> Result<Vec<Step>> {
    let mut steps = Vec::new();
    for step in path.split('.') {
        if step.is_empty() {
            return Err(refuse(path, "a step of the path is empty"));
        }
        if step == "$" {
            return Err(refuse(
                path,
                "$ stands for what one filter found, once and after an array",
            ));
        }
        let selects = step.starts_with("$[") && step.ends_with(']') && !steps.is_empty();
        if step.starts_with('$') && !selects {
            return Err(refuse(path, "a step of the path begins with $"));
        }
        if steps.len() == PATH_STEPS_MAX {
            return Err(DocumentError::TooDeep { limit: PATH_STEPS_MAX }.into());
        }
        steps.push(Step::new(step));
    }
    if steps.first().is_some_and(|step| *step.escaped == *b"_id") {
        return Err(DocumentError::IdChanged.into());
    }
    Ok(steps)
}

/// The elements that the selectors of a path mean below one place of the document.
#[derive(Clone, Copy, Default)]
struct Meant<'a> {
    /// In their order; of each the positions in all arrays on the way.
    rows: &'a [u32],
    width: usize,
    /// The selectors that lie above.
    level: usize,
}

impl<'a> Meant<'a> {
    /// Takes those in this element of the array; elements are asked in their order.
    fn take(&mut self, index: usize) -> Option<Self> {
        let is_here = |row: &[u32]| row.get(self.level).is_some_and(|&at| at as usize == index);
        if !is_here(self.rows) {
            return None;
        }
        let count = self.rows.chunks_exact(self.width).take_while(|row| is_here(row)).count();
        let (here, rest) = self.rows.split_at(count * self.width);
        self.rows = rest;
        Some(Self { rows: here, level: self.level + 1, width: self.width })
    }
}

struct Edit<'a> {
    path: &'a str,
    op: &'a UpdateOp,
    limits: &'a Limits,
    /// Containers around the field.
    depth: usize,
}

impl Edit<'_> {
    /// Writes `value` to `out` with the change at `steps` made.
    fn value(
        &self,
        value: &[u8],
        steps: &[Step],
        meant: Meant<'_>,
        out: &mut Vec<u8>,
    ) -> Result<()> {
        let Some((step, rest)) = steps.split_first() else {
            return self.leaf(Some(value), out);
        };
        match kind(value).ok_or(DocumentError::Malformed)? {
            Kind::Array if is_selector(step) => self.each(value, rest, meant, out),
            _ if is_selector(step) => Err(self.refuse("what should be an array is none")),
            Kind::Object => self.object(value, step, rest, meant, out),
            Kind::Array => self.array(value, step, rest, meant, out),
            // Nothing is there to change.
            _ if !self.op.creates() => {
                out.extend_from_slice(value);
                Ok(())
            }
            _ => Err(self.refuse("a step of the path is neither object nor array")),
        }
    }

    fn object(
        &self,
        value: &[u8],
        step: &Step,
        rest: &[Step],
        meant: Meant<'_>,
        out: &mut Vec<u8>,
    ) -> Result<()> {
        let old = get(value, &step.escaped);
        let removes = rest.is_empty() && matches!(self.op, UpdateOp::Unset);
        if let (Some(old), false) = (old, removes) {
            return self.replace(value, old, rest, meant, out);
        }
        let mut container = Container::begin(out, true);
        for member in members(value).ok_or(DocumentError::Malformed)? {
            let (name, item) = member.ok_or(DocumentError::Malformed)?;
            if old.is_some() && name.escaped == &*step.escaped {
                continue;
            }
            container.next(out);
            put_name(out, name);
            out.extend_from_slice(item);
        }
        if old.is_none() && self.op.creates() {
            container.next(out);
            put_name(out, name_of(step));
            self.create(rest, out)?;
        }
        container.finish(out).map_err(|_| DocumentError::Malformed.into())
    }

    /// The object with a value of it changed: what lies around that is copied whole, as no name comes or goes.
    fn replace(
        &self,
        object: &[u8],
        old: &[u8],
        rest: &[Step],
        meant: Meant<'_>,
        out: &mut Vec<u8>,
    ) -> Result<()> {
        let start = out.len();
        let from = old.as_ptr().addr() - object.as_ptr().addr();
        out.extend_from_slice(&object[..from]);
        self.value(old, rest, meant, out)?;
        let end = out.len() - start;
        out.extend_from_slice(&object[from + old.len()..]);
        jb1::shift(&mut out[start..], from + old.len(), end)
            .ok_or_else(|| DocumentError::Malformed.into())
    }

    fn array(
        &self,
        value: &[u8],
        step: &Step,
        rest: &[Step],
        meant: Meant<'_>,
        out: &mut Vec<u8>,
    ) -> Result<()> {
        let index = match step.index {
            Some(index) => index,
            None if self.op.creates() => {
                return Err(self.refuse("a step into an array is a number"));
            }
            None => {
                out.extend_from_slice(value);
                return Ok(());
            }
        };
        let mut container = Container::begin(out, false);
        let mut count = 0;
        for (i, item) in items(value).ok_or(DocumentError::Malformed)?.enumerate() {
            let item = item.ok_or(DocumentError::Malformed)?;
            container.next(out);
            if i != index {
                out.extend_from_slice(item);
            } else if rest.is_empty() && matches!(self.op, UpdateOp::Unset) {
                // Positions of the others must not move.
                out.push(jb1::NULL);
            } else {
                self.value(item, rest, meant, out)?;
            }
            count = i + 1;
        }
        if index >= count && self.op.creates() {
            if index - count > ARRAY_PADDING_MAX {
                return Err(self.refuse("the position is too far beyond the end of the array"));
            }
            for _ in count..index {
                container.next(out);
                out.push(jb1::NULL);
            }
            container.next(out);
            self.create(rest, out)?;
        }
        container.finish(out).map_err(|_| DocumentError::Malformed.into())
    }

    /// The elements of an array that a selector means.
    fn each(
        &self,
        value: &[u8],
        rest: &[Step],
        mut meant: Meant<'_>,
        out: &mut Vec<u8>,
    ) -> Result<()> {
        let mut container = Container::begin(out, false);
        for (i, item) in items(value).ok_or(DocumentError::Malformed)?.enumerate() {
            let item = item.ok_or(DocumentError::Malformed)?;
            container.next(out);
            match meant.take(i) {
                None => out.extend_from_slice(item),
                Some(_) if rest.is_empty() && matches!(self.op, UpdateOp::Unset) => {
                    out.push(jb1::NULL);
                }
                Some(meant) => self.value(item, rest, meant, out)?,
            }
        }
        container.finish(out).map_err(|_| DocumentError::Malformed.into())
    }

    /// The missing parents, then the field.
    fn create(&self, steps: &[Step], out: &mut Vec<u8>) -> Result<()> {
        let Some((step, rest)) = steps.split_first() else {
            return self.leaf(None, out);
        };
        if is_selector(step) {
            return Err(self.refuse("there is no array whose elements could change"));
        }
        let mut container = Container::begin(out, true);
        container.next(out);
        put_name(out, name_of(step));
        self.create(rest, out)?;
        container.finish(out).map_err(|_| DocumentError::Malformed.into())
    }

    fn leaf(&self, old: Option<&[u8]>, out: &mut Vec<u8>) -> Result<()> {
        let path = self.path;
        match self.op {
            UpdateOp::AddToSet(_)
            | UpdateOp::Pop { .. }
            | UpdateOp::Pull(_)
            | UpdateOp::Push(_) => arrays::change(old, path, self.depth, self.op, self.limits, out),
            // Stamped before; without a clock there is nothing to write.
            UpdateOp::CurrentDate(_) => Err(self.refuse("the time is not known here")),
            UpdateOp::Inc(by) => arithmetic(old, path, by, i128::checked_add, |a, b| a + b, out),
            UpdateOp::Max(value) => self.extreme(old, value, false, out),
            UpdateOp::Min(value) => self.extreme(old, value, true, out),
            UpdateOp::Mul(by) => arithmetic(old, path, by, i128::checked_mul, |a, b| a * b, out),
            UpdateOp::Set(value) => put(value, self.depth, self.limits, out),
            UpdateOp::SetStored(value) => {
                if self.depth + jb1::depth(value) > self.limits.depth_max {
                    return Err(DocumentError::TooDeep { limit: self.limits.depth_max }.into());
                }
                out.extend_from_slice(value);
                Ok(())
            }
            UpdateOp::Unset => Ok(()),
        }
    }

    fn extreme(
        &self,
        old: Option<&[u8]>,
        value: &Value,
        smallest: bool,
        out: &mut Vec<u8>,
    ) -> Result<()> {
        let mut new = Vec::new();
        put(value, self.depth, self.limits, &mut new)?;
        let kept = old.filter(|old| {
            let order = compare(old, &new);
            if smallest { order.is_le() } else { order.is_ge() }
        });
        out.extend_from_slice(kept.unwrap_or(&new));
        Ok(())
    }

    fn refuse(&self, reason: &'static str) -> Error {
        refuse(self.path, reason)
    }
}

impl UpdateOp {
    /// False if the operator leaves a field alone that is not there.
    fn creates(&self) -> bool {
        !matches!(self, Self::Pop { .. } | Self::Pull(_) | Self::Unset)
    }
}

/// Appends a value that has `depth` containers around it.
pub(super) fn put(value: &Value, depth: usize, limits: &Limits, out: &mut Vec<u8>) -> Result<()> {
    let left = limits.depth_max.saturating_sub(depth);
    let inside = Limits { depth_max: left, bytes_max: limits.bytes_max };
    let bytes = jb1::from_value(value, &inside).map_err(|error| match error {
        DocumentError::TooDeep { .. } => DocumentError::TooDeep { limit: limits.depth_max },
        error => error,
    })?;
    out.extend_from_slice(&bytes);
    Ok(())
}

fn name_of(step: &Step) -> Name<'_> {
    Name { escaped: &step.escaped, has_escapes: step.escaped.contains(&b'\\') }
}

fn arithmetic(
    old: Option<&[u8]>,
    path: &str,
    by: &Number,
    exact: fn(i128, i128) -> Option<i128>,
    float: fn(f64, f64) -> f64,
    out: &mut Vec<u8>,
) -> Result<()> {
    const ZERO: &[u8] = &[jb1::INTEGER];
    let old = old.unwrap_or(ZERO);
    let step = by.as_i64().map(i128::from).or_else(|| by.as_u64().map(i128::from));
    if let (Some(a), Some(b)) = (integer(old), step) {
        let sum = exact(a, b).ok_or_else(|| refuse(path, "the result is beyond 64 bits"))?;
        if let Ok(sum) = i64::try_from(sum) {
            put_integer(out, sum);
        } else if let Ok(sum) = u64::try_from(sum) {
            out.push(jb1::UNSIGNED);
            out.extend_from_slice(&sum.to_le_bytes());
        } else {
            return Err(refuse(path, "the result is beyond 64 bits"));
        }
        return Ok(());
    }
    let a = number(old).ok_or_else(|| refuse(path, "the field is not a number"))?;
    let b = by.as_f64().ok_or_else(|| refuse(path, "the operand is not a number"))?;
    let sum = Number::from_f64(float(a, b))
        .ok_or_else(|| refuse(path, "the result is not a finite number"))?;
    out.push(jb1::DECIMAL);
    put_bytes(out, sum.to_string().as_bytes());
    Ok(())
}

/// The object with one more member in front; for giving a document its `_id`.
pub(crate) fn with_first_member(
    object: &[u8],
    escaped: &[u8],
    value: &[u8],
) -> std::result::Result<Vec<u8>, DocumentError> {
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
    use super::{
        super::{Update, apply},
        *,
    };
    use crate::jb1::{parse, print};
    use serde_json::json;

    #[track_caller]
    #[expect(clippy::needless_pass_by_value, reason = "rows are literals")]
    fn check(document: &str, update: Value, want: std::result::Result<&str, &str>) {
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
        check(
            doc,
            json!({"$set": {"l.4": 3}}),
            Ok(r#"{"_id":1,"a":{"b":2},"n":5,"l":[1,2,null,null,3]}"#),
        );
        check(doc, json!({"$set": {"l.5000": 3}}), Err("beyond the end"));
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
        // Longer and shorter; first, last and in between; with and without a table.
        for name in ["a", "d", "h"] {
            for value in [json!("long enough"), json!(null), json!({"x": [1]})] {
                let mut want: serde_json::Map<String, Value> = serde_json::from_str(many).unwrap();
                want[name] = value.clone();
                let want = Value::Object(want).to_string();
                check(many, json!({"$set": {name: value}}), Ok(&want));
                let inside = |text: &str| format!(r#"{{"l":0,"m":{text},"n":1}}"#);
                let path = format!("m.{name}");
                check(&inside(many), json!({"$set": {path: value}}), Ok(&inside(&want)));
            }
        }
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
