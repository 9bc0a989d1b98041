//! Where the server listens.

use std::net::{Ipv4Addr, SocketAddr};

use hearth_config::{Diagnostic, Span, Spanned};

use super::{
    Checks,
    address::{collide, parse},
};
use crate::{
    codes,
    config::{self, Config, Protocol},
};

/// Where the server listens where nothing else is said.
pub(crate) const DEFAULT_ADDRESS: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 8080);

/// An address and what is spoken there.
#[derive(Debug, Clone)]
pub struct Listener {
    /// The address; port 0 is any free one.
    pub address: SocketAddr,
    /// Whether clients speak TLS.
    pub is_tls: bool,
    /// Whether HTTP/1.1 is spoken.
    pub h1: bool,
    /// Whether HTTP/2 is spoken.
    pub h2: bool,
    /// Whether HTTP/2 in the clear may begin by an upgrade.
    pub h2c_upgrade: bool,
    /// Where it was written.
    pub span: Span,
}

impl Listener {
    fn plain(address: SocketAddr, span: Span) -> Self {
        Self { address, is_tls: false, h1: true, h2: true, h2c_upgrade: false, span }
    }
}

pub(super) fn plan(checks: &mut Checks<'_>, config: &Config) -> Vec<Listener> {
    let mut listeners: Vec<Listener> = match &config.listeners {
        None => vec![Listener::plain(DEFAULT_ADDRESS, Span::UNKNOWN)],
        Some(list) if list.is_empty() => {
            let help = "add one, such as { address = \":80\" }, or leave `listeners` out";
            let message = "no listener: no site could be reached";
            checks.error(codes::UNREACHABLE, message, list.span(), "empty", help);
            return Vec::new();
        }
        Some(list) => list.iter().filter_map(|listener| one(checks, listener)).collect(),
    };
    apply_port(checks, config, &mut listeners);
    check_collisions(checks, &listeners);
    check_tls(checks, config, &listeners);
    listeners
}

fn one(checks: &mut Checks<'_>, listener: &Spanned<config::Listener>) -> Option<Listener> {
    let span = listener.address.span();
    let address = match parse(&listener.address) {
        Ok(address) => address,
        Err(error) => {
            let message = format!("`{}` is not an address to listen on", listener.address);
            checks.error(codes::ADDRESS, message, span, "", error.to_string());
            return None;
        }
    };
    let mut planned = Listener::plain(address, span);
    planned.is_tls = listener.tls;
    if let Some(protocols) = &listener.protocols {
        let has = |wanted| protocols.iter().any(|protocol| **protocol == wanted);
        planned.h1 = has(Protocol::H1) || has(Protocol::H2cUpgrade);
        planned.h2 = has(Protocol::H2);
        planned.h2c_upgrade = has(Protocol::H2cUpgrade);
        if protocols.is_empty() {
            let help = "name `h1`, `h2` or both, or leave `protocols` out";
            let message = "a listener without protocols answers nobody";
            checks.error(codes::PROTOCOL, message, protocols.span(), "empty", help);
        }
        if planned.h2c_upgrade && planned.is_tls {
            let help = "remove `h2c-upgrade`: over TLS, HTTP/2 is agreed on by ALPN";
            let message = "`h2c-upgrade` is for listeners in the clear";
            checks.error(codes::PROTOCOL, message, protocols.span(), "", help);
        }
    }
    Some(planned)
}

/// The variable `PORT`, by which platforms say where they will send requests, moves the only listener.
fn apply_port(checks: &mut Checks<'_>, config: &Config, listeners: &mut [Listener]) {
    let Some(port) = &config.port else { return };
    match listeners {
        [listener] => {
            listener.address = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), **port);
            listener.span = port.span();
        }
        [] => {}
        many => {
            let message = format!("a port is given, but there are {} listeners", many.len());
            let help = "set the address of one of them: HEARTH_LISTENERS__0__ADDRESS=0.0.0.0:80";
            checks.error(codes::ADDRESS, message, port.span(), "which of them?", help);
        }
    }
}

fn check_collisions(checks: &mut Checks<'_>, listeners: &[Listener]) {
    for (index, listener) in listeners.iter().enumerate() {
        let earlier = listeners.iter().take(index);
        let Some(other) =
            earlier.into_iter().find(|other| collide(other.address, listener.address))
        else {
            continue;
        };
        let message = if other.address == listener.address {
            format!("two listeners on {}", listener.address)
        } else {
            format!("the listener on {} is in the way of {}", other.address, listener.address)
        };
        let diagnostic = Diagnostic::error(codes::LISTENER_TWICE, message)
            .at(listener.span, "the second")
            .with_label(other.span, "the first")
            .with_help("remove one of them, or change its port");
        checks.push(diagnostic);
    }
}

fn check_tls(checks: &mut Checks<'_>, config: &Config, listeners: &[Listener]) {
    let tls_listener = listeners.iter().find(|listener| listener.is_tls);
    let mut with_tls = config.sites.iter().filter_map(|site| site.tls.as_ref());
    match (tls_listener, with_tls.next()) {
        // An authority brings them.
        (Some(_), None) if config.tls.acme.is_some() => {}
        (Some(listener), None) => {
            let message = format!("the listener on {} has no certificate", listener.address);
            let help = "give a site its `tls = { certificate = \"cert.pem\", key = \"key.pem\" }`";
            checks.error(codes::NO_CERTIFICATE, message, listener.span, "speaks TLS", help);
        }
        (None, None) => {
            let wants = config.sites.iter().find(|site| *site.redirect_to_https);
            if let Some(site) = wants {
                let help = "add `tls = true` to a listener, and certificates to the sites";
                let message = "the site redirects to https, but no listener speaks TLS";
                checks.error(codes::UNREACHABLE, message, site.redirect_to_https.span(), "", help);
            }
        }
        (None, Some(tls)) => {
            let help = "add `tls = true` to a listener, such as { address = \":443\", tls = true }";
            let message = if tls.client_auth.is_some() {
                "the site asks for client certificates, but no listener speaks TLS"
            } else if tls.hsts.is_some() {
                "the site is to be reached over TLS only, but no listener speaks TLS"
            } else {
                "the site has a certificate, but no listener speaks TLS"
            };
            checks.error(codes::UNREACHABLE, message, tls.span(), "", help);
        }
        (Some(_), Some(_)) => {}
    }
}
