//! RFC 6902 JSON Patch on JB1.

use serde_json::{Map, Value};

use super::{UPDATE_OPERATIONS_MAX, merge::is_plain, refuse};
use crate::{
    error::{DocumentError, Error, Result},
    jb1::{self, Container, Kind, Limits, Name, put_name},
    query::{
        order::compare,
        path::{PATH_STEPS_MAX, Step},
    },
};

/// A parsed JSON Patch.
#[derive(Debug)]
pub(crate) struct JsonPatch {
    operations: Vec<Operation>,
}

#[derive(Debug)]
enum Operation {
    Add { at: Pointer, value: Vec<u8> },
    Copy { from: Pointer, to: Pointer },
    Move { from: Pointer, to: Pointer },
    Remove { at: Pointer },
    Replace { at: Pointer, value: Vec<u8> },
    Test { at: Pointer, value: Vec<u8> },
}

/// RFC 6901.
#[derive(Debug, Clone)]
struct Pointer {
    text: Box<str>,
    names: Vec<Box<str>>,
    steps: Vec<Step>,
}

/// What happens where a pointer leads.
#[derive(Clone, Copy)]
enum Change<'a> {
    /// Adds a member, or sets it if it is there; moves the elements of an array apart.
    Insert(&'a [u8]),
    Remove,
    Replace(&'a [u8]),
}

impl JsonPatch {
    pub(crate) fn from_json(patch: &Value) -> Result<Self> {
        let list = patch.as_array().ok_or_else(|| refuse("", "a JSON Patch is an array"))?;
        if list.len() > UPDATE_OPERATIONS_MAX {
            return Err(refuse("", "the patch has more than 1024 operations"));
        }
        let operations = list.iter().map(Operation::from_json).collect::<Result<_>>()?;
        Ok(Self { operations })
    }

    /// The value after all operations.
    pub(crate) fn apply(&self, document: &[u8], limits: &Limits) -> Result<Vec<u8>> {
        let mut now = document.to_vec();
        for operation in &self.operations {
            if let Some(after) = operation.apply(&now)? {
                now = after;
            }
            // At once: a patch that copies a value into itself doubles it each time.
            if now.len() > limits.bytes_max {
                return Err(DocumentError::TooLarge { limit: limits.bytes_max }.into());
            }
            if jb1::depth(&now) > limits.depth_max {
                return Err(DocumentError::TooDeep { limit: limits.depth_max }.into());
            }
        }
        Ok(now)
    }

    /// What the patch reads or writes, as dotted paths; the empty one is the whole document.
    pub(super) fn paths(&self) -> Vec<String> {
        let mut paths = Vec::new();
        for operation in &self.operations {
            match operation {
                Operation::Add { at, .. } | Operation::Remove { at } => paths.push(at.area()),
                Operation::Copy { from, to } => paths.extend([from.dotted(), to.area()]),
                Operation::Move { from, to } => paths.extend([from.area(), to.area()]),
                Operation::Replace { at, .. } | Operation::Test { at, .. } => {
                    paths.push(at.dotted());
                }
            }
        }
        paths.sort_unstable();
        paths.dedup();
        paths
    }
}

impl Operation {
    fn from_json(value: &Value) -> Result<Self> {
        let Some(members) = value.as_object() else {
            return Err(refuse("", "an operation of a patch is an object"));
        };
        let at = pointer(members, "path")?;
        let op = members.get("op").and_then(Value::as_str);
        match op {
            Some("add") => Ok(Self::Add { value: operand(members, &at)?, at }),
            Some("copy") => Ok(Self::Copy { from: pointer(members, "from")?, to: at }),
            Some("move") => {
                let from = pointer(members, "from")?;
                if from.names.len() < at.names.len() && at.names.starts_with(&from.names) {
                    return Err(refuse(&at.text, "a value cannot move into itself"));
                }
                Ok(Self::Move { from, to: at })
            }
            Some("remove") => Ok(Self::Remove { at }),
            Some("replace") => Ok(Self::Replace { value: operand(members, &at)?, at }),
            Some("test") => Ok(Self::Test { value: operand(members, &at)?, at }),
            _ => Err(refuse(&at.text, "op is add, copy, move, remove, replace or test")),
        }
    }

    /// `None` if nothing changes.
    fn apply(&self, document: &[u8]) -> Result<Option<Vec<u8>>> {
        match self {
            Self::Add { at, value } => at.change(document, Change::Insert(value)),
            Self::Copy { from, to } => to.change(document, Change::Insert(from.get(document)?)),
            Self::Move { from, to } => {
                let value = from.get(document)?.to_vec();
                if from.names == to.names {
                    return Ok(None);
                }
                let without = from.change(document, Change::Remove)?.unwrap_or_default();
                to.change(&without, Change::Insert(&value))
            }
            Self::Remove { at } => at.change(document, Change::Remove),
            Self::Replace { at, value } => at.change(document, Change::Replace(value)),
            Self::Test { at, value } => {
                if compare(at.get(document)?, value).is_ne() {
                    return Err(Error::TestFailed { pointer: at.text.to_string() });
                }
                Ok(None)
            }
        }
    }
}

fn pointer(members: &Map<String, Value>, name: &str) -> Result<Pointer> {
    match members.get(name).and_then(Value::as_str) {
        Some(text) => Pointer::parse(text),
        None => Err(refuse(name, "an operation of a patch lacks a pointer")),
    }
}

fn operand(members: &Map<String, Value>, at: &Pointer) -> Result<Vec<u8>> {
    let value = members.get("value").ok_or_else(|| refuse(&at.text, "the value is missing"))?;
    Ok(jb1::from_value(value, &Limits::default())?)
}

impl Pointer {
    fn parse(text: &str) -> Result<Self> {
        let mut names = Vec::new();
        let mut steps = Vec::new();
        if let Some(rest) = text.strip_prefix('/') {
            for token in rest.split('/') {
                if names.len() == PATH_STEPS_MAX {
                    return Err(DocumentError::TooDeep { limit: PATH_STEPS_MAX }.into());
                }
                let escapes = token.match_indices('~');
                if escapes
                    .into_iter()
                    .any(|(at, _)| !matches!(token.as_bytes().get(at + 1), Some(b'0' | b'1')))
                {
                    return Err(refuse(text, "~ is followed by 0 or 1 in a pointer"));
                }
                let name = token.replace("~1", "/").replace("~0", "~");
                steps.push(Step::new(&name));
                names.push(name.into());
            }
        } else if !text.is_empty() {
            return Err(refuse(text, "a pointer is empty or begins with /"));
        }
        Ok(Self { text: text.into(), names, steps })
    }

    fn get<'a>(&self, document: &'a [u8]) -> Result<&'a [u8]> {
        let mut at = document;
        for step in &self.steps {
            let next = match jb1::kind(at) {
                Some(Kind::Object) => jb1::get(at, &step.escaped),
                Some(Kind::Array) => step.index.and_then(|i| jb1::items(at)?.nth(i)?),
                _ => None,
            };
            at = next.ok_or_else(|| self.missing())?;
        }
        Ok(at)
    }

    fn change(&self, document: &[u8], change: Change<'_>) -> Result<Option<Vec<u8>>> {
        let mut out = Vec::with_capacity(document.len() + 64);
        match (self.steps.is_empty(), change) {
            (true, Change::Insert(value) | Change::Replace(value)) => out.extend_from_slice(value),
            (true, Change::Remove) => {
                return Err(self.refuse("the whole document cannot be removed"));
            }
            (false, change) => self.put(document, &self.steps, change, &mut out)?,
        }
        Ok(Some(out))
    }

    /// Writes `value` to `out`, changed at `steps`, of which there is at least one.
    fn put(
        &self,
        value: &[u8],
        steps: &[Step],
        change: Change<'_>,
        out: &mut Vec<u8>,
    ) -> Result<()> {
        let Some((step, rest)) = steps.split_first() else { return Ok(()) };
        match jb1::kind(value) {
            Some(Kind::Object) => self.put_object(value, step, rest, change, out),
            Some(Kind::Array) => self.put_array(value, step, rest, change, out),
            _ => Err(self.missing()),
        }
    }

    fn put_object(
        &self,
        value: &[u8],
        step: &Step,
        rest: &[Step],
        change: Change<'_>,
        out: &mut Vec<u8>,
    ) -> Result<()> {
        let mut exists = false;
        let mut container = Container::begin(out, true);
        for member in jb1::members(value).ok_or(DocumentError::Malformed)? {
            let (name, item) = member.ok_or(DocumentError::Malformed)?;
            let is_here = name.escaped == &*step.escaped;
            exists |= is_here;
            if is_here && rest.is_empty() && matches!(change, Change::Remove) {
                continue;
            }
            container.next(out);
            put_name(out, name);
            match (is_here, rest.is_empty(), change) {
                (false, ..) => out.extend_from_slice(item),
                (true, true, Change::Insert(new) | Change::Replace(new)) => {
                    out.extend_from_slice(new);
                }
                (true, _, change) => self.put(item, rest, change, out)?,
            }
        }
        if !exists {
            match change {
                Change::Insert(new) if rest.is_empty() => {
                    container.next(out);
                    let has_escapes = step.escaped.contains(&b'\\');
                    put_name(out, Name { escaped: &step.escaped, has_escapes });
                    out.extend_from_slice(new);
                }
                _ => return Err(self.missing()),
            }
        }
        container.finish(out).map_err(|_| DocumentError::Malformed.into())
    }

    fn put_array(
        &self,
        value: &[u8],
        step: &Step,
        rest: &[Step],
        change: Change<'_>,
        out: &mut Vec<u8>,
    ) -> Result<()> {
        let count = jb1::count(value).unwrap_or(0) as usize;
        let inserts = rest.is_empty() && matches!(change, Change::Insert(_));
        let index = match step.index {
            Some(index) => index,
            None if inserts && *step.escaped == *b"-" => count,
            None => return Err(self.refuse("a position in an array is a number")),
        };
        if index > count || (index == count && !inserts) {
            return Err(self.missing());
        }
        let mut container = Container::begin(out, false);
        for (i, item) in jb1::items(value).ok_or(DocumentError::Malformed)?.enumerate() {
            let item = item.ok_or(DocumentError::Malformed)?;
            if i != index {
                container.next(out);
                out.extend_from_slice(item);
                continue;
            }
            match (rest.is_empty(), change) {
                (true, Change::Remove) => {}
                (true, Change::Replace(new)) => {
                    container.next(out);
                    out.extend_from_slice(new);
                }
                (true, Change::Insert(new)) => {
                    for item in [new, item] {
                        container.next(out);
                        out.extend_from_slice(item);
                    }
                }
                (false, change) => {
                    container.next(out);
                    self.put(item, rest, change, out)?;
                }
            }
        }
        if let (true, Change::Insert(new)) = (index == count, change) {
            container.next(out);
            out.extend_from_slice(new);
        }
        container.finish(out).map_err(|_| DocumentError::Malformed.into())
    }

    /// The dotted path, up to the first name that none can hold.
    fn dotted(&self) -> String {
        let plain: Vec<_> =
            self.names.iter().map(|name| &**name).take_while(|n| is_plain(n)).collect();
        plain.join(".")
    }

    /// The dotted path of what changes when a value comes or goes here: the elements of an array
    /// move, so it is the array.
    fn area(&self) -> String {
        let is_position = |step: &Step| step.index.is_some() || *step.escaped == *b"-";
        match self.steps.split_last() {
            Some((last, rest)) if is_position(last) => {
                let parent = Self {
                    text: "".into(),
                    names: self.names[..rest.len()].to_vec(),
                    steps: rest.to_vec(),
                };
                parent.dotted()
            }
            _ => self.dotted(),
        }
    }

    fn missing(&self) -> Error {
        self.refuse("the pointer leads nowhere")
    }

    fn refuse(&self, reason: &'static str) -> Error {
        refuse(&self.text, reason)
    }
}
