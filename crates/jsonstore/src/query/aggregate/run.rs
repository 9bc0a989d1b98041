//! Runs a pipeline: each stage is an iterator over the one before.

use std::{collections::VecDeque, sync::Arc};

use bytes::Bytes;

use super::{Context, Lookup, Rows, Stage, Unwind, group, spill::Sorter};
use crate::{
    error::{DocumentError, Error, Result},
    jb1::{self, Container, Kind, Limits},
    query::{
        expression::{Number, name_of},
        filter::{Expr, Filter, Operand, Test},
        order::compare,
        path::{Path, Step},
        sort::Sort,
        update::with_field,
    },
};

pub(super) fn run(stages: &[Stage], source: Rows, context: &Context) -> Rows {
    let holds = |stage: &&Stage| matches!(stage, Stage::Group(_) | Stage::Sort { .. });
    let memory = context.memory_max / stages.iter().filter(holds).count().max(1);
    let mut rows = source;
    for stage in stages {
        rows = one(stage, rows, context, memory);
    }
    let mut has_failed = false;
    Box::new(rows.map_while(move |row| {
        let is_over = has_failed;
        has_failed |= row.is_err();
        (!is_over).then_some(row)
    }))
}

fn one(stage: &Stage, rows: Rows, context: &Context, memory: usize) -> Rows {
    match stage {
        Stage::Count(name) => {
            let name = name.clone();
            once_made(move || count(rows, &name))
        }
        Stage::Group(group) => {
            let (group, context) = (Arc::clone(group), context.clone());
            once_made(move || {
                let parts = group::run(&group, rows, &context, memory)?;
                Ok(Box::new(parts.into_iter().flatten()))
            })
        }
        Stage::Limit(count) => Box::new(rows.take(usize::try_from(*count).unwrap_or(usize::MAX))),
        Stage::Lookup(lookup) => {
            let (lookup, context) = (Arc::clone(lookup), context.clone());
            Box::new(rows.map(move |row| lookup.join(&row?, &context)))
        }
        Stage::Match(filter) => {
            let filter = filter.clone();
            Box::new(rows.filter(move |row| row.as_ref().map_or(true, |row| filter.matches(row))))
        }
        Stage::Project(projection) => {
            let (projection, limits) = (projection.clone(), context.limits);
            Box::new(rows.map(move |row| bounded(projection.apply(&row?)?, &limits)))
        }
        // A failure is not skipped.
        Stage::Skip(count) => {
            let mut left = *count;
            Box::new(rows.filter(move |row| {
                let skips = left > 0 && row.is_ok();
                left -= u64::from(skips);
                !skips
            }))
        }
        Stage::Sort { sort, limit } => {
            let (sort, limit, context) = (sort.clone(), *limit, context.clone());
            once_made(move || sorted(&sort, rows, Sorter::new(&context, memory, limit)))
        }
        Stage::Unwind(unwind) => Box::new(Unwound {
            unwind: Arc::clone(unwind),
            rows,
            ready: VecDeque::new(),
            limits: context.limits,
        }),
    }
}

/// Rows that are made when the first is asked for.
pub(super) fn once_made(make: impl FnOnce() -> Result<Rows> + Send + 'static) -> Rows {
    Box::new(
        std::iter::once_with(make)
            .flat_map(|rows| rows.unwrap_or_else(|error| Box::new(std::iter::once(Err(error))))),
    )
}

pub(super) fn too_large(what: &'static str, limit: u64) -> Error {
    Error::QueryLimit { what, limit }
}

fn bounded(bytes: Vec<u8>, limits: &Limits) -> Result<Bytes> {
    if bytes.len() > limits.bytes_max {
        return Err(DocumentError::TooLarge { limit: limits.bytes_max }.into());
    }
    Ok(bytes.into())
}

fn count(rows: Rows, name: &Step) -> Result<Rows> {
    let mut count = 0_i128;
    for row in rows {
        row?;
        count += 1;
    }
    // Of nothing there is no count, as in MongoDB.
    if count == 0 {
        return Ok(Box::new(std::iter::empty()));
    }
    let mut out = Vec::new();
    let mut container = Container::begin(&mut out, true);
    container.next(&out);
    jb1::put_name(&mut out, name_of(name));
    out.extend_from_slice(&Number::Integer(count).put());
    container.finish(&mut out).map_err(|_| DocumentError::Malformed)?;
    Ok(Box::new(std::iter::once(Ok(out.into()))))
}

fn sorted(sort: &Sort, rows: Rows, mut sorter: Sorter) -> Result<Rows> {
    for row in rows {
        let row = row?;
        let mut key = Vec::new();
        sort.key(&row, &mut key).ok_or(DocumentError::Malformed)?;
        sorter.push(key, row)?;
    }
    Ok(Box::new(sorter.finish()?.map(|row| row.map(|(_, row)| row))))
}

impl Lookup {
    fn join(&self, row: &Bytes, context: &Context) -> Result<Bytes> {
        let mut points = Vec::new();
        let mut failed = false;
        self.local.each_element(row, |value| {
            match Operand::from_jb1(value.unwrap_or(&[jb1::NULL]).to_vec()) {
                Some(point) => points.push(point),
                None => failed = true,
            }
        });
        if failed {
            return Err(DocumentError::Malformed.into());
        }
        points.sort_by(|a, b| compare(&a.jb1, &b.jb1));
        points.dedup_by(|a, b| a.key == b.key);
        let test = Test::In(points);
        let filter = Filter::from_expr(Expr::Field { path: self.foreign.clone(), test });
        let found = context.join.find(&self.from, &filter, context.limits.bytes_max)?;
        let mut list = Vec::new();
        let mut container = Container::begin(&mut list, false);
        for document in found {
            container.next(&list);
            list.extend_from_slice(&document);
            if list.len() > context.limits.bytes_max {
                return Err(DocumentError::TooLarge { limit: context.limits.bytes_max }.into());
            }
        }
        container.finish(&mut list).map_err(|_| DocumentError::Malformed)?;
        bounded(with_field(row, &self.into, Some(&list), &context.limits)?, &context.limits)
    }
}

/// One document for each element.
struct Unwound {
    unwind: Arc<Unwind>,
    rows: Rows,
    /// Elements of the document at hand that are still to come: few bytes each, the document shared.
    ready: VecDeque<(Bytes, Option<Vec<u8>>, Option<usize>)>,
    limits: Limits,
}

impl Iterator for Unwound {
    type Item = Result<Bytes>;

    fn next(&mut self) -> Option<Result<Bytes>> {
        while self.ready.is_empty() {
            match self.rows.next()? {
                Ok(row) => self.open(row),
                Err(error) => return Some(Err(error)),
            }
        }
        let (row, value, index) = self.ready.pop_front()?;
        Some(self.build(&row, value.as_deref(), index))
    }
}

impl Unwound {
    fn open(&mut self, row: Bytes) {
        let value = through_objects(&row, &self.unwind.path).map(<[u8]>::to_vec);
        let value_kind = value.as_deref().and_then(jb1::kind);
        match (value_kind, value) {
            (Some(Kind::Array), Some(array)) => {
                for (i, item) in jb1::items(&array).into_iter().flatten().flatten().enumerate() {
                    self.ready.push_back((row.clone(), Some(item.to_vec()), Some(i)));
                }
                if self.ready.is_empty() && self.unwind.keeps_empty {
                    self.ready.push_back((row, None, None));
                }
            }
            (None | Some(Kind::Null), value) => {
                if self.unwind.keeps_empty {
                    self.ready.push_back((row, value, None));
                }
            }
            (_, value) => self.ready.push_back((row, value, None)),
        }
    }

    fn build(&self, row: &[u8], value: Option<&[u8]>, index: Option<usize>) -> Result<Bytes> {
        let mut out = with_field(row, &self.unwind.path, value, &self.limits)?;
        if let Some(path) = &self.unwind.index {
            let index = match index {
                Some(index) => Number::Integer(index as i128).put(),
                None => vec![jb1::NULL],
            };
            out = with_field(&out, path, Some(&index), &self.limits)?;
        }
        bounded(out, &self.limits)
    }
}

/// The value at a path that leads through objects only.
fn through_objects<'a>(document: &'a [u8], path: &Path) -> Option<&'a [u8]> {
    path.steps().iter().try_fold(document, |at, step| jb1::get(at, &step.escaped))
}
