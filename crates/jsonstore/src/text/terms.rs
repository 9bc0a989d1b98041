//! The terms of one document: what a change adds to the index or takes from it.
//!
//! ```text
//! terms = fields u8, per field: length (varint); number of terms u32; per term: end of its entry u32;
//!         entries in ascending order
//! entry = term (length u8, bytes), count (varint), positions (if kept; varint, deltas)
//! ```

use super::{
    analyze::{Analyzer, FieldPath},
    settings::{TextField, TextIndex},
};
use crate::codec::{Reader, put_varint};

/// A compiled index: how a document becomes terms.
#[derive(Debug)]
pub(crate) struct Scheme {
    pub(crate) settings: TextIndex,
    pub(crate) analyzer: Analyzer,
    paths: Vec<FieldPath>,
}

impl Scheme {
    pub(crate) fn new(settings: TextIndex) -> Self {
        Self {
            analyzer: Analyzer::new(&settings),
            paths: settings.fields.iter().map(|f| FieldPath::new(&f.path)).collect(),
            settings,
        }
    }

    pub(crate) fn fields(&self) -> usize {
        self.paths.len()
    }

    /// Calls `each` with every term of a document (field number, then text) and its position.
    pub(crate) fn occurrences(&self, document: &[u8], mut each: impl FnMut(&[u8], u32)) {
        let mut key = Vec::with_capacity(32);
        for (field, path) in self.paths.iter().enumerate() {
            let mut position = 0;
            path.strings(document, &mut |text| {
                let next = self.analyzer.terms(&text, position, |token| {
                    key.clear();
                    key.push(field as u8);
                    key.extend_from_slice(token.term.as_bytes());
                    each(&key, token.position);
                });
                // A gap, so that no phrase reaches from one element of an array to the next.
                position = next + 1;
            });
        }
    }

    /// Calls `each` with every text of a document that is indexed.
    pub(crate) fn texts(&self, document: &[u8], mut each: impl FnMut(&TextField, &str)) {
        for (field, path) in self.settings.fields.iter().zip(&self.paths) {
            path.strings(document, &mut |text| each(field, &text));
        }
    }

    /// True if two images of a document read the same here, so that nothing changes.
    pub(crate) fn same(&self, old: &[u8], new: &[u8]) -> bool {
        let mut texts = Vec::new();
        self.paths.iter().all(|path| {
            texts.clear();
            path.strings(old, &mut |text| texts.push(text));
            let mut before = texts.iter();
            let mut same = true;
            path.strings(new, &mut |text| same &= before.next() == Some(&text));
            same && before.next().is_none()
        })
    }

    /// The terms of a document, encoded; `None` if it has none.
    pub(crate) fn terms(&self, document: &[u8]) -> Option<Vec<u8>> {
        let mut texts = Vec::new();
        let mut found: Vec<(u32, u32, u32)> = Vec::new();
        self.occurrences(document, |term, position| {
            let from = texts.len() as u32;
            texts.extend_from_slice(term);
            found.push((from, texts.len() as u32, position));
        });
        let text = |(from, to, _): &(u32, u32, u32)| &texts[*from as usize..*to as usize];
        found.sort_unstable_by(|a, b| text(a).cmp(text(b)).then(a.2.cmp(&b.2)));
        let mut lengths = vec![0_u32; self.fields()];
        let (mut ends, mut entries) = (Vec::new(), Vec::new());
        for group in found.chunk_by(|a, b| text(a) == text(b)) {
            let term = text(&group[0]);
            lengths[usize::from(term[0])] += group.len() as u32;
            entries.push(term.len() as u8);
            entries.extend_from_slice(term);
            put_varint(&mut entries, group.len() as u64);
            if self.settings.positions {
                let mut last = 0;
                for (_, _, position) in group {
                    put_varint(&mut entries, u64::from(position - last));
                    last = *position;
                }
            }
            ends.push(entries.len() as u32);
        }
        if ends.is_empty() {
            return None;
        }
        let mut out = vec![lengths.len() as u8];
        lengths.iter().for_each(|length| put_varint(&mut out, u64::from(*length)));
        out.extend_from_slice(&(ends.len() as u32).to_le_bytes());
        ends.iter().for_each(|end| out.extend_from_slice(&end.to_le_bytes()));
        out.extend_from_slice(&entries);
        Some(out)
    }
}

/// Encoded terms, read where they lie.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Terms<'a> {
    lengths: &'a [u8],
    fields: u8,
    ends: &'a [u8],
    entries: &'a [u8],
}

/// One term of a document.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TermEntry<'a> {
    pub(crate) term: &'a [u8],
    pub(crate) count: u32,
    positions: &'a [u8],
}

impl<'a> Terms<'a> {
    pub(crate) fn read(bytes: &'a [u8]) -> Option<Self> {
        let mut reader = Reader::new(bytes);
        let fields = reader.u8()?;
        let from = reader.position();
        for _ in 0..fields {
            reader.varint()?;
        }
        let lengths = bytes.get(from..reader.position())?;
        let count = reader.u32()? as usize;
        let ends = reader.take(count.checked_mul(4)?)?;
        Some(Self { lengths, fields, ends, entries: bytes.get(reader.position()..)? })
    }

    pub(crate) fn lengths(&self) -> impl Iterator<Item = u32> + 'a {
        let mut reader = Reader::new(self.lengths);
        (0..self.fields).map(move |_| reader.varint().unwrap_or(0) as u32)
    }

    pub(crate) fn len(&self) -> usize {
        self.ends.len() / 4
    }

    pub(crate) fn get(&self, index: usize) -> Option<TermEntry<'a>> {
        let end = |i: usize| -> Option<usize> {
            let bytes = self.ends.get(i * 4..i * 4 + 4)?;
            Some(u32::from_le_bytes(bytes.try_into().ok()?) as usize)
        };
        let from = match index.checked_sub(1) {
            Some(before) => end(before)?,
            None => 0,
        };
        let bytes = self.entries.get(from..end(index)?)?;
        let mut reader = Reader::new(bytes);
        let len = reader.u8()?;
        let term = reader.take(usize::from(len))?;
        let count = u32::try_from(reader.varint()?).ok()?;
        Some(TermEntry { term, count, positions: bytes.get(reader.position()..)? })
    }

    /// The first term not less than this one.
    pub(crate) fn lower_bound(&self, term: &[u8]) -> usize {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = usize::midpoint(low, high);
            let is_less = self.get(middle).is_some_and(|e| e.term < term);
            if is_less { low = middle + 1 } else { high = middle }
        }
        low
    }

    pub(crate) fn find(&self, term: &[u8]) -> Option<TermEntry<'a>> {
        self.get(self.lower_bound(term)).filter(|e| e.term == term)
    }

    pub(crate) fn iter(self) -> impl Iterator<Item = TermEntry<'a>> {
        (0..self.len()).map_while(move |i| self.get(i))
    }
}

impl TermEntry<'_> {
    /// Appends the positions, if they are kept.
    pub(crate) fn positions(&self, into: &mut Vec<u32>) {
        let mut reader = Reader::new(self.positions);
        let mut last = 0_u32;
        while let Some(delta) = reader.varint() {
            last = last.saturating_add(delta as u32);
            into.push(last);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::jb1;

    fn jb1_of(value: &serde_json::Value) -> Vec<u8> {
        jb1::from_value(value, &jb1::Limits::default()).unwrap()
    }

    #[test]
    fn terms_of_a_document_come_back() {
        let scheme = Scheme::new(TextIndex::new("t").field("title").field("body"));
        let document = json!({"title": "B a", "body": ["a c a", "a", 5, "é"]});
        let bytes = scheme.terms(&jb1_of(&document)).unwrap();
        let terms = Terms::read(&bytes).unwrap();
        assert_eq!(terms.lengths().collect::<Vec<_>>(), [2, 5]);
        let all: Vec<_> = terms
            .iter()
            .map(|e| {
                let mut positions = Vec::new();
                e.positions(&mut positions);
                (e.term.to_vec(), e.count, positions)
            })
            .collect();
        let row = |term: &[u8], positions: &[u32]| {
            (term.to_vec(), positions.len() as u32, positions.to_vec())
        };
        let want = [
            row(b"\0a", &[1]),
            row(b"\0b", &[0]),
            row(b"\x01a", &[0, 2, 4]),
            row(b"\x01c", &[1]),
            row("\u{1}é".as_bytes(), &[6]),
        ];
        assert_eq!(all, want);
        assert_eq!(terms.find(b"\x01a").unwrap().count, 3);
        assert!(terms.find(b"\x01b").is_none());
        assert_eq!(scheme.terms(&jb1_of(&json!({"x": "a", "body": 7}))), None);
    }

    #[test]
    fn unchanged_texts_are_seen() {
        let scheme = Scheme::new(TextIndex::new("t").field("a"));
        let same = |old, new| scheme.same(&jb1_of(&old), &jb1_of(&new));
        assert!(same(json!({"a": ["x", 1, "y"], "b": 1}), json!({"a": ["x", "y"], "b": 2})));
        assert!(!same(json!({"a": "x"}), json!({"a": ["x", "y"]})));
        assert!(!same(json!({"a": ["x", "y"]}), json!({"a": ["x"]})));
        assert!(same(json!({}), json!({"a": 1})));
    }
}
