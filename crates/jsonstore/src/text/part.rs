//! A part: an immutable inverted index over some documents, sorted by their ids.
//!
//! ```text
//! header      format u8, has positions u8, documents, ids per page, fields (count; per field: shortest
//!             length, longest length), dictionary pages (count; per page: first term)
//! dictionary  pages of about 4 KiB: where their lists and positions begin, then terms, each with the
//!             bytes it shares with the one before, the rest, df, adjustment, bytes of its list, of its
//!             skip table (if it has full blocks), of its positions (if kept)
//! lists       posting lists, one after the other
//! positions   their positions
//! ids         pages of as many ids as the header says
//! lengths     per field: the number of terms of each document, 1, 2 or 4 bytes each
//! ```
//! A term is its field's number and its text. Its adjustment is what this part knows about documents
//! that other parts hold and that are gone: the sum of `df + adjustment` over all parts is how many
//! live documents contain the term.

use bytes::Bytes;

use super::{
    list::{self, BLOCK, Cursor, Extent, Postings},
    pages::{PAGE_BYTES, Pages, Section, Stream},
};
use crate::{
    codec::{Reader, put_bytes, put_varint},
    error::Result,
};

const FORMAT: u8 = 1;
/// A dictionary page is closed at this size.
const DICTIONARY_PAGE_BYTES: usize = 4 << 10;
/// Ids of a page take about this much.
const IDS_PAGE_BYTES: usize = 32 << 10;

/// What is known of a part before its pages are read.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Header {
    pub(crate) has_positions: bool,
    pub(crate) docs: u32,
    ids_per_page: u32,
    fields: Vec<FieldLengths>,
    first_terms: Vec<Bytes>,
}

#[derive(Debug, Clone, Copy, PartialEq, Default)]
struct FieldLengths {
    min: u32,
    max: u32,
}

impl FieldLengths {
    fn width(self) -> usize {
        match self.max {
            0..=0xff => 1,
            0x100..=0xffff => 2,
            _ => 4,
        }
    }
}

/// A term of a dictionary.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct TermInfo {
    pub(crate) extent: Extent,
    pub(crate) adjustment: i64,
}

impl Header {
    fn encode(&self) -> Vec<u8> {
        let mut out = vec![FORMAT, u8::from(self.has_positions)];
        put_varint(&mut out, u64::from(self.docs));
        put_varint(&mut out, u64::from(self.ids_per_page));
        put_varint(&mut out, self.fields.len() as u64);
        for field in &self.fields {
            put_varint(&mut out, u64::from(field.min));
            put_varint(&mut out, u64::from(field.max));
        }
        put_varint(&mut out, self.first_terms.len() as u64);
        for term in &self.first_terms {
            put_bytes(&mut out, term);
        }
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(bytes);
        if reader.u8()? != FORMAT {
            return None;
        }
        let has_positions = reader.u8()? == 1;
        let small = |reader: &mut Reader<'_>| u32::try_from(reader.varint()?).ok();
        let docs = small(&mut reader)?;
        let ids_per_page = small(&mut reader)?.max(1);
        let count = reader.length()?.min(bytes.len());
        let fields = (0..count)
            .map(|_| Some(FieldLengths { min: small(&mut reader)?, max: small(&mut reader)? }))
            .collect::<Option<_>>()?;
        let count = reader.length()?.min(bytes.len());
        let first_terms = (0..count)
            .map(|_| reader.bytes().map(Bytes::copy_from_slice))
            .collect::<Option<_>>()?;
        Some(Self { has_positions, docs, ids_per_page, fields, first_terms })
    }

    pub(crate) fn length_min(&self, field: u8) -> u32 {
        self.fields.get(usize::from(field)).map_or(1, |f| f.min.max(1))
    }
}

/// Takes the pages of a part that is written.
pub(crate) trait PageSink {
    fn put(&mut self, section: u8, page: u32, bytes: &[u8]) -> Result<()>;
}

/// Writes a part: ids, lengths, then terms in ascending order.
pub(crate) struct PartWriter<'a> {
    sink: &'a mut dyn PageSink,
    header: Header,
    lengths: Vec<Vec<u32>>,
    lists: StreamWriter,
    positions: StreamWriter,
    page: Vec<u8>,
    last_term: Vec<u8>,
}

impl<'a> PartWriter<'a> {
    pub(crate) fn new(
        sink: &'a mut dyn PageSink,
        has_positions: bool,
        ids: &[&[u8]],
        lengths: Vec<Vec<u32>>,
    ) -> Result<Self> {
        let bytes: usize = ids.iter().map(|id| id.len() + 4).sum();
        let average = bytes / ids.len().max(1) + 1;
        let per_page = (IDS_PAGE_BYTES / average).clamp(64, 4096);
        for (page, ids) in ids.chunks(per_page).enumerate() {
            sink.put(Section::Ids as u8, page as u32, &encode_ids(ids))?;
        }
        let fields = lengths.iter().map(|lengths| {
            let present = lengths.iter().copied().filter(|l| *l > 0);
            FieldLengths {
                min: present.clone().min().unwrap_or(0),
                max: present.max().unwrap_or(0),
            }
        });
        let header = Header {
            has_positions,
            docs: ids.len() as u32,
            ids_per_page: per_page as u32,
            fields: fields.collect(),
            first_terms: Vec::new(),
        };
        for (field, lengths) in lengths.iter().enumerate() {
            let width = header.fields[field].width();
            let section = Section::Lengths as u8 + field as u8;
            let mut stream = StreamWriter::new(section);
            for length in lengths {
                stream.bytes.extend_from_slice(&length.to_le_bytes()[..width]);
                stream.flush(sink)?;
            }
            stream.finish(sink)?;
        }
        Ok(Self {
            sink,
            header,
            lengths,
            lists: StreamWriter::new(Section::Lists as u8),
            positions: StreamWriter::new(Section::Positions as u8),
            page: Vec::new(),
            last_term: Vec::new(),
        })
    }

    /// The next term.
    pub(crate) fn term(&mut self, term: &[u8], adjustment: i64, postings: &Postings) -> Result<()> {
        debug_assert!(self.last_term.as_slice() < term || self.header.first_terms.is_empty());
        let none = Vec::new();
        let field = term.first().copied().unwrap_or(0);
        let lengths = self.lengths.get(usize::from(field)).unwrap_or(&none);
        let length_of = |doc: u32| lengths.get(doc as usize).copied().unwrap_or(0);
        if self.page.is_empty() {
            put_varint(&mut self.page, self.lists.position());
            put_varint(&mut self.page, self.positions.position());
            self.header.first_terms.push(Bytes::copy_from_slice(term));
            self.last_term.clear();
        }
        let has_positions = self.header.has_positions;
        let extent = list::encode(
            postings,
            has_positions,
            &length_of,
            &mut self.lists.bytes,
            &mut self.positions.bytes,
        );
        self.lists.flush(self.sink)?;
        self.positions.flush(self.sink)?;
        let shared = self.last_term.iter().zip(term).take_while(|(a, b)| a == b).count();
        put_varint(&mut self.page, shared as u64);
        put_bytes(&mut self.page, &term[shared..]);
        put_varint(&mut self.page, u64::from(extent.df));
        put_varint(&mut self.page, zigzag(adjustment));
        put_varint(&mut self.page, u64::from(extent.bytes));
        if extent.df as usize >= BLOCK {
            put_varint(&mut self.page, u64::from(extent.skip_bytes));
        }
        if has_positions {
            put_varint(&mut self.page, u64::from(extent.position_bytes));
        }
        self.last_term.clear();
        self.last_term.extend_from_slice(term);
        if self.page.len() >= DICTIONARY_PAGE_BYTES {
            self.end_page()?;
        }
        Ok(())
    }

    /// Writes what is left and the header.
    pub(crate) fn finish(mut self) -> Result<()> {
        self.end_page()?;
        self.lists.finish(self.sink)?;
        self.positions.finish(self.sink)?;
        self.sink.put(Section::Header as u8, 0, &self.header.encode())
    }

    fn end_page(&mut self) -> Result<()> {
        if !self.page.is_empty() {
            let number = self.header.first_terms.len() as u32 - 1;
            self.sink.put(Section::Dictionary as u8, number, &self.page)?;
            self.page.clear();
        }
        Ok(())
    }
}

/// Cuts a stream into pages.
struct StreamWriter {
    section: u8,
    pages: u32,
    bytes: Vec<u8>,
}

impl StreamWriter {
    fn new(section: u8) -> Self {
        Self { section, pages: 0, bytes: Vec::new() }
    }

    fn position(&self) -> u64 {
        u64::from(self.pages) * PAGE_BYTES as u64 + self.bytes.len() as u64
    }

    #[inline]
    fn flush(&mut self, sink: &mut dyn PageSink) -> Result<()> {
        if self.bytes.len() < PAGE_BYTES {
            return Ok(());
        }
        let whole = self.bytes.len() / PAGE_BYTES * PAGE_BYTES;
        for page in self.bytes[..whole].chunks(PAGE_BYTES) {
            sink.put(self.section, self.pages, page)?;
            self.pages += 1;
        }
        self.bytes.drain(..whole);
        Ok(())
    }

    fn finish(&mut self, sink: &mut dyn PageSink) -> Result<()> {
        if self.bytes.is_empty() {
            return Ok(());
        }
        sink.put(self.section, self.pages, &self.bytes)
    }
}

const VARIABLE: u8 = 0;
const FIXED: u8 = 1;

/// Ids of one length need no table of where they begin.
fn encode_ids(ids: &[&[u8]]) -> Vec<u8> {
    let first = ids.first().map_or(0, |id| id.len());
    let mut out = Vec::new();
    if ids.iter().all(|id| id.len() == first) {
        out.push(FIXED);
        out.extend_from_slice(&(first as u32).to_le_bytes());
    } else {
        out.push(VARIABLE);
        let mut end = 0_u32;
        for id in ids {
            end += id.len() as u32;
            out.extend_from_slice(&end.to_le_bytes());
        }
    }
    for id in ids {
        out.extend_from_slice(id);
    }
    out
}

fn id_range(page: &[u8], index: usize, count: usize) -> Option<std::ops::Range<usize>> {
    let word = |at: usize| -> Option<usize> {
        Some(u32::from_le_bytes(page.get(at..at + 4)?.try_into().ok()?) as usize)
    };
    let (base, from, to) = if *page.first()? == FIXED {
        let len = word(1)?;
        (5, index.checked_mul(len)?, (index + 1).checked_mul(len)?)
    } else {
        let from = if index == 0 { 0 } else { word(1 + (index - 1) * 4)? };
        (1 + count * 4, from, word(1 + index * 4)?)
    };
    Some(base.checked_add(from)?..base.checked_add(to)?)
}

/// Reads one part.
#[derive(Clone, Copy)]
pub(crate) struct PartReader<'a> {
    pub(crate) header: &'a Header,
    pub(crate) pages: &'a dyn Pages,
    pub(crate) part: u64,
}

impl<'a> PartReader<'a> {
    /// A term of the dictionary.
    pub(crate) fn find(&self, term: &[u8]) -> Result<Option<TermInfo>> {
        let mut found = None;
        self.scan(term, &mut |candidate, info| {
            if candidate == term {
                found = Some(info);
            }
            Ok(false)
        })?;
        Ok(found)
    }

    /// Terms in ascending order from `from` on, while `each` returns true.
    pub(crate) fn scan(
        &self,
        from: &[u8],
        each: &mut dyn FnMut(&[u8], TermInfo) -> Result<bool>,
    ) -> Result<()> {
        let mut terms = self.terms(from);
        while let Some(info) = terms.next()? {
            if !each(&terms.term, info)? {
                break;
            }
        }
        Ok(())
    }

    /// Terms in ascending order from `from` on.
    pub(crate) fn terms(&self, from: &[u8]) -> DictionaryIter<'a> {
        let first_terms = &self.header.first_terms;
        let next_page = first_terms.partition_point(|t| t[..] <= *from).saturating_sub(1);
        DictionaryIter {
            reader: *self,
            from: from.to_vec(),
            next_page,
            page: Bytes::new(),
            at: 0,
            list_at: 0,
            positions_at: 0,
            term: Vec::new(),
        }
    }

    /// A term's list.
    pub(crate) fn cursor(&self, field: u8, info: &TermInfo) -> Result<Cursor<'a>> {
        let stream = |section: Section| Stream::pages(self.pages, self.part, section as u8);
        let positions = self.header.has_positions.then(|| stream(Section::Positions));
        let lists = stream(Section::Lists);
        Cursor::new(info.extent, lists, positions, self.header.length_min(field))
    }

    /// The ids, to be asked for by number.
    pub(crate) fn ids(&self) -> Ids<'a> {
        Ids { reader: *self, page: (u32::MAX, Bytes::new()) }
    }

    /// The lengths of one field.
    pub(crate) fn lengths(&self, field: u8) -> Lengths<'a> {
        let lengths = self.header.fields.get(usize::from(field)).copied().unwrap_or_default();
        Lengths {
            reader: *self,
            section: Section::Lengths as u8 + field,
            width: lengths.width(),
            page: (u32::MAX, Bytes::new()),
        }
    }
}

/// Walks the terms of a part.
pub(crate) struct DictionaryIter<'a> {
    reader: PartReader<'a>,
    from: Vec<u8>,
    next_page: usize,
    page: Bytes,
    at: usize,
    list_at: u64,
    positions_at: u64,
    /// The term that `next` went to.
    pub(crate) term: Vec<u8>,
}

impl DictionaryIter<'_> {
    pub(crate) fn next(&mut self) -> Result<Option<TermInfo>> {
        loop {
            if self.at >= self.page.len() {
                if self.next_page >= self.reader.header.first_terms.len() {
                    return Ok(None);
                }
                self.open_page()?;
            }
            let info = self.entry().ok_or_else(|| super::damaged("dictionary"))?;
            if self.term >= self.from {
                return Ok(Some(info));
            }
        }
    }

    fn open_page(&mut self) -> Result<()> {
        let section = Section::Dictionary as u8;
        self.page = self.reader.pages.page(self.reader.part, section, self.next_page as u32)?;
        self.next_page += 1;
        self.term.clear();
        let mut reader = Reader::new(&self.page);
        let places = reader.varint().zip(reader.varint());
        (self.list_at, self.positions_at) = places.ok_or_else(|| super::damaged("dictionary"))?;
        self.at = reader.position();
        Ok(())
    }

    #[inline]
    fn entry(&mut self) -> Option<TermInfo> {
        let mut reader = Reader::at(&self.page, self.at);
        let shared = reader.length()?;
        if shared > self.term.len() {
            return None;
        }
        self.term.truncate(shared);
        self.term.extend_from_slice(reader.bytes()?);
        let small = |reader: &mut Reader<'_>| u32::try_from(reader.varint()?).ok();
        let df = small(&mut reader)?;
        let adjustment = unzigzag(reader.varint()?);
        let bytes = small(&mut reader)?;
        let skip_bytes = if df as usize >= BLOCK { small(&mut reader)? } else { 0 };
        let has_positions = self.reader.header.has_positions;
        let position_bytes = if has_positions { small(&mut reader)? } else { 0 };
        let (at, positions_at) = (self.list_at, self.positions_at);
        self.list_at = at.checked_add(u64::from(bytes))?;
        self.positions_at = positions_at.checked_add(u64::from(position_bytes))?;
        self.at = reader.position();
        let extent = Extent { df, at, bytes, skip_bytes, positions_at, position_bytes };
        Some(TermInfo { extent, adjustment })
    }
}

/// Ids of a part by document number.
pub(crate) struct Ids<'a> {
    reader: PartReader<'a>,
    page: (u32, Bytes),
}

impl Ids<'_> {
    pub(crate) fn get(&mut self, doc: u32) -> Result<&[u8]> {
        let range = self.range(doc)?;
        self.page.1.get(range).ok_or_else(|| super::damaged("ids"))
    }

    /// As `get`, sharing the page's memory.
    pub(crate) fn shared(&mut self, doc: u32) -> Result<Bytes> {
        let range = self.range(doc)?;
        match range.end <= self.page.1.len() && range.start <= range.end {
            true => Ok(self.page.1.slice(range)),
            false => Err(super::damaged("ids")),
        }
    }

    #[inline]
    fn range(&mut self, doc: u32) -> Result<std::ops::Range<usize>> {
        let header = self.reader.header;
        let page = doc / header.ids_per_page;
        if self.page.0 != page {
            let bytes = self.reader.pages.page(self.reader.part, Section::Ids as u8, page)?;
            self.page = (page, bytes);
        }
        let first = page * header.ids_per_page;
        let count = header.ids_per_page.min(header.docs.saturating_sub(first));
        id_range(&self.page.1, (doc - first) as usize, count as usize)
            .ok_or_else(|| super::damaged("ids"))
    }

    /// The number of a document, if the part holds it.
    pub(crate) fn find(&mut self, id: &[u8]) -> Result<Option<u32>> {
        let (mut low, mut high) = (0, self.reader.header.docs);
        while low < high {
            let middle = u32::midpoint(low, high);
            if self.get(middle)? < id { low = middle + 1 } else { high = middle }
        }
        Ok((low < self.reader.header.docs && self.get(low)? == id).then_some(low))
    }
}

/// Lengths of documents in one field.
pub(crate) struct Lengths<'a> {
    reader: PartReader<'a>,
    section: u8,
    width: usize,
    page: (u32, Bytes),
}

impl Lengths<'_> {
    #[inline]
    pub(crate) fn get(&mut self, doc: u32) -> Result<u32> {
        let per_page = (PAGE_BYTES / self.width) as u32;
        let page = doc / per_page;
        if self.page.0 != page {
            let bytes = self.reader.pages.page(self.reader.part, self.section, page)?;
            self.page = (page, bytes);
        }
        let at = (doc % per_page) as usize * self.width;
        let bytes = &self.page.1[..];
        let length = match self.width {
            1 => bytes.get(at).map(|b| u32::from(*b)),
            2 => bytes.get(at..at + 2).map(|b| u32::from(u16::from_le_bytes([b[0], b[1]]))),
            _ => bytes.get(at..at + 4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]])),
        };
        length.ok_or_else(|| super::damaged("lengths"))
    }
}

fn zigzag(value: i64) -> u64 {
    (value << 1 ^ value >> 63) as u64
}

fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}
