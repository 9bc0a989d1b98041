//! An index follows a bulk load: its entries are sorted and written as one stream.

use std::sync::Arc;

use bytes::Bytes;

use super::BTreeIndex;
use crate::{
    bugs::bug,
    engine::{Core, Sorter},
    error::Result,
    follow::{Change, Effects, Loader, Sink},
};

#[derive(Debug)]
pub(super) struct IndexLoader {
    core: Arc<Core>,
    index: Arc<BTreeIndex>,
    sorter: Sorter,
    /// Before the load nothing was in the index.
    was_empty: bool,
    /// Fields on which an array was met.
    noted: u32,
}

impl IndexLoader {
    pub(super) fn new(core: &Arc<Core>, index: Arc<BTreeIndex>) -> Result<Self> {
        let was_empty =
            core.tree().range(index.keyspace, &[], None, u64::MAX)?.next_visible()?.is_none();
        let sorter = Sorter::new(core, index.keyspace);
        Ok(Self { core: Arc::clone(core), index, sorter, was_empty, noted: 0 })
    }
}

impl Loader for IndexLoader {
    fn add(&mut self, change: &Change<'_>, effects: &mut Effects) -> Result<()> {
        let (new, old) = self.index.entries_of_change(change, effects)?;
        if let Some(field) = new.multikey.filter(|field| self.noted >> field & 1 == 0) {
            self.noted |= 1 << field;
            self.index.note_multikey(field, effects);
        }
        // Of a key that is in both, what comes last counts.
        for (key, _) in &old.pairs {
            self.sorter.push(key, None)?;
        }
        for (key, value) in &new.pairs {
            self.sorter.push(key, Some(value))?;
        }
        Ok(())
    }

    fn finish(self: Box<Self>, sink: &mut Sink<'_>) -> Result<()> {
        let Self { core, index, sorter, was_empty, .. } = *self;
        let keyspace = index.keyspace;
        if !index.is_unique() || bug("skip_unique_check") {
            return sorter.finish(&mut |key, value| sink(keyspace, key, value));
        }
        let mut group = Group::default();
        sorter.finish(&mut |key, value| {
            let key = Bytes::copy_from_slice(key);
            let values = index.values_of(&key)?;
            if values != group.values {
                group.check(&core, &index, was_empty)?;
                group = Group { values, ..Group::default() };
            }
            match value {
                Some(_) => group.set.push(key.clone()),
                None => group.gone.push(key.clone()),
            }
            sink(keyspace, &key, value)
        })?;
        group.check(&core, &index, was_empty)
    }
}

/// Changes of a load with the same values.
#[derive(Default)]
struct Group {
    values: Bytes,
    set: Vec<Bytes>,
    gone: Vec<Bytes>,
}

impl Group {
    fn check(&self, core: &Core, index: &BTreeIndex, was_empty: bool) -> Result<()> {
        let Some(key) = self.set.first() else { return Ok(()) };
        let claim = index.claim(self.values.clone(), key);
        if self.set.len() > 1 {
            return Err(claim.refusal());
        }
        if was_empty {
            return Ok(());
        }
        core.check_claim(&claim, |key| self.gone.contains(key)).map(|_| ())
    }
}
