//! Order-preserving keys: comparing the bytes compares the JSON values.
//!
//! `missing < null < false < true < number < string < array < object`. Every encoding ends itself,
//! so a tuple is the encodings one after the other.

use crate::{
    codec::{Reader, put_bytes},
    error::{DocumentError, Error},
    jb1::{self, Kind},
};

pub(crate) const NULL: u8 = 0x10;
pub(crate) const FALSE: u8 = 0x20;
pub(crate) const TRUE: u8 = 0x21;
pub(crate) const NUMBER: u8 = 0x30;
pub(crate) const STRING: u8 = 0x40;
const ARRAY: u8 = 0x50;
pub(crate) const OBJECT: u8 = 0x60;
/// Ends an array or object; below every type.
const END: u8 = 0x00;

/// The longest encoded id.
pub(crate) const ID_BYTES_MAX: usize = 1024;

/// The key of a document: an encoded, ordered id.
///
/// Made from the usual Rust types; a tuple-like id is an array.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id(pub(crate) Vec<u8>);

impl Id {
    /// From a JSON value.
    ///
    /// # Errors
    /// Objects, `null` and numbers beyond f64 are no ids; so is anything above 1024 encoded bytes.
    pub fn from_json(value: &serde_json::Value) -> Result<Self, Error> {
        let bytes = jb1::from_value(value, &jb1::Limits::default())?;
        Self::from_jb1(&bytes)
    }

    /// An id made of several parts, ordered by the first, then the second, …
    pub fn tuple(parts: &[Self]) -> Self {
        let mut out = vec![ARRAY];
        for part in parts {
            out.extend_from_slice(&part.0);
        }
        out.push(END);
        Self(out)
    }

    /// The encoded bytes: comparing them compares ids.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The id as JSON text.
    pub fn to_json(&self) -> String {
        let mut out = String::new();
        let mut reader = Reader::new(&self.0);
        if decode(&mut reader, &mut out, 0).is_none() {
            out.push('?');
        }
        out
    }

    pub(crate) fn from_jb1(value: &[u8]) -> Result<Self, Error> {
        let mut out = Vec::with_capacity(24);
        encode_id(value, &mut out).ok_or(DocumentError::InvalidId)?;
        if out.len() > ID_BYTES_MAX {
            return Err(DocumentError::InvalidId.into());
        }
        Ok(Self(out))
    }
}

impl From<&str> for Id {
    fn from(text: &str) -> Self {
        let mut out = Vec::with_capacity(text.len() + 3);
        put_string(&mut out, text.as_bytes());
        Self(out)
    }
}

impl From<String> for Id {
    fn from(text: String) -> Self {
        Self::from(text.as_str())
    }
}

impl From<i64> for Id {
    fn from(number: i64) -> Self {
        let mut out = Vec::with_capacity(10);
        put_integer(&mut out, i128::from(number));
        Self(out)
    }
}

impl From<i32> for Id {
    fn from(number: i32) -> Self {
        Self::from(i64::from(number))
    }
}

impl From<u64> for Id {
    fn from(number: u64) -> Self {
        let mut out = Vec::with_capacity(10);
        put_integer(&mut out, i128::from(number));
        Self(out)
    }
}

/// Encodes any JB1 value. `None` if the bytes are not JB1.
pub(crate) fn encode(value: &[u8], out: &mut Vec<u8>) -> Option<()> {
    match jb1::kind(value)? {
        Kind::Null => out.push(NULL),
        Kind::False => out.push(FALSE),
        Kind::True => out.push(TRUE),
        Kind::Integer => put_integer(out, jb1::integer(value)?),
        Kind::Decimal => put_float(out, jb1::number(value)?),
        Kind::String => put_string(out, jb1::string(value)?.as_bytes()),
        Kind::Array => {
            out.push(ARRAY);
            for item in jb1::items(value)? {
                encode(item?, out)?;
            }
            out.push(END);
        }
        Kind::Object => {
            out.push(OBJECT);
            encode_members(value, out)?;
            out.push(END);
        }
    }
    Some(())
}

/// By name: objects with the same members are equal, whatever their order.
fn encode_members(object: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let mut members = Vec::new();
    for member in jb1::members(object)? {
        let (name, item) = member?;
        members.push((name.unescaped()?, item));
    }
    members.sort_by(|a, b| a.0.cmp(&b.0));
    for (name, item) in members {
        put_string(out, name.as_bytes());
        encode(item, out)?;
    }
    Some(())
}

fn encode_id(value: &[u8], out: &mut Vec<u8>) -> Option<()> {
    match jb1::kind(value)? {
        Kind::Null | Kind::Object => None,
        Kind::Decimal if !jb1::number(value)?.is_finite() => None,
        Kind::Array => {
            out.push(ARRAY);
            for item in jb1::items(value)? {
                encode_id(item?, out)?;
                if out.len() > ID_BYTES_MAX {
                    return None;
                }
            }
            out.push(END);
            Some(())
        }
        _ => encode(value, out),
    }
}

pub(crate) fn put_string(out: &mut Vec<u8>, text: &[u8]) {
    put_string_prefix(out, text);
    out.extend_from_slice(&[0, 0]);
}

fn put_string_prefix(out: &mut Vec<u8>, text: &[u8]) {
    out.push(STRING);
    for byte in text {
        out.push(*byte);
        if *byte == 0 {
            out.push(0xff);
        }
    }
}

/// What the encodings of all strings begin with that begin with this one.
pub(crate) fn string_prefix(text: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len() + 1);
    put_string_prefix(&mut out, text.as_bytes());
    out
}

/// Encodings one after the other as text for people, whether inverted or not; `…` for what is not
/// whole.
pub(crate) fn describe(bytes: &[u8]) -> String {
    let mut parts = Vec::new();
    let mut rest = bytes.to_vec();
    while let Some(tag) = rest.first() {
        // Every tag is small, and large when inverted.
        if *tag >= 0x80 {
            rest.iter_mut().for_each(|byte| *byte = !*byte);
        }
        let mut reader = Reader::new(&rest);
        let mut text = String::new();
        if decode(&mut reader, &mut text, 0).is_none() {
            parts.push("…".to_owned());
            break;
        }
        parts.push(text);
        rest.drain(..reader.position());
    }
    parts.join(", ")
}

/// Ordered bits of a float: negative numbers inverted, positive ones with the sign bit set.
fn ordered_bits(number: f64) -> u64 {
    // -0.0 is the same id as 0.
    let bits = if number == 0.0 { 0 } else { number.to_bits() };
    if bits >> 63 == 1 { !bits } else { bits | 1 << 63 }
}

pub(crate) fn put_float(out: &mut Vec<u8>, number: f64) {
    out.push(NUMBER);
    out.extend_from_slice(&ordered_bits(number).to_be_bytes());
    out.push(0x80);
}

/// The nearest float, then how far the integer lies from it: 2^53 + 1 sorts right.
pub(crate) fn put_integer(out: &mut Vec<u8>, number: i128) {
    let float = number as f64;
    out.push(NUMBER);
    out.extend_from_slice(&ordered_bits(float).to_be_bytes());
    let residue = number - float as i128;
    match residue {
        0 => out.push(0x80),
        _ => {
            out.push(if residue < 0 { 0x7f } else { 0x81 });
            out.extend_from_slice(&((residue + 0x8000) as u16).to_be_bytes());
        }
    }
}

/// Prints the value at the reader as JSON text; the inverse of `encode` up to number formatting.
fn decode(reader: &mut Reader<'_>, out: &mut String, depth: usize) -> Option<()> {
    if depth > 128 {
        return None;
    }
    match reader.u8()? {
        NULL => out.push_str("null"),
        FALSE => out.push_str("false"),
        TRUE => out.push_str("true"),
        NUMBER => decode_number(reader, out)?,
        STRING => decode_string(reader, out)?,
        ARRAY => {
            out.push('[');
            let mut first = true;
            while !at_end(reader)? {
                if !std::mem::take(&mut first) {
                    out.push(',');
                }
                decode(reader, out, depth + 1)?;
            }
            out.push(']');
        }
        OBJECT => {
            out.push('{');
            let mut first = true;
            while !at_end(reader)? {
                if !std::mem::take(&mut first) {
                    out.push(',');
                }
                decode(reader, out, depth + 1)?;
                out.push(':');
                decode(reader, out, depth + 1)?;
            }
            out.push('}');
        }
        _ => return None,
    }
    Some(())
}

fn at_end(reader: &mut Reader<'_>) -> Option<bool> {
    let mut ahead = *reader;
    let end = ahead.u8()? == END;
    if end {
        *reader = ahead;
    }
    Some(end)
}

/// The nearest float, and how far the number lies from it.
fn number_parts(reader: &mut Reader<'_>) -> Option<(f64, i128)> {
    let ordered = u64::from_be_bytes(reader.array()?);
    let bits = if ordered >> 63 == 1 { ordered & !(1 << 63) } else { !ordered };
    let float = f64::from_bits(bits);
    let residue = match reader.u8()? {
        0x80 => 0,
        0x7f | 0x81 => i128::from(u16::from_be_bytes(reader.array()?)) - 0x8000,
        _ => return None,
    };
    Some((float, residue))
}

fn decode_number(reader: &mut Reader<'_>, out: &mut String) -> Option<()> {
    let (float, residue) = number_parts(reader)?;
    if float.fract() == 0.0 && float.abs() <= 18_446_744_073_709_551_616.0 {
        out.push_str(&(float as i128 + residue).to_string());
    } else {
        out.push_str(&serde_json::Number::from_f64(float)?.to_string());
    }
    Some(())
}

fn string_text(reader: &mut Reader<'_>) -> Option<String> {
    let mut text = Vec::new();
    loop {
        match reader.u8()? {
            0 => match reader.u8()? {
                0 => break,
                0xff => text.push(0),
                _ => return None,
            },
            byte => text.push(byte),
        }
    }
    String::from_utf8(text).ok()
}

fn decode_string(reader: &mut Reader<'_>, out: &mut String) -> Option<()> {
    out.push_str(&serde_json::to_string(&string_text(reader)?).ok()?);
    Some(())
}

/// Where the encoding that begins at `at` ends; each byte is inverted by `mask` first.
pub(crate) fn skip(bytes: &[u8], at: usize, mask: u8) -> Option<usize> {
    let byte = |at: usize| bytes.get(at).map(|byte| byte ^ mask);
    let mut at = at;
    let mut open = 0_usize;
    loop {
        let tag = byte(at)?;
        at += 1;
        match tag {
            NULL | FALSE | TRUE => {}
            NUMBER => at += if byte(at + 8)? == 0x80 { 9 } else { 11 },
            STRING => loop {
                at += 1 + bytes.get(at..)?.iter().position(|byte| byte ^ mask == 0)?;
                at += 1;
                if byte(at - 1)? == 0 {
                    break;
                }
            },
            ARRAY | OBJECT => open += 1,
            END => open = open.checked_sub(1)?,
            _ => return None,
        }
        if open == 0 {
            return (at <= bytes.len()).then_some(at);
        }
    }
}

/// Decodes one key of any type but object to JB1. Numbers that are not integers come in the shortest
/// form, so the original may have been another text.
pub(crate) fn decode_jb1(bytes: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let mut reader = Reader::new(bytes);
    decode_value(&mut reader, out, 0)?;
    reader.is_empty().then_some(())
}

fn decode_value(reader: &mut Reader<'_>, out: &mut Vec<u8>, depth: usize) -> Option<()> {
    match reader.u8()? {
        NULL => out.push(jb1::NULL),
        FALSE => out.push(jb1::FALSE),
        TRUE => out.push(jb1::TRUE),
        NUMBER => {
            let (float, residue) = number_parts(reader)?;
            if float.fract() == 0.0 && float.abs() <= 18_446_744_073_709_551_616.0 {
                let integer = float as i128 + residue;
                match (i64::try_from(integer), u64::try_from(integer)) {
                    (Ok(integer), _) => jb1::put_integer(out, integer),
                    (_, Ok(integer)) => {
                        out.push(jb1::UNSIGNED);
                        out.extend_from_slice(&integer.to_le_bytes());
                    }
                    _ => return None,
                }
            } else {
                let text = serde_json::Number::from_f64(float)?.to_string();
                out.push(jb1::DECIMAL);
                put_bytes(out, text.as_bytes());
            }
        }
        STRING => jb1::put_string(out, &string_text(reader)?),
        ARRAY if depth < 128 => {
            let mut container = jb1::Container::begin(out, false);
            while !at_end(reader)? {
                container.next(out);
                decode_value(reader, out, depth + 1)?;
            }
            container.finish(out).ok()?;
        }
        _ => return None,
    }
    Some(())
}

/// Decodes untrusted key bytes; for tests and fuzzing.
#[cfg(any(test, feature = "testing"))]
pub(crate) fn decode_untrusted(bytes: &[u8]) -> Option<String> {
    let mut reader = Reader::new(bytes);
    let mut out = String::new();
    while !reader.is_empty() {
        decode(&mut reader, &mut out, 0)?;
        out.push(' ');
    }
    Some(out)
}

/// The smallest key greater than every key that begins with `prefix`; `None` if there is none.
pub(crate) fn prefix_end(prefix: &[u8]) -> Option<Vec<u8>> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < 0xff {
            end.push(last + 1);
            return Some(end);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn key(value: &Value) -> Vec<u8> {
        let mut out = Vec::new();
        encode(&jb1::from_value(value, &jb1::Limits::default()).unwrap(), &mut out).unwrap();
        out
    }

    #[test]
    fn keys_sort_as_values() {
        let rows = [
            json!(null),
            json!(false),
            json!(true),
            json!(-1e300),
            json!(i64::MIN),
            json!(-1.5),
            json!(-1),
            json!(0),
            json!(5e-324),
            json!(1),
            json!(9_007_199_254_740_992_u64),
            json!(9_007_199_254_740_993_u64),
            json!(9_007_199_254_740_994_u64),
            json!(i64::MAX - 1),
            json!(i64::MAX),
            json!(u64::MAX - 1),
            json!(u64::MAX),
            json!(1e300),
            json!(""),
            json!("\0"),
            json!("\0a"),
            json!("a"),
            json!("a\0"),
            json!("ab"),
            json!("ä"),
            json!([]),
            json!([1]),
            json!([1, 1]),
            json!([2]),
            json!(["a"]),
            json!({}),
            json!({"a": 1}),
            json!({"a": 2}),
        ];
        for pair in rows.windows(2) {
            assert!(key(&pair[0]) < key(&pair[1]), "{} < {}", pair[0], pair[1]);
        }
    }

    #[test]
    fn ids_print_as_they_were() {
        for value in [json!(5), json!("a\0b"), json!(u64::MAX), json!([1, "x", true]), json!(-2.5)]
        {
            assert_eq!(Id::from_json(&value).unwrap().to_json(), value.to_string());
        }
        for value in [json!(null), json!({"a": 1}), json!([null]), json!("x".repeat(2000))] {
            assert!(Id::from_json(&value).is_err(), "{value}");
        }
    }

    #[test]
    fn prefix_ends() {
        assert_eq!(prefix_end(&[1, 2]), Some(vec![1, 3]));
        assert_eq!(prefix_end(&[1, 0xff]), Some(vec![2]));
        assert_eq!(prefix_end(&[0xff]), None);
    }
}
