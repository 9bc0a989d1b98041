//! The program log: what the server says about itself, through `tracing`.

use std::{
    io::{self, IsTerminal, Write},
    str::FromStr,
    sync::Arc,
    time::SystemTime,
};

use tracing_subscriber::{
    Layer,
    filter::Targets,
    fmt::{MakeWriter, format::Writer, time::FormatTime},
    layer::SubscriberExt,
};

use crate::{
    clock::Stamp,
    escape::push_line,
    output::{OpenError, Output, Target},
    queue::Queue,
    writer::{Report, WriterGuard},
};

/// How the program log looks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProgramFormat {
    /// `Human` on a terminal, `Json` otherwise.
    #[default]
    Auto,
    /// For eyes.
    Human,
    /// One JSON object per line.
    Json,
}

/// Whether the human format is coloured.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Color {
    /// On a terminal, unless `NO_COLOR` is set.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// How the program log is set up.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ProgramLog {
    /// Format of lines.
    pub format: ProgramFormat,
    /// Colour of the human format.
    pub color: Color,
    /// Where lines go. Default standard error.
    pub output: Output,
    filter: Targets,
}

/// The program log could not be set up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProgramLogError {
    /// The file cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// Something in this process had set one up before.
    #[error("the program log was set up before")]
    Twice,
}

/// A filter that cannot be understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{directive}` is neither a level nor component=level")]
pub struct ParseFilterError {
    /// The part that is wrong.
    pub directive: String,
}

impl Default for ProgramLog {
    fn default() -> Self {
        Self {
            format: ProgramFormat::default(),
            color: Color::default(),
            output: Output::to(Target::Stderr),
            filter: Targets::new().with_default(tracing::Level::INFO),
        }
    }
}

impl ProgramLog {
    /// Sets which lines are written: a level (`error`, `warn`, `info`, `debug`, `trace`, `off`), or
    /// `component=level`, or several of both with commas between, for instance `warn,net=debug`.
    /// Components are this project's crates (`net`, `http_core`, …) or any Rust module path.
    ///
    /// # Errors
    /// [`ParseFilterError`] names the part that is wrong.
    pub fn filter(mut self, text: &str) -> Result<Self, ParseFilterError> {
        self.filter = parse_filter(text)?;
        Ok(self)
    }

    /// Makes this the log of the process. Lines are written as long as the guard lives.
    ///
    /// # Errors
    /// [`ProgramLogError`]
    pub fn install(self) -> Result<WriterGuard, ProgramLogError> {
        let is_terminal = match self.output.target {
            Target::Stderr => io::stderr().is_terminal(),
            Target::Stdout => io::stdout().is_terminal(),
            Target::File(_) => false,
        };
        let is_json = match self.format {
            ProgramFormat::Auto => !is_terminal,
            ProgramFormat::Human => false,
            ProgramFormat::Json => true,
        };
        let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let has_color = match self.color {
            Color::Auto => is_terminal && !no_color,
            Color::Always => true,
            Color::Never => false,
        };
        let report: Report =
            if self.output.target == Target::Stderr { tell_nobody } else { tell_stderr };
        let mut output = self.output;
        if output.shards == 0 {
            // So few lines that they may wait for each other, and then they stay in order.
            output.shards = 1;
        }
        let (queue, guard) = WriterGuard::start(&output, report)?;
        let lines = Lines { queue, has_color: has_color && !is_json };
        let layer = tracing_subscriber::fmt::layer().with_timer(Utc).with_writer(lines);
        let layer = if is_json {
            layer.with_ansi(false).json().flatten_event(true).boxed()
        } else {
            layer.with_ansi(has_color).boxed()
        };
        let subscriber = tracing_subscriber::registry().with(layer.with_filter(self.filter));
        tracing::subscriber::set_global_default(subscriber).map_err(|_| ProgramLogError::Twice)?;
        Ok(guard)
    }
}

fn parse_filter(text: &str) -> Result<Targets, ParseFilterError> {
    let mut targets = Targets::new().with_default(tracing::Level::INFO);
    for directive in text.split(',').map(str::trim).filter(|directive| !directive.is_empty()) {
        let error = || ParseFilterError { directive: directive.to_owned() };
        let (component, level) = match directive.split_once('=') {
            Some((component, level)) => (Some(component.trim()), level.trim()),
            None => (None, directive),
        };
        let level = level_filter(level).ok_or_else(error)?;
        match component {
            None => targets = targets.with_default(level),
            Some("") => return Err(error()),
            Some(component) => {
                let component = component.replace('-', "_");
                targets = targets.with_target(format!("hearth_{component}"), level);
                targets = targets.with_target(format!("hearth::{component}"), level);
                targets = targets.with_target(component, level);
            }
        }
    }
    Ok(targets)
}

/// Stricter than `LevelFilter::from_str`, which takes numbers and the empty string too.
fn level_filter(text: &str) -> Option<tracing::level_filters::LevelFilter> {
    let is_word = text.bytes().all(|byte| byte.is_ascii_lowercase()) && !text.is_empty();
    is_word.then(|| FromStr::from_str(text).ok()).flatten()
}

/// The program log's own troubles can go nowhere else.
const fn tell_nobody(_: &str) {}

fn tell_stderr(message: &str) {
    let _ = writeln!(io::stderr(), "hearth: {message}");
}

/// Hands each event to the queue as one line.
struct Lines {
    queue: Arc<Queue>,
    has_color: bool,
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = &'a Self;

    fn make_writer(&'a self) -> &'a Self {
        self
    }
}

impl Write for &Lines {
    /// `tracing-subscriber` writes each event in one call.
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        self.queue.push(|out, _| push_line(out, event, self.has_color));
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Utc;

impl FormatTime for Utc {
    fn format_time(&self, writer: &mut Writer<'_>) -> std::fmt::Result {
        let mut stamp = Stamp::default();
        stamp.set(SystemTime::now());
        let mut text = Vec::with_capacity(24);
        stamp.push_iso(&mut text);
        writer.write_str(std::str::from_utf8(&text).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use tracing::Level;

    use super::*;

    #[test]
    fn filters() {
        let filter = parse_filter("warn, net=debug,hyper=off").unwrap();
        for (target, level, want) in [
            ("hearth_router", Level::INFO, false),
            ("hearth_router", Level::WARN, true),
            ("hearth_net::accept", Level::DEBUG, true),
            ("hearth::net", Level::DEBUG, true),
            ("hearth_net", Level::TRACE, false),
            ("hyper", Level::ERROR, false),
        ] {
            assert_eq!(filter.would_enable(target, &level), want, "{target} {level}");
        }
        assert!(parse_filter("").unwrap().would_enable("x", &Level::INFO));
    }

    #[test]
    fn wrong_filters() {
        for (text, wrong) in
            [("loud", "loud"), ("info,net=loud", "net=loud"), ("=debug", "=debug"), ("3", "3")]
        {
            assert_eq!(parse_filter(text).unwrap_err().directive, wrong);
        }
    }
}
