//! Whether the internet reaches us: only somebody outside can tell.
//!
//! Any second machine can be that somebody, with `hearth probe`: [`ProbeHandler`] takes a question, makes
//! a connection back, and says what it met. It connects to nobody but who asked, unless whoever asks
//! knows its token, and never tells what it read, so it is of no use to attack others with.
//! [`ProbeClient`] asks. The site that is looked at answers with a [`Challenge`], which shows that it
//! was really it that was reached, and not somebody else at the same address.

mod challenge;
mod client;
mod handler;
mod rate;

use std::fmt;

pub use self::{
    challenge::{Challenge, Challenges},
    client::{ProbeClient, ProbeError, look},
    handler::{ProbeHandler, ProbeOptions},
};

/// What a connection from somewhere meets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reach {
    /// Something refuses the connection: the port is forwarded, or not filtered, but nobody listens.
    Closed,
    /// It could not be found out: for example our own router does not lead us to ourselves.
    Unknown,
    /// We were reached.
    Open,
    /// Somebody else answers there: the router's own pages, or another machine.
    Other,
    /// No answer: filtered, or not forwarded.
    Silent,
    /// A connection was made, but the TLS handshake failed; usually the certificate is not trusted yet.
    Tls,
}

impl Reach {
    const ALL: [Self; 6] =
        [Self::Closed, Self::Unknown, Self::Open, Self::Other, Self::Silent, Self::Tls];

    /// The word for programs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Unknown => "unknown",
            Self::Open => "open",
            Self::Other => "other",
            Self::Silent => "silent",
            Self::Tls => "tls",
        }
    }

    fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reach| reach.as_str() == word)
    }
}

impl fmt::Display for Reach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
