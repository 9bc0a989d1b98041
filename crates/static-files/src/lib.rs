//! Serves the files of a directory.
//!
//! [`StaticFiles`] is a [`Handler`](hearth_http_core::Handler) over one root directory: validators and
//! conditional requests, ranges, precompressed siblings, cache policy, index files, a fallback for
//! single-page applications, and small files kept in memory and checked against the disk once a second.
//! Nothing outside the root is reachable.
//! Not here: compression on the fly (`hearth-middleware`), choice of a root by host or path (`hearth-router`).
//!
//! ```
//! use hearth_http_core::{Handler, Request, StatusCode};
//! use hearth_static_files::StaticFiles;
//!
//! # let root = tempfile::tempdir()?;
//! # std::fs::write(root.path().join("index.html"), "<p>hello</p>")?;
//! # let runtime = tokio::runtime::Builder::new_current_thread().build()?;
//! # runtime.block_on(async {
//! let files = StaticFiles::builder(root.path()).build()?;
//! let response = files.call(Request::get("/")?).await;
//! assert_eq!(response.status(), StatusCode::OK);
//! # Ok::<_, Box<dyn std::error::Error>>(())
//! # })?;
//! # Ok::<_, Box<dyn std::error::Error>>(())
//! ```
#![forbid(unsafe_code)]

mod builder;
mod cache;
mod clock;
mod conditional;
mod handler;
mod listing;
mod media;
mod multipart;
mod page;
mod path;
mod policy;
mod range;
mod root;

pub use crate::{
    builder::{BuildError, Builder},
    clock::ManualClock,
    handler::StaticFiles,
    root::Symlinks,
};

#[doc = include_str!("../README.md")]
#[cfg(doctest)]
struct ReadmeDoctests;
