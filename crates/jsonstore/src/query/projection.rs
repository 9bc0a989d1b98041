//! Which parts of a document come back.

use std::{fmt, sync::Arc};

use serde_json::Value;

use super::{
    expression::{Expression, name_of},
    filter::{ElemMatch, pull_condition},
    path::{Path, Step},
};
use crate::{
    error::{DocumentError, Error, Result},
    jb1::{self, Container, Kind, Limits},
};

/// Paths of one projection.
pub(crate) const PROJECTION_FIELDS_MAX: usize = 1024;

/// Which fields of a document come back: those named, or all but those named.
///
/// `{"name": 1, "address.city": 1}` includes, `{"password": 0}` excludes, a list of names includes as
/// well. `_id` comes unless it is excluded. Further: `{"$slice": n}` and `{"$slice": [skip, n]}` of an
/// array, `{"$elemMatch": filter}` for its first element that matches, and computed fields:
/// `{"total": {"$multiply": ["$price", "$quantity"]}}`.
///
/// ```
/// use hearth_jsonstore::Projection;
/// use serde_json::json;
///
/// let projection = Projection::from_json(&json!({"name": 1, "tags": {"$slice": 1}}))?;
/// let document = json!({"_id": 1, "name": "a", "tags": ["x", "y"], "secret": true});
/// assert_eq!(projection.apply_json(&document)?, json!({"_id": 1, "name": "a", "tags": ["x"]}));
/// # hearth_jsonstore::Result::Ok(())
/// ```
#[derive(Clone)]
pub struct Projection {
    root: Arc<Vec<(Step, Part)>>,
    includes: bool,
    paths: Arc<[Path]>,
    is_computed: bool,
}

/// What becomes of a field.
#[derive(Debug)]
enum Part {
    Computed(Expression),
    ElemMatch(ElemMatch),
    Inside(Vec<(Step, Part)>),
    /// Included or excluded, as the projection is.
    Named,
    /// The other way round; only `_id` of a projection that includes.
    Not,
    Slice(Slice),
}

/// So many elements, after those skipped; a negative number counts from the end.
#[derive(Debug, Clone, Copy)]
struct Slice {
    skip: Option<i64>,
    count: i64,
}

impl Projection {
    /// # Errors
    /// `InvalidFilter`: fields both included and excluded, a field and a part of it, an unknown
    /// operator, one of the limits.
    pub fn from_json(value: &Value) -> Result<Self> {
        let mut fields = Vec::new();
        match value {
            Value::Array(names) => {
                for name in names {
                    let name =
                        name.as_str().ok_or_else(|| bad("", "a list holds names of fields"))?;
                    fields.push((name, Part::Named, Some(true)));
                }
            }
            Value::Object(members) => {
                for (name, value) in members {
                    let (part, includes) = parse_part(name, value)?;
                    fields.push((name.as_str(), part, includes));
                }
            }
            _ => return Err(bad("", "a projection is an object or a list of names")),
        }
        if fields.len() > PROJECTION_FIELDS_MAX {
            let reason = format!("a projection has at most {PROJECTION_FIELDS_MAX} fields");
            return Err(bad("", &reason));
        }
        let others = || fields.iter().filter(|(name, ..)| *name != "_id");
        let includes = match others().find_map(|(.., includes)| *includes) {
            Some(includes) => includes,
            // Only `_id`, or fields that take part either way.
            None => fields.iter().find_map(|(.., includes)| *includes).unwrap_or(false),
        };
        if let Some((name, ..)) = others().find(|(.., other)| other.is_some_and(|o| o != includes))
        {
            return Err(bad(name, "fields are either included or excluded, not both"));
        }
        Self::build(fields, includes)
    }

    /// All of the document, with fields computed anew: `$addFields`.
    pub(crate) fn computed(value: &Value) -> Result<Self> {
        let members = value.as_object().ok_or_else(|| bad("", "the operand is an object"))?;
        let mut fields = Vec::new();
        for (name, value) in members {
            fields.push((name.as_str(), Part::Computed(Expression::from_json(value)?), None));
        }
        Self::build(fields, false)
    }

    fn build(fields: Vec<(&str, Part, Option<bool>)>, includes: bool) -> Result<Self> {
        let mut root = Vec::new();
        let mut paths = Vec::new();
        let mut is_computed = false;
        for (name, part, wanted) in fields {
            let path = Path::parse(name)?;
            is_computed |= !matches!(part, Part::Named | Part::Not);
            let part = match (wanted, part) {
                (Some(wanted), Part::Named) if wanted != includes => Part::Not,
                (_, part) => {
                    paths.push(path.clone());
                    part
                }
            };
            insert(&mut root, path.steps(), part).map_err(|reason| bad(name, reason))?;
        }
        let id = Step::new("_id");
        if includes && !root.iter().any(|(step, _)| *step == id) {
            root.push((id, Part::Named));
            paths.push(Path::parse("_id")?);
        }
        Ok(Self { root: Arc::new(root), includes, paths: paths.into(), is_computed })
    }

    /// What comes back of a document.
    ///
    /// # Errors
    /// `Document` if it could not be stored.
    pub fn apply_json(&self, document: &Value) -> Result<Value> {
        let bytes = jb1::from_value(document, &Limits::default())?;
        super::to_value(&self.apply(&bytes)?).ok_or_else(|| DocumentError::Malformed.into())
    }

    pub(crate) fn apply(&self, document: &[u8]) -> Result<Vec<u8>> {
        let mut out = Vec::with_capacity(document.len() + 16);
        self.put(document, &self.root, document, &mut out).ok_or(DocumentError::Malformed)?;
        Ok(out)
    }

    /// The paths from which everything can be answered; `None` if it takes the whole document. An
    /// index that holds them covers the query.
    pub(crate) fn fields(&self) -> Option<&[Path]> {
        (self.includes && !self.is_computed).then_some(&*self.paths)
    }

    /// Writes the object with `parts` treated.
    fn put(
        &self,
        object: &[u8],
        parts: &[(Step, Part)],
        root: &[u8],
        out: &mut Vec<u8>,
    ) -> Option<()> {
        let mut container = Container::begin(out, true);
        let mut computed_inside = Vec::new();
        for member in jb1::members(object)? {
            let (name, item) = member?;
            let part = parts.iter().find(|(step, _)| *step.escaped == *name.escaped);
            let keeps = match part.map(|(_, part)| part) {
                None => !self.includes,
                Some(Part::Computed(_)) => false,
                Some(Part::Named) => self.includes,
                Some(Part::Not) => !self.includes,
                Some(Part::Slice(_)) => true,
                Some(Part::ElemMatch(of)) => first_match(item, of).is_some(),
                Some(Part::Inside(inside)) => match jb1::kind(item)? {
                    Kind::Object | Kind::Array => true,
                    // A computed field makes an object of it.
                    _ if makes(inside) => false,
                    _ => !self.includes,
                },
            };
            if !keeps {
                continue;
            }
            container.next(out);
            jb1::put_name(out, name);
            match part {
                Some((step, Part::Inside(inside))) => {
                    computed_inside.push(step);
                    self.put_inside(item, inside, root, out)?;
                }
                Some((_, Part::Slice(slice))) => slice.put(item, out)?,
                Some((_, Part::ElemMatch(of))) => {
                    let mut list = Container::begin(out, false);
                    list.next(out);
                    out.extend_from_slice(first_match(item, of)?);
                    list.finish(out).ok()?;
                }
                _ => out.extend_from_slice(item),
            }
        }
        for (step, part) in parts {
            match part {
                Part::Computed(expression) => {
                    if let Some(value) = expression.eval(root) {
                        container.next(out);
                        jb1::put_name(out, name_of(step));
                        out.extend_from_slice(&value);
                    }
                }
                Part::Inside(inside) if makes(inside) && !computed_inside.contains(&step) => {
                    container.next(out);
                    jb1::put_name(out, name_of(step));
                    self.put(EMPTY_OBJECT, inside, root, out)?;
                }
                _ => {}
            }
        }
        container.finish(out).ok()
    }

    /// An array is treated element by element.
    fn put_inside(
        &self,
        value: &[u8],
        parts: &[(Step, Part)],
        root: &[u8],
        out: &mut Vec<u8>,
    ) -> Option<()> {
        match jb1::kind(value)? {
            Kind::Object => return self.put(value, parts, root, out),
            Kind::Array => {}
            _ => {
                out.extend_from_slice(value);
                return Some(());
            }
        }
        let mut container = Container::begin(out, false);
        for item in jb1::items(value)? {
            let item = item?;
            let is_nested = matches!(jb1::kind(item)?, Kind::Object | Kind::Array);
            if is_nested {
                container.next(out);
                self.put_inside(item, parts, root, out)?;
            } else if makes(parts) {
                container.next(out);
                self.put(EMPTY_OBJECT, parts, root, out)?;
            } else if !self.includes {
                container.next(out);
                out.extend_from_slice(item);
            }
        }
        container.finish(out).ok()
    }
}

impl fmt::Debug for Projection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Projection");
        shown.field("includes", &self.includes).field("root", &self.root).finish()
    }
}

impl Slice {
    fn parse(name: &str, value: &Value) -> Result<Self> {
        let numbers = match value {
            Value::Array(pair) => pair.iter().map(Value::as_i64).collect(),
            one => vec![one.as_i64()],
        };
        match numbers.as_slice() {
            [Some(count)] if !value.is_array() => Ok(Self { skip: None, count: *count }),
            [Some(skip), Some(count)] if *count > 0 => {
                Ok(Self { skip: Some(*skip), count: *count })
            }
            _ => {
                Err(bad(name, "$slice takes a number, or how many to skip and how many to return"))
            }
        }
    }

    fn put(self, value: &[u8], out: &mut Vec<u8>) -> Option<()> {
        let Some(count) = jb1::count(value).map(i64::from) else {
            out.extend_from_slice(value);
            return Some(());
        };
        let from_end = |n: i64| count.saturating_add(n).max(0);
        let (from, to) = match self.skip {
            None if self.count < 0 => (from_end(self.count), count),
            None => (0, self.count),
            Some(skip) => {
                let from = if skip < 0 { from_end(skip) } else { skip };
                (from, from.saturating_add(self.count))
            }
        };
        let mut container = Container::begin(out, false);
        for (i, item) in (0..).zip(jb1::items(value)?) {
            if (from..to).contains(&i) {
                container.next(out);
                out.extend_from_slice(item?);
            }
        }
        container.finish(out).ok()
    }
}

/// The part, and whether it includes or excludes the field or leaves that to the others.
fn parse_part(name: &str, value: &Value) -> Result<(Part, Option<bool>)> {
    match value {
        Value::Bool(yes) => return Ok((Part::Named, Some(*yes))),
        Value::Number(number) => return Ok((Part::Named, Some(number.as_f64() != Some(0.0)))),
        Value::Object(members) if members.len() == 1 => {
            if let Some(slice) = members.get("$slice") {
                return Ok((Part::Slice(Slice::parse(name, slice)?), None));
            }
            if let Some(condition) = members.get("$elemMatch") {
                return Ok((Part::ElemMatch(pull_condition(condition)?), Some(true)));
            }
        }
        _ => {}
    }
    Ok((Part::Computed(Expression::from_json(value)?), Some(true)))
}

fn insert(
    parts: &mut Vec<(Step, Part)>,
    steps: &[Step],
    part: Part,
) -> std::result::Result<(), &'static str> {
    const CLASH: &str = "the field is named twice, or a part of it is";
    let Some((step, rest)) = steps.split_first() else { return Err(CLASH) };
    let at = parts.iter().position(|(other, _)| other == step);
    match (at, rest.is_empty()) {
        (None, true) => parts.push((step.clone(), part)),
        (None, false) => {
            let mut inside = Vec::new();
            insert(&mut inside, rest, part)?;
            parts.push((step.clone(), Part::Inside(inside)));
        }
        (Some(at), false) => match &mut parts[at].1 {
            Part::Inside(inside) => insert(inside, rest, part)?,
            _ => return Err(CLASH),
        },
        (Some(_), true) => return Err(CLASH),
    }
    Ok(())
}

/// True if a field is computed in there, so that what is missing around it is made.
fn makes(parts: &[(Step, Part)]) -> bool {
    parts.iter().any(|(_, part)| match part {
        Part::Computed(_) => true,
        Part::Inside(inside) => makes(inside),
        _ => false,
    })
}

fn first_match<'a>(array: &'a [u8], of: &ElemMatch) -> Option<&'a [u8]> {
    jb1::items(array)?.flatten().find(|item| of.holds_of(item))
}

fn bad(path: &str, reason: &str) -> Error {
    Error::InvalidFilter { path: path.to_owned(), reason: reason.to_owned() }
}

const EMPTY_OBJECT: &[u8] = &[jb1::OBJECT, 0, 0, 0, 0, 0, 0, 0, 0];
