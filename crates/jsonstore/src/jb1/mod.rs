//! JB1: binary JSON for field access without parsing, splicing, and printing by `memcpy`.
//!
//! | tag | value |
//! |---|---|
//! | 00 01 02 | null, false, true |
//! | 10..18 | integer, that many bytes (0-8), little-endian two's complement |
//! | 19 | unsigned integer above `i64::MAX`, 8 bytes |
//! | 20 | any other number: varint length, its decimal text |
//! | 30, 31 | string: varint length, escaped text; 31 if it holds a backslash |
//! | 40 | array: u32 length of the body, u32 count, values |
//! | 50 | object: u32 length, u32 count, members; from 8 members a table of (hash u16, offset u32) |
//!
//! A member is varint (length << 1 | has escapes), escaped name, value. Strings keep one canonical
//! escaping, so equal strings have equal bytes.

mod parse;
mod print;

use std::borrow::Cow;

use crate::codec::{Reader, put_varint};

pub(crate) use self::{
    parse::{escape, from_value, parse, put_string},
    print::{print, print_over},
};
pub use crate::query::Update;
pub(crate) use crate::query::{apply, with_first_member};

pub(crate) const NULL: u8 = 0x00;
pub(crate) const FALSE: u8 = 0x01;
pub(crate) const TRUE: u8 = 0x02;
pub(crate) const INTEGER: u8 = 0x10;
pub(crate) const UNSIGNED: u8 = 0x19;
pub(crate) const DECIMAL: u8 = 0x20;
pub(crate) const STRING: u8 = 0x30;
pub(crate) const STRING_ESCAPED: u8 = 0x31;
pub(crate) const ARRAY: u8 = 0x40;
pub(crate) const OBJECT: u8 = 0x50;
/// Tag, length, count.
pub(crate) const CONTAINER_HEAD: usize = 9;
/// From this many members on, an object carries a hash table.
pub(crate) const TABLE_FROM: u32 = 8;
const TABLE_ENTRY: usize = 6;
/// Members for which a parser makes room at once.
const MEMBERS_EXPECTED: usize = 16;

/// Bounds on a document.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) bytes_max: usize,
    pub(crate) depth_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { bytes_max: 16 << 20, depth_max: 128 }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Null,
    False,
    True,
    Integer,
    Decimal,
    String,
    Array,
    Object,
}

pub(crate) fn kind(value: &[u8]) -> Option<Kind> {
    Some(match *value.first()? {
        NULL => Kind::Null,
        FALSE => Kind::False,
        TRUE => Kind::True,
        INTEGER..=UNSIGNED => Kind::Integer,
        DECIMAL => Kind::Decimal,
        STRING | STRING_ESCAPED => Kind::String,
        ARRAY => Kind::Array,
        OBJECT => Kind::Object,
        _ => return None,
    })
}

/// The value that begins at `at`, exactly.
pub(crate) fn value_at(bytes: &[u8], at: usize) -> Option<&[u8]> {
    let mut reader = Reader::at(bytes, at);
    skip(&mut reader)?;
    bytes.get(at..reader.position())
}

fn skip(reader: &mut Reader<'_>) -> Option<()> {
    match reader.u8()? {
        NULL | FALSE | TRUE => {}
        tag @ INTEGER..=0x18 => {
            reader.take(usize::from(tag - INTEGER))?;
        }
        UNSIGNED => {
            reader.take(8)?;
        }
        DECIMAL | STRING | STRING_ESCAPED => {
            reader.bytes()?;
        }
        ARRAY | OBJECT => {
            let len = reader.u32()?;
            reader.u32()?;
            reader.take(len as usize)?;
        }
        _ => return None,
    }
    Some(())
}

pub(crate) fn put_integer(out: &mut Vec<u8>, number: i64) {
    let bytes = number.to_le_bytes();
    let sign = if number < 0 { 0xff } else { 0 };
    let mut len = 8;
    // A byte may go if the rest still shows the sign.
    while len > 0 && bytes[len - 1] == sign && (len == 1 || bytes[len - 2] >> 7 == sign >> 7) {
        len -= 1;
    }
    if len == 0 && number != 0 {
        len = 1;
    }
    out.push(INTEGER + len as u8);
    out.extend_from_slice(&bytes[..len]);
}

pub(crate) fn integer(value: &[u8]) -> Option<i128> {
    let (tag, rest) = value.split_first()?;
    match *tag {
        UNSIGNED => Some(i128::from(u64::from_le_bytes(rest.try_into().ok()?))),
        tag @ INTEGER..=0x18 => {
            let len = usize::from(tag - INTEGER);
            let body = rest.get(..len)?;
            let negative = body.last().is_some_and(|b| b >> 7 == 1);
            let mut bytes = if negative { [0xff; 8] } else { [0; 8] };
            bytes.get_mut(..len)?.copy_from_slice(body);
            Some(i128::from(i64::from_le_bytes(bytes)))
        }
        _ => None,
    }
}

/// Any number as f64; infinite if it is beyond.
pub(crate) fn number(value: &[u8]) -> Option<f64> {
    match kind(value)? {
        Kind::Integer => Some(integer(value)? as f64),
        Kind::Decimal => std::str::from_utf8(text(value)?).ok()?.parse().ok(),
        _ => None,
    }
}

/// The raw text of a string or decimal.
pub(crate) fn text(value: &[u8]) -> Option<&[u8]> {
    Reader::at(value, 1).bytes()
}

pub(crate) fn string(value: &[u8]) -> Option<Cow<'_, str>> {
    let raw = std::str::from_utf8(text(value)?).ok()?;
    match *value.first()? {
        STRING => Some(Cow::Borrowed(raw)),
        STRING_ESCAPED => parse::unescape(raw).map(Cow::Owned),
        _ => None,
    }
}

/// The name of a member, as stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Name<'a> {
    pub(crate) escaped: &'a [u8],
    pub(crate) has_escapes: bool,
}

impl<'a> Name<'a> {
    pub(crate) fn unescaped(&self) -> Option<Cow<'a, str>> {
        let raw = std::str::from_utf8(self.escaped).ok()?;
        if self.has_escapes {
            parse::unescape(raw).map(Cow::Owned)
        } else {
            Some(Cow::Borrowed(raw))
        }
    }
}

fn head(value: &[u8], tag: u8) -> Option<(u32, &[u8])> {
    let mut reader = Reader::new(value);
    if reader.u8()? != tag {
        return None;
    }
    let len = reader.u32()?;
    let count = reader.u32()?;
    Some((count, reader.take(len as usize)?))
}

/// How many elements an array has.
pub(crate) fn count(array: &[u8]) -> Option<u32> {
    head(array, ARRAY).map(|(count, _)| count)
}

/// How deep the containers of a value nest.
pub(crate) fn depth(value: &[u8]) -> usize {
    let deepest = match kind(value) {
        Some(Kind::Array) => items(value).map(|items| items.flatten().map(depth).max()),
        Some(Kind::Object) => members(value).map(|m| m.flatten().map(|(_, v)| depth(v)).max()),
        _ => return 0,
    };
    1 + deepest.flatten().unwrap_or(0)
}

/// The elements of an array.
pub(crate) fn items(value: &[u8]) -> Option<impl Iterator<Item = Option<&[u8]>>> {
    let (count, body) = head(value, ARRAY)?;
    let mut at = 0;
    let mut left = count;
    Some(std::iter::from_fn(move || {
        left = left.checked_sub(1)?;
        let item = value_at(body, at);
        match item {
            Some(item) => at += item.len(),
            None => left = 0,
        }
        Some(item)
    }))
}

/// The members of an object, in their order.
pub(crate) fn members(value: &[u8]) -> Option<impl Iterator<Item = Option<(Name<'_>, &[u8])>>> {
    let (count, body) = head(value, OBJECT)?;
    let mut at = 0;
    let mut left = count;
    Some(std::iter::from_fn(move || {
        left = left.checked_sub(1)?;
        let member = member_at(body, at);
        match &member {
            Some((_, _, end)) => at = *end,
            None => left = 0,
        }
        Some(member.map(|(name, item, _)| (name, item)))
    }))
}

fn member_at(body: &[u8], at: usize) -> Option<(Name<'_>, &[u8], usize)> {
    let mut reader = Reader::at(body, at);
    let head = reader.varint()?;
    let escaped = reader.take(usize::try_from(head >> 1).ok()?)?;
    let item = value_at(body, reader.position())?;
    let end = reader.position() + item.len();
    Some((Name { escaped, has_escapes: head & 1 == 1 }, item, end))
}

pub(crate) fn put_name(out: &mut Vec<u8>, name: Name<'_>) {
    put_varint(out, (name.escaped.len() as u64) << 1 | u64::from(name.has_escapes));
    out.extend_from_slice(name.escaped);
}

/// One member of an object, by its escaped name.
pub(crate) fn get<'a>(value: &'a [u8], escaped: &[u8]) -> Option<&'a [u8]> {
    let (count, body) = head(value, OBJECT)?;
    if count < TABLE_FROM {
        let mut at = 0;
        for _ in 0..count {
            let (name, item, end) = member_at(body, at)?;
            if name.escaped == escaped {
                return Some(item);
            }
            at = end;
        }
        return None;
    }
    let table = body.get(body.len().checked_sub(count as usize * TABLE_ENTRY)?..)?;
    let want = hash16(escaped);
    let entry = |i: usize| -> Option<(u16, u32)> {
        let mut reader = Reader::at(table, i * TABLE_ENTRY);
        Some((reader.u16()?, reader.u32()?))
    };
    let (mut low, mut high) = (0, count as usize);
    while low < high {
        let middle = usize::midpoint(low, high);
        if entry(middle)?.0 < want { low = middle + 1 } else { high = middle }
    }
    while low < count as usize {
        let (hash, offset) = entry(low)?;
        if hash != want {
            return None;
        }
        let (name, item, _) = member_at(body, offset as usize)?;
        if name.escaped == escaped {
            return Some(item);
        }
        low += 1;
    }
    None
}

/// Sets the head and the table of an object right, in which a value that ended at `was` now ends at `is`.
pub(crate) fn shift(object: &mut [u8], was: usize, is: usize) -> Option<()> {
    let moved = |place: u32| u32::try_from((place as usize + is).checked_sub(was)?).ok();
    let (head, body) = object.split_at_mut_checked(CONTAINER_HEAD)?;
    let number = |bytes: &[u8]| Some(u32::from_le_bytes(bytes.try_into().ok()?));
    let len = moved(number(&head[1..5])?)?;
    head[1..5].copy_from_slice(&len.to_le_bytes());
    let count = number(&head[5..9])?;
    if count < TABLE_FROM {
        return Some(());
    }
    let table = body.len().checked_sub(count as usize * TABLE_ENTRY)?;
    for entry in body[table..].chunks_exact_mut(TABLE_ENTRY) {
        let offset = number(&entry[2..])?;
        if offset as usize + CONTAINER_HEAD >= was {
            entry[2..].copy_from_slice(&moved(offset)?.to_le_bytes());
        }
    }
    Some(())
}

/// The field at a dotted path; positions in arrays count as names.
pub(crate) fn field<'a>(value: &'a [u8], path: &str) -> Option<&'a [u8]> {
    let mut at = value;
    for step in path.split('.') {
        at = match kind(at)? {
            Kind::Object => {
                let mut escaped = Vec::with_capacity(step.len());
                escape(step, &mut escaped);
                get(at, &escaped)?
            }
            Kind::Array => items(at)?.nth(step.parse().ok()?)??,
            _ => return None,
        };
    }
    Some(at)
}

fn hash16(name: &[u8]) -> u16 {
    xxhash_rust::xxh3::xxh3_64(name) as u16
}

/// Builds one container; knows where its head lies.
pub(crate) struct Container {
    start: usize,
    offsets: Vec<u32>,
    count: u32,
    is_object: bool,
}

impl Container {
    pub(crate) fn begin(out: &mut Vec<u8>, is_object: bool) -> Self {
        let start = out.len();
        out.push(if is_object { OBJECT } else { ARRAY });
        out.extend_from_slice(&[0; 8]);
        let offsets = if is_object { Vec::with_capacity(MEMBERS_EXPECTED) } else { Vec::new() };
        Self { start, offsets, count: 0, is_object }
    }

    /// Call before each value (and, in an object, before its name).
    pub(crate) fn next(&mut self, out: &[u8]) {
        self.count += 1;
        if self.is_object {
            self.offsets.push((out.len() - self.start - CONTAINER_HEAD) as u32);
        }
    }

    /// Closes the container; `Err` carries the name of a member that occurs twice.
    pub(crate) fn finish(self, out: &mut Vec<u8>) -> Result<(), Vec<u8>> {
        let body = self.start + CONTAINER_HEAD;
        if self.is_object {
            self.finish_object(out, body)?;
        }
        let len = (out.len() - body) as u32;
        out[self.start + 1..self.start + 5].copy_from_slice(&len.to_le_bytes());
        out[self.start + 5..self.start + 9].copy_from_slice(&self.count.to_le_bytes());
        Ok(())
    }

    fn finish_object(&self, out: &mut Vec<u8>, body: usize) -> Result<(), Vec<u8>> {
        let name_at = |out: &[u8], offset: u32| -> (usize, usize) {
            let mut reader = Reader::at(out, body + offset as usize);
            let len = reader.varint().unwrap_or(0) as usize >> 1;
            (reader.position(), reader.position() + len)
        };
        if self.count < TABLE_FROM {
            for (i, a) in self.offsets.iter().enumerate() {
                let a = name_at(out, *a);
                for b in &self.offsets[..i] {
                    let b = name_at(out, *b);
                    if out[a.0..a.1] == out[b.0..b.1] {
                        return Err(out[a.0..a.1].to_vec());
                    }
                }
            }
            return Ok(());
        }
        let mut table: Vec<(u16, u32)> = Vec::with_capacity(self.offsets.len());
        for offset in &self.offsets {
            let (from, to) = name_at(out, *offset);
            table.push((hash16(&out[from..to]), *offset));
        }
        table.sort_unstable();
        let mut run = 0;
        for i in 1..=table.len() {
            if i < table.len() && table[i].0 == table[run].0 {
                continue;
            }
            let mut names: Vec<&[u8]> = table[run..i]
                .iter()
                .map(|(_, offset)| {
                    let (from, to) = name_at(out, *offset);
                    &out[from..to]
                })
                .collect();
            names.sort_unstable();
            if let Some(pair) = names.windows(2).find(|pair| pair[0] == pair[1]) {
                return Err(pair[0].to_vec());
            }
            run = i;
        }
        for (hash, offset) in table {
            out.extend_from_slice(&hash.to_le_bytes());
            out.extend_from_slice(&offset.to_le_bytes());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DocumentError;
    use serde_json::json;

    #[test]
    fn every_byte_of_a_string_is_looked_at() {
        let limits = Limits::default();
        // Miri is a thousand times slower.
        let longest = if cfg!(miri) { 9 } else { 19 };
        for len in 0..=longest {
            for at in 0..=len {
                let (before, after) = ("x".repeat(at), "\u{7f}é€".repeat(len - at));
                for control in 0..0x20 {
                    let text = format!("\"{before}{}{after}\"", char::from(control));
                    let refused = parse(text.as_bytes(), &limits).unwrap_err();
                    let offset = at + 1;
                    let reason = "no control character";
                    assert_eq!(refused, DocumentError::Syntax { offset, reason });
                }
                for special in ["\"", "\\", "é", "\u{7f}", " ", "!", "#", "[", "]"] {
                    let clear = format!("{before}{special}{after}");
                    let text = serde_json::to_string(&clear).unwrap();
                    let mut back = Vec::new();
                    print(&parse(text.as_bytes(), &limits).unwrap(), &mut back).unwrap();
                    assert_eq!(serde_json::from_slice::<String>(&back).unwrap(), clear);
                }
                let unended = format!("\"{before}{after}");
                assert!(parse(unended.as_bytes(), &limits).is_err());
            }
        }
    }

    #[test]
    fn integers_take_few_bytes() {
        for (number, len) in [
            (0, 1),
            (1, 2),
            (127, 2),
            (128, 3),
            (-1, 2),
            (-128, 2),
            (-129, 3),
            (i64::MAX, 9),
            (i64::MIN, 9),
        ] {
            let mut out = Vec::new();
            put_integer(&mut out, number);
            assert_eq!(integer(&out), Some(i128::from(number)));
            assert_eq!(out.len(), len, "{number}");
        }
    }

    #[test]
    fn members_are_found_by_scan_and_by_table() {
        for count in [3, 7, 8, 200] {
            let object: serde_json::Map<String, serde_json::Value> =
                (0..count).map(|i| (format!("k{i}"), json!(i))).collect();
            let bytes = from_value(&json!(object), &Limits::default()).unwrap();
            for i in 0..count {
                let item = get(&bytes, format!("k{i}").as_bytes()).unwrap();
                assert_eq!(integer(item), Some(i));
            }
            assert!(get(&bytes, b"absent").is_none());
        }
    }
}
