//! The public API from outside.

mod diagnostics;
mod layers;
mod properties;
mod reports;
#[cfg(feature = "yaml")]
mod yaml;
