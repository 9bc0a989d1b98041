//! Pages in memory: a store that all threads share, and in front of it a lane for each thread.
//!
//! A hit takes the lock of the thread's own lane, which nobody else wants, and touches no memory that
//! another thread writes to, except once a second when the page is compared with the disk. The store
//! bounds memory and open files; what it evicts leaves the lanes too.

use std::{
    cell::Cell,
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use foldhash::fast::RandomState;
use hearth_http_core::Prepared;
use parking_lot::Mutex;
use smallvec::SmallVec;

use crate::{
    multipart::Source,
    page::{Page, Variant},
};

/// A page with the heads of its responses encoded, once per lane: a reference count that several
/// threads change is a contended one.
#[derive(Debug)]
pub(crate) struct Local {
    pub(crate) page: Arc<Page>,
    pub(crate) ready: SmallVec<[Ready; 1]>,
}

#[derive(Debug)]
pub(crate) struct Ready {
    /// The whole response; `None` where the content is not in memory.
    pub(crate) full: Option<Arc<Prepared>>,
    pub(crate) not_modified: Arc<Prepared>,
}

#[derive(Debug)]
pub(crate) struct Cache {
    lanes: Box<[Lane]>,
    store: Mutex<Store>,
    bounds: Bounds,
}

/// What the cache may hold, and for how long a page is believed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    pub(crate) memory_max: usize,
    pub(crate) files_max: usize,
    pub(crate) check_interval: u64,
}

/// On cache lines of its own, so that locking one lane does not slow another.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Lane(Mutex<HashMap<Box<str>, Local, RandomState>>);

impl Local {
    pub(crate) fn new(page: Arc<Page>) -> Self {
        let ready = page.variants.iter().map(|variant| Ready::new(&page, variant)).collect();
        Self { page, ready }
    }
}

impl Ready {
    fn new(page: &Page, variant: &Variant) -> Self {
        let full = match &variant.source {
            Source::File(_) => None,
            Source::Memory(bytes) => {
                Some(Prepared::new(page.status, variant.headers.clone(), bytes.clone()))
            }
        };
        let not_modified = Prepared::new(
            hearth_http_core::StatusCode::NOT_MODIFIED,
            variant.headers_unmodified.clone(),
            bytes::Bytes::new(),
        );
        Self { full: full.map(Arc::new), not_modified: Arc::new(not_modified) }
    }
}

impl Cache {
    pub(crate) fn new(bounds: Bounds) -> Self {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let lanes = (0..threads.next_power_of_two() * 2).map(|_| Lane::default()).collect();
        Self { lanes, store: Mutex::default(), bounds }
    }

    /// Uses the page of `key` if this thread has one that is still believed.
    pub(crate) fn hit<R>(
        &self,
        key: &str,
        now: u64,
        use_it: impl FnOnce(&Local) -> R,
    ) -> Option<R> {
        let lane = self.lane().lock();
        let local = lane.get(key)?;
        if !self.is_fresh(&local.page, now) {
            return None;
        }
        // Read first: a line that is only read stays in every core's cache.
        if !local.page.used.load(Ordering::Relaxed) {
            local.page.used.store(true, Ordering::Relaxed);
        }
        Some(use_it(local))
    }

    /// The page of `key` in the store, whatever its age.
    pub(crate) fn stored(&self, key: &str) -> Option<Arc<Page>> {
        self.store.lock().get(key)
    }

    /// Whether the page need not be compared with the disk yet.
    pub(crate) fn is_fresh(&self, page: &Page, now: u64) -> bool {
        let age = now.saturating_sub(page.checked.load(Ordering::Relaxed));
        age < self.bounds.check_interval && !page.retired.load(Ordering::Relaxed)
    }

    /// Takes on the comparison with the disk; false where another thread was faster.
    pub(crate) fn claim(&self, page: &Page, now: u64) -> bool {
        let checked = page.checked.load(Ordering::Relaxed);
        now.saturating_sub(checked) >= self.bounds.check_interval
            && page
                .checked
                .compare_exchange(checked, now, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
    }

    /// Puts a page into the store, in place of what was there, and makes room for it.
    pub(crate) fn insert(&self, key: &str, page: &Arc<Page>, now: u64) {
        let mut gone = Vec::new();
        let fits = page.memory() <= self.bounds.memory_max && page.files() <= self.bounds.files_max;
        {
            let mut store = self.store.lock();
            gone.extend(store.remove(key).map(|old| (key.into(), old)));
            store.expire(now, &mut gone);
            if fits {
                store.insert(key, Arc::clone(page));
                store.shrink(self.bounds, &mut gone);
            } else {
                page.retired.store(true, Ordering::Release);
            }
        }
        self.purge(&gone);
    }

    pub(crate) fn remove(&self, key: &str) {
        let gone = self.store.lock().remove(key);
        self.purge(&gone.map(|page| (key.into(), page)).into_iter().collect::<Vec<_>>());
    }

    /// Keeps a page at hand for this thread.
    pub(crate) fn keep(&self, key: &str, local: Local) {
        let page = Arc::clone(&local.page);
        if page.retired.load(Ordering::Acquire) {
            return;
        }
        let mut lane = self.lane().lock();
        // Refilling from the store is cheap, so no order is kept here.
        if lane.len() >= LANE_PAGES_MAX {
            lane.clear();
        }
        lane.insert(key.into(), local);
        // Retired in between: whoever did that has purged this lane already.
        if page.retired.load(Ordering::Acquire) {
            lane.remove(key);
        }
    }

    fn purge(&self, gone: &[(Box<str>, Arc<Page>)]) {
        for (_, page) in gone {
            page.retired.store(true, Ordering::Release);
        }
        if gone.is_empty() {
            return;
        }
        for lane in &self.lanes {
            let mut lane = lane.0.lock();
            for (key, _) in gone {
                lane.remove(key);
            }
        }
    }

    fn lane(&self) -> &Mutex<HashMap<Box<str>, Local, RandomState>> {
        static THREADS: AtomicUsize = AtomicUsize::new(0);
        thread_local! {
            static THREAD: Cell<usize> = Cell::new(THREADS.fetch_add(1, Ordering::Relaxed));
        }
        // The number of lanes is a power of two.
        let index = THREAD.with(Cell::get) & (self.lanes.len() - 1);
        &self.lanes.get(index).expect("the mask keeps the index within the lanes").0
    }

    #[cfg(test)]
    fn totals(&self) -> (usize, usize, usize) {
        let store = self.store.lock();
        (store.index.len(), store.memory, store.files)
    }
}

/// The shared pages: a table and a clock hand that evicts what was not used since it last came by.
#[derive(Debug, Default)]
struct Store {
    index: HashMap<Box<str>, usize, RandomState>,
    slots: Vec<Option<(Box<str>, Arc<Page>)>>,
    free: Vec<usize>,
    hand: usize,
    memory: usize,
    files: usize,
    swept: u64,
}

type Gone = Vec<(Box<str>, Arc<Page>)>;

impl Store {
    fn get(&self, key: &str) -> Option<Arc<Page>> {
        let slot = self.slots.get(*self.index.get(key)?)?.as_ref();
        slot.map(|(_, page)| Arc::clone(page))
    }

    fn insert(&mut self, key: &str, page: Arc<Page>) {
        self.memory += page.memory();
        self.files += page.files();
        let entry = Some((key.into(), page));
        let slot = self.free.pop().unwrap_or(self.slots.len());
        match self.slots.get_mut(slot) {
            Some(free) => *free = entry,
            None => self.slots.push(entry),
        }
        self.index.insert(key.into(), slot);
    }

    fn remove(&mut self, key: &str) -> Option<Arc<Page>> {
        let slot = self.index.remove(key)?;
        let (_, page) = self.slots.get_mut(slot)?.take()?;
        self.free.push(slot);
        self.memory -= page.memory();
        self.files -= page.files();
        Some(page)
    }

    /// Evicts until the bounds hold.
    fn shrink(&mut self, bounds: Bounds, gone: &mut Gone) {
        while self.memory > bounds.memory_max
            || self.files > bounds.files_max
            || self.index.len() > STORE_PAGES_MAX
        {
            let Some(key) = self.next_victim() else { return };
            gone.extend(self.remove(&key).map(|page| (key, page)));
        }
    }

    fn next_victim(&mut self) -> Option<Box<str>> {
        // The first round clears every mark, so the second finds one.
        for _ in 0..self.slots.len() * 2 {
            self.hand = (self.hand + 1) % self.slots.len();
            if let Some(Some((key, page))) = self.slots.get(self.hand)
                && !page.used.swap(false, Ordering::Relaxed)
            {
                return Some(key.clone());
            }
        }
        None
    }

    /// Lets go of pages that nobody asked for in a while: an open file that was deleted keeps its disk space.
    fn expire(&mut self, now: u64, gone: &mut Gone) {
        if now.saturating_sub(self.swept) < SWEEP_INTERVAL {
            return;
        }
        self.swept = now;
        let idle =
            |page: &Page| now.saturating_sub(page.checked.load(Ordering::Relaxed)) > IDLE_MAX;
        let old: Vec<Box<str>> = self
            .slots
            .iter()
            .flatten()
            .filter(|(_, page)| idle(page))
            .map(|(key, _)| key.clone())
            .collect();
        for key in old {
            gone.extend(self.remove(&key).map(|page| (key, page)));
        }
    }
}

const LANE_PAGES_MAX: usize = 1024;
const STORE_PAGES_MAX: usize = 16 * 1024;
const SWEEP_INTERVAL: u64 = 10_000;
const IDLE_MAX: u64 = 60_000;

#[cfg(test)]
mod tests {
    use std::{fs, sync::Arc};

    use hearth_http_core::{Coding, StatusCode};

    use super::{Bounds, Cache, Local};
    use crate::page::{Opened, Page, Presentation};

    fn page(len: usize, hot: bool, now: u64) -> Arc<Page> {
        let file = tempfile::NamedTempFile::new().expect("a file");
        fs::write(file.path(), vec![b'x'; len]).expect("writing");
        let presentation = Presentation {
            media_types: Vec::new(),
            rules: Vec::new(),
            immutable_hashed: true,
            hot_file_bytes_max: if hot { u64::MAX } else { 0 },
            encoder: None,
            encoded_file_bytes_max: 0,
        };
        let metadata = file.as_file().metadata().expect("metadata");
        let file = file.reopen().expect("the file");
        let opened = Opened { coding: Coding::Identity, file, metadata };
        let page = Page::load("x", StatusCode::OK, [opened], &presentation, now);
        Arc::new(page.expect("a page"))
    }

    fn cache(memory_max: usize, files_max: usize) -> Cache {
        Cache::new(Bounds { memory_max, files_max, check_interval: 1000 })
    }

    fn add(cache: &Cache, key: &str, page: &Arc<Page>, now: u64) {
        cache.insert(key, page, now);
        cache.keep(key, Local::new(Arc::clone(page)));
    }

    fn has(cache: &Cache, key: &str) -> bool {
        assert!(!(cache.stored(key).is_none() && cache.hit(key, 0, |_| ()).is_some()), "{key}");
        cache.stored(key).is_some()
    }

    #[test]
    fn memory_is_bounded() {
        let cache = cache(100_000, 10);
        for index in 0..50 {
            add(&cache, &format!("{index}"), &page(10_000, true, 0), 0);
            let (count, memory, files) = cache.totals();
            assert!(memory <= 100_000 && files == 0 && count <= 7, "{count} {memory} {files}");
        }
        add(&cache, "large", &page(200_000, true, 0), 0);
        assert!(!has(&cache, "large"), "more than the whole budget");
        assert_eq!(cache.totals().0, 7);
    }

    #[test]
    fn open_files_are_bounded() {
        let cache = cache(1_000_000, 4);
        for index in 0..20 {
            add(&cache, &format!("{index}"), &page(10, false, 0), 0);
            assert!(cache.totals().2 <= 4);
        }
        assert_eq!(cache.totals().2, 4);
    }

    #[test]
    fn what_is_used_stays() {
        let cache = cache(100_000, 10);
        add(&cache, "favourite", &page(10_000, true, 0), 0);
        for index in 0..100 {
            add(&cache, &format!("{index}"), &page(10_000, true, 0), 0);
            assert!(cache.hit("favourite", 0, |_| ()).is_some(), "evicted after {index} others");
        }
    }

    #[test]
    fn what_is_not_asked_for_is_let_go() {
        let cache = cache(100_000, 10);
        add(&cache, "old", &page(10, false, 0), 0);
        add(&cache, "new", &page(10, false, 70_000), 70_000);
        assert!(!has(&cache, "old"));
        assert!(has(&cache, "new"));
    }

    #[test]
    fn only_one_thread_checks() {
        let cache = cache(100_000, 10);
        let page = page(10, true, 0);
        assert!(cache.is_fresh(&page, 999));
        assert!(!cache.claim(&page, 999));
        assert!(!cache.is_fresh(&page, 1000));
        assert!(cache.claim(&page, 1000));
        assert!(!cache.claim(&page, 1000));
        assert!(cache.is_fresh(&page, 1000));
    }

    #[test]
    fn a_replaced_page_leaves_the_lanes() {
        let cache = cache(100_000, 10);
        let (old, new) = (page(10, true, 0), page(10, true, 0));
        add(&cache, "key", &old, 0);
        cache.insert("key", &new, 0);
        assert!(cache.hit("key", 0, |_| ()).is_none());
        cache.keep("key", Local::new(old)); // by a thread that was late
        assert!(cache.hit("key", 0, |_| ()).is_none());
        cache.keep("key", Local::new(new));
        assert!(cache.hit("key", 0, |_| ()).is_some());
        cache.remove("key");
        assert!(!has(&cache, "key"));
        assert_eq!(cache.totals(), (0, 0, 0));
    }
}
