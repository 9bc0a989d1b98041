//! What a machine behind a router needs to serve the public internet.
//!
//! Not here: certificates (`tls-acme`), listeners (`net`), the commands of the operator (`server`).
#![forbid(unsafe_code)]

pub mod address;
pub mod ddns;
pub mod dns;
pub mod gateway;
#[cfg(target_os = "linux")]
mod netlink;
pub mod port_owner;
pub mod portmap;
mod random;
pub mod reach;
pub mod second_hop;
pub mod sntp;
#[cfg(feature = "testing")]
pub mod testing;

#[doc = include_str!("../README.md")]
#[cfg(doctest)]
struct ReadmeDoctests;
