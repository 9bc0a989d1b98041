//! TLS-ALPN-01: a certificate that only the authority sees (RFC 8737).

use std::{collections::HashMap, fmt, sync::Arc};

use arc_swap::ArcSwap;
use rcgen::{CertificateParams, CustomExtension, DistinguishedName, KeyPair};
use rustls::{
    crypto::aws_lc_rs,
    pki_types::PrivateKeyDer,
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};

use crate::name::Name;

/// The protocol that authorities name. A TLS configuration must offer it, after all others, for
/// TLS-ALPN-01 to work.
pub const ACME_TLS_ALPN: &[u8] = b"acme-tls/1";

/// The challenge certificates of this moment; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct TlsAlpn01 {
    /// By the server name that the authority sends.
    pending: Arc<ArcSwap<HashMap<String, Arc<CertifiedKey>>>>,
}

/// Gives challenge certificates to authorities, and to everybody else what `inner` has.
///
/// Only a client that offers exactly `acme-tls/1`, and nothing else, gets a challenge certificate, and
/// it never gets another one (RFC 8737 §3).
pub struct AcmeResolver {
    challenges: TlsAlpn01,
    inner: Arc<dyn ResolvesServerCert>,
}

impl TlsAlpn01 {
    /// No challenges.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    pub(crate) fn present(&self, name: &Name, digest: &[u8]) -> Result<(), rcgen::Error> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(vec![name.to_string()])?;
        params.distinguished_name = DistinguishedName::new();
        params.custom_extensions = vec![CustomExtension::new_acme_identifier(digest)];
        let certificate = params.self_signed(&key)?;
        let key = PrivateKeyDer::try_from(key.serialize_der())
            .map_err(|_| rcgen::Error::CouldNotParseKeyPair)?;
        let signer = aws_lc_rs::sign::any_supported_type(&key)
            .map_err(|_| rcgen::Error::CouldNotParseKeyPair)?;
        let certified = Arc::new(CertifiedKey::new(vec![certificate.der().clone()], signer));
        self.pending.rcu(|pending| {
            let mut pending = HashMap::clone(pending);
            pending.insert(server_name(name), certified.clone());
            pending
        });
        Ok(())
    }

    pub(crate) fn remove(&self, name: &Name) {
        self.pending.rcu(|pending| {
            let mut pending = HashMap::clone(pending);
            pending.remove(&server_name(name));
            pending
        });
    }

    fn find(&self, server_name: Option<&str>) -> Option<Arc<CertifiedKey>> {
        let name = server_name?.to_ascii_lowercase();
        self.pending.load().get(name.trim_end_matches('.')).cloned()
    }
}

impl AcmeResolver {
    /// Stands before `inner`.
    #[must_use]
    pub fn new(challenges: TlsAlpn01, inner: Arc<dyn ResolvesServerCert>) -> Self {
        Self { challenges, inner }
    }
}

impl ResolvesServerCert for AcmeResolver {
    fn resolve(&self, client_hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let mut offered = client_hello.alpn().into_iter().flatten();
        match (offered.next(), offered.next()) {
            (Some(ACME_TLS_ALPN), None) => self.challenges.find(client_hello.server_name()),
            _ => self.inner.resolve(client_hello),
        }
    }
}

impl fmt::Debug for AcmeResolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AcmeResolver").field("challenges", &self.challenges).finish_non_exhaustive()
    }
}

/// What the authority sends as server name: for addresses their name in reverse (RFC 8738 §6).
fn server_name(name: &Name) -> String {
    use std::net::IpAddr;
    match name.ip() {
        None => name.domain().unwrap_or_default().to_owned(),
        Some(IpAddr::V4(ip)) => {
            let [a, b, c, d] = ip.octets();
            format!("{d}.{c}.{b}.{a}.in-addr.arpa")
        }
        Some(IpAddr::V6(ip)) => {
            let digits = ip.octets().into_iter().rev().flat_map(|byte| [byte & 15, byte >> 4]);
            let labels: Vec<String> = digits.map(|digit| format!("{digit:x}")).collect();
            format!("{}.ip6.arpa", labels.join("."))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_addresses_in_reverse() {
        let rows = [
            ("a.test", "a.test"),
            ("192.0.2.1", "1.2.0.192.in-addr.arpa"),
            (
                "2001:db8::1",
                "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa",
            ),
        ];
        for (name, want) in rows {
            let name: Name = name.parse().expect("a name");
            assert_eq!(server_name(&name), want);
            let challenges = TlsAlpn01::new();
            challenges.present(&name, &[7; 32]).expect("made");
            assert!(challenges.find(Some(&want.to_uppercase())).is_some());
            assert!(
                challenges.find(Some("other.test")).is_none() && challenges.find(None).is_none()
            );
            challenges.remove(&name);
            assert!(challenges.find(Some(want)).is_none());
        }
    }
}
