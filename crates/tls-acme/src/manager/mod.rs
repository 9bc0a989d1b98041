//! Has certificates, and has them renewed before they end.

mod limits;
mod obtain;
mod on_demand;
mod revoke;
mod schedule;
mod state;

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    future::Future,
    sync::Arc,
    time::{Duration, SystemTime},
};

use hearth_net::{CertMap, CertStore, Certificate};
use parking_lot::Mutex;
use rustls::server::ResolvesServerCert;
use tokio::sync::{Notify, broadcast};

pub use self::{
    limits::AuthorityLimit,
    on_demand::{OnDemand, OnDemandResolver},
    revoke::RevocationReason,
    schedule::{ExpiryGauge, ExpiryLevel},
};
use crate::{
    attention::{Attention, Failure},
    authority::Authority,
    challenge::{AcmeResolver, Challenges, Http01, TlsAlpn01},
    clock::{Clock, SystemClock},
    local_ca::{LocalCa, self_signed},
    renewal::Reason,
    request::CertRequest,
    storage::{Storage, StorageError},
    transport::Transport,
    vault::{StoredCertificate, Vault},
};

/// What a [`Manager`] is told. Start from [`new`](Self::new) and change fields.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ManagerOptions {
    /// Where everything is kept.
    pub storage: Arc<dyn Storage>,
    /// Who issues, best first. Default Let's Encrypt.
    pub authorities: Vec<Authority>,
    /// How authorities reach a person: mail addresses. Default none.
    pub contact: Vec<String>,
    /// Which challenges can be solved. Default none.
    pub challenges: Challenges,
    /// Where HTTP-01 tokens are put. Default: this process's.
    pub http01: Http01,
    /// Names for which certificates are had when a client asks for them. Default none.
    pub on_demand: Option<OnDemand>,
    /// What time it is. Default the system's clock.
    pub clock: Arc<dyn Clock>,
    /// How often it is decided whether to renew. Default 10 min.
    pub check_interval: Duration,
    /// How long an authority may work on an order. Default 90 s.
    pub order_timeout: Duration,
    /// How long another instance that works on the same certificate is waited for. Default 120 s.
    pub lock_patience: Duration,
    /// Orders under way at once. Default 4.
    pub concurrency: usize,
}

/// Something that happened.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Event {
    /// A person should know this.
    Attention(Attention),
    /// A certificate was had, and is in use.
    Issued {
        /// By what it is stored.
        id: String,
        /// When it ends.
        not_after: SystemTime,
        /// Who issued it.
        authority: String,
        /// Why it was ordered.
        reason: Reason,
    },
    /// An attempt failed.
    Failed {
        /// By what the certificate is stored.
        id: String,
        /// When the next attempt is made.
        retry_at: SystemTime,
        /// Why.
        attention: Attention,
    },
    /// A certificate was revoked.
    Revoked {
        /// By what it is stored.
        id: String,
    },
}

/// Has certificates, keeps them, renews them, and gives them to TLS; cheap to clone.
///
/// One-shot calls ([`issue`](Self::issue), [`renew`](Self::renew), [`revoke`](Self::revoke)) work
/// without [`run`](Self::run). Several instances may share one storage.
///
/// # Tasks
/// [`run`](Self::run) owns the tasks of the orders that it starts; dropping it aborts them, and the
/// next start goes on with their orders.
#[derive(Clone)]
pub struct Manager(Arc<Inner>);

struct Inner {
    options: ManagerOptions,
    vault: Vault,
    tls_alpn01: TlsAlpn01,
    /// What TLS is given.
    store: Arc<CertStore>,
    served: Mutex<Served>,
    requests: Mutex<BTreeMap<String, CertRequest>>,
    transports: Mutex<HashMap<String, Transport>>,
    /// One at a time for each certificate, and for each authority's ledger.
    turns: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
    attentions: Mutex<BTreeMap<(String, &'static str), Attention>>,
    events: broadcast::Sender<Event>,
    changed: Notify,
    on_demand: on_demand::Memory,
}

/// The certificates of this moment, by where they come from.
#[derive(Default)]
struct Served {
    managed: BTreeMap<String, StoredCertificate>,
    imported: Vec<Certificate>,
    default: Option<Certificate>,
    fallback: Option<Certificate>,
}

/// How much life a certificate of our own making has left at least.
const FALLBACK_LEFT_MIN: Duration = Duration::from_secs(86_400);
/// Events that a slow listener may lag behind.
const EVENTS_MAX: usize = 1024;

impl ManagerOptions {
    /// Let's Encrypt, and no challenges yet.
    #[must_use]
    pub fn new(storage: Arc<dyn Storage>) -> Self {
        Self {
            storage,
            authorities: vec![Authority::lets_encrypt()],
            contact: Vec::new(),
            challenges: Challenges::default(),
            http01: Http01::new(),
            on_demand: None,
            clock: Arc::new(SystemClock),
            check_interval: Duration::from_secs(600),
            order_timeout: Duration::from_secs(90),
            lock_patience: Duration::from_secs(120),
            concurrency: 4,
        }
    }
}

impl Manager {
    /// A manager that manages nothing yet.
    #[must_use]
    pub fn new(options: ManagerOptions) -> Self {
        let vault = Vault::new(options.storage.clone());
        Self(Arc::new(Inner {
            vault,
            tls_alpn01: TlsAlpn01::new(),
            store: Arc::new(CertStore::new(CertMap::new())),
            served: Mutex::default(),
            requests: Mutex::default(),
            transports: Mutex::default(),
            turns: Mutex::default(),
            attentions: Mutex::default(),
            events: broadcast::channel(EVENTS_MAX).0,
            changed: Notify::new(),
            on_demand: on_demand::Memory::default(),
            options,
        }))
    }

    /// Manages exactly these certificates from now on: what the storage has is served at once, what is
    /// missing is had by [`run`](Self::run). Names that have no certificate get one of the [`LocalCa`] in the
    /// storage, or a self-signed one where there is none.
    ///
    /// # Errors
    /// [`StorageError`] where the storage cannot be read; nothing has changed then.
    ///
    /// # Cancel safety
    /// Nothing has changed.
    pub async fn manage(
        &self,
        requests: impl IntoIterator<Item = CertRequest>,
    ) -> Result<(), StorageError> {
        let requests: BTreeMap<_, _> = requests.into_iter().map(|one| (one.id(), one)).collect();
        let mut managed = BTreeMap::new();
        for id in requests.keys() {
            if let Some(found) = self.load(id).await? {
                managed.insert(id.clone(), found);
            }
        }
        let names: Vec<_> =
            requests.values().flat_map(|request| request.names.iter().cloned()).collect();
        if managed.len() < requests.len() || self.0.options.on_demand.is_some() {
            self.make_fallback(&names).await;
        }
        *self.0.requests.lock() = requests;
        self.0.served.lock().managed = managed;
        self.rebuild();
        self.0.changed.notify_one();
        Ok(())
    }

    /// Serves these as well, for the names in them. Whoever brought them renews them.
    pub fn serve_imported(&self, certificates: Vec<Certificate>) {
        self.0.served.lock().imported = certificates;
        self.rebuild();
    }

    /// Serves this to clients that name no host, or one that no certificate is for.
    pub fn set_default(&self, certificate: Certificate) {
        self.0.served.lock().default = Some(certificate);
        self.rebuild();
    }

    /// What a TLS configuration is given: certificates that change while it is in use, and answers to
    /// TLS-ALPN-01. For the latter the configuration must also offer [`ACME_TLS_ALPN`](crate::ACME_TLS_ALPN).
    #[must_use]
    pub fn resolver(&self) -> Arc<dyn ResolvesServerCert> {
        let inner: Arc<dyn ResolvesServerCert> = match &self.0.options.on_demand {
            Some(_) => Arc::new(OnDemandResolver::new(self.clone())),
            None => self.0.store.clone(),
        };
        Arc::new(AcmeResolver::new(self.0.tls_alpn01.clone(), inner))
    }

    /// The certificates that TLS is given at this moment.
    #[must_use]
    pub fn cert_store(&self) -> &Arc<CertStore> {
        &self.0.store
    }

    /// What has to stand before everything else on every listener on port 80.
    #[must_use]
    pub fn http01(&self) -> Http01 {
        self.0.options.http01.clone()
    }

    /// The stored certificates.
    #[must_use]
    pub fn vault(&self) -> &Vault {
        &self.0.vault
    }

    /// What happens from now on.
    #[must_use]
    pub fn events(&self) -> broadcast::Receiver<Event> {
        self.0.events.subscribe()
    }

    /// What needs a person's attention at this moment.
    #[must_use]
    pub fn attentions(&self) -> Vec<Attention> {
        self.0.attentions.lock().values().cloned().collect()
    }

    /// Decides every [`check_interval`](ManagerOptions::check_interval) what to renew, and does so, until
    /// `stop` is ready.
    ///
    /// # Cancel safety
    /// Orders under way are given up, and gone on with at the next start.
    pub async fn run(&self, stop: impl Future<Output = ()>) {
        let work = async {
            loop {
                // What changed until now this look sees; a second one would order again what a wrong clock calls due.
                let _ = std::pin::pin!(self.0.changed.notified()).enable();
                self.tick().await;
                let wait = self.next_wait().await;
                tokio::select! {
                    () = tokio::time::sleep(wait) => {}
                    () = self.0.changed.notified() => {}
                }
            }
        };
        tokio::select! {
            () = work => {}
            () = self.serve_demands() => {}
            () = stop => {}
        }
    }

    /// The certificate of an id, with a message where its file is damaged.
    async fn load(&self, id: &str) -> Result<Option<StoredCertificate>, StorageError> {
        use crate::vault::Loaded;
        Ok(match self.0.vault.load(id).await? {
            Loaded::Current(found) => Some(*found),
            Loaded::Previous(found, attention) => {
                self.attend(*attention);
                Some(*found)
            }
            Loaded::Damaged(attention) => {
                self.attend(*attention);
                None
            }
            Loaded::Nothing => None,
        })
    }

    /// Serves a certificate.
    fn adopt(&self, id: &str, certificate: StoredCertificate) {
        self.0.served.lock().managed.insert(id.to_owned(), certificate);
        self.rebuild();
    }

    fn rebuild(&self) {
        let served = self.0.served.lock();
        let mut map = CertMap::new();
        let mut default = None;
        let managed = served.managed.values().map(|one| &one.certificate);
        for certificate in managed.chain(&served.imported) {
            // Clients that connect to an address name no host.
            if map.add(certificate).is_err() {
                default = Some(certificate);
            }
        }
        let default = served.default.as_ref().or(default).or(served.fallback.as_ref());
        if let Some(default) = default {
            map.set_default(default.clone());
        }
        self.0.store.replace(map);
    }

    /// Makes what is shown where nothing better is, unless there is one that lasts.
    async fn make_fallback(&self, names: &[crate::Name]) {
        let now = self.0.options.clock.now();
        let lasts = |one: &Certificate| one.is_valid_at(now + FALLBACK_LEFT_MIN);
        if self.0.served.lock().fallback.as_ref().is_some_and(lasts) {
            return;
        }
        let pair = match LocalCa::load(self.storage()).await {
            Ok(Some(authority)) => authority.issue(names, now),
            Ok(None) => self_signed(names, now),
            Err(error) => {
                tracing::warn!(%error, "a certificate signs itself instead");
                self_signed(names, now)
            }
        };
        let made = match pair {
            Ok(pair) => {
                Certificate::from_pem_slices(pair.chain_pem.as_bytes(), pair.key_pem.as_bytes())
            }
            Err(error) => return tracing::error!(%error, "no certificate could be made here"),
        };
        self.0.served.lock().fallback = made.ok();
    }

    /// A process may outlive the certificate that it made for itself.
    async fn renew_fallback(&self) {
        if self.0.served.lock().fallback.is_none() {
            return;
        }
        let requests: Vec<_> = self.0.requests.lock().values().cloned().collect();
        let names: Vec<_> = requests.into_iter().flat_map(|request| request.names).collect();
        self.make_fallback(&names).await;
        self.rebuild();
    }

    fn attend(&self, attention: Attention) {
        let key = (attention.subject.clone(), attention.code.as_str());
        let before = self.0.attentions.lock().insert(key, attention.clone());
        if before.as_ref() != Some(&attention) {
            tracing::warn!(
                code = attention.code.as_str(),
                subject = attention.subject,
                fix = attention.fix,
                "{}",
                attention.sentence
            );
            let _nobody_listens = self.0.events.send(Event::Attention(attention));
        }
    }

    /// What was said about these subjects is over.
    fn settle(&self, subjects: &[String]) {
        self.0.attentions.lock().retain(|(subject, _), _| !subjects.contains(subject));
    }

    /// Whoever holds this is alone with what `name` stands for, in this process.
    async fn turn(&self, name: &str) -> tokio::sync::OwnedMutexGuard<()> {
        let turn = {
            let mut turns = self.0.turns.lock();
            // Those that nobody waits for are forgotten.
            if turns.len() > 1024 {
                turns.retain(|_, turn| Arc::strong_count(turn) > 1);
            }
            turns.entry(name.to_owned()).or_default().clone()
        };
        turn.lock_owned().await
    }

    fn transport(&self, authority: &Authority) -> Result<Transport, Failure> {
        let mut transports = self.0.transports.lock();
        if let Some(found) = transports.get(&authority.directory) {
            return Ok(found.clone());
        }
        let made = Transport::new(authority, &authority.directory)?;
        transports.insert(authority.directory.clone(), made.clone());
        Ok(made)
    }

    fn now(&self) -> SystemTime {
        self.0.options.clock.now()
    }

    fn storage(&self) -> &dyn Storage {
        self.0.options.storage.as_ref()
    }
}

impl fmt::Debug for Manager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Manager").field("options", &self.0.options).finish_non_exhaustive()
    }
}
