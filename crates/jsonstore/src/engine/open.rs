//! Opening a store: create, or recover what is there.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64},
    },
};

use arc_swap::ArcSwap;
use bytes::Bytes;
use parking_lot::{Condvar, Mutex, RwLock};

use super::{CATALOGUE, Core, Counters, decode_catalogue};
use crate::{
    advice::Advisor,
    backup::archive::Archiver,
    bugs::bug,
    cache::{BlockCache, DocumentCache, VersionTable},
    commit::{Log, decode},
    error::{Error, Result},
    frame::ALIGN,
    guard::Guard,
    lock::LockManager,
    lsm::{Levels, Tree, segment_path},
    manifest::{Manifest, State, read_current},
    memtable::{Entry, Memtable},
    observe::Observer,
    options::{Options, Recovery},
    segment::{Dictionaries, Segment},
    vfs::LockGuard,
    wal::{Recovered, WalConfig, WalWriter, recover},
};

/// Steps of opening, for `open_with_progress`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum OpenStep {
    /// Log files read, of how many.
    ReadingLog {
        /// Files read so far.
        done: u64,
        /// Files to read.
        total: u64,
    },
    /// Transactions of the log to apply.
    Replaying {
        /// How many.
        transactions: u64,
    },
    /// The store is ready.
    Ready,
}

impl Core {
    pub(crate) fn open(
        mut options: Options,
        progress: &mut dyn FnMut(OpenStep),
    ) -> Result<Arc<Self>> {
        options.wal_file_bytes = options.wal_file_bytes.next_multiple_of(ALIGN).max(8 * ALIGN);
        options.wal_grow_bytes = options.wal_grow_bytes.next_multiple_of(ALIGN).max(ALIGN);
        let vfs = Arc::clone(&options.vfs);
        let dir = options.path.clone();
        let exists = has_current(&options)?;
        if !exists && (!options.create || options.read_only) {
            return Err(Error::io("open", &dir, io::ErrorKind::NotFound.into()));
        }
        if !exists {
            refuse_foreign(&options)?;
            for part in ["", "wal", "seg", "tmp"] {
                let path = if part.is_empty() { dir.clone() } else { dir.join(part) };
                vfs.create_dir(&path).map_err(|e| Error::io("create", &path, e))?;
            }
        }
        let guard = if options.read_only { None } else { Some(take_lock(&options)?) };
        let exists = exists || has_current(&options)?;
        let (manifest, state) = if exists {
            Manifest::open(
                Arc::clone(&vfs),
                Arc::clone(&options.env),
                &dir,
                options.key.clone(),
                options.read_only,
            )?
        } else {
            create(&options)?
        };
        options.wal_file_bytes = state.wal_file_bytes;
        let config = wal_config(&options, manifest.store_id);
        check_segments(&options, &state)?;
        let archiver = match &options.archive {
            Some(archive) if !options.read_only => {
                Some(Archiver::open(&options, archive, &config, state.wal_floor)?)
            }
            _ => None,
        };
        let salvage = options.recovery == Recovery::Salvage;
        let mut found = recover(
            &*vfs,
            &config,
            state.wal_floor,
            salvage,
            options.read_only,
            &mut |done, total| {
                progress(OpenStep::ReadingLog { done, total });
            },
        )?;
        // What was just created ends in order.
        found.clean |= !exists;
        if let Some(archiver) = &archiver {
            archiver.adopt(&mut found)?;
        }
        progress(OpenStep::Replaying { transactions: found.commits.len() as u64 });
        let core = build(options, guard, manifest, &state, &config, found, archiver)?;
        progress(OpenStep::Ready);
        Ok(core)
    }
}

fn has_current(options: &Options) -> Result<bool> {
    match read_current(&*options.vfs, &options.path) {
        Ok(_) => Ok(true),
        Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(e),
    }
}

/// A directory that holds something else is left alone. What a creation that was cut short left
/// behind has only our names in it.
fn refuse_foreign(options: &Options) -> Result<()> {
    let names = match options.vfs.list(&options.path) {
        Ok(names) => names,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(Error::io("list", &options.path, e)),
    };
    let ours = ["CURRENT.tmp", "LOCK", "MANIFEST-000001", "seg", "tmp", "wal"];
    match names.into_iter().find(|name| !ours.contains(&name.as_str())) {
        Some(found) => Err(Error::ForeignDirectory { path: options.path.clone(), found }),
        None => Ok(()),
    }
}

fn take_lock(options: &Options) -> Result<LockGuard> {
    let path = options.path.join("LOCK");
    options.vfs.lock(&path).map_err(|e| match e.kind() {
        io::ErrorKind::WouldBlock => Error::Locked { path: options.path.clone() },
        _ => Error::io("lock", &path, e),
    })
}

pub(super) fn wal_config(options: &Options, store_id: [u8; 16]) -> WalConfig {
    WalConfig {
        dir: options.path.join("wal"),
        file_bytes: options.wal_file_bytes,
        grow_bytes: options.wal_grow_bytes,
        store_id,
        key: options.key.clone(),
    }
}

/// The log comes first and CURRENT last, so a store exists in whole or not at all.
fn create(options: &Options) -> Result<(Manifest, State)> {
    let env = &options.env;
    let mut store_id = [0; 16];
    store_id[..8].copy_from_slice(&env.random().to_le_bytes());
    store_id[8..].copy_from_slice(&env.random().to_le_bytes());
    let config = wal_config(options, store_id);
    WalWriter::create(Arc::clone(&options.vfs), Arc::clone(env), config.clone())
        .map_err(|e| Error::io("create", &config.dir, e))?;
    let state = State {
        next_file: 1,
        wal_floor: config.file_bytes + ALIGN,
        wal_file_bytes: config.file_bytes,
        ..State::default()
    };
    let manifest = Manifest::create(
        Arc::clone(&options.vfs),
        Arc::clone(env),
        &options.path,
        options.key.clone(),
        store_id,
        &state,
    )?;
    Ok((manifest, state))
}

/// Every named segment must be there; every other file of ours goes.
fn check_segments(options: &Options, state: &State) -> Result<()> {
    let dir = options.path.join("seg");
    let list = |path: &Path| match options.vfs.list(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        other => other.map_err(|e| Error::io("list", path, e)),
    };
    let names: BTreeSet<String> = list(&dir)?.into_iter().collect();
    let mut named = BTreeSet::new();
    for (_, info) in &state.segments {
        let path = segment_path(&dir, info.number);
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if !names.contains(&name) {
            return Err(Error::corrupt(format!("seg/{name}"), 0, "the file is missing"));
        }
        named.insert(name);
    }
    if options.read_only {
        return Ok(());
    }
    for name in names.difference(&named) {
        let _ = options.vfs.remove(&dir.join(name));
    }
    let tmp = options.path.join("tmp");
    for name in list(&tmp)? {
        let _ = options.vfs.remove(&tmp.join(name));
    }
    let current = crate::manifest::file_name(read_current(&*options.vfs, &options.path)?);
    for name in list(&options.path)? {
        if name.starts_with("MANIFEST-") && name != current {
            let _ = options.vfs.remove(&options.path.join(name));
        }
    }
    Ok(())
}

fn build(
    options: Options,
    guard: Option<LockGuard>,
    mut manifest: Manifest,
    state: &State,
    config: &WalConfig,
    found: Recovered,
    archiver: Option<Archiver>,
) -> Result<Arc<Core>> {
    let blocks = Arc::new(BlockCache::new(options.block_cache_bytes(), options.map_bytes_max));
    let dictionaries = Arc::new(Dictionaries::default());
    let segments_dir = options.path.join("seg");
    let mut levels = Levels::default();
    for (level, info) in &state.segments {
        let segment = Segment::new(
            Arc::clone(&options.vfs),
            Arc::clone(&blocks),
            Arc::clone(&dictionaries),
            segment_path(&segments_dir, info.number),
            manifest.store_id,
            options.key.clone(),
            info.clone(),
        );
        let list = levels.levels.get_mut(usize::from(*level));
        list.ok_or_else(|| Error::corrupt("MANIFEST", 0, "no such level"))?.push(Arc::new(segment));
    }
    let (table, last_seq) = replay(state, &found)?;
    let was_clean = found.clean;
    let wal = if options.read_only {
        WalWriter::detached(Arc::clone(&options.vfs), Arc::clone(&options.env), config.clone())
    } else {
        WalWriter::resume(
            Arc::clone(&options.vfs),
            Arc::clone(&options.env),
            config.clone(),
            &found,
        )
    };
    let mut wal = wal.map_err(|e| Error::io("open", &config.dir, e))?;
    if let Some(archiver) = &archiver {
        wal.archive_from(archiver.next());
    }
    let replayed = !table.is_empty();
    if replayed {
        table.note_lsn(state.wal_floor);
    }
    let (active, frozen) = if replayed {
        (Arc::new(Memtable::new()), vec![Arc::new(table)])
    } else {
        (Arc::new(table), Vec::new())
    };
    // The mark of a load that was never named may have the last number, and be all that has it: the
    // manifest keeps it before the log may let go of it.
    let flushed_seq = if replayed { state.flushed_seq } else { last_seq };
    let tree = Tree { active: Arc::clone(&active), frozen, levels: Arc::new(levels), gc_seq: 0 };
    if !was_clean && !options.read_only {
        // The end of the old manifest may hold a torn edit.
        manifest.renew(state)?;
    }
    let core = Core {
        dir: options.path.clone(),
        store_id: manifest.store_id,
        log: Log::new(wal, last_seq, active),
        locks: Arc::new(LockManager::new()),
        tree: ArcSwap::from_pointee(tree),
        tree_lock: Mutex::new(()),
        manifest: Mutex::new(manifest),
        next_file: AtomicU64::new(state.next_file),
        flushed_seq: AtomicU64::new(flushed_seq),
        blocks,
        documents: DocumentCache::new(options.memory_budget),
        versions: VersionTable::new(options.memory_budget),
        dictionaries,
        catalogue: RwLock::default(),
        states: ArcSwap::default(),
        index_jobs: Mutex::default(),
        settings_lock: Mutex::new(()),
        text: crate::text::Registry::default(),
        expirations: crate::expiry::Expirations::default(),
        upkeep: crate::text::UpkeepGate::default(),
        latches: (0..64).map(|_| Mutex::new(())).collect(),
        cursors: Mutex::default(),
        flush_lock: Mutex::new(()),
        compact_lock: Mutex::new(()),
        lost: found.lost,
        stop: AtomicBool::new(false),
        closed: AtomicBool::new(false),
        work: (Mutex::new(0), Condvar::new()),
        background_error: Mutex::new(None),
        pool: crate::pool::Pool::new(),
        last_mark: AtomicU64::new(last_seq),
        scrub: Mutex::default(),
        pace: super::Pace::new(options.compaction_bytes_per_second_max),
        counters: Counters::default(),
        backup_lock: Mutex::new(()),
        archiver,
        sessions: Guard::new(options.guard),
        observer: Arc::new(Observer::new(&options)),
        advisor: Advisor::new(options.auto_index),
        guard: Mutex::new(guard),
        options,
    };
    core.load_catalogue(last_seq)?;
    core.load_states(last_seq)?;
    core.log.with_wal(|wal| wal.observer = Some(Arc::clone(&core.observer)));
    let core = Arc::new(core);
    core.queue_index_jobs();
    Ok(core)
}

/// The commits of the log that are not in segments, as one memtable.
fn replay(state: &State, found: &Recovered) -> Result<(Memtable, u64)> {
    let mut keyspaces: BTreeMap<u32, Vec<Entry>> = BTreeMap::new();
    let mut last_seq = state.flushed_seq.max(found.last_seq);
    for (seq, payload) in &found.commits {
        if *seq <= state.flushed_seq && !bug("replay_flushed") {
            continue;
        }
        let ops = decode(payload, *seq)
            .ok_or_else(|| Error::corrupt("wal", 0, format!("commit {seq} is malformed")))?;
        for op in ops {
            keyspaces.entry(op.keyspace).or_default().push(Entry {
                key: op.key,
                seq: *seq,
                value: op.value,
                packed: None,
            });
        }
        last_seq = last_seq.max(*seq);
        if bug("replay_stops_early") && seq.is_multiple_of(7) {
            break;
        }
    }
    let table = Memtable::from_entries(keyspaces);
    if last_seq > state.flushed_seq && !found.commits.is_empty() {
        table.note_seq(last_seq);
    }
    Ok((table, last_seq))
}

impl Core {
    fn load_catalogue(&self, snapshot: u64) -> Result<()> {
        let mut iter = self.tree().range(CATALOGUE, &[], None, snapshot)?;
        let mut catalogue = self.catalogue.write();
        while let Some(entry) = iter.next_visible()? {
            let value: Bytes = entry.value.unwrap_or_default();
            let (name, number, kind) = decode_catalogue(&entry.key, &value)
                .ok_or_else(|| Error::corrupt("catalogue", 0, "an entry is malformed"))?;
            catalogue.insert(name, (number, kind));
        }
        // Changes of a keyspace without a name mean that its record is lost.
        for table in &self.tree().frozen {
            for keyspace in table.keyspaces() {
                let known =
                    keyspace == CATALOGUE || catalogue.values().any(|(n, _)| *n == keyspace);
                if !known && self.lost.is_empty() {
                    let text = format!("keyspace {keyspace} has no name");
                    return Err(Error::corrupt("catalogue", 0, text));
                }
            }
        }
        Ok(())
    }
}
