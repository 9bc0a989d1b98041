//! Transactions: a private write set, locks on what is written, validation of what was read.
//!
//! - `locks`: locking documents, and reading them under their locks
//! - `submit`: putting the write set into the log

use std::{
    collections::BTreeMap,
    future::poll_fn,
    sync::{Arc, atomic::Ordering},
};

use bytes::Bytes;
use parking_lot::Mutex;

use super::{Collection, Document, Input, Keyspace, Range, Store, executor::may_block};
use crate::{
    bugs::bug,
    catalog::States,
    codec::hash_key,
    commit::ReadSet,
    engine::{Core, Hold, View},
    error::{DocumentError, Error, Result},
    expiry::Hide,
    follow::{Effects, Mark},
    jb1::{self, Update},
    key::Id,
    lock::{LockId, LockMode, Owner},
    observe::Operation,
    options::Durability,
    plan::KeyRange,
};

mod locks;
mod submit;

/// What a transaction may see of others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Isolation {
    /// Each read sees the newest committed state; for single operations.
    Latest,
    /// All reads see one moment; of two that write the same document, the first to commit wins.
    /// Write skew is possible.
    Snapshot,
    /// As if transactions ran one after the other.
    Serializable,
}

/// What [`Transaction::lock`] locks.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Target<'a> {
    /// Everything.
    Store,
    /// One collection.
    Collection(&'a Collection),
    /// One document.
    Record(&'a Collection, Id),
    /// One field of a document, by its dotted path.
    Field(&'a Collection, Id, &'a str),
}

/// A transaction. Clones are handles to the same one; when the last goes, it rolls back.
#[derive(Debug, Clone)]
pub struct Transaction {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    store: Store,
    isolation: Isolation,
    owner: Arc<Owner>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    hold: Option<Hold>,
    writes: BTreeMap<(u32, Bytes), Write>,
    reads: ReadSet,
    bytes: usize,
    /// The newest version read under a lock; it may not be durable yet.
    provisional: u64,
    /// What followed documents were before, as read under their lock.
    before: BTreeMap<(u32, Bytes), Option<Bytes>>,
    /// Writes of whole documents that concern nobody, as of this generation of the settings.
    unconcerned: BTreeMap<(u32, Bytes), u64>,
    /// What follows the writes.
    followed: Effects,
    finished: bool,
}

#[derive(Debug, Clone)]
pub(super) enum Write {
    Put(Bytes),
    Delete,
    /// Applied to the newest version at commit, so writers of other fields do not conflict.
    Patch(Vec<Update>),
}

impl Drop for Shared {
    fn drop(&mut self) {
        if !bug("leak_locks") {
            self.store.core().locks.release_all(&self.owner);
        }
    }
}

impl Transaction {
    pub(crate) fn begin(store: &Store, isolation: Isolation, victim_count: u32) -> Self {
        let core = store.core();
        let floor = store.session.seq();
        let hold = (isolation != Isolation::Latest)
            .then(|| Hold::new(core, isolation == Isolation::Serializable, floor));
        let shared = Shared {
            store: store.clone(),
            isolation,
            owner: core.locks.owner(victim_count),
            state: Mutex::new(State { hold, ..State::default() }),
        };
        Self { shared: Arc::new(shared) }
    }

    /// The document as this transaction sees it, its own changes included.
    ///
    /// # Errors
    /// I/O errors and [`Error::Corruption`].
    pub async fn get(
        &self,
        collection: &Collection,
        id: impl Into<Id>,
    ) -> Result<Option<Document>> {
        let id = id.into();
        self.check()?;
        let Some(keyspace) = self.readable(collection)? else { return Ok(None) };
        let key = Bytes::copy_from_slice(id.as_bytes());
        let own = self.own(keyspace, &key);
        let hide = self.hide(keyspace);
        match own {
            Some(Write::Put(value)) if hide.hides(&value) => return Ok(None),
            Some(Write::Put(value)) => return document(u64::MAX, &value).map(Some),
            Some(Write::Delete) => return Ok(None),
            Some(Write::Patch(_)) | None => {}
        }
        self.note_read(keyspace, &key);
        if let Some(Write::Patch(patches)) = own {
            let base = self.base(keyspace, &key).await?;
            let Some((rev, value)) = base else { return Ok(None) };
            let value = self.patched(&value, &patches)?;
            return if hide.hides(&value) { Ok(None) } else { document(rev, &value).map(Some) };
        }
        let view = match self.snapshot() {
            Some(seq) => View::Snapshot(seq),
            None => View::Newest(self.shared.store.session.seq()),
        };
        collection.read(keyspace, &id, view, &hide).await
    }

    /// As [`Transaction::get`], and locks the document so that this transaction can change it
    /// without conflict. Sees the newest version.
    ///
    /// # Errors
    /// [`Error::Deadlock`], [`Error::LockTimeout`]; [`Error::Conflict`] at snapshot isolation.
    pub async fn get_for_update(
        &self,
        collection: &Collection,
        id: impl Into<Id>,
    ) -> Result<Option<Document>> {
        let id = id.into();
        self.check()?;
        let keyspace = collection.ensure()?;
        let key = Bytes::copy_from_slice(id.as_bytes());
        let old = self.lock_and_read(keyspace, &key).await?;
        old.map(|(rev, value)| document(rev, &value)).transpose()
    }

    /// Stores a new document.
    ///
    /// # Errors
    /// [`Error::DuplicateId`]; [`Error::Document`]; those of [`Transaction::get_for_update`].
    pub async fn insert(
        &self,
        collection: &Collection,
        document: impl Into<Input<'_>>,
    ) -> Result<Id> {
        let (keyspace, id, bytes) = self.prepare(collection, document.into())?;
        let key = Bytes::copy_from_slice(id.as_bytes());
        if self.lock_and_read(keyspace, &key).await?.is_some() {
            return Err(Collection::duplicate(&id));
        }
        self.write(keyspace, key, Write::Put(bytes));
        Ok(id)
    }

    /// Stores a document, replacing one with the same `_id`.
    ///
    /// # Errors
    /// [`Error::Document`]; those of [`Transaction::get_for_update`].
    pub async fn put(&self, collection: &Collection, document: impl Into<Input<'_>>) -> Result<Id> {
        let (keyspace, id, bytes) = self.prepare(collection, document.into())?;
        let key = Bytes::copy_from_slice(id.as_bytes());
        self.lock_for_write(keyspace, &key).await?;
        self.write(keyspace, key, Write::Put(bytes));
        Ok(id)
    }

    /// Replaces the document with the `_id` of this one; `false` if there is none.
    ///
    /// # Errors
    /// [`Error::Document`]; those of [`Transaction::get_for_update`].
    pub async fn replace(
        &self,
        collection: &Collection,
        document: impl Into<Input<'_>>,
    ) -> Result<bool> {
        let (keyspace, id, bytes) = self.prepare(collection, document.into())?;
        let key = Bytes::copy_from_slice(id.as_bytes());
        if self.lock_and_read(keyspace, &key).await?.is_none() {
            return Ok(false);
        }
        self.write(keyspace, key, Write::Put(bytes));
        Ok(true)
    }

    /// Changes fields of a document; `false` if there is none with this id.
    ///
    /// In a transaction of several operations only the fields are locked, so another transaction
    /// can change other fields of the same document; unless an index or the like is concerned.
    ///
    /// # Errors
    /// [`Error::InvalidUpdate`]; [`Error::Deadlock`], [`Error::LockTimeout`].
    pub async fn update(
        &self,
        collection: &Collection,
        id: impl Into<Id>,
        update: &Update,
    ) -> Result<bool> {
        let id = id.into();
        self.check()?;
        let keyspace = collection.ensure()?;
        let key = Bytes::copy_from_slice(id.as_bytes());
        let update = &*update.stamped(self.core().options.env.wall_ms());
        let state = self.core().collection_state(keyspace);
        let is_followed = state.as_ref().is_some_and(|state| {
            let paths: Vec<&str> = update.paths().collect();
            state.concerns(&paths)
        });
        let is_whole = update.paths().any(str::is_empty);
        if is_whole
            || self.shared.isolation == Isolation::Latest
            || is_followed
            || matches!(self.own(keyspace, &key), Some(Write::Put(_) | Write::Delete))
        {
            let Some((_, old)) = self.lock_and_read(keyspace, &key).await? else {
                return Ok(false);
            };
            let new = jb1::apply(&old, update, &self.core().limits())?;
            let generation = state.filter(|_| !is_followed).map(|state| state.generation);
            self.write_changed(keyspace, key, Bytes::from(new), generation);
            return Ok(true);
        }
        self.update_fields(keyspace, key, update).await
    }

    /// Removes a document; `false` if there is none with this id.
    ///
    /// # Errors
    /// Those of [`Transaction::get_for_update`].
    pub async fn delete(&self, collection: &Collection, id: impl Into<Id>) -> Result<bool> {
        let id = id.into();
        self.check()?;
        let keyspace = collection.ensure()?;
        let key = Bytes::copy_from_slice(id.as_bytes());
        if self.lock_and_read(keyspace, &key).await?.is_none() {
            return Ok(false);
        }
        self.write(keyspace, key, Write::Delete);
        Ok(true)
    }

    /// Documents in the order of their ids, own changes included. A serializable transaction
    /// conflicts with any change in the range, new documents included.
    ///
    /// # Errors
    /// I/O errors and [`Error::Corruption`].
    pub async fn scan(
        &self,
        collection: &Collection,
        range: impl Into<Range>,
    ) -> Result<Vec<Document>> {
        let range = range.into();
        self.check()?;
        let Some(keyspace) = self.readable(collection)? else { return Ok(Vec::new()) };
        let (from, to) = range.bounds();
        let (from, to) = (from.to_vec(), to.map(<[u8]>::to_vec));
        let (snapshot, hide) = (self.snapshot(), self.hide(keyspace));
        let own: Vec<(Bytes, Write)> = {
            let mut state = self.shared.state.lock();
            if self.shared.isolation == Isolation::Serializable {
                state.reads.ranges.push((keyspace, from.clone(), to.clone()));
            }
            let all = state.writes.iter().filter(|((ks, key), _)| {
                *ks == keyspace
                    && key[..] >= from[..]
                    && to.as_ref().is_none_or(|to| key[..] < to[..])
            });
            all.map(|((_, key), write)| (key.clone(), write.clone())).collect()
        };
        let store = collection.store.clone();
        let floor = self.shared.store.session.seq();
        let mut found = store
            .run(move |core| {
                let hold = Hold::new(core, false, floor);
                let mut iter = core.iter(keyspace, &from, snapshot.unwrap_or(hold.seq))?;
                let mut all = BTreeMap::new();
                while let Some(entry) = iter.next_visible()? {
                    if to.as_ref().is_some_and(|to| entry.key[..] >= to[..]) {
                        break;
                    }
                    all.insert(entry.key, (entry.seq, entry.value.unwrap_or_default()));
                }
                Ok(all)
            })
            .await?;
        for (key, write) in own {
            match write {
                Write::Put(value) => {
                    found.insert(key, (u64::MAX, value));
                }
                Write::Delete => {
                    found.remove(&key);
                }
                Write::Patch(patches) => {
                    if let Some((_, value)) = found.get_mut(&key) {
                        *value = self.patched(value, &patches)?;
                    }
                }
            }
        }
        let seen = found.values().filter(|(_, value)| !hide.hides(value));
        seen.map(|(rev, value)| document(*rev, value)).collect()
    }

    /// Sets a pair of a keyspace.
    ///
    /// # Errors
    /// Those of [`Transaction::get_for_update`].
    pub async fn put_key(&self, keyspace: &Keyspace, key: &[u8], value: &[u8]) -> Result<()> {
        self.check()?;
        let number = keyspace.ensure()?;
        let key = Bytes::copy_from_slice(key);
        self.lock_for_write(number, &key).await?;
        self.write(number, key, Write::Put(Bytes::copy_from_slice(value)));
        Ok(())
    }

    /// Removes a pair of a keyspace.
    ///
    /// # Errors
    /// Those of [`Transaction::get_for_update`].
    pub async fn delete_key(&self, keyspace: &Keyspace, key: &[u8]) -> Result<()> {
        self.check()?;
        let number = keyspace.ensure()?;
        let key = Bytes::copy_from_slice(key);
        self.lock_for_write(number, &key).await?;
        self.write(number, key, Write::Delete);
        Ok(())
    }

    /// Locks something explicitly, until the transaction ends.
    ///
    /// # Errors
    /// [`Error::Deadlock`], [`Error::LockTimeout`].
    ///
    /// # Cancel safety
    /// Dropping the future withdraws the request.
    pub async fn lock(&self, target: Target<'_>, mode: LockMode) -> Result<()> {
        self.check()?;
        let intent = match mode {
            LockMode::IntentShared | LockMode::Shared => LockMode::IntentShared,
            _ => LockMode::IntentExclusive,
        };
        match target {
            Target::Store => self.acquire(LockId::Store, mode).await,
            Target::Collection(collection) => {
                self.acquire(LockId::Store, intent).await?;
                self.acquire(LockId::Collection(collection.ensure()?), mode).await
            }
            Target::Record(collection, id) => {
                let keyspace = collection.ensure()?;
                self.acquire(LockId::Store, intent).await?;
                self.acquire(LockId::Collection(keyspace), intent).await?;
                self.acquire(LockId::Record(keyspace, Bytes::from(id.0)), mode).await
            }
            Target::Field(collection, id, path) => {
                let keyspace = collection.ensure()?;
                self.lock_field(keyspace, &Bytes::from(id.0), path, intent, mode).await
            }
        }
    }

    /// Makes everything durable and visible; returns the sequence number, 0 if nothing was written.
    ///
    /// # Errors
    /// [`Error::Conflict`] if a serializable transaction read something that changed;
    /// [`Error::Poisoned`] if the log failed.
    ///
    /// # Cancel safety
    /// Dropping the future before the commit is logged rolls back; after, the commit goes on. With
    /// no index in a collection that is written it is logged when first polled.
    pub async fn commit(&self) -> Result<u64> {
        self.check()?;
        let timer = self.core().timer(Operation::Commit);
        let mut followed = self.follow().await?;
        let marks = std::mem::take(&mut followed.marks);
        // Only now, with every lock taken: whoever has a turn never waits for who has none.
        let bytes = self.shared.state.lock().bytes as u64;
        let _turn = self.shared.store.enter(bytes).await?;
        self.shared.state.lock().followed = followed;
        let core = Arc::clone(self.core());
        let needs_read = {
            let state = self.shared.state.lock();
            state.writes.values().any(|w| matches!(w, Write::Patch(_)))
        };
        let is_async = !may_block();
        let submitted = if needs_read && is_async && core.options.env.has_threads() {
            let this = self.clone();
            core.pool.run(move || this.submit(true)).await
        } else {
            self.submit(is_async)
        };
        let Some(ticket) = submitted? else { return Ok(0) };
        if is_async {
            let done = poll_fn(|context| match ticket.poll(context.waker()) {
                Some(done) => std::task::Poll::Ready(done),
                None => std::task::Poll::Pending,
            })
            .await;
            if !done {
                return Err(core.log.poison_error());
            }
        } else {
            core.log.wait(&ticket)?;
        }
        marks.iter().for_each(Mark::set);
        if core.options.durability == Durability::Interval {
            // Others see it when it is synced.
            self.shared.store.session.raise(ticket.seq);
        }
        timer.done();
        Ok(ticket.seq)
    }

    /// Gives up all changes and locks.
    pub fn rollback(&self) {
        let mut state = self.shared.state.lock();
        state.finished = true;
        state.writes.clear();
        state.hold = None;
        drop(state);
        self.core().locks.release_all(&self.shared.owner);
    }

    pub(crate) fn victim_count(&self) -> u32 {
        self.shared.owner.victim_count.load(Ordering::Relaxed)
    }

    pub(super) fn core(&self) -> &Arc<Core> {
        self.shared.store.core()
    }

    pub(super) fn store(&self) -> &Store {
        &self.shared.store
    }

    /// Writes of whole documents that may concern somebody.
    pub(super) fn followed_writes(&self, states: &States) -> Vec<(u32, Bytes, Write)> {
        let state = self.shared.state.lock();
        let concerns = |place: &(u32, Bytes)| {
            states.get(&place.0).is_some_and(|followed| {
                state.unconcerned.is_empty()
                    || state.unconcerned.get(place) != Some(&followed.generation)
            })
        };
        let all = state
            .writes
            .iter()
            .filter(|(place, write)| !matches!(write, Write::Patch(_)) && concerns(place));
        all.map(|((keyspace, key), write)| (*keyspace, key.clone(), write.clone())).collect()
    }

    /// The paths of changes of fields.
    pub(super) fn patched_paths(&self) -> Vec<(u32, Bytes, Vec<String>)> {
        let state = self.shared.state.lock();
        let patched = state.writes.iter().filter_map(|((keyspace, key), write)| match write {
            Write::Patch(patches) => {
                let paths = patches.iter().flat_map(Update::paths).map(str::to_owned);
                Some((*keyspace, key.clone(), paths.collect()))
            }
            Write::Put(_) | Write::Delete => None,
        });
        patched.collect()
    }

    /// What a followed document was before, if it was read under its lock.
    pub(super) fn known_before(&self, keyspace: u32, key: &Bytes) -> Option<Option<Bytes>> {
        self.shared.state.lock().before.get(&(keyspace, key.clone())).cloned()
    }

    /// The keyspace to read in, if there is anything.
    pub(super) fn begin_reading(&self, collection: &Collection) -> Result<Option<u32>> {
        self.check()?;
        self.readable(collection)
    }

    /// The snapshot it reads in; `None` for the newest.
    pub(super) fn reading_at(&self) -> Option<u64> {
        self.snapshot()
    }

    /// What it does not see of a collection: what had expired when it began, or, if each of its reads
    /// is of the newest state, what has by now.
    pub(super) fn hide(&self, keyspace: u32) -> Hide {
        let core = self.core();
        if !core.expirations.may_be_in(keyspace) {
            return Hide::nothing();
        }
        match &self.shared.state.lock().hold {
            Some(hold) => core.hide(keyspace, hold),
            None => core.hide_now(keyspace),
        }
    }

    /// Documents of a collection that it wrote, as they would be now; `None` for those it deleted.
    pub(super) async fn own_documents(
        &self,
        keyspace: u32,
    ) -> Result<Vec<(Bytes, Option<(u64, Bytes)>)>> {
        let writes: Vec<(Bytes, Write)> = {
            let state = self.shared.state.lock();
            let all = state.writes.iter().filter(|((ks, _), _)| *ks == keyspace);
            all.map(|((_, key), write)| (key.clone(), write.clone())).collect()
        };
        let mut own = Vec::with_capacity(writes.len());
        for (key, write) in writes {
            let value = match write {
                Write::Put(value) => Some((u64::MAX, value)),
                Write::Delete => None,
                Write::Patch(patches) => match self.base(keyspace, &key).await? {
                    Some((rev, base)) => Some((rev, self.patched(&base, &patches)?)),
                    None => None,
                },
            };
            own.push((key, value));
        }
        Ok(own)
    }

    /// Notes what a query relied on.
    pub(super) fn note_reads(&self, ranges: Vec<(u32, KeyRange)>, documents: (u32, Vec<Bytes>)) {
        if self.shared.isolation != Isolation::Serializable {
            return;
        }
        let mut state = self.shared.state.lock();
        state.reads.ranges.extend(ranges.into_iter().map(|(keyspace, range)| {
            let (from, to) = range.keys();
            (keyspace, from, to)
        }));
        let (keyspace, keys) = documents;
        state.reads.keys.extend(keys.iter().map(|key| hash_key(keyspace, key)));
    }

    /// Notes that a version was relied on that may not be durable yet.
    pub(super) fn note_provisional(&self, seq: u64) {
        let mut state = self.shared.state.lock();
        state.provisional = state.provisional.max(seq);
    }

    fn check(&self) -> Result<()> {
        if self.shared.state.lock().finished {
            Err(Error::Closed)
        } else {
            self.core().check_open()
        }
    }

    /// The keyspace to read. That a collection is empty is a fact a serializable transaction may
    /// rely on, so it needs a number to note that under.
    fn readable(&self, collection: &Collection) -> Result<Option<u32>> {
        let existing = collection.existing();
        let needs =
            self.shared.isolation == Isolation::Serializable && !self.core().options.read_only;
        if existing.is_none() && needs { collection.ensure().map(Some) } else { Ok(existing) }
    }

    fn snapshot(&self) -> Option<u64> {
        self.shared.state.lock().hold.as_ref().map(|h| h.seq)
    }

    fn own(&self, keyspace: u32, key: &Bytes) -> Option<Write> {
        self.shared.state.lock().writes.get(&(keyspace, key.clone())).cloned()
    }

    fn note_read(&self, keyspace: u32, key: &[u8]) {
        if self.shared.isolation == Isolation::Serializable {
            self.shared.state.lock().reads.keys.insert(hash_key(keyspace, key));
        }
    }

    /// A document with some fields changed. With a generation these concern nobody.
    fn write_changed(&self, keyspace: u32, key: Bytes, value: Bytes, unconcerned: Option<u64>) {
        let place = (keyspace, key);
        let was_unconcerned = {
            let state = self.shared.state.lock();
            // Whoever wrote it first in this transaction may have concerned somebody.
            !state.writes.contains_key(&place) || state.unconcerned.contains_key(&place)
        };
        self.write(keyspace, place.1.clone(), Write::Put(value));
        if let Some(generation) = unconcerned.filter(|_| was_unconcerned) {
            self.shared.state.lock().unconcerned.insert(place, generation);
        }
    }

    pub(super) fn write(&self, keyspace: u32, key: Bytes, write: Write) {
        let mut state = self.shared.state.lock();
        if !state.unconcerned.is_empty() {
            state.unconcerned.remove(&(keyspace, key.clone()));
        }
        let bytes = key.len() + if let Write::Put(value) = &write { value.len() } else { 16 };
        state.bytes += bytes;
        self.shared.owner.work.fetch_add(bytes as u64, Ordering::Relaxed);
        state.writes.insert((keyspace, key), write);
    }

    fn prepare(&self, collection: &Collection, input: Input<'_>) -> Result<(u32, Id, Bytes)> {
        self.check()?;
        let core = self.core();
        let (id, bytes) = input.prepare(&core.limits(), || fresh_id(core))?;
        Ok((collection.ensure()?, id, Bytes::from(bytes)))
    }

    fn patched(&self, base: &[u8], patches: &[Update]) -> Result<Bytes> {
        let limits = self.core().limits();
        let mut now = base.to_vec();
        for patch in patches {
            now = jb1::apply(&now, patch, &limits)?;
        }
        Ok(Bytes::from(now))
    }
}

fn document(rev: u64, value: &[u8]) -> Result<Document> {
    let mut json = Vec::new();
    jb1::print(value, &mut json).map_err(|_| Error::Document(DocumentError::Malformed))?;
    Ok(Document { rev, json: Bytes::from(json) })
}

/// An id that sorts by time of creation: 48 bits of milliseconds, 80 random bits, in hex.
pub(crate) fn fresh_id(core: &Core) -> String {
    let env = &core.options.env;
    let high = env.wall_ms() << 16 | env.random() & 0xffff;
    format!("{high:016x}{:016x}", env.random())
}
