//! Answering queries: which way is cheapest, and going it.
//!
//! - `bounds`: what a filter demands, as ranges of encoded values
//! - `choose`: every way of answering, and its price
//! - `both`: two indexes at once
//! - `remember`: what was chosen for queries of one shape
//! - `lookup`: what one range of one index answers
//! - `source`, `execute`: the rows of a plan, and what is made of them
//! - `explain`: all of this for people

mod both;
mod bounds;
mod choose;
mod execute;
mod explain;
mod lookup;
mod remember;
mod source;

use std::time::Duration;

pub use self::explain::Explanation;
pub(crate) use self::{
    bounds::{Bound, KeyRange},
    choose::Plan,
    execute::{Actuals, Execution, Found, FoundValue},
    explain::PlanSummary,
    lookup::{Route, Texts, recalled},
    remember::Choices,
};
use crate::query::{Filter, Path, Projection, Sort};

/// What one query may take. Reaching a limit is [`crate::Error::QueryLimit`], never a partial answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct QueryLimits {
    /// Entries of indexes, or documents, that it may look at. Default: no limit.
    pub rows_max: Option<u64>,
    /// How long it may take from its first document on. Default: no limit.
    pub time_max: Option<Duration>,
    /// Bytes of documents that it may hold to sort or group them. With a limit of documents only those that
    /// can be among them are held. Default: 64 MiB.
    pub sort_bytes_max: usize,
    /// Bytes of temporary files that an aggregation may use beyond that. Default: 1 GiB.
    pub spill_bytes_max: u64,
}

impl Default for QueryLimits {
    fn default() -> Self {
        Self { rows_max: None, time_max: None, sort_bytes_max: 64 << 20, spill_bytes_max: 1 << 30 }
    }
}

/// Which documents are wanted, how many, in what order and form.
#[derive(Debug, Clone, Default)]
pub(crate) struct Query {
    pub(crate) filter: Filter,
    pub(crate) sort: Sort,
    pub(crate) skip: u64,
    pub(crate) limit: Option<u64>,
    pub(crate) projection: Option<Projection>,
    /// The index to use, by its name; `_id` for none.
    pub(crate) hint: Option<String>,
    pub(crate) limits: QueryLimits,
    /// Only how many there are is wanted.
    pub(crate) counts: bool,
    /// Only the values at this path are wanted.
    pub(crate) distinct: Option<Path>,
    /// What has expired is wanted too.
    pub(crate) sees_expired: bool,
}

impl Query {
    /// The paths that the answer is made from; `None` for whole documents.
    fn fields(&self) -> Option<Vec<Path>> {
        if self.counts {
            return Some(Vec::new());
        }
        if let Some(path) = &self.distinct {
            return Some(vec![path.clone()]);
        }
        self.projection.as_ref()?.fields().map(<[Path]>::to_vec)
    }
}
