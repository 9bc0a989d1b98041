//! Where queries, scans and aggregations are timed: around each batch, so that what a caller does in
//! between does not count.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;

use super::{Operation, SlowQuery};
use crate::{
    Collection, Store,
    api::may_block,
    engine::{Blocking, Core, View, is_would_block},
    error::Result,
    plan::{Execution, Found, PlanSummary, Query},
};

/// How a query was answered: what of it may stand in a log.
#[derive(Debug, Clone, Default)]
pub(crate) struct Trace {
    pub(crate) shape: String,
    pub(crate) plan: String,
    pub(crate) entries: u64,
    pub(crate) documents: u64,
    pub(crate) returned: u64,
}

/// Where the query inside an aggregation leaves its trace for it.
pub(crate) type TraceSlot = Arc<Mutex<Option<Trace>>>;

/// The time of one query.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    spent: Duration,
    ran: bool,
    role: Role,
}

#[derive(Debug, Default)]
enum Role {
    #[default]
    Whole,
    /// A part of something else, which is recorded as a whole.
    Part,
    /// And the part that says how it was answered.
    Traced(TraceSlot),
}

impl Watch {
    /// Runs one piece of the work.
    pub(crate) fn around<T>(&mut self, core: &Core, work: impl FnOnce() -> T) -> T {
        let observer = &core.observer;
        if !observer.times() && observer.slow.is_off() {
            return work();
        }
        let begun = core.options.env.now();
        let done = work();
        self.spent += core.options.env.now().saturating_sub(begun);
        self.ran = true;
        done
    }

    /// The work is over. `trace` is asked for only if it was slow.
    pub(crate) fn end(
        &self,
        core: &Core,
        operation: Operation,
        keyspace: Option<u32>,
        trace: impl FnOnce() -> Trace,
    ) {
        if !self.ran {
            return;
        }
        let observer = &core.observer;
        observer.record(operation, self.spent);
        if !observer.slow.is_slow(self.spent) {
            return;
        }
        let name = || core.keyspaces().into_iter().find(|(_, number, _)| Some(*number) == keyspace);
        let trace = trace();
        observer.slow.add(SlowQuery {
            wall_ms: core.options.env.wall_ms(),
            operation,
            collection: name().map(|(name, ..)| name).unwrap_or_default(),
            shape: trace.shape,
            plan: trace.plan,
            took: self.spent,
            entries: trace.entries,
            documents: trace.documents,
            returned: trace.returned,
        });
    }
}

impl Execution {
    /// The next documents, after `skip` and up to `limit`; none at the end.
    ///
    /// # Errors
    /// I/O errors; `Error::QueryLimit`.
    pub(crate) fn next(&mut self, core: &Core) -> Result<Vec<Found>> {
        if !matches!(self.watch.role, Role::Whole) {
            return self.next_batch(core);
        }
        let mut watch = std::mem::take(&mut self.watch);
        let found = watch.around(core, || self.next_batch(core));
        self.watch = watch;
        found
    }

    /// For a query inside something that is recorded as a whole, and may want its trace.
    pub(crate) fn part_of(mut self, slot: Option<&TraceSlot>) -> Self {
        self.watch.role = slot.map_or(Role::Part, |slot| Role::Traced(Arc::clone(slot)));
        self
    }

    fn trace(&self) -> Trace {
        Trace {
            shape: self.query.described(),
            plan: PlanSummary(self.plan()).to_string(),
            entries: self.actuals.entries,
            documents: self.actuals.documents,
            returned: self.actuals.returned,
        }
    }
}

impl Query {
    /// Without any value.
    pub(crate) fn described(&self) -> String {
        let mut shape = self.filter.shape();
        for field in self.sort.fields.iter() {
            let order = if field.ascending { "sort" } else { "sort -" };
            shape.push_str(&format!("; {order} {:?}", field.path.as_str()));
        }
        for (name, is_set) in [
            ("skip", self.skip > 0),
            ("limit", self.limit.is_some()),
            ("count", self.counts),
            ("distinct", self.distinct.is_some()),
        ] {
            if is_set {
                shape.push_str("; ");
                shape.push_str(name);
            }
        }
        shape
    }
}

impl Trace {
    /// Of a query that looked at nothing but what it found.
    pub(crate) fn of_look_up(shape: String, plan: String, found: u64) -> Self {
        Self { shape, plan, entries: found, documents: found, returned: found }
    }
}

impl Store {
    /// A query that is answered on the caller's thread in one go; `None` if it has to go the usual
    /// way, as where it would have to wait there for the disk.
    pub(crate) fn observed<T>(
        &self,
        collection: &Collection,
        work: impl FnOnce(u32, View) -> Result<Option<T>>,
        trace: impl FnOnce(&T) -> Trace,
    ) -> Result<Option<T>> {
        // Those of a guarded session have to wait for their turn.
        let Some(keyspace) = collection.existing().filter(|_| !self.is_guarded()) else {
            return Ok(None);
        };
        let core = self.core();
        core.check_open()?;
        let _forbid = (!may_block() && core.options.env.has_threads()).then(Blocking::forbid);
        let mut watch = Watch::default();
        let found = watch.around(core, || work(keyspace, View::Newest(self.session.seq())));
        match found {
            Ok(Some(found)) => {
                watch.end(core, Operation::Find, Some(keyspace), || trace(&found));
                Ok(Some(found))
            }
            Err(e) if is_would_block(&e) => Ok(None),
            other => other,
        }
    }
}

impl Drop for Execution {
    fn drop(&mut self) {
        // Not if it was only explained.
        if self.watch.ran || self.actuals.entries + self.actuals.documents > 0 {
            let cost = (&self.actuals, self.watch.spent);
            let text = || self.trace().shape;
            self.hold().core.note_query(self.keyspace(), &self.query, self.plan(), cost, text);
        }
        match &self.watch.role {
            Role::Whole => {
                let (core, keyspace) = (&self.hold().core, self.keyspace());
                self.watch.end(core, Operation::Find, Some(keyspace), || self.trace());
            }
            Role::Part => {}
            Role::Traced(slot) => *slot.lock() = Some(self.trace()),
        }
    }
}
