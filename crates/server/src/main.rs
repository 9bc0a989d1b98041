//! `hearth`: a web server in one binary. The work is done in the library.
#![forbid(unsafe_code)]

use std::process::ExitCode;

/// Many short-lived allocations of many sizes on several threads are what the system's allocator is
/// slowest at.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    hearth_server::cli::main()
}
