//! Changes in their order, from a position on.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;

use super::{
    channel::Listener,
    log::{ChangeLog, ChangeRetention, FIRST},
    record::{Record, split_key},
};
use crate::{
    api::{Collection, Document},
    engine::{Core, Hold},
    error::{Error, Result},
    expiry::Hide,
    jb1,
    key::Id,
    query::Filter,
};

/// Where to begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Since {
    /// With the next change.
    Now,
    /// Behind this commit: where another reader was, by [`Changes::seq`], or [`crate::Snapshot::seq`].
    Seq(u64),
    /// With the first change at or after this moment of the wall clock.
    Time(SystemTime),
}

/// What one transaction changed in a collection.
#[derive(Debug, Clone, PartialEq)]
pub struct Changes {
    /// The commit: the position to go on from.
    pub seq: u64,
    /// When it was made, by the wall clock of its writer.
    pub at: SystemTime,
    /// The documents, in the order of their ids.
    pub events: Vec<ChangeEvent>,
}

/// A document that changed.
#[derive(Debug, Clone, PartialEq)]
pub struct ChangeEvent {
    /// Its id.
    pub id: Id,
    /// What it was; `None` if it is new. Its version is not known any more, and 0.
    pub before: Option<Document>,
    /// What it is; `None` if it was deleted.
    pub after: Option<Document>,
}

/// The changes of a collection that match a filter, before or after. It has no buffer: who asks
/// seldom gets everything all the same, unless it is no longer kept.
#[derive(Debug)]
pub struct Watch {
    pub(super) collection: Collection,
    pub(super) log: Arc<ChangeLog>,
    listener: Listener,
    filter: Filter,
    /// The last commit that was looked at.
    pub(super) position: u64,
}

/// One transaction, as it is stored.
struct Changed {
    seq: u64,
    records: Vec<(Bytes, Record)>,
}

/// What was found: the next transaction, or the commit up to which there is none.
enum Read {
    Changed(Changed),
    NothingUpTo(u64),
}

impl Collection {
    /// Keeps a change log, or changes how much of it is kept. Each change is then written twice.
    ///
    /// # Errors
    /// I/O errors; [`Error::LockTimeout`] if others do not stop writing.
    ///
    /// # Cancel safety
    /// Once nobody writes, it goes on even if the future is dropped.
    pub async fn keep_changes(&self, retention: ChangeRetention) -> Result<()> {
        let (core, documents) = (Arc::clone(self.core()), self.ensure()?);
        self.alter(move |settings| {
            let state = core.collection_state(documents);
            let keyspace = match state.and_then(|state| state.changes.clone()) {
                Some(log) => log.keyspace,
                None => core.begin_changes(documents)?,
            };
            retention.put(settings, keyspace);
            Ok(())
        })
        .await
    }

    /// Keeps no change log any more. Those who read it get [`Error::Lagged`].
    ///
    /// # Errors
    /// As [`Collection::keep_changes`].
    pub async fn forget_changes(&self) -> Result<()> {
        self.alter(|settings| {
            ChangeRetention::remove(settings);
            Ok(())
        })
        .await
    }

    /// The changes of documents that match, or did. Begins to keep a change log if there is none.
    ///
    /// # Errors
    /// [`Error::Lagged`] if the changes from there on are not all kept any more.
    pub async fn watch(&self, filter: impl Into<Filter>, since: Since) -> Result<Watch> {
        let documents = self.ensure()?;
        let log = |core: &Core| core.collection_state(documents)?.changes.clone();
        let log = match log(self.core()) {
            Some(log) => log,
            None => {
                self.keep_changes(ChangeRetention::default()).await?;
                log(self.core()).ok_or(Error::Closed)?
            }
        };
        let filter = filter.into();
        let listener = log.channel.listen(&filter);
        let shared = Arc::clone(&log);
        let position = self.store.run(move |core| core.position(&shared, since)).await?;
        Ok(Watch { collection: self.clone(), log, listener, filter, position })
    }
}

impl Watch {
    /// The position up to which everything was returned: to go on from, later or elsewhere.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// The next changes, waiting for them if need be.
    ///
    /// # Errors
    /// [`Error::Lagged`] if they are not kept any more.
    ///
    /// # Cancel safety
    /// Dropping the future loses no change.
    pub async fn next(&mut self) -> Result<Changes> {
        loop {
            self.listener.reset();
            if let Some(changes) = self.next_now(u64::MAX).await? {
                return Ok(changes);
            }
            self.listener.wait().await;
        }
    }

    /// The next changes up to a commit, if there are any.
    pub(super) async fn next_now(&mut self, limit: u64) -> Result<Option<Changes>> {
        loop {
            match self.read(limit).await? {
                Read::NothingUpTo(seq) => {
                    self.position = seq;
                    return Ok(None);
                }
                Read::Changed(changed) => {
                    let changes = changed.matching(&self.filter)?;
                    self.position = changes.seq;
                    if !changes.events.is_empty() {
                        return Ok(Some(changes));
                    }
                }
            }
        }
    }

    /// Waits until something happened that may concern this filter.
    pub(super) async fn wait(&self) {
        self.listener.wait().await;
    }

    pub(super) fn reset(&self) {
        self.listener.reset();
    }

    pub(super) fn set_filter(&mut self, filter: Filter) {
        self.listener = self.log.channel.listen(&filter);
        self.filter = filter;
    }

    /// What readers of that moment did not see.
    pub(super) fn hide_at(&self, at: SystemTime) -> Hide {
        let core = self.collection.core();
        let since_epoch = at.duration_since(UNIX_EPOCH).unwrap_or_default();
        let wall_ms = i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX);
        let keyspace = self.collection.existing();
        keyspace.map_or_else(Hide::nothing, |keyspace| core.hide_at(keyspace, u64::MAX, wall_ms))
    }

    pub(super) fn filter(&self) -> &Filter {
        &self.filter
    }

    async fn read(&self, limit: u64) -> Result<Read> {
        let documents = self.collection.existing();
        let is_kept = documents
            .and_then(|documents| self.collection.core().collection_state(documents))
            .is_some_and(|state| {
                state.changes.as_ref().is_some_and(|log| log.keyspace == self.log.keyspace)
            });
        if !is_kept {
            return Err(Error::Lagged { oldest: self.collection.core().log.visible() });
        }
        let (log, position) = (Arc::clone(&self.log), self.position);
        let floor = self.collection.store.session.seq();
        self.collection
            .store
            .run_from_memory(move |core| core.read_changes(&log, position, limit, floor))
            .await
    }
}

impl Changed {
    fn matching(self, filter: &Filter) -> Result<Changes> {
        let mut events = Vec::new();
        let mut wall_ms = 0;
        for (id, record) in self.records {
            wall_ms = record.wall_ms;
            let matches =
                |image: &Option<Bytes>| image.as_ref().is_some_and(|image| filter.matches(image));
            if !matches(&record.before) && !matches(&record.after) {
                continue;
            }
            events.push(ChangeEvent {
                id: Id(id.to_vec()),
                before: record.before.map(|image| document(0, &image)).transpose()?,
                after: record.after.map(|image| document(self.seq, &image)).transpose()?,
            });
        }
        let at = UNIX_EPOCH + Duration::from_millis(wall_ms);
        Ok(Changes { seq: self.seq, at, events })
    }
}

pub(super) fn document(rev: u64, image: &[u8]) -> Result<Document> {
    let mut json = Vec::new();
    jb1::print(image, &mut json)?;
    Ok(Document { rev, json: Bytes::from(json) })
}

impl Core {
    fn position(self: &Arc<Self>, log: &ChangeLog, since: Since) -> Result<u64> {
        let hold = Hold::new(self, false, 0);
        let floor = log.floor(self, hold.seq)?;
        match since {
            Since::Now => Ok(hold.seq),
            Since::Seq(seq) if seq >= floor => Ok(seq),
            Since::Seq(_) => Err(Error::Lagged { oldest: floor }),
            Since::Time(time) => {
                let since_epoch = time.duration_since(UNIX_EPOCH).unwrap_or_default();
                let wanted_ms = u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX);
                let mut iter = self.iter(log.keyspace, &FIRST, hold.seq)?;
                let mut position = None;
                while let Some(entry) = iter.next_visible()? {
                    let record = Record::decode(&entry.value.unwrap_or_default());
                    let ((seq, _), record) =
                        split_key(&entry.key).zip(record).ok_or_else(malformed)?;
                    if record.wall_ms >= wanted_ms {
                        break;
                    }
                    position = Some(seq);
                }
                // With nothing older in the log, something of that time may have been cut.
                match position {
                    Some(position) => Ok(position),
                    None if log.was_cut_after(wanted_ms) => Err(Error::Lagged { oldest: floor }),
                    None => Ok(floor),
                }
            }
        }
    }

    /// The transaction behind a position, if there is one up to a commit.
    fn read_changes(
        self: &Arc<Self>,
        log: &ChangeLog,
        position: u64,
        limit: u64,
        session: u64,
    ) -> Result<Read> {
        let hold = Hold::new(self, false, session);
        let floor = log.floor(self, hold.seq)?;
        if position < floor {
            return Err(Error::Lagged { oldest: floor });
        }
        let upto = hold.seq.min(limit);
        if position >= upto {
            return Ok(Read::NothingUpTo(position));
        }
        let mut iter = self.iter(log.keyspace, &(position + 1).to_be_bytes(), hold.seq)?;
        let mut changed: Option<Changed> = None;
        while let Some(entry) = iter.next_visible()? {
            let record = Record::decode(&entry.value.unwrap_or_default());
            let ((seq, id), record) = split_key(&entry.key).zip(record).ok_or_else(malformed)?;
            let changed = match &mut changed {
                None if seq > upto => break,
                None => changed.insert(Changed { seq, records: Vec::new() }),
                Some(changed) if changed.seq != seq => break,
                Some(changed) => changed,
            };
            changed.records.push((id, record));
        }
        Ok(changed.map_or(Read::NothingUpTo(upto), Read::Changed))
    }
}

fn malformed() -> Error {
    Error::corrupt("change log", 0, "an entry is malformed")
}
