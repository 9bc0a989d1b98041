//! Change logs, watches, live queries.

use std::{
    collections::BTreeMap,
    future::poll_fn,
    pin::pin,
    sync::Arc,
    task::Poll,
    time::{Duration, UNIX_EPOCH},
};

use hearth_jsonstore::{
    ChangeRetention, Collection, Error, Filter, Id, LiveQuery, LiveUpdate, Options, Result, Since,
    Store, Update, block_on,
    testing::{SimEnv, SimVfs, small_options},
};
use proptest::prelude::*;
use serde_json::{Value, json};

fn store() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = block_on(Store::open(Options::new(dir.path()))).unwrap();
    (dir, store)
}

fn filter(json: &Value) -> Filter {
    Filter::from_json(json).unwrap()
}

/// What a future gives without waiting.
fn now<T>(future: impl Future<Output = T>) -> Option<T> {
    block_on(async {
        let mut future = pin!(future);
        poll_fn(|context| {
            Poll::Ready(match future.as_mut().poll(context) {
                Poll::Ready(value) => Some(value),
                Poll::Pending => None,
            })
        })
        .await
    })
}

#[test]
fn changes_come_whole_and_in_order() {
    let (_dir, store) = store();
    let c = store.collection("c").unwrap();
    block_on(async {
        let mut all = c.watch(Filter::all(), Since::Now).await?;
        let mut big = c.watch(filter(&json!({"n": {"$gt": 5}})), Since::Now).await?;
        assert!(now(all.next()).is_none());
        c.insert_many([r#"{"_id":1,"n":1}"#, r#"{"_id":2,"n":9}"#]).await?;
        c.update(1, &Update::new().set("n", 7)).await?;
        c.delete(2).await?;
        let first = all.next().await?;
        assert_eq!(first.events.len(), 2);
        assert!(first.events.iter().all(|e| e.before.is_none() && e.after.is_some()));
        let second = all.next().await?;
        assert_eq!(second.events[0].before.as_ref().unwrap().value()["n"], 1);
        assert_eq!(second.events[0].after.as_ref().unwrap().value()["n"], 7);
        assert_eq!(second.events[0].after.as_ref().unwrap().rev(), second.seq);
        let third = all.next().await?;
        assert!(third.seq > second.seq && third.events[0].after.is_none());
        assert!(third.at > UNIX_EPOCH);
        assert!(now(all.next()).is_none());
        // Of the first transaction only one document matches; the second makes another one match.
        let ids = |changes: hearth_jsonstore::Changes| -> Vec<Id> {
            changes.events.into_iter().map(|event| event.id).collect()
        };
        assert_eq!(ids(big.next().await?), [Id::from(2)]);
        assert_eq!(ids(big.next().await?), [Id::from(1)]);
        assert_eq!(ids(big.next().await?), [Id::from(2)]);
        assert!(now(big.next()).is_none());
        // Somebody else goes on in the middle, or from a time.
        let mut later = c.watch(Filter::all(), Since::Seq(first.seq)).await?;
        assert_eq!(later.next().await?, second);
        let mut later = c.watch(Filter::all(), Since::Time(first.at)).await?;
        assert_eq!(later.next().await?.seq, first.seq);
        Result::Ok(())
    })
    .unwrap();
}

#[test]
fn a_waiter_is_woken_by_a_commit() {
    let (_dir, store) = store();
    let c = store.collection("c").unwrap();
    let mut watch = block_on(c.watch(filter(&json!({"room": 7})), Since::Now)).unwrap();
    let waiting = std::thread::spawn(move || block_on(watch.next()).unwrap());
    for room in [1, 2, 3, 7] {
        block_on(c.insert(&json!({ "room": room }))).unwrap();
    }
    let changes = waiting.join().unwrap();
    assert_eq!(changes.events[0].after.as_ref().unwrap().value()["room"], 7);
}

#[test]
fn what_is_not_kept_is_said_to_be_gone() {
    let dir = tempfile::tempdir().unwrap();
    block_on(async {
        let store = Store::open(Options::new(dir.path())).await?;
        let c = store.collection("c")?;
        let before = store.snapshot().seq();
        c.insert(r#"{"_id":0}"#).await?;
        let mut retention = ChangeRetention::default();
        retention.bytes_max = 10_000;
        c.keep_changes(retention).await?;
        assert!(matches!(
            c.watch(Filter::all(), Since::Seq(before)).await,
            Err(Error::Lagged { .. })
        ));
        let mut slow = c.watch(Filter::all(), Since::Now).await?;
        for i in 1..200 {
            c.put(&json!({"_id": i, "pad": "x".repeat(200)})).await?;
        }
        // The ticker cuts the log within its rounds; until then nothing is lost.
        let lagged = loop {
            let position = slow.position();
            match c.watch(Filter::all(), Since::Seq(position)).await {
                Ok(_) => std::thread::yield_now(),
                Err(e) => break e,
            }
        };
        let Error::Lagged { mut oldest } = lagged else { panic!("{lagged}") };
        assert!(matches!(slow.next().await, Err(Error::Lagged { .. })));
        // What the ticker has left to cut may go while the rest is read.
        let (mut rest, count) = 'read: loop {
            let mut rest = match c.watch(Filter::all(), Since::Seq(oldest)).await {
                Err(Error::Lagged { oldest: newer }) => {
                    assert!(newer > oldest);
                    oldest = newer;
                    continue;
                }
                rest => rest?,
            };
            let mut count = 0;
            loop {
                match now(rest.next()).transpose() {
                    Ok(Some(_)) => count += 1,
                    Ok(None) => break 'read (rest, count),
                    Err(Error::Lagged { oldest: newer }) => {
                        assert!(newer > oldest);
                        oldest = newer;
                        continue 'read;
                    }
                    Err(e) => return Err(e),
                }
            }
        };
        assert!((10..190).contains(&count), "{count} transactions are kept");
        c.forget_changes().await?;
        assert!(matches!(rest.next().await, Err(Error::Lagged { .. })));
        let position = rest.position();
        drop((slow, rest, c));
        store.close().await?;
        // A log that begins anew does not pretend to have what came in between.
        let store = Store::open(Options::new(dir.path())).await?;
        let c = store.collection("c")?;
        c.put(r#"{"_id":500}"#).await?;
        c.keep_changes(ChangeRetention::default()).await?;
        assert!(matches!(
            c.watch(Filter::all(), Since::Seq(position)).await,
            Err(Error::Lagged { .. })
        ));
        Result::Ok(())
    })
    .unwrap();
}

/// Somebody who follows a live query.
struct Client {
    filter: Value,
    live: LiveQuery,
    view: BTreeMap<String, Value>,
    seq: u64,
    is_whole: bool,
}

impl Client {
    fn new(collection: &Collection, filter: Value) -> Self {
        let live = block_on(collection.live(self::filter(&filter))).unwrap();
        Self { filter, live, view: BTreeMap::new(), seq: 0, is_whole: false }
    }

    fn apply(&mut self, update: LiveUpdate) {
        for document in update.added {
            let old = self.view.insert(document.value()["_id"].to_string(), document.value());
            assert!(old.is_none(), "added twice");
        }
        for document in update.changed {
            let old = self.view.insert(document.value()["_id"].to_string(), document.value());
            assert!(old.is_some(), "changed without being there");
        }
        for id in update.removed {
            assert!(self.view.remove(&id.to_json()).is_some(), "removed without being there");
        }
        self.is_whole = !update.is_partial;
        if self.is_whole {
            self.seq = update.seq;
        }
    }

    fn drain(&mut self, collection: &Collection) {
        while let Some(update) = now(self.live.next()) {
            self.apply(update.unwrap());
        }
        let found = block_on(collection.find(filter(&self.filter)).collect()).unwrap();
        let want: BTreeMap<String, Value> =
            found.iter().map(|d| (d.value()["_id"].to_string(), d.value())).collect();
        assert_eq!(self.view, want, "{}", self.filter);
    }
}

#[derive(Debug, Clone)]
enum Step {
    Put(u64, i64, i64),
    Delete(u64),
    Many(Vec<(u64, i64)>),
    Drain(usize),
    Reconnect(usize),
    Permit(usize, Value),
}

fn filters() -> impl Strategy<Value = Value> {
    prop_oneof![
        (0..4_i64).prop_map(|room| json!({ "room": room })),
        (0..4_i64, 0..9_i64).prop_map(|(room, n)| json!({"room": room, "n": {"$lt": n}})),
        (0..9_i64).prop_map(|n| json!({"n": {"$gte": n}})),
        Just(json!({})),
        Just(json!({"room": {"$in": [1, 2]}})),
    ]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (0..20_u64, 0..4_i64, 0..9_i64).prop_map(|(id, room, n)| Step::Put(id, room, n)),
        2 => (0..20_u64).prop_map(Step::Delete),
        1 => prop::collection::vec((0..20_u64, 0..4_i64), 1..6).prop_map(Step::Many),
        2 => (0..4_usize).prop_map(Step::Drain),
        1 => (0..4_usize).prop_map(Step::Reconnect),
        1 => (0..4_usize, filters()).prop_map(|(client, filter)| Step::Permit(client, filter)),
    ];
    prop::collection::vec(step, 1..80)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn a_view_is_the_query_at_its_sequence(
        starts in prop::collection::vec(filters(), 4),
        steps in steps(),
    ) {
        let options = small_options(&SimVfs::new(), &Arc::new(SimEnv::new(1)));
        let store = block_on(Store::open(options)).unwrap();
        let c = store.collection("c").unwrap();
        block_on(c.put(&json!({"_id": 3, "room": 1, "n": 3}))).unwrap();
        let mut clients: Vec<Client> =
            starts.into_iter().map(|filter| Client::new(&c, filter)).collect();
        for step in steps {
            match step {
                Step::Put(id, room, n) => {
                    block_on(c.put(&json!({"_id": id, "room": room, "n": n}))).unwrap();
                }
                Step::Delete(id) => {
                    block_on(c.delete(id)).unwrap();
                }
                Step::Many(all) => {
                    block_on(store.transact(|tx| {
                        let (c, all) = (&c, &all);
                        async move {
                            for (id, room) in all {
                                tx.put(c, &json!({"_id": id, "room": room, "n": 1})).await?;
                            }
                            Ok(())
                        }
                    }))
                    .unwrap();
                }
                Step::Drain(client) => clients[client].drain(&c),
                Step::Reconnect(client) => {
                    let client = &mut clients[client];
                    // The connection breaks anywhere; what is not whole is thrown away.
                    if client.is_whole {
                        let from = block_on(c.live_from(filter(&client.filter), client.seq));
                        client.live = from.unwrap();
                    } else {
                        *client = Client::new(&c, client.filter.clone());
                    }
                }
                Step::Permit(client, to) => {
                    let client = &mut clients[client];
                    client.drain(&c);
                    client.filter = to;
                    client.live.set_filter(filter(&client.filter));
                    client.is_whole = false;
                    client.drain(&c);
                }
            }
        }
        clients.iter_mut().for_each(|client| client.drain(&c));
    }
}

#[test]
fn old_changes_go_by_age() {
    let env = Arc::new(SimEnv::new(1));
    let store = block_on(Store::open(small_options(&SimVfs::new(), &env))).unwrap();
    let c = store.collection("c").unwrap();
    let mut retention = ChangeRetention::default();
    retention.age = Duration::from_secs(10);
    block_on(c.keep_changes(retention)).unwrap();
    let start = store.snapshot().seq();
    block_on(c.put(r#"{"_id":1}"#)).unwrap();
    env.advance(Duration::from_secs(11));
    block_on(c.put(r#"{"_id":2}"#)).unwrap();
    hearth_jsonstore::testing::hooks::tick(&store);
    block_on(c.put(r#"{"_id":3}"#)).unwrap();
    let gone = block_on(c.watch(Filter::all(), Since::Seq(start)));
    let Err(Error::Lagged { oldest }) = gone else { panic!("{gone:?}") };
    let mut rest = block_on(c.watch(Filter::all(), Since::Seq(oldest))).unwrap();
    let mut ids = Vec::new();
    while let Some(changes) = now(rest.next()) {
        ids.extend(changes.unwrap().events.into_iter().map(|event| event.id.to_json()));
    }
    assert_eq!(ids, ["2", "3"]);
}
