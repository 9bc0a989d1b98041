//! Two indexes at once: the ids that one finds are gathered, and of the entries of another only theirs
//! count. Entries are cheap beside documents, so this wins where two conditions leave little between
//! them, or where an order is asked for that goes with another field than the condition.

use super::{
    Query,
    choose::{Access, ENTRY, FETCH, IndexScan, Plan, SORT},
};
use crate::query::Path;

/// Ids that are gathered at most: what they take is some megabytes.
const GATHERED_MAX: u64 = 1 << 16;
/// Where all is gone through, one index holds at most so many times the entries of the other. Then both
/// cost at most 1.4 times what the lesser one does alone, however the two conditions go together.
const UNLIKE_MAX: u64 = 3;
/// The part of what sorting would cost that a walk may cost in vain, beside the gathering.
const WASTE: f64 = 0.25;
/// The most selective indexes that are gathered from.
const GATHERED_FROM: usize = 2;

/// Every pair of the plans by one index that may be worth it, not priced yet.
pub(super) fn pairs(query: &Query, plans: &[Plan]) -> Vec<Plan> {
    // Such a plan looks at more rows, though they cost less.
    if query.limits.rows_max.is_some() {
        return Vec::new();
    }
    let scans = || plans.iter().filter_map(|plan| Some((plan, scan_of(plan)?)));
    let mut gathered: Vec<&IndexScan> = scans().map(|(_, scan)| scan).collect();
    gathered.retain(|scan| scan.fields > 0 && scan.entries <= GATHERED_MAX);
    gathered.sort_by_key(|scan| scan.entries);
    gathered.truncate(GATHERED_FROM);
    let mut pairs = Vec::new();
    for gathered in gathered {
        for (plan, walked) in scans() {
            let stops_early = plan.is_ordered && query.limit.is_some();
            let (a, b) = (walked.entries, gathered.entries);
            let is_like = a.max(b) <= a.min(b).saturating_mul(UNLIKE_MAX);
            // An index that says nothing of its own is worth it for its order only.
            let is_useful = walked.fields > 0 || (plan.is_ordered && !query.sort.is_empty());
            if !is_useful || !(stops_early || is_like) || !are_apart(gathered, walked) {
                continue;
            }
            pairs.push(Plan {
                access: Access::Both { gathered: gathered.clone(), walked: walked.clone() },
                has_residual: true,
                is_covered: false,
                rows: walked.entries,
                ..plan.clone()
            });
        }
    }
    pairs
}

fn scan_of(plan: &Plan) -> Option<&IndexScan> {
    match &plan.access {
        Access::Index(scan) => Some(scan),
        _ => None,
    }
}

/// They say something about different fields.
fn are_apart(a: &IndexScan, b: &IndexScan) -> bool {
    let paths = |scan: &IndexScan| -> Vec<Path> {
        let fields = scan.index.fields().iter().take(scan.fields);
        fields.map(|field| field.path.clone()).collect()
    };
    let of_a = paths(a);
    !paths(b).iter().any(|path| of_a.contains(path))
}

/// The walk over the entries of an order, and whether it is still worth it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Walk {
    /// Entries that were expected for each document that matches.
    pub(super) entries_for_one: f64,
    /// Entries walked over.
    pub(super) walked: u64,
    /// Of their documents, those that were read.
    pub(super) read: u64,
    /// And of those, the ones that match.
    pub(super) matched: u64,
    /// Ids gathered that the walk has not met.
    pub(super) left: u64,
    /// Entries that are left.
    pub(super) rest: u64,
}

impl Walk {
    /// Whether reading all that is left and sorting it would be over sooner. What was expected counts as
    /// one match: so a walk that finds nothing is given up before it cost much.
    pub(super) fn is_worse(&self, wanted: u64) -> bool {
        let missing = wanted.saturating_sub(self.matched) as f64;
        let (entries, read, matched) = (self.walked as f64, self.read as f64, self.matched as f64);
        let left = self.left as f64;
        let for_one = (entries + self.entries_for_one) / (matched + 1.0);
        let reads = (read + 1.0) / (entries + 1.0);
        let likely = missing * for_one * (ENTRY + reads * FETCH);
        let reads_max = left.min(missing * (read + 1.0) / (matched + 1.0));
        let walk = likely.min(self.rest as f64 * ENTRY + reads_max * FETCH);
        let sorting = left * FETCH + left * left.max(2.0).log2() * SORT;
        walk > sorting || (walk.min(entries * ENTRY) > sorting * WASTE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_walk_without_matches_is_given_up() {
        let walk = |walked, matched| {
            let (entries_for_one, left, rest) = (8.0, 700, 60_000 - walked);
            Walk { entries_for_one, walked, read: matched, matched, left, rest }.is_worse(100)
        };
        assert!(!walk(0, 0), "as good as was thought");
        assert!(walk(90, 0));
        assert!(!walk(90, 11), "as was expected");
        assert!(!walk(4000, 99), "nearly there");
    }
}
