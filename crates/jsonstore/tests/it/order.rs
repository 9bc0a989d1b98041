//! In which order things reach the disk: what random worlds meet rarely, brought about by hand.

use std::{
    any::Any,
    cell::{Cell, RefCell},
    collections::BTreeMap,
    future::Future,
    io,
    path::{Path, PathBuf},
    pin::Pin,
    sync::{Arc, atomic::Ordering},
    task::{Context, Waker},
};

use hearth_jsonstore::{
    Collection, Durability, Error, Index, LockGuard, OpenMode, Options, Result, Store, VFile, Vfs,
    block_on,
    testing::{SimEnv, SimVfs, hooks, small_options},
};

/// What a call of the store does to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Call {
    Write(u64),
    Sync,
    /// A write with its sync.
    WriteDurably(u64),
    /// Where, and how many bytes.
    Read(u64, usize),
}

type Hook = Box<dyn FnMut(&Path, Call)>;

thread_local! {
    static HOOK: RefCell<Option<Hook>> = const { RefCell::new(None) };
}

/// Runs `hook` before each read, write and sync of this thread.
fn watch(hook: impl FnMut(&Path, Call) + 'static) {
    HOOK.with_borrow_mut(|slot| *slot = Some(Box::new(hook)));
}

fn tell(path: &Path, call: Call) {
    // Taken out, so that the hook may use the store.
    let hook = HOOK.with_borrow_mut(Option::take);
    if let Some(mut hook) = hook {
        hook(path, call);
        HOOK.with_borrow_mut(|slot| *slot = Some(hook));
    }
}

thread_local! {
    static READ_ONLY: Cell<bool> = const { Cell::new(false) };
}

/// Fails where a disk that is mounted for reading does.
fn check_writable() -> io::Result<()> {
    if READ_ONLY.get() { Err(io::ErrorKind::ReadOnlyFilesystem.into()) } else { Ok(()) }
}

#[derive(Debug)]
struct WatchedVfs(SimVfs);

#[derive(Debug)]
struct WatchedFile(PathBuf, Arc<dyn VFile>);

impl Vfs for WatchedVfs {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn VFile>> {
        if mode != OpenMode::Read {
            check_writable()?;
        }
        Ok(Arc::new(WatchedFile(path.to_owned(), self.0.open(path, mode)?)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        check_writable()?;
        self.0.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        check_writable()?;
        self.0.remove(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.0.sync_dir(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        self.0.list(path)
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        check_writable()?;
        self.0.create_dir(path)
    }

    fn lock(&self, path: &Path) -> io::Result<LockGuard> {
        check_writable()?;
        self.0.lock(path).map(|guard| guard as Box<dyn Any + Send + Sync>)
    }

    fn free_space(&self, path: &Path) -> io::Result<u64> {
        self.0.free_space(path)
    }
}

impl VFile for WatchedFile {
    fn pread(&self, into: &mut [u8], offset: u64) -> io::Result<usize> {
        tell(&self.0, Call::Read(offset, into.len()));
        self.1.pread(into, offset)
    }

    fn pwrite(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        tell(&self.0, Call::Write(offset));
        self.1.pwrite(bytes, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        tell(&self.0, Call::Sync);
        self.1.sync_data()
    }

    fn write_durably(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        tell(&self.0, Call::WriteDurably(offset));
        self.1.write_durably(bytes, offset)
    }

    fn sync_all(&self) -> io::Result<()> {
        tell(&self.0, Call::Sync);
        self.1.sync_all()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.1.set_len(len)
    }

    fn len(&self) -> io::Result<u64> {
        self.1.len()
    }
}

fn watched() -> (SimVfs, Options) {
    let vfs = SimVfs::new();
    let mut options = small_options(&vfs, &Arc::new(SimEnv::new(1)));
    options.vfs = Arc::new(WatchedVfs(vfs.clone()));
    (vfs, options)
}

fn is_manifest(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("MANIFEST"))
}

fn is_log(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "wal")
}

#[test]
fn nothing_is_acknowledged_or_seen_before_its_sync() {
    let (_, options) = watched();
    let store = block_on(Store::open(options)).unwrap();
    let c = store.collection("c").unwrap();
    block_on(c.put("{\"_id\":1}")).unwrap();
    let before = store.snapshot().seq();
    let writer = c.clone();
    let mut commit: Pin<Box<dyn Future<Output = Result<()>>>> =
        Box::pin(async move { writer.put("{\"_id\":2}").await.map(drop) });
    let poll = move || commit.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready();
    let poll = std::rc::Rc::new(RefCell::new(poll));
    assert!(!poll.borrow_mut()());
    let calls = Arc::new(std::sync::atomic::AtomicU32::new(0));
    let (early, reader, count) = (std::rc::Rc::clone(&poll), store.clone(), Arc::clone(&calls));
    watch(move |path, call| {
        if is_log(path) {
            assert!(!early.borrow_mut()(), "acknowledged before {call:?}");
            assert_eq!(reader.snapshot().seq(), before, "visible before {call:?}");
            count.fetch_add(1, Ordering::Relaxed);
        }
    });
    assert!(hooks::step_log(&store));
    HOOK.take();
    assert_eq!(calls.load(Ordering::Relaxed), 2, "one write, one sync");
    assert!(poll.borrow_mut()());
    assert_eq!(store.snapshot().seq(), before + 1);
}

/// But for those that make the log longer.
#[test]
fn a_commit_is_one_call_to_the_disk() {
    let (_, mut options) = watched();
    options.wal_file_bytes = 1 << 20;
    options.wal_grow_bytes = 64 << 10;
    let store = block_on(Store::open(options)).unwrap();
    let c = store.collection("c").unwrap();
    let calls = Arc::new(std::sync::Mutex::new(Vec::new()));
    let noted = Arc::clone(&calls);
    watch(move |path, call| {
        if is_log(path) {
            noted.lock().unwrap().push(call);
        }
    });
    let mut alone = 0;
    for n in 0..32 {
        block_on(c.put(&format!("{{\"_id\":{n}}}"))).unwrap();
        let calls = std::mem::take(&mut *calls.lock().unwrap());
        match calls[..] {
            [Call::WriteDurably(_)] => alone += 1,
            [Call::Write(_), Call::Sync] => {}
            _ => panic!("commit {n}: {calls:?}"),
        }
    }
    HOOK.take();
    // A group takes 4 KiB here, and the log grows by 16 of them.
    assert!(alone >= 28, "{alone} of 32");
}

/// The disk takes longer for two. Documents that are long beside a page still take two, rather than waste one.
#[test]
fn a_cold_document_is_one_page_and_pages_are_full() {
    let (_, mut options) = watched();
    options.memtable_bytes = 4 << 20;
    options.segment_bytes = 4 << 20;
    let store = block_on(Store::open(options.clone())).unwrap();
    let c = store.collection("c").unwrap();
    // Text that does not shrink, of 300 to 700 bytes.
    let text = |n: u64| {
        let mut x = n;
        let letter = |_| {
            x = x.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            char::from(b' ' + 3 + (x >> 33) as u8 % 89)
        };
        (0..300 + n % 401).map(letter).collect::<String>().replace('\\', "")
    };
    for n in 0..1000 {
        block_on(c.put(&serde_json::json!({"_id": n, "text": text(n)}).to_string())).unwrap();
    }
    block_on(store.checkpoint()).unwrap();
    drop(c);
    block_on(store.close()).unwrap();
    let store = block_on(Store::open(options)).unwrap();
    let c = store.collection("c").unwrap();
    let reads = Arc::new(std::sync::Mutex::new(BTreeMap::new()));
    let noted = Arc::clone(&reads);
    watch(move |path, call| {
        if let (Some("seg"), Call::Read(at, len)) =
            (path.extension().and_then(|extension| extension.to_str()), call)
        {
            noted.lock().unwrap().insert(at, len as u64);
        }
    });
    for n in 0..1000 {
        assert!(block_on(c.get(n)).unwrap().is_some());
    }
    HOOK.take();
    let reads = reads.lock().unwrap();
    let pages: u64 = reads.iter().map(|(at, len)| (at + len - 1) / 4096 - at / 4096 + 1).sum();
    let blocks = reads.len() as u64;
    assert!(blocks > 100 && pages <= blocks * 6 / 5, "{pages} pages, {blocks} blocks");
    let (at, len) = reads.last_key_value().unwrap();
    let bytes: u64 = reads.values().sum();
    assert!(bytes >= (at + len) * 9 / 10, "{bytes} bytes of {}", at + len);
}

#[test]
fn a_read_only_disk_is_named_and_can_be_read() {
    let (vfs, mut options) = watched();
    let store = block_on(Store::open(options.clone())).unwrap();
    let c = store.collection("c").unwrap();
    for i in 0..30 {
        block_on(c.put(&format!("{{\"_id\":{i},\"pad\":\"{}\"}}", "p".repeat(400)))).unwrap();
    }
    // There is a log to replay and something to tidy up.
    vfs.crash_after(Some(0));
    drop((c, store));
    vfs.kill_process();
    READ_ONLY.set(true);
    match block_on(Store::open(options.clone())) {
        Err(Error::Io { source, .. }) => {
            assert_eq!(source.kind(), io::ErrorKind::ReadOnlyFilesystem);
        }
        other => panic!("{other:?}"),
    }
    options.read_only = true;
    let read = |options: &Options| {
        let store = block_on(Store::open(options.clone())).unwrap();
        let c = store.collection("c").unwrap();
        assert!(options.read_only || block_on(c.put("{\"_id\":99}")).is_ok());
        block_on(c.scan(..).collect()).unwrap().len()
    };
    assert_eq!(read(&options), 30);
    READ_ONLY.set(false);
    options.read_only = false;
    assert_eq!(read(&options), 31, "nothing is lost");
}

#[test]
fn blocks_with_acknowledged_bytes_are_never_written_again() {
    let (vfs, options) = watched();
    let store = block_on(Store::open(options)).unwrap();
    let c = store.collection("c").unwrap();
    let disk = vfs.clone();
    watch(move |path, call| {
        if let (true, Call::Write(offset) | Call::WriteDurably(offset)) = (is_log(path), call) {
            let content = disk.contents(path).unwrap_or_default();
            let block = (offset / 4096 * 4096) as usize;
            let end = (block + 4096).min(content.len());
            let empty = content.get(block..end).is_none_or(|b| b.iter().all(|byte| *byte == 0));
            assert!(empty, "{path:?}: the block at {block} is written again at {offset}");
        }
    });
    for i in 0..8 {
        block_on(c.put(&format!("{{\"_id\":{i},\"pad\":\"{}\"}}", "p".repeat(i * 99)))).unwrap();
        hooks::mark(&store);
    }
    HOOK.take();
}

/// A sync in a new log file proves all of the old one; so that is synced before the new one begins.
#[test]
fn a_new_log_file_never_proves_what_is_not_on_the_disk() {
    let (vfs, env) = (SimVfs::new(), Arc::new(SimEnv::new(1)));
    let mut options = small_options(&vfs, &env);
    options.durability = Durability::Interval;
    // A full memtable would ask for a sync before.
    options.memtable_bytes = 1 << 20;
    let store = block_on(Store::open(options.clone())).unwrap();
    let c = store.collection("c").unwrap();
    let files = || vfs.files().into_iter().filter(|(path, _)| is_log(path)).count();
    let mut count = 0;
    while files() < 2 {
        block_on(c.put(&format!("{{\"_id\":{count},\"pad\":\"{}\"}}", "p".repeat(900)))).unwrap();
        count += 1;
    }
    hooks::mark(&store);
    vfs.crash_after(Some(0));
    drop((c, store));
    let mut choices = 0;
    vfs.fork().power_cut(&mut |_| {
        choices += 1;
        0
    });
    for dropped in 0..=choices {
        let fork = vfs.fork();
        let mut at = 0;
        fork.power_cut(&mut |n| {
            at += 1;
            if at - 1 == dropped { 0 } else { 1.min(n - 1) }
        });
        options.vfs = Arc::new(fork);
        let store = block_on(Store::open(options.clone())).unwrap();
        let found = block_on(store.collection("c").unwrap().scan(..).collect()).unwrap();
        assert_eq!(found.len(), count, "what a mark made durable is there");
    }
}

/// A group may straddle two memtables; of it only what is not in segments is read back.
#[test]
fn what_is_in_segments_is_not_replayed() {
    let (vfs, env) = (SimVfs::new(), Arc::new(SimEnv::new(1)));
    let store = block_on(Store::open(small_options(&vfs, &env))).unwrap();
    let c = store.collection("c").unwrap();
    block_on(c.put("{\"_id\":0}")).unwrap();
    block_on(store.checkpoint()).unwrap();
    let put = |c: &Collection, text: String| {
        let c = c.clone();
        let mut put = Box::pin(async move { c.put(text.as_str()).await });
        assert!(put.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        put
    };
    let large = put(&c, format!("{{\"_id\":1,\"pad\":\"{}\"}}", "p".repeat(3000)));
    hooks::rotate(&store);
    let small = put(&c, "{\"_id\":2}".to_owned());
    assert!(hooks::step_log(&store) && hooks::step_flush(&store).unwrap());
    vfs.crash_after(Some(0));
    drop((large, small, c, store));
    vfs.kill_process();
    let store = block_on(Store::open(small_options(&vfs, &env))).unwrap();
    let replayed = store.stats().memtable_bytes;
    assert!((1..1000).contains(&replayed), "{replayed} bytes were replayed");
    assert_eq!(block_on(store.collection("c").unwrap().scan(..).collect()).unwrap().len(), 3);
}

/// The mark of a load that was never named has the last number; what is read by that number is kept by it.
#[test]
fn numbers_never_go_back() {
    let (vfs, options) = watched();
    let store = block_on(Store::open(options.clone())).unwrap();
    let c = store.collection("c").unwrap();
    block_on(c.put("{\"_id\":1,\"v\":1}")).unwrap();
    let (maker, mut context) = (c.clone(), Context::from_waker(Waker::noop()));
    let mut made = Box::pin(async move { maker.create_index(Index::on("v")).await });
    while c.indexes().is_empty() {
        assert!(made.as_mut().poll(&mut context).is_pending());
        hooks::step_log(&store);
    }
    block_on(store.checkpoint()).unwrap();
    let mut load = block_on(store.load()).unwrap();
    load.put(&c, "{\"_id\":2,\"v\":2}").unwrap();
    let disk = vfs.clone();
    watch(move |path, call| {
        if is_manifest(path) && matches!(call, Call::Write(_)) {
            disk.crash_after(Some(0));
        }
    });
    block_on(load.finish()).unwrap_err();
    HOOK.take();
    drop((made, c, store));
    vfs.kill_process();

    let store = block_on(Store::open(options.clone())).unwrap();
    let last = store.snapshot().seq();
    let is_named = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let named = Arc::clone(&is_named);
    watch(move |path, _| {
        named.fetch_or(is_manifest(path), Ordering::Relaxed);
    });
    while !is_named.load(Ordering::Relaxed) {
        assert!(hooks::step_indexes(&store), "the entries of the index are named");
    }
    HOOK.take();
    vfs.crash_after(Some(0));
    drop(store);
    vfs.kill_process();

    let store = block_on(Store::open(options)).unwrap();
    assert!(store.snapshot().seq() >= last, "{} after {last}", store.snapshot().seq());
    let c = store.collection("c").unwrap();
    block_on(c.put("{\"_id\":1,\"v\":3}")).unwrap();
    while hooks::step_indexes(&store) {}
    assert_eq!(block_on(c.verify_indexes()).unwrap(), 1);
}

/// A deletion has to outlive what it hides, on whichever level that lies.
#[test]
fn what_is_deleted_never_comes_back() {
    let (vfs, env) = (SimVfs::new(), Arc::new(SimEnv::new(1)));
    let store = block_on(Store::open(small_options(&vfs, &env))).unwrap();
    let c = store.collection("c").unwrap();
    let settle = |what: &str, want: usize| {
        hooks::rotate(&store);
        while hooks::step_flush(&store).unwrap() {}
        loop {
            let found = block_on(c.scan(..).collect()).unwrap().len();
            assert_eq!(found, want, "{what}: {:?}", store.stats().segments);
            if !hooks::step_compact(&store).unwrap() {
                break;
            }
        }
    };
    let mut noise = 1_u64;
    let mut pad = || {
        let mut word = || {
            noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            format!("{:016x}", noise ^ noise >> 29)
        };
        (0..20).map(|_| word()).collect::<String>()
    };
    for i in 0..400 {
        block_on(c.put(&format!("{{\"_id\":{i},\"pad\":\"{}\"}}", pad()))).unwrap();
        if i % 20 == 19 {
            settle("filling", i + 1);
        }
    }
    assert!(store.stats().segments.iter().filter(|count| **count > 0).count() > 1);
    for i in 0..400 {
        assert!(block_on(c.delete(i as i64)).unwrap());
        if i % 20 == 19 {
            settle("deleting", 399 - i);
        }
    }
}
