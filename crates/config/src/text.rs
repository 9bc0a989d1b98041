//! Values of variables and arguments: text that becomes what its key asks for.

use crate::{
    parse::{Context, toml_value},
    source::Span,
    tree::{Node, Value},
};

/// `true`/`false`, and the words that deployment tools use for them.
pub(crate) fn boolean(text: &str) -> Option<bool> {
    match text.trim().to_ascii_lowercase().as_str() {
        "1" | "on" | "true" | "yes" => Some(true),
        "0" | "false" | "no" | "off" => Some(false),
        _ => None,
    }
}

/// The value the text looks like in TOML's notation, else a string.
pub(crate) fn guess(text: &str, span: Span, depth_max: usize) -> Node {
    let lead = text.len() - text.trim_start().len();
    let mut problems = Vec::new();
    let mut context = Context {
        source: span.source(),
        base: span.range().start + lead,
        depth_max,
        problems: &mut problems,
    };
    toml_value(text.trim(), &mut context)
        .unwrap_or_else(|| Node::new(Value::String(text.to_owned()), span))
}

/// `[1, 2]` in TOML's notation, or plain text with commas between the items.
pub(crate) fn list(text: &str, span: Span, depth_max: usize) -> Vec<Node> {
    if text.trim_start().starts_with('[')
        && let Value::Array(items) = guess(text, span, depth_max).value
    {
        return items;
    }
    let mut at = span.range().start;
    let item = |part: &str| {
        let start = at + (part.len() - part.trim_start().len());
        at += part.len() + 1;
        let word = part.trim();
        Node::new(Value::Text(word.to_owned()), Span::new(span.source(), start..start + word.len()))
    };
    if text.trim().is_empty() { Vec::new() } else { text.split(',').map(item).collect() }
}

/// Whether the text means to be an inline table.
pub(crate) fn is_table(text: &str) -> bool {
    text.trim_start().starts_with('{')
}

/// The value in TOML's notation, whether it was written in a file (`port = 80`) or not
/// (`HEARTH_PORT=80`).
pub(crate) fn canonical(node: &Node) -> String {
    match &node.value {
        Value::Text(text) => guess(text, node.span, SHOWN_DEPTH_MAX).value.to_string(),
        other => other.to_string(),
    }
}

/// Deeper text is shown as it stands.
const SHOWN_DEPTH_MAX: usize = 64;
