//! Which indexes would help, which ones do not, and making the former if that is wanted.
//!
//! - `shapes`: what queries of one shape cost, of those that look at more than they return
//! - `need`: the fields that an index for a query would have, in their order
//! - `sample`: documents from all over a collection, to tell what an index would spare
//! - `suggest`: from all of this to a list
//! - `automatic`: `AutoIndex::On`
//!
//! Values of queries stay in memory, for `sample`; what is told has shapes only.

mod automatic;
mod need;
mod sample;
mod shapes;
mod suggest;

use std::time::Duration;

use parking_lot::Mutex;
use serde_json::{Value, json};

use self::automatic::Automatic;
pub(crate) use self::shapes::Shapes;
use crate::{api::Store, engine::Core, error::Result, index::Index};

/// What is done about indexes that would help.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum AutoIndex {
    /// Queries are not watched, and [`Store::advice`] speaks of existing indexes only.
    Off,
    /// They are made, within [`AutoIndexLimits`], and dropped when they are of no use. What a person
    /// made is never dropped.
    On,
    /// [`Store::advice`] names them.
    #[default]
    Suggest,
}

/// Bounds on `AutoIndex::On`.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct AutoIndexLimits {
    /// Indexes of one collection that were made by themselves. Default: 4.
    pub indexes_max: usize,
    /// Queries, of those an index would help, that have to come first; the count halves every hour.
    /// Default: 20.
    pub executions_min: u64,
    /// An index is worth it only if queries would look at no more than this part of the collection.
    /// Default: 0.1.
    pub selectivity_max: f64,
    /// Between two that are made. Default: 10 minutes.
    pub cool_down: Duration,
    /// One that nobody used for so long is dropped; the time begins with each opening. Default: 7
    /// days.
    pub unused_after: Duration,
}

impl Default for AutoIndexLimits {
    fn default() -> Self {
        Self {
            indexes_max: 4,
            executions_min: 20,
            selectivity_max: 0.1,
            cool_down: Duration::from_secs(10 * 60),
            unused_after: Duration::from_secs(7 * 24 * 3600),
        }
    }
}

/// What to do about an index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum AdviceAction {
    /// It would help.
    Create,
    /// Another index does all that it does.
    DropRedundant,
    /// Nobody uses it.
    DropUnused,
}

impl AdviceAction {
    /// As it stands in JSON: `drop_unused`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::DropRedundant => "drop_redundant",
            Self::DropUnused => "drop_unused",
        }
    }
}

/// One piece of advice, see [`Store::advice`].
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Advice {
    /// The collection.
    pub collection: String,
    /// What to do.
    pub action: AdviceAction,
    /// With this index; one to make has no name yet.
    pub index: Index,
    /// Why, for people.
    pub reason: String,
    /// The queries that an index to make would help, the costliest first.
    pub queries: Vec<QueryShape>,
    /// Rows that they would not have looked at, estimated; halved every hour.
    pub rows_saved: u64,
    /// The part of their time that goes with these.
    pub time_saved: Duration,
}

/// Queries of one shape that looked at more than they returned. All figures halve every hour.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct QueryShape {
    /// The query without its values.
    pub shape: String,
    /// How many there were.
    pub executions: u64,
    /// Documents or entries of indexes that they looked at.
    pub examined: u64,
    /// Documents that they returned.
    pub returned: u64,
    /// How long they took.
    pub time: Duration,
}

impl Advice {
    /// As JSON.
    pub fn json(&self) -> Value {
        let queries = self.queries.iter().map(|query| {
            json!({
                "shape": query.shape,
                "executions": query.executions,
                "examined": query.examined,
                "returned": query.returned,
                "seconds": query.time.as_secs_f64(),
            })
        });
        json!({
            "collection": self.collection,
            "action": self.action.name(),
            "index": self.index.to_json(),
            "reason": self.reason,
            "queries": queries.collect::<Vec<_>>(),
            "rows_saved": self.rows_saved,
            "seconds_saved": self.time_saved.as_secs_f64(),
        })
    }
}

/// What a store knows of its queries, and what it did about them.
#[derive(Debug)]
pub(crate) struct Advisor {
    pub(crate) mode: AutoIndex,
    pub(crate) shapes: Shapes,
    automatic: Mutex<Automatic>,
}

impl Advisor {
    pub(crate) fn new(mode: AutoIndex) -> Self {
        Self { mode, shapes: Shapes::default(), automatic: Mutex::default() }
    }

    /// Indexes made and dropped by themselves, since the store was opened.
    pub(crate) fn automatic_counts(&self) -> [u64; 2] {
        let automatic = self.automatic.lock();
        [automatic.made, automatic.dropped]
    }

    /// The advice of the last look in the background.
    pub(crate) fn last(&self) -> Vec<Advice> {
        self.automatic.lock().last.clone()
    }
}

impl Store {
    /// Indexes that would help the queries of the last hours, what helps most first; then indexes
    /// that another one makes superfluous, and those that no query used.
    ///
    /// Queries are known since the store was opened. What an index would spare is estimated on a
    /// few hundred documents of the collection.
    ///
    /// # Errors
    /// I/O errors.
    pub async fn advice(&self) -> Result<Vec<Advice>> {
        self.run(Core::advice).await
    }
}
