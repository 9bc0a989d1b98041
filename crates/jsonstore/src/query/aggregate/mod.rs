//! Aggregation: a pipeline of stages over a stream of documents, in bounded memory.
//!
//! `$sort` and `$group` are the stages that hold documents back; what does not fit goes to a temporary
//! file, encrypted with a key that only memory knows.

mod group;
mod parse;
mod run;
mod spill;

use std::{fmt, path::PathBuf, sync::Arc};

use bytes::Bytes;
use serde_json::Value;

use self::group::Group;
use super::{
    filter::Filter,
    path::{Path, Step},
    projection::Projection,
    sort::Sort,
};
use crate::{env::Env, error::Result, jb1, vfs::Vfs};

/// Stages of one pipeline.
pub(crate) const PIPELINE_STAGES_MAX: usize = 64;
/// Fields of one `$group`.
pub(crate) const GROUP_FIELDS_MAX: usize = 256;

/// What is computed from the documents of a collection, stage by stage.
///
/// `$match $project $addFields $set $unset $group $sort $limit $skip $unwind $count $lookup`, each an
/// object of its own in an array. Cheap to clone.
///
/// ```
/// use hearth_jsonstore::Pipeline;
/// use serde_json::json;
///
/// Pipeline::from_json(&json!([
///     {"$match": {"state": "sold"}},
///     {"$group": {"_id": "$city", "total": {"$sum": "$price"}}},
///     {"$sort": {"total": -1}},
///     {"$limit": 10}
/// ]))?;
/// # hearth_jsonstore::Result::Ok(())
/// ```
#[derive(Debug, Clone)]
pub struct Pipeline {
    stages: Vec<Stage>,
}

#[derive(Debug, Clone)]
enum Stage {
    Count(Step),
    Group(Arc<Group>),
    Limit(u64),
    Lookup(Arc<Lookup>),
    Match(Filter),
    Project(Projection),
    Skip(u64),
    /// Of the first `limit` documents only, if a `$limit` follows.
    Sort {
        sort: Sort,
        limit: Option<usize>,
    },
    Unwind(Arc<Unwind>),
}

#[derive(Debug)]
struct Lookup {
    from: Box<str>,
    local: Path,
    foreign: Path,
    into: Path,
}

#[derive(Debug)]
struct Unwind {
    path: Path,
    keeps_empty: bool,
    index: Option<Path>,
}

/// A stream of documents as JB1. It ends after an error.
pub(crate) type Rows = Box<dyn Iterator<Item = Result<Bytes>> + Send>;

/// What a pipeline needs of the store.
#[derive(Clone)]
pub(crate) struct Context {
    pub(crate) limits: jb1::Limits,
    /// Bytes that all stages hold together before they use files.
    pub(crate) memory_max: usize,
    /// Bytes of all files together.
    pub(crate) spill_bytes_max: u64,
    pub(crate) vfs: Arc<dyn Vfs>,
    pub(crate) env: Arc<dyn Env>,
    /// Where temporary files go: `spill-….tmp`. A crash may leave some behind.
    pub(crate) folder: PathBuf,
    /// Answers `$lookup`.
    pub(crate) join: Arc<dyn Join>,
}

/// How `$lookup` reads another collection.
pub(crate) trait Join: Send + Sync {
    /// The documents that match, at most `bytes_max` bytes of them.
    ///
    /// # Errors
    /// `QueryLimit` beyond that; otherwise those of reading.
    fn find(&self, collection: &str, filter: &Filter, bytes_max: usize) -> Result<Vec<Bytes>>;
}

impl Pipeline {
    /// What its stages are called, without what is in them.
    pub(crate) fn stage_names(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.stages.iter().map(|stage| match stage {
            Stage::Count(_) => "$count",
            Stage::Group(_) => "$group",
            Stage::Limit(_) => "$limit",
            Stage::Lookup(_) => "$lookup",
            Stage::Match(_) => "$match",
            Stage::Project(_) => "$project",
            Stage::Skip(_) => "$skip",
            Stage::Sort { .. } => "$sort",
            Stage::Unwind(_) => "$unwind",
        })
    }

    /// From the array of stages.
    ///
    /// # Errors
    /// `InvalidFilter` names the stage and the reason.
    pub fn from_json(value: &Value) -> Result<Self> {
        parse::parse(value).map(|stages| Self { stages })
    }

    /// Takes a `$match` off the front, so that the planner finds its documents.
    pub(crate) fn take_match(&mut self) -> Filter {
        let first = self.stages.first().cloned();
        match first {
            Some(Stage::Match(filter)) => {
                self.stages.remove(0);
                filter
            }
            _ => Filter::all(),
        }
    }

    /// What comes out when these documents go in. Nothing is read before the first is asked for.
    pub(crate) fn run(&self, source: Rows, context: &Context) -> Rows {
        run::run(&self.stages, source, context)
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context").field("memory_max", &self.memory_max).finish_non_exhaustive()
    }
}
