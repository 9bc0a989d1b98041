//! Import and export: JSON lines, JSON arrays, MongoDB's extended JSON, CSV.
//!
//! Both stream: memory does not depend on the size of the data. Parsing is spread over threads, the
//! order of the input is kept.

mod csv;
mod export;
mod extended;
mod import;
mod split;

use std::path::PathBuf;

pub use self::{export::ExportReport, import::ImportReport};
pub(crate) use self::{export::export, import::import};

/// The form of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Format {
    /// A header line with field paths (`address.city`), then one document a line.
    Csv,
    /// One JSON document a line; an import takes a JSON array of documents, too.
    #[default]
    Json,
}

/// What an import does with a document whose `_id` exists already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum OnDuplicate {
    /// Leaves the stored one.
    Keep,
    /// Reports it as an error of that document.
    Refuse,
    /// Replaces the stored one.
    #[default]
    Replace,
}

/// How an import is done.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ImportOptions {
    /// The form of the input. Default: JSON.
    pub format: Format,
    /// MongoDB's extended JSON becomes plain JSON: `$oid`, `$uuid` and `$symbol` strings, `$date` an
    /// RFC 3339 string, `$numberInt` and the like numbers. What has no plain form stays. Default:
    /// false.
    pub extended: bool,
    /// What happens to documents that exist. Default: they are replaced.
    pub on_duplicate: OnDuplicate,
    /// A name for this import. Its progress is then stored with each transaction, and an import of
    /// the same name and input goes on where it stopped. Default: none.
    pub resume: Option<String>,
    /// Documents that are refused are written here, one JSON object a line, with line number and
    /// reason. Default: nowhere.
    pub errors: Option<PathBuf>,
    /// The import stops at so many refused documents. Default: 1000.
    pub errors_max: u64,
    /// An empty collection is filled by [`crate::Store::load`], which is fastest, all or nothing, and
    /// keeps others from writing; not together with `resume`. Default: true.
    pub bulk: bool,
    /// Threads that parse. Default: one per core.
    pub threads: usize,
}

impl Default for ImportOptions {
    fn default() -> Self {
        Self {
            format: Format::Json,
            extended: false,
            on_duplicate: OnDuplicate::Replace,
            resume: None,
            errors: None,
            errors_max: 1000,
            bulk: true,
            threads: std::thread::available_parallelism().map_or(1, usize::from),
        }
    }
}

/// How an export is done.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct ExportOptions {
    /// The form of the output. Default: JSON lines.
    pub format: Format,
    /// Numbers are written as MongoDB's canonical extended JSON, which keeps their types. Default:
    /// false.
    pub extended: bool,
    /// Columns of a CSV file, as field paths. Default: all there are, which takes a second pass.
    pub fields: Vec<String>,
}

/// How far an import or export is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TransferProgress {
    /// Bytes read or written.
    pub bytes: u64,
    /// Documents done.
    pub documents: u64,
}

/// What can go wrong with an import or export as a whole.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TransferError {
    /// The columns of a CSV file would be too many. Act: the caller names those to export.
    #[error("the documents have more than {limit} different fields: name those to export")]
    TooManyColumns {
        /// The limit.
        limit: usize,
    },
    /// Too many documents were refused. Act: the caller looks at them.
    #[error("{count} documents were refused; the first in line {line}: {reason}")]
    TooManyErrors {
        /// How many.
        count: u64,
        /// The line of the first.
        line: u64,
        /// Why it was refused.
        reason: String,
    },
    /// The input is not of the form that was named. Act: the caller.
    #[error("line {line}: {reason}")]
    Unreadable {
        /// Where.
        line: u64,
        /// What is wrong.
        reason: String,
    },
}
