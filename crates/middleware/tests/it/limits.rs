//! Bounds on size and number.

use std::sync::Arc;

use hearth_http_core::{
    Body, BoxHandler, BoxMiddleware, Chain, Method, Request, Response, StatusCode, handler_fn,
};
use hearth_middleware::{BodyLimit, ConcurrencyLimit};
use tokio::sync::Notify;

use crate::{around, content, field, get};

#[tokio::test]
async fn bodies_are_limited() {
    for (len, want) in [(0, 200), (10, 200), (11, 413)] {
        let app = around(BodyLimit::new(10), |_| Response::text("ok"));
        let req = Request::build(Method::POST, "/", &[], vec![0; len]).expect("a request");
        assert_eq!(app.run(req).await.status().as_u16(), want, "{len} bytes");
    }
}

#[tokio::test]
async fn requests_at_once_are_limited() {
    let gate = Arc::new(Notify::new());
    let waiting = Arc::clone(&gate);
    let handler = handler_fn(move |_req: Request| {
        let gate = Arc::clone(&waiting);
        async move {
            gate.notified().await;
            Response::text("ok")
        }
    });
    let limit = BoxMiddleware::new(ConcurrencyLimit::new(2));
    let app = Chain::new([limit], BoxHandler::new(handler));
    let mut waiting: Vec<_> =
        (0..2).map(|_| Box::pin(app.run(Request::get("/").expect("a request")))).collect();
    for future in &mut waiting {
        let first = std::future::poll_fn(|cx| std::task::Poll::Ready(future.as_mut().poll(cx)));
        assert!(first.await.is_pending());
    }
    let refused = app.run(get("/", &[])).await;
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(field(&refused, "retry-after"), Some("1"));
    // One is dropped half way, as when its client goes away; the other ends. Both give their place back.
    drop(waiting.pop());
    gate.notify_one();
    assert_eq!(waiting.remove(0).await.status(), StatusCode::OK);
    for _ in 0..5 {
        gate.notify_one();
        assert_eq!(app.run(get("/", &[])).await.status(), StatusCode::OK);
    }
}

#[tokio::test]
async fn the_body_of_a_limited_request_arrives() {
    let handler = handler_fn(async |mut req: Request| {
        let body = req.take_body().collect(100).await.expect("the body");
        Response::new(Body::Bytes(body))
    });
    let limit = BoxMiddleware::new(BodyLimit::new(10));
    let app = Chain::new([limit], BoxHandler::new(handler));
    let req = Request::build(Method::POST, "/", &[], b"content".to_vec()).expect("a request");
    assert_eq!(content(app.run(req).await).await, b"content");
}
