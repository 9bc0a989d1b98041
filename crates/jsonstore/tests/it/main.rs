//! Integration tests: one binary, through public items only.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod api;
mod bad_input;
mod chain;
mod fuzzing;
mod isolation;
mod kill;
mod rot;
mod simulation;
mod small_worlds;
