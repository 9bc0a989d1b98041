//! What the tables of these tests are made with.

use std::future::Future;

use hearth_http_core::{Body, Handler, Method, Middleware, Next, Request, Response, header};
use hearth_router::Router;

/// Answers with its name and the parameters it sees: `user id=7`.
#[derive(Debug)]
pub(crate) struct Echo(pub(crate) &'static str);

impl Handler for Echo {
    async fn call(&self, req: Request) -> Response {
        let params = req.params();
        let names = params.host_iter().chain(params.iter()).map(|(name, _)| name.to_owned());
        let all = names.map(|name| format!(" {name}={}", req.param(&name).unwrap_or("?")));
        Response::text(format!("{}{}", self.0, all.collect::<String>()))
    }
}

/// Puts a letter before the text of the answer.
#[derive(Debug)]
pub(crate) struct Mark(pub(crate) char);

impl Middleware for Mark {
    async fn handle(&self, req: Request, next: Next<'_>) -> Response {
        let mut res = next.run(req).await;
        let text = res.body_mut().as_bytes().unwrap_or_default().to_vec();
        let text = String::from_utf8(text).unwrap();
        *res.body_mut() = format!("{}{text}", self.0).into();
        res
    }
}

/// What a router answers: status, then the `location` or `allow` field, or else the text in one line.
pub(crate) fn ask(router: &Router, method: &str, host: &str, target: &str) -> String {
    let method: Method = method.parse().unwrap();
    let fields = [("host", host)];
    let req = Request::build(method, target, &fields, Body::Empty).unwrap();
    let mut res = now(router.call(req));
    let status = res.status().as_str().to_owned();
    for name in [header::LOCATION, header::ALLOW] {
        if let Some(value) = res.headers().get(&name) {
            return format!("{status} {}", value.to_str().unwrap());
        }
    }
    let text = res.body_mut().as_bytes().unwrap_or_default().to_vec();
    format!("{status} {}", String::from_utf8(text).unwrap().trim_end())
}

/// The result of a future that never waits.
pub(crate) fn now<T>(future: impl Future<Output = T>) -> T {
    let mut future = std::pin::pin!(future);
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match future.as_mut().poll(&mut context) {
        std::task::Poll::Ready(value) => value,
        std::task::Poll::Pending => panic!("the handlers of these tests answer at once"),
    }
}
