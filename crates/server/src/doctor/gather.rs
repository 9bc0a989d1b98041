//! Finds the facts: asks the clock, the router, the name servers, the authority and a probe outside.

use std::{
    collections::BTreeMap,
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::{Duration, SystemTime},
};

use hearth_http_client::ClientRequest;
use hearth_http_core::{Response, handler_fn, header};
use hearth_net::{Handle, Listener, Server};
use hearth_netsvc::{
    ddns::{ProviderContext, Remedy},
    dns::{Answer, CaaRequest, CaaVerdict, DnsClient, DnsOptions, Name, RecordData, RecordType},
    gateway, port_owner,
    portmap::{MapError, MapRequest, MapperOptions, Mapping, Method, PortMapper, Presence},
    reach::Challenges,
    second_hop::second_hop,
    sntp,
};
use hearth_tls_acme::{Authority, Roots};
use tokio::{task::JoinSet, time::timeout};

use super::facts::{
    AuthorityFacts, Bind, CertificateFacts, Dns, Facts, HTTP, HTTPS, MappingFact, NameServer, Port,
    Seen, Update,
};
use crate::{
    certificates,
    outside::{self, Asker, Door, Front},
    plan::network::{Acme, Network},
    state, system,
};

/// Whom to ask about what.
#[derive(Debug)]
pub struct Gatherer<'a> {
    /// The name.
    pub domain: Name,
    /// What is configured.
    pub network: &'a Network,
    /// Whether Hearth holds the ports already, so that nothing has to be listened on or mapped for the test.
    pub is_serving: bool,
}

impl Gatherer<'_> {
    /// Finds everything. What it has to make for that, listeners and mappings, it takes away again.
    pub async fn gather(&self) -> Facts {
        let mut facts = Facts { domain: self.domain.to_string(), ..Facts::default() };
        self.machine(&mut facts);
        let secret = state::secret(&state::folder(), "probe-secret");
        // A running server answers to the secret of the disk; without one there is none to ask.
        let challenges = secret.map_or_else(|_| Challenges::random(), Challenges::new);
        let held = self.listen(&mut facts, &challenges);
        let (clock, (), certificate) =
            tokio::join!(self.clock(), self.outer(&mut facts, &challenges), self.certificate());
        facts.clock_ahead_seconds = clock;
        facts.certificate = certificate;
        let authorities = &mut facts.certificate.authorities;
        facts.dns = Some(self.names(facts.public_v4, authorities).await);
        if let Some(held) = held {
            held.abort();
        }
        facts
    }

    fn machine(&self, facts: &mut Facts) {
        let storage = self.storage();
        // The folder need not be there yet.
        let existing = storage.ancestors().find(|folder| folder.is_dir());
        facts.disk_free_bytes = existing.and_then(system::free_bytes);
        if let Ok(Some(found)) = gateway::default_ipv4() {
            facts.gateway = Some(found.address);
            facts.local_address = Some(found.local);
            facts.is_public = gateway::is_public(found.local);
        }
        let addresses = gateway::addresses().unwrap_or_default();
        facts.public_v6 =
            gateway::stable_ipv6(&addresses).filter(|v6| gateway::is_public((*v6).into()));
    }

    fn storage(&self) -> std::path::PathBuf {
        let acme = self.network.acme.as_ref();
        acme.map_or_else(|| Acme::default().storage, |acme| acme.storage.clone())
    }

    /// Listens where the site will, so that a connection from outside meets this machine.
    fn listen(&self, facts: &mut Facts, challenges: &Challenges) -> Option<Handle> {
        let mut builder = Server::builder().workers(1);
        let nothing = handler_fn(async |_| Response::text("hearth doctor\n"));
        let front = Arc::new(Front::new(Some(challenges.clone()), None, Arc::new(nothing)));
        let mut has_any = false;
        for port in [HTTP, HTTPS] {
            let address = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
            let bind = match std::net::TcpListener::bind(address) {
                Ok(socket) => {
                    builder = builder.listen(Listener::from_std(vec![socket]), front.clone());
                    has_any = true;
                    Bind::Ours
                }
                Err(_) if self.is_serving => Bind::Ours,
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                    let owner = port_owner::find(address);
                    Bind::Taken(
                        owner.map_or_else(|| "another program".to_owned(), |o| o.to_string()),
                    )
                }
                Err(error) => Bind::Refused(error.to_string()),
            };
            facts.ports.insert(port, Port { bind, ..Port::default() });
        }
        has_any.then(|| builder.bind().ok()?.start().ok()).flatten()
    }

    async fn second_hop(&self) -> Option<IpAddr> {
        let server = with_port(&self.network.time, sntp::PORT);
        let mut addresses = tokio::net::lookup_host(server).await.ok()?;
        let target = addresses.find_map(|address| match address.ip() {
            IpAddr::V4(v4) => Some(v4),
            IpAddr::V6(_) => None,
        })?;
        let hop = tokio::task::spawn_blocking(move || second_hop(target, HOP_PATIENCE)).await;
        hop.ok()?.ok()?.map(Into::into)
    }

    async fn clock(&self) -> Option<i64> {
        let server = with_port(&self.network.time, sntp::PORT);
        let address = tokio::net::lookup_host(server).await.ok()?.next()?;
        for _ in 0..2 {
            if let Ok(ahead) = sntp::clock_ahead(address, Duration::from_secs(1)).await {
                return Some(ahead);
            }
        }
        None
    }

    /// Router, mappings, public address, and what a probe sees meanwhile.
    async fn outer(&self, facts: &mut Facts, challenges: &Challenges) {
        let mut options = MapperOptions::default();
        options.methods.clone_from(&self.network.port_map.methods);
        options.pcp_secret = state::secret(&state::folder(), "pcp-secret").ok();
        let is_asked = self.network.port_map.is_enabled && facts.gateway.is_some();
        let mapper =
            if is_asked { Some(PortMapper::discover(options.clone()).await) } else { None };
        facts.router_answers = mapper.as_ref().map(|mapper| {
            !matches!(mapper, Err(MapError::NoRouter { .. } | MapError::Timeout { .. }))
        });
        let mapper = mapper.and_then(Result::ok);
        let mut made = Vec::new();
        if let Some(mapper) = &mapper {
            facts.router_external = mapper.external_address().await.ok().map(Into::into);
            // UPnP says most clearly why not, and has a table to look at.
            let upnp = if mapper.methods().contains(&Method::Upnp) {
                let mut only = options.clone();
                only.methods = vec![Method::Upnp];
                PortMapper::discover(only).await.ok()
            } else {
                None
            };
            let mapper = upnp.as_ref().unwrap_or(mapper);
            if self.is_serving {
                // Somebody keeps these mappings: they are looked at and left alone.
                self.look_up(mapper, &mut facts.ports, facts.local_address).await;
            } else {
                made = self.map(mapper, &mut facts.ports).await;
            }
        }
        if facts.router_external.is_none_or(|external| external.is_unspecified()) {
            facts.second_hop = self.second_hop().await;
        }
        let router = facts.router_external.and_then(|external| match external {
            IpAddr::V4(v4) => Some(v4),
            IpAddr::V6(_) => None,
        });
        let (found, ()) =
            tokio::join!(outside::public_v4(self.network, router), self.probe(facts, challenges));
        facts.public_v4 = found.ok().map(|(address, _)| address);
        self.look_inside(facts, challenges).await;
        if let Some(mapper) = &mapper {
            self.settle(mapper, &made, &mut facts.ports).await;
        }
    }

    /// Whether the router's table shows the mappings that a running server keeps.
    async fn look_up(
        &self,
        mapper: &PortMapper,
        ports: &mut BTreeMap<u16, Port>,
        local: Option<IpAddr>,
    ) {
        // A router without a table tells nothing; what is seen from outside does.
        let Ok(list) = mapper.list().await else { return };
        for (port, state) in ports {
            let row = list.iter().find(|row| row.external_port == *port);
            state.mapping = match row {
                Some(row) if Some(row.internal.ip()) == local => MappingFact::Made,
                Some(row) => MappingFact::Elsewhere(format!("it leads to {}", row.internal)),
                None => MappingFact::Unknown,
            };
        }
    }

    async fn map(
        &self,
        mapper: &PortMapper,
        ports: &mut BTreeMap<u16, Port>,
    ) -> Vec<(u16, Mapping)> {
        let mut made = Vec::new();
        for (port, state) in ports.iter_mut().filter(|(_, state)| state.bind == Bind::Ours) {
            let wish = MapRequest::tcp(*port).with_lease(TRIAL_LEASE);
            state.mapping = match mapper.add(&wish).await {
                Ok(mapping) => {
                    made.push((*port, mapping));
                    MappingFact::Made
                }
                Err(error) => mapping_fact(&error),
            };
        }
        made
    }

    /// Looks whether the mappings are still there, and takes away what was made for the test.
    async fn settle(
        &self,
        mapper: &PortMapper,
        made: &[(u16, Mapping)],
        ports: &mut BTreeMap<u16, Port>,
    ) {
        let listed = mapper.list().await.ok();
        for (port, mapping) in made {
            let Some(state) = ports.get_mut(port) else { continue };
            let is_listed = listed.as_ref().is_none_or(|list| {
                list.iter().any(|row| {
                    row.external_port == *port && row.internal.ip() == mapping.internal.ip()
                })
            });
            let presence = mapper.check(mapping).await.unwrap_or(Presence::Unknown);
            // Not every router shows by one protocol what another has made: that alone says nothing.
            let is_gone = presence == Presence::Absent || !is_listed;
            if is_gone && state.outside != Seen::Here {
                state.mapping = MappingFact::NotKept;
            }
            let _ = mapper.delete(mapping).await;
        }
    }

    async fn probe(&self, facts: &mut Facts, challenges: &Challenges) {
        let Some(probe) = &self.network.probe else { return };
        let Ok(client) = outside::client(self.network.echo_roots.as_deref()) else { return };
        let asker = Asker::new(client, probe, challenges.clone());
        let doors: Vec<_> = facts.ports.keys().map(|port| self.door(*port)).collect();
        match asker.ask(&facts.domain, &doors).await {
            Ok((_, seen)) => {
                for (port, seen) in seen {
                    if let Some(state) = facts.ports.get_mut(&port) {
                        state.outside = seen;
                    }
                }
            }
            Err(error) => tracing::info!(target: "hearth::doctor", "{error}"),
        }
    }

    /// A running server speaks TLS at the port of HTTPS; the doctor's own listeners never do.
    fn door(&self, port: u16) -> Door {
        Door { port, is_tls: self.is_serving && port == HTTPS }
    }

    async fn look_inside(&self, facts: &mut Facts, challenges: &Challenges) {
        let Some(public) = facts.public_v4 else { return };
        let port = facts.ports.iter().find(|(_, state)| state.outside == Seen::Here);
        let Some((port, _)) = port else { return };
        let Ok(client) = outside::client(None) else { return };
        let (address, door) = (SocketAddr::from((public, *port)), self.door(*port));
        facts.hairpin = outside::look(&client, address, &facts.domain, door, challenges).await;
    }

    /// What there is, and what can be known of those who would issue another.
    async fn certificate(&self) -> CertificateFacts {
        let acme = self.network.acme.clone().unwrap_or_default();
        let domain = self.domain.to_string();
        let mut facts = certificates::known(&acme, &domain).await;
        let asked = certificates::authorities(&acme).unwrap_or_default();
        let mut asking = JoinSet::new();
        for (place, authority) in asked.into_iter().enumerate() {
            let (acme, domain) = (acme.clone(), domain.clone());
            asking.spawn(async move { (place, examine(&acme, &authority, &domain).await) });
        }
        let mut found = asking.join_all().await;
        found.sort_by_key(|(place, _)| *place);
        facts.authorities = found.into_iter().map(|(_, facts)| facts).collect();
        facts
    }

    async fn names(&self, public: Option<Ipv4Addr>, authorities: &mut [AuthorityFacts]) -> Dns {
        let client = DnsClient::new(DnsOptions::from_system());
        let mut dns = self.ask_servers(&client).await;
        let is_wrong = |dns: &Dns| {
            let all = dns.servers.iter().filter_map(|server| server.addresses.as_ref());
            let v4 = |list: &Vec<IpAddr>| {
                list.iter().copied().filter(IpAddr::is_ipv4).collect::<Vec<_>>()
            };
            public.is_some_and(|public| all.map(v4).any(|list| list != [IpAddr::V4(public)]))
        };
        if is_wrong(&dns)
            && let Some(update) = self.update(&client, public).await
        {
            let is_done = update == Update::Done;
            if is_done {
                // What a name server gives after the update is what counts.
                tokio::time::sleep(SETTLE).await;
                dns = self.ask_servers(&client).await;
            }
            dns.update = Some(update);
        }
        let caa = client.caa(&self.domain).await;
        for authority in authorities {
            let identities: Vec<&str> =
                authority.caa_identities.iter().map(String::as_str).collect();
            let request = CaaRequest::new(&identities, false);
            let verdict = caa.as_ref().map(|caa| caa.verdict(&request));
            if let Ok(CaaVerdict::Forbidden { allowed, .. }) = verdict {
                authority.caa_forbids = Some(allowed);
            }
        }
        let ours = gateway::addresses().unwrap_or_default();
        let given = dns.servers.iter().filter_map(|server| server.addresses.as_ref()).flatten();
        let given = given.filter(|ip| ip.is_ipv6()).copied().collect::<Vec<_>>();
        dns.is_v6_ours = given.iter().all(|ip| ours.iter().any(|local| local.address == *ip));
        dns
    }

    async fn ask_servers(&self, client: &DnsClient) -> Dns {
        let mut dns = Dns::default();
        let authority = match timeout(AUTHORITY_TIMEOUT, client.authority(&self.domain)).await {
            Ok(Ok(authority)) => authority,
            Ok(Err(error)) => return Dns { error: Some(error.to_string()), ..dns },
            Err(_) => return Dns { error: Some("no answer in time".to_owned()), ..dns },
        };
        for server in authority.servers {
            let mut facts = NameServer { name: server.name, ..NameServer::default() };
            if let Some(address) = server.addresses.first().copied() {
                let ask = |name, kind| client.query(address, name, kind);
                let (v4, v6, soa) = tokio::join!(
                    ask(&self.domain, RecordType::A),
                    ask(&self.domain, RecordType::Aaaa),
                    ask(&authority.zone, RecordType::Soa),
                );
                if let (Ok(v4), Ok(v6)) = (v4, v6) {
                    facts.addresses = Some(v4.addresses().chain(v6.addresses()).collect());
                }
                facts.serial = soa.ok().and_then(|soa| serial(&soa));
            }
            dns.servers.push(facts);
        }
        dns
    }

    /// Sends the update that dynamic DNS would send.
    async fn update(&self, client: &DnsClient, public: Option<Ipv4Addr>) -> Option<Update> {
        let ddns = self.network.ddns.as_ref()?;
        let is_planned = ddns.hosts.is_empty() || ddns.hosts.contains(&self.domain);
        let context = ProviderContext::new(outside::client(None).ok()?, client.clone());
        let provider = is_planned.then(|| ddns.settings.build(&context))?;
        let provider = match provider {
            Ok(provider) => provider,
            Err(error) => return Some(Update::Refused(error.to_string())),
        };
        Some(match provider.set_addresses(&self.domain, public, None).await {
            Ok(_) => Update::Done,
            Err(error) => {
                use hearth_netsvc::ddns::ProviderErrorKind::Refused;
                let is_final = error.kind().remedy() != Remedy::Later || error.kind() == Refused;
                if is_final {
                    Update::Refused(error.to_string())
                } else {
                    Update::Later(error.to_string())
                }
            }
        })
    }
}

/// What an authority's directory says, and what is remembered of it.
async fn examine(acme: &Acme, authority: &Authority, domain: &str) -> AuthorityFacts {
    let mut facts = AuthorityFacts {
        name: authority.name.clone(),
        directory: authority.directory.clone(),
        limited: certificates::limited(acme, authority, domain).await,
        ..AuthorityFacts::default()
    };
    facts.caa_identities = vec![registered(facts.host())];
    match directory(authority).await {
        Ok((directory, clock)) => {
            facts.clock_ahead_seconds = clock;
            let meta = &directory["meta"];
            let named = meta["caaIdentities"].as_array().into_iter().flatten();
            let named: Vec<_> = named.filter_map(|id| Some(id.as_str()?.to_owned())).collect();
            if !named.is_empty() {
                facts.caa_identities = named;
            }
            let wants = meta["externalAccountRequired"].as_bool().unwrap_or_default();
            facts.lacks_binding = wants && authority.eab.is_none();
        }
        Err(why) => facts.error = Some(why),
    }
    facts
}

/// The directory, and by how many seconds this machine's clock is ahead of its server's.
async fn directory(authority: &Authority) -> Result<(serde_json::Value, Option<i64>), String> {
    let roots = match &authority.roots {
        Roots::File(file) => Some(std::fs::read(file).map_err(|error| error.to_string())?),
        Roots::Pem(pem) => Some(pem.clone()),
        _ => None,
    };
    let client = outside::client(roots.as_deref()).map_err(|error| error.to_string())?;
    let request = ClientRequest::get(&authority.directory).map_err(|error| error.to_string())?;
    let response = client.send(request.with_timeout(ECHO_TIMEOUT)).await;
    let response = response.map_err(|error| outside::causes(&error))?;
    let date = response.headers().get(&header::DATE).and_then(|date| date.to_str().ok());
    let ahead = date.and_then(|date| ahead_of(date, SystemTime::now()));
    let text = response.text(DIRECTORY_BYTES_MAX).await.map_err(|error| error.to_string())?;
    let directory: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
    if !directory["newOrder"].is_string() {
        return Err("what answers there is no directory".to_owned());
    }
    Ok((directory, ahead))
}

/// Seconds from a field `date` (RFC 9110 §6.6.1) to `now`.
fn ahead_of(date: &str, now: SystemTime) -> Option<i64> {
    let seconds = |time: SystemTime| {
        let since = time.duration_since(SystemTime::UNIX_EPOCH).ok()?;
        i64::try_from(since.as_secs()).ok()
    };
    Some(seconds(now)? - seconds(httpdate::parse_http_date(date).ok()?)?)
}

fn serial(soa: &Answer) -> Option<u32> {
    soa.data(RecordType::Soa).find_map(|data| match data {
        RecordData::Soa { serial, .. } => Some(*serial),
        _ => None,
    })
}

fn mapping_fact(error: &MapError) -> MappingFact {
    match error {
        MapError::NotKept { .. } => MappingFact::NotKept,
        // Nobody has it, and still it is not given away: routers answer so where they keep a port for themselves, or
        // where their permissions exclude it.
        MapError::PortTaken { owner: None, .. } => {
            MappingFact::Refused(format!("{error}, though nobody has it"))
        }
        MapError::PortTaken { .. } | MapError::ManualForward { .. } | MapError::Foreign { .. } => {
            MappingFact::Elsewhere(error.to_string())
        }
        MapError::NoGateway | MapError::NoRouter { .. } => MappingFact::Unknown,
        other => MappingFact::Refused(other.to_string()),
    }
}

/// The last two labels of a host name: what authorities go by in CAA records.
fn registered(host: &str) -> String {
    let labels: Vec<&str> = host.split('.').collect();
    labels.get(labels.len().saturating_sub(2)..).unwrap_or_default().join(".")
}

fn with_port(server: &str, port: u16) -> String {
    let has_port = server.parse::<SocketAddr>().is_ok() || server.matches(':').count() == 1;
    if has_port { server.to_owned() } else { format!("{server}:{port}") }
}

const HOP_PATIENCE: Duration = Duration::from_secs(2);
const ECHO_TIMEOUT: Duration = Duration::from_secs(5);
const DIRECTORY_BYTES_MAX: u64 = 64 * 1024;
/// Mappings of a test; if the process is killed they end by themselves.
const TRIAL_LEASE: Duration = Duration::from_secs(300);
const AUTHORITY_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a primary takes to tell its secondaries.
const SETTLE: Duration = Duration::from_millis(1500);
