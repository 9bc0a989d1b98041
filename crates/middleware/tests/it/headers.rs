//! Response fields.

use hearth_http_core::{HeaderName, HeaderValue, Response, header};
use hearth_middleware::ResponseHeaders;

use crate::{around, field, get};

#[tokio::test]
async fn response_fields() {
    let name = HeaderName::from_static;
    let value = HeaderValue::from_static;
    let edits = ResponseHeaders::new()
        .set(name("x-set"), value("1"))
        .and_then(|edits| edits.set_default(name("x-given"), value("ours")))
        .and_then(|edits| edits.set_default(name("x-absent"), value("ours")))
        .and_then(|edits| edits.append(name("x-more"), value("2")))
        .and_then(|edits| edits.remove(name("x-secret")))
        .expect("good fields");
    let app = around(edits, move |_| {
        ["x-set", "x-given", "x-more", "x-secret"]
            .into_iter()
            .fold(Response::text("ok"), |res, field| res.with_header(name(field), value("0")))
    });
    let response = app.run(get("/", &[])).await;
    assert_eq!(field(&response, "x-set"), Some("1"));
    assert_eq!(field(&response, "x-given"), Some("0"));
    assert_eq!(field(&response, "x-absent"), Some("ours"));
    assert_eq!(field(&response, "x-secret"), None);
    let more: Vec<_> = response.headers().get_all(&name("x-more")).cloned().collect();
    assert_eq!(more, ["0", "2"]);
    for framing in [header::CONTENT_LENGTH, header::TRANSFER_ENCODING, header::CONNECTION] {
        assert!(ResponseHeaders::new().set(framing.clone(), value("1")).is_err(), "{framing}");
    }
}
