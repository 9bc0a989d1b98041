//! L3: segments mapped into memory. Each block is checked when it is first touched, then trusted
//! until it is evicted.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
};

use bytes::Bytes;

use crate::vfs::Mapped;

/// Whether a block was checked is kept per so many bytes; shorter blocks are checked every time.
const GRANULE: u64 = 64;

/// How much of all mappings may stay resident.
#[derive(Debug, Default)]
pub(crate) struct MapBudget {
    pub(crate) bytes_max: usize,
    resident: AtomicUsize,
    clock: AtomicU64,
}

impl MapBudget {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self { bytes_max, ..Self::default() }
    }

    /// Bytes of blocks that were touched and not evicted since.
    pub(crate) fn resident(&self) -> usize {
        self.resident.load(Relaxed)
    }

    pub(crate) fn is_exceeded(&self) -> bool {
        self.resident() > self.bytes_max
    }
}

/// One mapped segment.
pub(crate) struct SegmentMap {
    bytes: Bytes,
    mapped: Arc<dyn Mapped>,
    checked: Vec<AtomicU64>,
    resident: AtomicUsize,
    last_touch: AtomicU64,
}

struct Owner(Arc<dyn Mapped>);

impl AsRef<[u8]> for Owner {
    fn as_ref(&self) -> &[u8] {
        (*self.0).as_ref()
    }
}

impl SegmentMap {
    pub(crate) fn new(mapped: Arc<dyn Mapped>) -> Self {
        let bytes = Bytes::from_owner(Owner(Arc::clone(&mapped)));
        let words = (bytes.len() as u64 / GRANULE / 64 + 1) as usize;
        let checked = (0..words).map(|_| AtomicU64::new(0)).collect();
        let (resident, last_touch) = (AtomicUsize::new(0), AtomicU64::new(0));
        Self { bytes, mapped, checked, resident, last_touch }
    }

    /// The block's bytes, unless they lie beyond the file.
    pub(crate) fn block(&self, offset: u64, len: u32) -> Option<Bytes> {
        let from = usize::try_from(offset).ok()?;
        let to = from.checked_add(len as usize)?;
        (to <= self.bytes.len()).then(|| self.bytes.slice(from..to))
    }

    pub(crate) fn is_checked(&self, offset: u64, len: u32) -> bool {
        u64::from(len) >= GRANULE && self.word(offset).load(Relaxed) & bit(offset) != 0
    }

    /// The block is sound, and resident now.
    pub(crate) fn note_checked(&self, budget: &MapBudget, offset: u64, len: u32) {
        self.last_touch.store(budget.clock.fetch_add(1, Relaxed), Relaxed);
        if self.word(offset).fetch_or(bit(offset), Relaxed) & bit(offset) == 0 {
            self.resident.fetch_add(len as usize, Relaxed);
            budget.resident.fetch_add(len as usize, Relaxed);
        }
    }

    pub(crate) fn last_touch(&self) -> u64 {
        self.last_touch.load(Relaxed)
    }

    /// Lets the system take the pages back; what is touched again is checked again.
    pub(crate) fn evict(&self, budget: &MapBudget) {
        for word in &self.checked {
            word.store(0, Relaxed);
        }
        self.forget(budget);
        // Pages that stay cost memory only.
        let _ = self.mapped.evict();
    }

    /// Takes it out of the account.
    pub(crate) fn forget(&self, budget: &MapBudget) {
        budget.resident.fetch_sub(self.resident.swap(0, Relaxed), Relaxed);
    }

    fn word(&self, offset: u64) -> &AtomicU64 {
        let at = (offset / GRANULE / 64) as usize;
        &self.checked[at.min(self.checked.len() - 1)]
    }
}

fn bit(offset: u64) -> u64 {
    1 << (offset / GRANULE % 64)
}

impl fmt::Debug for SegmentMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SegmentMap").field("resident", &self.resident).finish_non_exhaustive()
    }
}
