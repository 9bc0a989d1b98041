//! The log of slow queries.

use std::time::Duration;

use hearth_jsonstore::{
    Filter, Index, Operation, Pipeline, SlowQuery, Sort, Store, TextIndex, block_on,
};
use serde_json::{Value, json};

use super::{captured, real};

/// None of these can be a part of a time.
const SECRET: &str = "card-1234-secret";
const LARGE: u64 = 929_292_929_292;
const OTHER: u64 = 929_192_919_291;

fn filter(value: &Value) -> Filter {
    Filter::from_json(value).unwrap()
}

fn filled(threshold: Option<Duration>, max: usize) -> (tempfile::TempDir, Store) {
    let (dir, store) = real(|options| {
        options.slow_query = None;
        options.slow_queries_max = max;
    });
    let all = store.collection("cards").unwrap();
    for n in 0..50 {
        let card = json!({"_id": n, "number": format!("{SECRET}{n}"), "n": n % 5, "text": SECRET});
        block_on(all.insert(&card)).unwrap();
    }
    block_on(all.create_index(Index::on("number"))).unwrap();
    block_on(all.create_text_index(TextIndex::new("words").field("text"))).unwrap();
    assert!(store.slow_queries().is_empty(), "none is slow yet");
    store.set_slow_query(threshold);
    (dir, store)
}

/// Asks for the secret in every way.
fn ask(store: &Store) {
    let all = store.collection("cards").unwrap();
    block_on(async {
        all.find(filter(&json!({"number": format!("{SECRET}7")}))).collect().await?;
        let any =
            json!({"$or": [{"number": {"$regex": format!("^{SECRET}")}}, {"n": {"$gt": LARGE}}]});
        let sort = Sort::from_json(&json!([{"n": -1}])).unwrap();
        all.find(filter(&any)).sort(sort).limit(3).collect().await?;
        all.find(filter(&json!({"$expr": {"$eq": ["$number", SECRET]}}))).count().await?;
        all.scan(..).collect().await?;
        all.search(format!("\"{SECRET}\" {SECRET}*").as_str()).hits().await?;
        let pipeline = json!([
            {"$match": {"n": {"$in": [OTHER, 3]}}},
            {"$project": {"x": {"$concat": ["$number", SECRET]}}},
            {"$limit": 4}
        ]);
        all.aggregate(&Pipeline::from_json(&pipeline)?).collect().await
    })
    .unwrap();
}

#[test]
fn shapes_tell_everything_but_the_values() {
    let (_dir, store) = filled(Some(Duration::ZERO), 100);
    let logged = captured(|| ask(&store));
    let slow = store.slow_queries();
    let shown: Vec<(Operation, &str, &str)> =
        slow.iter().map(|q| (q.operation, &*q.shape, &*q.plan)).collect();
    let all = [
        (Operation::Find, "\"number\" = String", "index \"number\", 1 ranges"),
        (
            Operation::Find,
            "or(\"n\" > Number,\"number\" regex ^); sort - \"n\"; limit",
            "every document, filters, sorts",
        ),
        (Operation::Find, "expr; count", "every document, filters"),
        (Operation::Scan, "a range of ids", "the order of ids"),
        (Operation::Search, "should(phrase, prefix)", "text index \"words\""),
        (Operation::Aggregate, "\"n\" in 2^1; $project; $limit", "every document, filters"),
    ];
    assert_eq!(shown, all);
    let text = slow.iter().map(|q| q.json().to_string()).collect::<String>() + &logged;
    assert_eq!(logged.lines().count(), all.len(), "{logged}");
    assert!(logged.contains("jsonstore::slow") && logged.contains("number"), "{logged}");
    for secret in ["card-1234", "secret", &LARGE.to_string(), &OTHER.to_string()] {
        assert!(!text.contains(secret), "{secret} is in {text}");
    }
}

#[test]
fn figures_are_those_of_the_query() {
    let (_dir, store) = filled(Some(Duration::ZERO), 100);
    ask(&store);
    let slow = store.slow_queries();
    let looked_at = |q: &SlowQuery| (q.entries, q.documents, q.returned);
    assert_eq!(looked_at(&slow[0]), (1, 1, 1));
    assert_eq!(looked_at(&slow[1]), (50, 50, 3));
    assert_eq!(looked_at(&slow[3]), (0, 50, 50));
    assert_eq!(looked_at(&slow[5]), (32, 32, 4));
    assert!(slow.iter().all(|q| q.collection == "cards" && q.wall_ms > 0));
    assert_eq!(store.metrics().slow_queries, slow.len() as u64);
}

#[test]
fn only_so_many_are_kept_and_only_slow_ones() {
    let (_dir, store) = filled(Some(Duration::ZERO), 4);
    ask(&store);
    let slow = store.slow_queries();
    assert_eq!((slow.len(), slow[0].operation), (4, Operation::Find));
    assert_eq!(slow[3].operation, Operation::Aggregate);
    assert_eq!(store.metrics().slow_queries, 6, "all are counted");
    store.set_slow_query(Some(Duration::from_secs(3600)));
    ask(&store);
    store.set_slow_query(None);
    ask(&store);
    assert_eq!(store.slow_queries(), slow);
}

/// What the caller does between two batches is not the store's time.
#[test]
fn a_slow_reader_is_no_slow_query() {
    let (store, env, _vfs) = super::simulated(|options| {
        options.slow_query = Some(Duration::from_millis(100));
    });
    let all = store.collection("c").unwrap();
    for n in 0..200 {
        block_on(all.insert(&json!({"_id": n}))).unwrap();
    }
    for mut cursor in [all.find(filter(&json!({}))).cursor(), all.scan(..)] {
        while block_on(cursor.next()).unwrap().is_some() {
            env.advance(Duration::from_secs(1));
        }
    }
    assert!(store.slow_queries().is_empty());
}
