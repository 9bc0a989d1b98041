//! Documents, going in and coming out.

use bytes::Bytes;
use serde_json::Value;

use crate::{
    error::{DocumentError, Result},
    jb1,
    key::Id,
};

/// A document to store: JSON text or a `serde_json` value.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum Input<'a> {
    /// JSON text.
    Text(&'a [u8]),
    /// A value.
    Value(&'a Value),
    /// Parsed already, by an import.
    #[doc(hidden)]
    Parsed(Parsed<'a>),
}

/// A document in its stored form. Only this crate makes them.
#[doc(hidden)]
#[derive(Debug, Clone, Copy)]
pub struct Parsed<'a>(pub(crate) &'a [u8]);

impl Input<'_> {
    /// The stored form and the id; a document without `_id` gets `fresh`.
    pub(crate) fn prepare(
        self,
        limits: &jb1::Limits,
        fresh: impl FnOnce() -> String,
    ) -> Result<(Id, Vec<u8>)> {
        let bytes = match self {
            Self::Text(text) => jb1::parse(text, limits)?,
            Self::Value(value) => jb1::from_value(value, limits)?,
            Self::Parsed(Parsed(bytes)) => bytes.to_vec(),
        };
        if jb1::kind(&bytes) != Some(jb1::Kind::Object) {
            return Err(DocumentError::NotAnObject.into());
        }
        if let Some(id) = jb1::get(&bytes, b"_id") {
            return Ok((Id::from_jb1(id)?, bytes));
        }
        let id = jb1::from_value(&Value::String(fresh()), limits)?;
        let bytes = jb1::with_first_member(&bytes, b"_id", &id)?;
        Ok((Id::from_jb1(&id)?, bytes))
    }
}

impl<'a> From<&'a str> for Input<'a> {
    fn from(text: &'a str) -> Self {
        Self::Text(text.as_bytes())
    }
}

impl<'a> From<&'a String> for Input<'a> {
    fn from(text: &'a String) -> Self {
        Self::Text(text.as_bytes())
    }
}

impl<'a> From<&'a [u8]> for Input<'a> {
    fn from(text: &'a [u8]) -> Self {
        Self::Text(text)
    }
}

impl<'a> From<&'a Vec<u8>> for Input<'a> {
    fn from(text: &'a Vec<u8>) -> Self {
        Self::Text(text)
    }
}

impl<'a> From<&'a Value> for Input<'a> {
    fn from(value: &'a Value) -> Self {
        Self::Value(value)
    }
}

/// A stored document: its JSON text and the version it is of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    pub(crate) rev: u64,
    pub(crate) json: Bytes,
}

impl Document {
    /// The version: it changes with every write of the document, and never comes back. 0 if an index
    /// alone gave the fields of a projection; no document has that version.
    pub fn rev(&self) -> u64 {
        self.rev
    }

    /// The JSON text, compact.
    pub fn json(&self) -> &str {
        std::str::from_utf8(&self.json).expect("documents were checked to be UTF-8 when stored")
    }

    /// The JSON text as shared bytes.
    pub fn into_bytes(self) -> Bytes {
        self.json
    }

    /// The JSON text as bytes of one's own; nothing is copied unless the cache has it, too.
    pub fn into_vec(self) -> Vec<u8> {
        self.json.into()
    }

    /// The document as a value. Numbers beyond 64 bits become floats.
    pub fn value(&self) -> Value {
        serde_json::from_slice(&self.json).unwrap_or(Value::Null)
    }
}
