//! Reading: through the caches, then the tree.

use std::{
    cell::{Cell, RefCell},
    sync::Arc,
};

use bytes::Bytes;

use super::{Core, Pace};
use crate::{
    cache::CachedDocument,
    codec::hash_key,
    error::{Error, Result},
    expiry::Hide,
    jb1,
    lsm::{MergeBack, MergeIter, Tree},
};

/// Memory that a thread keeps for the next document.
const SCRATCH_BYTES_MAX: usize = 64 << 10;

thread_local! {
    static FORBIDDEN: Cell<bool> = const { Cell::new(false) };
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// The JSON text of a document, in memory of just its size.
pub(super) fn printed(value: &[u8]) -> Result<Bytes> {
    SCRATCH.with_borrow_mut(|scratch| {
        let len = jb1::print_over(value, scratch)?;
        let json = Bytes::copy_from_slice(&scratch[..len]);
        scratch.truncate(SCRATCH_BYTES_MAX);
        scratch.shrink_to(SCRATCH_BYTES_MAX);
        Ok(json)
    })
}

/// While it lives, reading from the disk fails with a hidden error instead of blocking the thread.
pub(crate) struct Blocking(bool);

impl Blocking {
    pub(crate) fn forbid() -> Self {
        Self(FORBIDDEN.replace(true))
    }

    pub(crate) fn is_forbidden() -> bool {
        FORBIDDEN.get()
    }
}

impl Drop for Blocking {
    fn drop(&mut self) {
        FORBIDDEN.set(self.0);
    }
}

/// A version of a key: its sequence number, and its value unless it was deleted.
pub(crate) type Version = (u64, Option<Bytes>);

/// A tree and a snapshot that it holds all of.
pub(crate) type Moment = (arc_swap::Guard<Arc<Tree>>, u64);

/// What a reader sees.
#[derive(Debug, Clone, Copy)]
pub(crate) enum View {
    /// The newest state, and at least this one.
    Newest(u64),
    /// A registered snapshot.
    Snapshot(u64),
}

impl Core {
    /// The newest version that a reader may see who has seen everything up to `floor`.
    pub(crate) fn read_newest(
        &self,
        keyspace: u32,
        key: &[u8],
        floor: u64,
    ) -> Result<(u64, Option<Version>)> {
        let (tree, snapshot) = self.moment(View::Newest(floor))?;
        Ok((snapshot, tree.get(keyspace, key, snapshot)?))
    }

    /// A tree and a snapshot of which it holds everything, as long as the guard lives.
    pub(crate) fn moment(&self, view: View) -> Result<Moment> {
        match view {
            View::Snapshot(at) => {
                let tree = self.tree();
                self.log.check_snapshot(at)?;
                Ok((tree, at))
            }
            View::Newest(floor) => loop {
                let at = self.log.visible().max(floor);
                let tree = self.tree();
                // Compaction may have collapsed versions of a snapshot nobody registered.
                if at >= tree.gc_seq {
                    return Ok((tree, at));
                }
            },
        }
    }

    /// The version in a registered snapshot.
    pub(crate) fn read_at(
        &self,
        keyspace: u32,
        key: &[u8],
        snapshot: u64,
    ) -> Result<Option<Version>> {
        let (tree, at) = self.moment(View::Snapshot(snapshot))?;
        tree.get(keyspace, key, at)
    }

    /// The newest version of all, durable or not; only for who holds a lock on the key.
    pub(crate) fn read_latest(&self, keyspace: u32, key: &[u8]) -> Result<Option<Version>> {
        self.tree().get(keyspace, key, u64::MAX)
    }

    /// A document as JSON text with its version, unless it is hidden.
    pub(crate) fn document(
        &self,
        keyspace: u32,
        key: &[u8],
        view: View,
        hide: &Hide,
    ) -> Result<Option<(u64, Bytes)>> {
        let hash = hash_key(keyspace, key);
        if let Some(found) = self.cached(keyspace, key, hash, view, hide) {
            return Ok(found);
        }
        let begun = Pace::is_sampled().then(|| self.options.env.now());
        let (tree, at) = self.moment(view)?;
        let found = self.read_document((keyspace, key, hash), (&tree, at), hide)?;
        if let Some(begun) = begun {
            self.pace.note_read(self.options.env.now().saturating_sub(begun));
        }
        Ok(found)
    }

    /// The same as of a moment.
    pub(super) fn document_at(
        &self,
        keyspace: u32,
        key: &[u8],
        (tree, at): (&Tree, u64),
        hide: &Hide,
    ) -> Result<Option<(u64, Bytes)>> {
        let hash = hash_key(keyspace, key);
        match self.documents.get(&self.versions, keyspace, key, hash, at, hide) {
            Some(found) => Ok(found),
            None => self.read_document((keyspace, key, hash), (tree, at), hide),
        }
    }

    fn read_document(
        &self,
        (keyspace, key, hash): (u32, &[u8], u64),
        (tree, at): (&Tree, u64),
        hide: &Hide,
    ) -> Result<Option<(u64, Bytes)>> {
        let mut found = None;
        tree.visit(keyspace, key, hash, at, &mut |_, seq, value| {
            let Some(value) = value else { return Ok(()) };
            let Some(stamp) = hide.admit(value.bytes()) else { return Ok(()) };
            found = Some((seq, stamp, printed(value.bytes())?));
            Ok(())
        })?;
        let Some((seq, stamp, json)) = found else { return Ok(None) };
        let capacity = self.document_cache_bytes(tree);
        let cached = |json: Bytes| CachedDocument { seq, loaded_at: at, stamp, json };
        self.documents.insert(keyspace, key, hash, &json, capacity, cached);
        Ok(Some((seq, json)))
    }

    /// What memtables and blocks leave of the budget for documents.
    pub(super) fn document_cache_bytes(&self, tree: &Tree) -> usize {
        self.room_for_caches(tree).saturating_sub(self.blocks.bytes())
    }

    /// What memtables leave of the budget; a fifth of it in any case, however far behind the flush is.
    fn room_for_caches(&self, tree: &Tree) -> usize {
        let budget = self.options.memory_budget;
        let tables: usize = tree.frozen.iter().chain([&tree.active]).map(|t| t.bytes()).sum();
        // What is written until the next look, and no more than it does any good.
        let margin = budget / 32;
        budget.saturating_sub(tables + margin).max(budget / 5).min(self.options.cache_bytes())
    }

    /// Caches make room for memtables that wait to be flushed: documents first, then blocks.
    pub(super) fn balance_memory(&self) {
        let room = self.room_for_caches(&self.tree());
        self.documents.shrink(room.saturating_sub(self.blocks.bytes()));
        if self.blocks.bytes() > room {
            self.blocks.shrink(room);
        }
    }

    /// What the cache says about a document, if anything: `None` in it if it is hidden.
    pub(crate) fn cached(
        &self,
        keyspace: u32,
        key: &[u8],
        hash: u64,
        view: View,
        hide: &Hide,
    ) -> Option<Option<(u64, Bytes)>> {
        let at = match view {
            View::Newest(floor) => self.log.visible().max(floor),
            View::Snapshot(at) => at,
        };
        self.documents.get(&self.versions, keyspace, key, hash, at, hide)
    }

    /// About how many entries a range of keys holds, deleted and old ones included: for planning.
    /// Reads no more than two blocks of each segment, and those that lead there.
    ///
    /// # Errors
    /// I/O errors and `Error::Corruption`; the hidden error of `would_block`.
    pub(crate) fn estimate(&self, keyspace: u32, from: &[u8], to: Option<&[u8]>) -> Result<u64> {
        self.tree().estimate(keyspace, from, to)
    }

    /// All visible entries of a keyspace from a key on, in a registered snapshot.
    pub(crate) fn iter(&self, keyspace: u32, from: &[u8], snapshot: u64) -> Result<MergeIter> {
        self.range(keyspace, from, None, snapshot)
    }

    /// Those before `to`.
    pub(crate) fn range(
        &self,
        keyspace: u32,
        from: &[u8],
        to: Option<&[u8]>,
        snapshot: u64,
    ) -> Result<MergeIter> {
        let (tree, at) = self.moment(View::Snapshot(snapshot))?;
        tree.range(keyspace, from, to, at)
    }

    /// The same, the last first.
    pub(crate) fn range_back(
        &self,
        keyspace: u32,
        from: &[u8],
        to: Option<&[u8]>,
        snapshot: u64,
    ) -> Result<MergeBack> {
        let (tree, at) = self.moment(View::Snapshot(snapshot))?;
        tree.range_back(keyspace, from, to, at)
    }
}

/// A registered snapshot; dropping it lets garbage collection pass.
#[derive(Debug)]
pub(crate) struct Hold {
    pub(crate) core: Arc<Core>,
    pub(crate) seq: u64,
    pub(crate) serializable: bool,
    /// When it was taken, by the wall clock: what had expired by then, its readers do not see.
    pub(crate) wall_ms: i64,
}

impl Hold {
    /// Sees what is visible, and at least everything up to `floor`.
    pub(crate) fn new(core: &Arc<Core>, serializable: bool, floor: u64) -> Self {
        let seq = core.log.hold(serializable, core.now_ms(), floor);
        Self { core: Arc::clone(core), seq, serializable, wall_ms: core.hiding_time() }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.core.log.release(self.seq, self.serializable);
    }
}

/// The hidden error that sends a read to the pool.
pub(crate) fn would_block() -> Error {
    Error::io("read", "", std::io::ErrorKind::WouldBlock.into())
}

pub(crate) fn is_would_block(e: &Error) -> bool {
    matches!(e, Error::Io { source, .. } if source.kind() == std::io::ErrorKind::WouldBlock)
}
