//! Error pages.

use bytes::Bytes;
use hearth_http_core::{HeaderValue, Response, StatusCode};
use hearth_middleware::ErrorPages;

use crate::{around, content, field, get};

#[tokio::test]
async fn error_pages() {
    let html = HeaderValue::from_static("text/html");
    let pages = || {
        ErrorPages::new()
            .client_errors(html.clone(), Bytes::from_static(b"yours"))
            .page(StatusCode::NOT_FOUND, html.clone(), Bytes::from_static(b"nowhere"))
            .server_errors(html.clone(), Bytes::from_static(b"ours"))
    };
    type Make = fn() -> Response;
    let rows: [(Make, u16, &str); 7] = [
        (|| Response::status_text(StatusCode::NOT_FOUND), 404, "nowhere"),
        (|| Response::status_only(StatusCode::NOT_FOUND), 404, "nowhere"),
        (|| Response::status_text(StatusCode::FORBIDDEN), 403, "yours"),
        (|| Response::status_text(StatusCode::BAD_GATEWAY), 502, "ours"),
        (|| Response::text("not here").with_status(StatusCode::NOT_FOUND), 404, "not here"),
        (|| Response::html("<p>x").with_status(StatusCode::BAD_REQUEST), 400, "<p>x"),
        (|| Response::text("200 OK\n"), 200, "200 OK\n"),
    ];
    for (make, status, want) in rows {
        let response = around(pages(), move |_| make()).run(get("/", &[])).await;
        assert_eq!(response.status().as_u16(), status);
        let replaced = !want.contains(['<', ' ']);
        assert_eq!(field(&response, "content-type") == Some("text/html"), replaced, "{want}");
        assert_eq!(content(response).await, want.as_bytes());
    }
}
