//! Whether a document matches: straight on the bytes, without building values.

use std::cmp::Ordering;

use super::{ElemMatch, Expr, Operand, Test, TypeSet};
use crate::{
    jb1::{self, Kind},
    query::{
        order::{Bracket, bracket, compare},
        path::Path,
    },
};

impl Expr {
    /// Whether the document, or an element taken for one, matches.
    pub(crate) fn matches(&self, document: &[u8]) -> bool {
        match self {
            Self::And(all) => all.iter().all(|expr| expr.matches(document)),
            Self::Expression(expression) => expression.is_true(document),
            Self::Field { path, test } => test.holds_at(path, document),
            Self::Nor(none) => !none.iter().any(|expr| expr.matches(document)),
            Self::Or(any) => any.iter().any(|expr| expr.matches(document)),
            #[cfg(feature = "schema")]
            Self::Schema(schema) => schema.describes(document),
            Self::Text(_) => true,
        }
    }
}

impl Test {
    /// Whether the path as a whole satisfies the test.
    pub(crate) fn holds_at(&self, path: &Path, document: &[u8]) -> bool {
        match self {
            Self::Not(tests) => !tests.iter().all(|test| test.holds_at(path, document)),
            Self::Exists(wanted) => path.any(document, |value| value.is_some()) == *wanted,
            // These ask about an array as such, so its elements are not looked at in its place.
            Self::ElemMatch(_) | Self::Size(_) => {
                path.any_whole(document, |value| self.holds(value))
            }
            _ => path.any(document, |value| self.holds(value)),
        }
    }

    /// Whether this one value satisfies the test; `None` is a field that is not there.
    pub(crate) fn holds(&self, value: Option<&[u8]>) -> bool {
        match self {
            Self::ElemMatch(of) => value.is_some_and(|array| of.holds(array)),
            Self::Eq(operand) => match value {
                Some(value) => operand.equals(value),
                None => operand.bracket == Bracket::Null,
            },
            Self::Exists(wanted) => value.is_some() == *wanted,
            Self::Gt(operand) => operand.compared(value, |order| order == Ordering::Greater),
            Self::Gte(operand) => operand.compared(value, Ordering::is_ge),
            Self::In(points) => {
                let value = value.unwrap_or(&[jb1::NULL]);
                points.binary_search_by(|point| compare(&point.jb1, value)).is_ok()
            }
            Self::Lt(operand) => operand.compared(value, |order| order == Ordering::Less),
            Self::Lte(operand) => operand.compared(value, Ordering::is_le),
            Self::Mod { divisor, remainder } => {
                value.and_then(truncated).is_some_and(|number| number % divisor == *remainder)
            }
            Self::Not(tests) => !tests.iter().all(|test| test.holds(value)),
            Self::Regex(regex) => value
                .filter(|value| jb1::kind(value) == Some(Kind::String))
                .and_then(jb1::string)
                .is_some_and(|text| regex.compiled.is_match(&text)),
            Self::Size(size) => {
                value.and_then(jb1::count).is_some_and(|count| u64::from(count) == *size)
            }
            Self::Type(types) => value.and_then(type_of).is_some_and(|kind| types.holds(kind)),
        }
    }
}

impl ElemMatch {
    fn holds(&self, array: &[u8]) -> bool {
        let mut items = jb1::items(array).into_iter().flatten().flatten();
        items.any(|item| self.holds_of(item))
    }

    /// Whether this element is what is looked for.
    pub(crate) fn holds_of(&self, item: &[u8]) -> bool {
        match self {
            Self::Document(expr) => {
                matches!(jb1::kind(item), Some(Kind::Array | Kind::Object)) && expr.matches(item)
            }
            Self::Value(tests) => tests.iter().all(|test| test.holds(Some(item))),
        }
    }
}

impl Operand {
    pub(crate) fn equals(&self, value: &[u8]) -> bool {
        // Equal bytes are equal values; for strings and the rest of the simple ones also the reverse.
        *self.jb1 == *value
            || matches!(self.bracket, Bracket::Array | Bracket::Number | Bracket::Object)
                && compare(value, &self.jb1) == Ordering::Equal
    }

    /// A value of another type compares with nothing; a missing one compares like `null`.
    fn compared(&self, value: Option<&[u8]>, accepts: impl Fn(Ordering) -> bool) -> bool {
        let value = value.unwrap_or(&[jb1::NULL]);
        bracket(value) == Some(self.bracket) && accepts(compare(value, &self.jb1))
    }
}

/// A number cut to an integer, for `$mod`; beyond 64 bits there is no answer.
fn truncated(value: &[u8]) -> Option<i64> {
    if let Some(integer) = jb1::integer(value) {
        return i64::try_from(integer).ok();
    }
    let float = jb1::number(value)?.trunc();
    let fits = (-9_223_372_036_854_775_808.0..9_223_372_036_854_775_808.0).contains(&float);
    fits.then_some(float as i64)
}

fn type_of(value: &[u8]) -> Option<u16> {
    Some(match jb1::kind(value)? {
        Kind::Null => TypeSet::NULL,
        Kind::False | Kind::True => TypeSet::BOOLEAN,
        Kind::Integer => match i32::try_from(jb1::integer(value)?) {
            Ok(_) => TypeSet::INT,
            Err(_) => TypeSet::LONG,
        },
        Kind::Decimal => TypeSet::DOUBLE,
        Kind::String => TypeSet::STRING,
        Kind::Array => TypeSet::ARRAY,
        Kind::Object => TypeSet::OBJECT,
    })
}
