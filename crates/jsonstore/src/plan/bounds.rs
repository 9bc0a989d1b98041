//! From conditions to ranges of encoded values.

use std::{borrow::Cow, cmp::Ordering};

use crate::{
    key::{self, prefix_end},
    query::{Bracket, ElemMatch, Expr, Operand, Path, Test},
};

/// Points of one field beyond which its conditions are taken as one range.
pub(crate) const POINTS_MAX: usize = 1000;

/// An end of a range, before or after all keys that begin with some bytes. No encoding is a prefix
/// of another, so this says where a whole value ends whatever follows it.
#[derive(Debug, Clone)]
pub(crate) enum Bound {
    After(Vec<u8>),
    Before(Vec<u8>),
}

impl Bound {
    /// As the first key that is not below it; `None` is the end of all keys.
    fn key(&self) -> Option<Cow<'_, [u8]>> {
        match self {
            Self::Before(bytes) => Some(Cow::Borrowed(bytes)),
            Self::After(bytes) => prefix_end(bytes).map(Cow::Owned),
        }
    }

    /// With bytes in front.
    fn within(&self, prefix: &[u8]) -> Self {
        let all = |bytes: &[u8]| [prefix, bytes].concat();
        match self {
            Self::Before(bytes) => Self::Before(all(bytes)),
            Self::After(bytes) => Self::After(all(bytes)),
        }
    }

    /// Where it lies when all bytes are inverted.
    fn inverted(&self) -> Self {
        let inverted = |bytes: &[u8]| bytes.iter().map(|b| !b).collect();
        match self {
            Self::Before(bytes) => Self::After(inverted(bytes)),
            Self::After(bytes) => Self::Before(inverted(bytes)),
        }
    }
}

impl Ord for Bound {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self.key(), other.key()) {
            (Some(a), Some(b)) => a.cmp(&b),
            (a, b) => a.is_none().cmp(&b.is_none()),
        }
    }
}

impl PartialEq for Bound {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Bound {}

impl PartialOrd for Bound {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// All keys from one end to the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KeyRange {
    pub(crate) from: Bound,
    pub(crate) to: Bound,
}

impl KeyRange {
    pub(crate) fn all() -> Self {
        Self::prefix(Vec::new())
    }

    /// Everything that begins with these bytes, which are whole encodings: one value of each field.
    pub(crate) fn prefix(bytes: Vec<u8>) -> Self {
        Self { from: Bound::Before(bytes.clone()), to: Bound::After(bytes) }
    }

    /// The bytes it consists of, if it is a prefix.
    pub(crate) fn as_prefix(&self) -> Option<&[u8]> {
        match (&self.from, &self.to) {
            (Bound::Before(from), Bound::After(to)) if *from == *to => Some(from),
            _ => None,
        }
    }

    pub(crate) fn within(&self, prefix: &[u8]) -> Self {
        Self { from: self.from.within(prefix), to: self.to.within(prefix) }
    }

    pub(crate) fn inverted(&self) -> Self {
        Self { from: self.to.inverted(), to: self.from.inverted() }
    }

    /// First key, and the first one behind it.
    pub(crate) fn keys(&self) -> (Vec<u8>, Option<Vec<u8>>) {
        let from = self.from.key().map(Cow::into_owned).unwrap_or_default();
        (from, self.to.key().map(Cow::into_owned))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.from >= self.to
    }
}

/// Ranges in their order that do not overlap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ranges(pub(crate) Vec<KeyRange>);

impl Ranges {
    fn one(range: KeyRange) -> Self {
        Self(if range.is_empty() { Vec::new() } else { vec![range] })
    }

    /// What lies in both.
    pub(crate) fn intersect(&self, other: &Self) -> Self {
        let (mut i, mut j) = (0, 0);
        let mut out = Vec::new();
        while let (Some(a), Some(b)) = (self.0.get(i), other.0.get(j)) {
            let from = Ord::max(&a.from, &b.from).clone();
            let to = Ord::min(&a.to, &b.to).clone();
            let range = KeyRange { from, to };
            if !range.is_empty() {
                // A point stays one, whichever way its ends are written.
                let whole = [a, b].into_iter().find(|r| r.from == range.from && r.to == range.to);
                out.push(whole.cloned().unwrap_or(range));
            }
            if a.to < b.to { i += 1 } else { j += 1 }
        }
        Self(out)
    }

    /// The values, if it consists of nothing else.
    pub(crate) fn points(&self) -> Option<Vec<&[u8]>> {
        self.0.iter().map(KeyRange::as_prefix).collect()
    }

    /// True if a missing field cannot be among them.
    pub(crate) fn excludes_missing(&self) -> bool {
        let null = Bound::After(vec![key::NULL]);
        self.0.first().is_none_or(|range| range.from >= null)
    }
}

/// What a filter demands of the values at one path.
#[derive(Debug, Clone)]
pub(crate) struct Condition {
    pub(crate) path: Path,
    /// A document that matches has a value in there.
    pub(crate) ranges: Ranges,
    /// The values themselves, as JB1, if there are only some.
    pub(crate) values: Option<Vec<Box<[u8]>>>,
    /// And a document whose only value there is in there satisfies this part of the filter.
    pub(crate) is_exact: bool,
    /// One value satisfies all of it, even where a path reaches several.
    pub(crate) is_joint: bool,
}

/// What a filter demands of every document, and whether it demands nothing else.
pub(crate) fn conditions(expr: &Expr) -> (Vec<Condition>, bool) {
    let mut found = Vec::new();
    let is_all = collect(expr, None, &mut found);
    (found, is_all)
}

fn collect(expr: &Expr, below: Option<&Path>, found: &mut Vec<Condition>) -> bool {
    match expr {
        Expr::And(all) => {
            let mut is_all = true;
            for one in all {
                is_all &= collect(one, below, found);
            }
            is_all
        }
        Expr::Field { path, test } => {
            let Some(path) = joined(below, path) else { return false };
            if let Test::ElemMatch(ElemMatch::Document(inner)) = test {
                collect(inner, Some(&path), found);
                return false;
            }
            let Some((ranges, is_exact)) = ranges(test) else { return false };
            // In an element of an array the path reaches more than what is asked for.
            let is_exact = is_exact && below.is_none();
            let is_joint = matches!(test, Test::ElemMatch(_));
            let values = values(test);
            found.push(Condition { path, ranges, values, is_exact, is_joint });
            is_exact
        }
        _ => false,
    }
}

fn joined(below: Option<&Path>, path: &Path) -> Option<Path> {
    match below {
        None => Some(path.clone()),
        Some(below) => Path::parse(&format!("{}.{}", below.as_str(), path.as_str())).ok(),
    }
}

/// Where the values lie that satisfy a test, and whether all that lie there do.
fn ranges(test: &Test) -> Option<(Ranges, bool)> {
    match test {
        Test::Eq(operand) => equal(operand).map(|range| {
            let is_exact = operand.bracket != Bracket::Null;
            (Ranges::one(range), is_exact)
        }),
        Test::In(operands) if operands.len() <= POINTS_MAX => {
            let all: Option<Vec<KeyRange>> = operands.iter().map(equal).collect();
            let is_exact = operands.iter().all(|o| o.bracket != Bracket::Null);
            // They are sorted by value, which is the order of their encodings.
            Some((Ranges(all?), is_exact))
        }
        Test::Gt(operand) => compared(operand, |key| (Some(Bound::After(key)), None)),
        Test::Gte(operand) => compared(operand, |key| (Some(Bound::Before(key)), None)),
        Test::Lt(operand) => compared(operand, |key| (None, Some(Bound::Before(key)))),
        Test::Lte(operand) => compared(operand, |key| (None, Some(Bound::After(key)))),
        Test::Regex(regex) => {
            // Not written as a prefix, which stands for one value: many begin so.
            let from = key::string_prefix(regex.prefix()?);
            let to = prefix_end(&from)?;
            let range = KeyRange { from: Bound::Before(from), to: Bound::Before(to) };
            Some((Ranges::one(range), false))
        }
        Test::ElemMatch(ElemMatch::Value(tests)) => {
            let all = tests.iter().filter_map(ranges).map(|(ranges, _)| ranges);
            all.reduce(|a, b| a.intersect(&b)).map(|ranges| (ranges, false))
        }
        _ => None,
    }
}

fn values(test: &Test) -> Option<Vec<Box<[u8]>>> {
    match test {
        Test::Eq(operand) => Some(vec![operand.jb1.clone()]),
        Test::In(operands) => Some(operands.iter().map(|operand| operand.jb1.clone()).collect()),
        _ => None,
    }
}

/// An array is equal to a whole that is in no index, so nothing is said of it.
fn equal(operand: &Operand) -> Option<KeyRange> {
    match operand.bracket {
        Bracket::Array => None,
        Bracket::Null => {
            Some(KeyRange { from: Bound::Before(Vec::new()), to: Bound::After(vec![key::NULL]) })
        }
        _ => Some(KeyRange::prefix(operand.key.to_vec())),
    }
}

/// Only values of the same type compare.
fn compared(
    operand: &Operand,
    ends: impl FnOnce(Vec<u8>) -> (Option<Bound>, Option<Bound>),
) -> Option<(Ranges, bool)> {
    // Only `null` itself and what is missing, which the bounds of `equal` hold.
    if operand.bracket == Bracket::Null {
        return Some((Ranges::one(equal(operand)?), false));
    }
    let (first, last) = bracket_ends(operand.bracket)?;
    let (from, to) = ends(operand.key.to_vec());
    let from = from.unwrap_or(Bound::Before(vec![first]));
    let to = to.unwrap_or(Bound::After(vec![last]));
    Some((Ranges::one(KeyRange { from, to }), true))
}

/// What the encodings of values begin with that compare with each other; `None` for those of which an
/// index does not say all.
pub(crate) fn bracket_ends(bracket: Bracket) -> Option<(u8, u8)> {
    match bracket {
        Bracket::Null | Bracket::Array => None,
        Bracket::Boolean => Some((key::FALSE, key::TRUE)),
        Bracket::Number => Some((key::NUMBER, key::NUMBER)),
        Bracket::String => Some((key::STRING, key::STRING)),
        Bracket::Object => Some((key::OBJECT, key::OBJECT)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::query::Filter;

    fn of(filter: &serde_json::Value) -> (Vec<Condition>, bool) {
        conditions(Filter::from_json(filter).unwrap().expr())
    }

    #[test]
    fn conditions_on_one_path_meet() {
        let (found, is_all) = of(&json!({"a": {"$gt": 5, "$lte": 9}, "b": "x"}));
        assert!(is_all);
        let on_a: Vec<_> = found.iter().filter(|c| c.path.as_str() == "a").collect();
        let both = on_a[0].ranges.intersect(&on_a[1].ranges);
        assert_eq!(both.0.len(), 1);
        let inside = |n: i64| {
            let key = crate::Id::from(n).0;
            let (from, to) = both.0[0].keys();
            key >= from && to.is_none_or(|to| key < to)
        };
        assert_eq!([5, 6, 9, 10].map(inside), [false, true, true, false]);
    }

    #[test]
    fn impossible_conditions_leave_nothing() {
        let (found, _) = of(&json!({"a": {"$gt": 9, "$lt": 5}}));
        assert!(found[0].ranges.intersect(&found[1].ranges).0.is_empty());
        let (found, _) = of(&json!({"a": {"$gt": 9, "$lt": "x"}}));
        assert!(found[0].ranges.intersect(&found[1].ranges).0.is_empty());
    }

    #[test]
    fn points_survive_meeting_a_range() {
        let (found, _) = of(&json!({"a": {"$in": [1, 5, 9], "$gte": 5}}));
        let both = found[0].ranges.intersect(&found[1].ranges);
        assert_eq!(both.points().map(|p| p.len()), Some(2));
    }

    #[test]
    fn what_says_nothing_of_an_index() {
        for filter in [
            json!({"a": {"$ne": 1}}),
            json!({"a": {"$exists": true}}),
            json!({"a": [1, 2]}),
            json!({"$or": [{"a": 1}, {"b": 1}]}),
        ] {
            let (found, is_all) = of(&filter);
            assert!(found.is_empty() && !is_all, "{filter}");
        }
    }

    #[test]
    fn descending_fields_turn_the_range() {
        let (found, _) = of(&json!({"a": {"$gt": 5}}));
        let turned = found[0].ranges.0[0].inverted();
        let inside = |n: i64| {
            let key: Vec<u8> = crate::Id::from(n).0.iter().map(|b| !b).collect();
            let (from, to) = turned.keys();
            key >= from && to.is_none_or(|to| key < to)
        };
        assert_eq!([4, 5, 6, 1_000_000].map(inside), [false, false, true, true]);
    }
}
