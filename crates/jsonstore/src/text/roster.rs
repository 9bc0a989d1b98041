//! What an index consists of at a moment, and the keys it uses.
//!
//! Keys of the index's keyspace begin with what they are: the roster, a page of a part, a page of the
//! bitmap of a part's dead documents, a change.

use bytes::Bytes;

use crate::codec::{Reader, put_bytes, put_varint};

const FORMAT: u8 = 1;
/// Documents whose bits share a page of the bitmap of the dead.
pub(crate) const DEAD_PAGE_DOCS: u32 = 1 << 16;

const ROSTER: u8 = 0;
const PAGE: u8 = 1;
const DEAD: u8 = 2;
pub(crate) const CHANGE: u8 = 3;

pub(crate) fn roster_key() -> Bytes {
    Bytes::from_static(&[ROSTER])
}

pub(crate) fn page_key(part: u64, section: u8, page: u32) -> [u8; 14] {
    let mut key = [0; 14];
    key[0] = PAGE;
    key[1..9].copy_from_slice(&part.to_be_bytes());
    key[9] = section;
    key[10..].copy_from_slice(&page.to_be_bytes());
    key
}

pub(crate) fn dead_key(part: u64, page: u32) -> [u8; 13] {
    let mut key = [0; 13];
    key[0] = DEAD;
    key[1..9].copy_from_slice(&part.to_be_bytes());
    key[9..].copy_from_slice(&page.to_be_bytes());
    key
}

/// Where the pages of a part, or the bitmap of its dead, begin.
pub(crate) fn part_prefixes(part: u64) -> [[u8; 9]; 2] {
    [PAGE, DEAD].map(|kind| {
        let mut key = [kind; 9];
        key[1..].copy_from_slice(&part.to_be_bytes());
        key
    })
}

/// The key of a change; the number rises with every commit that changes the same document.
pub(crate) fn change_key(number: u64, id: &[u8]) -> Vec<u8> {
    let mut key = vec![CHANGE];
    key.extend_from_slice(&number.to_be_bytes());
    key.extend_from_slice(id);
    key
}

/// The number and the id of a change's key.
pub(crate) fn split_change(key: &Bytes) -> Option<(u64, Bytes)> {
    let number = u64::from_be_bytes(key.get(1..9)?.try_into().ok()?);
    (key[0] == CHANGE).then(|| (number, key.slice(9..)))
}

/// What a change takes and what it adds: encoded terms, empty for nothing.
pub(crate) fn change_value(takes: &[u8], adds: &[u8]) -> Vec<u8> {
    let mut value = Vec::with_capacity(takes.len() + adds.len() + 5);
    put_bytes(&mut value, takes);
    value.extend_from_slice(adds);
    value
}

pub(crate) fn split_value(value: &Bytes) -> Option<(Bytes, Bytes)> {
    let mut reader = Reader::new(value);
    let len = reader.bytes()?.len();
    let at = reader.position();
    Some((value.slice(at - len..at), value.slice(at..)))
}

/// Documents and their terms in one field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct FieldTotals {
    /// Documents with at least one term here.
    pub(crate) docs: i64,
    pub(crate) terms: i64,
}

/// A part of the index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PartEntry {
    pub(crate) number: u64,
    pub(crate) docs: u32,
    pub(crate) dead: u32,
}

impl PartEntry {
    pub(crate) fn live(&self) -> u32 {
        self.docs - self.dead
    }
}

/// How far the first build is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Build {
    Done,
    /// Documents up to this id are in the index; none yet if it is empty.
    Upto(Bytes),
}

/// All parts and totals.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Roster {
    pub(crate) build: Build,
    pub(crate) next_part: u64,
    /// No change has a smaller number.
    pub(crate) changes_from: u64,
    /// Of all parts, without what is dead.
    pub(crate) fields: Vec<FieldTotals>,
    pub(crate) parts: Vec<PartEntry>,
    /// Parts that are no longer used; their pages are on their way out.
    pub(crate) dropped: Vec<u64>,
}

impl Roster {
    pub(crate) fn new(fields: usize) -> Self {
        Self {
            build: Build::Upto(Bytes::new()),
            next_part: 1,
            changes_from: 0,
            fields: vec![FieldTotals::default(); fields],
            parts: Vec::new(),
            dropped: Vec::new(),
        }
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.build == Build::Done
    }

    pub(crate) fn encode(&self) -> Bytes {
        let mut out = vec![FORMAT];
        match &self.build {
            Build::Done => out.push(0),
            Build::Upto(id) => {
                out.push(1);
                put_bytes(&mut out, id);
            }
        }
        put_varint(&mut out, self.next_part);
        put_varint(&mut out, self.changes_from);
        put_varint(&mut out, self.fields.len() as u64);
        for field in &self.fields {
            out.extend_from_slice(&field.docs.to_le_bytes());
            out.extend_from_slice(&field.terms.to_le_bytes());
        }
        put_varint(&mut out, self.parts.len() as u64);
        for part in &self.parts {
            put_varint(&mut out, part.number);
            put_varint(&mut out, u64::from(part.docs));
            put_varint(&mut out, u64::from(part.dead));
        }
        put_varint(&mut out, self.dropped.len() as u64);
        self.dropped.iter().for_each(|part| put_varint(&mut out, *part));
        Bytes::from(out)
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(bytes);
        if reader.u8()? != FORMAT {
            return None;
        }
        let build = match reader.u8()? {
            0 => Build::Done,
            1 => Build::Upto(Bytes::copy_from_slice(reader.bytes()?)),
            _ => return None,
        };
        let (next_part, changes_from) = (reader.varint()?, reader.varint()?);
        let mut fields = Vec::new();
        for _ in 0..reader.varint()? {
            let docs = i64::from_le_bytes(reader.array()?);
            fields.push(FieldTotals { docs, terms: i64::from_le_bytes(reader.array()?) });
        }
        let mut parts = Vec::new();
        for _ in 0..reader.varint()? {
            let number = reader.varint()?;
            let docs = u32::try_from(reader.varint()?).ok()?;
            let dead = u32::try_from(reader.varint()?).ok()?;
            if dead > docs {
                return None;
            }
            parts.push(PartEntry { number, docs, dead });
        }
        let mut dropped = Vec::new();
        for _ in 0..reader.varint()? {
            dropped.push(reader.varint()?);
        }
        Some(Self { build, next_part, changes_from, fields, parts, dropped })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rosters_and_keys_come_back() {
        let mut roster = Roster::new(2);
        assert_eq!(Roster::decode(&roster.encode()).as_ref(), Some(&roster));
        roster.build = Build::Done;
        roster.fields[1] = FieldTotals { docs: 7, terms: -3 };
        roster.parts.push(PartEntry { number: 300, docs: 5, dead: 2 });
        roster.dropped = vec![1, 2];
        let bytes = roster.encode();
        assert_eq!(Roster::decode(&bytes).as_ref(), Some(&roster));
        for len in 0..bytes.len() {
            assert_eq!(Roster::decode(&bytes[..len]), None, "{len}");
        }
        let key = Bytes::from(change_key(9, b"id"));
        assert_eq!(split_change(&key), Some((9, Bytes::from_static(b"id"))));
        let value = Bytes::from(change_value(b"old", b""));
        assert_eq!(split_value(&value), Some((Bytes::from_static(b"old"), Bytes::new())));
    }
}
