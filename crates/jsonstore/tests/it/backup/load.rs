//! What a backup costs those who write meanwhile, and how long a restore takes. With `E2E_LONG` on the
//! scale, and with the limits, of the figures in `docs/bench/store.md`; otherwise only that it happens.

use std::{
    path::Path,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use hearth_jsonstore::{
    BackupOptions, BackupProgress, BackupStep, Backups, Collection, Options, RestoreOptions, Store,
    block_on,
};

const WRITERS: u64 = 8;
/// What a backup may do to the slowest commit of a hundred.
const P99_FACTOR_MAX: f64 = 2.0;
/// A restore tells how far it is at least so often: of the log, with every file of it.
const LOG_BYTES_BETWEEN_REPORTS_MAX: u64 = 64 << 20;
const SEGMENT_BYTES_BETWEEN_REPORTS_MAX: u64 = 4 << 20;

fn is_long() -> bool {
    std::env::var_os("E2E_LONG").is_some()
}

/// Text that compression takes a quarter off.
fn text(seed: u64, bytes: usize) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let digit = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        char::from(DIGITS[(state >> 58) as usize])
    };
    (0..bytes).map(digit).collect()
}

fn fill(c: &Collection, from: u64, count: u64, bytes: usize) {
    let document = |id| format!("{{\"_id\":{id},\"text\":\"{}\"}}", text(id, bytes));
    let all: Vec<String> = (from..from + count).map(document).collect();
    block_on(c.insert_many(&all)).unwrap();
}

/// Writers that do nothing else, for so long; what each commit took, and how many backups were made.
fn write(c: &Collection, ids: u64, time: Duration, backup: Option<&dyn Fn()>) -> (Vec<u32>, u64) {
    let stop = AtomicBool::new(false);
    let seed = AtomicU64::new(1);
    let took = Mutex::new(Vec::new());
    let mut backups = 0;
    std::thread::scope(|scope| {
        for _ in 0..WRITERS {
            scope.spawn(|| {
                let mut own = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    let n = seed.fetch_add(1, Ordering::Relaxed);
                    let id = n.wrapping_mul(0x9E37_79B9_7F4A_7C15) % ids;
                    let document = format!("{{\"_id\":{id},\"text\":\"{}\"}}", text(n, 850));
                    let begun = Instant::now();
                    block_on(c.put(&document)).unwrap();
                    own.push(begun.elapsed().as_micros() as u32);
                }
                took.lock().unwrap().extend(own);
            });
        }
        let begun = Instant::now();
        while begun.elapsed() < time {
            match backup {
                Some(backup) => {
                    backup();
                    backups += 1;
                }
                None => std::thread::sleep(time / 20),
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    let mut took = took.into_inner().unwrap();
    took.sort_unstable();
    (took, backups)
}

fn p99(took: &[u32]) -> f64 {
    f64::from(took[took.len() * 99 / 100]) / 1e3
}

#[test]
fn a_backup_under_full_load_is_hardly_felt() {
    let (documents, time, rounds) = if is_long() {
        (250_000, Duration::from_secs(8), 3)
    } else {
        (3000, Duration::from_millis(200), 1)
    };
    let dir = tempfile::tempdir().unwrap();
    let store = block_on(Store::open(Options::new(dir.path().join("store")))).unwrap();
    let c = store.collection("c").unwrap();
    for from in (0..documents).step_by(1000) {
        fill(&c, from, 1000, 850);
    }
    let folder = dir.path().join("backups");
    let made = AtomicU64::new(0);
    let bytes = AtomicU64::new(0);
    let backup = || {
        // Of the earlier ones only the last is needed.
        let _ = std::fs::remove_dir_all(&folder);
        let report = block_on(store.backup(BackupOptions::new(&folder))).unwrap();
        bytes.store(report.info.bytes, Ordering::Relaxed);
        made.fetch_add(1, Ordering::Relaxed);
    };
    let mut pairs = Vec::new();
    for _ in 0..rounds {
        let (quiet, _) = write(&c, documents, time, None);
        let (busy, backups) = write(&c, documents, time, Some(&backup));
        assert!(backups > 0 && busy.len() as u64 > WRITERS, "{} commits", busy.len());
        println!(
            "{} commits, p99 {:.2} ms; with {backups} backups of {} MB {} commits, p99 {:.2} ms",
            quiet.len(),
            p99(&quiet),
            bytes.load(Ordering::Relaxed) >> 20,
            busy.len(),
            p99(&busy),
        );
        pairs.push(p99(&busy) / p99(&quiet));
    }
    pairs.sort_by(f64::total_cmp);
    let factor = pairs[pairs.len() / 2];
    println!("p99 grows by a factor of {factor:.2} (median of {rounds})");
    assert!(!is_long() || factor <= P99_FACTOR_MAX, "{pairs:?}");

    let target = dir.path().join("restored");
    block_on(Backups::new(&folder).restore(RestoreOptions::new(&target))).unwrap();
    let restored = block_on(Store::open(Options::new(&target))).unwrap();
    assert_eq!(block_on(restored.verify()).unwrap().documents, documents);
}

#[test]
fn a_restore_tells_how_far_it_is() {
    let (bytes_min, each) = if is_long() { (1 << 30, 16_000) } else { (12 << 20, 4000) };
    let dir = tempfile::tempdir().unwrap();
    let (path, folder) = (dir.path().join("store"), dir.path().join("backups"));
    let store = block_on(Store::open(Options::new(&path))).unwrap();
    let c = store.collection("c").unwrap();
    let mut documents = 0;
    while documents * each * 3 / 4 < bytes_min {
        fill(&c, documents, 256, each as usize);
        documents += 256;
    }
    let begun = Instant::now();
    let info = block_on(store.backup(BackupOptions::new(&folder))).unwrap().info;
    println!("backup of {} MB in {:.1?}", info.bytes >> 20, begun.elapsed());
    assert!(info.bytes >= bytes_min, "{} bytes", info.bytes);
    block_on(store.close()).unwrap();
    std::fs::remove_dir_all(&path).unwrap();

    let target = dir.path().join("restored");
    let begun = Instant::now();
    let seen = restore(&folder, &target);
    let took = begun.elapsed();
    println!(
        "restore of {} MB in {took:.1?}, {:.0} MB/s, {} reports",
        info.bytes >> 20,
        info.bytes as f64 / 1e6 / took.as_secs_f64(),
        seen.len()
    );
    for (step, bytes_max) in [
        (BackupStep::Log, LOG_BYTES_BETWEEN_REPORTS_MAX),
        (BackupStep::Segments, SEGMENT_BYTES_BETWEEN_REPORTS_MAX),
    ] {
        let of_step: Vec<&BackupProgress> = seen.iter().filter(|p| p.step == step).collect();
        let (first, last) = (of_step[0], of_step[of_step.len() - 1]);
        assert!(first.done <= bytes_max && last.done == last.total, "{last:?}");
        for pair in of_step.windows(2) {
            let step = pair[1].done.checked_sub(pair[0].done).expect("it never goes back");
            assert!(step <= bytes_max, "{pair:?}");
            assert_eq!(pair[0].total, pair[1].total);
        }
    }
    let begun = Instant::now();
    let restored = block_on(Store::open(Options::new(&target))).unwrap();
    println!("opened in {:.1?}", begun.elapsed());
    let count = restored.collection("c").unwrap().find(hearth_jsonstore::Filter::all());
    assert_eq!(block_on(count.count()).unwrap(), documents);
}

fn restore(folder: &Path, target: &Path) -> Vec<BackupProgress> {
    let seen = std::sync::Arc::new(Mutex::new(Vec::new()));
    let noted = std::sync::Arc::clone(&seen);
    let tell = move |progress| noted.lock().unwrap().push(progress);
    let options = RestoreOptions::new(target);
    block_on(Backups::new(folder).restore_with_progress(options, tell)).unwrap();
    let mut seen = seen.lock().unwrap();
    std::mem::take(&mut *seen)
}
