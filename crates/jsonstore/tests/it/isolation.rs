//! Elle-style checks: 32 clients append to lists and read them; no history may show an anomaly its
//! isolation level forbids. Deadlocks, fairness, and futures dropped anywhere.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Waker},
    time::{Duration, Instant},
};

use hearth_jsonstore::{
    Collection, Error, Isolation, LockMode, Options, Result, Store, Target, Update, block_on,
    testing::{
        Anomaly, Event, FaultKind, FaultPlan, History, Outcome, SimEnv, SimVfs, check_history,
        hooks, small_options,
    },
};
use serde_json::json;

const KEYS: u64 = 5;

/// A small generator, so that runs replay.
pub(crate) fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *state >> 33
}

type Recorder = Arc<Mutex<History>>;

/// One transaction of reads and appends, recorded.
async fn transaction(
    store: Store,
    isolation: Isolation,
    value: Arc<AtomicU64>,
    clock: Arc<AtomicU64>,
    recorder: Recorder,
    mut seed: u64,
) {
    let c = store.collection("lists").unwrap();
    let begin = clock.fetch_add(1, Ordering::SeqCst);
    let tx = store.begin(isolation);
    let mut events = Vec::new();
    let body: Result<()> = async {
        for _ in 0..1 + next(&mut seed) % 4 {
            let key = next(&mut seed) % KEYS;
            if next(&mut seed).is_multiple_of(2) {
                events.push(Event::Read(key, list(tx.get(&c, key).await?.as_ref())));
            } else {
                let v = value.fetch_add(1, Ordering::SeqCst);
                append(&tx, &c, key, v, next(&mut seed)).await?;
                events.push(Event::Append(key, v));
            }
        }
        Ok(())
    }
    .await;
    let outcome = match body {
        Err(_) => Outcome::Aborted,
        Ok(()) => match tx.commit().await {
            Ok(_) => Outcome::Committed,
            // Refused before it was logged.
            Err(Error::Conflict | Error::Deadlock { .. }) => Outcome::Aborted,
            Err(_) => Outcome::Unknown,
        },
    };
    let end = clock.fetch_add(1, Ordering::SeqCst);
    recorder.lock().unwrap().transactions.push((events, outcome, begin, end));
}

/// Half of the appends go by fields, half by whole documents.
async fn append(
    tx: &hearth_jsonstore::Transaction,
    c: &Collection,
    key: u64,
    v: u64,
    how: u64,
) -> Result<()> {
    if how.is_multiple_of(2) && tx.update(c, key, &Update::new().push("l", v)).await? {
        return Ok(());
    }
    let mut all = list(tx.get_for_update(c, key).await?.as_ref());
    all.push(v);
    tx.put(c, &json!({"_id": key, "l": all})).await.map(drop)
}

fn list(document: Option<&hearth_jsonstore::Document>) -> Vec<u64> {
    let value = document.map(hearth_jsonstore::Document::value).unwrap_or_default();
    let items = value["l"].as_array().cloned().unwrap_or_default();
    items.iter().filter_map(serde_json::Value::as_u64).collect()
}

fn final_reads(store: &Store, recorder: &Recorder, clock: &AtomicU64) {
    let c = store.collection("lists").unwrap();
    let read = |key| list(block_on(c.get(key)).unwrap().as_ref());
    let events = (0..KEYS).map(|key| Event::Read(key, read(key))).collect();
    let at = clock.fetch_add(2, Ordering::SeqCst);
    recorder.lock().unwrap().transactions.push((events, Outcome::Committed, at, at + 1));
}

fn is_allowed(anomaly: &Anomaly, isolation: Isolation) -> bool {
    isolation == Isolation::Snapshot && matches!(anomaly, Anomaly::G2(_) | Anomaly::RealTime(_))
}

#[track_caller]
fn check(history: &History, isolation: Isolation, what: &str) -> usize {
    let found = check_history(history);
    let bad: Vec<_> = found.iter().filter(|a| !is_allowed(a, isolation)).collect();
    assert!(bad.is_empty(), "{what}, {isolation:?}: {bad:?}");
    history.transactions.iter().filter(|t| t.1 == Outcome::Committed).count()
}

#[test]
fn simulated_histories_with_faults_and_crashes() {
    let rounds = if std::env::var("E2E_LONG").is_ok() { 300 } else { 4 };
    let (mut committed, mut skews) = (0, 0);
    for seed in 0..rounds {
        for isolation in [Isolation::Serializable, Isolation::Snapshot] {
            let history = simulate(seed, isolation);
            committed += check(&history, isolation, &format!("seed {seed}"));
            skews += check_history(&history).len();
        }
    }
    println!("{committed} committed transactions; {skews} anomalies of the allowed kind");
    assert!(committed > 100);
}

fn simulate(seed: u64, isolation: Isolation) -> History {
    let (value, clock) = (Arc::new(AtomicU64::new(1)), Arc::new(AtomicU64::new(0)));
    let recorder = Recorder::default();
    let store = three_lives(seed, &|store, seed| {
        let (value, clock) = (Arc::clone(&value), Arc::clone(&clock));
        Box::pin(transaction(store, isolation, value, clock, Arc::clone(&recorder), seed))
    });
    final_reads(&store, &recorder, &clock);
    std::mem::take(&mut *recorder.lock().unwrap())
}

pub(crate) type Client = Pin<Box<dyn Future<Output = ()>>>;

/// 32 clients at a time through three lives of a store that end in a power cut each, the second
/// with a fault of the disk. Returns the store as it is found afterwards.
pub(crate) fn three_lives(seed: u64, spawn: &dyn Fn(Store, u64) -> Client) -> Store {
    let (vfs, env) = (SimVfs::new(), Arc::new(SimEnv::new(seed)));
    let mut random = seed;
    for life in 0..3 {
        let store = block_on(Store::open(small_options(&vfs, &env))).unwrap();
        if life == 1 {
            let countdown = next(&mut random) % 80;
            vfs.set_fault(Some(FaultPlan { countdown, kind: FaultKind::Eio, forever: false }));
        }
        let mut clients: Vec<Option<Client>> = (0..32).map(|_| None).collect();
        for _ in 0..600 {
            let at = next(&mut random) as usize % clients.len();
            match next(&mut random) % 12 {
                0 => {
                    hooks::step_log(&store);
                }
                1 => hooks::tick(&store),
                2 => {
                    let _ = hooks::step_flush(&store);
                    let _ = hooks::step_compact(&store);
                }
                3 if next(&mut random).is_multiple_of(10) => hooks::rotate(&store),
                _ => {
                    let client =
                        clients[at].get_or_insert_with(|| spawn(store.clone(), next(&mut random)));
                    if client.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready() {
                        clients[at] = None;
                    }
                }
            }
        }
        // The process dies with transactions under way.
        vfs.set_fault(None);
        vfs.crash_after(Some(0));
        drop(clients);
        drop(store);
        vfs.power_cut(&mut |n| (next(&mut random) % u64::from(n)) as u32);
    }
    block_on(Store::open(small_options(&vfs, &env))).unwrap()
}

#[test]
fn threads_on_a_real_file_system() {
    let dir = tempfile::tempdir().unwrap();
    for isolation in [Isolation::Serializable, Isolation::Snapshot] {
        let store =
            block_on(Store::open(Options::new(dir.path().join(format!("{isolation:?}"))))).unwrap();
        let (value, clock) = (Arc::new(AtomicU64::new(1)), Arc::new(AtomicU64::new(0)));
        let recorder = Recorder::default();
        std::thread::scope(|scope| {
            for thread in 0..32_u64 {
                let (store, value, clock) = (store.clone(), Arc::clone(&value), Arc::clone(&clock));
                let recorder = Arc::clone(&recorder);
                scope.spawn(move || {
                    for round in 0..12 {
                        let (store, value, clock) =
                            (store.clone(), Arc::clone(&value), Arc::clone(&clock));
                        let seed = thread * 1000 + round;
                        block_on(transaction(
                            store,
                            isolation,
                            value,
                            clock,
                            Arc::clone(&recorder),
                            seed,
                        ));
                    }
                });
            }
        });
        final_reads(&store, &recorder, &clock);
        assert_eq!(store.stats().lock_entries, 0);
        check(&recorder.lock().unwrap(), isolation, "threads");
    }
}

#[test]
fn a_deadlock_across_levels_is_broken_quickly_and_named() {
    let dir = tempfile::tempdir().unwrap();
    let store = block_on(Store::open(Options::new(dir.path()))).unwrap();
    let [a, b] = ["a", "b"].map(|name| store.collection(name).unwrap());
    block_on(async {
        a.put("{\"_id\":1,\"x\":1,\"y\":1}").await.unwrap();
        b.put("{\"_id\":1,\"x\":1,\"y\":1}").await.unwrap();
    });
    for round in 0..5 {
        // A ring through a collection, a record and a field.
        let barrier = std::sync::Barrier::new(3);
        let slowest = Mutex::new(Duration::ZERO);
        let victims = AtomicU64::new(0);
        let run = |first: Target<'_>, second: Target<'_>, mode: LockMode| {
            let tx = store.begin(Isolation::Serializable);
            block_on(tx.lock(first, LockMode::Exclusive)).unwrap();
            barrier.wait();
            let start = Instant::now();
            if let Err(e) = block_on(tx.lock(second, mode)) {
                let Error::Deadlock { cycle } = e else { panic!("{e}") };
                assert_eq!(cycle.len(), 3, "{cycle:?}");
                victims.fetch_add(1, Ordering::Relaxed);
                let mut slowest = slowest.lock().unwrap();
                *slowest = (*slowest).max(start.elapsed());
            }
            tx.rollback();
        };
        std::thread::scope(|scope| {
            let (run, a, b) = (&run, &a, &b);
            let (record, field) =
                (|| Target::Record(a, 1.into()), || Target::Field(a, 2.into(), "x"));
            let whole = || Target::Collection(b);
            scope.spawn(move || run(whole(), record(), LockMode::Exclusive));
            scope.spawn(move || run(record(), field(), LockMode::Exclusive));
            scope.spawn(move || run(field(), whole(), LockMode::Shared));
        });
        assert_eq!(victims.load(Ordering::Relaxed), 1, "round {round}");
        // 50 ms on a quiet machine; a loaded one may take longer to schedule the threads.
        assert!(*slowest.lock().unwrap() < Duration::from_millis(500));
        println!("broken after {:?}", slowest.lock().unwrap());
    }
    assert_eq!(store.stats().lock_entries, 0);
}

#[test]
fn nobody_starves() {
    let dir = tempfile::tempdir().unwrap();
    let store = block_on(Store::open(Options::new(dir.path()))).unwrap();
    let c = store.collection("c").unwrap();
    block_on(c.put("{\"_id\":1}")).unwrap();
    let [first, writer, late] = [(); 3].map(|()| store.begin(Isolation::Latest));
    let record = || Target::Record(&c, 1.into());
    block_on(first.lock(record(), LockMode::Shared)).unwrap();
    {
        let mut context = Context::from_waker(Waker::noop());
        let mut waits = std::pin::pin!(writer.lock(record(), LockMode::Exclusive));
        assert!(waits.as_mut().poll(&mut context).is_pending());
        let mut passes = std::pin::pin!(late.lock(record(), LockMode::Shared));
        assert!(
            passes.as_mut().poll(&mut context).is_pending(),
            "a reader passed a waiting writer"
        );
    }
    drop((first, writer, late));
    let (stop, shared) = (AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while stop.load(Ordering::Relaxed) == 0 {
                    let tx = store.begin(Isolation::Latest);
                    block_on(tx.lock(Target::Record(&c, 1.into()), LockMode::Shared)).unwrap();
                    shared.fetch_add(1, Ordering::Relaxed);
                    tx.rollback();
                }
            });
        }
        while shared.load(Ordering::Relaxed) < 100 {
            std::thread::yield_now();
        }
        // Readers overlap all the time; a writer gets its turn nevertheless.
        for _ in 0..50 {
            let before = shared.load(Ordering::Relaxed);
            let tx = store.begin(Isolation::Latest);
            block_on(tx.lock(Target::Record(&c, 1.into()), LockMode::Exclusive)).unwrap();
            let passed = shared.load(Ordering::Relaxed) - before;
            tx.rollback();
            assert!(passed < 100_000, "{passed} readers passed a writer");
        }
        stop.store(1, Ordering::Relaxed);
    });
}
