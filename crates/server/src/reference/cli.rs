//! `docs/reference/cli.md`

use std::fmt::Write;

use clap::{Arg, Command};

use super::cell;
use crate::codes::Exit;

/// Every command and option.
pub(super) fn text() -> String {
    let mut command = crate::cli::command();
    command.build();
    let mut text = String::from(
        "# Command line\n\n\
         <!-- Made from the program itself: HEARTH_BLESS=1 cargo test -p hearth-server drifted -->\n\n",
    );
    section(&mut text, &command, "hearth");
    text.push_str("## Exit codes\n\n| code | |\n|---|---|\n");
    for (exit, meaning) in Exit::ALL {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "| {} | {meaning} |", exit as u8);
    }
    text
}

fn section(text: &mut String, command: &Command, name: &str) {
    let about = command.get_about().map(ToString::to_string).unwrap_or_default();
    let _ = writeln!(text, "## `{name}`\n\n{about}\n");
    let arguments: Vec<_> =
        command.get_arguments().filter(|argument| !argument.is_hide_set()).collect();
    if !arguments.is_empty() {
        text.push_str("| | |\n|---|---|\n");
        for argument in arguments {
            let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
            let _ = writeln!(
                text,
                "| {} | {}{} |",
                spelling(argument),
                cell(&help),
                cell(&values(argument))
            );
        }
        text.push('\n');
    }
    for inner in command.get_subcommands().filter(|inner| inner.get_name() != "help") {
        section(text, inner, &format!("{name} {}", inner.get_name()));
    }
}

fn spelling(argument: &Arg) -> String {
    let value = argument
        .get_value_names()
        .filter(|_| argument.get_action().takes_values())
        .and_then(|names| names.first())
        .map(|name| format!(" {name}"))
        .unwrap_or_default();
    if argument.is_positional() {
        return format!("`{}`", value.trim_start());
    }
    let long = argument.get_long().map(|long| format!("`--{long}{value}`"));
    let short = argument.get_short().map(|short| format!("`-{short}`"));
    [short, long].into_iter().flatten().collect::<Vec<_>>().join(", ")
}

fn values(argument: &Arg) -> String {
    if !argument.get_action().takes_values() {
        return String::new();
    }
    let mut text = String::new();
    for value in argument.get_possible_values().iter().filter(|value| !value.is_hide_set()) {
        let help = value.get_help().map(|help| format!(": {help}")).unwrap_or_default();
        let _ = write!(text, "; `{}`{help}", value.get_name());
    }
    text
}
