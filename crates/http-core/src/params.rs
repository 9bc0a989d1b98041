//! What the router found in the path.

use std::{ops::Range, sync::Arc};

use smallvec::SmallVec;

/// The named parts of the request's path: names are shared with the route, values are ranges of the
/// request target, so that matching a route allocates nothing for up to eight of them.
#[derive(Debug, Clone, Default)]
pub struct PathParams {
    names: Option<Arc<[Box<str>]>>,
    ranges: SmallVec<[(u16, u16); 8]>,
}

impl PathParams {
    /// Params of a route with `names`, one range of the raw request target for each.
    #[must_use]
    pub fn new(names: Arc<[Box<str>]>, ranges: impl IntoIterator<Item = Range<usize>>) -> Self {
        // A target is at most 8 KiB by default and never above 64 KiB, so 16 bits hold any offset.
        let narrow = |at: usize| u16::try_from(at).unwrap_or(u16::MAX);
        let ranges = ranges.into_iter().map(|r| (narrow(r.start), narrow(r.end))).collect();
        Self { names: Some(names), ranges }
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ranges.len()
    }

    /// Whether the route has none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// The range of the parameter `name` in the request target.
    #[must_use]
    pub fn range(&self, name: &str) -> Option<Range<usize>> {
        self.iter().find(|(known, _)| *known == name).map(|(_, range)| range)
    }

    /// Names and ranges, in the order of the pattern.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Range<usize>)> {
        let names = self.names.iter().flat_map(|names| names.iter());
        names
            .zip(&self.ranges)
            .map(|(name, &(start, end))| (&**name, usize::from(start)..usize::from(end)))
    }
}
