//! Running a planned query over all parts and the changes of one snapshot.

use std::{cmp::Ordering, collections::BinaryHeap};

use bytes::Bytes;

use super::{
    list::{self, Cursor, NONE, Postings},
    pages::Stream,
    part::PartReader,
    plan::{Node, Plan, PlannedTerm},
    roster::PartEntry,
    score::{
        BoxedScorer, Difference, Intersection, LengthsOf, MANY, Nothing, Optional, PhraseScorer,
        Summed, TermScorer, Union,
    },
    state::{Dead, SnapshotPages, View, read_terms},
};
use crate::{
    bugs::bug,
    engine::{Core, View as Moment},
    error::Result,
    expiry::Hide,
};

/// Documents read at a time, to see whether they have expired.
const READ_MAX: usize = 256;

/// A document that matches.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Match {
    pub(crate) id: Bytes,
    pub(crate) score: f64,
}

/// A view with a plan for it.
pub(crate) struct Run<'a> {
    pub(crate) view: &'a View,
    pub(crate) pages: &'a SnapshotPages<'a>,
    pub(crate) plan: &'a Plan,
    pub(crate) hidden: &'a Hidden<'a>,
}

/// Documents that match but have expired. The index does not know when, so they are read.
pub(crate) struct Hidden<'a> {
    pub(crate) core: &'a Core,
    pub(crate) documents: u32,
    pub(crate) seq: u64,
    pub(crate) hide: Hide,
}

impl Hidden<'_> {
    fn contains(&self, id: &Bytes) -> Result<bool> {
        if self.hide.is_nothing() {
            return Ok(false);
        }
        let found = self.core.read_at(self.documents, id, self.seq)?;
        let value = found.and_then(|(_, value)| value);
        Ok(value.is_some_and(|value| self.hide.hides(&value)))
    }

    /// Takes them out of some ids.
    fn leave(&self, ids: &mut Vec<Bytes>) -> Result<()> {
        if self.hide.is_nothing() {
            return Ok(());
        }
        let all = std::mem::take(ids);
        for some in all.chunks(READ_MAX) {
            let values = self.core.values(self.documents, some, Moment::Snapshot(self.seq))?;
            let seen = some.iter().zip(values).filter(|(_, value)| {
                value.as_ref().is_none_or(|(_, value)| !self.hide.hides(value))
            });
            ids.extend(seen.map(|(id, _)| id.clone()));
        }
        Ok(())
    }
}

/// Where a piece of the index lies.
#[derive(Clone, Copy)]
enum Place<'a> {
    /// The number of the part in the view.
    Part(usize, PartReader<'a>),
    /// Documents that changed since.
    Fresh,
}

impl<'a> Run<'a> {
    /// The best `limit` matches: highest score first, of equals the smallest id.
    pub(crate) fn best(&self, limit: usize) -> Result<Vec<Match>> {
        let mut best = Best { limit, heap: BinaryHeap::new() };
        if limit == 0 {
            return Ok(Vec::new());
        }
        // Changed documents are few; what they score raises the floor for the rest.
        self.best_of_fresh(&mut best)?;
        for (at, (entry, header)) in self.view.parts().enumerate() {
            let reader = self.pages.part(header, entry.number);
            self.best_of_part(at, entry, reader, &mut best)?;
        }
        Ok(best.into_sorted())
    }

    /// Every match, by id.
    pub(crate) fn all(&self) -> Result<Vec<Bytes>> {
        let mut all = self.matches()?;
        self.hidden.leave(&mut all)?;
        Ok(all)
    }

    fn matches(&self) -> Result<Vec<Bytes>> {
        let mut all = Vec::new();
        let mut scorer = self.scorer(&self.plan.root, Place::Fresh)?;
        while scorer.doc() != NONE {
            all.push(self.view.fresh[scorer.doc() as usize].0.clone());
            scorer.advance()?;
        }
        let mut runs = usize::from(!all.is_empty());
        for (at, (entry, header)) in self.view.parts().enumerate() {
            let reader = self.pages.part(header, entry.number);
            let before = all.len();
            self.all_of_part(at, entry, reader, &mut all)?;
            runs += usize::from(all.len() > before);
        }
        if runs > 1 {
            all.sort_unstable();
        }
        Ok(all)
    }

    /// How many match.
    pub(crate) fn count(&self) -> Result<u64> {
        if !self.hidden.hide.is_nothing() {
            return Ok(self.all()?.len() as u64);
        }
        let mut count = 0;
        let mut scorer = self.scorer(&self.plan.root, Place::Fresh)?;
        while scorer.doc() != NONE {
            count += 1;
            scorer.advance()?;
        }
        for (at, (entry, header)) in self.view.parts().enumerate() {
            let reader = self.pages.part(header, entry.number);
            let mut dead = Dead::new(self.pages, entry);
            let mut ids = reader.ids();
            let mut scorer = self.scorer(&self.plan.root, Place::Part(at, reader))?;
            while scorer.doc() != NONE {
                let doc = scorer.doc();
                let counts = !dead.contains(doc)?
                    && (self.view.shadow.is_empty() || !self.view.shadow.contains(ids.get(doc)?));
                count += u64::from(counts);
                scorer.advance()?;
            }
        }
        Ok(count)
    }

    fn all_of_part(
        &self,
        at: usize,
        entry: &PartEntry,
        reader: PartReader<'a>,
        all: &mut Vec<Bytes>,
    ) -> Result<()> {
        let mut dead = Dead::new(self.pages, entry);
        let mut ids = reader.ids();
        let mut scorer = self.scorer(&self.plan.root, Place::Part(at, reader))?;
        let mut doc = scorer.doc();
        while doc != NONE {
            if !dead.contains(doc)? || bug("text_finds_dead") {
                let id = ids.shared(doc)?;
                if !self.view.shadow.contains(&id) || bug("text_finds_shadows") {
                    all.push(id);
                }
            }
            doc = scorer.advance()?;
        }
        Ok(())
    }

    fn best_of_fresh(&self, best: &mut Best) -> Result<()> {
        let mut scorer = self.scorer(&self.plan.root, Place::Fresh)?;
        while scorer.doc() != NONE {
            let id = &self.view.fresh[scorer.doc() as usize].0;
            let score = scorer.score()?;
            best.offer(score, usize::MAX, || Ok((!self.hidden.contains(id)?).then(|| id.clone())))?;
            scorer.advance()?;
        }
        Ok(())
    }

    fn best_of_part(
        &self,
        at: usize,
        entry: &PartEntry,
        reader: PartReader<'a>,
        best: &mut Best,
    ) -> Result<()> {
        let mut dead = Dead::new(self.pages, entry);
        let mut ids = reader.ids();
        let mut scorer = self.scorer(&self.plan.root, Place::Part(at, reader))?;
        let mut doc = scorer.doc();
        while doc != NONE {
            if let Some(floor) = best.floor(at) {
                doc = scorer.settle(floor)?;
                if doc == NONE {
                    break;
                }
            }
            let score = scorer.score()?;
            best.offer(score, at, || {
                if dead.contains(doc)? {
                    return Ok(None);
                }
                let id = ids.shared(doc)?;
                let is_seen = !self.view.shadow.contains(&id) && !self.hidden.contains(&id)?;
                Ok(is_seen.then_some(id))
            })?;
            doc = if best.is_full() { scorer.step()? } else { scorer.advance()? };
        }
        Ok(())
    }

    fn scorer(&self, node: &Node, place: Place<'a>) -> Result<BoxedScorer<'a>> {
        Ok(match node {
            Node::Anything => Box::new(Nothing),
            Node::Terms(places) => {
                let mut parts: Vec<BoxedScorer<'a>> = Vec::new();
                for at in places {
                    if let Some(scorer) = self.term(&self.plan.terms[*at], place)? {
                        parts.push(Box::new(scorer));
                    }
                }
                any_of(parts)?
            }
            Node::Phrase { terms, weight } => {
                let mut cursors = Vec::new();
                let mut lengths = None;
                for (at, offset) in terms {
                    let term = &self.plan.terms[*at];
                    let Some(scorer) = self.term(term, place)? else {
                        return Ok(Box::new(Nothing));
                    };
                    cursors.push((scorer.cursor, *offset));
                    lengths.get_or_insert(scorer.lengths);
                }
                match lengths {
                    Some(lengths) => Box::new(PhraseScorer::new(cursors, lengths, *weight)?),
                    None => Box::new(Nothing),
                }
            }
            Node::All(nodes) => {
                let mut parts = Vec::with_capacity(nodes.len());
                for node in nodes {
                    let part = self.scorer(node, place)?;
                    if part.doc() == NONE {
                        return Ok(Box::new(Nothing));
                    }
                    parts.push(part);
                }
                match parts.len() {
                    0 => Box::new(Nothing),
                    1 => parts.remove(0),
                    _ => Box::new(Intersection::new(parts)?),
                }
            }
            Node::Any(nodes) => {
                let parts: Result<Vec<_>> = nodes.iter().map(|n| self.scorer(n, place)).collect();
                any_of(parts?.into_iter().filter(|p| p.doc() != NONE).collect())?
            }
            Node::Except(part, without) => {
                let part = self.scorer(part, place)?;
                Box::new(Difference::new(part, self.scorer(without, place)?)?)
            }
            Node::Should(part, more) => {
                let part = self.scorer(part, place)?;
                Box::new(Optional { part, more: self.scorer(more, place)? })
            }
        })
    }

    fn term(&self, term: &PlannedTerm, place: Place<'a>) -> Result<Option<TermScorer<'a>>> {
        let field = term.key[0];
        let (cursor, lengths) = match place {
            Place::Part(at, reader) => {
                let Some(info) = &term.infos[at] else { return Ok(None) };
                (reader.cursor(field, info)?, LengthsOf::Part(reader.lengths(field)))
            }
            Place::Fresh => {
                let Some((cursor, lengths)) = self.fresh(term)? else { return Ok(None) };
                (cursor, LengthsOf::Fresh(lengths))
            }
        };
        Ok(Some(TermScorer { cursor, lengths, weight: term.weight }))
    }

    /// The list of a term among changed documents, made on the spot.
    fn fresh(&self, term: &PlannedTerm) -> Result<Option<(Cursor<'a>, Vec<u32>)>> {
        let field = usize::from(term.key[0]);
        let mut postings = Postings::default();
        let mut lengths = Vec::with_capacity(self.view.fresh.len());
        for (doc, (_, adds)) in self.view.fresh.iter().enumerate() {
            let Some(terms) = read_terms(adds)? else { continue };
            lengths.push(terms.lengths().nth(field).unwrap_or(0));
            if let Some(entry) = terms.find(&term.key) {
                postings.docs.push(doc as u32);
                postings.counts.push(entry.count);
                entry.positions(&mut postings.positions);
            }
        }
        if postings.docs.is_empty() {
            return Ok(None);
        }
        let has_positions = !postings.positions.is_empty();
        let (mut bytes, mut positions) = (Vec::new(), Vec::new());
        let length_of = |doc: u32| lengths[doc as usize];
        let extent = list::encode(&postings, has_positions, &length_of, &mut bytes, &mut positions);
        let positions = has_positions.then(|| Stream::memory(Bytes::from(positions)));
        let least = lengths.iter().copied().filter(|l| *l > 0).min().unwrap_or(1);
        let cursor = Cursor::new(extent, Stream::memory(Bytes::from(bytes)), positions, least)?;
        Ok(Some((cursor, lengths)))
    }
}

fn any_of<'a>(mut parts: Vec<BoxedScorer<'a>>) -> Result<BoxedScorer<'a>> {
    Ok(match parts.len() {
        0 => Box::new(Nothing),
        1 => parts.remove(0),
        n if n > MANY => Box::new(Summed::new(parts)?),
        _ => Box::new(Union::new(parts)),
    })
}

/// The best matches so far.
struct Best {
    limit: usize,
    /// The worst on top.
    heap: BinaryHeap<Kept>,
}

#[derive(PartialEq)]
struct Kept {
    score: f64,
    id: Bytes,
    /// Which part it came from.
    part: usize,
}

impl Eq for Kept {}

impl PartialOrd for Kept {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Kept {
    /// Greater is worse.
    fn cmp(&self, other: &Self) -> Ordering {
        other.score.total_cmp(&self.score).then_with(|| self.id.cmp(&other.id))
    }
}

impl Best {
    fn is_full(&self) -> bool {
        self.heap.len() >= self.limit
    }

    /// A document of this part that scores no more than this is of no use.
    fn floor(&self, part: usize) -> Option<f64> {
        let worst = self.heap.peek().filter(|_| self.is_full())?;
        // Within a part ids ascend, so an equal score later loses; from another part it may win.
        Some(if worst.part == part { worst.score } else { worst.score.next_down() })
    }

    fn offer(
        &mut self,
        score: f64,
        part: usize,
        id: impl FnOnce() -> Result<Option<Bytes>>,
    ) -> Result<()> {
        if self.floor(part).is_some_and(|floor| score <= floor) {
            return Ok(());
        }
        let Some(id) = id()? else { return Ok(()) };
        let new = Kept { score, id, part };
        if self.heap.len() < self.limit {
            self.heap.push(new);
        } else if let Some(mut worst) = self.heap.peek_mut()
            && new < *worst
        {
            *worst = new;
        }
        Ok(())
    }

    fn into_sorted(self) -> Vec<Match> {
        let sorted = self.heap.into_sorted_vec().into_iter();
        sorted.map(|kept| Match { id: kept.id, score: kept.score }).collect()
    }
}
