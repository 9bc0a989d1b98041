//! Indexes in the settings of a collection: making them, dropping them, listing them.
//!
//! `indexes` is a list of definitions, each with its keyspace and its state. `dropped` is a list of
//! keyspaces whose keys have to go.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use bytes::Bytes;
use serde_json::{Value, json};

use super::{
    BTreeIndex, INDEXES_MAX, Index,
    btree::{BuildState, Flags},
    build::Outcome,
    definition::invalid,
};
use crate::{
    api::{Collection, may_block},
    catalog::{CollectionState, Settings},
    commit::Op,
    engine::{Core, KeyspaceKind},
    error::{Error, Result},
    follow::Effects,
};

/// Members of the settings.
const INDEXES: &str = "indexes";
const DROPPED: &str = "dropped";
/// The keyspace of the marks that say that an index has met arrays.
const MARKS: &str = "/marks";
/// Changes in one record while an index is filled or emptied.
pub(super) const BATCH_OPS: usize = 2000;

/// An index of a collection.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct IndexInfo {
    /// Its name.
    pub name: String,
    /// What it is.
    pub index: Index,
    /// Whether queries use it; until then it is being built.
    pub is_ready: bool,
    /// Whether it has met a document with an array on one of its fields.
    pub is_multikey: bool,
    /// Whether the store made it by itself, see [`crate::AutoIndex`].
    pub is_automatic: bool,
    /// Queries that used it since the store was opened; where several end at once not all count.
    pub uses: u64,
}

impl Collection {
    /// Makes an index and waits until it is built; readers and writers go on meanwhile. If it exists
    /// already, that is all.
    ///
    /// # Errors
    /// [`Error::InvalidIndex`]; [`Error::IndexExists`] if the name belongs to another definition;
    /// [`Error::IndexNotUnique`], [`Error::Unindexable`] if the documents do not allow it: then there
    /// is no index. [`Error::IndexAbsent`] if it was dropped meanwhile.
    ///
    /// # Cancel safety
    /// Once it is in [`Collection::indexes`], the build goes on without the future, and after a
    /// restart of the store; [`Collection::drop_index`] ends it.
    pub async fn create_index(&self, index: Index) -> Result<IndexInfo> {
        let name = index.check()?.name;
        let wanted = Index { name: Some(name.clone()), ..index };
        if let Some(keyspace) = self.begin_index(wanted).await? {
            let outcome = self.core().queue_build(self.ensure()?, keyspace);
            self.wait_for(&outcome).await.map_err(|e| match e {
                Error::IndexAbsent { .. } => Error::IndexAbsent { index: name.clone() },
                e => e,
            })?;
        }
        let found = self.indexes().into_iter().find(|info| info.name == name);
        found.ok_or(Error::IndexAbsent { index: name })
    }

    async fn wait_for(&self, outcome: &Outcome) -> Result<()> {
        let core = self.core();
        // Without threads the caller does the work; in a simulation somebody else.
        while !core.options.env.has_threads() && may_block() && !outcome.is_set() {
            core.step_indexes();
        }
        std::future::poll_fn(|context| outcome.poll(context)).await
    }

    /// Drops an index. Its space comes back over time.
    ///
    /// # Errors
    /// [`Error::IndexAbsent`].
    pub async fn drop_index(&self, name: &str) -> Result<()> {
        let name = name.to_owned();
        self.alter(move |settings| remove(settings, &name)).await?;
        self.core().queue_emptying(self.ensure()?);
        Ok(())
    }

    /// Changes after how long documents expire by an index of one field, or that they do; at once,
    /// since the index stays as it is. `None`: they do not expire by it any more. A cursor that was
    /// begun before goes on by the old time.
    ///
    /// # Errors
    /// [`Error::IndexAbsent`]; [`Error::InvalidIndex`] if it cannot expire documents, see
    /// [`Index::expire_after`].
    ///
    /// # Cancel safety
    /// Once nobody writes, it goes on even if the future is dropped.
    pub async fn set_expire_after(&self, index: &str, after: Option<Duration>) -> Result<()> {
        let name = index.to_owned();
        self.alter(move |settings| {
            let mut all = stored(settings)?;
            let found = all.iter_mut().find(|index| index.name == name);
            let index = &mut found.ok_or(Error::IndexAbsent { index: name })?.index;
            *index = match after {
                Some(after) => index.clone().expire_after(after),
                None => Index { expire_after_ms: None, ..index.clone() },
            };
            index.check()?;
            let dropped = dropped(settings);
            put(settings, &all, &dropped);
            Ok(())
        })
        .await
    }

    /// The indexes of the collection.
    pub fn indexes(&self) -> Vec<IndexInfo> {
        let state = self.existing().and_then(|keyspace| self.core().collection_state(keyspace));
        let info = |index: &Arc<BTreeIndex>| IndexInfo {
            name: index.name().to_owned(),
            index: index.definition.clone(),
            is_ready: index.is_ready(),
            is_multikey: index.is_multikey(),
            is_automatic: index.is_automatic(),
            uses: index.uses(),
        };
        state.map_or_else(Vec::new, |state| state.indexes.iter().map(info).collect())
    }

    /// Writers keep the index up from now on. Its keyspace, or `None` if it exists already.
    async fn begin_index(&self, index: Index) -> Result<Option<u32>> {
        let core = Arc::clone(self.core());
        let name = index.effective_name();
        let existing = self.indexes().into_iter().find(|info| info.name == name);
        if let Some(existing) = existing {
            let is_same = existing.index == index;
            return if is_same { Ok(None) } else { Err(Error::IndexExists { index: name }) };
        }
        let wanted = name.clone();
        self.alter(move |settings| add(&core, settings, index)).await?;
        let state = self.core().collection_state(self.ensure()?);
        let indexes = state.iter().flat_map(|state| &state.indexes);
        Ok(indexes.into_iter().find(|i| i.name() == wanted).map(|index| index.keyspace))
    }
}

/// Another index in the settings, to be built.
pub(super) fn add(core: &Core, settings: &mut Settings, index: Index) -> Result<()> {
    let name = index.effective_name();
    let mut all = stored(settings)?;
    if all.iter().any(|other| other.name == name) {
        return Err(Error::IndexExists { index: name });
    }
    if all.len() == INDEXES_MAX {
        let reason = format!("the collection has {INDEXES_MAX} indexes already");
        return Err(invalid(&name, reason));
    }
    let keyspace = core.free_index_keyspace()?;
    core.keyspace_or_new(MARKS, KeyspaceKind::Internal)?;
    all.push(Stored { name, index, keyspace, is_ready: false });
    let dropped = dropped(settings);
    put(settings, &all, &dropped);
    Ok(())
}

/// One index less in the settings, and a keyspace to empty.
pub(super) fn remove(settings: &mut Settings, name: &str) -> Result<()> {
    let mut all = stored(settings)?;
    let at = all.iter().position(|index| index.name == name);
    let gone = all.remove(at.ok_or_else(|| Error::IndexAbsent { index: name.to_owned() })?);
    let mut dropped = dropped(settings);
    dropped.insert(gone.keyspace);
    put(settings, &all, &dropped);
    Ok(())
}

impl Core {
    /// A keyspace for a new index: one that was emptied, or another one.
    fn free_index_keyspace(&self) -> Result<u32> {
        let states = self.states.load();
        let mut used = BTreeSet::new();
        for state in states.values() {
            used.extend(stored(&state.settings)?.iter().map(|index| index.keyspace));
            used.extend(dropped(&state.settings));
        }
        for number in 0_u32.. {
            let name = format!("/index/{number}");
            let keyspace = self.keyspace_or_new(&name, KeyspaceKind::Internal)?;
            if !used.contains(&keyspace) {
                return Ok(keyspace);
            }
        }
        Err(Error::InvalidName)
    }

    pub(super) fn submit_batch(&self, effects: &mut Effects) -> Result<()> {
        if effects.ops.is_empty() {
            return Ok(());
        }
        let ticket = self.submit(&std::mem::take(&mut effects.ops), None, false)?;
        self.log.wait(&ticket)?;
        effects.marks.drain(..).for_each(|mark| mark.set());
        Ok(())
    }

    /// What removes the marks of an index that is no more.
    pub(super) fn mark_deletions(&self, keyspace: u32) -> Result<Vec<Op>> {
        let Some((marks, _)) = self.keyspace(MARKS) else { return Ok(Vec::new()) };
        let keys = self.marks_of(marks, keyspace)?.into_iter();
        Ok(keys.map(|key| Op { keyspace: marks, key, value: None }).collect())
    }

    /// The marks of an index.
    fn marks_of(&self, marks: u32, keyspace: u32) -> Result<Vec<Bytes>> {
        let prefix = keyspace.to_be_bytes();
        let mut found = Vec::new();
        let mut iter = self.tree().range(marks, &prefix, None, u64::MAX)?;
        while let Some(entry) = iter.next_visible()? {
            if !entry.key.starts_with(&prefix) {
                break;
            }
            found.push(entry.key);
        }
        Ok(found)
    }

    /// The indexes that settings speak of. Those that were there before keep what they learnt.
    pub(crate) fn indexes_of(
        &self,
        settings: &Settings,
        previous: Option<&CollectionState>,
    ) -> Result<Vec<Arc<BTreeIndex>>> {
        let mut all = Vec::new();
        for stored in stored(settings)? {
            let old = previous
                .and_then(|state| state.indexes.iter().find(|i| i.keyspace == stored.keyspace));
            if let Some(old) = old.filter(|old| old.is_ready() == stored.is_ready) {
                let is_same = old.definition == stored.index;
                all.push(if is_same {
                    Arc::clone(old)
                } else {
                    Arc::new(old.with(stored.index, old.state)?)
                });
                continue;
            }
            let since = match previous {
                None => 0,
                // That no two have the same key was proven of what is not visible yet, too.
                Some(_) if stored.index.unique => self.log.last_seq(),
                Some(_) => self.log.visible(),
            };
            let state =
                if stored.is_ready { BuildState::Ready { since } } else { BuildState::Building };
            if let Some(old) = old {
                all.push(Arc::new(old.with(stored.index, state)?));
                continue;
            }
            let (marks, _) = self.keyspace(MARKS).ok_or_else(|| {
                Error::corrupt("settings", 0, "there are indexes, but no keyspace of marks")
            })?;
            let flags = Arc::new(Flags::new(self.options.env.now()));
            for key in self.marks_of(marks, stored.keyspace)? {
                let field = u32::from(key.last().copied().unwrap_or_default());
                // The last one may say that an automatic index is incomplete.
                flags.note_marked(1_u32.checked_shl(field).unwrap_or_default());
            }
            let index = BTreeIndex::new(stored.index, stored.keyspace, marks, state, flags)?;
            all.push(Arc::new(index));
        }
        Ok(all)
    }
}

/// An index in the settings.
pub(super) struct Stored {
    pub(super) name: String,
    index: Index,
    pub(super) keyspace: u32,
    pub(super) is_ready: bool,
}

pub(super) fn stored(settings: &Settings) -> Result<Vec<Stored>> {
    let bad = || Error::corrupt("settings", 0, "an index is malformed");
    let list = settings.get(INDEXES).and_then(Value::as_array);
    let one = |value: &Value| -> Result<Stored> {
        let number = value.get("keyspace").and_then(Value::as_u64).ok_or_else(bad)?;
        let index = Index::from_json(value.get("index").ok_or_else(bad)?)?;
        Ok(Stored {
            name: index.effective_name(),
            index,
            keyspace: u32::try_from(number).map_err(|_| bad())?,
            is_ready: value.get("ready").and_then(Value::as_bool).ok_or_else(bad)?,
        })
    };
    list.into_iter().flatten().map(one).collect()
}

pub(super) fn dropped(settings: &Settings) -> BTreeSet<u32> {
    let list = settings.get(DROPPED).and_then(Value::as_array);
    let numbers = list.into_iter().flatten().filter_map(Value::as_u64);
    numbers.filter_map(|number| u32::try_from(number).ok()).collect()
}

pub(super) fn put(settings: &mut Settings, all: &[Stored], dropped: &BTreeSet<u32>) {
    let list = all.iter().map(|stored| {
        let index = stored.index.to_json();
        json!({ "index": index, "keyspace": stored.keyspace, "ready": stored.is_ready })
    });
    settings.insert(INDEXES.into(), list.collect());
    settings.insert(DROPPED.into(), json!(dropped));
}
