//! TLS: whom we trust, and who we are.

use std::{fmt, sync::Arc};

use hearth_http_core::{Portable, Transport};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::{ClientError, ErrorKind, TimeoutKind, Timeouts, Versions};

/// Certificates that a client trusts, and its own. Trusts none to begin with.
#[derive(Clone, Default)]
pub struct TlsOptions {
    roots: Vec<CertificateDer<'static>>,
    trusts_webpki_roots: bool,
    identity: Option<Arc<Identity>>,
}

struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

/// Why a certificate or key cannot be used; who configured it must act.
#[derive(Debug)]
pub struct InvalidPem(&'static str);

/// One configuration for each choice of protocols; they share roots and session tickets.
pub(crate) struct TlsConfigs {
    auto: Arc<ClientConfig>,
    http1: Arc<ClientConfig>,
    #[cfg(feature = "http2")]
    http2: Arc<ClientConfig>,
}

impl TlsOptions {
    /// Trusts the authorities in a PEM file, for instance the system's bundle.
    ///
    /// # Errors
    /// [`InvalidPem`] where there is no certificate in `pem`, or a malformed one.
    pub fn with_root_pem(mut self, pem: &[u8]) -> Result<Self, InvalidPem> {
        self.roots.extend(certificates(pem)?);
        Ok(self)
    }

    /// Trusts an authority, given as DER.
    #[must_use]
    pub fn with_root_der(mut self, der: impl Into<Vec<u8>>) -> Self {
        self.roots.push(CertificateDer::from(der.into()));
        self
    }

    /// Trusts the authorities that Mozilla trusted when this program was built.
    #[cfg(feature = "webpki-roots")]
    #[must_use]
    pub fn with_webpki_roots(mut self) -> Self {
        self.trusts_webpki_roots = true;
        self
    }

    /// Shows this certificate to peers that ask for one: the chain, leaf first, and its key, as PEM.
    ///
    /// # Errors
    /// [`InvalidPem`] where either is missing or malformed. Whether they belong together shows when the
    /// client is made.
    pub fn with_identity_pem(mut self, chain: &[u8], key: &[u8]) -> Result<Self, InvalidPem> {
        let chain = certificates(chain)?;
        let key = PrivateKeyDer::from_pem_slice(key);
        let key = key.map_err(|_| InvalidPem("no private key, or a malformed one"))?;
        self.identity = Some(Arc::new(Identity { chain, key }));
        Ok(self)
    }

    pub(crate) fn build(&self) -> Result<TlsConfigs, ClientError> {
        let failed = |error: rustls::Error| {
            ClientError::new(ErrorKind::Tls, "the TLS options do not work").caused_by(error)
        };
        let mut roots = RootCertStore::empty();
        for root in &self.roots {
            roots.add(root.clone()).map_err(failed)?;
        }
        #[cfg(feature = "webpki-roots")]
        if self.trusts_webpki_roots {
            roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        }
        // Explicitly: a process-wide default could be another crate's choice.
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(failed)?
            .with_root_certificates(roots);
        let base = match &self.identity {
            None => builder.with_no_client_auth(),
            Some(identity) => builder
                .with_client_auth_cert(identity.chain.clone(), identity.key.clone_key())
                .map_err(failed)?,
        };
        Ok(TlsConfigs::new(&base))
    }
}

impl TlsConfigs {
    fn new(base: &ClientConfig) -> Self {
        let offering = |protocols: &[&str]| {
            let mut config = base.clone();
            config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
            Arc::new(config)
        };
        Self {
            #[cfg(feature = "http2")]
            auto: offering(&["h2", "http/1.1"]),
            #[cfg(not(feature = "http2"))]
            auto: offering(&["http/1.1"]),
            http1: offering(&["http/1.1"]),
            #[cfg(feature = "http2")]
            http2: offering(&["h2"]),
        }
    }

    /// Makes the handshake; answers whether HTTP/2 was negotiated.
    pub(crate) async fn handshake(
        &self,
        io: Box<dyn Transport>,
        host: &str,
        versions: Versions,
        timeouts: &Timeouts,
    ) -> Result<(Box<dyn Transport>, bool), ClientError> {
        let config = match versions {
            Versions::Auto => &self.auto,
            Versions::Http1 => &self.http1,
            #[cfg(feature = "http2")]
            Versions::Http2 => &self.http2,
        };
        let name = ServerName::try_from(host.to_owned()).map_err(|error| {
            let what = "no certificate can be made for the host's name";
            ClientError::new(ErrorKind::Tls, what).caused_by(error)
        })?;
        let handshake = TlsConnector::from(config.clone()).connect(name, io);
        let stream = match timeout(timeouts.tls, handshake).await {
            Err(_) => return Err(ClientError::timeout(TimeoutKind::Tls)),
            Ok(Err(error)) => {
                let what = "the TLS handshake failed";
                return Err(ClientError::new(ErrorKind::Tls, what).caused_by(error));
            }
            Ok(Ok(stream)) => stream,
        };
        let is_h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        Ok((Box::new(Portable(stream)), is_h2))
    }
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, InvalidPem> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let found = found.map_err(|_| InvalidPem("a malformed certificate"))?;
    if found.is_empty() { Err(InvalidPem("no certificate")) } else { Ok(found) }
}

impl fmt::Debug for TlsOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsOptions")
            .field("roots", &self.roots.len())
            .field("trusts_webpki_roots", &self.trusts_webpki_roots)
            .field("has_identity", &self.identity.is_some())
            .finish()
    }
}

impl fmt::Display for InvalidPem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("there is ")?;
        f.write_str(self.0)
    }
}

impl std::error::Error for InvalidPem {}
