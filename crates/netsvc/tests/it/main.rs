//! Port mappings, addresses, names and reachability, through the public interface.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod address;
mod bind;
mod ddns;
mod dns;
mod fake;
mod keeper;
#[cfg(target_os = "linux")]
mod miniupnpd;
mod parsers;
mod reach;
mod routers;
#[cfg(target_os = "linux")]
mod world;
