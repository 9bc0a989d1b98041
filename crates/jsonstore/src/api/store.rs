//! Opening, closing and looking after a store.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use super::{Collection, Isolation, Keyspace, Load, Transaction, executor::may_block};
use crate::{
    backup::{self, BackupOptions, BackupProgress, BackupReport},
    engine::{Blocking, Core, Hold, KeyspaceKind, OpenStep, Threads, VerifyReport, is_would_block},
    error::{Error, Result},
    guard::{Principal, Turn, Visitor},
    lsm::LEVELS,
    options::Options,
};

/// An open store. Clones are handles to the same one; the last to go closes it.
#[derive(Debug, Clone)]
pub struct Store {
    pub(crate) inner: Arc<Inner>,
    pub(crate) session: Session,
    visitor: Option<Arc<Visitor>>,
}

/// The newest commit of a session, which it sees even while others do not yet.
#[derive(Debug, Clone, Default)]
pub(crate) struct Session(Arc<AtomicU64>);

impl Session {
    pub(crate) fn seq(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }

    pub(crate) fn raise(&self, seq: u64) {
        self.0.fetch_max(seq, Ordering::SeqCst);
    }
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) core: Arc<Core>,
    threads: Threads,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.threads.stop(&self.core);
        // Nothing acknowledged depends on it: what is missing here, recovery finds.
        let _ = self.core.close();
    }
}

impl Store {
    /// Opens the store in a directory, creating it if there is none.
    ///
    /// # Errors
    /// [`Error::Locked`] if another process has it open; [`Error::Corruption`] if acknowledged data
    /// is damaged; [`Error::ForeignDirectory`], [`Error::UnknownFormat`], [`Error::WrongKey`].
    ///
    /// # Cancel safety
    /// Dropping the future lets opening finish in the background; the store then closes again.
    pub async fn open(options: Options) -> Result<Self> {
        Self::open_with_progress(options, |_| {}).await
    }

    /// As [`Store::open`], telling how far recovery is.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub async fn open_with_progress(
        options: Options,
        mut progress: impl FnMut(OpenStep) + Send + 'static,
    ) -> Result<Self> {
        let work = move || Core::open(options, &mut progress);
        let core = if may_block() { work() } else { crate::pool::Pool::new().run(work).await }?;
        let threads = Threads::start(&core);
        let inner = Arc::new(Inner { core, threads });
        Ok(Self { inner, session: Session::default(), visitor: None })
    }

    /// A handle with a session of its own. It matters with [`crate::Durability::Interval`] only:
    /// what was acknowledged before it was synced is seen by handles of the same session, clones and
    /// what was made from them; the others see it when no crash can take it any more.
    #[must_use]
    pub fn session(&self) -> Self {
        let visitor = self.visitor.clone();
        Self { inner: Arc::clone(&self.inner), session: Session::default(), visitor }
    }

    /// A session of its own for somebody: what is done through the handle, its clones and what is
    /// made from them is bounded by [`crate::GuardLimits`] and may have to wait, or fail as
    /// [`Error::Busy`]. It lasts until the last of them goes.
    ///
    /// # Errors
    /// [`Error::Busy`] if there are as many sessions as may be.
    pub fn guarded(&self, principal: &Principal) -> Result<Self> {
        let visitor = Some(Arc::new(self.core().sessions.visit(principal)?));
        Ok(Self { inner: Arc::clone(&self.inner), session: Session::default(), visitor })
    }

    /// A collection of documents. It comes into being with its first document.
    ///
    /// # Errors
    /// [`Error::InvalidName`].
    pub fn collection(&self, name: &str) -> Result<Collection> {
        check_name(name)?;
        Ok(Collection::new(self.clone(), name))
    }

    /// A keyspace: ordered bytes to bytes, in the same transactions as documents.
    ///
    /// # Errors
    /// [`Error::InvalidName`].
    pub fn keyspace(&self, name: &str) -> Result<Keyspace> {
        check_name(name)?;
        Ok(Keyspace::new(self.clone(), name))
    }

    /// Names of the collections.
    pub fn collections(&self) -> Vec<String> {
        let all = self.core().keyspaces().into_iter();
        all.filter(|(_, _, kind)| *kind == KeyspaceKind::Documents)
            .map(|(name, _, _)| name)
            .collect()
    }

    /// Begins a transaction. Dropping it rolls it back.
    pub fn begin(&self, isolation: Isolation) -> Transaction {
        Transaction::begin(self, isolation, 0)
    }

    /// Runs a serializable transaction, again if it conflicts with another.
    ///
    /// # Errors
    /// What `work` returns, or what the commit returns after the last attempt.
    ///
    /// # Cancel safety
    /// Dropping the future before the commit is logged rolls back; after, the commit goes on.
    pub async fn transact<T, F, W>(&self, work: W) -> Result<T>
    where
        W: Fn(Transaction) -> F,
        F: Future<Output = Result<T>>,
    {
        let mut victim_count = 0;
        let mut attempt = 0;
        loop {
            attempt += 1;
            let tx = Transaction::begin(self, Isolation::Serializable, victim_count);
            let result = match work(tx.clone()).await {
                Ok(value) => tx.commit().await.map(|_| value),
                Err(e) => {
                    tx.rollback();
                    Err(e)
                }
            };
            victim_count = tx.victim_count();
            match result {
                Err(e)
                    if e.is_retryable() && attempt < self.core().options.transact_attempts_max =>
                {
                    self.back_off(attempt).await;
                }
                other => return other,
            }
        }
    }

    /// A consistent view of everything committed so far, as this session sees it.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot { hold: Arc::new(Hold::new(self.core(), false, self.session.seq())) }
    }

    /// Loads many documents at once, bypassing the log. Waits until nobody else writes.
    ///
    /// # Errors
    /// [`Error::LockTimeout`] if others do not stop writing.
    pub async fn load(&self) -> Result<Load> {
        Load::begin(self.clone()).await
    }

    /// Moves everything from the log to segments, so that the next opening has nothing to replay.
    ///
    /// # Errors
    /// I/O errors; nothing is lost by them.
    pub async fn checkpoint(&self) -> Result<()> {
        self.run(|core| core.checkpoint()).await
    }

    /// Merges all segments, dropping what nobody can see any more.
    ///
    /// # Errors
    /// I/O errors; nothing is lost by them.
    pub async fn compact(&self) -> Result<()> {
        self.run(|core| {
            core.checkpoint()?;
            core.compact_all()
        })
        .await
    }

    /// Reads everything and checks every checksum, order and id.
    ///
    /// # Errors
    /// [`Error::Corruption`] names the first damage.
    pub async fn verify(&self) -> Result<VerifyReport> {
        self.verify_with_progress(|_, _| {}).await
    }

    /// As [`Store::verify`]; `progress` is called with bytes read and bytes in all.
    ///
    /// # Errors
    /// As [`Store::verify`].
    pub async fn verify_with_progress(
        &self,
        mut progress: impl FnMut(u64, u64) + Send + 'static,
    ) -> Result<VerifyReport> {
        self.run(move |core| core.verify(&mut progress)).await
    }

    /// Copies the store, while it goes on, into a folder of backups. Commits do not wait for it.
    ///
    /// # Errors
    /// [`Error::Corruption`] if a segment is damaged; I/O errors such as a full disk. Nothing of the
    /// backup remains then, and the store goes on.
    ///
    /// # Cancel safety
    /// Dropping the future lets the backup finish in the background.
    pub async fn backup(&self, options: BackupOptions) -> Result<BackupReport> {
        self.backup_with_progress(options, |_| {}).await
    }

    /// As [`Store::backup`], telling how far it is.
    ///
    /// # Errors
    /// As [`Store::backup`].
    pub async fn backup_with_progress(
        &self,
        options: BackupOptions,
        mut progress: impl FnMut(BackupProgress) + Send + 'static,
    ) -> Result<BackupReport> {
        self.run(move |core| backup::create(core, &options, &mut progress)).await
    }

    /// Figures about the store.
    pub fn stats(&self) -> Stats {
        Stats::of(self.core())
    }

    /// Closes the store in order: later calls on any handle give [`Error::Closed`].
    ///
    /// # Errors
    /// I/O errors of the last write; what was acknowledged is safe in any case.
    pub async fn close(self) -> Result<()> {
        let inner = Arc::clone(&self.inner);
        let work = move || {
            inner.threads.stop(&inner.core);
            inner.core.close()
        };
        if may_block() || !self.core().options.env.has_threads() {
            work()
        } else {
            crate::pool::Pool::new().run(work).await
        }
    }

    pub(crate) fn core(&self) -> &Arc<Core> {
        &self.inner.core
    }

    pub(crate) fn is_guarded(&self) -> bool {
        self.visitor.is_some()
    }

    /// Waits for the turn of an operation, which lasts as long as what is returned.
    pub(crate) async fn enter(&self, bytes_written: u64) -> Result<Option<Turn>> {
        let Some(visitor) = &self.visitor else { return Ok(None) };
        let core = self.core();
        visitor.enter(|| core.options.env.now(), bytes_written).await.map(Some)
    }

    /// Runs blocking work where it may block.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Arc<Core>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let core = self.core();
        if may_block() || !core.options.env.has_threads() {
            return work(core);
        }
        let shared = Arc::clone(core);
        core.pool.run(move || work(&shared)).await
    }

    /// Runs work on the caller's thread while it finds everything in memory, else where it may block.
    pub(crate) async fn run_from_memory<T: Send + 'static>(
        &self,
        work: impl Fn(&Arc<Core>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let core = self.core();
        core.check_open()?;
        let here = {
            let _forbid = (!may_block() && core.options.env.has_threads()).then(Blocking::forbid);
            work(core)
        };
        match here {
            Err(e) if is_would_block(&e) => self.run(work).await,
            other => other,
        }
    }

    async fn back_off(&self, attempt: u32) {
        let core = Arc::clone(self.core());
        if !core.options.env.has_threads() || attempt < 3 {
            return;
        }
        let jitter = core.options.env.random() % (100 << attempt.min(7));
        let pause = std::time::Duration::from_micros(jitter);
        let _: Result<()> = self
            .run(move |_| {
                std::thread::sleep(pause);
                Ok(())
            })
            .await;
    }
}

/// Everything as it was at one moment. Documents that had expired by then are hidden from it, those
/// that expire later are not. One from before any index expired documents hides nothing.
#[derive(Debug, Clone)]
pub struct Snapshot {
    pub(crate) hold: Arc<Hold>,
}

impl Snapshot {
    /// The sequence number of the last commit it sees.
    pub fn seq(&self) -> u64 {
        self.hold.seq
    }
}

/// Figures about a store.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// The newest durable commit.
    pub visible_seq: u64,
    /// Commits since opening.
    pub commits: u64,
    /// Groups they were written in.
    pub groups: u64,
    /// Syncs of the log.
    pub syncs: u64,
    /// Bytes written to the log, the zeros it grows by included.
    pub log_bytes_written: u64,
    /// Segments on each level.
    pub segments: [u64; LEVELS],
    /// Bytes on each level.
    pub segment_bytes: [u64; LEVELS],
    /// Bytes in memtables.
    pub memtable_bytes: u64,
    /// Document cache: hits, misses, bytes; block cache: the same.
    pub caches: [u64; 6],
    /// Bytes of mapped segments that were touched and not evicted since.
    pub mapped_bytes: u64,
    /// Lock waits, deadlocks broken with a victim and without, timeouts.
    pub locks: [u64; 4],
    /// Locks held or waited for now.
    pub lock_entries: u64,
    /// Snapshots held now, and the age of the oldest in milliseconds.
    pub snapshots: (u64, u64),
    /// Memtables flushed, compactions done, bytes they wrote.
    pub background: [u64; 3],
    /// Transactions refused because of a conflict.
    pub conflicts: u64,
    /// Writers slowed down because the background was behind.
    pub stalls: u64,
    /// How often reads left out a document because it had expired, and how many such documents were
    /// deleted in the background.
    pub expired: [u64; 2],
    /// How late, in milliseconds, the last pass of deletions was with what had waited for longest;
    /// 0 if it found nothing.
    pub expiry_lag_ms: u64,
    /// Log positions that salvage had to give up.
    pub lost: Vec<(u64, u64)>,
    /// Bytes of segments re-read in the background to find rot.
    pub scrubbed_bytes: u64,
    /// Rot that was found so.
    pub damage: Vec<String>,
    /// The last failure of background work, if it persists.
    pub background_error: Option<String>,
}

impl Stats {
    pub(crate) fn of(core: &Core) -> Self {
        let tree = core.tree();
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let mut stats = Self { visible_seq: core.log.visible(), ..Self::default() };
        stats.commits = load(&core.log.commits);
        stats.groups = load(&core.log.groups);
        (stats.syncs, stats.log_bytes_written) =
            core.log.with_wal(|wal| (wal.syncs, wal.bytes_written));
        for level in 0..LEVELS {
            stats.segments[level] = tree.levels.levels[level].len() as u64;
            stats.segment_bytes[level] = tree.levels.bytes(level);
        }
        stats.memtable_bytes =
            tree.frozen.iter().chain([&tree.active]).map(|t| t.bytes() as u64).sum();
        stats.caches = core.cache_stats();
        stats.mapped_bytes = core.mapped_bytes();
        let locks = &core.locks.stats;
        stats.locks = [
            load(&locks.waits),
            load(&locks.deadlocks),
            load(&locks.reordered),
            load(&locks.timeouts),
        ];
        stats.lock_entries = core.locks.entries() as u64;
        let snapshots = core.log.snapshots.lock();
        let oldest = snapshots.held.values().map(|h| h.since_ms).min();
        let age = oldest.map_or(0, |since| core.now_ms().saturating_sub(since));
        stats.snapshots = (snapshots.held.values().map(|h| u64::from(h.readers)).sum(), age);
        let counters = &core.counters;
        stats.background =
            [load(&counters.flushes), load(&counters.compactions), load(&counters.compacted_bytes)];
        stats.conflicts = load(&counters.conflicts);
        stats.stalls = load(&counters.stalls);
        let expirations = &core.expirations;
        stats.expired = [load(&expirations.hidden), load(&expirations.deleted)];
        stats.expiry_lag_ms = load(&expirations.lag_ms);
        stats.lost.clone_from(&core.lost);
        (stats.scrubbed_bytes, stats.damage) = core.scrubbed();
        stats.background_error = core.background_error().map(|e| e.to_string());
        stats
    }
}

fn check_name(name: &str) -> Result<()> {
    let allowed = |b: u8| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-');
    if (1..=64).contains(&name.len()) && name.bytes().all(allowed) {
        Ok(())
    } else {
        Err(Error::InvalidName)
    }
}
