//! What is wrong, where, and what to do: `Diagnostic`, and `Report` that holds many.

use std::{collections::BTreeSet, error::Error, fmt, sync::Arc};

use crate::{
    code::Code,
    render,
    source::{Sources, Span},
};

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Severity {
    /// The configuration cannot be used.
    Error,
    /// It can, but probably does not do what was meant.
    Warning,
}

impl Severity {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
        }
    }
}

/// A span with a few words about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label {
    /// What is underlined.
    pub span: Span,
    /// What stands beside the underline; may be empty.
    pub message: String,
}

/// One problem: its code, one sentence, the place, and the way out.
///
/// One pointer wide, so that a check may return `Result<T, Diagnostic>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic(Box<Parts>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Parts {
    code: Code,
    severity: Severity,
    message: String,
    key: Option<String>,
    primary: Option<Label>,
    labels: Vec<Label>,
    notes: Vec<String>,
    help: Option<String>,
}

impl Diagnostic {
    /// A problem that makes the configuration unusable. The message is one sentence, lower case, no
    /// full stop.
    pub fn error(code: Code, message: impl Into<String>) -> Self {
        Self(Box::new(Parts {
            code,
            severity: Severity::Error,
            message: message.into(),
            key: None,
            primary: None,
            labels: Vec::new(),
            notes: Vec::new(),
            help: None,
        }))
    }

    /// Something that probably was not meant.
    pub fn warning(code: Code, message: impl Into<String>) -> Self {
        let mut diagnostic = Self::error(code, message);
        diagnostic.0.severity = Severity::Warning;
        diagnostic
    }

    /// Points at the place, with a few words or none. An unknown span is ignored.
    #[must_use]
    pub fn at(mut self, span: Span, label: impl Into<String>) -> Self {
        self.0.primary = span.is_known().then(|| Label { span, message: label.into() });
        self
    }

    /// Names the key by its path, such as `sites[0].root`.
    #[must_use]
    pub fn with_key(mut self, key: impl Into<String>) -> Self {
        self.0.key = Some(key.into());
        self
    }

    /// Points at another place that has to do with it. An unknown span is ignored.
    #[must_use]
    pub fn with_label(mut self, span: Span, label: impl Into<String>) -> Self {
        if span.is_known() {
            self.0.labels.push(Label { span, message: label.into() });
        }
        self
    }

    /// Adds a fact that helps to understand.
    #[must_use]
    pub fn with_note(mut self, note: impl Into<String>) -> Self {
        self.0.notes.push(note.into());
        self
    }

    /// Says what to do.
    #[must_use]
    pub fn with_help(mut self, help: impl Into<String>) -> Self {
        self.0.help = Some(help.into());
        self
    }

    /// The kind of problem.
    pub fn code(&self) -> Code {
        self.0.code
    }

    /// How bad it is.
    pub fn severity(&self) -> Severity {
        self.0.severity
    }

    /// What is wrong.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// The path of the key it is about.
    pub fn key(&self) -> Option<&str> {
        self.0.key.as_deref()
    }

    /// Where it is.
    pub fn primary(&self) -> Option<&Label> {
        self.0.primary.as_ref()
    }

    /// Other places that have to do with it.
    pub fn labels(&self) -> &[Label] {
        &self.0.labels
    }

    /// Facts that help to understand.
    pub fn notes(&self) -> &[String] {
        &self.0.notes
    }

    /// What to do.
    pub fn help(&self) -> Option<&str> {
        self.0.help.as_deref()
    }
}

/// The problems of one configuration with the texts they point into.
///
/// As an [`Error`] its `Display` is the plain human form, code frames and all.
#[derive(Debug, Clone, Default)]
pub struct Report {
    sources: Arc<Sources>,
    // Never shown, even where a frame covers them.
    secrets: BTreeSet<Span>,
    diagnostics: Vec<Diagnostic>,
    truncated: bool,
}

impl Report {
    pub(crate) fn new(sources: Arc<Sources>, secrets: BTreeSet<Span>) -> Self {
        Self { sources, secrets, diagnostics: Vec::new(), truncated: false }
    }

    /// Adds a problem.
    pub fn push(&mut self, diagnostic: Diagnostic) {
        self.diagnostics.push(diagnostic);
    }

    /// The report itself as the error if it holds one, else `value` and the warnings.
    ///
    /// # Errors
    /// When any diagnostic is an error.
    pub fn into_result<T>(self, value: T) -> Result<(T, Self), Self> {
        if self.has_errors() { Err(self) } else { Ok((value, self)) }
    }

    pub(crate) fn truncate(&mut self) {
        self.truncated = true;
    }

    pub(crate) fn add_secrets(&mut self, spans: impl IntoIterator<Item = Span>) {
        self.secrets.extend(spans);
    }

    /// Puts the problems in the order of the text; those without a place come first.
    pub(crate) fn sort(&mut self) {
        self.diagnostics.sort_by_key(|d| d.primary().map(|label| label.span));
    }

    /// Whether there is at least one error.
    pub fn has_errors(&self) -> bool {
        self.errors() > 0
    }

    /// Whether there is nothing to say.
    pub fn is_empty(&self) -> bool {
        self.diagnostics.is_empty()
    }

    /// How many errors there are.
    pub fn errors(&self) -> usize {
        self.count(Severity::Error)
    }

    /// Whether there was more to find than the limits let us look for.
    pub fn is_truncated(&self) -> bool {
        self.truncated
    }

    /// How many warnings there are.
    pub fn warnings(&self) -> usize {
        self.count(Severity::Warning)
    }

    /// The problems, in order.
    pub fn diagnostics(&self) -> &[Diagnostic] {
        &self.diagnostics
    }

    /// The texts that spans point into.
    pub fn sources(&self) -> &Sources {
        &self.sources
    }

    /// For people: code frames with underlined spans.
    pub fn to_human(&self, style: render::Style) -> String {
        render::human(self, style)
    }

    /// For programs: one JSON object. Schema: README, "For programs".
    pub fn to_json(&self) -> String {
        render::json(self)
    }

    pub(crate) fn is_secret(&self, span: Span) -> bool {
        self.secrets.iter().any(|secret| {
            secret.source() == span.source()
                && secret.range().start < span.range().end.max(span.range().start + 1)
                && span.range().start < secret.range().end
        })
    }

    fn count(&self, severity: Severity) -> usize {
        self.diagnostics.iter().filter(|d| d.severity() == severity).count()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_human(render::Style::Plain))
    }
}

impl Error for Report {}
