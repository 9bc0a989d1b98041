//! The query language, without any store: JB1 bytes and JSON values go in, answers come out.
//!
//! - `path`, `order`: what a dotted path reaches, and how values compare
//! - `filter`: which documents an operation means
//! - `sort`: in which order they come

mod filter;
mod order;
mod path;
mod sort;

pub use self::{filter::Filter, sort::Sort};
pub(crate) use self::{
    filter::{ElemMatch, Expr, Operand, Regex, Test, TextQuery, TypeSet},
    order::{Bracket, bracket, compare},
    path::{Path, Step},
    sort::SortField,
};
