//! The public API from outside.

mod diagnostics;
