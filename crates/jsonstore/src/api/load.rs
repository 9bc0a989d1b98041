//! Bulk loading.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use bytes::Bytes;

use super::{Collection, Input, Isolation, Keyspace, Store, Target, Transaction};
use crate::{
    catalog::CollectionState,
    commit::Op,
    engine::{Core, Ingest},
    error::{Error, Result},
    follow::{Change, Claim, Effects, Follower, Loader, Mark, Sink},
    key::Id,
    lock::LockMode,
    text::LoadGuard,
};

/// A bulk load: fast, and all or nothing. Nobody else writes meanwhile; readers go on.
///
/// A document put twice keeps its last version; in a collection with indexes or the like it is
/// refused. Keys that come in ascending order are cheapest.
#[derive(Debug)]
pub struct Load {
    store: Store,
    ingest: Option<Ingest>,
    followed: BTreeMap<u32, Followed>,
    /// Keeps the store locked.
    lock: Transaction,
    _guard: LoadGuard,
}

impl Load {
    pub(crate) async fn begin(store: Store) -> Result<Self> {
        let lock = store.begin(Isolation::Latest);
        lock.lock(Target::Store, LockMode::Exclusive).await?;
        let (ingest, guard) = store
            .run(|core| {
                let guard = LoadGuard::new(core);
                Ok((Ingest::new(core)?, guard))
            })
            .await?;
        let followed = BTreeMap::new();
        Ok(Self { store, ingest: Some(ingest), followed, lock, _guard: guard })
    }

    /// Adds a document. Blocks now and then to write to the disk.
    ///
    /// # Errors
    /// [`Error::Document`] if it breaks a rule; in collections with indexes [`Error::DuplicateId`]
    /// and [`Error::Unindexable`]; I/O errors. The load is of no use then.
    pub fn put<'a>(
        &mut self,
        collection: &Collection,
        document: impl Into<Input<'a>>,
    ) -> Result<Id> {
        let core = Arc::clone(self.store.core());
        let keyspace = collection.ensure()?;
        let (id, bytes) =
            document.into().prepare(&core.limits(), || super::transaction::fresh_id(&core))?;
        if let Some(state) = core.collection_state(keyspace) {
            let followed = match self.followed.entry(keyspace) {
                std::collections::btree_map::Entry::Occupied(entry) => entry.into_mut(),
                std::collections::btree_map::Entry::Vacant(entry) => {
                    entry.insert(Followed::begin(&core, keyspace, &state)?)
                }
            };
            let ops = followed.add(&core, keyspace, &id, &bytes)?;
            self.add_all(ops)?;
        }
        self.add(keyspace, id.as_bytes(), Some(&bytes))?;
        Ok(id)
    }

    /// Adds a pair to a keyspace.
    ///
    /// # Errors
    /// I/O errors.
    pub fn put_key(&mut self, keyspace: &Keyspace, key: &[u8], value: &[u8]) -> Result<()> {
        let number = keyspace.ensure()?;
        self.add(number, key, Some(value))
    }

    /// Makes everything durable and visible.
    ///
    /// # Errors
    /// [`Error::DuplicateKey`] and [`Error::Conflict`], after which nothing of the load remains. After
    /// an I/O error of the manifest the next opening tells whether it came to be, in whole or not at all.
    pub async fn finish(mut self) -> Result<()> {
        let followed = std::mem::take(&mut self.followed);
        if let Some(mut ingest) = self.ingest.take() {
            let work = move |_: &Arc<Core>| {
                let mut marks = Vec::new();
                for followed in followed.into_values() {
                    marks.extend(followed.finish(&mut ingest)?);
                }
                ingest.finish()?;
                marks.iter().for_each(Mark::set);
                Ok(())
            };
            self.store.run(work).await?;
        }
        self.lock.rollback();
        Ok(())
    }

    /// The number that it will have.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn testing_seq(&self) -> u64 {
        self.ingest.as_ref().map_or(0, Ingest::seq)
    }

    fn add_all(&mut self, ops: Vec<Op>) -> Result<()> {
        ops.into_iter().try_for_each(|op| self.add(op.keyspace, &op.key, op.value.as_deref()))
    }

    fn add(&mut self, keyspace: u32, key: &[u8], value: Option<&[u8]>) -> Result<()> {
        match &mut self.ingest {
            Some(ingest) => ingest.put(keyspace, key, value),
            None => Err(Error::Closed),
        }
    }
}

/// What follows the documents of one collection of the load.
#[derive(Debug)]
struct Followed {
    loaders: Vec<Box<dyn Loader>>,
    /// Nothing is there that a loaded document could replace.
    was_empty: bool,
    last: Vec<u8>,
    /// Ids by their hash, from the moment on that they do not ascend.
    seen: Option<HashSet<u128>>,
    /// Unique keys of this load, by their hash.
    claimed: HashSet<(u32, u128)>,
    /// Set when the load is durable.
    marks: Vec<Mark>,
    /// Of those that ascended.
    ascending: Vec<u128>,
}

impl Followed {
    fn begin(core: &Arc<Core>, keyspace: u32, state: &CollectionState) -> Result<Self> {
        let one_by_one = |follower: &Arc<dyn Follower>| -> Box<dyn Loader> {
            Box::new(OneByOne(Arc::clone(follower)))
        };
        let loader = |follower: &Arc<dyn Follower>| {
            Ok(Arc::clone(follower).loader(core)?.unwrap_or_else(|| one_by_one(follower)))
        };
        let loaders = state.followers.iter().map(loader).collect::<Result<_>>()?;
        let was_empty = core.tree().range(keyspace, &[], None, u64::MAX)?.next_visible()?.is_none();
        Ok(Self {
            loaders,
            was_empty,
            last: Vec::new(),
            seen: None,
            claimed: HashSet::new(),
            marks: Vec::new(),
            ascending: Vec::new(),
        })
    }

    fn add(&mut self, core: &Core, keyspace: u32, id: &Id, new: &[u8]) -> Result<Vec<Op>> {
        let key = Bytes::copy_from_slice(id.as_bytes());
        self.take_id(id)?;
        let old = match self.was_empty {
            true => None,
            false => core.read_latest(keyspace, &key)?.and_then(|(_, value)| value),
        };
        let change = Change { key: &key, old: old.as_deref(), new: Some(new) };
        let mut effects = Effects::default();
        for loader in &mut self.loaders {
            loader.add(&change, &mut effects)?;
        }
        for claim in &effects.claims {
            self.take_key(core, claim, &effects)?;
        }
        self.marks.append(&mut effects.marks);
        Ok(effects.ops)
    }

    fn finish(self, ingest: &mut Ingest) -> Result<Vec<Mark>> {
        for loader in self.loaders {
            loader.finish(&mut |keyspace, key, value| ingest.put(keyspace, key, value))?;
        }
        Ok(self.marks)
    }

    /// What was loaded cannot be read yet, so an id that comes again could not be followed.
    fn take_id(&mut self, id: &Id) -> Result<()> {
        let hash = xxhash_rust::xxh3::xxh3_128(id.as_bytes());
        if self.seen.is_none() && id.as_bytes() > &self.last[..] {
            self.last = id.as_bytes().to_vec();
            self.ascending.push(hash);
            return Ok(());
        }
        let ascending = &mut self.ascending;
        let seen = self.seen.get_or_insert_with(|| std::mem::take(ascending).into_iter().collect());
        if seen.insert(hash) { Ok(()) } else { Err(Collection::duplicate(id)) }
    }

    fn take_key(&mut self, core: &Core, claim: &Claim, effects: &Effects) -> Result<()> {
        let hash = xxhash_rust::xxh3::xxh3_128(&claim.prefix);
        if !self.claimed.insert((claim.keyspace, hash)) {
            return Err(claim.refusal());
        }
        if self.was_empty {
            return Ok(());
        }
        let goes = |key: &Bytes| {
            effects
                .ops
                .iter()
                .any(|op| op.value.is_none() && op.keyspace == claim.keyspace && op.key == *key)
        };
        core.check_claim(claim, goes).map(|_| ())
    }
}

/// The loader of who has none.
#[derive(Debug)]
struct OneByOne(Arc<dyn Follower>);

impl Loader for OneByOne {
    fn add(&mut self, change: &Change<'_>, effects: &mut Effects) -> Result<()> {
        self.0.follow(change, effects)
    }

    fn finish(self: Box<Self>, _sink: &mut Sink<'_>) -> Result<()> {
        Ok(())
    }
}
