//! `hearth status`

use std::io::stdout;

use clap::Args;

use super::{ColorChoice, one_shot::Answer};
use crate::{
    codes::Exit,
    status::{self, State},
    up::board::checklist,
};

#[derive(Debug, Args)]
pub(super) struct StatusArgs {
    /// Print it as JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &StatusArgs, color: ColorChoice) -> Exit {
    if !status::is_running() {
        let answer = Answer::refused("nothing is kept up: no `hearth up` of this user runs");
        return answer.with_exit(Exit::Unwell).tell(args.json);
    }
    let status = match status::read() {
        Ok(status) => status,
        Err(error) => {
            return Answer::try_later(format!("the status cannot be read: {error}"))
                .tell(args.json);
        }
    };
    let is_well = status
        .components
        .iter()
        .all(|component| matches!(component.state, State::Ok | State::Off | State::Unknown));
    let human = checklist(&status, color.is_wanted(&stdout())).trim_end().to_owned();
    let answer = Answer::done(human)
        .with("healthy", is_well)
        .with("status", serde_json::to_value(&status).unwrap_or_default());
    if is_well { answer.tell(args.json) } else { answer.with_exit(Exit::Unwell).tell(args.json) }
}
