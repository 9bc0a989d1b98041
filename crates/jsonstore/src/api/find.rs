//! Queries: which documents, in what order, how many, in what form.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use bytes::Bytes;
use serde_json::Value;

use super::{Collection, Cursor, Document, Snapshot, Transaction, cursor::Batches};
use crate::{
    engine::Core,
    error::{DocumentError, Error, Result},
    jb1,
    key::{self, Id},
    observe::Trace,
    plan::{self, Execution, Explanation, Found, FoundValue, PlanSummary, Query, QueryLimits},
    query::{Filter, Path, Projection, Sort},
};

/// A query. Nothing happens until its answer is asked for.
///
/// Without a sort the order is the one that is cheapest.
#[derive(Debug, Clone)]
#[must_use = "a query does nothing until its answer is asked for"]
pub struct Find {
    collection: Collection,
    query: Query,
    snapshot: Option<Snapshot>,
}

impl Find {
    /// In this order.
    pub fn sort(mut self, sort: Sort) -> Self {
        self.query.sort = sort;
        self
    }

    /// Without the first so many.
    pub fn skip(mut self, documents: u64) -> Self {
        self.query.skip = documents;
        self
    }

    /// At most so many.
    pub fn limit(mut self, documents: u64) -> Self {
        self.query.limit = Some(documents);
        self
    }

    /// Only some of their fields.
    pub fn projection(mut self, projection: Projection) -> Self {
        self.query.projection = Some(projection);
        self
    }

    /// By the index of this name; `_id` for none. It is an error if that cannot answer.
    pub fn hint(mut self, index: &str) -> Self {
        self.query.hint = Some(index.to_owned());
        self
    }

    /// What the query may take.
    pub fn limits(mut self, limits: QueryLimits) -> Self {
        self.query.limits = limits;
        self
    }

    /// With what has expired and is not deleted yet.
    pub(crate) fn with_expired(mut self) -> Self {
        self.query.sees_expired = true;
        self
    }

    /// As this snapshot sees it.
    pub fn at(mut self, snapshot: &Snapshot) -> Self {
        self.snapshot = Some(snapshot.clone());
        self
    }

    /// The documents, a batch at a time.
    pub fn cursor(self) -> Cursor {
        let store = self.collection.store.clone();
        let batches = self.running().map(|running| -> Box<dyn Batches> { Box::new(running) });
        Cursor::new(&store, batches)
    }

    /// All of the documents.
    ///
    /// # Errors
    /// I/O errors; [`Error::QueryLimit`]; [`Error::InvalidFilter`] for a hint that does not fit.
    pub async fn collect(self) -> Result<Vec<Document>> {
        match self.look_up()? {
            Some(found) => Ok(found),
            None => self.cursor().collect().await,
        }
    }

    /// The first document.
    ///
    /// # Errors
    /// As [`Find::collect`].
    pub async fn first(self) -> Result<Option<Document>> {
        Ok(self.limit(1).collect().await?.pop())
    }

    /// What one range of an index answers, and did for the last query of this shape.
    fn look_up(&self) -> Result<Option<Vec<Document>>> {
        if self.snapshot.is_some() {
            return Ok(None);
        }
        let (store, query) = (&self.collection.store, &self.query);
        let found = store.observed(
            &self.collection,
            |keyspace, view| plan::recalled(store.core(), keyspace, query, view),
            |(found, plan)| {
                let plan = PlanSummary(plan).to_string();
                Trace::of_look_up(query.described(), plan, found.len() as u64)
            },
        )?;
        let document = |(rev, json)| Document { rev, json };
        Ok(found.map(|(found, _)| found.into_iter().map(document).collect()))
    }

    pub(super) fn of(collection: &Collection, query: Query) -> Self {
        Self { collection: collection.clone(), query, snapshot: None }
    }

    /// How many there are, after `skip` and up to `limit`.
    ///
    /// # Errors
    /// As [`Find::collect`].
    pub async fn count(mut self) -> Result<u64> {
        self.query.counts = true;
        self.query.sort = Sort::default();
        self.query.projection = None;
        self.each(0, |count, _| {
            *count += 1;
            Ok(())
        })
        .await
    }

    /// The different values at a path, in their order. Elements of arrays count one by one.
    ///
    /// # Errors
    /// As [`Find::collect`]; they may take `QueryLimits::sort_bytes_max`.
    pub async fn distinct(mut self, path: &str) -> Result<Vec<Value>> {
        let parsed = Path::parse(path)?;
        let limit = self.query.limits.sort_bytes_max;
        self.query.sort = Sort::default();
        self.query.projection = None;
        self.query.distinct = Some(parsed.clone());
        let found = self
            .each((BTreeMap::new(), 0), move |(values, bytes), found| {
                let FoundValue::Jb1(document) = &found.value else { return Ok(()) };
                parsed.each_element(document, |value| {
                    let mut encoded = Vec::new();
                    if let Some(value) = value
                        && key::encode(value, &mut encoded).is_some()
                    {
                        *bytes += encoded.len() + value.len();
                        values.entry(encoded).or_insert_with(|| value.to_vec());
                    }
                });
                if *bytes > limit {
                    let limit = limit as u64;
                    return Err(Error::QueryLimit { what: "bytes of different values", limit });
                }
                Ok(())
            })
            .await?;
        found.0.values().map(|value| parsed_value(value)).collect()
    }

    /// How it would be answered, without doing it.
    ///
    /// # Errors
    /// [`Error::InvalidFilter`] for a hint that does not fit.
    pub async fn explain(self) -> Result<Explanation> {
        self.explained(false).await
    }

    /// Answers it, and says how that went.
    ///
    /// # Errors
    /// As [`Find::collect`].
    pub async fn explain_analyze(self) -> Result<Explanation> {
        self.explained(true).await
    }

    /// The documents as a transaction sees them, its own changes included. A serializable
    /// transaction conflicts with any change that could change the answer. `$text` is refused: what
    /// the transaction wrote is in no text index yet.
    ///
    /// # Errors
    /// As [`Find::collect`].
    pub async fn within(self, tx: &Transaction) -> Result<Vec<Document>> {
        let projection = self.query.projection.clone();
        let found = self.found_within(tx).await?;
        found.into_iter().map(|found| document(found, projection.as_ref())).collect()
    }

    pub(crate) async fn found_within(self, tx: &Transaction) -> Result<Vec<Found>> {
        let Some(keyspace) = tx.begin_reading(&self.collection)? else { return Ok(Vec::new()) };
        if self.query.filter.text().is_some() {
            let (path, reason) = ("$text".to_owned(), "a transaction cannot search".to_owned());
            return Err(Error::InvalidFilter { path, reason });
        }
        let own = tx.own_documents(keyspace).await?;
        let query = self.query;
        let (skip, limit) = (query.skip, query.limit);
        let inner = Query {
            skip: 0,
            limit: limit.map(|limit| limit.saturating_add(skip)),
            projection: None,
            ..query.clone()
        };
        let hidden: HashSet<Bytes> = own.iter().map(|(id, _)| id.clone()).collect();
        let snapshot = tx.reading_at();
        let hide = tx.hide(keyspace);
        let own_hide = hide.clone();
        let hold = Arc::clone(&self.collection.store.snapshot().hold);
        let _turn = self.collection.store.enter(0).await?;
        let (mut all, mut execution) = self
            .collection
            .store
            .run(move |core| {
                let seq = snapshot.unwrap_or(hold.seq);
                let mut execution = Execution::new(core, keyspace, Arc::new(inner), seq, hold)?
                    .within_transaction(hidden, hide);
                let mut all = Vec::new();
                loop {
                    let found = execution.next(core)?;
                    if found.is_empty() {
                        return Ok((all, execution));
                    }
                    all.extend(found);
                }
            })
            .await?;
        let examined = execution.examined.take().unwrap_or_default();
        tx.note_reads(execution.read_ranges(), (keyspace, examined));
        for (id, value) in own {
            let Some((rev, value)) = value else { continue };
            if query.filter.matches(&value) && !own_hide.hides(&value) {
                all.push(Found { id, rev, value: FoundValue::Jb1(value) });
            }
        }
        if !query.sort.is_empty() {
            all.sort_by(|a, b| match (&a.value, &b.value) {
                (FoundValue::Jb1(a), FoundValue::Jb1(b)) => query.sort.compare(a, b),
                _ => std::cmp::Ordering::Equal,
            });
        }
        all.drain(..all.len().min(usize::try_from(skip).unwrap_or(usize::MAX)));
        all.truncate(limit.map_or(usize::MAX, |l| usize::try_from(l).unwrap_or(usize::MAX)));
        Ok(all)
    }

    async fn explained(self, run: bool) -> Result<Explanation> {
        let store = self.collection.store.clone();
        let Some(running) = self.running() else {
            return Ok(Explanation::of_nothing());
        };
        let _turn = store.enter(0).await?;
        store
            .run(move |core| {
                let hold = Arc::clone(&running.snapshot.hold);
                let mut execution =
                    Execution::planned(core, running.keyspace, running.query, hold.seq, hold)?;
                if run {
                    while !execution.next(core)?.is_empty() {}
                }
                Ok(Explanation::of(&execution, run))
            })
            .await
    }

    /// Calls for each document found, off the caller's thread.
    async fn each<T: Send + 'static>(
        self,
        mut state: T,
        mut visit: impl FnMut(&mut T, Found) -> Result<()> + Send + 'static,
    ) -> Result<T> {
        let store = self.collection.store.clone();
        let Some(mut running) = self.running() else { return Ok(state) };
        let _turn = store.enter(0).await?;
        store
            .run(move |core| {
                let mut execution = running.begin(core)?;
                loop {
                    let found = execution.next(core)?;
                    if found.is_empty() {
                        return Ok(state);
                    }
                    found.into_iter().try_for_each(|found| visit(&mut state, found))?;
                }
            })
            .await
    }

    /// The query with its snapshot; `None` if the collection does not exist.
    fn running(self) -> Option<Running> {
        let keyspace = self.collection.existing()?;
        let snapshot = self.snapshot.unwrap_or_else(|| self.collection.store.snapshot());
        Some(Running { keyspace, query: Arc::new(self.query), snapshot, execution: None })
    }
}

/// A query that is being answered.
#[derive(Debug)]
struct Running {
    keyspace: u32,
    query: Arc<Query>,
    snapshot: Snapshot,
    execution: Option<Execution>,
}

impl Running {
    fn begin(&mut self, core: &Core) -> Result<Execution> {
        let hold = Arc::clone(&self.snapshot.hold);
        Execution::new(core, self.keyspace, Arc::clone(&self.query), hold.seq, hold)
    }
}

impl Batches for Running {
    fn next(&mut self, core: &Arc<Core>) -> Result<Vec<Document>> {
        let mut execution = match self.execution.take() {
            Some(execution) => execution,
            None => self.begin(core)?,
        };
        let found = execution.next(core)?;
        self.execution = Some(execution);
        let projection = self.query.projection.as_ref();
        found.into_iter().map(|found| document(found, projection)).collect()
    }
}

impl Collection {
    /// A query for the documents that match.
    pub fn find(&self, filter: impl Into<Filter>) -> Find {
        let query = Query { filter: filter.into(), ..Query::default() };
        Find::of(self, query)
    }

    /// The first document that matches, if there is one.
    ///
    /// # Errors
    /// As [`Find::collect`].
    pub async fn find_one(&self, filter: impl Into<Filter>) -> Result<Option<Document>> {
        self.find(filter).first().await
    }

    /// Removes every document that matches, in one transaction; returns how many.
    ///
    /// # Errors
    /// As [`Collection::update_many`].
    ///
    /// # Cancel safety
    /// As [`Collection::insert`].
    pub async fn delete_many(&self, filter: &Filter) -> Result<u64> {
        self.store
            .transact(|tx| async move {
                let found = self.find(filter.clone()).found_within(&tx).await?;
                let mut count = 0;
                for found in found {
                    count += u64::from(tx.delete(self, Id(found.id.to_vec())).await?);
                }
                Ok(count)
            })
            .await
    }
}

impl From<&Filter> for Filter {
    fn from(filter: &Filter) -> Self {
        filter.clone()
    }
}

fn document(found: Found, projection: Option<&Projection>) -> Result<Document> {
    let json = match found.value {
        FoundValue::Json(json) => json,
        FoundValue::Jb1(value) => {
            let projected = projection.map(|projection| projection.apply(&value)).transpose()?;
            Bytes::from(printed(projected.as_deref().unwrap_or(&value))?)
        }
    };
    Ok(Document { rev: found.rev, json })
}

fn printed(value: &[u8]) -> Result<Vec<u8>> {
    let mut json = Vec::new();
    jb1::print(value, &mut json).map_err(|_| Error::Document(DocumentError::Malformed))?;
    Ok(json)
}

fn parsed_value(value: &[u8]) -> Result<Value> {
    serde_json::from_slice(&printed(value)?).map_err(|_| DocumentError::Malformed.into())
}
