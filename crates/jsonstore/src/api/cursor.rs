//! Streams of documents that are fetched a batch at a time.

use std::{
    collections::VecDeque,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures_core::Stream;

use super::{Document, Store, executor::may_block};
use crate::{engine::Core, error::Result};

/// Where the documents come from.
pub(crate) trait Batches: Send + 'static {
    /// The next documents; none at the end.
    fn next(&mut self, core: &Arc<Core>) -> Result<Vec<Document>>;
}

/// Documents over one snapshot: what it yields is consistent however long it takes.
///
/// Use it as a `Stream`, or call [`Cursor::next`].
pub struct Cursor {
    store: Store,
    batches: Option<Box<dyn Batches>>,
    ready: VecDeque<Document>,
    fetching: Option<Fetching>,
}

type Fetched = (Box<dyn Batches>, Result<Vec<Document>>);
type Fetching = Pin<Box<dyn Future<Output = Fetched> + Send>>;

impl Cursor {
    pub(crate) fn new(store: &Store, batches: Option<Box<dyn Batches>>) -> Self {
        Self { store: store.clone(), batches, ready: VecDeque::new(), fetching: None }
    }

    /// The next document.
    ///
    /// # Errors
    /// I/O errors, [`crate::Error::Corruption`], [`crate::Error::QueryLimit`]; the cursor ends there.
    ///
    /// # Cancel safety
    /// Dropping the future loses no document.
    pub async fn next(&mut self) -> Result<Option<Document>> {
        std::future::poll_fn(|context| self.poll_document(context)).await
    }

    /// The rest, as a vector.
    ///
    /// # Errors
    /// As [`Cursor::next`].
    pub async fn collect(mut self) -> Result<Vec<Document>> {
        let mut all = Vec::new();
        while let Some(document) = self.next().await? {
            all.push(document);
            all.extend(self.ready.drain(..));
        }
        Ok(all)
    }

    fn poll_document(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<Document>>> {
        loop {
            if let Some(document) = self.ready.pop_front() {
                return Poll::Ready(Ok(Some(document)));
            }
            let (batches, fetched) = if let Some(fetching) = &mut self.fetching {
                let Poll::Ready(fetched) = fetching.as_mut().poll(context) else {
                    return Poll::Pending;
                };
                self.fetching = None;
                fetched
            } else {
                let Some(batches) = self.batches.take() else { return Poll::Ready(Ok(None)) };
                let core = Arc::clone(self.store.core());
                if self.store.is_guarded() || !may_block() && core.options.env.has_threads() {
                    self.fetching = Some(fetch(self.store.clone(), batches));
                    continue;
                }
                fetch_here(&core, batches)
            };
            let documents = fetched?;
            if !documents.is_empty() {
                self.batches = Some(batches);
                self.ready = documents.into();
            }
        }
    }
}

fn fetch_here(core: &Arc<Core>, mut batches: Box<dyn Batches>) -> Fetched {
    let fetched = core.check_open().and_then(|()| batches.next(core));
    (batches, fetched)
}

/// In its turn, and off the caller's thread.
fn fetch(store: Store, batches: Box<dyn Batches>) -> Fetching {
    Box::pin(async move {
        let _turn = match store.enter(0).await {
            Ok(turn) => turn,
            Err(e) => return (batches, Err(e)),
        };
        let core = Arc::clone(store.core());
        if may_block() || !core.options.env.has_threads() {
            return fetch_here(&core, batches);
        }
        let shared = Arc::clone(&core);
        core.pool.run(move || fetch_here(&shared, batches)).await
    })
}

impl Stream for Cursor {
    type Item = Result<Document>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_document(context).map(Result::transpose)
    }
}

impl std::fmt::Debug for Cursor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cursor").field("ready", &self.ready.len()).finish_non_exhaustive()
    }
}
