//! Documents that expire. No test waits: the clock moves when it is told to.

use std::{
    sync::Arc,
    task::{Context, Waker},
    time::Duration,
};

use hearth_jsonstore::{
    BackupOptions, Backups, Collection, Document, Error, ExportOptions, Filter, Id, Index,
    Isolation, Options, Pipeline, Projection, RestoreOptions, Result, Since, Snapshot, Sort, Store,
    TextIndex, Update, block_on,
    testing::{SimEnv, SimVfs, hooks, small_options},
};
use serde_json::{Value, json};

/// When the simulated clock begins.
const START_MS: u64 = 1_800_000_000_000;
const HOUR: Duration = Duration::from_secs(3600);

struct Machine {
    vfs: SimVfs,
    env: Arc<SimEnv>,
    store: Store,
}

impl Machine {
    fn new() -> Self {
        let (vfs, env) = (SimVfs::new(), Arc::new(SimEnv::new(1)));
        let store = block_on(Store::open(small_options(&vfs, &env))).unwrap();
        Self { vfs, env, store }
    }

    fn reopened(self) -> Self {
        let Self { vfs, env, store } = self;
        block_on(store.close()).unwrap();
        let store = block_on(Store::open(small_options(&vfs, &env))).unwrap();
        Self { vfs, env, store }
    }

    /// A collection whose documents expire an hour after `at`.
    fn collection(&self) -> Collection {
        let c = self.store.collection("c").unwrap();
        block_on(c.create_index(Index::on("at").expire_after(HOUR))).unwrap();
        c
    }

    /// Passes until one finds nothing; what was deleted.
    fn sweep(&self) -> Vec<Id> {
        let mut gone = Vec::new();
        loop {
            let before = gone.len();
            while hooks::expire(&self.store, |_, id| gone.push(id)).unwrap() {}
            hooks::step_log(&self.store);
            if gone.len() == before {
                return gone;
            }
        }
    }
}

fn numbered(id: u64, at_ms: u64) -> String {
    json!({"_id": id, "at": at_ms, "n": id % 3, "t": "word"}).to_string()
}

fn ids(documents: &[Document]) -> Vec<i64> {
    documents.iter().map(|d| d.value()["_id"].as_i64().unwrap()).collect()
}

fn filter(json: &Value) -> Filter {
    Filter::from_json(json).unwrap()
}

/// Five documents, of which 1 and 2 have expired, and 5 has no date.
fn five(machine: &Machine) -> Collection {
    let c = machine.collection();
    block_on(async {
        c.create_index(Index::on("n")).await?;
        c.create_index(Index::on("n").name("covering").include("at").include("t")).await?;
        c.create_text_index(TextIndex::new("text").field("t")).await?;
        for id in 1..=4 {
            c.insert(&numbered(id, START_MS - if id < 3 { 0 } else { 1 } + id)).await?;
        }
        c.insert(r#"{"_id":5,"n":2,"t":"word"}"#).await?;
        Result::Ok(())
    })
    .unwrap();
    // 1 and 2 are due at START + 1 h + 1 and 2 ms, 3 and 4 at + 2 and 3.
    for id in 3..=4 {
        block_on(c.update(id, &Update::new().set("at", START_MS + 60_000))).unwrap();
    }
    machine.env.set_wall_ms(START_MS + 3_600_002);
    c
}

#[test]
fn what_has_expired_no_read_shows() {
    let machine = Machine::new();
    let c = five(&machine);
    block_on(async {
        // Twice: from the tree, then from the cache.
        for _ in 0..2 {
            assert!(c.get(1).await?.is_none() && c.get(2).await?.is_none());
            assert!(c.get(3).await?.is_some() && c.get(5).await?.is_some());
            let many = c.get_many([1, 3, 2, 5]).await?;
            let seen: Vec<bool> = many.iter().map(Option::is_some).collect();
            assert_eq!(seen, [false, true, false, true]);
        }
        assert_eq!(ids(&c.scan(..).collect().await?), [3, 4, 5]);
        assert_eq!(ids(&c.find(Filter::all()).collect().await?), [3, 4, 5]);
        let by_n = || c.find(filter(&json!({"n": {"$gte": 1}})));
        for hint in ["_id", "n", "covering"] {
            let found = by_n().hint(hint).sort(Sort::from_json(&json!({"_id": 1}))?).collect();
            assert_eq!(ids(&found.await?), [4, 5], "{hint}");
            assert_eq!(by_n().hint(hint).count().await?, 2, "{hint}");
            assert_eq!(by_n().hint(hint).distinct("n").await?, [json!(1), json!(2)], "{hint}");
        }
        assert_eq!(c.find(Filter::all()).count().await?, 3);
        let by_date = filter(&json!({"at": {"$lt": START_MS + 10_000_000}}));
        assert_eq!(ids(&c.find(by_date).hint("at").collect().await?), [3, 4]);
        assert_eq!(c.find_one(filter(&json!({"_id": 2}))).await?.map(|d| d.rev()), None);
        let groups =
            Pipeline::from_json(&json!([{"$group": {"_id": null, "sum": {"$sum": "$_id"}}}]));
        assert_eq!(c.aggregate(&groups?).collect().await?[0].value()["sum"], 12);
        let others = machine.store.collection("others")?;
        others.insert(r#"{"_id":1,"n":1}"#).await?;
        let join = json!([{"$lookup":
            {"from": "c", "localField": "n", "foreignField": "n", "as": "all"}}]);
        let joined = others.aggregate(&Pipeline::from_json(&join)?).collect().await?;
        assert_eq!(joined[0].value()["all"].as_array().unwrap().len(), 1);
        Result::Ok(())
    })
    .unwrap();
}

#[test]
fn what_has_expired_no_search_finds_and_no_export_writes() {
    let machine = Machine::new();
    let c = five(&machine);
    block_on(async {
        for folded in [false, true] {
            if folded {
                c.optimize_text().await?;
            }
            assert_eq!(c.search("word").count().await?, 3);
            assert_eq!(c.search("word").ids().await?, [3, 4, 5].map(Id::from));
            let hits = c.search("word").limit(2).hits().await?;
            assert_eq!(hits.len(), 2, "what is hidden takes no place");
            let found = c.search("word").documents().await?;
            assert_eq!(found.len(), 3);
            let by_text = filter(&json!({"$text": {"$search": "word"}}));
            assert_eq!(ids(&c.find(by_text).collect().await?), [3, 4, 5]);
        }
        let report = c.export(std::io::sink(), ExportOptions::default(), |_| {}).await?;
        assert_eq!(report.documents, 3);
        Result::Ok(())
    })
    .unwrap();
}

#[test]
fn a_covered_query_knows_when_documents_expire() {
    let machine = Machine::new();
    let c = five(&machine);
    block_on(async {
        let projection = || Projection::from_json(&json!({"_id": 0, "n": 1})).unwrap();
        let find =
            |hint: &str| c.find(filter(&json!({"n": 1}))).projection(projection()).hint(hint);
        for (hint, covered) in [("n", false), ("covering", true)] {
            assert_eq!(find(hint).explain().await?.json()["plan"]["covered"], covered, "{hint}");
            let found = find(hint).collect().await?;
            assert_eq!(found.iter().map(Document::json).collect::<Vec<_>>(), [r#"{"n":1}"#]);
        }
        Result::Ok(())
    })
    .unwrap();
}

#[test]
fn to_writers_it_is_gone() {
    let machine = Machine::new();
    let c = five(&machine);
    let again = Update::new().set("at", START_MS * 2);
    block_on(async {
        assert!(!c.update(1, &again).await?);
        assert!(!c.replace(&numbered(1, START_MS * 2)).await?);
        assert!(!c.delete(1).await?);
        assert_eq!(c.update_many(&filter(&json!({"_id": {"$lte": 2}})), &again).await?, 0);
        assert_eq!(c.delete_many(&filter(&json!({"_id": {"$lte": 2}}))).await?, 0);
        for isolation in [Isolation::Latest, Isolation::Snapshot, Isolation::Serializable] {
            let tx = machine.store.begin(isolation);
            assert!(tx.get(&c, 1).await?.is_none());
            assert!(tx.get_for_update(&c, 1).await?.is_none());
            assert!(!tx.update(&c, 2, &again).await?);
            assert_eq!(ids(&tx.scan(&c, ..).await?), [3, 4, 5]);
            assert_eq!(c.find(Filter::all()).within(&tx).await?.len(), 3);
            // Its own, too.
            tx.put(&c, &numbered(6, 7)).await?;
            assert!(tx.get(&c, 6).await?.is_none());
            assert!(c.find(filter(&json!({"_id": 6}))).within(&tx).await?.is_empty());
            tx.put(&c, &numbered(7, START_MS * 2)).await?;
            assert!(tx.get(&c, 7).await?.is_some());
            tx.rollback();
        }
        // An id that only something expired has is free.
        c.insert(&numbered(1, START_MS * 2)).await?;
        assert!(matches!(c.insert(&numbered(1, 0)).await, Err(Error::DuplicateId { .. })));
        assert_eq!(ids(&c.scan(..).collect().await?), [1, 3, 4, 5]);
        machine.store.verify().await?;
        Result::Ok(())
    })
    .unwrap();
}

#[test]
fn a_snapshot_hides_by_the_time_it_was_taken() {
    let machine = Machine::new();
    let c = machine.collection();
    block_on(async {
        for id in 0..100 {
            c.insert(&numbered(id, START_MS + id * 1000)).await?;
        }
        machine.env.set_wall_ms(START_MS + 3_600_000 + 9_500);
        let snapshot = machine.store.snapshot();
        let count = |at: &Snapshot| c.find(Filter::all()).at(at).count();
        let tx = machine.store.begin(Isolation::Snapshot);
        let (mut scan, mut find) = (c.scan(..), c.find(Filter::all()).cursor());
        assert_eq!(scan.next().await?.unwrap().value()["_id"], 10);
        assert_eq!(find.next().await?.unwrap().value()["_id"], 10);
        machine.env.set_wall_ms(START_MS + 3_600_000 + 49_500);
        machine.sweep();
        assert_eq!(count(&snapshot).await?, 90);
        assert_eq!(scan.collect().await?.len(), 89);
        assert_eq!(find.collect().await?.len(), 89);
        assert_eq!(c.scan_at(&snapshot, ..).collect().await?.len(), 90);
        assert!(c.get_at(&snapshot, 10).await?.is_some());
        assert!(c.get_at(&snapshot, 9).await?.is_none());
        assert!(tx.get(&c, 20).await?.is_some(), "it sees its moment");
        assert!(matches!(tx.get_for_update(&c, 20).await, Err(Error::Conflict)));
        assert!(c.get(20).await?.is_none());
        assert_eq!(c.find(Filter::all()).count().await?, 50);
        assert_eq!(count(&machine.store.snapshot()).await?, 50);
        Result::Ok(())
    })
    .unwrap();
}

#[test]
fn every_kind_of_date_is_deleted_in_time() {
    for index in [Index::on("at"), Index::on_descending("at").unique().sparse()] {
        let machine = Machine::new();
        let c = machine.store.collection("c").unwrap();
        let dates = [
            (json!(START_MS), 0),
            (json!("2027-01-15T08:00:00.001Z"), 1),
            (json!("2027-01-15T08:00:01Z"), 1000),
            (json!("2027-01-15T20:00:02+12:00"), 2000),
            (json!("2027-01-14T20:00:03.5-12:00"), 3500),
            (json!([START_MS * 2, "2027-01-15T08:00:04Z", "never"]), 4000),
            (json!(START_MS as f64 + 5000.5), 5000),
        ];
        block_on(async {
            c.create_index(index.expire_after(HOUR)).await?;
            for (id, (date, _)) in dates.iter().enumerate() {
                c.insert(&json!({"_id": id, "at": date})).await?;
            }
            c.insert(r#"{"_id":100,"at":"2027"}"#).await?;
            c.insert(r#"{"_id":101,"at":{"$x":1}}"#).await?;
            c.insert(r#"{"_id":102}"#).await?;
            Result::Ok(())
        })
        .unwrap();
        for (id, (date, ms)) in dates.iter().enumerate() {
            let due = START_MS + 3_600_000 + ms;
            machine.env.set_wall_ms(due - 1);
            assert_eq!(machine.sweep(), [], "{date}");
            assert!(block_on(c.get(id as i64)).unwrap().is_some(), "{date}");
            machine.env.set_wall_ms(due);
            assert!(block_on(c.get(id as i64)).unwrap().is_none(), "{date}");
            // Strings with an offset are looked at once a minute.
            machine.env.advance(Duration::from_secs(61));
            machine.env.set_wall_ms(due);
            assert_eq!(machine.sweep(), [Id::from(id as i64)], "{date}");
        }
        assert_eq!(block_on(c.scan(..).collect()).unwrap().len(), 3);
        block_on(machine.store.verify()).unwrap();
        assert_eq!(machine.store.stats().expired[1], dates.len() as u64);
    }
}

#[test]
fn deletions_are_ordinary_commits() {
    let machine = Machine::new();
    let c = five(&machine);
    block_on(async {
        let mut watch = c.watch(Filter::all(), Since::Now).await?;
        let mut live = c.live(filter(&json!({"n": {"$gte": 0}}))).await?;
        assert_eq!(ids(&live.next().await?.added), [3, 4, 5], "nothing that has expired");
        assert_eq!(machine.sweep(), [1, 2].map(Id::from));
        let gone = watch.next().await?;
        assert_eq!(gone.events.len(), 2, "a batch is one transaction");
        assert!(gone.events.iter().all(|e| e.before.is_some() && e.after.is_none()));
        machine.store.verify().await?;
        assert_eq!(live.next().await?.removed, [1, 2].map(Id::from));
        // One that is shown expires, and goes when it is deleted.
        machine.env.advance(HOUR * 2);
        assert_eq!(machine.sweep(), [3, 4].map(Id::from));
        assert_eq!(live.next().await?.removed, [3, 4].map(Id::from));
        // One that has expired already when it comes is not added.
        c.insert(&numbered(8, 5)).await?;
        assert_eq!(live.next().await?.added.len(), 0);
        c.insert(&numbered(8, START_MS * 2)).await?;
        let update = live.next().await?;
        assert_eq!((ids(&update.added), update.changed.len()), (vec![8], 0));
        assert_eq!(c.search("word").count().await?, 2);
        assert_eq!(ids(&c.scan(..).collect().await?), [5, 8]);
        let stats = machine.store.stats();
        assert_eq!(stats.expired[1], 4);
        assert!(stats.expired[0] > 0);
        machine.store.verify().await?;
        Result::Ok(())
    })
    .unwrap();
}

#[test]
fn a_live_query_takes_back_what_expired_before_its_filter_changed() {
    let machine = Machine::new();
    let c = five(&machine);
    block_on(async {
        let mut live = c.live(filter(&json!({"n": 0}))).await?;
        assert_eq!(ids(&live.next().await?.added), [3]);
        machine.env.advance(HOUR * 2);
        live.set_filter(filter(&json!({"n": 2})));
        let update = live.next().await?;
        assert_eq!((update.removed, ids(&update.added)), (vec![Id::from(3)], vec![5]));
        Result::Ok(())
    })
    .unwrap();
}

#[test]
fn what_was_refreshed_meanwhile_stays() {
    let machine = Machine::new();
    let c = machine.collection();
    block_on(c.insert(&numbered(1, START_MS))).unwrap();
    machine.env.set_wall_ms(START_MS + 3_599_999);
    let later = Update::new().set("at", START_MS + 1000);
    let mut refresh = Box::pin(c.update(1, &later));
    // It is in the log, but nobody can see it yet.
    let mut context = Context::from_waker(Waker::noop());
    assert!(refresh.as_mut().poll(&mut context).is_pending());
    machine.env.set_wall_ms(START_MS + 3_600_000);
    assert_eq!(machine.sweep(), []);
    hooks::step_log(&machine.store);
    block_on(refresh).unwrap();
    assert!(block_on(c.get(1)).unwrap().is_some());
    // What somebody has locked waits.
    machine.env.set_wall_ms(START_MS + 3_601_000);
    let tx = machine.store.begin(Isolation::Latest);
    block_on(tx.put(&c, &numbered(1, START_MS * 2))).unwrap();
    assert_eq!(machine.sweep(), []);
    block_on(tx.commit()).unwrap();
    assert_eq!(machine.sweep(), []);
    assert!(block_on(c.get(1)).unwrap().is_some());
}

#[test]
fn a_unique_value_of_something_expired_is_free() {
    let machine = Machine::new();
    let c = machine.collection();
    block_on(async {
        c.create_index(Index::on("u").unique()).await?;
        let with = |id: u64, at: u64| json!({"_id": id, "at": at, "u": 7});
        c.insert(&with(1, START_MS)).await?;
        assert!(matches!(c.insert(&with(2, START_MS)).await, Err(Error::DuplicateKey { .. })));
        machine.env.set_wall_ms(START_MS + 3_600_000);
        let mut watch = c.watch(Filter::all(), Since::Now).await?;
        c.insert(&with(2, START_MS * 2)).await?;
        let changes = watch.next().await?;
        let kinds: Vec<(bool, bool)> =
            changes.events.iter().map(|e| (e.before.is_some(), e.after.is_some())).collect();
        assert_eq!(kinds, [(true, false), (false, true)], "the holder goes in the same commit");
        assert!(matches!(c.insert(&with(3, START_MS)).await, Err(Error::DuplicateKey { .. })));
        machine.store.verify().await?;
        assert_eq!(machine.sweep(), []);
        assert_eq!(ids(&c.scan(..).collect().await?), [2]);
        // Within one transaction, and for an update.
        c.insert(&json!({"_id": 4, "at": START_MS, "u": 8})).await?;
        machine
            .store
            .transact(|tx| {
                let c = c.clone();
                async move {
                    tx.update(&c, 2, &Update::new().set("u", 8)).await?;
                    tx.insert(&c, &json!({"_id": 5, "u": 7})).await.map(drop)
                }
            })
            .await?;
        machine.store.verify().await?;
        assert_eq!(ids(&c.scan(..).collect().await?), [2, 5]);
        Result::Ok(())
    })
    .unwrap();
}

#[test]
fn the_time_changes_without_a_rebuild() {
    let machine = Machine::new();
    let c = machine.collection();
    let machine = block_on(async {
        for id in 0..10 {
            c.insert(&numbered(id, START_MS + id * 1000)).await?;
        }
        assert!(c.get(4).await?.is_some(), "now it is in the cache");
        machine.env.set_wall_ms(START_MS + 9_000);
        let all = machine.store.snapshot();
        let mut cursor = c.scan(..);
        cursor.next().await?;
        c.set_expire_after("at", Some(Duration::from_secs(5))).await?;
        assert_eq!(c.indexes()[0].index.to_json()["expire_after_ms"], 5000);
        assert!(c.indexes()[0].is_ready);
        assert!(c.get(4).await?.is_none());
        assert_eq!(c.find(Filter::all()).count().await?, 5);
        assert_eq!(cursor.collect().await?.len(), 9, "what has begun goes on");
        assert_eq!(c.find(Filter::all()).at(&all).count().await?, 5);
        c.set_expire_after("at", None).await?;
        assert_eq!(c.find(Filter::all()).count().await?, 10);
        assert_eq!(machine.sweep(), []);
        let two = c.create_index(Index::on("at").and("n")).await?.name;
        let refused = c.set_expire_after(&two, Some(HOUR)).await;
        assert!(matches!(refused, Err(Error::InvalidIndex { .. })));
        let absent = c.set_expire_after("nothing", Some(HOUR)).await;
        assert!(matches!(absent, Err(Error::IndexAbsent { .. })));
        c.set_expire_after("at", Some(Duration::from_secs(7))).await?;
        let machine = machine.reopened();
        let c = machine.store.collection("c")?;
        assert_eq!(c.find(Filter::all()).count().await?, 7);
        assert_eq!(machine.sweep(), [0, 1, 2].map(Id::from));
        assert!(matches!(
            c.create_index(Index::on("at").expire_after(HOUR)).await,
            Err(Error::IndexExists { .. })
        ));
        Result::Ok(machine)
    })
    .unwrap();
    block_on(machine.store.verify()).unwrap();
}

#[test]
fn a_snapshot_from_before_the_index_shows_everything() {
    let machine = Machine::new();
    let c = machine.store.collection("c").unwrap();
    block_on(async {
        c.insert_many([numbered(1, 5).as_str(), numbered(2, START_MS).as_str()]).await?;
        let before = machine.store.snapshot();
        let partial = json!({"n": 1});
        c.create_index(Index::on("at").partial(partial).expire_after(Duration::ZERO)).await?;
        assert_eq!(c.find(Filter::all()).at(&before).count().await?, 2);
        assert!(c.get_at(&before, 1).await?.is_some());
        assert!(c.get(1).await?.is_none());
        assert!(c.get(2).await?.is_some(), "the filter of the index does not match");
        assert_eq!(c.find(Filter::all()).count().await?, 1);
        c.drop_index("at").await?;
        assert_eq!(c.find(Filter::all()).count().await?, 2);
        Result::Ok(())
    })
    .unwrap();
}

#[test]
fn a_restored_backup_hides_and_deletes_again() {
    let machine = Machine::new();
    five(&machine);
    block_on(async {
        machine.store.backup(BackupOptions::new("/backups")).await?;
        assert_eq!(machine.sweep().len(), 2);
        let (disk, env) = (Arc::new(machine.vfs.clone()), Arc::clone(&machine.env));
        let backups = Backups::new("/backups").with_disk(disk, env);
        backups.restore(RestoreOptions::new("/restored")).await?;
        let mut options = small_options(&machine.vfs, &machine.env);
        options.path = "/restored".into();
        let restored = Store::open(options).await?;
        let c = restored.collection("c")?;
        assert_eq!(ids(&c.scan(..).collect().await?), [3, 4, 5]);
        assert_eq!(restored.verify().await?.documents, 5, "as they were stored");
        machine.env.set_wall_ms(START_MS);
        assert_eq!(ids(&c.scan(..).collect().await?), [1, 2, 3, 4, 5], "the clock decides");
        machine.env.set_wall_ms(START_MS + 3_600_002);
        let mut gone = Vec::new();
        while hooks::expire(&restored, |_, id| gone.push(id))? {}
        assert_eq!(gone, [1, 2].map(Id::from));
        Result::Ok(())
    })
    .unwrap();
}

#[test]
fn the_space_of_what_expired_comes_back() {
    const DOCUMENTS: u64 = 500;
    let machine = Machine::new();
    let c = machine.collection();
    let settle = || {
        block_on(machine.store.checkpoint()).unwrap();
        while hooks::step_compact(&machine.store).unwrap() {}
        machine.store.stats().segment_bytes.iter().sum::<u64>()
    };
    let count = |snapshot: &Snapshot| {
        block_on(c.find(Filter::all()).at(snapshot).collect()).unwrap().len() as u64
    };
    block_on(c.insert(r#"{"_id":"for ever"}"#)).unwrap();
    for id in 0..DOCUMENTS {
        block_on(c.insert(&numbered(id * 7919 % DOCUMENTS, START_MS + id))).unwrap();
        if id % 50 == 0 {
            settle();
        }
    }
    let before = settle();
    let snapshot = machine.store.snapshot();
    machine.env.set_wall_ms(START_MS + 3_600_000 + DOCUMENTS);
    assert_eq!(machine.sweep().len() as u64, DOCUMENTS);
    assert!(settle() > before, "the snapshot still sees all of it");
    assert_eq!(count(&snapshot), DOCUMENTS + 1);
    drop(snapshot);
    let after = settle();
    assert!(after < before / 10, "{after} of {before} bytes are left");
    assert_eq!(count(&machine.store.snapshot()), 1);
    block_on(machine.store.verify()).unwrap();
}

#[test]
fn the_pace_is_kept() {
    let machine = Machine::new();
    let c = machine.collection();
    block_on(async {
        for id in 0..30 {
            c.insert(&numbered(id, START_MS)).await?;
        }
        machine.env.advance(HOUR);
        let step = || hooks::step_expiry(&machine.store).unwrap();
        let deleted = || machine.store.stats().expired[1];
        assert!(step());
        let first = deleted();
        assert!(first > 0 && !step() && deleted() == first, "a pause between batches");
        machine.env.advance(Duration::from_millis(50));
        assert!(step() && deleted() > first);
        for _ in 0..100 {
            machine.env.advance(Duration::from_millis(50));
            // While flushes are behind it waits.
            hooks::step_flush(&machine.store)?;
            hooks::step_compact(&machine.store)?;
            step();
            hooks::step_log(&machine.store);
        }
        assert_eq!(deleted(), 30);
        let lag = machine.store.stats().expiry_lag_ms;
        machine.env.advance(Duration::from_secs(1));
        step();
        assert_eq!((machine.store.stats().expiry_lag_ms, lag < 10_000), (0, true), "{lag}");
        Result::Ok(())
    })
    .unwrap();
}

#[test]
fn it_happens_by_itself() {
    let dir = tempfile::tempdir().unwrap();
    let store = block_on(Store::open(Options::new(dir.path()))).unwrap();
    let c = store.collection("c").unwrap();
    block_on(async {
        c.create_index(Index::on("at").expire_after(Duration::ZERO)).await?;
        let mut watch = c.watch(Filter::all(), Since::Now).await?;
        c.insert_many([r#"{"_id":1,"at":1}"#, r#"{"_id":2}"#]).await?;
        assert_eq!(watch.next().await?.events.len(), 2);
        let gone = watch.next().await?;
        assert_eq!((gone.events.len(), gone.events[0].id.clone()), (1, Id::from(1)));
        assert_eq!(store.stats().expired[1], 1);
        Result::Ok(())
    })
    .unwrap();
}
