//! Which clients sites let in.

use std::{
    fs,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    time::SystemTime,
};

use hearth_config::{Code, Diagnostic, Span, Spanned};
use hearth_tls_acme::{ClientAuthorities, ClientAuthoritiesError, RevocationLists};

use super::{Checks, Listener, Site};
use crate::{
    codes,
    config::{self, ClientAuthMode},
};

/// Which clients a site lets in.
#[derive(Debug, Clone)]
pub struct ClientAuth {
    /// Who vouches for them, as the files said when they were read.
    pub authorities: ClientAuthorities,
    /// The files, to be read again.
    pub files: ClientFiles,
    /// Whether clients without a certificate are sent away.
    pub is_required: bool,
    /// From 1; sites that let the same clients in, by the same files, have the same.
    pub number: u32,
    /// Where it was written.
    pub span: Span,
}

/// What says which clients are let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientFiles {
    /// Who vouches for them.
    pub authorities: PathBuf,
    /// Who is not let in any more.
    pub revocations: Option<PathBuf>,
}

/// What is wrong with one of the files, and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientFilesProblem {
    /// The stable code.
    pub code: Code,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub help: &'static str,
}

impl ClientFiles {
    /// Reads the files.
    ///
    /// # Errors
    /// What is wrong with the first that cannot be used.
    pub fn read(&self) -> Result<ClientAuthorities, ClientFilesProblem> {
        let path = &self.authorities;
        let problem =
            |message, help| ClientFilesProblem { code: codes::CLIENT_AUTHORITIES, message, help };
        let pem = read(path).map_err(|(message, help)| problem(message, help))?;
        let authorities = ClientAuthorities::from_pem(&pem)
            .map_err(|error| problem(format!("{}: {error}", path.display()), help(&error, &pem)))?;
        let Some(path) = &self.revocations else { return Ok(authorities) };
        let problem =
            |message, help| ClientFilesProblem { code: codes::CLIENT_REVOCATIONS, message, help };
        let pem = read(path).map_err(|(message, help)| problem(message, help))?;
        let lists = RevocationLists::from_pem(&pem);
        lists.and_then(|lists| authorities.with_revocations(lists)).map_err(|error| {
            let help = "PEM files begin with -----BEGIN X509 CRL; convert DER with openssl crl";
            problem(format!("{}: {error}", path.display()), help)
        })
    }
}

fn read(path: &Path) -> Result<Vec<u8>, (String, &'static str)> {
    fs::read(path).map_err(|error| {
        let help = match error.kind() {
            std::io::ErrorKind::PermissionDenied => "let the user that runs the server read it",
            _ => "correct the path; it is relative to the configuration file",
        };
        (format!("cannot read {}: {error}", path.display()), help)
    })
}

/// What is doubtful about who is let in, and what to do: clients who should come in do not, or the other way round.
pub(crate) fn doubts(authorities: &ClientAuthorities) -> Vec<ClientFilesProblem> {
    let now = SystemTime::now();
    let expired = authorities.ended_at(now).into_iter().map(|who| ClientFilesProblem {
        code: codes::CLIENT_AUTHORITIES,
        message: format!("the clients' authority {who} has expired"),
        help: "its clients are let in all the same; remove it if they should not be",
    });
    let ended = authorities.lists_ended_at(now).into_iter().map(|who| ClientFilesProblem {
        code: codes::CLIENT_REVOCATIONS,
        message: format!(
            "the list of revocations of {who} has ended: none of its clients is let in"
        ),
        help: "put the authority's current list in its place",
    });
    let without = authorities.without_list().into_iter().map(|who| ClientFilesProblem {
        code: codes::CLIENT_REVOCATIONS,
        message: format!("there is no list of revocations of {who}: none of its clients is let in"),
        help: "add its list, an empty one if nobody is revoked",
    });
    expired.chain(ended).chain(without).collect()
}

impl ClientAuth {
    /// Whether it is the same by the same files. Files that say the same today may not do so tomorrow.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.files == other.files && self.is_required == other.is_required
    }
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
    let files = ClientFiles {
        authorities: checks.resolve(&asks.ca_file),
        revocations: asks.crl_file.as_ref().map(|path| checks.resolve(path)),
    };
    let place = |code| match &asks.crl_file {
        Some(file) if code == codes::CLIENT_REVOCATIONS => file.span(),
        _ => asks.ca_file.span(),
    };
    let authorities = match files.read() {
        Ok(authorities) => authorities,
        Err(ClientFilesProblem { code, message, help }) => {
            checks.error(code, message, place(code), "this file", help);
            return None;
        }
    };
    for ClientFilesProblem { code, message, help } in doubts(&authorities) {
        let diagnostic = Diagnostic::warning(code, message);
        checks.push(diagnostic.at(place(code), "this file").with_help(help));
    }
    let mode = asks.mode.as_ref().map_or(ClientAuthMode::Require, |mode| **mode);
    let is_required = mode == ClientAuthMode::Require;
    Some(ClientAuth { authorities, files, is_required, number: 0, span: asks.span() })
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

/// Numbers who is let in.
pub(super) fn number(sites: &mut [Site]) {
    let mut known: Vec<ClientAuth> = Vec::new();
    for asks in sites.iter_mut().filter_map(|site| site.client_auth.as_mut()) {
        let place = known.iter().position(|one| one.is_same(asks)).unwrap_or_else(|| {
            known.push(asks.clone());
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
