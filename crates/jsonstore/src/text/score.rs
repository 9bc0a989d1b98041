//! Walking the documents of a part that match, in ascending order, and scoring them.

use super::{
    bm25::Weight,
    list::{Cursor, NONE},
    part::Lengths,
};
use crate::{bugs::bug, error::Result};

/// Bounds are sums in another order than scores; this covers what rounding makes of that.
const SLACK: f64 = 1.0 + 1e-9;
/// From so many on, alternatives are added up for the whole part at once.
pub(crate) const MANY: usize = 16;

/// Documents in ascending order.
pub(crate) trait Scorer {
    /// Where it stands; `NONE` at the end.
    fn doc(&self) -> u32;

    /// To the next document.
    fn advance(&mut self) -> Result<u32>;

    /// To the first document from `target` on; never back.
    fn seek(&mut self, target: u32) -> Result<u32>;

    /// The score of the document it stands at.
    fn score(&mut self) -> Result<f64>;

    /// No document from `target`, which is not before where it stands, up to the second result scores
    /// more than the first.
    fn bound(&mut self, target: u32) -> Result<(f64, u32)>;

    /// About how many documents there are.
    fn cost(&self) -> u64;

    /// To the next document that may match; who calls this calls `settle` next.
    fn step(&mut self) -> Result<u32> {
        self.advance()
    }

    /// To the next document from where it stands, this one included, that may score more than `floor`.
    fn settle(&mut self, floor: f64) -> Result<u32> {
        let mut target = self.doc();
        while target != NONE {
            let (bound, upto) = self.bound(target)?;
            if bound * SLACK > floor {
                return Ok(target);
            }
            target = if upto >= NONE - 1 { NONE } else { self.seek(upto + 1)? };
        }
        Ok(NONE)
    }
}

pub(crate) type BoxedScorer<'a> = Box<dyn Scorer + 'a>;

/// How long a document is in the field of a scorer.
pub(crate) enum LengthsOf<'a> {
    Part(Lengths<'a>),
    /// Of changed documents, which are few.
    Fresh(Vec<u32>),
}

impl LengthsOf<'_> {
    #[inline]
    fn get(&mut self, doc: u32) -> Result<u32> {
        match self {
            Self::Part(lengths) => lengths.get(doc),
            Self::Fresh(lengths) => Ok(lengths.get(doc as usize).copied().unwrap_or(0)),
        }
    }
}

/// Nothing.
pub(crate) struct Nothing;

impl Scorer for Nothing {
    fn doc(&self) -> u32 {
        NONE
    }
    fn advance(&mut self) -> Result<u32> {
        Ok(NONE)
    }
    fn seek(&mut self, _target: u32) -> Result<u32> {
        Ok(NONE)
    }
    fn score(&mut self) -> Result<f64> {
        Ok(0.0)
    }
    fn bound(&mut self, _target: u32) -> Result<(f64, u32)> {
        Ok((0.0, NONE - 1))
    }
    fn cost(&self) -> u64 {
        0
    }
}

/// The documents of one term.
pub(crate) struct TermScorer<'a> {
    pub(crate) cursor: Cursor<'a>,
    pub(crate) lengths: LengthsOf<'a>,
    pub(crate) weight: Weight,
}

impl Scorer for TermScorer<'_> {
    #[inline]
    fn doc(&self) -> u32 {
        self.cursor.doc()
    }
    #[inline]
    fn advance(&mut self) -> Result<u32> {
        self.cursor.advance()
    }
    #[inline]
    fn seek(&mut self, target: u32) -> Result<u32> {
        self.cursor.seek(target)
    }
    #[inline]
    fn score(&mut self) -> Result<f64> {
        let length = self.lengths.get(self.cursor.doc())?;
        Ok(self.weight.score(self.cursor.count()?, length))
    }
    #[inline]
    fn bound(&mut self, target: u32) -> Result<(f64, u32)> {
        let weight = self.weight;
        self.cursor.bound(target, &|count, length| weight.score(count, length))
    }
    fn cost(&self) -> u64 {
        u64::from(self.cursor.df())
    }
}

/// Documents with at least one of a few; the score is the sum of those that are there.
pub(crate) struct Union<'a> {
    parts: Vec<BoxedScorer<'a>>,
    doc: u32,
}

impl<'a> Union<'a> {
    pub(crate) fn new(parts: Vec<BoxedScorer<'a>>) -> Self {
        let doc = parts.iter().map(|p| p.doc()).min().unwrap_or(NONE);
        Self { parts, doc }
    }
}

impl Scorer for Union<'_> {
    fn doc(&self) -> u32 {
        self.doc
    }
    fn advance(&mut self) -> Result<u32> {
        if self.doc == NONE {
            return Ok(NONE);
        }
        let mut least = NONE;
        for part in &mut self.parts {
            let at = if part.doc() == self.doc { part.advance()? } else { part.doc() };
            least = least.min(at);
        }
        self.doc = least;
        Ok(least)
    }
    fn seek(&mut self, target: u32) -> Result<u32> {
        let mut least = NONE;
        for part in &mut self.parts {
            least = least.min(part.seek(target)?);
        }
        self.doc = least;
        Ok(least)
    }
    fn score(&mut self) -> Result<f64> {
        let mut sum = 0.0;
        for part in &mut self.parts {
            if part.doc() == self.doc {
                sum += part.score()?;
            }
        }
        Ok(sum)
    }
    fn bound(&mut self, target: u32) -> Result<(f64, u32)> {
        let (mut sum, mut upto) = (0.0, NONE - 1);
        for part in &mut self.parts {
            match part.doc() {
                NONE => {}
                // It has nothing before where it stands.
                doc if doc > target => {
                    upto = upto.min(doc - 1);
                }
                _ => {
                    let (bound, end) = part.bound(target)?;
                    sum += bound;
                    upto = upto.min(end);
                }
            }
        }
        Ok((sum, upto))
    }
    fn cost(&self) -> u64 {
        self.parts.iter().map(|p| p.cost()).sum()
    }
}

/// Documents that all parts have; the score is the sum.
pub(crate) struct Intersection<'a> {
    /// In the order of the query, in which scores are added up.
    parts: Vec<BoxedScorer<'a>>,
    /// The rarest first.
    order: Vec<usize>,
}

impl<'a> Intersection<'a> {
    pub(crate) fn new(parts: Vec<BoxedScorer<'a>>) -> Result<Self> {
        let mut order: Vec<usize> = (0..parts.len()).collect();
        order.sort_by_key(|at| parts[*at].cost());
        let mut both = Self { parts, order };
        let first = both.lead().doc();
        both.meet(first)?;
        Ok(both)
    }

    fn lead(&mut self) -> &mut BoxedScorer<'a> {
        &mut self.parts[self.order[0]]
    }

    /// From `target`, where the first stands, to the next document that all have.
    fn meet(&mut self, mut target: u32) -> Result<u32> {
        'next: while target != NONE {
            for at in &self.order[1..] {
                let doc = self.parts[*at].seek(target)?;
                if doc != target {
                    target = self.parts[self.order[0]].seek(doc)?;
                    continue 'next;
                }
            }
            break;
        }
        Ok(target)
    }
}

impl Scorer for Intersection<'_> {
    fn doc(&self) -> u32 {
        self.parts[self.order[0]].doc()
    }
    fn advance(&mut self) -> Result<u32> {
        let next = self.lead().advance()?;
        self.meet(next)
    }
    fn seek(&mut self, target: u32) -> Result<u32> {
        if self.doc() >= target {
            return Ok(self.doc());
        }
        let next = self.lead().seek(target)?;
        self.meet(next)
    }
    fn score(&mut self) -> Result<f64> {
        let mut sum = 0.0;
        for part in &mut self.parts {
            sum += part.score()?;
        }
        Ok(sum)
    }
    fn bound(&mut self, target: u32) -> Result<(f64, u32)> {
        let (mut sum, mut upto) = (0.0, NONE - 1);
        for part in &mut self.parts {
            let (bound, end) = part.bound(target)?;
            sum += bound;
            upto = upto.min(end);
        }
        Ok((sum, upto))
    }
    fn cost(&self) -> u64 {
        self.order.first().map_or(0, |at| self.parts[*at].cost())
    }

    fn step(&mut self) -> Result<u32> {
        self.lead().advance()
    }

    /// The first part leads: blocks, then documents, that cannot get above the floor are left out
    /// before the others are moved.
    fn settle(&mut self, floor: f64) -> Result<u32> {
        let mut target = self.doc();
        while target != NONE {
            let (bound, upto) = self.bound(target)?;
            if bound * SLACK <= floor {
                target = if upto >= NONE - 1 { NONE } else { self.lead().seek(upto + 1)? };
                continue;
            }
            let mut rest = 0.0;
            for at in &self.order[1..] {
                rest += self.parts[*at].bound(target)?.0;
            }
            // Within these blocks only the score of the first changes from document to document.
            while target <= upto {
                if (self.lead().score()? + rest) * SLACK > floor {
                    let met = self.all_at(target)?;
                    if met {
                        return Ok(target);
                    }
                }
                target = self.lead().advance()?;
            }
        }
        Ok(NONE)
    }
}

impl Intersection<'_> {
    fn all_at(&mut self, target: u32) -> Result<bool> {
        for at in &self.order[1..] {
            if self.parts[*at].seek(target)? != target {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// Documents of the first that the second does not have.
pub(crate) struct Difference<'a> {
    part: BoxedScorer<'a>,
    without: BoxedScorer<'a>,
}

impl<'a> Difference<'a> {
    pub(crate) fn new(part: BoxedScorer<'a>, without: BoxedScorer<'a>) -> Result<Self> {
        let mut difference = Self { part, without };
        difference.skip()?;
        Ok(difference)
    }

    fn skip(&mut self) -> Result<u32> {
        loop {
            let doc = self.part.doc();
            if doc == NONE || self.without.seek(doc)? != doc {
                return Ok(doc);
            }
            self.part.advance()?;
        }
    }
}

impl Scorer for Difference<'_> {
    fn doc(&self) -> u32 {
        self.part.doc()
    }
    fn advance(&mut self) -> Result<u32> {
        self.part.advance()?;
        self.skip()
    }
    fn seek(&mut self, target: u32) -> Result<u32> {
        self.part.seek(target)?;
        self.skip()
    }
    fn score(&mut self) -> Result<f64> {
        self.part.score()
    }
    fn bound(&mut self, target: u32) -> Result<(f64, u32)> {
        self.part.bound(target)
    }
    fn cost(&self) -> u64 {
        self.part.cost()
    }
}

/// Documents of the first; what the second finds there counts too.
pub(crate) struct Optional<'a> {
    pub(crate) part: BoxedScorer<'a>,
    pub(crate) more: BoxedScorer<'a>,
}

impl Scorer for Optional<'_> {
    fn doc(&self) -> u32 {
        self.part.doc()
    }
    fn advance(&mut self) -> Result<u32> {
        self.part.advance()
    }
    fn seek(&mut self, target: u32) -> Result<u32> {
        self.part.seek(target)
    }
    fn score(&mut self) -> Result<f64> {
        let doc = self.part.doc();
        let own = self.part.score()?;
        Ok(if self.more.seek(doc)? == doc { own + self.more.score()? } else { own })
    }
    fn bound(&mut self, target: u32) -> Result<(f64, u32)> {
        let (own, mut upto) = self.part.bound(target)?;
        let more = match self.more.doc() {
            NONE => 0.0,
            doc if doc > target => {
                upto = upto.min(doc - 1);
                0.0
            }
            _ => {
                let (more, end) = self.more.bound(target)?;
                upto = upto.min(end);
                more
            }
        };
        Ok((own + more, upto))
    }
    fn cost(&self) -> u64 {
        self.part.cost()
    }
}

/// Documents in which terms of one field stand at their distances.
pub(crate) struct PhraseScorer<'a> {
    cursors: Vec<(Cursor<'a>, u32)>,
    /// The rarest first.
    order: Vec<usize>,
    lengths: LengthsOf<'a>,
    weight: Weight,
    count: u32,
}

impl<'a> PhraseScorer<'a> {
    pub(crate) fn new(
        cursors: Vec<(Cursor<'a>, u32)>,
        lengths: LengthsOf<'a>,
        weight: Weight,
    ) -> Result<Self> {
        let mut order: Vec<usize> = (0..cursors.len()).collect();
        order.sort_by_key(|at| cursors[*at].0.df());
        let mut phrase = Self { cursors, order, lengths, weight, count: 0 };
        let first = phrase.doc();
        phrase.meet(first)?;
        Ok(phrase)
    }

    fn meet(&mut self, mut target: u32) -> Result<u32> {
        'next: while target != NONE {
            for at in &self.order[1..] {
                let doc = self.cursors[*at].0.seek(target)?;
                if doc != target {
                    target = self.cursors[self.order[0]].0.seek(doc)?;
                    continue 'next;
                }
            }
            self.count = self.occurrences()?;
            if self.count > 0 {
                break;
            }
            target = self.cursors[self.order[0]].0.advance()?;
        }
        Ok(target)
    }

    /// How often the phrase occurs in the document where all stand.
    fn occurrences(&mut self) -> Result<u32> {
        let mut starts: Option<Vec<u32>> = None;
        for (cursor, offset) in &mut self.cursors {
            let positions = cursor.positions()?;
            let begins = |p: &u32| p.checked_sub(*offset);
            starts = Some(match starts {
                None => positions.iter().filter_map(begins).collect(),
                Some(mut starts) => {
                    let mut rest = positions.iter().filter_map(begins).peekable();
                    starts.retain(|start| {
                        while rest.next_if(|p| p < start).is_some() {}
                        rest.peek() == Some(start) || bug("text_phrase_ignores_order")
                    });
                    starts
                }
            });
        }
        Ok(starts.map_or(0, |starts| starts.len() as u32))
    }
}

impl Scorer for PhraseScorer<'_> {
    fn doc(&self) -> u32 {
        self.order.first().map_or(NONE, |at| self.cursors[*at].0.doc())
    }
    fn advance(&mut self) -> Result<u32> {
        let next = self.cursors[self.order[0]].0.advance()?;
        self.meet(next)
    }
    fn seek(&mut self, target: u32) -> Result<u32> {
        if self.doc() >= target {
            return Ok(self.doc());
        }
        let next = self.cursors[self.order[0]].0.seek(target)?;
        self.meet(next)
    }
    fn score(&mut self) -> Result<f64> {
        let length = self.lengths.get(self.doc())?;
        Ok(self.weight.score(self.count, length))
    }
    fn bound(&mut self, target: u32) -> Result<(f64, u32)> {
        // The phrase occurs at most as often as its rarest term.
        let weight = self.weight;
        let rarest = &mut self.cursors[self.order[0]].0;
        rarest.bound(target, &|count, length| weight.score(count, length))
    }
    fn cost(&self) -> u64 {
        self.order.first().map_or(0, |at| u64::from(self.cursors[*at].0.df()))
    }
}

/// The sum of many alternatives, added up beforehand.
pub(crate) struct Summed {
    docs: Vec<(u32, f64)>,
    at: usize,
    most: f64,
}

impl Summed {
    pub(crate) fn new(parts: Vec<BoxedScorer<'_>>) -> Result<Self> {
        let mut all: Vec<(u32, usize, f64)> = Vec::new();
        for (place, mut part) in parts.into_iter().enumerate() {
            while part.doc() != NONE {
                all.push((part.doc(), place, part.score()?));
                part.advance()?;
            }
        }
        all.sort_unstable_by_key(|(doc, place, _)| (*doc, *place));
        let mut docs: Vec<(u32, f64)> = Vec::with_capacity(all.len());
        for (doc, _, score) in all {
            match docs.last_mut() {
                Some((last, sum)) if *last == doc => *sum += score,
                _ => docs.push((doc, score)),
            }
        }
        let most = docs.iter().map(|(_, score)| *score).fold(0.0, f64::max);
        Ok(Self { docs, at: 0, most })
    }
}

impl Scorer for Summed {
    fn doc(&self) -> u32 {
        self.docs.get(self.at).map_or(NONE, |(doc, _)| *doc)
    }
    fn advance(&mut self) -> Result<u32> {
        self.at = (self.at + 1).min(self.docs.len());
        Ok(self.doc())
    }
    fn seek(&mut self, target: u32) -> Result<u32> {
        let ahead = self.docs.get(self.at..).unwrap_or_default();
        self.at += ahead.partition_point(|(doc, _)| *doc < target);
        Ok(self.doc())
    }
    fn score(&mut self) -> Result<f64> {
        Ok(self.docs.get(self.at).map_or(0.0, |(_, score)| *score))
    }
    fn bound(&mut self, _target: u32) -> Result<(f64, u32)> {
        Ok((self.most, NONE - 1))
    }
    fn cost(&self) -> u64 {
        self.docs.len() as u64
    }
}
