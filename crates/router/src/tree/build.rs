//! From patterns to the packed tree.

use std::{cmp::Reverse, collections::HashMap};

use super::scan::Key;
use super::{Affix, Edge, Leaf, NONE, Names, Node, Origin, PathTree, Special};
use crate::{
    constraint::Constraint,
    pattern::{Param, Pattern, PatternError, Segment},
};

/// Collects patterns; [`build`](Self::build) packs them into a [`PathTree`].
#[derive(Debug)]
pub struct PathTreeBuilder<T> {
    nodes: Vec<Growing>,
    leaves: Vec<Leaf<T>>,
    affixes: Vec<Affix>,
    patterns: Vec<Pattern>,
    shapes: HashMap<String, usize>,
}

/// Why a pattern is not inserted. The author of the routes must act.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InsertError {
    /// Another pattern matches exactly the same paths.
    #[error("`{pattern}` matches the same paths as `{existing}`")]
    Conflict {
        /// The pattern that was to be inserted.
        pattern: Box<str>,
        /// The pattern that is there.
        existing: Box<str>,
    },
    /// The text is no pattern.
    #[error("`{pattern}` is no pattern")]
    Pattern {
        /// The text.
        pattern: Box<str>,
        /// What is wrong with it.
        #[source]
        source: PatternError,
    },
}

/// A node while the tree grows.
#[derive(Debug)]
struct Growing {
    statics: Vec<(Box<str>, u32)>,
    /// By text, so that a node of thousands of children is built in linear time.
    static_places: HashMap<Box<str>, u32>,
    specials: Vec<(Param, u32)>,
    plain: u32,
    catch_all: u32,
    leaf: u32,
    origin: Origin,
}

impl<T> PathTreeBuilder<T> {
    /// No patterns.
    // Not inlined: see `RouterBuilder::new`.
    #[must_use]
    #[inline(never)]
    pub fn new() -> Self {
        let root = Growing::new(Origin { parent: NONE, segment: None });
        Self {
            nodes: vec![root],
            leaves: Vec::new(),
            affixes: Vec::new(),
            patterns: Vec::new(),
            shapes: HashMap::new(),
        }
    }

    /// Adds a pattern and its value. The pattern is taken literally, escapes and all.
    ///
    /// # Errors
    /// [`InsertError::Pattern`] where it is malformed, [`InsertError::Conflict`] where another pattern matches the
    /// same paths, whatever its parameters are called.
    pub fn insert(&mut self, pattern: &str, value: T) -> Result<(), InsertError> {
        let parsed = Pattern::parse(pattern)
            .map_err(|source| InsertError::Pattern { pattern: pattern.into(), source })?;
        self.insert_pattern(parsed, value)
    }

    pub(crate) fn insert_pattern(&mut self, pattern: Pattern, value: T) -> Result<(), InsertError> {
        let shape = pattern.shape();
        if let Some(existing) = self.shapes.get(&shape).and_then(|&at| self.patterns.get(at)) {
            return Err(InsertError::Conflict {
                pattern: pattern.as_str().into(),
                existing: existing.as_str().into(),
            });
        }
        self.shapes.insert(shape, self.leaves.len());
        let leaf = index(self.leaves.len());
        let mut at = 0;
        for segment in pattern.segments() {
            match segment {
                Segment::CatchAll { .. } => self.node(at).catch_all = leaf,
                other => at = self.child(at, other),
            }
        }
        if !matches!(pattern.segments().last(), Some(Segment::CatchAll { .. })) {
            self.node(at).leaf = leaf;
        }
        let leaf = self.leaf(&pattern, value);
        self.leaves.push(leaf);
        self.patterns.push(pattern);
        Ok(())
    }

    /// Packs the tree.
    #[must_use]
    pub fn build(self) -> PathTree<T> {
        let mut packed = Packed::default();
        let mut origins = Vec::with_capacity(self.nodes.len());
        for node in self.nodes {
            origins.push(packed.node(node));
        }
        PathTree {
            nodes: packed.nodes.into(),
            edges: packed.edges.into(),
            specials: packed.specials.into(),
            texts: packed.texts.into(),
            leaves: self.leaves.into(),
            affixes: self.affixes.into(),
            names: self.patterns.iter().map(names).collect(),
            patterns: self.patterns.into(),
            origins: origins.into(),
        }
    }

    fn leaf(&mut self, pattern: &Pattern, value: T) -> Leaf<T> {
        let mut params = 0_u32;
        let mut around = Vec::new();
        for (depth, segment) in pattern.segments().iter().enumerate() {
            let len = |text: &str| u16::try_from(text.len()).expect("patterns are shorter");
            around.push(match segment {
                Segment::Static(_) => continue,
                Segment::Param(Param { prefix, suffix, .. }) => {
                    Affix { prefix: len(prefix), suffix: len(suffix) }
                }
                Segment::CatchAll { .. } => Affix::default(),
            });
            params |= 1 << depth;
        }
        let has_affixes = around.iter().any(|affix| *affix != Affix::default());
        let affixes = if has_affixes { index(self.affixes.len()) } else { NONE };
        self.affixes.extend(around.into_iter().filter(|_| has_affixes));
        let depth = u8::try_from(pattern.segments().len()).expect("patterns are shorter");
        Leaf { value, params, depth, affixes }
    }

    fn node(&mut self, at: u32) -> &mut Growing {
        self.nodes.get_mut(at as usize).expect("node numbers come from the list itself")
    }

    /// The child of `parent` behind `segment`, made if there is none.
    fn child(&mut self, parent: u32, segment: &Segment) -> u32 {
        let next = index(self.nodes.len());
        let node = self.node(parent);
        let child = match segment {
            Segment::Static(text) => {
                let child = *node.static_places.entry(text.clone()).or_insert(next);
                if child == next {
                    node.statics.push((text.clone(), next));
                }
                child
            }
            Segment::Param(param) if param.is_plain() => {
                if node.plain == NONE {
                    node.plain = next;
                }
                node.plain
            }
            Segment::Param(param) => {
                let known = node.specials.iter().find(|(known, _)| known.is_alike(param));
                let child = known.map_or(next, |(_, child)| *child);
                if child == next {
                    node.specials.push((param.clone(), next));
                }
                child
            }
            Segment::CatchAll { .. } => parent,
        };
        if child == next {
            let origin = Origin { parent, segment: Some(segment.clone()) };
            self.nodes.push(Growing::new(origin));
        }
        child
    }
}

impl<T> Default for PathTreeBuilder<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl Growing {
    fn new(origin: Origin) -> Self {
        Self {
            statics: Vec::new(),
            static_places: HashMap::new(),
            specials: Vec::new(),
            plain: NONE,
            catch_all: NONE,
            leaf: NONE,
            origin,
        }
    }
}

impl Param {
    /// Fits every text that is not empty.
    fn is_plain(&self) -> bool {
        self.prefix.is_empty() && self.suffix.is_empty() && self.constraint.is_none()
    }

    /// Fits the same texts.
    fn is_alike(&self, other: &Self) -> bool {
        (&self.prefix, &self.suffix, &self.constraint)
            == (&other.prefix, &other.suffix, &other.constraint)
    }

    /// The order of trial: more literal text first, then the longer prefix, then constrained before free, then
    /// by constraint. The sort is stable, so that equals keep the order of insertion.
    pub(crate) fn order(&self) -> impl Ord + use<> {
        let literal = self.prefix.len() + self.suffix.len();
        let constraint = self.constraint.as_ref().map_or(u8::MAX, Constraint::rank);
        (Reverse(literal), Reverse(self.prefix.len()), constraint)
    }
}

#[derive(Debug, Default)]
struct Packed {
    nodes: Vec<Node>,
    edges: Vec<Edge>,
    specials: Vec<Special>,
    texts: Vec<u8>,
}

impl Packed {
    fn node(&mut self, mut growing: Growing) -> Origin {
        growing.specials.sort_by_key(|(param, _)| param.order());
        let edges = index(self.edges.len());
        let edge_count = growing.statics.len();
        let (first, bits) = self.statics(&growing.statics);
        let specials = index(self.specials.len());
        let special_count = index(growing.specials.len());
        self.specials
            .extend(growing.specials.into_iter().map(|(param, child)| Special { param, child }));
        self.nodes.push(Node {
            first,
            edges,
            edge_count: u16::try_from(edge_count).unwrap_or(u16::MAX),
            bits,
            has_choice: special_count > 0 || growing.plain != NONE || growing.catch_all != NONE,
            specials,
            special_count,
            plain: growing.plain,
            catch_all: growing.catch_all,
            leaf: growing.leaf,
        });
        growing.origin
    }

    /// Lays out literal children; answers the first, and the size of the hash table in bits, 0 for a list.
    fn statics(&mut self, statics: &[(Box<str>, u32)]) -> (Edge, u8) {
        let edges: Vec<Edge> = statics
            .iter()
            .map(|(text, child)| {
                let key = Key::of(text);
                let from = index(self.texts.len());
                self.texts.extend_from_slice(text.as_bytes());
                Edge { key, text: from, child: *child }
            })
            .collect();
        let empty = Edge { key: Key::default(), text: 0, child: NONE };
        let first = edges.first().copied().unwrap_or(empty);
        if edges.len() <= LIST_MAX {
            self.edges.extend(edges.into_iter().skip(1));
            return (first, 0);
        }
        // At most half full: a search ends at an empty place soon.
        let size = (edges.len() * 2).next_power_of_two();
        let bits = u8::try_from(size.trailing_zeros()).unwrap_or(u8::MAX);
        let mut table = vec![empty; size];
        for edge in edges {
            let mut place = edge.key.hash(bits);
            while table.get(place).is_some_and(|taken| taken.child != NONE) {
                place = (place + 1) & (size - 1);
            }
            if let Some(free) = table.get_mut(place) {
                *free = edge;
            }
        }
        self.edges.extend(table);
        (first, bits)
    }
}

fn names(pattern: &Pattern) -> Names {
    pattern.names().map(Into::into).collect()
}

/// Numbers of nodes and edges take four bytes; a program does not hold so many routes.
fn index(number: usize) -> u32 {
    u32::try_from(number).expect("fewer than 2^32 nodes")
}

/// Up to so many literal children are compared one after the other.
const LIST_MAX: usize = 4;
