//! Request ids.

use std::collections::HashSet;

use hearth_http_core::{Request, Response};
use hearth_middleware::{AssignRequestId, RequestId};

use crate::{around, content, field, get};

#[tokio::test]
async fn request_ids() {
    let mut seen = HashSet::new();
    let echo = |req: &Request| {
        let id = req.extensions().get::<RequestId>().expect("an id");
        Response::text(id.as_str().to_owned())
    };
    let app = around(AssignRequestId::new(), echo);
    let long = "x".repeat(129);
    for (sent, kept) in [
        (None, false),
        (None, false),
        (Some("abc-123"), true),
        (Some(""), false),
        (Some("a b"), false),
        (Some("a\"b"), false),
        (Some(long.as_str()), false),
    ] {
        let fields: Vec<_> = sent.iter().map(|id| ("x-request-id", *id)).collect();
        let response = app.run(get("/", &fields)).await;
        let id = field(&response, "x-request-id").expect("an id").to_owned();
        assert_eq!(sent == Some(&id), kept, "{sent:?}");
        assert!(kept || id.len() == 32);
        assert_eq!(content(response).await, id.as_bytes());
        assert!(seen.insert(id), "twice the same");
    }
    let app = around(AssignRequestId::new().always_new(), echo);
    let response = app.run(get("/", &[("x-request-id", "abc-123")])).await;
    assert_ne!(field(&response, "x-request-id"), Some("abc-123"));
}
