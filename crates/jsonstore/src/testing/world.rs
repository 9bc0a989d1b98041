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

use super::{
    SimEnv,
    clients::{Scene, client, index_client},
    env::Random,
    hooks,
    loads::{Loads, Writes},
    settings::{Changer, date_of, expires_after},
};
use crate::{
    Collection, Durability, Env as _, Error, Filter, MasterKey, Options, Result, Snapshot, Store,
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
    /// Documents expire.
    pub expiry: bool,
    /// Set and remove schemas; needs the feature `schema`.
    pub schemas: bool,
    /// Load in bulk, and hold compaction back at times.
    pub loads: bool,
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
            expiry: random.one_in(2),
            schemas: random.one_in(4) && cfg!(feature = "schema"),
            loads: random.one_in(2),
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
    /// Documents deleted because they had expired.
    pub expired: u64,
    /// Loads acknowledged.
    pub loads: u64,
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

pub(super) type Doc = Option<String>;
/// Ids in each collection.
pub(super) const IDS: u64 = 14;
/// Collection and id.
pub(super) type Key = (usize, i64);

#[derive(Debug, Default)]
pub(super) struct Model {
    /// Writes of each commit in the log, by sequence number.
    pub(super) commits: BTreeMap<u64, Vec<(Key, Doc)>>,
    pub(super) acked: u64,
    pub(super) acked_count: u64,
    pub(super) loads: u64,
    observed: u64,
}

impl Model {
    pub(super) fn at(&self, seq: u64) -> BTreeMap<Key, String> {
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

/// A snapshot, when it was taken, and what expired then.
struct Taken {
    snapshot: Snapshot,
    wall_ms: i64,
    rules: Rules,
}

/// After how long documents of each collection expire; counts how often that changed.
type Rules = ([Option<i64>; 2], u64);

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
    /// Decides about expiry and schemas, likewise.
    changer: Changer,
    rules: Rules,
    loads: Loads,
    snapshots: Vec<Taken>,
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
            changer: Changer::new(profile.seed),
            rules: Rules::default(),
            loads: Loads::new(profile.seed),
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
        self.report.loads = self.model.lock().loads;
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
            let stepped = self.index_step(&store);
            self.note_rules(&store);
            return stepped;
        }
        let changes = self.profile.expiry || self.profile.schemas;
        if changes && self.changer.random.one_in(4) {
            let stepped = self.settings_step(&store);
            self.note_rules(&store);
            return stepped;
        }
        if self.profile.loads && self.loads.random.one_in(4) {
            self.loads.step(self.scene(store));
            return Ok(());
        }
        match self.random.below(24) {
            0..=11 => self.poll_client(),
            12..=15 => {
                hooks::step_log(&store);
            }
            16 => {
                let _ = hooks::step_flush(&store);
            }
            17 if self.loads.holds_compaction => {}
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
                    let (wall_ms, rules) = (self.wall_now(), self.rules);
                    self.snapshots.push(Taken { snapshot: store.snapshot(), wall_ms, rules });
                }
            }
            21 if !self.snapshots.is_empty() => {
                let at = self.random.below(self.snapshots.len() as u64) as usize;
                let taken = self.snapshots.swap_remove(at);
                self.check_snapshot(&store, &taken)?;
                if self.random.one_in(2) {
                    self.snapshots.push(taken);
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

    fn settings_step(&mut self, store: &Store) -> std::result::Result<(), String> {
        match self.changer.random.below(10) {
            0 | 1 => {
                let collections = [0, 1].map(|at| collection(store, at));
                let profile = (self.profile.expiry, self.profile.schemas);
                self.changer.step(store, collections, &self.failure, profile);
            }
            2 | 3 => {
                hooks::step_indexes(store);
            }
            4 => {
                let by = self.changer.random.below(1500);
                self.env.advance(Duration::from_millis(by));
            }
            5 => return self.check_indexes(store),
            _ if self.profile.expiry => return self.expire(store),
            _ => {}
        }
        Ok(())
    }

    /// Lets the background delete what has expired, and the model with it.
    fn expire(&mut self, store: &Store) -> std::result::Result<(), String> {
        let (before, mut gone) = (hooks::last_seq(store), Vec::new());
        let done = hooks::expire(store, |name, id| {
            let id = serde_json::from_str(&id.to_json()).unwrap_or(-1);
            gone.push((usize::from(name == "beta"), id));
        });
        if hooks::last_seq(store) == before + 1 {
            let mut model = self.model.lock();
            let latest = model.at(u64::MAX);
            let lives = gone.iter().find(|key| !self.has_expired(latest.get(*key), key.0));
            if let Some(key) = lives {
                let text = format!("{key:?} is deleted, it is {:?}", latest.get(key));
                drop(model);
                return Err(self.explain(&text));
            }
            self.report.expired += gone.len() as u64;
            model.commits.insert(before + 1, gone.into_iter().map(|key| (key, None)).collect());
        }
        done.map(drop).or_else(|e| self.expect_fault(&e))
    }

    fn has_expired(&self, document: Option<&String>, at: usize) -> bool {
        let date = document.and_then(|document| date_of(document));
        let due = date.zip(self.rules.0[at]).map(|(date, after)| date + after);
        due.is_some_and(|due| due <= self.wall_now())
    }

    fn note_rules(&mut self, store: &Store) {
        if !self.profile.expiry {
            return;
        }
        let now = [0, 1].map(|at| expires_after(&collection(store, at)));
        if now != self.rules.0 {
            self.rules = (now, self.rules.1 + 1);
        }
    }

    fn wall_now(&self) -> i64 {
        self.env.wall_ms() as i64
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
            let scene = self.scene(store);
            self.clients[at] = Some(Box::pin(client(scene, seed)));
        }
        if let Some(client) = &mut self.clients[at]
            && client.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready()
        {
            self.clients[at] = None;
        }
    }

    fn scene(&self, store: Store) -> Scene {
        Scene {
            store,
            env: Arc::clone(&self.env),
            model: Arc::clone(&self.model),
            next_value: Arc::clone(&self.next_value),
            failure: Arc::clone(&self.failure),
            profile: self.profile,
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
        let (mut want, observed) = {
            let model = self.model.lock();
            (model.at(visible), model.observed)
        };
        if self.profile.expiry {
            want.retain(|key, document| !self.has_expired(Some(document), key.0));
            if self.changer.random.one_in(4) {
                self.check_counts(&store, &want)?;
            }
        }
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

    /// What is counted has not expired either.
    fn check_counts(
        &self,
        store: &Store,
        want: &BTreeMap<Key, String>,
    ) -> std::result::Result<(), String> {
        for at in 0..2 {
            let want = want.range((at, i64::MIN)..=(at, i64::MAX)).count() as u64;
            match now(collection(store, at).find(Filter::all()).count()) {
                Some(Ok(found)) if found == want => {}
                Some(Ok(found)) => {
                    return Err(self.explain(&format!("{found} documents in {at}, not {want}")));
                }
                Some(Err(e)) => self.expect_fault(&e)?,
                None => return Err(self.explain("a count did not finish at once")),
            }
        }
        Ok(())
    }

    fn check_snapshot(&self, store: &Store, taken: &Taken) -> std::result::Result<(), String> {
        let snapshot = &taken.snapshot;
        let mut want = self.model.lock().at(snapshot.seq());
        let found = all_documents(store, Some(snapshot));
        if self.profile.expiry {
            let (after, changes) = taken.rules;
            let same = changes == self.rules.1;
            want.retain(|key, document| {
                let Some(date) = date_of(document) else { return true };
                // When it expires changed since the snapshot was taken: it may be seen or not.
                let open = !same && date <= taken.wall_ms;
                let seen = || found.as_ref().is_ok_and(|found| found.contains_key(key));
                let expires = after[key.0].filter(|_| same);
                if open { seen() } else { expires.is_none_or(|ms| date + ms > taken.wall_ms) }
            });
        }
        match found {
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
            self.changer.crash();
            self.loads.crash();
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
        self.changer.crash();
        self.loads.crash();
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
            self.changer.forget();
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
        if self.profile.expiry || self.profile.schemas {
            let collections = [0, 1].map(|at| collection(store, at));
            self.changer.check(&collections).map_err(|text| self.explain(&text))?;
            self.note_rules(store);
        }
        let found = match all_documents(store, None) {
            Ok(found) => found,
            Err(e) => return Err(self.explain(&format!("reading after recovery: {e:?}"))),
        };
        let (want, loads) = (self.wanted(recovered), self.loads.settle());
        if found == want || self.came_to_light(loads, recovered, &found) {
            return self.check_indexes(store);
        }
        let text = format!("after recovery to {recovered}: {}", difference(&found, &want));
        Err(self.explain(&text))
    }

    /// What is there and has not expired, by the model.
    fn wanted(&self, seq: u64) -> BTreeMap<Key, String> {
        let mut want = self.model.lock().at(seq);
        want.retain(|key, document| !self.has_expired(Some(document), key.0));
        want
    }

    /// One of the loads that ended with an error explains what was found: it had been named before.
    fn came_to_light(
        &self,
        loads: Vec<(u64, Writes)>,
        recovered: u64,
        found: &BTreeMap<Key, String>,
    ) -> bool {
        loads.into_iter().filter(|(seq, _)| *seq <= recovered).any(|(seq, writes)| {
            self.model.lock().commits.insert(seq, writes.into_iter().collect());
            let explains = self.wanted(recovered) == *found;
            if !explains {
                self.model.lock().commits.remove(&seq);
            }
            explains
        })
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

pub(super) fn random_key(random: &mut Random) -> Key {
    (random.below(2) as usize, random.below(IDS) as i64)
}

pub(super) fn collection(store: &Store, at: usize) -> Collection {
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
