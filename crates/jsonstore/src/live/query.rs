//! The documents that match a filter, and how that changes.

use super::watch::{Changes, Since, Watch};
use crate::{
    api::{Collection, Cursor, Document, Snapshot},
    error::Result,
    jb1::{self, Limits},
    key::Id,
    query::Filter,
};

/// Documents told in one update at the beginning.
const BATCH_MAX: usize = 256;

/// How what matches has changed.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct LiveUpdate {
    /// Applied, this and all before are what matches as of this commit: the position to resume from.
    pub seq: u64,
    /// Documents that match now and did not before.
    pub added: Vec<Document>,
    /// Documents that matched before and still do.
    pub changed: Vec<Document>,
    /// Documents that do not match any more, or are gone. Those that expire come here when they are
    /// deleted; then there may be some among them that were never added.
    pub removed: Vec<Id>,
    /// More updates up to the same commit follow; only when they are applied too it is whole.
    pub is_partial: bool,
}

/// A query whose answer follows what is committed.
///
/// The first updates add what matches at the beginning. It holds no documents; whoever falls behind
/// reads the change log from where he is, and gets [`crate::Error::Lagged`] if that is no longer kept.
#[derive(Debug)]
pub struct LiveQuery {
    watch: Watch,
    stage: Stage,
    /// The filter that counts next.
    wanted: Option<Filter>,
}

#[derive(Debug)]
enum Stage {
    /// Telling what matches at a snapshot.
    Beginning {
        snapshot: Snapshot,
        cursor: Box<Cursor>,
    },
    Following,
    /// Following up to a snapshot, from which on another filter counts.
    Turning {
        snapshot: Snapshot,
        to: Filter,
    },
    /// Telling what the other filter adds and removes.
    Turned {
        snapshot: Snapshot,
        from: Filter,
        cursors: Box<[Cursor; 2]>,
    },
}

impl Collection {
    /// Follows what matches a filter. Begins to keep a change log if there is none.
    ///
    /// # Errors
    /// As [`Collection::watch`].
    pub async fn live(&self, filter: impl Into<Filter>) -> Result<LiveQuery> {
        let filter = filter.into();
        let mut watch = self.watch(&filter, Since::Now).await?;
        let snapshot = self.store.snapshot();
        watch.position = snapshot.seq();
        let cursor = Box::new(self.find(filter).at(&snapshot).cursor());
        Ok(LiveQuery { watch, stage: Stage::Beginning { snapshot, cursor }, wanted: None })
    }

    /// Goes on where another live query of the same filter was, by the [`LiveUpdate::seq`] of its
    /// last whole update.
    ///
    /// # Errors
    /// [`crate::Error::Lagged`]: begin anew.
    pub async fn live_from(&self, filter: impl Into<Filter>, seq: u64) -> Result<LiveQuery> {
        let watch = self.watch(filter, Since::Seq(seq)).await?;
        Ok(LiveQuery { watch, stage: Stage::Following, wanted: None })
    }
}

impl LiveQuery {
    /// What the changes of one transaction mean for those who follow the filter. What has expired is
    /// not added any more; what was told before is taken back when it is deleted.
    fn update(&self, changes: Changes) -> Result<LiveUpdate> {
        let filter = self.watch.filter();
        let hide = self.watch.hide_at(changes.at);
        let mut update = LiveUpdate { seq: changes.seq, ..LiveUpdate::default() };
        for event in changes.events {
            let before = event.before.as_ref().map(parsed).transpose()?;
            let after = event.after.as_ref().map(parsed).transpose()?;
            let did = before.as_ref().is_some_and(|before| filter.matches(before));
            let does = after.is_some_and(|after| filter.matches(&after) && !hide.hides(&after));
            let was_hidden = before.is_some_and(|before| hide.hides(&before));
            match (did, event.after.filter(|_| does)) {
                (false, None) => {}
                (true, None) => update.removed.push(event.id),
                (true, Some(after)) if !was_hidden => update.changed.push(after),
                (_, Some(after)) => update.added.push(after),
            }
        }
        Ok(update)
    }

    /// The next update, waiting for it if need be.
    ///
    /// # Errors
    /// [`crate::Error::Lagged`] if what comes next is not kept any more.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing.
    pub async fn next(&mut self) -> Result<LiveUpdate> {
        loop {
            self.watch.reset();
            if let Some(update) = self.next_now().await? {
                return Ok(update);
            }
            self.watch.wait().await;
        }
    }

    /// From now on another filter counts: after a change of permissions, say. The next updates
    /// remove what does not match it, and add what only it matches.
    pub fn set_filter(&mut self, filter: impl Into<Filter>) {
        self.wanted = Some(filter.into());
    }

    async fn next_now(&mut self) -> Result<Option<LiveUpdate>> {
        loop {
            match &mut self.stage {
                Stage::Beginning { snapshot, cursor } => {
                    let mut update = LiveUpdate { seq: snapshot.seq(), ..LiveUpdate::default() };
                    while update.added.len() < BATCH_MAX {
                        let Some(document) = cursor.next().await? else {
                            self.stage = Stage::Following;
                            return Ok(Some(update));
                        };
                        update.added.push(document);
                    }
                    update.is_partial = true;
                    return Ok(Some(update));
                }
                Stage::Following => {
                    if let Some(to) = self.wanted.take() {
                        let snapshot = self.watch.collection.store.snapshot();
                        self.stage = Stage::Turning { snapshot, to };
                        continue;
                    }
                    let changes = self.watch.next_now(u64::MAX).await?;
                    return changes.map(|changes| self.update(changes)).transpose();
                }
                Stage::Turning { snapshot, to } => {
                    if let Some(changes) = self.watch.next_now(snapshot.seq()).await? {
                        return self.update(changes).map(Some);
                    }
                    let (snapshot, to) = (snapshot.clone(), to.clone());
                    let from = self.watch.filter().clone();
                    let all = |filter| self.watch.collection.find(filter).at(&snapshot);
                    // What has expired since it was told has to be taken back as well.
                    let cursors = Box::new([all(&from).with_expired().cursor(), all(&to).cursor()]);
                    self.watch.set_filter(to);
                    self.stage = Stage::Turned { snapshot, from, cursors };
                }
                Stage::Turned { snapshot, from, cursors } => {
                    let to = self.watch.filter();
                    let mut update = LiveUpdate { seq: snapshot.seq(), ..LiveUpdate::default() };
                    while update.added.len() + update.removed.len() < BATCH_MAX {
                        if let Some(document) = cursors[0].next().await? {
                            if !matches(to, &document)? {
                                update.removed.push(id(&document)?);
                            }
                        } else if let Some(document) = cursors[1].next().await? {
                            if !matches(from, &document)? {
                                update.added.push(document);
                            }
                        } else {
                            self.stage = Stage::Following;
                            return Ok(Some(update));
                        }
                    }
                    update.is_partial = true;
                    return Ok(Some(update));
                }
            }
        }
    }
}

fn matches(filter: &Filter, document: &Document) -> Result<bool> {
    Ok(filter.matches(&parsed(document)?))
}

fn id(document: &Document) -> Result<Id> {
    let document = parsed(document)?;
    Id::from_jb1(jb1::get(&document, b"_id").unwrap_or_default())
}

fn parsed(document: &Document) -> Result<Vec<u8>> {
    Ok(jb1::parse(document.json().as_bytes(), &Limits { bytes_max: usize::MAX, depth_max: 1000 })?)
}
