//! What the router adds to a request: dispatch to a handler that answers at once, less a direct call.

use std::{
    future::Future,
    hint::black_box,
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Instant,
};

use hearth_http_core::{
    Body, BoxHandler, Bytes, Headers, Method, Prepared, Request, Response, StatusCode, handler_fn,
};
use hearth_router::Router;

use crate::github;

/// Name, method, host, target.
const ROWS: &[(&str, &str, &str, &str)] = &[
    ("static path", "GET", "x.test", "/user/starred"),
    ("two parameters", "GET", "x.test", "/repos/hearth/router/pulls"),
    ("two parameters, query", "GET", "x.test", "/repos/hearth/router/pulls?state=open&page=2"),
    ("host with a parameter", "GET", "acme.example.com:8080", "/repos/hearth/router/pulls"),
    ("405", "PUT", "x.test", "/user/starred"),
    ("404", "GET", "x.test", "/user/nothing/here"),
    ("escape that stays", "GET", "x.test", "/repos/hearth/a%20b/pulls"),
    ("escape that goes", "GET", "x.test", "/repos/%68earth/router/pulls"),
];

pub(crate) fn run(rounds: u32) {
    let prepared =
        Arc::new(Prepared::new(StatusCode::OK, Headers::new(), Bytes::from_static(b"ok")));
    let answer =
        handler_fn(move |_req| std::future::ready(Response::prepared(Arc::clone(&prepared))));
    let answer = BoxHandler::new(answer);
    let all = |mut builder: hearth_router::RouterBuilder| {
        for route in github::ROUTES {
            builder = builder.get(*route, answer.clone());
        }
        builder
    };
    let plain = all(Router::builder()).build().expect("the routes are well");
    let builder = all(Router::builder()).host("{tenant}.example.com", all);
    let hosted = builder.build().expect("the routes are well");
    println!("\n{:<28}{:>20}", "dispatch", "above a direct call");
    for (name, method, host, target) in ROWS {
        let method: Method = method.parse().expect("it is one");
        let req = Request::build(method, target, &[("host", host)], Body::Empty);
        let head = req.expect("it is well").head().clone();
        let connection = Arc::default();
        let request = || Request::new(head.clone(), Body::Empty, Arc::clone(&connection));
        let router = if host.contains("example.com") { &hosted } else { &plain };
        let mut best = (f64::INFINITY, f64::INFINITY);
        for _ in 0..rounds {
            best.0 = best.0.min(time(|| now(answer.call(black_box(request())))));
            best.1 = best.1.min(time(|| now(router.dispatch(black_box(request())))));
        }
        println!("{name:<28}{:>17.1} ns", best.1 - best.0);
    }
}

/// Nanoseconds per call.
fn time(work: impl Fn() -> Response) -> f64 {
    let calls = 5_000;
    let start = Instant::now();
    for _ in 0..calls {
        black_box(work());
    }
    start.elapsed().as_secs_f64() * 1e9 / f64::from(calls)
}

fn now<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => unreachable!("the handler answers at once"),
    }
}
