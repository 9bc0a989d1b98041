//! A page that is kept is answered without an allocation.
#![allow(unsafe_code, reason = "a global allocator cannot be written without")]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
};

use hearth_http_core::{Body, Method, Request, StatusCode};

use crate::{serve_at, site};

/// Counts the allocations of each thread.
struct Counting;

thread_local!(static COUNT: Cell<u64> = const { Cell::new(0) });

// SAFETY: every call goes to the system's allocator with the arguments it came with.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _ = COUNT.try_with(|count| count.set(count.get() + 1));
        // SAFETY: the caller keeps the contract of `alloc`, which is that of the system's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: `pointer` came from `alloc` above, that is from the system's allocator.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const BROWSER: [(&str, &str); 8] = [
    ("host", "example.org"),
    ("user-agent", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"),
    ("accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"),
    ("accept-language", "en-US,en;q=0.5"),
    ("accept-encoding", "gzip, deflate, br, zstd"),
    ("connection", "keep-alive"),
    ("upgrade-insecure-requests", "1"),
    ("priority", "u=0, i"),
];

#[test]
fn per_request() {
    let root = site(&[
        ("s/1k.html", &[b'x'; 1024]),
        ("with space.html", b"x"),
        ("packed.js", b"xxxx"),
        ("packed.js.br", b"x"),
        ("index.html", b"x"),
        ("large.bin", &[b'x'; 100_000]),
    ]);
    let (files, _clock) = serve_at(&root);
    let tag = files.respond(&Request::get("/s/1k.html").expect("a request"));
    let tag = crate::field(&tag, "etag").expect("a tag").to_owned();
    let mut fresh = BROWSER.to_vec();
    fresh.push(("if-none-match", &tag));
    for (path, fields, status) in [
        ("/s/1k.html", &BROWSER[..], 200),
        ("/s/1k.html", &[], 200),
        ("/s/1k.html", &fresh, 304),
        ("/with%20space.html", &BROWSER, 200),
        ("//s//1k.html", &BROWSER, 200),
        ("/packed.js", &BROWSER, 200),
        ("/", &BROWSER, 200),
        ("/large.bin", &BROWSER, 200),
    ] {
        let req = Request::build(Method::GET, path, fields, Body::Empty).expect("a request");
        let status = StatusCode::from_u16(status).expect("a status");
        // Responses are recycled: the first few of a kind leave behind what the next ones fill.
        for _ in 0..4 {
            assert_eq!(files.respond(&req).status(), status, "{path}");
        }
        let before = COUNT.get();
        for _ in 0..100 {
            assert_eq!(files.respond(&req).status(), status);
        }
        assert_eq!(COUNT.get() - before, 0, "{path} {status}");
    }
}
