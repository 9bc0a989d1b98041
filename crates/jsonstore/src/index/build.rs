//! Building indexes while writers go on, and emptying those that were dropped.
//!
//! From the moment on that an index is in the settings writers keep it up. Then: a snapshot, taken
//! with nobody writing the collection; its documents, sorted by key; the entries put below those of
//! the writers; and, for a unique index, a look at all of it. Each part takes the collection's lock
//! for a moment only. Wherever it ends, the next opening begins again: what is there already is put
//! there once more.

use std::{
    collections::BTreeSet,
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use parking_lot::Mutex;

use super::{
    BTreeIndex, Index,
    catalog::{self, BATCH_OPS},
};
use crate::{
    bugs::bug,
    commit::Op,
    engine::{Core, Hold, Sorter},
    error::{Error, Result},
    follow::Effects,
    key::Id,
    lock::{LockId, LockMode, Owner, Wait},
    lsm::{MergeIter, Output},
};

/// Documents or entries looked at between two looks at what else is going on.
const STEP_ITEMS: usize = 512;
/// How often a build begins anew because its snapshot was given up.
const ATTEMPTS_MAX: u32 = 8;

/// Work on the indexes of one collection that goes on in the background.
#[derive(Debug)]
pub(crate) struct Job {
    /// The keyspace of the documents.
    documents: u32,
    task: Task,
    pub(super) outcome: Arc<Outcome>,
}

#[derive(Debug)]
enum Task {
    Build {
        keyspace: u32,
        attempts: u32,
        stage: Stage,
    },
    /// Add an index, or drop one, as a part of automatic indexing.
    Alter {
        lock: CollectionLock,
        change: Alteration,
    },
    /// Empty these keyspaces, then fail with this, if anything.
    Empty {
        keyspaces: BTreeSet<u32>,
        error: Option<Error>,
    },
}

#[derive(Debug)]
enum Alteration {
    Add(Box<Index>),
    /// By its name, if it is automatic still.
    Drop(String),
}

#[derive(Debug)]
enum Stage {
    /// Waits until nobody writes, to take the snapshot.
    Start(CollectionLock),
    Scan(Box<Scan>),
    /// The entries are there; waits for writers that began before, who could not see them.
    Barrier(CollectionLock),
    /// Looks for keys that are there twice.
    Check(Box<Check>),
    /// Waits until nobody writes, to say that it is ready, or that it is no more.
    Flip(CollectionLock, Option<Error>),
}

#[derive(Debug)]
struct Scan {
    hold: Hold,
    iter: MergeIter,
    sorter: Sorter,
    multikey: Effects,
}

#[derive(Debug)]
struct Check {
    hold: Hold,
    iter: MergeIter,
    last: Option<Bytes>,
}

/// What a step of a job comes to.
enum Step {
    Again,
    /// Somebody else has to do something first.
    Blocked,
    Done,
}

/// How a job ended, for whoever waits for it.
#[derive(Debug, Default)]
pub(super) struct Outcome(Mutex<(Option<Result<()>>, Vec<Waker>)>);

impl Outcome {
    pub(super) fn poll(&self, context: &Context<'_>) -> Poll<Result<()>> {
        let mut inner = self.0.lock();
        match &inner.0 {
            Some(result) => Poll::Ready(result.clone()),
            None => {
                inner.1.push(context.waker().clone());
                Poll::Pending
            }
        }
    }

    pub(super) fn is_set(&self) -> bool {
        self.0.lock().0.is_some()
    }

    fn set(&self, result: Result<()>) {
        let mut inner = self.0.lock();
        inner.0 = Some(result);
        let wakers = std::mem::take(&mut inner.1);
        drop(inner);
        wakers.into_iter().for_each(Waker::wake);
    }
}

/// The exclusive lock of a collection, for who cannot wait in a future.
#[derive(Debug)]
struct CollectionLock {
    core: Arc<Core>,
    documents: u32,
    owner: Arc<Owner>,
    wanted: Vec<(LockId, LockMode)>,
    wait: Option<Wait>,
}

impl CollectionLock {
    fn new(core: &Arc<Core>, documents: u32) -> Self {
        let wanted = vec![
            (LockId::Collection(documents), LockMode::Exclusive),
            (LockId::Store, LockMode::IntentExclusive),
        ];
        let owner = core.locks.owner(0);
        Self { core: Arc::clone(core), documents, owner, wanted, wait: None }
    }

    /// Whether it is held now. A time limit or a deadlock begins the wait anew.
    fn is_held(&mut self) -> bool {
        loop {
            if let Some(wait) = &mut self.wait {
                match wait.poll(Waker::noop()) {
                    Poll::Pending => return false,
                    Poll::Ready(Ok(())) => self.wait = None,
                    Poll::Ready(Err(_)) => {
                        *self = Self::new(&Arc::clone(&self.core), self.documents);
                        return false;
                    }
                }
                self.wanted.pop();
            }
            let Some((id, mode)) = self.wanted.last().cloned() else { return true };
            let options = &self.core.options;
            let deadline = options.env.now().saturating_add(options.lock_timeout);
            self.wait = self.core.locks.request(&self.owner, id, mode, deadline);
            if self.wait.is_none() {
                self.wanted.pop();
            }
        }
    }
}

impl Drop for CollectionLock {
    fn drop(&mut self) {
        self.wait = None;
        self.core.locks.release_all(&self.owner);
    }
}

impl Core {
    /// Queues what the settings leave to do: builds that did not end, keyspaces that are not empty.
    pub(crate) fn queue_index_jobs(self: &Arc<Self>) {
        if self.options.read_only {
            return;
        }
        for (documents, state) in &**self.states.load() {
            for index in state.indexes.iter().filter(|index| !index.is_ready()) {
                self.queue_build(*documents, index.keyspace);
            }
            self.queue_emptying(*documents);
        }
    }

    pub(crate) fn has_index_jobs(&self) -> bool {
        !self.index_jobs.lock().is_empty()
    }

    /// Whoever waits for one gets `Closed`; the next opening goes on with them.
    pub(crate) fn end_index_jobs(&self) {
        let jobs = std::mem::take(&mut *self.index_jobs.lock());
        jobs.iter().for_each(|job| job.outcome.set(Err(Error::Closed)));
    }

    pub(super) fn queue_build(self: &Arc<Self>, documents: u32, keyspace: u32) -> Arc<Outcome> {
        let stage = Stage::Start(CollectionLock::new(self, documents));
        self.queue(documents, Task::Build { keyspace, attempts: 0, stage })
    }

    pub(super) fn queue_emptying(self: &Arc<Self>, documents: u32) {
        let keyspaces = self.collection_state(documents).map(|s| catalog::dropped(&s.settings));
        if let Some(keyspaces) = keyspaces.filter(|keyspaces| !keyspaces.is_empty()) {
            self.queue(documents, Task::Empty { keyspaces, error: None });
        }
    }

    /// Makes an index without anybody who waits for it.
    pub(crate) fn queue_automatic(self: &Arc<Self>, documents: u32, index: Index) {
        let change = Alteration::Add(Box::new(index));
        self.queue_alteration(documents, change);
    }

    /// Drops an automatic index.
    pub(crate) fn queue_automatic_drop(self: &Arc<Self>, documents: u32, name: &str) {
        self.queue_alteration(documents, Alteration::Drop(name.to_owned()));
    }

    fn queue_alteration(self: &Arc<Self>, documents: u32, change: Alteration) {
        let lock = CollectionLock::new(self, documents);
        self.queue(documents, Task::Alter { lock, change });
    }

    fn queue(&self, documents: u32, task: Task) -> Arc<Outcome> {
        let outcome = Arc::new(Outcome::default());
        let job = Job { documents, task, outcome: Arc::clone(&outcome) };
        self.index_jobs.lock().push_back(job);
        self.wake_background();
        outcome
    }

    /// Does a piece of the work on indexes. `false` if there is none that can be done now.
    pub(crate) fn step_indexes(self: &Arc<Self>) -> bool {
        // What fails now is looked at again.
        let _ = self.step_advice();
        let count = self.index_jobs.lock().len();
        for _ in 0..count {
            let Some(mut job) = self.index_jobs.lock().pop_front() else { return false };
            match self.step_job(&mut job) {
                Ok(Step::Again) => {
                    self.index_jobs.lock().push_front(job);
                    return true;
                }
                // Others may go on meanwhile.
                Ok(Step::Blocked) => self.index_jobs.lock().push_back(job),
                Ok(Step::Done) => {
                    let error = match job.task {
                        Task::Empty { error: Some(error), .. } => Err(error),
                        _ => Ok(()),
                    };
                    job.outcome.set(error);
                    return true;
                }
                // It is in the settings, so the next opening sees to it.
                Err(e) => {
                    job.outcome.set(Err(e));
                    return true;
                }
            }
        }
        false
    }

    fn step_job(self: &Arc<Self>, job: &mut Job) -> Result<Step> {
        self.check_open()?;
        let documents = job.documents;
        match &mut job.task {
            Task::Alter { lock, change } => match lock.is_held() {
                true => self.step_alteration(documents, change),
                false => Ok(Step::Blocked),
            },
            Task::Empty { keyspaces, .. } => self.step_emptying(documents, keyspaces),
            Task::Build { keyspace, attempts, stage } => {
                let index = self.collection_state(documents).and_then(|state| {
                    state.indexes.iter().find(|index| index.keyspace == *keyspace).cloned()
                });
                // Dropped meanwhile.
                let absent = || Error::IndexAbsent { index: String::new() };
                let index = index.filter(|index| !index.is_ready()).ok_or_else(absent)?;
                match self.step_build(documents, &index, stage) {
                    Err(Error::SnapshotTooOld) if *attempts < ATTEMPTS_MAX => {
                        *attempts += 1;
                        *stage = Stage::Start(CollectionLock::new(self, documents));
                        Ok(Step::Again)
                    }
                    Err(Error::Closed) => Err(Error::Closed),
                    Err(e) if !matches!(stage, Stage::Flip(..)) => {
                        *stage = Stage::Flip(CollectionLock::new(self, documents), Some(e));
                        Ok(Step::Again)
                    }
                    Ok(Step::Done) => {
                        let Stage::Flip(_, error) = stage else { return Ok(Step::Done) };
                        let Some(error) = error.take() else { return Ok(Step::Done) };
                        let keyspaces = BTreeSet::from([*keyspace]);
                        job.task = Task::Empty { keyspaces, error: Some(error) };
                        Ok(Step::Again)
                    }
                    other => other,
                }
            }
        }
    }

    /// The caller has the collection locked.
    fn step_alteration(self: &Arc<Self>, documents: u32, change: &Alteration) -> Result<Step> {
        match change {
            Alteration::Add(index) => {
                let index = Index::clone(index);
                let name = index.effective_name();
                self.alter_number(documents, |settings| catalog::add(self, settings, index))?;
                let state = self.collection_state(documents);
                let made = state.iter().flat_map(|state| &state.indexes).find(|i| i.name() == name);
                if let Some(made) = made {
                    self.queue_build(documents, made.keyspace);
                }
            }
            Alteration::Drop(name) => {
                let state = self.collection_state(documents);
                let mut indexes = state.iter().flat_map(|state| &state.indexes);
                if indexes.any(|index| index.name() == *name && index.is_automatic()) {
                    self.alter_number(documents, |settings| catalog::remove(settings, name))?;
                    self.queue_emptying(documents);
                }
            }
        }
        Ok(Step::Done)
    }

    fn step_build(
        self: &Arc<Self>,
        documents: u32,
        index: &Arc<BTreeIndex>,
        stage: &mut Stage,
    ) -> Result<Step> {
        match stage {
            Stage::Start(lock) => {
                if !lock.is_held() {
                    return Ok(Step::Blocked);
                }
                // With nobody writing, everything up to here is in the memtable.
                let hold = Hold::new(self, false, self.log.last_seq());
                let iter = self.iter(documents, &[], hold.seq)?;
                let sorter = Sorter::new(self, index.keyspace);
                let scan = Scan { hold, iter, sorter, multikey: Effects::default() };
                *stage = Stage::Scan(Box::new(scan));
            }
            Stage::Scan(scan) => {
                if !scan.step(index)? && !bug("ready_before_scanned") {
                    return Ok(Step::Again);
                }
                // What a crash could take from the documents must not be in the index.
                if self.log.visible() < scan.hold.seq {
                    self.log.sync_due.store(true, Ordering::Relaxed);
                    self.mark();
                    return Ok(Step::Blocked);
                }
                let next = Stage::Barrier(CollectionLock::new(self, documents));
                let Stage::Scan(scan) = std::mem::replace(stage, next) else {
                    return Ok(Step::Again);
                };
                scan.install(self, index)?;
            }
            Stage::Barrier(lock) => {
                if !lock.is_held() {
                    return Ok(Step::Blocked);
                }
                let hold = Hold::new(self, false, self.log.last_seq());
                *stage = if index.is_unique() && !bug("skip_unique_check") {
                    let iter = self.iter(index.keyspace, &[], hold.seq)?;
                    Stage::Check(Box::new(Check { hold, iter, last: None }))
                } else {
                    Stage::Flip(CollectionLock::new(self, documents), None)
                };
            }
            Stage::Check(check) => {
                if check.step(index)? {
                    *stage = Stage::Flip(CollectionLock::new(self, documents), None);
                }
            }
            Stage::Flip(lock, error) => {
                if !lock.is_held() {
                    return Ok(Step::Blocked);
                }
                let ready = error.is_none();
                self.end_build(documents, index, ready)?;
                return Ok(Step::Done);
            }
        }
        Ok(Step::Again)
    }

    /// Makes the index ready, or drops it. The caller has the collection locked.
    fn end_build(&self, documents: u32, index: &BTreeIndex, ready: bool) -> Result<()> {
        let keyspace = index.keyspace;
        self.alter_number(documents, |settings| {
            let mut all = catalog::stored(settings)?;
            let mut dropped = catalog::dropped(settings);
            if ready {
                all.iter_mut().filter(|i| i.keyspace == keyspace).for_each(|i| i.is_ready = true);
            } else {
                all.retain(|index| index.keyspace != keyspace);
                dropped.insert(keyspace);
            }
            catalog::put(settings, &all, &dropped);
            Ok(())
        })
    }

    /// Removes entries; at the end the keyspaces are free for other indexes. `Done` then.
    fn step_emptying(self: &Arc<Self>, documents: u32, keyspaces: &BTreeSet<u32>) -> Result<Step> {
        for keyspace in keyspaces {
            let hold = Hold::new(self, false, self.log.last_seq());
            let mut effects = Effects::default();
            let mut iter = self.iter(*keyspace, &[], hold.seq)?;
            while effects.ops.len() < BATCH_OPS {
                let Some(entry) = iter.next_visible()? else { break };
                effects.ops.push(Op { keyspace: *keyspace, key: entry.key, value: None });
            }
            if effects.ops.is_empty() {
                effects.ops = self.mark_deletions(*keyspace)?;
            }
            if !effects.ops.is_empty() {
                self.submit_batch(&mut effects)?;
                return Ok(Step::Again);
            }
        }
        self.alter_number(documents, |settings| {
            let all = catalog::stored(settings)?;
            let rest = &catalog::dropped(settings) - keyspaces;
            catalog::put(settings, &all, &rest);
            Ok(())
        })?;
        Ok(Step::Done)
    }
}

/// In a simulation much can happen between two documents.
fn step_items(core: &Core) -> usize {
    if core.options.env.has_threads() { STEP_ITEMS } else { 3 }
}

impl Scan {
    /// Takes some documents. `true` if there are no more.
    fn step(&mut self, index: &BTreeIndex) -> Result<bool> {
        self.hold.core.log.check_snapshot(self.hold.seq)?;
        for _ in 0..step_items(&self.hold.core) {
            let Some(entry) = self.iter.next_visible()? else { return Ok(true) };
            let document = entry.value.unwrap_or_default();
            let entries = index.entries(&entry.key, &document)?;
            if let Some(field) = entries.multikey {
                index.note_multikey(field, &mut self.multikey);
            }
            for (key, value) in &entries.pairs {
                self.sorter.push(key, Some(value))?;
            }
        }
        Ok(false)
    }

    /// Puts the entries below what writers put there meanwhile.
    fn install(mut self: Box<Self>, core: &Arc<Core>, index: &BTreeIndex) -> Result<()> {
        core.submit_batch(&mut self.multikey)?;
        let pushed = self.sorter.count;
        if pushed == 0 {
            return Ok(());
        }
        let next = || core.next_file();
        let mut output = Output::new(core.output_config(&next));
        let seq = self.hold.seq;
        self.sorter.finish(&mut |key, value| output.add(index.keyspace, key, seq, value, None))?;
        let run = output.finish()?;
        let written: u64 = run.iter().map(|info| info.entries).sum();
        if written != pushed {
            core.remove_segments(&run);
            let text = format!("{pushed} entries were sorted, {written} written");
            return Err(Error::corrupt(format!("index {}", index.name()), 0, text));
        }
        core.install_below(run, seq)
    }
}

impl Check {
    /// Looks at some entries. `true` if there are no more.
    fn step(&mut self, index: &BTreeIndex) -> Result<bool> {
        for _ in 0..step_items(&self.hold.core) {
            let Some(entry) = self.iter.next_visible()? else { return Ok(true) };
            if let Some(last) = &self.last {
                let values = index.values_of(&entry.key)?;
                if index.values_of(last)? == values {
                    return Err(self.refusal(index, &values, &entry.key));
                }
            }
            self.last = Some(entry.key);
        }
        Ok(false)
    }

    fn refusal(&self, index: &BTreeIndex, values: &[u8], key: &Bytes) -> Error {
        let id = |entry: &Bytes| {
            let id = index.id_of(entry).ok()?;
            Some(Id(id.to_vec()).to_json())
        };
        let ids = [self.last.as_ref().and_then(id), id(key)];
        let (name, key) = (index.name().to_owned(), index.describe(values));
        Error::IndexNotUnique { index: name, key, ids: ids.into_iter().flatten().collect() }
    }
}
