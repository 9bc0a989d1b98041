//! Middleware around small handlers.
#![allow(dead_code, reason = "not every feature's tests use every helper")]

#[cfg(feature = "compress")]
mod compress;
#[cfg(feature = "decompress")]
mod decompress;
#[cfg(feature = "error-pages")]
mod error_pages;
#[cfg(feature = "headers")]
mod headers;
#[cfg(feature = "limits")]
mod limits;
#[cfg(feature = "redirect")]
mod redirect;
#[cfg(feature = "request-id")]
mod request_id;
#[cfg(feature = "security-headers")]
mod security_headers;
#[cfg(feature = "timeout")]
mod timeout;

use hearth_http_core::{
    Body, BoxHandler, BoxMiddleware, Chain, Method, Middleware, Request, Response, handler_fn,
};

/// A handler that gives the response that `make` makes, behind `middleware`.
fn around<M: Middleware>(
    middleware: M,
    make: impl Fn(&Request) -> Response + Send + Sync + 'static,
) -> Chain {
    let handler = handler_fn(move |req: Request| {
        let response = make(&req);
        async move { response }
    });
    Chain::new([BoxMiddleware::new(middleware)], BoxHandler::new(handler))
}

fn get(target: &str, fields: &[(&str, &str)]) -> Request {
    Request::build(Method::GET, target, fields, Body::Empty).expect("a request")
}

fn field<'a>(response: &'a Response, name: &'static str) -> Option<&'a str> {
    let name = hearth_http_core::HeaderName::from_static(name);
    response.headers().get(&name).map(|value| value.to_str().expect("text"))
}

async fn content(mut response: Response) -> Vec<u8> {
    response.take_body().collect(u64::MAX).await.expect("the body").to_vec()
}
