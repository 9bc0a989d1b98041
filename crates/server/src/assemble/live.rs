//! The sites as they are at this moment. Others take their place while connections stay open.
//!
//! Client certificates hold for the site they were asked for: a request for another is sent away. The handshake knows
//! a server name, and a request says later which host it is for; nothing but this makes the two agree (RFC 6066 §11.1).

use std::{fmt, sync::Arc};

use arc_swap::ArcSwap;
use hearth_http_core::{Handler, HeaderValue, Request, Response, StatusCode, header};
use hearth_router::Router;

use super::{Failure, bug, clients::Clients, routes, trust::Trusts};
use crate::plan::Plan;

/// Answers for the sites of the moment.
pub(super) struct Live {
    sites: ArcSwap<Sites>,
    /// `None` where no site asked for client certificates when the server was started.
    clients: Option<Arc<Clients>>,
}

/// All sites of one configuration.
pub(super) struct Sites {
    router: Arc<Router>,
    /// `None` where no site asks for client certificates.
    pub(super) trusts: Option<Arc<Trusts>>,
}

impl Sites {
    /// The sites of this plan; `https_port` is where TLS is spoken.
    pub(super) fn new(plan: &Plan, https_port: u16) -> Result<Self, Failure> {
        let router = Arc::new(routes::router(plan, https_port).map_err(|error| bug(&error))?);
        let trusts = Trusts::new(plan, &router).map(Arc::new);
        Ok(Self { router, trusts })
    }

    /// In the clear no client is asked, and the plan lets no site be open there that requires it.
    fn is_misdirected(&self, clients: Option<&Clients>, req: &Request) -> bool {
        let (Some(clients), Some(trusts)) = (clients, &self.trusts) else { return false };
        let tls = req.connection().tls.as_ref();
        tls.is_some_and(|tls| !clients.lets_in(trusts, tls, req.head().host_bytes()))
    }
}

impl Live {
    pub(super) fn new(sites: Sites, clients: Option<Arc<Clients>>) -> Self {
        Self { sites: ArcSwap::from_pointee(sites), clients }
    }

    /// Requests from now on go to these. Those that are being answered go on as they began.
    pub(super) fn replace(&self, sites: Sites) {
        self.sites.store(Arc::new(sites));
    }
}

impl Handler for Live {
    async fn call(&self, req: Request) -> Response {
        // One configuration for the whole of a request.
        let sites = self.sites.load();
        if sites.is_misdirected(self.clients.as_deref(), &req) {
            return misdirected();
        }
        sites.router.call(req).await
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

impl fmt::Debug for Live {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Live")
    }
}
