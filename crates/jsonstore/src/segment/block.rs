//! Blocks: sorted entries with shared key prefixes, and restarts to search by.
//!
//! Entry: varint shared, varint unshared, kind byte, varint seq, varint length of the value,
//! key suffix, value. Then u32 offsets of the restarts, then their count.

use std::cmp::Ordering;

use bytes::Bytes;

use crate::codec::{Reader, put_varint};

/// In data blocks, which are looked into once found.
const RESTART_EVERY: usize = 16;
/// In index blocks, which are searched by every look-up: fewer keys to take apart, at a few bytes more.
const INDEX_RESTART_EVERY: usize = 2;

/// What the value bytes of an entry are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ValueKind {
    Deleted,
    Raw,
    /// varint raw length, then zstd, with the segment's dictionary if that is one of zstd.
    Compressed,
    /// varint raw length, then codes of the segment's symbol table.
    Coded,
}

impl ValueKind {
    fn from_code(code: u8) -> Option<Self> {
        [Self::Deleted, Self::Raw, Self::Compressed, Self::Coded].get(usize::from(code)).copied()
    }
}

/// Newest first within a key.
pub(crate) fn compare(a: (&[u8], u64), b: (&[u8], u64)) -> Ordering {
    a.0.cmp(b.0).then_with(|| b.1.cmp(&a.1))
}

#[derive(Debug)]
pub(crate) struct BlockBuilder {
    restart_every: usize,
    out: Vec<u8>,
    restarts: Vec<u32>,
    last_key: Vec<u8>,
    count: usize,
}

impl Default for BlockBuilder {
    fn default() -> Self {
        Self {
            restart_every: RESTART_EVERY,
            out: Vec::new(),
            restarts: Vec::new(),
            last_key: Vec::new(),
            count: 0,
        }
    }
}

impl BlockBuilder {
    /// For blocks of handles.
    pub(crate) fn index() -> Self {
        Self { restart_every: INDEX_RESTART_EVERY, ..Self::default() }
    }

    pub(crate) fn add(&mut self, key: &[u8], seq: u64, kind: ValueKind, value: &[u8]) {
        let shared = if self.count.is_multiple_of(self.restart_every) {
            self.restarts.push(self.out.len() as u32);
            0
        } else {
            key.iter().zip(&self.last_key).take_while(|(a, b)| a == b).count()
        };
        put_varint(&mut self.out, shared as u64);
        put_varint(&mut self.out, (key.len() - shared) as u64);
        self.out.push(kind as u8);
        put_varint(&mut self.out, seq);
        put_varint(&mut self.out, value.len() as u64);
        self.out.extend_from_slice(&key[shared..]);
        self.out.extend_from_slice(value);
        self.last_key.clear();
        self.last_key.extend_from_slice(key);
        self.count += 1;
    }

    pub(crate) fn len(&self) -> usize {
        self.out.len() + self.restarts.len() * 4 + 4
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub(crate) fn finish(&mut self) -> Vec<u8> {
        // The next block will be about as large.
        let next = Vec::with_capacity(self.out.capacity());
        let mut out = std::mem::replace(&mut self.out, next);
        for restart in &self.restarts {
            out.extend_from_slice(&restart.to_le_bytes());
        }
        out.extend_from_slice(&(self.restarts.len() as u32).to_le_bytes());
        self.restarts.clear();
        self.last_key.clear();
        self.count = 0;
        out
    }
}

/// The entries and the restarts of a block.
#[derive(Clone, Copy)]
struct Parts<'a> {
    entries: &'a [u8],
    restarts: &'a [u8],
}

impl<'a> Parts<'a> {
    fn of(block: &'a [u8]) -> Option<Self> {
        let tail = block.len().checked_sub(4)?;
        let count = Reader::at(block, tail).u32()? as usize;
        let end = tail.checked_sub(count.checked_mul(4)?)?;
        Some(Self { entries: block.get(..end)?, restarts: block.get(end..tail)? })
    }

    /// Where to look for the target from: the last restart before it.
    fn start(&self, key: &[u8], seq: u64) -> Option<usize> {
        self.restart(self.start_at(key, seq)?)
    }

    /// Which restart that is.
    fn start_at(&self, key: &[u8], seq: u64) -> Option<usize> {
        let (mut low, mut high) = (0, self.restarts.len() / 4);
        while low + 1 < high {
            let middle = usize::midpoint(low, high);
            if self.is_before(middle, key, seq)? { low = middle } else { high = middle }
        }
        Some(low)
    }

    fn restart(&self, i: usize) -> Option<usize> {
        Some(Reader::at(self.restarts, i * 4).u32()? as usize)
    }

    fn is_before(&self, i: usize, key: &[u8], seq: u64) -> Option<bool> {
        let mut reader = Reader::at(self.entries, self.restart(i)?);
        let _shared = reader.length()?;
        let unshared = reader.length()?;
        reader.u8()?;
        let found_seq = reader.varint()?;
        reader.length()?;
        let found = reader.take(unshared)?;
        Some(compare((found, found_seq), (key, seq)).is_lt())
    }
}

/// Of a block of data: how many entries lie before the target, and how many there are.
pub(crate) fn rank(block: &Bytes, key: &[u8], seq: u64) -> Option<(usize, usize)> {
    let parts = Parts::of(block)?;
    let count = |restart: usize, is_counted: &dyn Fn(&BlockIter) -> bool| {
        let mut iter = BlockIter::new(block.clone())?;
        iter.at = parts.restart(restart)?;
        let mut entries = restart * RESTART_EVERY;
        while iter.next().is_some() && is_counted(&iter) {
            entries += 1;
        }
        Some(entries)
    };
    let is_before = |iter: &BlockIter| compare((&iter.key, iter.seq), (key, seq)).is_lt();
    let before = count(parts.start_at(key, seq)?, &is_before)?;
    Some((before, count((parts.restarts.len() / 4).checked_sub(1)?, &|_| true)?))
}

/// What `find` found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Found<'a> {
    /// Its key is the one that was looked for, rather than a later one.
    pub(crate) is_exact: bool,
    pub(crate) seq: u64,
    pub(crate) kind: ValueKind,
    pub(crate) value: &'a [u8],
}

/// The first entry at or after the target, as `BlockIter::seek` finds it, but without making up keys.
pub(crate) fn find<'a>(block: &'a [u8], key: &[u8], seq: u64) -> Option<Found<'a>> {
    let parts = Parts::of(block)?;
    let mut reader = Reader::at(parts.entries, parts.start(key, seq)?);
    // How much the last entry, which is before the target, has in common with it.
    let mut common = 0;
    while !reader.is_empty() {
        let shared = reader.length()?;
        let unshared = reader.length()?;
        let kind = ValueKind::from_code(reader.u8()?)?;
        let found_seq = reader.varint()?;
        let len = reader.length()?;
        let suffix = reader.take(unshared)?;
        let value = reader.take(len)?;
        // Who shares more with the last entry than the target does is before the target, too.
        if shared > common {
            continue;
        }
        let rest = key.get(shared..)?;
        if compare((suffix, found_seq), (rest, seq)).is_ge() {
            return Some(Found { is_exact: suffix == rest, seq: found_seq, kind, value });
        }
        common = shared + suffix.iter().zip(rest).take_while(|(a, b)| a == b).count();
    }
    None
}

/// A position in a block. `None` from any step means the block is not well-formed or at its end;
/// checksums make the former a bug.
#[derive(Debug, Clone)]
pub(crate) struct BlockIter {
    block: Bytes,
    end: usize,
    at: usize,
    pub(crate) key: Vec<u8>,
    pub(crate) seq: u64,
    pub(crate) kind: ValueKind,
    value: (usize, usize),
}

impl BlockIter {
    pub(crate) fn new(block: Bytes) -> Option<Self> {
        let end = Parts::of(&block)?.entries.len();
        Some(Self {
            block,
            end,
            at: 0,
            key: Vec::new(),
            seq: 0,
            kind: ValueKind::Deleted,
            value: (0, 0),
        })
    }

    pub(crate) fn value(&self) -> Bytes {
        self.block.slice(self.value.0..self.value.1)
    }

    pub(crate) fn value_bytes(&self) -> &[u8] {
        self.block.get(self.value.0..self.value.1).unwrap_or_default()
    }

    /// Steps to the next entry.
    pub(crate) fn next(&mut self) -> Option<()> {
        if self.at >= self.end {
            return None;
        }
        let mut reader = Reader::at(self.block.get(..self.end)?, self.at);
        let shared = reader.length()?;
        let unshared = reader.length()?;
        self.kind = ValueKind::from_code(reader.u8()?)?;
        self.seq = reader.varint()?;
        let len = reader.length()?;
        let suffix = reader.take(unshared)?;
        if shared > self.key.len() {
            return None;
        }
        self.key.truncate(shared);
        self.key.extend_from_slice(suffix);
        let from = reader.position();
        reader.take(len)?;
        self.value = (from, from + len);
        self.at = from + len;
        Some(())
    }

    /// Steps to the first entry at or after the target.
    pub(crate) fn seek(&mut self, key: &[u8], seq: u64) -> Option<()> {
        self.at = Parts::of(&self.block)?.start(key, seq)?;
        self.key.clear();
        loop {
            self.next()?;
            if compare((&self.key, self.seq), (key, seq)).is_ge() {
                return Some(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seek_finds_every_entry_and_the_gaps() {
        let mut builder = BlockBuilder::default();
        for i in 0..100_u32 {
            builder.add(format!("key{:04}", i * 2).as_bytes(), 9, ValueKind::Raw, &i.to_le_bytes());
        }
        let block = Bytes::from(builder.finish());
        for i in 0..100_u32 {
            let mut iter = BlockIter::new(block.clone()).unwrap();
            iter.seek(format!("key{:04}", i * 2).as_bytes(), 9).unwrap();
            assert_eq!(iter.value_bytes(), i.to_le_bytes());
            iter.seek(format!("key{:04}", i * 2).as_bytes(), 10).unwrap();
            assert_eq!(iter.value_bytes(), i.to_le_bytes(), "a newer snapshot sees it");
            let past = iter.seek(format!("key{:04}", i * 2).as_bytes(), 8);
            assert_eq!(past.is_some(), i < 99, "an older snapshot does not");
        }
    }

    #[test]
    fn rank_counts_what_lies_before() {
        for count in [1_usize, 15, 16, 17, 100] {
            let mut builder = BlockBuilder::default();
            for i in 0..count {
                builder.add(format!("key{:04}", i * 2).as_bytes(), 9, ValueKind::Raw, b"");
            }
            let block = Bytes::from(builder.finish());
            let before = |key: String| rank(&block, key.as_bytes(), 9).unwrap();
            for i in 0..count {
                assert_eq!(before(format!("key{:04}", i * 2)), (i, count));
                assert_eq!(before(format!("key{:04}", i * 2 + 1)), (i + 1, count));
            }
        }
    }

    #[test]
    fn find_agrees_with_seek() {
        check_find(BlockBuilder::default());
        check_find(BlockBuilder::index());
    }

    fn check_find(mut builder: BlockBuilder) {
        let mut keys: Vec<(String, u64)> = Vec::new();
        for i in 0..60_u32 {
            let key = format!("{}{}", "ab".repeat(i as usize / 20), "x".repeat(i as usize % 20));
            keys.extend([(key.clone(), 9), (key, 4)]);
        }
        keys.sort_by(|a, b| compare((a.0.as_bytes(), a.1), (b.0.as_bytes(), b.1)));
        for (key, seq) in &keys {
            builder.add(key.as_bytes(), *seq, ValueKind::Raw, &seq.to_le_bytes());
        }
        let block = Bytes::from(builder.finish());
        for (key, _) in &keys {
            for key in [key.clone(), format!("{key}a"), format!("{key}y"), String::new()] {
                for seq in [0, 4, 5, 9, 10] {
                    let mut iter = BlockIter::new(block.clone()).unwrap();
                    let want = iter.seek(key.as_bytes(), seq).map(|()| Found {
                        is_exact: iter.key == key.as_bytes(),
                        seq: iter.seq,
                        kind: iter.kind,
                        value: iter.value_bytes(),
                    });
                    assert_eq!(find(&block, key.as_bytes(), seq), want, "{key} at {seq}");
                }
            }
        }
    }

    #[test]
    fn damaged_blocks_never_panic() {
        let mut builder = BlockBuilder::default();
        for i in 0..40_u8 {
            builder.add(&[1, i], 3, ValueKind::Raw, &[i; 5]);
        }
        let good = builder.finish();
        for at in 0..good.len() {
            for value in [0, 1, 0x7f, 0x80, 0xff] {
                let mut bad = good.clone();
                bad[at] = value;
                let _ = find(&bad, &[1, 20], 3);
                let _ = rank(&Bytes::from(bad.clone()), &[1, 20], 3);
                if let Some(mut iter) = BlockIter::new(Bytes::from(bad)) {
                    while iter.next().is_some() {}
                    let _ = iter.seek(&[1, 20], 3);
                }
            }
        }
    }
}
