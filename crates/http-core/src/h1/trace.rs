//! What observers are told, once the last byte of a response is handed over.

use std::{sync::Arc, time::Instant};

use http::StatusCode;

use crate::{
    ConnectionInfo, Exchange, Head, Observer, Outcome,
    pool::{self, Pool},
};

/// Exchanges on their way to the observer. Exists, recycled, only where somebody wants to know.
#[derive(Debug, Default)]
pub(crate) struct Trace {
    /// The head of the current request, whose owner is the handler.
    pub(crate) head: Option<Head>,
    /// Exchanges whose responses still wait in the output.
    records: Vec<Record>,
}

#[derive(Debug)]
struct Record {
    head: Option<Head>,
    status: StatusCode,
    body_bytes: u64,
    begun: Instant,
    outcome: Outcome,
}

thread_local! {
    static POOL: Pool<Box<Trace>> = const { Pool::new(64) };
}

impl Trace {
    pub(crate) fn new() -> Box<Self> {
        pool::take(&POOL).unwrap_or_default()
    }

    /// Notes the end of the current exchange.
    pub(crate) fn record(
        &mut self,
        status: StatusCode,
        body_bytes: u64,
        begun: Instant,
        outcome: Outcome,
    ) {
        let head = self.head.take();
        self.records.push(Record { head, status, body_bytes, begun, outcome });
    }

    /// Whether there is nothing to tell.
    pub(crate) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Tells the observer. Where the peer is gone, what was complete for us did not reach it.
    pub(crate) fn report(
        &mut self,
        observer: &dyn Observer,
        connection: &Arc<ConnectionInfo>,
        now: Instant,
        is_peer_gone: bool,
    ) {
        for record in self.records.drain(..) {
            let is_lost = is_peer_gone && record.outcome == Outcome::Complete;
            observer.on_exchange(&Exchange {
                connection,
                head: record.head.as_ref(),
                status: record.status,
                body_bytes: record.body_bytes,
                duration: now.saturating_duration_since(record.begun),
                outcome: if is_lost { Outcome::PeerGone } else { record.outcome },
            });
        }
    }

    pub(crate) fn recycle(mut self: Box<Self>) {
        self.head = None;
        self.records.clear();
        pool::give(&POOL, self);
    }
}
