//! What was found out about a machine, its router and its name; nothing here is an opinion.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use serde::Serialize;

/// The port of HTTP.
pub const HTTP: u16 = 80;
/// The port of HTTPS.
pub const HTTPS: u16 = 443;

/// Everything that was found out. What could not be found out is `None` or `Unknown`, and never counts as good.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Facts {
    /// The name that the site shall be reached by.
    pub domain: String,
    /// Seconds by which the clock is ahead; negative: behind.
    pub clock_ahead_seconds: Option<i64>,
    /// Bytes free where certificates are kept.
    pub disk_free_bytes: Option<u64>,
    /// The router's address on this side.
    pub gateway: Option<IpAddr>,
    /// This machine's address on that side.
    pub local_address: Option<IpAddr>,
    /// Whether the machine has a public address itself, so that no router has to be asked.
    pub is_public: bool,
    /// Whether the router answers questions about mappings; `None`: nobody asked.
    pub router_answers: Option<bool>,
    /// The router's address on the other side, as it says.
    pub router_external: Option<IpAddr>,
    /// The machine behind the router, where the router does not tell its address.
    pub second_hop: Option<IpAddr>,
    /// The public IPv4 address that independent sources agree on.
    pub public_v4: Option<Ipv4Addr>,
    /// A stable public IPv6 address of this machine.
    pub public_v6: Option<Ipv6Addr>,
    /// HTTP and HTTPS, by port.
    pub ports: BTreeMap<u16, Port>,
    /// Whether the public address works from inside.
    pub hairpin: Seen,
    /// What the name service says; `None`: it was not asked.
    pub dns: Option<Dns>,
    /// Who may issue and what came of it.
    pub certificate: CertificateFacts,
}

/// One port.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Port {
    /// Whether this machine can listen there.
    pub bind: Bind,
    /// What the router made of it.
    pub mapping: MappingFact,
    /// Whether it is reached from outside.
    pub outside: Seen,
}

/// Whether this machine can listen at a port.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Bind {
    /// It can, or Hearth does already.
    Ours,
    /// The system refuses, in its words.
    Refused(String),
    /// Another program has it; its name.
    Taken(String),
    /// Nobody tried.
    #[default]
    Unknown,
}

/// What the router made of a wish for a mapping.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum MappingFact {
    /// Another machine has the port, or a rule made by hand; in the router's words.
    Elsewhere(String),
    /// It said yes.
    Made,
    /// It said yes and did not have it afterwards.
    NotKept,
    /// It said no, in these words.
    Refused(String),
    /// Nobody asked, or it did not answer.
    #[default]
    Unknown,
}

/// What came of a connection.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Seen {
    /// Somebody else answered.
    Another,
    /// It failed, in these words.
    Failed(String),
    /// It led here.
    Here,
    /// Nobody tried, or could not say.
    #[default]
    Unknown,
}

/// What the name service says of the domain.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Dns {
    /// What each authoritative server says.
    pub servers: Vec<NameServer>,
    /// Why no server was found, or none answered.
    pub error: Option<String>,
    /// What came of an update, where one is configured and the record was wrong.
    pub update: Option<Update>,
    /// Whether the IPv6 address of the record is one of this machine.
    pub is_v6_ours: bool,
    /// Whether the IPv6 address of the record can be reached.
    pub v6_seen: Seen,
}

/// An authoritative server.
#[derive(Debug, Clone, Default, Serialize)]
pub struct NameServer {
    /// Its name.
    pub name: String,
    /// The addresses it gives; `None`: it does not answer.
    pub addresses: Option<Vec<IpAddr>>,
    /// The serial number of its copy of the zone.
    pub serial: Option<u32>,
}

/// What came of an update.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Update {
    /// It was made.
    Done,
    /// It may succeed later; why.
    Later(String),
    /// It is not allowed; why.
    Refused(String),
}

/// What is known of the certificate and of who issues it.
#[derive(Debug, Clone, Default, Serialize)]
pub struct CertificateFacts {
    /// Seconds until it ends; `None`: there is none.
    pub seconds_left: Option<i64>,
    /// Who may be asked for one, best first.
    pub authorities: Vec<AuthorityFacts>,
    /// Why the last order failed, with what to do.
    pub failed: Option<(String, String)>,
}

/// What is known of an authority.
#[derive(Debug, Clone, Default, Serialize)]
pub struct AuthorityFacts {
    /// What it is called here.
    pub name: String,
    /// Its directory.
    pub directory: String,
    /// Why its directory could not be had.
    pub error: Option<String>,
    /// Seconds by which this machine's clock is ahead of its; negative: behind.
    pub clock_ahead_seconds: Option<i64>,
    /// It takes no orders for now: for how many seconds, and why.
    pub limited: Option<(u64, String)>,
    /// Whether it takes only those who have an account there, and none is configured.
    pub lacks_binding: bool,
    /// The names that it goes by in CAA records.
    pub caa_identities: Vec<String>,
    /// Who may issue by the CAA records, where they do not let this one; empty: nobody.
    pub caa_forbids: Option<Vec<String>>,
}

impl AuthorityFacts {
    /// The host of its directory, which people know it by.
    pub(super) fn host(&self) -> &str {
        let url = self.directory.trim_start_matches("https://");
        url.split(['/', ':']).next().unwrap_or(url)
    }
}

impl Facts {
    /// What is known of a port.
    #[must_use]
    pub fn port(&self, port: u16) -> Port {
        self.ports.get(&port).cloned().unwrap_or_default()
    }
}
