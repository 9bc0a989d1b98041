//! Backup, archive and restore, over a simulated disk and for real.

mod errors;
mod faults;
mod history;
mod live;
mod load;

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use hearth_jsonstore::{
    Archive, BackupInfo, BackupKind, BackupOptions, Backups, Error, MasterKey, Options,
    RestoreOptions, RestorePoint, Result, Store, Vfs, block_on,
    testing::{SimEnv, SimVfs, hooks, small_options},
};

const REPOSITORY: &str = "/backups";
const ARCHIVE: &str = "/archive";

/// Documents as JSON text, by id.
type State = BTreeMap<i64, String>;

/// A random generator that everybody can read.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.0 >> 33) % n
    }
}

/// What was true after each commit.
#[derive(Debug, Default, Clone)]
struct Model {
    states: BTreeMap<u64, State>,
    /// The wall clock of each commit.
    times: BTreeMap<u64, u64>,
    loads: Vec<u64>,
}

impl Model {
    fn at(&self, seq: u64) -> State {
        self.states.range(..=seq).next_back().map(|(_, state)| state.clone()).unwrap_or_default()
    }

    fn last(&self) -> u64 {
        self.states.keys().next_back().copied().unwrap_or(0)
    }
}

/// A store on a simulated disk with a model beside it. Clones share it.
#[derive(Clone)]
struct World {
    vfs: SimVfs,
    env: Arc<SimEnv>,
    store_key: Option<MasterKey>,
    backup_key: Option<MasterKey>,
    has_archive: bool,
    store: Arc<Mutex<Option<Store>>>,
    model: Arc<Mutex<Model>>,
}

impl World {
    fn new(seed: u64) -> Self {
        let world = Self::with_keys(seed, None, None);
        world.open().unwrap();
        world
    }

    fn with_keys(seed: u64, store_key: Option<u8>, backup_key: Option<u8>) -> Self {
        let key = |byte: u8| MasterKey::new([byte; 32]);
        Self {
            vfs: SimVfs::new(),
            env: Arc::new(SimEnv::new(seed)),
            store_key: store_key.map(key),
            backup_key: backup_key.map(key),
            has_archive: true,
            store: Arc::default(),
            model: Arc::default(),
        }
    }

    fn options(&self, path: &str) -> Options {
        let mut options = small_options(&self.vfs, &self.env);
        options.path = path.into();
        options.key = self.store_key.clone();
        if self.has_archive && path == "/store" {
            let mut archive = Archive::new(ARCHIVE);
            archive.key = self.backup_key.clone();
            options.archive = Some(archive);
        }
        options
    }

    fn open(&self) -> Result<()> {
        *self.store.lock().unwrap() = None;
        let store = block_on(Store::open(self.options("/store")))?;
        *self.store.lock().unwrap() = Some(store);
        Ok(())
    }

    fn store(&self) -> Store {
        self.store.lock().unwrap().clone().unwrap()
    }

    fn backups(&self) -> Backups {
        let vfs: Arc<dyn Vfs> = Arc::new(self.vfs.clone());
        let env: Arc<SimEnv> = Arc::clone(&self.env);
        let backups = Backups::new(REPOSITORY).with_disk(vfs, env);
        match &self.backup_key {
            Some(key) => backups.with_key(key.clone()),
            None => backups,
        }
    }

    fn backup_options(&self, kind: BackupKind) -> BackupOptions {
        let mut options = BackupOptions::new(REPOSITORY);
        options.kind = kind;
        options.key = self.backup_key.clone();
        options
    }

    fn backup(&self, kind: BackupKind) -> Result<BackupInfo> {
        Ok(block_on(self.store().backup(self.backup_options(kind)))?.info)
    }

    /// Changes the store and notes what is true then.
    fn act(&self, random: &mut Random) -> Result<()> {
        self.env.advance(Duration::from_millis(1 + random.below(50)));
        let store = self.store();
        let mut state = self.model.lock().unwrap().at(u64::MAX);
        let id = random.below(30) as i64;
        let mut puts = vec![id];
        match random.below(12) {
            0..=5 => {}
            6 => puts.push((id + 1) % 30),
            7 => puts.clear(),
            8 => {
                hooks::rotate(&store);
                hooks::step_flush(&store)?;
                return Ok(());
            }
            9 => return block_on(store.compact()),
            10 => {
                hooks::mark(&store);
                hooks::step_archive(&store)?;
                return Ok(());
            }
            _ => return block_on(store.checkpoint()),
        }
        let texts: Vec<String> = puts
            .iter()
            .map(|id| {
                let pad = "x".repeat(random.below(300) as usize);
                format!("{{\"_id\":{id},\"v\":{},\"pad\":\"{pad}\"}}", random.below(1 << 20))
            })
            .collect();
        if puts.is_empty() {
            state.remove(&id);
        }
        state.extend(puts.iter().copied().zip(texts.iter().cloned()));
        let (before, wall) = (store.stats().visible_seq, self.now());
        let done = block_on(async {
            let c = store.collection("c")?;
            let tx = store.begin(hearth_jsonstore::Isolation::Latest);
            if puts.is_empty() {
                tx.delete(&c, id).await?;
            }
            for text in &texts {
                tx.put(&c, text).await?;
            }
            tx.commit().await
        });
        // A crash leaves open whether it was done; `reopen` finds out.
        let mut model = self.model.lock().unwrap();
        let mut seq = u64::MAX;
        if done.is_ok() {
            seq = store.stats().visible_seq;
            model.times.extend((before + 1..=seq).map(|seq| (seq, wall)));
        }
        model.states.insert(seq, state);
        done.map(drop)
    }

    fn load(&self, random: &mut Random) -> Result<()> {
        self.env.advance(Duration::from_millis(1 + random.below(50)));
        let store = self.store();
        let mut state = self.model.lock().unwrap().at(u64::MAX);
        block_on(async {
            let c = store.collection("c")?;
            let mut load = store.load().await?;
            for _ in 0..1 + random.below(20) {
                let id = random.below(30) as i64;
                let text = format!("{{\"_id\":{id},\"loaded\":{}}}", random.below(99));
                load.put(&c, &text)?;
                state.insert(id, text);
            }
            load.finish().await
        })?;
        let seq = store.stats().visible_seq;
        let wall = self.now();
        let mut model = self.model.lock().unwrap();
        model.states.insert(seq, state);
        model.times.insert(seq, wall);
        model.loads.push(seq);
        Ok(())
    }

    /// The power fails, and comes back.
    fn crash(&self, random: &mut Random) {
        self.vfs.crash_after(Some(0));
        *self.store.lock().unwrap() = None;
        let style = random.below(4);
        self.vfs.power_cut(&mut |n| match style {
            0 => 0,
            1 => n - 1,
            _ => random.below(u64::from(n)) as u32,
        });
        self.open().unwrap();
        let (seq, found) = (self.store().stats().visible_seq, read(&self.store()).unwrap());
        let mut model = self.model.lock().unwrap();
        if let Some(unknown) = model.states.remove(&u64::MAX) {
            let last = model.last();
            if found == unknown && seq > last {
                model.states.insert(seq, unknown);
                let wall = self.now();
                model.times.extend((last + 1..=seq).map(|seq| (seq, wall)));
            }
        }
        assert_same(&found, &model.at(seq), "after a crash");
    }

    fn now(&self) -> u64 {
        use hearth_jsonstore::Env;
        self.env.wall_ms()
    }

    fn restore(&self, target: &str, to: RestorePoint) -> Result<State> {
        let mut options = RestoreOptions::new(target);
        options.to = to;
        if to != RestorePoint::Backup {
            options.archive = Some(ARCHIVE.into());
            options.archive_key = self.backup_key.clone();
            options.log = Some("/store".into());
        }
        options.key = self.store_key.clone();
        self.restore_as(options)
    }

    fn restore_as(&self, options: RestoreOptions) -> Result<State> {
        let target = options.target.to_str().unwrap().to_owned();
        remove(&self.vfs, &target);
        block_on(self.backups().restore(options))?;
        let state = self.read_at(&target);
        remove(&self.vfs, &target);
        state
    }

    fn read_at(&self, path: &str) -> Result<State> {
        let store = block_on(Store::open(self.options(path)))?;
        block_on(store.verify())?;
        let state = read(&store);
        block_on(store.close())?;
        state
    }
}

fn read(store: &Store) -> Result<State> {
    let documents = block_on(async { store.collection("c")?.scan(..).collect().await })?;
    let pair =
        |d: hearth_jsonstore::Document| (d.value()["_id"].as_i64().unwrap(), d.json().to_owned());
    Ok(documents.into_iter().map(pair).collect())
}

/// As `assert_eq`, but it shows only what differs.
#[track_caller]
fn assert_same(found: &State, want: &State, what: &str) {
    let ids = found.keys().chain(want.keys());
    let differs = |id: &&i64| found.get(id) != want.get(id);
    let short = |text: Option<&String>| text.map(|t| t.chars().take(25).collect::<String>());
    let all: Vec<_> =
        ids.filter(differs).map(|id| (id, short(found.get(id)), short(want.get(id)))).collect();
    assert!(all.is_empty(), "{what}: id, found, want: {all:?}");
}

fn remove(vfs: &SimVfs, folder: &str) {
    for (path, _) in vfs.files() {
        if path.starts_with(folder) {
            vfs.remove(&path).unwrap();
        }
    }
}

fn is_corruption_of(e: &Error, path: &Path) -> bool {
    let name = path.strip_prefix(REPOSITORY).unwrap();
    matches!(e, Error::Corruption { file, .. } if Path::new(file) == name)
}
