//! A blocked Bloom filter: one cache line per key, 10 bits per key, about 1 % false positives.

use std::sync::Arc;

use bytes::Bytes;

const BITS_PER_KEY: usize = 10;
const LINE: usize = 64;
const PROBES: u32 = 6;

pub(crate) fn build(hashes: &[u64]) -> Vec<u8> {
    let lines = (hashes.len() * BITS_PER_KEY).div_ceil(LINE * 8).max(1);
    let mut bits = vec![0; lines * LINE];
    for hash in hashes {
        let line = line_of(*hash, lines) * LINE;
        for bit in probes(*hash) {
            bits[line + bit / 8] |= 1 << (bit % 8);
        }
    }
    bits
}

#[derive(Debug, Clone)]
pub(crate) struct Filter(pub(crate) Arc<Bytes>);

impl Filter {
    pub(crate) fn may_contain(&self, hash: u64) -> bool {
        let lines = self.0.len() / LINE;
        if lines == 0 {
            return true;
        }
        let line = line_of(hash, lines) * LINE;
        let Some(line) = self.0.get(line..line + LINE) else { return true };
        probes(hash).all(|bit| line[bit / 8] & 1 << (bit % 8) != 0)
    }
}

fn line_of(hash: u64, lines: usize) -> usize {
    ((u128::from(hash) * lines as u128) >> 64) as usize
}

fn probes(hash: u64) -> impl Iterator<Item = usize> {
    let mut mixed = hash.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    (0..PROBES).map(move |_| {
        mixed = mixed.rotate_left(21).wrapping_mul(0xD6E8_FEB8_6659_FD93);
        (mixed >> 55) as usize
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::hash_key;

    #[test]
    fn no_false_negatives_and_few_false_positives() {
        let hashes: Vec<u64> = (0..10_000_u32).map(|i| hash_key(1, &i.to_be_bytes())).collect();
        let filter = Filter(Arc::new(Bytes::from(build(&hashes))));
        assert!(hashes.iter().all(|h| filter.may_contain(*h)));
        let wrong = (10_000..110_000_u32)
            .filter(|i| filter.may_contain(hash_key(1, &i.to_be_bytes())))
            .count();
        assert!(wrong < 2_500, "{wrong} of 100000");
    }
}
