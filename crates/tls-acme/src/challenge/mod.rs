//! How an authority is shown that a name is ours.

mod dns01;
mod hook;
mod http01;
mod tls_alpn01;

use std::{fmt, str::FromStr, sync::Arc};

use instant_acme::ChallengeType;
use serde::{Deserialize, Serialize};

pub use self::{
    dns01::{DnsSolver, SolverError, SolverFuture},
    hook::HookSolver,
    http01::Http01,
    tls_alpn01::{ACME_TLS_ALPN, AcmeResolver, TlsAlpn01},
};

pub(crate) use self::http01::is_token;

/// A kind of challenge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum ChallengeKind {
    /// A file by HTTP on port 80 (RFC 8555 §8.3).
    #[serde(rename = "http-01")]
    Http01,
    /// A certificate by TLS on port 443 (RFC 8737).
    #[serde(rename = "tls-alpn-01")]
    TlsAlpn01,
    /// A TXT record (RFC 8555 §8.4). The only one for wildcards.
    #[serde(rename = "dns-01")]
    Dns01,
}

/// The challenges that can be solved here, best first.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Challenges {
    /// Whether every listener on port 80 asks [`Http01`]. Default false.
    pub http01: bool,
    /// Whether listeners on port 443 use [`AcmeResolver`]. Default false.
    pub tls_alpn01: bool,
    /// Who sets TXT records. Default nobody.
    pub dns01: Option<Arc<dyn DnsSolver>>,
}

impl Challenges {
    /// The kinds that can be used for a name.
    pub(crate) fn kinds(&self, is_wildcard: bool, is_ip: bool) -> Vec<ChallengeKind> {
        let mut kinds = Vec::new();
        if self.http01 && !is_wildcard {
            kinds.push(ChallengeKind::Http01);
        }
        if self.tls_alpn01 && !is_wildcard {
            kinds.push(ChallengeKind::TlsAlpn01);
        }
        // RFC 8738 §7: never for addresses.
        if self.dns01.is_some() && !is_ip {
            kinds.push(ChallengeKind::Dns01);
        }
        kinds
    }
}

impl ChallengeKind {
    /// As it is written.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http01 => "http-01",
            Self::TlsAlpn01 => "tls-alpn-01",
            Self::Dns01 => "dns-01",
        }
    }

    pub(crate) fn acme(self) -> ChallengeType {
        match self {
            Self::Http01 => ChallengeType::Http01,
            Self::TlsAlpn01 => ChallengeType::TlsAlpn01,
            Self::Dns01 => ChallengeType::Dns01,
        }
    }
}

impl fmt::Display for ChallengeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// This is no kind of challenge that is known here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is none of http-01, tls-alpn-01 and dns-01")]
pub struct UnknownChallenge(pub String);

impl FromStr for ChallengeKind {
    type Err = UnknownChallenge;

    fn from_str(text: &str) -> Result<Self, UnknownChallenge> {
        match text {
            "http-01" => Ok(Self::Http01),
            "tls-alpn-01" => Ok(Self::TlsAlpn01),
            "dns-01" => Ok(Self::Dns01),
            other => Err(UnknownChallenge(other.to_owned())),
        }
    }
}
