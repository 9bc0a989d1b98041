//! A line allocates nothing once the buffers have grown.
#![allow(unsafe_code, reason = "a global allocator cannot be written without")]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    time::Duration,
};

use hearth_telemetry::{AccessFormat, AccessLog, Output, Target};

use crate::{connection, exchange, head};

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

#[test]
fn none_in_steady_state() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("access.log");
    let mut output = Output::to(Target::File(path.clone()));
    output.shards = 1;
    output.flush_interval = Duration::from_secs(3600);
    let connection = connection();
    let head = head("/some/page?with=query");
    for format in [AccessFormat::Common, AccessFormat::Combined, AccessFormat::Json] {
        let (log, guard) = AccessLog::start(format, &output).unwrap();
        // Both buffers, the one that fills and the writer's, grow to their final size: reopening makes
        // the writer exchange them.
        for _ in 0..4 {
            for _ in 0..400 {
                exchange(&log, &connection, &head);
            }
            let written = std::fs::metadata(&path).unwrap().len();
            guard.reopen();
            while std::fs::metadata(&path).unwrap().len() == written {
                std::thread::yield_now();
            }
        }
        let before = COUNT.get();
        for _ in 0..200 {
            exchange(&log, &connection, &head);
        }
        assert_eq!(COUNT.get() - before, 0, "{format:?}");
    }
}
