//! Exchanges that went wrong on our side, in the program log.

use hearth_http_core::{Exchange, Observer, Outcome};

/// Reports exchanges that ended by a fault of ours: a handler that panicked, a body that failed
/// while it was sent.
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
}
