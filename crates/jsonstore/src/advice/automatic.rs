//! `AutoIndex::On`: making indexes that help, and dropping those that do not any more.
//!
//! Only what was made so is dropped so. An automatic index never refuses a document: one that it
//! cannot take ends its use at once, for good, and it goes.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use super::{Advice, AdviceAction, AutoIndex};
use crate::{engine::Core, error::Result, index::Index};

/// Between two looks.
const LOOK_PAUSE: Duration = Duration::from_secs(60);
/// What was tried is not tried again for so long, whatever came of it.
const TRY_AGAIN: Duration = Duration::from_secs(24 * 3600);
/// Building looks at every document once, which its queries have to save in so many hours.
const HOURS_TO_PAY: f64 = 6.0;

/// What was done, and when the next thing may be.
#[derive(Debug, Default)]
pub(super) struct Automatic {
    look_at: Duration,
    make_at: Duration,
    /// Until when an index, by collection and name, is not tried again.
    tried: BTreeMap<(u32, String), Duration>,
    /// Of each automatic index, by its keyspace: how often it was used by when.
    seen: BTreeMap<u32, (u64, Duration)>,
    pub(super) made: u64,
    pub(super) dropped: u64,
    /// The advice of the last look.
    pub(super) last: Vec<Advice>,
}

impl Core {
    /// Looks, if it is time, for what indexes would help; makes and drops them if that is wanted.
    pub(crate) fn step_advice(self: &Arc<Self>) -> Result<()> {
        let is_on = self.advisor.mode == AutoIndex::On && !self.options.read_only;
        let is_told = self.advisor.mode == AutoIndex::Suggest && self.options.report.is_some();
        if !is_on && !is_told {
            return Ok(());
        }
        let now = self.options.env.now();
        {
            let mut automatic = self.advisor.automatic.lock();
            if now < automatic.look_at {
                return Ok(());
            }
            automatic.look_at = now + LOOK_PAUSE;
            automatic.tried.retain(|_, until| *until > now);
        }
        let advice = self.advice()?;
        if is_on {
            self.drop_useless(&advice, now);
            self.make_best(&advice, now);
        }
        self.advisor.automatic.lock().last = advice;
        Ok(())
    }

    fn drop_useless(self: &Arc<Self>, advice: &[Advice], now: Duration) {
        let limits = &self.options.auto_index_limits;
        for (name, keyspace, _) in self.keyspaces() {
            let Some(state) = self.collection_state(keyspace) else { continue };
            for index in state.indexes.iter().filter(|index| index.is_automatic()) {
                let is_redundant = advice.iter().any(|advice| {
                    advice.action == AdviceAction::DropRedundant
                        && advice.collection == name
                        && advice.index == index.definition
                });
                let idle = {
                    let mut automatic = self.advisor.automatic.lock();
                    let seen = automatic.seen.entry(index.keyspace);
                    let seen = seen.or_insert((index.uses(), index.known_since()));
                    if seen.0 != index.uses() {
                        *seen = (index.uses(), now);
                    }
                    now.saturating_sub(seen.1)
                };
                if index.is_incomplete() || is_redundant || idle >= limits.unused_after {
                    self.queue_automatic_drop(keyspace, index.name());
                    let mut automatic = self.advisor.automatic.lock();
                    automatic.dropped += 1;
                    automatic.seen.remove(&index.keyspace);
                    drop(automatic);
                    tracing::info!(
                        target: "jsonstore::advice", "dropping index {} of {name}", index.name()
                    );
                }
            }
        }
    }

    /// Begins to build the index that would help most, if there is one that is worth it.
    fn make_best(self: &Arc<Self>, advice: &[Advice], now: Duration) {
        let is_busy = self.has_index_jobs()
            || self.tree().levels.levels[0].len() >= self.options.l0_slow
            || now < self.advisor.automatic.lock().make_at;
        if is_busy {
            return;
        }
        for advice in advice.iter().filter(|advice| advice.action == AdviceAction::Create) {
            let Some((keyspace, _)) = self.keyspace(&advice.collection) else { continue };
            let index = advice.index.clone().automatic();
            let place = (keyspace, index.effective_name());
            let is_tried = self.advisor.automatic.lock().tried.contains_key(&place);
            if is_tried || !self.is_worth_it(keyspace, advice, &index) {
                continue;
            }
            let mut automatic = self.advisor.automatic.lock();
            automatic.make_at = now + self.options.auto_index_limits.cool_down;
            automatic.tried.insert(place, now + TRY_AGAIN);
            automatic.made += 1;
            drop(automatic);
            tracing::info!(
                target: "jsonstore::advice",
                "making index {} of {}: {}", index.effective_name(), advice.collection, advice.reason
            );
            self.queue_automatic(keyspace, index);
            return;
        }
    }

    fn is_worth_it(&self, keyspace: u32, advice: &Advice, index: &Index) -> bool {
        let limits = &self.options.auto_index_limits;
        let executions: u64 = advice.queries.iter().map(|query| query.executions).sum();
        let Ok(documents) = self.estimate(keyspace, &[], None) else { return false };
        let state = self.collection_state(keyspace).unwrap_or_default();
        // One that goes on where another ends takes its place.
        let others = state.indexes.iter().filter(|other| {
            other.is_automatic() && !index.fields.starts_with(&other.definition.fields)
        });
        let left: u64 = advice.queries.iter().map(|query| query.examined).sum();
        let left = left.saturating_sub(advice.rows_saved) as f64;
        executions >= limits.executions_min
            && others.count() < limits.indexes_max
            && left <= limits.selectivity_max * documents as f64 * executions as f64
            && advice.rows_saved as f64 * HOURS_TO_PAY >= documents as f64
    }
}
