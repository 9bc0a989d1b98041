//! What the TLS listeners do: which certificate is shown, and which is asked for.

use std::sync::Arc;

use hearth_net::{CertMap, CertStore, ChooseConfig, HoldHandshake, Tickets, TlsConfig};
use hearth_tls_acme::{ACME_TLS_ALPN, Manager};
use rustls::server::{ClientHello, ResolvesServerCert, danger::ClientCertVerifier};

use super::{Before, Failure, bug, failure, trust::Trusts};
use crate::{
    config::TlsVersion,
    plan::{self, Plan},
};

/// What the TLS listeners share.
pub(super) struct Tls {
    certificates: Arc<dyn ResolvesServerCert>,
    hold: Option<Arc<dyn HoldHandshake>>,
    has_challenges: bool,
    tickets: Tickets,
    only_tls13: bool,
    /// Where sites ask for client certificates.
    asks: Option<Asks>,
}

/// Who decides about clients, by the number of the trust less one.
struct Asks {
    trusts: Arc<Trusts>,
    verifiers: Vec<Arc<dyn ClientCertVerifier>>,
}

/// Asks those for a certificate who name a site that wants one.
#[derive(Debug)]
struct ByName {
    trusts: Arc<Trusts>,
    /// As `Asks::verifiers`.
    configs: Vec<TlsConfig>,
    has_challenges: bool,
}

impl Tls {
    pub(super) fn new(
        plan: &Plan,
        before: &Before,
        trusts: Option<Arc<Trusts>>,
        tickets: Tickets,
    ) -> Result<Self, Failure> {
        let only_tls13 = plan.min_tls == TlsVersion::Tls13;
        let has_challenges = before.manager.is_some();
        let certificates: Arc<dyn ResolvesServerCert> = match &before.manager {
            Some(manager) => {
                manager.serve_imported(plan.certificates());
                manager.resolver()
            }
            None => Arc::new(CertStore::new(certificates(plan))),
        };
        let hold = before.manager.as_ref().and_then(Manager::hold);
        let asks = match trusts {
            Some(trusts) => Some(Asks { trusts, verifiers: verifiers(plan)? }),
            None => None,
        };
        Ok(Self { certificates, hold, has_challenges, tickets, only_tls13, asks })
    }

    pub(super) fn config(&self, listener: &plan::Listener) -> Result<TlsConfig, Failure> {
        let mut config = self.build(listener, None)?;
        if let Some(Asks { trusts, verifiers }) = &self.asks {
            let numbered = (1..).zip(verifiers);
            let built = numbered.map(|(number, verifier)| {
                let config = self.build(listener, Some(verifier.clone()))?;
                Ok(config.with_client_trust(number))
            });
            config = config.with_choice(Arc::new(ByName {
                trusts: trusts.clone(),
                configs: built.collect::<Result<_, Failure>>()?,
                has_challenges: self.has_challenges,
            }));
        }
        Ok(match &self.hold {
            Some(hold) => config.with_hold(hold.clone()),
            None => config,
        })
    }

    fn build(
        &self,
        listener: &plan::Listener,
        verifier: Option<Arc<dyn ClientCertVerifier>>,
    ) -> Result<TlsConfig, Failure> {
        let mut alpn: Vec<&[u8]> = Vec::new();
        if listener.h2 {
            alpn.push(b"h2");
        }
        if listener.h1 {
            alpn.push(b"http/1.1");
        }
        if self.has_challenges {
            alpn.push(ACME_TLS_ALPN);
        }
        let mut builder =
            TlsConfig::builder(self.certificates.clone()).alpn(alpn).tickets(self.tickets.clone());
        if self.only_tls13 {
            builder = builder.only_tls13();
        }
        if let Some(verifier) = verifier {
            builder = builder.client_verifier(verifier);
        }
        builder.build().map_err(|error| failure(&error, "look at the system"))
    }
}

impl ChooseConfig for ByName {
    fn choose(&self, hello: &ClientHello<'_>) -> Option<TlsConfig> {
        // An authority shows no certificate (RFC 8737 §3). Whoever else comes this way has the number of those
        // that anybody may visit, and is misdirected elsewhere.
        let mut offered = hello.alpn().into_iter().flatten();
        let only = (offered.next(), offered.next());
        if self.has_challenges && only == (Some(ACME_TLS_ALPN), None) {
            return None;
        }
        let number = self.trusts.of_server_name(hello.server_name());
        let place = usize::try_from(number.checked_sub(1)?).ok()?;
        self.configs.get(place).cloned()
    }
}

/// The certificates that the sites bring.
fn certificates(plan: &Plan) -> CertMap {
    let mut map = CertMap::new();
    let mut has_default = false;
    for site in &plan.sites {
        let Some(certificate) = &site.certificate else { continue };
        for host in &site.hosts {
            // Addresses are not asked for by name; their clients get the default.
            let _ = map.add_as(host, certificate.clone());
        }
        // The site of all other hosts, and failing that the first.
        if site.hosts.is_empty() || !has_default {
            map.set_default(certificate.clone());
            has_default = true;
        }
    }
    map
}

/// One for each number, in their order.
fn verifiers(plan: &Plan) -> Result<Vec<Arc<dyn ClientCertVerifier>>, Failure> {
    let mut verifiers: Vec<Arc<dyn ClientCertVerifier>> = Vec::new();
    // Numbers go up by one in the order of the sites.
    for asks in plan.sites.iter().filter_map(|site| site.client_auth.as_ref()) {
        if asks.number as usize == verifiers.len() + 1 {
            let verifier = asks.authorities.verifier(!asks.is_required);
            verifiers.push(verifier.map_err(|error| bug(&error))?);
        }
    }
    Ok(verifiers)
}
