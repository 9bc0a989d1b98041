//! How a listener's TLS behaves.

use std::{
    path::Path,
    sync::{Arc, OnceLock},
};

use rustls::{
    CipherSuite, ServerConfig, SupportedProtocolVersion,
    crypto::aws_lc_rs,
    server::{
        ClientHello, NoServerSessionStorage, ProducesTickets, ResolvesServerCert,
        danger::ClientCertVerifier,
    },
    version::TLS13,
};

use super::{CertError, CertMap, CertStore, Certificate, Hold, HoldHandshake, resolver};

static ONLY_TLS13: &[&SupportedProtocolVersion] = &[&TLS13];

/// The TLS configuration of a listener; cheap to clone.
///
/// By default: TLS 1.3 and 1.2, post-quantum key exchange first, `h2` and `http/1.1` by ALPN,
/// stateless tickets, no early data.
///
/// Certificates change under a running configuration: through a [`CertStore`], or any other
/// resolver that does so. Building a new configuration instead would forget its tickets.
#[derive(Clone, Debug)]
pub struct TlsConfig {
    main: Arc<ServerConfig>,
    client_trust: u32,
    choose: Option<Arc<dyn ChooseConfig>>,
    hold: Option<Arc<dyn HoldHandshake>>,
}

/// Chooses a configuration by the client's hello, for instance one that wants client certificates
/// for some names. Costs a second look at the hello, so most listeners have none.
pub trait ChooseConfig: std::fmt::Debug + Send + Sync + 'static {
    /// The configuration for this client; `None` stands for the listener's own.
    fn choose(&self, hello: &ClientHello<'_>) -> Option<TlsConfig>;
}

/// The secret that encrypts session tickets; cheap to clone.
///
/// Clients resume with tickets of the same secret only, so every configuration of a process
/// should have the same one. Keys change every six hours and are accepted for twelve.
#[derive(Clone, Debug)]
pub struct Tickets(Arc<dyn ProducesTickets>);

impl Tickets {
    /// A new secret, drawn at the first handshake. Without random numbers no ticket is given out.
    #[must_use]
    pub fn new() -> Self {
        Self(Arc::new(DrawnLate::default()))
    }

    /// A secret that comes from elsewhere, for instance from the process before this one.
    #[must_use]
    pub fn from_producer(producer: Arc<dyn ProducesTickets>) -> Self {
        Self(producer)
    }
}

impl Default for Tickets {
    fn default() -> Self {
        Self::new()
    }
}

/// Makes the ticketer when it is first needed: for the first random number of a process, aws-lc gathers entropy for
/// some 20 ms, which is most of a cold start.
#[derive(Debug, Default)]
struct DrawnLate(OnceLock<Option<Arc<dyn ProducesTickets>>>);

impl DrawnLate {
    fn ticketer(&self) -> Option<&Arc<dyn ProducesTickets>> {
        let draw = || match aws_lc_rs::Ticketer::new() {
            Ok(ticketer) => Some(ticketer),
            Err(error) => {
                tracing::error!(%error, "no random numbers: TLS sessions will not be resumed");
                None
            }
        };
        self.0.get_or_init(draw).as_ref()
    }
}

impl ProducesTickets for DrawnLate {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        self.ticketer().map_or(0, |ticketer| ticketer.lifetime())
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        self.ticketer()?.encrypt(plain)
    }

    fn decrypt(&self, cipher: &[u8]) -> Option<Vec<u8>> {
        self.ticketer()?.decrypt(cipher)
    }
}

/// What applies to one connection.
#[derive(Debug, Clone)]
pub(super) struct Chosen {
    pub(super) config: Arc<ServerConfig>,
    pub(super) client_trust: u32,
}

/// Builds a [`TlsConfig`].
#[derive(Debug)]
#[must_use]
pub struct TlsConfigBuilder {
    resolver: Arc<dyn ResolvesServerCert>,
    alpn: Vec<Vec<u8>>,
    versions: &'static [&'static SupportedProtocolVersion],
    tickets: Option<Tickets>,
    ticket_count: usize,
    client_verifier: Option<Arc<dyn ClientCertVerifier>>,
    prefers_aes256: bool,
}

/// Why a TLS configuration cannot be built.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// The certificate or its key is not usable.
    #[error(transparent)]
    Cert(#[from] CertError),
    /// These options do not go together: the program has to be corrected.
    #[error("contradictory TLS options")]
    Options(#[source] rustls::Error),
}

impl TlsConfig {
    /// The certificate chain and the key of these files, for every name. Other options are default.
    ///
    /// # Errors
    /// [`TlsError::Cert`] says which file is wrong and what to do.
    pub fn from_pem_files(
        chain: impl AsRef<Path>,
        key: impl AsRef<Path>,
    ) -> Result<Self, TlsError> {
        let mut map = CertMap::new();
        map.set_default(Certificate::from_pem_files(chain, key)?);
        Self::builder(Arc::new(CertStore::new(map))).build()
    }

    /// Options on top of what gives the certificates.
    pub fn builder(resolver: Arc<dyn ResolvesServerCert>) -> TlsConfigBuilder {
        TlsConfigBuilder {
            resolver,
            alpn: vec![b"h2".to_vec(), b"http/1.1".to_vec()],
            versions: rustls::DEFAULT_VERSIONS,
            tickets: None,
            ticket_count: 2,
            client_verifier: None,
            prefers_aes256: false,
        }
    }

    /// A configuration of rustls, taken as it is.
    #[must_use]
    pub fn from_rustls(mut config: ServerConfig) -> Self {
        resolver::remember_server_name(&mut config);
        Self { main: Arc::new(config), client_trust: 0, choose: None, hold: None }
    }

    /// A number for who is let in, which handlers find in [`TlsInfo::client_trust`]: a connection serves the
    /// names of its number only, whatever its requests ask for. Default 0.
    ///
    /// [`TlsInfo::client_trust`]: hearth_http_core::TlsInfo::client_trust
    #[must_use]
    pub fn with_client_trust(mut self, number: u32) -> Self {
        self.client_trust = number;
        self
    }

    /// Lets `choose` pick another configuration for some clients.
    #[must_use]
    pub fn with_choice(mut self, choose: Arc<dyn ChooseConfig>) -> Self {
        self.choose = Some(choose);
        self
    }

    /// Lets some handshakes wait for their certificate. That of a listener counts, not that of a
    /// configuration that was chosen.
    #[must_use]
    pub fn with_hold(mut self, hold: Arc<dyn HoldHandshake>) -> Self {
        self.hold = Some(hold);
        self
    }

    /// What rustls is given, where nothing depends on the hello.
    pub(super) fn single(&self) -> Option<Chosen> {
        (self.choose.is_none() && self.hold.is_none()).then(|| self.chosen())
    }

    pub(super) fn hold(&self, hello: &ClientHello<'_>) -> Option<Hold> {
        self.hold.as_ref().and_then(|hold| hold.hold(hello))
    }

    pub(super) fn choose(&self, hello: &ClientHello<'_>) -> Chosen {
        let chosen = self.choose.as_ref().and_then(|choose| choose.choose(hello));
        chosen.as_ref().unwrap_or(self).chosen()
    }

    fn chosen(&self) -> Chosen {
        Chosen { config: self.main.clone(), client_trust: self.client_trust }
    }
}

impl TlsConfigBuilder {
    /// The protocols offered by ALPN, best first. Default `h2`, `http/1.1`.
    pub fn alpn<'a>(mut self, protocols: impl IntoIterator<Item = &'a [u8]>) -> Self {
        self.alpn = protocols.into_iter().map(<[u8]>::to_vec).collect();
        self
    }

    /// Refuses TLS 1.2. Default: accepts it.
    pub fn only_tls13(mut self) -> Self {
        self.versions = ONLY_TLS13;
        self
    }

    /// The secret of session tickets. Default: one of its own.
    pub fn tickets(mut self, tickets: Tickets) -> Self {
        self.tickets = Some(tickets);
        self
    }

    /// Tickets sent after a TLS 1.3 handshake; browsers use each once. Default 2.
    pub fn ticket_count(mut self, count: usize) -> Self {
        self.ticket_count = count;
        self
    }

    /// Asks clients for a certificate. Such sessions are not resumed, so that every connection is
    /// checked. Default: does not ask.
    pub fn client_verifier(mut self, verifier: Arc<dyn ClientCertVerifier>) -> Self {
        self.client_verifier = Some(verifier);
        self
    }

    /// Chooses AES-256 where the client has it. Default: AES-128, whose handshakes take a seventh less
    /// time, because SHA-256 has instructions of its own on most processors and SHA-384 has not.
    pub fn prefer_aes256(mut self) -> Self {
        self.prefers_aes256 = true;
        self
    }

    /// The configuration.
    ///
    /// # Errors
    /// [`TlsError::Options`] where options contradict each other.
    pub fn build(self) -> Result<TlsConfig, TlsError> {
        // Named here: a process-wide default provider panics where two are compiled in.
        let mut provider = aws_lc_rs::default_provider();
        if !self.prefers_aes256 {
            provider.cipher_suites.sort_by_key(|suite| !has_aes128(suite.suite()));
        }
        let builder = ServerConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(self.versions)
            .map_err(TlsError::Options)?;
        let resumes = self.client_verifier.is_none();
        let builder = match self.client_verifier {
            Some(verifier) => builder.with_client_cert_verifier(verifier),
            None => builder.with_no_client_auth(),
        };
        let mut config = builder.with_cert_resolver(self.resolver);
        config.alpn_protocols = self.alpn;
        config.ignore_client_order = true;
        config.max_early_data_size = 0;
        // Tickets keep the state at the client's side; a cache of ours would be memory for nothing.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = if resumes { self.ticket_count } else { 0 };
        if resumes {
            config.ticketer = match self.tickets {
                Some(tickets) => tickets.0,
                None => Tickets::new().0,
            };
        }
        Ok(TlsConfig::from_rustls(config))
    }
}

fn has_aes128(suite: CipherSuite) -> bool {
    matches!(
        suite,
        CipherSuite::TLS13_AES_128_GCM_SHA256
            | CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
            | CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256
    )
}
