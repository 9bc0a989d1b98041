//! `hearth check`

use super::{CheckArgs, ColorChoice, complain, load::load, say};
use crate::{assemble, codes::Exit};

pub(super) fn run(args: &CheckArgs, color: ColorChoice) -> Exit {
    let (exit, report, summary) = match load(&args.source) {
        Err(report) => (Exit::Config, report, None),
        Ok(loaded) => {
            let summary = format!(
                "ok: {} on {}\n",
                count(loaded.plan.sites.len(), "site"),
                count(loaded.plan.listeners.len(), "listener")
            );
            let mut report = loaded.report;
            let exit = assemble::check_addresses(&loaded.plan, &mut report);
            (exit, report, Some(summary))
        }
    };
    if args.json {
        say(&(report.to_json() + "\n"));
    } else {
        complain(&report, color);
        if let (Exit::Ok, Some(summary)) = (exit, summary) {
            say(&summary);
        }
    }
    exit
}

fn count(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}
