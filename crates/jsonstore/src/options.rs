//! How a store is opened.

use std::{path::PathBuf, sync::Arc, time::Duration};

use crate::{
    advice::{AutoIndex, AutoIndexLimits},
    backup::Archive,
    crypt::MasterKey,
    env::{Env, RealEnv},
    guard::GuardLimits,
    observe::AlertLimits,
    vfs::{RealVfs, Vfs},
};

/// When a commit counts as done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Durability {
    /// When it survives power loss.
    #[default]
    Sync,
    /// When it survives the death of the process; power loss may cost the last
    /// `Options::sync_interval`. Until it is synced only the session that wrote it sees it:
    /// `Store::session`.
    Interval,
}

/// What to do about damage in the log that had been acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Recovery {
    /// Refuse to open.
    #[default]
    Strict,
    /// Step over it; `Store::stats` lists what was lost.
    Salvage,
}

/// Settings of a store. Every limit has a default.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Options {
    /// The directory.
    pub path: PathBuf,
    /// Create the store if there is none. Default: true.
    pub create: bool,
    /// Read only: nothing is written, not even by recovery. Default: false.
    pub read_only: bool,
    /// Encrypts everything. Must be the same at every opening. Default: none.
    pub key: Option<MasterKey>,
    /// Caches and memtables together: at most half for blocks and for the filters and indexes of segments,
    /// 25 % for a memtable, the rest for documents. Filters, 1.25 bytes for each document and each entry
    /// of an index, stay when they take more than their part. While memtables wait to be flushed, caches
    /// shrink, down to a fifth. Flushes, compactions and bulk loads have some megabytes of their own
    /// besides. Default: 128 MiB.
    pub memory_budget: usize,
    /// Called after flushes and compactions, when much memory was freed, once a second at most; on a thread of
    /// the store, which waits for it. Allocators keep what is free, that of glibc for each of many threads:
    /// this is the place to have it given back, there by `malloc_trim(0)`. Default: none.
    pub on_memory_freed: Option<fn()>,
    /// Segments are mapped into memory, and about this much of them stays there. It needs the feature
    /// `mmap` and a store without a key. A medium that fails under a mapping kills the process, as
    /// does another process that cuts a file, so 0, the default, reads segments like any file.
    pub map_bytes_max: usize,
    /// Size of a log file; fixed when the store is created. Default: 64 MiB.
    pub wal_file_bytes: u64,
    /// How much a log file grows at a time. Default: 1 MiB.
    pub wal_grow_bytes: u64,
    /// The log is flushed at this length, which bounds recovery. Default: 256 MiB.
    pub wal_bytes_max: u64,
    /// A memtable is flushed at this size; 0 derives it from the budget, and more than a quarter of
    /// the budget exceeds it. Default: 0.
    pub memtable_bytes: usize,
    /// Target size of a segment. Default: 32 MiB.
    pub segment_bytes: u64,
    /// Target size of level 1. Default: 128 MiB.
    pub level_base_bytes: u64,
    /// Segments in level 0 that start a compaction. Default: 4.
    pub l0_trigger: usize,
    /// Segments in level 0 that slow writers down. Default: 8.
    pub l0_slow: usize,
    /// Segments in level 0 that stop writers until there are fewer. Default: 16.
    pub l0_stop: usize,
    /// Bytes per second that compaction reads at most. Default: 1 GiB.
    pub compaction_bytes_per_second_max: u64,
    /// Compaction slows down while one read in a hundred takes longer. Default: 4 ms.
    pub read_latency_target: Duration,
    /// A snapshot older than this is given up when the disk is nearly full, so that what it pins can
    /// go; its readers get `Error::SnapshotTooOld`. Default: 5 minutes.
    pub max_snapshot_age: Duration,
    /// Compact in the background. Default: true.
    pub compaction: bool,
    /// Bytes of a document. Default: 16 MiB.
    pub document_bytes_max: usize,
    /// Nesting of a document. Default: 128.
    pub document_depth_max: usize,
    /// Free space below which writes are refused. Default: 64 MiB.
    pub disk_reserve_bytes: u64,
    /// When a commit counts as done. Default: `Sync`.
    pub durability: Durability,
    /// How long `Durability::Interval` may leave commits unsynced. Default: 100 ms.
    pub sync_interval: Duration,
    /// How long to wait for a lock. Default: 30 s.
    pub lock_timeout: Duration,
    /// How long a wait lasts before a deadlock is looked for. Default: 10 ms.
    pub deadlock_check_after: Duration,
    /// Attempts of `Store::transact`. Default: 32.
    pub transact_attempts_max: u32,
    /// Changes of a text index that are folded into a part together; a search looks through those that
    /// wait. Default: 512.
    pub text_fold_changes: usize,
    /// Memory that building a text index gathers documents in. Default: 24 MiB.
    pub text_build_bytes: usize,
    /// Bounds on guarded sessions, see [`crate::Store::guarded`].
    pub guard: GuardLimits,
    /// Count and time operations: `Store::metrics`. Default: true.
    pub metrics: bool,
    /// A query on which the store works at least so long is noted in `Store::slow_queries` and as an
    /// event of `tracing`. Default: 100 ms.
    pub slow_query: Option<Duration>,
    /// Slow queries that are remembered. Default: 128.
    pub slow_queries_max: usize,
    /// From when on the alert rules of `Store::health` fire.
    pub alerts: AlertLimits,
    /// Metrics, health and slow queries are written here every five seconds, as JSON (`Store::report`),
    /// or as metrics for Prometheus if the name ends in `.prom`. Default: none.
    pub report: Option<PathBuf>,
    /// Indexes that would help: named, or made. Default: `Suggest`.
    pub auto_index: AutoIndex,
    /// Bounds on `AutoIndex::On`.
    pub auto_index_limits: AutoIndexLimits,
    /// Damage in the log. Default: `Strict`.
    pub recovery: Recovery,
    /// Sealed log files are copied here before they are used again, for restoring to any moment. If
    /// that fails the log grows until it works again. Default: none.
    pub archive: Option<Archive>,
    /// The disk.
    pub vfs: Arc<dyn Vfs>,
    /// Clock, randomness, threads.
    pub env: Arc<dyn Env>,
}

impl Options {
    /// The defaults, for the store in this directory.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            create: true,
            read_only: false,
            key: None,
            memory_budget: 128 << 20,
            on_memory_freed: None,
            map_bytes_max: 0,
            wal_file_bytes: 64 << 20,
            wal_grow_bytes: 1 << 20,
            wal_bytes_max: 256 << 20,
            memtable_bytes: 0,
            segment_bytes: 32 << 20,
            level_base_bytes: 128 << 20,
            l0_trigger: 4,
            l0_slow: 8,
            l0_stop: 16,
            compaction_bytes_per_second_max: 1 << 30,
            read_latency_target: Duration::from_millis(4),
            max_snapshot_age: Duration::from_secs(300),
            compaction: true,
            document_bytes_max: 16 << 20,
            document_depth_max: 128,
            disk_reserve_bytes: 64 << 20,
            durability: Durability::Sync,
            sync_interval: Duration::from_millis(100),
            lock_timeout: Duration::from_secs(30),
            deadlock_check_after: Duration::from_millis(10),
            transact_attempts_max: 32,
            text_fold_changes: 512,
            text_build_bytes: 24 << 20,
            guard: GuardLimits::default(),
            metrics: true,
            slow_query: Some(Duration::from_millis(100)),
            slow_queries_max: 128,
            alerts: AlertLimits::default(),
            report: None,
            auto_index: AutoIndex::Suggest,
            auto_index_limits: AutoIndexLimits::default(),
            recovery: Recovery::Strict,
            archive: None,
            vfs: Arc::new(RealVfs),
            env: Arc::new(RealEnv::new()),
        }
    }

    pub(crate) fn memtable_limit(&self) -> usize {
        if self.memtable_bytes > 0 {
            self.memtable_bytes
        } else {
            (self.memory_budget / 4).max(1 << 20)
        }
    }

    pub(crate) fn cache_bytes(&self) -> usize {
        self.memory_budget / 4 * 3
    }

    /// For pages of one text index as they are read.
    pub(crate) fn text_cache_bytes(&self) -> usize {
        self.memory_budget / 5
    }

    pub(crate) fn block_cache_bytes(&self) -> usize {
        self.memory_budget / 2
    }
}
