//! Sections about the way from the internet to this machine: certificates, router, name service, outside view.

use std::{collections::BTreeMap, path::PathBuf};

use hearth_config::{HumanDuration, Secret, Spanned};

use super::describe::{entry, section, words};

fn own<T>(value: T) -> Spanned<T> {
    Spanned::unknown(value)
}

section! {
    /// Certificates from an authority that speaks ACME (RFC 8555), for the hosts of every site without `tls` of its
    /// own. `hearth up` works without this section; `hearth serve` wants certificates where it is there.
    pub struct Acme {
        /// Where the authority may write to when something is wrong.
        email: Option<Spanned<String>> = None,
        /// The authority's directory.
        directory: Spanned<String> = own(LETS_ENCRYPT.to_owned()),
        /// A directory for trials: after a failure orders are tried there first.
        staging: Option<Spanned<String>> = None,
        /// The root of a private authority's own HTTPS certificate, in PEM form.
        ca_file: Option<Spanned<PathBuf>> = None,
        /// How control over a name is shown; not set: what the authority and this machine both can.
        challenge: Option<Spanned<Challenge>> = None,
        /// Key identifier of the external account binding that some authorities want.
        eab_key_id: Option<Spanned<String>> = None,
        /// Its HMAC key, in base64.
        eab_hmac_key: Option<Spanned<Secret<String>>> = None,
        /// The profile, such as `shortlived`; not set: the authority's default.
        profile: Option<Spanned<String>> = None,
        /// A program that sets and removes TXT records for `dns-01`; not set: the provider of `ddns`.
        dns_hook: Option<Spanned<PathBuf>> = None,
        /// Where certificates and accounts are kept; not set: a folder of the machine's state.
        storage: Option<Spanned<PathBuf>> = None,
        /// Other authorities, best first: asked after three failures that are not about the names.
        fallback: Vec<Spanned<FallbackAuthority>> = Vec::new(),
        /// Names that certificates are had for when somebody asks for them.
        on_demand: OnDemand = OnDemand::default(),
    }
}

entry! {
    /// An authority that is asked where the one before it fails.
    pub struct FallbackAuthority {
        required {
            /// The authority's directory.
            directory: Spanned<String>,
        }
        optional {
            /// The root of a private authority's own HTTPS certificate, in PEM form.
            ca_file: Option<Spanned<PathBuf>>,
            /// Key identifier of the external account binding that some authorities want.
            eab_key_id: Option<Spanned<String>>,
            /// Its HMAC key, in base64.
            eab_hmac_key: Option<Spanned<Secret<String>>>,
        }
    }
}

words! {
    /// How control over a name is shown.
    pub enum Challenge {
        /// By a file on port 80.
        Http01 = "http-01",
        /// By a handshake on port 443.
        TlsAlpn01 = "tls-alpn-01",
        /// By a TXT record; the only way to wildcards.
        Dns01 = "dns-01",
    }
}

section! {
    /// Names that certificates are had for when somebody asks for them. Without either key: none.
    pub struct OnDemand {
        /// These names; `*.example.com` is every name one label longer.
        allow: Vec<Spanned<String>> = Vec::new(),
        /// A URL that answers 2xx to `?domain=NAME` for the names that may have one.
        ask: Option<Spanned<String>> = None,
        /// How long a visitor's handshake waits for the certificate; then it gets a self-signed one.
        wait: Spanned<HumanDuration> = own(HumanDuration::from_secs(20)),
    }
}

entry! {
    /// A service that is told this machine's address whenever it changes.
    pub struct Ddns {
        required {
            /// `cloudflare`, `desec`, `duckdns`, `dyndns2`, `hetzner`, `namecheap`, `rfc2136` or `route53`.
            provider: Spanned<String>,
        }
        optional {
            /// The names; not set: the hosts of the sites.
            hosts: Vec<Spanned<String>>,
            /// What the service wants to know, such as `token`; what each one takes stands in the chapter on
            /// dynamic DNS.
            settings: BTreeMap<Spanned<String>, Secret<String>>,
        }
    }
}

section! {
    /// How the router leads ports to this machine. `hearth up` does so; `hearth serve` never.
    pub struct PortMap {
        /// Whether the router is asked at all; `false` where the ports are forwarded by hand.
        enabled: bool = true,
        /// For how long it is asked at a time.
        lease: Spanned<HumanDuration> = own(HumanDuration::from_secs(7200)),
        /// What is spoken to it, all at once.
        methods: Spanned<Vec<Spanned<MapMethod>>> =
            own([MapMethod::Pcp, MapMethod::NatPmp, MapMethod::Upnp].map(own).to_vec()),
    }
}

words! {
    /// A way to talk to a router.
    pub enum MapMethod {
        /// Port Control Protocol (RFC 6887).
        Pcp = "pcp",
        /// NAT Port Mapping Protocol (RFC 6886).
        NatPmp = "nat-pmp",
        /// UPnP Internet Gateway Device, version 1 or 2.
        Upnp = "upnp",
    }
}

section! {
    /// Who is asked for the public address. It counts when sources of two kinds agree.
    pub struct Address {
        /// STUN servers, as host and port; not set: well-known ones.
        stun: Option<Spanned<Vec<Spanned<String>>>> = None,
        /// URLs that answer with the address of who asks; not set: well-known ones.
        echo: Option<Spanned<Vec<Spanned<String>>>> = None,
        /// The root of private echoes' HTTPS certificates, in PEM form.
        ca_file: Option<Spanned<PathBuf>> = None,
    }
}

section! {
    /// Who looks from outside, and who tells the time.
    pub struct Outside {
        /// A `hearth probe --listen` on a machine elsewhere, as URL; not set: nobody looks by itself.
        probe: Option<Spanned<String>> = None,
        /// What it is to be told, where it was started with `--token-file`.
        token: Option<Spanned<Secret<String>>> = None,
        /// An NTP server, as host or host and port.
        time: Spanned<String> = own("pool.ntp.org".to_owned()),
    }
}

/// The directory of Let's Encrypt.
pub const LETS_ENCRYPT: &str = "https://acme-v02.api.letsencrypt.org/directory";
