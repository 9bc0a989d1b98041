//! The memory budget, held against what is really allocated.
//!
//! A test binary of its own, because a counting allocator counts for the whole process. What counts
//! is caches and memtables; what flushes, compactions and loads work with comes besides.
#![allow(unsafe_code, reason = "an allocator is an unsafe trait")]
#![allow(clippy::unwrap_used, reason = "a failure here is a failed test")]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    time::Duration,
};

use hearth_jsonstore::{Collection, Isolation, Options, Store, block_on};

struct Counting;

static ALLOCATED: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is passed on as it came; the counter does not allocate.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATED.fetch_add(layout.size(), Relaxed);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        ALLOCATED.fetch_sub(layout.size(), Relaxed);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATED.fetch_add(size, Relaxed);
        ALLOCATED.fetch_sub(layout.size(), Relaxed);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.realloc(memory, layout, size) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

const BUDGET: usize = 16 << 20;
const DOCUMENTS: u64 = 16_000;

fn document(id: u64, round: u64) -> String {
    let mut state = id << 20 | round;
    let mut text = format!(r#"{{"_id":{id},"round":{round},"text":""#);
    while text.len() < 900 {
        state = state.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(0x1405_7B7E_F767_814F);
        text.push_str(&format!("{:04x} ", state >> 52));
    }
    text + "\"}"
}

/// What the store says its caches and memtables take.
fn accounted(store: &Store) -> usize {
    let stats = store.stats();
    (stats.caches[2] + stats.caches[5] + stats.memtable_bytes) as usize
}

/// The most that was accounted for while `work` ran.
fn peak(store: &Store, work: impl FnOnce()) -> usize {
    let (stop, highest) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Relaxed) {
                highest.fetch_max(accounted(store), Relaxed);
                std::thread::sleep(Duration::from_micros(500));
            }
        });
        work();
        stop.store(true, Relaxed);
    });
    highest.into_inner()
}

/// Runs one kind of work; returns how much of the budget was accounted for when it was over.
#[track_caller]
fn phase(what: &str, store: &Store, baseline: usize, work: impl FnOnce()) -> usize {
    let peak = peak(store, work);
    assert!(peak <= BUDGET / 100 * 105, "{what}: {peak} of {BUDGET} accounted for");
    // Work that ended may still hold buffers for a moment.
    let mut difference = usize::MAX;
    for _ in 0..3000 {
        let real = ALLOCATED.load(Relaxed).saturating_sub(baseline);
        difference = difference.min(real.abs_diff(accounted(store)));
        if difference <= BUDGET / 20 {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let (real, said) = (ALLOCATED.load(Relaxed) - baseline, accounted(store));
    println!("{what}: peak {peak}, then {said} accounted for, {real} allocated");
    assert!(real <= BUDGET / 100 * 105, "{what}: {real} of {BUDGET} allocated");
    // Indexes and filters of segments, for which caches make room, and what the work at hand takes come besides.
    assert!(difference <= BUDGET / 100 * 8, "{what}: {real} allocated, {said} accounted for");
    said
}

fn write(store: &Store, c: &Collection, round: u64) {
    for batch in (0..DOCUMENTS).collect::<Vec<_>>().chunks(100) {
        let texts: Vec<String> = batch.iter().map(|id| document(*id, round)).collect();
        let tx = store.begin(Isolation::Latest);
        let written = block_on(async {
            for text in &texts {
                tx.put(c, text).await?;
            }
            tx.commit().await
        });
        written.unwrap();
    }
}

fn read(c: &Collection, count: u64, seed: u64) {
    for i in 0..count {
        let id = (i + seed).wrapping_mul(0x9E37_79B9_7F4A_7C15) % DOCUMENTS;
        assert!(block_on(c.get(id)).unwrap().is_some());
    }
}

#[test]
fn what_is_allocated_is_what_the_budget_allows() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = Options::new(dir.path());
    options.memory_budget = BUDGET;
    let store = block_on(Store::open(options)).unwrap();
    let c = store.collection("c").unwrap();
    write(&store, &c, 0);
    block_on(store.compact()).unwrap();
    // Tables of fixed size and what threads keep come besides; caches and memtables are empty now.
    let baseline = ALLOCATED.load(Relaxed) - accounted(&store);
    let full = phase("reading", &store, baseline, || read(&c, 2 * DOCUMENTS, 1));
    assert!(full >= BUDGET / 10 * 6, "{full} of {BUDGET} used: caches were never full");
    phase("writing", &store, baseline, || write(&store, &c, 1));
    phase("mixed work", &store, baseline, || {
        std::thread::scope(|scope| {
            scope.spawn(|| read(&c, DOCUMENTS, 7));
            write(&store, &c, 2);
        });
    });
    phase("compacting", &store, baseline, || block_on(store.compact()).unwrap());
    phase("loading", &store, baseline, || {
        let other = store.collection("other").unwrap();
        let mut load = block_on(store.load()).unwrap();
        for id in 0..DOCUMENTS {
            load.put(&other, &document(id, 3)).unwrap();
        }
        block_on(load.finish()).unwrap();
    });
}
