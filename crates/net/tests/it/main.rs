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

/// `uring.rs` is the same tests over the other driver.
pub(crate) const IO: hearth_net::Io = hearth_net::Io::Epoll;
