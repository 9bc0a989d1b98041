//! What can be wrong with a text index or a search.

/// Why a text index or a search was refused. Act: the caller.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TextError {
    /// An index of this name exists, with other settings.
    #[error("a text index named {name} exists with other settings")]
    IndexExists {
        /// Its name.
        name: String,
    },
    /// The settings of an index make no sense.
    #[error("invalid text index: {reason}")]
    InvalidIndex {
        /// Why not.
        reason: &'static str,
    },
    /// A query cannot be understood.
    #[error("invalid search: {reason}")]
    InvalidQuery {
        /// Why not.
        reason: &'static str,
    },
    /// Phrases need positions, and the index keeps none.
    #[error("the text index {name} keeps no positions, so it cannot find phrases")]
    NoPositions {
        /// The index.
        name: String,
    },
    /// The collection has no such text index, or several and none was named.
    #[error("the collection has no text index {name}")]
    NoSuchIndex {
        /// What was asked for.
        name: String,
    },
    /// The index is still being built.
    #[error("the text index {name} is still being built")]
    NotReady {
        /// The index.
        name: String,
    },
    /// The query text is too long.
    #[error("a search has at most {limit} bytes")]
    QueryTooLong {
        /// The limit.
        limit: usize,
    },
    /// The query has too many parts, or too deep ones.
    #[error("a search has at most {limit} clauses")]
    TooManyClauses {
        /// The limit.
        limit: usize,
    },
    /// A prefix begins more terms than a search may follow.
    #[error("the prefix {prefix} begins more than {limit} terms")]
    TooManyTerms {
        /// The prefix.
        prefix: String,
        /// The limit.
        limit: usize,
    },
    /// A query names a field that the index does not cover.
    #[error("the text index does not cover the field {field}")]
    UnknownField {
        /// The field.
        field: String,
    },
}
