//! Documents as a table.

use serde_json::Value;
use unicode_width::UnicodeWidthStr;

/// Columns that a cell takes at most.
const CELL_MAX: usize = 40;
const GAP: &str = "  ";

/// Lines of a table that is at most so wide. Fields that have no room are named below it.
pub(super) fn table(rows: &[Value], width: usize) -> String {
    let columns = columns(rows);
    let cells: Vec<Vec<Cell>> =
        columns.iter().map(|name| rows.iter().map(|row| Cell::of(row, name)).collect()).collect();
    let mut out = Vec::new();
    let (mut used, mut shown) = (0, 0);
    let mut widths = Vec::new();
    for (name, cells) in columns.iter().zip(&cells) {
        let widest =
            cells.iter().map(|cell| cell.text.width()).chain([printable(name).width()]).max();
        let widest = widest.unwrap_or_default();
        let gap = if shown == 0 { 0 } else { GAP.len() };
        // One column is always there.
        if shown > 0 && used + gap + widest > width {
            break;
        }
        used += gap + widest;
        widths.push(widest);
        shown += 1;
    }
    let mut line = |texts: &mut dyn Iterator<Item = (String, bool)>| {
        let cells = texts.zip(&widths).map(|((text, right), width)| {
            let pad = " ".repeat(width.saturating_sub(text.width()));
            if right { pad + &text } else { text + &pad }
        });
        out.push(cells.collect::<Vec<_>>().join(GAP).trim_end().to_owned());
    };
    let is_number = |at: usize| cells[at].iter().all(|cell| cell.is_number || cell.text.is_empty());
    line(&mut columns.iter().enumerate().map(|(at, name)| (printable(name), is_number(at))));
    line(&mut widths.iter().map(|width| ("─".repeat(*width), false)));
    for row in 0..rows.len() {
        line(&mut cells.iter().map(|column| (column[row].text.clone(), column[row].is_number)));
    }
    if shown < columns.len() {
        let hidden: Vec<String> = columns[shown..].iter().map(|name| printable(name)).collect();
        out.push(format!("not shown: {} (`.mode json` shows all)", hidden.join(", ")));
    }
    out.join("\n")
}

/// Top-level fields of all rows, `_id` first; values that are no objects have one column.
fn columns(rows: &[Value]) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for row in rows {
        let Some(object) = row.as_object() else { continue };
        for name in object.keys() {
            if !names.contains(name) {
                names.push(name.clone());
            }
        }
    }
    names.sort_by_key(|name| name != "_id");
    if names.is_empty() { vec!["value".to_owned()] } else { names }
}

struct Cell {
    text: String,
    is_number: bool,
}

impl Cell {
    fn of(row: &Value, name: &str) -> Self {
        let value = match row.as_object() {
            Some(object) => object.get(name),
            None => Some(row),
        };
        let text = match value {
            None => String::new(),
            Some(Value::String(text)) => printable(text),
            Some(value) => printable(&value.to_string()),
        };
        Self { text: clipped(text), is_number: value.is_some_and(Value::is_number) }
    }
}

/// What a document holds must not move the cursor, or worse.
fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control()
            || matches!(c, '\u{200e}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
        {
            out.extend(c.escape_unicode());
        } else {
            out.push(c);
        }
    }
    out
}

fn clipped(text: String) -> String {
    if text.width() <= CELL_MAX {
        return text;
    }
    let mut short = String::new();
    for c in text.chars() {
        short.push(c);
        if short.width() >= CELL_MAX {
            short.pop();
            break;
        }
    }
    short + "…"
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn columns_line_up() {
        let rows = [
            json!({"_id": 1, "city": "Zürich", "n": 415_367}),
            json!({"_id": 20, "city": "東京", "tags": ["a", 1]}),
        ];
        let want = "_id  city         n  tags\n───  ──────  ──────  ───────\n  1  Zürich  415367\n 20  東京            [\"a\",1]";
        assert_eq!(table(&rows, 80), want);
        let narrow = table(&rows, 12);
        assert!(narrow.starts_with("_id  city\n───  ──────\n  1  Zürich\n"), "{narrow}");
        assert!(narrow.ends_with("not shown: n, tags (`.mode json` shows all)"), "{narrow}");
    }

    #[test]
    fn nothing_in_a_document_reaches_the_terminal_raw() {
        let rows = [json!({"a\u{7}": "\u{1b}[2J\n\u{202e}x\u{9b}"})];
        let shown = table(&rows, 200);
        assert!(!shown.contains(['\u{1b}', '\u{7}', '\u{202e}', '\u{9b}']), "{shown:?}");
        assert_eq!(shown.lines().count(), 3);
    }

    #[test]
    fn long_cells_are_cut_and_values_have_a_column() {
        let shown = table(&[json!("x".repeat(100)), json!(5)], 80);
        let lines: Vec<&str> = shown.lines().collect();
        assert_eq!(lines[0], "value");
        assert_eq!(lines[2].width(), CELL_MAX);
        assert!(lines[2].ends_with('…') && lines[3].ends_with('5'), "{shown}");
    }
}
