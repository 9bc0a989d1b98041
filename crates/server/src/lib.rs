//! The `hearth` binary as a library: command line, configuration, and what puts the crates together.
//!
//! Everything that knows a protocol or makes a decision about a request lives in another crate; here
//! a configuration is checked ([`plan`]), turned into a running server ([`assemble`]), and told to
//! people.
#![forbid(unsafe_code)]

pub mod assemble;
mod banner;
pub mod certificates;
pub mod cli;
pub mod codes;
pub mod config;
pub mod doctor;
pub mod outside;
pub mod plan;
pub mod reference;
mod signals;
pub mod state;
pub mod status;
mod system;
pub mod up;

#[doc = include_str!("../README.md")]
#[cfg(doctest)]
struct ReadmeDoctests;
