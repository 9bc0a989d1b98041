//! TLS: certificates, configuration, handshake, encrypted transport.

mod buffer;
mod certificate;
mod client_trust;
mod config;
mod handshake;
mod hold;
mod pace;
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

pub use self::{
    certificate::{CertError, Certificate},
    client_trust::ClientTrust,
    config::{ChooseConfig, Tickets, TlsConfig, TlsConfigBuilder, TlsError},
    handshake::HandshakeError,
    hold::{Hold, HoldHandshake},
    store::{CertMap, CertStore},
    transport::TlsTransport,
};
pub(crate) use self::{
    handshake::Handshake,
    pace::{Pacer, Turn},
};
