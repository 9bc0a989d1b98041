//! The segment trie.
//!
//! One node per distinct prefix of patterns, one level per segment. At each node the literal
//! children are tried first, then the parameters from the most to the least specific, then the
//! catch-all; where a choice leads nowhere the next one is tried. A node has one depth, so a
//! look-up visits no node twice: the work is bounded by the number of patterns.

mod build;
mod find;
mod scan;
mod trace;

use self::scan::Key;
pub(crate) use self::trace::{Choice, Fit, Silent, Trace, Tried};
pub use self::{
    build::{InsertError, PathTreeBuilder},
    find::Match,
};
use crate::pattern::{Pattern, Segment};

/// Values by path pattern; immutable, made by [`PathTreeBuilder`].
///
/// ```
/// use hearth_router::PathTree;
///
/// let mut builder = PathTree::builder();
/// builder.insert("/users/{id:int}", "a user")?;
/// builder.insert("/files/{*path}", "a file")?;
/// let tree = builder.build();
///
/// let found = tree.find("/users/7").expect("there is such a route");
/// assert_eq!((*found.value(), found.param("id")), ("a user", Some("7")));
/// assert!(tree.find("/users/x").is_none());
/// # Ok::<(), hearth_router::InsertError>(())
/// ```
#[derive(Debug)]
pub struct PathTree<T> {
    nodes: Box<[Node]>,
    edges: Box<[Edge]>,
    specials: Box<[Special]>,
    /// The literal texts of edges, one behind the other.
    texts: Box<[u8]>,
    leaves: Box<[Leaf<T>]>,
    /// Where parameters lie, for leaves whose segments have literal text around them.
    affixes: Box<[Affix]>,
    patterns: Box<[Pattern]>,
    names: Box<[Names]>,
    /// For explanations only: how one comes to each node.
    origins: Box<[Origin]>,
}

/// A place in the tree. One cache line: most nodes of a large tree have one child, and to pass
/// such a node touches nothing else.
#[derive(Debug, Clone, Copy)]
#[repr(align(64))]
struct Node {
    /// The first literal child.
    first: Edge,
    /// The other literal children: a list where `bits` is 0; otherwise a hash table of 2^bits places, where the
    /// first child is too.
    edges: u32,
    edge_count: u16,
    bits: u8,
    /// Whether something is to be tried after the literal children.
    has_choice: bool,
    /// Constrained and affixed parameters, most specific first.
    specials: u32,
    special_count: u32,
    /// The child behind a plain parameter.
    plain: u32,
    /// The leaf of a catch-all that begins here.
    catch_all: u32,
    /// The leaf of patterns that end here.
    leaf: u32,
}

/// A literal child; [`NONE`] is the child of an empty place.
#[derive(Debug, Clone, Copy)]
struct Edge {
    key: Key,
    text: u32,
    child: u32,
}

/// A child behind a parameter that not every text fits.
#[derive(Debug)]
struct Special {
    param: crate::pattern::Param,
    child: u32,
}

/// A pattern's value, and all that is needed to find its parameters.
#[derive(Debug)]
struct Leaf<T> {
    value: T,
    /// Bit N is set where segment N holds a parameter.
    params: u32,
    /// Segments of the pattern; the last one goes on to the end of the path.
    depth: u8,
    /// The first of its affixes, one for each parameter; [`NONE`] where all take whole segments.
    affixes: u32,
}

/// Names of a leaf's parameters, in order.
type Names = Box<[Box<str>]>;

/// How much literal text stands around a parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Affix {
    prefix: u16,
    suffix: u16,
}

/// The way to a node: from where, by which segment.
#[derive(Debug)]
struct Origin {
    parent: u32,
    segment: Option<Segment>,
}

impl<T> PathTree<T> {
    /// Begins a tree.
    #[must_use]
    pub fn builder() -> PathTreeBuilder<T> {
        PathTreeBuilder::new()
    }

    /// Patterns and values, in the order of insertion.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &T)> {
        self.patterns.iter().map(Pattern::as_str).zip(self.leaves.iter().map(|leaf| &leaf.value))
    }

    /// How many patterns there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.leaves.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.leaves.is_empty()
    }

    /// The pattern so far at `node`, for explanations.
    pub(crate) fn describe(&self, node: u32) -> String {
        let mut segments = Vec::new();
        let mut at = node;
        while let Some(Origin { parent, segment: Some(segment) }) = self.origin(at) {
            segments.push(segment.to_string());
            at = *parent;
        }
        segments.iter().rev().fold(String::new(), |all, segment| all + "/" + segment)
    }

    /// The text of the special parameter `choice` of `node`.
    pub(crate) fn describe_special(&self, node: u32, choice: u32) -> Option<String> {
        let node = self.node(node)?;
        let at = usize::try_from(node.specials + choice).ok()?;
        let special = self.specials.get(at)?;
        Some(Segment::Param(special.param.clone()).to_string())
    }

    /// The pattern behind the plain parameter of `node`.
    pub(crate) fn describe_plain(&self, node: u32) -> String {
        self.node(node).map(|node| self.describe(node.plain)).unwrap_or_default()
    }

    /// The pattern of the catch-all of `node`.
    pub(crate) fn describe_catch_all(&self, node: u32) -> String {
        let leaf = self.node(node).map_or(NONE, |node| node.catch_all);
        self.pattern(leaf).unwrap_or_default().to_owned()
    }

    fn pattern(&self, leaf: u32) -> Option<&str> {
        self.patterns.get(leaf as usize).map(Pattern::as_str)
    }

    fn node(&self, index: u32) -> Option<&Node> {
        self.nodes.get(index as usize)
    }

    fn origin(&self, index: u32) -> Option<&Origin> {
        self.origins.get(index as usize)
    }
}

/// No node, no leaf.
const NONE: u32 = u32::MAX;
