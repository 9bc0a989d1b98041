//! JSON (RFC 8259) with spans, which `serde_json` does not give.

use std::collections::HashMap;

use super::Context;
use crate::{
    code::codes,
    diagnostic::Diagnostic,
    tree::{Entry, Node, Table, Value},
};

pub(super) fn document(text: &str, context: &mut Context<'_>) -> Node {
    let mut parser = Parser { text, at: 0, context };
    let parsed = parser.value(0).and_then(|node| {
        parser.space();
        if parser.at < text.len() { Err(parser.expected("the end of the file")) } else { Ok(node) }
    });
    match parsed {
        Ok(node) => node,
        Err(Failure { message, at, help }) => {
            let end = text
                .get(at..)
                .and_then(|rest| rest.chars().next())
                .map_or(at, |c| at + c.len_utf8());
            let problem = Diagnostic::error(codes::SYNTAX, format!("not valid JSON: {message}"));
            let span = context.span(at..end);
            context.problems.push(problem.at(span, "").with_help(help));
            Node::empty_table(span)
        }
    }
}

struct Parser<'t, 'c, 'p> {
    text: &'t str,
    at: usize,
    context: &'c mut Context<'p>,
}

/// The first mistake ends the parse: JSON has no place to pick up again.
struct Failure {
    message: String,
    at: usize,
    help: &'static str,
}

type Parsed<T> = Result<T, Failure>;

impl Parser<'_, '_, '_> {
    fn value(&mut self, depth: usize) -> Parsed<Node> {
        self.space();
        let start = self.at;
        let value = match self.peek() {
            Some(b'{' | b'[') if depth >= self.context.depth_max => {
                let message =
                    format!("values are nested more than {} levels deep", self.context.depth_max);
                return Err(Failure { message, at: start, help: "flatten the structure" });
            }
            Some(b'{') => self.table(depth)?,
            Some(b'[') => self.array(depth)?,
            Some(b'"') => Value::String(self.string()?),
            Some(b'-' | b'0'..=b'9') => self.number()?,
            Some(b't') => self.word("true", Value::Bool(true))?,
            Some(b'f') => self.word("false", Value::Bool(false))?,
            Some(b'n') => self.word("null", Value::Null)?,
            _ => return Err(self.expected("a value")),
        };
        Ok(Node::new(value, self.context.span(start..self.at)))
    }

    fn table(&mut self, depth: usize) -> Parsed<Value> {
        let mut entries = Vec::new();
        let mut seen = HashMap::new();
        self.at += 1;
        self.space();
        while self.peek() != Some(b'}') {
            let start = self.at;
            if self.peek() != Some(b'"') {
                return Err(self.expected("a key in double quotes"));
            }
            let key = self.string()?;
            let key_span = self.context.span(start..self.at);
            self.space();
            self.take(b':', "`:`")?;
            let node = self.value(depth + 1)?;
            if let Some(first) = seen.insert(key.clone(), key_span) {
                let problem =
                    Diagnostic::error(codes::DUPLICATE_KEY, format!("duplicate key `{key}`"))
                        .at(key_span, "set a second time")
                        .with_label(first, "set here first")
                        .with_help("keep one of the two");
                self.context.problems.push(problem);
            } else {
                entries.push(Entry { key, key_span, node });
            }
            if !self.comma(b'}', "`,` or `}`")? {
                break;
            }
        }
        self.take(b'}', "`}`")?;
        Ok(Value::Table(Table { entries }))
    }

    fn array(&mut self, depth: usize) -> Parsed<Value> {
        let mut items = Vec::new();
        self.at += 1;
        self.space();
        while self.peek() != Some(b']') {
            items.push(self.value(depth + 1)?);
            if !self.comma(b']', "`,` or `]`")? {
                break;
            }
        }
        self.take(b']', "`]`")?;
        Ok(Value::Array(items))
    }

    /// Steps over a comma; `false` at the closing bracket.
    fn comma(&mut self, close: u8, expected: &'static str) -> Parsed<bool> {
        self.space();
        if self.peek() == Some(close) {
            return Ok(false);
        }
        let comma = self.at;
        self.take(b',', expected)?;
        self.space();
        if self.peek() == Some(close) {
            let message = "trailing comma".to_owned();
            return Err(Failure { message, at: comma, help: "remove the comma" });
        }
        Ok(true)
    }

    fn number(&mut self) -> Parsed<Value> {
        let start = self.at;
        self.skip(|b| b == b'-', 1);
        let int = self.at;
        if self.digits() == 0 {
            return Err(self.expected("a digit"));
        }
        if self.at - int > 1 && self.text.as_bytes().get(int) == Some(&b'0') {
            let message = "a number begins with a needless zero".to_owned();
            return Err(Failure { message, at: int, help: "remove the zero" });
        }
        let mut integral = true;
        if self.skip(|b| b == b'.', 1) == 1 {
            integral = false;
            if self.digits() == 0 {
                return Err(self.expected("a digit"));
            }
        }
        if self.skip(|b| matches!(b, b'e' | b'E'), 1) == 1 {
            integral = false;
            self.skip(|b| matches!(b, b'+' | b'-'), 1);
            if self.digits() == 0 {
                return Err(self.expected("a digit"));
            }
        }
        let text = self.text.get(start..self.at).unwrap_or_default();
        if integral && let Ok(value) = text.parse() {
            return Ok(Value::Integer(value));
        }
        match text.parse::<f64>() {
            Ok(value) if value.is_finite() => Ok(Value::Float(value)),
            _ => {
                let message = "number out of range".to_owned();
                Err(Failure { message, at: start, help: "use a smaller number" })
            }
        }
    }

    fn string(&mut self) -> Parsed<String> {
        let open = self.at;
        let mut out = String::new();
        self.at += 1;
        loop {
            let run = self.at;
            self.skip(|b| !matches!(b, b'"' | b'\\' | ..b' '), usize::MAX);
            out.push_str(self.text.get(run..self.at).unwrap_or_default());
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(out);
                }
                Some(b'\\') => out.push(self.escape()?),
                Some(_) => {
                    let message = "a control character inside a string".to_owned();
                    return Err(Failure {
                        message,
                        at: self.at,
                        help: "escape it, for example as \\n",
                    });
                }
                None => {
                    let message = "the string has no end".to_owned();
                    return Err(Failure { message, at: open, help: "close it with `\"`" });
                }
            }
        }
    }

    fn escape(&mut self) -> Parsed<char> {
        let start = self.at;
        self.at += 1;
        let letter = self.peek();
        self.at += usize::from(letter.is_some_and(|b| b.is_ascii()));
        let c = match letter {
            Some(c @ (b'"' | b'\\' | b'/')) => char::from(c),
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => return self.unicode(start),
            _ => return Err(invalid_escape(start)),
        };
        Ok(c)
    }

    // RFC 8259 §7: beyond the basic plane a character is a pair of surrogates.
    fn unicode(&mut self, start: usize) -> Parsed<char> {
        let high = self.hex().ok_or_else(|| invalid_escape(start))?;
        if !(0xD800..0xDC00).contains(&high) {
            return char::from_u32(high).ok_or_else(|| invalid_escape(start));
        }
        let paired = self.text.get(self.at..).is_some_and(|rest| rest.starts_with("\\u"));
        self.at += if paired { 2 } else { 0 };
        match paired.then(|| self.hex()).flatten() {
            Some(low @ 0xDC00..0xE000) => {
                char::from_u32(0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00))
            }
            _ => None,
        }
        .ok_or_else(|| invalid_escape(start))
    }

    fn hex(&mut self) -> Option<u32> {
        let digits = self.text.get(self.at..self.at + 4)?;
        // `from_str_radix` would take a sign.
        let value = digits.bytes().all(|b| b.is_ascii_hexdigit());
        self.at += 4;
        value.then(|| u32::from_str_radix(digits, 16).ok()).flatten()
    }

    fn word(&mut self, word: &str, value: Value) -> Parsed<Value> {
        if !self.text.get(self.at..).is_some_and(|rest| rest.starts_with(word)) {
            return Err(self.expected("a value"));
        }
        self.at += word.len();
        Ok(value)
    }

    fn space(&mut self) {
        self.skip(|b| matches!(b, b' ' | b'\t' | b'\n' | b'\r'), usize::MAX);
    }

    fn digits(&mut self) -> usize {
        self.skip(|b| b.is_ascii_digit(), usize::MAX)
    }

    fn skip(&mut self, accept: impl Fn(u8) -> bool, count_max: usize) -> usize {
        let rest = self.text.as_bytes().get(self.at..).unwrap_or_default();
        let count = rest.iter().take(count_max).take_while(|&&b| accept(b)).count();
        self.at += count;
        count
    }

    fn take(&mut self, byte: u8, expected: &str) -> Parsed<()> {
        if self.peek() != Some(byte) {
            return Err(self.expected(expected));
        }
        self.at += 1;
        Ok(())
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn expected(&self, what: &str) -> Failure {
        let rest = self.text.get(self.at..).unwrap_or_default();
        let (found, help) = match rest.chars().next() {
            None => ("the end of the file".to_owned(), "is the file cut off?"),
            Some('/' | '#') => ("a comment".to_owned(), "JSON has no comments; use TOML for them"),
            Some('\'') => ("`'`".to_owned(), "JSON uses double quotes"),
            Some(c) => (format!("`{}`", c.escape_debug()), "see RFC 8259 for the notation"),
        };
        Failure { message: format!("expected {what}, found {found}"), at: self.at, help }
    }
}

fn invalid_escape(at: usize) -> Failure {
    let help = "write a backslash as `\\\\`";
    Failure { message: "not an escape sequence".to_owned(), at, help }
}
