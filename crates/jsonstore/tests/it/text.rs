//! Full-text search through the public API.

use std::collections::BTreeMap;

use hearth_jsonstore::{
    Collection, Error, Id, Isolation, Language, Options, Store, TextError, TextIndex, TextQuery,
    Update, block_on,
    testing::{NaiveText, TextWorld},
};
use serde_json::{Value, json};

fn open(dir: &tempfile::TempDir) -> Store {
    let mut options = Options::new(dir.path().join("store"));
    options.text_fold_changes = 40;
    options.memtable_bytes = 256 << 10;
    block_on(Store::open(options)).unwrap()
}

struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }

    /// A word of a Zipf-like vocabulary.
    fn word(&mut self) -> String {
        let rank = self.below(200) * self.below(200) / 200;
        format!("w{rank}")
    }

    fn text(&mut self, most: u64) -> String {
        let count = self.below(most);
        (0..count).map(|_| self.word()).collect::<Vec<_>>().join(" ")
    }

    fn document(&mut self, id: u64) -> Value {
        json!({"_id": id, "title": self.text(6), "body": [self.text(40), id, self.text(20)]})
    }
}

fn index() -> TextIndex {
    TextIndex::new("text").boosted("title", 3.0).field("body")
}

/// Many queries against the oracle.
fn check_all(docs: &Collection, model: &BTreeMap<u64, Value>, random: &mut Random) {
    let pairs: Vec<(Id, &Value)> = model.iter().map(|(id, doc)| (Id::from(*id), doc)).collect();
    let naive = NaiveText::new(&index(), pairs.iter().map(|(id, doc)| (id, *doc)));
    let mut word = || TextQuery::Word(random.word());
    let mut queries = vec![TextQuery::parse("w1*").unwrap(), TextQuery::parse("w7~").unwrap()];
    for _ in 0..3 {
        let (a, b, c) = (word(), word(), word());
        let phrase = TextQuery::Phrase("w0 w1".into());
        queries.extend([
            a.clone(),
            TextQuery::All(vec![a.clone(), b.clone()]),
            TextQuery::Any(vec![a.clone(), b.clone(), c.clone()]),
            TextQuery::Any(vec![phrase, c.clone()]),
            TextQuery::Except(Box::new(a.clone()), Box::new(b.clone())),
            TextQuery::Should(Box::new(a.clone()), Box::new(b.clone())),
            TextQuery::All(vec![
                TextQuery::Field("title".into(), Box::new(a)),
                TextQuery::Any(vec![b, c]),
            ]),
        ]);
    }
    for query in queries {
        let search = docs.search_query(query.clone());
        let ids = block_on(search.ids()).unwrap();
        let want: Vec<Id> = naive.search(&query).into_keys().map(|k| id_of(&k, &pairs)).collect();
        assert_eq!(ids, want, "{query:?}");
        assert_eq!(block_on(search.count()).unwrap(), want.len() as u64);
        for limit in [1, 10, 5000] {
            let hits = block_on(search.clone().limit(limit).hits()).unwrap();
            naive.check_hits(&query, limit, &hits).unwrap();
        }
    }
}

fn id_of(key: &[u8], pairs: &[(Id, &Value)]) -> Id {
    pairs.iter().find(|(id, _)| id.as_bytes() == key).unwrap().0.clone()
}

#[test]
fn ranking_is_bm25_whatever_the_index_is_made_of() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let docs = store.collection("docs").unwrap();
    let mut random = Random(1);
    let mut model = BTreeMap::new();
    // Some documents are there before the index, some are loaded, most are changed one by one.
    for id in 0..60 {
        let document = random.document(id);
        block_on(docs.insert(&document)).unwrap();
        model.insert(id, document);
    }
    block_on(docs.create_text_index(index())).unwrap();
    check_all(&docs, &model, &mut random);
    let mut load = block_on(store.load()).unwrap();
    for id in 30..170 {
        let document = random.document(id);
        load.put(&docs, &document).unwrap();
        model.insert(id, document);
    }
    block_on(load.finish()).unwrap();
    check_all(&docs, &model, &mut random);
    for round in 0..12 {
        let tx = store.begin(Isolation::Snapshot);
        for _ in 0..20 {
            let id = random.below(200);
            let document = random.document(id);
            match random.below(4) {
                0 => {
                    block_on(tx.delete(&docs, id)).unwrap();
                    model.remove(&id);
                }
                1 => {
                    let update = Update::new().set("title", document["title"].clone());
                    if block_on(tx.update(&docs, id, &update)).unwrap() {
                        model.get_mut(&id).unwrap()["title"] = document["title"].clone();
                    }
                }
                _ => {
                    block_on(tx.put(&docs, &document)).unwrap();
                    model.insert(id, document);
                }
            }
        }
        block_on(tx.commit()).unwrap();
        if round % 4 == 3 {
            check_all(&docs, &model, &mut random);
        }
    }
    assert_eq!(block_on(store.verify()).unwrap().text_indexes, 1);
    block_on(docs.optimize_text()).unwrap();
    let stats = block_on(docs.text_stats("text")).unwrap();
    assert_eq!((stats.changes, stats.documents - stats.dead), (0, model.len() as u64));
    check_all(&docs, &model, &mut random);
    drop((docs, store));
    let store = open(&dir);
    let docs = store.collection("docs").unwrap();
    check_all(&docs, &model, &mut random);
    block_on(docs.rebuild_text_index("text")).unwrap();
    check_all(&docs, &model, &mut random);
    assert_eq!(block_on(store.verify()).unwrap().text_indexes, 1);
}

#[test]
fn a_snapshot_is_searched_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let docs = store.collection("docs").unwrap();
    block_on(docs.create_text_index(index())).unwrap();
    block_on(docs.insert(&json!({"_id": 1, "title": "oak"}))).unwrap();
    let snapshot = store.snapshot();
    block_on(docs.put(&json!({"_id": 1, "title": "elm"}))).unwrap();
    block_on(docs.insert(&json!({"_id": 2, "title": "oak"}))).unwrap();
    block_on(docs.optimize_text()).unwrap();
    let ids = |search: hearth_jsonstore::Search| block_on(search.ids()).unwrap();
    assert_eq!(ids(docs.search("oak").at(&snapshot)), [Id::from(1)]);
    assert_eq!(ids(docs.search("oak")), [Id::from(2)]);
    assert_eq!(ids(docs.search("elm").at(&snapshot)), []);
    let found = block_on(docs.search("oak").at(&snapshot).documents()).unwrap();
    assert_eq!(found[0].document.value()["title"], "oak");
}

#[test]
fn a_field_may_hold_anything() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let docs = store.collection("docs").unwrap();
    block_on(docs.create_text_index(TextIndex::new("any").field("x"))).unwrap();
    block_on(docs.create_text_index(TextIndex::new("all").field("*"))).unwrap();
    let values = [
        json!(null),
        json!(true),
        json!(1.5),
        json!("oak"),
        json!(""),
        json!([]),
        json!({}),
        json!(["oak", ["elm oak"], {"y": "oak"}]),
        json!({"y": "oak"}),
        json!("\u{0}oak\u{0}"),
        json!("ｏａｋ"),
        json!("o".repeat(5000)),
        json!("oak ".repeat(5000)),
    ];
    for (id, value) in values.iter().enumerate() {
        block_on(docs.insert(&json!({"_id": id, "x": value}))).unwrap();
    }
    block_on(docs.insert(&json!({"_id": 99}))).unwrap();
    let found = |index: &str| block_on(docs.search("OAK").index(index).ids()).unwrap();
    let ids = |all: &[i64]| all.iter().map(|id| Id::from(*id)).collect::<Vec<_>>();
    assert_eq!(found("any"), ids(&[3, 7, 9, 10, 12]));
    assert_eq!(found("all"), ids(&[3, 7, 8, 9, 10, 12]));
    block_on(docs.optimize_text()).unwrap();
    assert_eq!(found("any"), ids(&[3, 7, 9, 10, 12]));
    assert_eq!(found("all"), ids(&[3, 7, 8, 9, 10, 12]));
    assert_eq!(block_on(store.verify()).unwrap().text_indexes, 2);
    let no_name = block_on(docs.search("oak").ids());
    assert!(matches!(no_name, Err(Error::Text(TextError::NoSuchIndex { .. }))), "{no_name:?}");
}

#[test]
fn hostile_queries_are_refused_or_bounded() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let docs = store.collection("docs").unwrap();
    let no_positions = TextIndex::new("bare").field("x").positions(false);
    block_on(docs.create_text_index(no_positions)).unwrap();
    let mut load = block_on(store.load()).unwrap();
    for id in 0..300 {
        let words: Vec<String> = (0..10).map(|n| format!("a{}", id * 10 + n)).collect();
        load.put(&docs, &json!({"_id": id, "x": words.join(" ")})).unwrap();
    }
    block_on(load.finish()).unwrap();
    let run = |query: TextQuery| block_on(docs.search_query(query).limit(10).hits());
    let text = |text: &str| block_on(docs.search(text).hits());
    let refused = |result: Result<Vec<_>, Error>, want: fn(&TextError) -> bool| match result {
        Err(Error::Text(e)) => assert!(want(&e), "{e}"),
        other => panic!("{other:?}"),
    };
    refused(text(&"x ".repeat(500)), |e| matches!(e, TextError::TooManyClauses { .. }));
    refused(text(&"x".repeat(5000)), |e| matches!(e, TextError::QueryTooLong { .. }));
    refused(text("a*"), |e| matches!(e, TextError::TooManyTerms { limit: 1000, .. }));
    refused(text("\"a1 a2\""), |e| matches!(e, TextError::NoPositions { .. }));
    refused(text("y:a1"), |e| matches!(e, TextError::UnknownField { .. }));
    let deep = (0..200).fold(TextQuery::Word("a".into()), |q, _| TextQuery::All(vec![q]));
    refused(run(deep), |e| matches!(e, TextError::InvalidQuery { .. }));
    refused(run(TextQuery::Word("a1 ".repeat(1000))), |e| {
        matches!(e, TextError::TooManyClauses { .. })
    });
    let too_many = block_on(docs.search("a1").limit(10_001).hits());
    assert!(matches!(too_many, Err(Error::Text(TextError::InvalidQuery { .. }))));
    // 1,111 terms are within two letters of it; the nearest 64 are followed.
    assert_eq!(block_on(docs.search("a11~2").count()).unwrap(), {
        let hits = block_on(docs.search("a11~2").limit(1000).hits()).unwrap();
        hits.len() as u64
    });
    assert_eq!(text("a11*").unwrap().len(), 10);
    assert_eq!(text("").unwrap(), []);
    assert_eq!(text("- + \" *").unwrap(), []);
    assert_eq!(run(TextQuery::All(vec![])).unwrap(), []);
    let bad = block_on(docs.create_text_index(TextIndex::new("bad")));
    assert!(matches!(bad, Err(Error::Text(TextError::InvalidIndex { .. }))));
    let other = block_on(docs.create_text_index(TextIndex::new("bare").field("y")));
    assert!(matches!(other, Err(Error::Text(TextError::IndexExists { .. }))));
}

#[test]
fn languages_stop_words_and_marks() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let docs = store.collection("docs").unwrap();
    let index = TextIndex::new("en")
        .field("x")
        .language(Language::English)
        .stop_words(["the", "and"])
        .fold_marks(true);
    block_on(docs.create_text_index(index)).unwrap();
    let rows =
        [(1, "The runners and the café"), (2, "running shoes"), (3, "東京都の天気"), (4, "京都")];
    for (id, text) in rows {
        block_on(docs.insert(&json!({"_id": id, "x": text}))).unwrap();
    }
    let ids = |text: &str| -> Vec<String> {
        block_on(docs.search(text).ids()).unwrap().iter().map(Id::to_json).collect()
    };
    for _ in 0..2 {
        assert_eq!(ids("runs"), ["2"]);
        assert_eq!(ids("CAFE"), ["1"]);
        assert_eq!(ids("the"), [""; 0]);
        assert_eq!(ids("+the +runner"), ["1"]);
        assert_eq!(ids("東京"), ["3"]);
        assert_eq!(ids("京都"), ["3", "4"]);
        assert_eq!(ids("東京都"), ["3"]);
        assert_eq!(ids("都"), ["3", "4"]);
        assert_eq!(ids("\"runners and the cafe\""), ["1"]);
        assert_eq!(ids("\"runners cafe\""), [""; 0]);
        block_on(docs.optimize_text()).unwrap();
    }
}

#[test]
fn matches_are_shown_in_their_text() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let docs = store.collection("docs").unwrap();
    let index = TextIndex::new("t").field("title").field("body").language(Language::English);
    block_on(docs.create_text_index(index)).unwrap();
    let long = format!("{} A tree grows. {}", "é ".repeat(200), "ü".repeat(300));
    let document = json!({"_id": 1, "title": "Trees & <bushes>", "body": [long, "none", "東京都"]});
    block_on(docs.insert(&document)).unwrap();
    let shown = |text: &str| -> Vec<(String, String)> {
        let found = block_on(docs.search(text).highlight(true).documents()).unwrap();
        found
            .into_iter()
            .flat_map(|f| f.highlights)
            .map(|h| (h.field.clone(), h.marked("[", "]")))
            .collect()
    };
    let all = shown("tree");
    assert_eq!(all[0], ("title".to_owned(), "[Trees] & <bushes>".to_owned()));
    assert_eq!(all[1].0, "body");
    assert!(all[1].1.contains(" A [tree] grows. "), "{all:?}");
    assert!(all[1].1.len() < 1000, "{all:?}");
    assert_eq!(shown("bush*")[0].1, "Trees & <[bushes]>");
    assert_eq!(shown("東京都")[0].1, "[東京都]");
    let plain = block_on(docs.search("tree").documents()).unwrap();
    assert!(plain[0].highlights.is_empty());
}

#[test]
fn an_index_goes_and_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let docs = store.collection("docs").unwrap();
    let index = TextIndex::new("t").field("x");
    for id in 0..50 {
        block_on(docs.insert(&json!({"_id": id, "x": "oak"}))).unwrap();
    }
    block_on(docs.create_text_index(index.clone())).unwrap();
    block_on(docs.create_text_index(index.clone())).unwrap();
    assert_eq!(docs.text_indexes(), std::slice::from_ref(&index));
    assert!(block_on(docs.drop_text_index("t")).unwrap());
    assert!(!block_on(docs.drop_text_index("t")).unwrap());
    assert!(block_on(docs.search("oak").ids()).is_err());
    block_on(docs.insert(&json!({"_id": 50, "x": "oak"}))).unwrap();
    block_on(docs.create_text_index(index)).unwrap();
    assert_eq!(block_on(docs.search("oak").count()).unwrap(), 51);
    assert_eq!(block_on(store.verify()).unwrap().text_indexes, 1);
}

/// Seconds to simulate: 60 in CI, longer in the long run, a few otherwise.
fn budget() -> std::time::Duration {
    let seconds = std::env::var("E2E_SIM_SECONDS").ok().and_then(|s| s.parse().ok());
    let long = std::env::var("E2E_LONG").is_ok();
    std::time::Duration::from_secs(seconds.unwrap_or(if long { 300 } else { 5 }))
}

#[test]
fn crashes_leave_searches_and_documents_of_one_mind() {
    if let Some(seed) = std::env::var("E2E_SIM_SEED").ok().and_then(|s| s.parse().ok()) {
        println!("{:?}", TextWorld::new(seed).run().unwrap());
        return;
    }
    let start = std::time::Instant::now();
    let (mut seed, mut crashes, mut searches, mut faults) = (0, 0, 0, 0);
    while start.elapsed() < budget() {
        seed += 1;
        match TextWorld::new(seed).run() {
            Ok(report) => {
                crashes += report.crashes;
                searches += report.searches;
                faults += report.faults;
            }
            Err(e) => panic!("E2E_SIM_SEED={seed}: {e}"),
        }
    }
    assert!(searches > 0, "nothing was searched");
    println!("{seed} seeds, {crashes} crashes, {searches} searches, {faults} faults");
}

#[test]
fn text_seeds_replay() {
    for seed in [1, 2, 3] {
        let runs = [(); 2].map(|()| TextWorld::new(seed).run().unwrap());
        assert_eq!(runs[0], runs[1], "seed {seed}");
    }
}
