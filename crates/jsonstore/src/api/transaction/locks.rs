//! Locking documents, and reading them under their locks.

use std::{future::poll_fn, sync::Arc};

use bytes::Bytes;

use super::{Isolation, Transaction, Write, may_block};
use crate::{
    bugs::bug,
    engine::{Blocking, Core, is_would_block},
    error::{Error, Result},
    jb1::{self, Update},
    lock::{LockId, LockMode},
    observe::Operation,
};

impl Transaction {
    /// Locks a record for writing, and refuses what snapshot isolation forbids.
    pub(super) async fn lock_for_write(&self, keyspace: u32, key: &Bytes) -> Result<()> {
        self.acquire(LockId::Store, LockMode::IntentExclusive).await?;
        self.acquire(LockId::Collection(keyspace), LockMode::IntentExclusive).await?;
        self.acquire(LockId::Record(keyspace, key.clone()), LockMode::Exclusive).await?;
        let whole = matches!(self.own(keyspace, key), Some(Write::Put(_) | Write::Delete));
        if self.shared.isolation == Isolation::Snapshot && !whole {
            self.first_committer_wins(keyspace, key).await?;
        }
        Ok(())
    }

    async fn first_committer_wins(&self, keyspace: u32, key: &Bytes) -> Result<()> {
        let latest = self.latest(keyspace, key).await?;
        let snapshot = self.snapshot().unwrap_or(u64::MAX);
        if latest.is_some_and(|(seq, _)| seq > snapshot) && !bug("no_write_conflict") {
            return Err(Error::Conflict);
        }
        Ok(())
    }

    /// Locks a record for writing; its value as of now, own changes included, unless it has expired.
    pub(in crate::api) async fn lock_and_read(
        &self,
        keyspace: u32,
        key: &Bytes,
    ) -> Result<Option<(u64, Bytes)>> {
        let stored = self.lock_and_read_stored(keyspace, key).await?;
        Ok(stored.filter(|(_, value)| !self.hide(keyspace).hides(value)))
    }

    /// As `lock_and_read`, expired or not.
    pub(in crate::api) async fn lock_and_read_stored(
        &self,
        keyspace: u32,
        key: &Bytes,
    ) -> Result<Option<(u64, Bytes)>> {
        self.lock_for_write(keyspace, key).await?;
        match self.own(keyspace, key) {
            Some(Write::Put(value)) => return Ok(Some((u64::MAX, value))),
            Some(Write::Delete) => return Ok(None),
            Some(Write::Patch(patches)) => {
                let latest = self.latest(keyspace, key).await?;
                let Some((seq, Some(value))) = latest else { return Ok(None) };
                return Ok(Some((seq, self.patched(&value, &patches)?)));
            }
            None => {}
        }
        let latest = self.latest(keyspace, key).await?;
        if self.core().collection_state(keyspace).is_some() {
            let before = latest.as_ref().and_then(|(_, value)| value.clone());
            self.shared.state.lock().before.insert((keyspace, key.clone()), before);
        }
        Ok(latest.and_then(|(seq, value)| value.map(|value| (seq, value))))
    }

    /// The newest version, durable or not; the caller holds a lock on it. Who builds on it commits
    /// later in the same log, so it cannot outlive it.
    pub(in crate::api) async fn latest(
        &self,
        keyspace: u32,
        key: &Bytes,
    ) -> Result<Option<(u64, Option<Bytes>)>> {
        let core = self.core();
        let here = {
            let _forbid = (!may_block() && core.options.env.has_threads()).then(Blocking::forbid);
            core.read_latest(keyspace, key)
        };
        let found = match here {
            Err(e) if is_would_block(&e) => {
                let shared = Arc::clone(core);
                let key = key.clone();
                core.pool.run(move || shared.read_latest(keyspace, &key)).await?
            }
            other => other?,
        };
        if let Some((seq, _)) = &found {
            self.note_provisional(*seq);
        }
        Ok(found)
    }

    /// The version in the snapshot, without own changes.
    pub(super) async fn base(&self, keyspace: u32, key: &Bytes) -> Result<Option<(u64, Bytes)>> {
        let core = Arc::clone(self.core());
        let snapshot = self.snapshot().unwrap_or(u64::MAX);
        let key = key.clone();
        let work = move |core: &Core| core.read_at(keyspace, &key, snapshot);
        let found = if may_block() || !core.options.env.has_threads() {
            work(&core)?
        } else {
            let shared = Arc::clone(&core);
            core.pool.run(move || work(&shared)).await?
        };
        Ok(found.and_then(|(seq, value)| value.map(|value| (seq, value))))
    }

    /// Notes a change of fields; it is applied to the newest version at commit.
    pub(super) async fn update_fields(
        &self,
        keyspace: u32,
        key: Bytes,
        update: &Update,
    ) -> Result<bool> {
        let mut paths: Vec<&str> = update.paths().collect();
        paths.sort_unstable();
        paths.dedup();
        for path in paths {
            let (intent, mode) = (LockMode::IntentExclusive, LockMode::Exclusive);
            self.lock_field(keyspace, &key, path, intent, mode).await?;
        }
        let latest = self.latest(keyspace, &key).await?;
        let seen = latest.and_then(|(seq, value)| Some((seq, value?)));
        let hide = self.hide(keyspace);
        let Some((seq, value)) = seen.filter(|(_, value)| !hide.hides(value)) else {
            self.note_read(keyspace, &key);
            return Ok(false);
        };
        if self.shared.isolation == Isolation::Snapshot {
            // First committer wins, field by field: what this one changes must be as it saw it.
            let base = self.base(keyspace, &key).await?;
            let same = base.is_some_and(|(_, base)| {
                update.paths().all(|path| jb1::field(&base, path) == jb1::field(&value, path))
            });
            let changed = seq > self.snapshot().unwrap_or(u64::MAX);
            if changed && !same && !bug("no_write_conflict") {
                return Err(Error::Conflict);
            }
        }
        let mut patches = match self.own(keyspace, &key) {
            Some(Write::Patch(patches)) => patches,
            _ => Vec::new(),
        };
        patches.push(update.clone());
        // An update that cannot be applied fails here rather than at commit.
        self.patched(&value, &patches)?;
        self.write(keyspace, key, Write::Patch(patches));
        Ok(true)
    }

    pub(super) async fn lock_field(
        &self,
        keyspace: u32,
        key: &Bytes,
        path: &str,
        intent: LockMode,
        mode: LockMode,
    ) -> Result<()> {
        self.acquire(LockId::Store, intent).await?;
        self.acquire(LockId::Collection(keyspace), intent).await?;
        self.acquire(LockId::Record(keyspace, key.clone()), intent).await?;
        // `a.b` lies in `a`: whoever locks `a` as a whole excludes it.
        for (at, _) in path.match_indices('.') {
            let parent = LockId::Field(keyspace, key.clone(), path[..at].into());
            self.acquire(parent, intent).await?;
        }
        self.acquire(LockId::Field(keyspace, key.clone(), path.into()), mode).await
    }

    pub(in crate::api) async fn acquire(&self, id: LockId, mode: LockMode) -> Result<()> {
        let core = self.core();
        let deadline = core.options.env.now().saturating_add(core.options.lock_timeout);
        let Some(mut wait) = core.locks.request(&self.shared.owner, id, mode, deadline) else {
            return Ok(());
        };
        let timer = core.timer(Operation::LockWait);
        let got = poll_fn(|context| wait.poll(context.waker())).await;
        timer.done();
        got
    }
}
