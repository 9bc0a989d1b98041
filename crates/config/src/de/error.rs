//! The error a decode pass stops at, and its translation into a diagnostic.

use std::fmt;

use serde::de::{self, Expected, Unexpected};

use super::Notes;
use crate::{
    code::codes,
    diagnostic::Diagnostic,
    source::Span,
    suggest::nearest,
    tree::{Node, Path, Segment, Value},
};

/// Boxed, because it travels through every `Result` of a decode.
#[derive(Debug)]
pub(crate) struct DecodeError(Box<Inner>);

#[derive(Debug)]
struct Inner {
    problem: Problem,
    place: Option<Place>,
}

#[derive(Debug)]
struct Place {
    path: Path,
    span: Span,
}

#[derive(Debug)]
enum Problem {
    Custom(String),
    DuplicateKey(&'static str),
    Length { found: usize, expected: String },
    MissingKey(&'static str),
    Shape { message: String, help: String },
    Type { found: String, expected: String },
    UnknownKey { key: String, allowed: &'static [&'static str] },
    UnknownVariant { variant: String, allowed: &'static [&'static str] },
    Value { found: String, expected: String },
}

impl DecodeError {
    fn new(problem: Problem) -> Self {
        Self(Box::new(Inner { problem, place: None }))
    }

    /// An enum written in a way that cannot be one of its variants.
    pub(super) fn shape(message: String, help: String) -> Self {
        Self::new(Problem::Shape { message, help })
    }

    /// Says where it happened; the innermost caller wins.
    pub(super) fn locate(mut self, path: impl FnOnce() -> Path, span: Span) -> Self {
        self.0.place.get_or_insert_with(|| Place { path: path(), span });
        self
    }

    /// Where to cut, so that another pass comes further: the path of the offending node.
    pub(super) fn path(&self, root: &Node) -> Path {
        let Some(place) = &self.0.place else { return Path::default() };
        let (node, path) = root.deepest(&place.path.0);
        let path = Path(path.to_vec());
        match &self.0.problem {
            Problem::UnknownKey { key, .. } if has_key(node, key) => {
                path.join(Segment::Key(key.clone()))
            }
            _ => path,
        }
    }

    /// Whether it only follows from something that was reported and cut before.
    pub(super) fn is_consequence(&self, root: &Node, notes: &Notes) -> bool {
        let Some(place) = &self.0.place else { return root.has_pruned_child() };
        let (node, _) = root.deepest(&place.path.0);
        match &self.0.problem {
            Problem::MissingKey(key) => {
                node.child(&Segment::Key((*key).to_owned())).is_some_and(|child| child.pruned)
                    || notes.has_suggested(&place.path, key)
            }
            Problem::UnknownKey { .. } => false,
            _ => node.has_pruned_child(),
        }
    }

    pub(super) fn into_diagnostic(
        self,
        root: &Node,
        is_secret: impl Fn(Span) -> bool,
    ) -> Diagnostic {
        let Inner { problem, place } = *self.0;
        let Place { path, span } =
            place.unwrap_or_else(|| Place { path: Path::default(), span: root.span });
        let (node, _) = root.deepest(&path.0);
        let key = path.to_string();
        let subject =
            if key.is_empty() { "the configuration".to_owned() } else { format!("`{key}`") };
        let diagnostic = match problem {
            // What the value is may be part of such a message.
            Problem::Custom(_)
            | Problem::Type { .. }
            | Problem::UnknownVariant { .. }
            | Problem::Value { .. }
                if is_secret(span) =>
            {
                Diagnostic::error(codes::INVALID_VALUE, format!("{subject} has an unusable value"))
                    .at(span, "this secret")
                    .with_help("correct the value; it is not shown because it is secret")
            }
            Problem::Custom(message) => {
                let help = help_for(&message);
                Diagnostic::error(codes::INVALID_VALUE, format!("{subject}: {message}"))
                    .at(span, "")
                    .with_help(help)
            }
            Problem::DuplicateKey(name) => {
                let message = format!("`{name}` is set twice in {subject}");
                Diagnostic::error(codes::DUPLICATE_KEY, message)
                    .at(span, "")
                    .with_help("keep one of the two")
            }
            Problem::Length { found, expected } => {
                let expected = plain(&expected);
                Diagnostic::error(codes::INVALID_VALUE, format!("{subject} has {found} values"))
                    .at(span, format!("expected {expected}"))
                    .with_help(format!("give it {expected}"))
            }
            Problem::MissingKey(name) => missing_key(name, &subject, span),
            Problem::Shape { message, help } => {
                Diagnostic::error(codes::INVALID_VALUE, format!("{subject}: {message}"))
                    .at(span, "")
                    .with_help(help)
            }
            Problem::Type { found, expected } => {
                wrong_type(node, &subject, span, &found, &expected)
            }
            Problem::UnknownKey { key: name, allowed } => {
                let key_span = key_span(node, &name).unwrap_or(span);
                let path = path.join(Segment::Key(name.clone()));
                return unknown_key(&path, &name, key_span, allowed);
            }
            Problem::UnknownVariant { variant, allowed } => {
                unknown_variant(&subject, &variant, span, allowed)
            }
            Problem::Value { found, expected } => {
                let expected = plain(&expected);
                Diagnostic::error(codes::INVALID_VALUE, format!("{subject} cannot be {found}"))
                    .at(span, format!("expected {expected}"))
                    .with_help(format!("set it to {expected}"))
            }
        };
        if key.is_empty() { diagnostic } else { diagnostic.with_key(key) }
    }
}

/// A key that nothing reads, with the one that was probably meant.
pub(super) fn unknown_key(path: &Path, name: &str, span: Span, allowed: &[&str]) -> Diagnostic {
    let parent = Path(path.0.split_last().map(|(_, parent)| parent.to_vec()).unwrap_or_default());
    let place =
        if parent.0.is_empty() { "the top level".to_owned() } else { format!("`{parent}`") };
    let diagnostic = Diagnostic::error(codes::UNKNOWN_KEY, format!("unknown key `{name}`"))
        .at(span, format!("not a key of {place}"))
        .with_key(path.to_string());
    let diagnostic = match allowed {
        [] => diagnostic.with_note(format!("{place} takes no keys")),
        _ => diagnostic.with_note(format!("allowed keys: {}", listed(allowed))),
    };
    match nearest(name, allowed.iter().copied()) {
        Some(near) => diagnostic.with_help(format!("did you mean `{near}`?")),
        None => diagnostic.with_help("use one of the allowed keys, or remove it"),
    }
}

fn missing_key(name: &str, subject: &str, span: Span) -> Diagnostic {
    Diagnostic::error(codes::MISSING_KEY, format!("{subject} lacks the key `{name}`"))
        .at(span, format!("`{name}` is missing here"))
        .with_help(format!("add `{name} = …`"))
}

fn wrong_type(node: &Node, subject: &str, span: Span, found: &str, expected: &str) -> Diagnostic {
    let expected = plain(expected);
    let message = format!("{subject} must be {expected}, found {found}");
    let diagnostic =
        Diagnostic::error(codes::WRONG_TYPE, message).at(span, format!("expected {expected}"));
    diagnostic.with_help(match &node.value {
        Value::String(text) if unquotable(text, &expected) => {
            format!("write it without quotes: {text}")
        }
        Value::Integer(_) | Value::Bool(_) | Value::Float(_) if expected == "a string" => {
            format!("put it in quotes: \"{}\"", node.value)
        }
        Value::Null => "give it a value, or remove the key".to_owned(),
        Value::Array(_) | Value::Table(_) => format!("replace it by {expected}"),
        value if expected == "an array" => format!("put it in brackets: [{value}]"),
        _ if expected == "a boolean" => "write true or false, without quotes".to_owned(),
        _ if expected == "a table" => "give it keys: a [section], or { key = value }".to_owned(),
        _ => format!("set it to {expected}"),
    })
}

fn unknown_variant(subject: &str, variant: &str, span: Span, allowed: &[&str]) -> Diagnostic {
    let message = format!("{subject} cannot be `{variant}`");
    let diagnostic = Diagnostic::error(codes::UNKNOWN_VARIANT, message)
        .at(span, "not one of the allowed values")
        .with_note(format!("allowed values: {}", listed(allowed)));
    match nearest(variant, allowed.iter().copied()) {
        Some(near) => diagnostic.with_help(format!("did you mean `{near}`?")),
        None => diagnostic.with_help("use one of the allowed values"),
    }
}

/// The standard library's parse errors say that something is wrong, but not what would be right.
fn help_for(message: &str) -> &'static str {
    match message {
        "invalid IP address syntax" => "write it like \"127.0.0.1\" or \"::1\"",
        "invalid IPv4 address syntax" => "write it like \"127.0.0.1\"",
        "invalid IPv6 address syntax" => "write it like \"::1\"",
        "invalid socket address syntax" => "write it like \"127.0.0.1:8080\" or \"[::1]:8080\"",
        _ => "correct the value",
    }
}

/// Whether `"8080"` is all that is wrong.
fn unquotable(text: &str, expected: &str) -> bool {
    match expected {
        "a boolean" => matches!(text, "true" | "false"),
        "a number" => text.parse::<f64>().is_ok_and(f64::is_finite),
        _ => expected.contains("integer") && text.parse::<i64>().is_ok(),
    }
}

/// serde speaks of Rust's types; operators should not have to.
fn plain(expected: &str) -> String {
    match expected {
        "u8" => "an integer from 0 to 255",
        "u16" => "an integer from 0 to 65535",
        "u32" => "an integer from 0 to 4294967295",
        "u64" | "u128" | "usize" => "a non-negative integer",
        "i8" => "an integer from -128 to 127",
        "i16" => "an integer from -32768 to 32767",
        "i32" | "i64" | "i128" | "isize" => "an integer",
        "f32" | "f64" => "a number",
        "a sequence" => "an array",
        "a map" => "a table",
        "path string" | "a formatted path string" => "a path",
        "unit" => "nothing",
        other if other.starts_with("struct ") => "a table",
        other if other.starts_with("enum ") || other == "variant identifier" => {
            "one of the allowed values"
        }
        other if other.starts_with("tuple struct ") || other.starts_with("a tuple of size ") => {
            "an array"
        }
        other => other,
    }
    .to_owned()
}

fn listed(words: &[&str]) -> String {
    let quoted: Vec<_> = words.iter().map(|word| format!("`{word}`")).collect();
    quoted.join(", ")
}

fn has_key(node: &Node, key: &str) -> bool {
    key_span(node, key).is_some()
}

fn key_span(node: &Node, key: &str) -> Option<Span> {
    match &node.value {
        Value::Table(table) => table.entry(key).map(|entry| entry.key_span),
        _ => None,
    }
}

fn describe(unexpected: &Unexpected<'_>) -> String {
    match unexpected {
        Unexpected::Bool(_) => "a boolean".to_owned(),
        Unexpected::Char(_) | Unexpected::Str(_) => "a string".to_owned(),
        Unexpected::Float(_) => "a float".to_owned(),
        Unexpected::Map => "a table".to_owned(),
        Unexpected::Option | Unexpected::Unit => "null".to_owned(),
        Unexpected::Seq => "an array".to_owned(),
        Unexpected::Signed(_) | Unexpected::Unsigned(_) => "an integer".to_owned(),
        other => other.to_string(),
    }
}

fn value_of(unexpected: &Unexpected<'_>) -> String {
    match unexpected {
        Unexpected::Bool(value) => value.to_string(),
        Unexpected::Float(value) => value.to_string(),
        Unexpected::Signed(value) => value.to_string(),
        Unexpected::Str(value) => format!("\"{value}\""),
        Unexpected::Unsigned(value) => value.to_string(),
        other => describe(other),
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0.problem)
    }
}

impl std::error::Error for DecodeError {}

impl de::Error for DecodeError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::new(Problem::Custom(message.to_string()))
    }

    fn invalid_type(unexpected: Unexpected<'_>, expected: &dyn Expected) -> Self {
        let (found, expected) = (describe(&unexpected), expected.to_string());
        Self::new(Problem::Type { found, expected })
    }

    fn invalid_value(unexpected: Unexpected<'_>, expected: &dyn Expected) -> Self {
        let (found, expected) = (value_of(&unexpected), expected.to_string());
        Self::new(Problem::Value { found, expected })
    }

    fn invalid_length(found: usize, expected: &dyn Expected) -> Self {
        Self::new(Problem::Length { found, expected: expected.to_string() })
    }

    fn unknown_variant(variant: &str, allowed: &'static [&'static str]) -> Self {
        Self::new(Problem::UnknownVariant { variant: variant.to_owned(), allowed })
    }

    fn unknown_field(key: &str, allowed: &'static [&'static str]) -> Self {
        Self::new(Problem::UnknownKey { key: key.to_owned(), allowed })
    }

    fn missing_field(key: &'static str) -> Self {
        Self::new(Problem::MissingKey(key))
    }

    fn duplicate_field(key: &'static str) -> Self {
        Self::new(Problem::DuplicateKey(key))
    }
}
