//! Aggregations: a pipeline over what a query finds.

use std::{collections::VecDeque, sync::Arc};

use bytes::Bytes;

use super::{Collection, Cursor, Document, Snapshot, cursor::Batches};
use crate::{
    engine::Core,
    error::{Error, Result},
    jb1,
    observe::{Operation, TraceSlot, Watch},
    plan::{Execution, FoundValue, Query, QueryLimits},
    query::{Context, Filter, Join, Pipeline, Rows},
};

/// Documents made at a time.
const BATCH_MAX: usize = 64;

impl Collection {
    /// What comes out of a pipeline when the documents of the collection go in, all as of one
    /// moment. A `$match` at the front is planned as a query.
    ///
    /// Errors come with the first document asked for: those of [`crate::Find::collect`], and
    /// [`Error::QueryLimit`] when `$sort` and `$group` need more memory and files than
    /// [`QueryLimits`] allow.
    pub fn aggregate(&self, pipeline: &Pipeline) -> Cursor {
        self.aggregate_within(pipeline, QueryLimits::default())
    }

    /// As [`Collection::aggregate`], with other limits.
    pub fn aggregate_within(&self, pipeline: &Pipeline, limits: QueryLimits) -> Cursor {
        let mut pipeline = pipeline.clone();
        let query = Query { filter: pipeline.take_match(), limits, ..Query::default() };
        let batches = Aggregation {
            keyspace: self.existing(),
            query,
            pipeline,
            snapshot: self.store.snapshot(),
            rows: None,
            returned: 0,
            trace: TraceSlot::default(),
            watch: Watch::default(),
        };
        Cursor::new(&self.store, Some(Box::new(batches)))
    }
}

struct Aggregation {
    /// `None` if the collection does not exist, and so is empty.
    keyspace: Option<u32>,
    query: Query,
    pipeline: Pipeline,
    snapshot: Snapshot,
    rows: Option<Rows>,
    returned: u64,
    trace: TraceSlot,
    watch: Watch,
}

impl Batches for Aggregation {
    fn next(&mut self, core: &Arc<Core>) -> Result<Vec<Document>> {
        let mut watch = std::mem::take(&mut self.watch);
        let made = watch.around(core, || self.next_batch(core));
        self.watch = watch;
        self.returned += made.as_ref().map_or(0, Vec::len) as u64;
        made
    }
}

impl Drop for Aggregation {
    fn drop(&mut self) {
        // The query in it leaves its trace when it goes.
        self.rows = None;
        let core = &self.snapshot.hold.core;
        self.watch.end(core, Operation::Aggregate, self.keyspace, || {
            let mut trace = self.trace.lock().take().unwrap_or_default();
            for stage in self.pipeline.stage_names() {
                trace.shape.push_str("; ");
                trace.shape.push_str(stage);
            }
            trace.returned = self.returned;
            trace
        });
    }
}

impl Aggregation {
    fn next_batch(&mut self, core: &Arc<Core>) -> Result<Vec<Document>> {
        let rows = match &mut self.rows {
            Some(rows) => rows,
            none => none.insert(begin(
                core,
                self.keyspace,
                &self.query,
                &self.pipeline,
                &self.snapshot,
                &self.trace,
            )?),
        };
        rows.take(BATCH_MAX).map(|row| made(&row?)).collect()
    }
}

fn begin(
    core: &Arc<Core>,
    keyspace: Option<u32>,
    query: &Query,
    pipeline: &Pipeline,
    snapshot: &Snapshot,
    trace: &TraceSlot,
) -> Result<Rows> {
    let limits = &query.limits;
    let context = Context {
        limits: core.limits(),
        memory_max: limits.sort_bytes_max,
        spill_bytes_max: limits.spill_bytes_max,
        vfs: Arc::clone(&core.options.vfs),
        env: Arc::clone(&core.options.env),
        folder: core.options.path.join("tmp"),
        join: Arc::new(Lookup { core: Arc::clone(core), snapshot: snapshot.clone() }),
    };
    let Some(keyspace) = keyspace else {
        return Ok(pipeline.run(Box::new(std::iter::empty()), &context));
    };
    let hold = Arc::clone(&snapshot.hold);
    let execution = Execution::new(core, keyspace, Arc::new(query.clone()), hold.seq, hold)?
        .whole()
        .part_of(Some(trace));
    let source =
        Source { core: Arc::clone(core), execution: Some(execution), ready: VecDeque::new() };
    Ok(pipeline.run(Box::new(source), &context))
}

/// What a query finds, as an iterator that ends after an error.
struct Source {
    core: Arc<Core>,
    execution: Option<Execution>,
    ready: VecDeque<Bytes>,
}

impl Iterator for Source {
    type Item = Result<Bytes>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ready.is_empty() {
            let mut execution = self.execution.take()?;
            match execution.next(&self.core) {
                Ok(found) if found.is_empty() => return None,
                Ok(found) => self.ready.extend(found.into_iter().filter_map(whole)),
                Err(e) => return Some(Err(e)),
            }
            self.execution = Some(execution);
        }
        self.ready.pop_front().map(Ok)
    }
}

/// `$lookup` reads other collections as of the same moment.
struct Lookup {
    core: Arc<Core>,
    snapshot: Snapshot,
}

impl Join for Lookup {
    fn find(&self, collection: &str, filter: &Filter, bytes_max: usize) -> Result<Vec<Bytes>> {
        let Some((keyspace, _)) = self.core.keyspace(collection) else { return Ok(Vec::new()) };
        let query = Arc::new(Query { filter: filter.clone(), ..Query::default() });
        let hold = Arc::clone(&self.snapshot.hold);
        let mut execution =
            Execution::new(&self.core, keyspace, query, hold.seq, hold)?.whole().part_of(None);
        let (mut all, mut bytes) = (Vec::new(), 0);
        loop {
            let found = execution.next(&self.core)?;
            if found.is_empty() {
                return Ok(all);
            }
            for value in found.into_iter().filter_map(whole) {
                bytes += value.len();
                all.push(value);
            }
            if bytes > bytes_max {
                let limit = bytes_max as u64;
                return Err(Error::QueryLimit { what: "bytes of one $lookup", limit });
            }
        }
    }
}

fn whole(found: crate::plan::Found) -> Option<Bytes> {
    match found.value {
        FoundValue::Jb1(value) => Some(value),
        FoundValue::Json(_) => None,
    }
}

/// What a pipeline makes is no version of anything.
fn made(value: &[u8]) -> Result<Document> {
    let mut json = Vec::new();
    jb1::print(value, &mut json)?;
    Ok(Document { rev: 0, json: Bytes::from(json) })
}
