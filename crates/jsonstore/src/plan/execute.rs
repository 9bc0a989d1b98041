//! Carrying out a plan, a batch at a time, over one snapshot.

use std::{
    cmp::Ordering,
    collections::{BinaryHeap, HashSet},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;

use super::{
    Query,
    both::Walk,
    bounds::KeyRange,
    choose::{self, Access, ENTRY, FETCH, Plan},
    source::Source,
};
use crate::{
    bugs::bug,
    catalog::CollectionState,
    engine::{Core, Hold, View},
    error::{Error, Result},
    expiry::Hide,
    observe::Watch,
};

/// Documents looked at in one batch where some may not match, growing from the first to the last.
const BATCH_MIN: u64 = 8;
const BATCH_FIRST: u64 = 32;
const BATCH_MAX: usize = 256;
/// Beyond this many times the rows it expected, and this many more, a plan that was chosen for another
/// query is thought over.
const SURPRISE_FACTOR: u64 = 2;
const SURPRISE_MIN: u64 = 50;
/// Where conditions have nothing to do with each other, so many times the rows that one match is expected in
/// go by without a match once in 20 times.
const REFUTED: f64 = 3.0;
/// What a plan that is refuted may cost nevertheless, as a part of what the one whose end is nearest would:
/// the matches may only come late in its order.
const PATIENCE: f64 = 0.3;

/// A document that was found.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    pub(crate) id: Bytes,
    pub(crate) rev: u64,
    pub(crate) value: FoundValue,
}

#[derive(Debug, Clone)]
pub(crate) enum FoundValue {
    /// JB1, whole or (of a covered query) only the fields of the index.
    Jb1(Bytes),
    /// The text of the whole document, from the document cache.
    Json(Bytes),
}

/// What a query took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Actuals {
    pub(crate) entries: u64,
    pub(crate) documents: u64,
    pub(crate) returned: u64,
    /// Documents that were sorted.
    pub(crate) sorted: u64,
    /// Plans that were given up.
    pub(crate) switches: u64,
}

impl Found {
    /// A document of which only is known that it is there.
    fn counted(id: Bytes) -> Self {
        Self { id, rev: 0, value: FoundValue::Jb1(Bytes::new()) }
    }
}

/// A query on its way.
#[derive(Debug)]
pub(crate) struct Execution {
    pub(crate) query: Arc<Query>,
    keyspace: u32,
    seq: u64,
    hide: Hide,
    /// Keeps what the snapshot sees.
    hold: Arc<Hold>,
    /// On the monotonic clock.
    deadline: Option<Duration>,
    state: Option<Arc<CollectionState>>,
    plan: Plan,
    /// The other plans, the next one last.
    others: Vec<Plan>,
    /// The shape of the query, if the plan was chosen for an earlier one of it.
    recalled: Option<u64>,
    source: Option<Source>,
    /// Ids that the caller answers for.
    hidden: Arc<HashSet<Bytes>>,
    /// Whole documents are wanted as JB1.
    is_raw: bool,
    skipped: u64,
    /// Of what was looked at.
    matched: u64,
    /// Entries and documents that plans before this one looked at.
    before: (u64, u64),
    batch: usize,
    /// Documents in their order, when it had to be made, the next one last.
    sorted: Option<Vec<Found>>,
    /// Ids of documents that were looked at, if they are wanted.
    pub(crate) examined: Option<Vec<Bytes>>,
    pub(crate) actuals: Actuals,
    pub(crate) watch: Watch,
}

impl Execution {
    /// Chooses a plan, as it was chosen for the last query of this shape where that is remembered. The
    /// snapshot was taken before, so whatever it shows, the plans know of.
    pub(crate) fn new(
        core: &Core,
        keyspace: u32,
        query: Arc<Query>,
        seq: u64,
        hold: Arc<Hold>,
    ) -> Result<Self> {
        let hide = hide(core, keyspace, &query, &hold);
        let state = core.collection_state(keyspace);
        let Some((state, shape)) = state.zip(query.shape()) else {
            return Self::planned(core, keyspace, query, seq, hold);
        };
        if let Some(choice) = state.choices.recall(shape)
            && let Some(plan) = choose::chosen(core, keyspace, &state, seq, &query, choice)?
        {
            let mut recalled = Self::of(core, keyspace, query, hold, Some(state), vec![plan]);
            (recalled.seq, recalled.hide, recalled.recalled) = (seq, hide, Some(shape));
            return Ok(recalled);
        }
        let planned = Self::planned(core, keyspace, query, seq, hold)?;
        if let Some(choice) = planned.plan.choice(&state) {
            let is_single = planned.plan.single(&planned.query).is_some();
            state.choices.remember(shape, choice, planned.plan.rows, is_single);
        }
        Ok(planned)
    }

    /// With all the plans there are.
    pub(crate) fn planned(
        core: &Core,
        keyspace: u32,
        query: Arc<Query>,
        seq: u64,
        hold: Arc<Hold>,
    ) -> Result<Self> {
        let hide = hide(core, keyspace, &query, &hold);
        let state = core.collection_state(keyspace);
        let plans = choose::plans(core, keyspace, state.as_deref(), seq, &query)?;
        let mut planned = Self::of(core, keyspace, query, hold, state, plans);
        (planned.seq, planned.hide) = (seq, hide);
        Ok(planned)
    }

    /// Of plans, the best of which is first.
    fn of(
        core: &Core,
        keyspace: u32,
        query: Arc<Query>,
        hold: Arc<Hold>,
        state: Option<Arc<CollectionState>>,
        mut plans: Vec<Plan>,
    ) -> Self {
        plans.reverse();
        let plan = plans.pop().expect("reading everything is always a plan");
        let time_max = query.limits.time_max;
        Self {
            query,
            keyspace,
            seq: hold.seq,
            hide: Hide::nothing(),
            hold,
            deadline: time_max.map(|time| core.options.env.now().saturating_add(time)),
            state,
            plan,
            others: plans,
            recalled: None,
            source: None,
            hidden: Arc::default(),
            is_raw: false,
            skipped: 0,
            matched: 0,
            before: (0, 0),
            batch: 0,
            sorted: None,
            examined: None,
            actuals: Actuals::default(),
            watch: Watch::default(),
        }
    }

    /// All come whole, as JB1.
    pub(crate) fn whole(mut self) -> Self {
        self.is_raw = true;
        self.plan.is_covered = false;
        self.others.iter_mut().for_each(|plan| plan.is_covered = false);
        self
    }

    /// The plan was chosen for another query and does not suit this one: makes all of them.
    fn plan_again(&mut self, core: &Core) -> Result<()> {
        let Some(shape) = self.recalled.take() else { return Ok(()) };
        let Some(state) = &self.state else { return Ok(()) };
        state.choices.forget(shape);
        let mut plans = choose::plans(core, self.keyspace, Some(state), self.seq, &self.query)?;
        plans.retain(|plan| plan.name() != self.plan.name());
        plans.reverse();
        if self.is_raw {
            plans.iter_mut().for_each(|plan| plan.is_covered = false);
        }
        self.others = plans;
        Ok(())
    }

    /// For a transaction: its own documents are left out, what had expired when it began is hidden,
    /// and all come as JB1.
    pub(crate) fn within_transaction(mut self, hidden: HashSet<Bytes>, hide: Hide) -> Self {
        self.hide = hide;
        self.hidden = Arc::new(hidden);
        self.examined = Some(Vec::new());
        self.whole()
    }

    pub(crate) fn hold(&self) -> &Hold {
        &self.hold
    }

    pub(crate) fn keyspace(&self) -> u32 {
        self.keyspace
    }

    /// The plan was chosen for an earlier query of this shape.
    #[cfg(test)]
    pub(crate) fn is_recalled(&self) -> bool {
        self.recalled.is_some()
    }

    pub(crate) fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Keyspaces with the ranges that were read.
    pub(crate) fn read_ranges(&self) -> Vec<(u32, KeyRange)> {
        let of = |keyspace: u32, ranges: &[KeyRange]| {
            ranges.iter().map(|range| (keyspace, range.clone())).collect::<Vec<_>>()
        };
        match &self.plan.access {
            Access::Ids(ranges) => of(self.keyspace, ranges),
            Access::Index(scan) => of(scan.index.keyspace, &scan.ranges),
            // What comes to match later comes into one of them.
            Access::Both { gathered, walked } => {
                [gathered, walked].iter().flat_map(|s| of(s.index.keyspace, &s.ranges)).collect()
            }
            Access::Union(scans) => {
                scans.iter().flat_map(|s| of(s.index.keyspace, &s.ranges)).collect()
            }
        }
    }

    pub(crate) fn others(&self) -> impl Iterator<Item = &Plan> {
        self.others.iter().rev()
    }

    /// What `next` times.
    pub(crate) fn next_batch(&mut self, core: &Core) -> Result<Vec<Found>> {
        core.check_open()?;
        if self.query.limit == Some(self.actuals.returned) {
            return Ok(Vec::new());
        }
        let mut found = self.matching(core)?;
        // It may have turned to a plan that has to sort.
        if found.is_empty() && !self.plan.is_ordered {
            if self.sorted.is_none() {
                self.sorted = Some(self.sort(core)?);
            }
            let sorted = self.sorted.as_mut().expect("it was just made");
            let from = sorted.len().saturating_sub(BATCH_MAX);
            let mut next = sorted.split_off(from);
            next.reverse();
            found = next;
        }
        if let Some(limit) = self.query.limit {
            found.truncate((limit - self.actuals.returned).try_into().unwrap_or(usize::MAX));
        }
        self.actuals.returned += found.len() as u64;
        Ok(found)
    }

    /// Matching documents after `skip`, in the order of the plan; none at the end, or of a plan that is
    /// not in order.
    fn matching(&mut self, core: &Core) -> Result<Vec<Found>> {
        while self.plan.is_ordered {
            let Some(mut found) = self.look(core)? else { return Ok(Vec::new()) };
            let skip = self.query.skip - self.skipped;
            let now = skip.min(found.len() as u64);
            self.skipped += now;
            found.drain(..now as usize);
            if !found.is_empty() {
                return Ok(found);
            }
        }
        Ok(Vec::new())
    }

    /// All that match, sorted backwards, without those that `skip` and `limit` leave out.
    fn sort(&mut self, core: &Core) -> Result<Vec<Found>> {
        let query = Arc::clone(&self.query);
        // A plan that was in order may have begun.
        let skip = query.skip - self.skipped;
        let returned = self.actuals.returned;
        let keep = query.limit.map(|limit| (limit - returned).saturating_add(skip));
        let mut heap: BinaryHeap<Sorted> = BinaryHeap::new();
        let mut bytes = 0;
        let mut place = 0;
        while let Some(found) = self.look(core)? {
            for found in found {
                let FoundValue::Jb1(value) = &found.value else { continue };
                let mut key = Vec::new();
                query.sort.key(value, &mut key).ok_or_else(|| self.malformed())?;
                bytes += key.len() + value.len();
                place += 1;
                self.actuals.sorted += 1;
                heap.push(Sorted { key, place, found });
                if keep.is_some_and(|keep| heap.len() as u64 > keep)
                    && let Some(last) = heap.pop()
                {
                    bytes -= last.bytes();
                }
                if bytes > query.limits.sort_bytes_max {
                    return Err(Error::QueryLimit {
                        what: "bytes to sort",
                        limit: query.limits.sort_bytes_max as u64,
                    });
                }
            }
        }
        let mut sorted: Vec<Found> =
            heap.into_sorted_vec().into_iter().map(|sorted| sorted.found).collect();
        sorted.drain(..sorted.len().min(skip.try_into().unwrap_or(usize::MAX)));
        self.skipped = query.skip;
        sorted.reverse();
        Ok(sorted)
    }

    /// Looks at the next rows; `None` when there are no more. What it returns matches.
    fn look(&mut self, core: &Core) -> Result<Option<Vec<Found>>> {
        self.check_limits(core)?;
        let size = self.batch_size();
        let (plan, seq) = (&self.plan, self.seq);
        let source = self.source.get_or_insert_with(|| Source::new(plan));
        let next = source.next(core, self.keyspace, seq, &self.hidden, size)?;
        let Some((rows, entries)) = next else { return Ok(None) };
        self.actuals.entries += entries;
        let found = if rows.ids.is_empty() {
            self.select(rows.found)
        } else if self.only_counts() {
            rows.ids.into_iter().map(Found::counted).collect()
        } else {
            self.fetch(core, rows.ids)?
        };
        self.matched += found.len() as u64;
        self.leave_walk();
        self.give_way(core, &found)?;
        Ok(Some(found))
    }

    /// What is read ahead is wasted when the query ends, or turns to another plan: half of what was looked at
    /// already, at most.
    fn batch_size(&mut self) -> usize {
        let wanted = self.query.limit.map(|limit| limit + self.query.skip);
        let stops_early = wanted.filter(|_| self.plan.is_ordered);
        let looked_at = self.walked().max(self.documents());
        self.batch = match (self.batch, stops_early) {
            (0, Some(wanted)) if !self.plan.has_residual => wanted.clamp(1, BATCH_MAX as u64),
            (0, Some(wanted)) => wanted.clamp(BATCH_MIN, BATCH_FIRST),
            // One more shows that there are no more.
            (0, None) => self.plan.rows.saturating_add(1).clamp(2, BATCH_FIRST),
            // Where nothing was found yet, it may have to be given up soon.
            (_, Some(_)) => {
                let part = if self.matched == 0 { 4 } else { 2 };
                (looked_at / part).clamp(BATCH_MIN, BATCH_MAX as u64)
            }
            (size, None) => (size as u64 * 2).min(BATCH_MAX as u64),
        } as usize;
        self.batch
    }

    /// Nothing of the documents but their number is needed.
    fn only_counts(&self) -> bool {
        let is_seen = self.hide.is_nothing() || bug("count_expired");
        self.query.counts && !self.plan.has_residual && !self.is_raw && is_seen
    }

    fn fetch(&mut self, core: &Core, ids: Vec<Bytes>) -> Result<Vec<Found>> {
        let view = View::Snapshot(self.seq);
        let needs_jb1 = self.plan.has_residual
            || self.is_raw
            || !self.plan.is_ordered
            || self.query.projection.is_some()
            || self.query.distinct.is_some();
        if needs_jb1 {
            let values = core.values(self.keyspace, &ids, view)?;
            let found = ids.into_iter().zip(values).filter_map(|(id, value)| {
                value.map(|(rev, value)| Found { id, rev, value: FoundValue::Jb1(value) })
            });
            let found = found.collect();
            return Ok(self.select(found));
        }
        self.note(ids.iter());
        if let [id] = &ids[..] {
            let found = core.document(self.keyspace, id, view, &self.hide)?;
            let found = found.map(|(rev, text)| Found {
                id: id.clone(),
                rev,
                value: FoundValue::Json(text),
            });
            return Ok(found.into_iter().collect());
        }
        let texts = core.documents(self.keyspace, &ids, view, &self.hide)?;
        let found = ids.into_iter().zip(texts).filter_map(|(id, text)| {
            text.map(|(rev, text)| Found { id, rev, value: FoundValue::Json(text) })
        });
        Ok(found.collect())
    }

    /// Those of the rows that match.
    fn select(&mut self, mut found: Vec<Found>) -> Vec<Found> {
        self.note(found.iter().map(|found| &found.id));
        if !self.hide.is_nothing() {
            found.retain(|found| match &found.value {
                FoundValue::Jb1(value) => !self.hide.hides(value),
                FoundValue::Json(_) => true,
            });
        }
        if self.plan.has_residual {
            found.retain(|found| match &found.value {
                FoundValue::Jb1(value) => self.query.filter.matches(value),
                FoundValue::Json(_) => true,
            });
        }
        found
    }

    fn note<'a>(&mut self, ids: impl ExactSizeIterator<Item = &'a Bytes>) {
        self.actuals.documents += ids.len() as u64;
        if let Some(examined) = &mut self.examined {
            examined.extend(ids.cloned());
        }
    }

    /// Changes to another plan once this one has returned nothing and taken longer than the other would
    /// take in all, so that it costs twice that at most; or sooner, once it is plain that the conditions have
    /// to do with each other, or with the order, in a way that nobody could know.
    fn give_way(&mut self, core: &Core, found: &[Found]) -> Result<()> {
        let looked_at = self.walked().max(self.documents());
        let is_refuted = self.matched == 0 && looked_at as f64 > self.plan.for_one * REFUTED;
        if looked_at <= self.plan.rows && !is_refuted {
            return Ok(());
        }
        if looked_at > self.plan.rows.saturating_mul(SURPRISE_FACTOR) + SURPRISE_MIN {
            self.plan_again(core)?;
        }
        let is_early = found.is_empty() && self.actuals.returned == 0 && self.skipped == 0;
        if !is_early || !self.plan.is_ordered {
            return Ok(());
        }
        let spent = match &self.plan.access {
            Access::Both { .. } => {
                let entries = self.actuals.entries - self.before.0;
                entries as f64 * ENTRY + self.documents() as f64 * FETCH
            }
            _ => looked_at as f64 * self.plan.row_cost(),
        };
        // Where little is found, whatever hoped to end early is no better: the next is the one whose end is
        // nearest.
        let ends = |plan: &Plan| plan.cost_max;
        let nearest = (0..self.others.len())
            .min_by(|a, b| ends(&self.others[*a]).total_cmp(&ends(&self.others[*b])));
        let rest = ends(&self.plan) - spent;
        let worth = if is_refuted { rest } else { spent.min(ends(&self.plan)) };
        if let Some(nearest) = nearest.filter(|at| ends(&self.others[*at]) < worth) {
            if is_refuted && spent < ends(&self.others[nearest]) * PATIENCE {
                return Ok(());
            }
            self.plan = self.others.swap_remove(nearest);
            self.source = None;
            self.batch = 0;
            self.before = (self.actuals.entries, self.actuals.documents);
            self.actuals.switches += 1;
        }
        Ok(())
    }

    /// Reads what was gathered, and sorts it, once going on in the order of an index looks worse.
    fn leave_walk(&mut self) {
        let Some(wanted) = self.query.limit.map(|limit| limit.saturating_add(self.query.skip))
        else {
            return;
        };
        let Some(left) = self.source.as_ref().and_then(Source::left) else { return };
        let walk = Walk {
            entries_for_one: self.plan.for_one,
            walked: self.walked(),
            read: self.documents(),
            matched: self.matched,
            left,
            rest: self.plan.rows_max().saturating_sub(self.walked()),
        };
        if self.plan.is_ordered && !self.query.sort.is_empty() && walk.is_worse(wanted) {
            self.source = self.source.take().map(Source::into_left);
            self.plan.is_ordered = false;
            self.actuals.switches += 1;
        }
    }

    /// Entries that this plan looked at, without those that were only gathered.
    fn walked(&self) -> u64 {
        let left = self.source.as_ref().and_then(Source::left);
        let gathered = left.map_or(0, |left| left + self.documents());
        (self.actuals.entries - self.before.0).saturating_sub(gathered)
    }

    /// Documents that this plan looked at.
    fn documents(&self) -> u64 {
        self.actuals.documents - self.before.1
    }

    fn check_limits(&self, core: &Core) -> Result<()> {
        let limits = &self.query.limits;
        let rows = self.actuals.entries.max(self.actuals.documents);
        if limits.rows_max.is_some_and(|max| rows > max) {
            let limit = limits.rows_max.unwrap_or_default();
            return Err(Error::QueryLimit { what: "rows examined", limit });
        }
        if let Some(deadline) = self.deadline
            && core.options.env.now() >= deadline
        {
            let limit = limits.time_max.map_or(0, |time| time.as_millis() as u64);
            return Err(Error::QueryLimit { what: "milliseconds", limit });
        }
        Ok(())
    }

    fn malformed(&self) -> Error {
        Error::corrupt(format!("collection {}", self.keyspace), 0, "a document is malformed")
    }
}

/// What the query does not see. This comes before the state that plans are made from: whatever is
/// needed for it, the plans know of.
fn hide(core: &Core, keyspace: u32, query: &Query, hold: &Hold) -> Hide {
    if query.sees_expired { Hide::nothing() } else { core.hide(keyspace, hold) }
}

/// A document with its place in the order.
#[derive(Debug)]
struct Sorted {
    key: Vec<u8>,
    /// Of equal ones the one found first is first.
    place: u64,
    found: Found,
}

impl Sorted {
    fn bytes(&self) -> usize {
        let FoundValue::Jb1(value) = &self.found.value else { return self.key.len() };
        self.key.len() + value.len()
    }
}

impl Ord for Sorted {
    fn cmp(&self, other: &Self) -> Ordering {
        self.key.cmp(&other.key).then(self.place.cmp(&other.place))
    }
}

impl PartialOrd for Sorted {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Sorted {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Sorted {}
