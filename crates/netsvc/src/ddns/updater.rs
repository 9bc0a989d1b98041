//! Keeps names up to date.

use std::{
    future::Future,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::PathBuf,
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};
use tracing::{info, warn};

use super::{
    Account, Capabilities, DdnsStatus, FamilyStatus, HostStatus, Notice, Observed, Outcome, Plan,
    PlannedHost, ProviderError, ProviderErrorKind, Remedy, Rules, StateError, SystemClock, Trouble,
    WallClock,
    plan::is_public,
    rules::{Step, seconds},
    state::{RecordState, SavedTrouble, State, StateFile},
};
use crate::dns::{Addresses, DnsClient, DnsError, Name, RecordType};

/// Keeps the names of a plan at this machine's addresses.
///
/// An update is sent only if an address differs both from what was sent last and from what the
/// authoritative name servers show; [`Rules`] say how often at most. What was sent is kept in a file,
/// so that a restart sends nothing again.
pub struct Updater {
    plan: Plan,
    rules: Rules,
    lookup: Arc<dyn PublishedLookup>,
    clock: Arc<dyn WallClock>,
    file: Option<StateFile>,
    state: State,
    /// The latest time that was, and when that was: the wall clock may go back, this does not.
    floor: (u64, Instant),
    status: watch::Sender<DdnsStatus>,
}

/// What an [`Updater`] works with.
#[derive(Clone)]
#[non_exhaustive]
pub struct UpdaterOptions {
    /// How often, and how long to wait.
    pub rules: Rules,
    /// Asks what is published.
    pub lookup: Arc<dyn PublishedLookup>,
    /// Tells the time.
    pub clock: Arc<dyn WallClock>,
    /// Where the state is kept. `None`: in memory, so that every restart begins anew.
    pub state_path: Option<PathBuf>,
}

/// Asks what the authoritative name servers show.
pub trait PublishedLookup: Send + Sync {
    /// The addresses of a name, at all its authoritative servers together.
    fn published<'a>(&'a self, host: &'a Name) -> PublishedFuture<'a>;
}

/// The addresses that name servers show, in a while.
pub type PublishedFuture<'a> =
    Pin<Box<dyn Future<Output = Result<Addresses, DnsError>> + Send + 'a>>;

/// A record for which an update is due.
#[derive(Debug, Clone, Copy)]
struct Due {
    host: usize,
    family: usize,
    address: IpAddr,
}

impl UpdaterOptions {
    /// The default rules, the machine's clock, no file.
    #[must_use]
    pub fn new(lookup: Arc<dyn PublishedLookup>) -> Self {
        Self { rules: Rules::default(), lookup, clock: Arc::new(SystemClock), state_path: None }
    }
}

impl PublishedLookup for DnsClient {
    fn published<'a>(&'a self, host: &'a Name) -> PublishedFuture<'a> {
        Box::pin(async move {
            let authority = self.authority(host).await?;
            let mut ips: Vec<IpAddr> = Vec::new();
            let mut failed = None;
            for server in authority.servers.iter().take(SERVERS_MAX) {
                for kind in [RecordType::A, RecordType::Aaaa] {
                    match self.query_server(server, host, kind).await {
                        Ok(answer) => ips.extend(answer.addresses()),
                        Err(error) => failed = Some(error),
                    }
                }
            }
            ips.sort_unstable();
            ips.dedup();
            match (ips.is_empty(), failed) {
                (true, Some(error)) => Err(error),
                _ => Ok(Addresses::from_ips(ips)),
            }
        })
    }
}

impl Updater {
    /// An updater for a plan. It sends nothing until it is asked.
    ///
    /// # Errors
    /// [`StateError`] where the file is in use or its folder cannot be written. A damaged file is set
    /// aside with a warning.
    pub fn new(plan: Plan, options: UpdaterOptions) -> Result<Self, StateError> {
        let (file, mut state) = match &options.state_path {
            None => (None, State::new()),
            Some(path) => {
                let (file, state, notice) = StateFile::open(path)?;
                if let Some(notice) = notice {
                    warn!(code = notice.code(), path = %path.display(), "{}", notice.title());
                }
                (Some(file), state)
            }
        };
        forget_what_no_longer_holds(&plan, &mut state);
        let floor = (state.saved_at, Instant::now());
        let (status, _) = watch::channel(DdnsStatus::default());
        let UpdaterOptions { rules, lookup, clock, .. } = options;
        Ok(Self { plan, rules, lookup, clock, file, state, floor, status })
    }

    /// What is known, now and whenever it changes.
    #[must_use]
    pub fn status(&self) -> watch::Receiver<DdnsStatus> {
        self.status.subscribe()
    }

    /// Forgets what was sent, what failed and who refused, so that the next update is sent whatever
    /// was before. For an operator who has mended something at the service.
    pub fn force(&mut self) {
        self.state.records.clear();
        for account in self.state.accounts.values_mut() {
            account.stopped = None;
            account.not_before = 0;
        }
        for host in &self.plan.hosts {
            for family in [0, 1] {
                let record =
                    RecordState { account: host.account.clone(), ..RecordState::default() };
                // Not even the name servers are asked: see `Rules::is_shown_already`.
                let record = RecordState { is_shown: Some(false), ..record };
                self.state.records.insert(key(host, family), record);
            }
        }
    }

    /// Looks at every name once and sends what is due.
    ///
    /// # Cancel safety
    /// Dropping the future may leave a request at the service; it counts as sent, so that it is not
    /// sent again at once.
    pub async fn update(&mut self, observed: Observed) -> DdnsStatus {
        let before = self.state.clone();
        let due = self.find_due(observed).await;
        let hosts: Vec<usize> = self.hosts_in_order(&due);
        for account in self.plan.accounts.clone() {
            self.serve_account(&account, &due, &hosts, observed).await;
        }
        self.watch_shown(observed).await;
        let mut is_unwritable = self.status.borrow().is_state_unwritable;
        if self.state != before {
            is_unwritable = !self.save().await;
        }
        let status = self.describe(observed, is_unwritable);
        self.status.send_if_modified(|old| {
            let is_new = *old != status;
            if is_new {
                old.clone_from(&status);
            }
            is_new
        });
        status
    }

    /// Updates whenever an address changes or something is due, until `observed` has no more sender.
    ///
    /// # Cancel safety
    /// As [`update`](Self::update).
    pub async fn run(mut self, mut observed: watch::Receiver<Observed>) {
        loop {
            let seen = *observed.borrow_and_update();
            let status = self.update(seen).await;
            let pause = self.pause(&status);
            sleep(PASS_INTERVAL_MIN).await;
            tokio::select! {
                changed = observed.changed() => if changed.is_err() { return },
                () = sleep(pause) => {}
            }
        }
    }

    /// The records for which an update is due now.
    async fn find_due(&mut self, observed: Observed) -> Vec<Due> {
        let now = self.now();
        let mut due = Vec::new();
        for (index, host) in self.plan.hosts.clone().iter().enumerate() {
            let wanted = self.publishable(host, observed);
            let mut shown = None;
            for (family, address) in wanted.into_iter().enumerate() {
                let Some(address) = address else { continue };
                let account = self.state.accounts.entry(host.account.clone()).or_default().clone();
                let record = self.state.records.entry(key(host, family)).or_default();
                record.account.clone_from(&host.account);
                let was_held = self.rules.is_held(record, now);
                let step = self.rules.step(record, &account, address, now);
                if matches!(step, Step::Hold { .. }) && !was_held {
                    let notice = Notice::Flapping;
                    warn!(code = notice.code(), host = %host.name, %address, "{}", notice.title());
                }
                let is_due = match step {
                    Step::Refresh => true,
                    Step::LookUp => {
                        let shown = match &shown {
                            Some(shown) => shown,
                            None => shown.insert(self.look_up(&host.name).await),
                        };
                        !self.adopt(host, family, address, shown.as_ref(), now)
                    }
                    _ => false,
                };
                if is_due {
                    due.push(Due { host: index, family, address });
                }
            }
        }
        due
    }

    /// Notes that the name servers show the address already, if they do.
    fn adopt(
        &mut self,
        host: &PlannedHost,
        family: usize,
        address: IpAddr,
        shown: Option<&Addresses>,
        now: u64,
    ) -> bool {
        let shown: Option<Vec<IpAddr>> = shown.map(|shown| match family {
            0 => shown.v4.iter().copied().map(Into::into).collect(),
            _ => shown.v6.iter().copied().map(Into::into).collect(),
        });
        let key = key(host, family);
        let record = self.state.records.entry(key.clone()).or_default();
        let is_forced = record.sent.is_none() && record.is_shown == Some(false);
        let is_shown =
            !is_forced && self.rules.is_shown_already(record, address, shown.as_deref(), now);
        if is_shown {
            info!(host = %host.name, %address, "the name servers show the address already");
            self.rules.done(record, &key, address, now);
            record.is_shown = Some(true);
        }
        is_shown
    }

    /// Sends what is due at one account, in as few requests as it allows.
    async fn serve_account(
        &mut self,
        account: &Account,
        due: &[Due],
        hosts: &[usize],
        observed: Observed,
    ) {
        let capabilities = account.provider.capabilities();
        let mut groups: Vec<([Option<IpAddr>; 2], Vec<usize>)> = Vec::new();
        for &host in hosts {
            let Some(planned) = self.plan.hosts.get(host).filter(|host| host.account == account.id)
            else {
                continue;
            };
            let mut addresses = [0, 1].map(|family| {
                let due = due.iter().find(|due| due.host == host && due.family == family);
                due.map(|due| due.address)
            });
            if capabilities.needs_all_families {
                let wanted = self.publishable(planned, observed);
                addresses = [addresses[0].or(wanted[0]), addresses[1].or(wanted[1])];
            }
            match groups.iter_mut().find(|(of_group, hosts)| {
                *of_group == addresses && hosts.len() < capabilities.hosts_per_request_max
            }) {
                Some((_, group)) => group.push(host),
                None => groups.push((addresses, vec![host])),
            }
        }
        for (addresses, group) in groups {
            let now = self.now();
            let state = self.state.accounts.entry(account.id.clone()).or_default();
            if state.stopped.is_some() || now < state.not_before {
                continue;
            }
            self.send(account, capabilities, &group, addresses).await;
        }
    }

    /// One request for some names, and what comes of it.
    async fn send(
        &mut self,
        account: &Account,
        capabilities: Capabilities,
        group: &[usize],
        addresses: [Option<IpAddr>; 2],
    ) {
        let hosts: Vec<PlannedHost> =
            group.iter().filter_map(|&host| self.plan.hosts.get(host).cloned()).collect();
        let names: Vec<Name> = hosts.iter().map(|host| host.name.clone()).collect();
        let now = self.now();
        let state = self.state.accounts.entry(account.id.clone()).or_default();
        state.not_before = now + seconds(capabilities.interval_min);
        for host in &hosts {
            for (family, _) in families_of(addresses) {
                let record = self.state.records.entry(key(host, family)).or_default();
                record.not_before = now + seconds(self.rules.interval_min);
            }
        }
        // Before the request: whoever is killed in the middle of it does not send it again at once.
        self.save().await;
        let (v4, v6) = split(addresses);
        let results = account.provider.set_addresses_of(&names, v4, v6).await;
        let now = self.now();
        for (host, result) in hosts.iter().zip(results) {
            match result {
                Ok(outcome) => self.succeeded(host, addresses, outcome, now),
                Err(error) => self.failed(host, addresses, &error, now),
            }
        }
        self.save().await;
    }

    fn succeeded(
        &mut self,
        host: &PlannedHost,
        addresses: [Option<IpAddr>; 2],
        outcome: Outcome,
        now: u64,
    ) {
        for (family, address) in families_of(addresses) {
            let key = key(host, family);
            let record = self.state.records.entry(key.clone()).or_default();
            let is_refresh = record.sent == Some(address);
            self.rules.done(record, &key, address, now);
            if outcome == Outcome::Repeated && !is_refresh {
                let notice = Notice::AlreadyKnown;
                warn!(code = notice.code(), host = %host.name, %address, "{}", notice.title());
            } else {
                info!(host = %host.name, %address, ?outcome, "the address is published");
            }
        }
    }

    fn failed(
        &mut self,
        host: &PlannedHost,
        addresses: [Option<IpAddr>; 2],
        error: &ProviderError,
        now: u64,
    ) {
        let kind = error.kind();
        warn!(
            code = kind.code(), host = %host.name, actor = ?kind.actor(), fix = kind.fix(),
            "the address is not published: {error}"
        );
        let trouble =
            SavedTrouble { code: kind.code().to_owned(), text: error.to_string(), at: now };
        let account = self.state.accounts.entry(host.account.clone()).or_default();
        if kind.remedy() == Remedy::StopAccount {
            account.stopped = Some(trouble.clone());
        }
        for (family, _) in families_of(addresses) {
            let record = self.state.records.entry(key(host, family)).or_default();
            record.failure_count = record.failure_count.saturating_add(1);
            record.trouble = Some(trouble.clone());
            record.is_stopped = kind.remedy() == Remedy::StopHost;
            record.not_before = self.rules.retry_at(record.failure_count, error, now);
            if Rules::concerns_account(error) {
                account.not_before = account.not_before.max(record.not_before);
            }
        }
    }

    /// Watches the name servers for a while after an update.
    async fn watch_shown(&mut self, observed: Observed) {
        let now = self.now();
        for host in self.plan.hosts.clone() {
            let wanted = self.publishable(&host, observed);
            let mut shown = None;
            for (family, address) in families_of(wanted) {
                let Some(record) = self.state.records.get(&key(&host, family)) else { continue };
                if record.sent != Some(address) || record.is_shown.is_some() {
                    continue;
                }
                let is_over = now >= record.sent_at + seconds(self.rules.watch_time);
                if !is_over && now == record.sent_at {
                    continue;
                }
                let shown = match &shown {
                    Some(shown) => shown,
                    None => shown.insert(self.look_up(&host.name).await),
                };
                let Some(shown) = shown else { continue };
                let is_shown = match address {
                    IpAddr::V4(v4) => shown.v4 == [v4],
                    IpAddr::V6(v6) => shown.v6 == [v6],
                };
                if let Some(record) = self.state.records.get_mut(&key(&host, family))
                    && (is_shown || is_over)
                {
                    record.is_shown = Some(is_shown);
                    if !is_shown {
                        let notice = Notice::NotShown;
                        warn!(
                            code = notice.code(), host = %host.name, %address, fix = notice.fix(),
                            "{}", notice.title()
                        );
                    }
                }
            }
        }
    }

    async fn look_up(&self, host: &Name) -> Option<Addresses> {
        match timeout(LOOKUP_TIMEOUT, self.lookup.published(host)).await {
            Ok(Ok(addresses)) => Some(addresses),
            Ok(Err(error)) => {
                warn!(code = Notice::NoAnswer.code(), %host, "what is published is not known: {error}");
                None
            }
            Err(_) => None,
        }
    }

    /// The addresses that a name should have and may have.
    fn publishable(&self, host: &PlannedHost, observed: Observed) -> [Option<IpAddr>; 2] {
        let is_allowed = |ip: &IpAddr| self.rules.allows_private || is_public(*ip);
        host.wanted(observed).map(|address| address.filter(is_allowed))
    }

    fn hosts_in_order(&self, due: &[Due]) -> Vec<usize> {
        (0..self.plan.hosts.len()).filter(|&host| due.iter().any(|due| due.host == host)).collect()
    }

    /// The time; it never goes back, not even over a restart.
    fn now(&mut self) -> u64 {
        let (floor, at) = self.floor;
        let now = self.clock.unix_seconds().max(floor + seconds(at.elapsed()));
        self.floor = (now, Instant::now());
        now
    }

    /// Whether the state is kept.
    async fn save(&mut self) -> bool {
        self.state.saved_at = self.now();
        let Some(file) = &self.file else { return true };
        match file.save(&self.state).await {
            Ok(()) => true,
            Err(error) => {
                let notice = Notice::StateUnwritable;
                warn!(code = notice.code(), fix = notice.fix(), "{}: {error}", notice.title());
                false
            }
        }
    }

    /// How long nothing is due, as long as the addresses stay.
    fn pause(&mut self, status: &DdnsStatus) -> Duration {
        let now = self.now();
        let families = status.hosts.iter().flat_map(|host| [&host.v4, &host.v6]);
        let next = families.filter_map(|family| match family {
            FamilyStatus::Settling { until, .. } | FamilyStatus::Waiting { until, .. } => {
                Some(until.saturating_sub(now))
            }
            _ => None,
        });
        let interval = self.rules.check_interval;
        let percent = self.rules.jitter_percent.min(50);
        let random = u32::from(u16::from_be_bytes(crate::random::bytes()));
        let varied =
            interval * (100 - percent) / 100 + interval * (2 * percent) / 100 * random / 65_535;
        next.min().map_or(varied, |next| Duration::from_secs(next).min(varied))
    }

    fn describe(&mut self, observed: Observed, is_state_unwritable: bool) -> DdnsStatus {
        let now = self.now();
        let hosts = self.plan.hosts.iter().map(|host| {
            let wanted = host.wanted(observed);
            let [v4, v6] = [0, 1].map(|family| self.describe_record(host, family, wanted, now));
            HostStatus { name: host.name.clone(), account: host.account.clone(), v4, v6 }
        });
        DdnsStatus { hosts: hosts.collect(), is_state_unwritable }
    }

    fn describe_record(
        &self,
        host: &PlannedHost,
        family: usize,
        wanted: [Option<IpAddr>; 2],
        now: u64,
    ) -> FamilyStatus {
        if !host.families().get(family).copied().unwrap_or(false) {
            return FamilyStatus::Off;
        }
        let unknown = RecordState::default();
        let record = self.state.records.get(&key(host, family)).unwrap_or(&unknown);
        let account = self.state.accounts.get(&host.account).cloned().unwrap_or_default();
        let stopped = account.stopped.as_ref();
        let stopped = stopped.or(record.trouble.as_ref().filter(|_| record.is_stopped));
        if let Some(trouble) = stopped {
            return FamilyStatus::Stopped { trouble: trouble.into() };
        }
        let Some(address) = wanted.get(family).copied().flatten() else {
            return FamilyStatus::Unknown;
        };
        if !self.rules.allows_private && !is_public(address) {
            return FamilyStatus::NotPublic { address };
        }
        if record.sent == Some(address) {
            let (since, is_shown) = (record.sent_at, record.is_shown);
            return FamilyStatus::Current { address, since, is_shown };
        }
        match self.rules.step(&mut record.clone(), &account, address, now) {
            Step::Hold { until } => FamilyStatus::Settling { address, until },
            step => {
                let until = if let Step::Wait { until } = step { until } else { now };
                let trouble = record.trouble.as_ref().map(Trouble::from);
                FamilyStatus::Waiting { address, until, trouble }
            }
        }
    }
}

impl From<&SavedTrouble> for Trouble {
    fn from(saved: &SavedTrouble) -> Self {
        let kind = ProviderErrorKind::ALL.iter().find(|kind| kind.code() == saved.code);
        let fix = kind.map_or("", |kind| kind.fix());
        Self { code: saved.code.clone(), text: saved.text.clone(), fix, at: saved.at }
    }
}

/// Removes what was learned under other settings, and about names that are no longer in the plan.
fn forget_what_no_longer_holds(plan: &Plan, state: &mut State) {
    let salt = state.salt.clone().into_bytes();
    let account_of = |id: &str| plan.accounts.iter().find(|account| account.id == id);
    state.accounts.retain(|id, _| account_of(id).is_some());
    let mut changed = Vec::new();
    for account in &plan.accounts {
        let settings = account.provider.settings_digest(&salt);
        let saved = state.accounts.entry(account.id.clone()).or_default();
        if saved.settings != settings {
            *saved = super::state::AccountState { settings, ..Default::default() };
            changed.push(account.id.as_str());
        }
    }
    let planned = |name: &str, record: &RecordState| {
        plan.hosts.iter().any(|host| {
            host.account == record.account && [0, 1].iter().any(|&family| key(host, family) == name)
        })
    };
    state.records.retain(|name, record| {
        planned(name, record) && !changed.contains(&record.account.as_str())
    });
}

fn key(host: &PlannedHost, family: usize) -> String {
    format!("{}/{}", host.name, if family == 0 { "A" } else { "AAAA" })
}

fn families_of(addresses: [Option<IpAddr>; 2]) -> impl Iterator<Item = (usize, IpAddr)> {
    addresses.into_iter().enumerate().filter_map(|(family, address)| Some((family, address?)))
}

fn split(addresses: [Option<IpAddr>; 2]) -> (Option<Ipv4Addr>, Option<Ipv6Addr>) {
    let mut found = (None, None);
    for (_, address) in families_of(addresses) {
        match address {
            IpAddr::V4(v4) => found.0 = Some(v4),
            IpAddr::V6(v6) => found.1 = Some(v6),
        }
    }
    found
}

/// Of a zone's servers the first few say enough.
const SERVERS_MAX: usize = 4;

const LOOKUP_TIMEOUT: Duration = Duration::from_secs(30);

/// However often the address changes: one look at a time.
const PASS_INTERVAL_MIN: Duration = Duration::from_secs(1);
