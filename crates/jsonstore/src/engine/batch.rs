//! Reading many keys at once, as an index range needs it: what the caches do not have is looked for
//! in the order of the keys, and comes back in the caller's.

use bytes::Bytes;

use super::{Core, View, read::printed};
use crate::{
    cache::CachedDocument,
    codec::hash_key,
    error::Result,
    expiry::Hide,
    lsm::{Batch, Tree},
};

impl Core {
    /// The stored values (JB1 in a collection) of keys with their versions, `None` for those that
    /// do not exist; all as of one moment. The same key may come several times.
    ///
    /// # Errors
    /// I/O errors and `Error::Corruption`; `Error::SnapshotTooOld`; the hidden error of
    /// `would_block` while blocking is forbidden and something must be read.
    pub(crate) fn values(
        &self,
        keyspace: u32,
        keys: &[Bytes],
        view: View,
    ) -> Result<Vec<Option<(u64, Bytes)>>> {
        let mut batch = Batch::new(keyspace);
        for (place, key) in keys.iter().enumerate() {
            batch.add(key, hash_key(keyspace, key), place);
        }
        let (tree, at) = self.moment(view)?;
        let mut all = vec![None; keys.len()];
        tree.find(&batch, at, &mut |probe, seq, value| {
            all[probe.place] = value.map(|value| (seq, value.into_bytes()));
            Ok(())
        })?;
        Ok(all)
    }

    /// The documents with these keys as JSON text, as `Core::document` gives one of them; all as of
    /// one moment; without those that are hidden.
    ///
    /// # Errors
    /// As `Core::values`.
    pub(crate) fn documents(
        &self,
        keyspace: u32,
        keys: &[Bytes],
        view: View,
        hide: &Hide,
    ) -> Result<Vec<Option<(u64, Bytes)>>> {
        let (tree, at) = self.moment(view)?;
        let keys = keys.iter().map(|key| &key[..]);
        self.all_documents(keyspace, keys, (&tree, at), hide)
    }

    /// Those of the documents that are there and not hidden, as of a moment.
    ///
    /// # Errors
    /// I/O errors and `Error::Corruption`; the hidden error of `would_block`.
    pub(crate) fn documents_at<'a>(
        &self,
        keyspace: u32,
        mut keys: impl ExactSizeIterator<Item = &'a [u8]>,
        (tree, at): (&Tree, u64),
        hide: &Hide,
    ) -> Result<Vec<(u64, Bytes)>> {
        if keys.len() == 1 {
            let one = keys.next().map(|key| self.document_at(keyspace, key, (tree, at), hide));
            return Ok(one.transpose()?.flatten().into_iter().collect());
        }
        let all = self.all_documents(keyspace, keys, (tree, at), hide)?;
        Ok(all.into_iter().flatten().collect())
    }

    fn all_documents<'a>(
        &self,
        keyspace: u32,
        keys: impl ExactSizeIterator<Item = &'a [u8]>,
        (tree, at): (&Tree, u64),
        hide: &Hide,
    ) -> Result<Vec<Option<(u64, Bytes)>>> {
        let mut all = Vec::with_capacity(keys.len());
        let mut batch = Batch::new(keyspace);
        for (place, key) in keys.enumerate() {
            let hash = hash_key(keyspace, key);
            let cached = self.documents.get(&self.versions, keyspace, key, hash, at, hide);
            if cached.is_none() {
                batch.add(key, hash, place);
            }
            all.push(cached.flatten());
        }
        let capacity = self.document_cache_bytes(tree);
        tree.find(&batch, at, &mut |probe, seq, value| {
            let Some(value) = value else { return Ok(()) };
            let Some(stamp) = hide.admit(value.bytes()) else { return Ok(()) };
            let json = printed(value.bytes())?;
            let cached = |json: Bytes| CachedDocument { seq, loaded_at: at, stamp, json };
            self.documents.insert(keyspace, probe.key(), probe.hash, &json, capacity, cached);
            all[probe.place] = Some((seq, json));
            Ok(())
        })?;
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        Snapshot, Store, block_on,
        key::Id,
        testing::{SimEnv, SimVfs, small_options},
    };

    const KEYS: u64 = 400;

    fn store() -> Store {
        block_on(Store::open(small_options(&SimVfs::new(), &Arc::new(SimEnv::new(1))))).unwrap()
    }

    /// Versions and deletions in every part of the tree, and a snapshot from the middle.
    fn fill(store: &Store) -> Snapshot {
        let c = store.collection("c").unwrap();
        let put = |range: std::ops::Range<u64>, round: u64| {
            for id in range {
                let text = format!(r#"{{"_id":{id},"round":{round},"pad":"{}"}}"#, "x".repeat(200));
                block_on(c.put(&text)).unwrap();
            }
        };
        put(0..KEYS, 1);
        block_on(store.compact()).unwrap();
        put(0..KEYS / 2, 2);
        block_on(c.delete(7)).unwrap();
        let before = store.snapshot();
        block_on(store.checkpoint()).unwrap();
        put(100..150, 3);
        block_on(c.delete(120)).unwrap();
        store.core().rotate(true);
        put(140..160, 4);
        block_on(c.delete(300)).unwrap();
        before
    }

    #[test]
    fn a_batch_sees_what_single_reads_see() {
        let store = store();
        let snapshot = fill(&store);
        let core = store.core();
        let (keyspace, _) = core.keyspace("c").unwrap();
        // Out of order, with repetitions and keys that do not exist.
        let keys: Vec<Bytes> =
            (0..KEYS + 20).map(|i| Bytes::from(Id::from(i * 7919 % (KEYS + 10)).0)).collect();
        for view in [View::Newest(0), View::Snapshot(snapshot.seq())] {
            let all = Hide::nothing();
            let single = |key: &Bytes| core.document(keyspace, key, view, &all).unwrap();
            // Twice: from the tree, then mostly from the cache.
            for _ in 0..2 {
                let documents = core.documents(keyspace, &keys, view, &all).unwrap();
                let values = core.values(keyspace, &keys, view).unwrap();
                for ((key, document), value) in keys.iter().zip(documents).zip(values) {
                    assert_eq!(document, single(key));
                    let printed = value.map(|(seq, value)| (seq, printed(&value).unwrap()));
                    assert_eq!(printed, document);
                }
            }
        }
        let all = Hide::nothing();
        let found = core.documents(keyspace, &keys, View::Newest(0), &all).unwrap();
        assert_eq!(found.iter().flatten().count(), keys.iter().filter(|k| exists(k)).count());
        assert_eq!(core.documents(keyspace, &[], View::Newest(0), &all).unwrap(), []);
        assert_eq!(core.values(keyspace + 1, &keys[..1], View::Newest(0)).unwrap(), [None]);
    }

    #[test]
    fn a_range_is_a_part_of_all() {
        let store = store();
        let snapshot = fill(&store);
        let core = store.core();
        let (keyspace, _) = core.keyspace("c").unwrap();
        for seq in [snapshot.seq(), store.snapshot().seq()] {
            let keys = |from: &[u8], to: Option<&[u8]>| {
                let mut iter = core.range(keyspace, from, to, seq).unwrap();
                let mut found = Vec::new();
                while let Some(entry) = iter.next_visible().unwrap() {
                    found.push((entry.key, entry.seq));
                }
                found
            };
            let all = keys(&[], None);
            assert!(all.len() > 300);
            let key = |id: u64| Id::from(id).0;
            for (from, to) in [(0, 1), (7, 8), (99, 121), (110, 110), (5, 3), (139, 161), (0, 999)]
            {
                let (from, to) = (key(from), key(to));
                let inside = |(key, _): &&(Bytes, u64)| key[..] >= from[..] && key[..] < to[..];
                let part: Vec<_> = all.iter().filter(inside).cloned().collect();
                assert_eq!(keys(&from, Some(&to)), part);
                let mut iter = core.range_back(keyspace, &from, Some(&to), seq).unwrap();
                let mut back = Vec::new();
                while let Some(entry) = iter.next_visible().unwrap() {
                    back.push((entry.key, entry.seq));
                }
                back.reverse();
                assert_eq!(back, part);
            }
        }
    }

    fn exists(key: &Bytes) -> bool {
        let gone = [7, 120, 300].map(|id: u64| Id::from(id).0);
        key[..] < Id::from(KEYS).0[..] && !gone.iter().any(|gone| gone[..] == key[..])
    }
}
