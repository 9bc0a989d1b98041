//! TLS: certificates, configuration, handshake, encrypted transport.

mod buffer;
mod certificate;
mod config;
mod handshake;
mod resolver;
mod session;
mod store;
mod transport;
mod x509;

#[cfg(test)]
#[path = "../../tests/it/counting.rs"]
mod counting;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
#[cfg(test)]
#[path = "../../tests/it/trust.rs"]
mod trust;

pub(crate) use self::handshake::Handshake;
pub use self::{
    certificate::{CertError, Certificate},
    config::{ChooseConfig, Tickets, TlsConfig, TlsConfigBuilder, TlsError},
    handshake::HandshakeError,
    store::{CertMap, CertStore},
    transport::TlsTransport,
};
