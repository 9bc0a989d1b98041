//! Which element of an array a document matched by: what the positional `$` of an update stands for.

use super::{Expr, Test};
use crate::{
    jb1::{self, Kind},
    query::path::{Path, Step},
};

impl Expr {
    /// The position of the element, of the array at `array`, by which a document that matches does
    /// so. Of several conditions on the array the last one decides; a negation decides nothing.
    pub(crate) fn position(&self, array: &[Step], document: &[u8]) -> Option<usize> {
        match self {
            Self::And(all) => all.iter().rev().find_map(|expr| expr.position(array, document)),
            Self::Field { path, test } => {
                let rest = path.steps().strip_prefix(array)?;
                test.position(&Path::of_steps(rest), at(array, document)?)
            }
            Self::Or(any) => {
                let matched = any.iter().find(|expr| expr.matches(document))?;
                matched.position(array, document)
            }
            Self::Expression(_) | Self::Nor(_) | Self::Text(_) => None,
            #[cfg(feature = "schema")]
            Self::Schema(_) => None,
        }
    }
}

impl Test {
    /// The first element that satisfies the test with what `rest` reaches in it.
    fn position(&self, rest: &Path, array: &[u8]) -> Option<usize> {
        let satisfies = |item: &[u8]| match self {
            Self::ElemMatch(of) if rest.steps().is_empty() => of.holds_of(item),
            Self::Not(_) => false,
            _ if rest.steps().is_empty() => self.holds(Some(item)),
            _ => jb1::kind(item) == Some(Kind::Object) && self.holds_at(rest, item),
        };
        jb1::items(array)?.position(|item| item.is_some_and(satisfies))
    }
}

fn at<'a>(steps: &[Step], document: &'a [u8]) -> Option<&'a [u8]> {
    steps.iter().try_fold(document, |value, step| match jb1::kind(value)? {
        Kind::Object => jb1::get(value, &step.escaped),
        Kind::Array => jb1::items(value)?.nth(step.index?)?,
        _ => None,
    })
}
