//! Which timer fires when: a slab of entries, linked into one ring of slots. Knows no clock.
//!
//! One ring is enough, without the usual levels: an entry further away than the ring is long waits
//! in the last slot, is looked at there and goes another round. That costs a connection with a
//! long deadline one look per 51 seconds.

use std::sync::Arc;

/// Slots of the ring.
const SLOTS: u64 = 512;
/// Stands for "no entry" in links.
const NIL: u32 = u32::MAX;

/// Entries and the ring; `T` is what an entry is about.
#[derive(Debug)]
pub(super) struct Slots<T> {
    entries: Vec<Entry<T>>,
    /// First entry of each slot.
    heads: Box<[u32]>,
    /// First of the unused entries, linked by `next`.
    free: u32,
    /// The last tick that was processed.
    tick: u64,
    linked: usize,
    used: usize,
}

#[derive(Debug)]
struct Entry<T> {
    /// `None` while unused.
    item: Option<Arc<T>>,
    prev: u32,
    next: u32,
    /// The slot it is linked in, or `NIL`.
    slot: u32,
}

impl<T> Slots<T> {
    pub(super) fn new() -> Self {
        let heads = vec![NIL; SLOTS as usize].into_boxed_slice();
        Self { entries: Vec::new(), heads, free: NIL, tick: 0, linked: 0, used: 0 }
    }

    /// Adds an entry that is in no slot yet.
    pub(super) fn insert(&mut self, item: Arc<T>) -> u32 {
        let entry = Entry { item: Some(item), prev: NIL, next: NIL, slot: NIL };
        self.used += 1;
        let index = self.free;
        if let Some(unused) = self.entries.get_mut(index as usize) {
            self.free = unused.next;
            *unused = entry;
            return index;
        }
        self.entries.push(entry);
        u32::try_from(self.entries.len() - 1).expect("fewer than 2^32 connections")
    }

    /// Removes an entry for good.
    pub(super) fn remove(&mut self, index: u32) {
        self.unlink(index);
        let free = self.free;
        if let Some(entry) = self.entries.get_mut(index as usize) {
            entry.item = None;
            entry.next = free;
            self.free = index;
            self.used -= 1;
        }
    }

    /// Puts an entry where it is looked at `at` that tick, or earlier; answers the tick.
    pub(super) fn link(&mut self, index: u32, at: u64) -> u64 {
        self.unlink(index);
        let at = at.clamp(self.tick + 1, self.tick + SLOTS - 1);
        let slot = (at % SLOTS) as usize;
        let head = self.heads[slot];
        let entry = &mut self.entries[index as usize];
        entry.slot = slot as u32;
        entry.prev = NIL;
        entry.next = head;
        if let Some(second) = self.entries.get_mut(head as usize) {
            second.prev = index;
        }
        self.heads[slot] = index;
        self.linked += 1;
        at
    }

    /// Takes an entry out of its slot; it stays in the slab.
    fn unlink(&mut self, index: u32) {
        let entry = &mut self.entries[index as usize];
        if entry.slot == NIL {
            return;
        }
        let (slot, prev, next) = (entry.slot, entry.prev, entry.next);
        entry.slot = NIL;
        match self.entries.get_mut(prev as usize) {
            Some(before) => before.next = next,
            None => self.heads[slot as usize] = next,
        }
        if let Some(after) = self.entries.get_mut(next as usize) {
            after.prev = prev;
        }
        self.linked -= 1;
    }

    /// Moves time on to `tick`. Every entry on the way is unlinked and given to `visit`, which says
    /// at which tick it wants to be looked at again.
    pub(super) fn advance(&mut self, tick: u64, mut visit: impl FnMut(&Arc<T>) -> Option<u64>) {
        // After a long sleep each slot is visited once, not once per round.
        let from = (self.tick + 1).max((tick + 1).saturating_sub(SLOTS));
        self.tick = self.tick.max(tick);
        for at in from..=tick {
            // The list is taken as a whole, so that what goes another round is not met twice.
            let mut next = std::mem::replace(&mut self.heads[(at % SLOTS) as usize], NIL);
            while let Some(entry) = self.entries.get_mut(next as usize) {
                let index = std::mem::replace(&mut next, entry.next);
                entry.slot = NIL;
                self.linked -= 1;
                let Some(item) = &entry.item else { continue };
                if let Some(again) = visit(item) {
                    self.link(index, again);
                }
            }
        }
    }

    /// The next tick at which there is something to look at.
    pub(super) fn next_tick(&self) -> Option<u64> {
        if self.linked == 0 {
            return None;
        }
        (self.tick + 1..self.tick + SLOTS).find(|at| self.heads[(at % SLOTS) as usize] != NIL)
    }

    /// How many entries there are, linked or not.
    pub(super) fn len(&self) -> usize {
        self.used
    }

    /// Every item, linked or not.
    pub(super) fn items(&self) -> impl Iterator<Item = &Arc<T>> {
        self.entries.iter().filter_map(|entry| entry.item.as_ref())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What a test does to the wheel and to the model.
    #[derive(Debug, Clone)]
    enum Step {
        Insert,
        Link { which: usize, ahead: u64 },
        Remove { which: usize },
        Advance { ticks: u64 },
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            Just(Step::Insert),
            (0..8usize, 0..2000u64).prop_map(|(which, ahead)| Step::Link { which, ahead }),
            (0..8usize).prop_map(|which| Step::Remove { which }),
            prop_oneof![0..5u64, 500..520u64, 0..3000u64].prop_map(|ticks| Step::Advance { ticks }),
        ];
        prop::collection::vec(step, 1..60)
    }

    /// The model: a list of (id, index, deadline), searched from end to end.
    fn run(steps: Vec<Step>) {
        let mut slots = Slots::new();
        let mut model: Vec<(u64, u32, Option<u64>)> = Vec::new();
        let (mut now, mut next_id) = (0u64, 0u64);
        for step in steps {
            match step {
                Step::Insert => {
                    model.push((next_id, slots.insert(Arc::new(next_id)), None));
                    next_id += 1;
                }
                Step::Link { which, ahead } => {
                    if let Some((_, index, deadline)) = model.get_mut(which) {
                        *deadline = Some(now + ahead);
                        slots.link(*index, now + ahead);
                    }
                }
                Step::Remove { which } => {
                    if which < model.len() {
                        slots.remove(model.remove(which).1);
                    }
                }
                Step::Advance { ticks } => {
                    now += ticks;
                    let mut fired = Vec::new();
                    slots.advance(now, |visited| {
                        let (id, _, deadline) =
                            model.iter_mut().find(|(id, ..)| *id == **visited).expect("known");
                        // A deadline that is due at once is looked at one tick later.
                        let due = deadline.expect("only linked entries are visited");
                        if due <= now {
                            *deadline = None;
                            fired.push(*id);
                            return None;
                        }
                        Some(due)
                    });
                    let late = model.iter().filter(|(_, _, due)| due.is_some_and(|at| at < now));
                    assert_eq!(late.count(), 0, "overdue at {now}: {model:?}, fired {fired:?}");
                }
            }
            let linked = model.iter().filter(|(_, _, deadline)| deadline.is_some()).count();
            assert_eq!(slots.linked, linked);
            assert_eq!(slots.items().count(), model.len());
            assert_eq!(slots.len(), model.len());
            let next = slots.next_tick();
            assert_eq!(next.is_some(), linked > 0);
            if let Some(next) = next {
                let first = model.iter().filter_map(|(_, _, deadline)| *deadline).min();
                assert!(next > now && next <= first.expect("linked").max(now + 1));
            }
        }
    }

    proptest! {
        #[test]
        fn behaves_like_a_list(steps in steps()) {
            run(steps);
        }
    }
}
