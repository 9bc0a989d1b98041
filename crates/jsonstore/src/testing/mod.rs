//! The simulated disk, clock and scheduler, workloads, oracles and checkers; outside semver.

mod clients;
mod cycles;
mod env;
mod fuzz;
mod generate;
mod loads;
mod naive;
mod naive_text;
mod oracle;
mod queries;
mod registers;
mod settings;
mod text_world;
mod world;

pub use self::{
    cycles::{Anomaly, Event, History, Outcome, check_history},
    env::SimEnv,
    fuzz::{TARGETS, mutate, run_target, sample, write_seed},
    generate::Cases,
    naive::naive_pipeline,
    naive_text::NaiveText,
    oracle::{naive_matches, order},
    queries::{aggregate, json_patch, matches_text, merge_patch, sorted},
    registers::{Access, Registers, check_registers},
    text_world::{TextReport, TextWorld},
    world::{Profile, Report, World, small_options},
};
pub use crate::vfs::sim::{Chooser, FaultKind, FaultPlan, SECTOR, SimVfs};

use crate::Store;

/// Hooks into the background of a store without threads.
pub mod hooks {
    use super::Store;
    use crate::Id;

    /// Writes one group of commits.
    pub fn step_log(store: &Store) -> bool {
        store.core().log.step()
    }

    /// Flushes the oldest frozen memtable.
    ///
    /// # Errors
    /// I/O errors.
    pub fn step_flush(store: &Store) -> crate::Result<bool> {
        store.core().flush_one()
    }

    /// Does one compaction.
    ///
    /// # Errors
    /// I/O errors.
    pub fn step_compact(store: &Store) -> crate::Result<bool> {
        store.core().compact_one()
    }

    /// Copies one log file to the archive.
    ///
    /// # Errors
    /// I/O errors.
    pub fn step_archive(store: &Store) -> crate::Result<bool> {
        store.core().archive_one()
    }

    /// Does a piece of building or emptying indexes.
    pub fn step_indexes(store: &Store) -> bool {
        store.core().step_indexes()
    }

    /// Whether indexes are still to be built or emptied.
    pub fn has_index_jobs(store: &Store) -> bool {
        store.core().has_index_jobs()
    }

    /// Deletes some documents that have expired, if it is time.
    ///
    /// # Errors
    /// I/O errors.
    pub fn step_expiry(store: &Store) -> crate::Result<bool> {
        store.core().step_expiry()
    }

    /// As `step_expiry`, whatever the time; tells of each document, with its collection, before it is
    /// deleted.
    ///
    /// # Errors
    /// I/O errors.
    pub fn expire(store: &Store, mut tell: impl FnMut(&str, Id)) -> crate::Result<bool> {
        let names = store.core().keyspaces();
        store.core().step_expiry_now(&mut |documents, id| {
            let name = names.iter().find(|(_, number, _)| *number == documents);
            tell(name.map_or("", |(name, ..)| name), Id(id.to_vec()));
        })
    }

    /// Does one piece of work on some text index.
    ///
    /// # Errors
    /// I/O errors.
    pub fn step_text(store: &Store) -> crate::Result<bool> {
        store.core().keep_text()
    }

    /// What the ticker does.
    pub fn tick(store: &Store) {
        store.core().tick();
    }

    /// Marks the log as idle.
    pub fn mark(store: &Store) {
        store.core().mark();
    }

    /// Re-reads one segment.
    pub fn scrub(store: &Store) -> bool {
        store.core().scrub_one()
    }

    /// Freezes the memtable.
    pub fn rotate(store: &Store) {
        store.core().rotate(true);
    }

    /// The newest commit that this session sees.
    pub fn session_seq(store: &Store) -> u64 {
        store.core().log.visible().max(store.session.seq())
    }

    /// The last sequence number given out.
    pub fn last_seq(store: &Store) -> u64 {
        store.core().log.last_seq()
    }

    /// The key of an id, decoded from untrusted bytes.
    pub fn decode_key(bytes: &[u8]) -> Option<String> {
        crate::key::decode_untrusted(bytes)
    }
}
