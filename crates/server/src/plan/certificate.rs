//! Certificates of sites: what `net` says of one that cannot be used, put where it was written.

use std::{
    path::{Path, PathBuf},
    time::SystemTime,
};

use hearth_config::{Code, Diagnostic, Span, Spanned};
use hearth_net::{CertError, Certificate};
use hearth_tls_acme::{ImportError, import};

use super::Checks;
use crate::{codes, config::SiteTls};

/// The two files of a certificate; they may be the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The server's own certificate, and those that lead to its root.
    pub chain: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

impl CertificateFiles {
    /// Reads them, and puts the chain in order where it is not.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn read(&self) -> Result<Certificate, CertError> {
        let loaded = Certificate::from_pem_files(&self.chain, &self.key);
        // The server's own certificate may not be the first.
        if !matches!(loaded, Ok(_) | Err(CertError::KeyMismatch { .. })) {
            return loaded;
        }
        let read = |path: &Path| std::fs::read(path).ok();
        let (Some(chain), Some(key)) = (read(&self.chain), read(&self.key)) else { return loaded };
        match import(&chain, &key, SystemTime::now()) {
            Ok(imported) if !imported.repairs.is_empty() => Ok(imported.certificate),
            _ => loaded,
        }
    }
}

/// Where the certificate of a site is, if it names both files.
pub(super) fn files(checks: &Checks<'_>, tls: &SiteTls) -> Option<CertificateFiles> {
    let (chain, key) = (tls.certificate.as_ref()?, tls.key.as_ref()?);
    Some(CertificateFiles { chain: checks.resolve(chain), key: checks.resolve(key) })
}

/// The two files of a certificate, as they are written.
struct Pair<'a> {
    certificate: &'a Spanned<PathBuf>,
    key: &'a Spanned<PathBuf>,
}

/// Loads the certificate of a site, and reports what is wrong with it. Where an authority is configured there
/// need not be one.
pub(crate) fn load(
    checks: &mut Checks<'_>,
    tls: &Spanned<SiteTls>,
    hosts: &[String],
    has_authority: bool,
) -> Option<Certificate> {
    let tls = &pair(checks, tls, has_authority)?;
    let chain_path = checks.resolve(tls.certificate);
    let key_path = checks.resolve(tls.key);
    let loaded = Certificate::from_pem_files(&chain_path, &key_path);
    let certificate = match (loaded, chain(checks, tls, &chain_path, &key_path)) {
        // The server's own certificate may not be the first.
        (Ok(_) | Err(CertError::KeyMismatch { .. }), Some(repaired)) => repaired,
        (Ok(certificate), None) => certificate,
        (Err(error), _) => {
            checks.push(explain(&error, tls, &chain_path, &key_path));
            return None;
        }
    };
    warn(checks, tls, &certificate, hosts);
    Some(certificate)
}

fn pair<'a>(
    checks: &mut Checks<'_>,
    tls: &'a Spanned<SiteTls>,
    has_authority: bool,
) -> Option<Pair<'a>> {
    match (&tls.certificate, &tls.key) {
        (Some(certificate), Some(key)) => return Some(Pair { certificate, key }),
        (Some(alone), None) => {
            let help = "add `key`, the file with its private key; both may be in one file";
            checks.error(codes::KEY, "a certificate without its key", alone.span(), "", help);
        }
        (None, Some(alone)) => {
            let help = "add `certificate`, the file that the key is for; both may be in one file";
            let message = "a private key without its certificate";
            checks.error(codes::CERTIFICATE, message, alone.span(), "", help);
        }
        (None, None) if !has_authority => {
            let help = "add `certificate` and `key`, or have one from an authority by `tls.acme`";
            let message = "the site has no certificate";
            checks.error(codes::NO_CERTIFICATE, message, tls.span(), "names none", help);
        }
        (None, None) => {}
    }
    None
}

/// Puts the chain in order where it is not, and says so; `None` where it is, or cannot be.
fn chain(checks: &mut Checks<'_>, tls: &Pair<'_>, chain: &Path, key: &Path) -> Option<Certificate> {
    let (chain, key) = (std::fs::read(chain).ok()?, std::fs::read(key).ok()?);
    let (message, help, certificate) = match import(&chain, &key, SystemTime::now()) {
        Ok(imported) if imported.repairs.is_empty() => return None,
        Ok(imported) => {
            let message =
                format!("the chain is not as it is sent: {}", imported.repairs.join("; "));
            let help = "write the server's own certificate first, each followed by its issuer";
            (message, help, Some(imported.certificate))
        }
        Err(error @ ImportError::ExpiredIssuer { .. }) => {
            (error.to_string(), "clients will not trust the site until then", None)
        }
        Err(_told_otherwise) => return None,
    };
    let diagnostic = Diagnostic::warning(codes::CERTIFICATE_DOUBTFUL, message);
    checks.push(diagnostic.at(tls.certificate.span(), "this certificate").with_help(help));
    certificate
}

fn explain(error: &CertError, tls: &Pair<'_>, chain: &Path, key: &Path) -> Diagnostic {
    let relative = "correct the path; it is relative to the configuration file";
    let readable = "let the user that runs the server read it";
    // Both may be in one file; then the certificate's key is as good a place as the other.
    let place = |path: &Path| -> (Code, Span) {
        if path == key && path != chain {
            (codes::KEY, tls.key.span())
        } else {
            (codes::CERTIFICATE, tls.certificate.span())
        }
    };
    let diagnostic = |(code, span), message: String, help: &str| {
        Diagnostic::error(code, message).at(span, "this file").with_help(help)
    };
    let key_at = tls.key.span();
    match error {
        CertError::Unreadable { path, source } => {
            let help = match source.kind() {
                std::io::ErrorKind::PermissionDenied => readable,
                _ => relative,
            };
            diagnostic(place(path), format!("cannot read {}: {source}", path.display()), help)
        }
        CertError::NoCertificate { path } => {
            let (message, help) = contents(path, "certificate");
            diagnostic((codes::CERTIFICATE, tls.certificate.span()), message, help)
        }
        CertError::NoKey { path } => {
            let (message, help) = contents(path, "private key");
            diagnostic((codes::KEY, key_at), message, help)
        }
        CertError::EncryptedKey { path } => {
            let shown = path.display();
            let message = format!("the private key {shown} is protected by a password");
            let help = format!("take the password off: openssl pkey -in {shown} -out plain.pem");
            diagnostic((codes::KEY_PROTECTED, key_at), message, &help)
        }
        CertError::UnsupportedKey { path, .. } => {
            let message = format!("the private key {} is of an unknown kind", path.display());
            let help = "use an ECDSA, Ed25519 or RSA key of 2048 to 8192 bits";
            diagnostic((codes::KEY, key_at), message, help)
        }
        CertError::Malformed { path, reason } => {
            let message = format!("{} is damaged: {reason}", path.display());
            diagnostic(place(path), message, "copy it anew, all lines of it")
        }
        CertError::KeyMismatch { .. } => {
            let message = "the private key does not belong to the certificate".to_owned();
            let help = "name the key that the certificate was requested with; the server's own \
                        certificate comes first in its file";
            Diagnostic::error(codes::KEY_MISMATCH, message)
                .at(key_at, "the key of another certificate")
                .with_label(tls.certificate.span(), "the certificate")
                .with_help(help)
        }
        other => {
            let at = (codes::CERTIFICATE, tls.certificate.span());
            diagnostic(at, other.to_string(), "use another certificate")
        }
    }
}

/// What a file holds in the place of what it should.
fn contents(path: &Path, wanted: &str) -> (String, &'static str) {
    let shown = path.display();
    let text = std::fs::read(path).unwrap_or_default();
    let has = |marker: &[u8]| text.windows(marker.len()).any(|window| window == marker);
    if text.trim_ascii().is_empty() {
        (format!("{shown} is empty: it should hold a {wanted} in PEM form"), "write it anew")
    } else if has(b"PRIVATE KEY-----") && wanted == "certificate" {
        let help = "are `certificate` and `key` mixed up?";
        (format!("{shown} holds a private key, not a certificate"), help)
    } else if has(b"-----BEGIN CERTIFICATE-----") && wanted != "certificate" {
        let help = "are `certificate` and `key` mixed up?";
        (format!("{shown} holds a certificate, not a private key"), help)
    } else {
        let help = "PEM files begin with -----BEGIN; convert DER with openssl x509 or openssl pkey";
        (format!("{shown} holds no {wanted} in PEM form"), help)
    }
}

/// What clients will not like, but what does not keep the server from starting.
fn warn(checks: &mut Checks<'_>, tls: &Pair<'_>, certificate: &Certificate, hosts: &[String]) {
    let mut warn = |message: String, help: &str| {
        let diagnostic = Diagnostic::warning(codes::CERTIFICATE_DOUBTFUL, message);
        checks.push(diagnostic.at(tls.certificate.span(), "this certificate").with_help(help));
    };
    match certificate.check(SystemTime::now()) {
        Err(CertError::Expired { .. }) => {
            warn("the certificate has expired".to_owned(), "renew it");
        }
        Err(CertError::NotYetValid { .. }) => {
            warn("the certificate is not valid yet".to_owned(), "check the clock of this machine");
        }
        _ => {}
    }
    for host in hosts.iter().filter(|host| host.parse::<std::net::IpAddr>().is_err()) {
        if !certificate.names().iter().any(|name| covers(name, host)) {
            let message = format!("the certificate does not name `{host}`");
            warn(message, "request one that names every host of the site");
        }
    }
}

/// Whether a name of a certificate stands for a host of a site (RFC 9525 §6.3).
fn covers(name: &str, host: &str) -> bool {
    if name.eq_ignore_ascii_case(host) {
        return true;
    }
    let domain = |text: &str| text.split_once('.').map(|(_, domain)| domain.to_ascii_lowercase());
    name.starts_with("*.") && !host.starts_with("*.") && domain(name) == domain(host)
}

#[cfg(test)]
mod tests {
    use super::covers;

    #[test]
    fn names_cover_hosts() {
        for (name, host, want) in [
            ("example.com", "example.com", true),
            ("EXAMPLE.com", "example.com", true),
            ("*.example.com", "www.example.com", true),
            ("*.example.com", "*.example.com", true),
            ("*.example.com", "a.b.example.com", false),
            ("*.example.com", "example.com", false),
            ("www.example.com", "*.example.com", false),
        ] {
            assert_eq!(covers(name, host), want, "{name} {host}");
        }
    }
}
