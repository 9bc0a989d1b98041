//! Migrations: bringing the documents of a collection from one version of their form to another.

use std::{fmt, sync::Arc};

use serde_json::{Value, json};

use crate::{
    api::Collection,
    catalog::Settings,
    error::{Error, Result},
    key::Id,
};

/// The member of the settings.
const MEMBER: &str = "version";
/// Documents changed in one transaction.
const BATCH_MAX: usize = 200;
/// Passes over the documents, of which each finds what was written during the one before.
const PASSES_MAX: u32 = 100;
const CHANGES_ID: &str = "it changes the id";
/// Documents that a report names.
const FAILURES_MAX: usize = 100;

/// What brings one document up or down a version; it may refuse, with a reason.
pub type Step = dyn Fn(&mut Value) -> std::result::Result<(), String> + Send + Sync;

/// The versions of the documents of a collection, and how to get from each to the next and back.
///
/// A collection begins at version 0. A step has to leave alone what it has already changed, because
/// it may meet a document twice.
#[derive(Clone, Default)]
pub struct Migrations {
    steps: Vec<Both>,
}

#[derive(Clone)]
struct Both {
    up: Arc<Step>,
    down: Arc<Step>,
}

/// What a migration did, or would do.
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct MigrationReport {
    /// The version before.
    pub from: u64,
    /// The version after.
    pub to: u64,
    /// Documents looked at.
    pub documents: u64,
    /// How many of them it changes.
    pub changed: u64,
    /// How many it cannot.
    pub failure_count: u64,
    /// The first 100 of these, with the reason.
    pub failures: Vec<(Id, String)>,
}

impl Migrations {
    /// No versions yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The next version: how documents come to it, and how they go back.
    #[must_use]
    pub fn then(
        mut self,
        up: impl Fn(&mut Value) -> std::result::Result<(), String> + Send + Sync + 'static,
        down: impl Fn(&mut Value) -> std::result::Result<(), String> + Send + Sync + 'static,
    ) -> Self {
        self.steps.push(Both { up: Arc::new(up), down: Arc::new(down) });
        self
    }

    /// The newest version.
    pub fn newest(&self) -> u64 {
        self.steps.len() as u64
    }

    /// One document from one version to another.
    fn apply(&self, from: u64, to: u64, document: &mut Value) -> std::result::Result<(), String> {
        let all = |low: u64, high: u64| &self.steps[low as usize..high as usize];
        if from <= to {
            all(from, to).iter().try_for_each(|step| (step.up)(document))
        } else {
            all(to, from).iter().rev().try_for_each(|step| (step.down)(document))
        }
    }

    fn check(&self, version: u64) -> Result<()> {
        if version <= self.newest() {
            return Ok(());
        }
        Err(Error::UnknownVersion { found: version, newest: self.newest() })
    }
}

impl fmt::Debug for Migrations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Migrations").field("newest", &self.newest()).finish()
    }
}

impl Collection {
    /// The version of the documents.
    pub fn version(&self) -> u64 {
        self.progress().0
    }

    /// Brings every document to a version, some in each transaction, while others go on reading and
    /// writing: code that runs meanwhile has to understand both forms. Documents that are written
    /// meanwhile are brought there as well. One that was cut short is done by the same call again.
    ///
    /// # Errors
    /// [`Error::UnknownVersion`]; [`Error::MigrationUnderWay`] if another one was cut short;
    /// [`Error::Migration`] for the first document that a step refuses, and what the collection's
    /// schema or a unique index refuses: what was changed stays changed, and the same call goes on
    /// once that document allows it.
    ///
    /// # Cancel safety
    /// Dropping the future leaves a migration that was cut short.
    pub async fn migrate(&self, migrations: &Migrations, to: u64) -> Result<MigrationReport> {
        self.migrate_with_progress(migrations, to, |_| {}).await
    }

    /// As [`Collection::migrate`]; `progress` is told how many documents were looked at.
    ///
    /// # Errors
    /// As [`Collection::migrate`].
    pub async fn migrate_with_progress(
        &self,
        migrations: &Migrations,
        to: u64,
        mut progress: impl FnMut(u64),
    ) -> Result<MigrationReport> {
        let (from, under_way) = self.progress();
        migrations.check(from)?;
        migrations.check(to)?;
        let mut report = MigrationReport { from, to, ..MigrationReport::default() };
        if let Some(target) = under_way.filter(|target| *target != to) {
            return Err(Error::MigrationUnderWay { from, to: target });
        }
        if from == to {
            return Ok(report);
        }
        self.note_progress(from, Some(to)).await?;
        let mut since = 0;
        // What others write in the old form while it goes on is found by the next pass.
        for _ in 0..PASSES_MAX {
            let snapshot = self.store.snapshot();
            let before = report.changed;
            let mut documents = self.scan_at(&snapshot, ..);
            let mut batch = Vec::with_capacity(BATCH_MAX);
            loop {
                let document = documents.next().await?;
                let is_end = document.is_none();
                batch
                    .extend(document.filter(|d| d.rev() > since).map(|d| d.value()["_id"].clone()));
                if batch.len() == BATCH_MAX || is_end {
                    report.documents += batch.len() as u64;
                    report.changed += self.migrate_batch(migrations, (from, to), &batch).await?;
                    progress(report.documents);
                    batch.clear();
                }
                if is_end {
                    break;
                }
            }
            if report.changed == before {
                break;
            }
            since = snapshot.seq();
        }
        self.note_progress(to, None).await?;
        Ok(report)
    }

    /// What [`Collection::migrate`] would do to the documents as they are, without doing it: every
    /// document is tried on a copy, and held against the schema if there is one.
    ///
    /// # Errors
    /// [`Error::UnknownVersion`]; I/O errors.
    pub async fn migrate_dry(&self, migrations: &Migrations, to: u64) -> Result<MigrationReport> {
        let (from, _) = self.progress();
        migrations.check(from)?;
        migrations.check(to)?;
        let mut report = MigrationReport { from, to, ..MigrationReport::default() };
        let mut documents = self.scan(..);
        while let Some(document) = documents.next().await? {
            let before = document.value();
            let mut after = before.clone();
            let mut tried = migrations.apply(from, to, &mut after);
            if tried.is_ok() && after["_id"] != before["_id"] {
                tried = Err(CHANGES_ID.to_owned());
            }
            if tried.is_ok() {
                tried = self.would_accept(&after);
            }
            report.documents += 1;
            report.changed += u64::from(tried.is_ok() && after != before);
            if let Err(reason) = tried {
                report.failure_count += 1;
                if report.failures.len() < FAILURES_MAX {
                    report.failures.push((Id::from_json(&before["_id"])?, reason));
                }
            }
        }
        Ok(report)
    }

    /// Some documents in one transaction; returns how many it changed.
    async fn migrate_batch(
        &self,
        migrations: &Migrations,
        (from, to): (u64, u64),
        ids: &[Value],
    ) -> Result<u64> {
        self.store
            .transact(|tx| async move {
                let mut changed = 0;
                for id in ids {
                    let document = tx.get_for_update(self, Id::from_json(id)?).await?;
                    let Some(document) = document else { continue };
                    let before = document.value();
                    let mut after = before.clone();
                    let done = migrations.apply(from, to, &mut after).and_then(|()| {
                        let is_same = after["_id"] == before["_id"];
                        if is_same { Ok(()) } else { Err(CHANGES_ID.to_owned()) }
                    });
                    let id = || id.to_string();
                    done.map_err(|reason| Error::Migration { id: id(), to, reason })?;
                    if after != before {
                        changed += 1;
                        tx.put(self, &after).await?;
                    }
                }
                Ok(changed)
            })
            .await
    }

    #[cfg(feature = "schema")]
    fn would_accept(&self, document: &Value) -> std::result::Result<(), String> {
        let state = self.existing().and_then(|number| self.core().collection_state(number));
        let schema = state.and_then(|state| state.schema.clone());
        schema.map_or(Ok(()), |schema| schema.accepts(document))
    }

    #[cfg(not(feature = "schema"))]
    #[allow(clippy::unused_self, reason = "with the feature it asks the collection")]
    fn would_accept(&self, _document: &Value) -> std::result::Result<(), String> {
        Ok(())
    }

    /// The version, and where a migration that was cut short was going.
    fn progress(&self) -> (u64, Option<u64>) {
        let state = self.existing().and_then(|number| self.core().collection_state(number));
        let Some(state) = state else { return (0, None) };
        let Some(member) = state.settings.get(MEMBER) else { return (0, None) };
        (member["number"].as_u64().unwrap_or_default(), member["to"].as_u64())
    }

    async fn note_progress(&self, number: u64, under_way: Option<u64>) -> Result<()> {
        self.alter(move |settings: &mut Settings| {
            let mut member = json!({ "number": number });
            if let Some(to) = under_way {
                member["to"] = json!(to);
            }
            settings.insert(MEMBER.to_owned(), member);
            Ok(())
        })
        .await
    }
}
