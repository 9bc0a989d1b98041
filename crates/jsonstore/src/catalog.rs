//! The settings of collections, and what is made from them.
//!
//! Settings are a JSON object for each collection, one member for each kind of thing that can be
//! said about it. They lie in a keyspace of their own and change with no writer of the collection
//! about: whoever computes what follows a document does it under a lock of its collection.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use serde_json::Value;

#[cfg(feature = "schema")]
use crate::schema::Schema;
use crate::{
    api::{Collection, Isolation, Target},
    commit::Op,
    engine::{Core, KeyspaceKind},
    error::{Error, Result},
    expiry::Expiry,
    follow::Follower,
    index::BTreeIndex,
    key::Id,
    live::ChangeLog,
    lock::LockMode,
    plan::Choices,
    text::{self, TextState},
};

/// What is said about a collection: one member for each kind of thing.
pub(crate) type Settings = serde_json::Map<String, Value>;

/// Collections that have settings, by the number of their keyspace: in an order, so that what is
/// done for all of them is done alike whenever a simulation is replayed.
pub(crate) type States = BTreeMap<u32, Arc<CollectionState>>;

/// The name of the keyspace that holds them. No name of a user has a slash.
const KEYSPACE: &str = "/settings";

/// What the settings of a collection mean.
#[derive(Debug, Default)]
pub(crate) struct CollectionState {
    pub(crate) settings: Settings,
    pub(crate) indexes: Vec<Arc<BTreeIndex>>,
    /// When its documents expire, if any do.
    pub(crate) expiry: Option<Arc<Expiry>>,
    /// In the order in which they are asked.
    pub(crate) followers: Vec<Arc<dyn Follower>>,
    /// Its text indexes.
    pub(crate) text: Vec<Arc<TextState>>,
    /// The change log, if there is one; it is among the followers.
    pub(crate) changes: Option<Arc<ChangeLog>>,
    /// What documents have to look like; it is the first of the followers.
    #[cfg(feature = "schema")]
    pub(crate) schema: Option<Arc<Schema>>,
    /// How queries of one shape are answered.
    pub(crate) choices: Choices,
    /// Tells one state of a collection from the next.
    pub(crate) generation: u64,
}

impl CollectionState {
    /// What the settings mean; `previous` is the state they change. Fails if they make no sense, and
    /// changes nothing.
    pub(crate) fn build(
        core: &Core,
        keyspace: u32,
        settings: Settings,
        previous: Option<&Self>,
    ) -> Result<Self> {
        let indexes = core.indexes_of(&settings, previous)?;
        let expiry = Expiry::of(core, keyspace, &indexes, previous);
        let kept = previous.and_then(|state| state.changes.as_ref());
        let changes = ChangeLog::of(core, &settings, kept)?;
        let mut followers: Vec<Arc<dyn Follower>> = Vec::new();
        #[cfg(feature = "schema")]
        let schema = Schema::of(&settings)?;
        #[cfg(feature = "schema")]
        followers.extend(schema.iter().map(|schema| Arc::clone(schema) as Arc<dyn Follower>));
        #[cfg(not(feature = "schema"))]
        if settings.contains_key("schema") {
            let reason = "the collection has one, and the program was built without the feature";
            return Err(Error::InvalidSchema { reason: reason.to_owned() });
        }
        followers.extend(indexes.iter().map(|index| Arc::clone(index) as Arc<dyn Follower>));
        followers.extend(changes.iter().map(|log| Arc::clone(log) as Arc<dyn Follower>));
        let generation = previous.map_or(0, |state| state.generation + 1);
        let text = text::indexes(core, keyspace, &settings)?;
        let mut state = Self {
            settings,
            indexes,
            expiry,
            followers,
            text,
            changes,
            #[cfg(feature = "schema")]
            schema,
            choices: Choices::default(),
            generation,
        };
        state.follow_text();
        Ok(state)
    }

    /// Whether a change of these fields alone has to be followed.
    pub(crate) fn concerns(&self, paths: &[&str]) -> bool {
        self.followers.iter().any(|follower| follower.concerns(paths))
    }
}

impl Collection {
    /// Changes the settings: durable, then in force, with nobody writing the collection meanwhile.
    ///
    /// # Cancel safety
    /// Once nobody writes, it goes on even if the future is dropped.
    pub(crate) async fn alter(
        &self,
        change: impl FnOnce(&mut Settings) -> Result<()> + Send + 'static,
    ) -> Result<()> {
        let keyspace = self.ensure()?;
        let lock = self.store.begin(Isolation::Latest);
        lock.lock(Target::Collection(self), LockMode::Exclusive).await?;
        let name = self.name().to_owned();
        self.store
            .run(move |core| {
                let altered = core.alter(&name, keyspace, change);
                lock.rollback();
                altered
            })
            .await
    }
}

impl Core {
    /// What the settings of a collection mean; `None` if it has none.
    pub(crate) fn collection_state(&self, keyspace: u32) -> Option<Arc<CollectionState>> {
        self.states.load().get(&keyspace).cloned()
    }

    /// As `alter`, for who knows the collection by its keyspace.
    pub(crate) fn alter_number(
        &self,
        keyspace: u32,
        change: impl FnOnce(&mut Settings) -> Result<()>,
    ) -> Result<()> {
        let all = self.keyspaces();
        let name = all.into_iter().find(|(_, number, _)| *number == keyspace);
        let (name, ..) = name.ok_or(Error::InvalidName)?;
        self.alter(&name, keyspace, change)
    }

    /// The caller has the collection locked, unless what follows its documents stays the same.
    fn alter(
        &self,
        name: &str,
        keyspace: u32,
        change: impl FnOnce(&mut Settings) -> Result<()>,
    ) -> Result<()> {
        let _one = self.settings_lock.lock();
        let number = self.keyspace_or_new(KEYSPACE, KeyspaceKind::Internal)?;
        let previous = self.collection_state(keyspace).unwrap_or_default();
        let mut settings = previous.settings.clone();
        change(&mut settings)?;
        if settings == previous.settings {
            return Ok(());
        }
        let value = Bytes::from(Value::Object(settings.clone()).to_string());
        let state = Arc::new(CollectionState::build(self, keyspace, settings, Some(&previous))?);
        let key = Bytes::from(Id::from(name).0);
        let op = Op { keyspace: number, key, value: Some(value) };
        let ticket = self.submit(&[op], None, false)?;
        self.log.wait(&ticket)?;
        self.states.rcu(|states| {
            let mut states = States::clone(states);
            states.insert(keyspace, Arc::clone(&state));
            states
        });
        Ok(())
    }

    /// Reads the settings of all collections when the store opens.
    pub(crate) fn load_states(&self, snapshot: u64) -> Result<()> {
        let Some((number, _)) = self.keyspace(KEYSPACE) else { return Ok(()) };
        let bad = |what: String| Error::corrupt("settings", 0, what);
        let mut states = States::new();
        let mut iter = self.tree().range(number, &[], None, snapshot)?;
        while let Some(entry) = iter.next_visible()? {
            let id = Id(entry.key.to_vec()).to_json();
            let name: String = serde_json::from_str(&id).map_err(|e| bad(e.to_string()))?;
            let settings = serde_json::from_slice(&entry.value.unwrap_or_default())
                .map_err(|e| bad(format!("of {name}: {e}")))?;
            let Some((keyspace, _)) = self.keyspace(&name) else {
                return Err(bad(format!("of {name}, which does not exist")));
            };
            states.insert(
                keyspace,
                Arc::new(CollectionState::build(self, keyspace, settings, None)?),
            );
        }
        self.states.store(Arc::new(states));
        Ok(())
    }
}
