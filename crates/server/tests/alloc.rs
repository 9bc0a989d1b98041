//! What a request costs in allocations, through everything that `serve` puts around a file.
#![allow(unsafe_code, reason = "a global allocator cannot be written without")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    io::{Read, Write},
    net::TcpStream,
    sync::atomic::{AtomicU64, Ordering},
};

use hearth_config::{Format, Loader};
use hearth_server::{assemble, config::Config, plan::Plan};

/// Counts the allocations of the process; the client below makes none.
struct Counting;

static COUNT: AtomicU64 = AtomicU64::new(0);

// SAFETY: every call goes to the system's allocator with the arguments it came with.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.fetch_add(1, Ordering::Relaxed);
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

/// The allocations of each of many requests on one connection.
fn cost(options: &str, fields: &str) -> f64 {
    // So many that what is done once a second, some 15 allocations, is not taken for theirs.
    const REQUESTS: u32 = 800;
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("index.html"), "<p>hello</p>\n".repeat(20)).unwrap();
    let root = dir.path().display();
    let text = format!(
        "workers = 1\nlisteners = [{{ address = '127.0.0.1:0' }}]\n\
         access_log.path = '{root}/access.log'\n[[sites]]\nroot = '{root}'\n{options}"
    );
    let loaded = Loader::new().text("t", Format::Toml, text).load::<Config>().unwrap();
    let (plan, report) = Plan::new(&loaded.config, &loaded.document);
    let plan = plan.unwrap_or_else(|| panic!("{report}"));
    let running = assemble::start(&plan, None, &assemble::Before::default()).unwrap();
    let mut stream = TcpStream::connect(running.addresses()[0]).unwrap();
    let request = format!("GET / HTTP/1.1\r\nhost: a\r\n{fields}\r\n");
    let mut buffer = vec![0; 16 * 1024];
    let mut ask = || {
        stream.write_all(request.as_bytes()).unwrap();
        // Small enough to come in one piece.
        let length = stream.read(&mut buffer).unwrap();
        assert!(buffer[..length].starts_with(b"HTTP/1.1 200"));
    };
    for _ in 0..REQUESTS {
        ask();
    }
    let before = COUNT.load(Ordering::Relaxed);
    for _ in 0..REQUESTS {
        ask();
    }
    let count = COUNT.load(Ordering::Relaxed) - before;
    running.abort();
    count as f64 / f64::from(REQUESTS)
}

#[test]
fn a_file_from_memory_allocates_nothing() {
    let off = "compression.enabled = false\n";
    let gzip = "accept-encoding: gzip\r\n";
    for (name, options, fields) in [
        ("plain", off.to_owned(), ""),
        ("could be compressed", String::new(), ""),
        ("too small to be compressed", "compression.min_size = '4k'".to_owned(), gzip),
        ("compressed", "compression.min_size = '64'".to_owned(), gzip),
        ("with an error page", format!("{off}error_pages = {{ 404 = 'index.html' }}"), ""),
        ("on a host", format!("{off}hosts = ['a', '*.b']"), ""),
        (
            "beside redirects",
            format!("{off}redirects = [{{ from = '/old/{{*x}}', to = '/{{x}}' }}]"),
            "",
        ),
    ] {
        let each = cost(&options, fields);
        // The once-a-second work of caches and logs falls into the measurement on a busy machine.
        assert!(each < 0.05, "{name}: {each} allocations for each request");
    }
}
