//! `docs/reference/config.md`

use std::fmt::Write;

use super::cell;
use crate::config::{
    Config,
    describe::{Describe, Field, Shape, Table},
};

/// Every key, section by section.
pub(super) fn text() -> String {
    let mut text = String::from(INTRODUCTION);
    if let Shape::Table(table) = Config::shape() {
        section(&mut text, "", &table);
    }
    text
}

const INTRODUCTION: &str = "\
# Configuration reference

<!-- Made from the program itself: HEARTH_BLESS=1 cargo test -p hearth-server drifted -->

`hearth serve -c hearth.toml` reads TOML, or JSON (`.json`) or YAML (`.yaml`, `.yml`) by the extension. Unknown keys are errors. A key can
also be set by a variable (`HEARTH_LIMITS__MAX_BODY_SIZE=10MiB`; `__` steps into a section, a number
picks an entry) and by an argument (`--set limits.max_body_size=10MiB`), which wins over both.

- A *size* is a number of bytes or a text with a unit: `65536`, `\"64 KiB\"`, `\"10 MB\"`.
- A *duration* is a text with its unit: `\"250ms\"`, `\"10s\"`, `\"1h 30m\"`.
- A *path* is relative to the file it stands in, or to the working directory if it comes from a variable or an argument.

";

fn section(text: &mut String, path: &str, table: &Table) {
    let title = match path {
        "" => "Top level".to_owned(),
        path => format!("`{path}`"),
    };
    // Writing to a String cannot fail.
    let _ = writeln!(text, "## {title}\n\n{}\n", table.doc);
    let _ = writeln!(text, "| key | takes | default | |\n|---|---|---|---|");
    for field in &table.fields {
        let _ = writeln!(
            text,
            "| `{}` | {} | {} | {} |",
            field.name,
            cell(&takes(&field.shape)),
            cell(&default(field)),
            cell(&meaning(field))
        );
    }
    text.push('\n');
    for field in &table.fields {
        let (inner, suffix) = match &field.shape {
            Shape::Table(table) => (table, ""),
            Shape::List(shape) => match &**shape {
                Shape::Table(table) => (table, "[]"),
                _ => continue,
            },
            _ => continue,
        };
        let dot = if path.is_empty() { "" } else { "." };
        section(text, &format!("{path}{dot}{}{suffix}", field.name), inner);
    }
}

fn takes(shape: &Shape) -> String {
    match shape {
        Shape::Bool => "`true`, `false`".to_owned(),
        Shape::Duration => "duration".to_owned(),
        Shape::Integer { max } if *max < u64::from(u32::MAX) => format!("number up to {max}"),
        Shape::Integer { .. } => "number".to_owned(),
        Shape::List(shape) => match &**shape {
            Shape::Table(_) => "list of tables".to_owned(),
            other => format!("list of: {}", takes(other)),
        },
        Shape::Map(shape) => format!("table of: {}", takes(shape)),
        Shape::Path => "path".to_owned(),
        Shape::Size => "size".to_owned(),
        Shape::Table(_) => "table".to_owned(),
        Shape::Text(what) => (*what).to_owned(),
        Shape::Word(words) => {
            let words: Vec<_> = words.iter().map(|word| format!("`\"{}\"`", word.word)).collect();
            words.join(", ")
        }
    }
}

fn default(field: &Field) -> String {
    if field.is_required {
        return "required".to_owned();
    }
    match &field.default {
        Some(_) if matches!(field.shape, Shape::Table(_)) => String::new(),
        Some(serde_json::Value::Array(items)) if items.is_empty() => "none".to_owned(),
        Some(serde_json::Value::Object(items)) if items.is_empty() => "none".to_owned(),
        Some(value) => format!("`{value}`"),
        None => "not set".to_owned(),
    }
}

/// What the key does, and what its words mean.
fn meaning(field: &Field) -> String {
    let mut text = field.doc.clone();
    let shape = match &field.shape {
        Shape::List(shape) => shape,
        shape => shape,
    };
    if let Shape::Word(words) = shape {
        for word in words {
            let _ = write!(text, " `{}`: {}", word.word, word.doc);
        }
    }
    text
}
