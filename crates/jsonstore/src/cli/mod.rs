//! The `jsonstore` program: look into a store, change it, verify it, measure it.
//!
//! [`Arguments`] can be a subcommand of another program's command line as well.

mod backup;
mod query;
mod shell;
mod soak;
mod transfer;
mod watching;

use std::{
    ffi::OsString,
    io::{BufRead, Read, Write},
    path::PathBuf,
    process::ExitCode,
    time::Instant,
};

use crate::{
    Archive, Id, MasterKey, OpenStep, Options, Range, Recovery, Stats, Store, Update, block_on,
};
use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};

/// An embedded JSON document database.
#[derive(Debug, Parser)]
#[command(name = "jsonstore", version)]
pub struct Arguments {
    /// The directory of the store.
    store: PathBuf,
    /// Master key: 64 hex digits.
    #[arg(long, env = "JSONSTORE_KEY", hide_env_values = true)]
    key: Option<String>,
    /// Read only; works beside a running program that has the store open.
    #[arg(long)]
    read_only: bool,
    /// Step over damage in the log instead of refusing to open.
    #[arg(long)]
    salvage: bool,
    /// Copy sealed log files into this folder, for restoring to any moment.
    #[arg(long, value_name = "FOLDER")]
    archive: Option<PathBuf>,
    /// Write metrics, health and slow queries into this file every few seconds.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Print what a command found as JSON, where it has figures.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Open the store, creating it if there is none, and print its figures.
    Open,
    /// Store a document: as argument, or one per line on standard input.
    Put { collection: String, document: Option<String> },
    /// Print the document with this id (JSON; a word that is no JSON is a string).
    Get { collection: String, id: String },
    /// Change a document: `{"$set": {"a.b": 1}, "$inc": {"n": 2}}`.
    Update { collection: String, id: String, update: String },
    /// Change all documents that match; prints how many.
    Modify(query::ModifyCommand),
    /// Remove the document with this id.
    Delete { collection: String, id: String },
    /// Print documents in the order of their ids, one per line.
    Scan {
        collection: String,
        /// First id.
        #[arg(long)]
        from: Option<String>,
        /// Id to stop before.
        #[arg(long)]
        to: Option<String>,
        #[arg(long, default_value_t = usize::MAX, hide_default_value = true)]
        limit: usize,
    },
    /// Print the documents that match, one per line.
    Find(query::FindCommand),
    /// Make, drop and list indexes.
    #[command(subcommand)]
    Index(query::IndexCommand),
    /// Print what comes out of a pipeline: `[{"$group": …}]`.
    Aggregate { collection: String, pipeline: String },
    /// Print the documents that fit these words best, with their scores.
    Search {
        collection: String,
        words: String,
        #[arg(long, default_value_t = 10)]
        limit: usize,
    },
    /// Print changes as they come, until the program is ended.
    Watch {
        collection: String,
        #[arg(default_value = "{}")]
        filter: String,
    },
    /// Names of the collections.
    Collections,
    /// Read everything and check every checksum.
    Verify,
    /// Copy the store, which goes on, into a folder of backups.
    Backup(backup::Make),
    /// Make this store of a backup.
    Restore(backup::Restore),
    /// Compare a backup with its hashes, or restore it aside and read everything.
    VerifyBackup(backup::Verify),
    /// The backups in a folder; with a rule, remove those that it does not keep.
    Backups(backup::List),
    /// Store the documents of a file: JSON lines, a JSON array, extended JSON, CSV.
    Import(transfer::Import),
    /// Write all documents of a collection to a file.
    Export(transfer::Export),
    /// Merge all segments.
    Compact,
    /// Figures about the store.
    Stats,
    /// How well the store is, and what to do about it.
    Health(watching::HealthCommand),
    /// Counters, latencies and sizes.
    Metrics(watching::MetricsCommand),
    /// Indexes that would help, and those that are too many.
    Advice(watching::AdviceCommand),
    /// The queries that took long.
    Slow(watching::SlowCommand),
    /// What happens just now, again and again.
    Top(watching::TopCommand),
    /// Commands one a line, with completion and history; standard input is a script.
    Shell(shell::ShellCommand),
    /// Fill a store larger than memory, then measure readers while it is written to.
    Soak(soak::Soak),
    /// Fill the log and die, so that the next `open` shows how long recovery takes.
    Die {
        #[arg(long, default_value_t = 256)]
        mebibytes: u64,
    },
    /// Measure commits and reads; writes to the collection `bench`.
    Bench {
        #[arg(long, default_value_t = 10_000)]
        documents: u64,
        #[arg(long, default_value_t = 16)]
        threads: u64,
    },
}

/// Why a command was not done, with its causes.
#[derive(Debug, thiserror::Error)]
#[error("{0:#}")]
pub struct Failure(anyhow::Error);

impl Arguments {
    /// Does what they say; what was found goes to standard output.
    ///
    /// # Errors
    /// What the store refused, or what the arguments do not make sense for.
    pub fn run(self) -> std::result::Result<(), Failure> {
        execute(self).map_err(Failure)
    }
}

/// The program `jsonstore`.
#[must_use]
pub fn main() -> ExitCode {
    let mut arguments: Vec<OsString> = std::env::args_os().collect();
    if let Some(arguments) = arguments.get_mut(1..) {
        put_in_order(arguments);
    }
    match Arguments::parse_from(arguments).run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("Error: {e}");
            ExitCode::FAILURE
        }
    }
}

/// `shell DIR` means `DIR shell`, as in other databases' programs.
pub fn put_in_order(arguments: &mut [OsString]) {
    if let [first, second, ..] = arguments
        && first == "shell"
        && !second.as_encoded_bytes().starts_with(b"-")
    {
        std::mem::swap(first, second);
    }
}

fn execute(arguments: Arguments) -> Result<()> {
    let mut options = Options::new(&arguments.store);
    options.read_only = arguments.read_only;
    options.create = !arguments.read_only
        && matches!(
            arguments.command,
            Command::Open
                | Command::Put { .. }
                | Command::Import(_)
                | Command::Bench { .. }
                | Command::Shell(_)
                | Command::Soak(_)
                | Command::Die { .. }
        );
    if arguments.salvage {
        options.recovery = Recovery::Salvage;
    }
    options.key = arguments.key.as_deref().map(parse_key).transpose()?;
    options.archive = arguments.archive.map(Archive::new);
    options.report = arguments.report;
    if let Some(done) = watching::without_store(&arguments.command, arguments.json) {
        return done;
    }
    match arguments.command {
        Command::Soak(soak) => return soak.run(&options),
        Command::Die { mebibytes } => return soak::die_with_log(options, mebibytes),
        // These need no store, or make one.
        Command::Restore(restore) => return restore.run(&options, arguments.json),
        Command::VerifyBackup(verify) => return verify.run(options.key, arguments.json),
        Command::Backups(list) => return list.run(arguments.json),
        _ => {}
    }
    let bar = bar("opening");
    let shown = bar.clone();
    let start = Instant::now();
    let store = block_on(Store::open_with_progress(options, move |step| match step {
        OpenStep::ReadingLog { done, total } => {
            shown.set_length(total);
            shown.set_position(done);
        }
        OpenStep::Replaying { transactions } => {
            shown.set_message(format!("replaying {transactions} transactions"));
        }
        _ => {}
    }))
    .with_context(|| format!("cannot open {}", arguments.store.display()))?;
    bar.finish_and_clear();
    if matches!(arguments.command, Command::Open) {
        println!("opened in         {:.1?}", start.elapsed());
    }
    match arguments.command {
        Command::Shell(shell) => shell.run(&store, arguments.json)?,
        command => block_on(run(&store, command, arguments.json))?,
    }
    if arguments.read_only {
        return Ok(());
    }
    block_on(store.close()).context("cannot close the store")
}

async fn run(store: &Store, command: Command, json: bool) -> Result<()> {
    match command {
        Command::Open | Command::Stats => print_stats(&store.stats()),
        Command::Put { collection, document } => put(store, &collection, document).await?,
        Command::Get { collection, id } => {
            match store.collection(&collection)?.get(parse_id(&id)?).await? {
                Some(document) => println!("{}", document.json()),
                None => bail!("no document {id} in {collection}"),
            }
        }
        Command::Update { collection, id, update } => {
            let update = Update::from_json(&serde_json::from_str(&update)?)?;
            if !store.collection(&collection)?.update(parse_id(&id)?, &update).await? {
                bail!("no document {id} in {collection}");
            }
        }
        Command::Modify(modify) => modify.run(store).await?,
        Command::Delete { collection, id } => {
            if !store.collection(&collection)?.delete(parse_id(&id)?).await? {
                bail!("no document {id} in {collection}");
            }
        }
        Command::Scan { collection, from, to, limit } => {
            let range = range(from.as_deref(), to.as_deref())?;
            let mut scan = store.collection(&collection)?.scan(range);
            let mut out = std::io::stdout().lock();
            for _ in 0..limit {
                let Some(document) = scan.next().await? else { break };
                writeln!(out, "{}", document.json())?;
            }
        }
        Command::Find(find) => find.run(store, json).await?,
        Command::Index(index) => index.run(store, json).await?,
        Command::Aggregate { collection, pipeline } => {
            query::aggregate(store, &collection, &pipeline).await?;
        }
        Command::Search { collection, words, limit } => {
            query::search(store, &collection, &words, limit, json).await?;
        }
        Command::Watch { collection, filter } => query::watch(store, &collection, &filter).await?,
        Command::Collections => store.collections().iter().for_each(|name| println!("{name}")),
        Command::Health(health) => health.run(Some(store), json)?,
        Command::Metrics(metrics) => metrics.run(store),
        Command::Advice(advice) => advice.run(Some(store), json).await?,
        Command::Slow(slow) => slow.run(Some(store), json)?,
        Command::Top(top) => top.run(Some(store), json)?,
        Command::Verify => verify(store).await?,
        Command::Compact => store.compact().await?,
        Command::Bench { documents, threads } => bench(store, documents, threads)?,
        Command::Backup(make) => make.run(store, json).await?,
        Command::Import(import) => import.run(store, json).await?,
        Command::Export(export) => export.run(store, json).await?,
        Command::Soak(_)
        | Command::Shell(_)
        | Command::Die { .. }
        | Command::Restore(_)
        | Command::VerifyBackup(_)
        | Command::Backups(_) => bail!("these open the store themselves"),
    }
    Ok(())
}

async fn put(store: &Store, collection: &str, document: Option<String>) -> Result<()> {
    let collection = store.collection(collection)?;
    if let Some(document) = document {
        println!("{}", collection.put(&document).await?.to_json());
        return Ok(());
    }
    let bar = bar("documents");
    let mut input = std::io::stdin().lock();
    let mut line = String::new();
    while input.by_ref().take(64 << 20).read_line(&mut line)? > 0 {
        if !line.trim().is_empty() {
            collection.put(&line).await.with_context(|| format!("line {}", bar.position() + 1))?;
        }
        bar.inc(1);
        line.clear();
    }
    bar.finish();
    Ok(())
}

async fn verify(store: &Store) -> Result<()> {
    let bar = bar("bytes verified");
    let shown = bar.clone();
    let report = store
        .verify_with_progress(move |done, total| {
            shown.set_length(total);
            shown.set_position(done);
        })
        .await?;
    bar.finish_and_clear();
    println!(
        "{} segments, {} bytes, {} versions, {} documents: all sound",
        report.segments, report.bytes, report.versions, report.documents
    );
    Ok(())
}

fn bench(store: &Store, documents: u64, threads: u64) -> Result<()> {
    let collection = store.collection("bench")?;
    for writers in [1, threads.max(1)] {
        let bar = bar("commits");
        bar.set_length(documents);
        let start = Instant::now();
        std::thread::scope(|scope| {
            let work = |thread: u64| {
                let (collection, bar) = (collection.clone(), bar.clone());
                move || -> crate::Result<()> {
                    for i in (thread..documents).step_by(writers as usize) {
                        let text = format!("{{\"_id\":{i},\"text\":\"document number {i}\"}}");
                        block_on(collection.put(&text))?;
                        bar.inc(1);
                    }
                    Ok(())
                }
            };
            let running: Vec<_> = (0..writers).map(|t| scope.spawn(work(t))).collect();
            running.into_iter().try_for_each(|r| r.join().unwrap_or(Ok(())))
        })?;
        let rate = documents as f64 / start.elapsed().as_secs_f64();
        bar.finish_and_clear();
        println!("{writers:>4} writers: {rate:>10.0} durable commits/s");
    }
    let start = Instant::now();
    for i in 0..documents {
        block_on(collection.get(i * 7919 % documents))?;
    }
    let rate = documents as f64 / start.elapsed().as_secs_f64();
    println!("   1 reader:  {rate:>10.0} reads/s");
    Ok(())
}

fn print_stats(stats: &Stats) {
    println!("last commit       {}", stats.visible_seq);
    println!("memtables         {} bytes", stats.memtable_bytes);
    for (level, (count, bytes)) in stats.segments.iter().zip(stats.segment_bytes).enumerate() {
        if *count > 0 {
            println!("level {level}           {count} segments, {bytes} bytes");
        }
    }
    let [hits, misses, bytes, block_hits, block_misses, block_bytes] = stats.caches;
    println!("document cache    {hits} hits, {misses} misses, {bytes} bytes");
    println!("block cache       {block_hits} hits, {block_misses} misses, {block_bytes} bytes");
    println!("commits           {} in {} groups", stats.commits, stats.groups);
    let [hidden, deleted] = stats.expired;
    if hidden + deleted > 0 {
        let late = stats.expiry_lag_ms;
        println!("expired           {deleted} deleted, {late} ms late; hidden from {hidden} reads");
    }
    for (from, to) in &stats.lost {
        println!("lost log          {from}..{to}");
    }
}

fn range(from: Option<&str>, to: Option<&str>) -> Result<Range> {
    let mut range = Range::all();
    if let Some(from) = from {
        range = range.from(parse_id(from)?);
    }
    if let Some(to) = to {
        range = range.to(parse_id(to)?);
    }
    Ok(range)
}

/// JSON, or else a plain word.
fn parse_id(text: &str) -> Result<Id> {
    match serde_json::from_str::<serde_json::Value>(text) {
        Ok(value) => Ok(Id::from_json(&value)?),
        Err(_) => Ok(Id::from(text)),
    }
}

fn parse_key(text: &str) -> Result<MasterKey> {
    let mut key = [0; 32];
    if text.len() != 64 || !text.is_ascii() {
        bail!("a key has 64 hex digits");
    }
    for (i, byte) in key.iter_mut().enumerate() {
        *byte =
            u8::from_str_radix(&text[i * 2..i * 2 + 2], 16).context("a key has 64 hex digits")?;
    }
    Ok(MasterKey::new(key))
}

fn bar(what: &'static str) -> ProgressBar {
    let bar = ProgressBar::new(0);
    if let Ok(style) =
        ProgressStyle::with_template("{msg} {wide_bar} {human_pos}/{human_len} {eta}")
    {
        bar.set_style(style);
    }
    bar.set_message(what);
    bar
}
