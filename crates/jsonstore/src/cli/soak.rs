//! A store larger than memory: how fast it opens, what readers wait while it compacts, and how much
//! more space it takes than its documents need.

use std::{
    path::Path,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::{Duration, Instant},
};

use crate::{Collection, Options, Store, block_on};
use anyhow::{Context, Result};

/// Text of a document; it hardly compresses, so that bytes on the disk are bytes of documents.
const TEXT_BYTES: usize = 8000;
const WRITERS: u64 = 8;

/// Fills the store, then overwrites documents at random while others are read.
pub(crate) fn run(options: &Options, gigabytes: f64, seconds: u64) -> Result<()> {
    let documents = (gigabytes * 1e9 / (TEXT_BYTES as f64 * 0.78)) as u64;
    let store = block_on(Store::open(options.clone()))?;
    if block_on(store.collection("soak")?.get(documents - 1))?.is_none() {
        fill(&store, documents)?;
    }
    block_on(store.close())?;
    let found = disk_bytes(&options.path)?;
    println!("{documents} documents, {:.2} GB on disk", found as f64 / 1e9);

    let start = Instant::now();
    let store = block_on(Store::open(options.clone()))?;
    let collection = store.collection("soak")?;
    let opened = start.elapsed();
    let loaded = loaded_bytes(&store, found)?;
    block_on(collection.get(documents / 2))?.context("the middle document")?;
    println!("clean open {opened:.1?}, first read after {:.1?}", start.elapsed());

    let duration = Duration::from_secs(seconds);
    let quiet = read_for(&collection, documents, duration / 4)?;
    println!("reads, nobody writes        {}", show(&quiet));
    let before = store.stats().background;
    let (stop, written) = (AtomicBool::new(false), AtomicU64::new(0));
    let busy = std::thread::scope(|scope| {
        let (collection, stop, written) = (&collection, &stop, &written);
        let writer = |seed| move || overwrite(collection, documents, seed, stop, written);
        let writers: Vec<_> = (0..WRITERS).map(|seed| scope.spawn(writer(seed))).collect();
        let busy = read_for(collection, documents, duration);
        stop.store(true, Ordering::Relaxed);
        writers.into_iter().try_for_each(|writer| writer.join().unwrap_or(Ok(())))?;
        busy
    })?;
    let after = store.stats();
    println!("reads, overwriting          {}", show(&busy));
    println!(
        "meanwhile {} documents written, {} flushes, {} compactions of {:.2} GB, {} stalls",
        written.load(Ordering::Relaxed),
        after.background[0] - before[0],
        after.background[1] - before[1],
        (after.background[2] - before[2]) as f64 / 1e9,
        after.stalls
    );
    let busiest = disk_bytes(&options.path)?;
    settle(&store);
    block_on(store.close())?;
    let settled = disk_bytes(&options.path)?;
    let ratio = |bytes: u64| bytes as f64 / loaded as f64;
    println!(
        "space amplification {:.3} at the end of the writing, {:.3} settled",
        ratio(busiest),
        ratio(settled)
    );
    Ok(())
}

/// Writes this much log that no segment holds, and dies.
pub(crate) fn die_with_log(mut options: Options, mebibytes: u64) -> Result<()> {
    options.memtable_bytes = 4 << 30;
    options.wal_bytes_max = 4 << 30;
    let store = block_on(Store::open(options))?;
    let collection = store.collection("soak")?;
    let goal = store.stats().log_bytes_written + (mebibytes << 20);
    let next = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                while store.stats().log_bytes_written < goal {
                    let id = next.fetch_add(1, Ordering::Relaxed);
                    // 0.9 KB, as in the comparison with other stores.
                    if let Err(e) = block_on(collection.put(&document(id, 1, 850))) {
                        eprintln!("{e}");
                        return;
                    }
                }
            });
        }
    });
    let bytes = store.stats().log_bytes_written;
    println!("{} commits, {:.0} MiB of log; dying", next.into_inner(), bytes as f64 / 1048576.0);
    std::process::abort()
}

/// What the documents took when each was there once; noted at the first run.
fn loaded_bytes(store: &Store, found: u64) -> Result<u64> {
    let facts = store.collection("soak-facts")?;
    if let Some(fact) = block_on(facts.get("loaded"))? {
        return fact.value()["bytes"].as_u64().context("the fact is a number");
    }
    block_on(facts.put(&format!("{{\"_id\":\"loaded\",\"bytes\":{found}}}")))?;
    Ok(found)
}

fn fill(store: &Store, documents: u64) -> Result<()> {
    let bar = super::bar("documents loaded");
    bar.set_length(documents);
    let start = Instant::now();
    let collection = store.collection("soak")?;
    let mut load = block_on(store.load())?;
    for id in 0..documents {
        load.put(&collection, &document(id, 0, TEXT_BYTES))?;
        if id % 1000 == 0 {
            bar.set_position(id);
        }
    }
    block_on(load.finish())?;
    bar.finish_and_clear();
    println!("loaded in {:.0?}", start.elapsed());
    Ok(())
}

/// Reads documents at random; returns the latencies, sorted.
fn read_for(collection: &Collection, documents: u64, duration: Duration) -> Result<Vec<Duration>> {
    let (start, mut random) = (Instant::now(), 7);
    let mut all = Vec::new();
    while start.elapsed() < duration {
        let id = next(&mut random) % documents;
        let begun = Instant::now();
        block_on(collection.get(id))?.context("a document is missing")?;
        all.push(begun.elapsed());
    }
    all.sort_unstable();
    Ok(all)
}

fn overwrite(
    collection: &Collection,
    documents: u64,
    seed: u64,
    stop: &AtomicBool,
    written: &AtomicU64,
) -> crate::Result<()> {
    let mut random = 99 + seed;
    while !stop.load(Ordering::Relaxed) {
        let id = next(&mut random) % documents;
        block_on(collection.put(&document(id, random, TEXT_BYTES)))?;
        written.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

/// Waits until no compaction was finished for a while.
fn settle(store: &Store) {
    let (mut last, mut since) = (store.stats().background, Instant::now());
    let start = Instant::now();
    while since.elapsed() < Duration::from_secs(30) && start.elapsed() < Duration::from_secs(600) {
        std::thread::sleep(Duration::from_millis(200));
        let now = store.stats().background;
        if now != last {
            (last, since) = (now, Instant::now());
        }
    }
}

fn show(sorted: &[Duration]) -> String {
    let at = |part: f64| sorted.get((sorted.len() as f64 * part) as usize).copied();
    let ends =
        [at(0.5), at(0.99), at(0.999), sorted.last().copied()].map(Option::unwrap_or_default);
    let [p50, p99, p999, worst] = ends;
    format!(
        "{} in all: p50 {p50:.1?}, p99 {p99:.1?}, p99.9 {p999:.1?}, worst {worst:.1?}",
        sorted.len()
    )
}

fn document(id: u64, salt: u64, bytes: usize) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut state = id.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ salt;
    let mut text = format!("{{\"_id\":{id},\"text\":\"");
    while text.len() < bytes {
        let mut word = next(&mut state) ^ next(&mut state) << 31;
        for _ in 0..10 {
            text.push(char::from(DIGITS[(word & 63) as usize]));
            word >>= 6;
        }
    }
    text.push_str("\"}");
    text
}

fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *state >> 31
}

fn disk_bytes(folder: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let about = entry.metadata()?;
        bytes += if about.is_dir() { disk_bytes(&entry.path())? } else { about.len() };
    }
    Ok(bytes)
}
