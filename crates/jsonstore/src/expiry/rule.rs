//! When a document expires, and who does not see it any more.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use super::date::earliest_ms;
use crate::{
    bugs::bug,
    catalog::CollectionState,
    engine::{Core, Hold},
    index::BTreeIndex,
    query::Path,
};

/// The time of a reader from whom nothing is hidden.
const NEVER: i64 = i64::MIN;

/// When documents of a collection expire. It never changes; another state of it is another value.
#[derive(Debug)]
pub(crate) struct Expiry {
    /// Those of the indexes that are ready and expire documents.
    rules: Vec<Rule>,
    /// Tells it from every other one since the store was opened; not 0.
    number: u64,
    hidden: Arc<AtomicU64>,
}

#[derive(Debug)]
struct Rule {
    index: Arc<BTreeIndex>,
    after_ms: i64,
}

impl Expiry {
    /// What the indexes of a collection say, if they say anything. What `previous` says already goes
    /// on.
    pub(crate) fn of(
        core: &Core,
        keyspace: u32,
        indexes: &[Arc<BTreeIndex>],
        previous: Option<&CollectionState>,
    ) -> Option<Arc<Self>> {
        let rule = |index: &Arc<BTreeIndex>| {
            let after_ms = index.definition.expire_after_ms.filter(|_| index.is_ready())?;
            let after_ms = i64::try_from(after_ms).unwrap_or(i64::MAX);
            Some(Rule { index: Arc::clone(index), after_ms })
        };
        let rules: Vec<Rule> = indexes.iter().filter_map(rule).collect();
        if rules.is_empty() {
            return None;
        }
        let same = |other: &&Arc<Self>| {
            other.rules.len() == rules.len()
                && other.rules.iter().zip(&rules).all(|(a, b)| Arc::ptr_eq(&a.index, &b.index))
        };
        if let Some(kept) = previous.and_then(|state| state.expiry.as_ref()).filter(same) {
            return Some(Arc::clone(kept));
        }
        let (number, hidden) = core.expirations.note_rules(keyspace);
        Some(Arc::new(Self { rules, number, hidden }))
    }

    /// When a document expires, as far as rules count in a snapshot.
    pub(crate) fn due_ms(&self, document: &[u8], seq: u64) -> i64 {
        let due = |rule: &Rule| {
            let index = &rule.index;
            let counts = index.is_ready_at(seq)
                && index.partial().is_none_or(|partial| partial.matches(document));
            let date = earliest_ms(rule.path(), document).filter(|_| counts)?;
            Some(date.saturating_add(rule.after_ms))
        };
        self.rules.iter().filter_map(due).min().unwrap_or(i64::MAX)
    }

    /// Every path that decides; `false` if the whole document does.
    pub(crate) fn each_path(&self, visit: &mut dyn FnMut(&Path)) -> bool {
        self.rules.iter().all(|rule| {
            visit(rule.path());
            rule.index.partial().is_none_or(|partial| partial.each_path(visit))
        })
    }

    /// Indexes with the time in milliseconds after which documents expire by them.
    pub(super) fn indexes(&self) -> impl Iterator<Item = (&Arc<BTreeIndex>, i64)> {
        self.rules.iter().map(|rule| (&rule.index, rule.after_ms))
    }

    fn counts_whole_at(&self, seq: u64) -> bool {
        self.rules.iter().all(|rule| rule.index.is_ready_at(seq))
    }
}

impl Rule {
    fn path(&self) -> &Path {
        &self.index.fields()[0].path
    }
}

/// When a cached document expires.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Stamp {
    /// By the rules of this number; 0 if there were none.
    rules: u64,
    due_ms: i64,
}

/// What a reader does not see: documents of a collection that had expired when its view was taken.
#[derive(Debug, Clone, Default)]
pub(crate) struct Hide(Option<Hiding>);

#[derive(Debug, Clone)]
struct Hiding {
    expiry: Arc<Expiry>,
    now_ms: i64,
    seq: u64,
}

impl Hide {
    /// Who sees everything, expired or not.
    pub(crate) fn nothing() -> Self {
        Self(None)
    }

    pub(crate) fn is_nothing(&self) -> bool {
        self.0.is_none()
    }

    /// Whether a stored document is hidden.
    #[inline]
    pub(crate) fn hides(&self, document: &[u8]) -> bool {
        self.0.is_some() && self.admit(document).is_none()
    }

    /// What the cache notes about a stored document; `None` if it is hidden.
    #[inline]
    pub(crate) fn admit(&self, document: &[u8]) -> Option<Stamp> {
        match &self.0 {
            None => Some(Stamp::default()),
            Some(hiding) => hiding.admit(document),
        }
    }

    /// Whether a cached document is hidden; `None` if its stamp does not tell.
    #[inline]
    pub(crate) fn hides_cached(&self, stamp: Stamp) -> Option<bool> {
        let Some(hiding) = &self.0 else { return Some(false) };
        let expiry = &hiding.expiry;
        let tells = stamp.rules == expiry.number && expiry.counts_whole_at(hiding.seq);
        tells.then(|| hiding.is_past(stamp.due_ms))
    }
}

impl Hiding {
    fn admit(&self, document: &[u8]) -> Option<Stamp> {
        let due_ms = self.expiry.due_ms(document, self.seq);
        if self.is_past(due_ms) {
            return None;
        }
        // By some of the rules only, it is of no use to others.
        let is_whole = self.expiry.counts_whole_at(self.seq);
        Some(if is_whole { Stamp { rules: self.expiry.number, due_ms } } else { Stamp::default() })
    }

    fn is_past(&self, due_ms: i64) -> bool {
        let is_past = due_ms <= self.now_ms;
        if is_past {
            self.expiry.hidden.fetch_add(1, Ordering::Relaxed);
        }
        is_past
    }
}

impl Core {
    /// The time by which a new snapshot hides. Where nothing ever expires, no clock is read.
    pub(crate) fn hiding_time(&self) -> i64 {
        if self.expirations.is_any() { self.wall_now() } else { NEVER }
    }

    /// By the wall clock.
    pub(crate) fn wall_now(&self) -> i64 {
        i64::try_from(self.options.env.wall_ms()).unwrap_or(i64::MAX)
    }

    /// What is hidden from readers of a snapshot of a collection.
    #[inline]
    pub(crate) fn hide(&self, keyspace: u32, hold: &Hold) -> Hide {
        if !self.expirations.may_be_in(keyspace) {
            return Hide::nothing();
        }
        let now_ms = if bug("expire_by_now") { self.wall_now() } else { hold.wall_ms };
        self.hide_at(keyspace, hold.seq, now_ms)
    }

    /// What is hidden from readers of the newest state of a collection.
    #[inline]
    pub(crate) fn hide_now(&self, keyspace: u32) -> Hide {
        if !self.expirations.may_be_in(keyspace) {
            return Hide::nothing();
        }
        self.hide_at(keyspace, u64::MAX, self.wall_now())
    }

    /// What was hidden at that time by rules that count at `seq`.
    pub(crate) fn hide_at(&self, keyspace: u32, seq: u64, now_ms: i64) -> Hide {
        if now_ms == NEVER || !self.expirations.may_be_in(keyspace) {
            return Hide::nothing();
        }
        let expiry = self.states.load().get(&keyspace).and_then(|state| state.expiry.clone());
        Hide(expiry.map(|expiry| Hiding { expiry, now_ms, seq }))
    }
}
