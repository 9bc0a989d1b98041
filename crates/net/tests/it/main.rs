//! The crate through its public items, over real sockets.

mod bind;
mod counting;
mod descriptors;
mod drain;
#[cfg(feature = "testing")]
mod flood;
mod limits;
mod mutual;
mod serve;
mod support;
mod syscalls;
mod tls;
mod trust;
mod workers;
