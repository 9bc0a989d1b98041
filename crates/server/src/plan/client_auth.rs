//! Which clients sites let in.

use std::{fs, net::Ipv4Addr, time::SystemTime};

use hearth_config::{Diagnostic, Span, Spanned};
use hearth_tls_acme::{ClientAuthorities, ClientAuthoritiesError};

use super::{Checks, Listener, Site};
use crate::{
    codes,
    config::{self, ClientAuthMode},
};

/// Which clients a site lets in.
#[derive(Debug, Clone)]
pub struct ClientAuth {
    /// Who vouches for them.
    pub authorities: ClientAuthorities,
    /// Whether clients without a certificate are sent away.
    pub is_required: bool,
    /// From 1; sites that let the same clients in have the same.
    pub number: u32,
    /// Where it was written.
    pub span: Span,
}

impl Site {
    /// The number of who is let in; 0 is everybody.
    #[must_use]
    pub fn client_trust(&self) -> u32 {
        self.client_auth.as_ref().map_or(0, |asks| asks.number)
    }

    /// Whether clients reach it without naming it in the handshake: addresses are no server names
    /// (RFC 6066 §3).
    pub(crate) fn is_nameless(&self) -> bool {
        let is_address = |host: &String| host.starts_with('[') || host.parse::<Ipv4Addr>().is_ok();
        self.hosts.is_empty() || self.hosts.iter().any(is_address)
    }
}

/// Loads the authorities, and reports what is wrong with them.
pub(super) fn load(
    checks: &mut Checks<'_>,
    asks: &Spanned<config::ClientAuth>,
) -> Option<ClientAuth> {
    let path = checks.resolve(&asks.ca_file);
    let span = asks.ca_file.span();
    let shown = path.display();
    let (message, help) = match fs::read(&path) {
        Err(error) => {
            let help = match error.kind() {
                std::io::ErrorKind::PermissionDenied => "let the user that runs the server read it",
                _ => "correct the path; it is relative to the configuration file",
            };
            (format!("cannot read {shown}: {error}"), help)
        }
        Ok(pem) => match ClientAuthorities::from_pem(&pem) {
            Ok(authorities) => {
                warn(checks, span, &authorities);
                let mode = asks.mode.as_ref().map_or(ClientAuthMode::Require, |mode| **mode);
                let is_required = mode == ClientAuthMode::Require;
                return Some(ClientAuth { authorities, is_required, number: 0, span: asks.span() });
            }
            Err(error) => (format!("{shown}: {error}"), help(&error, &pem)),
        },
    };
    checks.error(codes::CLIENT_AUTHORITIES, message, span, "this file", help);
    None
}

fn help(error: &ClientAuthoritiesError, pem: &[u8]) -> &'static str {
    let marker = b"PRIVATE KEY-----";
    match error {
        ClientAuthoritiesError::NotAuthority { .. } => {
            "name the certificate of who issued it: that one vouches for clients, not their own"
        }
        ClientAuthoritiesError::Malformed { .. } => "copy it anew, all lines of it",
        _ if pem.windows(marker.len()).any(|window| window == marker) => {
            "it holds a private key; name the file with the authority's certificate"
        }
        _ => "PEM files begin with -----BEGIN CERTIFICATE; convert DER with openssl x509",
    }
}

fn warn(checks: &mut Checks<'_>, span: Span, authorities: &ClientAuthorities) {
    for ended in authorities.ended_at(SystemTime::now()) {
        let message = format!("the clients' authority {ended} has expired");
        let diagnostic = Diagnostic::warning(codes::CLIENT_AUTHORITIES, message)
            .at(span, "this file")
            .with_help("its clients are let in all the same; remove it if they should not be");
        checks.push(diagnostic);
    }
}

/// Numbers who is let in.
pub(super) fn number(sites: &mut [Site]) {
    let mut known: Vec<(ClientAuthorities, bool)> = Vec::new();
    for asks in sites.iter_mut().filter_map(|site| site.client_auth.as_mut()) {
        let own = (asks.authorities.clone(), asks.is_required);
        let place = known.iter().position(|one| *one == own).unwrap_or_else(|| {
            known.push(own);
            known.len() - 1
        });
        asks.number = u32::try_from(place + 1).unwrap_or(u32::MAX);
    }
}

/// Reports sites that could not ask, or whose asking could be gone around.
pub(super) fn check(checks: &mut Checks<'_>, sites: &[Site], listeners: &[Listener]) {
    // That nothing speaks TLS is told where it is found.
    if !listeners.iter().any(|listener| listener.is_tls) {
        return;
    }
    if let Some(clear) = listeners.iter().find(|listener| !listener.is_tls) {
        let is_open = |site: &&Site| !site.redirects_to_https;
        let required = sites.iter().filter(is_open).filter_map(|site| site.client_auth.as_ref());
        for asks in required.filter(|asks| asks.is_required) {
            let message = format!(
                "the site requires client certificates, but {} is in the clear",
                clear.address
            );
            let diagnostic = Diagnostic::error(codes::CLIENT_AUTH, message)
                .at(asks.span, "nobody is asked there")
                .with_label(clear.span, "speaks no TLS")
                .with_help("set `redirect_to_https = true` for the site, or remove the listener");
            checks.push(diagnostic);
        }
    }
    let mut nameless = sites.iter().filter(|site| site.is_nameless());
    let Some(first) = nameless.next() else { return };
    if let Some(other) = nameless.find(|other| other.client_trust() != first.client_trust()) {
        let asks = other.client_auth.as_ref().or(first.client_auth.as_ref());
        let message =
            "two sites that clients do not name in the handshake let different clients in";
        let help =
            "give sites for addresses, and the site for all other hosts, the same `client_auth`";
        let span = asks.map_or(Span::UNKNOWN, |asks| asks.span);
        checks.error(codes::CLIENT_AUTH, message, span, "whom to ask is not known", help);
    }
}
