//! JSON text and values to JB1, in one pass.

use serde_json::Value;

use super::{
    Container, DECIMAL, FALSE, Limits, NULL, STRING, STRING_ESCAPED, TRUE, UNSIGNED, put_integer,
};
use crate::{
    codec::{put_bytes, put_varint},
    error::DocumentError,
};

/// Parses one JSON value that fills `text`.
pub(crate) fn parse(text: &[u8], limits: &Limits) -> Result<Vec<u8>, DocumentError> {
    if text.len() > limits.bytes_max {
        return Err(DocumentError::TooLarge { limit: limits.bytes_max });
    }
    let checked = std::str::from_utf8(text)
        .map_err(|e| DocumentError::InvalidUtf8 { offset: e.valid_up_to() })?;
    let mut parser = Parser {
        text: checked.as_bytes(),
        at: 0,
        out: Vec::with_capacity(text.len() + 32),
        limits,
    };
    parser.space();
    parser.value(0)?;
    parser.space();
    if parser.at < parser.text.len() {
        return Err(parser.syntax("end of the document"));
    }
    if parser.out.len() > limits.bytes_max {
        return Err(DocumentError::TooLarge { limit: limits.bytes_max });
    }
    Ok(parser.out)
}

/// A `serde_json` value as JB1.
pub(crate) fn from_value(value: &Value, limits: &Limits) -> Result<Vec<u8>, DocumentError> {
    let mut out = Vec::with_capacity(256);
    put_value(&mut out, value, limits, 0)?;
    if out.len() > limits.bytes_max {
        return Err(DocumentError::TooLarge { limit: limits.bytes_max });
    }
    Ok(out)
}

struct Parser<'a> {
    text: &'a [u8],
    at: usize,
    out: Vec<u8>,
    limits: &'a Limits,
}

impl Parser<'_> {
    fn syntax(&self, reason: &'static str) -> DocumentError {
        DocumentError::Syntax { offset: self.at, reason }
    }

    fn peek(&self) -> u8 {
        // 0 is never valid outside a string, so it serves as "end".
        self.text.get(self.at).copied().unwrap_or(0)
    }

    fn space(&mut self) {
        while matches!(self.peek(), b' ' | b'\t' | b'\n' | b'\r') {
            self.at += 1;
        }
    }

    fn word(&mut self, word: &'static [u8], tag: u8) -> Result<(), DocumentError> {
        if !self.text[self.at..].starts_with(word) {
            return Err(self.syntax("a value"));
        }
        self.at += word.len();
        self.out.push(tag);
        Ok(())
    }

    fn value(&mut self, depth: usize) -> Result<(), DocumentError> {
        match self.peek() {
            b'{' => self.object(depth),
            b'[' => self.array(depth),
            b'"' => self.string(),
            b'n' => self.word(b"null", NULL),
            b't' => self.word(b"true", TRUE),
            b'f' => self.word(b"false", FALSE),
            b'-' | b'0'..=b'9' => self.number(),
            _ => Err(self.syntax("a value")),
        }
    }

    fn deeper(&self, depth: usize) -> Result<usize, DocumentError> {
        if depth >= self.limits.depth_max {
            return Err(DocumentError::TooDeep { limit: self.limits.depth_max });
        }
        Ok(depth + 1)
    }

    fn array(&mut self, depth: usize) -> Result<(), DocumentError> {
        let depth = self.deeper(depth)?;
        let mut container = Container::begin(&mut self.out, false);
        self.at += 1;
        self.space();
        if self.peek() == b']' {
            self.at += 1;
        } else {
            loop {
                container.next(&self.out);
                self.space();
                self.value(depth)?;
                self.space();
                self.at += 1;
                match self.text.get(self.at - 1) {
                    Some(b',') => {}
                    Some(b']') => break,
                    _ => {
                        self.at -= 1;
                        return Err(self.syntax("a comma or ]"));
                    }
                }
            }
        }
        container.finish(&mut self.out).map_err(|_| DocumentError::Malformed)
    }

    fn object(&mut self, depth: usize) -> Result<(), DocumentError> {
        let depth = self.deeper(depth)?;
        let mut container = Container::begin(&mut self.out, true);
        self.at += 1;
        self.space();
        if self.peek() == b'}' {
            self.at += 1;
        } else {
            loop {
                container.next(&self.out);
                self.space();
                self.name()?;
                self.space();
                if self.peek() != b':' {
                    return Err(self.syntax("a colon"));
                }
                self.at += 1;
                self.space();
                self.value(depth)?;
                self.space();
                self.at += 1;
                match self.text.get(self.at - 1) {
                    Some(b',') => {}
                    Some(b'}') => break,
                    _ => {
                        self.at -= 1;
                        return Err(self.syntax("a comma or }"));
                    }
                }
            }
        }
        container.finish(&mut self.out).map_err(|name| DocumentError::DuplicateMember {
            name: String::from_utf8_lossy(&name).into_owned(),
        })
    }

    /// The string at the cursor: where its text lies, and whether it has escapes.
    fn scan_string(&mut self) -> Result<(usize, usize, bool), DocumentError> {
        if self.peek() != b'"' {
            return Err(self.syntax("a string"));
        }
        let from = self.at + 1;
        let mut at = from;
        let mut has_escapes = false;
        loop {
            at += self.plain(at);
            match self.text.get(at) {
                Some(b'"') => break,
                Some(b'\\') => {
                    has_escapes = true;
                    at += 2;
                }
                Some(0..=0x1f) => {
                    self.at = at;
                    return Err(self.syntax("no control character"));
                }
                Some(_) => at += 1,
                None => {
                    self.at = self.text.len();
                    return Err(self.syntax("the end of a string"));
                }
            }
        }
        self.at = at + 1;
        Ok((from, at, has_escapes))
    }

    /// How many bytes from here on surely are neither a quote nor a backslash nor a control character. Looks at
    /// eight at a time, as long as there are eight.
    fn plain(&self, from: usize) -> usize {
        const EACH: u64 = u64::MAX / 255;
        // The top bit of each byte that is less than `limit`, exact up to the first such byte.
        let below = |eight: u64, limit: u64| eight.wrapping_sub(EACH * limit) & !eight & EACH << 7;
        let is = |eight: u64, byte: u8| below(eight ^ (EACH * u64::from(byte)), 1);
        let rest = self.text.get(from..).unwrap_or_default();
        let mut count = 0;
        for eight in rest.as_chunks::<8>().0 {
            let eight = u64::from_le_bytes(*eight);
            let special = below(eight, 0x20) | is(eight, b'"') | is(eight, b'\\');
            if special != 0 {
                return count + (special.trailing_zeros() / 8) as usize;
            }
            count += 8;
        }
        count
    }

    /// One canonical escaping: equal strings get equal bytes.
    fn canonical(&self, from: usize, to: usize) -> Result<(Vec<u8>, bool), DocumentError> {
        let bad = DocumentError::Syntax { offset: from, reason: "a valid escape" };
        let raw = std::str::from_utf8(&self.text[from..to]).map_err(|_| bad.clone())?;
        let clear = unescape(raw).ok_or(bad)?;
        let mut out = Vec::with_capacity(clear.len() + 8);
        let has_escapes = escape(&clear, &mut out);
        Ok((out, has_escapes))
    }

    fn string(&mut self) -> Result<(), DocumentError> {
        let (from, to, has_escapes) = self.scan_string()?;
        if has_escapes {
            let (text, has_escapes) = self.canonical(from, to)?;
            self.out.push(if has_escapes { STRING_ESCAPED } else { STRING });
            put_bytes(&mut self.out, &text);
        } else {
            self.out.push(STRING);
            put_bytes(&mut self.out, &self.text[from..to]);
        }
        Ok(())
    }

    fn name(&mut self) -> Result<(), DocumentError> {
        let (from, to, has_escapes) = self.scan_string()?;
        if has_escapes {
            let (text, has_escapes) = self.canonical(from, to)?;
            put_varint(&mut self.out, (text.len() as u64) << 1 | u64::from(has_escapes));
            self.out.extend_from_slice(&text);
        } else {
            put_varint(&mut self.out, ((to - from) as u64) << 1);
            self.out.extend_from_slice(&self.text[from..to]);
        }
        Ok(())
    }

    fn number(&mut self) -> Result<(), DocumentError> {
        let from = self.at;
        if self.peek() == b'-' {
            self.at += 1;
        }
        match self.peek() {
            b'0' => self.at += 1,
            b'1'..=b'9' => self.digits(),
            _ => return Err(self.syntax("a digit")),
        }
        let mut is_integer = true;
        if self.peek() == b'.' {
            is_integer = false;
            self.at += 1;
            self.some_digits()?;
        }
        if matches!(self.peek(), b'e' | b'E') {
            is_integer = false;
            self.at += 1;
            if matches!(self.peek(), b'+' | b'-') {
                self.at += 1;
            }
            self.some_digits()?;
        }
        put_number(&mut self.out, &self.text[from..self.at], is_integer);
        Ok(())
    }

    fn digits(&mut self) {
        while self.peek().is_ascii_digit() {
            self.at += 1;
        }
    }

    fn some_digits(&mut self) -> Result<(), DocumentError> {
        if !self.peek().is_ascii_digit() {
            return Err(self.syntax("a digit"));
        }
        self.digits();
        Ok(())
    }
}

/// Integers that fit become binary; everything else keeps its text and so loses nothing.
fn put_number(out: &mut Vec<u8>, text: &[u8], is_integer: bool) {
    if is_integer && text != b"-0" {
        let digits = std::str::from_utf8(text).unwrap_or_default();
        if let Ok(number) = digits.parse::<i64>() {
            return put_integer(out, number);
        }
        if let Ok(number) = digits.parse::<u64>() {
            out.push(UNSIGNED);
            out.extend_from_slice(&number.to_le_bytes());
            return;
        }
    }
    out.push(DECIMAL);
    put_bytes(out, text);
}

fn put_value(
    out: &mut Vec<u8>,
    value: &Value,
    limits: &Limits,
    depth: usize,
) -> Result<(), DocumentError> {
    if depth >= limits.depth_max && (value.is_array() || value.is_object()) {
        return Err(DocumentError::TooDeep { limit: limits.depth_max });
    }
    match value {
        Value::Null => out.push(NULL),
        Value::Bool(false) => out.push(FALSE),
        Value::Bool(true) => out.push(TRUE),
        Value::Number(number) => {
            let text = number.to_string();
            let is_integer = text.bytes().all(|b| b.is_ascii_digit() || b == b'-');
            put_number(out, text.as_bytes(), is_integer);
        }
        Value::String(text) => put_string(out, text),
        Value::Array(items) => {
            let mut container = Container::begin(out, false);
            for item in items {
                container.next(out);
                put_value(out, item, limits, depth + 1)?;
            }
            container.finish(out).map_err(|_| DocumentError::Malformed)?;
        }
        Value::Object(object) => {
            let mut container = Container::begin(out, true);
            for (name, item) in object {
                container.next(out);
                let mut escaped = Vec::with_capacity(name.len());
                let has_escapes = escape(name, &mut escaped);
                put_varint(out, (escaped.len() as u64) << 1 | u64::from(has_escapes));
                out.extend_from_slice(&escaped);
                put_value(out, item, limits, depth + 1)?;
            }
            container.finish(out).map_err(|_| DocumentError::Malformed)?;
        }
    }
    Ok(())
}

pub(crate) fn put_string(out: &mut Vec<u8>, text: &str) {
    let mut escaped = Vec::with_capacity(text.len());
    let has_escapes = escape(text, &mut escaped);
    out.push(if has_escapes { STRING_ESCAPED } else { STRING });
    put_bytes(out, &escaped);
}

/// The canonical escaping: only what JSON demands, in its shortest form.
pub(crate) fn escape(text: &str, out: &mut Vec<u8>) -> bool {
    let mut has_escapes = false;
    for byte in text.bytes() {
        let short = match byte {
            b'"' => b'"',
            b'\\' => b'\\',
            0x08 => b'b',
            0x0c => b'f',
            b'\n' => b'n',
            b'\r' => b'r',
            b'\t' => b't',
            0..=0x1f => {
                has_escapes = true;
                const HEX: &[u8; 16] = b"0123456789abcdef";
                out.extend_from_slice(b"\\u00");
                out.push(HEX[usize::from(byte >> 4)]);
                out.push(HEX[usize::from(byte & 15)]);
                continue;
            }
            _ => {
                out.push(byte);
                continue;
            }
        };
        has_escapes = true;
        out.extend_from_slice(&[b'\\', short]);
    }
    has_escapes
}

/// The clear text of an escaped string; `None` for an invalid escape or a lone surrogate.
pub(crate) fn unescape(raw: &str) -> Option<String> {
    let mut out = String::with_capacity(raw.len());
    let mut rest = raw;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        let code = *rest.as_bytes().get(at + 1)?;
        let mut used = 2;
        out.push(match code {
            b'"' => '"',
            b'\\' => '\\',
            b'/' => '/',
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let first = hex4(rest, at + 2)?;
                used = 6;
                match first {
                    0xd800..=0xdbff => {
                        if rest.get(at + 6..at + 8)? != "\\u" {
                            return None;
                        }
                        let second = hex4(rest, at + 8)?;
                        if !(0xdc00..=0xdfff).contains(&second) {
                            return None;
                        }
                        used = 12;
                        char::from_u32(0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00))?
                    }
                    code => char::from_u32(code)?,
                }
            }
            _ => return None,
        });
        rest = rest.get(at + used..)?;
    }
    out.push_str(rest);
    Some(out)
}

fn hex4(text: &str, at: usize) -> Option<u32> {
    let digits = text.get(at..at + 4)?;
    if !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    u32::from_str_radix(digits, 16).ok()
}
