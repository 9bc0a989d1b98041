//! Whether the thread sanitizer sees what clients of a store do to memory that nothing guards. Only
//! `cargo xtask sanitize` builds this; of the first test it must report nothing, of the second a race.
#![expect(unsafe_code, reason = "safe code cannot race")]

use std::{cell::UnsafeCell, sync::Barrier};

use hearth_jsonstore::{Options, Store, block_on};

const ROUNDS: u64 = 20;

#[derive(Default)]
struct Unguarded(UnsafeCell<u64>);

// SAFETY: not sound by itself: each test says what orders the accesses, or that nothing does.
unsafe impl Sync for Unguarded {}

impl Unguarded {
    fn add_one(&self) {
        // SAFETY: see `Sync`.
        unsafe { *self.0.get() += 1 }
    }
}

fn with_store(test: impl FnOnce(&Store)) {
    let dir = tempfile::tempdir().unwrap();
    test(&block_on(Store::open(Options::new(dir.path()))).unwrap());
}

/// Each of two clients adds one when it sees the other's commit, and commits: the store is all that
/// orders them, so what was before a commit must happen before what is after a read of it.
#[test]
fn a_commit_orders_what_was_before_it() {
    with_store(|store| {
        let shared = Unguarded::default();
        let client = |own: &str, other: &str, ahead: u64| {
            let c = store.collection("turns").unwrap();
            let seen = || block_on(c.get(other)).unwrap().and_then(|d| d.value()["n"].as_u64());
            for round in 1..=ROUNDS {
                while seen().unwrap_or(0) + ahead < round {
                    std::thread::yield_now();
                }
                shared.add_one();
                block_on(c.put(&serde_json::json!({"_id": own, "n": round}))).unwrap();
            }
        };
        std::thread::scope(|scope| {
            scope.spawn(|| client("first", "second", 1));
            scope.spawn(|| client("second", "first", 0));
        });
        assert_eq!(shared.0.into_inner(), 2 * ROUNDS);
    });
}

/// The same without looking: nothing orders what two clients do between their commits.
#[test]
fn clients_that_share_memory_race() {
    with_store(|store| {
        let (shared, barrier) = (Unguarded::default(), Barrier::new(2));
        let client = |own: u64| {
            let c = store.collection("turns").unwrap();
            for round in 0..ROUNDS {
                barrier.wait();
                shared.add_one();
                block_on(c.put(&serde_json::json!({"_id": own, "n": round}))).unwrap();
            }
        };
        std::thread::scope(|scope| {
            scope.spawn(|| client(1));
            scope.spawn(|| client(2));
        });
        assert!(shared.0.into_inner() <= 2 * ROUNDS);
    });
}
