//! Pipelined group commit: one sequence, one log, many waiters.
//!
//! A committer takes its place in the queue, applies its changes to the memtable (invisible until
//! published) and waits. Whoever waits first leads: it writes and syncs everything queued,
//! publishes it, hands the lead to a waiter of the next group and wakes its own. A lone writer so pays no
//! thread switch; many writers share each sync.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicBool as StopFlag, AtomicU64 as Counter},
    },
    task::Waker,
};

use bytes::Bytes;

use crate::{
    bugs::bug,
    codec::{Reader, put_bytes, put_varint},
    error::{Error, Result},
    frame::FrameType,
    live::Notice,
    lsm::Snapshots,
    memtable::Memtable,
    sync::{
        Condvar, Mutex,
        atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering},
        spin_loop,
        thread::{self, Thread},
    },
    wal::{Record, WalWriter},
};

/// A group is closed at this size, so that a flood of large transactions cannot starve the waiters.
const GROUP_BYTES_MAX: usize = 4 << 20;
/// Remembered commits for serializable validation, beyond which old transactions must retry.
const RECENT_MAX: usize = 1 << 18;
/// Commits that may come between the beginning of a load and its end: names of new keyspaces.
const LOAD_LEAD: u64 = 1 << 16;

/// One change.
#[derive(Debug, Clone)]
pub(crate) struct Op {
    pub(crate) keyspace: u32,
    pub(crate) key: Bytes,
    /// `None` deletes.
    pub(crate) value: Option<Bytes>,
}

const PUT: u8 = 1;
const DELETE: u8 = 2;
const PUT_AT_SEQ: u8 = 3;

/// In the keyspace of an operation: the sequence number, which only the commit gives, comes before
/// the key, big-endian. For logs of changes.
pub(crate) const AT_SEQ: u32 = 1 << 31;

/// The record of a transaction, and its operations as slices of it.
pub(crate) fn encode(ops: &[Op], origin: u64, wall_ms: u64) -> Bytes {
    let size: usize =
        ops.iter().map(|op| op.key.len() + op.value.as_ref().map_or(0, Bytes::len) + 16).sum();
    let mut out = Vec::with_capacity(size + 20);
    put_varint(&mut out, origin);
    put_varint(&mut out, wall_ms);
    put_varint(&mut out, ops.len() as u64);
    for op in ops {
        out.push(match (op.value.is_some(), op.keyspace & AT_SEQ) {
            (true, 0) => PUT,
            (true, _) => PUT_AT_SEQ,
            (false, _) => DELETE,
        });
        put_varint(&mut out, u64::from(op.keyspace & !AT_SEQ));
        put_bytes(&mut out, &op.key);
        if let Some(value) = &op.value {
            put_bytes(&mut out, value);
        }
    }
    Bytes::from(out)
}

/// The operations of the record of a commit, sharing its memory. `None` if it is malformed.
pub(crate) fn decode(payload: &Bytes, seq: u64) -> Option<Vec<Op>> {
    let mut reader = Reader::new(payload);
    reader.varint()?;
    reader.varint()?;
    let count = reader.length()?;
    let mut ops = Vec::with_capacity(count.min(payload.len() / 3));
    let slice = |reader: &mut Reader<'_>| -> Option<Bytes> {
        let len = reader.length()?;
        let from = reader.position();
        reader.take(len)?;
        Some(payload.slice(from..from + len))
    };
    for _ in 0..count {
        let kind = reader.u8()?;
        let keyspace = u32::try_from(reader.varint()?).ok()?;
        let mut key = slice(&mut reader)?;
        let value = match kind {
            PUT => Some(slice(&mut reader)?),
            PUT_AT_SEQ => {
                key = Bytes::from([&seq.to_be_bytes()[..], &key].concat());
                Some(slice(&mut reader)?)
            }
            DELETE => None,
            _ => return None,
        };
        ops.push(Op { keyspace, key, value });
    }
    reader.is_empty().then_some(ops)
}

/// The wall clock in a record, or in the mark of a load.
pub(crate) fn wall_ms(payload: &[u8]) -> Option<u64> {
    let mut reader = Reader::new(payload);
    reader.varint()?;
    reader.varint()
}

/// What a serializable transaction read: keys by hash, and ranges.
#[derive(Debug, Default, Clone)]
pub(crate) struct ReadSet {
    pub(crate) keys: std::collections::HashSet<u64, crate::codec::StableBuilder>,
    /// Keyspace, from, to (exclusive; `None` is the end).
    pub(crate) ranges: Vec<(u32, Vec<u8>, Option<Vec<u8>>)>,
}

impl ReadSet {
    fn touches(&self, op: &Op) -> bool {
        self.keys.contains(&crate::codec::hash_key(op.keyspace, &op.key))
            || self.ranges.iter().any(|(keyspace, from, to)| {
                *keyspace == op.keyspace
                    && op.key[..] >= from[..]
                    && to.as_ref().is_none_or(|to| op.key[..] < to[..])
                    && !bug("no_range_validation")
            })
    }
}

const WAITING: u8 = 0;
const DONE: u8 = 1;
const FAILED: u8 = 2;
/// The waiter shall lead the next group.
const LEAD: u8 = 3;

/// One commit on its way.
#[derive(Debug)]
pub(crate) struct Ticket {
    pub(crate) seq: u64,
    state: AtomicU8,
    applied: AtomicBool,
    thread: Option<Thread>,
    waker: Mutex<Option<Waker>>,
}

impl Ticket {
    /// The changes are in the memtable. Must be called exactly once, whatever happens.
    pub(crate) fn applied(&self) {
        self.applied.store(true, Ordering::Release);
    }

    fn finish(&self, state: u8) {
        self.state.store(state, Ordering::Release);
        if let Some(thread) = &self.thread {
            thread.unpark();
        }
        if let Some(waker) = self.waker.lock().take() {
            waker.wake();
        }
    }

    /// Registers a waker and says whether the commit is decided.
    pub(crate) fn poll(&self, waker: &Waker) -> Option<bool> {
        if let Some(done) = self.decided() {
            return Some(done);
        }
        *self.waker.lock() = Some(waker.clone());
        self.decided()
    }

    fn decided(&self) -> Option<bool> {
        match self.state.load(Ordering::Acquire) {
            DONE => Some(true),
            FAILED => Some(false),
            _ => None,
        }
    }
}

#[derive(Debug)]
struct Pending {
    record: Record,
    table: Arc<Memtable>,
    ticket: Arc<Ticket>,
    sync: bool,
    notices: Vec<Notice>,
}

#[derive(Debug)]
struct Recent {
    seq: u64,
    payload: Bytes,
}

#[derive(Debug)]
struct Sequence {
    next_seq: u64,
    queue: VecDeque<Pending>,
    has_leader: bool,
    poisoned: Option<String>,
    /// New commits are refused with this, without poisoning.
    refused: Option<Error>,
    recent: VecDeque<Recent>,
    /// Commits up to here are no longer remembered.
    forgotten: u64,
    active: Arc<Memtable>,
}

/// How a commit is asked for.
pub(crate) struct Request<'a> {
    pub(crate) payload: Bytes,
    pub(crate) reads: Option<(&'a ReadSet, u64)>,
    pub(crate) sync: bool,
    /// Sent once the commit can be seen.
    pub(crate) notices: Vec<Notice>,
    /// The caller will wait in a future rather than block.
    pub(crate) is_async: bool,
}

#[derive(Debug)]
pub(crate) struct Log {
    sequence: Mutex<Sequence>,
    wal: Mutex<WalWriter>,
    visible: AtomicU64,
    work: Condvar,
    pub(crate) snapshots: Mutex<Snapshots>,
    /// Snapshots up to here were given up.
    too_old: Counter,
    pub(crate) groups: Counter,
    pub(crate) commits: Counter,
    group_bytes_max: usize,
    /// Of commits that cannot be seen yet.
    notices: Mutex<Vec<Notice>>,
    /// The next group is synced even if nobody in it asks for it.
    pub(crate) sync_due: AtomicBool,
}

impl Log {
    pub(crate) fn new(wal: WalWriter, last_seq: u64, active: Arc<Memtable>) -> Self {
        let group_bytes_max = GROUP_BYTES_MAX.min(wal.file_bytes() as usize / 2);
        Self {
            group_bytes_max,
            notices: Mutex::default(),
            sync_due: AtomicBool::new(false),
            sequence: Mutex::new(Sequence {
                next_seq: last_seq + 1,
                queue: VecDeque::new(),
                has_leader: false,
                poisoned: None,
                refused: None,
                recent: VecDeque::new(),
                forgotten: last_seq,
                active,
            }),
            wal: Mutex::new(wal),
            visible: AtomicU64::new(last_seq),
            work: Condvar::new(),
            snapshots: Mutex::default(),
            too_old: Counter::new(0),
            groups: Counter::new(0),
            commits: Counter::new(0),
        }
    }

    /// The newest commit that no crash can lose, and that every reader sees.
    pub(crate) fn visible(&self) -> u64 {
        self.visible.load(Ordering::SeqCst)
    }

    /// Takes a snapshot that garbage collection respects until it is released.
    /// It sees at least everything up to `floor`.
    pub(crate) fn hold(&self, serializable: bool, now_ms: u64, floor: u64) -> u64 {
        let mut snapshots = self.snapshots.lock();
        let seq = self.visible().max(floor);
        snapshots.add(seq, serializable, now_ms);
        seq
    }

    pub(crate) fn release(&self, seq: u64, serializable: bool) {
        self.snapshots.lock().remove(seq, serializable);
    }

    /// Gives up snapshots that began at or before `since_ms`, unless they are the newest.
    pub(crate) fn cancel_snapshots(&self, since_ms: u64) {
        let mut snapshots = self.snapshots.lock();
        if let Some(newest) = snapshots.cancel(since_ms, self.visible()) {
            self.too_old.fetch_max(newest, Ordering::SeqCst);
        }
    }

    /// Fails if a registered snapshot was given up. To be asked after the tree was loaded: garbage
    /// that went because of it went later.
    pub(crate) fn check_snapshot(&self, seq: u64) -> Result<()> {
        if seq != 0 && seq <= self.too_old.load(Ordering::SeqCst) {
            return Err(Error::SnapshotTooOld);
        }
        Ok(())
    }

    /// The snapshots somebody may read at, now or later, and the newest of them.
    pub(crate) fn boundaries(&self) -> (Vec<u64>, u64) {
        let snapshots = self.snapshots.lock();
        let visible = self.visible();
        let mut boundaries: Vec<u64> = snapshots.held.keys().copied().collect();
        if bug("gc_ignores_snapshots") {
            boundaries.clear();
        }
        boundaries.push(visible);
        // A snapshot may lie beyond: of a session that sees its own commits at once.
        boundaries.sort_unstable();
        boundaries.dedup();
        (boundaries, visible)
    }

    /// Gives a transaction its place in the order. The caller must apply it to the memtable that
    /// comes back, then call `Ticket::applied`.
    pub(crate) fn submit(&self, request: Request<'_>) -> Result<(Arc<Ticket>, Arc<Memtable>)> {
        let mut sequence = self.sequence.lock();
        if let Some(cause) = &sequence.poisoned {
            return Err(Error::Poisoned { cause: cause.clone() });
        }
        if let Some(refusal) = &sequence.refused {
            return Err(refusal.clone());
        }
        if let Some((reads, snapshot)) = request.reads {
            sequence.validate(reads, snapshot)?;
        }
        let seq = sequence.next_seq;
        sequence.next_seq += 1;
        let ticket = Arc::new(Ticket {
            seq,
            state: AtomicU8::new(WAITING),
            applied: AtomicBool::new(false),
            thread: (!request.is_async).then(thread::current),
            waker: Mutex::new(None),
        });
        let table = Arc::clone(&sequence.active);
        sequence.recent.push_back(Recent { seq, payload: request.payload.clone() });
        sequence.queue.push_back(Pending {
            record: Record { kind: FrameType::Commit, seq, flags: 0, payload: request.payload },
            table: Arc::clone(&table),
            ticket: Arc::clone(&ticket),
            sync: request.sync,
            notices: request.notices,
        });
        if request.is_async && !sequence.has_leader {
            self.work.notify_one();
        }
        if bug("publish_before_sync") {
            self.visible.store(seq, Ordering::SeqCst);
        }
        Ok((ticket, table))
    }

    /// Blocks until the commit is durable (or written, if it asked for no more); leads if need be.
    pub(crate) fn wait(&self, ticket: &Ticket) -> Result<()> {
        loop {
            match ticket.state.load(Ordering::Acquire) {
                DONE => return Ok(()),
                FAILED => return Err(self.poison_error()),
                LEAD => {
                    ticket.state.store(WAITING, Ordering::Release);
                    self.lead_until(ticket.seq);
                    continue;
                }
                _ => {}
            }
            let leads = {
                let mut sequence = self.sequence.lock();
                // With nothing queued, this commit's group is written and its leader about to say so.
                let free = !sequence.has_leader
                    && !sequence.queue.is_empty()
                    && ticket.decided().is_none();
                sequence.has_leader |= free;
                free
            };
            if leads {
                self.lead_until(ticket.seq);
            } else if ticket.state.load(Ordering::Acquire) == WAITING {
                thread::park();
            }
        }
    }

    /// The log thread: leads when nobody who waits can. Returns when `stop` is set.
    pub(crate) fn serve(&self, stop: &StopFlag) {
        loop {
            let mut sequence = self.sequence.lock();
            while (sequence.has_leader || sequence.queue.is_empty())
                && !stop.load(Ordering::Relaxed)
            {
                self.work.wait(&mut sequence);
            }
            if sequence.has_leader || sequence.queue.is_empty() {
                return;
            }
            sequence.has_leader = true;
            drop(sequence);
            self.lead_until(u64::MAX);
        }
    }

    /// Wakes the log thread, so that it sees that it shall stop.
    pub(crate) fn wake_server(&self) {
        let _guard = self.sequence.lock();
        self.work.notify_all();
    }

    /// Writes one group if there is one; for simulations without threads.
    pub(crate) fn step(&self) -> bool {
        let mut sequence = self.sequence.lock();
        if sequence.queue.is_empty() || sequence.has_leader {
            return false;
        }
        sequence.has_leader = true;
        drop(sequence);
        self.lead_once();
        true
    }

    /// Leads groups until the commit `own` is decided or nothing is queued; the caller has set
    /// `has_leader`.
    fn lead_until(&self, own: u64) {
        while let Some((group, state)) = self.write_group() {
            if group.last().is_some_and(|p| p.ticket.seq >= own) {
                // The next group is on its way before this one's waiters are woken.
                self.pass_lead();
                finish(&group, state);
                return;
            }
            finish(&group, state);
        }
        self.pass_lead();
    }

    fn lead_once(&self) {
        let group = self.write_group();
        self.pass_lead();
        if let Some((group, state)) = group {
            finish(&group, state);
        }
    }

    fn pass_lead(&self) {
        let mut sequence = self.sequence.lock();
        let heir = sequence
            .queue
            .iter()
            .find(|p| p.ticket.thread.is_some())
            .map(|p| Arc::clone(&p.ticket));
        match heir {
            Some(heir) => {
                drop(sequence);
                heir.finish(LEAD);
            }
            None => {
                sequence.has_leader = false;
                if !sequence.queue.is_empty() {
                    self.work.notify_one();
                }
            }
        }
    }

    /// Takes what is queued, makes it durable and publishes it; the caller wakes its waiters.
    fn write_group(&self) -> Option<(Vec<Pending>, u8)> {
        let mut group = self.sequence.lock().take_group(self.group_bytes_max);
        let last = group.last().map(|p| p.ticket.seq)?;
        let sync = group.iter().any(|p| p.sync) || self.sync_due.swap(false, Ordering::Relaxed);
        let records: Vec<Record> = group.iter().map(|p| p.record.clone()).collect();
        let written = {
            let mut wal = self.wal.lock();
            let from = wal.position();
            for pending in &group {
                pending.table.note_lsn(from);
            }
            if bug("ack_before_write") {
                for pending in &group {
                    pending.ticket.state.store(DONE, Ordering::Release);
                }
            }
            wal.append(&records, sync)
        };
        drop(records);
        let state = match written {
            Ok(()) => {
                self.publish(&mut group, last, sync);
                DONE
            }
            Err(e) => {
                self.poison(&format!("writing to the log failed: {e}"));
                FAILED
            }
        };
        Some((group, state))
    }

    /// What is not synced is for the sessions that wrote it, until a later group is.
    fn publish(&self, group: &mut [Pending], last: u64, synced: bool) {
        for pending in &*group {
            let mut spins = 0_u32;
            while !pending.ticket.applied.load(Ordering::Acquire) {
                spins += 1;
                if spins > 20 { thread::yield_now() } else { spin_loop() }
            }
        }
        for pending in &mut *group {
            if !pending.notices.is_empty() {
                self.notices.lock().append(&mut pending.notices);
            }
        }
        if synced {
            self.publish_to(last);
        }
        let last = self.visible();
        self.groups.fetch_add(1, Ordering::Relaxed);
        self.commits.fetch_add(group.len() as u64, Ordering::Relaxed);
        let floor = {
            let snapshots = self.snapshots.lock();
            snapshots.oldest_serializable().map_or(last, |oldest| oldest.min(last))
        };
        self.sequence.lock().forget(floor);
    }

    /// The last sequence number given out, durable or not.
    pub(crate) fn last_seq(&self) -> u64 {
        self.sequence.lock().next_seq - 1
    }

    /// Stops all writing for good.
    pub(crate) fn poison(&self, cause: &str) {
        let mut sequence = self.sequence.lock();
        if sequence.poisoned.is_none() {
            sequence.poisoned = Some(cause.to_owned());
        }
        let waiting: Vec<Pending> = sequence.queue.drain(..).collect();
        drop(sequence);
        for pending in waiting {
            pending.ticket.finish(FAILED);
        }
    }

    pub(crate) fn is_poisoned(&self) -> bool {
        self.sequence.lock().poisoned.is_some()
    }

    pub(crate) fn poison_error(&self) -> Error {
        let cause = self.sequence.lock().poisoned.clone().unwrap_or_default();
        Error::Poisoned { cause }
    }

    /// Refuses new commits until called with `None`.
    pub(crate) fn refuse(&self, why: Option<Error>) {
        self.sequence.lock().refused = why;
    }

    /// Replaces the memtable that commits go to. `swap` runs while no commit can be sequenced.
    pub(crate) fn rotate(&self, swap: impl FnOnce(&Arc<Memtable>) -> Option<Arc<Memtable>>) {
        let mut sequence = self.sequence.lock();
        if let Some(fresh) = swap(&sequence.active) {
            sequence.active = fresh;
        }
    }

    /// A position from which the log holds everything that `tables` hold and everything later.
    pub(crate) fn floor(&self, tables: &[Arc<Memtable>]) -> u64 {
        // The lock keeps the leader from moving the position before it noted it.
        let wal = self.wal.lock();
        // Not the position: after a failed write it may lie in a file whose name no crash spares.
        tables.iter().map(|t| t.first_lsn()).fold(wal.durable(), u64::min)
    }

    /// Keeps the log that `tables` need from being recycled. Returns from where, to be unpinned
    /// later, and up to where the log is durable.
    pub(crate) fn pin(&self, tables: &[Arc<Memtable>]) -> (u64, u64) {
        let mut wal = self.wal.lock();
        let end = wal.durable();
        let floor = tables.iter().map(|t| t.first_lsn()).fold(end, u64::min);
        wal.pin(floor);
        (floor, end)
    }

    /// The number that a load will have once it is installed. Names of new keyspaces are committed
    /// meanwhile: they get smaller ones, so that nobody sees a number as great before.
    pub(crate) fn reserve(&self) -> u64 {
        let mut sequence = self.sequence.lock();
        if bug("load_seen_early") {
            sequence.next_seq += 1;
            return sequence.next_seq - 1;
        }
        sequence.next_seq + LOAD_LEAD
    }

    /// Gives out a reserved number and runs `act` while no group is being written, so that what comes
    /// later is seen later. `None` if commits are on their way, or some are not in segments yet.
    ///
    /// # Errors
    /// `Conflict` if the number came too late.
    pub(crate) fn take_reserved<T>(
        &self,
        seq: u64,
        is_flushed: impl FnOnce(&Memtable) -> bool,
        act: impl FnOnce(&mut WalWriter) -> T,
    ) -> Result<Option<T>> {
        let mut sequence = self.sequence.lock();
        if !sequence.is_idle() || !is_flushed(&sequence.active) {
            return Ok(None);
        }
        if sequence.next_seq > seq && !bug("load_seen_early") {
            return Err(Error::Conflict);
        }
        sequence.next_seq = sequence.next_seq.max(seq + 1);
        // A transaction that began before cannot be validated against a load.
        sequence.forgotten = sequence.forgotten.max(seq);
        sequence.has_leader = true;
        drop(sequence);
        Ok(Some(self.lead(act)))
    }

    /// Makes visible what became durable by another way than a group: a load, a mark.
    pub(crate) fn publish_to(&self, seq: u64) {
        self.visible.fetch_max(seq, Ordering::SeqCst);
        let notices = std::mem::take(&mut *self.notices.lock());
        notices.iter().for_each(Notice::send);
    }

    pub(crate) fn with_wal<T>(&self, act: impl FnOnce(&mut WalWriter) -> T) -> T {
        act(&mut self.wal.lock())
    }

    /// Runs `act` while no group is being written and nothing is queued; `None` if something is.
    pub(crate) fn when_idle<T>(&self, act: impl FnOnce(&mut WalWriter, u64) -> T) -> Option<T> {
        let mut sequence = self.sequence.lock();
        if !sequence.is_idle() {
            return None;
        }
        sequence.has_leader = true;
        let last = sequence.next_seq - 1;
        drop(sequence);
        Some(self.lead(|wal| act(wal, last)))
    }

    /// Runs `act` in the place of whoever writes groups, which the caller has taken.
    fn lead<T>(&self, act: impl FnOnce(&mut WalWriter) -> T) -> T {
        let done = act(&mut self.wal.lock());
        self.pass_lead();
        done
    }
}

fn finish(group: &[Pending], state: u8) {
    for pending in group {
        pending.ticket.finish(state);
    }
}

impl Sequence {
    /// Nothing is being written, nothing waits, and something may be written.
    fn is_idle(&self) -> bool {
        !self.has_leader && self.queue.is_empty() && self.poisoned.is_none()
    }

    fn validate(&self, reads: &ReadSet, snapshot: u64) -> Result<()> {
        if bug("no_validation") {
            return Ok(());
        }
        if snapshot < self.forgotten {
            return Err(Error::Conflict);
        }
        let from = self.recent.partition_point(|r| r.seq <= snapshot);
        for recent in self.recent.range(from..) {
            let ops = decode(&recent.payload, recent.seq).unwrap_or_default();
            if ops.iter().any(|op| reads.touches(op)) {
                return Err(Error::Conflict);
            }
        }
        Ok(())
    }

    fn take_group(&mut self, bytes_max: usize) -> Vec<Pending> {
        let mut bytes = 0;
        let mut count = 0;
        for pending in &self.queue {
            bytes += pending.record.payload.len() + crate::frame::HEADER + 16;
            if count > 0 && bytes > bytes_max {
                break;
            }
            count += 1;
        }
        self.queue.drain(..count).collect()
    }

    fn forget(&mut self, floor: u64) {
        while self.recent.front().is_some_and(|r| r.seq <= floor || self.recent.len() > RECENT_MAX)
        {
            if let Some(gone) = self.recent.pop_front() {
                self.forgotten = gone.seq;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_round_trip_and_damage_is_refused() {
        let ops = [
            Op {
                keyspace: 1,
                key: Bytes::from_static(b"a"),
                value: Some(Bytes::from_static(b"1")),
            },
            Op { keyspace: 900, key: Bytes::from_static(b""), value: None },
        ];
        let payload = encode(&ops, 7, 1234);
        let back = decode(&payload, 7).unwrap();
        assert_eq!(back.len(), 2);
        assert_eq!(
            (back[0].key.clone(), back[0].value.clone()),
            (ops[0].key.clone(), ops[0].value.clone())
        );
        assert_eq!((back[1].keyspace, back[1].value.clone()), (900, None));
        for len in 0..payload.len() {
            assert!(decode(&payload.slice(..len), 7).is_none(), "cut at {len}");
        }
    }
}
