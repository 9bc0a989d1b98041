//! Indexes in the settings of a collection: making them, dropping them, listing them.
//!
//! `indexes` is a list of definitions, each with its keyspace and its state. `dropped` is a list of
//! keyspaces whose keys have to go.

use std::{collections::BTreeSet, sync::Arc};

use bytes::Bytes;
use serde_json::{Value, json};

use super::{
    BTreeIndex, INDEXES_MAX, Index,
    btree::{BuildState, Flags},
    definition::invalid,
};
use crate::{
    api::Collection,
    catalog::{CollectionState, Settings},
    commit::Op,
    engine::{Core, Hold, KeyspaceKind},
    error::{Error, Result},
    follow::{Change, Effects, Follower},
};

/// Members of the settings.
const INDEXES: &str = "indexes";
const DROPPED: &str = "dropped";
/// The keyspace of the marks that say that an index has met arrays.
const MARKS: &str = "/marks";
/// Changes in one record while an index is filled or emptied.
const BATCH_OPS: usize = 2000;

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
}

impl Collection {
    /// Makes an index and waits until it is built. If it exists already, that is all.
    ///
    /// # Errors
    /// [`Error::InvalidIndex`]; [`Error::IndexExists`] if the name belongs to another definition;
    /// [`Error::IndexNotUnique`], [`Error::Unindexable`] if the documents do not allow it: then there
    /// is no index.
    pub async fn create_index(&self, index: Index) -> Result<IndexInfo> {
        let checked = index.check()?;
        let name = checked.name;
        let wanted = Index { name: Some(name.clone()), ..index };
        if self.begin_index(wanted).await? {
            let built = self.build_index(&name).await;
            if let Err(e) = built {
                self.drop_index(&name).await?;
                return Err(e);
            }
        }
        let found = self.indexes().into_iter().find(|info| info.name == name);
        found.ok_or(Error::IndexAbsent { index: name })
    }

    /// Drops an index. Its space comes back over time.
    ///
    /// # Errors
    /// [`Error::IndexAbsent`].
    pub async fn drop_index(&self, name: &str) -> Result<()> {
        let name = name.to_owned();
        self.alter(move |settings| {
            let mut all = stored(settings)?;
            let at = all.iter().position(|index| index.name == name);
            let gone = all.remove(at.ok_or(Error::IndexAbsent { index: name })?);
            let mut dropped = dropped(settings);
            dropped.insert(gone.keyspace);
            put(settings, &all, &dropped);
            Ok(())
        })
        .await?;
        self.empty_dropped().await
    }

    /// The indexes of the collection.
    pub fn indexes(&self) -> Vec<IndexInfo> {
        let state = self.existing().and_then(|keyspace| self.core().collection_state(keyspace));
        let info = |index: &Arc<BTreeIndex>| IndexInfo {
            name: index.name().to_owned(),
            index: index.definition.clone(),
            is_ready: index.is_ready(),
            is_multikey: index.is_multikey(),
        };
        state.map_or_else(Vec::new, |state| state.indexes.iter().map(info).collect())
    }

    /// Writers keep the index up from now on. `false` if it exists already.
    async fn begin_index(&self, index: Index) -> Result<bool> {
        let core = Arc::clone(self.core());
        let name = index.effective_name();
        let existing = self.indexes().into_iter().find(|info| info.name == name);
        if let Some(existing) = existing {
            let is_same = existing.index == index;
            return if is_same { Ok(false) } else { Err(Error::IndexExists { index: name }) };
        }
        self.alter(move |settings| {
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
        })
        .await?;
        Ok(true)
    }

    /// Fills the index from the documents and lets queries use it.
    async fn build_index(&self, name: &str) -> Result<()> {
        let core = Arc::clone(self.core());
        let documents = self.ensure()?;
        let name = name.to_owned();
        self.alter(move |settings| {
            let mut all = stored(settings)?;
            let absent = || Error::IndexAbsent { index: name.clone() };
            let at = all.iter().position(|index| index.name == name).ok_or_else(absent)?;
            let state = core.collection_state(documents).ok_or_else(absent)?;
            let index = state.indexes.iter().find(|index| index.name() == name);
            core.fill_index(documents, index.ok_or_else(absent)?)?;
            all[at].is_ready = true;
            let dropped = dropped(settings);
            put(settings, &all, &dropped);
            Ok(())
        })
        .await
    }

    async fn empty_dropped(&self) -> Result<()> {
        let Some(documents) = self.existing() else { return Ok(()) };
        let core = Arc::clone(self.core());
        let state = core.collection_state(documents);
        let gone = state.map_or_else(BTreeSet::new, |state| dropped(&state.settings));
        if gone.is_empty() {
            return Ok(());
        }
        let keyspaces = gone.clone();
        self.store
            .run(move |core| keyspaces.iter().try_for_each(|keyspace| core.empty_index(*keyspace)))
            .await?;
        self.alter(move |settings| {
            let all = stored(settings)?;
            let rest = &dropped(settings) - &gone;
            put(settings, &all, &rest);
            Ok(())
        })
        .await
    }
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

    /// Adds the entries of all documents; nobody writes the collection meanwhile.
    fn fill_index(self: &Arc<Self>, documents: u32, index: &Arc<BTreeIndex>) -> Result<()> {
        let hold = Hold::new(self, false, self.log.last_seq());
        let mut iter = self.iter(documents, &[], hold.seq)?;
        let mut effects = Effects::default();
        while let Some(entry) = iter.next_visible()? {
            let value = entry.value.unwrap_or_default();
            let change = Change { key: &entry.key, old: None, new: Some(&value) };
            index.follow(&change, &mut effects)?;
            effects.claims.clear();
            if effects.ops.len() >= BATCH_OPS {
                self.submit_batch(&mut effects)?;
            }
        }
        self.submit_batch(&mut effects)?;
        drop(hold);
        if index.is_unique() {
            self.check_unique(index)?;
        }
        Ok(())
    }

    fn check_unique(self: &Arc<Self>, index: &BTreeIndex) -> Result<()> {
        let hold = Hold::new(self, false, self.log.last_seq());
        let mut iter = self.iter(index.keyspace, &[], hold.seq)?;
        let mut last: Option<Bytes> = None;
        while let Some(entry) = iter.next_visible()? {
            let values = index.values_of(&entry.key)?;
            if let Some(last) = &last
                && index.values_of(last)? == values
            {
                let id = |entry: &Bytes| -> Result<String> {
                    Ok(crate::key::Id(index.id_of(entry)?.to_vec()).to_json())
                };
                return Err(Error::IndexNotUnique {
                    index: index.name().to_owned(),
                    key: index.describe(&values),
                    ids: vec![id(last)?, id(&entry.key)?],
                });
            }
            last = Some(entry.key);
        }
        Ok(())
    }

    fn submit_batch(&self, effects: &mut Effects) -> Result<()> {
        if effects.ops.is_empty() {
            return Ok(());
        }
        let ticket = self.submit(&std::mem::take(&mut effects.ops), None, false)?;
        self.log.wait(&ticket)?;
        effects.marks.drain(..).for_each(|mark| mark.set());
        Ok(())
    }

    /// Removes all entries of an index that is no more.
    fn empty_index(self: &Arc<Self>, keyspace: u32) -> Result<()> {
        let mut effects = Effects::default();
        let hold = Hold::new(self, false, self.log.last_seq());
        let mut iter = self.iter(keyspace, &[], hold.seq)?;
        while let Some(entry) = iter.next_visible()? {
            effects.ops.push(Op { keyspace, key: entry.key, value: None });
            if effects.ops.len() >= BATCH_OPS {
                self.submit_batch(&mut effects)?;
            }
        }
        if let Some((marks, _)) = self.keyspace(MARKS) {
            for key in self.marks_of(marks, keyspace)? {
                effects.ops.push(Op { keyspace: marks, key, value: None });
            }
        }
        self.submit_batch(&mut effects)
    }

    /// The marks of an index.
    fn marks_of(&self, marks: u32, keyspace: u32) -> Result<Vec<Bytes>> {
        let prefix = keyspace.to_be_bytes();
        let mut found = Vec::new();
        let mut iter = self.tree().iter(marks, &prefix, u64::MAX)?;
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
                all.push(Arc::clone(old));
                continue;
            }
            let since = if previous.is_some() { self.log.visible() } else { 0 };
            let state =
                if stored.is_ready { BuildState::Ready { since } } else { BuildState::Building };
            if let Some(old) = old {
                all.push(Arc::new(old.with_state(state)?));
                continue;
            }
            let (marks, _) = self.keyspace(MARKS).ok_or_else(|| {
                Error::corrupt("settings", 0, "there are indexes, but no keyspace of marks")
            })?;
            let flags = Arc::new(Flags::default());
            for key in self.marks_of(marks, stored.keyspace)? {
                let field = u32::from(key.last().copied().unwrap_or_default());
                flags.note_marked(1_u32.checked_shl(field).unwrap_or_default());
            }
            let index = BTreeIndex::new(stored.index, stored.keyspace, marks, state, flags)?;
            all.push(Arc::new(index));
        }
        Ok(all)
    }
}

/// An index in the settings.
struct Stored {
    name: String,
    index: Index,
    keyspace: u32,
    is_ready: bool,
}

fn stored(settings: &Settings) -> Result<Vec<Stored>> {
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

fn dropped(settings: &Settings) -> BTreeSet<u32> {
    let list = settings.get(DROPPED).and_then(Value::as_array);
    let numbers = list.into_iter().flatten().filter_map(Value::as_u64);
    numbers.filter_map(|number| u32::try_from(number).ok()).collect()
}

fn put(settings: &mut Settings, all: &[Stored], dropped: &BTreeSet<u32>) {
    let list = all.iter().map(|stored| {
        let index = stored.index.to_json();
        json!({ "index": index, "keyspace": stored.keyspace, "ready": stored.is_ready })
    });
    settings.insert(INDEXES.into(), list.collect());
    settings.insert(DROPPED.into(), json!(dropped));
}
