//! A transaction asks what follows its documents, before it is logged.

use std::collections::HashSet;

use bytes::Bytes;

use super::transaction::{Transaction, Write};
use crate::{
    catalog::States,
    engine::Core,
    error::Result,
    follow::{Change, Claim, Effects},
    lock::{LockId, LockMode},
};

impl Transaction {
    /// What follows the writes so far, with the keys locked that it claims. The records are locked,
    /// so it stays true until the transaction ends.
    pub(super) async fn follow(&self) -> Result<Effects> {
        let mut effects = Effects::default();
        let states = self.core().states.load_full();
        if states.is_empty() {
            return Ok(effects);
        }
        self.complete_patches(&states).await?;
        for (keyspace, key, write) in self.followed_writes(&states) {
            let Some(state) = states.get(&keyspace) else { continue };
            let old = self.before(keyspace, &key).await?;
            let new = match &write {
                Write::Put(value) => Some(&value[..]),
                Write::Delete | Write::Patch(_) => None,
            };
            if old.is_none() && new.is_none() {
                continue;
            }
            let change = Change { key: &key, old: old.as_deref(), new };
            for follower in &state.followers {
                follower.follow(&change, &mut effects)?;
            }
        }
        effects.claims.sort_unstable_by(|a, b| a.order().cmp(&b.order()));
        self.claim(&effects).await?;
        Ok(effects)
    }

    /// Changes of fields that now concern somebody become writes of the whole: an index may have come
    /// into being since the transaction made them.
    async fn complete_patches(&self, states: &States) -> Result<()> {
        for (keyspace, key, paths) in self.patched_paths() {
            let Some(state) = states.get(&keyspace) else { continue };
            let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
            if state.concerns(&paths)
                && let Some((_, value)) = self.lock_and_read(keyspace, &key).await?
            {
                self.write(keyspace, key, Write::Put(value));
            }
        }
        Ok(())
    }

    /// The document before this transaction; its record is locked.
    async fn before(&self, keyspace: u32, key: &Bytes) -> Result<Option<Bytes>> {
        if let Some(before) = self.known_before(keyspace, key) {
            return Ok(before);
        }
        Ok(self.latest(keyspace, key).await?.and_then(|(_, value)| value))
    }

    /// Locks every claimed key, in one order for all, and sees that nobody else has it.
    async fn claim(&self, effects: &Effects) -> Result<()> {
        let claims = &effects.claims;
        let taken_twice = claims.windows(2).find(|pair| {
            (pair[0].keyspace, &pair[0].prefix) == (pair[1].keyspace, &pair[1].prefix)
                && pair[0].key != pair[1].key
        });
        if let Some(pair) = taken_twice {
            return Err(pair[1].refusal());
        }
        for claim in claims {
            self.acquire(LockId::Store, LockMode::IntentExclusive).await?;
            let collection = LockId::Collection(claim.keyspace);
            self.acquire(collection, LockMode::IntentExclusive).await?;
            let record = LockId::Record(claim.keyspace, claim.prefix.clone());
            self.acquire(record, LockMode::Exclusive).await?;
        }
        if claims.is_empty() {
            return Ok(());
        }
        let deleted: HashSet<(u32, Bytes)> = effects
            .ops
            .iter()
            .filter(|op| op.value.is_none())
            .map(|op| (op.keyspace, op.key.clone()))
            .collect();
        let claims = claims.clone();
        let newest = self
            .store()
            .run(move |core| {
                let mut newest = 0;
                for claim in &claims {
                    newest = newest.max(core.check_claim(claim, |key| {
                        deleted.contains(&(claim.keyspace, key.clone()))
                    })?);
                }
                Ok(newest)
            })
            .await?;
        self.note_provisional(newest);
        Ok(())
    }
}

impl Core {
    /// Fails if another key begins with what is claimed. The claimed prefix is locked; returns the
    /// newest version that was looked at, durable or not.
    pub(crate) fn check_claim(
        &self,
        claim: &Claim,
        is_deleted: impl Fn(&Bytes) -> bool,
    ) -> Result<u64> {
        let mut newest = 0;
        let mut iter = self.tree().iter(claim.keyspace, &claim.prefix, u64::MAX)?;
        while let Some(entry) = iter.next_visible()? {
            if !entry.key.starts_with(&claim.prefix) {
                break;
            }
            newest = newest.max(entry.seq);
            if entry.key != claim.key && !is_deleted(&entry.key) {
                return Err(claim.refusal());
            }
        }
        Ok(newest)
    }
}
