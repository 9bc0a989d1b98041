//! The components that keep a site up.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::{Duration, SystemTime},
};

use hearth_netsvc::{
    address::{AddressError, Nat},
    ddns::{DdnsStatus, FamilyStatus, Observed, Updater},
    dns::{DnsClient, DnsOptions, Name, RecordType},
    gateway,
    portmap::{
        KeeperOptions, KeeperState, KeptMapping, MapError, MapRequest, MapperOptions,
        MappingKeeper, MappingStatus,
    },
    reach::Challenges,
};
use hearth_tls_acme::{Event, Manager, Outcome};
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};

use super::board::Board;
use crate::{
    certificates,
    doctor::facts::Seen,
    outside::{self, Asker, Door},
    plan::network::Network,
    state,
    status::State,
};

/// What is kept up.
#[derive(Debug)]
pub struct Keep {
    /// The site's name.
    pub domain: Name,
    /// All names that certificates are for, each list one certificate.
    pub names: Vec<Vec<String>>,
    /// The ports that the world shall reach, the lowest first.
    pub doors: Vec<Door>,
    /// The IPv6 address that the world shall reach, where the listeners take IPv6.
    pub public_v6: Option<Ipv6Addr>,
    /// What is configured.
    pub network: Network,
    /// Who has certificates.
    pub manager: Manager,
    /// What the site answers probes with.
    pub challenges: Challenges,
    /// Where it is told.
    pub board: Arc<Board>,
}

/// Keeps a site up until `stop` is ready, and takes away then what it made at the router.
pub async fn keep(keep: Keep, updater: Option<Updater>, stop: impl Future<Output = ()>) {
    let keep = Arc::new(keep);
    let mapping = keep.start_mapping();
    let (observe, observed) = watch::channel(Observed::default());
    let components = async {
        tokio::join!(
            keep.check_local(),
            keep.watch_mapping(mapping.as_ref().map(MappingKeeper::state)),
            keep.watch_address(observe, mapping.as_ref().map(MappingKeeper::state)),
            keep.watch_names(updater, observed.clone()),
            keep.watch_certificates(),
            keep.look_from_outside(observed),
        )
    };
    tokio::select! {
        _ = components => {}
        () = stop => {}
    }
    if let Some(mapping) = mapping {
        keep.board.working("mapping", "taking the mappings away");
        mapping.stop().await;
        keep.board.off("mapping", "taken away");
    }
}

impl Keep {
    async fn check_local(&self) {
        let Some(door) = self.doors.first() else { return };
        let Ok(client) = outside::client(None) else { return };
        let port = door.port;
        let here = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let domain = self.domain.to_string();
        match outside::look(&client, here, &domain, *door, &self.challenges).await {
            // Before there is a certificate that counts, TLS proves nothing; somebody answered.
            Seen::Here | Seen::Unknown => {
                self.board.ok("local", format!("answers on port {port}"));
            }
            Seen::Failed(why) => {
                self.board.failed("local", why, "look for a firewall on this machine");
            }
            Seen::Another => {
                let text = format!("somebody else answers on port {port}");
                self.board.failed("local", text, "stop the other program, or change `listeners`");
            }
        }
    }

    fn start_mapping(&self) -> Option<MappingKeeper> {
        let port_map = &self.network.port_map;
        let way = gateway::default_ipv4().ok().flatten();
        if !port_map.is_enabled {
            self.board.off("router", "not asked: `port_map.enabled` is false");
            self.board.off("mapping", "ports are forwarded by hand");
            return None;
        }
        if way.is_some_and(|way| gateway::is_public(way.local)) {
            self.board.off("router", "none in the way: the machine has a public address");
            self.board.off("mapping", "not needed");
            return None;
        }
        let mut options = MapperOptions::default();
        options.methods.clone_from(&port_map.methods);
        options.pcp_secret = state::secret(&state::folder(), "pcp-secret").ok();
        let wish = |door: &Door| MapRequest::tcp(door.port).with_lease(port_map.lease);
        let mut wishes: Vec<_> = self.doors.iter().map(wish).collect();
        if let Some(v6) = self.public_v6 {
            wishes
                .extend(self.doors.iter().map(|door| wish(door).with_internal_address(v6.into())));
        }
        let mut keeper = KeeperOptions::default();
        keeper.stop_timeout = STOP_PATIENCE;
        Some(MappingKeeper::start(wishes, options, keeper))
    }

    async fn watch_mapping(&self, state: Option<watch::Receiver<KeeperState>>) {
        let Some(mut state) = state else { return };
        loop {
            let now = state.borrow_and_update().clone();
            self.tell_mapping(&now);
            if state.changed().await.is_err() {
                return;
            }
        }
    }

    fn tell_mapping(&self, state: &KeeperState) {
        let (mut made, mut errors, mut pending) = (Vec::new(), Vec::new(), 0);
        // Pinholes of IPv6 are a gift: where the router has none, IPv4 does.
        for kept in state.mappings.iter().filter(|kept| !is_pinhole(kept)) {
            match &kept.status {
                MappingStatus::Active(mapping) => {
                    made.push(format!("{} ({})", mapping.external_port, mapping.method));
                }
                MappingStatus::Failed(error) => errors.push(error.clone()),
                MappingStatus::Pending => pending += 1,
                _ => {}
            }
        }
        match (errors.first(), state.external_address) {
            (Some(error @ (MapError::NoRouter { .. } | MapError::NoGateway)), _) => {
                self.board.failed("router", error.to_string(), "run `hearth doctor`");
            }
            (_, Some(address)) => {
                self.board.ok("router", format!("its address outside is {address}"));
            }
            (Some(_), None) => self.board.ok("router", "it answers"),
            (None, None) if made.is_empty() => self.board.working("router", "looking for it"),
            (None, None) => self.board.ok("router", "it answers"),
        }
        match errors.first() {
            Some(error) => {
                self.board.failed(
                    "mapping",
                    error.to_string(),
                    "it is tried again; `hearth doctor` says more",
                );
            }
            None if pending > 0 => self.board.working("mapping", "asking the router"),
            None if made.is_empty() => {}
            None => {
                let v6 = match pinholes(state).find(|status| !status.is_active()) {
                    Some(MappingStatus::Failed(error)) => format!("; not by IPv6: {error}"),
                    None if self.public_v6.is_some() => ", by IPv6 too".to_owned(),
                    _ => String::new(),
                };
                self.board.ok("mapping", format!("ports {} lead here{v6}", made.join(", ")));
            }
        }
    }

    async fn watch_address(
        &self,
        observe: watch::Sender<Observed>,
        mut router: Option<watch::Receiver<KeeperState>>,
    ) {
        self.board.working("address", "asking for it");
        if let Some(router) = &mut router {
            // What the router says tells whether an address that others see is one to publish.
            let _ = timeout(ROUTER_PATIENCE, router.wait_for(is_settled)).await;
        }
        loop {
            let (told, open_v6) = match &router {
                Some(router) => {
                    let state = router.borrow();
                    (state.external_address, self.open_v6(&state))
                }
                None => (None, None),
            };
            let v4 = self.tell_address(outside::public_v4(&self.network, told).await);
            // Both at once: services do not take a second update within seconds.
            observe.send_if_modified(|known| {
                let before = *known;
                known.v4 = v4.or(known.v4);
                known.v6 = open_v6.or(known.v6);
                *known != before
            });
            let pause = if observe.borrow().v4.is_some() { ADDRESS_PAUSE } else { ADDRESS_RETRY };
            match &mut router {
                // The router knows first when the address changes.
                Some(router) => {
                    let _ = timeout(pause, router.changed()).await;
                }
                None => sleep(pause).await,
            }
            // Without the router there is still the pause.
            sleep(ADDRESS_PAUSE_MIN).await;
        }
    }

    /// Tells it, and whether it is one to publish.
    fn tell_address(&self, found: Result<(Ipv4Addr, Nat), AddressError>) -> Option<Ipv4Addr> {
        match found {
            Ok((address, Nat::CarrierGrade)) => {
                let text = format!("{address} is the provider's, shared among many customers");
                self.board.failed("address", text, "run `hearth doctor`");
                None
            }
            Ok((address, _)) => {
                self.board.ok("address", address.to_string());
                Some(address)
            }
            Err(error) => {
                self.board.unknown("address", error.to_string(), "it is asked again");
                None
            }
        }
    }

    /// The IPv6 address to publish. One that the router's firewall hides is worse than none: many try IPv6 first.
    fn open_v6(&self, state: &KeeperState) -> Option<Ipv6Addr> {
        self.public_v6.filter(|_| pinholes(state).all(MappingStatus::is_active))
    }

    async fn watch_names(&self, updater: Option<Updater>, mut observed: watch::Receiver<Observed>) {
        self.board.working("dns", "waiting for the address");
        if let Some(updater) = updater {
            let mut status = updater.status();
            let told = async {
                loop {
                    self.tell_names(&status.borrow_and_update().clone());
                    if status.changed().await.is_err() {
                        return;
                    }
                }
            };
            tokio::join!(updater.run(observed), told);
            return;
        }
        let dns = DnsClient::new(DnsOptions::from_system());
        loop {
            let wanted = observed.borrow_and_update().v4;
            if let Some(wanted) = wanted {
                self.check_name(&dns, wanted).await;
            }
            let _ = timeout(NAME_PAUSE, observed.changed()).await;
        }
    }

    async fn check_name(&self, dns: &DnsClient, wanted: Ipv4Addr) {
        let fix = format!("set the A record to {wanted}, or let Hearth do it: section `ddns`");
        match dns.lookup(&self.domain, RecordType::A).await {
            Ok(answer) => {
                let found: Vec<_> = answer.addresses().collect();
                if found == [IpAddr::V4(wanted)] {
                    self.board.ok("dns", format!("{} leads to {wanted}", self.domain));
                } else if found.is_empty() {
                    self.board.failed("dns", format!("{} has no A record", self.domain), &fix);
                } else {
                    let found: Vec<_> = found.iter().map(ToString::to_string).collect();
                    let text = format!("{} leads to {}", self.domain, found.join(", "));
                    self.board.failed("dns", text, &fix);
                }
            }
            Err(error) => self.board.failed("dns", error.to_string(), "check /etc/resolv.conf"),
        }
    }

    fn tell_names(&self, status: &DdnsStatus) {
        let Some(host) = status.hosts.iter().find(|host| host.name == self.domain) else { return };
        match &host.v4 {
            FamilyStatus::Current { address, is_shown, .. } => {
                let shown =
                    if *is_shown == Some(false) { ", not yet at every name server" } else { "" };
                self.board.ok("dns", format!("{} leads to {address}{shown}", host.name));
            }
            FamilyStatus::Stopped { trouble } => {
                let text = format!("{} [{}]", trouble.text, trouble.code);
                self.board.failed("dns", text, trouble.fix);
            }
            FamilyStatus::Waiting { trouble: Some(trouble), .. } => {
                let text = format!("{} [{}]", trouble.text, trouble.code);
                self.board.failed("dns", text, trouble.fix);
            }
            FamilyStatus::Waiting { address, .. } | FamilyStatus::Settling { address, .. } => {
                self.board.working("dns", format!("{address} is sent soon"));
            }
            FamilyStatus::NotPublic { address } => {
                let text = format!("{address} cannot be reached from the internet");
                self.board.failed("dns", text, "run `hearth doctor`");
            }
            _ => {}
        }
    }

    /// Waits until the authority has a chance, then lets the manager work.
    async fn watch_certificates(&self) {
        let acme = self.network.acme.clone().unwrap_or_default();
        let requests = self.names.iter().map(|names| certificates::request(names, &acme));
        let requests = match requests.collect::<Result<Vec<_>, _>>() {
            Ok(requests) => requests,
            Err(why) => {
                return self.board.failed("certificate", why, "write the name as it is registered");
            }
        };
        let mut events = self.manager.events();
        if let Err(error) = self.manager.manage(requests.clone()).await {
            return self.board.failed("certificate", error.to_string(), "look at the disk");
        }
        let is_stored = self.tell_stored();
        // The manager renews at once what is due.
        self.wait_for_a_chance().await;
        if !is_stored {
            self.board.working("certificate", format!("ordered from {}", acme.directory));
            for request in &requests {
                self.tell_outcome(self.manager.issue(request).await);
            }
        }
        let told = async {
            while let Ok(event) = events.recv().await {
                match event {
                    Event::Issued { .. } => {
                        self.tell_stored();
                    }
                    Event::Failed { attention, .. } => {
                        let text = format!("{} [{}]", attention.sentence, attention.code.as_str());
                        self.board.failed("certificate", text, &attention.fix);
                    }
                    _ => {}
                }
            }
        };
        tokio::join!(self.manager.run(std::future::pending()), told);
    }

    /// Tells the certificate that is in use; whether there is a good one.
    fn tell_stored(&self) -> bool {
        let gauges = self.manager.gauges();
        let Some(first) = gauges.iter().min_by_key(|gauge| gauge.seconds_left) else {
            return false;
        };
        if gauges.len() < self.names.len() || first.seconds_left <= 0 {
            return false;
        }
        let days = |seconds: i64| seconds / 86_400;
        let renewal = first.renewal_at.duration_since(SystemTime::now()).unwrap_or_default();
        let renewal = i64::try_from(renewal.as_secs()).unwrap_or(i64::MAX);
        let text =
            format!("good for {} days, renewed in {}", days(first.seconds_left), days(renewal));
        self.board.ok("certificate", text);
        true
    }

    fn tell_outcome<T>(&self, outcome: Outcome<T>) {
        match outcome {
            Outcome::Done(_) => {
                self.tell_stored();
            }
            Outcome::TryLater { why, .. } | Outcome::Refused(why) => {
                let text = format!("{} [{}]", why.sentence, why.code.as_str());
                self.board.failed("certificate", text, &why.fix);
            }
        }
    }

    /// An order that cannot succeed costs one of few attempts: first the name must lead here and the ports must be
    /// open, or have had time enough. What fails may have failed only once; what fails for long may be no matter,
    /// where ports are forwarded by hand.
    async fn wait_for_a_chance(&self) {
        let start = Instant::now();
        loop {
            let states = ["mapping", "dns"].map(|name| self.board.state(name));
            let is_working =
                states.iter().any(|state| matches!(state, Some(State::Working) | None));
            let has_failed = states.contains(&Some(State::Failed));
            let patience = match (has_failed, is_working) {
                (true, _) => SECOND_CHANCE,
                (false, true) => CHANCE,
                (false, false) => return,
            };
            if start.elapsed() >= patience {
                return;
            }
            sleep(Duration::from_millis(100)).await;
        }
    }

    async fn look_from_outside(&self, observed: watch::Receiver<Observed>) {
        let Some(probe) = &self.network.probe else {
            let fix = format!(
                "run `hearth probe {}` on a machine elsewhere, or set `outside.probe`",
                self.domain
            );
            return self.board.unknown("outside", "nobody looks", &fix);
        };
        let Ok(client) = outside::client(self.network.echo_roots.as_deref()) else { return };
        let asker = Asker::new(client, probe, self.challenges.clone());
        let mut pause = LOOK_RETRY;
        loop {
            // Before the others are done, there is nothing to see.
            while self.board.state("certificate") == Some(State::Working)
                || observed.borrow().v4.is_none()
            {
                sleep(Duration::from_millis(200)).await;
            }
            match asker.ask(&self.domain.to_string(), &self.doors).await {
                Ok((address, seen)) => {
                    let address = address.map_or_else(|| "us".to_owned(), |ip| ip.to_string());
                    let failed: Vec<_> =
                        seen.iter().filter(|(_, seen)| **seen != Seen::Here).collect();
                    if let Some((port, why)) = failed.first() {
                        let why =
                            if let Seen::Failed(why) = why { why } else { "somebody else answers" };
                        let text = format!("port {port} of {address}: {why}");
                        self.board.failed("outside", text, "run `hearth doctor`");
                    } else {
                        pause = LOOK_PAUSE;
                        self.board.ok("outside", format!("reached at {address}"));
                    }
                }
                Err(error) => self.board.unknown("outside", error.to_string(), "look at the probe"),
            }
            sleep(pause).await;
        }
    }
}

fn is_pinhole(kept: &KeptMapping) -> bool {
    kept.request.internal_address.is_some_and(|address| address.is_ipv6())
}

fn pinholes(state: &KeeperState) -> impl Iterator<Item = &MappingStatus> {
    state.mappings.iter().filter(|kept| is_pinhole(kept)).map(|kept| &kept.status)
}

/// Whether nothing is being asked of the router for the first time.
fn is_settled(state: &KeeperState) -> bool {
    state.mappings.iter().all(|kept| kept.status != MappingStatus::Pending)
}

/// How long the address waits for what the router says of it.
const ROUTER_PATIENCE: Duration = Duration::from_secs(8);
/// Slow routers take seconds for each mapping, and none may be left behind.
const STOP_PATIENCE: Duration = Duration::from_secs(15);
const ADDRESS_PAUSE: Duration = Duration::from_secs(300);
const ADDRESS_PAUSE_MIN: Duration = Duration::from_secs(5);
const ADDRESS_RETRY: Duration = Duration::from_secs(10);
const NAME_PAUSE: Duration = Duration::from_secs(60);
/// How long a certificate waits for the name to lead here.
const CHANCE: Duration = Duration::from_secs(30);
/// The same where something has failed: the router is asked again after five seconds, and ten.
const SECOND_CHANCE: Duration = Duration::from_secs(16);
/// A probe answers one question each ten seconds, and every port is one.
const LOOK_RETRY: Duration = Duration::from_secs(30);
const LOOK_PAUSE: Duration = Duration::from_secs(900);
