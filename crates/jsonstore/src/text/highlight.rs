//! Where a document matches.

use std::collections::HashSet;

use super::{query::TextQuery, settings::TextField, terms::Scheme};

/// Characters around a match in a piece, about.
const AROUND: usize = 60;
/// Pieces per document.
const PIECES_MAX: usize = 5;

/// A stretch of text of a document that matches.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Highlight {
    /// The path of the field in the index.
    pub field: String,
    /// The stretch, in pieces that match and pieces that do not.
    pub pieces: Vec<Piece>,
}

/// A piece of text.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Piece {
    /// The text as it stands in the document.
    pub text: String,
    /// Whether it is what was searched for.
    pub is_match: bool,
}

impl Highlight {
    /// The stretch as text, with marks around what matches. The text is not escaped.
    pub fn marked(&self, before: &str, after: &str) -> String {
        let mut out = String::new();
        for piece in &self.pieces {
            if piece.is_match {
                out.push_str(before);
            }
            out.push_str(&piece.text);
            if piece.is_match {
                out.push_str(after);
            }
        }
        out
    }
}

/// What a query looks for, as far as it can be seen in a text.
#[derive(Debug, Default)]
pub(crate) struct Highlighter {
    terms: HashSet<String>,
    prefixes: Vec<String>,
    fuzzy: Vec<(Vec<char>, u8)>,
}

impl Highlighter {
    pub(crate) fn new(scheme: &Scheme, query: &TextQuery) -> Self {
        let mut highlighter = Self::default();
        highlighter.gather(scheme, query);
        highlighter
    }

    fn gather(&mut self, scheme: &Scheme, query: &TextQuery) {
        match query {
            TextQuery::All(parts) | TextQuery::Any(parts) => {
                parts.iter().for_each(|part| self.gather(scheme, part));
            }
            TextQuery::Boost(_, part) | TextQuery::Except(part, _) | TextQuery::Field(_, part) => {
                self.gather(scheme, part);
            }
            TextQuery::Should(part, more) => {
                self.gather(scheme, part);
                self.gather(scheme, more);
            }
            TextQuery::Fuzzy(text, distance) => {
                let word = scheme.analyzer.fold(text);
                self.fuzzy.push((word.chars().collect(), *distance));
            }
            TextQuery::Prefix(text) => {
                self.prefixes.push(scheme.analyzer.fold(text).into_owned());
            }
            TextQuery::Phrase(text) | TextQuery::Word(text) => {
                scheme.analyzer.terms(text, 0, |token| {
                    self.terms.insert(token.term.to_owned());
                });
            }
        }
    }

    fn matches(&self, term: &str) -> bool {
        self.terms.contains(term)
            || self.prefixes.iter().any(|prefix| term.starts_with(prefix.as_str()))
            || self.fuzzy.iter().any(|(want, most)| super::plan::is_near(want, term, *most))
    }

    /// The stretches of a JB1 document that match, the first few of each field.
    pub(crate) fn of(&self, scheme: &Scheme, document: &[u8]) -> Vec<Highlight> {
        let mut all = Vec::new();
        scheme.texts(document, |field: &TextField, text| {
            if all.len() >= PIECES_MAX {
                return;
            }
            let mut matches: Vec<(usize, usize)> = Vec::new();
            scheme.analyzer.terms(text, 0, |token| {
                if self.matches(token.term) {
                    match matches.last_mut() {
                        // Pairs of characters overlap.
                        Some((_, end)) if token.start < *end => *end = token.end.max(*end),
                        _ => matches.push((token.start, token.end)),
                    }
                }
            });
            let mut rest = &matches[..];
            while let Some((start, _)) = rest.first()
                && all.len() < PIECES_MAX
            {
                let from = boundary_before(text, start.saturating_sub(AROUND));
                let close = rest.iter().take_while(|(s, _)| *s < start + 2 * AROUND).count();
                let (shown, later) = rest.split_at(close.max(1));
                let end = shown.last().map_or(*start, |(_, end)| *end);
                let to = boundary_after(text, end + AROUND);
                all.push(Highlight {
                    field: field.path.clone(),
                    pieces: cut(text, from, to, shown),
                });
                rest = later;
            }
        });
        all
    }
}

fn cut(text: &str, from: usize, to: usize, matches: &[(usize, usize)]) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut at = from;
    let mut push = |text: &str, is_match| {
        if !text.is_empty() {
            pieces.push(Piece { text: text.to_owned(), is_match });
        }
    };
    for (start, end) in matches {
        push(&text[at..*start], false);
        push(&text[*start..*end], true);
        at = *end;
    }
    push(&text[at..to], false);
    pieces
}

/// A place between words at or before `at`, if there is one near.
fn boundary_before(text: &str, at: usize) -> usize {
    let mut at = at;
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    if at == 0 {
        return 0;
    }
    let mut around = text[at..].char_indices().take_while(|(n, _)| *n < AROUND);
    let space = around.find(|(_, c)| c.is_whitespace());
    space.map_or(at, |(n, c)| at + n + c.len_utf8())
}

fn boundary_after(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at += 1;
    }
    if at == text.len() {
        return at;
    }
    text[at..].find(char::is_whitespace).filter(|n| *n < AROUND).map_or(at, |n| at + n)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stretch_begins_behind_a_space_of_any_width() {
        for space in [" ", "\u{a0}", "\u{3000}"] {
            let text = format!("{}{space}{}", "a".repeat(AROUND), "b".repeat(2 * AROUND));
            let from = boundary_before(&text, AROUND - 5);
            assert_eq!(from, AROUND + space.len());
            assert!(text[from..].starts_with('b'));
        }
    }
}
