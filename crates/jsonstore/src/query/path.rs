//! Dotted paths, and every value one reaches in a document.

use std::{fmt, ops::ControlFlow};

use crate::{
    error::{Error, Result},
    jb1::{self, Kind},
};

/// The steps of a path. A document cannot nest deeper than this either, by default.
pub(crate) const PATH_STEPS_MAX: usize = 128;

/// A dotted path, parsed once: `address.street`, `items.0.price`.
///
/// A step names a member of an object or a position in an array. An array in the middle of the path
/// stands for each of its elements as well.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Path {
    text: Box<str>,
    steps: Box<[Step]>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Step {
    /// The name as JB1 stores it.
    pub(crate) escaped: Box<[u8]>,
    /// The position that the step may mean as well.
    pub(crate) index: Option<usize>,
}

impl Path {
    /// # Errors
    /// `InvalidFilter` for an empty step, one that begins with `$`, or too many of them.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let bad =
            |reason: &str| Error::InvalidFilter { path: text.to_owned(), reason: reason.into() };
        let mut steps = Vec::new();
        for step in text.split('.') {
            if step.is_empty() {
                return Err(bad("a step of the path is empty"));
            }
            if step.starts_with('$') {
                return Err(bad("a name that begins with $ is no field"));
            }
            if steps.len() == PATH_STEPS_MAX {
                return Err(bad(&format!("the path has more than {PATH_STEPS_MAX} steps")));
            }
            steps.push(Step::new(step));
        }
        Ok(Self { text: text.into(), steps: steps.into() })
    }

    /// A part of another path.
    pub(crate) fn of_steps(steps: &[Step]) -> Self {
        Self { text: Box::default(), steps: steps.into() }
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }

    pub(crate) fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// Every value that the path reaches, in the order of the document; `None` where a document, or
    /// an object in an array on the way, lacks it. An array at the end is given element by element
    /// and then whole.
    pub(crate) fn each<'a>(
        &self,
        document: &'a [u8],
        mut visit: impl FnMut(Option<&'a [u8]>) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        from_root(document, &self.steps, true, &mut visit)
    }

    /// Like `each`, but an array at the end is given whole only.
    pub(crate) fn each_whole<'a>(
        &self,
        document: &'a [u8],
        mut visit: impl FnMut(Option<&'a [u8]>) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        from_root(document, &self.steps, false, &mut visit)
    }

    /// True if `test` holds for one of the values that `each` gives.
    pub(crate) fn any<'a>(
        &self,
        document: &'a [u8],
        mut test: impl FnMut(Option<&'a [u8]>) -> bool,
    ) -> bool {
        let visit =
            |value| if test(value) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) };
        self.each(document, visit).is_break()
    }

    /// Like `any`, of the values that `each_whole` gives.
    pub(crate) fn any_whole<'a>(
        &self,
        document: &'a [u8],
        mut test: impl FnMut(Option<&'a [u8]>) -> bool,
    ) -> bool {
        let visit =
            |value| if test(value) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) };
        self.each_whole(document, visit).is_break()
    }

    /// The values an index holds and a sort looks at: like `each`, but of an array at the end only
    /// the elements. An empty array there gives nothing.
    pub(crate) fn each_element<'a>(
        &self,
        document: &'a [u8],
        mut visit: impl FnMut(Option<&'a [u8]>),
    ) {
        let _ = self.each_whole(document, |value| {
            match value.and_then(jb1::items) {
                Some(items) => items.for_each(&mut visit),
                None => visit(value),
            }
            ControlFlow::Continue(())
        });
    }
}

impl fmt::Debug for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Step {
    pub(crate) fn new(name: &str) -> Self {
        let mut escaped = Vec::with_capacity(name.len());
        jb1::escape(name, &mut escaped);
        Self { escaped: escaped.into(), index: position(name) }
    }
}

/// A position is written without a sign and without leading zeros.
pub(crate) fn position(name: &str) -> Option<usize> {
    let is_plain =
        name.bytes().all(|b| b.is_ascii_digit()) && (name == "0" || !name.starts_with('0'));
    if is_plain { name.parse().ok() } else { None }
}

type Visit<'v, 'a> = &'v mut dyn FnMut(Option<&'a [u8]>) -> ControlFlow<()>;

/// The outermost array, an element that is an array itself, is entered by position only.
fn from_root<'a>(
    root: &'a [u8],
    steps: &[Step],
    walks: bool,
    visit: Visit<'_, 'a>,
) -> ControlFlow<()> {
    match (jb1::kind(root), steps.split_first()) {
        (Some(Kind::Array), Some((step, rest))) => {
            let items = step.index.and_then(|i| jb1::items(root)?.nth(i)?);
            match items {
                Some(item) => from_value(item, rest, walks, visit),
                None => visit(None),
            }
        }
        _ => from_value(root, steps, walks, visit),
    }
}

fn from_value<'a>(
    value: &'a [u8],
    steps: &[Step],
    walks: bool,
    visit: Visit<'_, 'a>,
) -> ControlFlow<()> {
    let mut at = value;
    for (done, step) in steps.iter().enumerate() {
        at = match jb1::kind(at) {
            Some(Kind::Object) => match jb1::get(at, &step.escaped) {
                Some(item) => item,
                None => return visit(None),
            },
            Some(Kind::Array) => return from_array(at, step, &steps[done + 1..], walks, visit),
            _ => return visit(None),
        };
    }
    if walks && let Some(items) = jb1::items(at) {
        for item in items {
            visit(item)?;
        }
    }
    visit(Some(at))
}

/// An array on the way: each object in it may have the member, and the step may be a position.
fn from_array<'a>(
    array: &'a [u8],
    step: &Step,
    rest: &[Step],
    walks: bool,
    visit: Visit<'_, 'a>,
) -> ControlFlow<()> {
    for (i, item) in jb1::items(array).into_iter().flatten().enumerate() {
        let Some(item) = item else { break };
        let is_here = step.index == Some(i);
        let item_kind = jb1::kind(item);
        if item_kind == Some(Kind::Object) {
            match jb1::get(item, &step.escaped) {
                Some(member) => from_value(member, rest, walks, visit)?,
                None => visit(None)?,
            }
        }
        match (is_here, rest.split_first(), item_kind) {
            (false, ..) => {}
            (true, None, _) => visit(Some(item))?,
            (true, Some(_), Some(Kind::Object)) => from_value(item, rest, walks, visit)?,
            (true, Some((next, rest)), Some(Kind::Array)) => {
                from_array(item, next, rest, walks, visit)?;
            }
            (true, Some(_), _) => {}
        }
    }
    ControlFlow::Continue(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jb1::{Limits, parse, print};

    /// What `each` gives, as text: `-` for missing.
    #[track_caller]
    fn check(path: &str, document: &str, want: &[&str]) {
        let document = parse(document.as_bytes(), &Limits::default()).unwrap();
        let mut got = Vec::new();
        let _ = Path::parse(path).unwrap().each(&document, |value| {
            let mut text = Vec::new();
            match value {
                Some(value) => print(value, &mut text).unwrap(),
                None => text.push(b'-'),
            }
            got.push(String::from_utf8(text).unwrap());
            ControlFlow::Continue(())
        });
        assert_eq!(got, want, "{path}");
    }

    #[test]
    fn arrays_are_walked() {
        check("a", r#"{"x":4,"a":5}"#, &["5"]);
        check("a", r#"{"a":[5,6]}"#, &["5", "6", "[5,6]"]);
        check("a", r#"{"x":1}"#, &["-"]);
        check("a.b", r#"{"a":4}"#, &["-"]);
        check("a.b", r#"{"a":[4]}"#, &[]);
        check("a.b", r#"{"a":[]}"#, &[]);
        check("a.b", r#"{"a":{"b":[]}}"#, &["[]"]);
        check(
            "a.b",
            r#"{"a":[{"b":5},3,{},{"b":[9,11]},{"b":7}]}"#,
            &["5", "-", "9", "11", "[9,11]", "7"],
        );
    }

    #[test]
    fn positions_are_steps() {
        check("a.1", r#"{"a":[5,7,3]}"#, &["7"]);
        check("a.1", r#"{"a":[5,[2,4],3]}"#, &["[2,4]"]);
        check("a.1", r#"{"a":[5,{"1":4},3]}"#, &["4", r#"{"1":4}"#]);
        check("a.1.b", r#"{"a":[5,{"b":4},3]}"#, &["-", "4"]);
        check("a.1.b", r#"{"a":[5,[{"b":4}],3]}"#, &["4"]);
        check("a.0.b", r#"{"a":[{"b":[2,3]},{"b":[4,5]}]}"#, &["-", "2", "3", "[2,3]", "-"]);
        check("a.01", r#"{"a":[5,7,3]}"#, &[]);
    }
}
