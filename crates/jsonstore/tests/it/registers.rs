//! Register histories, beside the lists of `isolation`: 32 clients read documents and write them
//! over; no history may show an anomaly that its isolation level forbids.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicU64, Ordering},
};

use hearth_jsonstore::{
    Collection, Document, Error, Isolation, Options, Result, Store, Transaction, Update, block_on,
    testing::{Access, Anomaly, Outcome, Registers, check_registers},
};

use crate::isolation::{next, three_lives};

const KEYS: u64 = 6;

/// What all clients share.
#[derive(Default)]
struct Records {
    value: AtomicU64,
    clock: AtomicU64,
    history: Mutex<Registers>,
}

/// One transaction on its way. Dropped with its future, its outcome stays unknown.
struct Recording {
    records: Arc<Records>,
    accesses: Vec<Access>,
    outcome: Outcome,
    begin: u64,
}

impl Drop for Recording {
    fn drop(&mut self) {
        let end = self.records.clock.fetch_add(1, Ordering::SeqCst);
        let record = (std::mem::take(&mut self.accesses), self.outcome, self.begin, end);
        self.records.history.lock().unwrap().transactions.push(record);
    }
}

async fn transaction(store: Store, isolation: Isolation, records: Arc<Records>, mut seed: u64) {
    let c = store.collection("registers").unwrap();
    let begin = records.clock.fetch_add(1, Ordering::SeqCst);
    let mut this = Recording { records, accesses: Vec::new(), outcome: Outcome::Unknown, begin };
    let tx = store.begin(isolation);
    for _ in 0..1 + next(&mut seed) % 4 {
        let key = next(&mut seed) % KEYS;
        if step(&tx, &c, key, next(&mut seed), &mut this).await.is_err() {
            this.outcome = Outcome::Aborted;
            return;
        }
    }
    this.outcome = match tx.commit().await {
        Ok(_) => Outcome::Committed,
        // Refused before it was logged.
        Err(Error::Conflict | Error::Deadlock { .. }) => Outcome::Aborted,
        Err(_) => Outcome::Unknown,
    };
}

/// Reads, writes over what was read (by each of the three ways there are), or writes blindly.
async fn step(
    tx: &Transaction,
    c: &Collection,
    key: u64,
    how: u64,
    this: &mut Recording,
) -> Result<()> {
    let accesses = &mut this.accesses;
    match how % 8 {
        0..=2 => {
            accesses.push(Access::Read(key, value(tx.get(c, key).await?.as_ref())));
            return Ok(());
        }
        3 | 4 => accesses.push(Access::Read(key, value(tx.get(c, key).await?.as_ref()))),
        5 | 6 => {
            accesses.push(Access::Read(key, value(tx.get_for_update(c, key).await?.as_ref())));
        }
        _ => {}
    }
    let v = this.records.value.fetch_add(1, Ordering::SeqCst) + 1;
    if !how.is_multiple_of(2) || !tx.update(c, key, &Update::new().set("v", v)).await? {
        tx.put(c, &format!("{{\"_id\":{key},\"v\":{v}}}")).await?;
    }
    accesses.push(Access::Write(key, v));
    Ok(())
}

fn value(document: Option<&Document>) -> Option<u64> {
    document.and_then(|d| d.value()["v"].as_u64())
}

/// The history, closed by a transaction that reads everything.
fn finish(store: &Store, records: &Records) -> Registers {
    let c = store.collection("registers").unwrap();
    let read = |key| Access::Read(key, value(block_on(c.get(key)).unwrap().as_ref()));
    let accesses = (0..KEYS).map(read).collect();
    let at = records.clock.fetch_add(2, Ordering::SeqCst);
    let mut history = std::mem::take(&mut *records.history.lock().unwrap());
    history.transactions.push((accesses, Outcome::Committed, at, at + 1));
    history
}

#[track_caller]
fn check(history: &Registers, isolation: Isolation, what: &str) -> (usize, usize) {
    let allowed = |anomaly: &&Anomaly| {
        isolation == Isolation::Snapshot && matches!(anomaly, Anomaly::G2(_) | Anomaly::RealTime(_))
    };
    let found = check_registers(history);
    let bad: Vec<_> = found.iter().filter(|a| !allowed(a)).collect();
    assert!(bad.is_empty(), "{what}, {isolation:?}: {bad:?}");
    let committed = history.transactions.iter().filter(|t| t.1 == Outcome::Committed).count();
    (committed, found.len())
}

#[test]
fn simulated_histories_with_faults_and_crashes() {
    let rounds = if std::env::var("E2E_LONG").is_ok() { 300 } else { 6 };
    for isolation in [Isolation::Serializable, Isolation::Snapshot] {
        let (mut committed, mut allowed) = (0, 0);
        for seed in 0..rounds {
            let records = Arc::new(Records::default());
            let store = three_lives(seed, &|store, seed| {
                Box::pin(transaction(store, isolation, Arc::clone(&records), seed))
            });
            let history = finish(&store, &records);
            let (ended, found) = check(&history, isolation, &format!("seed {seed}"));
            committed += ended;
            allowed += found;
        }
        println!("{isolation:?}: {committed} committed, {allowed} anomalies of an allowed kind");
        assert!(committed as u64 > rounds * 20);
    }
}

#[test]
fn threads_on_a_real_file_system() {
    let dir = tempfile::tempdir().unwrap();
    for isolation in [Isolation::Serializable, Isolation::Snapshot] {
        let path = dir.path().join(format!("{isolation:?}"));
        let store = block_on(Store::open(Options::new(path))).unwrap();
        let records = Arc::new(Records::default());
        std::thread::scope(|scope| {
            for thread in 0..32_u64 {
                let (store, records) = (store.clone(), Arc::clone(&records));
                scope.spawn(move || {
                    for round in 0..12 {
                        let seed = thread * 1000 + round;
                        block_on(transaction(store.clone(), isolation, Arc::clone(&records), seed));
                    }
                });
            }
        });
        let history = finish(&store, &records);
        assert_eq!(store.stats().lock_entries, 0);
        check(&history, isolation, "threads");
    }
}
