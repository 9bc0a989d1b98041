//! From sites to a router.

use hearth_router::{BuildError, Redirect, Router, RouterBuilder};

use super::https::ToHttps;
use crate::plan::{Plan, Site};

/// The router of every site.
///
/// # Errors
/// What the plan has not foreseen: a bug.
pub(super) fn router(plan: &Plan) -> Result<Router, BuildError> {
    let mut builder = Router::builder();
    for site in &plan.sites {
        if site.hosts.is_empty() {
            builder = site_routes(builder, site);
        }
        for host in &site.hosts {
            builder = builder.host(host, |routes| site_routes(routes, site));
        }
    }
    builder.build()
}

/// The routes of one site.
pub(crate) fn site_routes(mut routes: RouterBuilder, site: &Site) -> RouterBuilder {
    for redirect in &site.redirects {
        let leads = Redirect::with_status(redirect.status, &redirect.to);
        routes = routes.redirect(&redirect.from, leads);
    }
    for mount in &site.mounts {
        routes = routes.mount(&mount.path, mount.files.clone());
    }
    if let Some(files) = &site.files {
        routes = routes.fallback(files.clone());
    }
    if let Some(port) = &site.to_https {
        routes = routes.with(ToHttps(port.clone()));
    }
    routes
}
