//! Proving that indexes and documents say the same, in one snapshot and in bounded memory.

use std::sync::Arc;

use bytes::Bytes;

use super::BTreeIndex;
use crate::{
    api::Collection,
    engine::{Core, Hold, Sorter},
    error::{Error, Result},
    key::Id,
    lsm::MergeIter,
};

impl Collection {
    /// Checks both ways that every index that is ready says what the documents say; returns how many
    /// entries there are. [`crate::Store::verify`] does it for all collections.
    ///
    /// # Errors
    /// [`Error::Corruption`] names the index and the first document that it is wrong about.
    pub async fn verify_indexes(&self) -> Result<u64> {
        let Some(documents) = self.existing() else { return Ok(0) };
        self.store.run(move |core| core.verify_indexes(documents)).await
    }
}

impl Core {
    /// The entries of all ready indexes of a collection, each proven.
    pub(crate) fn verify_indexes(self: &Arc<Self>, documents: u32) -> Result<u64> {
        // The snapshot comes first: what is ready then is complete in it.
        let hold = Hold::new(self, false, 0);
        let Some(state) = self.collection_state(documents) else { return Ok(0) };
        let ready = state.indexes.iter().filter(|index| index.is_ready_at(hold.seq));
        let indexes: Vec<Arc<BTreeIndex>> = ready.cloned().collect();
        let mut wanted: Vec<Sorter> =
            indexes.iter().map(|index| Sorter::new(self, index.keyspace)).collect();
        let mut iter = self.iter(documents, &[], hold.seq)?;
        while let Some(entry) = iter.next_visible()? {
            let document = entry.value.unwrap_or_default();
            for (index, wanted) in indexes.iter().zip(&mut wanted) {
                for (key, value) in &index.entries(&entry.key, &document)?.pairs {
                    wanted.push(key, Some(value))?;
                }
            }
        }
        let mut count = 0;
        for (index, wanted) in indexes.iter().zip(wanted) {
            let iter = self.iter(index.keyspace, &[], hold.seq)?;
            count += compare(index, wanted, iter)?;
        }
        Ok(count)
    }
}

/// What must be there against what is; both are in order.
fn compare(index: &BTreeIndex, wanted: Sorter, mut iter: MergeIter) -> Result<u64> {
    let bad = |key: &Bytes, what: &str| {
        let id = index.id_of(key).map_or_else(|_| "?".into(), |id| Id(id.to_vec()).to_json());
        Error::corrupt(format!("index {}", index.name()), 0, format!("{what} document {id}"))
    };
    let mut count = 0;
    let mut last: Option<Bytes> = None;
    wanted.finish(&mut |key, value| {
        let key = Bytes::copy_from_slice(key);
        count += 1;
        let found = iter.next_visible()?.ok_or_else(|| bad(&key, "there is no entry of"))?;
        match found.key.cmp(&key) {
            std::cmp::Ordering::Greater => return Err(bad(&key, "there is no entry of")),
            std::cmp::Ordering::Less => return Err(bad(&found.key, "there is a wrong entry of")),
            std::cmp::Ordering::Equal => {}
        }
        if found.value.as_deref() != value {
            return Err(bad(&key, "there is an entry with a wrong value of"));
        }
        if index.is_unique()
            && let Some(last) = &last
            && index.values_of(last)? == index.values_of(&key)?
        {
            return Err(bad(&key, "though it is unique, another has the key of"));
        }
        last = Some(key);
        Ok(())
    })?;
    match iter.next_visible()? {
        Some(extra) => Err(bad(&extra.key, "there is a wrong entry of")),
        None => Ok(count),
    }
}
