//! Client certificates hold for the site they were asked for: a request for another is sent away.
//!
//! The handshake knows a server name, and a request says later which host it is for; nothing but this makes
//! the two agree (RFC 6066 §11.1).

use std::{collections::HashMap, fmt, sync::Arc};

use hearth_http_core::{Handler, HeaderValue, Request, Response, StatusCode, header};
use hearth_router::Router;

use super::clients::Clients;
use crate::plan::{Plan, Site};

/// Which clients are let in, by host. The router itself says which host is which site's, so that handshake and
/// request cannot disagree.
#[derive(Debug)]
pub(super) struct Trusts {
    router: Arc<Router>,
    /// By the host patterns of the router.
    by_host: HashMap<Box<str>, u32>,
    /// For hosts that no site names.
    others: u32,
    /// For clients that name no host in their handshake.
    nameless: u32,
}

impl Trusts {
    /// `None` where no site asks for client certificates.
    pub(super) fn new(plan: &Plan, router: &Arc<Router>) -> Option<Self> {
        if plan.sites.iter().all(|site| site.client_auth.is_none()) {
            return None;
        }
        let mut by_host = HashMap::new();
        for site in &plan.sites {
            let patterns = site.hosts.iter().filter_map(|host| router.site_host(host.as_bytes()));
            by_host.extend(patterns.map(|pattern| (pattern.into(), site.client_trust())));
        }
        let first =
            |is: fn(&&Site) -> bool| plan.sites.iter().find(is).map_or(0, Site::client_trust);
        let others = first(|site| site.hosts.is_empty());
        // The plan has seen to it that they all have the same.
        let nameless = first(|site| site.is_nameless());
        Some(Self { router: router.clone(), by_host, others, nameless })
    }

    /// Whom to ask for a certificate, and whose.
    pub(super) fn of_server_name(&self, name: Option<&str>) -> u32 {
        name.map_or(self.nameless, |name| self.of_host(Some(name.as_bytes())))
    }

    /// Whom a request must come from.
    pub(super) fn of_host(&self, host: Option<&[u8]>) -> u32 {
        let pattern = host.and_then(|host| self.router.site_host(host));
        pattern.and_then(|pattern| self.by_host.get(pattern)).copied().unwrap_or(self.others)
    }
}

/// Lets requests through that are for the clients of their connection.
pub(super) struct Guard<H> {
    clients: Arc<Clients>,
    inner: Arc<H>,
}

impl<H: Handler> Guard<H> {
    /// Stands before `inner`.
    pub(super) fn new(clients: Arc<Clients>, inner: Arc<H>) -> Self {
        Self { clients, inner }
    }

    /// In the clear no client is asked, and the plan lets no site be open there that requires it.
    fn is_misdirected(&self, req: &Request) -> bool {
        let tls = req.connection().tls.as_ref();
        tls.is_some_and(|tls| !self.clients.lets_in(tls, req.head().host_bytes()))
    }
}

impl<H: Handler> Handler for Guard<H> {
    async fn call(&self, req: Request) -> Response {
        if self.is_misdirected(&req) { misdirected() } else { self.inner.call(req).await }
    }
}

/// RFC 9110 §15.5.20. Browsers try again on a connection of its own; caches of RFC 7540 (§9.1.2) could keep it.
fn misdirected() -> Response {
    const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");
    Response::text(MISDIRECTED)
        .with_status(StatusCode::MISDIRECTED_REQUEST)
        .with_header(header::CACHE_CONTROL, NO_STORE)
}

const MISDIRECTED: &str = "421 Misdirected Request: this connection is for clients of another site. Connect anew, \
                           with this host as the server name of the handshake.\n";

impl<H> fmt::Debug for Guard<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Guard")
    }
}
