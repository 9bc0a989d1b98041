//! L2: blocks of segments, checked and deciphered, values still compressed.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

use bytes::Bytes;
use parking_lot::RwLock;

use super::{
    MapBudget,
    clock::{Clock, SHARD_SHIFT},
};

const SHARDS: usize = 16;
/// Fences take at most one of so many parts of what blocks may take.
const FENCES_SHARE: usize = 8;
/// Blocks keep at least one of so many parts, however much open segments hold.
const BLOCKS_SHARE: usize = 4;
/// What a cached block costs beyond its bytes.
const OVERHEAD: usize = 96;

#[derive(Debug)]
pub(crate) struct BlockCache {
    shards: Vec<RwLock<Clock<(u64, u64), Bytes>>>,
    capacity: usize,
    bytes: AtomicUsize,
    /// Tables of open segments that say where their blocks are; they go with these only.
    fences: AtomicUsize,
    /// What open segments hold besides: indexes of index blocks, and filters.
    tops: AtomicUsize,
    /// For what is mapped, there is nothing to hold here.
    pub(crate) maps: MapBudget,
    pub(crate) hits: AtomicU64,
    pub(crate) misses: AtomicU64,
}

impl BlockCache {
    pub(crate) fn new(capacity: usize, map_bytes_max: usize) -> Self {
        // Some for each block of 4 KiB that fits, and as many again for those that do not.
        let counters = (capacity / SHARDS / 1024).next_power_of_two().clamp(64, 1 << 16);
        Self {
            maps: MapBudget::new(map_bytes_max),
            shards: (0..SHARDS).map(|_| RwLock::new(Clock::new(Some(counters)))).collect(),
            capacity,
            bytes: AtomicUsize::new(0),
            fences: AtomicUsize::new(0),
            tops: AtomicUsize::new(0),
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
        }
    }

    /// Of blocks, and of what open segments hold.
    pub(crate) fn bytes(&self) -> usize {
        self.block_bytes() + self.held()
    }

    fn held(&self) -> usize {
        self.fences.load(Relaxed) + self.tops.load(Relaxed)
    }

    /// Of blocks alone.
    pub(crate) fn block_bytes(&self) -> usize {
        self.bytes.load(Relaxed)
    }

    /// Whether a fence of about so many bytes may be made.
    pub(crate) fn has_room_for_fence(&self, bytes: usize) -> bool {
        self.fences.load(Relaxed) + bytes <= self.capacity / FENCES_SHARE
    }

    pub(crate) fn note_fence(&self, bytes: usize) {
        self.fences.fetch_add(bytes, Relaxed);
    }

    pub(crate) fn forget_fence(&self, bytes: usize) {
        self.fences.fetch_sub(bytes, Relaxed);
    }

    pub(crate) fn note_top(&self, bytes: usize) {
        self.tops.fetch_add(bytes, Relaxed);
    }

    pub(crate) fn forget_top(&self, bytes: usize) {
        self.tops.fetch_sub(bytes, Relaxed);
    }

    /// What open segments leave of so many bytes, for one shard.
    fn shard_capacity(&self, capacity: usize) -> usize {
        capacity.saturating_sub(self.held()).max(capacity / BLOCKS_SHARE) / SHARDS
    }

    /// What `read` makes of a block where it lies, or `read` again if the block is not here. Nobody
    /// can change the cache meanwhile: `read` must not take long, and not ask the cache.
    #[inline]
    pub(crate) fn read<T, R: FnOnce(&Bytes) -> T>(
        &self,
        segment: u64,
        offset: u64,
        read: R,
    ) -> Result<T, R> {
        let hash = hash(segment, offset);
        let shard = self.shards[shard_of(hash)].read();
        match shard.get(hash, |key| *key == (segment, offset)) {
            Some(block) => {
                self.hits.fetch_add(1, Relaxed);
                Ok(read(block))
            }
            None => {
                self.misses.fetch_add(1, Relaxed);
                Err(read)
            }
        }
    }

    pub(crate) fn get(&self, segment: u64, offset: u64) -> Option<Bytes> {
        self.read(segment, offset, Bytes::clone).ok()
    }

    /// As `get` for several blocks of a segment, in their order.
    pub(crate) fn get_all(&self, segment: u64, offsets: &[u64]) -> Vec<Option<Bytes>> {
        let mut found = vec![None; offsets.len()];
        let wanted = offsets.iter().enumerate();
        let mut wanted: Vec<(u64, usize)> =
            wanted.map(|(place, offset)| (hash(segment, *offset), place)).collect();
        wanted.sort_unstable_by_key(|(hash, _)| shard_of(*hash));
        for wanted in wanted.chunk_by(|(a, _), (b, _)| shard_of(*a) == shard_of(*b)) {
            let Some((first, _)) = wanted.first() else { continue };
            let hashes = wanted.iter().map(|(hash, _)| *hash);
            self.shards[shard_of(*first)].read().get_all(hashes, |at, key, block| {
                let place = wanted[at].1;
                if *key == (segment, offsets[place]) {
                    found[place] = Some(block.clone());
                }
            });
        }
        let hits = found.iter().flatten().count();
        self.hits.fetch_add(hits as u64, Relaxed);
        self.misses.fetch_add((offsets.len() - hits) as u64, Relaxed);
        found
    }

    pub(crate) fn insert(&self, segment: u64, offset: u64, block: Bytes) {
        let hash = hash(segment, offset);
        let weight = block.len() + OVERHEAD;
        let mut shard = self.shards[shard_of(hash)].write();
        let before = shard.bytes();
        shard.insert(hash, weight, self.shard_capacity(self.capacity), || {
            ((segment, offset), block)
        });
        let after = shard.bytes();
        if after >= before {
            self.bytes.fetch_add(after - before, Relaxed);
        } else {
            self.bytes.fetch_sub(before - after, Relaxed);
        }
    }

    /// Lets go of blocks until no more than `capacity` is left.
    pub(crate) fn shrink(&self, capacity: usize) {
        for shard in &self.shards {
            let mut shard = shard.write();
            let before = shard.bytes();
            shard.shrink(self.shard_capacity(capacity));
            self.bytes.fetch_sub(before - shard.bytes(), Relaxed);
        }
    }

    /// Drops the blocks of a segment that is gone.
    pub(crate) fn forget(&self, segment: u64) {
        for shard in &self.shards {
            let mut shard = shard.write();
            let before = shard.bytes();
            shard.remove_if(|(number, _)| *number == segment);
            self.bytes.fetch_sub(before - shard.bytes(), Relaxed);
        }
    }
}

fn shard_of(hash: u64) -> usize {
    (hash >> SHARD_SHIFT) as usize % SHARDS
}

fn hash(segment: u64, offset: u64) -> u64 {
    let mixed =
        (segment.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ offset).wrapping_mul(0xD6E8_FEB8_6659_FD93);
    mixed ^ mixed >> 32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_make_room_for_what_segments_hold() {
        const CAPACITY: usize = 1 << 20;
        let cache = BlockCache::new(CAPACITY, 0);
        let fill = || {
            for offset in 0..2000 {
                cache.insert(1, offset * 4096, Bytes::from(vec![0; 4096]));
            }
        };
        // A shard that is full has no room for one more block.
        let slack = SHARDS * (4096 + OVERHEAD);
        fill();
        assert!((CAPACITY - slack..=CAPACITY).contains(&cache.bytes()));
        cache.note_top(CAPACITY / 2);
        fill();
        assert!((CAPACITY - slack..=CAPACITY).contains(&cache.bytes()));
        assert!(cache.block_bytes() <= CAPACITY / 2);
        cache.note_top(CAPACITY);
        fill();
        assert!((CAPACITY / 4 - slack..=CAPACITY / 4).contains(&cache.block_bytes()));
        cache.forget_top(CAPACITY / 2 * 3);
        fill();
        assert!((CAPACITY - slack..=CAPACITY).contains(&cache.block_bytes()));
    }
}
