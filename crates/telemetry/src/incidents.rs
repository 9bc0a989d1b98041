//! What went wrong while serving, in the program log.

use std::sync::Arc;

use hearth_http_core::{Abuse, ConnectionInfo, Exchange, Observer, Outcome};

/// Reports exchanges that ended by a fault of ours (a handler that panicked, a body that failed while it
/// was sent), and peers that were sent away for what they did.
#[derive(Debug, Default)]
pub struct Incidents;

impl Observer for Incidents {
    fn on_exchange(&self, exchange: &Exchange<'_>) {
        let what = match exchange.outcome {
            Outcome::Panicked => "a handler panicked",
            Outcome::BodyFailed => "the response broke off: its content failed while it was sent",
            _ => return,
        };
        let (method, target) = match exchange.head {
            Some(head) => (head.method().as_str(), head.target()),
            None => ("-", "-"),
        };
        let host = exchange.head.and_then(|head| head.authority()).unwrap_or("-");
        let (status, connection) = (exchange.status.as_u16(), exchange.connection.id);
        tracing::error!(target: "hearth::serve", method, host, target, status, connection, "{what}");
    }

    fn on_abuse(&self, connection: &Arc<ConnectionInfo>, abuse: Abuse) {
        let peer = connection.peer.map(|peer| peer.to_string()).unwrap_or_default();
        let (id, reason) = (connection.id, abuse.reason());
        tracing::warn!(target: "hearth::serve", peer, connection = id, reason, "sent away: {abuse}");
    }
}
