//! Generators and oracles for fuzzing and property tests. Outside semver.
//!
//! The bytes of a fuzzer become what a client says first; a handshake takes it in without a socket.

mod hello;
mod oracle;

pub use self::{
    hello::{ClientHello, extension, record},
    oracle::client_hello,
};
