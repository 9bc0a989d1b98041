//! A part in the making, and what it changes about the others.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;

use super::{
    build::Builder,
    part::PageSink,
    roster::{self, DEAD_PAGE_DOCS, FieldTotals, PartEntry, Roster},
    state::{Chain, Changed, Dead, SnapshotPages, TextState, add_totals, read_terms},
};
use crate::{bugs::bug, commit::Op, error::Result};

/// Documents that become a part, and documents of other parts that are gone.
#[derive(Debug)]
pub(crate) struct Assembly {
    state: Arc<TextState>,
    builder: Builder,
    /// What the documents change about the totals.
    totals: Vec<FieldTotals>,
    /// Documents whose place in a part no longer counts.
    gone: Vec<Bytes>,
    /// Changes that are in this part now.
    consumed: Vec<Bytes>,
    positions: Vec<u32>,
}

impl Assembly {
    pub(crate) fn new(state: &Arc<TextState>) -> Self {
        let fields = state.scheme.fields();
        Self {
            state: Arc::clone(state),
            builder: Builder::new(fields, state.scheme.settings.positions),
            totals: vec![FieldTotals::default(); fields],
            gone: Vec::new(),
            consumed: Vec::new(),
            positions: Vec::new(),
        }
    }

    /// Memory it takes, about.
    pub(crate) fn bytes(&self) -> usize {
        self.builder.bytes()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.builder.is_empty()
    }

    /// A whole document.
    pub(crate) fn add_document(&mut self, id: &[u8], document: &[u8]) {
        let builder = &mut self.builder;
        let mut has_begun = false;
        self.state.scheme.occurrences(document, |term, position| {
            if !std::mem::replace(&mut has_begun, true) {
                builder.begin(id);
            }
            builder.occurrence(term, position);
        });
        if has_begun {
            let lengths = builder.lengths(builder.docs() - 1);
            for (field, length) in self.totals.iter_mut().zip(lengths) {
                field.docs += i64::from(*length > 0);
                field.terms += i64::from(*length);
            }
        }
    }

    /// What became of a document.
    pub(crate) fn apply(&mut self, id: &Bytes, chain: &Chain) -> Result<()> {
        if let Some(terms) = read_terms(&chain.takes)? {
            if !bug("text_fold_forgets_dead") {
                self.gone.push(id.clone());
            }
            for entry in terms.iter() {
                self.builder.removal(entry.term);
            }
            add_totals(&mut self.totals, &chain.takes, -1)?;
        }
        if let Some(terms) = read_terms(&chain.adds)? {
            self.builder.begin(id);
            for entry in terms.iter() {
                self.positions.clear();
                entry.positions(&mut self.positions);
                for at in 0..entry.count as usize {
                    let position = self.positions.get(at).copied().unwrap_or(0);
                    self.builder.occurrence(entry.term, position);
                }
            }
            add_totals(&mut self.totals, &chain.adds, 1)?;
        }
        Ok(())
    }

    /// These changes are no longer needed.
    pub(crate) fn consume<'c>(&mut self, changes: impl IntoIterator<Item = &'c Changed>) {
        self.consumed.extend(changes.into_iter().map(Changed::key));
    }

    /// Writes the part; returns its documents. More may be gathered for another one afterwards.
    pub(crate) fn write(&mut self, sink: &mut dyn PageSink) -> Result<u32> {
        let scheme = &self.state.scheme;
        let fresh = Builder::new(scheme.fields(), scheme.settings.positions);
        let builder = std::mem::replace(&mut self.builder, fresh);
        Ok(builder.write(sink)?.len() as u32)
    }

    /// What else changes: bits of the dead, consumed changes; and in the roster, which the caller writes.
    /// The first `known` parts of the roster are those of the snapshot.
    pub(crate) fn finish(
        self,
        pages: &SnapshotPages<'_>,
        roster: &mut Roster,
        known: usize,
    ) -> Result<Vec<Op>> {
        let state = &self.state;
        for (total, change) in roster.fields.iter_mut().zip(&self.totals) {
            total.docs += change.docs;
            total.terms += change.terms;
        }
        let mut bitmaps: BTreeMap<(u64, u32), Vec<u8>> = BTreeMap::new();
        for id in &self.gone {
            let (at, doc) = locate(state, pages, &roster.parts[..known], id)?;
            let part = &mut roster.parts[at];
            part.dead += 1;
            let page = doc / DEAD_PAGE_DOCS;
            let bitmap = match bitmaps.entry((part.number, page)) {
                std::collections::btree_map::Entry::Occupied(entry) => entry.into_mut(),
                std::collections::btree_map::Entry::Vacant(entry) => {
                    let mut bitmap = pages.dead_page(part.number, page)?.to_vec();
                    let docs = (part.docs - page * DEAD_PAGE_DOCS).min(DEAD_PAGE_DOCS);
                    bitmap.resize(docs.div_ceil(8) as usize, 0);
                    entry.insert(bitmap)
                }
            };
            let bit = doc % DEAD_PAGE_DOCS;
            bitmap[bit as usize / 8] |= 1 << (bit % 8);
        }
        let keyspace = state.keyspace;
        let mut ops: Vec<Op> = bitmaps
            .into_iter()
            .map(|((part, page), bitmap)| Op {
                keyspace,
                key: Bytes::copy_from_slice(&roster::dead_key(part, page)),
                value: Some(Bytes::from(bitmap)),
            })
            .collect();
        let consumed = self.consumed.into_iter();
        ops.extend(consumed.map(|key| Op { keyspace, key, value: None }));
        Ok(ops)
    }
}

/// Where a document lives: which part, and its number there.
fn locate(
    state: &TextState,
    pages: &SnapshotPages<'_>,
    parts: &[PartEntry],
    id: &[u8],
) -> Result<(usize, u32)> {
    for (at, part) in parts.iter().enumerate().rev() {
        if part.docs == 0 {
            continue;
        }
        let header = state.header(pages, part.number)?;
        if let Some(doc) = pages.part(&header, part.number).ids().find(id)?
            && !Dead::new(pages, part).contains(doc)?
        {
            return Ok((at, doc));
        }
    }
    Err(super::damaged("place of a document"))
}
