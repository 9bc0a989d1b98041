//! The whole system, end to end.
#![allow(missing_docs)]

mod attacks;
mod browsers;
mod conformance;
mod examples;
mod handlers;
mod lab;
mod limits;
mod restart;
mod rust_docs;
mod servers;
mod tls;
