//! Which certificate is wanted.

use crate::{challenge::ChallengeKind, name::Name};

/// A certificate that is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct CertRequest {
    /// What it is for; never empty, without duplicates.
    pub names: Vec<Name>,
    /// How the authority is shown that they are ours. Default: what can be done here, another way after
    /// each failure.
    pub challenge: Option<ChallengeKind>,
    /// The profile to order. Default: the authority's.
    pub profile: Option<String>,
    /// The kind of key. Default ECDSA on P-256.
    pub key: KeyKind,
    /// The only authority to ask, by name. Default: all, in order.
    pub authority: Option<String>,
}

/// A kind of key.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum KeyKind {
    /// ECDSA on P-256.
    #[default]
    P256,
    /// ECDSA on P-384.
    P384,
    /// RSA of 2048 bits, for clients older than 2015.
    Rsa2048,
}

/// A request without names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a certificate must be for at least one name")]
pub struct NoNames;

impl CertRequest {
    /// A certificate for these names. It is stored by the first.
    ///
    /// # Errors
    /// [`NoNames`].
    pub fn new(names: impl IntoIterator<Item = Name>) -> Result<Self, NoNames> {
        let mut distinct = Vec::new();
        for name in names {
            if !distinct.contains(&name) {
                distinct.push(name);
            }
        }
        if distinct.is_empty() {
            return Err(NoNames);
        }
        Ok(Self {
            names: distinct,
            challenge: None,
            profile: None,
            key: KeyKind::P256,
            authority: None,
        })
    }

    /// By what it is stored.
    #[must_use]
    pub fn id(&self) -> String {
        self.names.first().map(Name::as_id).unwrap_or_default()
    }

    /// Whether a certificate with these names is the one that is wanted.
    pub(crate) fn is_for(&self, names: &[Name]) -> bool {
        names.len() == self.names.len() && self.names.iter().all(|name| names.contains(name))
    }
}

impl KeyKind {
    pub(crate) fn generate(self) -> Result<rcgen::KeyPair, rcgen::Error> {
        match self {
            Self::P256 => rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256),
            Self::P384 => rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384),
            Self::Rsa2048 => {
                rcgen::KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048)
            }
        }
    }
}
