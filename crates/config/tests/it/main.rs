//! The public API from outside.

mod diagnostics;
mod layers;
mod properties;
mod reports;
mod syntax;
#[cfg(feature = "yaml")]
mod yaml;
