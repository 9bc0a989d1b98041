//! Entries of an index: keys whose bytes sort as the values do, then what the keys do not tell.
//!
//! A key is the encoding of each field (`key.rs`; inverted for a descending field; a hash in a hash
//! index) and then the encoded id. Each part ends itself, so the keys of one combination of values
//! are those with one prefix. The value is empty if all the fields can be read from the key. Else
//! its first byte says whether slots follow, one for the id, each field, each included field.

use std::{borrow::Cow, ops::ControlFlow};

use bytes::Bytes;

use super::{Collation, ENTRIES_MAX, VALUE_BYTES_MAX, collate::fold};
use crate::{
    codec::{Reader, put_varint},
    error::Unindexable,
    jb1::{self, Container, Kind, Name},
    key,
    query::{Path, Step},
};

/// The document has an array on one of the paths, or something else that an entry cannot show.
const NOT_COVERED: u8 = 1;
const SLOTS: u8 = 2;
/// Slots: the field is as the key says; it is missing; its JB1 follows.
const FROM_KEY: u8 = 0;
const MISSING: u8 = 1;
const ORIGINAL: u8 = 2;
/// Larger included values are left to the document.
const INCLUDED_BYTES_MAX: usize = 4096;
const HASH_BYTES: usize = 16;

/// How a field becomes part of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Encoding {
    pub(crate) descending: bool,
    pub(crate) hash: bool,
    pub(crate) collation: Collation,
}

impl Encoding {
    /// Appends the value as part of a key, of any length; missing counts as null. `None` if it is
    /// not JB1.
    pub(crate) fn encode(self, value: Option<&[u8]>, out: &mut Vec<u8>) -> Option<()> {
        let from = out.len();
        let value = value.unwrap_or(&[jb1::NULL]);
        match (self.collation, jb1::kind(value)?) {
            (Collation::CaseInsensitive, Kind::String) => {
                let mut folded = String::new();
                fold(&jb1::string(value)?, &mut folded);
                key::put_string(out, folded.as_bytes());
            }
            (Collation::CaseInsensitive, Kind::Array | Kind::Object) => {
                key::encode(&folded_value(value)?, out)?;
            }
            _ => key::encode(value, out)?,
        }
        if self.hash {
            let hash = xxhash_rust::xxh3::xxh3_128(&out[from..]);
            out.truncate(from);
            out.extend_from_slice(&hash.to_be_bytes());
        }
        if self.descending {
            out[from..].iter_mut().for_each(|byte| *byte = !*byte);
        }
        Some(())
    }

    /// Where the part that begins at `at` ends.
    fn end(self, entry: &[u8], at: usize) -> Option<usize> {
        if self.hash {
            return Some(at + HASH_BYTES).filter(|end| *end <= entry.len());
        }
        key::skip(entry, at, if self.descending { 0xff } else { 0 })
    }

    /// Whether the value can be had back from the key.
    fn round_trips(self, value: &[u8]) -> bool {
        match jb1::kind(value) {
            Some(Kind::Null | Kind::False | Kind::True | Kind::Integer) => true,
            Some(Kind::String) if self.collation == Collation::Binary => true,
            Some(Kind::String) => jb1::string(value).is_some_and(|text| {
                let mut folded = String::new();
                fold(&text, &mut folded);
                folded == text
            }),
            _ => false,
        }
    }
}

/// The strings in an array or object, names excepted, folded.
fn folded_value(value: &[u8]) -> Option<Cow<'_, [u8]>> {
    let mut out = Vec::with_capacity(value.len());
    match jb1::kind(value)? {
        Kind::String => {
            let mut folded = String::new();
            fold(&jb1::string(value)?, &mut folded);
            jb1::put_string(&mut out, &folded);
        }
        Kind::Array => {
            let mut container = Container::begin(&mut out, false);
            for item in jb1::items(value)? {
                container.next(&out);
                out.extend_from_slice(&folded_value(item?)?);
            }
            container.finish(&mut out).ok()?;
        }
        Kind::Object => {
            let mut container = Container::begin(&mut out, true);
            for member in jb1::members(value)? {
                let (name, item) = member?;
                container.next(&out);
                jb1::put_name(&mut out, name);
                out.extend_from_slice(&folded_value(item)?);
            }
            container.finish(&mut out).ok()?;
        }
        _ => return Some(Cow::Borrowed(value)),
    }
    Some(Cow::Owned(out))
}

/// What a path reaches in a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reach<'a> {
    /// No array is on the way: the one value.
    One(&'a [u8]),
    /// No array is on the way, and the field is missing; `bare` if not even its first step exists.
    Missing { bare: bool },
    /// An array is. Its elements, `None` for those that lack the field; `null` for an empty one.
    Many(Vec<Option<&'a [u8]>>),
}

impl<'a> Reach<'a> {
    pub(crate) fn of(path: &Path, document: &'a [u8]) -> Self {
        let mut at = document;
        for (i, step) in path.steps().iter().enumerate() {
            at = match jb1::kind(at) {
                Some(Kind::Object) => match jb1::get(at, &step.escaped) {
                    Some(item) => item,
                    None => return Self::Missing { bare: i == 0 },
                },
                Some(Kind::Array) => return Self::many(path, document),
                _ => return Self::Missing { bare: false },
            };
        }
        if jb1::kind(at) == Some(Kind::Array) { Self::many(path, document) } else { Self::One(at) }
    }

    fn many(path: &Path, document: &'a [u8]) -> Self {
        let mut all = Vec::new();
        let _ = path.each_whole(document, |value| {
            match value.and_then(jb1::items) {
                None => all.push(value),
                Some(items) => {
                    let before = all.len();
                    all.extend(items);
                    if all.len() == before {
                        all.push(Some(&[jb1::NULL][..]));
                    }
                }
            }
            ControlFlow::Continue(())
        });
        Self::Many(all)
    }

    fn is_missing(&self) -> bool {
        match self {
            Self::One(_) => false,
            Self::Missing { .. } => true,
            Self::Many(all) => all.iter().all(Option::is_none),
        }
    }
}

/// What of a document goes into an index.
#[derive(Debug)]
pub(crate) struct Shape {
    pub(crate) name: String,
    pub(crate) fields: Vec<(Path, Encoding)>,
    pub(crate) include: Vec<Path>,
    pub(crate) sparse: bool,
}

/// One entry: key and value.
pub(crate) type Pair = (Bytes, Bytes);

/// The entries of one document, sorted by key, each key once.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Entries {
    pub(crate) pairs: Vec<Pair>,
    /// The field that an array was found on.
    pub(crate) multikey: Option<usize>,
}

impl Shape {
    /// The entries of a document; `id` is its encoded id.
    pub(crate) fn entries(&self, id: &[u8], document: &[u8]) -> Result<Entries, Unindexable> {
        let mut reached = Vec::with_capacity(self.fields.len());
        let mut multikey = None;
        for (i, (path, _)) in self.fields.iter().enumerate() {
            let reach = Reach::of(path, document);
            if matches!(reach, Reach::Many(_))
                && let Some(first) = multikey.replace(i)
            {
                let path = |at: usize| self.fields[at].0.as_str().to_owned();
                return Err(Unindexable::ParallelArrays { first: path(first), second: path(i) });
            }
            reached.push(reach);
        }
        if self.sparse && reached.iter().all(Reach::is_missing) {
            return Ok(Entries::default());
        }
        let many = multikey.map(|at| match &reached[at] {
            Reach::Many(all) if !all.is_empty() => all.clone(),
            _ => vec![None],
        });
        let count = many.as_ref().map_or(1, Vec::len);
        if count > ENTRIES_MAX {
            return Err(Unindexable::TooManyEntries { limit: ENTRIES_MAX });
        }
        let value = self.value(id, document, &reached, multikey.is_some());
        let mut pairs = Vec::with_capacity(count);
        for turn in 0..count {
            let mut key = Vec::with_capacity(id.len() + 16 * self.fields.len());
            for (reach, (path, encoding)) in reached.iter().zip(&self.fields) {
                let one = match reach {
                    Reach::One(value) => Some(*value),
                    Reach::Missing { .. } => None,
                    Reach::Many(_) => many.as_ref().and_then(|all| all[turn]),
                };
                let from = key.len();
                encoding.encode(one, &mut key).ok_or(Unindexable::Malformed)?;
                if key.len() - from > VALUE_BYTES_MAX {
                    let (path, limit) = (path.as_str().to_owned(), VALUE_BYTES_MAX);
                    return Err(Unindexable::ValueTooLarge { path, limit });
                }
            }
            key.extend_from_slice(id);
            pairs.push((Bytes::from(key), value.clone()));
        }
        if pairs.len() > 1 {
            pairs.sort_unstable();
            pairs.dedup();
        }
        Ok(Entries { pairs, multikey })
    }

    fn value(&self, id: &[u8], document: &[u8], reached: &[Reach<'_>], multikey: bool) -> Bytes {
        const UNCOVERED: Bytes = Bytes::from_static(&[NOT_COVERED]);
        if multikey {
            return UNCOVERED;
        }
        let mut slots = vec![SLOTS];
        let mut from_key = self.include.is_empty();
        let id_value = jb1::get(document, b"_id").unwrap_or_default();
        let mut id_back = Vec::new();
        if key::decode_jb1(id, &mut id_back).is_some() && id_back == id_value {
            slots.push(FROM_KEY);
        } else {
            from_key = false;
            put_original(&mut slots, id_value);
        }
        for (reach, (_, encoding)) in reached.iter().zip(&self.fields) {
            match reach {
                Reach::One(value) if !encoding.hash && encoding.round_trips(value) => {
                    slots.push(FROM_KEY);
                }
                Reach::One(value) if value.len() <= INCLUDED_BYTES_MAX => {
                    from_key = false;
                    put_original(&mut slots, value);
                }
                Reach::Missing { bare: true } => {
                    from_key = false;
                    slots.push(MISSING);
                }
                _ => return UNCOVERED,
            }
        }
        for path in &self.include {
            match Reach::of(path, document) {
                Reach::One(value) if value.len() <= INCLUDED_BYTES_MAX => {
                    put_original(&mut slots, value);
                }
                Reach::Missing { bare: true } => slots.push(MISSING),
                _ => return UNCOVERED,
            }
        }
        if from_key { Bytes::new() } else { Bytes::from(slots) }
    }

    /// Where the id begins in the key of an entry.
    pub(crate) fn id_at(&self, key: &[u8]) -> Option<usize> {
        self.fields.iter().try_fold(0, |at, (_, encoding)| encoding.end(key, at))
    }

    /// The value of the first field as JB1, as far as a key tells it.
    pub(crate) fn first_value(&self, key: &[u8]) -> Option<Vec<u8>> {
        let (_, encoding) = self.fields.first()?;
        let part = key.get(..encoding.end(key, 0)?)?;
        let mask = if encoding.descending { 0xff } else { 0 };
        let bytes: Vec<u8> = part.iter().map(|byte| byte ^ mask).collect();
        let mut value = Vec::with_capacity(bytes.len());
        key::decode_jb1(&bytes, &mut value)?;
        Some(value)
    }

    /// The values of a key as JSON text, for people.
    pub(crate) fn describe(&self, values: &[u8]) -> String {
        let mut out = Vec::new();
        let mut at = 0;
        for (path, encoding) in &self.fields {
            let Some(end) = encoding.end(values, at) else { break };
            let part = &values[at..end];
            let text = if encoding.hash {
                format!(
                    "\"hash {:032x}\"",
                    u128::from_be_bytes(part.try_into().unwrap_or_default())
                )
            } else {
                let mask = if encoding.descending { 0xff } else { 0 };
                key::Id(part.iter().map(|byte| byte ^ mask).collect()).to_json()
            };
            out.push(format!("{:?}:{text}", path.as_str()));
            at = end;
        }
        format!("{{{}}}", out.join(","))
    }

    /// A JB1 object with `_id` and exactly the fields of the index, as the document has them.
    /// `None` if the entry cannot tell.
    pub(crate) fn covered(&self, key: &[u8], value: &[u8]) -> Option<Vec<u8>> {
        let mut slots = Reader::new(value);
        let from_key = match slots.u8() {
            None => true,
            Some(SLOTS) => false,
            Some(_) => return None,
        };
        let mut next_slot = |keyed: bool| -> Option<(u8, &[u8])> {
            if from_key {
                return keyed.then_some((FROM_KEY, &[][..]));
            }
            match slots.u8()? {
                ORIGINAL => Some((ORIGINAL, slots.bytes()?)),
                slot => Some((slot, &[])),
            }
        };
        let id_at = self.id_at(key)?;
        let mut parts: Vec<(&[Step], Cow<'_, [u8]>)> = Vec::new();
        let id = match next_slot(true)? {
            (ORIGINAL, value) => Cow::Borrowed(value),
            _ => {
                let mut id = Vec::with_capacity(key.len() - id_at);
                key::decode_jb1(key.get(id_at..)?, &mut id)?;
                Cow::Owned(id)
            }
        };
        let mut at = 0;
        for (path, encoding) in &self.fields {
            let end = encoding.end(key, at)?;
            match next_slot(true)? {
                (MISSING, _) => {}
                (ORIGINAL, value) => parts.push((path.steps(), Cow::Borrowed(value))),
                _ => {
                    let mask = if encoding.descending { 0xff } else { 0 };
                    let bytes: Vec<u8> = key[at..end].iter().map(|byte| byte ^ mask).collect();
                    let mut value = Vec::with_capacity(bytes.len());
                    key::decode_jb1(&bytes, &mut value)?;
                    parts.push((path.steps(), Cow::Owned(value)));
                }
            }
            at = end;
        }
        for path in &self.include {
            if let (ORIGINAL, value) = next_slot(false)? {
                parts.push((path.steps(), Cow::Borrowed(value)));
            }
        }
        let mut out = Vec::with_capacity(64);
        assemble(Some(&id), &parts, &mut out)?;
        Some(out)
    }
}

fn put_original(out: &mut Vec<u8>, value: &[u8]) {
    out.push(ORIGINAL);
    put_varint(out, value.len() as u64);
    out.extend_from_slice(value);
}

/// An object of fields that may lie in one another's parents.
fn assemble(
    id: Option<&[u8]>,
    parts: &[(&[Step], Cow<'_, [u8]>)],
    out: &mut Vec<u8>,
) -> Option<()> {
    let mut container = Container::begin(out, true);
    if let Some(id) = id {
        container.next(out);
        jb1::put_name(out, Name { escaped: b"_id", has_escapes: false });
        out.extend_from_slice(id);
    }
    let mut done: Vec<&[u8]> = if id.is_some() { vec![b"_id"] } else { Vec::new() };
    for (steps, value) in parts {
        let (first, rest) = steps.split_first()?;
        if done.contains(&&first.escaped[..]) {
            continue;
        }
        done.push(&first.escaped);
        container.next(out);
        let has_escapes = first.escaped.contains(&b'\\');
        jb1::put_name(out, Name { escaped: &first.escaped, has_escapes });
        if rest.is_empty() {
            out.extend_from_slice(value);
            continue;
        }
        let siblings: Vec<(&[Step], Cow<'_, [u8]>)> = parts
            .iter()
            .filter(|(steps, _)| steps.first() == Some(first))
            .map(|(steps, value)| (&steps[1..], Cow::Borrowed(&value[..])))
            .collect();
        assemble(None, &siblings, out)?;
    }
    container.finish(out).ok()
}
