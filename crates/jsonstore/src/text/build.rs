//! Gathers documents and turns them into a part.

use std::collections::BTreeMap;

use super::{
    list::Postings,
    part::{PageSink, PartWriter},
};
use crate::{
    codec::{Reader, put_varint},
    error::Result,
};

/// Documents on their way into a part, inverted as they come.
#[derive(Debug, Default)]
pub(crate) struct Builder {
    fields: usize,
    has_positions: bool,
    terms: Vec<Term>,
    /// Open addressing; 0 is free, else the number of the term plus one.
    slots: Vec<u32>,
    texts: Vec<u8>,
    ids: Vec<u8>,
    id_ends: Vec<u32>,
    /// Field by field within a document.
    lengths: Vec<u32>,
    posting_bytes: usize,
}

#[derive(Debug)]
struct Term {
    hash: u64,
    text: (u32, u32),
    /// `varint(gap << 1 | 1)` and, with positions, `varint(position)` begin a document;
    /// `varint(distance << 1)` is a further occurrence in it.
    postings: Vec<u8>,
    next_doc: u32,
    last_position: u32,
    removed: u32,
}

impl Builder {
    pub(crate) fn new(fields: usize, has_positions: bool) -> Self {
        Self { fields, has_positions, slots: vec![0; 1024], ..Self::default() }
    }

    pub(crate) fn docs(&self) -> usize {
        self.id_ends.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.terms.is_empty() && self.id_ends.is_empty()
    }

    /// Memory it takes, about.
    pub(crate) fn bytes(&self) -> usize {
        self.posting_bytes
            + self.terms.len() * (size_of::<Term>() + 16)
            + self.slots.len() * 4
            + self.texts.len()
            + self.ids.len()
            + (self.id_ends.len() + self.lengths.len()) * 4
    }

    /// A document; its terms follow.
    pub(crate) fn begin(&mut self, id: &[u8]) {
        self.ids.extend_from_slice(id);
        self.id_ends.push(self.ids.len() as u32);
        self.lengths.resize(self.lengths.len() + self.fields, 0);
    }

    /// An occurrence of a term (field number, then text) in the document that was begun last. Positions
    /// of one term ascend.
    #[inline]
    pub(crate) fn occurrence(&mut self, term: &[u8], position: u32) {
        let doc = self.id_ends.len() as u32 - 1;
        let length = self.lengths.len() - self.fields + usize::from(term[0]);
        self.lengths[length] += 1;
        let has_positions = self.has_positions;
        let term = self.entry(term);
        let before = term.postings.len();
        if term.next_doc == doc + 1 {
            let distance = if has_positions { position - term.last_position } else { 0 };
            put_varint(&mut term.postings, u64::from(distance) << 1);
        } else {
            put_varint(&mut term.postings, u64::from(doc - term.next_doc) << 1 | 1);
            term.next_doc = doc + 1;
            if has_positions {
                put_varint(&mut term.postings, u64::from(position));
            }
        }
        term.last_position = position;
        let grown = term.postings.len() - before;
        self.posting_bytes += grown;
    }

    /// A document of another part that contained this term is gone.
    pub(crate) fn removal(&mut self, term: &[u8]) {
        self.entry(term).removed += 1;
    }

    #[inline]
    fn entry(&mut self, text: &[u8]) -> &mut Term {
        let hash = xxhash_rust::xxh3::xxh3_64(text);
        if self.terms.len() * 2 >= self.slots.len() {
            self.grow();
        }
        let mask = self.slots.len() - 1;
        let mut at = hash as usize & mask;
        let found = loop {
            match self.slots[at] {
                0 => break None,
                number => {
                    let term = &self.terms[number as usize - 1];
                    let (from, to) = term.text;
                    if term.hash == hash && self.texts[from as usize..to as usize] == *text {
                        break Some(number as usize - 1);
                    }
                }
            }
            at = (at + 1) & mask;
        };
        let number = found.unwrap_or_else(|| {
            let from = self.texts.len() as u32;
            self.texts.extend_from_slice(text);
            self.terms.push(Term {
                hash,
                text: (from, self.texts.len() as u32),
                postings: Vec::new(),
                next_doc: 0,
                last_position: 0,
                removed: 0,
            });
            self.slots[at] = self.terms.len() as u32;
            self.terms.len() - 1
        });
        &mut self.terms[number]
    }

    fn grow(&mut self) {
        let mut slots = vec![0; self.slots.len() * 2];
        let mask = slots.len() - 1;
        for (number, term) in self.terms.iter().enumerate() {
            let mut at = term.hash as usize & mask;
            while slots[at] != 0 {
                at = (at + 1) & mask;
            }
            slots[at] = number as u32 + 1;
        }
        self.slots = slots;
    }

    pub(crate) fn id(&self, doc: usize) -> &[u8] {
        let from = doc.checked_sub(1).map_or(0, |before| self.id_ends[before]);
        &self.ids[from as usize..self.id_ends[doc] as usize]
    }

    /// Lengths of a document, field by field.
    pub(crate) fn lengths(&self, doc: usize) -> &[u32] {
        &self.lengths[doc * self.fields..(doc + 1) * self.fields]
    }

    /// Writes the part; of documents with the same id only the last counts. Returns the documents in
    /// their order there, as they were numbered here.
    pub(crate) fn write(&self, sink: &mut dyn PageSink) -> Result<Vec<u32>> {
        let order = self.order();
        let mut new_number = vec![list_none(); self.docs()];
        for (new, old) in order.iter().enumerate() {
            new_number[*old as usize] = new as u32;
        }
        let is_identity = order.iter().enumerate().all(|(new, old)| new as u32 == *old)
            && order.len() == self.docs();
        let ids: Vec<&[u8]> = order.iter().map(|old| self.id(*old as usize)).collect();
        let lengths = (0..self.fields)
            .map(|field| order.iter().map(|old| self.lengths(*old as usize)[field]).collect())
            .collect();
        let mut writer = PartWriter::new(sink, self.has_positions, &ids, lengths)?;
        let text = |term: &Term| &self.texts[term.text.0 as usize..term.text.1 as usize];
        let mut sorted: Vec<&Term> = self.terms.iter().collect();
        sorted.sort_unstable_by(|a, b| text(a).cmp(text(b)));
        let mut postings = Postings::default();
        for term in sorted {
            postings.clear();
            term.decode(self.has_positions, &mut postings);
            if !is_identity {
                postings = renumber(&postings, &new_number);
            }
            if !postings.docs.is_empty() || term.removed > 0 {
                writer.term(text(term), -i64::from(term.removed), &postings)?;
            }
        }
        writer.finish()?;
        Ok(order)
    }

    /// Documents by id, without those that were put again.
    fn order(&self) -> Vec<u32> {
        let mut order: Vec<u32> = (0..self.docs() as u32).collect();
        let rises = |pair: &[u32]| self.id(pair[0] as usize) < self.id(pair[1] as usize);
        if order.windows(2).all(rises) {
            return order;
        }
        // Of equal ids the last stays: a map by id does just that.
        let mut last = BTreeMap::new();
        for doc in order.drain(..) {
            last.insert(self.id(doc as usize), doc);
        }
        last.into_values().collect()
    }
}

impl Term {
    fn decode(&self, has_positions: bool, into: &mut Postings) {
        let mut reader = Reader::new(&self.postings);
        let (mut next_doc, mut position) = (0, 0);
        while let Some(head) = reader.varint() {
            if head & 1 == 1 {
                let doc = next_doc + (head >> 1) as u32;
                next_doc = doc + 1;
                into.docs.push(doc);
                into.counts.push(1);
                if has_positions {
                    position = reader.varint().unwrap_or(0) as u32;
                    into.positions.push(position);
                }
            } else if let Some(count) = into.counts.last_mut() {
                *count += 1;
                if has_positions {
                    position += (head >> 1) as u32;
                    into.positions.push(position);
                }
            }
        }
    }
}

const fn list_none() -> u32 {
    super::list::NONE
}

/// The postings with other document numbers, in their order; `NONE` drops a document.
pub(crate) fn renumber(postings: &Postings, new_number: &[u32]) -> Postings {
    let has_positions = !postings.positions.is_empty();
    let mut moved: Vec<(u32, u32, u32)> = Vec::with_capacity(postings.docs.len());
    let mut from = 0;
    for (doc, count) in postings.docs.iter().zip(&postings.counts) {
        let new = new_number[*doc as usize];
        if new != list_none() {
            moved.push((new, *count, from));
        }
        from += count;
    }
    if !moved.is_sorted_by_key(|m| m.0) {
        moved.sort_unstable_by_key(|m| m.0);
    }
    let mut out = Postings::default();
    for (doc, count, from) in moved {
        out.docs.push(doc);
        out.counts.push(count);
        if has_positions {
            let range = from as usize..(from + count) as usize;
            out.positions.extend_from_slice(&postings.positions[range]);
        }
    }
    out
}
