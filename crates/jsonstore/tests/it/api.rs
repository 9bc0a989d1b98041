//! The API on a real file system.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use hearth_jsonstore::{
    Durability, Error, Id, Isolation, LockMode, Options, Range, Result, Store, Target, Update,
    block_on,
    testing::{SimEnv, SimVfs, hooks, small_options},
};
use serde_json::json;

fn open(dir: &tempfile::TempDir) -> Store {
    block_on(Store::open(Options::new(dir.path()))).unwrap()
}

#[test]
fn documents_come_back() {
    let dir = tempfile::tempdir().unwrap();
    block_on(async {
        let store = open(&dir);
        let people = store.collection("people")?;
        assert_eq!(people.get(1).await?, None);
        let id = people.insert(&json!({"name": "Ada"})).await?;
        assert_eq!(people.get(id.clone()).await?.unwrap().value()["name"], "Ada");
        people.insert("{\"_id\":1,\"n\":1}").await?;
        assert!(matches!(people.insert("{\"_id\":1}").await, Err(Error::DuplicateId { .. })));
        assert!(people.update(1, &Update::new().inc("n", 4).set("a.b", true)).await?);
        assert_eq!(people.get(1).await?.unwrap().json(), r#"{"_id":1,"n":5,"a":{"b":true}}"#);
        assert!(!people.update(2, &Update::new().inc("n", 4)).await?);
        assert!(people.replace("{\"_id\":1,\"z\":0}").await?);
        assert!(!people.replace("{\"_id\":2,\"z\":0}").await?);
        assert!(people.delete(id).await?);
        assert!(!people.delete(99).await?);
        drop((people, store));
        let store = open(&dir);
        let people = store.collection("people")?;
        assert_eq!(people.get(1).await?.unwrap().json(), r#"{"_id":1,"z":0}"#);
        assert_eq!(people.scan(..).collect().await?.len(), 1);
        Result::Ok(())
    })
    .unwrap();
}

#[test]
fn scans_are_ordered_and_bounded() {
    let dir = tempfile::tempdir().unwrap();
    block_on(async {
        let store = open(&dir);
        let c = store.collection("c")?;
        for i in (0..300).rev() {
            c.put(&json!({"_id": i})).await?;
        }
        store.checkpoint().await?;
        for i in 300..400 {
            c.put(&json!({"_id": i})).await?;
        }
        let ids = |docs: Vec<hearth_jsonstore::Document>| -> Vec<i64> {
            docs.iter().map(|d| d.value()["_id"].as_i64().unwrap()).collect()
        };
        assert_eq!(ids(c.scan(..).collect().await?), (0..400).collect::<Vec<_>>());
        let range = Range::all().from(295).to(305);
        assert_eq!(ids(c.scan(range).collect().await?), (295..305).collect::<Vec<_>>());
        let t = store.collection("t")?;
        for (a, b) in [("x", 1), ("y", 1), ("y", 2), ("z", 1)] {
            t.put(&json!({"_id": [a, b]})).await?;
        }
        assert_eq!(t.scan(Range::prefix(&["y".into()])).collect().await?.len(), 2);
        assert!(t.get(Id::tuple(&["y".into(), 2.into()])).await?.is_some());
        Result::Ok(())
    })
    .unwrap();
}

#[test]
fn snapshots_do_not_move() {
    let dir = tempfile::tempdir().unwrap();
    block_on(async {
        let store = open(&dir);
        let c = store.collection("c")?;
        c.put("{\"_id\":1,\"v\":1}").await?;
        let before = store.snapshot();
        c.put("{\"_id\":1,\"v\":2}").await?;
        c.put("{\"_id\":2,\"v\":1}").await?;
        store.compact().await?;
        assert_eq!(c.get_at(&before, 1).await?.unwrap().value()["v"], 1);
        assert_eq!(c.scan_at(&before, ..).collect().await?.len(), 1);
        assert_eq!(c.get(1).await?.unwrap().value()["v"], 2);
        drop(before);
        store.compact().await?;
        let report = store.verify().await?;
        assert_eq!(
            (report.documents, report.versions),
            (2, 3),
            "two documents, one catalogue entry"
        );
        Result::Ok(())
    })
    .unwrap();
}

#[test]
fn transactions_are_all_or_nothing() {
    let dir = tempfile::tempdir().unwrap();
    block_on(async {
        let store = open(&dir);
        let c = store.collection("c")?;
        c.put("{\"_id\":\"a\",\"n\":10}").await?;
        c.put("{\"_id\":\"b\",\"n\":0}").await?;
        let coll = &c;
        store
            .transact(|tx| async move {
                tx.update(coll, "a", &Update::new().inc("n", -3)).await?;
                tx.update(coll, "b", &Update::new().inc("n", 3)).await?;
                assert_eq!(
                    tx.get(coll, "a").await?.unwrap().value()["n"],
                    7,
                    "own changes are seen"
                );
                Ok(())
            })
            .await?;
        let failed: Result<()> = store
            .transact(|tx| async move {
                tx.update(coll, "a", &Update::new().inc("n", -3)).await?;
                Err(Error::InvalidName)
            })
            .await;
        assert!(matches!(failed, Err(Error::InvalidName)));
        assert_eq!(c.get("a").await?.unwrap().value()["n"], 7);
        assert_eq!(c.get("b").await?.unwrap().value()["n"], 3);
        assert_eq!(store.stats().lock_entries, 0);
        Result::Ok(())
    })
    .unwrap();
}

#[test]
fn writers_of_different_fields_both_succeed() {
    let dir = tempfile::tempdir().unwrap();
    block_on(async {
        let store = open(&dir);
        let c = store.collection("c")?;
        c.put("{\"_id\":1,\"a\":0,\"b\":0}").await?;
        let (t1, t2) = (store.begin(Isolation::Snapshot), store.begin(Isolation::Snapshot));
        t1.update(&c, 1, &Update::new().set("a", 1)).await?;
        t2.update(&c, 1, &Update::new().set("b", 2)).await?;
        t2.commit().await?;
        t1.commit().await?;
        assert_eq!(c.get(1).await?.unwrap().json(), r#"{"_id":1,"a":1,"b":2}"#);
        Result::Ok(())
    })
    .unwrap();
}

#[test]
fn isolation_levels_differ_as_documented() {
    let dir = tempfile::tempdir().unwrap();
    block_on(async {
        let store = open(&dir);
        let c = store.collection("c")?;
        c.put("{\"_id\":1,\"v\":0}").await?;
        c.put("{\"_id\":2,\"v\":0}").await?;
        for (isolation, skew_allowed) in
            [(Isolation::Snapshot, true), (Isolation::Serializable, false)]
        {
            let (t1, t2) = (store.begin(isolation), store.begin(isolation));
            t1.get(&c, 1).await?;
            t2.get(&c, 2).await?;
            t1.put(&c, "{\"_id\":2,\"v\":1}").await?;
            t2.put(&c, "{\"_id\":1,\"v\":1}").await?;
            t1.commit().await?;
            assert_eq!(t2.commit().await.is_ok(), skew_allowed, "{isolation:?}: write skew");
            // A phantom: a new document in a range that was read.
            let (t1, t2) = (store.begin(isolation), store.begin(isolation));
            t1.scan(&c, ..).await?;
            t2.put(&c, &json!({"_id": 100})).await?;
            t2.commit().await?;
            t1.put(&c, "{\"_id\":3}").await?;
            assert_eq!(t1.commit().await.is_ok(), skew_allowed, "{isolation:?}: phantom");
        }
        // First committer wins.
        let (t1, t2) = (store.begin(Isolation::Snapshot), store.begin(Isolation::Snapshot));
        t1.put(&c, "{\"_id\":1,\"v\":8}").await?;
        t1.commit().await?;
        assert!(matches!(t2.put(&c, "{\"_id\":1,\"v\":9}").await, Err(Error::Conflict)));
        Result::Ok(())
    })
    .unwrap();
}

#[test]
fn locks_can_be_taken_by_hand() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = Options::new(dir.path());
    options.lock_timeout = Duration::from_millis(30);
    block_on(async {
        let store = Store::open(options).await?;
        let c = store.collection("c")?;
        c.put("{\"_id\":1}").await?;
        let tx = store.begin(Isolation::Serializable);
        tx.lock(Target::Collection(&c), LockMode::Shared).await?;
        assert!(matches!(c.put("{\"_id\":2}").await, Err(Error::LockTimeout { .. })));
        tx.rollback();
        c.put("{\"_id\":2}").await?;
        let tx = store.begin(Isolation::Serializable);
        tx.lock(Target::Field(&c, 1.into(), "a.b"), LockMode::Exclusive).await?;
        let other = store.begin(Isolation::Serializable);
        other.update(&c, 1, &Update::new().set("c", 1)).await?;
        let blocked = other.update(&c, 1, &Update::new().set("a", 1)).await;
        assert!(matches!(blocked, Err(Error::LockTimeout { .. })), "the parent of a locked field");
        Result::Ok(())
    })
    .unwrap();
}

#[test]
fn bulk_load_is_atomic() {
    let dir = tempfile::tempdir().unwrap();
    block_on(async {
        let store = open(&dir);
        let c = store.collection("c")?;
        let keys = store.keyspace("by-name")?;
        c.put("{\"_id\":5,\"old\":true}").await?;
        let mut load = store.load().await?;
        for i in 0..20_000 {
            load.put(&c, &json!({"_id": i, "text": format!("some text that repeats {i}")}))?;
            load.put_key(&keys, format!("name{}", (i * 7919) % 20_000).as_bytes(), &[1])?;
        }
        assert!(c.get(6).await?.is_none(), "not visible before the end");
        load.finish().await?;
        assert_eq!(c.scan(..).collect().await?.len(), 20_000);
        assert!(c.get(5).await?.unwrap().value().get("old").is_none());
        assert_eq!(keys.range(b"name1", 3).await?.len(), 3);
        c.put("{\"_id\":5,\"new\":true}").await?;
        let mut load = store.load().await?;
        load.put(&c, "{\"_id\":99999}")?;
        drop(load);
        drop((c, keys));
        store.close().await?;
        let store = open(&dir);
        let c = store.collection("c")?;
        assert!(c.get(99999).await?.is_none(), "a dropped load leaves no trace");
        assert!(c.get(5).await?.unwrap().value().get("new").is_some());
        assert_eq!(store.verify().await?.documents, 20_000);
        Result::Ok(())
    })
    .unwrap();
}

#[test]
fn relaxed_commits_are_seen_by_their_session_only_until_they_are_synced() {
    let (vfs, env) = (SimVfs::new(), Arc::new(SimEnv::new(1)));
    let mut options = small_options(&vfs, &env);
    options.durability = Durability::Interval;
    block_on(async {
        let store = Store::open(options.clone()).await?;
        let c = store.collection("c")?;
        let other = store.session().collection("c")?;
        c.put("{\"_id\":1}").await?;
        hooks::mark(&store);
        assert!(other.get(1).await?.is_some(), "synced by the mark");
        c.put("{\"_id\":2}").await?;
        assert!(c.get(2).await?.is_some() && other.get(2).await?.is_none());
        assert_eq!(c.scan(..).collect().await?.len(), 2);
        assert_eq!(other.scan(..).collect().await?.len(), 1);
        let tx = store.session().begin(Isolation::Snapshot);
        assert!(tx.get(&c, 2).await?.is_none(), "the session of the transaction decides");
        tx.rollback();
        let lost = vfs.fork();
        lost.power_cut(&mut |_| 0);
        // A checkpoint makes everything durable, so everybody sees it.
        store.checkpoint().await?;
        assert!(other.get(2).await?.is_some());
        options.vfs = Arc::new(lost);
        let store = Store::open(options).await?;
        assert_eq!(store.collection("c")?.scan(..).collect().await?.len(), 1);
        Result::Ok(())
    })
    .unwrap();
}

/// The third cache: the same documents, blocks checked once, pages given back over the budget.
#[cfg(feature = "mmap")]
#[test]
fn mapped_segments_are_checked_and_evicted() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = Options::new(dir.path());
    options.memory_budget = 1 << 20;
    options.segment_bytes = 256 << 10;
    options.map_bytes_max = 64 << 10;
    block_on(async {
        let store = Store::open(options.clone()).await?;
        let c = store.collection("c")?;
        let mut load = store.load().await?;
        let text = |i: i64| format!("{{\"_id\":{i},\"n\":{}}}", i.wrapping_mul(0x9E37_79B9));
        for i in 0..50_000 {
            load.put(&c, text(i).as_str())?;
        }
        load.finish().await?;
        let mut most = 0;
        for i in 0..50_000 {
            assert_eq!(c.get(i).await?.unwrap().json(), text(i));
            if i % 1000 == 0 {
                hooks::tick(&store);
            }
            most = most.max(store.stats().mapped_bytes);
        }
        assert!((1..512 << 10).contains(&most), "{most} bytes were resident");
        assert_eq!(store.stats().caches[5], 0, "nothing is cached twice");
        store.close().await?;
        // Rot under a mapping is found as well.
        let store = Store::open(options).await?;
        let c = store.collection("c")?;
        for entry in std::fs::read_dir(dir.path().join("seg")).unwrap() {
            let path = entry.unwrap().path();
            let mut bytes = std::fs::read(&path).unwrap();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            std::fs::write(&path, bytes).unwrap();
        }
        let mut damaged = 0;
        for i in 0..50_000 {
            match c.get(i).await {
                Ok(found) => assert_eq!(found.unwrap().json(), text(i)),
                Err(Error::Corruption { .. }) => damaged += 1,
                Err(e) => return Err(e),
            }
        }
        assert!(damaged > 0);
        Result::Ok(())
    })
    .unwrap();
}

/// No more than once a second, however often that is.
#[test]
fn an_application_is_told_that_memory_was_freed() {
    static TOLD: AtomicU64 = AtomicU64::new(0);
    let begin = Instant::now();
    let dir = tempfile::tempdir().unwrap();
    let mut options = Options::new(dir.path());
    options.memtable_bytes = 64 << 10;
    options.on_memory_freed = Some(|| {
        TOLD.fetch_add(1, Ordering::Relaxed);
    });
    let store = block_on(Store::open(options)).unwrap();
    let c = store.collection("c").unwrap();
    let text = "t".repeat(8 << 10);
    for n in 0.. {
        block_on(c.put(&json!({"_id": n, "text": text}))).unwrap();
        if TOLD.load(Ordering::Relaxed) >= 2 {
            break;
        }
        assert!(begin.elapsed() < Duration::from_secs(60), "nobody was told");
    }
    assert!(store.stats().background[0] > 2, "it flushed more often than it told");
    assert!(begin.elapsed() >= Duration::from_secs(2));
}
