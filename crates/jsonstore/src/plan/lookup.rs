//! What one range of one index answers: found and read in one go, as of one moment. No snapshot has
//! to be held for it, and nothing of it is kept for a next batch.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use bytes::Bytes;

use super::{
    Query, QueryLimits,
    bounds::{Bound, KeyRange, bracket_ends},
    choose::{self, Access, Plan},
    source::Walk,
};
use crate::{
    catalog::CollectionState,
    engine::{Core, Moment, View},
    error::Result,
    index::BTreeIndex,
    key::prefix_end,
    lsm::{Tree, full_key, in_keyspace},
    query::{Comparing, Comparison, Param, Slot},
    segment::VisitKey,
};

/// What has more rows is answered a batch at a time.
const ROWS_MAX: usize = 256;
/// After so many uses a route is chosen again: the documents may have changed.
const USES_MAX: u32 = 1000;
/// Room for one id as most are.
const ID_BYTES: usize = 32;
/// Room for both ends of a range of keys as most are.
const KEY_BYTES: usize = 64;

/// Versions and JSON texts of what was found.
pub(crate) type Texts = Vec<(u64, Bytes)>;

/// Where to look.
struct LookUp<'a> {
    index: &'a BTreeIndex,
    /// The first key, and the first one behind it, with their keyspaces in front.
    from: &'a [u8],
    to: &'a [u8],
    is_backward: bool,
}

impl LookUp<'_> {
    /// The documents from `skip` on, up to `limit`; `None` if that is too much for one go.
    fn run(
        &self,
        core: &Core,
        keyspace: u32,
        (skip, limit): (u64, Option<u64>),
        (tree, at): &Moment,
    ) -> Result<Option<Texts>> {
        let wanted = match limit.map(|limit| limit.saturating_add(skip)) {
            Some(wanted) if wanted <= ROWS_MAX as u64 => wanted as usize,
            Some(_) => return Ok(None),
            None => ROWS_MAX + 1,
        };
        // With documents to be hidden nobody knows how many entries suffice.
        let hide = core.hide_now(keyspace);
        if !hide.is_nothing() {
            return Ok(None);
        }
        let (mut ids, mut ends) = (Vec::with_capacity(ID_BYTES), Vec::new());
        self.visit((tree, *at), wanted, &mut |key| {
            ids.extend_from_slice(self.index.id_in(key)?);
            ends.push(ids.len());
            Ok(())
        })?;
        if ends.len() > ROWS_MAX {
            return Ok(None);
        }
        let skip = usize::try_from(skip).unwrap_or(usize::MAX);
        let start = |place: usize| place.checked_sub(1).map_or(0, |before| ends[before]);
        let keys = (skip.min(ends.len())..ends.len()).map(|place| &ids[start(place)..ends[place]]);
        let found = core.documents_at(keyspace, keys, (tree, *at), &hide)?;
        self.index.note_use();
        Ok(Some(found))
    }

    /// Visits up to `limit` entries.
    fn visit(
        &self,
        (tree, at): (&Tree, u64),
        limit: usize,
        visit: &mut VisitKey<'_>,
    ) -> Result<()> {
        let keyspace = self.index.keyspace;
        let range = (self.from, self.to);
        if !self.is_backward && tree.visit_one_run(keyspace, range, at, limit, visit)?.is_some() {
            return Ok(());
        }
        let Some(from) = in_keyspace(keyspace, self.from) else { return Ok(()) };
        let to = in_keyspace(keyspace, self.to);
        let mut walk = Walk::new(tree, keyspace, from, to, at, self.is_backward)?;
        walk.visit(limit, &mut |key, _, _| visit(key)).map(|_| ())
    }
}

impl Query {
    /// Whole documents are wanted, without bounds on what it takes to find them.
    fn is_plain(&self) -> bool {
        let QueryLimits { rows_max, time_max, .. } = self.limits;
        rows_max.is_none()
            && time_max.is_none()
            && self.projection.is_none()
            && self.distinct.is_none()
            && !self.counts
            && !self.sees_expired
            && self.filter.text().is_none()
    }
}

impl Plan {
    /// The range that answers the query by itself, if that is what the plan is.
    pub(super) fn single(&self, query: &Query) -> Option<(&Arc<BTreeIndex>, &KeyRange)> {
        let Access::Index(scan) = &self.access else { return None };
        let [range] = &scan.ranges[..] else { return None };
        let is_single = !self.has_residual && self.is_ordered && !scan.index.is_multikey();
        (is_single && query.is_plain()).then_some((&scan.index, range))
    }
}

/// Answers a query as the last one of its shape was, if one range of an index was enough for that.
///
/// # Errors
/// I/O errors; the hidden error of `would_block`.
pub(crate) fn recalled(
    core: &Core,
    keyspace: u32,
    query: &Query,
    view: View,
) -> Result<Option<(Texts, Plan)>> {
    let Some(shape) = Some(query).filter(|query| query.is_plain()).and_then(Query::shape) else {
        return Ok(None);
    };
    // What is in the state of this moment, the flags of the indexes have said before.
    let moment = core.moment(view)?;
    let Some(state) = core.collection_state(keyspace) else { return Ok(None) };
    let Some(choice) = state.choices.recall_single(shape) else { return Ok(None) };
    let plan = choose::chosen(core, keyspace, &state, moment.1, query, choice)?;
    let Some(plan) = plan else { return Ok(None) };
    let Some((index, range)) = plan.single(query) else { return Ok(None) };
    let (from, to) = range.keys();
    let is_backward = plan.is_backward;
    let (from, to) = (full_key(index.keyspace, &from), full_end(index.keyspace, to.as_deref()));
    let look_up = LookUp { index, from: &from, to: &to, is_backward };
    let found = look_up.run(core, keyspace, (query.skip, query.limit), &moment)?;
    Ok(found.map(|found| (found, plan)))
}

/// How a prepared query is answered, whatever its values are.
#[derive(Debug)]
pub(crate) struct Route {
    /// Of the state of the collection that it was chosen in.
    generation: u64,
    uses: AtomicU32,
    single: Option<Single>,
}

/// One range of an index, made from values.
#[derive(Debug)]
struct Single {
    index: Arc<BTreeIndex>,
    is_backward: bool,
    /// The first fields, and whether they are inverted.
    equal: Vec<(Slot, bool)>,
    ends: Option<Ends>,
}

/// A range of the field behind them.
#[derive(Debug)]
struct Ends {
    /// And whether the end itself belongs to it.
    low: Option<(Slot, bool)>,
    high: Option<(Slot, bool)>,
    is_inverted: bool,
}

impl Route {
    /// Chooses one, for a query with some values.
    ///
    /// # Errors
    /// As the planner.
    pub(crate) fn choose(
        core: &Core,
        state: &CollectionState,
        (keyspace, at): (u32, u64),
        query: &Query,
        comparings: Option<&[Comparing]>,
    ) -> Result<Self> {
        let uses = AtomicU32::new(0);
        let mut route = Self { generation: state.generation, uses, single: None };
        if let Some(comparings) = comparings.filter(|_| query.is_plain()) {
            let plans = choose::plans(core, keyspace, Some(state), at, query)?;
            let best = plans.first().and_then(|best| Some((best, best.single(query)?.0)));
            route.single = best.and_then(|(plan, index)| Single::of(plan, index, comparings));
        }
        Ok(route)
    }

    /// Whether it was chosen for this state, and not too often used since.
    pub(crate) fn is_good(&self, state: &CollectionState) -> bool {
        // Threads at the same time may count as one.
        let uses = self.uses.load(Ordering::Relaxed);
        self.uses.store(uses.saturating_add(1), Ordering::Relaxed);
        uses < USES_MAX && self.generation == state.generation
    }

    /// The name of the index that is enough, if one is.
    pub(crate) fn index(&self) -> Option<&str> {
        self.single.as_ref().map(|single| single.index.name())
    }

    /// What the query finds with these values after skipping some and up to a limit; `None` if it has
    /// to go the usual way.
    ///
    /// # Errors
    /// I/O errors; the hidden error of `would_block`.
    pub(crate) fn answer(
        &self,
        core: &Core,
        keyspace: u32,
        part: (u64, Option<u64>),
        values: &[Param<'_>],
        moment: &Moment,
    ) -> Result<Option<Texts>> {
        let Some(single) = &self.single else { return Ok(None) };
        let index = &single.index;
        if !index.is_ready_at(moment.1) || index.is_multikey() {
            return Ok(None);
        }
        let Some(range) = single.range(values) else { return Ok(None) };
        let Some((from, to)) = range else { return Ok(Some(Vec::new())) };
        let is_backward = single.is_backward;
        let look_up = LookUp { index, from: &from, to: &to, is_backward };
        look_up.run(core, keyspace, part, moment)
    }
}

/// First key, and the first one behind it, with their keyspaces in front.
type Keys = (Vec<u8>, Vec<u8>);

/// The first full key behind a range of a keyspace.
fn full_end(keyspace: u32, to: Option<&[u8]>) -> Vec<u8> {
    to.map_or_else(|| full_key(keyspace + 1, &[]), |to| full_key(keyspace, to))
}

impl Single {
    /// `None` if the range is not made from the values alone.
    fn of(plan: &Plan, index: &Arc<BTreeIndex>, comparings: &[Comparing]) -> Option<Self> {
        // Whether it may be used depends on the values.
        if index.partial().is_some() {
            return None;
        }
        let mut single = Self {
            index: Arc::clone(index),
            is_backward: plan.is_backward,
            equal: Vec::new(),
            ends: None,
        };
        let mut used = 0;
        for field in index.fields() {
            let on_field = comparings.iter().filter(|c| c.path == field.path);
            let on_field: Vec<&Comparing> = on_field.collect();
            used += on_field.len();
            match &on_field[..] {
                [] => break,
                [Comparing { comparison: Comparison::Eq, slot, .. }] => {
                    single.equal.push((slot.clone(), field.descending));
                }
                _ => {
                    single.ends = Some(Ends::of(&on_field, field.descending)?);
                    break;
                }
            }
        }
        (used == comparings.len() && used > 0).then_some(single)
    }

    /// The range for these values, which may be empty; `None` for values of which an index says less.
    fn range(&self, values: &[Param<'_>]) -> Option<Option<Keys>> {
        let mut prefix = Vec::with_capacity(KEY_BYTES);
        prefix.extend_from_slice(&self.index.keyspace.to_be_bytes());
        for (slot, is_inverted) in &self.equal {
            let from = prefix.len();
            slot.put_key(values, &mut prefix)?;
            if *is_inverted {
                prefix[from..].iter_mut().for_each(|byte| *byte = !*byte);
            }
        }
        let Some(ends) = &self.ends else {
            let to = prefix_end(&prefix)?;
            return Some(Some((prefix, to)));
        };
        let Some(range) = ends.range(values)? else { return Some(None) };
        let (from, to) = range.within(&prefix).keys();
        Some(Some((from, to?)))
    }
}

impl Ends {
    /// At most one comparison for each end.
    fn of(comparings: &[&Comparing], is_inverted: bool) -> Option<Self> {
        let mut ends = Self { low: None, high: None, is_inverted };
        for Comparing { comparison, slot, .. } in comparings {
            let (end, is_in) = match comparison {
                Comparison::Eq => return None,
                Comparison::Gt => (&mut ends.low, false),
                Comparison::Gte => (&mut ends.low, true),
                Comparison::Lt => (&mut ends.high, false),
                Comparison::Lte => (&mut ends.high, true),
            };
            if end.replace((slot.clone(), is_in)).is_some() {
                return None;
            }
        }
        Some(ends)
    }

    fn range(&self, values: &[Param<'_>]) -> Option<Option<KeyRange>> {
        let (mut low, mut high) = (Vec::new(), Vec::new());
        let mut bracket = None;
        for (end, key) in [(&self.low, &mut low), (&self.high, &mut high)] {
            let Some((slot, _)) = end else { continue };
            let own = slot.put_key(values, key)?;
            // Only values of the same type compare.
            if *bracket.get_or_insert(own) != own {
                return Some(None);
            }
        }
        let (first, last) = bracket_ends(bracket?)?;
        let from = match self.low {
            None => Bound::Before(vec![first]),
            Some((_, true)) => Bound::Before(low),
            Some((_, false)) => Bound::After(low),
        };
        let to = match self.high {
            None => Bound::After(vec![last]),
            Some((_, true)) => Bound::After(high),
            Some((_, false)) => Bound::Before(high),
        };
        let range = KeyRange { from, to };
        if range.is_empty() {
            return Some(None);
        }
        Some(Some(if self.is_inverted { range.inverted() } else { range }))
    }
}
