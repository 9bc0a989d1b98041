//! Keeps mappings alive: renews, looks, makes again, and takes away.

mod plan;

use std::{net::Ipv4Addr, sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinHandle,
    time::{Instant, sleep_until, timeout},
};

use self::plan::{Kept, earliest};
use super::{
    MapError, MapRequest, MapperOptions, Mapping, Method, PortMapper, Presence, RouterClock,
    notices::Notices,
};

/// What a keeper asks of a router. [`FoundLater`] passes it on to a [`PortMapper`]; tests bring others.
pub trait Router: Send + Sync + 'static {
    /// Finds the router, or finds it again.
    fn find(&self) -> impl Future<Output = Result<(), MapError>> + Send;
    /// As [`PortMapper::add`].
    fn add(&self, request: &MapRequest) -> impl Future<Output = Result<Mapping, MapError>> + Send;
    /// As [`PortMapper::renew`].
    fn renew(
        &self,
        mapping: &Mapping,
        request: &MapRequest,
    ) -> impl Future<Output = Result<Mapping, MapError>> + Send;
    /// As [`PortMapper::check`].
    fn check(&self, mapping: &Mapping) -> impl Future<Output = Result<Presence, MapError>> + Send;
    /// As [`PortMapper::delete`].
    fn delete(&self, mapping: &Mapping) -> impl Future<Output = Result<(), MapError>> + Send;
    /// As [`PortMapper::external_address`].
    fn external_address(&self) -> impl Future<Output = Result<Ipv4Addr, MapError>> + Send;
    /// As [`PortMapper::clock`].
    fn clock(&self, method: Method) -> impl Future<Output = Result<RouterClock, MapError>> + Send;
    /// Ends when there is a reason to look at the router now, such as its word that it has started.
    /// Never by default.
    fn notice(&self) -> impl Future<Output = ()> + Send {
        std::future::pending()
    }
}

/// A router that is found when it is first needed.
#[derive(Debug)]
pub struct FoundLater {
    options: MapperOptions,
    mapper: parking_lot::RwLock<Option<Arc<PortMapper>>>,
    notices: parking_lot::RwLock<Option<Arc<Notices>>>,
}

/// Options of a [`MappingKeeper`]. Start from the default and change fields.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct KeeperOptions {
    /// How often the router is looked at: whether it was restarted, has another address, or has lost
    /// a mapping. Default 2 min.
    pub check_interval: Duration,
    /// The pause after a first failure; each further one is twice as long. Default 5 s.
    pub retry_min: Duration,
    /// The longest pause after failures. Default 10 min.
    pub retry_max: Duration,
    /// How long taking everything away may take at the end. Default 5 s.
    pub stop_timeout: Duration,
}

/// What a keeper knows. A new one is published whenever something changes.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct KeeperState {
    /// Each request, in the order in which they were given.
    pub mappings: Vec<KeptMapping>,
    /// The router's external address, as it says.
    pub external_address: Option<Ipv4Addr>,
    /// How often the router was noticed to have restarted.
    pub restart_count: u32,
    /// Whether everything was taken away, at the end.
    pub is_stopped: bool,
}

/// A request and what has become of it.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct KeptMapping {
    /// What is wanted.
    pub request: MapRequest,
    /// What is.
    pub status: MappingStatus,
}

/// What has become of a request.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum MappingStatus {
    /// The router has the mapping, as far as it says.
    Active(Mapping),
    /// It cannot be had now. It is tried again.
    Failed(MapError),
    /// Not asked yet.
    Pending,
    /// Taken away at the end.
    Removed,
}

/// Owns mappings and keeps them until it is stopped.
///
/// One task of its own does everything. [`stop`](Self::stop) takes the mappings away; dropping the
/// keeper aborts the task, and the router forgets the mappings when their leases end.
#[derive(Debug)]
pub struct MappingKeeper {
    state: watch::Receiver<KeeperState>,
    commands: mpsc::Sender<Command>,
    task: JoinHandle<()>,
}

enum Command {
    Refresh,
    Stop(oneshot::Sender<()>),
}

struct Task<R> {
    router: R,
    options: KeeperOptions,
    kept: Vec<Kept>,
    state: watch::Sender<KeeperState>,
    commands: mpsc::Receiver<Command>,
    is_found: bool,
    last_check: Instant,
    next_check: Instant,
    clock: Option<(Method, RouterClock)>,
}

impl Default for KeeperOptions {
    fn default() -> Self {
        Self {
            check_interval: Duration::from_secs(120),
            retry_min: Duration::from_secs(5),
            retry_max: Duration::from_secs(600),
            stop_timeout: Duration::from_secs(5),
        }
    }
}

impl MappingStatus {
    /// Whether the router has the mapping, as far as it says.
    #[must_use]
    pub fn is_active(&self) -> bool {
        matches!(self, Self::Active(_))
    }
}

impl MappingKeeper {
    /// Begins to keep `requests` at the router that `mapper` options lead to. Returns at once; what
    /// becomes of them is told by [`state`](Self::state).
    ///
    /// Must be called in a tokio runtime.
    #[must_use]
    pub fn start(requests: Vec<MapRequest>, mapper: MapperOptions, options: KeeperOptions) -> Self {
        let router = FoundLater {
            options: mapper,
            mapper: parking_lot::RwLock::default(),
            notices: parking_lot::RwLock::default(),
        };
        Self::with_router(router, requests, options)
    }

    /// As [`start`](Self::start), at any router.
    #[must_use]
    pub fn with_router<R: Router>(
        router: R,
        requests: Vec<MapRequest>,
        options: KeeperOptions,
    ) -> Self {
        let now = Instant::now();
        let kept: Vec<_> = requests.into_iter().map(|request| Kept::new(request, now)).collect();
        let (publish, state) = watch::channel(KeeperState {
            mappings: kept.iter().map(Kept::publish).collect(),
            external_address: None,
            restart_count: 0,
            is_stopped: false,
        });
        let (commands, receive) = mpsc::channel(4);
        let next_check = now + options.check_interval;
        let task = Task {
            router,
            options,
            kept,
            state: publish,
            commands: receive,
            is_found: false,
            last_check: now,
            next_check,
            clock: None,
        };
        Self { state, commands, task: tokio::spawn(task.run()) }
    }

    /// What is, now and from now on.
    #[must_use]
    pub fn state(&self) -> watch::Receiver<KeeperState> {
        self.state.clone()
    }

    /// Looks for the router again and asks for everything now, for example after a change of network.
    pub fn refresh(&self) {
        // If there is no room, a refresh is about to happen anyway.
        let _ = self.commands.try_send(Command::Refresh);
    }

    /// Takes all mappings away and ends. Errors of the router are in the last state.
    ///
    /// # Cancel safety
    /// Some mappings may stay until their leases end.
    pub async fn stop(mut self) -> KeeperState {
        let (done, is_done) = oneshot::channel();
        if self.commands.send(Command::Stop(done)).await.is_ok() {
            let _ = is_done.await;
        }
        let _ = (&mut self.task).await;
        self.state.borrow().clone()
    }
}

impl Drop for MappingKeeper {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl<R: Router> Task<R> {
    async fn run(mut self) {
        loop {
            self.work().await;
            let wake = earliest(&self.kept).map_or(self.next_check, |at| at.min(self.next_check));
            tokio::select! {
                () = sleep_until(wake) => {}
                () = self.router.notice() => self.look_soon(),
                command = self.commands.recv() => match command {
                    Some(Command::Refresh) => self.look_again(),
                    Some(Command::Stop(done)) => {
                        self.remove_all().await;
                        let _ = done.send(());
                        return;
                    }
                    None => return,
                },
            }
        }
    }

    /// Does what is due.
    async fn work(&mut self) {
        if Instant::now() >= self.next_check {
            self.check_router().await;
            self.last_check = Instant::now();
            self.next_check = self.last_check + self.options.check_interval;
        }
        for index in 0..self.kept.len() {
            if self.kept.get(index).is_some_and(|kept| kept.due <= Instant::now()) {
                self.ensure(index).await;
                self.publish();
            }
        }
    }

    /// Makes or renews one mapping.
    async fn ensure(&mut self, index: usize) {
        let found = self.find().await;
        let Some(kept) = self.kept.get_mut(index) else { return };
        let result = match (found, &kept.status) {
            (Err(error), _) => Err(error),
            (Ok(()), MappingStatus::Active(mapping)) => {
                self.router.renew(mapping, &kept.request).await
            }
            (Ok(()), _) => self.router.add(&kept.request).await,
        };
        let is_first = !kept.was_active;
        kept.settle(result, &self.options, Instant::now());
        match &kept.status {
            MappingStatus::Active(mapping) => {
                let method = mapping.method;
                if is_first {
                    tracing::info!(
                        protocol = %mapping.protocol, port = mapping.external_port, %method,
                        is_verified = mapping.is_verified, "the router maps a port to us"
                    );
                }
                self.read_clock(method).await;
                self.read_address().await;
            }
            MappingStatus::Failed(error) => {
                tracing::warn!(port = kept.request.external_port, %error, "no port mapping");
                // Perhaps it is another router, or the router speaks something else now.
                self.is_found = false;
            }
            MappingStatus::Pending | MappingStatus::Removed => {}
        }
    }

    async fn find(&mut self) -> Result<(), MapError> {
        if !self.is_found {
            self.router.find().await?;
            self.is_found = true;
        }
        Ok(())
    }

    /// Looks for signs that the router has forgotten something.
    async fn check_router(&mut self) {
        let now = Instant::now();
        if let Some((method, before)) = self.clock
            && let Ok(clock) = self.router.clock(method).await
        {
            if clock.is_restart_since(&before) {
                tracing::info!("the router was restarted: all mappings are made anew");
                self.kept.iter_mut().for_each(|kept| kept.due = now);
                self.state.send_modify(|state| state.restart_count += 1);
                self.is_found = false;
            }
            self.clock = Some((method, clock));
        }
        for kept in &mut self.kept {
            if let MappingStatus::Active(mapping) = &kept.status
                && self.router.check(mapping).await == Ok(Presence::Absent)
            {
                tracing::warn!(port = mapping.external_port, "the router has lost a mapping");
                kept.due = now;
            }
        }
        self.read_address().await;
    }

    async fn read_clock(&mut self, method: Method) {
        if self.clock.is_none_or(|(known, _)| known != method) {
            self.clock = self.router.clock(method).await.ok().map(|clock| (method, clock));
        }
    }

    async fn read_address(&mut self) {
        if let Ok(address) = self.router.external_address().await {
            self.state.send_if_modified(|state| {
                let is_new = state.external_address != Some(address);
                state.external_address = Some(address);
                is_new
            });
        }
    }

    /// However often somebody says that there is news, the router is not asked more often than that.
    fn look_soon(&mut self) {
        let soon = (self.last_check + NOTICE_PAUSE).max(Instant::now());
        self.next_check = self.next_check.min(soon);
    }

    fn look_again(&mut self) {
        self.is_found = false;
        self.clock = None;
        let now = Instant::now();
        self.kept.iter_mut().for_each(|kept| kept.due = now);
        self.next_check = now;
    }

    async fn remove_all(&mut self) {
        let deadline = Instant::now() + self.options.stop_timeout;
        for kept in &mut self.kept {
            let MappingStatus::Active(mapping) = &kept.status else { continue };
            let left = deadline.saturating_duration_since(Instant::now());
            let removed = timeout(left, self.router.delete(mapping)).await;
            let timeout = MapError::Timeout { method: mapping.method };
            kept.status = match removed.unwrap_or(Err(timeout)) {
                Ok(()) => MappingStatus::Removed,
                Err(error) => {
                    tracing::warn!(port = mapping.external_port, %error, "a mapping stays behind");
                    MappingStatus::Failed(error)
                }
            };
        }
        self.publish();
        self.state.send_modify(|state| state.is_stopped = true);
    }

    fn publish(&self) {
        let mappings: Vec<_> = self.kept.iter().map(Kept::publish).collect();
        self.state.send_if_modified(|state| {
            let is_new = state.mappings != mappings;
            state.mappings = mappings;
            is_new
        });
    }
}

impl FoundLater {
    fn mapper(&self) -> Result<Arc<PortMapper>, MapError> {
        // `find` is called first, and everything else only after it has succeeded.
        self.mapper.read().clone().ok_or(MapError::NoGateway)
    }
}

impl Router for FoundLater {
    async fn find(&self) -> Result<(), MapError> {
        let known = self.mapper.read().clone();
        let mapper = match known {
            Some(mapper) => {
                mapper.rediscover().await?;
                mapper
            }
            None => Arc::new(PortMapper::discover(self.options.clone()).await?),
        };
        let gateway = mapper.gateway();
        if !self.notices.read().as_ref().is_some_and(|notices| notices.are_for(&gateway)) {
            *self.notices.write() = Some(Arc::new(Notices::open(&gateway)));
        }
        *self.mapper.write() = Some(mapper);
        Ok(())
    }

    async fn add(&self, request: &MapRequest) -> Result<Mapping, MapError> {
        self.mapper()?.add(request).await
    }

    async fn renew(&self, mapping: &Mapping, request: &MapRequest) -> Result<Mapping, MapError> {
        self.mapper()?.renew(mapping, request).await
    }

    async fn check(&self, mapping: &Mapping) -> Result<Presence, MapError> {
        self.mapper()?.check(mapping).await
    }

    async fn delete(&self, mapping: &Mapping) -> Result<(), MapError> {
        self.mapper()?.delete(mapping).await
    }

    async fn external_address(&self) -> Result<Ipv4Addr, MapError> {
        self.mapper()?.external_address().await
    }

    async fn clock(&self, method: Method) -> Result<RouterClock, MapError> {
        self.mapper()?.clock(method).await
    }

    async fn notice(&self) {
        let notices = self.notices.read().clone();
        match notices {
            Some(notices) => notices.heard().await,
            None => std::future::pending().await,
        }
    }
}

/// Between two looks that notices lead to; a router that starts says so in bursts.
const NOTICE_PAUSE: Duration = Duration::from_secs(2);
