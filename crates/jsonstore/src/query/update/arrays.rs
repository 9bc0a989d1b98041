//! The operators that change arrays as such.

use super::{Push, PushSort, UpdateOp, edit::put, refuse};
use crate::{
    error::{DocumentError, Result},
    jb1::{self, Container, Limits},
    query::order::compare,
};

/// Writes the array after `$addToSet`, `$pop`, `$pull` or `$push`; `depth` containers are around it.
pub(super) fn change(
    old: Option<&[u8]>,
    path: &str,
    depth: usize,
    op: &UpdateOp,
    limits: &Limits,
    out: &mut Vec<u8>,
) -> Result<()> {
    let mut list = Vec::new();
    if let Some(old) = old {
        for item in jb1::items(old).ok_or_else(|| refuse(path, "the field is not an array"))? {
            list.push(item.ok_or(DocumentError::Malformed)?);
        }
    }
    let mut added = Vec::new();
    match op {
        UpdateOp::AddToSet(values) | UpdateOp::Push(Push { values, .. }) => {
            for value in values {
                let mut item = Vec::new();
                put(value, depth + 1, limits, &mut item)?;
                added.push(item);
            }
        }
        _ => {}
    }
    match op {
        UpdateOp::AddToSet(_) => {
            for item in &added {
                if !list.iter().any(|other| compare(other, item).is_eq()) {
                    list.push(item);
                }
            }
        }
        UpdateOp::Pop { first } if !list.is_empty() => {
            list.remove(if *first { 0 } else { list.len() - 1 });
        }
        UpdateOp::Pull(condition) => list.retain(|item| !condition.holds_of(item)),
        UpdateOp::Push(push) => push.change(&mut list, &added),
        _ => {}
    }
    let mut container = Container::begin(out, false);
    for item in list {
        container.next(out);
        out.extend_from_slice(item);
    }
    container.finish(out).map_err(|_| DocumentError::Malformed.into())
}

impl Push {
    fn change<'a>(&self, list: &mut Vec<&'a [u8]>, added: &'a [Vec<u8>]) {
        let at = match self.position {
            None => list.len(),
            Some(at) => signed(at, list.len()),
        };
        list.splice(at..at, added.iter().map(Vec::as_slice));
        match &self.sort {
            None => {}
            Some(PushSort::Fields(sort)) => list.sort_by(|a, b| sort.compare(a, b)),
            Some(PushSort::Whole { ascending: true }) => list.sort_by(|a, b| compare(a, b)),
            Some(PushSort::Whole { ascending: false }) => list.sort_by(|a, b| compare(b, a)),
        }
        match self.slice {
            None => {}
            Some(keep) if keep < 0 => {
                list.drain(..signed(keep, list.len()));
            }
            Some(keep) => list.truncate(usize::try_from(keep).unwrap_or(usize::MAX)),
        }
    }
}

/// A position in a list; negative ones count from its end.
fn signed(at: i64, len: usize) -> usize {
    let from = usize::try_from(at.unsigned_abs()).unwrap_or(usize::MAX);
    if at < 0 { len.saturating_sub(from) } else { from.min(len) }
}
