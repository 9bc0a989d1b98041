//! A transaction asks what follows its documents, before it is logged.

use std::collections::HashSet;

use bytes::Bytes;

use super::transaction::{Transaction, Write};
use crate::{
    bugs::bug,
    catalog::{CollectionState, States},
    engine::Core,
    error::Result,
    expiry::Hide,
    follow::{Change, Claim, Effects},
    lock::{LockId, LockMode},
};

impl Transaction {
    /// What follows the writes so far, with the keys locked that it claims. The records are locked,
    /// so it stays true until the transaction ends.
    pub(super) async fn follow(&self) -> Result<Effects> {
        let states = self.core().states.load_full();
        if states.is_empty() {
            return Ok(Effects::default());
        }
        self.complete_patches(&states).await?;
        loop {
            let effects = self.followed(&states).await?;
            let expired = self.claim(&states, &effects).await?;
            // The claimed keys stay locked, so nobody else can come to have them: this ends.
            if !self.delete_expired(expired).await? {
                return Ok(effects);
            }
        }
    }

    async fn followed(&self, states: &States) -> Result<Effects> {
        let mut effects = Effects::default();
        for (keyspace, key, write) in self.followed_writes(states) {
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
        Ok(effects)
    }

    /// Deletes documents that have expired, in this transaction. `false` if there are none.
    async fn delete_expired(&self, expired: Vec<(u32, Bytes)>) -> Result<bool> {
        let mut any = false;
        for (keyspace, key) in expired {
            let stored = self.lock_and_read_stored(keyspace, &key).await?;
            // Somebody may have written it meanwhile.
            if stored.is_some_and(|(_, value)| self.hide(keyspace).hides(&value)) {
                self.write(keyspace, key, Write::Delete);
            }
            any = true;
        }
        Ok(any)
    }

    /// Changes of fields that now concern somebody become writes of the whole: an index may have come
    /// into being since the transaction made them.
    async fn complete_patches(&self, states: &States) -> Result<()> {
        for (keyspace, key, paths) in self.patched_paths() {
            let Some(state) = states.get(&keyspace) else { continue };
            let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
            if state.concerns(&paths)
                && let Some((_, value)) = self.lock_and_read_stored(keyspace, &key).await?
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

    /// Locks every claimed key, in one order for all, and sees that nobody else has it. Those who do
    /// but have expired have to go with this transaction: their collections and ids.
    async fn claim(&self, states: &States, effects: &Effects) -> Result<Vec<(u32, Bytes)>> {
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
            return Ok(Vec::new());
        }
        let holders: Vec<Option<(u32, Hide)>> =
            claims.iter().map(|claim| self.holders(states, claim)).collect();
        let deleted: HashSet<(u32, Bytes)> = effects
            .ops
            .iter()
            .filter(|op| op.value.is_none())
            .map(|op| (op.keyspace, op.key.clone()))
            .collect();
        let claims = claims.clone();
        let (newest, expired) = self
            .store()
            .run(move |core| {
                let (mut newest, mut expired) = (0, Vec::new());
                for (claim, holders) in claims.iter().zip(&holders) {
                    let is_deleted = |key: &Bytes| deleted.contains(&(claim.keyspace, key.clone()));
                    let (seq, taken) = core.taken(claim, is_deleted)?;
                    newest = newest.max(seq);
                    let Some(entry) = taken else { continue };
                    let Some((documents, hide)) = holders else { return Err(claim.refusal()) };
                    let holder = core.expired_holder(claim, &entry, *documents, hide)?;
                    expired.push((*documents, holder.ok_or_else(|| claim.refusal())?));
                }
                Ok((newest, expired))
            })
            .await?;
        self.note_provisional(newest);
        Ok(if bug("unique_beside_expired") { Vec::new() } else { expired })
    }

    /// Whose documents have a claimed key, and what of them is hidden, if they can expire.
    fn holders(&self, states: &States, claim: &Claim) -> Option<(u32, Hide)> {
        if !self.core().expirations.is_any() {
            return None;
        }
        let is_of = |state: &CollectionState| {
            state.indexes.iter().any(|index| index.keyspace == claim.keyspace)
        };
        let (documents, state) = states.iter().find(|(_, state)| is_of(state))?;
        state.expiry.is_some().then(|| (*documents, self.hide(*documents)))
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
        match self.taken(claim, is_deleted)? {
            (newest, None) => Ok(newest),
            (_, Some(_)) => Err(claim.refusal()),
        }
    }

    /// The newest version that was looked at, and another key that begins with what is claimed.
    fn taken(
        &self,
        claim: &Claim,
        is_deleted: impl Fn(&Bytes) -> bool,
    ) -> Result<(u64, Option<Bytes>)> {
        let mut newest = 0;
        let mut iter = self.tree().range(claim.keyspace, &claim.prefix, None, u64::MAX)?;
        while let Some(entry) = iter.next_visible()? {
            if !entry.key.starts_with(&claim.prefix) {
                break;
            }
            newest = newest.max(entry.seq);
            if entry.key != claim.key && !is_deleted(&entry.key) {
                return Ok((newest, Some(entry.key)));
            }
        }
        Ok((newest, None))
    }

    /// The id of the document that an entry belongs to, if it has expired.
    fn expired_holder(
        &self,
        claim: &Claim,
        entry: &Bytes,
        documents: u32,
        hide: &Hide,
    ) -> Result<Option<Bytes>> {
        let Some(at) = claim.shape.id_at(entry) else { return Ok(None) };
        let id = entry.slice(at..);
        let stored = self.read_latest(documents, &id)?.and_then(|(_, value)| value);
        Ok(stored.filter(|value| hide.hides(value)).map(|_| id))
    }
}
