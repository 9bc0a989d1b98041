//! What a server counts.

use std::sync::atomic::{AtomicU64, Ordering};

/// What happened on a server since it started, over all its workers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Connections that were accepted and served.
    pub accepted: u64,
    /// Connections that are open now, handshakes included.
    pub open: u64,
    /// Connections that ended in good order.
    pub closed: u64,
    /// Connections that ended with an error, most often because the peer went away.
    pub failed: u64,
    /// Connections closed on arrival: their address has too many open.
    pub shed_per_ip: u64,
    /// Connections closed on arrival: their address makes new ones too fast.
    pub shed_rate: u64,
    /// Connections closed on arrival: the process has no file descriptor left.
    pub shed_descriptors: u64,
    /// Idle connections sent away to make room.
    pub shed_idle: u64,
    /// Connections that a worker gave to one with fewer of them.
    pub handed_over: u64,
    /// Times that a worker stopped accepting because it had as many connections as it may.
    pub accept_paused: u64,
    /// Errors of `accept` other than a lack of descriptors.
    pub accept_errors: u64,
    /// TLS handshakes that succeeded.
    pub tls_handshakes: u64,
    /// Of these, those that resumed an earlier session.
    pub tls_resumed: u64,
    /// TLS handshakes that failed, timeouts included.
    pub tls_failed: u64,
    /// TLS handshakes given up because there were too many at once.
    pub tls_shed: u64,
    /// Connections whose task panicked: a bug of this crate, of http-core or of an observer. A
    /// handler that panics is answered with 500 and not counted here.
    pub panics: u64,
    /// Times that a worker did nothing for longer than it should.
    pub stalls: u64,
}

macro_rules! counters {
    ($($name:ident),* $(,)?) => {
        /// The counters of one worker.
        #[derive(Debug, Default)]
        // A cache line of its own: each is written by another core.
        #[repr(align(128))]
        pub(crate) struct Counters {
            $(pub(crate) $name: Counter,)*
        }

        impl Counters {
            /// Adds these counts to a sum.
            pub(crate) fn add_to(&self, sum: &mut Stats) {
                $(sum.$name += self.$name.load();)*
            }
        }
    };
}

counters!(
    accepted,
    open,
    closed,
    failed,
    shed_per_ip,
    shed_rate,
    shed_descriptors,
    shed_idle,
    handed_over,
    accept_paused,
    accept_errors,
    tls_handshakes,
    tls_resumed,
    tls_failed,
    tls_shed,
    panics,
    stalls,
);

/// A number that is written by one worker and read by anybody.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn increment(&self) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Answers what is left.
    pub(crate) fn decrement(&self) -> u64 {
        self.0.fetch_sub(1, Ordering::Relaxed) - 1
    }

    pub(crate) fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    pub(crate) fn load(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
