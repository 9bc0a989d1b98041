//! The section about the TLS of one site.

use std::path::PathBuf;

use hearth_config::{HumanDuration, Spanned};

use super::describe::{entry, section, words};

section! {
    /// The certificate of a site, and the certificates of its clients.
    pub struct SiteTls {
        /// PEM file with the certificate and those that lead to its root; not set: `tls.acme` has one.
        certificate: Option<Spanned<PathBuf>> = None,
        /// PEM file with the private key; not protected by a password.
        key: Option<Spanned<PathBuf>> = None,
        /// Which clients are let in; not set: all, without being asked for a certificate.
        client_auth: Option<Spanned<ClientAuth>> = None,
        /// Browsers that have seen the site over TLS refuse to reach it otherwise; not set: they do not.
        hsts: Option<Spanned<Hsts>> = None,
    }
}

entry! {
    /// What browsers are told by `strict-transport-security` (HSTS, RFC 6797), over TLS only.
    pub struct Hsts {
        required {
            /// For how long they remember, from their last visit, such as `365d`. `0` makes them forget.
            max_age: Spanned<HumanDuration>,
        }
        optional {
            /// Whether it is true for every host beneath, too.
            subdomains: bool,
            /// Whether browsers may have it built in; wants `subdomains` and a year at least.
            preload: Option<Spanned<bool>>,
        }
    }
}

entry! {
    /// Which clients of a site are let in: those with a certificate (mutual TLS).
    pub struct ClientAuth {
        required {
            /// PEM file with the certificates of the authorities that vouch for clients.
            ca_file: Spanned<PathBuf>,
        }
        optional {
            /// PEM file with the lists of revocations (CRL) of these authorities, one of each; not set: nobody is
            /// revoked.
            crl_file: Option<Spanned<PathBuf>>,
            /// Whether clients have to show one; default `require`.
            mode: Option<Spanned<ClientAuthMode>>,
        }
    }
}

words! {
    /// Whether clients have to show a certificate.
    pub enum ClientAuthMode {
        /// Without a certificate, or with one that none of the authorities vouches for, there is no connection.
        Require = "require",
        /// Clients are asked for a certificate and may do without; a wrong one is refused all the same.
        Optional = "optional",
    }
}
