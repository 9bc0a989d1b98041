//! Queries that an index answers, in Hearth's store and in SQLite, by turns on the same documents.
//!
//! `store-queries DIR [DOCUMENTS]` prints a table. `store-queries count ENGINE QUERY N DIR` asks one
//! query of one engine `N` times to fill its caches and `N` times again, for a profiler that counts
//! what happens in `asked`.

mod documents;
mod ours;
mod sqlite;

use std::{
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use documents::{CITIES, CREATED_END, KINDS, Random, SCORE_END, city, document, email, kind};

/// What each engine may use for its caches.
pub const CACHE_BYTES: usize = 64 << 20;
const DOCUMENTS: u64 = 100_000;
/// Of each engine, by turns; the median counts.
const ROUNDS: usize = 5;
const ROUND: Duration = Duration::from_millis(800);
/// Documents of a range or a sorted list.
const MANY: u64 = 100;
/// Scores of which a query with a compound prefix takes a range.
const SCORES: u64 = 100;

pub enum Query {
    Eq(String),
    Range(i64, u64),
    /// City, and scores from and to.
    Prefix(String, i64, i64),
    /// Newest of a kind.
    Sort(String, u64),
}

pub trait Engine {
    fn load(&self, documents: &mut dyn Iterator<Item = String>) -> Result<()>;
    fn ask(&self, query: &Query) -> Result<Vec<Vec<u8>>>;
}

const NAMES: [&str; 4] = ["eq", "range_100", "prefix_range", "sort_100"];

fn any_query(name: &str, random: &mut Random, documents: u64) -> Query {
    match name {
        "eq" => Query::Eq(email(random.below(documents))),
        "range_100" => Query::Range(random.below(CREATED_END / 100 * 99) as i64, MANY),
        "prefix_range" => {
            let from = random.below(SCORE_END - SCORES) as i64;
            Query::Prefix(city(random.below(CITIES)), from, from + SCORES as i64)
        }
        _ => Query::Sort(kind(random.below(KINDS)), MANY),
    }
}

/// Asks queries that were made before, and counts documents.
#[inline(never)]
fn asked(engine: &dyn Engine, queries: &[Query]) -> Result<usize> {
    queries.iter().try_fold(0, |all, query| Ok(all + engine.ask(query)?.len()))
}

/// Queries a second.
fn round(engine: &dyn Engine, name: &str, seed: u64, documents: u64) -> Result<f64> {
    let random = &mut Random(seed);
    let (mut count, mut took) = (0, Duration::ZERO);
    while took < ROUND {
        let queries: Vec<Query> = (0..256).map(|_| any_query(name, random, documents)).collect();
        let begun = Instant::now();
        asked(engine, &queries)?;
        took += begun.elapsed();
        count += queries.len();
    }
    Ok(count as f64 / took.as_secs_f64())
}

fn median(mut all: Vec<f64>) -> f64 {
    all.sort_by(f64::total_cmp);
    all[all.len() / 2]
}

fn engines(dir: &Path) -> Result<(Box<dyn Engine>, Box<dyn Engine>)> {
    Ok((Box::new(ours::open(dir)?), Box::new(sqlite::open(dir)?)))
}

/// Both engines with the documents.
fn loaded(dir: &Path, documents: u64) -> Result<(Box<dyn Engine>, Box<dyn Engine>)> {
    let mark = dir.join(format!("loaded-{documents}"));
    if !mark.exists() {
        std::fs::create_dir_all(dir)?;
        let empty = std::fs::read_dir(dir)?.next().is_none();
        ensure!(empty, "{} holds something else", dir.display());
        let (ours, sqlite) = engines(dir)?;
        for engine in [&ours, &sqlite] {
            engine.load(&mut (0..documents).map(document))?;
        }
        std::fs::write(mark, "")?;
    }
    engines(dir)
}

fn compare(dir: &Path, documents: u64) -> Result<()> {
    let (ours, sqlite) = loaded(dir, documents)?;
    println!("| query | documents each | Hearth /s | SQLite /s | ratio |");
    println!("|---|---:|---:|---:|---:|");
    for name in NAMES {
        let random = &mut Random(7);
        let mut found = 0;
        for _ in 0..200 {
            let query = any_query(name, random, documents);
            let (mut a, mut b) = (ours.ask(&query)?, sqlite.ask(&query)?);
            // Where a query says nothing of the order, none is asked for.
            if name == "prefix_range" {
                a.sort_unstable();
                b.sort_unstable();
            }
            ensure!(a == b, "{name}: the engines do not agree");
            found += a.len();
        }
        let (mut of_ours, mut of_sqlite) = (Vec::new(), Vec::new());
        for seed in 0..ROUNDS as u64 {
            of_ours.push(round(&*ours, name, seed, documents)?);
            of_sqlite.push(round(&*sqlite, name, seed, documents)?);
        }
        let (a, b) = (median(of_ours), median(of_sqlite));
        println!("| {name} | {:.1} | {a:.0} | {b:.0} | {:.2} |", found as f64 / 200.0, a / b);
    }
    Ok(())
}

fn count(engine: &str, name: &str, times: usize, dir: &Path) -> Result<()> {
    let (ours, sqlite) = loaded(dir, DOCUMENTS)?;
    ensure!(NAMES.contains(&name), "{name} is none of {NAMES:?}");
    let engine = match engine {
        "hearth" => ours,
        "sqlite" => sqlite,
        _ => bail!("hearth or sqlite"),
    };
    let random = &mut Random(1);
    for _ in 0..times {
        engine.ask(&any_query(name, random, DOCUMENTS))?;
    }
    let queries: Vec<Query> = (0..times).map(|_| any_query(name, random, DOCUMENTS)).collect();
    println!("{} documents", asked(&*engine, &queries)?);
    Ok(())
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["count", engine, name, times, dir] => {
            count(engine, name, times.parse().context("how many")?, Path::new(dir))
        }
        [dir] => compare(Path::new(dir), DOCUMENTS),
        [dir, documents] => compare(Path::new(dir), documents.parse().context("how many")?),
        _ => bail!("store-queries DIR [DOCUMENTS]"),
    }
}
