//! Look-up.

use std::ops::Range;

use super::scan::Scanned;
use super::{Choice, Edge, Fit, Leaf, NONE, Node, PathTree, Silent, Trace, Tried};
use crate::pattern::{Param, SEGMENTS_MAX};

/// What [`PathTree::find`] found.
#[derive(Debug)]
pub struct Match<'t, 'p, T> {
    found: Found<'t, T>,
    path: &'p str,
}

/// As [`Match`], for a path that need not be UTF-8.
#[derive(Debug)]
pub(crate) struct Found<'t, T> {
    tree: &'t PathTree<T>,
    leaf: &'t Leaf<T>,
    number: u32,
    path_len: usize,
    starts: Starts,
}

/// Where the segment of each depth begins. A depth has one segment, whatever choices are tried, so
/// that giving up a choice needs nothing undone.
type Starts = [u16; SEGMENTS_MAX];

impl<'t, 'p, T> Match<'t, 'p, T> {
    /// The value.
    #[must_use]
    pub fn value(&self) -> &'t T {
        self.found.value()
    }

    /// The pattern that matched.
    #[must_use]
    pub fn pattern(&self) -> &'t str {
        self.found.tree.pattern(self.found.number).unwrap_or_default()
    }

    /// The text of the parameter `name`.
    #[must_use]
    pub fn param(&self, name: &str) -> Option<&'p str> {
        self.params().find(|(known, _)| *known == name).map(|(_, text)| text)
    }

    /// Names and texts, in the order of the pattern.
    pub fn params(&self) -> impl Iterator<Item = (&'t str, &'p str)> {
        let path = self.path;
        let texts = self.ranges().map(move |range| path.get(range).unwrap_or_default());
        let found = &self.found;
        let names = found.tree.names.get(found.number as usize).into_iter().flatten();
        names.map(|name| &**name).zip(texts)
    }

    /// Where in the path the parameters lie, in the order of the pattern.
    #[inline]
    pub fn ranges(&self) -> impl Iterator<Item = Range<usize>> {
        self.found.ranges()
    }
}

impl<'t, T> Found<'t, T> {
    #[inline]
    pub(crate) fn value(&self) -> &'t T {
        &self.leaf.value
    }

    #[inline]
    pub(crate) fn ranges(&self) -> impl Iterator<Item = Range<usize>> {
        let mut left = self.leaf.params;
        let mut number = 0;
        std::iter::from_fn(move || {
            let depth = left.trailing_zeros() as usize;
            left &= left.checked_sub(1)?;
            let range = self.segment(depth);
            if self.leaf.affixes == NONE {
                return Some(range);
            }
            let affix = self.tree.affixes.get(self.leaf.affixes as usize + number)?;
            number += 1;
            Some(range.start + usize::from(affix.prefix)..range.end - usize::from(affix.suffix))
        })
    }

    /// Where the segment of this depth lies; that of a catch-all goes on to the end.
    #[inline]
    fn segment(&self, depth: usize) -> Range<usize> {
        let start_of = |depth: usize| self.starts.get(depth).map_or(0, |&at| usize::from(at));
        let end = if depth + 1 == usize::from(self.leaf.depth) {
            self.path_len
        } else {
            start_of(depth + 1) - 1
        };
        start_of(depth)..end
    }
}

impl<T> PathTree<T> {
    /// The value for `path`, which begins with a slash and has at most 65,535 bytes.
    #[must_use]
    #[inline]
    pub fn find<'t, 'p>(&'t self, path: &'p str) -> Option<Match<'t, 'p, T>> {
        self.find_traced(path.as_bytes(), &mut Silent).map(|found| Match { found, path })
    }

    #[inline]
    pub(crate) fn find_traced(&self, path: &[u8], trace: &mut impl Trace) -> Option<Found<'_, T>> {
        if path.first() != Some(&b'/') || path.len() > usize::from(u16::MAX) {
            return None;
        }
        trace.begin(path);
        let mut walk = Walk { tree: self, path, starts: [0; SEGMENTS_MAX], trace };
        let number = walk.descend(0, 1, 0)?;
        let leaf = self.leaves.get(number as usize)?;
        Some(Found { tree: self, leaf, number, path_len: path.len(), starts: walk.starts })
    }

    /// The literal child of `node` with the text of `segment`.
    #[inline]
    fn literal(&self, node: &Node, path: &[u8], segment: &Scanned) -> Option<u32> {
        if self.is_edge(&node.first, path, segment) {
            return Some(node.first.child);
        }
        if node.edge_count < 2 {
            return None;
        }
        let first = node.edges as usize;
        if node.bits == 0 {
            let list = self.edges.get(first..first + usize::from(node.edge_count) - 1)?;
            let edge = list.iter().find(|edge| self.is_edge(edge, path, segment))?;
            return Some(edge.child);
        }
        let table = self.edges.get(first..first + (1 << node.bits))?;
        let mut place = segment.key.hash(node.bits);
        loop {
            // Half of the places are empty, so the search ends.
            let edge = table.get(place)?;
            if edge.child == NONE {
                return None;
            }
            if self.is_edge(edge, path, segment) {
                return Some(edge.child);
            }
            place = (place + 1) & (table.len() - 1);
        }
    }

    #[inline]
    fn is_edge(&self, edge: &Edge, path: &[u8], segment: &Scanned) -> bool {
        // The key of an empty place is that of the empty segment.
        if edge.key != segment.key || edge.child == NONE {
            return false;
        }
        if !segment.key.is_partial() {
            return true;
        }
        let from = edge.text as usize;
        let text = self.texts.get(from..from + (segment.end - segment.start));
        text == path.get(segment.start..segment.end)
    }
}

struct Walk<'w, 'p, T, R> {
    tree: &'w PathTree<T>,
    path: &'p [u8],
    starts: Starts,
    trace: &'w mut R,
}

impl<T, R: Trace> Walk<'_, '_, T, R> {
    /// The leaf for what is left of the path, from the segment that begins at `at`.
    fn descend(&mut self, mut index: u32, mut at: usize, mut depth: usize) -> Option<u32> {
        let tree = self.tree;
        loop {
            let node = tree.node(index)?;
            let segment = Scanned::read(self.path, at);
            // A path deeper than every pattern ends here, unless a catch-all has taken it above.
            *self.starts.get_mut(depth)? = at as u16;
            let literal = tree.literal(node, self.path, &segment);
            if literal.is_none() && node.edge_count > 0 {
                self.tell(index, &segment, Choice::Static, Fit::NoSuchText);
            }
            // The one choice that is left needs no return to this node.
            let only = match literal {
                Some(child) if !node.has_choice => {
                    self.tell(index, &segment, Choice::Static, Fit::Yes);
                    child
                }
                _ => match self.choose(index, node, literal, &segment, depth) {
                    Chosen::Leaf(leaf) => return Some(leaf),
                    Chosen::Nothing => return None,
                    Chosen::Only(child) => child,
                },
            };
            if segment.end == self.path.len() {
                return self.end(only, &segment);
            }
            (index, at, depth) = (only, segment.end + 1, depth + 1);
        }
    }

    /// Tries the choices of a node in order.
    #[inline]
    fn choose(
        &mut self,
        index: u32,
        node: &Node,
        literal: Option<u32>,
        segment: &Scanned,
        depth: usize,
    ) -> Chosen {
        if let Some(child) = literal {
            self.tell(index, segment, Choice::Static, Fit::Yes);
            if let Some(leaf) = self.enter(child, segment, depth) {
                return Chosen::Leaf(leaf);
            }
        }
        if node.special_count > 0
            && let Some(leaf) = self.try_specials(index, node, segment, depth)
        {
            return Chosen::Leaf(leaf);
        }
        if node.plain != NONE {
            let fit = if segment.end > segment.start { Fit::Yes } else { Fit::Empty };
            self.tell(index, segment, Choice::Plain, fit);
            if fit == Fit::Yes {
                if node.catch_all == NONE {
                    return Chosen::Only(node.plain);
                }
                if let Some(leaf) = self.enter(node.plain, segment, depth) {
                    return Chosen::Leaf(leaf);
                }
            }
        }
        if node.catch_all == NONE {
            return Chosen::Nothing;
        }
        self.tell(index, segment, Choice::CatchAll, Fit::Yes);
        Chosen::Leaf(node.catch_all)
    }

    #[inline(never)]
    fn try_specials(
        &mut self,
        index: u32,
        node: &Node,
        segment: &Scanned,
        depth: usize,
    ) -> Option<u32> {
        let tree = self.tree;
        let first = node.specials as usize;
        let specials = tree.specials.get(first..first + node.special_count as usize)?;
        let text = self.path.get(segment.start..segment.end)?;
        for (place, special) in specials.iter().enumerate() {
            let fit = fit(&special.param, text);
            self.tell(index, segment, Choice::Special(place as u32), fit);
            if fit == Fit::Yes
                && let Some(leaf) = self.enter(special.child, segment, depth)
            {
                return Some(leaf);
            }
        }
        None
    }

    /// Goes on behind `segment`, to come back if that leads nowhere.
    #[inline]
    fn enter(&mut self, child: u32, segment: &Scanned, depth: usize) -> Option<u32> {
        if segment.end == self.path.len() {
            return self.end(child, segment);
        }
        self.descend(child, segment.end + 1, depth + 1)
    }

    /// The path has ended at `index`.
    #[inline]
    fn end(&mut self, index: u32, segment: &Scanned) -> Option<u32> {
        let leaf = self.tree.node(index)?.leaf;
        let fit = if leaf == NONE { Fit::NothingEndsHere } else { Fit::Yes };
        self.tell(index, segment, Choice::End, fit);
        (leaf != NONE).then_some(leaf)
    }

    #[inline(always)]
    fn tell(&mut self, node: u32, segment: &Scanned, choice: Choice, fit: Fit) {
        self.trace.tried(Tried { node, start: segment.start, end: segment.end, choice, fit });
    }
}

enum Chosen {
    Leaf(u32),
    Nothing,
    /// Nothing else is left to try at this node.
    Only(u32),
}

/// Whether the text of a segment fits a parameter.
fn fit(param: &Param, text: &[u8]) -> Fit {
    let (prefix, suffix) = (param.prefix.as_bytes(), param.suffix.as_bytes());
    let value = text.strip_prefix(prefix).and_then(|text| text.strip_suffix(suffix));
    match (value, &param.constraint) {
        (None, _) => Fit::Affix,
        (Some([]), _) => Fit::Empty,
        (Some(value), Some(constraint)) if !constraint.accepts(value) => Fit::Constraint,
        (Some(_), _) => Fit::Yes,
    }
}
