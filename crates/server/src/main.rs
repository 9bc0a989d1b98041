//! `hearth`: a web server in one binary. The work is done in the library.
#![forbid(unsafe_code)]

use std::process::ExitCode;

/// Many short-lived allocations of many sizes on several threads are what the system's allocator is
/// slowest at.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // Huge pages would round the memory of idle connections up to the next 2 MiB, again and again.
    #[cfg(target_os = "linux")]
    let _ = rustix::thread::disable_transparent_huge_pages(true);
    hearth_server::cli::main()
}
