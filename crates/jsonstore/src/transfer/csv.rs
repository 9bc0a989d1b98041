//! CSV: a header of field paths, then one document a line.

use std::collections::BTreeSet;

use super::{
    TransferError,
    extended::{is_number, quoted},
};
use crate::{
    error::{DocumentError, Result},
    jb1::{self, Kind},
};

/// Columns that an export finds by itself, at most.
const COLUMNS_MAX: usize = 10_000;

/// A document under construction.
enum Node {
    Object(Vec<(String, Node)>),
    /// JSON text.
    Text(String),
}

impl Node {
    fn set(&mut self, path: &str, text: String) {
        let Self::Object(members) = self else { return };
        let (name, rest) = path.split_once('.').map_or((path, None), |(n, r)| (n, Some(r)));
        let at = members.iter().position(|(known, _)| known == name).unwrap_or_else(|| {
            members.push((name.to_owned(), Self::Object(Vec::new())));
            members.len() - 1
        });
        let Some((_, node)) = members.get_mut(at) else { return };
        match rest {
            Some(rest) => node.set(rest, text),
            None => *node = Self::Text(text),
        }
    }

    fn print(&self, out: &mut String) {
        match self {
            Self::Text(text) => out.push_str(text),
            Self::Object(members) => {
                out.push('{');
                for (i, (name, node)) in members.iter().enumerate() {
                    if i > 0 {
                        out.push(',');
                    }
                    out.push_str(&quoted(name));
                    out.push(':');
                    node.print(out);
                }
                out.push('}');
            }
        }
    }
}

/// A row as JSON text. An empty cell is a field that is missing.
pub(super) fn to_json(columns: &[String], row: &::csv::StringRecord) -> String {
    let mut document = Node::Object(Vec::new());
    for (path, cell) in columns.iter().zip(row) {
        if !cell.is_empty() {
            document.set(path, typed(cell));
        }
    }
    let mut out = String::new();
    document.print(&mut out);
    out
}

/// A number, a truth value, an array or an object, or else a string. `007` is no number.
fn typed(cell: &str) -> String {
    let is_nested = (cell.starts_with('[') && cell.ends_with(']'))
        || (cell.starts_with('{') && cell.ends_with('}'));
    let is_json = is_nested && jb1::parse(cell.as_bytes(), &jb1::Limits::default()).is_ok();
    if is_json || is_number(cell) || matches!(cell, "true" | "false" | "null") {
        cell.to_owned()
    } else {
        quoted(cell)
    }
}

/// Adds the field paths of a document.
pub(super) fn columns_of(value: &[u8], prefix: &str, columns: &mut BTreeSet<String>) -> Result<()> {
    let malformed = || DocumentError::Malformed;
    for member in jb1::members(value).ok_or_else(malformed)? {
        let (name, item) = member.ok_or_else(malformed)?;
        let path = format!("{prefix}{}", name.unescaped().ok_or_else(malformed)?);
        if is_branch(item) {
            columns_of(item, &format!("{path}."), columns)?;
        } else {
            columns.insert(path);
        }
        if columns.len() > COLUMNS_MAX {
            return Err(TransferError::TooManyColumns { limit: COLUMNS_MAX }.into());
        }
    }
    Ok(())
}

/// Objects become columns of their own, unless there is nothing in them.
fn is_branch(value: &[u8]) -> bool {
    jb1::kind(value) == Some(Kind::Object)
        && jb1::members(value).is_some_and(|mut members| members.next().is_some())
}

/// The cells of a document.
pub(super) fn to_row(value: &[u8], columns: &[String]) -> Result<Vec<String>> {
    let cell = |path: &String| -> Result<String> {
        let Some(found) = jb1::field(value, path) else { return Ok(String::new()) };
        if let Some(text) = jb1::string(found) {
            return Ok(text.into_owned());
        }
        let mut out = Vec::new();
        jb1::print(found, &mut out)?;
        Ok(String::from_utf8(out).unwrap_or_default())
    };
    columns.iter().map(cell).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_have_types_and_paths() {
        let columns = ["_id", "a.b", "a.c", "d", "e"].map(str::to_owned);
        let row = |cells: [&str; 5]| to_json(&columns, &::csv::StringRecord::from(cells.to_vec()));
        assert_eq!(
            row(["7", "1.50", "true", "x \"y\"", "[1,\"z\"]"]),
            r#"{"_id":7,"a":{"b":1.50,"c":true},"d":"x \"y\"","e":[1,"z"]}"#
        );
        assert_eq!(row(["007", "", "", "1e", "[1"]), r#"{"_id":"007","d":"1e","e":"[1"}"#);
        assert_eq!(row(["", "", "", "", ""]), "{}");
    }
}
