//! The `jsonstore` program. The work is done in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    hearth_jsonstore::cli::main()
}
