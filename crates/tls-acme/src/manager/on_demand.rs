//! Certificates for names that nobody configured, when a client asks for them.

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime},
};

use hearth_http_client::{Client, ClientOptions, ClientRequest};
use hearth_net::{Hold, HoldHandshake};
use parking_lot::Mutex;
use rustls::{
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
};

use super::Manager;
use crate::{
    attention::{Attention, Code, Outcome},
    challenge::ACME_TLS_ALPN,
    name::Name,
    request::CertRequest,
    vault::StoredCertificate,
};

/// Who may have a certificate on demand. There must be an allow-list or somebody to ask: otherwise
/// whoever points a name here could have the authority's limits used up.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct OnDemand {
    /// Names, and `*.` with a domain for every name one label below it.
    pub allow: Vec<Name>,
    /// Asked with `?domain=NAME` about names that are not on the list; any 2xx means yes. Plain HTTP, so
    /// on this machine or in a network that is trusted.
    pub ask: Option<String>,
    /// New certificates in an hour. Default 60.
    pub per_hour_max: u32,
    /// How long a handshake waits for the certificate that its name is getting, before it goes on with
    /// what there is. Zero: it does not wait. Default 20 s.
    pub handshake_wait: Duration,
    /// Handshakes that wait at once; more of them go on with what there is. Default 256.
    pub waiting_max: usize,
}

impl OnDemand {
    /// Names that need not be asked about.
    pub fn allow(names: impl IntoIterator<Item = Name>) -> Self {
        Self {
            allow: names.into_iter().collect(),
            ask: None,
            per_hour_max: 60,
            handshake_wait: Duration::from_secs(20),
            waiting_max: 256,
        }
    }

    /// Asks this URL.
    pub fn ask(url: impl Into<String>) -> Self {
        Self { ask: Some(url.into()), ..Self::allow([]) }
    }

    fn allows(&self, name: &Name) -> bool {
        let Some(host) = name.domain() else { return false };
        let parent = host.split_once('.').map(|(_, parent)| parent);
        self.allow.iter().any(|allowed| match allowed.is_wildcard() {
            true => parent.is_some() && allowed.domain() == parent,
            false => allowed == name,
        })
    }
}

/// What is remembered between demands. Bounded.
pub(super) struct Memory {
    /// Names that were refused, and until when that holds.
    refused: Mutex<HashMap<Name, SystemTime>>,
    /// Names that no certificate could be had for, and until when nobody waits for one.
    resting: Mutex<HashMap<Name, SystemTime>>,
    /// Names that are being worked on. Dropping the sender tells those who wait.
    under_way: Mutex<HashMap<Name, watch::Sender<()>>>,
    /// Handshakes that wait.
    waiting: Arc<AtomicUsize>,
    /// When certificates were had.
    had: Mutex<Vec<SystemTime>>,
    wanted: mpsc::Sender<Name>,
    queue: tokio::sync::Mutex<mpsc::Receiver<Name>>,
}

const REFUSED_MAX: usize = 10_000;
const REFUSED_FOR: Duration = Duration::from_secs(300);
const WANTED_MAX: usize = 64;
const ASK_TIMEOUT: Duration = Duration::from_secs(10);

impl Default for Memory {
    fn default() -> Self {
        let (wanted, queue) = mpsc::channel(WANTED_MAX);
        Self {
            refused: Mutex::default(),
            resting: Mutex::default(),
            under_way: Mutex::default(),
            waiting: Arc::default(),
            had: Mutex::default(),
            wanted,
            queue: queue.into(),
        }
    }
}

impl Memory {
    /// The next name that a client wanted. Waits for ever where there is none.
    async fn next(&self) -> Name {
        match self.queue.lock().await.recv().await {
            Some(name) => name,
            None => std::future::pending().await,
        }
    }

    fn is_refused(&self, name: &Name, now: SystemTime) -> bool {
        holds(&self.refused, name, now)
    }

    fn refuse(&self, name: &Name, now: SystemTime) {
        remember(&self.refused, name, now + REFUSED_FOR, now);
    }

    /// A place among those that wait, if there is one.
    fn place(&self, max: usize) -> Option<Place> {
        let place = Place(self.waiting.clone());
        let before = self.waiting.fetch_add(1, Ordering::Relaxed);
        (before < max).then_some(place)
    }
}

/// Whether what is remembered of a name holds still.
fn holds(names: &Mutex<HashMap<Name, SystemTime>>, name: &Name, now: SystemTime) -> bool {
    names.lock().get(name).is_some_and(|until| *until > now)
}

fn remember(
    names: &Mutex<HashMap<Name, SystemTime>>,
    name: &Name,
    until: SystemTime,
    now: SystemTime,
) {
    let mut names = names.lock();
    if names.len() >= REFUSED_MAX {
        names.retain(|_, until| *until > now);
    }
    if names.len() < REFUSED_MAX {
        names.insert(name.clone(), until);
    }
}

/// One of those that wait.
struct Place(Arc<AtomicUsize>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A name that is being worked on, until this is dropped, whatever comes between.
struct UnderWay<'a> {
    memory: &'a Memory,
    name: &'a Name,
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.memory.under_way.lock().remove(self.name);
    }
}

impl Manager {
    /// The certificate for a name that nobody configured: from memory, from the storage, or a new one.
    ///
    /// Checked in this order: the name itself, what was refused lately, the allow-list or who is to be
    /// asked, the storage, how many were had in this hour. So strangers cost neither look-ups nor orders.
    ///
    /// # Cancel safety
    /// As [`issue`](Self::issue).
    pub async fn demand(&self, host: &str) -> Outcome<StoredCertificate> {
        let refused = |sentence: &str| {
            Outcome::Refused(Box::new(Attention::new(Code::OnDemandRefused, host, sentence)))
        };
        let Some(on_demand) = &self.0.options.on_demand else {
            return refused("Certificates are not had on demand.");
        };
        let Ok(name) = host.parse::<Name>() else { return refused("This is no host name.") };
        let domain = name.domain().unwrap_or_default();
        if name.is_wildcard() || !domain.contains('.') {
            return refused("Certificates on demand are for full host names only.");
        }
        let now = self.now();
        let memory = &self.0.on_demand;
        if memory.is_refused(&name, now) {
            return refused("The name was refused a moment ago.");
        }
        if !on_demand.allows(&name) && !self.ask(on_demand, domain).await {
            memory.refuse(&name, now);
            return refused("The name is not allowed.");
        }
        let Ok(request) = CertRequest::new([name.clone()]) else {
            return refused("There is no name.");
        };
        if let Ok(None) = self.load(&request.id()).await {
            let mut had = memory.had.lock();
            had.retain(|at| *at + Duration::from_secs(3600) > now);
            if had.len() >= on_demand.per_hour_max as usize {
                let at = had.first().copied().unwrap_or(now) + Duration::from_secs(3600);
                let sentence = "As many certificates as are allowed in an hour were had on demand.";
                let why = Box::new(Attention::new(Code::LedgerLimit, host, sentence));
                return Outcome::TryLater { at, why };
            }
            had.push(now);
        }
        let outcome = self.obtain(&request, None, false).await;
        if let Outcome::Done(_) = &outcome {
            // From now on it is renewed like the others.
            self.0.requests.lock().insert(request.id(), request);
        }
        outcome
    }

    /// What lets handshakes wait for certificates on demand: for
    /// [`TlsConfig::with_hold`](hearth_net::TlsConfig::with_hold). `None` where none are had, or nobody is
    /// to wait. Certificates are had while [`run`](Self::run) is running.
    #[must_use]
    pub fn hold(&self) -> Option<Arc<dyn HoldHandshake>> {
        let on_demand = self.0.options.on_demand.as_ref()?;
        let waits = !on_demand.handshake_wait.is_zero();
        waits.then(|| Arc::new(OnDemandResolver::new(self.clone())) as Arc<dyn HoldHandshake>)
    }

    /// Has certificates for the names that clients want, some at once, for ever.
    pub(super) async fn serve_demands(&self) {
        let mut tasks = JoinSet::new();
        loop {
            tokio::select! {
                name = self.0.on_demand.next(), if tasks.len() < self.0.options.concurrency.max(1) => {
                    let this = self.clone();
                    tasks.spawn(async move { this.serve_demand(&name).await });
                }
                Some(_) = tasks.join_next() => {}
            }
        }
    }

    async fn serve_demand(&self, name: &Name) {
        let memory = &self.0.on_demand;
        let _under_way = UnderWay { memory, name };
        match self.demand(&name.to_string()).await {
            Outcome::Done(_) => {}
            Outcome::TryLater { at, .. } => remember(&memory.resting, name, at, self.now()),
            Outcome::Refused(_) => {
                let now = self.now();
                remember(&memory.resting, name, now + REFUSED_FOR, now);
            }
        }
    }

    /// Sees to it that a name gets a certificate; `None` where it has one, or will not get one soon.
    fn want(&self, name: &Name) -> Option<watch::Receiver<()>> {
        let on_demand = self.0.options.on_demand.as_ref()?;
        let host = name.domain().filter(|host| host.contains('.') && !name.is_wildcard())?;
        let now = self.now();
        if self.0.store.load().covers(host, now) {
            return None;
        }
        let memory = &self.0.on_demand;
        // Whom nobody can allow costs nothing.
        if on_demand.ask.is_none() && !on_demand.allows(name) {
            return None;
        }
        let mut under_way = memory.under_way.lock();
        if let Some(sender) = under_way.get(name) {
            return Some(sender.subscribe());
        }
        if memory.is_refused(name, now) || holds(&memory.resting, name, now) {
            return None;
        }
        // Where the queue is full the client comes again.
        memory.wanted.try_send(name.clone()).ok()?;
        let (sender, receiver) = watch::channel(());
        under_way.insert(name.clone(), sender);
        Some(receiver)
    }

    async fn ask(&self, on_demand: &OnDemand, domain: &str) -> bool {
        let Some(url) = &on_demand.ask else { return false };
        let separator = if url.contains('?') { '&' } else { '?' };
        let Ok(request) = ClientRequest::get(&format!("{url}{separator}domain={domain}")) else {
            return false;
        };
        let Ok(client) = Client::new(ClientOptions::default()) else { return false };
        match client.send(request.with_timeout(ASK_TIMEOUT)).await {
            Ok(response) => response.status().is_success(),
            Err(error) => {
                tracing::warn!(%error, domain, "nobody answers whether a certificate may be had on demand");
                false
            }
        }
    }
}

/// Tells the manager about names that no certificate is for, lets their handshakes wait, and gives what
/// there is then.
pub struct OnDemandResolver {
    manager: Manager,
}

impl OnDemandResolver {
    pub(super) fn new(manager: Manager) -> Self {
        Self { manager }
    }
}

impl ResolvesServerCert for OnDemandResolver {
    fn resolve(&self, client_hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        if let Some(name) = client_hello.server_name().and_then(|name| name.parse::<Name>().ok()) {
            let _who_waits_did_so_before = self.manager.want(&name);
        }
        self.manager.0.store.resolve(client_hello)
    }
}

impl HoldHandshake for OnDemandResolver {
    fn hold(&self, hello: &ClientHello<'_>) -> Option<Hold> {
        let mut offered = hello.alpn().into_iter().flatten();
        // The authority that we wait for.
        if (offered.next(), offered.next()) == (Some(ACME_TLS_ALPN), None) {
            return None;
        }
        let name = hello.server_name()?.parse::<Name>().ok()?;
        let mut over = self.manager.want(&name)?;
        let inner = &self.manager.0;
        let on_demand = inner.options.on_demand.as_ref()?;
        let place = inner.on_demand.place(on_demand.waiting_max)?;
        Some(Hold::new(on_demand.handshake_wait, async move {
            let _place = place;
            // Nothing is ever sent: the end of the sender is the message.
            while over.changed().await.is_ok() {}
        }))
    }
}

impl fmt::Debug for OnDemandResolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OnDemandResolver").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ManagerOptions, MemoryStorage};

    #[tokio::test]
    async fn strangers_cost_nothing() {
        let mut options = ManagerOptions::new(Arc::new(MemoryStorage::new()));
        let name = |text: &str| text.parse::<Name>().expect("a name");
        options.on_demand = Some(OnDemand::allow([name("a.example"), name("*.b.example")]));
        options.authorities.clear();
        let manager = Manager::new(options);
        let check = async |host: &str, want: &str| {
            let outcome = manager.demand(host).await;
            let why = outcome.why().expect("no authority is there");
            assert!(why.sentence.contains(want), "{host}: {why}");
        };
        check("192.0.2.1", "full host names").await;
        check("localhost", "full host names").await;
        check("*.b.example", "full host names").await;
        check("a b", "no host name").await;
        check("c.example", "not allowed").await;
        check("c.example", "a moment ago").await;
        check("y.x.b.example", "not allowed").await;
        check("b.example", "not allowed").await;
        check("a.example", "No authority").await;
        check("x.b.example", "No authority").await;
    }
}
