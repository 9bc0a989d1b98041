//! Cursors: streams of documents over a snapshot.

use std::{
    collections::VecDeque,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures_core::Stream;

use super::{Collection, Document, Snapshot, executor::may_block};
use crate::{
    error::{Error, Result},
    jb1,
    key::{Id, prefix_end},
    lsm::MergeIter,
};

/// Documents fetched at a time.
const CHUNK: usize = 64;

/// Which ids a scan covers.
#[derive(Debug, Clone, Default)]
pub struct Range {
    from: Vec<u8>,
    /// Exclusive.
    to: Option<Vec<u8>>,
}

impl Range {
    /// Every id.
    pub fn all() -> Self {
        Self::default()
    }

    /// From this id on.
    #[must_use]
    pub fn from(mut self, id: impl Into<Id>) -> Self {
        self.from = id.into().0;
        self
    }

    /// Up to, not including, this id.
    #[must_use]
    pub fn to(mut self, id: impl Into<Id>) -> Self {
        self.to = Some(id.into().0);
        self
    }

    /// Ids that are arrays and begin with these parts.
    pub fn prefix(parts: &[Id]) -> Self {
        let mut from = Id::tuple(parts).0;
        // Without its end mark the encoding is a prefix of every longer tuple.
        from.pop();
        let to = prefix_end(&from);
        Self { from, to }
    }

    pub(crate) fn bounds(&self) -> (&[u8], Option<&[u8]>) {
        (&self.from, self.to.as_deref())
    }
}

impl From<std::ops::RangeFull> for Range {
    fn from(_: std::ops::RangeFull) -> Self {
        Self::all()
    }
}

/// A cursor. It holds a snapshot, so what it yields is consistent however long it takes.
///
/// Use it as a `Stream`, or call [`Scan::next`].
pub struct Scan {
    collection: Collection,
    snapshot: Snapshot,
    range: Range,
    iter: Option<MergeIter>,
    ready: VecDeque<Document>,
    done: bool,
    fetching: Option<Fetching>,
}

type Fetched = Result<(MergeIter, Vec<Document>, bool)>;
type Fetching = Pin<Box<dyn Future<Output = Fetched> + Send>>;

impl Scan {
    pub(crate) fn new(collection: &Collection, snapshot: Snapshot, range: Range) -> Self {
        let done = collection.existing().is_none();
        Self {
            collection: collection.clone(),
            snapshot,
            range,
            iter: None,
            ready: VecDeque::new(),
            done,
            fetching: None,
        }
    }

    /// The next document.
    ///
    /// # Errors
    /// I/O errors and [`Error::Corruption`]; the scan ends there.
    ///
    /// # Cancel safety
    /// Dropping the future loses no document.
    pub async fn next(&mut self) -> Result<Option<Document>> {
        std::future::poll_fn(|context| self.poll_document(context)).await
    }

    /// The rest, as a vector.
    ///
    /// # Errors
    /// As [`Scan::next`].
    pub async fn collect(mut self) -> Result<Vec<Document>> {
        let mut all = Vec::new();
        while let Some(document) = self.next().await? {
            all.push(document);
        }
        Ok(all)
    }

    fn poll_document(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<Document>>> {
        loop {
            if let Some(document) = self.ready.pop_front() {
                return Poll::Ready(Ok(Some(document)));
            }
            if self.done {
                return Poll::Ready(Ok(None));
            }
            let mut fetching = match self.fetching.take() {
                Some(fetching) => fetching,
                None => self.fetch(),
            };
            match fetching.as_mut().poll(context) {
                Poll::Pending => {
                    self.fetching = Some(fetching);
                    return Poll::Pending;
                }
                Poll::Ready(Err(e)) => {
                    self.done = true;
                    return Poll::Ready(Err(e));
                }
                Poll::Ready(Ok((iter, documents, done))) => {
                    self.iter = Some(iter);
                    self.ready = documents.into();
                    self.done = done;
                }
            }
        }
    }

    fn fetch(&mut self) -> Fetching {
        let store = self.collection.store.clone();
        let Some(keyspace) = self.collection.existing() else {
            return Box::pin(std::future::ready(Err(Error::Closed)));
        };
        let iter = self.iter.take();
        let snapshot = self.snapshot.seq();
        let range = self.range.clone();
        let inline = may_block();
        Box::pin(async move {
            let work = move |core: &std::sync::Arc<crate::engine::Core>| {
                core.check_open()?;
                core.log.check_snapshot(snapshot)?;
                let mut iter = match iter {
                    Some(iter) => iter,
                    None => core.iter(keyspace, &range.from, snapshot)?,
                };
                let mut documents = Vec::new();
                while documents.len() < CHUNK {
                    let entry = iter.next_visible()?;
                    let Some(entry) =
                        entry.filter(|e| range.to.as_ref().is_none_or(|to| e.key[..] < to[..]))
                    else {
                        return Ok((iter, documents, true));
                    };
                    let mut json = Vec::new();
                    jb1::print(&entry.value.unwrap_or_default(), &mut json)?;
                    documents.push(Document { rev: entry.seq, json: Bytes::from(json) });
                }
                Ok((iter, documents, false))
            };
            if inline { work(store.core()) } else { store.run(work).await }
        })
    }
}

impl Stream for Scan {
    type Item = Result<Document>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_document(context).map(Result::transpose)
    }
}

impl std::fmt::Debug for Scan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scan").field("collection", &self.collection.name()).finish_non_exhaustive()
    }
}
