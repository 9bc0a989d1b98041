//! What the TLS listeners do: which certificate is shown, and which is asked for.

use std::sync::Arc;

use hearth_net::{CertMap, CertStore, Certificate, HoldHandshake, Tickets, TlsConfig};
use hearth_tls_acme::{ACME_TLS_ALPN, Manager};
use rustls::server::{ResolvesServerCert, danger::ClientCertVerifier};

use super::{Before, Failure, clients::Clients, failure};
use crate::{
    config::TlsVersion,
    plan::{self, Plan},
};

/// What the TLS listeners share.
#[derive(Clone)]
pub(super) struct Tls {
    certificates: Arc<dyn ResolvesServerCert>,
    hold: Option<Arc<dyn HoldHandshake>>,
    has_challenges: bool,
    tickets: Tickets,
    only_tls13: bool,
}

/// Where the certificates that sites bring are put.
pub(super) enum Shelf {
    /// Among those that an authority issues.
    Manager(Manager),
    /// Alone.
    Store(Arc<CertStore>),
}

impl Shelf {
    /// Serves these from now on: for each site its own, if it brings one.
    pub(super) fn put(&self, sites: &[(Vec<String>, Option<Certificate>)]) {
        match self {
            Self::Manager(manager) => {
                let all = sites.iter().filter_map(|(_, certificate)| certificate.clone());
                manager.serve_imported(all.collect());
            }
            Self::Store(store) => store.replace(map(sites)),
        }
    }
}

/// The hosts of each site, and the certificate that it brings.
pub(super) fn brought(plan: &Plan) -> Vec<(Vec<String>, Option<Certificate>)> {
    plan.sites.iter().map(|site| (site.hosts.clone(), site.certificate.clone())).collect()
}

impl Tls {
    pub(super) fn new(plan: &Plan, before: &Before, tickets: Tickets) -> (Self, Shelf) {
        let only_tls13 = plan.min_tls == TlsVersion::Tls13;
        let has_challenges = before.manager.is_some();
        let (certificates, shelf): (Arc<dyn ResolvesServerCert>, _) = match &before.manager {
            Some(manager) => (manager.resolver(), Shelf::Manager(manager.clone())),
            None => {
                let store = Arc::new(CertStore::new(CertMap::new()));
                (store.clone(), Shelf::Store(store))
            }
        };
        shelf.put(&brought(plan));
        let hold = before.manager.as_ref().and_then(Manager::hold);
        (Self { certificates, hold, has_challenges, tickets, only_tls13 }, shelf)
    }

    pub(super) fn config(
        &self,
        listener: &plan::Listener,
        clients: Option<&Clients>,
    ) -> Result<TlsConfig, Failure> {
        let mut config = self.build(listener, None)?;
        if let Some(clients) = clients {
            let (tls, listener) = (self.clone(), listener.clone());
            let build = move |verifier| tls.build(&listener, Some(verifier));
            config = config.with_choice(clients.by_name(Box::new(build), self.has_challenges)?);
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

/// The certificates that the sites bring, by host.
fn map(sites: &[(Vec<String>, Option<Certificate>)]) -> CertMap {
    let mut map = CertMap::new();
    let mut has_default = false;
    for (hosts, certificate) in sites {
        let Some(certificate) = certificate else { continue };
        for host in hosts {
            // Addresses are not asked for by name; their clients get the default.
            let _ = map.add_as(host, certificate.clone());
        }
        // The site of all other hosts, and failing that the first.
        if hosts.is_empty() || !has_default {
            map.set_default(certificate.clone());
            has_default = true;
        }
    }
    map
}
