//! How a report looks: code frames for people, JSON for programs.

use std::{
    fmt::Write as _,
    io::{self, IsTerminal as _},
};

use serde_json::json;

use crate::{
    diagnostic::{Diagnostic, Label, Report, Severity},
    source::{Origin, Source, Span, floor_boundary},
};

/// Whether colours may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Style {
    /// With terminal colours.
    Ansi,
    /// Text only.
    #[default]
    Plain,
}

impl Style {
    /// Colours if standard error is a terminal that wants them (`NO_COLOR`, `TERM=dumb`).
    pub fn for_stderr() -> Self {
        Self::for_terminal(io::stderr().is_terminal())
    }

    /// Colours if standard output is a terminal that wants them.
    pub fn for_stdout() -> Self {
        Self::for_terminal(io::stdout().is_terminal())
    }

    fn for_terminal(is_terminal: bool) -> Self {
        let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
            || std::env::var_os("TERM").is_some_and(|value| value == "dumb");
        if is_terminal && !refused { Self::Ansi } else { Self::Plain }
    }

    fn paint(self, sgr: &str, text: &str) -> String {
        match self {
            Self::Ansi if !text.is_empty() => format!("\x1b[{sgr}m{text}\x1b[0m"),
            Self::Ansi | Self::Plain => text.to_owned(),
        }
    }
}

pub(crate) fn human(report: &Report, style: Style) -> String {
    let mut out = String::new();
    for diagnostic in report.diagnostics() {
        Frames { report, style, diagnostic, out: &mut out }.print();
        out.push('\n');
    }
    let (errors, warnings) = (report.errors(), report.warnings());
    match (errors, warnings) {
        (0, 0) => {}
        (0, n) => writeln_to(&mut out, &count(n, "warning")),
        (n, 0) => writeln_to(&mut out, &count(n, "error")),
        (n, m) => writeln_to(&mut out, &format!("{}, {}", count(n, "error"), count(m, "warning"))),
    }
    if report.is_truncated() {
        writeln_to(&mut out, "there may be more: errors beyond the limit are not looked for");
    }
    out
}

pub(crate) fn json(report: &Report) -> String {
    let label = |label: &Label| {
        let source = report.sources().source(label.span.source());
        let at = |offset: usize| source.map(|source| source.position(offset));
        let (start, end) = (at(label.span.range().start), at(label.span.range().end));
        json!({
            "origin": source.map(|source| origin(&source.origin)),
            "name": source.map(|source| &source.name),
            "line": start.map(|p| p.line),
            "column": start.map(|p| p.column),
            "end_line": end.map(|p| p.line),
            "end_column": end.map(|p| p.column),
            "label": label.message,
        })
    };
    let diagnostics: Vec<_> = report
        .diagnostics()
        .iter()
        .map(|d| {
            json!({
                "code": d.code().id(),
                "title": d.code().title(),
                "severity": d.severity().word(),
                "message": d.message(),
                "key": d.key(),
                "location": d.primary().map(label),
                "labels": d.labels().iter().map(label).collect::<Vec<_>>(),
                "notes": d.notes(),
                "help": d.help(),
                "docs": d.code().docs(),
            })
        })
        .collect();
    json!({
        "errors": report.errors(),
        "warnings": report.warnings(),
        "truncated": report.is_truncated(),
        "diagnostics": diagnostics,
    })
    .to_string()
}

fn origin(origin: &Origin) -> &'static str {
    match origin {
        Origin::CommandLine => "command_line",
        Origin::Environment => "environment",
        Origin::File(_) => "file",
        Origin::Text => "text",
    }
}

struct Frames<'a> {
    report: &'a Report,
    style: Style,
    diagnostic: &'a Diagnostic,
    out: &'a mut String,
}

impl Frames<'_> {
    fn print(&mut self) {
        let d = self.diagnostic;
        let color = match d.severity() {
            Severity::Error => RED,
            Severity::Warning => YELLOW,
        };
        let head = self.style.paint(color, &format!("{}[{}]", d.severity().word(), d.code()));
        let message = self.style.paint(BOLD, &format!(": {}", printable(d.message())));
        writeln_to(self.out, &format!("{head}{message}"));

        let width = self.gutter_width();
        if let Some(label) = d.primary() {
            self.frame("-->", label, '^', color, width);
        }
        for label in d.labels() {
            self.frame(":::", label, '-', BLUE, width);
        }
        for note in d.notes() {
            self.footer("note", note, width);
        }
        if let Some(help) = d.help() {
            self.footer("help", help, width);
        }
        self.footer("docs", &d.code().docs(), width);
    }

    /// As wide as the largest line number that will be shown.
    fn gutter_width(&self) -> usize {
        let d = self.diagnostic;
        let line = |label: &Label| {
            let source = self.report.sources().source(label.span.source())?;
            Some(source.position(label.span.range().start).line)
        };
        let last = d.primary().into_iter().chain(d.labels()).filter_map(line).max();
        last.unwrap_or(1).to_string().len()
    }

    fn frame(&mut self, arrow: &str, label: &Label, mark: char, color: &str, width: usize) {
        let sources = self.report.sources();
        let Some(source) = sources.source(label.span.source()) else { return };
        let bar = self.style.paint(BLUE, "|");
        let arrow = self.style.paint(BLUE, arrow);
        let pad = " ".repeat(width);
        writeln_to(
            self.out,
            &format!("{pad}{arrow} {}", printable(&sources.location(label.span).to_string())),
        );
        writeln_to(self.out, &format!("{pad} {bar}"));
        let excerpt = Excerpt::of(source, label.span, |span| self.report.is_secret(span));
        let number = match source.origin {
            Origin::File(_) | Origin::Text => format!("{:>width$}", excerpt.line),
            Origin::CommandLine | Origin::Environment => pad.clone(),
        };
        let number = self.style.paint(BLUE, &number);
        writeln_to(self.out, format!("{number} {bar} {}", excerpt.text).trim_end());
        let indent = " ".repeat(excerpt.indent);
        let marks = String::from(mark).repeat(excerpt.width.max(1));
        let text = format!("{marks} {}", printable(&label.message));
        let text = self.style.paint(color, text.trim_end());
        writeln_to(self.out, &format!("{pad} {bar} {indent}{text}"));
    }

    fn footer(&mut self, kind: &str, text: &str, width: usize) {
        let pad = " ".repeat(width);
        let sign = self.style.paint(BLUE, "=");
        let kind = self.style.paint(BOLD, kind);
        writeln_to(self.out, &format!("{pad} {sign} {kind}: {}", printable(text)));
    }
}

/// The line a span begins on, made fit to print, and where the span lies in it.
struct Excerpt {
    line: usize,
    text: String,
    /// Terminal columns before the underline, and its length.
    indent: usize,
    width: usize,
}

impl Excerpt {
    fn of(source: &Source, span: Span, is_secret: impl Fn(Span) -> bool) -> Self {
        let start = floor_boundary(&source.text, span.range().start);
        let end = floor_boundary(&source.text, span.range().end).max(start);
        let before = source.text.get(..start).unwrap_or_default();
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        let line = source.text.get(line_start..).unwrap_or_default();
        let line = line.split(['\n', '\r']).next().unwrap_or_default();
        let line_number = before.bytes().filter(|&b| b == b'\n').count() + 1;

        let mut excerpt = Self { line: line_number, text: String::new(), indent: 0, width: 0 };
        // A minified file is one long line: show what surrounds the span.
        let lead = if line.len() > LINE_MAX { LINE_MAX / 3 } else { LINE_MAX };
        let first = (start - line_start).saturating_sub(lead);
        if first > 0 {
            excerpt.text.push('…');
            excerpt.indent = 1;
        }
        let mut columns = excerpt.indent;
        for (offset, c) in line.char_indices().filter(|(offset, _)| *offset >= first) {
            if columns > LINE_MAX {
                excerpt.text.push('…');
                break;
            }
            let at = line_start + offset;
            let here = Span::new(span.source(), at..at + c.len_utf8());
            let (shown, width) = if is_secret(here) { ("*".to_owned(), 1) } else { glyph(c) };
            excerpt.text.push_str(&shown);
            columns += width;
            if at < start {
                excerpt.indent += width;
            } else if at < end {
                excerpt.width += width;
            }
        }
        excerpt
    }
}

/// What to print for a character, and how many columns it takes.
fn glyph(c: char) -> (String, usize) {
    match c {
        '\t' => (" ".repeat(4), 4),
        // A file must not be able to move the cursor or colour the terminal.
        c if is_unprintable(c) => ('\u{FFFD}'.to_string(), 1),
        // Wide and emoji blocks; enough to keep the underline beneath what it means.
        '\u{1100}'..='\u{115F}'
        | '\u{2E80}'..='\u{A4CF}'
        | '\u{AC00}'..='\u{D7A3}'
        | '\u{F900}'..='\u{FAFF}'
        | '\u{FE30}'..='\u{FE6F}'
        | '\u{FF00}'..='\u{FF60}'
        | '\u{1F300}'..='\u{1FAFF}'
        | '\u{20000}'..='\u{3FFFD}' => (c.to_string(), 2),
        '\u{300}'..='\u{36F}' => (c.to_string(), 0),
        c => (c.to_string(), 1),
    }
}

fn printable(text: &str) -> String {
    text.chars().map(|c| if is_unprintable(c) { '\u{FFFD}' } else { c }).collect()
}

/// Control characters, and those that reorder or hide text.
fn is_unprintable(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200B}'..='\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2060}'..='\u{206F}' | '\u{FEFF}')
}

fn count(n: usize, noun: &str) -> String {
    format!("{n} {noun}{}", if n == 1 { "" } else { "s" })
}

fn writeln_to(out: &mut String, line: &str) {
    // Writing to a `String` cannot fail.
    let _ = writeln!(out, "{line}");
}

const BLUE: &str = "1;34";
const BOLD: &str = "1";
const RED: &str = "1;31";
const YELLOW: &str = "1;33";
/// Columns of a source line that are shown.
const LINE_MAX: usize = 120;
