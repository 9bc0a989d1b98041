//! What can go wrong, and who must act.

use std::{fmt, io, path::PathBuf, sync::Arc};

/// Every failure of the store. Variants are closed because callers act on them.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Something about backups. Act: see the variant.
    #[error(transparent)]
    Backup(#[from] crate::backup::BackupError),
    /// There is too much to do. Act: the caller comes again after a while.
    #[error("too many {what} at the moment")]
    Busy {
        /// What there is too much of.
        what: &'static str,
        /// When it is worth trying again.
        retry_after: std::time::Duration,
    },
    /// The store was closed while the operation waited. Act: the caller.
    #[error("the store is closed")]
    Closed,
    /// Another transaction changed what this one read or wants to write. Act: retry.
    #[error("a concurrent transaction committed a conflicting change")]
    Conflict,
    /// Acknowledged bytes are damaged. Act: the operator restores a backup, or opens to salvage.
    #[error("{file} is damaged at byte {offset}: {detail}")]
    Corruption {
        /// The damaged file, relative to the store.
        file: String,
        /// Where the damage begins.
        offset: u64,
        /// What was found there.
        detail: String,
        /// Log positions that are lost, when the damage is in the log.
        lost_lsn_range: Option<(u64, u64)>,
    },
    /// Transactions waited for each other in a ring; this one was chosen to give way. Act: retry.
    #[error("deadlock: {}", describe_cycle(.cycle))]
    Deadlock {
        /// The ring: each transaction waits for the lock beside it, which the next one holds.
        cycle: Vec<CycleEdge>,
    },
    /// Less free space is left than the store keeps in reserve. Act: the operator frees space.
    #[error("the disk is full: {free} bytes are free, {reserve} are kept in reserve")]
    DiskFull {
        /// Free bytes seen.
        free: u64,
        /// Bytes the store keeps for itself.
        reserve: u64,
    },
    /// A document breaks a rule. Act: the caller.
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// A document with this id exists already. Act: the caller.
    #[error("a document with the id {id} exists already")]
    DuplicateId {
        /// The id as JSON text.
        id: String,
    },
    /// Another document has this key in a unique index. Act: the caller.
    #[error("the unique index {index} holds {key} already")]
    DuplicateKey {
        /// The index.
        index: String,
        /// The indexed values as JSON text.
        key: String,
    },
    /// The directory belongs to something else. Act: the operator names another directory.
    #[error("{path} is not a store: it holds {found} but no CURRENT file")]
    ForeignDirectory {
        /// The directory.
        path: PathBuf,
        /// A file found there.
        found: String,
    },
    /// A filter, sort, projection or pipeline is not one. Act: the caller.
    #[error("invalid query at {path:?}: {reason}")]
    InvalidFilter {
        /// Where in the query: the names of fields and operators, joined by dots.
        path: String,
        /// Why not.
        reason: String,
    },
    /// No index of the collection has this name. Act: the caller.
    #[error("there is no index {index}")]
    IndexAbsent {
        /// The name.
        index: String,
    },
    /// Another definition has this name already. Act: the caller drops that one, or names this one.
    #[error("there is another index {index} already")]
    IndexExists {
        /// The name.
        index: String,
    },
    /// Documents that exist already have the same key, so the index cannot be unique. Act: the
    /// caller changes them.
    #[error("the index {index} cannot be unique: {key} is the key of the documents {}", .ids.join(", "))]
    IndexNotUnique {
        /// The index.
        index: String,
        /// The indexed values as JSON text.
        key: String,
        /// The ids as JSON text, or the first of them.
        ids: Vec<String>,
    },
    /// The definition of an index makes no sense. Act: the caller.
    #[error("the index {index} cannot be: {reason}")]
    InvalidIndex {
        /// The index.
        index: String,
        /// Why not.
        reason: String,
    },
    /// A name of a collection is not allowed. Act: the caller.
    #[error("invalid collection name: 1 to 64 bytes of a-z, 0-9, _ and - are allowed")]
    InvalidName,
    /// A JSON Schema makes no sense. Act: the caller.
    #[error("invalid schema: {reason}")]
    InvalidSchema {
        /// Why.
        reason: String,
    },
    /// An update expression cannot be applied. Act: the caller.
    #[error("invalid update of {path}: {reason}")]
    InvalidUpdate {
        /// The field path.
        path: String,
        /// Why not.
        reason: &'static str,
    },
    /// The operating system refused an operation. Act: the operator.
    #[error("{op} {path}")]
    Io {
        /// What was tried.
        op: &'static str,
        /// The file.
        path: PathBuf,
        /// The refusal.
        #[source]
        source: Arc<io::Error>,
    },
    /// A lock was not granted in time. Act: retry or give up.
    #[error("the lock on {lock} was not granted in time")]
    LockTimeout {
        /// The lock.
        lock: String,
    },
    /// Another process has the store open. Act: the operator.
    #[error("{path} is in use by another process")]
    Locked {
        /// The store.
        path: PathBuf,
    },
    /// Writing to the log failed, so what is on disk is unknown. Act: reopen, which reads it again.
    #[error("the store stopped accepting writes after a failed write to its log: {cause}")]
    Poisoned {
        /// The first failure.
        cause: String,
    },
    /// A step of a migration refuses a document. Act: the caller changes the document or the step.
    #[error("document {id} cannot be brought to version {to}: {reason}")]
    Migration {
        /// The id as JSON text.
        id: String,
        /// The version it should have got.
        to: u64,
        /// Why not.
        reason: String,
    },
    /// Another migration was cut short. Act: the caller ends that one first.
    #[error("a migration from version {from} to {to} was cut short and has to be ended first")]
    MigrationUnderWay {
        /// The version it came from.
        from: u64,
        /// The version it was going to.
        to: u64,
    },
    /// A query reached a limit that was set for it. Act: the caller asks for less, or allows more.
    #[error("the query reached its limit of {limit} {what}")]
    QueryLimit {
        /// What there was too much of.
        what: &'static str,
        /// How much is allowed.
        limit: u64,
    },
    /// The changes behind a position are not all kept any more. Act: the caller begins anew.
    #[error("changes up to {oldest} are no longer kept")]
    Lagged {
        /// The oldest position to go on from.
        oldest: u64,
    },
    /// The store was opened for reading only. Act: the caller.
    #[error("the store is read-only")]
    ReadOnly,
    /// A document breaks the schema of its collection. Act: the caller.
    #[error("document {id} breaks the schema: {}", .problems.join("; "))]
    SchemaViolation {
        /// The id as JSON text.
        id: String,
        /// What is wrong, each with its place.
        problems: Vec<String>,
    },
    /// A snapshot was held longer than allowed. Act: begin again.
    #[error("the snapshot is too old")]
    SnapshotTooOld,
    /// The `test` of a JSON Patch does not hold. Act: the caller reads again and decides.
    #[error("the test of the patch at {pointer:?} does not hold")]
    TestFailed {
        /// What was tested.
        pointer: String,
    },
    /// A text index or a search makes no sense. Act: the caller.
    #[error(transparent)]
    Text(#[from] crate::text::TextError),
    /// A transaction holds more than one log file can. Act: split it.
    #[error("the transaction holds {bytes} bytes, {limit} are allowed")]
    TransactionTooLarge {
        /// Its size.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// An index cannot hold a document. Act: the caller changes the document or drops the index.
    #[error("the index {index} cannot hold the document {id}: {reason}")]
    Unindexable {
        /// The index.
        index: String,
        /// The id as JSON text.
        id: String,
        /// Why not.
        reason: Unindexable,
    },
    /// Something about an import or export. Act: see the variant.
    #[error(transparent)]
    Transfer(#[from] crate::transfer::TransferError),
    /// There is no such version of the documents. Act: the operator uses a program that knows it.
    #[error("the documents are of version {found}, or should be; the program knows up to {newest}")]
    UnknownVersion {
        /// The version.
        found: u64,
        /// The newest that is known.
        newest: u64,
    },
    /// The file was written by a newer version. Act: the operator upgrades the program.
    #[error("{file} has format version {found}; this program knows up to {known}")]
    UnknownFormat {
        /// The file.
        file: String,
        /// Version found.
        found: u32,
        /// Newest version known.
        known: u32,
    },
    /// The key does not open this store. Act: the operator.
    #[error("{0}")]
    WrongKey(&'static str),
}

/// One transaction of a deadlock: it waits for `lock` in `mode`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CycleEdge {
    /// The waiting transaction.
    pub transaction: u64,
    /// What it waits for.
    pub lock: String,
    /// In which mode.
    pub mode: &'static str,
}

/// Why a document was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DocumentError {
    /// Nested deeper than the limit.
    #[error("nested deeper than {limit} levels")]
    TooDeep {
        /// The limit.
        limit: usize,
    },
    /// Larger than the limit.
    #[error("larger than {limit} bytes")]
    TooLarge {
        /// The limit.
        limit: usize,
    },
    /// An object names a member twice.
    #[error("the member {name} occurs twice")]
    DuplicateMember {
        /// The member.
        name: String,
    },
    /// The text is not UTF-8.
    #[error("not UTF-8 at byte {offset}")]
    InvalidUtf8 {
        /// Where.
        offset: usize,
    },
    /// The text is not JSON.
    #[error("not JSON at byte {offset}: {reason}")]
    Syntax {
        /// Where.
        offset: usize,
        /// What was expected.
        reason: &'static str,
    },
    /// The outermost value is not an object.
    #[error("a document is a JSON object")]
    NotAnObject,
    /// The `_id` cannot be a key.
    #[error(
        "an _id is a string, a boolean, a finite number, or an array of these, up to 1024 bytes"
    )]
    InvalidId,
    /// The `_id` inside differs from the one addressed, or an update touches it.
    #[error("the _id of a document cannot change")]
    IdChanged,
    /// The stored bytes are not a document; only damage or a bug can cause this.
    #[error("the stored bytes are not a document")]
    Malformed,
}

/// Why an index cannot hold a document.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unindexable {
    /// The stored bytes are not a document; only damage or a bug can cause this.
    #[error("the stored bytes are not a document")]
    Malformed,
    /// Two of its fields are arrays, or go through arrays.
    #[error("both {first} and {second} are, or lie in, arrays; one field of an index may")]
    ParallelArrays {
        /// One of the fields.
        first: String,
        /// The other.
        second: String,
    },
    /// An array has more elements than an index takes from one document.
    #[error("it would have more than {limit} entries")]
    TooManyEntries {
        /// The limit.
        limit: usize,
    },
    /// A value is too large for a key. A hash index takes it.
    #[error("the value of {path} takes more than {limit} bytes")]
    ValueTooLarge {
        /// The field.
        path: String,
        /// The limit.
        limit: usize,
    },
}

impl Error {
    /// True if running the same transaction again may succeed.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Conflict | Self::Deadlock { .. })
    }

    pub(crate) fn io(op: &'static str, path: impl Into<PathBuf>, source: io::Error) -> Self {
        Self::Io { op, path: path.into(), source: Arc::new(source) }
    }

    pub(crate) fn corrupt(file: impl fmt::Display, offset: u64, detail: impl Into<String>) -> Self {
        Self::Corruption {
            file: file.to_string(),
            offset,
            detail: detail.into(),
            lost_lsn_range: None,
        }
    }
}

fn describe_cycle(cycle: &[CycleEdge]) -> String {
    let mut text = String::new();
    for edge in cycle {
        let _ = fmt::Write::write_fmt(
            &mut text,
            format_args!(
                "transaction {} waits for {} ({}); ",
                edge.transaction, edge.lock, edge.mode
            ),
        );
    }
    text
}

/// The result of every operation.
pub type Result<T> = std::result::Result<T, Error>;
