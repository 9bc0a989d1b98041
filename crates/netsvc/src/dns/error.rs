//! Why a question to the DNS got no answer.

use std::{io, net::SocketAddr};

use super::{MessageError, Name, Rcode, TsigError};

/// A question without an answer. That a name or record does not exist is an answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DnsError {
    /// Aliases lead in a circle, or through more than a few steps. Who runs the zone must act.
    #[error("aliases of {name} lead nowhere")]
    AliasLoop {
        /// Where they began.
        name: Name,
    },
    /// The socket failed: no route, or nobody listens.
    #[error("name server {server} cannot be reached")]
    Io {
        /// Who was asked.
        server: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// The answer is no DNS message.
    #[error("name server {server} sent no proper message")]
    Malformed {
        /// Who answered.
        server: SocketAddr,
        /// What is wrong.
        source: MessageError,
    },
    /// Nobody is in charge of the name, as far as can be seen: is it registered?
    #[error("no zone holds {name}")]
    NoAuthority {
        /// The name.
        name: Name,
    },
    /// No resolver is known on this machine. Who configures it must act.
    #[error("no resolver is configured")]
    NoResolver,
    /// The server refused, or failed.
    #[error("name server {server} answers {rcode} for {name}")]
    Rcode {
        /// Who answered.
        server: SocketAddr,
        /// What about.
        name: Name,
        /// How.
        rcode: Rcode,
    },
    /// The answer to a signed message is not signed as it should be.
    #[error("name server {server} does not share our key or time")]
    Signature {
        /// Who answered.
        server: SocketAddr,
        /// What is wrong.
        source: TsigError,
    },
    /// No answer came in time.
    #[error("name server {server} does not answer")]
    Timeout {
        /// Who was asked.
        server: SocketAddr,
    },
    /// The answer is a proper message, but no answer to what was asked.
    #[error("name server {server} answers something else: {what}")]
    Unexpected {
        /// Who answered.
        server: SocketAddr,
        /// What is wrong.
        what: &'static str,
    },
}

impl DnsError {
    pub(crate) fn message(server: SocketAddr, source: MessageError) -> Self {
        Self::Malformed { server, source }
    }
}
