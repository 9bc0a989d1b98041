//! The public API, through public items only.
#![allow(clippy::unwrap_used)] // Helpers of tests are not in `#[test]` functions themselves.

mod errors;
mod explain;
mod matching;
mod path_tree;
mod router;
mod support;
