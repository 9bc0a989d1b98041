//! What a server writes down: access log, program log, counters.
//!
//! Serving never waits for a disk: lines go through a bounded queue to one writer thread, and when
//! the disk does not keep up lines are dropped and counted. A steady stream of requests allocates
//! nothing here. Only this crate and the binary install process-wide state.
//! Not here: where the options come from (`hearth-config`, `hearth-server`), signals.
#![forbid(unsafe_code)]

mod access;
mod clock;
mod escape;
mod incidents;
mod output;
mod program;
mod queue;
mod sink;
mod thread;
mod traffic;
mod writer;

pub use crate::{
    access::{AccessFormat, AccessLog},
    incidents::Incidents,
    output::{OpenError, Output, Rotation, Target},
    program::{Color, ParseFilterError, ProgramFormat, ProgramLog, ProgramLogError},
    traffic::{Traffic, TrafficStats},
    writer::{WriterGuard, WriterStats},
};

use hearth_http_core::{Abuse, ConnectionInfo, Exchange, Observer};
use std::sync::Arc;

/// Several observers as one.
pub struct Observers(pub Vec<Arc<dyn Observer>>);

impl Observer for Observers {
    fn on_exchange(&self, exchange: &Exchange<'_>) {
        for observer in &self.0 {
            observer.on_exchange(exchange);
        }
    }

    fn on_abuse(&self, connection: &Arc<ConnectionInfo>, abuse: Abuse) {
        for observer in &self.0 {
            observer.on_abuse(connection, abuse);
        }
    }
}

impl std::fmt::Debug for Observers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Observers").field(&self.0.len()).finish()
    }
}

#[doc = include_str!("../README.md")]
#[cfg(doctest)]
struct ReadmeDoctests;
