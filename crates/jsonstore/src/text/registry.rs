//! The text indexes of a store, and when their keeper may work.

use std::{collections::BTreeMap, sync::Arc};

use parking_lot::{Condvar, Mutex, RwLock};
use serde_json::Value;

use super::{
    follow::TextFollower, settings::TextIndex, state::TextState, terms::Scheme, upkeep::Work,
};
use crate::{
    catalog::{CollectionState, Settings},
    commit::Op,
    engine::Core,
    error::{Error, Result},
    follow::Follower,
};

/// The member of a collection's settings: an object, the settings of each index by its name.
pub(crate) const SETTINGS: &str = "text";

/// The text indexes of a store by their keyspaces.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    states: Mutex<BTreeMap<u32, Arc<TextState>>>,
    /// Held for reading between the numbering of changes and their place in the log.
    stamps: RwLock<()>,
}

/// Keeps keepers of indexes and bulk loads apart: a load writes with an older sequence number than
/// what is committed meanwhile.
#[derive(Debug, Default)]
pub(crate) struct UpkeepGate {
    /// Loads, and pieces of work.
    counts: Mutex<(u32, u32)>,
    idle: Condvar,
}

/// A piece of work is going on.
#[derive(Debug)]
pub(crate) struct Unit<'a>(&'a UpkeepGate);

/// A load is going on.
#[derive(Debug)]
pub(crate) struct LoadGuard(Arc<Core>);

impl UpkeepGate {
    /// `None` while something is loaded.
    pub(crate) fn begin(&self) -> Option<Unit<'_>> {
        let mut counts = self.counts.lock();
        if counts.0 > 0 {
            return None;
        }
        counts.1 += 1;
        Some(Unit(self))
    }
}

impl Drop for Unit<'_> {
    fn drop(&mut self) {
        self.0.counts.lock().1 -= 1;
        self.0.idle.notify_all();
    }
}

impl LoadGuard {
    /// Waits for the piece of work that is going on.
    pub(crate) fn new(core: &Arc<Core>) -> Self {
        let gate = &core.upkeep;
        let mut counts = gate.counts.lock();
        counts.0 += 1;
        while counts.1 > 0 {
            gate.idle.wait(&mut counts);
        }
        drop(counts);
        Self(Arc::clone(core))
    }
}

impl Drop for LoadGuard {
    fn drop(&mut self) {
        self.0.upkeep.counts.lock().0 -= 1;
    }
}

impl Registry {
    /// The state of an index, the same for the same keyspace.
    fn state(
        &self,
        index: TextIndex,
        keyspace: u32,
        documents: u32,
        cache_bytes: usize,
    ) -> Arc<TextState> {
        let mut states = self.states.lock();
        let state = states.entry(keyspace).or_insert_with(|| {
            let scheme = Scheme::new(index);
            Arc::new(TextState::new(scheme, keyspace, documents, cache_bytes))
        });
        Arc::clone(state)
    }

    pub(crate) fn forget(&self, keyspace: u32) {
        self.states.lock().remove(&keyspace);
    }

    pub(crate) fn all(&self) -> Vec<Arc<TextState>> {
        let mut all: Vec<_> = self.states.lock().values().cloned().collect();
        all.sort_by_key(|state| state.keyspace);
        all
    }
}

/// What the settings of a collection say about text: its indexes.
pub(crate) fn indexes(
    core: &Core,
    documents: u32,
    settings: &Settings,
) -> Result<Vec<Arc<TextState>>> {
    let bad = || Error::corrupt("settings", 0, "a text index is malformed");
    let Some(all) = settings.get(SETTINGS) else { return Ok(Vec::new()) };
    let all = all.as_object().ok_or_else(bad)?.values().map(|value| {
        let keyspace = value.get("keyspace").and_then(Value::as_u64);
        let keyspace = keyspace.and_then(|k| u32::try_from(k).ok()).ok_or_else(bad)?;
        let index = value.get("index").and_then(TextIndex::from_json).ok_or_else(bad)?;
        Ok(core.text.state(index, keyspace, documents, core.options.text_cache_bytes()))
    });
    all.collect()
}

impl CollectionState {
    /// Adds what follows the collection's text indexes.
    pub(crate) fn follow_text(&mut self) {
        for state in &self.text {
            self.followers.push(Arc::new(TextFollower(Arc::clone(state))) as Arc<dyn Follower>);
        }
    }
}

impl Core {
    /// Numbers changes by the newest commit. The caller submits them before it lets go of the guard:
    /// so the number rises with every commit that changes the same document, and none is greater than
    /// the commit's own.
    pub(crate) fn stamp(&self, ops: &mut [Op]) -> Option<parking_lot::RwLockReadGuard<'_, ()>> {
        if ops.is_empty() {
            return None;
        }
        let guard = self.text.stamps.read();
        let number = self.log.last_seq() + 1;
        for op in ops {
            let mut key = op.key.to_vec();
            if let Some(place) = key.get_mut(1..9) {
                place.copy_from_slice(&number.to_be_bytes());
            }
            op.key = bytes::Bytes::from(key);
        }
        Some(guard)
    }

    /// Changes with smaller numbers than this are all in the log by now, with smaller sequence numbers.
    pub(crate) fn stamp_barrier(&self) -> u64 {
        let _all = self.text.stamps.write();
        self.log.last_seq() + 1
    }

    /// Does one piece of work on some text index; false if there is none.
    pub(crate) fn keep_text(self: &Arc<Self>) -> Result<bool> {
        for state in self.text.all() {
            if state.work(self, false)? == Work::Some {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
