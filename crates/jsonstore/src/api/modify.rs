//! Changing what a filter finds.

use super::{Collection, Input, Parsed, Transaction};
use crate::{
    error::Result,
    jb1,
    key::Id,
    plan::{Found, FoundValue},
    query::{Filter, Update, new_document},
};

/// What an upsert did.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Upserted {
    /// No document matched, so a new one was stored; its id.
    Inserted(Id),
    /// So many documents matched and were changed.
    Updated(u64),
}

impl Collection {
    /// Changes one document that matches; `false` if there is none. Which one is not said, if
    /// there are several.
    ///
    /// A `$` in a path of the update stands for the position of the first element of that array by
    /// which the document matches: `{"grades": 80}` with `{"$set": {"grades.$": 82}}`.
    ///
    /// # Errors
    /// As [`Collection::update_many`].
    ///
    /// # Cancel safety
    /// As [`Collection::insert`].
    pub async fn update_one(&self, filter: &Filter, update: &Update) -> Result<bool> {
        let done = self.modify(filter, update, &Modify { one: true, upsert: false }).await?;
        Ok(done != Upserted::Updated(0))
    }

    /// Changes every document that matches, in one transaction; returns how many. A `$` in a path
    /// is as in [`Collection::update_one`], for each document by itself.
    ///
    /// # Errors
    /// [`Error::InvalidUpdate`](crate::Error::InvalidUpdate);
    /// [`Error::TransactionTooLarge`](crate::Error::TransactionTooLarge); those of
    /// [`Find::collect`](crate::Find::collect) and of [`crate::Store::transact`]. Then nothing was
    /// changed.
    ///
    /// # Cancel safety
    /// As [`Collection::insert`].
    pub async fn update_many(&self, filter: &Filter, update: &Update) -> Result<u64> {
        match self.modify(filter, update, &Modify { one: false, upsert: false }).await? {
            Upserted::Updated(count) => Ok(count),
            Upserted::Inserted(_) => Ok(0),
        }
    }

    /// Changes one document that matches, or stores a new one: the fields that the filter wants to
    /// be equal to something, changed by the update, with its `$setOnInsert`. Two that happen at
    /// once do not both store one.
    ///
    /// # Errors
    /// As [`Collection::update_many`]; [`Error::InvalidFilter`](crate::Error::InvalidFilter) if the
    /// filter wants one field to be two values; [`Error::DuplicateId`](crate::Error::DuplicateId) if
    /// a document has the id of the new one and does not match.
    ///
    /// # Cancel safety
    /// As [`Collection::insert`].
    pub async fn upsert_one(&self, filter: &Filter, update: &Update) -> Result<Upserted> {
        self.modify(filter, update, &Modify { one: true, upsert: true }).await
    }

    /// Changes every document that matches, or stores a new one, as [`Collection::upsert_one`].
    ///
    /// # Errors
    /// As [`Collection::upsert_one`].
    ///
    /// # Cancel safety
    /// As [`Collection::insert`].
    pub async fn upsert_many(&self, filter: &Filter, update: &Update) -> Result<Upserted> {
        self.modify(filter, update, &Modify { one: false, upsert: true }).await
    }

    async fn modify(&self, filter: &Filter, update: &Update, how: &Modify) -> Result<Upserted> {
        self.store
            .transact(|tx| async move {
                let find = self.find(filter);
                let find = if how.one { find.limit(1) } else { find };
                let found = find.found_within(&tx).await?;
                if found.is_empty() && how.upsert {
                    return self.insert_new(&tx, filter, update).await.map(Upserted::Inserted);
                }
                let mut count = 0;
                for found in found {
                    count += u64::from(self.modify_found(&tx, found, filter, update).await?);
                }
                Ok(Upserted::Updated(count))
            })
            .await
    }

    async fn modify_found(
        &self,
        tx: &Transaction,
        found: Found,
        filter: &Filter,
        update: &Update,
    ) -> Result<bool> {
        let id = Id(found.id.to_vec());
        if !update.needs_filter() {
            return tx.update(self, id, update).await;
        }
        let document = match found.value {
            FoundValue::Jb1(document) => document,
            FoundValue::Json(text) => jb1::parse(&text, &self.core().limits())?.into(),
        };
        tx.update(self, id, &*update.found_by(filter, &document)?).await
    }

    async fn insert_new(&self, tx: &Transaction, filter: &Filter, update: &Update) -> Result<Id> {
        let options = &self.core().options;
        let update = update.stamped(options.env.wall_ms());
        let new = new_document(filter, &update, &self.core().limits())?;
        tx.insert(self, Input::Parsed(Parsed(&new))).await
    }
}

/// What to do with what was found, and with nothing.
#[derive(Debug)]
struct Modify {
    /// Changes one document at most.
    one: bool,
    /// Stores a new document if none was found.
    upsert: bool,
}
