//! From a query to the cheapest way of answering it.

use std::{borrow::Cow, sync::Arc};

use super::{
    Query, both,
    bounds::{Condition, KeyRange, POINTS_MAX, Ranges, conditions},
    remember::Choice,
};
use crate::{
    catalog::CollectionState,
    engine::Core,
    error::{Error, Result},
    expiry::Expiry,
    index::{BTreeIndex, Collation},
    query::{Expr, Path},
    text::TextQuery,
};

/// Alternatives of an `$or` that are looked up one by one.
const UNION_MAX: usize = 32;

/// What things cost, in units of reading one document in the order of ids.
const SEEK: f64 = 3.0;
pub(super) const ENTRY: f64 = 0.2;
pub(super) const FETCH: f64 = 1.3;
const COVERED: f64 = 0.2;
pub(super) const SORT: f64 = 0.08;

/// How documents are found.
#[derive(Debug, Clone)]
pub(crate) enum Access {
    /// In ranges of an index.
    Index(IndexScan),
    /// In the order of ids.
    Ids(Vec<KeyRange>),
    /// What any of these finds.
    Union(Vec<IndexScan>),
    /// In the order of `walked`, what both find.
    Both { gathered: IndexScan, walked: IndexScan },
}

#[derive(Debug, Clone)]
pub(crate) struct IndexScan {
    pub(crate) index: Arc<BTreeIndex>,
    pub(crate) ranges: Vec<KeyRange>,
    pub(crate) entries: u64,
    /// How many of the first fields the ranges say something about.
    pub(crate) fields: usize,
}

/// One way of answering a query.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) access: Access,
    /// What is found still has to be looked at.
    pub(crate) has_residual: bool,
    /// It comes in the order that is asked for.
    pub(crate) is_ordered: bool,
    /// Ranges are gone through from their ends.
    pub(crate) is_backward: bool,
    /// The index alone can answer.
    pub(crate) is_covered: bool,
    /// Entries or documents that it expects to look at.
    pub(crate) rows: u64,
    /// Of those, for each that matches.
    pub(crate) for_one: f64,
    pub(crate) cost: f64,
    /// What it costs if it comes to its end; no bound where that is not known.
    pub(crate) cost_max: f64,
}

/// What a plan can be made from.
struct Planner<'a> {
    core: &'a Core,
    query: &'a Query,
    expiry: Option<&'a Expiry>,
    conditions: Vec<Condition>,
    /// The conditions are all that is demanded.
    is_all: bool,
}

/// All ways of answering a query, the cheapest first. There is always one.
///
/// # Errors
/// `InvalidFilter` if the hint names an index that is not there or does not fit.
pub(crate) fn plans(
    core: &Core,
    keyspace: u32,
    state: Option<&CollectionState>,
    seq: u64,
    query: &Query,
) -> Result<Vec<Plan>> {
    if let Some(text) = query.filter.text() {
        return Ok(vec![by_text(core, state, seq, &text.search, query)?]);
    }
    let expiry = state.and_then(|state| state.expiry.as_deref());
    let planner = Planner::new(core, query, expiry);
    let usable = |index: &&Arc<BTreeIndex>| planner.can_use(index, seq);
    let indexes: Vec<&Arc<BTreeIndex>> =
        state.map(|state| state.indexes.iter().filter(usable).collect()).unwrap_or_default();
    let mut all = vec![planner.by_ids(keyspace, None)?];
    for index in &indexes {
        all.extend(planner.by_index(index, None)?);
    }
    all.extend(planner.by_union(&indexes)?);
    if query.hint.is_none() {
        all.extend(both::pairs(query, &all));
    }
    if let Some(hint) = &query.hint {
        all.retain(|plan| plan.name() == Some(hint));
        if all.is_empty() {
            let reason = "the index of the hint does not exist, or cannot answer this";
            return Err(Error::InvalidFilter { path: hint.clone(), reason: reason.to_owned() });
        }
    }
    planner.price(&mut all, core.estimate(keyspace, &[], None)?);
    all.sort_by(|a, b| a.cost.total_cmp(&b.cost));
    Ok(all)
}

/// The plan of a choice that was made before, for other values; `None` if it does not fit these.
pub(crate) fn chosen(
    core: &Core,
    keyspace: u32,
    state: &CollectionState,
    seq: u64,
    query: &Query,
    (choice, rows): (Choice, u64),
) -> Result<Option<Plan>> {
    let planner = Planner::new(core, query, state.expiry.as_deref());
    match choice {
        Choice::Ids => planner.by_ids(keyspace, Some(rows)).map(Some),
        Choice::Index(place) => match state.indexes.get(place) {
            Some(index) if planner.can_use(index, seq) => planner.by_index(index, Some(rows)),
            _ => Ok(None),
        },
    }
}

/// What the text index finds, in the order of ids; the rest of the filter is looked at.
fn by_text(
    core: &Core,
    state: Option<&CollectionState>,
    seq: u64,
    search: &str,
    query: &Query,
) -> Result<Plan> {
    let refused = |reason: &str| {
        let (path, reason) = ("$text".to_owned(), reason.to_owned());
        Error::InvalidFilter { path, reason }
    };
    if query.hint.is_some() {
        return Err(refused("a query by text takes no hint"));
    }
    let index = state.and_then(|state| state.text.first());
    let index = index.ok_or_else(|| refused("the collection has no text index"))?;
    let ids = core.text_ids(index, seq, &TextQuery::parse(search)?)?;
    let sort = &query.sort.fields;
    let by_id = matches!(&sort[..], [by, ..] if by.path.as_str() == "_id" && by.ascending);
    Ok(Plan {
        rows: ids.len() as u64,
        for_one: 1.0,
        cost: ids.len() as f64 * FETCH,
        cost_max: ids.len() as f64 * FETCH,
        access: Access::Ids(ids.iter().map(|id| KeyRange::prefix(id.to_vec())).collect()),
        has_residual: true,
        is_ordered: sort.is_empty() || by_id,
        is_backward: false,
        is_covered: false,
    })
}

impl Plan {
    /// What looking at a row costs.
    pub(crate) fn row_cost(&self) -> f64 {
        match &self.access {
            Access::Ids(_) => 1.0,
            Access::Index(_) if self.is_covered => ENTRY + COVERED,
            Access::Index(_) | Access::Union(_) | Access::Both { .. } => ENTRY + FETCH,
        }
    }

    /// Entries of the index that is gone through.
    pub(crate) fn rows_max(&self) -> u64 {
        match &self.access {
            Access::Both { walked, .. } => walked.entries,
            Access::Index(scan) => scan.entries,
            _ => self.rows,
        }
    }

    /// What to remember of it, if it can be.
    pub(crate) fn choice(&self, state: &CollectionState) -> Option<Choice> {
        match &self.access {
            Access::Ids(_) => Some(Choice::Ids),
            Access::Index(scan) => {
                let place = state.indexes.iter().position(|index| Arc::ptr_eq(index, &scan.index));
                place.map(Choice::Index)
            }
            Access::Union(_) | Access::Both { .. } => None,
        }
    }

    /// The indexes it reads.
    pub(crate) fn indexes(&self) -> impl Iterator<Item = &BTreeIndex> {
        let (scans, more) = match &self.access {
            Access::Ids(_) => (&[][..], None),
            Access::Index(scan) => (std::slice::from_ref(scan), None),
            Access::Union(scans) => (&scans[..], None),
            Access::Both { gathered, walked } => (std::slice::from_ref(gathered), Some(walked)),
        };
        scans.iter().chain(more).map(|scan| &*scan.index)
    }

    /// The index it uses, for hints.
    pub(crate) fn name(&self) -> Option<&str> {
        match &self.access {
            Access::Ids(_) => Some("_id"),
            Access::Index(scan) => Some(scan.index.name()),
            Access::Union(_) | Access::Both { .. } => None,
        }
    }
}

impl<'a> Planner<'a> {
    fn new(core: &'a Core, query: &'a Query, expiry: Option<&'a Expiry>) -> Self {
        let (conditions, is_all) = conditions(query.filter.expr());
        Self { core, query, expiry, conditions, is_all }
    }

    /// It holds what was there at the snapshot, and all that the filter can match.
    fn can_use(&self, index: &BTreeIndex, seq: u64) -> bool {
        index.is_ready_at(seq) && self.implies_partial(index)
    }

    /// Each condition of a partial index has to stand in the filter itself.
    fn implies_partial(&self, index: &BTreeIndex) -> bool {
        let Some(partial) = index.partial() else { return true };
        let (wanted, is_all) = conditions(partial.expr());
        is_all
            && wanted.iter().all(|wanted| {
                self.conditions.iter().any(|given| {
                    given.path == wanted.path
                        && given.is_exact
                        && given.ranges.intersect(&wanted.ranges) == given.ranges
                })
            })
    }

    /// `rows` are those that it will look at, if that is known.
    fn by_ids(&self, keyspace: u32, rows: Option<u64>) -> Result<Plan> {
        let on_id = self.conditions.iter().filter(|c| c.path.as_str() == "_id");
        let ranges = on_id
            .clone()
            .map(|c| c.ranges.clone())
            .reduce(|a, b| a.intersect(&b))
            .map_or_else(|| vec![KeyRange::all()], |ranges| ranges.0);
        let has_residual = !self.is_all || on_id.count() != self.conditions.len();
        // Ids are unique: nothing that comes behind one in a sort matters.
        let by_id = self.query.sort.fields.first().filter(|first| first.path.as_str() == "_id");
        let rows = rows.map_or_else(|| self.estimate(keyspace, &ranges), Ok)?;
        Ok(Plan {
            access: Access::Ids(ranges),
            has_residual,
            is_ordered: self.query.sort.is_empty() || by_id.is_some(),
            is_backward: by_id.is_some_and(|by_id| !by_id.ascending),
            is_covered: false,
            rows,
            for_one: f64::INFINITY,
            cost: 0.0,
            cost_max: f64::INFINITY,
        })
    }

    /// `None` if the index cannot answer; `rows` as in `by_ids`.
    fn by_index(&self, index: &Arc<BTreeIndex>, rows: Option<u64>) -> Result<Option<Plan>> {
        let scan = self.scan(index, &self.conditions);
        let order = self.order(index, &scan);
        let is_sparse_safe = !index.is_sparse() || scan.excludes_missing;
        if !is_sparse_safe || (scan.fields == 0 && order.is_none()) {
            return Ok(None);
        }
        let has_residual = !(self.is_all && scan.is_exact && scan.used == self.conditions.len());
        let estimate = || self.estimate(index.keyspace, &scan.ranges);
        let entries = rows.map_or_else(estimate, Ok)?;
        let is_covered = self.is_covered(index, has_residual);
        Ok(Some(Plan {
            access: Access::Index(IndexScan {
                index: Arc::clone(index),
                ranges: scan.ranges,
                entries,
                fields: scan.fields,
            }),
            has_residual,
            is_ordered: order.is_some() || self.query.sort.is_empty(),
            is_backward: order == Some(Direction::Backward),
            is_covered,
            rows: entries,
            for_one: f64::INFINITY,
            cost: 0.0,
            cost_max: f64::INFINITY,
        }))
    }

    /// Every alternative of an `$or` by the index that suits it best.
    fn by_union(&self, indexes: &[&Arc<BTreeIndex>]) -> Result<Option<Plan>> {
        let alternatives = self.alternatives().filter(|all| all.len() <= UNION_MAX);
        let mut scans = Vec::new();
        for alternative in alternatives.into_iter().flatten() {
            let (conditions, _) = conditions(alternative);
            let mut best: Option<IndexScan> = None;
            for index in indexes {
                let scan = self.scan(index, &conditions);
                if scan.fields == 0 || (index.is_sparse() && !scan.excludes_missing) {
                    continue;
                }
                let entries = self.estimate(index.keyspace, &scan.ranges)?;
                if best.as_ref().is_none_or(|best| entries < best.entries) {
                    let index = Arc::clone(index);
                    let fields = scan.fields;
                    best = Some(IndexScan { index, ranges: scan.ranges, entries, fields });
                }
            }
            let Some(best) = best else { return Ok(None) };
            scans.push(best);
        }
        if scans.is_empty() {
            return Ok(None);
        }
        Ok(Some(Plan {
            rows: scans.iter().map(|scan| scan.entries).sum(),
            access: Access::Union(scans),
            has_residual: true,
            is_ordered: self.query.sort.is_empty(),
            is_backward: false,
            is_covered: false,
            for_one: f64::INFINITY,
            cost: 0.0,
            cost_max: f64::INFINITY,
        }))
    }

    fn alternatives(&self) -> Option<&[Expr]> {
        match self.query.filter.expr() {
            Expr::Or(all) => Some(all),
            Expr::And(all) => all.iter().find_map(|one| match one {
                Expr::Or(all) => Some(&all[..]),
                _ => None,
            }),
            _ => None,
        }
    }

    /// Equal fields one after the other, then a range.
    fn scan(&self, index: &BTreeIndex, conditions: &[Condition]) -> Scan {
        let mut scan = Scan {
            ranges: Vec::new(),
            fixed: 0,
            fields: 0,
            used: 0,
            is_exact: !is_lossy(index),
            excludes_missing: false,
        };
        let mut prefixes: Vec<Vec<u8>> = vec![Vec::new()];
        for (place, field) in index.fields().iter().enumerate() {
            let Some((ranges, used, is_exact)) = combined(index, &field.path, conditions) else {
                break;
            };
            let turned: Cow<'_, [KeyRange]> = if is_lossy(index) {
                let Some(points) = lossy_points(index, place, conditions) else { break };
                points.into()
            } else if field.descending {
                ranges.0.iter().rev().map(KeyRange::inverted).collect()
            } else {
                Cow::Borrowed(&ranges.0)
            };
            scan.fields += 1;
            scan.used += used;
            scan.is_exact &= is_exact;
            scan.excludes_missing |= ranges.excludes_missing();
            let points: Option<Vec<&[u8]>> = turned.iter().map(KeyRange::as_prefix).collect();
            match points {
                Some(points) if prefixes.len() == 1 && points.len() == 1 => {
                    scan.fixed += usize::from(scan.fixed + 1 == scan.fields);
                    prefixes[0].extend_from_slice(points[0]);
                }
                Some(points) if prefixes.len() * points.len() <= POINTS_MAX => {
                    let extend = |prefix: &Vec<u8>| {
                        points.iter().map(|p| [prefix, *p].concat()).collect::<Vec<_>>()
                    };
                    prefixes = prefixes.iter().flat_map(extend).collect();
                }
                _ => {
                    let each = |prefix: &Vec<u8>| {
                        turned.iter().map(|range| range.within(prefix)).collect::<Vec<_>>()
                    };
                    scan.ranges = prefixes.iter().flat_map(each).collect();
                    return scan;
                }
            }
        }
        scan.ranges = prefixes.into_iter().map(KeyRange::prefix).collect();
        scan
    }

    /// In which direction the entries come in the order that is asked for, if in any.
    fn order(&self, index: &BTreeIndex, scan: &Scan) -> Option<Direction> {
        let sort = &self.query.sort.fields;
        if sort.is_empty() || index.is_multikey() || is_lossy(index) {
            return None;
        }
        // Several ranges follow one another in the order of the field in which they differ.
        if scan.ranges.len() > 1 && scan.fields > scan.fixed + 1 {
            return None;
        }
        let fields = index.fields();
        let fixed = |path: &Path| fields[..scan.fixed].iter().any(|field| field.path == *path);
        let mut rest = fields[scan.fixed..].iter();
        let mut direction = None;
        for by in sort.iter().filter(|by| !fixed(&by.path)) {
            let field = rest.next().filter(|field| field.path == by.path)?;
            let wanted = match field.descending == by.ascending {
                true => Direction::Backward,
                false => Direction::Forward,
            };
            (*direction.get_or_insert(wanted) == wanted).then_some(())?;
        }
        Some(direction.unwrap_or(Direction::Forward))
    }

    fn is_covered(&self, index: &BTreeIndex, has_residual: bool) -> bool {
        let Some(mut wanted) = self.query.fields() else { return false };
        if has_residual && !self.query.filter.each_path(&mut |path| wanted.push(path.clone())) {
            return false;
        }
        // Whether a document has expired must be told from the index as well.
        if let Some(expiry) = self.expiry
            && !expiry.each_path(&mut |path| wanted.push(path.clone()))
        {
            return false;
        }
        let fields = index.fields().iter().map(|field| &field.path);
        let held: Vec<&Path> = fields.chain(index.include()).collect();
        !index.is_multikey()
            && wanted.iter().all(|path| path.as_str() == "_id" || held.contains(&path))
    }

    fn estimate(&self, keyspace: u32, ranges: &[KeyRange]) -> Result<u64> {
        let mut entries = 0;
        for range in ranges {
            let (from, to) = range.keys();
            entries += self.core.estimate(keyspace, &from, to.as_deref())?;
        }
        Ok(entries)
    }

    fn price(&self, plans: &mut [Plan], documents: u64) {
        let matches = matches(plans, documents as f64);
        let wanted = self.query.limit.map(|n| (n.saturating_add(self.query.skip)).max(1) as f64);
        for plan in plans {
            let all = plan.rows as f64;
            let stops_early = plan.is_ordered || self.query.sort.is_empty();
            let rows = match wanted {
                Some(wanted) if stops_early => all.min(wanted * (all / matches).max(1.0)),
                _ => all,
            };
            let seeks = match &plan.access {
                Access::Ids(ranges) => ranges.len(),
                Access::Index(scan) => scan.ranges.len(),
                Access::Union(scans) => scans.iter().map(|scan| scan.ranges.len()).sum(),
                Access::Both { gathered, walked } => gathered.ranges.len() + walked.ranges.len(),
            };
            let cost = |rows: f64| {
                let (found, reading) = match &plan.access {
                    Access::Both { gathered, .. } => {
                        let gathered = gathered.entries as f64;
                        let found = rows * (gathered / documents.max(1) as f64).min(1.0);
                        (found, (gathered + rows) * ENTRY + found * FETCH)
                    }
                    _ => (rows, rows * plan.row_cost()),
                };
                let sorted = if stops_early { 0.0 } else { found.min(matches) };
                let sorting = sorted * sorted.max(2.0).log2() * SORT;
                seeks as f64 * SEEK + reading + sorting
            };
            (plan.cost, plan.cost_max) = (cost(rows), cost(all));
            plan.for_one = all / matches;
            plan.rows = rows as u64;
        }
    }
}

/// About how many documents match, of so many: as if conditions on different fields had nothing to do
/// with each other. Where they have, a plan that stops early is thought to be worse than it is, which
/// costs no more than the most selective plan does.
fn matches(plans: &[Plan], documents: f64) -> f64 {
    let id = Path::parse("_id").ok();
    let mut known: Vec<(u64, Vec<&Path>)> = Vec::new();
    for plan in plans {
        match &plan.access {
            Access::Ids(ranges) if *ranges != [KeyRange::all()] => {
                known.push((plan.rows, id.iter().collect()));
            }
            Access::Index(scan) if scan.fields > 0 => {
                let fields = &scan.index.fields()[..scan.fields];
                known.push((plan.rows, fields.iter().map(|field| &field.path).collect()));
            }
            _ => {}
        }
    }
    known.sort_by_key(|(rows, _)| *rows);
    let mut counted: Vec<&Path> = Vec::new();
    let mut matches = documents;
    for (rows, paths) in known {
        if !paths.iter().any(|path| counted.contains(path)) {
            matches *= (rows as f64 / documents.max(1.0)).min(1.0);
            counted.extend(paths);
        }
    }
    matches.max(1.0)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    Backward,
    Forward,
}

/// Ranges of one index, and how they came about.
struct Scan {
    ranges: Vec<KeyRange>,
    /// Leading fields with a single value.
    fixed: usize,
    fields: usize,
    /// Conditions that the ranges stand for.
    used: usize,
    is_exact: bool,
    excludes_missing: bool,
}

/// Its keys do not tell all about the values.
fn is_lossy(index: &BTreeIndex) -> bool {
    index.is_hash() || index.collation() != Collation::Binary
}

/// Where the values of one condition lie in an index whose keys do not tell all about them.
fn lossy_points(
    index: &BTreeIndex,
    place: usize,
    conditions: &[Condition],
) -> Option<Vec<KeyRange>> {
    let path = &index.fields().get(place)?.path;
    let mut on_path = conditions.iter().filter(|c| c.path == *path);
    let values = on_path.find_map(|condition| condition.values.as_ref())?;
    let mut points: Vec<Vec<u8>> = Vec::with_capacity(values.len());
    for value in values {
        let mut point = Vec::new();
        index.encode_value(place, Some(value), &mut point)?;
        points.push(point);
    }
    points.sort_unstable();
    points.dedup();
    Some(points.into_iter().map(KeyRange::prefix).collect())
}

/// What all conditions on a path leave of its values, how many they are, and whether exactly that
/// satisfies them.
fn combined<'c>(
    index: &BTreeIndex,
    path: &Path,
    conditions: &'c [Condition],
) -> Option<(Cow<'c, Ranges>, usize, bool)> {
    let mut on_path = conditions.iter().filter(|c| c.path == *path);
    let first = on_path.next()?;
    if !index.is_multikey() {
        let (mut ranges, mut used, mut is_exact) =
            (Cow::Borrowed(&first.ranges), 1, first.is_exact);
        for condition in on_path {
            ranges = Cow::Owned(ranges.intersect(&condition.ranges));
            used += 1;
            is_exact &= condition.is_exact;
        }
        return Some((ranges, used, is_exact));
    }
    // Of several values each condition may be satisfied by another: only one of them counts, best
    // one that names values.
    let all = std::iter::once(first).chain(on_path);
    let best = all.min_by_key(|c| (c.ranges.points().is_none(), !c.is_joint, c.ranges.0.len()))?;
    Some((Cow::Borrowed(&best.ranges), 1, best.is_exact))
}
