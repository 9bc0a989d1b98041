//! Hierarchical locks with fair queues: store, collection, record, field.
//!
//! A request waits behind every earlier request it conflicts with, so nobody starves; conversions
//! of a lock already held go first. Waiters are cells, not threads: a future or a blocked thread
//! waits alike. Deadlocks are looked for only when someone has waited a while.

mod deadlock;
mod queue;

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    task::{Poll, Waker},
    time::Duration,
};

use bytes::Bytes;

use self::queue::LockQueue;
use crate::{
    codec::{StableBuilder, hash_key},
    error::{CycleEdge, Error, Result},
    sync::Mutex,
};

const SHARDS: usize = if cfg!(loom) { 1 } else { 64 };

/// How a lock is held. Intention modes are held above what is really locked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LockMode {
    /// Intends to read parts.
    IntentShared,
    /// Intends to write parts.
    IntentExclusive,
    /// Reads all.
    Shared,
    /// Reads all, intends to write parts.
    SharedIntentExclusive,
    /// Reads now, will write: compatible with readers, not with another such.
    Update,
    /// Writes all.
    Exclusive,
}

use LockMode::{
    Exclusive as X, IntentExclusive as IX, IntentShared as IS, Shared as S,
    SharedIntentExclusive as SIX, Update as U,
};

impl LockMode {
    pub(crate) const ALL: [Self; 6] = [IS, IX, S, SIX, U, X];

    /// Whether two transactions can hold these at once.
    pub fn is_compatible(self, other: Self) -> bool {
        match (self, other) {
            (X, _) | (_, X) => false,
            (IS, _) | (_, IS) => true,
            (IX, IX) | (S, S | U) | (U, S) => true,
            (IX | S | SIX | U, _) => false,
        }
    }

    /// The weakest mode that grants both.
    #[must_use]
    pub fn join(self, other: Self) -> Self {
        match (self.min(other), self.max(other)) {
            (a, b) if a == b => a,
            (_, X) => X,
            (IS, b) => b,
            (IX, S | SIX | U) | (S, SIX) => SIX,
            (S, U) => U,
            (SIX, U) => X,
            (_, b) => b,
        }
    }

    /// Its usual abbreviation.
    pub fn name(self) -> &'static str {
        match self {
            IS => "IS",
            IX => "IX",
            S => "S",
            SIX => "SIX",
            U => "U",
            X => "X",
        }
    }
}

/// What is locked.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum LockId {
    Store,
    Collection(u32),
    Record(u32, Bytes),
    Field(u32, Bytes, Box<str>),
}

impl LockId {
    fn hash(&self) -> u64 {
        match self {
            Self::Store => 1,
            Self::Collection(ks) => (u64::from(*ks) + 2).wrapping_mul(0x9E37_79B9_7F4A_7C15),
            Self::Record(ks, key) => hash_key(*ks, key),
            Self::Field(ks, key, path) => hash_key(*ks, key) ^ hash_key(!0, path.as_bytes()),
        }
    }
}

impl fmt::Display for LockId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let id = |key: &Bytes| crate::key::Id(key.to_vec()).to_json();
        match self {
            Self::Store => f.write_str("the store"),
            Self::Collection(ks) => write!(f, "collection {ks}"),
            Self::Record(ks, key) => write!(f, "record {} of collection {ks}", id(key)),
            Self::Field(ks, key, path) => {
                write!(f, "field {path} of record {} of collection {ks}", id(key))
            }
        }
    }
}

/// One transaction as the lock manager knows it.
#[derive(Debug)]
pub(crate) struct Owner {
    pub(crate) id: u64,
    /// Locks taken and bytes written: who has least gives way.
    pub(crate) work: AtomicU64,
    /// How often it was a victim; after three times others give way.
    pub(crate) victim_count: AtomicU32,
    held: Mutex<Vec<LockId>>,
}

#[derive(Debug)]
enum CellState {
    Waiting,
    Granted,
    Victim(Vec<CycleEdge>),
    TimedOut,
}

/// Where one request waits.
#[derive(Debug)]
pub(crate) struct Cell {
    /// When the wait is given up, on the monotonic clock.
    deadline: Duration,
    state: Mutex<(CellState, Option<Waker>)>,
}

impl Cell {
    fn new(deadline: Duration) -> Self {
        Self { deadline, state: Mutex::new((CellState::Waiting, None)) }
    }

    fn decide(&self, state: CellState) {
        let mut guard = self.state.lock();
        guard.0 = state;
        let waker = guard.1.take();
        drop(guard);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

#[derive(Debug, Default)]
struct Shard {
    queues: HashMap<u64, Vec<(LockId, LockQueue)>, StableBuilder>,
}

impl Shard {
    fn queue(&mut self, id: &LockId) -> &mut LockQueue {
        let list = self.queues.entry(id.hash()).or_default();
        let at = list.iter().position(|(other, _)| other == id).unwrap_or_else(|| {
            list.push((id.clone(), LockQueue::default()));
            list.len() - 1
        });
        &mut list[at].1
    }

    fn tidy(&mut self, id: &LockId) {
        let hash = id.hash();
        if let Some(list) = self.queues.get_mut(&hash) {
            list.retain(|(other, queue)| other != id || !queue.is_empty());
            if list.is_empty() {
                self.queues.remove(&hash);
            }
        }
    }
}

/// Counters of the lock manager.
#[derive(Debug, Default)]
pub(crate) struct LockStats {
    pub(crate) waits: AtomicU64,
    pub(crate) deadlocks: AtomicU64,
    pub(crate) reordered: AtomicU64,
    pub(crate) timeouts: AtomicU64,
}

#[derive(Debug)]
pub(crate) struct LockManager {
    shards: Vec<Mutex<Shard>>,
    next_owner: AtomicU64,
    waiting: AtomicU64,
    pub(crate) stats: LockStats,
}

/// A request that was not granted at once. Dropping it withdraws the request.
#[derive(Debug)]
pub(crate) struct Wait {
    manager: Arc<LockManager>,
    owner: Arc<Owner>,
    id: LockId,
    cell: Arc<Cell>,
    settled: bool,
}

impl LockManager {
    pub(crate) fn new() -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            next_owner: AtomicU64::new(1),
            waiting: AtomicU64::new(0),
            stats: LockStats::default(),
        }
    }

    pub(crate) fn owner(&self, victim_count: u32) -> Arc<Owner> {
        Arc::new(Owner {
            id: self.next_owner.fetch_add(1, Ordering::Relaxed),
            work: AtomicU64::new(0),
            victim_count: AtomicU32::new(victim_count),
            held: Mutex::new(Vec::new()),
        })
    }

    /// Requests a lock: granted now, or a place in the queue.
    pub(crate) fn request(
        self: &Arc<Self>,
        owner: &Arc<Owner>,
        id: LockId,
        mode: LockMode,
        deadline: Duration,
    ) -> Option<Wait> {
        let mut shard = self.shard(&id).lock();
        let queue = shard.queue(&id);
        let held = queue.held(owner.id);
        if held.is_some_and(|held| held.join(mode) == held) {
            return None;
        }
        let want = held.map_or(mode, |held| held.join(mode));
        if queue.try_grant(owner, want, held.is_some()) {
            drop(shard);
            if held.is_none() {
                owner.held.lock().push(id);
                owner.work.fetch_add(1, Ordering::Relaxed);
            }
            return None;
        }
        let cell = Arc::new(Cell::new(deadline));
        queue.enqueue(owner, want, held.is_some(), Arc::clone(&cell));
        drop(shard);
        self.waiting.fetch_add(1, Ordering::Relaxed);
        self.stats.waits.fetch_add(1, Ordering::Relaxed);
        Some(Wait { manager: Arc::clone(self), owner: Arc::clone(owner), id, cell, settled: false })
    }

    /// Releases everything the owner holds.
    pub(crate) fn release_all(&self, owner: &Owner) {
        let held = std::mem::take(&mut *owner.held.lock());
        // Parts before wholes, so that nobody sees a lock without its intention.
        for id in held.iter().rev() {
            let mut shard = self.shard(id).lock();
            let granted = shard.queue(id).release(owner.id);
            shard.tidy(id);
            drop(shard);
            self.grant(id, granted);
        }
    }

    /// True if anybody waits.
    pub(crate) fn has_waiters(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }

    /// Ends the waits whose time is over.
    pub(crate) fn expire(&self, now: Duration) {
        for shard in &self.shards {
            let mut late = Vec::new();
            let guard = shard.lock();
            for (id, queue) in guard.queues.values().flatten() {
                let over = queue.waiters().iter().filter(|w| w.cell.deadline <= now);
                late.extend(over.map(|w| (id.clone(), w.owner.id, Arc::clone(&w.cell))));
            }
            drop(guard);
            for (id, owner, cell) in late {
                let mut guard = shard.lock();
                let granted = guard.queue(&id).withdraw(owner, &cell);
                guard.tidy(&id);
                drop(guard);
                // Granted in between: the decision stands.
                if matches!(cell.state.lock().0, CellState::Waiting) {
                    self.stats.timeouts.fetch_add(1, Ordering::Relaxed);
                    cell.decide(CellState::TimedOut);
                }
                self.grant(&id, granted);
            }
        }
    }

    /// Locks held or waited for, over all queues; zero when nothing leaked.
    pub(crate) fn entries(&self) -> usize {
        let count = |shard: &Mutex<Shard>| -> usize {
            shard.lock().queues.values().flatten().map(|(_, queue)| queue.len()).sum()
        };
        self.shards.iter().map(count).sum()
    }

    fn grant(&self, id: &LockId, granted: Vec<queue::Granted>) {
        for grant in granted {
            if grant.is_new {
                grant.owner.held.lock().push(id.clone());
                grant.owner.work.fetch_add(1, Ordering::Relaxed);
            }
            grant.cell.decide(CellState::Granted);
        }
    }

    fn shard(&self, id: &LockId) -> &Mutex<Shard> {
        &self.shards[(id.hash() >> 58) as usize % SHARDS]
    }
}

impl Wait {
    /// The decision, if there is one; otherwise `waker` is called when there is.
    pub(crate) fn poll(&mut self, waker: &Waker) -> Poll<Result<()>> {
        {
            let mut guard = self.cell.state.lock();
            if matches!(guard.0, CellState::Waiting) {
                guard.1 = Some(waker.clone());
                return Poll::Pending;
            }
        }
        self.outcome().map_or(Poll::Pending, Poll::Ready)
    }

    fn outcome(&mut self) -> Option<Result<()>> {
        let guard = self.cell.state.lock();
        let result = match &guard.0 {
            CellState::Waiting => return None,
            CellState::Granted => Ok(()),
            CellState::TimedOut => Err(Error::LockTimeout { lock: self.id.to_string() }),
            CellState::Victim(cycle) => Err(Error::Deadlock { cycle: cycle.clone() }),
        };
        drop(guard);
        if !self.settled {
            self.settled = true;
            self.manager.waiting.fetch_sub(1, Ordering::Relaxed);
        }
        Some(result)
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        if self.settled {
            return;
        }
        self.manager.waiting.fetch_sub(1, Ordering::Relaxed);
        // Granted in the meantime is fine: the owner releases it with everything else it holds.
        let mut shard = self.manager.shard(&self.id).lock();
        let granted = shard.queue(&self.id).withdraw(self.owner.id, &self.cell);
        shard.tidy(&self.id);
        drop(shard);
        self.manager.grant(&self.id, granted);
    }
}

#[cfg(test)]
mod tests;
