//! Look-up and dispatch allocate nothing once they are warm.
//!
//! A binary of its own, because the allocator that counts is that of the whole program.
#![allow(unsafe_code, clippy::unwrap_used)] // An allocator cannot be written without.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    future::Future,
    hint::black_box,
    pin::pin,
    task::{Context, Poll, Waker},
};

use hearth_http_core::{Body, Method, Middleware, Next, Prepared, Request, Response, StatusCode};
use hearth_router::{PathTree, RequestExt, Router, SlashPolicy};

struct Counting;

thread_local! {
    static COUNT: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: every call is handed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller keeps the contract of `alloc`, which is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above; `pointer` comes from `System`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// How often `work` allocates.
fn allocations<T>(work: impl FnOnce() -> T) -> (usize, T) {
    let before = COUNT.with(Cell::get);
    let result = work();
    (COUNT.with(Cell::get) - before, result)
}

#[test]
fn the_allocator_counts() {
    assert_eq!(allocations(|| black_box(vec![1_u8])).0, 1);
}

#[test]
fn look_up() {
    let mut builder = PathTree::builder();
    let patterns = [
        "/",
        "/a/{b}/c-{d:int}.txt/{*e}",
        "/{a}/{b}/{c}/{d}/{e}/{f}/{g}/{h}",
        "/x/{y:uuid}",
        "/x/{z:alpha}",
    ];
    for pattern in patterns {
        builder.insert(pattern, ()).unwrap();
    }
    let tree = builder.build();
    for path in ["/", "/a/x/c-7.txt/y/z", "/1/2/3/4/5/6/7/8", "/x/abc", "/x/7", "/no/where", ""] {
        let (count, _) = allocations(|| {
            tree.find(black_box(path))
                .map(|found| found.params().map(|(_, v)| v.len()).sum::<usize>())
        });
        assert_eq!(count, 0, "{path}");
    }
}

struct Through;

impl Middleware for Through {
    async fn handle(&self, req: Request, next: Next<'_>) -> Response {
        next.run(req).await
    }
}

#[test]
fn dispatch() {
    let prepared = std::sync::Arc::new(Prepared::new(
        StatusCode::OK,
        hearth_http_core::Headers::new(),
        hearth_http_core::Bytes::from_static(b"ok"),
    ));
    let answer = move |req: Request| {
        // An error about a parameter that is not there would allocate.
        let id = req.param("id").map(|_| req.parse_param::<u64>("id").unwrap());
        let rest = req.param("rest").map(|_| req.decoded_param("rest").unwrap().len());
        black_box((id, rest));
        std::future::ready(Response::prepared(std::sync::Arc::clone(&prepared)))
    };
    let router = Router::builder()
        .slash(SlashPolicy::Match)
        .get("/", answer.clone())
        .get("/users/{id:uint}/{rest}", answer.clone())
        .get("/{a}/{b}/{c}/{d}/{e}/{f}/{g}/{h}", answer.clone())
        .mount("/files", answer.clone())
        .group("/with", |group| group.with(Through).with(Through).get("/{id}", answer.clone()))
        .host("*.example.com", |site| site.get("/{id}", answer.clone()))
        .host("{tenant}.{region}.example.org", |site| site.get("/{id}", answer))
        .build()
        .unwrap();
    const ROWS: &[(&str, &str, &str, u16)] = &[
        ("GET", "x", "/", 200),
        ("HEAD", "x", "/", 200),
        ("GET", "x", "/users/7/a%20b", 200),
        ("GET", "x", "/users/7/a/", 200),
        ("GET", "x", "/1/2/3/4/5/6/7/8", 200),
        ("GET", "x", "/files/a/b.txt?q", 200),
        ("GET", "x", "/files", 200),
        ("GET", "x", "/with/7", 200),
        ("GET", "WWW.example.com:80", "/7", 200),
        ("GET", "acme.eu.example.org", "/7", 200),
        ("POST", "x", "/", 405),
        ("OPTIONS", "x", "/", 204),
        ("GET", "x", "/none", 404),
        ("GET", "x", "/.well-known/x", 404),
        ("GET", "x", "/%zz", 400),
    ];
    for (method, host, target, status) in ROWS {
        let ask = || {
            let method: Method = method.parse().unwrap();
            let req = Request::build(method, target, &[("host", host)], Body::Empty).unwrap();
            allocations(|| now(router.dispatch(req)))
        };
        // The first call warms the slots that futures live in.
        ask();
        let (count, response) = ask();
        assert_eq!(response.status().as_u16(), *status, "{method} {target}");
        // Decoding an escaped parameter makes a string; nothing else allocates.
        let want = usize::from(target.contains("%20"));
        assert_eq!(count, want, "{method} {host} {target}");
    }
}

fn now<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("the handlers answer at once"),
    }
}
