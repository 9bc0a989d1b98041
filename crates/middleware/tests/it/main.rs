//! Middleware around small handlers.

mod compress;
mod decompress;
mod limits;
mod responses;

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
