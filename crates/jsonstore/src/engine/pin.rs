//! Pinning what a backup copies: one state of the manifest, its segments and the log behind it.

use std::sync::{Arc, atomic::Ordering};

use super::Core;
use crate::{lsm::Levels, manifest::State, memtable::Memtable, wal::WalConfig};

/// A consistent state of the store, which stays on the disk while this lives. Writers do not notice:
/// only the locks of the manifest and of the log are taken, each for an instant, with no I/O.
#[derive(Debug)]
pub(crate) struct Pin {
    core: Arc<Core>,
    /// Its segments are removed only after the last holder is gone.
    #[expect(dead_code, reason = "held, not read")]
    levels: Arc<Levels>,
    pub(crate) state: State,
    /// Up to here the log belongs to it.
    pub(crate) end: u64,
}

impl Drop for Pin {
    fn drop(&mut self) {
        self.core.log.with_wal(|wal| wal.unpin(self.state.wal_floor));
    }
}

impl Core {
    pub(crate) fn pin(self: &Arc<Self>) -> Pin {
        // No flush, compaction or load changes the segments meanwhile; a load also writes its mark to
        // the log under this lock, so the pinned log ends before it or the segments hold it.
        let manifest = self.manifest.lock();
        let tree = self.tree.load_full();
        let tables: Vec<Arc<Memtable>> =
            tree.frozen.iter().chain([&tree.active]).cloned().collect();
        let (floor, end) = self.log.pin(&tables);
        let flushed = self.flushed_seq.load(Ordering::Relaxed);
        let state = self.state(&tree.levels, flushed, floor);
        drop(manifest);
        Pin { core: Arc::clone(self), levels: Arc::clone(&tree.levels), state, end }
    }

    pub(crate) fn store_id(&self) -> [u8; 16] {
        self.store_id
    }

    pub(crate) fn wal_config(&self) -> WalConfig {
        super::open::wal_config(&self.options, self.store_id)
    }
}
