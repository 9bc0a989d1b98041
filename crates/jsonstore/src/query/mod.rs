//! The query language, without any store: JB1 bytes and JSON values go in, answers come out.
//!
//! - `path`, `order`: what a dotted path reaches, and how values compare
//! - `filter`: which documents an operation means
//! - `jsonpath`: RFC 9535
//! - `aggregate`: what is computed from many
//! - `expression`, `projection`: what is computed from a document, and what comes back of it
//! - `sort`: in which order they come
//! - `update`: what happens to one

mod aggregate;
mod expression;
mod filter;
mod jsonpath;
mod order;
mod path;
mod projection;
#[cfg(feature = "schema")]
mod schema;
mod sort;
mod template;
mod time;
mod update;

#[cfg(any(test, feature = "testing"))]
pub(crate) use self::update::{Patch, merge_patched};
pub use self::{
    aggregate::Pipeline, filter::Filter, jsonpath::JsonPath, projection::Projection, sort::Sort,
    template::Param, update::Update,
};
pub(crate) use self::{
    aggregate::{Context, Join, Rows},
    filter::{ElemMatch, Expr, Operand, Test},
    order::Bracket,
    path::{Path, Step},
    template::{Comparing, Comparison, Slot, Template},
    time::rfc3339,
    update::{apply, new_document, with_first_member},
};

/// JB1 as a `serde_json` value; `None` if the bytes are damaged or a number is beyond f64.
pub(crate) fn to_value(value: &[u8]) -> Option<serde_json::Value> {
    let mut text = Vec::new();
    crate::jb1::print(value, &mut text).ok()?;
    serde_json::from_slice(&text).ok()
}
