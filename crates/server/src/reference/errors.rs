//! `docs/reference/errors.md`

use std::fmt::Write;

use crate::codes::{self, Exit};

/// Every code.
pub(super) fn text() -> String {
    let mut text = String::from(
        "# Error codes and exit codes\n\n\
         <!-- Made from the program itself: HEARTH_BLESS=1 cargo test -p hearth-server drifted -->\n\n\
         A code never changes its meaning. What exactly is wrong, where, and what to do stands in the message \
         itself; `hearth check --json` gives all of it to programs. Each code is explained in [Error \
         codes](../errors.md).\n\n\
         ## Exit codes\n\n| code | |\n|---|---|\n",
    );
    for (exit, meaning) in Exit::ALL {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "| {} | {meaning} |", exit as u8);
    }
    text.push_str("\n## Error codes\n\n| code | |\n|---|---|\n");
    for code in codes::config::ALL.iter().chain(codes::ALL).chain(codes::doctor::ALL) {
        let id = code.id();
        let anchor = id.to_ascii_lowercase();
        let _ = writeln!(text, "| [`{id}`](../errors.md#{anchor}) | {} |", code.title());
    }
    text
}
