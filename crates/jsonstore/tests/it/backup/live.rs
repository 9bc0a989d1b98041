//! With threads, on a real disk: commits do not wait for a backup.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use hearth_jsonstore::{
    Archive, BackupOptions, Backups, LockGuard, OpenMode, Options, RealVfs, RestoreOptions,
    RestorePoint, Store, VFile, Vfs, block_on,
};

/// Every call that concerns the backup waits until one more commit was acknowledged meanwhile. A
/// backup that held a lock that commits need would wait for ever.
#[derive(Debug)]
struct Gate {
    folder: PathBuf,
    commits: AtomicU64,
    passed: AtomicU64,
    failed: AtomicBool,
}

impl Gate {
    fn pass(&self) {
        let seen = self.commits.load(Ordering::SeqCst);
        let begun = Instant::now();
        while self.commits.load(Ordering::SeqCst) == seen {
            if begun.elapsed() > Duration::from_secs(20) {
                self.failed.store(true, Ordering::SeqCst);
                return;
            }
            std::thread::yield_now();
        }
        self.passed.fetch_add(1, Ordering::SeqCst);
    }
}

#[derive(Debug)]
struct GatedVfs(Arc<Gate>);

#[derive(Debug)]
struct GatedFile(Arc<dyn VFile>, Arc<Gate>);

impl Vfs for GatedVfs {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn VFile>> {
        if path.starts_with(&self.0.folder) {
            self.0.pass();
            return Ok(Arc::new(GatedFile(RealVfs.open(path, mode)?, Arc::clone(&self.0))));
        }
        RealVfs.open(path, mode)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        if to.starts_with(&self.0.folder) {
            self.0.pass();
        }
        RealVfs.rename(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        RealVfs.remove(path)
    }
    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        if path.starts_with(&self.0.folder) {
            self.0.pass();
        }
        RealVfs.sync_dir(path)
    }
    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        RealVfs.list(path)
    }
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        RealVfs.create_dir(path)
    }
    fn lock(&self, path: &Path) -> io::Result<LockGuard> {
        RealVfs.lock(path)
    }
    fn free_space(&self, path: &Path) -> io::Result<u64> {
        RealVfs.free_space(path)
    }
}

impl VFile for GatedFile {
    fn pread(&self, into: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0.pread(into, offset)
    }
    fn pwrite(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        self.1.pass();
        self.0.pwrite(bytes, offset)
    }
    fn sync_data(&self) -> io::Result<()> {
        self.1.pass();
        self.0.sync_data()
    }
    fn sync_all(&self) -> io::Result<()> {
        self.1.pass();
        self.0.sync_all()
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }
}

fn document(id: u64, n: u64) -> String {
    format!("{{\"_id\":{id},\"n\":{n},\"text\":\"{}\"}}", "some text ".repeat(40))
}

#[test]
fn commits_never_wait_for_a_backup() {
    let dir = tempfile::tempdir().unwrap();
    let gate = Arc::new(Gate {
        folder: dir.path().join("backups"),
        commits: AtomicU64::new(0),
        passed: AtomicU64::new(0),
        failed: AtomicBool::new(false),
    });
    let mut options = Options::new(dir.path().join("store"));
    options.vfs = Arc::new(GatedVfs(Arc::clone(&gate)));
    options.memtable_bytes = 512 << 10;
    options.wal_file_bytes = 1 << 20;
    options.archive = Some(Archive::new(dir.path().join("archive")));
    let store = block_on(Store::open(options)).unwrap();
    let c = store.collection("c").unwrap();
    for id in 0..2000 {
        block_on(c.put(&document(id, 0))).unwrap();
    }
    let stop = AtomicBool::new(false);
    let counts: [AtomicU64; 2] = Default::default();
    std::thread::scope(|scope| {
        for (writer, count) in counts.iter().enumerate() {
            let (c, gate, stop) = (c.clone(), &gate, &stop);
            scope.spawn(move || {
                while !stop.load(Ordering::SeqCst) {
                    let n = count.load(Ordering::SeqCst) + 1;
                    // Each writer numbers its commits in a document of its own.
                    block_on(c.put(&document(10_000 + writer as u64, n))).unwrap();
                    count.store(n, Ordering::SeqCst);
                    gate.commits.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        let backups = gate.folder.clone();
        let made: Vec<_> = (0..2)
            .map(|_| block_on(store.backup(BackupOptions::new(&backups))).unwrap().info)
            .collect();
        let acked: Vec<u64> = counts.iter().map(|n| n.load(Ordering::SeqCst)).collect();
        stop.store(true, Ordering::SeqCst);
        assert!(!gate.failed.load(Ordering::SeqCst), "a commit waited for the backup");
        let passed = gate.passed.load(Ordering::SeqCst);
        assert!(passed > 20 && made[1].seq > made[0].seq, "{passed} calls, {made:?}");
        println!("{passed} calls of the backup, a commit during each; {acked:?} commits");
    });
    // Each backup has, of each writer, everything up to some commit; together all up to `seq`.
    for (to, name) in [(RestorePoint::Backup, "backup"), (RestorePoint::Latest, "latest")] {
        let target = dir.path().join(name);
        let mut options = RestoreOptions::new(&target);
        options.to = to;
        options.archive = Some(dir.path().join("archive"));
        options.log = Some(dir.path().join("store"));
        let report = block_on(Backups::new(&gate.folder).restore(options)).unwrap();
        let restored = block_on(Store::open(Options::new(&target))).unwrap();
        let c = restored.collection("c").unwrap();
        let written: u64 = (10_000..10_002)
            .map(|id| block_on(c.get(id)).unwrap().map_or(0, |d| d.value()["n"].as_u64().unwrap()))
            .sum();
        // One commit for the collection's name, then one for each document.
        assert_eq!(1 + 2000 + written, report.seq, "{name}");
        let all: u64 = counts.iter().map(|n| n.load(Ordering::SeqCst)).sum();
        assert!(to == RestorePoint::Backup || written == all, "{name}: {written} of {all}");
        block_on(restored.verify()).unwrap();
    }
}

/// The log of a store in use: what it lets go between two looks is read from the archive.
#[test]
fn the_log_may_go_while_it_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let (folder, archive) = (dir.path().join("backups"), dir.path().join("archive"));
    let mut options = Options::new(dir.path().join("store"));
    options.wal_file_bytes = 1 << 20;
    options.archive = Some(Archive::new(&archive));
    let store = block_on(Store::open(options)).unwrap();
    let c = store.collection("c").unwrap();
    block_on(c.put(&document(0, 0))).unwrap();
    block_on(store.backup(BackupOptions::new(&folder))).unwrap();
    let archived = || std::fs::read_dir(&archive).map_or(0, Iterator::count);
    let begun = Instant::now();
    let mut last = 0;
    while archived() < 3 {
        last += 1;
        block_on(c.put(&document(last, 0))).unwrap();
        assert!(begun.elapsed() < Duration::from_secs(60), "nothing is archived");
    }
    for (name, with_archive) in [("kept", true), ("lost", false)] {
        let log = dir.path().join(format!("{name}-log"));
        std::fs::create_dir_all(log.join("wal")).unwrap();
        for file in std::fs::read_dir(dir.path().join("store/wal")).unwrap() {
            let file = file.unwrap();
            std::fs::copy(file.path(), log.join("wal").join(file.file_name())).unwrap();
        }
        let mut restore = RestoreOptions::new(dir.path().join(name));
        restore.to = RestorePoint::Latest;
        restore.archive = with_archive.then(|| archive.clone());
        restore.log = Some(log.clone());
        let goes = log.join("wal/000002.wal");
        assert!(goes.exists());
        let let_go = move |progress: hearth_jsonstore::BackupProgress| {
            if progress.step == hearth_jsonstore::BackupStep::Log {
                let _ = std::fs::remove_file(&goes);
            }
        };
        let done = block_on(Backups::new(&folder).restore_with_progress(restore, let_go));
        if with_archive {
            done.unwrap();
            let restored = block_on(Store::open(Options::new(dir.path().join(name)))).unwrap();
            let c = restored.collection("c").unwrap();
            assert!(block_on(c.get(last)).unwrap().is_some());
        } else {
            let error = done.unwrap_err().to_string();
            assert!(error.contains("log"), "{error}");
        }
    }
}
