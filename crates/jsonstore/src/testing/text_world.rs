//! A world of writers and a text index over one simulated disk. After every crash, and at every
//! snapshot, a search finds what a scan of the documents finds.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use parking_lot::Mutex;
use serde_json::{Value, json};

use super::{
    SimEnv, clients::may_befall, env::Random, hooks, naive_text::NaiveText, small_options,
};
use crate::{
    Collection, Document, Error, Id, Isolation, Result, Snapshot, Store, TextError, TextIndex,
    TextQuery, Update,
    testing::{FaultKind, FaultPlan, SimVfs},
};

const WORDS: [&str; 12] =
    ["ash", "asp", "birch", "cedar", "elm", "elder", "fir", "larch", "maple", "oak", "pine", "yew"];

type Client = Pin<Box<dyn Future<Output = ()>>>;

/// What a run did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TextReport {
    /// Crashes survived.
    pub crashes: u64,
    /// Searches compared with a scan.
    pub searches: u64,
    /// Calls that an injected fault hit.
    pub faults: u64,
}

/// One simulated machine.
#[derive(Debug)]
pub struct TextWorld {
    seed: u64,
    random: Random,
    vfs: SimVfs,
    env: Arc<SimEnv>,
    index: TextIndex,
    faults: bool,
    report: TextReport,
}

/// One life of the machine.
struct Life {
    store: Store,
    clients: Vec<Option<Client>>,
    snapshots: Vec<Snapshot>,
    failure: Arc<Mutex<Option<String>>>,
}

impl TextWorld {
    /// An empty disk.
    pub fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let index = TextIndex::new("trees").boosted("title", 2.0).field("body");
        Self {
            seed,
            vfs: SimVfs::new(),
            env: Arc::new(SimEnv::new(seed)),
            index: index.positions(!random.one_in(4)),
            faults: random.one_in(2),
            random,
            report: TextReport::default(),
        }
    }

    /// Runs to the end.
    ///
    /// # Errors
    /// What was wrong, in words.
    pub fn run(mut self) -> std::result::Result<TextReport, String> {
        let crashes = 2 + self.random.below(8);
        for _ in 0..=crashes {
            let life = self.open()?;
            self.live(life)?;
            self.crash();
            self.report.crashes += 1;
        }
        let life = self.open()?;
        self.end(&life.store)?;
        self.report.faults = self.vfs.faults_hit();
        Ok(self.report)
    }

    fn open(&mut self) -> std::result::Result<Life, String> {
        let options = small_options(&self.vfs, &self.env);
        let store = match now(Store::open(options)) {
            Some(Ok(store)) => store,
            other => return Err(self.explain(&format!("opening: {other:?}"))),
        };
        // Nobody writes yet: what is there is what the crash left.
        let snapshot = store.snapshot();
        self.compare(&store, &snapshot, 4)?;
        match now(store.verify()) {
            Some(Ok(_)) => {}
            other => return Err(self.explain(&format!("verify after recovery: {other:?}"))),
        }
        drop(snapshot);
        let clients = (0..4).map(|_| None).collect();
        Ok(Life { store, clients, snapshots: Vec::new(), failure: Arc::default() })
    }

    fn live(&mut self, mut life: Life) -> std::result::Result<(), String> {
        if self.faults && self.random.one_in(3) {
            let kinds = [FaultKind::Eio, FaultKind::Enospc, FaultKind::Short];
            let kind = kinds[self.random.below(3) as usize];
            let (countdown, forever) = (self.random.below(300), self.random.one_in(2));
            self.vfs.set_fault(Some(FaultPlan { countdown, kind, forever }));
        } else if self.random.one_in(2) {
            self.vfs.crash_after(Some(self.random.below(250)));
        }
        for _ in 0..20 + self.random.below(150) {
            self.step(&mut life)?;
            if let Some(failure) = life.failure.lock().take() {
                return Err(self.explain(&failure));
            }
            if self.vfs.is_dead() {
                break;
            }
        }
        self.vfs.set_fault(None);
        self.vfs.crash_after(Some(0));
        Ok(())
    }

    fn step(&mut self, life: &mut Life) -> std::result::Result<(), String> {
        let store = life.store.clone();
        match self.random.below(24) {
            0..=9 => self.poll_client(life),
            10..=12 => {
                hooks::step_log(&store);
            }
            13 => {
                let _ = hooks::step_flush(&store);
            }
            14 => {
                let _ = hooks::step_compact(&store);
            }
            15..=18 => {
                if let Err(e) = hooks::step_text(&store) {
                    self.expect_fault(&e)?;
                }
            }
            19 => {
                self.env.advance(Duration::from_millis(self.random.below(60)));
                hooks::tick(&store);
            }
            20 if life.snapshots.len() < 3 => life.snapshots.push(store.snapshot()),
            20 | 21 => {
                if let Some(snapshot) = life.snapshots.pop() {
                    self.compare(&store, &snapshot, 1)?;
                }
            }
            22 if life.clients.iter().all(Option::is_none) => self.load(&store)?,
            _ => {
                let snapshot = store.snapshot();
                self.compare(&store, &snapshot, 1)?;
            }
        }
        Ok(())
    }

    fn poll_client(&mut self, life: &mut Life) {
        let at = self.random.below(life.clients.len() as u64) as usize;
        if self.random.one_in(30) {
            life.clients[at] = None;
        }
        let client = life.clients[at].get_or_insert_with(|| {
            let (store, seed) = (life.store.clone(), self.random.next());
            let (index, failure) = (self.index.clone(), Arc::clone(&life.failure));
            Box::pin(async move {
                if let Err(e) = act(&store, index, seed).await
                    && !is_expected(&e)
                {
                    *failure.lock() = Some(format!("a client got {e:?}"));
                }
            })
        });
        if client.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready() {
            life.clients[at] = None;
        }
    }

    fn load(&mut self, store: &Store) -> std::result::Result<(), String> {
        let trees = trees(store);
        let first = self.random.below(20) as i64;
        let documents: Vec<Value> =
            (first..first + 8).map(|id| document(&mut self.random, id)).collect();
        let ends = self.random.one_in(3);
        let loaded = now(async {
            let mut load = store.load().await?;
            for document in &documents {
                load.put(&trees, document)?;
            }
            if ends { Ok(()) } else { load.finish().await }
        });
        match loaded {
            None | Some(Ok(())) => Ok(()),
            Some(Err(e)) if is_expected(&e) => Ok(()),
            Some(Err(e)) => self.expect_fault(&e),
        }
    }

    /// A few searches against a scan, at one snapshot.
    fn compare(
        &mut self,
        store: &Store,
        snapshot: &Snapshot,
        searches: u32,
    ) -> std::result::Result<(), String> {
        let trees = trees(store);
        let documents = match now(trees.scan_at(snapshot, ..).collect()) {
            Some(Ok(documents)) => documents,
            Some(Err(e)) => return self.expect_fault(&e),
            None => return Err(self.explain("a scan did not finish")),
        };
        let pairs: Vec<(Id, Value)> = documents.iter().map(with_id).collect();
        let naive = NaiveText::new(&self.index, pairs.iter().map(|(id, value)| (id, value)));
        for _ in 0..searches {
            let query = query(&mut self.random, 0);
            let limit = 1 + self.random.below(8) as usize;
            let found = now(trees.search_query(query.clone()).at(snapshot).limit(limit).hits());
            let all = now(trees.search_query(query.clone()).at(snapshot).ids());
            let (hits, ids) = match (found, all) {
                (Some(Ok(hits)), Some(Ok(ids))) => (hits, ids),
                (Some(Err(e)), _) | (_, Some(Err(e))) => match e {
                    Error::Text(TextError::NoSuchIndex { .. } | TextError::NotReady { .. }) => {
                        return Ok(());
                    }
                    Error::Text(TextError::NoPositions { .. }) => continue,
                    // A snapshot from before the index was made.
                    e => return self.expect_fault(&e),
                },
                _ => return Err(self.explain("a search did not finish")),
            };
            let want = naive.search(&query);
            let ids: Vec<&[u8]> = ids.iter().map(Id::as_bytes).collect();
            if ids != want.keys().map(Vec::as_slice).collect::<Vec<_>>() {
                let text = format!(
                    "{} ids, want {} at {}: {query:?}",
                    ids.len(),
                    want.len(),
                    snapshot.seq()
                );
                return Err(self.explain(&text));
            }
            naive.check_hits(&query, limit, &hits).map_err(|e| self.explain(&e))?;
            self.report.searches += 1;
        }
        Ok(())
    }

    fn crash(&mut self) {
        if self.random.one_in(4) {
            self.vfs.kill_process();
            return;
        }
        let mut random = Random::new(self.random.next());
        let style = random.below(3);
        self.vfs.power_cut(&mut |n| match style {
            0 => 0,
            1 => n - 1,
            _ => random.below(u64::from(n)) as u32,
        });
    }

    /// Without faults everything works again, and upkeep comes to an end.
    fn end(&mut self, store: &Store) -> std::result::Result<(), String> {
        let trees = trees(store);
        let index = self.index.clone();
        let failed =
            |what: &str, e: &dyn std::fmt::Debug| format!("seed {}: {what}: {e:?}", self.seed);
        let made = now(async {
            trees.create_text_index(index).await?;
            trees.insert(&json!({"_id": 7777, "title": "oak", "body": "yew"})).await?;
            trees.optimize_text().await
        });
        match made {
            Some(Ok(())) => {}
            other => return Err(failed("at the end", &other)),
        }
        match now(trees.text_stats("trees")) {
            Some(Ok(stats)) if stats.is_ready && stats.changes == 0 => {}
            other => return Err(failed("what is left", &other)),
        }
        let snapshot = store.snapshot();
        self.compare(store, &snapshot, 20)?;
        match now(store.verify()) {
            Some(Ok(report)) if report.text_indexes == 1 => Ok(()),
            other => Err(self.explain(&format!("verify at the end: {other:?}"))),
        }
    }

    fn expect_fault(&self, e: &Error) -> std::result::Result<(), String> {
        let fits = matches!(
            e,
            Error::Io { .. } | Error::Poisoned { .. } | Error::DiskFull { .. } | Error::Closed
        );
        if fits && (self.faults || self.vfs.is_dead()) {
            return Ok(());
        }
        Err(self.explain(&format!("unexpected error: {e:?}")))
    }

    fn explain(&self, what: &str) -> String {
        format!("text seed {}: after {} crashes: {what}", self.seed, self.report.crashes)
    }
}

/// What one client does: a transaction, or something with the index.
async fn act(store: &Store, index: TextIndex, seed: u64) -> Result<()> {
    let mut random = Random::new(seed);
    let trees = trees(store);
    match random.below(12) {
        0 | 1 => return trees.create_text_index(index).await,
        2 if random.one_in(4) => return trees.drop_text_index("trees").await.map(drop),
        _ => {}
    }
    let isolation =
        [Isolation::Latest, Isolation::Snapshot, Isolation::Serializable][random.below(3) as usize];
    let tx = store.begin(isolation);
    for _ in 0..1 + random.below(4) {
        let id = random.below(24) as i64;
        match random.below(8) {
            0..=3 => {
                tx.put(&trees, &document(&mut random, id)).await?;
            }
            4 => {
                tx.delete(&trees, id).await?;
            }
            5 => {
                tx.update(&trees, id, &Update::new().set("n", random.below(9))).await?;
            }
            _ => {
                let body = text(&mut random);
                tx.update(&trees, id, &Update::new().set("body", body)).await?;
            }
        }
    }
    tx.commit().await.map(drop)
}

fn is_expected(e: &Error) -> bool {
    matches!(
        e,
        Error::Conflict
            // Two clients make and drop the same index.
            | Error::Text(TextError::NoSuchIndex { .. } | TextError::IndexExists { .. })
    ) || may_befall(e)
}

fn document(random: &mut Random, id: i64) -> Value {
    let mut document = json!({"_id": id, "body": text(random)});
    match random.below(5) {
        0 => {}
        1 => document["title"] = json!([text(random), 5, text(random)]),
        2 => document["title"] = json!(random.below(9)),
        _ => document["title"] = json!(text(random)),
    }
    document
}

fn text(random: &mut Random) -> String {
    let count = random.below(9);
    let words: Vec<&str> = (0..count)
        // The first words are frequent.
        .map(|_| WORDS[(random.below(12) * random.below(12) / 11) as usize])
        .collect();
    words.join(" ")
}

fn query(random: &mut Random, depth: u32) -> TextQuery {
    let word = |random: &mut Random| WORDS[random.below(12) as usize].to_owned();
    if depth < 2 && random.one_in(2) {
        let mut parts = || -> Vec<TextQuery> {
            (0..1 + random.below(3)).map(|_| query(random, depth + 1)).collect()
        };
        let (first, second) = (parts(), parts());
        let all = TextQuery::All(first.clone());
        return match random.below(6) {
            0 => all,
            1 => TextQuery::Any(first),
            2 => {
                TextQuery::Except(Box::new(TextQuery::Any(first)), Box::new(TextQuery::All(second)))
            }
            3 => TextQuery::Should(Box::new(all), Box::new(TextQuery::Any(second))),
            4 => TextQuery::Field("title".into(), Box::new(TextQuery::Any(first))),
            _ => TextQuery::Boost(2.5, Box::new(all)),
        };
    }
    match random.below(8) {
        0 => TextQuery::Prefix(word(random)[..1 + random.below(2) as usize].to_owned()),
        1 => TextQuery::Fuzzy(word(random), 1 + random.below(2) as u8),
        2 => TextQuery::Phrase(format!("{} {}", word(random), word(random))),
        _ => TextQuery::Word(word(random)),
    }
}

fn with_id(document: &Document) -> (Id, Value) {
    let value: Value = document.value();
    let id = Id::from_json(&value["_id"]).expect("the worlds' ids are numbers");
    (id, value)
}

fn trees(store: &Store) -> Collection {
    store.collection("trees").expect("the name is valid")
}

/// Polls once: here nothing has to wait.
fn now<T>(future: impl Future<Output = T>) -> Option<T> {
    let mut future = std::pin::pin!(future);
    match crate::api::inline(|| future.as_mut().poll(&mut Context::from_waker(Waker::noop()))) {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}
