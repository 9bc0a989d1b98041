//! A world of clients over one simulated disk: it runs, crashes, recovers, and compares everything
//! with a model after each recovery.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use parking_lot::Mutex;
use serde_json::json;

use super::{SimEnv, env::Random, hooks};
use crate::{
    Collection, Durability, Error, Index, Isolation, MasterKey, Options, Result, Snapshot, Store,
    Update,
    testing::{FaultKind, FaultPlan, SimVfs},
};

/// What a world does.
#[derive(Debug, Clone, Copy)]
pub struct Profile {
    /// Everything follows from it.
    pub seed: u64,
    /// Scheduler steps between two crashes, at most.
    pub steps_max: u64,
    /// Crashes in one run.
    pub crashes: u32,
    /// Inject I/O faults.
    pub faults: bool,
    /// Encrypt.
    pub encrypted: bool,
    /// Commits are acknowledged before they are synced.
    pub relaxed: bool,
    /// Make and drop indexes.
    pub indexes: bool,
}

impl Profile {
    /// Derived from a seed, so that a number names a whole run.
    pub fn from_seed(seed: u64) -> Self {
        let mut random = Random::new(seed);
        Self {
            seed,
            steps_max: 20 + random.below(150),
            crashes: 3 + random.below(10) as u32,
            faults: random.one_in(2),
            encrypted: random.one_in(8),
            relaxed: random.one_in(8),
            indexes: random.one_in(2),
        }
    }
}

/// What a run did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Report {
    /// Crashes survived.
    pub crashes: u64,
    /// Commits acknowledged.
    pub acknowledged: u64,
    /// Calls that an injected fault hit.
    pub faults: u64,
    /// A hash over the disk after each recovery: equal for equal seeds.
    pub fingerprint: u64,
}

/// A store small enough that every mechanism runs all the time.
pub fn small_options(vfs: &SimVfs, env: &Arc<SimEnv>) -> Options {
    let mut options = Options::new("/store");
    options.vfs = Arc::new(vfs.clone());
    options.env = Arc::<SimEnv>::clone(env);
    options.wal_file_bytes = 48 << 10;
    options.wal_grow_bytes = 8 << 10;
    options.wal_bytes_max = 120 << 10;
    options.memtable_bytes = 6 << 10;
    options.segment_bytes = 4 << 10;
    options.level_base_bytes = 6 << 10;
    options.l0_trigger = 2;
    options.memory_budget = 64 << 10;
    options.disk_reserve_bytes = 1 << 10;
    options.text_fold_changes = 3;
    options.text_build_bytes = 600;
    options
}

type Doc = Option<String>;
/// Collection and id.
type Key = (usize, i64);

#[derive(Debug, Default)]
struct Model {
    /// Writes of each commit in the log, by sequence number.
    commits: BTreeMap<u64, Vec<(Key, Doc)>>,
    acked: u64,
    acked_count: u64,
    observed: u64,
}

impl Model {
    fn at(&self, seq: u64) -> BTreeMap<Key, String> {
        let mut state = BTreeMap::new();
        for (_, writes) in self.commits.range(..=seq) {
            for (key, doc) in writes {
                match doc {
                    Some(doc) => state.insert(*key, doc.clone()),
                    None => state.remove(key),
                };
            }
        }
        state
    }
}

type Client = Pin<Box<dyn Future<Output = ()>>>;

/// One simulated machine.
pub struct World {
    profile: Profile,
    random: Random,
    vfs: SimVfs,
    env: Arc<SimEnv>,
    store: Option<Store>,
    model: Arc<Mutex<Model>>,
    clients: Vec<Option<Client>>,
    /// Decides about indexes, so that worlds without them go on as ever.
    index_random: Random,
    index_client: Option<Client>,
    snapshots: Vec<Snapshot>,
    next_value: Arc<Mutex<u64>>,
    report: Report,
    failure: Arc<Mutex<Option<String>>>,
}

impl World {
    /// An empty disk.
    pub fn new(profile: Profile) -> Self {
        Self {
            random: Random::new(profile.seed ^ 0xABCD),
            vfs: SimVfs::new(),
            env: Arc::new(SimEnv::new(profile.seed)),
            store: None,
            model: Arc::default(),
            clients: (0..6).map(|_| None).collect(),
            index_random: Random::new(profile.seed ^ 0x1DE8),
            index_client: None,
            snapshots: Vec::new(),
            next_value: Arc::default(),
            report: Report::default(),
            failure: Arc::default(),
            profile,
        }
    }

    /// Runs to the end: safety with crashes and faults, then liveness without.
    ///
    /// # Errors
    /// What an oracle found, in words.
    pub fn run(mut self) -> std::result::Result<Report, String> {
        self.reopen()?;
        for _ in 0..self.profile.crashes {
            self.live()?;
            self.crash();
            self.reopen()?;
            self.report.crashes += 1;
            self.report.fingerprint =
                self.report.fingerprint.rotate_left(7) ^ self.vfs.fingerprint();
        }
        self.check_liveness()?;
        self.report.acknowledged = self.model.lock().acked_count;
        self.report.faults = self.vfs.faults_hit();
        Ok(self.report)
    }

    fn options(&self) -> Options {
        let mut options = small_options(&self.vfs, &self.env);
        options.key = self.profile.encrypted.then(|| MasterKey::new([9; 32]));
        if self.profile.relaxed {
            options.durability = Durability::Interval;
        }
        options
    }

    /// One life: clients and background work in an order the seed decides.
    fn live(&mut self) -> std::result::Result<(), String> {
        if self.profile.faults && self.random.one_in(2) {
            let kinds = [FaultKind::Eio, FaultKind::Enospc, FaultKind::Eintr, FaultKind::Short];
            let kind = kinds[self.random.below(4) as usize];
            // A call that is interrupted for ever never returns.
            let forever = self.random.one_in(2) && kind != FaultKind::Eintr;
            let countdown = self.random.below(200);
            self.vfs.set_fault(Some(FaultPlan { countdown, kind, forever }));
        } else if self.random.one_in(3) {
            // Die in the middle of some call rather than between two.
            self.vfs.crash_after(Some(self.random.below(150)));
        }
        let steps = self.random.below(self.profile.steps_max) + 1;
        for _ in 0..steps {
            self.one_step()?;
            if let Some(failure) = self.failure.lock().take() {
                return Err(self.explain(&failure));
            }
            if self.vfs.is_dead() {
                break;
            }
        }
        Ok(())
    }

    fn one_step(&mut self) -> std::result::Result<(), String> {
        let Some(store) = self.store.clone() else { return Ok(()) };
        if self.profile.indexes && self.index_random.one_in(4) {
            return self.index_step(&store);
        }
        match self.random.below(24) {
            0..=11 => self.poll_client(),
            12..=15 => {
                hooks::step_log(&store);
            }
            16 => {
                let _ = hooks::step_flush(&store);
            }
            17 => {
                let _ = hooks::step_compact(&store);
            }
            18 => {
                self.env.advance(Duration::from_millis(self.random.below(60)));
                hooks::tick(&store);
                if self.random.one_in(3) {
                    hooks::mark(&store);
                }
                if self.random.one_in(20) {
                    self.env.set_wall_ms(self.random.below(2_000_000_000_000));
                }
            }
            19 => hooks::rotate(&store),
            20 => {
                if self.snapshots.len() < 3 {
                    self.snapshots.push(store.snapshot());
                }
            }
            21 if !self.snapshots.is_empty() => {
                let at = self.random.below(self.snapshots.len() as u64) as usize;
                let snapshot = self.snapshots.swap_remove(at);
                self.check_snapshot(&store, &snapshot)?;
                if self.random.one_in(2) {
                    self.snapshots.push(snapshot);
                }
            }
            _ => self.check_reads(&store)?,
        }
        Ok(())
    }

    fn index_step(&mut self, store: &Store) -> std::result::Result<(), String> {
        match self.index_random.below(8) {
            0 => {
                if self.index_client.is_none() || self.index_random.one_in(4) {
                    let (seed, failure) = (self.index_random.next(), Arc::clone(&self.failure));
                    let client = index_client(store.clone(), failure, seed);
                    self.index_client = Some(Box::pin(client));
                }
            }
            1 => return self.check_indexes(store),
            2 | 3 => {
                if let Some(client) = &mut self.index_client
                    && client.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready()
                {
                    self.index_client = None;
                }
            }
            _ => {
                hooks::step_indexes(store);
            }
        }
        Ok(())
    }

    /// Every index that is ready says what the documents say.
    fn check_indexes(&self, store: &Store) -> std::result::Result<(), String> {
        for at in 0..2 {
            match now(collection(store, at).verify_indexes()) {
                Some(Ok(_)) => {}
                Some(Err(e)) => self.expect_fault(&e)?,
                None => return Err(self.explain("verifying indexes did not finish")),
            }
        }
        Ok(())
    }

    fn poll_client(&mut self) {
        let at = self.random.below(self.clients.len() as u64) as usize;
        let Some(store) = self.store.clone() else { return };
        // A future that is dropped anywhere must leave no lock behind and lose no group.
        if self.random.one_in(25) {
            self.clients[at] = None;
        }
        if self.clients[at].is_none() {
            let seed = self.random.next();
            self.clients[at] = Some(Box::pin(client(
                store,
                Arc::clone(&self.model),
                Arc::clone(&self.next_value),
                Arc::clone(&self.failure),
                self.profile.indexes,
                seed,
            )));
        }
        if let Some(client) = &mut self.clients[at]
            && client.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready()
        {
            self.clients[at] = None;
        }
    }

    /// What a reader sees now is what the model says, and it may never be lost afterwards.
    fn check_reads(&mut self, store: &Store) -> std::result::Result<(), String> {
        // Another session sees only what no crash can take; ours sees its own commits at once.
        let (store, visible, is_lasting) = if self.random.one_in(2) {
            (store.session(), store.stats().visible_seq, true)
        } else {
            (store.clone(), hooks::session_seq(store), !self.profile.relaxed)
        };
        let (want, observed) = {
            let model = self.model.lock();
            (model.at(visible), model.observed)
        };
        let mut newest = observed;
        for _ in 0..4 {
            let key = random_key(&mut self.random);
            let collection = collection(&store, key.0);
            match now(collection.get(key.1)) {
                Some(Ok(found)) => {
                    if is_lasting {
                        newest = newest.max(found.as_ref().map_or(0, crate::Document::rev));
                    }
                    let found = found.map(|d| d.json().to_owned());
                    if found.as_ref() != want.get(&key) {
                        let text = format!(
                            "get {key:?} at {visible}: {found:?}, want {:?}",
                            want.get(&key)
                        );
                        return Err(self.explain(&text));
                    }
                }
                Some(Err(e)) => self.expect_fault(&e)?,
                None => return Err(self.explain("a read did not finish at once")),
            }
        }
        self.model.lock().observed = newest;
        Ok(())
    }

    fn check_snapshot(
        &self,
        store: &Store,
        snapshot: &Snapshot,
    ) -> std::result::Result<(), String> {
        let want = self.model.lock().at(snapshot.seq());
        match all_documents(store, Some(snapshot)) {
            Ok(found) if found == want => Ok(()),
            Ok(found) => {
                let text = format!("snapshot {}: {}", snapshot.seq(), difference(&found, &want));
                Err(self.explain(&text))
            }
            Err(e) => self.expect_fault(&e),
        }
    }

    /// Errors are right only when something was injected.
    fn expect_fault(&self, e: &Error) -> std::result::Result<(), String> {
        let injected = self.profile.faults || self.vfs.is_dead();
        let fits = matches!(
            e,
            Error::Io { .. } | Error::Poisoned { .. } | Error::DiskFull { .. } | Error::Closed
        );
        if injected && fits {
            Ok(())
        } else {
            Err(self.explain(&format!("unexpected error: {e:?}")))
        }
    }

    fn crash(&mut self) {
        let orderly = self.random.one_in(10) && !self.vfs.is_dead();
        self.snapshots.clear();
        if orderly {
            // Clients first: they hold transactions.
            self.clients.iter_mut().for_each(|c| *c = None);
            self.index_client = None;
            if let Some(store) = self.store.take() {
                let _ = now(store.close());
            }
            if self.random.one_in(2) {
                self.vfs.kill_process();
                return;
            }
        }
        // Whatever the dying process still does must not reach the disk.
        self.vfs.crash_after(Some(0));
        self.clients.iter_mut().for_each(|c| *c = None);
        self.index_client = None;
        self.store = None;
        if self.random.one_in(4) {
            self.vfs.kill_process();
        } else {
            let mut random = Random::new(self.random.next());
            let style = random.below(4);
            self.vfs.power_cut(&mut |n| match style {
                0 => 0,
                1 => n - 1,
                _ => random.below(u64::from(n)) as u32,
            });
            self.forget_relaxed();
        }
    }

    /// What was acknowledged before its sync, a power cut may take.
    fn forget_relaxed(&self) {
        if self.profile.relaxed {
            self.model.lock().acked = 0;
        }
    }

    /// Opens until it works; with faults it may take several attempts.
    fn reopen(&mut self) -> std::result::Result<(), String> {
        if self.profile.faults && self.random.one_in(4) {
            let plan = FaultPlan {
                countdown: self.random.below(60),
                kind: if self.random.one_in(2) { FaultKind::Eio } else { FaultKind::Enospc },
                forever: self.random.one_in(2),
            };
            self.vfs.set_fault(Some(plan));
            match now(Store::open(self.options())) {
                Some(Ok(store)) => {
                    self.vfs.set_fault(None);
                    drop(store);
                }
                Some(Err(e)) => self.expect_fault(&e)?,
                None => return Err(self.explain("opening did not finish")),
            }
            self.vfs.kill_process();
        } else if self.random.one_in(8) {
            // A second crash, during recovery.
            self.vfs.crash_after(Some(self.random.below(40)));
            let opened = now(Store::open(self.options()));
            self.vfs.crash_after(Some(0));
            drop(opened);
            let mut random = Random::new(self.random.next());
            self.vfs.power_cut(&mut |n| random.below(u64::from(n)) as u32);
            self.forget_relaxed();
        }
        let store = match now(Store::open(self.options())) {
            Some(Ok(store)) => store,
            Some(Err(e)) => return Err(self.explain(&format!("the store does not open: {e:?}"))),
            None => return Err(self.explain("opening did not finish")),
        };
        self.check_recovered(&store)?;
        self.store = Some(store);
        Ok(())
    }

    /// Every acknowledged commit is there, none in part, and the survivors are a prefix.
    fn check_recovered(&mut self, store: &Store) -> std::result::Result<(), String> {
        let recovered = store.stats().visible_seq;
        {
            let mut model = self.model.lock();
            let (acked, observed) = (model.acked, model.observed);
            if recovered < acked || recovered < observed {
                drop(model);
                let text = format!(
                    "recovered up to {recovered}, but {acked} was acknowledged and {observed} seen"
                );
                return Err(self.explain(&text));
            }
            model.commits.retain(|seq, _| *seq <= recovered);
        }
        let want = self.model.lock().at(recovered);
        match all_documents(store, None) {
            Ok(found) if found == want => self.check_indexes(store),
            Ok(found) => Err(self
                .explain(&format!("after recovery to {recovered}: {}", difference(&found, &want)))),
            Err(e) => Err(self.explain(&format!("reading after recovery: {e:?}"))),
        }
    }

    /// Without faults the store must work again: write, read, compact, verify, close, open.
    fn check_liveness(&mut self) -> std::result::Result<(), String> {
        self.vfs.set_fault(None);
        let Some(store) = self.store.take() else { return Ok(()) };
        if store.stats().lock_entries != 0 {
            return Err(self.explain("locks are held though no transaction lives"));
        }
        let fail = |what: &str, e: &dyn std::fmt::Debug| {
            format!("seed {}: liveness: {what}: {e:?}", self.profile.seed)
        };
        let coll = collection(&store, 0);
        // A value that nobody else has: `v` may have a unique index.
        let mut put = Box::pin(coll.put("{\"_id\":77777,\"v\":-1}"));
        for _ in 0..100 {
            match put.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(Ok(_)) => break,
                Poll::Ready(Err(e)) => return Err(fail("put", &e)),
                Poll::Pending => {
                    hooks::step_log(&store);
                }
            }
        }
        drop(put);
        for _ in 0..10_000 {
            if !hooks::step_indexes(&store) && !hooks::has_index_jobs(&store) {
                break;
            }
        }
        let unready = |at: usize| collection(&store, at).indexes().iter().any(|i| !i.is_ready);
        if unready(0) || unready(1) {
            return Err(fail("index", &"still not ready"));
        }
        let compacted = now(store.compact()).ok_or_else(|| fail("compact", &"pending"))?;
        compacted.map_err(|e| fail("compact", &e))?;
        let verified = now(store.verify()).ok_or_else(|| fail("verify", &"pending"))?;
        verified.map_err(|e| fail("verify", &e))?;
        now(store.close())
            .ok_or_else(|| fail("close", &"pending"))?
            .map_err(|e| fail("close", &e))?;
        let opened = now(Store::open(self.options())).ok_or_else(|| fail("open", &"pending"))?;
        let store = opened.map_err(|e| fail("open", &e))?;
        let found = now(collection(&store, 0).get(77777));
        match found {
            Some(Ok(Some(_))) => Ok(()),
            other => Err(fail("get", &other)),
        }
    }

    fn explain(&self, what: &str) -> String {
        format!("{:?}: after {} crashes: {what}", self.profile, self.report.crashes)
    }
}

/// One transaction of a client, with the model told what was logged and what was acknowledged.
async fn client(
    store: Store,
    model: Arc<Mutex<Model>>,
    next_value: Arc<Mutex<u64>>,
    failure: Arc<Mutex<Option<String>>>,
    indexes: bool,
    seed: u64,
) {
    if let Err(e) = transaction(&store, &model, &next_value, indexes, seed).await {
        let violates = matches!(e, Error::DuplicateKey { .. });
        let expected = violates && indexes
            || matches!(
                e,
                Error::Conflict
                    | Error::Deadlock { .. }
                    | Error::LockTimeout { .. }
                    | Error::Poisoned { .. }
                    | Error::Io { .. }
                    | Error::DiskFull { .. }
                    | Error::Closed
            );
        if !expected {
            *failure.lock() = Some(format!("a client got {e:?}"));
        }
    }
}

/// Makes or drops an index.
async fn index_client(store: Store, failure: Arc<Mutex<Option<String>>>, seed: u64) {
    let mut random = Random::new(seed);
    let coll = collection(&store, random.below(2) as usize);
    let all = [
        Index::on("v").unique(),
        Index::on("u").unique().sparse(),
        Index::on("t").and_descending("v").include("u"),
        Index::on_descending("pad").partial(json!({"v": {"$mod": [3, 0]}})),
        Index::hash("pad"),
    ];
    let index = all[random.below(all.len() as u64) as usize].clone();
    let done = if random.one_in(3) {
        coll.drop_index(&index.effective_name()).await
    } else {
        coll.create_index(index).await.map(|_| ())
    };
    let Err(e) = done else { return };
    let expected = matches!(
        e,
        Error::IndexAbsent { .. }
            | Error::IndexNotUnique { .. }
            | Error::Deadlock { .. }
            | Error::LockTimeout { .. }
            | Error::Poisoned { .. }
            | Error::Io { .. }
            | Error::DiskFull { .. }
            | Error::Closed
    );
    if !expected {
        *failure.lock() = Some(format!("whoever makes indexes got {e:?}"));
    }
}

async fn transaction(
    store: &Store,
    model: &Mutex<Model>,
    next_value: &Mutex<u64>,
    indexes: bool,
    seed: u64,
) -> Result<()> {
    let mut random = Random::new(seed);
    let isolation =
        [Isolation::Latest, Isolation::Snapshot, Isolation::Serializable][random.below(3) as usize];
    let tx = store.begin(isolation);
    let mut writes: BTreeMap<Key, Doc> = BTreeMap::new();
    let mut patched: BTreeSet<Key> = BTreeSet::new();
    for _ in 0..1 + random.below(5) {
        let key = random_key(&mut random);
        let coll = collection(store, key.0);
        let value = {
            let mut next = next_value.lock();
            *next += 1;
            *next
        };
        match random.below(10) {
            0..=5 => {
                let pad = "x".repeat(random.below(400) as usize);
                let more = match indexes {
                    true => format!(",\"u\":{},\"t\":[{},7]", value % 97, value % 5),
                    false => String::new(),
                };
                let text = format!("{{\"_id\":{},\"v\":{value},\"pad\":\"{pad}\"{more}}}", key.1);
                tx.put(&coll, &text).await?;
                writes.insert(key, Some(text));
                patched.remove(&key);
            }
            6 => {
                tx.delete(&coll, key.1).await?;
                writes.insert(key, None);
                patched.remove(&key);
            }
            7 => {
                let update = Update::new().set("v", value);
                if tx.update(&coll, key.1, &update).await? {
                    // What it becomes is known only when it is applied.
                    patched.insert(key);
                }
            }
            8 => {
                tx.get(&coll, key.1).await?;
            }
            _ => {
                tx.scan(&coll, ..).await?;
            }
        }
    }
    commit(store, model, &tx, writes, patched).await
}

async fn commit(
    store: &Store,
    model: &Mutex<Model>,
    tx: &crate::Transaction,
    mut writes: BTreeMap<Key, Doc>,
    patched: BTreeSet<Key>,
) -> Result<()> {
    let mut commit = Box::pin(tx.commit());
    let done = std::future::poll_fn(|context| {
        let before = hooks::last_seq(store);
        let poll = commit.as_mut().poll(context);
        if hooks::last_seq(store) == before + 1 {
            for key in &patched {
                let latest = collection(store, key.0).testing_latest(key.1);
                writes.insert(*key, latest);
            }
            let list = writes.iter().map(|(k, d)| (*k, d.clone())).collect();
            model.lock().commits.insert(before + 1, list);
        }
        poll
    });
    let seq = done.await?;
    let mut model = model.lock();
    model.acked = model.acked.max(seq);
    model.acked_count += 1;
    Ok(())
}

fn random_key(random: &mut Random) -> Key {
    (random.below(2) as usize, random.below(14) as i64)
}

fn collection(store: &Store, at: usize) -> Collection {
    store.collection(["alpha", "beta"][at]).expect("the names are valid")
}

/// Polls once: in a simulation nothing has to wait except for locks and the log.
fn now<T>(future: impl Future<Output = T>) -> Option<T> {
    let mut future = std::pin::pin!(future);
    // Opening and the like go through the pool's future only with threads.
    match crate::api::inline(|| future.as_mut().poll(&mut Context::from_waker(Waker::noop()))) {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}

fn all_documents(store: &Store, snapshot: Option<&Snapshot>) -> Result<BTreeMap<Key, String>> {
    let mut all = BTreeMap::new();
    for at in 0..2 {
        let coll = collection(store, at);
        let scan = match snapshot {
            Some(snapshot) => coll.scan_at(snapshot, ..),
            None => coll.scan(..),
        };
        let documents = now(scan.collect()).unwrap_or(Err(Error::Closed))?;
        for document in documents {
            let id = document.value().get("_id").and_then(serde_json::Value::as_i64);
            all.insert((at, id.unwrap_or(-1)), document.json().to_owned());
        }
    }
    Ok(all)
}

fn difference(found: &BTreeMap<Key, String>, want: &BTreeMap<Key, String>) -> String {
    let keys: BTreeSet<&Key> = found.keys().chain(want.keys()).collect();
    let short = |doc: Option<&String>| doc.map(|d| d.chars().take(40).collect::<String>());
    keys.into_iter()
        .filter(|key| found.get(key) != want.get(key))
        .map(|key| {
            format!("{key:?} is {:?}, want {:?}; ", short(found.get(key)), short(want.get(key)))
        })
        .collect()
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("World").field("profile", &self.profile).finish_non_exhaustive()
    }
}
