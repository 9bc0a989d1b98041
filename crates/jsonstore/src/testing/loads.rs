//! Bulk loads in a world: many small ones over ranges of ids that overlap, descend and interleave,
//! while compaction is held back at times. Level 0 then holds segments in no order at all.

use std::{
    collections::BTreeMap,
    future::{Future, poll_fn},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use parking_lot::Mutex;

use super::{
    clients::{Scene, check_schemas, document, may_befall, next_value},
    env::Random,
    world::{Doc, IDS, Key, collection},
};
use crate::{Error, Result};

pub(super) type Writes = BTreeMap<Key, Doc>;

/// Loads into the collections of a world, one at a time.
pub(super) struct Loads {
    pub(super) random: Random,
    client: Option<Pin<Box<dyn Future<Output = ()>>>>,
    /// Those that ended with an error, by their number: they may come to light after a crash.
    open: Arc<Mutex<Vec<(u64, Writes)>>>,
    /// Nothing is compacted in this life, so that level 0 grows.
    pub(super) holds_compaction: bool,
}

impl Loads {
    pub(super) fn new(seed: u64) -> Self {
        let random = Random::new(seed ^ 0x10AD);
        Self { random, client: None, open: Arc::default(), holds_compaction: false }
    }

    /// The process is gone; what the next one does.
    pub(super) fn crash(&mut self) {
        self.client = None;
        self.holds_compaction = self.random.one_in(2);
    }

    /// Begins a load, or goes on with it.
    pub(super) fn step(&mut self, scene: Scene) {
        let client = self.client.get_or_insert_with(|| {
            let (scene, seed, open) = (scene, self.random.next(), Arc::clone(&self.open));
            Box::pin(async move {
                if let Err(e) = load(&scene, seed, &open).await
                    && !is_expected(&scene, &e)
                {
                    *scene.failure.lock() = Some(format!("whoever loaded got {e:?}"));
                }
            })
        });
        if client.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready() {
            self.client = None;
        }
    }

    /// After recovery: loads of which nobody knows whether they happened, and at most one of them did.
    pub(super) fn settle(&self) -> Vec<(u64, Writes)> {
        std::mem::take(&mut *self.open.lock())
    }
}

async fn load(scene: &Scene, seed: u64, open: &Mutex<Vec<(u64, Writes)>>) -> Result<()> {
    let (store, mut random) = (&scene.store, Random::new(seed));
    let mut load = store.load().await?;
    let seq = load.testing_seq();
    let mut writes = Writes::new();
    for key in keys(&mut random) {
        let text = document(scene, &mut random, key, next_value(scene));
        load.put(&collection(store, key.0), &text)?;
        writes.insert(key, Some(text));
        if random.one_in(4) {
            give_way().await;
        }
    }
    if random.one_in(10) {
        return Ok(());
    }
    open.lock().push((seq, writes.clone()));
    let finished = load.finish().await;
    if !matches!(finished, Err(Error::Io { .. } | Error::Poisoned { .. } | Error::DiskFull { .. }))
    {
        open.lock().pop();
    }
    finished?;
    check_schemas(scene, &writes);
    let mut model = scene.model.lock();
    model.commits.insert(seq, writes.into_iter().collect());
    model.acked = model.acked.max(seq);
    model.acked_count += 1;
    model.loads += 1;
    Ok(())
}

/// A range of ids of one collection or of both, with gaps or without, in some order.
fn keys(random: &mut Random) -> Vec<Key> {
    let mut keys = Vec::new();
    let (first, both) = (random.below(2) as usize, random.one_in(3));
    for at in [first, 1 - first].into_iter().take(1 + usize::from(both)) {
        let (from, stride) = (random.below(IDS), 1 + random.below(3) as usize);
        let ids = (from..IDS).step_by(stride).take(1 + random.below(5) as usize);
        let mut ids: Vec<Key> = ids.map(|id| (at, id as i64)).collect();
        match random.below(4) {
            0 | 1 => {}
            2 => ids.reverse(),
            _ => {
                let middle = random.below(ids.len() as u64) as usize;
                ids.rotate_left(middle);
            }
        }
        if random.one_in(12) {
            ids.extend(ids.first().copied());
        }
        keys.append(&mut ids);
    }
    keys
}

fn is_expected(scene: &Scene, e: &Error) -> bool {
    let profile = &scene.profile;
    match e {
        Error::DuplicateKey { .. } => profile.indexes,
        // Where anything follows the documents, each comes once.
        Error::DuplicateId { .. } => profile.indexes || profile.expiry || profile.schemas,
        Error::SchemaViolation { .. } => profile.schemas,
        e => may_befall(e),
    }
}

/// Lets the others of the world go on.
async fn give_way() {
    let mut is_second = false;
    poll_fn(
        |_| if std::mem::replace(&mut is_second, true) { Poll::Ready(()) } else { Poll::Pending },
    )
    .await;
}
