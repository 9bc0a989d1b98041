//! Deleting what has expired, at a pace.
//!
//! A pass goes through the entries of each index that expires documents, up to what has expired by
//! now, a batch at a time. A batch is an ordinary transaction: it locks its documents, looks again
//! whether they have expired, and takes along what follows them. What somebody else has locked waits
//! for the next pass.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use parking_lot::Mutex;

use super::date::{date_ms, string_of};
use crate::{
    bugs::bug,
    commit::Op,
    engine::{Core, Hold},
    error::Result,
    follow::{Change, Effects},
    index::BTreeIndex,
    key,
    lock::{LockId, LockMode, Owner},
    plan::{Bound, KeyRange},
};

/// Documents deleted in one transaction.
const BATCH_MAX: usize = 256;
/// Bytes that a transaction logs before it takes no more documents.
const BATCH_BYTES_MAX: usize = 256 << 10;
/// Entries looked at in one step.
const EXAMINED_MAX: usize = 2048;
/// Between two batches.
const PAUSE: Duration = Duration::from_millis(10);
/// Between two batches while others write too, unless it is late.
const PAUSE_BUSY: Duration = Duration::from_millis(50);
/// From then on it does not wait for others any longer.
const LATE_MS: u64 = 10_000;
/// Between two passes.
const PASS_PAUSE: Duration = Duration::from_secs(1);
/// Strings with an offset from UTC do not sort by date. A pass in so long looks at all that may have
/// expired, the others only at those up to now.
const OFFSETS_PAUSE: Duration = Duration::from_secs(60);
/// No offset is larger.
const OFFSET_MS_MAX: i64 = 24 * 3_600_000;

/// What a store knows of documents that expire.
#[derive(Debug, Default)]
pub(crate) struct Expirations {
    /// A bit for keyspaces with this number modulo 64, if documents of one of them ever expired.
    places: AtomicU64,
    rules: AtomicU64,
    /// How often a read left out a document because it had expired.
    pub(crate) hidden: Arc<AtomicU64>,
    pub(crate) deleted: AtomicU64,
    /// How late the latest document of the last pass was deleted.
    pub(crate) lag_ms: AtomicU64,
    sweep: Mutex<Sweep>,
}

#[derive(Debug, Default)]
struct Sweep {
    /// By the monotonic clock.
    not_before: Duration,
    offsets_not_before: Duration,
    /// What is left of the pass.
    rest: VecDeque<Stretch>,
    /// Commits until the last step.
    commits: u64,
    /// What this pass found.
    lag_ms: u64,
    /// When this pass began, and the last one that came to its end: whatever it left had not expired.
    began: Duration,
    complete_since: Duration,
}

/// Entries of an index that may belong to expired documents.
#[derive(Debug)]
struct Stretch {
    /// The keyspace of the documents.
    documents: u32,
    index: Arc<BTreeIndex>,
    after_ms: i64,
    from: Vec<u8>,
    to: Option<Vec<u8>>,
}

impl Expirations {
    #[inline]
    pub(crate) fn is_any(&self) -> bool {
        self.places.load(Ordering::Relaxed) != 0
    }

    #[inline]
    pub(crate) fn may_be_in(&self, keyspace: u32) -> bool {
        self.places.load(Ordering::Relaxed) >> (keyspace % 64) & 1 != 0
    }

    /// Documents of the keyspace expire. A number for their rules, and where what they hide counts.
    pub(super) fn note_rules(&self, keyspace: u32) -> (u64, Arc<AtomicU64>) {
        self.places.fetch_or(1 << (keyspace % 64), Ordering::SeqCst);
        let number = self.rules.fetch_add(1, Ordering::Relaxed) + 1;
        (number, Arc::clone(&self.hidden))
    }
}

impl Core {
    /// Does a piece of the deletion of what has expired, if its time has come. `false` if there is
    /// nothing to do now.
    pub(crate) fn step_expiry(self: &Arc<Self>) -> Result<bool> {
        if !self.expirations.is_any() || self.options.read_only {
            return Ok(false);
        }
        let mut sweep = self.expirations.sweep.lock();
        let now = self.options.env.now();
        if now < sweep.not_before {
            return Ok(false);
        }
        // Until it is known how this ends.
        sweep.not_before = now + PASS_PAUSE;
        if self.is_behind() {
            sweep.not_before = now + PAUSE_BUSY;
            return Ok(false);
        }
        // Its own last one is counted since.
        let others = self.log.commits.load(Ordering::Relaxed).saturating_sub(sweep.commits) > 1;
        let more = self.sweep_some(&mut sweep, &mut |_, _| {})?;
        sweep.commits = self.log.commits.load(Ordering::Relaxed);
        if more {
            let waits = others && sweep.lag_ms < LATE_MS;
            sweep.not_before = now + if waits { PAUSE_BUSY } else { PAUSE };
        }
        Ok(more)
    }

    /// As `step_expiry`, whatever the time; tells of each document before it is deleted.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn step_expiry_now(
        self: &Arc<Self>,
        tell: &mut dyn FnMut(u32, &Bytes),
    ) -> Result<bool> {
        if !self.expirations.is_any() {
            return Ok(false);
        }
        let mut sweep = self.expirations.sweep.lock();
        self.sweep_some(&mut sweep, tell)
    }

    /// A batch. `false` at the end of a pass.
    fn sweep_some(
        self: &Arc<Self>,
        sweep: &mut Sweep,
        tell: &mut dyn FnMut(u32, &Bytes),
    ) -> Result<bool> {
        if sweep.rest.is_empty() {
            self.begin_pass(sweep)?;
        }
        let Some(stretch) = sweep.rest.front_mut() else { return Ok(false) };
        let documents = stretch.documents;
        let (due, late_ms, is_end) = self.due_in(stretch)?;
        if is_end {
            sweep.rest.pop_front();
        }
        // A date of long ago may have been written just now.
        let since = self.options.env.now().saturating_sub(sweep.complete_since);
        let since_ms = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
        sweep.lag_ms = sweep.lag_ms.max(late_ms.min(since_ms));
        self.expirations.lag_ms.fetch_max(sweep.lag_ms, Ordering::Relaxed);
        self.delete_expired(documents, &due, tell)?;
        if sweep.rest.is_empty() {
            let lag_ms = std::mem::take(&mut sweep.lag_ms);
            sweep.complete_since = sweep.began;
            self.expirations.lag_ms.store(lag_ms, Ordering::Relaxed);
        }
        Ok(!sweep.rest.is_empty())
    }

    fn begin_pass(&self, sweep: &mut Sweep) -> Result<()> {
        let (now, wall) = (self.options.env.now(), self.wall_now());
        sweep.began = now;
        let ahead_ms = if now >= sweep.offsets_not_before {
            sweep.offsets_not_before = now + OFFSETS_PAUSE;
            OFFSET_MS_MAX
        } else {
            0
        };
        for (documents, state) in self.states.load().iter() {
            let Some(expiry) = &state.expiry else { continue };
            for (index, after_ms) in expiry.indexes() {
                let until_ms = wall.saturating_sub(after_ms);
                for range in ranges(until_ms, ahead_ms) {
                    let descending = index.fields()[0].descending;
                    let range = if descending { range.inverted() } else { range };
                    let (from, to) = range.keys();
                    let index = Arc::clone(index);
                    sweep.rest.push_back(Stretch {
                        documents: *documents,
                        index,
                        after_ms,
                        from,
                        to,
                    });
                }
            }
        }
        Ok(())
    }

    /// Ids of documents that a stretch says have expired, each once; since when at most; and whether
    /// it ends there.
    fn due_in(self: &Arc<Self>, stretch: &mut Stretch) -> Result<(Vec<Bytes>, u64, bool)> {
        let wall = self.wall_now();
        let hold = Hold::new(self, false, 0);
        let mut iter = self.iter(stretch.index.keyspace, &stretch.from, hold.seq)?;
        let (batch, examined) =
            if self.options.env.has_threads() { (BATCH_MAX, EXAMINED_MAX) } else { (2, 5) };
        let (mut due, mut late_ms): (Vec<Bytes>, u64) = (Vec::new(), 0);
        for _ in 0..examined {
            let entry = iter.next_visible()?;
            let entry =
                entry.filter(|entry| stretch.to.as_ref().is_none_or(|to| entry.key[..] < to[..]));
            let Some(entry) = entry else { return Ok((due, late_ms, true)) };
            stretch.from = entry.key.to_vec();
            stretch.from.push(0);
            let date = stretch.index.first_value(&entry.key).and_then(|value| date_ms(&value));
            let Some(date) = date else { continue };
            let late = wall.saturating_sub(date.saturating_add(stretch.after_ms));
            let Ok(late) = u64::try_from(late) else { continue };
            let id = stretch.index.id_of(&entry.key)?;
            late_ms = late_ms.max(late);
            if !due.contains(&id) {
                due.push(id);
            }
            if due.len() == batch {
                break;
            }
        }
        Ok((due, late_ms, false))
    }

    /// Deletes those of the documents that have expired and that nobody has locked.
    fn delete_expired(
        self: &Arc<Self>,
        documents: u32,
        ids: &[Bytes],
        tell: &mut dyn FnMut(u32, &Bytes),
    ) -> Result<()> {
        if ids.is_empty() {
            return Ok(());
        }
        let locks = TryLocks { core: self, owner: self.locks.owner(0) };
        if !locks.try_lock(LockId::Store, LockMode::IntentExclusive)
            || !locks.try_lock(LockId::Collection(documents), LockMode::IntentExclusive)
        {
            return Ok(());
        }
        // Under the lock of the collection it stays what it is.
        let Some(state) = self.collection_state(documents) else { return Ok(()) };
        let Some(expiry) = &state.expiry else { return Ok(()) };
        let wall = self.wall_now();
        let (mut effects, mut bytes, mut deleted) = (Effects::default(), 0, 0);
        let bytes_max = BATCH_BYTES_MAX.min(self.options.wal_file_bytes as usize / 4);
        for id in ids {
            if bytes > bytes_max {
                break;
            }
            if !locks.try_lock(LockId::Record(documents, id.clone()), LockMode::Exclusive) {
                continue;
            }
            let Some((_, Some(old))) = self.read_latest(documents, id)? else { continue };
            let is_due = expiry.due_ms(&old, u64::MAX) <= wall;
            if !is_due && !bug("expire_unseen") {
                continue;
            }
            tell(documents, id);
            let mut own = Effects::default();
            own.ops.push(Op { keyspace: documents, key: id.clone(), value: None });
            let change = Change { key: id, old: Some(&old), new: None };
            for follower in &state.followers {
                if !bug("expire_unfollowed") {
                    follower.follow(&change, &mut own)?;
                }
            }
            bytes += bytes_of(&own);
            effects.ops.append(&mut own.ops);
            effects.stamped.append(&mut own.stamped);
            effects.notices.append(&mut own.notices);
            deleted += 1;
        }
        if deleted == 0 {
            return Ok(());
        }
        let mut ops = effects.ops;
        let _stamped = self.stamp(&mut effects.stamped);
        ops.append(&mut effects.stamped);
        self.submit_with(&ops, None, effects.notices, true)?;
        self.expirations.deleted.fetch_add(deleted, Ordering::Relaxed);
        Ok(())
    }
}

impl Core {
    /// Flushing and compaction have more to do than is good for readers.
    fn is_behind(&self) -> bool {
        let tree = self.tree();
        tree.levels.levels[0].len() >= self.options.l0_slow || tree.frozen.len() >= 2
    }
}

/// Locks that are taken without waiting, until it goes.
struct TryLocks<'a> {
    core: &'a Arc<Core>,
    owner: Arc<Owner>,
}

impl TryLocks<'_> {
    fn try_lock(&self, id: LockId, mode: LockMode) -> bool {
        // What would wait gives up its place at once.
        self.core.locks.request(&self.owner, id, mode, Duration::ZERO).is_none()
    }
}

impl Drop for TryLocks<'_> {
    fn drop(&mut self) {
        self.core.locks.release_all(&self.owner);
    }
}

fn bytes_of(effects: &Effects) -> usize {
    let ops = effects.ops.iter().chain(&effects.stamped);
    ops.map(|op| op.key.len() + op.value.as_ref().map_or(0, Bytes::len)).sum()
}

/// Where values lie that may be dates up to this one.
fn ranges(until_ms: i64, ahead_ms: i64) -> [KeyRange; 2] {
    // What a fraction makes larger counts as well.
    let to = Bound::Before(number(until_ms.saturating_add(1)));
    let number = KeyRange { from: Bound::Before(vec![key::NUMBER]), to };
    // With a second that is whole a string may leave out the rest, and sort behind those that do not.
    let until = string_of(until_ms.saturating_add(ahead_ms).saturating_add(1000));
    let to = Bound::After(key::string_prefix(&until));
    [number, KeyRange { from: Bound::Before(vec![key::STRING]), to }]
}

fn number(ms: i64) -> Vec<u8> {
    let (mut value, mut out) = (Vec::new(), Vec::new());
    crate::jb1::put_integer(&mut value, ms);
    let _ = key::encode(&value, &mut out);
    out
}
