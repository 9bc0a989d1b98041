//! A store larger than memory: how fast it opens, what readers wait while it compacts, and how much
//! more space it takes than its documents need.

use std::{
    path::Path,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::{Duration, Instant},
};

use crate::{Collection, Latency, Options, Store, block_on};
use anyhow::{Context, Result, anyhow};

/// What of a document's text is left on the disk: it is made of six bits of chance a byte, so that
/// bytes on the disk are bytes of documents.
const LEFT: f64 = 0.78;

#[derive(Debug, clap::Args)]
pub(crate) struct Soak {
    /// Size of the documents on the disk.
    #[arg(long, default_value_t = 20.0)]
    gigabytes: f64,
    /// Size of one document.
    #[arg(long, default_value_t = 8000)]
    document_bytes: usize,
    /// Threads that read documents at random.
    #[arg(long, default_value_t = 1)]
    readers: u64,
    /// Threads that overwrite documents at random, each in a commit of its own.
    #[arg(long, default_value_t = 8)]
    writers: u64,
    /// How long to overwrite documents.
    #[arg(long, default_value_t = 120)]
    seconds: u64,
}

impl Soak {
    /// Fills the store, then overwrites documents at random while others are read.
    pub(crate) fn run(&self, options: &Options) -> Result<()> {
        let documents = (self.gigabytes * 1e9 / (self.document_bytes as f64 * LEFT)) as u64;
        let store = block_on(Store::open(options.clone()))?;
        if block_on(store.collection("soak")?.get(documents - 1))?.is_none() {
            self.fill(&store, documents)?;
        }
        block_on(store.close())?;
        let found = disk_bytes(&options.path)?;
        println!("{documents} documents, {:.2} GB on disk; {}", found as f64 / 1e9, memory());

        let start = Instant::now();
        let store = block_on(Store::open(options.clone()))?;
        let collection = store.collection("soak")?;
        let opened = start.elapsed();
        let loaded = loaded_bytes(&store, found)?;
        block_on(collection.get(documents / 2))?.context("the middle document")?;
        println!("clean open {opened:.1?}, first read after {:.1?}", start.elapsed());

        let duration = Duration::from_secs(self.seconds);
        let quiet = self.read_for(&collection, documents, duration / 4)?;
        println!("reads, nobody writes        {}", show(&quiet));
        let busy = self.overwritten(&store, &collection, documents)?;
        println!("reads, overwriting          {}", show(&busy));
        let busiest = disk_bytes(&options.path)?;
        settle(&store);
        println!(
            "{}, of which memtables {} MB, caches {} MB; the budget is {} MB",
            memory(),
            store.stats().memtable_bytes >> 20,
            (store.stats().caches[2] + store.stats().caches[5]) >> 20,
            options.memory_budget >> 20
        );
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

    /// What reads took while writers overwrote documents.
    fn overwritten(&self, store: &Store, collection: &Collection, documents: u64) -> Result<Reads> {
        let before = store.stats().background;
        let (stop, written) = (AtomicBool::new(false), AtomicU64::new(0));
        let busy = std::thread::scope(|scope| {
            let (stop, written) = (&stop, &written);
            let writer = |seed| move || self.overwrite(collection, documents, seed, stop, written);
            let writers: Vec<_> = (0..self.writers).map(|seed| scope.spawn(writer(seed))).collect();
            let busy = self.read_for(collection, documents, Duration::from_secs(self.seconds));
            stop.store(true, Ordering::Relaxed);
            writers.into_iter().try_for_each(|writer| writer.join().unwrap_or(Ok(())))?;
            busy
        })?;
        let after = store.stats();
        println!(
            "{} documents written, {} flushes, {} compactions of {:.2} GB, {} stalls",
            written.load(Ordering::Relaxed),
            after.background[0] - before[0],
            after.background[1] - before[1],
            (after.background[2] - before[2]) as f64 / 1e9,
            after.stalls
        );
        Ok(busy)
    }

    fn fill(&self, store: &Store, documents: u64) -> Result<()> {
        let bar = super::bar("documents loaded");
        bar.set_length(documents);
        let start = Instant::now();
        let collection = store.collection("soak")?;
        let mut load = block_on(store.load())?;
        for id in 0..documents {
            load.put(&collection, &document(id, 0, self.document_bytes))?;
            if id % 1000 == 0 {
                bar.set_position(id);
            }
        }
        block_on(load.finish())?;
        bar.finish_and_clear();
        println!("loaded in {:.0?}", start.elapsed());
        Ok(())
    }

    /// Reads documents at random.
    fn read_for(
        &self,
        collection: &Collection,
        documents: u64,
        duration: Duration,
    ) -> Result<Reads> {
        let reader = |seed| move || read_for(collection, documents, seed, duration);
        std::thread::scope(|scope| {
            let readers: Vec<_> = (0..self.readers).map(|n| scope.spawn(reader(7 + n))).collect();
            readers.into_iter().try_fold(Reads::default(), |mut all, reader| {
                let reads = reader.join().map_err(|_| anyhow!("a reader panicked"))??;
                all.latency.append(&reads.latency);
                all.worst = all.worst.max(reads.worst);
                Ok(all)
            })
        })
    }

    fn overwrite(
        &self,
        collection: &Collection,
        documents: u64,
        seed: u64,
        stop: &AtomicBool,
        written: &AtomicU64,
    ) -> crate::Result<()> {
        let mut random = 99 + seed;
        while !stop.load(Ordering::Relaxed) {
            let id = next(&mut random) % documents;
            block_on(collection.put(&document(id, random, self.document_bytes)))?;
            written.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }
}

/// Writes this much log that no segment holds, and dies.
pub(crate) fn die_with_log(mut options: Options, mebibytes: u64) -> Result<()> {
    options.memtable_bytes = 4 << 30;
    options.wal_bytes_max = 4 << 30;
    let store = block_on(Store::open(options))?;
    let collection = store.collection("soak")?;
    let log_bytes = || store.metrics().log_backlog_bytes;
    let next = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                while log_bytes() < mebibytes << 20 {
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
    let mebibytes = log_bytes() as f64 / 1048576.0;
    println!("{} commits, {mebibytes:.0} MiB of log; dying", next.into_inner());
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

/// How long reads took. Counted, not kept: millions of them would show in the process's memory.
#[derive(Default)]
struct Reads {
    latency: Latency,
    worst: Duration,
}

/// One thread's reads.
fn read_for(
    collection: &Collection,
    documents: u64,
    seed: u64,
    duration: Duration,
) -> Result<Reads> {
    let (start, mut random, mut reads) = (Instant::now(), seed, Reads::default());
    while start.elapsed() < duration {
        let id = next(&mut random) % documents;
        let begun = Instant::now();
        block_on(collection.get(id))?.context("a document is missing")?;
        let took = begun.elapsed();
        reads.latency.add(took);
        reads.worst = reads.worst.max(took);
    }
    Ok(reads)
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

fn show(reads: &Reads) -> String {
    let at = |part| reads.latency.quantile(part).unwrap_or_default();
    format!(
        "{} in all: p50 {:.1?}, p99 {:.1?}, p99.9 {:.1?}, worst {:.1?}",
        reads.latency.count(),
        at(0.5),
        at(0.99),
        at(0.999),
        reads.worst
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

/// What of this process is in memory, now and at most, where the system says so.
fn memory() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mebibytes = |key: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(key));
        let kibibytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        kibibytes.map_or_else(|| "?".to_owned(), |n| (n >> 10).to_string())
    };
    format!("{} MB in memory, at most {} MB", mebibytes("VmRSS:"), mebibytes("VmHWM:"))
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
