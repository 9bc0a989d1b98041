//! What observers count and report.

use std::sync::{Arc, Mutex};

use hearth_http_core::{Abuse, Exchange, Observer, Outcome, StatusCode};
use hearth_telemetry::{Incidents, Observers, Traffic};
use tracing::{
    Event, Metadata, Subscriber,
    field::{Field, Visit},
    span,
};

use crate::{connection, head};

/// Keeps events as text.
#[derive(Clone, Default)]
struct Events(Arc<Mutex<Vec<String>>>);

impl Subscriber for Events {
    fn enabled(&self, _metadata: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _span: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _span: &span::Id, _values: &span::Record<'_>) {}

    fn record_follows_from(&self, _span: &span::Id, _follows: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut text = Text(event.metadata().level().to_string());
        event.record(&mut text);
        self.0.lock().unwrap().push(text.0);
    }

    fn enter(&self, _span: &span::Id) {}

    fn exit(&self, _span: &span::Id) {}
}

struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.0 += &format!(" {}={value:?}", field.name());
    }
}

#[test]
fn faults_of_ours_are_counted_and_reported() {
    let (connection, head) = (connection(), head("/a"));
    let traffic = Arc::new(Traffic::default());
    let observers = Observers(vec![traffic.clone(), Arc::new(Incidents)]);
    let events = Events::default();
    tracing::subscriber::with_default(events.clone(), || {
        for (outcome, status) in [
            (Outcome::Complete, StatusCode::OK),
            (Outcome::PeerGone, StatusCode::OK),
            (Outcome::BodyFailed, StatusCode::OK),
            (Outcome::Panicked, StatusCode::INTERNAL_SERVER_ERROR),
            (Outcome::Refused, StatusCode::BAD_REQUEST),
        ] {
            let mut exchange = Exchange::new(&connection, Some(&head), status);
            exchange.outcome = outcome;
            exchange.body_bytes = 10;
            observers.on_exchange(&exchange);
        }
        observers.on_abuse(&connection, Abuse::Resets);
    });
    let stats = traffic.stats();
    assert_eq!((stats.requests, stats.body_bytes), (5, 50));
    assert_eq!(stats.by_class, [0, 3, 0, 1, 1]);
    assert_eq!((stats.incomplete, stats.panicked, stats.abuses), (2, 1, 1));
    let events = events.0.lock().unwrap();
    let wanted = ["its content failed while it was sent", "a handler panicked", "sent away"];
    assert_eq!(events.len(), wanted.len(), "{events:?}");
    for (event, wanted) in events.iter().zip(wanted) {
        assert!(event.contains(wanted), "{event}");
    }
    assert!(events[1].contains("\"/a\"") && events[1].contains("status=500"), "{events:?}");
    assert!(events[2].contains("192.0.2.1:9"), "{events:?}");
}
