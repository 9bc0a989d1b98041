//! All tests of `main.rs` over io_uring, and those that are about it alone. Needs Linux 6.1 that allows it.
#![cfg(target_os = "linux")]

mod bind;
mod counting;
mod descriptors;
mod drain;
#[cfg(feature = "testing")]
mod flood;
mod limits;
mod mutual;
mod ring;
mod serve;
mod support;
mod syscalls;
mod tls;
mod trust;
mod workers;

pub(crate) const IO: hearth_net::Io = hearth_net::Io::IoUring;
