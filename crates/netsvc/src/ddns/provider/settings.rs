//! What a service must be told, by name: the same for configurations, commands and tests.

use std::{collections::BTreeMap, fmt, sync::Arc};

use hearth_http_client::Client;

use super::{
    DnsProvider, cloudflare::Cloudflare, desec::DeSec, duckdns::DuckDns, dyndns2::Dyndns2,
    hetzner::Hetzner, http::Service, namecheap::Namecheap, rfc2136::Rfc2136, route53::Route53,
};
use crate::{
    ddns::{Secret, SystemClock, WallClock},
    dns::{DnsClient, Name, TsigKey},
};

/// A service, and the keys of its settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProviderInfo {
    /// Its name in configurations.
    pub name: &'static str,
    /// Its name to people.
    pub title: &'static str,
    /// Its keys.
    pub keys: &'static [KeyInfo],
    /// Whether it can answer DNS-01 challenges.
    pub has_txt: bool,
}

/// A key of a service's settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct KeyInfo {
    /// The key.
    pub name: &'static str,
    /// Whether it must be there.
    pub is_required: bool,
    /// Whether its value must be kept secret.
    pub is_secret: bool,
    /// What it is.
    pub help: &'static str,
}

/// The settings of one service.
#[derive(Clone)]
pub struct ProviderSettings {
    info: &'static ProviderInfo,
    values: BTreeMap<&'static str, Secret>,
}

/// What services need to work with.
#[derive(Clone)]
#[non_exhaustive]
pub struct ProviderContext {
    /// Sends their requests; it must trust the services' certificates.
    pub http: Client,
    /// Sends updates to name servers.
    pub dns: DnsClient,
    /// Tells the time for signatures.
    pub clock: Arc<dyn WallClock>,
    /// Takes the place of the service's own address, scheme included. For tests and laboratories.
    pub endpoint: Option<String>,
}

/// Why settings cannot be used. Who wrote them must act.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidSettings {
    /// A value is not what it should be.
    #[error("{provider}: {key} is no {expected}")]
    InvalidValue {
        /// The service.
        provider: &'static str,
        /// The key.
        key: &'static str,
        /// What is expected.
        expected: &'static str,
    },
    /// A key is missing.
    #[error("{provider}: {key} is missing: {help}")]
    MissingKey {
        /// The service.
        provider: &'static str,
        /// The key.
        key: &'static str,
        /// What it is.
        help: &'static str,
    },
    /// There is no such key.
    #[error("{provider} has no key {key}; it has {}", names_of(.known))]
    UnknownKey {
        /// The service.
        provider: &'static str,
        /// The key.
        key: String,
        /// Those that there are.
        known: &'static [KeyInfo],
    },
    /// There is no such service.
    #[error("there is no provider {name}; there are {}", providers())]
    UnknownProvider {
        /// What was asked for.
        name: String,
    },
}

impl ProviderInfo {
    /// The service of a name.
    ///
    /// # Errors
    /// [`InvalidSettings::UnknownProvider`], which lists them all.
    pub fn of(name: &str) -> Result<&'static Self, InvalidSettings> {
        let found = PROVIDERS.iter().find(|info| info.name == name);
        found.ok_or_else(|| InvalidSettings::UnknownProvider { name: name.to_owned() })
    }
}

impl ProviderContext {
    /// The machine's own clock, and the services' own addresses.
    #[must_use]
    pub fn new(http: Client, dns: DnsClient) -> Self {
        Self { http, dns, clock: Arc::new(SystemClock), endpoint: None }
    }
}

impl ProviderSettings {
    /// Settings from pairs of keys and values.
    ///
    /// # Errors
    /// [`InvalidSettings`] where a key is unknown or missing. Values are looked at by
    /// [`build`](Self::build).
    pub fn new<K: AsRef<str>>(
        provider: &str,
        pairs: impl IntoIterator<Item = (K, Secret)>,
    ) -> Result<Self, InvalidSettings> {
        let info = ProviderInfo::of(provider)?;
        let mut values = BTreeMap::new();
        for (key, value) in pairs {
            let key = key.as_ref();
            let Some(known) = info.keys.iter().find(|known| known.name == key) else {
                let (provider, known) = (info.name, info.keys);
                return Err(InvalidSettings::UnknownKey { provider, key: key.to_owned(), known });
            };
            if !value.expose().is_empty() {
                values.insert(known.name, value);
            }
        }
        Self { info, values }.complete()
    }

    /// Settings from wherever `look_up` finds the value of a key: environment, files, prompts.
    ///
    /// # Errors
    /// [`InvalidSettings`] where a key is missing.
    pub fn from_lookup(
        provider: &str,
        mut look_up: impl FnMut(&KeyInfo) -> Option<Secret>,
    ) -> Result<Self, InvalidSettings> {
        let info = ProviderInfo::of(provider)?;
        let found = info.keys.iter().filter_map(|key| Some((key.name, look_up(key)?)));
        Self { info, values: found.collect() }.complete()
    }

    /// Which service it is.
    #[must_use]
    pub fn info(&self) -> &'static ProviderInfo {
        self.info
    }

    /// Makes the service.
    ///
    /// # Errors
    /// [`InvalidSettings`] where a value is malformed. Nothing is sent.
    pub fn build(
        &self,
        context: &ProviderContext,
    ) -> Result<Arc<dyn DnsProvider>, InvalidSettings> {
        let provider: Arc<dyn DnsProvider> = match self.info.name {
            "cloudflare" => Arc::new(Cloudflare {
                service: self.service(context, "https://api.cloudflare.com"),
                token: self.secret("token"),
                zone: self.name("zone")?,
            }),
            "desec" => Arc::new(DeSec {
                update: self.service(context, "https://update.dedyn.io"),
                rest: self.service(context, "https://desec.io"),
                token: self.secret("token"),
            }),
            "duckdns" => Arc::new(DuckDns {
                service: self.service(context, "https://www.duckdns.org"),
                token: self.secret("token"),
            }),
            "dyndns2" => Arc::new(Dyndns2 {
                service: self.service(context, &server_url(self.text("server"))),
                user: self.text("user").to_owned(),
                password: self.secret("password"),
            }),
            "hetzner" => Arc::new(Hetzner {
                service: self.service(context, "https://api.hetzner.cloud"),
                token: self.secret("token"),
                zone: self.name("zone")?,
            }),
            "namecheap" => Arc::new(Namecheap {
                service: self.service(context, "https://dynamicdns.park-your-domain.com"),
                domain: self.name("domain")?.expect("the key is required"),
                password: self.secret("password"),
            }),
            "route53" => Arc::new(Route53 {
                service: self.service(context, "https://route53.amazonaws.com"),
                access_key_id: self.text("access-key-id").to_owned(),
                secret_access_key: self.secret("secret-access-key"),
                session_token: self.values.get("session-token").cloned(),
                zone_id: self.values.get("zone-id").map(|id| id.expose().to_owned()),
                clock: Arc::clone(&context.clock),
            }),
            _ => Arc::new(self.rfc2136(context)?),
        };
        Ok(provider)
    }

    fn rfc2136(&self, context: &ProviderContext) -> Result<Rfc2136, InvalidSettings> {
        let server = context.endpoint.as_deref().unwrap_or(self.text("server"));
        let key_name = self.name("key-name")?;
        let key_secret = self.values.get("key").cloned();
        let key = match (&key_name, &key_secret) {
            (Some(name), Some(secret)) => {
                let key = TsigKey::new(name.clone(), secret);
                Some(key.map_err(|_| self.invalid("key", "base64"))?)
            }
            (None, None) => None,
            (Some(_), None) => return Err(self.missing("key")),
            (None, Some(_)) => return Err(self.missing("key-name")),
        };
        let ttl = match self.values.get("ttl") {
            Some(ttl) => ttl.expose().parse().map_err(|_| self.invalid("ttl", "number"))?,
            None => 60,
        };
        Ok(Rfc2136 {
            server: with_port(server),
            zone: self.name("zone")?,
            key,
            key_name: key_name.map(|name| name.to_string()).unwrap_or_default(),
            key_secret,
            ttl,
            dns: context.dns.clone(),
            clock: Arc::clone(&context.clock),
        })
    }

    fn complete(self) -> Result<Self, InvalidSettings> {
        let mut required = self.info.keys.iter().filter(|key| key.is_required);
        match required.find(|key| !self.values.contains_key(key.name)) {
            Some(key) => Err(self.missing(key.name)),
            None => Ok(self),
        }
    }

    fn service(&self, context: &ProviderContext, default: &str) -> Service {
        let endpoint = context.endpoint.as_deref();
        let service = Service::new(self.info.name, context.http.clone(), endpoint, default);
        let secrets = self.info.keys.iter().filter(|key| key.is_secret);
        secrets.filter_map(|key| self.values.get(key.name)).fold(service, Service::hiding)
    }

    fn text(&self, key: &'static str) -> &str {
        self.values.get(key).map_or("", Secret::expose)
    }

    fn secret(&self, key: &'static str) -> Secret {
        self.values.get(key).cloned().expect("the key is required")
    }

    fn name(&self, key: &'static str) -> Result<Option<Name>, InvalidSettings> {
        let text = self.values.get(key).map(|text| text.expose().trim());
        text.map(str::parse).transpose().map_err(|_| self.invalid(key, "domain name"))
    }

    fn invalid(&self, key: &'static str, expected: &'static str) -> InvalidSettings {
        InvalidSettings::InvalidValue { provider: self.info.name, key, expected }
    }

    fn missing(&self, key: &'static str) -> InvalidSettings {
        let known = self.info.keys.iter().find(|known| known.name == key);
        let help = known.map_or("", |known| known.help);
        InvalidSettings::MissingKey { provider: self.info.name, key, help }
    }
}

impl fmt::Debug for ProviderSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProviderSettings")
            .field("provider", &self.info.name)
            .finish_non_exhaustive()
    }
}

/// A host becomes an `https` URL; what has a scheme stays.
fn server_url(server: &str) -> String {
    if server.contains("://") { server.to_owned() } else { format!("https://{server}") }
}

/// Port 53 unless another is there: `ns1.example.com`, `192.0.2.1:5353`, `2001:db8::1`, `[::1]:53`.
fn with_port(server: &str) -> String {
    let has_port = server.parse::<std::net::SocketAddr>().is_ok()
        || !server.starts_with('[') && server.matches(':').count() == 1;
    match (has_port, server.parse::<std::net::Ipv6Addr>()) {
        (true, _) => server.to_owned(),
        (false, Ok(address)) => format!("[{address}]:53"),
        (false, Err(_)) => format!("{server}:53"),
    }
}

fn names_of(keys: &[KeyInfo]) -> String {
    keys.iter().map(|key| key.name).collect::<Vec<_>>().join(", ")
}

fn providers() -> String {
    PROVIDERS.iter().map(|info| info.name).collect::<Vec<_>>().join(", ")
}

const fn key(name: &'static str, help: &'static str) -> KeyInfo {
    KeyInfo { name, is_required: true, is_secret: false, help }
}

const fn optional(name: &'static str, help: &'static str) -> KeyInfo {
    KeyInfo { name, is_required: false, is_secret: false, help }
}

const fn secret(name: &'static str, help: &'static str) -> KeyInfo {
    KeyInfo { name, is_required: true, is_secret: true, help }
}

const fn optional_secret(name: &'static str, help: &'static str) -> KeyInfo {
    KeyInfo { name, is_required: false, is_secret: true, help }
}

const ZONE: KeyInfo = optional("zone", "the zone, if it is not the longest one that is found");

/// Every service.
pub const PROVIDERS: &[ProviderInfo] = &[
    ProviderInfo {
        name: "cloudflare",
        title: "Cloudflare",
        keys: &[secret("token", "an API token with the right Zone / DNS / Edit"), ZONE],
        has_txt: true,
    },
    ProviderInfo {
        name: "desec",
        title: "deSEC",
        keys: &[secret("token", "a token of the account, not its password")],
        has_txt: true,
    },
    ProviderInfo {
        name: "duckdns",
        title: "Duck DNS",
        keys: &[secret("token", "the token that the start page shows")],
        has_txt: true,
    },
    ProviderInfo {
        name: "dyndns2",
        title: "any service that speaks dyndns2",
        keys: &[
            key("server", "the host that takes updates, such as dynupdate.no-ip.com"),
            key("user", "the user, sometimes the name itself"),
            secret("password", "the password or update key"),
        ],
        has_txt: false,
    },
    ProviderInfo {
        name: "hetzner",
        title: "Hetzner",
        keys: &[secret("token", "a token of the Cloud project, with the right to write"), ZONE],
        has_txt: true,
    },
    ProviderInfo {
        name: "namecheap",
        title: "Namecheap",
        keys: &[
            key("domain", "the domain as it is registered, such as example.com"),
            secret("password", "the Dynamic DNS Password of the domain, not the account's"),
        ],
        has_txt: false,
    },
    ProviderInfo {
        name: "rfc2136",
        title: "a name server that takes dynamic updates",
        keys: &[
            key("server", "the primary name server, with a port if it is not 53"),
            optional("zone", "the zone, if the server shall not be asked for it"),
            optional("key-name", "the name of the TSIG key"),
            optional_secret("key", "the TSIG key, HMAC-SHA256, in base64"),
            optional("ttl", "time to live of the records in seconds, 60 if not set"),
        ],
        has_txt: true,
    },
    ProviderInfo {
        name: "route53",
        title: "Amazon Route 53",
        keys: &[
            key("access-key-id", "the id of an access key"),
            secret("secret-access-key", "the access key"),
            optional_secret("session-token", "the token of temporary credentials"),
            optional("zone-id", "the id of the hosted zone, if it shall not be looked for"),
        ],
        has_txt: true,
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers() {
        for (server, expected) in [
            ("ns1.example.com", "ns1.example.com:53"),
            ("ns1.example.com:5353", "ns1.example.com:5353"),
            ("192.0.2.1", "192.0.2.1:53"),
            ("2001:db8::1", "[2001:db8::1]:53"),
            ("[2001:db8::1]", "[2001:db8::1]:53"),
            ("[2001:db8::1]:54", "[2001:db8::1]:54"),
        ] {
            assert_eq!(with_port(server), expected);
        }
    }

    #[test]
    fn messages_help() {
        let pairs = [("tokn", Secret::from("x"))];
        let error = ProviderSettings::new("cloudflare", pairs).unwrap_err();
        assert_eq!(error.to_string(), "cloudflare has no key tokn; it has token, zone");
        let error = ProviderSettings::new("namecheap", [("domain", Secret::from("a.b"))]);
        let error = error.unwrap_err().to_string();
        assert!(error.contains("password is missing: the Dynamic DNS Password"), "{error}");
        let error = ProviderSettings::from_lookup("cloudflar", |_| None).unwrap_err().to_string();
        assert!(error.contains("duckdns"), "{error}");
    }
}
