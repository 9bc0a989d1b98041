//! loom models: every interleaving (up to a number of preemptions) of the real code that threads
//! meet in. `cargo xtask loom` runs them.

use std::{
    path::Path,
    sync::Arc,
    task::{Poll, Wake, Waker},
    time::Duration,
};

use bytes::Bytes;
use loom::{
    sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    thread::{self, Thread},
};

use crate::{
    cache::{CachedDocument, DocumentCache, VersionTable},
    commit::{Log, Request, encode},
    expiry::{Hide, Stamp},
    frame::ALIGN,
    lock::{LockId, LockManager, LockMode, Wait},
    lsm::GcRule,
    memtable::Memtable,
    sync::Mutex,
    testing::{SimEnv, SimVfs},
    vfs::Vfs,
    wal::{WalConfig, WalWriter, recover},
};

fn explore(preemptions: usize, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(model);
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Blocks the model's thread as an executor would.
fn block_on<T>(mut poll: impl FnMut(&Waker) -> Poll<T>) -> T {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    loop {
        match poll(&waker) {
            Poll::Ready(value) => return value,
            Poll::Pending => thread::park(),
        }
    }
}

fn wal_config() -> WalConfig {
    let (file_bytes, grow_bytes) = (48 << 10, 8 << 10);
    WalConfig { dir: "/w".into(), file_bytes, grow_bytes, store_id: [7; 16], key: None }
}

fn new_log() -> (Arc<Log>, SimVfs) {
    let vfs = SimVfs::new();
    let shared: Arc<dyn Vfs> = Arc::new(vfs.clone());
    let wal = WalWriter::create(shared, Arc::new(SimEnv::new(1)), wal_config());
    vfs.sync_dir(Path::new("/")).expect("the simulated disk works");
    let log = Log::new(wal.expect("the simulated disk works"), 0, Arc::new(Memtable::new()));
    (Arc::new(log), vfs)
}

/// Which commits have reached the memtable.
type Applied = Arc<[AtomicBool; 2]>;

fn commit(log: &Log, applied: &Applied, is_async: bool) {
    let request = Request {
        payload: encode(&[], 0, 0),
        reads: None,
        sync: true,
        notices: Vec::new(),
        is_async,
    };
    let (ticket, _) = log.submit(request).expect("nothing fails here");
    applied[ticket.seq as usize - 1].store(true, Ordering::Relaxed);
    ticket.applied();
    if is_async {
        let done = block_on(|waker| ticket.poll(waker).map_or(Poll::Pending, Poll::Ready));
        assert!(done);
    } else {
        log.wait(&ticket).expect("nothing fails here");
    }
    assert!(log.visible() >= ticket.seq, "acknowledged and not visible");
}

/// What a reader may see is in the memtable, and a power cut does not take it.
fn check_visible(log: &Log, vfs: &SimVfs, applied: &Applied) {
    let visible = log.visible();
    for seq in 0..visible as usize {
        assert!(applied[seq].load(Ordering::Relaxed), "visible and not applied");
    }
    let disk = vfs.fork();
    disk.power_cut(&mut |_| 0);
    let config = wal_config();
    let floor = config.file_bytes + ALIGN;
    let found = recover(&disk, &config, floor, false, false, &mut |_, _| {});
    let found = found.expect("nothing is damaged").commits;
    assert!(found.len() as u64 >= visible, "visible and not durable");
}

#[test]
fn two_who_block_share_the_lead() {
    explore(3, || {
        let (log, vfs) = new_log();
        let applied = Applied::default();
        let threads = [(); 2].map(|()| {
            let (log, applied) = (Arc::clone(&log), Arc::clone(&applied));
            thread::spawn(move || commit(&log, &applied, false))
        });
        check_visible(&log, &vfs, &applied);
        for thread in threads {
            thread.join().expect("no panic");
        }
        assert_eq!(log.visible(), 2);
        check_visible(&log, &vfs, &applied);
    });
}

#[test]
fn the_log_thread_serves_who_does_not_block() {
    explore(2, || {
        let (log, vfs) = new_log();
        let applied = Applied::default();
        let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let server = {
            let (log, stop) = (Arc::clone(&log), Arc::clone(&stop));
            thread::spawn(move || log.serve(&stop))
        };
        let future = {
            let (log, applied) = (Arc::clone(&log), Arc::clone(&applied));
            thread::spawn(move || commit(&log, &applied, true))
        };
        commit(&log, &applied, false);
        future.join().expect("no panic");
        check_visible(&log, &vfs, &applied);
        stop.store(true, Ordering::SeqCst);
        log.wake_server();
        server.join().expect("no panic");
        assert_eq!(log.visible(), 2);
    });
}

/// Versions of one key, newest last, and the snapshot below which some may be gone.
type Versions = Arc<Mutex<(Vec<u64>, u64)>>;

fn read(versions: &Versions, snapshot: u64) -> (Option<u64>, u64) {
    let guard = versions.lock();
    (guard.0.iter().rev().find(|seq| **seq <= snapshot).copied(), guard.1)
}

/// As a flush or a compaction does it.
fn collect_garbage(log: &Log, versions: &Versions) {
    let (boundaries, visible) = log.boundaries();
    let rule = GcRule { boundaries };
    let mut guard = versions.lock();
    let mut newer = None;
    let mut kept: Vec<u64> = Vec::new();
    for seq in guard.0.iter().rev().copied() {
        if rule.is_needed(seq, newer) {
            kept.insert(0, seq);
        }
        newer = Some(seq);
    }
    let gc_seq = guard.1.max(visible);
    *guard = (kept, gc_seq);
}

#[test]
fn garbage_collection_spares_what_a_snapshot_sees() {
    explore(3, || {
        let (log, _) = new_log();
        let versions: Versions = Arc::new(Mutex::new((vec![0], 0)));
        let writer = {
            let (log, versions) = (Arc::clone(&log), Arc::clone(&versions));
            thread::spawn(move || {
                for seq in 1..=2 {
                    versions.lock().0.push(seq);
                    log.publish_to(seq);
                }
            })
        };
        let collector = {
            let (log, versions) = (Arc::clone(&log), Arc::clone(&versions));
            thread::spawn(move || collect_garbage(&log, &versions))
        };
        // Registered: whatever was visible then stays.
        let held = log.hold(false, 0, 0);
        assert_eq!(read(&versions, held).0, Some(held));
        // Not registered: looks again if garbage was collected beyond it.
        loop {
            let snapshot = log.visible();
            let (found, gc_seq) = read(&versions, snapshot);
            if snapshot >= gc_seq {
                assert_eq!(found, Some(snapshot));
                break;
            }
            thread::yield_now();
        }
        assert_eq!(read(&versions, held).0, Some(held));
        log.release(held, false);
        writer.join().expect("no panic");
        collector.join().expect("no panic");
        collect_garbage(&log, &versions);
        assert_eq!(versions.lock().0, [2], "nobody holds anything any more");
    });
}

fn record() -> LockId {
    LockId::Record(1, Bytes::from_static(b"k"))
}

fn wait(wait: Option<Wait>) -> crate::Result<()> {
    let Some(mut wait) = wait else { return Ok(()) };
    block_on(|waker| wait.poll(waker))
}

/// Holds the lock while nobody else does.
fn exclusively(locks: &Arc<LockManager>, inside: &AtomicU32) {
    let owner = locks.owner(0);
    let far = Duration::from_secs(1);
    if wait(locks.request(&owner, record(), LockMode::Exclusive, far)).is_ok() {
        assert_eq!(inside.fetch_add(1, Ordering::Relaxed), 0, "two hold an exclusive lock");
        inside.fetch_sub(1, Ordering::Relaxed);
    }
    locks.release_all(&owner);
}

#[test]
fn a_lock_goes_to_one_at_a_time_and_no_wake_is_lost() {
    explore(3, || {
        let (locks, inside) = (Arc::new(LockManager::new()), Arc::new(AtomicU32::new(0)));
        let threads = [(); 2].map(|()| {
            let (locks, inside) = (Arc::clone(&locks), Arc::clone(&inside));
            thread::spawn(move || exclusively(&locks, &inside))
        });
        exclusively(&locks, &inside);
        for thread in threads {
            thread.join().expect("no panic");
        }
        assert_eq!((locks.entries(), locks.has_waiters()), (0, false));
    });
}

#[test]
fn a_wait_given_up_or_out_of_time_leaves_nothing() {
    explore(3, || {
        let (locks, inside) = (Arc::new(LockManager::new()), Arc::new(AtomicU32::new(0)));
        let holder = {
            let (locks, inside) = (Arc::clone(&locks), Arc::clone(&inside));
            thread::spawn(move || exclusively(&locks, &inside))
        };
        let clock = {
            let locks = Arc::clone(&locks);
            thread::spawn(move || locks.expire(Duration::from_secs(1)))
        };
        // Looks once and goes, whatever it was granted meanwhile.
        let owner = locks.owner(0);
        let mut given_up =
            locks.request(&owner, record(), LockMode::Exclusive, Duration::from_secs(2));
        if let Some(wait) = &mut given_up {
            let _ = wait.poll(Waker::noop());
        }
        drop(given_up);
        locks.release_all(&owner);
        holder.join().expect("no panic");
        clock.join().expect("no panic");
        assert_eq!((locks.entries(), locks.has_waiters()), (0, false));
    });
}

#[test]
fn the_cache_never_shows_what_was_written_over() {
    explore(3, || {
        let (cache, versions) = (Arc::new(DocumentCache::new(0)), Arc::new(VersionTable::new(0)));
        let tree: Versions = Arc::new(Mutex::new((vec![0], 0)));
        let visible = Arc::new(AtomicU64::new(0));
        let look = {
            let (cache, versions) = (Arc::clone(&cache), Arc::clone(&versions));
            let (tree, visible) = (Arc::clone(&tree), Arc::clone(&visible));
            move || {
                let snapshot = visible.load(Ordering::SeqCst);
                let all = Hide::nothing();
                let seq = match cache.get(&versions, 1, b"k", 9, snapshot, &all).flatten() {
                    Some((seq, _)) => seq,
                    None => {
                        let seq = read(&tree, snapshot).0.expect("there is always a version");
                        let json = Bytes::from_static(b"{}");
                        let stamp = Stamp::default();
                        let cached =
                            |json| CachedDocument { seq, loaded_at: snapshot, stamp, json };
                        cache.insert(1, b"k", 9, &json, 1 << 20, cached);
                        seq
                    }
                };
                assert_eq!(seq, snapshot, "not the newest version of the snapshot");
            }
        };
        let reader = {
            let look = look.clone();
            thread::spawn(move || {
                look();
                look();
            })
        };
        let writer = {
            let (versions, tree, visible) =
                (Arc::clone(&versions), Arc::clone(&tree), Arc::clone(&visible));
            thread::spawn(move || {
                versions.note(9, 1);
                tree.lock().0.push(1);
                visible.store(1, Ordering::SeqCst);
            })
        };
        look();
        reader.join().expect("no panic");
        writer.join().expect("no panic");
        look();
    });
}
