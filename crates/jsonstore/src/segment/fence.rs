//! Where each key of a segment would lie, as one table in memory. It says what top and index blocks say
//! together, but a look-up takes no block out of the cache and no entry apart: it compares words that lie
//! in a row, and few keys.

use super::{
    Handle,
    block::{compare, word},
};

/// By the last entry of each data block, in their order.
#[derive(Debug)]
pub(super) struct Fence {
    /// How many bytes all keys have in common, and the eight behind these of each.
    skip: usize,
    words: Vec<u64>,
    /// Apart from what is seldom looked at, so that more of them stay near.
    handles: Vec<Handle>,
    lasts: Vec<Last>,
    /// One after the other.
    keys: Vec<u8>,
}

/// The last entry of a block.
#[derive(Debug)]
struct Last {
    /// Where its key ends in `keys`.
    end: usize,
    seq: u64,
}

impl Fence {
    /// Of entries in their order: keys, sequence numbers, and the blocks they are the last of.
    pub(super) fn builder() -> Builder {
        Builder { handles: Vec::new(), lasts: Vec::new(), keys: Vec::new() }
    }

    /// The block that would hold the target, by its place.
    #[inline]
    pub(super) fn find(&self, key: &[u8], seq: u64) -> Option<usize> {
        let common = self.keys.get(..self.skip)?;
        match key.get(..self.skip).unwrap_or(key).cmp(common) {
            std::cmp::Ordering::Less => return (!self.lasts.is_empty()).then_some(0),
            std::cmp::Ordering::Greater => return None,
            std::cmp::Ordering::Equal => {}
        }
        let word = word(key, self.skip);
        let mut low = self.words.partition_point(|other| *other < word);
        let mut high = low;
        if self.words.get(low) == Some(&word) {
            high += self.words.get(low..)?.partition_point(|other| *other == word);
        }
        while low < high {
            let middle = usize::midpoint(low, high);
            let last = self.lasts.get(middle)?;
            let is_before = compare((self.key(middle)?, last.seq), (key, seq)).is_lt();
            if is_before { low = middle + 1 } else { high = middle }
        }
        (low < self.lasts.len()).then_some(low)
    }

    pub(super) fn handle(&self, place: usize) -> Option<Handle> {
        self.handles.get(place).copied()
    }

    pub(super) fn bytes(&self) -> usize {
        self.words.capacity() * size_of::<u64>()
            + self.handles.capacity() * size_of::<Handle>()
            + self.lasts.capacity() * size_of::<Last>()
            + self.keys.capacity()
    }

    fn key(&self, place: usize) -> Option<&[u8]> {
        key(&self.lasts, &self.keys, place)
    }
}

fn key<'a>(lasts: &[Last], keys: &'a [u8], place: usize) -> Option<&'a [u8]> {
    let start = match place.checked_sub(1) {
        Some(before) => lasts.get(before)?.end,
        None => 0,
    };
    keys.get(start..lasts.get(place)?.end)
}

pub(super) struct Builder {
    handles: Vec<Handle>,
    lasts: Vec<Last>,
    keys: Vec<u8>,
}

impl Builder {
    pub(super) fn add(&mut self, key: &[u8], seq: u64, handle: Handle) {
        self.keys.extend_from_slice(key);
        self.handles.push(handle);
        self.lasts.push(Last { end: self.keys.len(), seq });
    }

    pub(super) fn finish(mut self) -> Fence {
        self.handles.shrink_to_fit();
        self.lasts.shrink_to_fit();
        self.keys.shrink_to_fit();
        let Self { handles, lasts, keys } = self;
        let key = |place: usize| key(&lasts, &keys, place).unwrap_or_default();
        let (first, last) = (key(0), key(lasts.len().saturating_sub(1)));
        // They are in order, so what these have in common, all have.
        let skip = first.iter().zip(last).take_while(|(a, b)| a == b).count();
        let words = (0..lasts.len()).map(|place| word(key(place), skip)).collect();
        Fence { skip, words, handles, lasts, keys }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Keys with what is usual of them: long common parts, one that is the beginning of another,
    /// several versions of one.
    fn entries(prefix: &str) -> Vec<(Vec<u8>, u64)> {
        let mut entries = Vec::new();
        for i in 0..40_usize {
            let key = format!("{prefix}{}{}", "common-part".repeat(i / 20), "x".repeat(i % 20));
            entries.extend([(key.clone().into_bytes(), 9), (key.into_bytes(), 4)]);
        }
        entries.sort_by(|a, b| compare((&a.0, a.1), (&b.0, b.1)));
        entries
    }

    fn check(entries: &[(Vec<u8>, u64)]) {
        let mut builder = Fence::builder();
        for (at, (key, seq)) in entries.iter().enumerate() {
            builder.add(key, *seq, Handle { offset: at as u64, len: 1, crc: 2 });
        }
        let fence = builder.finish();
        assert!(fence.bytes() >= entries.len() * 40);
        let mut targets: Vec<Vec<u8>> = vec![b"".into(), b"a".into(), b"\xff".into()];
        for (key, _) in entries {
            let with = |end: &[u8]| [key, end].concat();
            targets.extend([with(b""), with(b"\0"), with(b"a"), with(b"y")]);
            targets.push(key.get(..key.len() / 2).unwrap_or_default().to_vec());
        }
        for target in &targets {
            for seq in [0, 4, 5, 9, u64::MAX] {
                let want =
                    entries.iter().position(|(key, of)| compare((key, *of), (target, seq)).is_ge());
                let found = fence.find(target, seq);
                assert_eq!(found, want, "{target:?} at {seq}");
                let offset = found.and_then(|at| fence.handle(at)).map(|handle| handle.offset);
                assert_eq!(offset, want.map(|at| at as u64));
            }
        }
    }

    #[test]
    fn finds_the_first_that_is_not_before() {
        for prefix in ["", "p", "longer than eight bytes"] {
            let entries = entries(prefix);
            check(&entries);
            check(&entries[3..4]);
            check(&entries[..2]);
        }
        check(&[]);
    }
}
