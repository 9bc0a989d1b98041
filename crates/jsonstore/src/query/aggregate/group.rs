//! `$group`: documents with the same key become one.

use std::{
    borrow::Cow,
    collections::{BTreeSet, HashMap},
};

use bytes::Bytes;

use super::{
    Context, Rows,
    run::{once_made, too_large},
    spill::Sorter,
};
use crate::{
    error::{DocumentError, Result},
    jb1::{self, Container, Kind},
    key,
    query::{
        expression::{Expression, Number, name_of},
        order::compare,
        path::Step,
    },
};

#[derive(Debug)]
pub(super) struct Group {
    pub(super) id: Expression,
    pub(super) fields: Vec<Field>,
}

#[derive(Debug)]
pub(super) struct Field {
    pub(super) name: Step,
    pub(super) accumulator: Accumulator,
    pub(super) value: Expression,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Accumulator {
    AddToSet,
    Avg,
    Count,
    First,
    Last,
    Max,
    Min,
    Push,
    Sum,
}

impl Accumulator {
    pub(super) fn by_name(name: &str) -> Option<Self> {
        Some(match name {
            "$addToSet" => Self::AddToSet,
            "$avg" => Self::Avg,
            "$count" => Self::Count,
            "$first" => Self::First,
            "$last" => Self::Last,
            "$max" => Self::Max,
            "$min" => Self::Min,
            "$push" => Self::Push,
            "$sum" => Self::Sum,
            _ => return None,
        })
    }
}

/// One group on its way.
struct Open {
    id: Vec<u8>,
    states: Vec<State>,
}

/// What one accumulator has seen.
enum State {
    List { items: Vec<Vec<u8>>, keys: BTreeSet<Vec<u8>> },
    Number { sum: Number, count: u64 },
    One(Option<Vec<u8>>),
}

/// What a group takes besides its values, roughly.
const GROUP_BYTES: usize = 128;
const STATE_BYTES: usize = 64;

/// The groups of all documents.
///
/// Groups stay in memory while they fit in half of what is allowed. From then on documents of known
/// groups are still added, and those of new ones are sorted by their key and grouped at the end.
pub(super) fn run(
    group: &Group,
    source: Rows,
    context: &Context,
    memory: usize,
) -> Result<Vec<Rows>> {
    let mut places: HashMap<Vec<u8>, usize> = HashMap::new();
    let mut open: Vec<Open> = Vec::new();
    let mut bytes = 0;
    let mut later: Option<Sorter> = None;
    for document in source {
        let document = document?;
        let id = group.id.eval(&document).map_or_else(|| vec![jb1::NULL], Cow::into_owned);
        let mut key = Vec::new();
        key::encode(&id, &mut key).ok_or(DocumentError::Malformed)?;
        let known = places.get(&key).copied();
        if known.is_none() && (later.is_some() || bytes > memory / 2) {
            let sorter = later.get_or_insert_with(|| Sorter::new(context, memory / 2, None));
            sorter.push(key, document)?;
            continue;
        }
        let at = known.unwrap_or_else(|| {
            bytes += GROUP_BYTES + 2 * key.len() + id.len();
            bytes += STATE_BYTES * group.fields.len();
            open.push(Open::new(group, id));
            places.insert(key, open.len() - 1);
            open.len() - 1
        });
        bytes += open[at].add(group, &document);
        if bytes > memory {
            return Err(too_large("bytes for the groups of a $group", memory as u64));
        }
    }
    drop(places);
    let limits = context.limits;
    let mut done = Vec::with_capacity(open.len());
    for open in open {
        done.push(open.finish(group, &limits)?);
    }
    let mut parts: Vec<Rows> = vec![Box::new(done.into_iter().map(Ok))];
    if let Some(sorter) = later {
        parts.push(later_groups(group, sorter, context, memory)?);
    }
    Ok(parts)
}

/// Documents sorted by key: one group after the other. They are few enough to be kept, or go to a
/// file in their turn.
fn later_groups(group: &Group, sorter: Sorter, context: &Context, memory: usize) -> Result<Rows> {
    let mut out = Sorter::new(context, memory / 2, None);
    let mut current: Option<(Vec<u8>, Open, usize)> = None;
    let mut count = 0_u64;
    for row in sorter.finish()? {
        let (key, document) = row?;
        if let Some((_, open, _)) = current.take_if(|(other, ..)| *other != key) {
            out.push(count.to_be_bytes().to_vec(), open.finish(group, &context.limits)?)?;
            count += 1;
        }
        let (_, open, bytes) = current.get_or_insert_with(|| {
            let id = group.id.eval(&document).map_or_else(|| vec![jb1::NULL], Cow::into_owned);
            (key, Open::new(group, id), 0)
        });
        *bytes += open.add(group, &document);
        if *bytes > memory / 2 {
            return Err(too_large("bytes for the values of one group", memory as u64 / 2));
        }
    }
    if let Some((_, open, _)) = current {
        out.push(count.to_be_bytes().to_vec(), open.finish(group, &context.limits)?)?;
    }
    Ok(once_made(move || Ok(Box::new(out.finish()?.map(|row| row.map(|(_, group)| group))))))
}

impl Open {
    fn new(group: &Group, id: Vec<u8>) -> Self {
        let states = group.fields.iter().map(|field| match field.accumulator {
            Accumulator::AddToSet | Accumulator::Push => {
                State::List { items: Vec::new(), keys: BTreeSet::new() }
            }
            Accumulator::Avg | Accumulator::Count | Accumulator::Sum => {
                State::Number { sum: Number::Integer(0), count: 0 }
            }
            Accumulator::First | Accumulator::Last | Accumulator::Max | Accumulator::Min => {
                State::One(None)
            }
        });
        Self { id, states: states.collect() }
    }

    /// Answers how many bytes the group grew by.
    fn add(&mut self, group: &Group, document: &[u8]) -> usize {
        let mut grown = 0;
        for (field, state) in group.fields.iter().zip(&mut self.states) {
            let value = field.value.eval(document);
            grown += state.add(field.accumulator, value.as_deref());
        }
        grown
    }

    fn finish(self, group: &Group, limits: &jb1::Limits) -> Result<Bytes> {
        let mut out = Vec::new();
        let mut container = Container::begin(&mut out, true);
        container.next(&out);
        jb1::put_name(&mut out, name_of(&Step::new("_id")));
        out.extend_from_slice(&self.id);
        for (field, state) in group.fields.iter().zip(self.states) {
            container.next(&out);
            jb1::put_name(&mut out, name_of(&field.name));
            state.finish(field.accumulator, &mut out)?;
        }
        container.finish(&mut out).map_err(|_| DocumentError::Malformed)?;
        if out.len() > limits.bytes_max {
            return Err(DocumentError::TooLarge { limit: limits.bytes_max }.into());
        }
        Ok(out.into())
    }
}

impl State {
    fn add(&mut self, accumulator: Accumulator, value: Option<&[u8]>) -> usize {
        let is_null = |value: &[u8]| jb1::kind(value) == Some(Kind::Null);
        match self {
            Self::List { items, keys } => {
                let Some(value) = value else { return 0 };
                let mut grown = value.len() + STATE_BYTES;
                if accumulator == Accumulator::AddToSet {
                    let mut key = Vec::new();
                    let is_new = key::encode(value, &mut key).is_some();
                    grown += key.len();
                    if !is_new || !keys.insert(key) {
                        return 0;
                    }
                }
                items.push(value.to_vec());
                grown
            }
            Self::Number { sum, count } => {
                if accumulator == Accumulator::Count {
                    *count += 1;
                } else if let Some(number) = value.and_then(Number::read) {
                    *sum = sum.add(number);
                    *count += 1;
                }
                0
            }
            Self::One(kept) => {
                let replaces = match (accumulator, &kept, value) {
                    (Accumulator::First, kept, _) => kept.is_none(),
                    (Accumulator::Last, ..) => true,
                    (_, _, None) => false,
                    (_, _, Some(value)) if is_null(value) => false,
                    (_, None, Some(_)) => true,
                    (Accumulator::Max, Some(kept), Some(value)) => compare(value, kept).is_gt(),
                    (_, Some(kept), Some(value)) => compare(value, kept).is_lt(),
                };
                if !replaces {
                    return 0;
                }
                let before = kept.as_ref().map_or(0, Vec::len);
                let value = value.unwrap_or(&[jb1::NULL]);
                *kept = Some(value.to_vec());
                value.len().saturating_sub(before)
            }
        }
    }

    fn finish(self, accumulator: Accumulator, out: &mut Vec<u8>) -> Result<()> {
        match (self, accumulator) {
            (Self::List { items, .. }, _) => {
                let mut container = Container::begin(out, false);
                for item in items {
                    container.next(out);
                    out.extend_from_slice(&item);
                }
                container.finish(out).map_err(|_| DocumentError::Malformed)?;
            }
            (Self::Number { count: 0, .. }, Accumulator::Avg) => out.push(jb1::NULL),
            (Self::Number { sum, count }, Accumulator::Avg) => {
                out.extend_from_slice(&Number::Float(sum.float() / count as f64).put());
            }
            (Self::Number { count, .. }, Accumulator::Count) => {
                out.extend_from_slice(&Number::Integer(i128::from(count)).put());
            }
            (Self::Number { sum, .. }, _) => out.extend_from_slice(&sum.put()),
            (Self::One(kept), _) => out.extend_from_slice(kept.as_deref().unwrap_or(&[jb1::NULL])),
        }
        Ok(())
    }
}
