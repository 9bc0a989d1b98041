//! Integration tests: one binary, through public items only.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod advice;
mod aggregate;
mod api;
mod backup;
mod bad_input;
mod cancel;
mod chain;
mod expiry;
mod filters;
mod find;
mod fuzzing;
mod guard;
mod index;
mod isolation;
mod jsonpath;
mod kill;
mod live;
mod modify;
mod observe;
mod order;
mod patches;
mod planner;
mod prepared;
mod projections;
mod queries;
#[cfg(hearth_bug = "race")]
mod race;
mod registers;
mod rot;
mod schema;
#[cfg(all(feature = "cli", unix))]
mod shell;
mod simulation;
mod small_worlds;
mod suites;
mod text;
mod transfer;
mod updates;
