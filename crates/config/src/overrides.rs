//! Variables and arguments: how a name becomes a path, and a value its place in the tree.

use std::ops::Range;

use crate::{
    code::codes,
    diagnostic::Diagnostic,
    source::{Origin, SourceId, Sources, Span},
    tree::{Entry, Node, Table, Value, is_bare},
};

/// One override, ready to be put into the tree.
pub(crate) struct Override {
    steps: Vec<Step>,
    value: Node,
    /// Variables are written in capitals and underscores only, so they match loosely.
    loose: bool,
}

struct Step {
    name: String,
    span: Span,
}

/// `HEARTH_LISTEN__PORT=80` with the prefix `HEARTH_`: `__` steps into a table or an array.
pub(crate) fn from_variable(
    sources: &mut Sources,
    name: &str,
    prefix: &str,
    value: &str,
) -> Override {
    let source = variable(sources, name, value);
    let mut at = prefix.len();
    let mut steps = Vec::new();
    for part in name.get(at..).unwrap_or_default().split("__") {
        let span = Span::new(source, at..at + part.len());
        steps.push(Step { name: part.to_ascii_lowercase(), span });
        at += part.len() + 2;
    }
    Override { steps, value: text_node(source, name.len() + 1, value), loose: true }
}

/// A variable with a name of its own, such as `PORT`.
pub(crate) fn from_alias(
    sources: &mut Sources,
    name: &str,
    key: &str,
    value: &str,
) -> Result<Override, Diagnostic> {
    let source = variable(sources, name, value);
    let value = text_node(source, name.len() + 1, value);
    named(key, Span::new(source, 0..name.len()), value)
}

/// An argument that stands for a key: `--port 80` for `listen.port`.
pub(crate) fn from_flag(
    sources: &mut Sources,
    flag: &str,
    key: &str,
    value: &str,
) -> Result<Override, Diagnostic> {
    let source = sources.add(Origin::CommandLine, flag.to_owned(), format!("{flag} {value}"));
    let value = text_node(source, flag.len() + 1, value);
    named(key, Span::new(source, 0..flag.len()), value)
}

/// An argument that names the key itself: `--set listen.port=80`.
pub(crate) fn from_assignment(
    sources: &mut Sources,
    flag: &str,
    assignment: &str,
) -> Result<Override, Diagnostic> {
    let text = format!("{flag} {assignment}");
    let source = sources.add(Origin::CommandLine, flag.to_owned(), text);
    let base = flag.len() + 1;
    let span = |range: Range<usize>| Span::new(source, base + range.start..base + range.end);
    let bad = |message: &str, range: Range<usize>| {
        Diagnostic::error(codes::BAD_OVERRIDE, message)
            .at(span(range), "")
            .with_help(format!("write it as {flag} table.key=value"))
    };
    let (path, length) = key_path(assignment).map_err(|at| bad("not a key path", at..at))?;
    match assignment.get(length..).and_then(|rest| rest.strip_prefix('=')) {
        Some(value) => {
            let step = |(name, range)| Step { name, span: span(range) };
            Ok(Override {
                steps: path.into_iter().map(step).collect(),
                value: text_node(source, base + length + 1, value),
                loose: false,
            })
        }
        None => Err(bad("the argument has no `=`", 0..assignment.len())),
    }
}

/// Puts the override into the tree, on top of what is there.
pub(crate) fn apply(
    root: &mut Node,
    Override { steps, value, loose }: Override,
) -> Result<(), Diagnostic> {
    let mut node = root;
    let mut path = String::new();
    for step in &steps {
        let place = if path.is_empty() { "the top level".to_owned() } else { format!("`{path}`") };
        let bad = |message: String, label: &str| {
            Diagnostic::error(codes::BAD_OVERRIDE, message).at(step.span, label)
        };
        if step.name.is_empty() {
            return Err(bad("an empty name in a key path".to_owned(), "empty")
                .with_help("separate the names by two underscores: SECTION__KEY"));
        }
        node = match &mut node.value {
            Value::Array(items) => {
                let count = items.len();
                let item = step.name.parse::<usize>().ok().and_then(|index| items.get_mut(index));
                item.ok_or_else(|| {
                    bad(format!("{place} has no entry `{}`", step.name), "no such entry").with_help(
                        match count {
                            0 => "the array is empty; an override cannot add entries".to_owned(),
                            n => format!("entries go from 0 to {}", n - 1),
                        },
                    )
                })?
            }
            Value::Table(table) => enter(table, step, loose),
            other => {
                let message = format!(
                    "{place} is {}, so `{}` cannot be set in it",
                    other.type_name(),
                    step.name
                );
                let span = node.span;
                return Err(bad(message, "cannot be set")
                    .with_label(span, "this value")
                    .with_help("remove one of the two"));
            }
        };
        path = if path.is_empty() { step.name.clone() } else { format!("{path}.{}", step.name) };
    }
    let before = std::mem::replace(node, value);
    // A table made on the way here says nothing by itself.
    let said = !matches!(&before.value, Value::Table(table) if table.entries.is_empty() && !before.span.is_known());
    node.shadowed = said.then(|| Box::new(before));
    Ok(())
}

fn enter<'a>(table: &'a mut Table, step: &Step, loose: bool) -> &'a mut Node {
    let matches = |entry: &Entry| {
        entry.key == step.name
            || (loose && entry.key.to_ascii_lowercase().replace('-', "_") == step.name)
    };
    let at = table.entries.iter().position(matches).unwrap_or_else(|| {
        let node = Node::empty_table(Span::UNKNOWN);
        table.entries.push(Entry { key: step.name.clone(), key_span: step.span, node });
        table.entries.len() - 1
    });
    &mut table.entries[at].node
}

fn variable(sources: &mut Sources, name: &str, value: &str) -> SourceId {
    sources.add(Origin::Environment, name.to_owned(), format!("{name}={value}"))
}

fn text_node(source: SourceId, start: usize, value: &str) -> Node {
    Node::new(Value::Text(value.to_owned()), Span::new(source, start..start + value.len()))
}

/// A key path that the program gave, all of which the name in the text stands for.
fn named(key: &str, span: Span, value: Node) -> Result<Override, Diagnostic> {
    match key_path(key) {
        Ok((path, length)) if length == key.len() => {
            let steps = path.into_iter().map(|(name, _)| Step { name, span }).collect();
            Ok(Override { steps, value, loose: false })
        }
        _ => {
            Err(Diagnostic::error(codes::BAD_OVERRIDE, format!("not a key path: `{key}`"))
                .at(span, ""))
        }
    }
}

/// A name in a key path, and its range.
type Name = (String, Range<usize>);

/// The names of a path such as `sites[0]."example.com".root`, each with its range, and where the
/// path ends: at `=` or at the end. On failure, the offset of the offence.
fn key_path(text: &str) -> Result<(Vec<Name>, usize), usize> {
    let mut names = Vec::new();
    let mut at = 0;
    loop {
        let rest = text.get(at..).unwrap_or_default();
        let (name, length) = match rest.chars().next() {
            Some(quote @ ('"' | '\'')) => {
                let inner = rest.get(1..).unwrap_or_default();
                let end = inner.find(quote).ok_or(at)?;
                (inner.get(..end).unwrap_or_default(), end + 2)
            }
            _ => {
                let end = rest.find(['.', '[', '=']).unwrap_or(rest.len());
                let name = rest.get(..end).unwrap_or_default();
                if !is_bare(name) {
                    return Err(at);
                }
                (name, end)
            }
        };
        names.push((name.to_owned(), at..at + length));
        at += length;
        while let Some(rest) = text.get(at..).and_then(|rest| rest.strip_prefix('[')) {
            let end = rest.find(']').ok_or(at)?;
            let index = rest.get(..end).unwrap_or_default();
            if index.parse::<usize>().is_err() {
                return Err(at + 1);
            }
            names.push((index.to_owned(), at + 1..at + 1 + end));
            at += end + 2;
        }
        match text.as_bytes().get(at) {
            Some(b'.') => at += 1,
            None | Some(b'=') => return Ok((names, at)),
            Some(_) => return Err(at),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::key_path;

    #[test]
    fn key_paths() {
        for (text, want) in [
            ("a", Ok((vec!["a"], 1))),
            ("a.b=1.5", Ok((vec!["a", "b"], 3))),
            ("sites[0].root=/x[1]", Ok((vec!["sites", "0", "root"], 13))),
            ("sites.\"a.b=c\".root=x", Ok((vec!["sites", "a.b=c", "root"], 18))),
            ("'x'", Ok((vec!["x"], 3))),
            ("", Err(0)),
            ("=x", Err(0)),
            ("a.", Err(2)),
            ("a..b", Err(2)),
            ("a b", Err(0)),
            ("a[x]", Err(2)),
            ("a[0", Err(1)),
            ("\"a", Err(0)),
            ("\"a\"b", Err(3)),
        ] {
            let got = key_path(text);
            let got = got.as_ref().map(|(names, end)| {
                (names.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), *end)
            });
            assert_eq!(got.map_err(|at| *at), want, "{text:?}");
        }
    }
}
