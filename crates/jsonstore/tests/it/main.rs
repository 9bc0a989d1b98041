//! Integration tests: one binary, through public items only.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod api;
mod simulation;
mod small_worlds;
