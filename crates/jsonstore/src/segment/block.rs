//! Blocks: sorted entries with shared key prefixes, and restarts to search by.
//!
//! Head of an entry: varint shared, varint unshared, kind byte, varint seq, varint length of the
//! value, key suffix. In a joined block its value follows; behind the entries come u32 offsets of the
//! restarts and their count. In a split block all heads come first, so that a search touches none of
//! the values it passes, then all values; a restart has two offsets, of a head and of its value, both
//! from the beginning of the block, and behind the restarts come u32 length of the heads and the
//! count with its highest bit set.
//!
//! With the second highest bit set, words stand behind the restarts: u64s of the eight bytes of each
//! whole key behind what all of these have in common, and a u32, how many bytes that is. A search
//! compares words that lie together instead of keys that do not.

use std::{cmp::Ordering, ops::ControlFlow};

use bytes::Bytes;

use crate::codec::{Reader, put_varint, varint_len};

/// In data blocks, which are looked into once found.
const RESTART_EVERY: usize = 16;
/// In index blocks, which are searched by every look-up: fewer keys to take apart, at a few bytes more.
const INDEX_RESTART_EVERY: usize = 2;
/// In the count of restarts: the block is split.
const SPLIT: u32 = 1 << 31;
/// It has words.
const WORDS: u32 = 1 << 30;

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

#[derive(Debug, Default)]
pub(crate) struct BlockBuilder {
    is_joined: bool,
    heads: Vec<u8>,
    /// Of a split block.
    values: Vec<u8>,
    /// Where heads and values of the restarts begin, the latter in `values`.
    restarts: Vec<(u32, u32)>,
    /// Their keys.
    whole: Vec<Vec<u8>>,
    last_key: Vec<u8>,
    count: usize,
}

impl BlockBuilder {
    /// For blocks of handles, which are hardly longer than offsets: these stay with their keys.
    pub(crate) fn index() -> Self {
        Self { is_joined: true, ..Self::default() }
    }

    pub(crate) fn add(&mut self, key: &[u8], seq: u64, kind: ValueKind, value: &[u8]) {
        let shared = self.shared(key).unwrap_or_else(|| {
            self.restarts.push((self.heads.len() as u32, self.values.len() as u32));
            self.whole.push(key.to_vec());
            0
        });
        let out = &mut self.heads;
        put_varint(out, shared as u64);
        put_varint(out, (key.len() - shared) as u64);
        out.push(kind as u8);
        put_varint(out, seq);
        put_varint(out, value.len() as u64);
        out.extend_from_slice(&key[shared..]);
        if self.is_joined { out } else { &mut self.values }.extend_from_slice(value);
        self.last_key.clear();
        self.last_key.extend_from_slice(key);
        self.count += 1;
    }

    /// How much of a key is that of the last one; `None` if it begins a restart.
    fn shared(&self, key: &[u8]) -> Option<usize> {
        let every = if self.is_joined { INDEX_RESTART_EVERY } else { RESTART_EVERY };
        let is_restart = self.count.is_multiple_of(every);
        (!is_restart).then(|| key.iter().zip(&self.last_key).take_while(|(a, b)| a == b).count())
    }

    pub(crate) fn len(&self) -> usize {
        let tail = if self.is_joined { 8 } else { 12 };
        self.heads.len() + self.values.len() + self.restarts.len() * self.restart_len() + tail
    }

    /// What `len` will be with one more entry.
    pub(crate) fn len_with(&self, key: &[u8], seq: u64, value_len: usize) -> usize {
        let shared = self.shared(key);
        let restart = if shared.is_none() { self.restart_len() } else { 0 };
        let (shared, kind) = (shared.unwrap_or(0), 1);
        let unshared = key.len() - shared;
        let numbers = [shared as u64, unshared as u64, seq, value_len as u64];
        let numbers: usize = numbers.into_iter().map(varint_len).sum();
        self.len() + restart + numbers + kind + unshared + value_len
    }

    /// Two offsets or one, and a word.
    fn restart_len(&self) -> usize {
        if self.is_joined { 4 + 8 } else { 8 + 8 }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub(crate) fn finish(&mut self) -> Vec<u8> {
        // The next block will be about as large.
        let next = Vec::with_capacity(self.heads.capacity());
        let len = self.len();
        let mut out = std::mem::replace(&mut self.heads, next);
        let heads = out.len() as u32;
        out.reserve_exact(len - out.len());
        out.append(&mut self.values);
        for (head, value) in &self.restarts {
            out.extend_from_slice(&head.to_le_bytes());
            if !self.is_joined {
                out.extend_from_slice(&(heads + value).to_le_bytes());
            }
        }
        let skip = match &self.whole[..] {
            // In order, so what these have in common, all have.
            [first, .., last] => first.iter().zip(last).take_while(|(a, b)| a == b).count(),
            _ => 0,
        };
        for key in &self.whole {
            out.extend_from_slice(&word(key, skip).to_le_bytes());
        }
        out.extend_from_slice(&(skip as u32).to_le_bytes());
        let count = self.restarts.len() as u32 | WORDS;
        if self.is_joined {
            out.extend_from_slice(&count.to_le_bytes());
        } else {
            out.extend_from_slice(&heads.to_le_bytes());
            out.extend_from_slice(&(count | SPLIT).to_le_bytes());
        }
        self.restarts.clear();
        self.whole.clear();
        self.last_key.clear();
        self.count = 0;
        out
    }
}

/// Eight bytes of a key from `skip` on, zeros where it has fewer: ordered as the keys are, but for
/// those that are equal.
pub(crate) fn word(key: &[u8], skip: usize) -> u64 {
    let rest = key.get(skip..).unwrap_or_default();
    let bytes = rest.first_chunk().copied().unwrap_or_else(|| {
        let mut bytes = [0; 8];
        bytes[..rest.len()].copy_from_slice(rest);
        bytes
    });
    u64::from_be_bytes(bytes)
}

/// Where an entry begins.
#[derive(Debug, Clone, Copy, Default)]
struct Place {
    head: usize,
    /// In a split block.
    value: usize,
}

/// An entry with its value, but only the end of its key.
struct Entry<'a> {
    shared: usize,
    suffix: &'a [u8],
    kind: ValueKind,
    seq: u64,
    value: &'a [u8],
    /// Where that begins in the block.
    value_at: usize,
}

/// The entries and the restarts of a block.
#[derive(Clone, Copy)]
struct Parts<'a> {
    /// Heads, in a joined block with values between them.
    heads: &'a [u8],
    /// Up to the end of the values.
    all: &'a [u8],
    restarts: &'a [u8],
    /// None, or one for each restart.
    words: &'a [[u8; 8]],
    /// What all of their keys have in common.
    skip: usize,
    is_split: bool,
}

impl<'a> Parts<'a> {
    #[inline]
    fn of(block: &'a [u8]) -> Option<Self> {
        let mut rest = block;
        let flags = take_u32(&mut rest)?;
        let count = (flags & !(SPLIT | WORDS)) as usize;
        let is_split = flags & SPLIT != 0;
        let heads = if is_split { take_u32(&mut rest)? as usize } else { usize::MAX };
        let (mut words, mut skip): (&[[u8; 8]], usize) = (&[], 0);
        if flags & WORDS != 0 {
            skip = take_u32(&mut rest)? as usize;
            words = take_end(&mut rest, count.checked_mul(8)?)?.as_chunks().0;
        }
        let restart = if is_split { 8 } else { 4 };
        let restarts = take_end(&mut rest, count.checked_mul(restart)?)?;
        let heads = if is_split { rest.get(..heads)? } else { rest };
        Some(Self { heads, all: rest, restarts, words, skip, is_split })
    }

    fn restarts(&self) -> usize {
        self.restarts.len() / if self.is_split { 8 } else { 4 }
    }

    #[inline]
    fn restart(&self, i: usize) -> Option<Place> {
        if !self.is_split {
            return Some(Place {
                head: Reader::at(self.restarts, i * 4).u32()? as usize,
                value: 0,
            });
        }
        let mut reader = Reader::at(self.restarts, i * 8);
        Some(Place { head: reader.u32()? as usize, value: reader.u32()? as usize })
    }

    /// The entry at a place, which becomes that of the next one.
    #[inline(always)]
    fn entry(&self, place: &mut Place) -> Option<Entry<'a>> {
        let mut reader = Reader::at(self.heads, place.head);
        let shared = reader.length()?;
        let unshared = reader.length()?;
        let kind = ValueKind::from_code(reader.u8()?)?;
        let seq = reader.varint()?;
        let len = reader.length()?;
        let suffix = reader.take(unshared)?;
        let value_at = if self.is_split { place.value } else { reader.position() };
        let end = value_at.checked_add(len)?;
        let value = self.all.get(value_at..end)?;
        *place = match self.is_split {
            true => Place { head: reader.position(), value: end },
            false => Place { head: end, value: 0 },
        };
        Some(Entry { shared, suffix, kind, seq, value, value_at })
    }

    /// Where to look for the target from: the last restart before it.
    fn start(&self, key: &[u8], seq: u64) -> Option<Place> {
        self.restart(self.start_at(key, seq)?)
    }

    /// Which restart that is.
    fn start_at(&self, key: &[u8], seq: u64) -> Option<usize> {
        let (mut low, mut high) = self.near(key)?;
        while low < high {
            let middle = usize::midpoint(low, high);
            let entry = self.entry(&mut self.restart(middle)?)?;
            let is_before = compare((entry.suffix, entry.seq), (key, seq)).is_lt();
            if is_before { low = middle + 1 } else { high = middle }
        }
        Some(low.saturating_sub(1))
    }

    /// All restarts up to the first number are before the key, and those from the second on are not.
    fn near(&self, key: &[u8]) -> Option<(usize, usize)> {
        let all = self.restarts();
        if self.words.is_empty() {
            return Some((0, all));
        }
        let common = self.entry(&mut self.restart(0)?)?.suffix.get(..self.skip)?;
        match key.get(..self.skip).unwrap_or(key).cmp(common) {
            Ordering::Less => return Some((0, 0)),
            Ordering::Greater => return Some((all, all)),
            Ordering::Equal => {}
        }
        let word = word(key, self.skip);
        let low = self.words.partition_point(|other| u64::from_le_bytes(*other) < word);
        let equal = self.words.get(low..)?.iter();
        let equal = equal.take_while(|other| u64::from_le_bytes(**other) == word).count();
        Some((low, low + equal))
    }
}

/// The last bytes, which are cut off.
#[inline]
fn take_end<'a>(rest: &mut &'a [u8], len: usize) -> Option<&'a [u8]> {
    let (before, end) = rest.split_at_checked(rest.len().checked_sub(len)?)?;
    *rest = before;
    Some(end)
}

#[inline]
fn take_u32(rest: &mut &[u8]) -> Option<u32> {
    Some(u32::from_le_bytes(take_end(rest, 4)?.try_into().ok()?))
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
    Some((before, count(parts.restarts().checked_sub(1)?, &|_| true)?))
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

/// The first entry at or after the target.
#[inline]
pub(crate) fn find<'a>(block: &'a [u8], key: &[u8], seq: u64) -> Option<Found<'a>> {
    let (entry, _) = search(Parts::of(block)?, key, seq)?;
    let is_exact = key.get(entry.shared..) == Some(entry.suffix);
    let Entry { seq, kind, value, .. } = entry;
    Some(Found { is_exact, seq, kind, value })
}

/// The same as an entry, with the place behind it. No keys are made up.
fn search<'a>(parts: Parts<'a>, key: &[u8], seq: u64) -> Option<(Entry<'a>, Place)> {
    let mut place = parts.start(key, seq)?;
    // How much the last entry, which is before the target, has in common with it.
    let mut common = 0;
    while place.head < parts.heads.len() {
        let entry = parts.entry(&mut place)?;
        // Who shares more with the last entry than the target does is before the target, too.
        if entry.shared > common {
            continue;
        }
        let rest = key.get(entry.shared..)?;
        if compare((entry.suffix, entry.seq), (rest, seq)).is_ge() {
            return Some((entry, place));
        }
        let same = entry.suffix.iter().zip(rest).take_while(|(a, b)| a == b).count();
        common = entry.shared + same;
    }
    None
}

/// What a walk meets.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WalkEntry<'a> {
    pub(crate) full: &'a [u8],
    /// Its key is another than that of the entry before.
    pub(crate) is_new: bool,
    pub(crate) seq: u64,
    pub(crate) kind: ValueKind,
}

/// Visits the entries of a block from the first one at or after a key on, or all of them, until told to
/// break. `key` is that of the entry before, and becomes that of the last one. `None` if the block is
/// malformed.
pub(crate) fn walk<B>(
    block: &[u8],
    from: Option<&[u8]>,
    key: &mut Vec<u8>,
    mut visit: impl FnMut(WalkEntry<'_>) -> ControlFlow<B>,
) -> Option<ControlFlow<B>> {
    let parts = Parts::of(block)?;
    let mut place = Place { head: 0, value: parts.heads.len() };
    let mut is_new = false;
    let mut found = None;
    if let Some(from) = from {
        let Some((entry, behind)) = search(parts, from, u64::MAX) else {
            return Some(ControlFlow::Continue(()));
        };
        // What it shares with the entry before it, that one shares with the target.
        let shared = from.get(..entry.shared)?;
        is_new = key.strip_prefix(shared) != Some(entry.suffix);
        key.clear();
        key.extend_from_slice(shared);
        (found, place) = (Some(entry), behind);
    }
    loop {
        let entry = match found.take() {
            Some(entry) => entry,
            None if place.head >= parts.heads.len() => return Some(ControlFlow::Continue(())),
            None => {
                let entry = parts.entry(&mut place)?;
                is_new = key.get(entry.shared..)? != entry.suffix;
                key.truncate(entry.shared);
                entry
            }
        };
        key.extend_from_slice(entry.suffix);
        let Entry { seq, kind, .. } = entry;
        let told = visit(WalkEntry { full: key, is_new, seq, kind });
        if told.is_break() {
            return Some(told);
        }
    }
}

/// A position in a block. `None` from any step means the block is not well-formed or at its end;
/// checksums make the former a bug.
#[derive(Debug, Clone)]
pub(crate) struct BlockIter {
    block: Bytes,
    at: Place,
    pub(crate) key: Vec<u8>,
    pub(crate) seq: u64,
    pub(crate) kind: ValueKind,
    value: (usize, usize),
}

impl BlockIter {
    pub(crate) fn new(block: Bytes) -> Option<Self> {
        let parts = Parts::of(&block)?;
        let at = Place { head: 0, value: parts.heads.len() };
        Some(Self { block, at, key: Vec::new(), seq: 0, kind: ValueKind::Deleted, value: (0, 0) })
    }

    pub(crate) fn value(&self) -> Bytes {
        self.block.slice(self.value.0..self.value.1)
    }

    pub(crate) fn value_bytes(&self) -> &[u8] {
        self.block.get(self.value.0..self.value.1).unwrap_or_default()
    }

    /// Steps to the next entry.
    pub(crate) fn next(&mut self) -> Option<()> {
        let parts = Parts::of(&self.block)?;
        if self.at.head >= parts.heads.len() {
            return None;
        }
        let mut at = self.at;
        let entry = parts.entry(&mut at)?;
        if entry.shared > self.key.len() {
            return None;
        }
        self.key.truncate(entry.shared);
        self.key.extend_from_slice(entry.suffix);
        (self.kind, self.seq) = (entry.kind, entry.seq);
        self.value = (entry.value_at, entry.value_at + entry.value.len());
        self.at = at;
        Some(())
    }

    /// Steps to the first entry at or after the target, or to the end.
    pub(crate) fn seek(&mut self, key: &[u8], seq: u64) -> Option<()> {
        let parts = Parts::of(&self.block)?;
        let end = parts.heads.len();
        let Some((entry, at)) = search(parts, key, seq) else {
            self.at.head = end;
            return None;
        };
        // What it shares with the entry before it, that one shares with the target.
        self.key.clear();
        self.key.reserve(entry.shared + entry.suffix.len());
        self.key.extend_from_slice(key.get(..entry.shared)?);
        self.key.extend_from_slice(entry.suffix);
        (self.kind, self.seq) = (entry.kind, entry.seq);
        self.value = (entry.value_at, entry.value_at + entry.value.len());
        self.at = at;
        Some(())
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
    fn find_and_seek_agree_with_a_walk() {
        for prefix in ["", "common/", "longer than eight bytes"] {
            check_find(BlockBuilder::default(), prefix);
            check_find(BlockBuilder::index(), prefix);
        }
    }

    fn check_find(mut builder: BlockBuilder, prefix: &str) {
        let mut keys: Vec<(String, u64)> = Vec::new();
        for i in 0..60_u32 {
            let key =
                format!("{prefix}{}{}", "ab".repeat(i as usize / 20), "x".repeat(i as usize % 20));
            keys.extend([(key.clone(), 9), (key, 4)]);
        }
        keys.sort_by(|a, b| compare((a.0.as_bytes(), a.1), (b.0.as_bytes(), b.1)));
        for (key, seq) in &keys {
            builder.add(key.as_bytes(), *seq, ValueKind::Raw, &seq.to_le_bytes());
        }
        let block = Bytes::from(builder.finish());
        for (key, _) in &keys {
            let short = prefix.get(..3).unwrap_or_default().to_owned();
            for key in [key.clone(), format!("{key}a"), format!("{key}y"), short, "z".to_owned()] {
                for seq in [0, 4, 5, 9, 10] {
                    let mut all = BlockIter::new(block.clone()).unwrap();
                    let mut first = all.next();
                    while first.is_some()
                        && compare((&all.key, all.seq), (key.as_bytes(), seq)).is_lt()
                    {
                        first = all.next();
                    }
                    let want = first.map(|()| Found {
                        is_exact: all.key == key.as_bytes(),
                        seq: all.seq,
                        kind: all.kind,
                        value: all.value_bytes(),
                    });
                    assert_eq!(find(&block, key.as_bytes(), seq), want, "{key} at {seq}");
                    if seq == 10 {
                        check_walk(&block, key.as_bytes(), &keys);
                    }
                    let mut iter = BlockIter::new(block.clone()).unwrap();
                    assert_eq!(iter.seek(key.as_bytes(), seq), first);
                    if first.is_none() {
                        assert_eq!(iter.next(), None, "it is at the end");
                    } else {
                        assert_eq!((&iter.key, iter.seq), (&all.key, all.seq));
                        assert_eq!(iter.value_bytes(), all.value_bytes());
                        assert_eq!(iter.next(), all.next());
                        assert_eq!((&iter.key, iter.seq), (&all.key, all.seq));
                    }
                }
            }
        }
    }

    /// A walk from a key on, behind one that ended at its first one, meets the rest.
    fn check_walk(block: &[u8], from: &[u8], keys: &[(String, u64)]) {
        let rest = keys.iter().filter(|(key, _)| key.as_bytes() >= from);
        let want: Vec<(Vec<u8>, u64)> =
            rest.map(|(key, seq)| (key.clone().into_bytes(), *seq)).collect();
        let first = want.first().map(|(key, _)| key.clone()).unwrap_or_default();
        for before in [first, b"before".to_vec()] {
            let (mut key, mut last, mut met) = (before.clone(), before, Vec::new());
            let walked = walk::<()>(block, Some(from), &mut key, |entry| {
                assert_eq!(entry.is_new, entry.full != last);
                assert_eq!(entry.kind, ValueKind::Raw);
                last = entry.full.to_vec();
                met.push((entry.full.to_vec(), entry.seq));
                ControlFlow::Continue(())
            });
            assert_eq!(walked, Some(ControlFlow::Continue(())));
            assert_eq!(met, want);
            let mut count = 0;
            let stopped = walk(block, None, &mut key, |_| {
                count += 1;
                if count == 7 { ControlFlow::Break(count) } else { ControlFlow::Continue(()) }
            });
            assert_eq!(stopped, Some(ControlFlow::Break(7)));
        }
    }

    #[test]
    fn damaged_blocks_never_panic() {
        damage(BlockBuilder::default());
        damage(BlockBuilder::index());
    }

    fn damage(mut builder: BlockBuilder) {
        for i in 0..40_u8 {
            builder.add(&[1, i], 3, ValueKind::Raw, &[i; 5]);
        }
        let good = builder.finish();
        for at in 0..good.len() {
            for value in [0, 1, 0x7f, 0x80, 0xff] {
                let mut bad = good.clone();
                bad[at] = value;
                let _ = find(&bad, &[1, 20], 3);
                for from in [None, Some(&[1, 20][..])] {
                    let go_on = |_: WalkEntry<'_>| ControlFlow::<()>::Continue(());
                    let _ = walk(&bad, from, &mut Vec::new(), go_on);
                }
                let _ = rank(&Bytes::from(bad.clone()), &[1, 20], 3);
                if let Some(mut iter) = BlockIter::new(Bytes::from(bad)) {
                    while iter.next().is_some() {}
                    let _ = iter.seek(&[1, 20], 3);
                }
            }
        }
    }
}
