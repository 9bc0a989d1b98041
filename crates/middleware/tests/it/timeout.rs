//! Bounds on time.

use std::time::Duration;

use hearth_http_core::{
    BoxHandler, BoxMiddleware, Chain, Request, Response, StatusCode, handler_fn,
};
use hearth_middleware::Timeout;

use crate::get;

#[tokio::test(start_paused = true)]
async fn handlers_are_given_up_on() {
    for (takes, want) in [(9, 200), (11, 504)] {
        let handler = handler_fn(move |_req: Request| async move {
            tokio::time::sleep(Duration::from_secs(takes)).await;
            Response::text("ok")
        });
        let timeout = Timeout::new(Duration::from_secs(10)).status(StatusCode::GATEWAY_TIMEOUT);
        let app = Chain::new([BoxMiddleware::new(timeout)], BoxHandler::new(handler));
        let response = app.run(get("/", &[])).await;
        assert_eq!(response.status().as_u16(), want, "{takes} s");
    }
}
