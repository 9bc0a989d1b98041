//! Counters, histograms, and how they are rendered.

use std::collections::{BTreeMap, BTreeSet};

use hearth_jsonstore::{Index, Metrics, Operation, Pipeline, Store, TextIndex, block_on};
use serde_json::json;

use super::real;

fn counts(store: &Store) -> BTreeMap<&'static str, u64> {
    let metrics = store.metrics();
    metrics.operations.iter().map(|found| (found.operation.name(), found.count)).collect()
}

/// One of everything.
fn exercise(store: &Store) {
    block_on(async {
        let all = store.collection("c")?;
        for n in 0..40 {
            all.insert(&json!({"_id": n, "n": n % 7, "text": "some words"})).await?;
        }
        all.create_index(Index::on("n")).await?;
        all.create_text_index(TextIndex::new("words").field("text")).await?;
        for n in 0..40 {
            all.get(n).await?;
        }
        assert_eq!(all.find(filter(&json!({"n": 3}))).collect().await?.len(), 6);
        assert_eq!(all.find(filter(&json!({"n": 3}))).count().await?, 6);
        all.find(filter(&json!({"n": 3}))).explain().await?;
        assert_eq!(all.scan(..).collect().await?.len(), 40);
        assert_eq!(all.search("words").count().await?, 40);
        let pipeline = json!([
            {"$lookup": {"from": "c", "localField": "n", "foreignField": "n", "as": "same"}},
            {"$group": {"_id": "$n"}}
        ]);
        assert_eq!(all.aggregate(&Pipeline::from_json(&pipeline)?).collect().await?.len(), 7);
        store.compact().await
    })
    .unwrap();
}

fn filter(value: &serde_json::Value) -> hearth_jsonstore::Filter {
    hearth_jsonstore::Filter::from_json(value).unwrap()
}

#[test]
fn every_operation_is_counted_once() {
    let (_dir, store) = real(|_| {});
    exercise(&store);
    let counts = counts(&store);
    for (name, want) in [("get", 40), ("find", 2), ("scan", 1), ("search", 1), ("aggregate", 1)] {
        assert_eq!(counts[name], want, "{name}");
    }
    // Besides the inserts, indexes are made in transactions of the store's own, without `commit`.
    assert_eq!(counts["commit"], 40);
    assert!(
        counts["flush"] >= 1 && counts["compaction"] >= 1 && counts["sync"] >= 40,
        "{counts:?}"
    );
    let metrics = store.metrics();
    for found in &metrics.operations {
        let timed = found.latency.count();
        let all = match found.operation {
            Operation::Get => 2..=3,
            // The background may be between the two counters.
            _ => found.count.saturating_sub(1)..=found.count + 1,
        };
        assert!(all.contains(&timed), "{found:?}");
    }
    let syncs = &metrics.operation(Operation::Sync).latency;
    assert!(
        syncs.quantile(0.5) <= syncs.quantile(1.0)
            && syncs.total() >= syncs.quantile(0.0).unwrap() / 2
    );
}

#[test]
fn waiting_for_a_lock_is_timed() {
    let (_dir, store) = real(|_| {});
    let all = store.collection("c").unwrap();
    block_on(all.insert(&json!({"_id": 1}))).unwrap();
    let tx = store.begin(hearth_jsonstore::Isolation::Serializable);
    block_on(tx.get_for_update(&all, 1)).unwrap();
    std::thread::scope(|scope| {
        let other = scope.spawn(|| block_on(all.put(&json!({"_id": 1, "n": 2}))));
        while store.stats().locks[0] == 0 {
            std::thread::yield_now();
        }
        tx.rollback();
        other.join().unwrap().unwrap();
    });
    assert!(counts(&store)["lock_wait"] >= 1);
}

#[test]
fn off_counts_nothing() {
    let (_dir, store) = real(|options| {
        options.metrics = false;
        options.slow_query = None;
    });
    exercise(&store);
    assert!(counts(&store).values().all(|count| *count == 0));
    assert!(store.slow_queries().is_empty());
    // What the engine needs for itself is there all the same.
    assert!(store.stats().commits >= 40);
}

/// The rules of the text format that `promtool check metrics` checks: `HELP` and `TYPE` come once and
/// before the samples, names carry their unit, counters end in `_total`, buckets add up.
fn check_format(text: &str) -> BTreeMap<String, f64> {
    let mut kinds: BTreeMap<String, String> = BTreeMap::new();
    let mut helped = BTreeSet::new();
    let mut samples = BTreeMap::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').unwrap();
            assert!(!help.is_empty() && helped.insert(name.to_owned()), "{line}");
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert!(helped.contains(name), "HELP comes first: {line}");
            assert_eq!(name.ends_with("_total"), kind == "counter", "{line}");
            assert!(kinds.insert(name.to_owned(), kind.to_owned()).is_none(), "{line}");
        } else {
            let (name, value) = line.rsplit_once(' ').unwrap();
            let base = name.split('{').next().unwrap();
            let part = ["_bucket", "_sum", "_count"].iter().find_map(|end| base.strip_suffix(end));
            let known = |name: &str| kinds.contains_key(name);
            assert!(known(base) || part.is_some_and(known), "no TYPE: {line}");
            let value: f64 = value.parse().unwrap();
            assert!(samples.insert(name.to_owned(), value).is_none(), "twice: {line}");
        }
    }
    samples
}

#[test]
fn prometheus_text_is_well_formed_and_says_the_same_as_json() {
    let (_dir, store) = real(|_| {});
    exercise(&store);
    let metrics: Metrics = store.metrics();
    let text = metrics.prometheus();
    let samples = check_format(&text);
    assert_eq!(samples["jsonstore_operations_total{operation=\"get\"}"], 40.0);
    assert_eq!(samples["jsonstore_commits_total"], metrics.stats.commits as f64);
    let name = "jsonstore_operation_duration_seconds";
    let mut last = 0.0;
    let buckets = text
        .lines()
        .filter(|line| line.starts_with(&format!("{name}_bucket{{operation=\"commit\"")));
    let mut bounds = 0;
    for line in buckets {
        let below: f64 = line.rsplit_once(' ').unwrap().1.parse().unwrap();
        assert!(below >= last, "{line}");
        (last, bounds) = (below, bounds + 1);
    }
    assert_eq!((last, bounds), (40.0, 29));
    assert_eq!(samples[&format!("{name}_count{{operation=\"commit\"}}")], 40.0);
    let json = metrics.json();
    assert_eq!(json["operations"]["commit"]["count"], 40);
    assert_eq!(json["commits_total"], metrics.stats.commits);
    assert!(json["cache_bytes"]["blocks"].is_u64() && json["disk_free_bytes"].is_u64(), "{json}");
    if let Some(path) = std::env::var_os("JSONSTORE_METRICS_OUT") {
        std::fs::write(path, text).unwrap();
    }
}
