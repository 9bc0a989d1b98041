//! A certificate chain with its key.

use std::{
    io,
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use rustls::{
    InconsistentKeys,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    sign::CertifiedKey,
};

use super::x509;

/// A certificate chain with its key; cheap to clone.
#[derive(Debug, Clone)]
pub struct Certificate {
    key: Arc<CertifiedKey>,
    names: Arc<[Box<str>]>,
    validity: Range<SystemTime>,
}

/// What is wrong with a certificate. The operator must act; the text says how.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CertError {
    /// The file cannot be read.
    #[error("cannot read {}: check that it exists and that this user may read it", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file has no certificate in it.
    #[error("{} holds no certificate: a PEM file with BEGIN CERTIFICATE is expected, the server's own first", path.display())]
    NoCertificate {
        /// The file.
        path: PathBuf,
    },
    /// The file has no private key in it.
    #[error("{} holds no private key: a PEM file with BEGIN PRIVATE KEY is expected", path.display())]
    NoKey {
        /// The file.
        path: PathBuf,
    },
    /// The key is locked with a passphrase.
    #[error("the private key in {} is encrypted: decrypt it with `openssl pkey -in FILE -out FILE`", path.display())]
    EncryptedKey {
        /// The file.
        path: PathBuf,
    },
    /// The key is of a kind that we cannot use.
    #[error("the private key in {} is of a kind that is not supported: use ECDSA, Ed25519 or RSA of 2048 to 8192 bits", path.display())]
    UnsupportedKey {
        /// The file.
        path: PathBuf,
        /// What rustls says.
        source: rustls::Error,
    },
    /// The file is no PEM, or what is in it no certificate.
    #[error("{} is damaged ({reason}): write the file again", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What was found.
        reason: String,
    },
    /// The key does not belong to the certificate.
    #[error("the key in {} does not belong to the certificate in {}: check that both come from the same issuance, and that the server's certificate is the first of the chain", key.display(), chain.display())]
    KeyMismatch {
        /// The certificate's file.
        chain: PathBuf,
        /// The key's file.
        key: PathBuf,
    },
    /// The certificate is not valid any more.
    #[error("the certificate for {name} expired: renew it")]
    Expired {
        /// Its first name.
        name: String,
        /// When its validity ended.
        not_after: SystemTime,
    },
    /// The certificate is not valid yet.
    #[error("the certificate for {name} is not valid yet: check the clock of this machine")]
    NotYetValid {
        /// Its first name.
        name: String,
        /// When its validity begins.
        not_before: SystemTime,
    },
    /// The certificate has no DNS names.
    #[error("the certificate has no DNS names: name the hosts it is for, or make it the default")]
    NoNames,
    /// This is no name that a client can ask for.
    #[error("{name:?} is neither a host name nor `*.` and a domain")]
    InvalidName {
        /// The text.
        name: String,
    },
}

impl Certificate {
    /// Reads a chain, the server's own certificate first, and its key from PEM files. Both may be in
    /// the same file. An expired certificate is read, too; ask [`check`](Self::check).
    ///
    /// # Errors
    /// [`CertError`] says which file is wrong and what to do.
    pub fn from_pem_files(
        chain: impl AsRef<Path>,
        key: impl AsRef<Path>,
    ) -> Result<Self, CertError> {
        let (chain, key) = (chain.as_ref(), key.as_ref());
        let key_pem = if key == chain { None } else { Some(read(key)?) };
        let chain_pem = read(chain)?;
        let key_pem = key_pem.as_deref().unwrap_or(&chain_pem);
        Self::from_pem(&chain_pem, chain, key_pem, key)
    }

    /// A chain and its key from PEM in memory.
    ///
    /// # Errors
    /// As [`from_pem_files`](Self::from_pem_files); the paths in it are `<memory>`.
    pub fn from_pem_slices(chain: &[u8], key: &[u8]) -> Result<Self, CertError> {
        let memory = Path::new("<memory>");
        Self::from_pem(chain, memory, key, memory)
    }

    /// The DNS names in it, as they stand there.
    #[must_use]
    pub fn names(&self) -> &[Box<str>] {
        &self.names
    }

    /// The first and the last moment of its validity.
    #[must_use]
    pub fn validity(&self) -> &Range<SystemTime> {
        &self.validity
    }

    /// Whether it is valid at that time.
    #[must_use]
    pub fn is_valid_at(&self, now: SystemTime) -> bool {
        // RFC 5280 §4.1.2.5: the last second belongs to it.
        self.validity.start <= now && now <= self.validity.end
    }

    /// Whether it is valid at that time, with a reason why not.
    ///
    /// # Errors
    /// [`CertError::Expired`] or [`CertError::NotYetValid`].
    pub fn check(&self, now: SystemTime) -> Result<(), CertError> {
        let name = self.names.first().map_or("<no name>", |name| name).to_owned();
        if now < self.validity.start {
            return Err(CertError::NotYetValid { name, not_before: self.validity.start });
        }
        if now > self.validity.end {
            return Err(CertError::Expired { name, not_after: self.validity.end });
        }
        Ok(())
    }

    /// What rustls is given.
    #[must_use]
    pub fn key(&self) -> &Arc<CertifiedKey> {
        &self.key
    }

    fn from_pem(
        chain_pem: &[u8],
        chain_path: &Path,
        key_pem: &[u8],
        key_path: &Path,
    ) -> Result<Self, CertError> {
        let chain: Vec<_> = CertificateDer::pem_slice_iter(chain_pem)
            .collect::<Result<_, _>>()
            .map_err(|error| malformed(chain_path, &error))?;
        let Some(own) = chain.first() else {
            return Err(CertError::NoCertificate { path: chain_path.into() });
        };
        let facts = x509::read(own)
            .ok_or_else(|| malformed(chain_path, &"the first certificate is no X.509"))?;
        let key = private_key(key_pem, key_path)?;
        let signer = aws_lc_rs::sign::any_supported_type(&key)
            .map_err(|source| CertError::UnsupportedKey { path: key_path.into(), source })?;
        let certified = CertifiedKey::new(chain, signer);
        match certified.keys_match() {
            Ok(()) | Err(rustls::Error::InconsistentKeys(InconsistentKeys::Unknown)) => {}
            Err(rustls::Error::InconsistentKeys(_)) => {
                return Err(CertError::KeyMismatch {
                    chain: chain_path.into(),
                    key: key_path.into(),
                });
            }
            Err(error) => return Err(malformed(chain_path, &error)),
        }
        Ok(Self {
            key: Arc::new(certified),
            names: facts.names.into(),
            validity: facts.not_before..facts.not_after,
        })
    }
}

fn private_key(pem: &[u8], path: &Path) -> Result<PrivateKeyDer<'static>, CertError> {
    use rustls::pki_types::pem::Error;
    let has = |text: &[u8]| pem.windows(text.len()).any(|window| window == text);
    // In the older forms a header tells (RFC 1421 §4.6.1.1), and what follows may pass for a key.
    if has(b"Proc-Type: 4,ENCRYPTED") {
        return Err(CertError::EncryptedKey { path: path.into() });
    }
    match PrivateKeyDer::from_pem_slice(pem) {
        Ok(key) => Ok(key),
        Err(Error::NoItemsFound) if has(b"-----BEGIN ENCRYPTED PRIVATE KEY") => {
            Err(CertError::EncryptedKey { path: path.into() })
        }
        Err(Error::NoItemsFound) => Err(CertError::NoKey { path: path.into() }),
        Err(error) => Err(malformed(path, &error)),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, CertError> {
    std::fs::read(path).map_err(|source| CertError::Unreadable { path: path.into(), source })
}

fn malformed(path: &Path, reason: &dyn std::fmt::Display) -> CertError {
    CertError::Malformed { path: path.into(), reason: reason.to_string() }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::tls::testing::{expired, pem};

    #[test]
    fn says_what_is_wrong_with_files() {
        let dir = tempfile::tempdir().expect("a directory");
        let write = |name: &str, text: &str| {
            let path = dir.path().join(name);
            std::fs::write(&path, text).expect("written");
            path
        };
        let (chain, key) = pem(&["a.test"]);
        let good_chain = write("chain.pem", &chain);
        let good_key = write("key.pem", &key);
        let both = write("both.pem", &format!("{key}{chain}"));
        let other_key = write("other.pem", &pem(&["a.test"]).1);
        let empty = write("empty.pem", "");
        let text = write("text.pem", "hello\n");
        let cut = write("cut.pem", &chain[..chain.len() / 2]);
        let no_x509 =
            write("no.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
        let locked = write(
            "locked.pem",
            "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
        );
        let locked_of_old = write(
            "old.pem",
            "-----BEGIN EC PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\
             DEK-Info: AES-256-CBC,00000000000000000000000000000000\n\nAAAA\n\
             -----END EC PRIVATE KEY-----\n",
        );
        let odd_key =
            write("odd.pem", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n");
        let missing = dir.path().join("missing.pem");

        let load = |chain: &Path, key: &Path| match Certificate::from_pem_files(chain, key) {
            Ok(certificate) => format!("ok {}", certificate.names().join(" ")),
            Err(error) => format!("{error:?}").split([' ', '{']).next().unwrap_or("").to_owned(),
        };
        let rows = [
            (&good_chain, &good_key, "ok a.test"),
            (&both, &both, "ok a.test"),
            (&good_chain, &other_key, "KeyMismatch"),
            (&good_chain, &missing, "Unreadable"),
            (&missing, &good_key, "Unreadable"),
            (&empty, &good_key, "NoCertificate"),
            (&text, &good_key, "NoCertificate"),
            (&good_key, &good_key, "NoCertificate"),
            (&good_chain, &good_chain, "NoKey"),
            (&good_chain, &locked_of_old, "EncryptedKey"),
            (&good_chain, &locked, "EncryptedKey"),
            (&good_chain, &odd_key, "UnsupportedKey"),
            (&cut, &good_key, "Malformed"),
            (&no_x509, &good_key, "Malformed"),
        ];
        for (chain, key, want) in rows {
            assert_eq!(load(chain, key), want, "{} {}", chain.display(), key.display());
        }
    }

    #[test]
    fn knows_its_validity() {
        let old = expired(&["old.test"]);
        let error = old.check(SystemTime::now()).expect_err("it is expired");
        assert_eq!(error.to_string(), "the certificate for old.test expired: renew it");
        let second = Duration::from_secs(1);
        let Range { start, end } = old.validity().clone();
        assert!(old.is_valid_at(start) && old.is_valid_at(end));
        assert!(!old.is_valid_at(start - second) && !old.is_valid_at(end + second));
        let early = old.check(start - second).expect_err("it is not valid yet");
        assert!(matches!(early, CertError::NotYetValid { .. }));
    }
}
