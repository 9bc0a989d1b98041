//! One collection of documents.

use std::sync::Arc;

use bytes::Bytes;

use super::{
    Cursor, Document, Input, Isolation, Range, Snapshot, Store, executor::may_block, scan::Scan,
    transaction::Transaction,
};
use crate::{
    codec::hash_key,
    engine::{Blocking, Core, KeyspaceKind, View, is_would_block},
    error::{Error, Result},
    expiry::Hide,
    jb1::Update,
    key::Id,
    observe::Operation,
    transfer::{self, ExportOptions, ExportReport, ImportOptions, ImportReport, TransferProgress},
};

/// A named set of documents, ordered by id.
#[derive(Debug, Clone)]
pub struct Collection {
    pub(crate) store: Store,
    name: Arc<str>,
    number: Arc<std::sync::OnceLock<u32>>,
}

impl Collection {
    pub(crate) fn new(store: Store, name: &str) -> Self {
        Self { store, name: name.into(), number: Arc::default() }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Stores a new document, giving it an `_id` if it has none.
    ///
    /// # Errors
    /// [`Error::DuplicateId`]; [`Error::Document`] if it breaks a rule.
    ///
    /// # Cancel safety
    /// Dropping the future before the commit is logged changes nothing; after, the commit goes on.
    pub async fn insert(&self, document: impl Into<Input<'_>>) -> Result<Id> {
        let tx = self.single();
        let id = tx.insert(self, document).await?;
        tx.commit().await?;
        Ok(id)
    }

    /// Stores several new documents in one transaction: all or none.
    ///
    /// # Errors
    /// As [`Collection::insert`].
    pub async fn insert_many<'a>(
        &self,
        documents: impl IntoIterator<Item = impl Into<Input<'a>>>,
    ) -> Result<Vec<Id>> {
        let tx = self.single();
        let mut ids = Vec::new();
        for document in documents {
            ids.push(tx.insert(self, document).await?);
        }
        tx.commit().await?;
        Ok(ids)
    }

    /// Stores a document, replacing one with the same `_id`.
    ///
    /// # Errors
    /// [`Error::Document`] if it breaks a rule.
    ///
    /// # Cancel safety
    /// As [`Collection::insert`].
    pub async fn put(&self, document: impl Into<Input<'_>>) -> Result<Id> {
        let tx = self.single();
        let id = tx.put(self, document).await?;
        tx.commit().await?;
        Ok(id)
    }

    /// Replaces the document with the `_id` of this one; `false` if there is none.
    ///
    /// # Errors
    /// [`Error::Document`] if it breaks a rule.
    ///
    /// # Cancel safety
    /// As [`Collection::insert`].
    pub async fn replace(&self, document: impl Into<Input<'_>>) -> Result<bool> {
        let tx = self.single();
        let done = tx.replace(self, document).await?;
        tx.commit().await?;
        Ok(done)
    }

    /// The document with this id. A cached one comes without leaving the caller's thread.
    ///
    /// # Errors
    /// I/O errors and [`Error::Corruption`].
    pub async fn get(&self, id: impl Into<Id>) -> Result<Option<Document>> {
        let id = id.into();
        let Some(keyspace) = self.existing() else {
            self.core().check_open()?;
            return Ok(None);
        };
        let hide = self.core().hide_now(keyspace);
        self.read(keyspace, &id, View::Newest(self.store.session.seq()), &hide).await
    }

    /// The document with this id as a snapshot sees it.
    ///
    /// # Errors
    /// I/O errors and [`Error::Corruption`].
    pub async fn get_at(&self, snapshot: &Snapshot, id: impl Into<Id>) -> Result<Option<Document>> {
        let id = id.into();
        let Some(keyspace) = self.existing() else { return Ok(None) };
        let hide = self.core().hide(keyspace, &snapshot.hold);
        self.read(keyspace, &id, View::Snapshot(snapshot.seq()), &hide).await
    }

    /// The documents with these ids in their order, `None` for an id there is none with; all as of
    /// one moment. Cheaper than one by one: what lies together is read once.
    ///
    /// # Errors
    /// I/O errors and [`Error::Corruption`].
    pub async fn get_many(
        &self,
        ids: impl IntoIterator<Item = impl Into<Id>>,
    ) -> Result<Vec<Option<Document>>> {
        let keys: Vec<Bytes> = ids.into_iter().map(|id| Bytes::from(id.into().0)).collect();
        let Some(keyspace) = self.existing() else {
            self.core().check_open()?;
            return Ok(vec![None; keys.len()]);
        };
        let view = View::Newest(self.store.session.seq());
        let _turn = self.store.enter(0).await?;
        let hide = self.core().hide_now(keyspace);
        let work = move |core: &Arc<Core>| core.documents(keyspace, &keys, view, &hide);
        let found = self.store.run_from_memory(work).await?;
        let document = |(rev, json)| Document { rev, json };
        Ok(found.into_iter().map(|found| found.map(document)).collect())
    }

    /// Changes fields of a document; `false` if there is none with this id.
    ///
    /// # Errors
    /// [`Error::InvalidUpdate`] if an operator does not fit the field.
    ///
    /// # Cancel safety
    /// As [`Collection::insert`].
    pub async fn update(&self, id: impl Into<Id>, update: &Update) -> Result<bool> {
        let tx = self.single();
        let done = tx.update(self, id, update).await?;
        tx.commit().await?;
        Ok(done)
    }

    /// Removes a document; `false` if there is none with this id.
    ///
    /// # Errors
    /// I/O errors.
    ///
    /// # Cancel safety
    /// As [`Collection::insert`].
    pub async fn delete(&self, id: impl Into<Id>) -> Result<bool> {
        let tx = self.single();
        let done = tx.delete(self, id).await?;
        tx.commit().await?;
        Ok(done)
    }

    /// Documents in the order of their ids, as of now.
    pub fn scan(&self, range: impl Into<Range>) -> Cursor {
        Scan::cursor(self, self.store.snapshot(), range.into())
    }

    /// Documents in the order of their ids, as a snapshot sees them.
    pub fn scan_at(&self, snapshot: &Snapshot, range: impl Into<Range>) -> Cursor {
        Scan::cursor(self, snapshot.clone(), range.into())
    }

    /// Stores the documents of an input, which is read as a stream. Documents without `_id` get one.
    ///
    /// # Errors
    /// [`crate::TransferError`] if the input is not what the options say, or too much of it is refused;
    /// I/O errors. Unless it was a bulk load, what was stored until then stays.
    ///
    /// # Cancel safety
    /// Dropping the future lets the import go on in the background.
    pub async fn import(
        &self,
        input: impl std::io::Read + Send + 'static,
        options: ImportOptions,
        mut progress: impl FnMut(TransferProgress) + Send + 'static,
    ) -> Result<ImportReport> {
        let collection = self.clone();
        let work =
            move |_: &Arc<Core>| transfer::import(&collection, input, &options, &mut progress);
        self.store.run(work).await
    }

    /// Writes all documents, as of now, in the order of their ids.
    ///
    /// # Errors
    /// I/O errors; [`Error::SnapshotTooOld`] if the disk fills up meanwhile.
    ///
    /// # Cancel safety
    /// Dropping the future lets the export go on in the background.
    pub async fn export(
        &self,
        output: impl std::io::Write + Send + 'static,
        options: ExportOptions,
        mut progress: impl FnMut(TransferProgress) + Send + 'static,
    ) -> Result<ExportReport> {
        let collection = self.clone();
        let work =
            move |_: &Arc<Core>| transfer::export(&collection, output, &options, &mut progress);
        self.store.run(work).await
    }

    pub(crate) fn core(&self) -> &Arc<Core> {
        self.store.core()
    }

    /// The keyspace, if the collection exists.
    pub(crate) fn existing(&self) -> Option<u32> {
        if let Some(number) = self.number.get() {
            return Some(*number);
        }
        let (number, kind) = self.core().keyspace(&self.name)?;
        (kind == KeyspaceKind::Documents).then(|| *self.number.get_or_init(|| number))
    }

    pub(crate) fn ensure(&self) -> Result<u32> {
        if let Some(number) = self.existing() {
            return Ok(number);
        }
        let number = self.core().keyspace_or_new(&self.name, KeyspaceKind::Documents)?;
        Ok(*self.number.get_or_init(|| number))
    }

    pub(crate) async fn read(
        &self,
        keyspace: u32,
        id: &Id,
        view: View,
        hide: &Hide,
    ) -> Result<Option<Document>> {
        let core = self.core();
        core.check_open()?;
        let timer = core.timer(Operation::Get);
        let _turn = self.store.enter(0).await?;
        let key = id.as_bytes();
        let found = if may_block() || !core.options.env.has_threads() {
            core.document(keyspace, key, view, hide)?
        } else if let Some(found) = core.cached(keyspace, key, hash_key(keyspace, key), view, hide)
        {
            found
        } else {
            let here = {
                let _forbid = Blocking::forbid();
                core.document(keyspace, key, view, hide)
            };
            match here {
                Err(e) if is_would_block(&e) => {
                    let key = Bytes::copy_from_slice(key);
                    let hide = hide.clone();
                    self.store.run(move |core| core.document(keyspace, &key, view, &hide)).await?
                }
                other => other?,
            }
        };
        timer.done();
        Ok(found.map(|(rev, json)| Document { rev, json }))
    }

    fn single(&self) -> Transaction {
        Transaction::begin(&self.store, Isolation::Latest, 0)
    }

    pub(crate) fn duplicate(id: &Id) -> Error {
        Error::DuplicateId { id: id.to_json() }
    }

    /// Whether the newest version, durable or not, is a deletion; `false` if it cannot be read.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn testing_is_deleted(&self, id: impl Into<Id>) -> bool {
        let latest = |keyspace| self.core().read_latest(keyspace, id.into().as_bytes());
        self.existing().map(latest).is_some_and(|found| matches!(found, Ok(Some((_, None)))))
    }

    /// The newest version, durable or not.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn testing_latest(&self, id: impl Into<Id>) -> Result<Option<String>> {
        let Some(keyspace) = self.existing() else { return Ok(None) };
        let found = self.core().read_latest(keyspace, id.into().as_bytes())?;
        let Some((_, Some(value))) = found else { return Ok(None) };
        let mut json = Vec::new();
        crate::jb1::print(&value, &mut json)?;
        Ok(String::from_utf8(json).ok())
    }
}
