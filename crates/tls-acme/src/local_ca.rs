//! Certificates of our own making: signed by themselves, or by an authority on this machine.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose,
};
use time::OffsetDateTime;

use crate::{
    name::Name,
    storage::{Storage, StorageError},
};

/// A chain and its key, as PEM.
#[derive(Clone)]
#[non_exhaustive]
pub struct PemPair {
    /// The server's certificate, then its issuers.
    pub chain_pem: String,
    /// The private key.
    pub key_pem: String,
}

/// An authority on this machine, for names that no public one issues for: `localhost`, `nas.lan`, tests.
/// Browsers trust it when its root was added to their store, see [`trust_instructions`](Self::trust_instructions).
#[derive(Debug)]
pub struct LocalCa {
    root_pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// The system a person wants to trust a [`LocalCa`] on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum TrustStore {
    /// Debian, Ubuntu and what is made of them.
    Debian,
    /// Fedora, RHEL and what is made of them.
    Fedora,
    /// Firefox, which has a list of its own, on every system.
    Firefox,
    /// macOS.
    MacOs,
    /// Windows.
    Windows,
}

/// Why no certificate could be made here.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LocalCaError {
    /// The stored authority is damaged. Remove its files, and trust the new one that is made then.
    #[error("the local authority's files are damaged: remove local-ca/ and trust the new root")]
    Damaged(#[source] rcgen::Error),
    /// A certificate could not be made.
    #[error("a certificate could not be made")]
    Make(#[from] rcgen::Error),
    /// The storage failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

const DAY: Duration = Duration::from_secs(86_400);
const ROOT_KEY: &str = "local-ca/root.key.pem";
const ROOT: &str = "local-ca/root.pem";

/// A certificate that signed itself, for 90 days: what is served until there is a better one.
///
/// # Errors
/// [`LocalCaError::Make`].
pub fn self_signed(names: &[Name], now: SystemTime) -> Result<PemPair, LocalCaError> {
    let key = KeyPair::generate()?;
    let params = leaf(names, now, 90)?;
    Ok(PemPair { chain_pem: params.self_signed(&key)?.pem(), key_pem: key.serialize_pem() })
}

impl LocalCa {
    /// The authority in `storage`; makes one that lives ten years where there is none.
    ///
    /// # Errors
    /// [`LocalCaError`].
    ///
    /// # Cancel safety
    /// The key is stored before the root, so what is found half done is made anew.
    pub async fn load_or_create(
        storage: &Arc<dyn Storage>,
        now: SystemTime,
    ) -> Result<Self, LocalCaError> {
        let _lock =
            crate::storage::lock_within(storage.as_ref(), "local-ca", 10 * Duration::from_secs(1))
                .await?;
        if let Some(found) = Self::load(storage.as_ref()).await? {
            return Ok(found);
        }
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(Vec::new())?;
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "Hearth local authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        (params.not_before, params.not_after) = validity(now, 3650);
        let root_pem = params.self_signed(&key)?.pem();
        storage.store(ROOT_KEY, key.serialize_pem().as_bytes()).await?;
        storage.store(ROOT, root_pem.as_bytes()).await?;
        Self::from_pem(root_pem, &key.serialize_pem())
    }

    /// The authority in `storage`, where somebody has made one.
    ///
    /// # Errors
    /// [`LocalCaError::Damaged`], [`LocalCaError::Storage`].
    pub async fn load(storage: &dyn Storage) -> Result<Option<Self>, LocalCaError> {
        let Some(root) = storage.load(ROOT).await? else { return Ok(None) };
        let key = storage.load(ROOT_KEY).await?.unwrap_or_default();
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Self::from_pem(text(root), &text(key)).map(Some)
    }

    /// An authority from PEM.
    ///
    /// # Errors
    /// [`LocalCaError::Damaged`].
    pub fn from_pem(root_pem: String, key_pem: &str) -> Result<Self, LocalCaError> {
        let key = KeyPair::from_pem(key_pem).map_err(LocalCaError::Damaged)?;
        let issuer = Issuer::from_ca_cert_pem(&root_pem, key).map_err(LocalCaError::Damaged)?;
        Ok(Self { root_pem, issuer })
    }

    /// The root as PEM: what clients have to trust.
    #[must_use]
    pub fn root_pem(&self) -> &str {
        &self.root_pem
    }

    /// How many days a certificate of [`issue`](Self::issue) is good for.
    pub const LIFE_DAYS: u32 = 90;

    /// A certificate for these names.
    ///
    /// # Errors
    /// [`LocalCaError::Make`].
    pub fn issue(&self, names: &[Name], now: SystemTime) -> Result<PemPair, LocalCaError> {
        let key = KeyPair::generate()?;
        let certificate = leaf(names, now, Self::LIFE_DAYS)?.signed_by(&key, &self.issuer)?;
        Ok(PemPair { chain_pem: certificate.pem(), key_pem: key.serialize_pem() })
    }

    /// What a person types to trust the root, which lies at `path`.
    #[must_use]
    pub fn trust_instructions(store: TrustStore, path: &str) -> String {
        match store {
            TrustStore::Debian => format!(
                "sudo cp {path} /usr/local/share/ca-certificates/hearth-local.crt\nsudo update-ca-certificates"
            ),
            TrustStore::Fedora => {
                format!(
                    "sudo cp {path} /etc/pki/ca-trust/source/anchors/hearth-local.pem\nsudo update-ca-trust"
                )
            }
            TrustStore::Firefox => format!(
                "Settings, Privacy & Security, View Certificates, Authorities, Import: choose {path} and tick \"Trust this CA to identify websites\"."
            ),
            TrustStore::MacOs => format!(
                "sudo security add-trusted-cert -d -r trustRoot -k /Library/Keychains/System.keychain {path}"
            ),
            TrustStore::Windows => format!("certutil -addstore -f Root {path}"),
        }
    }
}

impl std::fmt::Debug for PemPair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PemPair").field("chain_pem", &self.chain_pem).finish_non_exhaustive()
    }
}

fn leaf(names: &[Name], now: SystemTime, days: u32) -> Result<CertificateParams, LocalCaError> {
    let mut params =
        CertificateParams::new(names.iter().map(ToString::to_string).collect::<Vec<_>>())?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "Hearth");
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    (params.not_before, params.not_after) = validity(now, days);
    Ok(params)
}

/// From an hour ago, because clocks differ, for so many days.
fn validity(now: SystemTime, days: u32) -> (OffsetDateTime, OffsetDateTime) {
    let from = now.checked_sub(DAY / 24).unwrap_or(now);
    (from.into(), (now + DAY * days).into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{MemoryStorage, facts};
    use rustls::pki_types::{CertificateDer, pem::PemObject};

    #[tokio::test]
    async fn stays_the_same_authority() {
        let storage: Arc<dyn Storage> = Arc::new(MemoryStorage::new());
        let now = SystemTime::now();
        let one = LocalCa::load_or_create(&storage, now).await.expect("made");
        let two = LocalCa::load_or_create(&storage, now).await.expect("loaded");
        assert_eq!(one.root_pem(), two.root_pem());
        let names = ["nas.lan".parse().expect("a name"), "192.0.2.7".parse().expect("an address")];
        let pair = two.issue(&names, now).expect("issued");
        let der = |pem: &str| CertificateDer::from_pem_slice(pem.as_bytes()).expect("pem");
        let leaf = facts::read(&der(&pair.chain_pem)).expect("facts");
        let root = facts::read(&der(one.root_pem())).expect("facts");
        assert_eq!(leaf.issuer, root.subject);
        assert_eq!(leaf.names, names);
        assert!(root.is_authority && !leaf.is_authority);
        storage.store(ROOT_KEY, b"x").await.expect("written");
        let damaged = LocalCa::load_or_create(&storage, now).await;
        assert!(matches!(damaged, Err(LocalCaError::Damaged(_))));
    }
}
