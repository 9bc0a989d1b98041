//! What the clients of a world do.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use parking_lot::Mutex;
use serde_json::json;

use super::{
    SimEnv,
    env::Random,
    hooks,
    settings::{date_members, date_of, expires_after, pad_max},
    world::{Doc, Key, Model, Profile, collection, random_key},
};
use crate::{Env as _, Error, Index, Isolation, Result, Store, Transaction, Update};

/// What a client needs of the world.
#[derive(Clone)]
pub(super) struct Scene {
    pub(super) store: Store,
    pub(super) env: Arc<SimEnv>,
    pub(super) model: Arc<Mutex<Model>>,
    pub(super) next_value: Arc<Mutex<u64>>,
    pub(super) failure: Arc<Mutex<Option<String>>>,
    pub(super) profile: Profile,
}

/// One transaction of a client, with the model told what was logged and what was acknowledged.
pub(super) async fn client(scene: Scene, seed: u64) {
    if let Err(e) = transaction(&scene, seed).await {
        let violates = match e {
            Error::DuplicateKey { .. } => scene.profile.indexes,
            Error::SchemaViolation { .. } => scene.profile.schemas,
            _ => false,
        };
        let expected = violates || matches!(e, Error::Conflict) || may_befall(&e);
        if !expected {
            *scene.failure.lock() = Some(format!("a client got {e:?}"));
        }
    }
}

/// What may happen to anybody among others in a world with faults.
pub(super) fn may_befall(e: &Error) -> bool {
    matches!(
        e,
        Error::Deadlock { .. }
            | Error::LockTimeout { .. }
            | Error::Poisoned { .. }
            | Error::Io { .. }
            | Error::DiskFull { .. }
            | Error::Closed
    )
}

/// Makes or drops an index.
pub(super) async fn index_client(store: Store, failure: Arc<Mutex<Option<String>>>, seed: u64) {
    let mut random = Random::new(seed);
    let coll = collection(&store, random.below(2) as usize);
    let all = [
        Index::on("v").unique(),
        Index::on("u").unique().sparse(),
        Index::on("t").and_descending("v").include("u"),
        Index::on_descending("pad").partial(json!({"v": {"$mod": [3, 0]}})),
        Index::hash("pad"),
    ];
    let index = all[random.below(all.len() as u64) as usize].clone();
    let done = if random.one_in(3) {
        coll.drop_index(&index.effective_name()).await
    } else {
        coll.create_index(index).await.map(|_| ())
    };
    let Err(e) = done else { return };
    let expected = matches!(e, Error::IndexAbsent { .. } | Error::IndexNotUnique { .. });
    if !expected && !may_befall(&e) {
        *failure.lock() = Some(format!("whoever makes indexes got {e:?}"));
    }
}

async fn transaction(scene: &Scene, seed: u64) -> Result<()> {
    let Scene { store, profile, .. } = scene;
    let mut random = Random::new(seed);
    let isolation =
        [Isolation::Latest, Isolation::Snapshot, Isolation::Serializable][random.below(3) as usize];
    let tx = store.begin(isolation);
    let mut writes: BTreeMap<Key, Doc> = BTreeMap::new();
    let mut patched: BTreeSet<Key> = BTreeSet::new();
    for _ in 0..1 + random.below(5) {
        let key = random_key(&mut random);
        let coll = collection(store, key.0);
        let value = next_value(scene);
        match random.below(10) {
            0..=5 => {
                let text = document(scene, &mut random, key, value);
                tx.put(&coll, &text).await?;
                writes.insert(key, Some(text));
                patched.remove(&key);
            }
            6 => {
                // What has expired is not there to delete.
                if tx.delete(&coll, key.1).await? {
                    writes.insert(key, None);
                    patched.remove(&key);
                }
            }
            7 => {
                let mut update = Update::new().set("v", value);
                if profile.expiry && random.one_in(2) {
                    let ms = scene.env.wall_ms() + random.below(3000);
                    update = update.set("e", ms).set("em", ms);
                }
                if tx.update(&coll, key.1, &update).await? {
                    // What it becomes is known only when it is applied.
                    patched.insert(key);
                }
            }
            8 => {
                tx.get(&coll, key.1).await?;
            }
            _ => {
                tx.scan(&coll, ..).await?;
            }
        }
    }
    commit(scene, &tx, writes, patched).await
}

/// A value that nobody else has.
pub(super) fn next_value(scene: &Scene) -> u64 {
    let mut next = scene.next_value.lock();
    *next += 1;
    *next
}

/// A document of the worlds.
pub(super) fn document(scene: &Scene, random: &mut Random, key: Key, value: u64) -> String {
    let profile = &scene.profile;
    let pad = "x".repeat(random.below(400) as usize);
    let mut more = match profile.indexes {
        true => format!(",\"u\":{},\"t\":[{},7]", value % 97, value % 5),
        false => String::new(),
    };
    if profile.expiry {
        more.push_str(&date_members(random, &scene.env));
    }
    format!("{{\"_id\":{},\"v\":{value},\"pad\":\"{pad}\"{more}}}", key.1)
}

async fn commit(
    scene: &Scene,
    tx: &Transaction,
    mut writes: BTreeMap<Key, Doc>,
    patched: BTreeSet<Key>,
) -> Result<()> {
    let (store, model) = (&scene.store, &scene.model);
    let mut commit = Box::pin(tx.commit());
    let done = std::future::poll_fn(|context| {
        let before = hooks::last_seq(store);
        let poll = commit.as_mut().poll(context);
        if hooks::last_seq(store) == before + 1 {
            for key in &patched {
                // It lies in memory, so no fault of the disk excuses an error.
                match collection(store, key.0).testing_latest(key.1) {
                    Ok(latest) => drop(writes.insert(*key, latest)),
                    Err(e) => {
                        let text = format!("{key:?}, just written, cannot be read: {e:?}");
                        *scene.failure.lock() = Some(text);
                    }
                }
            }
            let mut model = model.lock();
            if scene.profile.expiry && scene.profile.indexes {
                note_made_room(scene, &model, &mut writes);
            }
            let list = writes.iter().map(|(k, d)| (*k, d.clone())).collect();
            model.commits.insert(before + 1, list);
            check_schemas(scene, &writes);
        }
        poll
    });
    let seq = done.await?;
    let mut model = model.lock();
    model.acked = model.acked.max(seq);
    model.acked_count += 1;
    Ok(())
}

/// What had expired goes with the commit that takes its value of a unique index.
fn note_made_room(scene: &Scene, model: &Model, writes: &mut BTreeMap<Key, Doc>) {
    for (key, document) in model.at(u64::MAX) {
        let coll = collection(&scene.store, key.0);
        let due = date_of(&document).zip(expires_after(&coll)).map(|(date, ms)| date + ms);
        let has_expired = due.is_some_and(|due| due <= scene.env.wall_ms() as i64);
        if has_expired && !writes.contains_key(&key) && coll.testing_is_deleted(key.1) {
            writes.insert(key, None);
        }
    }
}

/// Nothing is written that the schema refuses.
pub(super) fn check_schemas(scene: &Scene, writes: &BTreeMap<Key, Doc>) {
    if !scene.profile.schemas {
        return;
    }
    let max = [0, 1].map(|at| pad_max(&collection(&scene.store, at)));
    for (key, document) in writes {
        let pad = document.as_ref().map_or(0, |text| text.matches('x').count() as u64);
        if max[key.0].is_some_and(|max| pad > max + 1) {
            *scene.failure.lock() = Some(format!("{key:?} is too long for the schema"));
        }
    }
}
