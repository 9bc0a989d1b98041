//! A clock with two-bit use counts and frequency-based admission, bounded by bytes.

use std::{
    collections::HashMap,
    sync::atomic::{AtomicU8, AtomicUsize, Ordering::Relaxed},
};

use crate::codec::StableBuilder;

/// Which of up to 16 shards a hash belongs to say the bits from here on: a map goes by the lowest and
/// the highest ones, a sketch by others.
pub(super) const SHARD_SHIFT: u32 = 36;

const USES_MAX: u8 = 3;
/// How far a sketch counts.
const COUNT_MAX: u8 = 15;
/// Newcomers that are compared with the same item.
const CHALLENGERS_MAX: u8 = 8;
/// As many are looked for at once.
const GET_AT_ONCE: usize = 16;

#[derive(Debug)]
struct Slot<K, V> {
    hash: u64,
    uses: AtomicU8,
    weight: usize,
    item: Option<(K, V)>,
}

impl<K, V> Slot<K, V> {
    /// Readers at the same time may count as one.
    fn note_use(&self) {
        let uses = self.uses.load(Relaxed);
        if uses < USES_MAX {
            self.uses.store(uses + 1, Relaxed);
        }
    }

    /// Whether it was used since; if so, once less from now on.
    fn was_used(&mut self) -> bool {
        let uses = self.uses.get_mut();
        let was_used = *uses > 0;
        *uses = uses.saturating_sub(1);
        was_used
    }
}

/// One shard; the caller locks it. Who only reads may share it.
#[derive(Debug)]
pub(crate) struct Clock<K, V> {
    map: HashMap<u64, u32, StableBuilder>,
    slots: Vec<Slot<K, V>>,
    free: Vec<u32>,
    hand: usize,
    bytes: usize,
    sketch: Option<Sketch>,
    champion: Option<Champion>,
}

/// Who was worth more than a newcomer: the next ones are compared with it, too, of which nothing has
/// to be looked at for that.
#[derive(Debug, Clone, Copy)]
struct Champion {
    at: usize,
    estimate: u8,
    /// How many more, so that nobody stays because of one frequent item.
    rest: u8,
}

impl<K, V> Clock<K, V> {
    /// With `counters`, a newcomer must be asked for more often than whom it would replace: where
    /// all are asked for alike, those that are there may stay, which spares the exchange.
    pub(crate) fn new(counters: Option<usize>) -> Self {
        Self {
            map: HashMap::default(),
            slots: Vec::new(),
            free: Vec::new(),
            hand: 0,
            bytes: 0,
            sketch: counters.map(Sketch::new),
            champion: None,
        }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    #[inline]
    pub(crate) fn get(&self, hash: u64, is_key: impl FnOnce(&K) -> bool) -> Option<&V> {
        if let Some(sketch) = &self.sketch {
            sketch.count(hash);
        }
        let slot = self.slots.get(*self.map.get(&hash)? as usize)?;
        let (key, value) = slot.item.as_ref()?;
        if !is_key(key) {
            return None;
        }
        slot.note_use();
        Some(value)
    }

    /// As `get` for several hashes: all of their places are found before any of them is looked at, so
    /// that what has to come from memory comes at once.
    pub(crate) fn get_all(
        &self,
        hashes: impl Iterator<Item = u64> + Clone,
        mut visit: impl FnMut(usize, &K, &V),
    ) {
        if let Some(sketch) = &self.sketch {
            hashes.clone().for_each(|hash| sketch.count(hash));
        }
        let mut places = [None; GET_AT_ONCE];
        let mut done = 0;
        let mut rest = hashes.peekable();
        while rest.peek().is_some() {
            let mut count = 0;
            for (place, hash) in places.iter_mut().zip(rest.by_ref()) {
                *place = self.map.get(&hash).copied();
                count += 1;
            }
            let found = places[..count].iter().flatten();
            let uses = found.filter_map(|place| self.slots.get(*place as usize));
            std::hint::black_box(uses.fold(0, |all, slot| all ^ slot.uses.load(Relaxed)));
            for (at, place) in places[..count].iter().enumerate() {
                let slot = place.and_then(|place| self.slots.get(place as usize));
                if let Some(slot) = slot
                    && let Some((key, value)) = &slot.item
                {
                    slot.note_use();
                    visit(done + at, key, value);
                }
            }
            done += count;
        }
    }

    /// `item` is made only if it is let in.
    pub(crate) fn insert(
        &mut self,
        hash: u64,
        weight: usize,
        capacity: usize,
        item: impl FnOnce() -> (K, V),
    ) {
        if weight > capacity {
            return;
        }
        self.shrink(capacity);
        if let Some(at) = self.map.get(&hash).copied() {
            let slot = &mut self.slots[at as usize];
            self.bytes = self.bytes - slot.weight + weight;
            slot.weight = weight;
            slot.item = Some(item());
        } else {
            if !self.make_room(hash, weight, capacity) {
                return;
            }
            let slot = Slot { hash, uses: AtomicU8::new(0), weight, item: Some(item()) };
            let at = if let Some(at) = self.free.pop() {
                self.slots[at as usize] = slot;
                at
            } else {
                self.grow();
                self.slots.push(slot);
                (self.slots.len() - 1) as u32
            };
            self.map.insert(hash, at);
            self.bytes += weight;
        }
    }

    /// Lets go of the least used until no more than `capacity` is left, and of the places they had.
    pub(crate) fn shrink(&mut self, capacity: usize) {
        if self.bytes <= capacity {
            return;
        }
        while self.bytes > capacity {
            let at = self.advance();
            if !self.slots[at].was_used() {
                self.evict(at);
            }
        }
        if self.map.len() < self.slots.len() / 2 {
            self.close_up();
        }
    }

    fn close_up(&mut self) {
        self.slots.retain(|slot| slot.item.is_some());
        self.slots.shrink_to_fit();
        self.free = Vec::new();
        self.champion = None;
        self.hand = 0;
        let places = self.slots.iter().enumerate().map(|(at, slot)| (slot.hash, at as u32));
        self.map = places.collect();
    }

    pub(crate) fn remove_if(&mut self, mut gone: impl FnMut(&K) -> bool) {
        for at in 0..self.slots.len() {
            if self.slots[at].item.as_ref().is_some_and(|(key, _)| gone(key)) {
                self.evict(at);
            }
        }
    }

    /// Evicts until the newcomer fits; `false` if it is worth less than those it would replace.
    fn make_room(&mut self, hash: u64, weight: usize, capacity: usize) -> bool {
        let mut asked = false;
        while self.bytes + weight > capacity {
            let champion = self.champion.take();
            let at = champion.map_or_else(|| self.advance(), |champion| champion.at);
            if !asked && let Some(champion) = champion {
                asked = true;
                let estimate = self.sketch.as_ref().map_or(0, |sketch| sketch.estimate(hash));
                if estimate <= champion.estimate {
                    let rest = champion.rest.checked_sub(1);
                    self.champion = rest.map(|rest| Champion { rest, ..champion });
                    return false;
                }
            }
            let slot = &mut self.slots[at];
            if slot.item.is_none() || slot.was_used() {
                continue;
            }
            if !asked && let Some(sketch) = &self.sketch {
                asked = true;
                let estimate = sketch.estimate(slot.hash);
                if sketch.estimate(hash) <= estimate {
                    self.champion = Some(Champion { at, estimate, rest: CHALLENGERS_MAX - 2 });
                    return false;
                }
            }
            self.evict(at);
        }
        true
    }

    /// By an eighth rather than to double: what is not used yet counts against the budget, too.
    fn grow(&mut self) {
        if self.slots.len() == self.slots.capacity() {
            self.slots.reserve_exact((self.slots.len() / 8).max(16));
        }
    }

    /// The slot under the hand, which moves on.
    fn advance(&mut self) -> usize {
        if self.hand >= self.slots.len() {
            self.hand = 0;
        }
        self.hand += 1;
        self.hand - 1
    }

    fn evict(&mut self, at: usize) {
        self.champion = None;
        let slot = &mut self.slots[at];
        if slot.item.take().is_some() {
            self.map.remove(&slot.hash);
            self.bytes -= slot.weight;
            slot.weight = 0;
            self.free.push(at as u32);
        }
    }
}

/// Counts how often a hash was asked for, roughly, with halving so that the past fades.
#[derive(Debug)]
struct Sketch {
    /// A power of two of them. What threads count at the same time may get lost.
    counts: Vec<AtomicU8>,
    added: AtomicUsize,
}

impl Sketch {
    fn new(counters: usize) -> Self {
        let counts = (0..counters.next_power_of_two()).map(|_| AtomicU8::new(0)).collect();
        Self { counts, added: AtomicUsize::new(0) }
    }

    fn places(&self, hash: u64) -> [&AtomicU8; 2] {
        let mask = self.counts.len() - 1;
        [20, 40].map(|shift| &self.counts[(hash >> shift) as usize & mask])
    }

    fn count(&self, hash: u64) {
        for place in self.places(hash) {
            let count = place.load(Relaxed);
            if count < COUNT_MAX {
                place.store(count + 1, Relaxed);
            }
        }
        let added = self.added.load(Relaxed) + 1;
        self.added.store(added, Relaxed);
        if added > self.counts.len() * 8 {
            self.added.store(added / 2, Relaxed);
            for count in &self.counts {
                count.store(count.load(Relaxed) / 2, Relaxed);
            }
        }
    }

    fn estimate(&self, hash: u64) -> u8 {
        self.places(hash).map(|place| place.load(Relaxed)).into_iter().min().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stays_within_its_bytes_and_keeps_what_is_used() {
        let mut clock: Clock<u64, u64> = Clock::new(None);
        for i in 0..1000_u64 {
            clock.insert(i, 10, 500, || (i, i));
            assert!(clock.bytes() <= 500);
            clock.get(7, |k| *k == 7);
            if i > 7 {
                assert!(clock.get(7, |k| *k == 7).is_some(), "evicted after {i}");
            }
        }
        clock.shrink(200);
        assert!(clock.bytes() <= 200 && clock.get(7, |k| *k == 7).is_some());
        assert_eq!(clock.slots.len(), 20, "places that nobody has are given up");
        for i in 2000..2100 {
            clock.insert(i, 10, 500, || (i, i));
            assert!(clock.get(i, |k| *k == i).is_some());
        }
        let mut found = Vec::new();
        let hashes: Vec<u64> = (2050..2150).rev().collect();
        clock.get_all(hashes.iter().copied(), |at, key, value| {
            assert_eq!((hashes[at], key), (*key, value));
            found.push(*key);
        });
        let one_by_one: Vec<u64> =
            hashes.into_iter().filter(|i| clock.get(*i, |_| true).is_some()).collect();
        assert!(found.len() > 20 && found == one_by_one);
        clock.insert(5000, 501, 500, || (5000, 1));
        assert!(clock.get(5000, |_| true).is_none(), "larger than the cache");
        clock.remove_if(|_| true);
        assert_eq!(clock.bytes(), 0);
    }

    #[test]
    fn admission_resists_a_scan() {
        let mut clock: Clock<u64, u64> = Clock::new(Some(1 << 14));
        let spread = |i: u64| i.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        for _ in 0..5 {
            for i in 0..40 {
                if clock.get(spread(i), |_| true).is_none() {
                    clock.insert(spread(i), 10, 500, || (i, i));
                }
            }
        }
        for i in 1000..3000 {
            if clock.get(spread(i), |_| true).is_none() {
                clock.insert(spread(i), 10, 500, || (i, i));
            }
        }
        let kept = (0..40).filter(|i| clock.get(spread(*i), |_| true).is_some()).count();
        assert!(kept > 25, "{kept} of 40 survived a scan");
    }
}
