//! The change log of a collection: written with the documents, read by position, cut by age and size.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use serde_json::{Value, json};

use super::{
    channel::Channel,
    record::{Record, split_key},
};
use crate::{
    bugs::bug,
    catalog::Settings,
    commit::{AT_SEQ, Op},
    engine::{Core, Hold, KeyspaceKind},
    env::Env,
    error::{Error, Result},
    follow::{Change, Effects, Follower},
};

/// The member of the settings.
const MEMBER: &str = "changes";
/// The key under which it stands up to where the log was cut; no change has this number.
const FLOOR: [u8; 8] = [0; 8];
/// Where changes begin.
pub(super) const FIRST: [u8; 8] = 1_u64.to_be_bytes();
/// Entries removed in one transaction.
const CUT_MAX: usize = 1000;

/// How much of the change log is kept: whoever is further behind has to begin anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct ChangeRetention {
    /// Changes younger than this are kept. Default: 1 hour.
    pub age: Duration,
    /// But not more bytes than this. Default: 64 MiB.
    pub bytes_max: u64,
}

impl Default for ChangeRetention {
    fn default() -> Self {
        Self { age: Duration::from_secs(3600), bytes_max: 64 << 20 }
    }
}

/// Follows the documents of a collection and writes down what changes.
#[derive(Debug)]
pub(crate) struct ChangeLog {
    pub(super) keyspace: u32,
    pub(super) retention: ChangeRetention,
    pub(super) channel: Arc<Channel>,
    /// Bytes of entries, about.
    bytes: AtomicU64,
    /// Until when by the wall clock changes were cut, in milliseconds.
    cut_ms: AtomicU64,
    env: Arc<dyn Env>,
}

impl ChangeRetention {
    /// As a member of the settings.
    pub(super) fn put(self, settings: &mut Settings, keyspace: u32) {
        let age_ms = u64::try_from(self.age.as_millis()).unwrap_or(u64::MAX);
        let value = json!({ "keyspace": keyspace, "age_ms": age_ms, "bytes_max": self.bytes_max });
        settings.insert(MEMBER.to_owned(), value);
    }

    /// No log is kept any more.
    pub(super) fn remove(settings: &mut Settings) {
        settings.remove(MEMBER);
    }
}

impl ChangeLog {
    /// The log that settings speak of; one that was there before goes on.
    pub(crate) fn of(
        core: &Core,
        settings: &Settings,
        previous: Option<&Arc<Self>>,
    ) -> Result<Option<Arc<Self>>> {
        let Some(member) = settings.get(MEMBER) else { return Ok(None) };
        let number = |name: &str| {
            let bad = || Error::corrupt("settings", 0, format!("{MEMBER}.{name} is no number"));
            member.get(name).and_then(Value::as_u64).ok_or_else(bad)
        };
        let bad = |_| Error::corrupt("settings", 0, format!("{MEMBER}.keyspace is too large"));
        let keyspace = u32::try_from(number("keyspace")?).map_err(bad)?;
        let age = Duration::from_millis(number("age_ms")?);
        let retention = ChangeRetention { age, bytes_max: number("bytes_max")? };
        let previous = previous.filter(|previous| previous.keyspace == keyspace);
        if let Some(previous) = previous.filter(|previous| previous.retention == retention) {
            return Ok(Some(Arc::clone(previous)));
        }
        let bytes = match previous {
            Some(previous) => previous.bytes.load(Ordering::Relaxed),
            None => core.bytes_of(keyspace)?,
        };
        let channel = previous.map_or_else(Arc::default, |previous| Arc::clone(&previous.channel));
        let env = Arc::clone(&core.options.env);
        // What was cut before the store was opened was at most as young as this.
        let cut_ms = previous.map_or_else(|| env.wall_ms(), |p| p.cut_ms.load(Ordering::Relaxed));
        let (bytes, cut_ms) = (AtomicU64::new(bytes), AtomicU64::new(cut_ms));
        Ok(Some(Arc::new(Self { keyspace, retention, channel, bytes, cut_ms, env })))
    }

    /// Whether changes from this moment on may be missing at the beginning.
    pub(super) fn was_cut_after(&self, wall_ms: u64) -> bool {
        self.cut_ms.load(Ordering::Relaxed) > wall_ms
    }

    /// Up to where changes are no longer in the log, in a snapshot.
    pub(super) fn floor(&self, core: &Core, snapshot: u64) -> Result<u64> {
        let found = core.read_at(self.keyspace, &FLOOR, snapshot)?;
        let value = found.and_then(|(_, value)| value);
        let seq = value.and_then(|value| value[..].try_into().ok()).map(u64::from_be_bytes);
        seq.ok_or_else(|| Error::corrupt("change log", 0, "it does not say where it begins"))
    }
}

impl Follower for ChangeLog {
    fn follow(&self, change: &Change<'_>, effects: &mut Effects) -> Result<()> {
        let value = Record::encode(self.env.wall_ms(), change.old, change.new);
        self.bytes.fetch_add((value.len() + change.key.len() + 8) as u64, Ordering::Relaxed);
        let (keyspace, key) = (self.keyspace | AT_SEQ, change.key.clone());
        if !bug("forget_change_record") {
            effects.ops.push(Op { keyspace, key, value: Some(value) });
        }
        effects.notices.push(self.channel.notice(change.old, change.new));
        Ok(())
    }

    fn concerns(&self, _paths: &[&str]) -> bool {
        true
    }
}

impl Core {
    /// The keyspace of a new change log, with its beginning written: from here on.
    pub(super) fn begin_changes(&self, documents: u32) -> Result<u32> {
        let name = format!("/changes/{documents}");
        let keyspace = self.keyspace_or_new(&name, KeyspaceKind::Internal)?;
        // What an earlier log left behind has a gap behind it.
        let floor = Bytes::copy_from_slice(&self.log.last_seq().to_be_bytes());
        let op = Op { keyspace, key: Bytes::from_static(&FLOOR), value: Some(floor) };
        let ticket = self.submit(&[op], None, false)?;
        self.log.wait(&ticket)?;
        Ok(keyspace)
    }

    /// Removes what the change logs need not keep. `true` if there may be more.
    pub(crate) fn cut_changes(self: &Arc<Self>) -> Result<bool> {
        let mut more = false;
        for state in self.states.load().values() {
            if let Some(log) = &state.changes {
                more |= self.cut(log)?;
            }
        }
        Ok(more)
    }

    fn cut(self: &Arc<Self>, log: &ChangeLog) -> Result<bool> {
        let now_ms = self.options.env.wall_ms();
        let age_ms = u64::try_from(log.retention.age.as_millis()).unwrap_or(u64::MAX);
        let oldest_ms = now_ms.saturating_sub(age_ms);
        let mut excess = log.bytes.load(Ordering::Relaxed).saturating_sub(log.retention.bytes_max);
        let hold = Hold::new(self, false, 0);
        let mut iter = self.iter(log.keyspace, &FIRST, hold.seq)?;
        let (mut ops, mut floor, mut bytes, mut cut_ms) = (Vec::new(), None, 0, 0);
        while let Some(entry) = iter.next_visible()? {
            let value = entry.value.unwrap_or_default();
            let record = Record::decode(&value);
            let seq = split_key(&entry.key).map(|(seq, _)| seq);
            let wall_ms = record.map_or(0, |record| record.wall_ms);
            let is_old = wall_ms < oldest_ms;
            // A transaction goes as a whole.
            if !is_old && excess == 0 && seq != floor || ops.len() >= CUT_MAX && seq != floor {
                break;
            }
            let size = (value.len() + entry.key.len()) as u64;
            (excess, bytes, floor) = (excess.saturating_sub(size), bytes + size, seq);
            cut_ms = cut_ms.max(wall_ms + 1);
            ops.push(Op { keyspace: log.keyspace, key: entry.key, value: None });
        }
        let Some(floor) = floor else { return Ok(false) };
        let more = ops.len() >= CUT_MAX;
        let value = Some(Bytes::copy_from_slice(&floor.to_be_bytes()));
        let key = Bytes::from_static(&FLOOR);
        if !bug("forget_change_floor") {
            ops.push(Op { keyspace: log.keyspace, key, value });
        }
        self.submit(&ops, None, true)?;
        log.cut_ms.fetch_max(cut_ms, Ordering::Relaxed);
        let _ = log.bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |all| {
            Some(all.saturating_sub(bytes))
        });
        Ok(more)
    }

    /// Bytes of the newest entries of a keyspace.
    fn bytes_of(&self, keyspace: u32) -> Result<u64> {
        let mut iter = self.tree().range(keyspace, &FIRST, None, u64::MAX)?;
        let mut bytes = 0;
        while let Some(entry) = iter.next_visible()? {
            bytes += (entry.key.len() + entry.value.map_or(0, |value| value.len())) as u64;
        }
        Ok(bytes)
    }
}
