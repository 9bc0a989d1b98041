//! The fields that an index for a query would have: equality, then sort, then range.

use std::collections::BTreeSet;

use crate::{
    index::{Collation, Direction, Index, IndexKind},
    plan::Query,
    query::{Expr, Path, Test},
};

/// Fields of an index to make.
const FIELDS_MAX: usize = 5;

/// What a query asks of an index.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Need {
    /// Fields with given values; their order means nothing.
    pub(super) equal: BTreeSet<String>,
    /// The order that is wanted, ascending or not.
    pub(super) sort: Vec<(String, bool)>,
    /// Fields with bounds that are in neither.
    pub(super) range: BTreeSet<String>,
}

/// Fields of an index with their directions.
pub(super) type Fields = Vec<(String, Direction)>;

impl Need {
    /// `None` if no index would help: nothing is asked of any field, or an id is given.
    pub(super) fn of(query: &Query) -> Option<Self> {
        let mut need = Self::default();
        let mut has_id = false;
        each_test(query.filter.expr(), &mut |path, test| {
            let path = path.as_str().to_owned();
            match test {
                Test::Eq(_) | Test::In(_) if path == "_id" => has_id = true,
                _ if path == "_id" => {}
                Test::Eq(_) | Test::In(_) => {
                    need.equal.insert(path);
                }
                _ if is_range(test) => {
                    need.range.insert(path);
                }
                _ => {}
            }
        });
        for field in &*query.sort.fields {
            // Entries with the same values are in the order of ids anyway.
            if field.path.as_str() == "_id" {
                break;
            }
            let path = field.path.as_str();
            if !need.equal.contains(path) && !need.sort.iter().any(|(other, _)| other == path) {
                need.sort.push((path.to_owned(), field.ascending));
            }
        }
        need.range.retain(|path| {
            !need.equal.contains(path) && !need.sort.iter().any(|(other, _)| other == path)
        });
        // An order alone spares nothing of what is looked at, unless only a few are wanted.
        let orders = !need.sort.is_empty() && query.limit.is_some();
        let helps = !has_id && (!need.equal.is_empty() || !need.range.is_empty() || orders);
        helps.then_some(need)
    }

    /// The index for it; of fields with given values those come first that `first` puts there.
    pub(super) fn fields(&self, first: impl Fn(&str) -> u64) -> Fields {
        let mut equal: Vec<&String> = self.equal.iter().collect();
        equal.sort_by_key(|path| std::cmp::Reverse(first(path)));
        let ascending = |path: &String| (path.clone(), Direction::Ascending);
        let mut fields: Fields = equal.into_iter().map(ascending).collect();
        fields.extend(self.sort.iter().map(|(path, ascending)| {
            let direction = if *ascending { Direction::Ascending } else { Direction::Descending };
            (path.clone(), direction)
        }));
        // One range is all that an index can use.
        fields.extend(self.range.iter().next().map(ascending));
        fields.truncate(FIELDS_MAX);
        without_overlaps(fields)
    }

    /// Whether an index with these fields does for it what one of its own would.
    pub(super) fn is_served_by(&self, fields: &[(String, Direction)]) -> bool {
        let Some((equal, rest)) = fields.split_at_checked(self.equal.len()) else { return false };
        if !equal.iter().all(|(path, _)| self.equal.contains(path)) {
            return false;
        }
        let Some((sort, rest)) = rest.split_at_checked(self.sort.len()) else { return false };
        let agrees = |invert: bool| {
            sort.iter().zip(&self.sort).all(|((path, direction), (wanted, ascending))| {
                path == wanted && ((*direction == Direction::Ascending) ^ invert) == *ascending
            })
        };
        let next = rest.first().map(|(path, _)| path);
        (agrees(false) || agrees(true))
            && (self.range.is_empty() || next.is_some_and(|path| self.range.contains(path)))
    }

    /// The same of an index that there is.
    pub(super) fn is_served_by_index(&self, index: &Index) -> bool {
        if index.partial.is_some() || index.collation != Collation::Binary {
            return false;
        }
        if index.kind == IndexKind::Hash {
            let same = index.fields.iter().all(|(path, _)| self.equal.contains(path));
            return same && self.equal.len() == 1 && self.sort.is_empty() && self.range.is_empty();
        }
        self.is_served_by(&index.fields)
    }
}

/// Whether a document satisfies the conditions on these fields that an index could.
pub(super) fn holds_of(expr: &Expr, fields: &[(String, Direction)], document: &[u8]) -> bool {
    let mut holds = true;
    each_test(expr, &mut |path, test| {
        let is_ours = fields.iter().any(|(field, _)| field == path.as_str());
        if is_ours && (matches!(test, Test::Eq(_) | Test::In(_)) || is_range(test)) {
            holds &= test.holds_at(path, document);
        }
    });
    holds
}

/// The tests that every document found has to pass.
fn each_test(expr: &Expr, visit: &mut dyn FnMut(&Path, &Test)) {
    match expr {
        Expr::And(all) => all.iter().for_each(|expr| each_test(expr, visit)),
        Expr::Field { path, test } => visit(path, test),
        _ => {}
    }
}

fn is_range(test: &Test) -> bool {
    match test {
        Test::Gt(_) | Test::Gte(_) | Test::Lt(_) | Test::Lte(_) => true,
        Test::Regex(regex) => regex.prefix().is_some(),
        _ => false,
    }
}

/// An index cannot have a field and a part of it.
fn without_overlaps(fields: Fields) -> Fields {
    let mut kept: Fields = Vec::new();
    for (path, direction) in fields {
        let within = |a: &str, b: &str| {
            a.strip_prefix(b).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        if !kept.iter().any(|(other, _)| within(&path, other) || within(other, &path)) {
            kept.push((path, direction));
        }
    }
    kept
}
