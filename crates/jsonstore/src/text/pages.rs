//! Parts of an index as pages: what one key of the store holds, and streams over many of them.

use bytes::Bytes;

use crate::error::Result;

/// Bytes of a page of a stream.
pub(crate) const PAGE_BYTES: usize = 32 << 10;

/// What a part consists of. The numbers are the format's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Section {
    Header = 0,
    Dictionary = 1,
    Lists = 2,
    Positions = 3,
    Ids = 4,
    /// One stream per field, from here on.
    Lengths = 16,
}

/// Where pages come from.
pub(crate) trait Pages {
    /// The page, which must exist.
    fn page(&self, part: u64, section: u8, page: u32) -> Result<Bytes>;
}

/// A run of bytes: in memory, or cut into pages of the same size.
pub(crate) struct Stream<'a> {
    source: Source<'a>,
    /// The page that was read last, with its number.
    page: (u32, Bytes),
    /// A slice that lies in several pages.
    joined: Bytes,
}

enum Source<'a> {
    Memory,
    Pages { pages: &'a dyn Pages, part: u64, section: u8 },
}

impl std::fmt::Debug for Stream<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stream").finish_non_exhaustive()
    }
}

impl<'a> Stream<'a> {
    pub(crate) fn memory(bytes: Bytes) -> Self {
        Self { source: Source::Memory, page: (0, bytes), joined: Bytes::new() }
    }

    pub(crate) fn pages(pages: &'a dyn Pages, part: u64, section: u8) -> Self {
        let source = Source::Pages { pages, part, section };
        Self { source, page: (u32::MAX, Bytes::new()), joined: Bytes::new() }
    }

    /// Exactly these bytes.
    pub(crate) fn slice(&mut self, at: u64, len: usize) -> Result<&[u8]> {
        if len == 0 {
            return Ok(&[]);
        }
        let Source::Pages { .. } = self.source else {
            let from = usize::try_from(at).unwrap_or(usize::MAX);
            let slice = from.checked_add(len).and_then(|to| self.page.1.get(from..to));
            return slice.ok_or_else(|| super::damaged("stream"));
        };
        let (page, offset) = place(at)?;
        if offset + len <= PAGE_BYTES {
            let bytes = self.load(page)?;
            return bytes.get(offset..offset + len).ok_or_else(|| super::damaged("page"));
        }
        self.joined = self.join(at, len)?;
        Ok(&self.joined)
    }

    /// As `slice`, shared.
    pub(crate) fn read(&mut self, at: u64, len: usize) -> Result<Bytes> {
        let is_joined = matches!(self.source, Source::Pages { .. })
            && (at % PAGE_BYTES as u64) as usize + len > PAGE_BYTES;
        if is_joined {
            return self.join(at, len);
        }
        if len == 0 {
            return Ok(Bytes::new());
        }
        self.slice(at, len)?;
        let offset = match self.source {
            Source::Memory => at as usize,
            Source::Pages { .. } => (at % PAGE_BYTES as u64) as usize,
        };
        Ok(self.page.1.slice(offset..offset + len))
    }

    fn join(&mut self, at: u64, len: usize) -> Result<Bytes> {
        let (mut page, mut offset) = place(at)?;
        // The length is what a dictionary claims, so memory follows what is there.
        let mut joined = Vec::with_capacity(len.min(4 * PAGE_BYTES));
        while joined.len() < len {
            let take = (len - joined.len()).min(PAGE_BYTES - offset);
            let bytes = self.load(page)?;
            let slice = bytes.get(offset..offset + take);
            joined.extend_from_slice(slice.ok_or_else(|| super::damaged("page"))?);
            page += 1;
            offset = 0;
        }
        Ok(Bytes::from(joined))
    }

    fn load(&mut self, page: u32) -> Result<&Bytes> {
        if let Source::Pages { pages, part, section } = self.source
            && self.page.0 != page
        {
            self.page = (page, pages.page(part, section, page)?);
        }
        Ok(&self.page.1)
    }
}

fn place(at: u64) -> Result<(u32, usize)> {
    let page = u32::try_from(at / PAGE_BYTES as u64).map_err(|_| super::damaged("offset"))?;
    Ok((page, (at % PAGE_BYTES as u64) as usize))
}
