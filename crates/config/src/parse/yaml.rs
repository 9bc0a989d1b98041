//! YAML 1.2 by its core schema, through the events of `saphyr-parser`.
//!
//! Refused on purpose: aliases (a short file could become a huge tree), tags, several documents.

use std::{borrow::Cow, collections::HashMap, ops::Range};

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, StrInput};

use super::Context;
use crate::{
    code::codes,
    diagnostic::Diagnostic,
    tree::{Entry, Node, Table, Value},
};

pub(super) fn document(text: &str, context: &mut Context<'_>) -> Node {
    let parser = Parser::new_from_str(text);
    let root = context.span(0..0);
    match (Builder { parser, offsets: Offsets::new(text), context }).document() {
        Ok(Some(node)) => node,
        // A file of comments sets nothing.
        Ok(None) => Node::empty_table(root),
        Err(problem) => {
            context.problems.push(problem);
            Node::empty_table(root)
        }
    }
}

struct Builder<'t, 'c, 'p> {
    parser: Parser<'t, StrInput<'t>>,
    offsets: Offsets,
    context: &'c mut Context<'p>,
}

type Step<'t> = (Event<'t>, Range<usize>);

impl<'t> Builder<'t, '_, '_> {
    fn document(mut self) -> Result<Option<Node>, Diagnostic> {
        let mut root = None;
        loop {
            let (event, range) = self.next()?;
            match event {
                Event::StreamEnd => return Ok(root),
                Event::DocumentStart(_) if root.is_some() => {
                    return Err(self.refuse(
                        "a second document",
                        range,
                        "keep one document per file",
                    ));
                }
                Event::Nothing
                | Event::StreamStart
                | Event::DocumentStart(_)
                | Event::DocumentEnd => {}
                // An empty document is an empty scalar.
                Event::Scalar(text, ScalarStyle::Plain, ..) if text.is_empty() => {}
                event => root = Some(self.node((event, range), 0)?),
            }
        }
    }

    fn node(&mut self, (event, range): Step<'t>, depth: usize) -> Result<Node, Diagnostic> {
        let span = self.context.span(range.clone());
        if depth > self.context.depth_max {
            let message =
                format!("values are nested more than {} levels deep", self.context.depth_max);
            let problem = Diagnostic::error(codes::TOO_DEEP, message).at(span, "too deep");
            return Err(problem.with_help("flatten the structure"));
        }
        let (value, end) = match event {
            Event::Scalar(_, _, _, Some(_))
            | Event::SequenceStart(_, Some(_))
            | Event::MappingStart(_, Some(_)) => {
                return Err(self.refuse("a tag", range, "remove the tag: keys know their types"));
            }
            Event::Scalar(text, ScalarStyle::Plain, ..) => (plain(&text), range.end),
            Event::Scalar(text, ..) => (Value::String(text.into_owned()), range.end),
            Event::SequenceStart(..) => self.array(depth)?,
            Event::MappingStart(..) => self.table(depth)?,
            Event::Alias(_) => {
                return Err(self.refuse("an alias", range, "write the value out in full"));
            }
            _ => return Err(self.refuse("this", range, "see https://yaml.org for the notation")),
        };
        // A block ends where its last value does, not at the blank lines behind it.
        Ok(Node::new(value, self.context.span(range.start..end.max(range.end))))
    }

    fn array(&mut self, depth: usize) -> Result<(Value, usize), Diagnostic> {
        let (mut items, mut end) = (Vec::new(), 0);
        loop {
            match self.next()? {
                (Event::SequenceEnd, range) => {
                    return Ok((Value::Array(items), self.closing(range, end)));
                }
                step => {
                    let node = self.node(step, depth + 1)?;
                    end = self.end_of(&node);
                    items.push(node);
                }
            }
        }
    }

    fn table(&mut self, depth: usize) -> Result<(Value, usize), Diagnostic> {
        let (mut entries, mut end) = (Vec::<Entry>::new(), 0);
        let mut seen = HashMap::new();
        loop {
            let (key, range) = match self.next()? {
                (Event::MappingEnd, range) => {
                    return Ok((Value::Table(Table { entries }), self.closing(range, end)));
                }
                (Event::Scalar(text, _, _, None), range) => (text, range),
                (_, range) => {
                    return Err(self.refuse(
                        "a key that is no plain text",
                        range,
                        "use a plain word",
                    ));
                }
            };
            let key_span = self.context.span(range);
            let step = self.next()?;
            let node = self.node(step, depth + 1)?;
            end = self.end_of(&node);
            if let Some(first) = seen.insert(Cow::clone(&key), key_span) {
                let message = format!("duplicate key `{key}`");
                let problem = Diagnostic::error(codes::DUPLICATE_KEY, message)
                    .at(key_span, "set a second time")
                    .with_label(first, "set here first")
                    .with_help("keep one of the two");
                self.context.problems.push(problem);
            } else {
                entries.push(Entry { key: key.into_owned(), key_span, node });
            }
        }
    }

    fn next(&mut self) -> Result<Step<'t>, Diagnostic> {
        let end = self.offsets.end;
        match self.parser.next_event() {
            Some(Ok((event, span))) => {
                let start = self.offsets.byte(span.start.index());
                let end = self.offsets.byte(span.end.index());
                Ok((event, start..end.max(start)))
            }
            Some(Err(error)) => Err(self.syntax(&error)),
            None => Ok((Event::StreamEnd, end..end)),
        }
    }

    /// Only brackets belong to what they close; the end of a block is the next token's place.
    fn closing(&self, range: Range<usize>, last: usize) -> usize {
        if range.is_empty() { last } else { range.end }
    }

    fn end_of(&self, node: &Node) -> usize {
        node.span.range().end - self.context.base
    }

    fn syntax(&self, error: &ScanError) -> Diagnostic {
        let at = self.offsets.byte(error.marker().index());
        Diagnostic::error(codes::SYNTAX, format!("not valid YAML: {}", error.info()))
            .at(self.context.span(at..at), "")
            .with_help("check the indentation here and in the line before")
    }

    fn refuse(&self, what: &str, range: Range<usize>, help: &str) -> Diagnostic {
        Diagnostic::error(codes::SYNTAX, format!("{what} is not supported in a YAML configuration"))
            .at(self.context.span(range), "")
            .with_help(help)
    }
}

/// The parser counts characters, we count bytes.
struct Offsets {
    /// Byte offset of each character; empty for plain ASCII, where the two are the same.
    table: Vec<usize>,
    end: usize,
}

impl Offsets {
    fn new(text: &str) -> Self {
        let table = if text.is_ascii() {
            Vec::new()
        } else {
            text.char_indices().map(|(at, _)| at).collect()
        };
        Self { table, end: text.len() }
    }

    fn byte(&self, index: usize) -> usize {
        if self.table.is_empty() {
            return index.min(self.end);
        }
        self.table.get(index).copied().unwrap_or(self.end)
    }
}

/// YAML 1.2 §10.3.2, the core schema: `no` and `on` are strings.
fn plain(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" => return Value::Bool(true),
        "false" | "False" | "FALSE" => return Value::Bool(false),
        ".nan" | ".NaN" | ".NAN" => return Value::Float(f64::NAN),
        _ => {}
    }
    let unsigned = text.trim_start_matches(['+', '-']);
    let based = |prefix: &str, radix: u32| {
        let digits = text.strip_prefix(prefix)?;
        digits
            .chars()
            .all(|c| c.is_digit(radix))
            .then(|| i128::from_str_radix(digits, radix).ok())?
    };
    if let Some(value) = based("0x", 16).or_else(|| based("0o", 8)) {
        return Value::Integer(value);
    }
    if text.len() - unsigned.len() > 1 {
        return Value::String(text.to_owned());
    }
    if unsigned.bytes().all(|b| b.is_ascii_digit())
        && let Ok(value) = text.parse()
    {
        return Value::Integer(value);
    }
    if matches!(unsigned, ".inf" | ".Inf" | ".INF") {
        let sign = if text.starts_with('-') { -1.0 } else { 1.0 };
        return Value::Float(sign * f64::INFINITY);
    }
    // Rust would also take `inf`, `nan` and `infinity`.
    let numeric = unsigned
        .bytes()
        .all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'E' | b'+' | b'-'));
    match text.parse() {
        Ok(value) if numeric && unsigned.bytes().any(|b| b.is_ascii_digit()) => Value::Float(value),
        _ => Value::String(text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::plain;

    #[test]
    fn plain_scalars() {
        for (text, want) in [
            ("12", "12"),
            ("-12", "-12"),
            ("+12", "12"),
            ("0x1F", "31"),
            ("0o17", "15"),
            ("017", "17"),
            ("1.5", "1.5"),
            ("-1e3", "-1000.0"),
            (".5", "0.5"),
            ("-.inf", "-inf"),
            ("inf", "\"inf\""),
            ("nan", "\"nan\""),
            ("--1", "\"--1\""),
            ("1.2.3", "\"1.2.3\""),
            ("e3", "\"e3\""),
            ("-", "\"-\""),
            ("0x", "\"0x\""),
            ("True", "true"),
            ("no", "\"no\""),
            ("~", "null"),
            ("10s", "\"10s\""),
            ("12:30", "\"12:30\""),
        ] {
            assert_eq!(plain(text).to_string(), want, "{text:?}");
        }
    }
}
