//! Configuration as a library: find the file, layer overrides on it, decode it into serde types,
//! explain where each value came from, and tell what a reload changes.
//!
//! Every value keeps the place it was written at, so every error shows the line, says what is wrong
//! and what to do, and all errors of a file come in one report. The crate knows no section and no
//! key: the program brings its types.
//!
//! Not here: the keys of Hearth (`server`), watching files, applying a reload.
//!
//! ```
//! use hearth_config::{Format, Loader};
//!
//! #[derive(serde::Deserialize)]
//! struct Config {
//!     port: u16,
//! }
//!
//! let loader = Loader::new().text("app.toml", Format::Toml, "prot = 80\nport = \"http\"\n");
//! let report = loader.load::<Config>().err().expect("both lines are wrong");
//! assert_eq!(report.errors(), 2);
//! assert_eq!(report.diagnostics()[0].help(), Some("did you mean `port`?"));
//! ```
#![forbid(unsafe_code)]

mod code;
mod de;
mod diagnostic;
mod diff;
mod document;
mod explain;
mod find;
mod loader;
mod overrides;
mod parse;
mod render;
mod scalar;
mod source;
mod spanned;
mod suggest;
mod text;
mod tree;

pub use crate::{
    code::{Code, codes},
    diagnostic::{Diagnostic, Label, Report, Severity},
    diff::Change,
    document::{Document, Loaded, diff},
    explain::{Explained, Overridden},
    find::Search,
    loader::{Limits, Loader},
    parse::Format,
    render::Style,
    scalar::{ByteSize, HumanDuration, UnitError},
    source::{Location, Origin, Position, Source, SourceId, Sources, Span},
    spanned::{Secret, Spanned},
};

#[doc = include_str!("../README.md")]
#[cfg(doctest)]
struct ReadmeDoctests;
