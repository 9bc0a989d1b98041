//! From sites to a router.

use hearth_http_core::{HeaderValue, StatusCode};
use hearth_middleware::{ErrorPages, HttpsOnly, ResponseHeaders, SecurityHeaders};
use hearth_router::{BuildError, Redirect, Router, RouterBuilder};

use crate::plan::{Answer, Plan, Site};

/// The router of every site; `https_port` is where TLS is spoken.
///
/// # Errors
/// What the plan has not foreseen: a bug.
pub(super) fn router(plan: &Plan, https_port: u16) -> Result<Router, BuildError> {
    let mut builder = Router::builder();
    for site in &plan.sites {
        if site.hosts.is_empty() {
            // Not on the builder itself, whose middleware and files every other site would have, too.
            builder = builder.other_hosts(|routes| site_routes(routes, site, https_port));
        }
        for host in &site.hosts {
            builder = builder.host(host, |routes| site_routes(routes, site, https_port));
        }
    }
    builder.build()
}

/// The routes of one site.
pub(crate) fn site_routes(
    mut routes: RouterBuilder,
    site: &Site,
    https_port: u16,
) -> RouterBuilder {
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
    around(routes, site, https_port)
}

/// Puts around the routes what the site wants, outermost first.
fn around(mut routes: RouterBuilder, site: &Site, https_port: u16) -> RouterBuilder {
    if site.redirects_to_https {
        routes = routes.with(HttpsOnly::new().port(https_port));
    }
    if let Some(headers) = headers(site) {
        routes = routes.with(headers);
    }
    if let Some(policy) = site.strict_transport {
        routes = routes.with(SecurityHeaders::none().strict_transport(policy));
    }
    if let Some(compress) = &site.compress {
        routes = routes.with(compress.clone());
    }
    // Within the compression, so that pages are compressed too.
    if let Some(pages) = error_pages(site) {
        routes = routes.with(pages);
    }
    routes
}

fn headers(site: &Site) -> Option<ResponseHeaders> {
    if site.headers.is_empty() {
        return None;
    }
    let mut headers = ResponseHeaders::new();
    for (name, value) in &site.headers {
        let edited = match value {
            Some(value) => headers.clone().set(name.clone(), value.clone()),
            None => headers.clone().remove(name.clone()),
        };
        // The plan has refused the fields of the connection.
        headers = edited.unwrap_or(headers);
    }
    Some(headers)
}

fn error_pages(site: &Site) -> Option<ErrorPages> {
    const HTML: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");
    if site.error_pages.is_empty() {
        return None;
    }
    let add = |pages: ErrorPages, (answer, content): &(Answer, _)| {
        let content = hearth_http_core::Bytes::clone(content);
        match answer {
            Answer::Status(status) => pages.page(*status, HTML, content),
            Answer::Class(class) if *class == class_of(StatusCode::BAD_REQUEST) => {
                pages.client_errors(HTML, content)
            }
            Answer::Class(_) => pages.server_errors(HTML, content),
        }
    };
    Some(site.error_pages.iter().fold(ErrorPages::new(), add))
}

fn class_of(status: StatusCode) -> u16 {
    status.as_u16() / 100
}
