//! Secondary indexes: whatever is written, in whatever order, they say what the documents say.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Waker},
};

use hearth_jsonstore::{
    Collection, Error, Index, Isolation, Options, Store, Unindexable, Update, block_on,
    testing::{SimEnv, SimVfs, hooks, small_options},
};
use proptest::{prelude::*, sample::select};
use serde_json::{Value, json};

fn simulated(vfs: &SimVfs) -> Store {
    block_on(Store::open(small_options(vfs, &Arc::new(SimEnv::new(1))))).unwrap()
}

/// A value of every type.
fn value() -> impl Strategy<Value = Value> {
    select(vec![
        json!(null),
        json!(false),
        json!(true),
        json!(0),
        json!(-1),
        json!(2.5),
        json!(1e300),
        json!(u64::MAX),
        json!(""),
        json!("a\0b"),
        json!("Ä"),
        json!([]),
        json!([1, 1, null]),
        json!([[1], "x"]),
        json!([{"y": 1}, {"y": [2, 3]}, {}, 4]),
        json!({}),
        json!({"y": "deep"}),
        json!({"y": {"z": 1}}),
    ])
}

fn document() -> impl Strategy<Value = Value> {
    let field = || prop::option::weighted(0.8, value());
    (0..8, field(), field(), prop::option::of(0..4)).prop_map(|(id, a, b, u)| {
        let mut document = json!({ "_id": id });
        for (name, value) in [("a", a), ("b", b), ("u", u.map(Value::from))] {
            if let Some(value) = value {
                document[name] = value;
            }
        }
        document
    })
}

#[derive(Debug, Clone)]
enum Act {
    Put(Value),
    Delete(i64),
    Set(i64, &'static str, Value),
    Make(usize),
    Drop(usize),
    Flush,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        6 => document().prop_map(Act::Put),
        2 => (0..8_i64).prop_map(Act::Delete),
        4 => (0..8_i64, select(vec!["a", "b", "a.y", "n", "u"]), value())
            .prop_map(|(id, path, value)| Act::Set(id, path, value)),
        2 => (0..definitions().len()).prop_map(Act::Make),
        1 => (0..definitions().len()).prop_map(Act::Drop),
        1 => Just(Act::Flush),
    ]
}

fn definitions() -> Vec<Index> {
    vec![
        Index::on("a").name("a"),
        Index::on_descending("a").and("n").include("b").name("and"),
        Index::on("a.y").sparse().name("deep"),
        Index::hash("b").name("hash"),
        Index::on("u").unique().name("unique"),
        Index::on("u").unique().sparse().name("sparse"),
        Index::on("b")
            .collation_case_insensitive()
            .partial(json!({"a": {"$exists": true}}))
            .name("p"),
        Index::on("a").and("b").name("compound"),
    ]
}

/// What no index could hold or allow is refused; everything else must be.
fn may_be_refused(e: &Error) -> bool {
    let parallel =
        matches!(e, Error::Unindexable { reason: Unindexable::ParallelArrays { .. }, .. });
    let update = matches!(e, Error::InvalidUpdate { .. });
    parallel || update || matches!(e, Error::DuplicateKey { .. } | Error::IndexNotUnique { .. })
}

/// The ids of documents by what a unique index on `u` sees in them.
async fn violates_unique(c: &Collection, sparse: bool) -> bool {
    let mut seen = Vec::new();
    for document in c.scan(..).collect().await.unwrap() {
        let value = document.value();
        let own: Vec<Value> = match value.get("u") {
            None if sparse => continue,
            Some(Value::Array(items)) if !items.is_empty() => items.clone(),
            Some(Value::Array(_)) | None => vec![Value::Null],
            Some(value) => vec![value.clone()],
        };
        if own.iter().any(|value| seen.contains(value)) {
            return true;
        }
        seen.extend(own);
    }
    false
}

async fn run(acts: Vec<Act>) {
    let store = simulated(&SimVfs::new());
    let c = store.collection("c").unwrap();
    for act in acts {
        let done = match act.clone() {
            Act::Put(document) => c.put(&document).await.map(|_| ()),
            Act::Delete(id) => c.delete(id).await.map(|_| ()),
            Act::Set(id, path, value) => {
                c.update(id, &Update::new().set(path, value)).await.map(|_| ())
            }
            Act::Make(at) => c.create_index(definitions()[at].clone()).await.map(|_| ()),
            Act::Drop(at) => match c.drop_index(&definitions()[at].effective()).await {
                Err(Error::IndexAbsent { .. }) => Ok(()),
                other => other,
            },
            Act::Flush => store.checkpoint().await,
        };
        if let Err(e) = done {
            assert!(may_be_refused(&e), "{act:?}: {e}");
        }
        c.verify_indexes().await.unwrap();
        for info in c.indexes() {
            assert!(info.is_ready);
            if matches!(&*info.name, "unique" | "sparse") {
                assert!(!violates_unique(&c, info.name == "sparse").await, "{act:?}");
            }
        }
    }
    while hooks::step_indexes(&store) {}
    store.verify().await.unwrap();
    store.compact().await.unwrap();
    store.verify().await.unwrap();
}

trait Named {
    fn effective(&self) -> String;
}

impl Named for Index {
    fn effective(&self) -> String {
        self.to_json()["name"].as_str().unwrap_or_default().to_owned()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if std::env::var("E2E_LONG").is_ok() { 2000 } else { 60 }))]
    #[test]
    fn indexes_say_what_documents_say(acts in prop::collection::vec(act(), 1..60)) {
        block_on(run(acts));
    }
}

fn poll<T>(future: &mut (impl Future<Output = T> + Unpin)) -> Option<T> {
    match std::pin::Pin::new(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}

/// Changes documents so that every step of a build meets newer and older ones.
async fn churn(c: &Collection, round: i64) {
    for id in [round % 40, (round * 7 + 3) % 40] {
        c.put(&json!({"_id": id, "a": round % 11, "t": [round, id]})).await.unwrap();
    }
    c.delete((round * 5) % 40).await.unwrap();
    c.update((round * 3) % 40, &Update::new().set("a", -round)).await.unwrap();
}

#[test]
fn a_build_goes_on_while_writers_write_and_after_a_restart() {
    for stop in [0, 1, 2, 5, 9, 13, 14, 15, 16, 17, 100] {
        let vfs = SimVfs::new();
        let store = simulated(&vfs);
        let c = store.collection("c").unwrap();
        block_on(async {
            for id in 0..40 {
                c.put(&json!({"_id": id, "a": id % 7, "t": id})).await.unwrap();
            }
        });
        let other = c.clone();
        let mut make = Box::pin(async move { other.create_index(Index::on("a").and("t")).await });
        assert!(poll(&mut make).is_none());
        assert!(!c.indexes()[0].is_ready);
        for round in 0..stop {
            hooks::step_indexes(&store);
            block_on(churn(&c, round));
            if round % 3 == 0 {
                block_on(store.checkpoint()).unwrap();
                while hooks::step_compact(&store).unwrap() {}
            }
        }
        drop((make, c, store));
        vfs.kill_process();
        let store = simulated(&vfs);
        let c = store.collection("c").unwrap();
        let mut round = 0;
        while hooks::has_index_jobs(&store) {
            hooks::step_indexes(&store);
            block_on(churn(&c, 1000 + round));
            round += 1;
        }
        let info = &c.indexes()[0];
        assert!(info.is_ready && info.is_multikey == (stop > 0 || round > 0), "{info:?}");
        let report = block_on(store.verify()).unwrap();
        assert!(report.index_entries >= report.documents, "{report:?}");
    }
}

#[test]
fn a_build_that_cannot_be_leaves_nothing_behind() {
    let store = simulated(&SimVfs::new());
    let c = store.collection("c").unwrap();
    block_on(async {
        for id in 0..30 {
            c.put(&json!({"_id": id, "a": id % 29, "b": "x".repeat(id * 50)})).await.unwrap();
        }
        match c.create_index(Index::on("a").unique()).await {
            Err(Error::IndexNotUnique { index, key, ids }) => {
                assert_eq!((&*index, &*key), ("a", r#"{"a":0}"#));
                assert_eq!(ids, ["0", "29"]);
            }
            other => panic!("{other:?}"),
        }
        match c.create_index(Index::on("b")).await {
            Err(Error::Unindexable { id, reason: Unindexable::ValueTooLarge { .. }, .. }) => {
                assert_eq!(id, "21");
            }
            other => panic!("{other:?}"),
        }
        assert!(c.indexes().is_empty());
        // What was refused constrains nobody, and its space can be had again.
        c.put(&json!({"_id": 99, "a": 0, "b": "x".repeat(5000)})).await.unwrap();
        assert!(!hooks::has_index_jobs(&store));
        c.delete(29).await.unwrap();
        c.delete(99).await.unwrap();
        c.create_index(Index::on("a").unique()).await.unwrap();
        store.verify().await.unwrap();
    });
}

#[test]
fn a_build_can_be_cancelled() {
    let store = simulated(&SimVfs::new());
    let c = store.collection("c").unwrap();
    block_on(async {
        for id in 0..30 {
            c.put(&json!({"_id": id, "a": id})).await.unwrap();
        }
    });
    let other = c.clone();
    let mut make = Box::pin(async move { other.create_index(Index::on("a")).await });
    assert!(poll(&mut make).is_none());
    for _ in 0..4 {
        hooks::step_indexes(&store);
    }
    block_on(c.drop_index("a")).unwrap();
    while hooks::has_index_jobs(&store) {
        hooks::step_indexes(&store);
    }
    assert!(matches!(poll(&mut make), Some(Err(Error::IndexAbsent { index })) if index == "a"));
    assert!(c.indexes().is_empty());
    block_on(store.verify()).unwrap();
}

#[test]
fn a_field_that_was_changed_before_its_index_came_is_indexed() {
    let store = simulated(&SimVfs::new());
    let c = store.collection("c").unwrap();
    block_on(c.put(&json!({"_id": 1, "a": 1, "b": 1}))).unwrap();
    let tx = store.begin(Isolation::Serializable);
    let early = store.begin(Isolation::Serializable);
    block_on(early.update(&c, 1, &Update::new().set("b", 2))).unwrap();
    // The index waits for `early`; `tx` asks before it is there and gets its lock after.
    let other = c.clone();
    let mut make = Box::pin(async move { other.create_index(Index::on("a")).await });
    assert!(poll(&mut make).is_none());
    let mut late = Box::pin(async {
        tx.update(&c, 1, &Update::new().set("a", 7)).await.unwrap();
        tx.commit().await
    });
    assert!(poll(&mut late).is_none());
    block_on(early.commit()).unwrap();
    for _ in 0..100 {
        let _ = poll(&mut make);
        hooks::step_indexes(&store);
        if let Some(done) = poll(&mut late) {
            assert!(matches!(done, Ok(_) | Err(Error::Conflict)), "{done:?}");
            break;
        }
        hooks::step_log(&store);
    }
    drop(late);
    while hooks::has_index_jobs(&store) {
        hooks::step_indexes(&store);
    }
    block_on(store.verify()).unwrap();
}

#[test]
fn loads_are_indexed_all_or_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = Options::new(dir.path());
    options.memory_budget = 4 << 20;
    let store = block_on(Store::open(options)).unwrap();
    let c = store.collection("c").unwrap();
    block_on(async {
        c.create_index(Index::on("email").unique()).await.unwrap();
        c.create_index(Index::on("tags").and_descending("n")).await.unwrap();
        let document = |id: u64| {
            let email = format!("u{:016x}", id.wrapping_mul(0x9E37_79B9_7F4A_7C15));
            json!({"_id": id, "email": email, "n": id % 100, "tags": [id % 3, "x"]})
        };
        let mut load = store.load().await.unwrap();
        for id in 0..20_000 {
            load.put(&c, &document(id)).unwrap();
        }
        load.finish().await.unwrap();
        assert_eq!(store.verify().await.unwrap().index_entries, 60_000);
        let count = |c: Collection| async move { c.scan(..).collect().await.unwrap().len() };
        // Against the load itself, and against what is there.
        for clash in [document(30_001)["email"].clone(), document(5)["email"].clone()] {
            let mut load = store.load().await.unwrap();
            for id in 30_000..30_100 {
                load.put(&c, &document(id)).unwrap();
            }
            load.put(&c, &json!({"_id": "clash", "email": clash})).unwrap();
            assert!(matches!(load.finish().await, Err(Error::DuplicateKey { .. })));
            assert_eq!(count(c.clone()).await, 20_000);
        }
        // Replacing documents may move their keys around.
        let mut load = store.load().await.unwrap();
        for id in 0..100 {
            let mut moved = document(id);
            moved["email"] = document((id + 1) % 100)["email"].clone();
            load.put(&c, &moved).unwrap();
        }
        load.finish().await.unwrap();
        assert_eq!(store.verify().await.unwrap().documents, 20_000);
        let mut load = store.load().await.unwrap();
        load.put(&c, &document(50_000)).unwrap();
        load.put(&c, &document(40_000)).unwrap();
        assert!(matches!(load.put(&c, &document(50_000)), Err(Error::DuplicateId { .. })));
    });
}

#[test]
fn builds_and_writers_run_side_by_side() {
    let dir = tempfile::tempdir().unwrap();
    let store = block_on(Store::open(Options::new(dir.path()))).unwrap();
    let c = store.collection("c").unwrap();
    block_on(async {
        let mut load = store.load().await.unwrap();
        for id in 0..5_000 {
            load.put(&c, &json!({"_id": id, "a": id % 100, "u": id})).unwrap();
        }
        load.finish().await.unwrap();
    });
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for writer in 0..2_i64 {
            let (c, stop) = (&c, &stop);
            scope.spawn(move || {
                let mut round = writer;
                while !stop.load(Ordering::Relaxed) {
                    round += 2;
                    let id = round * 37 % 5_000;
                    block_on(c.update(id, &Update::new().set("a", -round))).unwrap();
                    block_on(c.delete(round * 13 % 5_000)).unwrap();
                    block_on(c.put(&json!({"_id": 10_000 + round, "u": 10_000 + round}))).unwrap();
                }
            });
        }
        block_on(async {
            c.create_index(Index::on("a")).await.unwrap();
            c.create_index(Index::on("u").unique()).await.unwrap();
            c.drop_index("a").await.unwrap();
            c.create_index(Index::on("a").and("u")).await.unwrap();
        });
        stop.store(true, Ordering::Relaxed);
    });
    let report = block_on(store.verify()).unwrap();
    assert_eq!(report.index_entries, 2 * report.documents);
}
