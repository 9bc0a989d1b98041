//! Posting lists: the documents of one term, in blocks of 128.
//!
//! ```text
//! list   = skip table, full blocks, tail (fewer than 128 documents)
//! skip   = per full block: last document (varint, delta), bytes of the block, bytes of its positions,
//!          frontier
//! block  = bits of documents u8, bits of counts u8, packed document deltas, packed counts - 1
//! tail   = per document: varint(delta << 1 | count is 1), else varint(count - 2)
//! ```
//! The frontier of a block holds pairs of a count and the least length of a document with at least
//! that count: no document of the block scores more than the best of these pairs, whatever the
//! average length is by now. Positions lie in a stream of their own, block by block.

use bitpacking::{BitPacker, BitPacker4x};

use super::pages::Stream;
use crate::{
    codec::{Reader, put_varint},
    error::{Error, Result},
};

/// Documents in a full block.
pub(crate) const BLOCK: usize = BitPacker4x::BLOCK_LEN;
/// A document number no part has.
pub(crate) const NONE: u32 = u32::MAX;
/// Pairs in a frontier; with more, the least promising ones are merged upwards.
const FRONTIER_MAX: usize = 4;

/// Postings of one term, as plain arrays.
#[derive(Debug, Default, Clone, PartialEq)]
pub(crate) struct Postings {
    pub(crate) docs: Vec<u32>,
    /// How often the term occurs in each.
    pub(crate) counts: Vec<u32>,
    /// All positions, document by document, ascending in each. Empty if none are kept.
    pub(crate) positions: Vec<u32>,
}

impl Postings {
    pub(crate) fn clear(&mut self) {
        self.docs.clear();
        self.counts.clear();
        self.positions.clear();
    }
}

/// Where a list lies and how large its parts are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Extent {
    pub(crate) df: u32,
    pub(crate) at: u64,
    pub(crate) bytes: u32,
    pub(crate) skip_bytes: u32,
    pub(crate) positions_at: u64,
    pub(crate) position_bytes: u32,
}

/// Appends a list to two streams; what it says of the place is relative to them.
pub(crate) fn encode(
    postings: &Postings,
    has_positions: bool,
    length_of: &dyn Fn(u32) -> u32,
    out: &mut Vec<u8>,
    positions_out: &mut Vec<u8>,
) -> Extent {
    let (at, positions_at) = (out.len(), positions_out.len());
    let packer = BitPacker4x::new();
    let (mut skip, mut blocks) = (Vec::new(), Vec::new());
    let mut packed = [0; 4 * BLOCK];
    let mut last = None;
    let mut taken = 0;
    for (docs, counts) in postings.docs.chunks(BLOCK).zip(postings.counts.chunks(BLOCK)) {
        let (block_at, block_positions_at) = (blocks.len(), positions_out.len());
        if has_positions {
            let many = counts.iter().map(|c| *c as usize).sum::<usize>();
            encode_positions(&postings.positions[taken..taken + many], counts, positions_out);
            taken += many;
        }
        let (Some(end), true) = (docs.last(), docs.len() == BLOCK) else {
            encode_tail(docs, counts, last, &mut blocks);
            break;
        };
        let mut less = [0; BLOCK];
        for (to, count) in less.iter_mut().zip(counts) {
            *to = count - 1;
        }
        let bits = packer.num_bits_strictly_sorted(last, docs);
        let count_bits = packer.num_bits(&less);
        blocks.extend_from_slice(&[bits, count_bits]);
        let size = packer.compress_strictly_sorted(last, docs, &mut packed, bits);
        blocks.extend_from_slice(&packed[..size]);
        let size = packer.compress(&less, &mut packed, count_bits);
        blocks.extend_from_slice(&packed[..size]);
        put_varint(&mut skip, u64::from(end - last.unwrap_or(0)));
        put_varint(&mut skip, (blocks.len() - block_at) as u64);
        if has_positions {
            put_varint(&mut skip, (positions_out.len() - block_positions_at) as u64);
        }
        put_frontier(docs, counts, length_of, &mut skip);
        last = Some(*end);
    }
    out.extend_from_slice(&skip);
    out.extend_from_slice(&blocks);
    Extent {
        df: postings.docs.len() as u32,
        at: at as u64,
        bytes: (out.len() - at) as u32,
        skip_bytes: skip.len() as u32,
        positions_at: positions_at as u64,
        position_bytes: (positions_out.len() - positions_at) as u32,
    }
}

fn encode_tail(docs: &[u32], counts: &[u32], mut last: Option<u32>, out: &mut Vec<u8>) {
    for (doc, count) in docs.iter().zip(counts) {
        let delta = last.map_or(*doc, |last| doc - last - 1);
        put_varint(out, u64::from(delta) << 1 | u64::from(*count == 1));
        if *count > 1 {
            put_varint(out, u64::from(count - 2));
        }
        last = Some(*doc);
    }
}

/// One width for all: the distances between positions in a document, packed.
fn encode_positions(positions: &[u32], counts: &[u32], out: &mut Vec<u8>) {
    let mut deltas = Vec::with_capacity(positions.len());
    let mut rest = positions;
    for count in counts {
        let (own, next) = rest.split_at(*count as usize);
        rest = next;
        let mut last = 0;
        for position in own {
            deltas.push(position - last);
            last = *position;
        }
    }
    let bits = 32 - deltas.iter().fold(0, |all, d| all | d).leading_zeros();
    out.push(bits as u8);
    let (mut word, mut filled) = (0_u64, 0);
    for delta in deltas {
        word |= u64::from(delta) << filled;
        filled += bits;
        while filled >= 8 {
            out.push(word as u8);
            word >>= 8;
            filled -= 8;
        }
    }
    if filled > 0 {
        out.push(word as u8);
    }
}

/// Pairs with falling counts and falling lengths: what no other document of the block beats.
fn put_frontier(docs: &[u32], counts: &[u32], length_of: &dyn Fn(u32) -> u32, out: &mut Vec<u8>) {
    let mut pairs: Vec<(u32, u32)> =
        docs.iter().zip(counts).map(|(d, c)| (*c, length_of(*d))).collect();
    // Highest count first, shortest first among equals.
    pairs.sort_unstable_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(&b.1)));
    let mut kept: Vec<(u32, u32)> = Vec::with_capacity(FRONTIER_MAX);
    for (count, length) in pairs {
        let is_full = kept.len() == FRONTIER_MAX;
        match kept.last_mut() {
            Some((_, least)) if length >= *least => {}
            // What does not fit makes the last pair more optimistic than any document.
            Some((_, least)) if is_full => *least = length,
            _ => kept.push((count, length)),
        }
    }
    out.push(kept.len() as u8);
    for (count, length) in kept {
        put_varint(out, u64::from(count));
        put_varint(out, u64::from(length));
    }
}

/// Scores a pair of count and length; must not fall with the count nor rise with the length.
pub(crate) type Weigh<'a> = dyn Fn(u32, u32) -> f64 + 'a;

#[derive(Debug, Clone, Copy)]
struct Block {
    last: u32,
    at: u32,
    positions_at: u32,
    /// Where its frontier begins in the skip table; replaced by the bound once that was asked for.
    frontier: u32,
    bound: f64,
}

/// Walks a posting list.
#[derive(Debug)]
pub(crate) struct Cursor<'a> {
    extent: Extent,
    stream: Stream<'a>,
    positions: Option<Stream<'a>>,
    skip: bytes::Bytes,
    blocks: Vec<Block>,
    /// Where full blocks end, and their positions.
    end: (u32, u32),
    /// The block that is decoded; `blocks.len()` is the tail.
    block: usize,
    docs: [u32; BLOCK],
    counts: [u32; BLOCK],
    counts_ready: bool,
    len: usize,
    index: usize,
    /// Positions of the decoded block and where each document's begin.
    decoded_positions: Option<(Vec<u32>, Vec<u32>)>,
    /// The shortest document of the part, for the bound of the tail.
    length_min: u32,
    tail_bound: Option<f64>,
    /// Where `bound` looked last.
    shallow: usize,
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(
        extent: Extent,
        mut stream: Stream<'a>,
        positions: Option<Stream<'a>>,
        length_min: u32,
    ) -> Result<Self> {
        let skip = stream.read(extent.at, extent.skip_bytes as usize)?;
        let (blocks, end) = read_skip(&skip, extent.df as usize / BLOCK, positions.is_some())
            .ok_or_else(|| damaged("skip table"))?;
        let mut cursor = Self {
            extent,
            stream,
            positions,
            skip,
            blocks,
            end,
            block: 0,
            docs: [NONE; BLOCK],
            counts: [0; BLOCK],
            counts_ready: false,
            len: 0,
            index: 0,
            decoded_positions: None,
            length_min,
            tail_bound: None,
            shallow: 0,
        };
        cursor.decode(0)?;
        Ok(cursor)
    }

    /// The document it stands at, or `NONE` at the end.
    #[inline]
    pub(crate) fn doc(&self) -> u32 {
        self.docs.get(self.index).copied().unwrap_or(NONE)
    }

    pub(crate) fn df(&self) -> u32 {
        self.extent.df
    }

    #[inline]
    pub(crate) fn advance(&mut self) -> Result<u32> {
        self.index += 1;
        if self.index >= self.len {
            self.decode(self.block + 1)?;
        }
        Ok(self.doc())
    }

    /// Goes to the first document from `target` on; never back.
    #[inline]
    pub(crate) fn seek(&mut self, target: u32) -> Result<u32> {
        if self.doc() >= target {
            return Ok(self.doc());
        }
        if self.len == 0 || self.docs[self.len - 1] < target {
            let rest = self.blocks.get(self.block + 1..).unwrap_or_default();
            // Most steps are short, so the nearest blocks are looked at first.
            let near = rest.iter().take(8).position(|b| b.last >= target);
            let skipped = near.unwrap_or_else(|| rest.partition_point(|b| b.last < target));
            self.decode(self.block + 1 + skipped)?;
        }
        let ahead = &self.docs[self.index..self.len];
        let near = ahead.iter().take(4).position(|d| *d >= target);
        self.index += near.unwrap_or_else(|| ahead.partition_point(|d| *d < target));
        if self.index >= self.len {
            // Only the tail can end before its target.
            self.decode(self.blocks.len() + 1)?;
        }
        Ok(self.doc())
    }

    /// How often the term occurs in the document it stands at.
    #[inline]
    pub(crate) fn count(&mut self) -> Result<u32> {
        if !self.counts_ready {
            self.decode_counts()?;
        }
        Ok(self.counts.get(self.index).copied().unwrap_or(0))
    }

    /// The most any document from `target` up to the second result can weigh.
    pub(crate) fn bound(&mut self, target: u32, weigh: &Weigh<'_>) -> Result<(f64, u32)> {
        let mut at = self.shallow.max(self.block);
        while self.blocks.get(at).is_some_and(|b| b.last < target) {
            at += 1;
        }
        self.shallow = at;
        if let Some(block) = self.blocks.get_mut(at) {
            if block.bound < 0.0 {
                let mut reader = Reader::at(&self.skip, block.frontier as usize);
                block.bound =
                    frontier_bound(&mut reader, weigh).ok_or_else(|| damaged("frontier"))?;
            }
            return Ok((block.bound, block.last));
        }
        if let Some(bound) = self.tail_bound {
            return Ok((bound, NONE - 1));
        }
        let (_, counts, len) = self.read_tail()?;
        let most = counts[..len].iter().max();
        let bound = most.map_or(0.0, |most| weigh(*most, self.length_min));
        self.tail_bound = Some(bound);
        Ok((bound, NONE - 1))
    }

    /// The positions of the term in the document it stands at.
    pub(crate) fn positions(&mut self) -> Result<&[u32]> {
        self.count()?;
        if self.decoded_positions.is_none() {
            self.decoded_positions = Some(self.decode_positions()?);
        }
        let (all, starts) = self.decoded_positions.as_ref().ok_or_else(|| damaged("positions"))?;
        let range = starts.get(self.index).zip(starts.get(self.index + 1));
        let (from, to) = range.ok_or_else(|| damaged("positions"))?;
        all.get(*from as usize..*to as usize).ok_or_else(|| damaged("positions"))
    }

    /// Reads everything that is left into arrays.
    pub(crate) fn read_all(&mut self, into: &mut Postings) -> Result<()> {
        while self.doc() != NONE {
            into.docs.push(self.doc());
            into.counts.push(self.count()?);
            if self.positions.is_some() {
                into.positions.extend_from_slice(self.positions()?);
            }
            self.advance()?;
        }
        Ok(())
    }

    fn decode(&mut self, block: usize) -> Result<()> {
        self.block = block;
        self.index = 0;
        self.decoded_positions = None;
        self.counts_ready = false;
        if block > self.blocks.len() || self.tail_len() == 0 && block == self.blocks.len() {
            self.block = self.blocks.len() + 1;
            self.len = 0;
            self.docs[0] = NONE;
            return Ok(());
        }
        if block == self.blocks.len() {
            (self.docs, self.counts, self.len) = self.read_tail()?;
            self.counts_ready = true;
            return Ok(());
        }
        let before = self.before(block);
        let (at, len) = self.block_place(block);
        let bytes = self.stream.slice(at, len)?;
        let bits = bytes.first().copied().filter(|b| *b <= 32);
        let bits = bits.ok_or_else(|| damaged("block"))?;
        let size = BitPacker4x::compressed_block_size(bits);
        let packed = bytes.get(2..2 + size).ok_or_else(|| damaged("block"))?;
        BitPacker4x::new().decompress_strictly_sorted(before, packed, &mut self.docs, bits);
        self.len = BLOCK;
        if self.docs[BLOCK - 1] != self.blocks[block].last {
            return Err(damaged("block"));
        }
        Ok(())
    }

    fn decode_counts(&mut self) -> Result<()> {
        self.counts_ready = true;
        if self.block >= self.blocks.len() {
            return Ok(());
        }
        let (at, len) = self.block_place(self.block);
        let bytes = self.stream.slice(at, len)?;
        let (Some(bits), Some(count_bits)) = (bytes.first(), bytes.get(1)) else {
            return Err(damaged("block"));
        };
        if *count_bits > 32 {
            return Err(damaged("block"));
        }
        let from = 2 + BitPacker4x::compressed_block_size(*bits);
        let size = BitPacker4x::compressed_block_size(*count_bits);
        let packed = bytes.get(from..from + size).ok_or_else(|| damaged("block"))?;
        BitPacker4x::new().decompress(packed, &mut self.counts, *count_bits);
        for count in &mut self.counts {
            *count = count.saturating_add(1);
        }
        Ok(())
    }

    fn tail_len(&self) -> usize {
        self.extent.df as usize % BLOCK
    }

    fn before(&self, block: usize) -> Option<u32> {
        block.checked_sub(1).and_then(|b| self.blocks.get(b)).map(|b| b.last)
    }

    /// Where a block, or the tail, lies.
    fn block_place(&self, block: usize) -> (u64, usize) {
        let base = self.extent.at + u64::from(self.extent.skip_bytes);
        let all = self.extent.bytes.saturating_sub(self.extent.skip_bytes);
        let from = self.blocks.get(block).map_or_else(|| self.end.0, |b| b.at);
        let to = if block < self.blocks.len() {
            self.blocks.get(block + 1).map_or_else(|| self.end.0, |b| b.at)
        } else {
            all
        };
        (base + u64::from(from), to.saturating_sub(from) as usize)
    }

    fn read_tail(&mut self) -> Result<([u32; BLOCK], [u32; BLOCK], usize)> {
        let (at, len) = self.block_place(self.blocks.len());
        let before = self.before(self.blocks.len());
        let count = self.tail_len();
        let bytes = self.stream.slice(at, len)?;
        decode_tail(bytes, before, count).ok_or_else(|| damaged("tail"))
    }

    fn decode_positions(&mut self) -> Result<(Vec<u32>, Vec<u32>)> {
        let from = self.blocks.get(self.block).map_or(self.end.1, |b| b.positions_at);
        let to = if self.block < self.blocks.len() {
            self.blocks.get(self.block + 1).map_or(self.end.1, |b| b.positions_at)
        } else {
            self.extent.position_bytes
        };
        let Some(stream) = &mut self.positions else { return Err(damaged("positions")) };
        let at = self.extent.positions_at + u64::from(from);
        let bytes = stream.slice(at, to.saturating_sub(from) as usize)?;
        unpack_positions(bytes, &self.counts[..self.len]).ok_or_else(|| damaged("positions"))
    }
}

/// The skip table, and where full blocks and their positions end.
fn read_skip(skip: &[u8], count: usize, has_positions: bool) -> Option<(Vec<Block>, (u32, u32))> {
    let mut reader = Reader::new(skip);
    let mut blocks = Vec::with_capacity(count.min(skip.len()));
    let (mut last, mut at, mut positions_at) = (0_u32, 0_u32, 0_u32);
    for _ in 0..count {
        last = last.checked_add(u32::try_from(reader.varint()?).ok()?)?;
        let (block_at, block_positions_at) = (at, positions_at);
        at = at.checked_add(u32::try_from(reader.varint()?).ok()?)?;
        if has_positions {
            positions_at = positions_at.checked_add(u32::try_from(reader.varint()?).ok()?)?;
        }
        let frontier = reader.position() as u32;
        for _ in 0..reader.u8()? {
            reader.varint()?;
            reader.varint()?;
        }
        blocks.push(Block {
            last,
            at: block_at,
            positions_at: block_positions_at,
            frontier,
            bound: -1.0,
        });
    }
    Some((blocks, (at, positions_at)))
}

type Decoded = ([u32; BLOCK], [u32; BLOCK], usize);

fn decode_tail(bytes: &[u8], mut last: Option<u32>, len: usize) -> Option<Decoded> {
    let mut reader = Reader::new(bytes);
    let (mut docs, mut counts) = ([NONE; BLOCK], [0; BLOCK]);
    for i in 0..len {
        let head = reader.varint()?;
        let delta = u32::try_from(head >> 1).ok()?;
        let doc = match last {
            Some(last) => last.checked_add(1)?.checked_add(delta)?,
            None => delta,
        };
        docs[i] = doc;
        counts[i] = 1;
        if head & 1 == 0 {
            counts[i] = u32::try_from(reader.varint()?).ok()?.checked_add(2)?;
        }
        last = Some(doc);
    }
    Some((docs, counts, len))
}

/// Positions, and where those of each document begin; one more at the end.
fn unpack_positions(bytes: &[u8], counts: &[u32]) -> Option<(Vec<u32>, Vec<u32>)> {
    let (bits, bytes) = bytes.split_first()?;
    let bits = u32::from(*bits);
    let total: u64 = counts.iter().map(|c| u64::from(*c)).sum();
    if bits > 32 || total * u64::from(bits) > bytes.len() as u64 * 8 {
        return None;
    }
    // A width of 0 says that every position is 0, so each document has only one.
    if bits == 0 && total > counts.len() as u64 {
        return None;
    }
    let mask = (1_u64 << bits) - 1;
    let mut positions = Vec::with_capacity(total as usize);
    let mut starts = Vec::with_capacity(counts.len() + 1);
    let (mut word, mut filled, mut at) = (0_u64, 0, 0);
    for count in counts {
        starts.push(positions.len() as u32);
        let mut last = 0_u32;
        for _ in 0..*count {
            while filled < bits {
                word |= u64::from(*bytes.get(at)?) << filled;
                at += 1;
                filled += 8;
            }
            last = last.checked_add((word & mask) as u32)?;
            word >>= bits;
            filled -= bits;
            positions.push(last);
        }
    }
    starts.push(positions.len() as u32);
    Some((positions, starts))
}

fn frontier_bound(reader: &mut Reader<'_>, weigh: &Weigh<'_>) -> Option<f64> {
    let mut best = 0.0_f64;
    for _ in 0..reader.u8()? {
        let count = u32::try_from(reader.varint()?).ok()?;
        let length = u32::try_from(reader.varint()?).ok()?;
        best = best.max(weigh(count, length));
    }
    Some(best)
}

fn damaged(what: &str) -> Error {
    super::damaged(what)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cursor(extent: Extent, list: &[u8], positions: Option<&[u8]>) -> Cursor<'static> {
        let stream = |bytes: &[u8]| Stream::memory(bytes::Bytes::copy_from_slice(bytes));
        Cursor::new(extent, stream(list), positions.map(stream), 1).unwrap()
    }

    fn made(docs: &[(u32, u32, u32)]) -> Postings {
        let mut postings = Postings::default();
        let mut next = 0;
        for (gap, count, step) in docs {
            postings.docs.push(next + gap);
            next += gap + 1;
            postings.counts.push(*count);
            postings.positions.extend((0..*count).map(|i| gap % 7 + i * step));
        }
        postings
    }

    fn length_of(doc: u32) -> u32 {
        3 + doc * 7 % 11
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]
        #[test]
        fn lists_come_back(
            docs in prop::collection::vec((0_u32..40, 1_u32..6, 1_u32..9), 0..600),
            has_positions: bool,
            targets in prop::collection::vec(0_u32..20_000, 0..30),
        ) {
            let mut postings = made(&docs);
            if !has_positions {
                postings.positions.clear();
            }
            // Something lies before it in the streams.
            let (mut list, mut positions) = (vec![9; 5], vec![9; 3]);
            let extent =
                encode(&postings, has_positions, &length_of, &mut list, &mut positions);
            let open = || cursor(extent, &list, has_positions.then_some(&positions[..]));
            let mut back = Postings::default();
            open().read_all(&mut back).unwrap();
            prop_assert_eq!(&back, &postings);
            let mut seeker = open();
            let mut from = 0;
            for target in targets {
                from = from.max(target);
                let want = postings.docs.iter().position(|d| *d >= from);
                prop_assert_eq!(seeker.seek(from).unwrap(), want.map_or(NONE, |i| postings.docs[i]));
                if let Some(i) = want {
                    from = from.max(postings.docs[i]);
                    prop_assert_eq!(seeker.count().unwrap(), postings.counts[i]);
                }
            }
        }

        #[test]
        fn bounds_bound(docs in prop::collection::vec((0_u32..4, 1_u32..60, 1_u32..2), 1..600)) {
            let mut postings = made(&docs);
            postings.positions.clear();
            let mut list = Vec::new();
            let extent = encode(&postings, false, &length_of, &mut list, &mut Vec::new());
            let weigh = |count: u32, length: u32| f64::from(count) / f64::from(count + length);
            let mut bounds = cursor(extent, &list, None);
            for (doc, count) in postings.docs.iter().zip(&postings.counts) {
                let (bound, upto) = bounds.bound(*doc, &weigh).unwrap();
                prop_assert!(upto >= *doc);
                prop_assert!(bound >= weigh(*count, length_of(*doc)), "{bound} at {doc}");
            }
        }

        #[test]
        fn damage_never_panics(
            docs in prop::collection::vec((0_u32..40, 1_u32..6, 1_u32..9), 0..300),
            flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        ) {
            let postings = made(&docs);
            let (mut list, mut positions) = (Vec::new(), Vec::new());
            let extent = encode(&postings, true, &length_of, &mut list, &mut positions);
            for (at, byte) in &flips {
                for bytes in [&mut list, &mut positions] {
                    if !bytes.is_empty() {
                        let at = at.index(bytes.len());
                        bytes[at] ^= byte;
                    }
                }
            }
            let stream = |b: &[u8]| Stream::memory(bytes::Bytes::copy_from_slice(b));
            if let Ok(mut cursor) =
                Cursor::new(extent, stream(&list), Some(stream(&positions)), 1)
            {
                let _ = cursor.bound(0, &|count, _| f64::from(count));
                let _ = cursor.read_all(&mut Postings::default());
            }
        }
    }
}
