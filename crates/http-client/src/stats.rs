//! What a client has done so far.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Counts since the client was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClientStats {
    /// Connections made.
    pub connections_opened: u64,
    /// Requests that found a connection.
    pub connections_reused: u64,
    /// Connections that are open and unused now, and HTTP/2 connections.
    pub connections_idle: usize,
    /// Requests sent a second time, because a kept connection was dead or the peer had refused them
    /// unseen.
    pub retries: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    opened: AtomicU64,
    retries: AtomicU64,
    reused: AtomicU64,
}

impl Counters {
    pub(crate) fn opened(&self) {
        self.opened.fetch_add(1, Relaxed);
    }

    pub(crate) fn retried(&self) {
        self.retries.fetch_add(1, Relaxed);
    }

    pub(crate) fn reused(&self) {
        self.reused.fetch_add(1, Relaxed);
    }

    pub(crate) fn stats(&self, connections_idle: usize) -> ClientStats {
        ClientStats {
            connections_opened: self.opened.load(Relaxed),
            connections_reused: self.reused.load(Relaxed),
            connections_idle,
            retries: self.retries.load(Relaxed),
        }
    }
}
