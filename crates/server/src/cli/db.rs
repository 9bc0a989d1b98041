//! `hearth db`: the command line of the document store, as `jsonstore` has it.

use hearth_jsonstore::cli::Arguments;

use crate::codes::Exit;

pub(super) fn run(args: Arguments) -> Exit {
    match args.run() {
        Ok(()) => Exit::Ok,
        Err(e) => {
            eprintln!("hearth: {e}");
            Exit::Failed
        }
    }
}
