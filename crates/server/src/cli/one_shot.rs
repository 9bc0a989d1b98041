//! What commands that do one thing have in common: an answer for people or programs, and an exit code that says
//! whether to ask again.

use serde_json::{Map, Value};

use super::say;
use crate::codes::Exit;

/// What came of a command.
#[derive(Debug)]
pub(super) struct Answer {
    exit: Exit,
    human: String,
    fields: Map<String, Value>,
}

impl Answer {
    /// It is done.
    pub(super) fn done(human: impl Into<String>) -> Self {
        Self { exit: Exit::Ok, human: human.into(), fields: Map::new() }
    }

    /// The same may succeed later.
    pub(super) fn try_later(why: impl Into<String>) -> Self {
        Self::failure(Exit::TryLater, why)
    }

    /// It will not be done before somebody changes something.
    pub(super) fn refused(why: impl Into<String>) -> Self {
        Self::failure(Exit::Refused, why)
    }

    fn failure(exit: Exit, why: impl Into<String>) -> Self {
        let why = why.into();
        Self { exit, human: why.clone(), fields: Map::new() }.with("error", why)
    }

    /// Says that the exit code is another one.
    pub(super) fn with_exit(mut self, exit: Exit) -> Self {
        self.exit = exit;
        self
    }

    /// Adds what to do.
    pub(super) fn with_help(mut self, help: &str) -> Self {
        self.human = format!("{}\n  help: {help}", self.human);
        self.with("help", help)
    }

    /// Adds a line for people.
    pub(super) fn with_note(mut self, note: &str) -> Self {
        self.human.push_str(note);
        self
    }

    /// Adds a field for programs.
    pub(super) fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.fields.insert(name.to_owned(), value.into());
        self
    }

    /// Tells it.
    pub(super) fn tell(self, json: bool) -> Exit {
        let Self { exit, human, mut fields } = self;
        if json {
            let result = match exit {
                Exit::Ok => "done",
                Exit::TryLater => "try-later",
                Exit::Refused => "refused",
                Exit::Unwell => "unwell",
                _ => "failed",
            };
            fields.insert("result".to_owned(), result.into());
            say(&format!("{}\n", Value::Object(fields)));
        } else if matches!(exit, Exit::Ok | Exit::Unwell) {
            say(&format!("{human}\n"));
        } else {
            eprintln!("hearth: {human}");
        }
        exit
    }
}

/// Runs the work of a command on this thread.
pub(super) fn run(work: impl Future<Output = Answer>, json: bool) -> Exit {
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(work).tell(json),
        Err(error) => {
            let why = format!("cannot wait for events: {error}");
            Answer::try_later(why).with_exit(Exit::Failed).tell(json)
        }
    }
}
