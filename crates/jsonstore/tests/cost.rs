//! What it costs to be followed and to be observed, by counts.
//!
//! A test binary of its own, because it counts allocations. Only those of the thread that calls count:
//! what the background does meanwhile is another matter. To count instructions as well:
//! `valgrind --tool=callgrind --toggle-collect='*commit_followed*' cost-… of_one_field`, then `commit_alone`.
#![allow(unsafe_code, reason = "an allocator is an unsafe trait")]
#![allow(clippy::unwrap_used, reason = "a failure here is a failed test")]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Wake, Waker},
};

use hearth_jsonstore::{
    ChangeRetention, Collection, Filter, LiveUpdate, Options, Result, Store, block_on,
};
use serde_json::json;

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
    static BYTES: Cell<u64> = const { Cell::new(0) };
}

fn count(bytes: usize) {
    // A thread that is ending counts no more.
    let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
    let _ = BYTES.try_with(|count| count.set(count.get() + bytes as u64));
}

// SAFETY: every call is passed on as it came; the counters do not allocate.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.realloc(memory, layout, size) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

const COMMITS: u64 = 500;
const QUERIES: u64 = 1000;

/// Counts how often it is woken.
#[derive(Default)]
struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Relaxed);
    }
}

type Following = Pin<Box<dyn Future<Output = Result<LiveUpdate>>>>;

/// A collection whose changes are kept, whether or not somebody follows.
fn open(metrics: bool) -> (tempfile::TempDir, Store, Collection) {
    let dir = tempfile::tempdir().unwrap();
    let mut options = Options::new(dir.path());
    options.metrics = metrics;
    if !metrics {
        options.slow_query = None;
    }
    let store = block_on(Store::open(options)).unwrap();
    let all = store.collection("c").unwrap();
    block_on(all.keep_changes(ChangeRetention::default())).unwrap();
    (dir, store, all)
}

/// Live queries that have told what there is, and wait.
fn follow(
    all: &Collection,
    filter: impl Fn(u64) -> serde_json::Value,
    woken: &Arc<Woken>,
) -> Vec<Following> {
    let waker = Waker::from(Arc::clone(woken));
    let begin = |n| {
        let filter = Filter::from_json(&filter(n)).unwrap();
        let mut live = block_on(all.live(filter)).unwrap();
        assert!(block_on(live.next()).unwrap().added.is_empty());
        let mut following: Following = Box::pin(async move { live.next().await });
        // What there is to read here a thread may read: nothing is handed to the pool.
        let polled = block_on(std::future::poll_fn(|_| {
            std::task::Poll::Ready(following.as_mut().poll(&mut Context::from_waker(&waker)))
        }));
        assert!(polled.is_pending());
        following
    };
    (0..QUERIES).map(begin).collect()
}

/// Allocations of so many commits, and their bytes.
fn commit_some(all: &Collection, from: u64) -> [u64; 2] {
    let before = [ALLOCATIONS.get(), BYTES.get()];
    for n in from..from + COMMITS {
        let text =
            format!(r#"{{"_id":{n},"room":{},"team":"{n}","text":"some words"}}"#, 100_000 + n);
        block_on(all.put(&text)).unwrap();
    }
    [ALLOCATIONS.get() - before[0], BYTES.get() - before[1]]
}

/// Names that callgrind tells apart; unlike, or the compiler makes one function of both.
#[inline(never)]
fn commit_alone(all: &Collection) -> [u64; 2] {
    std::hint::black_box("alone");
    commit_some(all, COMMITS)
}

#[inline(never)]
fn commit_followed(all: &Collection) -> [u64; 2] {
    std::hint::black_box("followed");
    commit_some(all, COMMITS)
}

/// Compares commits that no live query is concerned by with those in a store without any.
fn check(filter: impl Fn(u64) -> serde_json::Value) {
    let (_dir, _store, all) = open(true);
    commit_some(&all, 0);
    let without = commit_alone(&all);

    let (_dir, _store, all) = open(true);
    let woken = Arc::new(Woken::default());
    let following = follow(&all, filter, &woken);
    commit_some(&all, 0);
    let with = commit_followed(&all);
    assert_eq!(woken.0.load(Relaxed), 0, "none is concerned");
    eprintln!(
        "{COMMITS} commits: allocations and bytes {without:?}, with {QUERIES} queries {with:?}"
    );
    for (with, without) in with.into_iter().zip(without) {
        assert!(with * 100 <= without * 105, "{with} instead of {without}");
    }
    // That the queries live, and how many hear of it.
    block_on(all.put(r#"{"_id":1000000,"room":7,"team":"blue","n":5}"#)).unwrap();
    assert_eq!(woken.0.load(Relaxed), 1);
    drop(following);
}

#[test]
fn of_one_field() {
    check(|n| json!({"room": n}));
}

#[test]
fn of_a_field_with_further_conditions() {
    check(|n| json!({"room": n, "n": {"$gt": 3}}));
}

/// Reads what `commit_some` wrote: documents, queries, scans.
#[inline(never)]
fn read_some(all: &Collection) -> [u64; 2] {
    let before = [ALLOCATIONS.get(), BYTES.get()];
    for n in 0..COMMITS {
        block_on(all.get(n)).unwrap().unwrap();
    }
    [ALLOCATIONS.get() - before[0], BYTES.get() - before[1]]
}

#[inline(never)]
fn find_some(all: &Collection) -> [u64; 2] {
    let before = [ALLOCATIONS.get(), BYTES.get()];
    for n in 0..20 {
        let filter = Filter::from_json(&json!({"team": n.to_string()})).unwrap();
        assert_eq!(block_on(all.find(filter).count()).unwrap(), 1);
        assert_eq!(block_on(all.scan(..).collect()).unwrap().len() as u64, 2 * COMMITS);
    }
    [ALLOCATIONS.get() - before[0], BYTES.get() - before[1]]
}

#[test]
fn recording_allocates_nothing() {
    let measure = |metrics| {
        let (_dir, store, all) = open(metrics);
        commit_some(&all, 0);
        let written = commit_some(&all, COMMITS);
        read_some(&all);
        (
            written,
            [read_some(&all), find_some(&all)],
            store.metrics().operations.iter().map(|found| found.count).sum::<u64>(),
        )
    };
    let (written, read, counted) = measure(true);
    let (written_off, read_off, off) = measure(false);
    eprintln!("allocations and bytes of commits {written:?}, of gets, finds and scans {read:?}");
    assert_eq!(read, read_off);
    // The log's own thread may now and then take a turn.
    for (with, without) in written.into_iter().zip(written_off) {
        assert!(with.abs_diff(without) * 100 <= without, "{with} instead of {without}");
    }
    assert!(counted > 2 * COMMITS && off == 0, "{counted} {off}");
}
