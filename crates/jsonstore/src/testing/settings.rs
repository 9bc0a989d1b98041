//! What a world does with documents that expire and with schemas, and what it knows of them.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Waker},
    time::Duration,
};

use parking_lot::Mutex;

use super::{SimEnv, clients::may_befall, env::Random};
use crate::{Collection, Error, Index, Result, Store};

/// Documents expire so long after their date, or at it.
const AFTER_MS: [u64; 3] = [0, 500, 3000];
/// How long `pad` may be.
const PAD_MAX: [u64; 2] = [150, 300];
/// The index that expires documents.
const INDEX: &str = "e";

type Client = Pin<Box<dyn Future<Output = ()>>>;

/// Changes settings of the collections of a world, one at a time.
pub(super) struct Changer {
    pub(super) random: Random,
    client: Option<Client>,
    known: Arc<Mutex<[Known; 2]>>,
}

/// What the settings of a collection may be by now.
#[derive(Debug, Default)]
struct Known {
    expiry: Settled,
    schema: Settled,
}

#[derive(Debug, Default)]
struct Settled {
    acked: Option<u64>,
    /// What may have come to be since.
    tried: Vec<Option<u64>>,
}

/// One change of the settings.
#[derive(Debug, Clone, Copy)]
enum Change {
    Expire(Option<u64>),
    MakeIndex(u64),
    #[cfg(feature = "schema")]
    Schema(Option<u64>),
}

impl Changer {
    pub(super) fn new(seed: u64) -> Self {
        Self { random: Random::new(seed ^ 0x77E1), client: None, known: Arc::default() }
    }

    /// The process is gone.
    pub(super) fn crash(&mut self) {
        self.client = None;
    }

    /// Begins a change of the settings, or goes on with it.
    pub(super) fn step(
        &mut self,
        store: &Store,
        collections: [Collection; 2],
        failure: &Arc<Mutex<Option<String>>>,
        (expiry, schemas): (bool, bool),
    ) {
        if self.client.is_none() {
            let change = self.change(expiry, schemas);
            let at = self.random.below(2) as usize;
            let [first, second] = collections;
            let collection = if at == 0 { first } else { second };
            let (known, failure) = (Arc::clone(&self.known), Arc::clone(failure));
            let store = store.clone();
            self.client = Some(Box::pin(async move {
                let _alive = store;
                if let Err(e) = change_settings(&collection, at, change, &known).await
                    && !is_expected(&e)
                {
                    *failure.lock() = Some(format!("whoever did {change:?} got {e:?}"));
                }
            }));
        }
        if let Some(client) = &mut self.client
            && client.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready()
        {
            self.client = None;
        }
    }

    fn change(&mut self, expiry: bool, schemas: bool) -> Change {
        #[cfg(feature = "schema")]
        if schemas && (!expiry || self.random.one_in(3)) {
            let pad_max = PAD_MAX[self.random.below(2) as usize];
            return Change::Schema((!self.random.one_in(2)).then_some(pad_max));
        }
        let _ = (expiry, schemas, PAD_MAX);
        let after_ms = AFTER_MS[self.random.below(3) as usize];
        match self.random.below(5) {
            0 => Change::Expire(None),
            1 | 2 => Change::Expire(Some(after_ms)),
            _ => Change::MakeIndex(after_ms),
        }
    }

    /// After recovery the settings are what they were acknowledged to be, or what was under way.
    pub(super) fn check(&self, collections: &[Collection; 2]) -> std::result::Result<(), String> {
        for (at, collection) in collections.iter().enumerate() {
            let known = &mut self.known.lock()[at];
            // The build of an index may fail, and it goes then.
            let expiry = stored_expiry(collection);
            known.expiry.tried.push(None);
            known.expiry.settle(expiry).map_err(|e| format!("expiry of {at}: {e}"))?;
            let schema = pad_max(collection);
            known.schema.settle(schema).map_err(|e| format!("schema of {at}: {e}"))?;
        }
        Ok(())
    }

    /// What was acknowledged may be gone.
    pub(super) fn forget(&self) {
        for known in &mut *self.known.lock() {
            let all = AFTER_MS.iter().map(|ms| Some(*ms));
            known.expiry.tried.extend(all);
            known.schema.tried.extend(PAD_MAX.iter().map(|max| Some(*max)).chain([None]));
        }
    }
}

impl Settled {
    /// Where nothing had to be written, an earlier change that failed may still come to light.
    fn acknowledge(&mut self, value: Option<u64>, is_written: bool) {
        self.acked = value;
        if is_written {
            self.tried.clear();
        }
    }

    fn settle(&mut self, actual: Option<u64>) -> std::result::Result<(), String> {
        if actual != self.acked && !self.tried.contains(&actual) {
            return Err(format!("{actual:?}, known is {self:?}"));
        }
        self.acked = actual;
        self.tried.clear();
        Ok(())
    }
}

async fn change_settings(
    collection: &Collection,
    at: usize,
    change: Change,
    known: &Mutex<[Known; 2]>,
) -> Result<()> {
    let before = last_seq(collection);
    let expires = |after: Option<u64>| known.lock()[at].expiry.tried.push(after);
    let settled = |after| known.lock()[at].expiry.acknowledge(after, last_seq(collection) > before);
    match change {
        Change::Expire(after_ms) => {
            expires(after_ms);
            collection.set_expire_after(INDEX, after_ms.map(Duration::from_millis)).await?;
            settled(after_ms);
        }
        Change::MakeIndex(after_ms) => {
            expires(Some(after_ms));
            let after = Duration::from_millis(after_ms);
            collection.create_index(Index::on("e").expire_after(after)).await?;
            settled(Some(after_ms));
        }
        #[cfg(feature = "schema")]
        Change::Schema(pad_max) => {
            known.lock()[at].schema.tried.push(pad_max);
            match pad_max {
                Some(max) => {
                    let schema = serde_json::json!({"properties": {"pad": {"maxLength": max}}});
                    collection.set_schema(&schema, crate::SchemaMode::Enforce).await?;
                }
                None => collection.remove_schema().await?,
            }
            let is_written = last_seq(collection) > before;
            known.lock()[at].schema.acknowledge(pad_max, is_written);
        }
    }
    Ok(())
}

fn is_expected(e: &Error) -> bool {
    matches!(e, Error::IndexAbsent { .. } | Error::IndexExists { .. }) || may_befall(e)
}

fn last_seq(collection: &Collection) -> u64 {
    super::hooks::last_seq(&collection.store)
}

/// After how long documents expire, whether the index is ready or not.
fn stored_expiry(collection: &Collection) -> Option<u64> {
    let state = collection.core().collection_state(collection.existing()?)?;
    state.indexes.iter().find(|index| index.name() == INDEX)?.definition.expire_after_ms
}

/// After how long documents expire now.
pub(super) fn expires_after(collection: &Collection) -> Option<i64> {
    let state = collection.core().collection_state(collection.existing()?)?;
    let index = state.indexes.iter().find(|index| index.name() == INDEX && index.is_ready())?;
    index.definition.expire_after_ms?.try_into().ok()
}

/// How long `pad` may be, if there is a schema.
pub(super) fn pad_max(collection: &Collection) -> Option<u64> {
    let state = collection.core().collection_state(collection.existing()?)?;
    state.settings.get("schema")?["schema"]["properties"]["pad"]["maxLength"].as_u64()
}

/// The date of a document in the worlds: `e` is written in some way, `em` says it in milliseconds.
pub(super) fn date_of(document: &str) -> Option<i64> {
    let (_, rest) = document.split_once("\"em\":")?;
    rest.split([',', '}']).next()?.parse().ok()
}

/// Members that are a date around now, each way of writing one; sometimes nothing.
pub(super) fn date_members(random: &mut Random, env: &SimEnv) -> String {
    use crate::Env as _;
    let ms = env.wall_ms().saturating_sub(2000) + random.below(5000);
    let text = crate::query::rfc3339(ms);
    match random.below(6) {
        0 => String::new(),
        1 => format!(",\"e\":\"{text}\",\"em\":{ms}"),
        2 => format!(",\"e\":\"{}+00:00\",\"em\":{ms}", text.trim_end_matches('Z')),
        3 => format!(",\"e\":[{},\"{text}\",\"x\"],\"em\":{ms}", ms + 9),
        _ => format!(",\"e\":{ms},\"em\":{ms}"),
    }
}
