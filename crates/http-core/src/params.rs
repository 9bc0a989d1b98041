//! What the router found in the host and the path.

use std::{ops::Range, sync::Arc};

use smallvec::SmallVec;

/// The named parts of the request's host and path: names are shared with the route, values are
/// ranges of the authority and of the request target, so that matching a route allocates nothing
/// for up to eight of them.
#[derive(Debug, Clone, Default)]
pub struct PathParams {
    names: Option<Arc<[Box<str>]>>,
    /// Those of the host first.
    ranges: SmallVec<[(u16, u16); 8]>,
    host_count: u8,
}

impl PathParams {
    /// Params of a route with `names`, one range of the raw request target for each.
    #[must_use]
    pub fn new(names: Arc<[Box<str>]>, ranges: impl IntoIterator<Item = Range<usize>>) -> Self {
        let ranges = ranges.into_iter().map(narrow).collect();
        Self { names: Some(names), ranges, host_count: 0 }
    }

    /// As [`new`](Self::new) for a route whose host has named labels: their ranges lie in the authority, and
    /// their names stand first.
    #[must_use]
    pub fn with_host(
        names: Arc<[Box<str>]>,
        host_ranges: impl IntoIterator<Item = Range<usize>>,
        ranges: impl IntoIterator<Item = Range<usize>>,
    ) -> Self {
        let mut all: SmallVec<[(u16, u16); 8]> = host_ranges.into_iter().map(narrow).collect();
        let host_count = u8::try_from(all.len()).unwrap_or(u8::MAX);
        all.extend(ranges.into_iter().map(narrow));
        Self { names: Some(names), ranges: all, host_count }
    }

    /// None, in the memory of these.
    pub(crate) fn clear(&mut self) {
        if self.names.is_some() {
            *self = Self::default();
        }
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

    /// The range of the path parameter `name` in the request target.
    #[must_use]
    pub fn range(&self, name: &str) -> Option<Range<usize>> {
        self.iter().find(|(known, _)| *known == name).map(|(_, range)| range)
    }

    /// The range of the host parameter `name` in the authority.
    #[must_use]
    pub fn host_range(&self, name: &str) -> Option<Range<usize>> {
        self.host_iter().find(|(known, _)| *known == name).map(|(_, range)| range)
    }

    /// Names and ranges of the host parameters, in the order of the pattern.
    pub fn host_iter(&self) -> impl Iterator<Item = (&str, Range<usize>)> {
        self.all().take(usize::from(self.host_count))
    }

    /// Names and ranges of the path parameters, in the order of the pattern.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Range<usize>)> {
        self.all().skip(usize::from(self.host_count))
    }

    /// Host parameters first, then path parameters.
    fn all(&self) -> impl Iterator<Item = (&str, Range<usize>)> {
        let names = self.names.iter().flat_map(|names| names.iter());
        names
            .zip(&self.ranges)
            .map(|(name, &(start, end))| (&**name, usize::from(start)..usize::from(end)))
    }
}

/// A head is never above 64 KiB, so 16 bits hold any offset.
fn narrow(range: Range<usize>) -> (u16, u16) {
    let narrow = |at: usize| u16::try_from(at).unwrap_or(u16::MAX);
    (narrow(range.start), narrow(range.end))
}
