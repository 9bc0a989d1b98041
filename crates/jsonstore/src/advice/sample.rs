//! Documents from all over a collection.

use std::sync::Arc;

use bytes::Bytes;

use crate::{
    engine::{Core, Hold},
    error::Result,
    jb1::{self, Kind},
};

/// Places that are looked at, and documents at each.
const PLACES: u64 = 32;
const AT_EACH: usize = 16;

/// Some of a collection's documents.
#[derive(Debug, Default)]
pub(super) struct Sample {
    pub(super) documents: Vec<Bytes>,
    /// How many there are in all, roughly.
    pub(super) total: u64,
}

impl Sample {
    /// The part of the collection that satisfies `test`; never none, for it is a sample.
    pub(super) fn part(&self, test: impl Fn(&[u8]) -> bool) -> f64 {
        if self.documents.is_empty() {
            return 1.0;
        }
        let count = self.documents.iter().filter(|document| test(document)).count();
        let count = if count == 0 { 0.5 } else { count as f64 };
        count / self.documents.len() as f64
    }

    /// Whether a document has an array at, or on the way to, this field.
    pub(super) fn has_array_at(&self, path: &str) -> bool {
        let meets = |document: &Bytes| {
            let mut at: &[u8] = document;
            for step in path.split('.') {
                let mut name = Vec::new();
                jb1::escape(step, &mut name);
                match jb1::get(at, &name) {
                    Some(value) if jb1::kind(value) == Some(Kind::Array) => return true,
                    Some(value) => at = value,
                    None => return false,
                }
            }
            false
        };
        self.documents.iter().any(meets)
    }
}

impl Core {
    /// A sample of a collection, the same one whenever its documents are the same.
    pub(super) fn sample(self: &Arc<Self>, keyspace: u32) -> Result<Sample> {
        let hold = Hold::new(self, false, 0);
        let mut sample =
            Sample { documents: Vec::new(), total: self.estimate(keyspace, &[], None)? };
        let first = self.iter(keyspace, &[], hold.seq)?.next_visible()?;
        let last = self.range_back(keyspace, &[], None, hold.seq)?.next_visible()?;
        let (Some(first), Some(last)) = (first, last) else { return Ok(sample) };
        let mut next = Bytes::new();
        for place in 0..PLACES {
            let from = between(&first.key, &last.key, place);
            // Where ids lie close together, the next place may be among those seen already.
            let mut iter = self.iter(keyspace, from.as_slice().max(&next), hold.seq)?;
            for _ in 0..AT_EACH {
                let Some(entry) = iter.next_visible()? else { return Ok(sample) };
                let mut after = entry.key.to_vec();
                after.push(0);
                next = after.into();
                sample.documents.extend(entry.value);
            }
        }
        Ok(sample)
    }
}

/// A key so many places on the way from one to another, by the eight bytes after what both have in
/// common.
fn between(first: &[u8], last: &[u8], place: u64) -> Vec<u8> {
    let common = first.iter().zip(last).take_while(|(a, b)| a == b).count();
    let digits = |key: &[u8]| {
        let mut bytes = [0; 8];
        for (to, from) in bytes.iter_mut().zip(key.iter().skip(common)) {
            *to = *from;
        }
        u64::from_be_bytes(bytes)
    };
    let (from, to) = (digits(first), digits(last));
    let at = from + (to.saturating_sub(from) / PLACES).saturating_mul(place);
    [first.get(..common).unwrap_or_default(), &at.to_be_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_lie_between() {
        for (first, last) in [(&b"a0"[..], &b"a9zz"[..]), (b"", b"\xff\xff"), (b"same", b"same")] {
            let places: Vec<_> = (0..PLACES).map(|place| between(first, last, place)).collect();
            assert!(places.is_sorted());
            assert!(places.iter().all(|place| place[..] <= [last, &[0; 8]].concat()[..]));
            assert!(places[0].starts_with(first));
        }
    }
}
