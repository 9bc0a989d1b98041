//! Which clients are let in, by host.

use std::{collections::HashMap, sync::Arc};

use hearth_router::Router;

use crate::plan::{Plan, Site};

/// Whose clients may visit which host. The router itself says which host is which site's, so that handshake and
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
