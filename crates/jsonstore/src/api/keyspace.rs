//! Ordered bytes, for indexes of one's own and the like.

use std::sync::Arc;

use bytes::Bytes;

use super::{Store, executor::may_block};
use crate::{
    engine::{Blocking, Core, Hold, KeyspaceKind, View, is_would_block},
    error::Result,
};

/// Ordered bytes to bytes; written in transactions, together with documents.
#[derive(Debug, Clone)]
pub struct Keyspace {
    store: Store,
    name: Arc<str>,
    number: Arc<std::sync::OnceLock<u32>>,
}

impl Keyspace {
    pub(crate) fn new(store: Store, name: &str) -> Self {
        Self { store, name: name.into(), number: Arc::default() }
    }

    /// The value of a key, as of now.
    ///
    /// # Errors
    /// I/O errors and `Error::Corruption`.
    pub async fn get(&self, key: &[u8]) -> Result<Option<Bytes>> {
        let Some(keyspace) = self.existing() else { return Ok(None) };
        let core = self.store.core();
        core.check_open()?;
        let floor = self.store.session.seq();
        let here = {
            let _forbid = (!may_block() && core.options.env.has_threads()).then(Blocking::forbid);
            core.read_newest(keyspace, key, floor)
        };
        let found = match here {
            Err(e) if is_would_block(&e) => {
                let key = Bytes::copy_from_slice(key);
                self.store.run(move |core| core.read_newest(keyspace, &key, floor)).await?
            }
            other => other?,
        };
        Ok(found.1.and_then(|(_, value)| value))
    }

    /// The values of keys in their order, all as of one moment; cheaper than one by one.
    ///
    /// # Errors
    /// I/O errors and `Error::Corruption`.
    pub async fn get_many(&self, keys: &[impl AsRef<[u8]>]) -> Result<Vec<Option<Bytes>>> {
        let Some(keyspace) = self.existing() else { return Ok(vec![None; keys.len()]) };
        let keys: Vec<Bytes> =
            keys.iter().map(|key| Bytes::copy_from_slice(key.as_ref())).collect();
        let view = View::Newest(self.store.session.seq());
        let work = move |core: &Arc<Core>| core.values(keyspace, &keys, view);
        let found = self.store.run_from_memory(work).await?;
        Ok(found.into_iter().map(|found| found.map(|(_, value)| value)).collect())
    }

    /// Up to `limit` pairs from a key on, in order, as of now.
    ///
    /// # Errors
    /// I/O errors and `Error::Corruption`.
    pub async fn range(&self, from: &[u8], limit: usize) -> Result<Vec<(Bytes, Bytes)>> {
        let Some(keyspace) = self.existing() else { return Ok(Vec::new()) };
        let from = from.to_vec();
        let floor = self.store.session.seq();
        self.store
            .run(move |core| {
                let hold = Hold::new(core, false, floor);
                let mut iter = core.iter(keyspace, &from, hold.seq)?;
                let mut out = Vec::with_capacity(limit.min(1024));
                while out.len() < limit {
                    let Some(entry) = iter.next_visible()? else { break };
                    out.push((entry.key, entry.value.unwrap_or_default()));
                }
                Ok(out)
            })
            .await
    }

    pub(crate) fn existing(&self) -> Option<u32> {
        if let Some(number) = self.number.get() {
            return Some(*number);
        }
        let (number, kind) = self.store.core().keyspace(&self.name)?;
        (kind == KeyspaceKind::Bytes).then(|| *self.number.get_or_init(|| number))
    }

    pub(crate) fn ensure(&self) -> Result<u32> {
        if let Some(number) = self.existing() {
            return Ok(number);
        }
        let number = self.store.core().keyspace_or_new(&self.name, KeyspaceKind::Bytes)?;
        Ok(*self.number.get_or_init(|| number))
    }
}
