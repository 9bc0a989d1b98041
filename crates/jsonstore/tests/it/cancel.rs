//! A future dropped at any await point leaks no lock and loses no group.
//!
//! Each call of the API is polled once, twice, … until it would finish, and dropped there; with
//! nothing in its way, and behind a lock on the record, the collection and the store.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use hearth_jsonstore::{
    Collection, Error, Isolation, Keyspace, LockMode, Options, Result, Store, Target, Transaction,
    Update, block_on,
    testing::{SimEnv, SimVfs, hooks, small_options},
};
use serde_json::json;

/// What the calls work with.
#[derive(Clone)]
struct Hands {
    store: Store,
    c: Collection,
    k: Keyspace,
}

type Call = (&'static str, fn(Hands) -> Pin<Box<dyn Future<Output = Result<()>>>>);

macro_rules! calls {
    ($($name:literal: |$h:ident| $body:expr,)*) => {
        &[$(($name, |$h: Hands| Box::pin(async move { $body; Ok(()) }))),*]
    };
}

fn tx(h: &Hands) -> Transaction {
    h.store.begin(Isolation::Serializable)
}

const CALLS: &[Call] = calls! {
    "insert": |h| h.c.insert("{\"n\":1}").await?,
    "insert_many": |h| h.c.insert_many(["{\"n\":1}", "{\"n\":2}"]).await?,
    "put": |h| h.c.put("{\"_id\":1,\"n\":5}").await?,
    "replace": |h| h.c.replace("{\"_id\":1,\"n\":6}").await?,
    "update": |h| h.c.update(1, &Update::new().inc("n", 1)).await?,
    "delete": |h| h.c.delete(2).await?,
    "get": |h| h.c.get(1).await?,
    "get_at": |h| { let s = h.store.snapshot(); h.c.get_at(&s, 1).await? },
    "scan": |h| h.c.scan(..).collect().await?,
    "scan next": |h| { let mut s = h.c.scan(..); s.next().await?; s.next().await? },
    "keyspace get": |h| h.k.get(b"a").await?,
    "keyspace range": |h| h.k.range(b"a", 9).await?,
    "tx get": |h| { let t = tx(&h); t.get(&h.c, 1).await?; t.commit().await? },
    "tx get_for_update": |h| { let t = tx(&h); t.get_for_update(&h.c, 1).await?; t.commit().await? },
    "tx insert": |h| { let t = tx(&h); t.insert(&h.c, &json!({"n": 1})).await?; t.commit().await? },
    "tx put": |h| { let t = tx(&h); t.put(&h.c, "{\"_id\":1,\"n\":7}").await?; t.commit().await? },
    "tx replace": |h| { let t = tx(&h); t.replace(&h.c, "{\"_id\":1,\"n\":8}").await?; t.commit().await? },
    "tx update": |h| {
        let t = tx(&h);
        t.update(&h.c, 1, &Update::new().inc("n", 1)).await?;
        t.update(&h.c, 1, &Update::new().set("m", 1)).await?;
        t.get(&h.c, 1).await?;
        t.commit().await?
    },
    "tx delete": |h| { let t = tx(&h); t.delete(&h.c, 2).await?; t.commit().await? },
    "tx scan": |h| { let t = tx(&h); t.put(&h.c, "{\"_id\":3}").await?; t.scan(&h.c, ..).await?; t.commit().await? },
    "tx put_key": |h| { let t = tx(&h); t.put_key(&h.k, b"a", b"2").await?; t.commit().await? },
    "tx delete_key": |h| { let t = tx(&h); t.delete_key(&h.k, b"b").await?; t.commit().await? },
    "tx lock": |h| {
        let t = tx(&h);
        t.lock(Target::Field(&h.c, 1.into(), "a.b"), LockMode::Exclusive).await?;
        t.lock(Target::Record(&h.c, 1.into()), LockMode::Exclusive).await?;
        t.lock(Target::Collection(&h.c), LockMode::SharedIntentExclusive).await?;
        t.lock(Target::Store, LockMode::Exclusive).await?;
    },
    "transact": |h| {
        let c = &h.c;
        h.store.transact(|t| async move {
            t.update(c, 1, &Update::new().inc("n", 1)).await?;
            t.put(c, "{\"_id\":4}").await
        }).await?
    },
    "load": |h| {
        let mut load = h.store.load().await?;
        load.put(&h.c, "{\"_id\":5}")?;
        load.finish().await?;
    },
    "checkpoint": |h| h.store.checkpoint().await?,
    "compact": |h| h.store.compact().await?,
    "verify": |h| h.store.verify().await?,
};

/// What stands in the way.
#[derive(Debug, Clone, Copy)]
enum Way {
    Free,
    Record,
    Collection,
    Store,
}

const WAYS: [Way; 4] = [Way::Free, Way::Record, Way::Collection, Way::Store];

impl Way {
    fn block(self, h: &Hands) -> Transaction {
        let tx = h.store.begin(Isolation::Latest);
        let target = match self {
            Self::Free => return tx,
            Self::Record => Target::Record(&h.c, 1.into()),
            Self::Collection => Target::Collection(&h.c),
            Self::Store => Target::Store,
        };
        block_on(tx.lock(target, LockMode::Exclusive)).unwrap();
        tx
    }
}

fn prepare(store: Store) -> Hands {
    let (c, k) = (store.collection("c").unwrap(), store.keyspace("k").unwrap());
    block_on(async {
        c.put("{\"_id\":1,\"n\":0}").await.unwrap();
        c.put("{\"_id\":2}").await.unwrap();
        let tx = store.begin(Isolation::Latest);
        tx.put_key(&k, b"a", b"1").await.unwrap();
        tx.put_key(&k, b"b", b"1").await.unwrap();
        tx.commit().await.unwrap();
    });
    Hands { store, c, k }
}

fn poll<T>(future: &mut Pin<Box<dyn Future<Output = T>>>) -> Poll<T> {
    future.as_mut().poll(&mut Context::from_waker(Waker::noop()))
}

/// Polls a call `polls` times, with a commit of somebody else in the same group, and drops it.
/// True if it finished before.
fn drop_after(h: &Hands, call: &Call, way: Way, polls: u32) -> bool {
    let holder = way.block(h);
    let mut future = call.1(h.clone());
    let mut done = false;
    for round in 0..polls {
        if let Poll::Ready(result) = poll(&mut future) {
            assert!(result.is_ok(), "{} {way:?}: {result:?}", call.0);
            done = true;
            break;
        }
        // What is in the way goes half way through, so that waits end in grants as well.
        if round + 1 == polls.div_ceil(2) {
            holder.rollback();
        }
        if round % 2 == 1 {
            hooks::step_log(&h.store);
        }
    }
    drop(future);
    holder.rollback();
    done
}

#[test]
fn every_call_dropped_at_every_poll_leaks_nothing() {
    let (vfs, env) = (SimVfs::new(), Arc::new(SimEnv::new(1)));
    let h = prepare(block_on(Store::open(small_options(&vfs, &env))).unwrap());
    let (mut drops, mut acknowledged) = (0, 0);
    for call in CALLS {
        for way in WAYS {
            for polls in 0.. {
                assert!(polls < 64, "{} {way:?} never ends", call.0);
                let what = format!("{} {way:?}, dropped after {polls} polls", call.0);
                // Somebody else's commit may share the group with the dropped one.
                let other = h.store.collection("other").unwrap();
                let text = format!("{{\"_id\":{drops}}}");
                let mut neighbour: Pin<Box<dyn Future<Output = Result<()>>>> =
                    Box::pin(async move { other.put(text.as_str()).await.map(drop) });
                let done = drop_after(&h, call, way, polls);
                drops += 1;
                let mut tries = 0;
                while poll(&mut neighbour)
                    .map(|r| r.unwrap_or_else(|e| panic!("{what}: {e}")))
                    .is_pending()
                {
                    hooks::step_log(&h.store);
                    tries += 1;
                    assert!(tries < 100, "{what}: a neighbour waits for ever");
                }
                acknowledged += 1;
                while hooks::step_log(&h.store) {}
                let stats = h.store.stats();
                assert_eq!(stats.lock_entries, 0, "{what}: locks");
                assert_eq!(stats.snapshots.0, 0, "{what}: snapshots");
                if done {
                    break;
                }
            }
        }
    }
    println!("{drops} drops of {} calls", CALLS.len());
    // All groups were written, and all of it comes back.
    drop(h);
    vfs.power_cut(&mut |_| 0);
    let store = block_on(Store::open(small_options(&vfs, &env))).unwrap();
    let found = block_on(store.collection("other").unwrap().scan(..).collect()).unwrap();
    assert_eq!(found.len(), acknowledged);
    block_on(store.verify()).unwrap();
}

/// With the store's own threads there are more await points: whatever goes to the pool.
#[test]
fn dropped_while_threads_work_for_it_leaks_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let h = prepare(block_on(Store::open(Options::new(dir.path()))).unwrap());
    for call in CALLS {
        for way in WAYS {
            for polls in [1, 2, 3, 5, 8] {
                let holder = way.block(&h);
                let mut future = call.1(h.clone());
                for round in 0..polls {
                    if poll(&mut future).is_ready() {
                        break;
                    }
                    if round == 0 {
                        holder.rollback();
                    }
                    std::thread::sleep(Duration::from_micros(300));
                }
                drop(future);
                holder.rollback();
            }
        }
        // What runs on the pool ends by itself.
        let start = Instant::now();
        while h.store.stats().lock_entries + h.store.stats().snapshots.0 > 0 {
            assert!(start.elapsed() < Duration::from_secs(20), "{}: {:?}", call.0, h.store.stats());
            std::thread::yield_now();
        }
    }
    block_on(h.c.put("{\"_id\":9}")).unwrap();
    block_on(h.store.verify()).unwrap();
}

/// Opening and closing go on in the background; afterwards the store is free for the next.
#[test]
fn an_opening_or_closing_that_is_dropped_ends_by_itself() {
    let dir = tempfile::tempdir().unwrap();
    drop(prepare(block_on(Store::open(Options::new(dir.path()))).unwrap()));
    let reopen = || {
        let start = Instant::now();
        loop {
            match block_on(Store::open(Options::new(dir.path()))) {
                Ok(store) => return store,
                Err(Error::Locked { .. }) if start.elapsed() < Duration::from_secs(20) => {
                    std::thread::yield_now();
                }
                Err(e) => panic!("{e}"),
            }
        }
    };
    for polls in 0..3 {
        let mut opening: Pin<Box<dyn Future<Output = Result<Store>>>> =
            Box::pin(Store::open(Options::new(dir.path())));
        let mut opened = None;
        for _ in 0..polls {
            if let Poll::Ready(result) = poll(&mut opening) {
                // The closing before it may still be under way.
                opened = result.ok();
                break;
            }
        }
        drop((opening, opened));
        let store = reopen();
        let c = store.collection("c").unwrap();
        block_on(c.put(&format!("{{\"_id\":\"{polls}\"}}"))).unwrap();
        let mut closing: Pin<Box<dyn Future<Output = Result<()>>>> = Box::pin(store.close());
        for _ in 0..polls {
            if poll(&mut closing).is_ready() {
                break;
            }
        }
        drop((closing, c));
    }
    let store = reopen();
    assert_eq!(block_on(store.collection("c").unwrap().scan(..).collect()).unwrap().len(), 5);
}
