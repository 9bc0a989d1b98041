//! The engine: everything below the API, synchronous, deterministic given `Vfs` and `Env`.

mod background;
mod batch;
mod ingest;
mod open;
mod pace;
mod pin;
mod read;
mod sort;
mod verify;

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use arc_swap::ArcSwap;
use bytes::Bytes;
use parking_lot::{Condvar, Mutex, RwLock};

pub(crate) use self::{
    background::Threads,
    ingest::Ingest,
    pace::Pace,
    pin::Pin,
    read::{Blocking, Hold, Moment, View, is_would_block, would_block},
    sort::Sorter,
};
pub use self::{open::OpenStep, verify::VerifyReport};
use crate::{
    advice::Advisor,
    backup::archive::Archiver,
    bugs::bug,
    cache::{BlockCache, DocumentCache, VersionTable},
    catalog::States,
    codec::hash_key,
    commit::{Log, Op, Request, Ticket, decode, encode},
    error::{Error, Result},
    guard::Guard,
    jb1,
    live::Notice,
    lock::LockManager,
    lsm::{LEVELS, Tree},
    manifest::Manifest,
    memtable::Memtable,
    observe::Observer,
    options::{Durability, Options},
    segment::{Dictionaries, Segment},
    vfs::LockGuard,
};

/// The keyspace of the catalogue: names of collections and keyspaces.
pub(crate) const CATALOGUE: u32 = 0;

/// Memtables that wait to be flushed while writers go on; each takes a quarter of the budget.
const FROZEN_MAX: usize = 3;
/// A memtable that grew by this part of its limit makes caches look for room.
const GROWTH_STEPS: usize = 16;

/// What a keyspace holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KeyspaceKind {
    Documents,
    Bytes,
    /// The store's own; the name has a slash, which no name of a user has.
    Internal,
}

#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) options: Options,
    dir: PathBuf,
    store_id: [u8; 16],
    pub(crate) log: Log,
    pub(crate) locks: Arc<LockManager>,
    tree: ArcSwap<Tree>,
    /// Held while the tree is replaced.
    tree_lock: Mutex<()>,
    manifest: Mutex<Manifest>,
    next_file: AtomicU64,
    flushed_seq: AtomicU64,
    blocks: Arc<BlockCache>,
    documents: DocumentCache,
    versions: VersionTable,
    dictionaries: Arc<Dictionaries>,
    catalogue: RwLock<BTreeMap<String, (u32, KeyspaceKind)>>,
    /// What the settings of collections mean; those without settings are not in it.
    pub(crate) states: ArcSwap<States>,
    /// Indexes to build or to empty, in turn.
    pub(crate) index_jobs: Mutex<std::collections::VecDeque<crate::index::Job>>,
    /// Held while settings change.
    pub(crate) settings_lock: Mutex<()>,
    pub(crate) expirations: crate::expiry::Expirations,
    pub(crate) text: crate::text::Registry,
    pub(crate) upkeep: crate::text::UpkeepGate,
    latches: Vec<Mutex<()>>,
    cursors: Mutex<[Vec<u8>; LEVELS]>,
    /// Only one flush and one compaction at a time.
    flush_lock: Mutex<()>,
    compact_lock: Mutex<()>,
    pub(crate) lost: Vec<(u64, u64)>,
    stop: AtomicBool,
    closed: AtomicBool,
    work: (Mutex<u64>, Condvar),
    background_error: Mutex<Option<Error>>,
    pub(crate) pool: crate::pool::Pool,
    last_mark: AtomicU64,
    scrub: Mutex<Scrub>,
    pub(crate) pace: Pace,
    pub(crate) counters: Counters,
    /// Only one backup at a time.
    pub(crate) backup_lock: Mutex<()>,
    archiver: Option<Archiver>,
    pub(crate) sessions: Arc<Guard>,
    pub(crate) observer: Arc<Observer>,
    pub(crate) advisor: Advisor,
    guard: Mutex<Option<LockGuard>>,
}

/// How far the background re-reading of all segments is.
#[derive(Debug, Default)]
pub(crate) struct Scrub {
    /// The last segment that was read.
    last: u64,
    /// Not to be read before, on the monotonic clock: this limits the rate.
    not_before: std::time::Duration,
    pub(crate) bytes: u64,
    /// Damage found: file and what is wrong with it.
    pub(crate) damage: BTreeMap<String, String>,
}

/// What happened since the store was opened.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) flushes: AtomicU64,
    pub(crate) compactions: AtomicU64,
    pub(crate) compacted_bytes: AtomicU64,
    pub(crate) conflicts: AtomicU64,
    pub(crate) stalls: AtomicU64,
}

impl Core {
    pub(crate) fn limits(&self) -> jb1::Limits {
        jb1::Limits {
            bytes_max: self.options.document_bytes_max,
            depth_max: self.options.document_depth_max,
        }
    }

    pub(crate) fn now_ms(&self) -> u64 {
        self.options.env.now().as_millis() as u64
    }

    pub(crate) fn check_open(&self) -> Result<()> {
        if self.closed.load(Ordering::Relaxed) { Err(Error::Closed) } else { Ok(()) }
    }

    /// Puts a transaction into the log and the memtable; it is visible once the ticket is done.
    pub(crate) fn submit(
        &self,
        ops: &[Op],
        reads: Option<(&crate::commit::ReadSet, u64)>,
        is_async: bool,
    ) -> Result<Arc<Ticket>> {
        self.submit_with(ops, reads, Vec::new(), is_async)
    }

    /// As `submit`, and sends notices once it is visible.
    pub(crate) fn submit_with(
        &self,
        ops: &[Op],
        reads: Option<(&crate::commit::ReadSet, u64)>,
        notices: Vec<Notice>,
        is_async: bool,
    ) -> Result<Arc<Ticket>> {
        self.check_open()?;
        if self.options.read_only {
            return Err(Error::ReadOnly);
        }
        let payload = encode(ops, 0, self.options.env.wall_ms());
        let limit = (self.options.wal_file_bytes - 4 * crate::frame::ALIGN) as usize;
        if payload.len() > limit {
            return Err(Error::TransactionTooLarge { bytes: payload.len(), limit });
        }
        self.give_way();
        let sync = self.options.durability == Durability::Sync;
        let request = Request { payload: payload.clone(), reads, sync, notices, is_async };
        let (ticket, table) = self.log.submit(request).inspect_err(|e| {
            if matches!(e, Error::Conflict) {
                self.counters.conflicts.fetch_add(1, Ordering::Relaxed);
            }
        })?;
        let before = table.bytes();
        // The operations are taken from the record, so the memtable shares its memory.
        let ops = decode(&payload, ticket.seq).expect("what was just encoded decodes");
        for (i, op) in ops.into_iter().enumerate() {
            if bug("lose_last_op") && i > 0 && ticket.seq.is_multiple_of(16) {
                break;
            }
            self.versions.note(hash_key(op.keyspace, &op.key), ticket.seq);
            table.insert(op.keyspace, op.key, ticket.seq, op.value);
        }
        table.note_seq(ticket.seq);
        ticket.applied();
        let limit = self.options.memtable_limit();
        let after = table.bytes();
        if after >= limit {
            self.rotate(false);
        }
        // Whoever takes it over a step sees that: between `before` and `after` lies what it added.
        let step = (limit / GROWTH_STEPS).max(1);
        if before / step != after / step {
            self.balance_memory();
        }
        Ok(ticket)
    }

    /// Freezes the memtable if it is full (or, with `force`, if it holds anything).
    pub(crate) fn rotate(&self, force: bool) {
        let limit = self.options.memtable_limit();
        self.log.rotate(|active| {
            let due = if force { !active.is_empty() } else { active.bytes() >= limit };
            if !due {
                return None;
            }
            let fresh = Arc::new(Memtable::new());
            self.change_tree(|tree| {
                tree.frozen.push(Arc::clone(&tree.active));
                tree.active = Arc::clone(&fresh);
            });
            Some(fresh)
        });
        self.wake_background();
    }

    fn change_tree(&self, change: impl FnOnce(&mut Tree)) {
        let _guard = self.tree_lock.lock();
        let mut tree = Tree::clone(&self.tree.load());
        change(&mut tree);
        self.tree.store(Arc::new(tree));
    }

    pub(crate) fn latches(
        &self,
        keys: &mut dyn Iterator<Item = u64>,
    ) -> Vec<parking_lot::MutexGuard<'_, ()>> {
        let stripes: std::collections::BTreeSet<usize> =
            keys.map(|hash| hash as usize % self.latches.len()).collect();
        stripes.into_iter().map(|at| self.latches[at].lock()).collect()
    }

    /// Slows a writer down while the background is behind. In a simulation it does the work itself.
    fn give_way(&self) {
        let is_behind = |tree: &Tree| {
            tree.levels.levels[0].len() >= self.options.l0_stop || tree.frozen.len() >= FROZEN_MAX
        };
        let tree = self.tree.load();
        let slow =
            tree.levels.levels[0].len() >= self.options.l0_slow || tree.frozen.len() >= FROZEN_MAX;
        if !slow || !self.options.compaction && tree.frozen.len() < FROZEN_MAX {
            return;
        }
        self.counters.stalls.fetch_add(1, Ordering::Relaxed);
        if !self.options.env.has_threads() {
            self.step();
            return;
        }
        self.wake_background();
        let pause = std::time::Duration::from_millis(1);
        let mut waited = std::time::Duration::ZERO;
        loop {
            std::thread::sleep(pause);
            waited += pause;
            let stuck = self.background_error.lock().is_some() || self.log.is_poisoned();
            if stuck || waited.as_secs() > 30 || !is_behind(&self.tree.load()) {
                return;
            }
        }
    }

    /// The number of a keyspace, if it exists.
    pub(crate) fn keyspace(&self, name: &str) -> Option<(u32, KeyspaceKind)> {
        self.catalogue.read().get(name).copied()
    }

    /// The number of a keyspace for writing, and the catalogue entry to write if it is new.
    pub(crate) fn keyspace_or_new(&self, name: &str, kind: KeyspaceKind) -> Result<u32> {
        if let Some((number, found)) = self.keyspace(name) {
            return if found == kind { Ok(number) } else { Err(Error::InvalidName) };
        }
        self.check_open()?;
        if self.options.read_only {
            return Err(Error::ReadOnly);
        }
        let mut catalogue = self.catalogue.write();
        if let Some((number, found)) = catalogue.get(name) {
            return if *found == kind { Ok(*number) } else { Err(Error::InvalidName) };
        }
        let number = catalogue.values().map(|(n, _)| n + 1).max().unwrap_or(CATALOGUE + 1);
        // Logged before any change of the keyspace, so recovery meets its name first.
        let op = Op {
            keyspace: CATALOGUE,
            key: Bytes::from(crate::key::Id::from(name).0),
            value: Some(encode_catalogue(number, kind)),
        };
        self.submit(&[op], None, true)?;
        catalogue.insert(name.to_owned(), (number, kind));
        Ok(number)
    }

    pub(crate) fn keyspaces(&self) -> Vec<(String, u32, KeyspaceKind)> {
        let catalogue = self.catalogue.read();
        catalogue.iter().map(|(name, (number, kind))| (name.clone(), *number, *kind)).collect()
    }

    /// The store is about to close: long work should give up.
    pub(crate) fn is_stopping(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    pub(crate) fn segments_dir(&self) -> PathBuf {
        self.dir.join("seg")
    }

    pub(crate) fn segment(&self, info: crate::segment::SegmentInfo) -> Arc<Segment> {
        let path = crate::lsm::segment_path(&self.segments_dir(), info.number);
        Arc::new(Segment::new(
            Arc::clone(&self.options.vfs),
            Arc::clone(&self.blocks),
            Arc::clone(&self.dictionaries),
            path,
            self.store_id,
            self.options.key.clone(),
            info,
        ))
    }

    pub(crate) fn tree(&self) -> arc_swap::Guard<Arc<Tree>> {
        self.tree.load()
    }

    /// Bytes re-read in the background, and the damage that was found.
    pub(crate) fn scrubbed(&self) -> (u64, Vec<String>) {
        let scrub = self.scrub.lock();
        let damage = scrub.damage.iter().map(|(file, what)| format!("{file}: {what}"));
        (scrub.bytes, damage.collect())
    }

    pub(crate) fn mapped_bytes(&self) -> u64 {
        self.blocks.maps.resident() as u64
    }

    pub(crate) fn cache_stats(&self) -> [u64; 6] {
        [
            self.documents.hits.load(Ordering::Relaxed),
            self.documents.misses.load(Ordering::Relaxed),
            self.documents.bytes() as u64,
            self.blocks.hits.load(Ordering::Relaxed),
            self.blocks.misses.load(Ordering::Relaxed),
            self.blocks.block_bytes() as u64,
        ]
    }
}

fn encode_catalogue(number: u32, kind: KeyspaceKind) -> Bytes {
    let mut out = number.to_le_bytes().to_vec();
    out.push(match kind {
        KeyspaceKind::Documents => 0,
        KeyspaceKind::Bytes => 1,
        KeyspaceKind::Internal => 2,
    });
    Bytes::from(out)
}

fn decode_catalogue(key: &[u8], value: &[u8]) -> Option<(String, u32, KeyspaceKind)> {
    let name: String = serde_json::from_str(&crate::key::Id(key.to_vec()).to_json()).ok()?;
    let number = u32::from_le_bytes(value.get(..4)?.try_into().ok()?);
    let kind = match *value.get(4)? {
        0 => KeyspaceKind::Documents,
        1 => KeyspaceKind::Bytes,
        2 => KeyspaceKind::Internal,
        _ => return None,
    };
    Some((name, number, kind))
}
