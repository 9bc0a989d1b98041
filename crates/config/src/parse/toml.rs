//! TOML through the `toml` crate's spanned document.

use ::toml::{
    Spanned,
    de::{DeString, DeTable, DeValue},
};

use super::Context;
use crate::{
    code::codes,
    diagnostic::Diagnostic,
    tree::{Entry, Node, Table, Value},
};

pub(super) fn document(text: &str, context: &mut Context<'_>) -> Node {
    let (table, errors) = DeTable::parse_recoverable(text);
    report(text, &errors, context);
    // The root has no text of its own; the first byte is as good a place as any.
    let span = context.span(0..0);
    Node::new(Value::Table(convert_table(table.get_ref(), context, 0)), span)
}

/// One value, as it would stand on the right of `=`; `None` if it is not one.
pub(crate) fn value(text: &str, context: &mut Context<'_>) -> Option<Node> {
    let value = DeValue::parse(text).ok()?;
    let mut problems = Vec::new();
    let mut inner = Context { problems: &mut problems, ..*context };
    let node = convert(&value, &mut inner, 0);
    problems.is_empty().then_some(node)
}

fn report(text: &str, errors: &[::toml::de::Error], context: &mut Context<'_>) {
    let mut last_line = None;
    let place = |error: &&::toml::de::Error| error.span().unwrap_or(text.len()..text.len());
    let mut errors: Vec<_> = errors.iter().collect();
    errors.sort_by_key(|error| place(error).start);
    for error in errors {
        let range = place(&error);
        // The parser recovers within the line; what follows there is usually an echo.
        let line = text.bytes().take(range.start).filter(|&b| b == b'\n').count();
        if last_line.replace(line) == Some(line) {
            continue;
        }
        let duplicate = error.message().starts_with("duplicate key");
        let (code, help) = if duplicate {
            (codes::DUPLICATE_KEY, "keep one of the two")
        } else {
            (codes::SYNTAX, help_for(text, range.start))
        };
        let message = if duplicate {
            match text.get(range.clone()) {
                Some(key) => format!("duplicate key `{key}`"),
                None => error.message().to_owned(),
            }
        } else {
            format!("not valid TOML: {}", error.message())
        };
        let label = if duplicate { "set a second time" } else { "" };
        let problem = Diagnostic::error(code, message).at(context.span(range), label);
        context.problems.push(problem.with_help(help));
    }
}

/// The mistakes people make most: a bare word as a value, and YAML's colon.
fn help_for(text: &str, at: usize) -> &'static str {
    let line_start = text.get(..at).and_then(|t| t.rfind('\n')).map_or(0, |n| n + 1);
    let line = text.get(line_start..).and_then(|t| t.lines().next()).unwrap_or_default().trim();
    match line.split_once('=') {
        Some((_, value)) if value.trim().is_empty() => "give the key a value",
        Some((_, value))
            if value.trim_start().starts_with(|c: char| c.is_alphabetic() || c == '/') =>
        {
            "strings need quotes: key = \"value\""
        }
        None if line.contains(':') => "TOML writes `key = value`, not `key: value`",
        _ => "see https://toml.io for the notation",
    }
}

fn convert(value: &Spanned<DeValue<'_>>, context: &mut Context<'_>, depth: usize) -> Node {
    let span = context.span(value.span());
    let value = match value.get_ref() {
        // Also keeps every later walk over the tree within its stack.
        DeValue::Array(_) | DeValue::Table(_) if depth >= context.depth_max => {
            context.too_deep(span);
            Value::Null
        }
        DeValue::Array(items) => {
            Value::Array(items.iter().map(|item| convert(item, context, depth + 1)).collect())
        }
        DeValue::Boolean(value) => Value::Bool(*value),
        DeValue::Datetime(value) => Value::Datetime(value.to_string()),
        DeValue::Float(value) => Value::Float(value.as_str().parse().unwrap_or(f64::NAN)),
        DeValue::Integer(value) => match i128::from_str_radix(value.as_str(), value.radix()) {
            Ok(value) => Value::Integer(value),
            Err(_) => {
                let problem = Diagnostic::error(codes::SYNTAX, "integer out of range");
                context.problems.push(problem.at(span, "").with_help("use a smaller number"));
                Value::Null
            }
        },
        DeValue::String(value) => Value::String(value.clone().into_owned()),
        DeValue::Table(table) => Value::Table(convert_table(table, context, depth + 1)),
    };
    Node::new(value, span)
}

fn convert_table(table: &DeTable<'_>, context: &mut Context<'_>, depth: usize) -> Table {
    let entry = |(key, value): (&Spanned<DeString<'_>>, &Spanned<DeValue<'_>>)| Entry {
        key: key.get_ref().clone().into_owned(),
        key_span: context.span(key.span()),
        node: convert(value, context, depth),
    };
    let mut entries: Vec<_> = table.iter().map(entry).collect();
    entries.sort_by_key(|entry| entry.key_span);
    Table { entries }
}
