//! What a machine behind a router needs to serve the public internet.
//!
//! Not here: certificates (`tls-acme`), listeners (`net`), the commands of the operator (`server`).
#![forbid(unsafe_code)]

pub mod port_owner;

#[doc = include_str!("../README.md")]
#[cfg(doctest)]
struct ReadmeDoctests;
