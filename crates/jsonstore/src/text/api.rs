//! What users call: making text indexes, and searching.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Value, json};

use super::{
    Highlight, TextError, TextIndex, TextQuery,
    highlight::Highlighter,
    plan::Planner,
    registry::SETTINGS,
    search::{Hidden, Run},
    state::{SnapshotPages, TextState},
    upkeep::Work,
};
use crate::{
    api::{Collection, Document, Snapshot},
    commit::Op,
    engine::{Core, Hold, KeyspaceKind, View},
    error::{Error, Result},
    expiry::Hide,
    jb1,
    key::Id,
    observe::{Operation, Trace, Watch},
};

/// Matches that one search ranks.
const LIMIT_MAX: usize = 10_000;
/// Text indexes of one collection.
const INDEXES_MAX: usize = 16;
/// Keys of a dropped index that are removed in one transaction.
const REMOVED_MAX: usize = 512;

/// A document that matches.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Hit {
    /// Its id.
    pub id: Id,
    /// How well it matches: BM25, higher is better.
    pub score: f64,
}

/// A document that matches, with its text.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Found {
    /// The document.
    pub document: Document,
    /// Its id.
    pub id: Id,
    /// How well it matches.
    pub score: f64,
    /// Where it matches; empty unless [`Search::highlight`] asked for it.
    pub highlights: Vec<Highlight>,
}

/// Figures about a text index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct TextStats {
    /// False until the first build is done; until then it cannot be searched.
    pub is_ready: bool,
    /// Documents in parts, those that are gone included.
    pub documents: u64,
    /// Documents in parts that are gone.
    pub dead: u64,
    /// Parts.
    pub parts: u64,
    /// Changes that wait to be folded into a part.
    pub changes: u64,
    /// Bytes of pages and changes before compression.
    pub bytes: u64,
}

/// A search, to be refined and then run: [`Search::hits`], [`Search::documents`], [`Search::ids`],
/// [`Search::count`].
#[derive(Debug, Clone)]
#[must_use]
pub struct Search {
    collection: Collection,
    query: std::result::Result<TextQuery, TextError>,
    index: Option<String>,
    limit: usize,
    offset: usize,
    highlight: bool,
    snapshot: Option<Snapshot>,
}

impl Collection {
    /// Makes a text index and fills it from the documents that are there. Writers go on meanwhile. If
    /// an index of this name with these settings exists, waits until it is ready.
    ///
    /// # Errors
    /// [`TextError::InvalidIndex`], [`TextError::IndexExists`]; I/O errors.
    ///
    /// # Cancel safety
    /// Once the index is in the collection's settings it is built in the background, also after a
    /// restart; dropping the future leaves that to it.
    pub async fn create_text_index(&self, index: TextIndex) -> Result<()> {
        index.check()?;
        check_name(&index.name)?;
        let core = Arc::clone(self.core());
        let documents = self.ensure()?;
        let name = index.name.clone();
        let exists = core
            .collection_state(documents)
            .is_some_and(|state| state.text.iter().any(|text| text.scheme.settings == index));
        if !exists {
            let collection = self.name().to_owned();
            self.alter(move |settings| {
                let all = settings.entry(SETTINGS).or_insert_with(|| json!({}));
                let Some(all) = all.as_object_mut() else {
                    return Err(Error::corrupt("settings", 0, "text indexes are malformed"));
                };
                if all.contains_key(&index.name) {
                    return Err(TextError::IndexExists { name: index.name }.into());
                }
                if all.len() >= INDEXES_MAX {
                    let reason = "a collection has at most 16 text indexes";
                    return Err(TextError::InvalidIndex { reason }.into());
                }
                let keyspace = new_keyspace(&core, &collection, &index.name)?;
                let value = json!({"keyspace": keyspace, "index": index.to_json()});
                all.insert(index.name.clone(), value);
                Ok(())
            })
            .await?;
        }
        self.finish_build(&name).await
    }

    /// Removes a text index; `false` if there is none of this name.
    ///
    /// # Errors
    /// I/O errors.
    ///
    /// # Cancel safety
    /// Once the settings are changed the index is gone. Its pages go meanwhile even if the future is
    /// dropped; if the process ends before they are gone, they stay where they are.
    pub async fn drop_text_index(&self, name: &str) -> Result<bool> {
        let Some(state) = self.text_states().into_iter().find(|s| s.name() == name) else {
            return Ok(false);
        };
        let owned = name.to_owned();
        self.alter(move |settings| {
            let all = settings.get_mut(SETTINGS).and_then(Value::as_object_mut);
            all.map(|all| all.remove(&owned));
            Ok(())
        })
        .await?;
        self.store.run(move |core| core.remove_text(&state)).await?;
        Ok(true)
    }

    /// Makes a text index anew from the documents, under the same name and settings.
    ///
    /// # Errors
    /// [`TextError::NoSuchIndex`]; I/O errors.
    ///
    /// # Cancel safety
    /// As [`Collection::drop_text_index`], then [`Collection::create_text_index`].
    pub async fn rebuild_text_index(&self, name: &str) -> Result<()> {
        let index = self.text_index(Some(name))?.scheme.settings.clone();
        self.drop_text_index(name).await?;
        self.create_text_index(index).await
    }

    /// The text indexes of this collection.
    pub fn text_indexes(&self) -> Vec<TextIndex> {
        self.text_states().iter().map(|state| state.scheme.settings.clone()).collect()
    }

    /// Figures about a text index.
    ///
    /// # Errors
    /// [`TextError::NoSuchIndex`]; I/O errors.
    pub async fn text_stats(&self, name: &str) -> Result<TextStats> {
        let state = self.text_index(Some(name))?;
        let floor = self.store.session.seq();
        self.store
            .run(move |core| {
                let hold = Hold::new(core, false, floor);
                state.stats(core, hold.seq)
            })
            .await
    }

    /// Folds every waiting change of the text indexes into parts, and merges what is due. Nobody has
    /// to: it happens in the background.
    ///
    /// # Errors
    /// I/O errors.
    pub async fn optimize_text(&self) -> Result<()> {
        for state in self.text_states() {
            self.store
                .run(move |core| {
                    while state.work(core, true)? == Work::Some {}
                    Ok(())
                })
                .await?;
        }
        Ok(())
    }

    /// Searches for a text in the syntax of [`TextQuery::parse`].
    pub fn search(&self, text: &str) -> Search {
        self.search_for(TextQuery::parse(text))
    }

    /// Searches for a query that was put together.
    pub fn search_query(&self, query: TextQuery) -> Search {
        // Before anything walks through it: it may be deep.
        self.search_for(query.check(0, &mut 0).map(|()| query))
    }

    fn search_for(&self, query: std::result::Result<TextQuery, TextError>) -> Search {
        Search {
            collection: self.clone(),
            query,
            index: None,
            limit: 10,
            offset: 0,
            highlight: false,
            snapshot: None,
        }
    }

    pub(super) fn text_states(&self) -> Vec<Arc<TextState>> {
        let state = self.existing().and_then(|keyspace| self.core().collection_state(keyspace));
        state.map(|state| state.text.clone()).unwrap_or_default()
    }

    pub(super) fn text_index(&self, name: Option<&str>) -> Result<Arc<TextState>> {
        let mut states = self.text_states();
        match name {
            Some(name) => states.retain(|state| state.name() == name),
            None if states.len() > 1 => states.clear(),
            None => {}
        }
        let missing = || TextError::NoSuchIndex { name: name.unwrap_or("").to_owned() };
        Ok(states.pop().ok_or_else(missing)?)
    }

    async fn finish_build(&self, name: &str) -> Result<()> {
        loop {
            let state = self.text_index(Some(name))?;
            let is_ready = self
                .store
                .run(move |core| {
                    let hold = Hold::new(core, false, core.log.last_seq());
                    if state.roster(core, hold.seq)?.is_ready() {
                        // Whoever searches next sees only what no crash can take.
                        core.carry(hold.seq)?;
                        return Ok(true);
                    }
                    drop(hold);
                    if state.work(core, false)? == Work::None {
                        // A load is going on.
                        std::thread::sleep(std::time::Duration::from_millis(1));
                    }
                    Ok(false)
                })
                .await?;
            if is_ready {
                return Ok(());
            }
        }
    }
}

impl Search {
    /// Which text index to use. Needed only if the collection has several.
    pub fn index(mut self, name: impl Into<String>) -> Self {
        self.index = Some(name.into());
        self
    }

    /// How many of the best to find, at most 10,000 with the offset. Default: 10.
    pub fn limit(mut self, limit: usize) -> Self {
        self.limit = limit;
        self
    }

    /// How many of the best to leave out. Default: 0.
    pub fn offset(mut self, offset: usize) -> Self {
        self.offset = offset;
        self
    }

    /// Show where documents match. Default: false.
    pub fn highlight(mut self, highlight: bool) -> Self {
        self.highlight = highlight;
        self
    }

    /// Search what a snapshot sees. Default: now.
    pub fn at(mut self, snapshot: &Snapshot) -> Self {
        self.snapshot = Some(snapshot.clone());
        self
    }

    /// The best matches: highest score first, of equal ones the smallest id.
    ///
    /// # Errors
    /// [`Error::Text`] says what is wrong with the query; I/O errors.
    pub async fn hits(&self) -> Result<Vec<Hit>> {
        let (limit, offset) = (self.limit, self.offset);
        if limit.saturating_add(offset) > LIMIT_MAX {
            let reason = "limit and offset are at most 10,000 together";
            return Err(TextError::InvalidQuery { reason }.into());
        }
        self.run(move |run| {
            let best = run.best(limit + offset)?.into_iter().skip(offset);
            Ok(best.map(|m| Hit { id: Id(m.id.to_vec()), score: m.score }).collect())
        })
        .await
    }

    /// The best matches with their documents, as of the same snapshot.
    ///
    /// # Errors
    /// As [`Search::hits`].
    pub async fn documents(&self) -> Result<Vec<Found>> {
        let mut search = self.clone();
        let snapshot = match &self.snapshot {
            Some(snapshot) => snapshot.clone(),
            None => self.collection.store.snapshot(),
        };
        search.snapshot = Some(snapshot.clone());
        let state = self.collection.text_index(self.index.as_deref())?;
        let highlighter = match (self.highlight, &self.query) {
            (true, Ok(query)) => Some(Highlighter::new(&state.scheme, query)),
            _ => None,
        };
        let limits = self.collection.core().limits();
        let mut found = Vec::new();
        for hit in search.hits().await? {
            // What has expired was left out already.
            let (view, all) = (View::Snapshot(snapshot.seq()), Hide::nothing());
            let document = self.collection.read(state.documents, &hit.id, view, &all).await?;
            let Some(document) = document else {
                return Err(super::damaged("a document that is found"));
            };
            let mut highlights = Vec::new();
            if let Some(highlighter) = &highlighter {
                let bytes = jb1::parse(document.json().as_bytes(), &limits)?;
                highlights = highlighter.of(&state.scheme, &bytes);
            }
            found.push(Found { document, id: hit.id, score: hit.score, highlights });
        }
        Ok(found)
    }

    /// The ids of all matches, in their order.
    ///
    /// # Errors
    /// As [`Search::hits`].
    pub async fn ids(&self) -> Result<Vec<Id>> {
        self.run(|run| Ok(run.all()?.into_iter().map(|id| Id(id.to_vec())).collect())).await
    }

    /// How many documents match.
    ///
    /// # Errors
    /// As [`Search::hits`].
    #[allow(
        clippy::redundant_closure_for_method_calls,
        reason = "the method itself is not general enough over lifetimes"
    )]
    pub async fn count(&self) -> Result<u64> {
        self.run(|run| run.count()).await
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Run<'_>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let query = self.query.clone()?;
        let state = self.collection.text_index(self.index.as_deref())?;
        let at = self.snapshot.clone();
        let floor = self.collection.store.session.seq();
        let work = move |core: &Arc<Core>| {
            core.check_open()?;
            let hold = match at {
                Some(snapshot) => snapshot.hold,
                None => Arc::new(Hold::new(core, false, floor)),
            };
            let hide = core.hide(state.documents, &hold);
            let mut watch = Watch::default();
            let found = watch.around(core, || core.search(&state, hold.seq, &query, hide, work));
            watch.end(core, Operation::Search, Some(state.documents), || Trace {
                shape: query.shape(),
                plan: format!("text index {:?}", state.name()),
                ..Trace::default()
            });
            found
        };
        match crate::api::may_block() {
            true => work(self.collection.core()),
            false => self.collection.store.run(work).await,
        }
    }
}

impl Core {
    /// Runs a query on an index at a registered snapshot.
    pub(crate) fn search<T>(
        &self,
        state: &TextState,
        seq: u64,
        query: &TextQuery,
        hide: Hide,
        work: impl FnOnce(&Run<'_>) -> Result<T>,
    ) -> Result<T> {
        let view = state.view(self, seq)?;
        if !view.roster.is_ready() {
            return Err(TextError::NotReady { name: state.name().to_owned() }.into());
        }
        let cache = Some(&state.cache);
        let pages = SnapshotPages { core: self, keyspace: state.keyspace, snapshot: seq, cache };
        let plan = Planner::plan(state, &view, &pages, query)?;
        let hidden = Hidden { core: self, documents: state.documents, seq, hide };
        work(&Run { view: &view, pages: &pages, plan: &plan, hidden: &hidden })
    }

    /// The ids of all documents that match, in their order, those that have expired too.
    #[allow(
        clippy::redundant_closure_for_method_calls,
        reason = "the method itself is not general enough over lifetimes"
    )]
    pub(crate) fn text_ids(
        &self,
        state: &TextState,
        seq: u64,
        query: &TextQuery,
    ) -> Result<Vec<Bytes>> {
        self.search(state, seq, query, Hide::nothing(), |run| run.all())
    }

    /// Removes every key of an index that no settings name any more.
    fn remove_text(self: &Arc<Self>, state: &TextState) -> Result<()> {
        let _nobody = state.upkeep.lock();
        self.text.forget(state.keyspace);
        loop {
            let hold = Hold::new(self, false, self.log.last_seq());
            let mut ops = Vec::new();
            let mut iter = self.iter(state.keyspace, &[], hold.seq)?;
            while ops.len() < REMOVED_MAX
                && let Some(entry) = iter.next_visible()?
            {
                ops.push(Op { keyspace: state.keyspace, key: entry.key, value: None });
            }
            if ops.is_empty() {
                return Ok(());
            }
            let ticket = self.submit(&ops, None, false)?;
            self.log.wait(&ticket)?;
        }
    }
}

/// Names of text indexes are made like those of collections.
fn check_name(name: &str) -> Result<()> {
    let allowed = |b: u8| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-');
    if (1..=64).contains(&name.len()) && name.bytes().all(allowed) {
        Ok(())
    } else {
        Err(Error::InvalidName)
    }
}

/// A keyspace that no index had before: one of the same name may still be on its way out.
fn new_keyspace(core: &Core, collection: &str, index: &str) -> Result<u32> {
    let mut number = 1;
    loop {
        let name = format!("{collection}/text/{index}/{number}");
        if core.keyspace(&name).is_none() {
            return core.keyspace_or_new(&name, KeyspaceKind::Internal);
        }
        number += 1;
    }
}
