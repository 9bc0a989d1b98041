//! Reads the layers and puts them on top of each other.

use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use serde::de::DeserializeOwned;

use crate::{
    code::codes,
    diagnostic::{Diagnostic, Report},
    document::{Document, Loaded},
    overrides::{self, Override},
    parse::{self, Context, Format},
    source::{Origin, Sources, Span},
    tree::Node,
};

/// Bounds on what a configuration may make us hold.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Limits {
    /// A larger file is refused. Default: 8 MiB.
    pub file_bytes_max: usize,
    /// Tables and arrays within each other. Default: 64.
    pub depth_max: usize,
    /// After so many errors nothing further is looked for. Default: 50.
    pub diagnostics_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { file_bytes_max: 8 * 1024 * 1024, depth_max: 64, diagnostics_max: 50 }
    }
}

/// Gathers the layers: at most one file, then variables, then arguments; later ones win.
#[derive(Debug, Clone, Default)]
pub struct Loader {
    base: Base,
    prefix: Option<String>,
    variables: BTreeMap<OsString, OsString>,
    aliases: Vec<(String, String)>,
    reserved: Vec<String>,
    arguments: Vec<Argument>,
    limits: Limits,
}

#[derive(Debug, Clone, Default)]
enum Base {
    #[default]
    Empty,
    File(PathBuf),
    Text {
        name: String,
        format: Format,
        text: String,
    },
}

#[derive(Debug, Clone)]
struct Argument {
    flag: String,
    /// `None` if the value names the key itself: `key=value`.
    key: Option<String>,
    value: String,
}

impl Loader {
    /// No file, no variables, no arguments: the defaults of the target type.
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads this file; that it does not exist is then an error.
    #[must_use]
    pub fn file(mut self, path: impl Into<PathBuf>) -> Self {
        self.base = Base::File(path.into());
        self
    }

    /// Reads this text in the place of a file.
    #[must_use]
    pub fn text(
        mut self,
        name: impl Into<String>,
        format: Format,
        text: impl Into<String>,
    ) -> Self {
        self.base = Base::Text { name: name.into(), format, text: text.into() };
        self
    }

    /// Applies variables that begin with `prefix` (`HEARTH_`): `HEARTH_LISTEN__PORT` is
    /// `listen.port`. Two underscores step into a table or, with a number, into an array; case does
    /// not matter, and `_` also stands for `-`. An empty variable counts as not set, and what
    /// Kubernetes sets for services (`HEARTH_SERVICE_HOST`, …) is passed over.
    #[must_use]
    pub fn environment(
        mut self,
        prefix: impl Into<String>,
        variables: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Self {
        self.prefix = Some(prefix.into());
        self.variables = variables.into_iter().collect();
        self
    }

    /// Takes a variable without the prefix (`PORT`) for `key`; one with the prefix wins over it.
    #[must_use]
    pub fn environment_alias(mut self, name: impl Into<String>, key: impl Into<String>) -> Self {
        self.aliases.push((name.into(), key.into()));
        self
    }

    /// A variable that has the prefix but is no key, by its full name (`HEARTH_CONFIG`).
    #[must_use]
    pub fn environment_reserved(mut self, name: impl Into<String>) -> Self {
        self.reserved.push(name.into());
        self
    }

    /// Sets `key` as an argument of the command line does: `set("--port", "listen.port", "80")`.
    #[must_use]
    pub fn set(
        mut self,
        flag: impl Into<String>,
        key: impl Into<String>,
        value: impl Into<String>,
    ) -> Self {
        let (flag, key, value) = (flag.into(), Some(key.into()), value.into());
        self.arguments.push(Argument { flag, key, value });
        self
    }

    /// Sets whatever key the argument names: `assign("--set", "listen.port=80")`.
    #[must_use]
    pub fn assign(mut self, flag: impl Into<String>, assignment: impl Into<String>) -> Self {
        let (flag, value) = (flag.into(), assignment.into());
        self.arguments.push(Argument { flag, key: None, value });
        self
    }

    /// Other bounds than the default ones.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Reads everything and decodes it.
    ///
    /// # Errors
    /// Everything that is wrong, as far as it can be told apart, in one report.
    pub fn load<T: DeserializeOwned>(self) -> Result<Loaded<T>, Report> {
        let mut document = self.read()?;
        let config = document.decode()?;
        Ok(Loaded { config, document })
    }

    /// Reads and merges the layers without decoding them.
    ///
    /// # Errors
    /// What is wrong with the file's syntax, and overrides that have no place to go.
    pub fn read(self) -> Result<Document, Report> {
        let mut sources = Sources::default();
        let mut problems = Vec::new();
        let mut root = self.base(&mut sources, &mut problems);
        let syntax_ok = problems.is_empty();
        for next in self.overrides(&mut sources) {
            // Half a file is no ground to judge an override on.
            match next {
                Ok(next) if syntax_ok => problems.extend(overrides::apply(&mut root, next).err()),
                Ok(_) => {}
                Err(problem) => problems.push(problem),
            }
        }
        let document = Document::new(root, Arc::new(sources), self.limits);
        if problems.is_empty() {
            return Ok(document);
        }
        let mut report = document.report();
        problems.into_iter().for_each(|problem| report.push(problem));
        report.sort();
        Err(report)
    }

    fn base(&self, sources: &mut Sources, problems: &mut Vec<Diagnostic>) -> Node {
        let (origin, name, format, text) = match &self.base {
            Base::Empty => return Node::empty_table(Span::UNKNOWN),
            Base::Text { name, format, text } => {
                (Origin::Text, name.clone(), *format, text.clone())
            }
            Base::File(path) => match read_file(path, self.limits.file_bytes_max, sources) {
                Ok((format, text)) => {
                    (Origin::File(path.clone()), path.display().to_string(), format, text)
                }
                Err(problem) => {
                    problems.push(problem);
                    return Node::empty_table(Span::UNKNOWN);
                }
            },
        };
        // Editors on Windows begin files with a byte order mark; it is no part of the text.
        let text = text.strip_prefix('\u{FEFF}').map(str::to_owned).unwrap_or(text);
        let source = sources.add(origin, name, text.clone());
        let depth_max = self.limits.depth_max;
        parse::document(format, &text, &mut Context { source, base: 0, depth_max, problems })
    }

    /// In the order in which they apply.
    fn overrides(&self, sources: &mut Sources) -> Vec<Result<Override, Diagnostic>> {
        let mut list = Vec::new();
        for (name, key) in &self.aliases {
            if let Some(value) =
                self.variables.get(OsStr::new(name)).filter(|value| !value.is_empty())
            {
                list.push(match value.to_str() {
                    Some(value) => overrides::from_alias(sources, name, key, value),
                    None => Err(not_text(name)),
                });
            }
        }
        let prefix = self.prefix.as_deref().unwrap_or_default();
        for (name, value) in &self.variables {
            let Some(name) = name.to_str().filter(|name| is_override(name, prefix)) else {
                continue;
            };
            let rest = name.get(prefix.len()..).unwrap_or_default();
            let reserved = self.reserved.iter().any(|reserved| reserved == name);
            if value.is_empty() || reserved || is_service_link(rest, value) {
                continue;
            }
            list.push(match value.to_str() {
                Some(value) => Ok(overrides::from_variable(sources, name, prefix, value)),
                None => Err(not_text(name)),
            });
        }
        for Argument { flag, key, value } in &self.arguments {
            list.push(match key {
                Some(key) => overrides::from_flag(sources, flag, key, value),
                None => overrides::from_assignment(sources, flag, value),
            });
        }
        list
    }
}

fn is_override(name: &str, prefix: &str) -> bool {
    !prefix.is_empty() && name.len() > prefix.len() && name.starts_with(prefix)
}

/// Kubernetes gives every container `NAME_SERVICE_HOST`, `NAME_PORT=tcp://…` and more of the kind for
/// each service. One that is called like the program must not keep it from starting.
fn is_service_link(name: &str, value: &OsStr) -> bool {
    let port = name.strip_prefix("PORT");
    let is_url = || value.to_str().is_some_and(|value| value.contains("://"));
    name == "SERVICE_HOST"
        || name == "SERVICE_PORT"
        || (name.starts_with("SERVICE_PORT_") && !name.contains("__"))
        || port.is_some_and(|rest| rest.is_empty() && is_url())
        || port
            .and_then(|rest| rest.strip_prefix('_'))
            .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
}

fn not_text(name: &str) -> Diagnostic {
    let message = format!("environment variable {name} is not valid UTF-8");
    Diagnostic::error(codes::BAD_OVERRIDE, message).with_help("set it to text, or unset it")
}

fn read_file(
    path: &Path,
    bytes_max: usize,
    sources: &mut Sources,
) -> Result<(Format, String), Diagnostic> {
    let shown = path.display();
    let Some(format) = Format::of(path) else {
        let message = format!("cannot tell the format of {shown}");
        let help = format!("give the file one of the extensions {}", Format::EXTENSIONS.join(", "));
        return Err(Diagnostic::error(codes::UNKNOWN_FORMAT, message).with_help(help));
    };
    let bytes = read_bytes(path, bytes_max).map_err(|error| {
        let (code, what, help) = match error.kind() {
            io::ErrorKind::NotFound => (
                codes::FILE_NOT_FOUND,
                "does not exist".to_owned(),
                "check the path; it is relative to the working directory",
            ),
            io::ErrorKind::PermissionDenied => (
                codes::FILE_UNREADABLE,
                "may not be read".to_owned(),
                "let the user that runs this program read the file",
            ),
            io::ErrorKind::IsADirectory => {
                (codes::FILE_UNREADABLE, "is a directory".to_owned(), "name the file in it")
            }
            io::ErrorKind::FileTooLarge => (
                codes::FILE_UNREADABLE,
                format!("is larger than {bytes_max} bytes"),
                "check that it is the right file",
            ),
            _ => (
                codes::FILE_UNREADABLE,
                format!("cannot be read: {error}"),
                "check the path and the disk",
            ),
        };
        Diagnostic::error(code, format!("{shown} {what}")).with_help(help)
    })?;
    String::from_utf8(bytes).map(|text| (format, text)).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let text = String::from_utf8_lossy(error.as_bytes()).into_owned();
        // Up to the offence the lossy text has the same offsets.
        let source = sources.add(Origin::File(path.to_owned()), shown.to_string(), text);
        Diagnostic::error(codes::FILE_UNREADABLE, format!("{shown} is not valid UTF-8"))
            .at(Span::new(source, at..at + 3), "not UTF-8 from here on")
            .with_help("save the file as UTF-8")
    })
}

fn read_bytes(path: &Path, bytes_max: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let limit = u64::try_from(bytes_max).unwrap_or(u64::MAX);
    File::open(path)?.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() > bytes_max {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    Ok(bytes)
}
