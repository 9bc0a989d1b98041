//! `hearth up`: from a machine behind a router to public HTTPS, and what keeps it so.
//!
//! Each component does one thing and reports to the [`board`]; none waits for another except through what it reports.

pub mod board;
mod keep;

pub use self::keep::{Keep, keep};
