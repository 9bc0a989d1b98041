//! Certificates in a storage: each one file with its key, and the generation before it.

use std::{fmt, sync::Arc, time::SystemTime};

use hearth_net::Certificate;
use rustls::pki_types::{CertificateDer, pem::PemObject};
use serde::{Deserialize, Serialize};

use crate::{
    attention::{Attention, Code},
    facts::{self, Facts},
    name::Name,
    storage::{Storage, StorageError},
};

/// Keeps certificates with their keys in a [`Storage`]; cheap to clone.
///
/// A certificate is one file, `certificates/ID.pem`: a line of metadata, the key, the chain. Programs that
/// read PEM can read it. The one before it stays as `previous/ID.pem`.
#[derive(Debug, Clone)]
pub struct Vault {
    storage: Arc<dyn Storage>,
}

/// A certificate as it was stored: verified to belong to its key.
#[derive(Clone)]
#[non_exhaustive]
pub struct StoredCertificate {
    /// By what it is stored.
    pub id: String,
    /// How it came to be.
    pub origin: Origin,
    /// The names in it.
    pub names: Vec<Name>,
    /// The first moment of its validity.
    pub not_before: SystemTime,
    /// The last moment of its validity.
    pub not_after: SystemTime,
    /// SHA-256 of the server's certificate, as hexadecimal digits.
    pub fingerprint: String,
    /// The chain as PEM, the server's certificate first.
    pub chain_pem: String,
    /// The private key as PEM.
    pub key_pem: String,
    /// Ready to be served.
    pub certificate: Certificate,
    pub(crate) facts: Facts,
}

/// How a certificate came to be.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Origin {
    /// The directory URL of the authority; empty for one that was imported or made here.
    #[serde(default)]
    pub directory: String,
    /// The profile that was ordered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    /// When it was stored, in seconds since 1970.
    #[serde(default)]
    pub stored_at: u64,
    /// Which order it came from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order: Option<String>,
}

/// What a [`Vault`] has for an id.
#[derive(Debug)]
#[non_exhaustive]
pub enum Loaded {
    /// The certificate.
    Current(Box<StoredCertificate>),
    /// Its file is damaged; this is the one before it.
    Previous(Box<StoredCertificate>, Box<Attention>),
    /// Its file is damaged, and there is none before it that could be used.
    Damaged(Box<Attention>),
    /// None.
    Nothing,
}

/// Stands before the metadata.
const MARK: &str = "# hearth: ";

impl Vault {
    /// Certificates in `storage`.
    #[must_use]
    pub fn new(storage: Arc<dyn Storage>) -> Self {
        Self { storage }
    }

    /// The certificate of that id, or the one before it where its file is damaged.
    ///
    /// # Errors
    /// [`StorageError`] where the storage fails.
    ///
    /// # Cancel safety
    /// Nothing is changed.
    pub async fn load(&self, id: &str) -> Result<Loaded, StorageError> {
        let Some(bytes) = self.storage.load(&current(id)).await? else {
            return Ok(Loaded::Nothing);
        };
        let reason = match parse(id, &bytes) {
            Ok(found) => return Ok(Loaded::Current(Box::new(found))),
            Err(reason) => reason,
        };
        let attention = |rest: &str| {
            let sentence = format!("The file of the certificate is damaged ({reason}); {rest}");
            Box::new(Attention::new(Code::CertificateDamaged, id, sentence))
        };
        if let Some(bytes) = self.storage.load(&previous(id)).await?
            && let Ok(found) = parse(id, &bytes)
        {
            return Ok(Loaded::Previous(Box::new(found), attention("the one before it is used.")));
        }
        Ok(Loaded::Damaged(attention("there is none before it.")))
    }

    /// Stores a certificate with its key; the one that was there becomes the previous one.
    ///
    /// # Errors
    /// [`VaultError`] where they do not belong together, or the storage fails.
    ///
    /// # Cancel safety
    /// The old or the new certificate is there, whole.
    pub async fn store(
        &self,
        id: &str,
        chain_pem: &str,
        key_pem: &str,
        origin: &Origin,
    ) -> Result<StoredCertificate, VaultError> {
        let unusable = |reason| VaultError::Unusable { id: id.to_owned(), reason };
        let header = serde_json::to_string(origin).map_err(|error| unusable(error.to_string()))?;
        let text = format!("{MARK}{header}\n{}\n{}\n", key_pem.trim_end(), chain_pem.trim_end());
        let stored = parse(id, text.as_bytes()).map_err(unusable)?;
        if let Some(old) = self.storage.load(&current(id)).await?
            && old != text.as_bytes()
            && parse(id, &old).is_ok()
        {
            self.storage.store(&previous(id), &old).await?;
        }
        self.storage.store(&current(id), text.as_bytes()).await?;
        Ok(stored)
    }

    /// Removes a certificate and the one before it.
    ///
    /// # Errors
    /// [`StorageError`] where the storage fails.
    ///
    /// # Cancel safety
    /// One of the two may be left.
    pub async fn remove(&self, id: &str) -> Result<(), StorageError> {
        self.storage.remove(&current(id)).await?;
        self.storage.remove(&previous(id)).await
    }

    /// The ids of all certificates.
    ///
    /// # Errors
    /// [`StorageError`] where the storage fails.
    ///
    /// # Cancel safety
    /// Nothing is changed.
    pub async fn ids(&self) -> Result<Vec<String>, StorageError> {
        let keys = self.storage.list("certificates").await?;
        let id = |key: &String| {
            Some(key.strip_prefix("certificates/")?.strip_suffix(".pem")?.to_owned())
        };
        Ok(keys.iter().filter_map(id).collect())
    }
}

/// Why a certificate cannot be stored.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VaultError {
    /// The storage failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// Certificate and key cannot be used together.
    #[error("the certificate {id} cannot be used: {reason}")]
    Unusable {
        /// Its id.
        id: String,
        /// Why.
        reason: String,
    },
}

impl fmt::Debug for StoredCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the key.
        f.debug_struct("StoredCertificate")
            .field("id", &self.id)
            .field("names", &self.names)
            .field("not_after", &self.not_after)
            .field("fingerprint", &self.fingerprint)
            .finish_non_exhaustive()
    }
}

fn current(id: &str) -> String {
    format!("certificates/{id}.pem")
}

fn previous(id: &str) -> String {
    format!("previous/{id}.pem")
}

/// Reads a file and makes sure that what is in it belongs together.
fn parse(id: &str, bytes: &[u8]) -> Result<StoredCertificate, String> {
    let text = std::str::from_utf8(bytes).map_err(|_| "it is no text")?;
    let header = text.lines().next().and_then(|line| line.strip_prefix(MARK));
    let origin: Origin = match header {
        Some(header) => serde_json::from_str(header).map_err(|error| error.to_string())?,
        None => return Err("its first line is missing".to_owned()),
    };
    let certificate =
        Certificate::from_pem_slices(bytes, bytes).map_err(|error| error.to_string())?;
    let own = CertificateDer::from_pem_slice(bytes).map_err(|error| error.to_string())?;
    let facts = facts::read(&own).ok_or("its certificate is malformed")?;
    let begin = text.find("-----BEGIN CERTIFICATE-----").ok_or("it has no certificate")?;
    let (before, chain) = text.split_at(begin);
    let key = before.split_once('\n').map(|(_, key)| key).unwrap_or_default();
    Ok(StoredCertificate {
        id: id.to_owned(),
        origin,
        names: facts.names.clone(),
        not_before: facts.not_before,
        not_after: facts.not_after,
        fingerprint: facts.fingerprint.clone(),
        chain_pem: chain.to_owned(),
        key_pem: key.to_owned(),
        certificate,
        facts,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{MemoryStorage, local_ca::self_signed};

    #[tokio::test]
    async fn keeps_the_generation_before() {
        let storage = Arc::new(MemoryStorage::new());
        let vault = Vault::new(storage.clone());
        let names = ["a.test".parse().expect("a name")];
        let one = self_signed(&names, SystemTime::now()).expect("made");
        let two = self_signed(&names, SystemTime::now()).expect("made");
        let origin = Origin::default();
        assert!(matches!(vault.load("a").await, Ok(Loaded::Nothing)));
        let first = vault.store("a", &one.chain_pem, &one.key_pem, &origin).await.expect("stored");
        let second = vault.store("a", &two.chain_pem, &two.key_pem, &origin).await.expect("stored");
        let mixed = vault.store("a", &one.chain_pem, &two.key_pem, &origin).await;
        assert!(matches!(mixed, Err(VaultError::Unusable { .. })));
        let Loaded::Current(found) = vault.load("a").await.expect("loaded") else {
            panic!("is there")
        };
        assert_eq!(found.fingerprint, second.fingerprint);
        assert_eq!(found.key_pem.trim(), two.key_pem.trim());
        assert_eq!(vault.ids().await.expect("listed"), ["a"]);

        let whole = storage.load("certificates/a.pem").await.expect("read").expect("there");
        for cut in [0, 5, whole.len() / 3, whole.len() - 60] {
            storage.store("certificates/a.pem", &whole[..cut]).await.expect("written");
            let loaded = vault.load("a").await.expect("loaded");
            let Loaded::Previous(found, attention) = loaded else {
                panic!("cut at {cut}: {loaded:?}")
            };
            assert_eq!(found.fingerprint, first.fingerprint);
            assert_eq!(attention.code, Code::CertificateDamaged);
        }
        storage.store("previous/a.pem", b"x").await.expect("written");
        assert!(matches!(vault.load("a").await, Ok(Loaded::Damaged(_))));
        // What is damaged is no generation worth keeping.
        vault.store("a", &two.chain_pem, &two.key_pem, &origin).await.expect("stored");
        assert_eq!(storage.load("previous/a.pem").await.expect("read").as_deref(), Some(&b"x"[..]));
    }
}
