//! A certificate for localhost, and the TLS settings of a client that trusts it.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs};

/// PEM files in a folder of the test.
#[derive(Debug)]
pub struct Certificate {
    /// The certificate.
    pub chain: PathBuf,
    /// Its key.
    pub key: PathBuf,
    der: rustls_pki_types::CertificateDer<'static>,
}

impl Certificate {
    /// A self-signed certificate for these names, as files in `folder`.
    ///
    /// # Errors
    /// When it cannot be made or written.
    pub fn new(folder: &Path, names: &[&str]) -> anyhow::Result<Self> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let made = rcgen::generate_simple_self_signed(names)?;
        let chain = folder.join("cert.pem");
        let key = folder.join("key.pem");
        fs::write(&chain, made.cert.pem())?;
        fs::write(&key, made.signing_key.serialize_pem())?;
        Ok(Self { chain, key, der: made.cert.der().clone() })
    }

    /// TLS settings of a client that trusts this certificate only.
    ///
    /// # Errors
    /// When rustls refuses the certificate.
    pub fn client(&self, alpn: &str) -> anyhow::Result<Arc<ClientConfig>> {
        let mut roots = RootCertStore::empty();
        roots.add(self.der.clone())?;
        let provider = Arc::new(aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider);
        let config = config.with_safe_default_protocol_versions()?;
        let mut config = config.with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = vec![alpn.as_bytes().to_vec()];
        Ok(Arc::new(config))
    }
}
