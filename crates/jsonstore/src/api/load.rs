//! Bulk loading.

use std::sync::Arc;

use super::{Collection, Input, Isolation, Keyspace, Store, Target, Transaction};
use crate::{engine::Ingest, error::Result, key::Id, lock::LockMode};

/// A bulk load: fast, and all or nothing. Nobody else writes meanwhile; readers go on.
///
/// A document put twice keeps its last version. Keys that come in ascending order are cheapest.
#[derive(Debug)]
pub struct Load {
    store: Store,
    ingest: Option<Ingest>,
    /// Keeps the store locked.
    lock: Transaction,
}

impl Load {
    pub(crate) async fn begin(store: Store) -> Result<Self> {
        let lock = store.begin(Isolation::Latest);
        lock.lock(Target::Store, LockMode::Exclusive).await?;
        let ingest = store.run(Ingest::new).await?;
        Ok(Self { store, ingest: Some(ingest), lock })
    }

    /// Adds a document. Blocks now and then to write to the disk.
    ///
    /// # Errors
    /// [`crate::Error::Document`] if it breaks a rule; I/O errors.
    pub fn put<'a>(
        &mut self,
        collection: &Collection,
        document: impl Into<Input<'a>>,
    ) -> Result<Id> {
        let core = Arc::clone(self.store.core());
        let keyspace = collection.ensure()?;
        let (id, bytes) =
            document.into().prepare(&core.limits(), || super::transaction::fresh_id(&core))?;
        self.add(keyspace, id.as_bytes(), &bytes)?;
        Ok(id)
    }

    /// Adds a pair to a keyspace.
    ///
    /// # Errors
    /// I/O errors.
    pub fn put_key(&mut self, keyspace: &Keyspace, key: &[u8], value: &[u8]) -> Result<()> {
        let number = keyspace.ensure()?;
        self.add(number, key, value)
    }

    /// Makes everything durable and visible.
    ///
    /// # Errors
    /// I/O errors; then nothing of the load remains.
    pub async fn finish(mut self) -> Result<()> {
        if let Some(ingest) = self.ingest.take() {
            self.store.run(move |_| ingest.finish()).await?;
        }
        self.lock.rollback();
        Ok(())
    }

    fn add(&mut self, keyspace: u32, key: &[u8], value: &[u8]) -> Result<()> {
        match &mut self.ingest {
            Some(ingest) => ingest.put(keyspace, key, value),
            None => Err(crate::error::Error::Closed),
        }
    }
}
