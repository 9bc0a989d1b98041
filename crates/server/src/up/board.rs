//! How the components are: a checklist for people, events for the log, a file for `hearth status`.

use std::{
    fmt::Write as _,
    io::Write as _,
    sync::{Mutex, MutexGuard, PoisonError},
};

use crate::status::{Component, Lock, State, Status, now};

/// The components, in the order in which a connection comes.
pub const COMPONENTS: [&str; 8] =
    ["listen", "local", "router", "mapping", "address", "dns", "certificate", "outside"];

/// Where components report.
#[derive(Debug)]
pub struct Board {
    lock: Lock,
    show: Show,
    inner: Mutex<Inner>,
}

/// How the checklist is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Show {
    /// Each change as one line of JSON.
    Json,
    /// Each change as one line.
    Lines,
    /// All of it, again and again in the same place.
    Live {
        /// Whether colours are wanted.
        has_color: bool,
    },
}

#[derive(Debug)]
struct Inner {
    status: Status,
    /// Lines that the last drawing took.
    drawn: usize,
}

impl Board {
    /// Everything is still to be done.
    #[must_use]
    pub fn new(domain: &str, lock: Lock, show: Show) -> Self {
        let component = |name: &str| Component {
            name: name.to_owned(),
            state: State::Working,
            text: "waiting".to_owned(),
            fix: None,
            since: now(),
        };
        let components = COMPONENTS.map(component).to_vec();
        let pid = std::process::id();
        let status = Status { domain: domain.to_owned(), pid, at: now(), components };
        let board = Self { lock, show, inner: Mutex::new(Inner { status, drawn: 0 }) };
        board.publish(&mut board.inner(), None);
        board
    }

    /// It works.
    pub fn ok(&self, name: &str, text: impl Into<String>) {
        self.set(name, State::Ok, text.into(), None);
    }

    /// It fails.
    pub fn failed(&self, name: &str, text: impl Into<String>, fix: &str) {
        self.set(name, State::Failed, text.into(), Some(fix.to_owned()));
    }

    /// Nothing is wanted of it.
    pub fn off(&self, name: &str, text: impl Into<String>) {
        self.set(name, State::Off, text.into(), None);
    }

    /// It could not be seen whether it works.
    pub fn unknown(&self, name: &str, text: impl Into<String>, fix: &str) {
        self.set(name, State::Unknown, text.into(), Some(fix.to_owned()));
    }

    /// It is being worked on.
    pub fn working(&self, name: &str, text: impl Into<String>) {
        self.set(name, State::Working, text.into(), None);
    }

    /// How a component is.
    #[must_use]
    pub fn state(&self, name: &str) -> Option<State> {
        let inner = self.inner();
        let found = inner.status.components.iter().find(|component| component.name == name);
        found.map(|component| component.state)
    }

    fn set(&self, name: &str, state: State, text: String, fix: Option<String>) {
        let mut inner = self.inner();
        let components = &mut inner.status.components;
        let Some(at) = components.iter().position(|component| component.name == name) else {
            return;
        };
        let Some(component) = components.get_mut(at) else { return };
        if (component.state, &component.text, &component.fix) == (state, &text, &fix) {
            return;
        }
        let is_change = component.state != state;
        if is_change {
            component.since = now();
        }
        (component.state, component.text, component.fix) = (state, text, fix);
        let Component { text, fix, .. } = component.clone();
        match (state, is_change) {
            (State::Failed, _) => {
                let fix = fix.unwrap_or_default();
                tracing::warn!(target: "hearth::up", component = name, fix, "{text}");
            }
            (State::Working, _) | (_, false) => {
                tracing::debug!(target: "hearth::up", component = name, "{text}");
            }
            _ => tracing::info!(target: "hearth::up", component = name, "{text}"),
        }
        self.publish(&mut inner, Some(at));
    }

    fn publish(&self, inner: &mut Inner, changed: Option<usize>) {
        inner.status.at = now();
        if let Err(error) = self.lock.write(&inner.status) {
            tracing::debug!(target: "hearth::up", "the status cannot be written: {error}");
        }
        let text = match (self.show, changed.and_then(|at| inner.status.components.get(at))) {
            (Show::Json, Some(component)) => {
                serde_json::to_string(component).unwrap_or_default() + "\n"
            }
            (Show::Lines, Some(component)) => line(component, false) + "\n",
            (Show::Live { has_color }, _) => {
                let (text, drawn) = draw(&inner.status, inner.drawn, has_color);
                inner.drawn = drawn;
                text
            }
            (_, None) => return,
        };
        // That nobody looks is no error.
        let _ = std::io::stdout().lock().write_all(text.as_bytes());
        let _ = std::io::stdout().lock().flush();
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The whole checklist for people.
#[must_use]
pub fn checklist(status: &Status, has_color: bool) -> String {
    let mut text = format!("  https://{}\n\n", status.domain);
    for component in &status.components {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{}", line(component, has_color));
    }
    text
}

/// The checklist over the one before it, and the lines that it takes.
fn draw(status: &Status, drawn: usize, has_color: bool) -> (String, usize) {
    let text = checklist(status, has_color);
    let lines = text.lines().count();
    // Up, and each line anew: no terminal flickers at that.
    let up = if drawn > 0 { format!("\x1b[{drawn}A\x1b[J") } else { String::new() };
    (up + &text, lines)
}

fn line(component: &Component, has_color: bool) -> String {
    let Component { name, state, text, fix, .. } = component;
    let (mark, color) = match state {
        State::Failed => ("✗", "\x1b[31m"),
        State::Ok => ("✓", "\x1b[32m"),
        State::Off => ("-", "\x1b[2m"),
        State::Unknown => ("?", "\x1b[33m"),
        State::Working => ("…", "\x1b[36m"),
    };
    let (color, reset) = if has_color { (color, "\x1b[0m") } else { ("", "") };
    let fix = fix.as_ref().map(|fix| format!("\n      {fix}")).unwrap_or_default();
    format!("  {color}{mark}{reset} {name:<12} {text}{fix}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checklist() {
        let component = |name: &str, state, fix: Option<&str>| Component {
            name: name.to_owned(),
            state,
            text: "words".to_owned(),
            fix: fix.map(str::to_owned),
            since: 0,
        };
        let components = vec![
            component("listen", State::Ok, None),
            component("router", State::Failed, Some("do this")),
        ];
        let status = Status { domain: "a.example".to_owned(), pid: 1, at: 0, components };
        let wanted = "  https://a.example\n\n  ✓ listen       words\n  ✗ router       words\n      do this\n";
        assert_eq!(checklist(&status, false), wanted);
        let (again, lines) = draw(&status, 5, false);
        assert_eq!((again, lines), (format!("\x1b[5A\x1b[J{wanted}"), 5));
    }
}
