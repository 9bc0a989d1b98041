//! Connections between their uses.
//!
//! A semaphore per origin bounds the connections that are in use and queues those who wait, in
//! order. A connection is made only when none is idle, so that the sum of both has the same bound.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc, Weak,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use hearth_http_core::Transport;
use parking_lot::Mutex;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task::AbortHandle,
    time::{Instant, sleep_until, timeout},
};

use crate::{
    ClientError, ConnectTo, PoolOptions, TimeoutKind, Versions, h1, stats::Counters, target::Target,
};

/// What connections have in common that are good for the same requests.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    is_tls: bool,
    host: Arc<str>,
    port: u16,
    connect_to: Option<ConnectTo>,
    versions: Versions,
}

/// The connections of a client.
pub(crate) struct Pool {
    options: PoolOptions,
    origins: Mutex<HashMap<Key, Arc<Origin>>>,
    reaper: Mutex<Option<AbortHandle>>,
    pub(crate) counters: Arc<Counters>,
}

/// The connections to one origin.
pub(crate) struct Origin {
    options: PoolOptions,
    /// One permit for each HTTP/1.1 connection that is in use or being made.
    permits: Arc<Semaphore>,
    /// Permits that somebody holds in hand.
    leased: AtomicUsize,
    /// The one used last is at the back, and is taken first: the others may expire.
    idle: Mutex<VecDeque<Idle>>,
    #[cfg(feature = "http2")]
    pub(crate) h2: crate::h2::Slot,
    pool: Weak<Pool>,
    counters: Arc<Counters>,
}

struct Idle {
    io: Box<dyn Transport>,
    born: Instant,
    expires: Instant,
}

/// The right to use one connection to an origin.
pub(crate) struct Lease {
    origin: Arc<Origin>,
    /// When its connection was made.
    born: Instant,
    _permit: OwnedSemaphorePermit,
}

impl Key {
    pub(crate) fn new(target: &Target, connect_to: Option<&ConnectTo>, versions: Versions) -> Self {
        Self {
            is_tls: target.is_tls,
            host: target.host.clone(),
            port: target.port,
            connect_to: connect_to.cloned(),
            versions,
        }
    }
}

impl Pool {
    pub(crate) fn new(options: PoolOptions) -> Arc<Self> {
        Arc::new(Self {
            options,
            origins: Mutex::default(),
            reaper: Mutex::default(),
            counters: Arc::default(),
        })
    }

    /// The connections for `key`.
    pub(crate) fn origin(self: &Arc<Self>, key: Key) -> Arc<Origin> {
        let mut origins = self.origins.lock();
        if let Some(origin) = origins.get(&key) {
            return origin.clone();
        }
        // Whoever visits many origins once must not pay for all of them for ever.
        if origins.len() >= ORIGINS_BEFORE_SWEEP {
            origins.retain(|_, origin| Arc::strong_count(origin) > 1 || !origin.is_unused());
        }
        let origin = Arc::new(Origin {
            options: self.options,
            permits: Arc::new(Semaphore::new(self.options.connections_max())),
            leased: AtomicUsize::new(0),
            idle: Mutex::default(),
            #[cfg(feature = "http2")]
            h2: crate::h2::Slot::default(),
            pool: Arc::downgrade(self),
            counters: self.counters.clone(),
        });
        origins.insert(key, origin.clone());
        origin
    }

    /// Idle connections, and HTTP/2 connections in any state.
    pub(crate) fn idle_count(&self) -> usize {
        self.origins.lock().values().map(|origin| origin.idle_count()).sum()
    }

    /// Sees that idle connections are closed in time. The task ends when none is left, and with the
    /// pool. Outside of a runtime nothing is started: then they are closed at the next use.
    fn ensure_reaper(self: &Arc<Self>) {
        let mut reaper = self.reaper.lock();
        if reaper.as_ref().is_some_and(|task| !task.is_finished()) {
            return;
        }
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            *reaper = Some(runtime.spawn(reap(Arc::downgrade(self))).abort_handle());
        }
    }

    /// Closes what has expired. Where nothing is left, the task is forgotten under the same lock, so
    /// that whoever puts a connection here a moment later starts another.
    fn sweep_or_leave(&self) -> Option<Instant> {
        let mut reaper = self.reaper.lock();
        let next = self.sweep();
        if next.is_none() {
            *reaper = None;
        }
        next
    }

    /// Closes what has expired; answers when to look again.
    fn sweep(&self) -> Option<Instant> {
        let mut origins = self.origins.lock();
        let next = origins.values().filter_map(|origin| origin.sweep()).min();
        origins.retain(|_, origin| Arc::strong_count(origin) > 1 || !origin.is_unused());
        next
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        if let Some(task) = self.reaper.get_mut() {
            task.abort();
        }
    }
}

impl Origin {
    /// Waits for the right to use a connection.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the queue.
    pub(crate) async fn lease(self: &Arc<Self>, wait: Duration) -> Result<Lease, ClientError> {
        let acquired = timeout(wait, self.permits.clone().acquire_owned()).await;
        match acquired {
            Ok(Ok(permit)) => {
                self.leased.fetch_add(1, Relaxed);
                Ok(Lease { origin: self.clone(), born: Instant::now(), _permit: permit })
            }
            _ => Err(ClientError::timeout(TimeoutKind::PoolWait)),
        }
    }

    pub(crate) fn ensure_reaper(&self) {
        if let Some(pool) = self.pool.upgrade() {
            pool.ensure_reaper();
        }
    }

    fn put_idle(&self, io: Box<dyn Transport>, born: Instant, keep_alive: Option<Duration>) {
        let age_rest = self.options.age_max.saturating_sub(born.elapsed());
        let mut timeout = self.options.idle_timeout.min(age_rest);
        if let Some(keep_alive) = keep_alive {
            // The peer's clock runs ahead of ours by the time its response took to get here.
            timeout = timeout.min(keep_alive.saturating_sub(KEEP_ALIVE_MARGIN));
        }
        if timeout.is_zero() || self.options.idle_per_origin_max == 0 {
            return;
        }
        let mut surplus = Vec::new();
        let mut idle = self.idle.lock();
        let idle_max = self.idle_max();
        while idle.len() >= idle_max {
            surplus.extend(idle.pop_front());
        }
        idle.push_back(Idle { io, born, expires: Instant::now() + timeout });
        drop(idle);
        drop(surplus);
        self.ensure_reaper();
    }

    /// How many connections may be idle now: as many as the options say, and those for which
    /// somebody waits.
    fn idle_max(&self) -> usize {
        let connections_max = self.options.connections_max();
        let free = self.permits.available_permits();
        if free == 0 {
            return connections_max;
        }
        // Whoever waited has a permit at once, but takes its connection only when its task runs.
        let about_to_take = (connections_max - free).saturating_sub(self.leased.load(Relaxed));
        self.options.idle_per_origin_max + about_to_take
    }

    /// Closes what has expired; answers when the next connection will.
    fn sweep(&self) -> Option<Instant> {
        let now = Instant::now();
        let mut idle = self.idle.lock();
        idle.retain_mut(|idle| idle.is_good(now));
        let next = idle.iter().map(|idle| idle.expires).min();
        #[cfg(feature = "http2")]
        let next = next.into_iter().chain(self.h2.sweep(now, &self.options)).min();
        next
    }

    fn is_unused(&self) -> bool {
        self.idle_count() == 0
    }

    fn idle_count(&self) -> usize {
        let count = self.idle.lock().len();
        #[cfg(feature = "http2")]
        let count = count + usize::from(self.h2.open(self.options.age_max).is_some());
        count
    }
}

impl Idle {
    fn is_good(&mut self, now: Instant) -> bool {
        self.expires > now && h1::is_silent(&mut *self.io)
    }
}

impl Lease {
    /// An idle connection that is still good. Those that are not are closed.
    pub(crate) fn take_idle(&mut self) -> Option<Box<dyn Transport>> {
        let now = Instant::now();
        loop {
            let mut idle = self.origin.idle.lock().pop_back()?;
            if idle.is_good(now) {
                self.born = idle.born;
                self.origin.counters.reused();
                return Some(idle.io);
            }
        }
    }

    /// Whether a connection would be kept after this use.
    pub(crate) fn keeps_connections(&self) -> bool {
        self.origin.options.idle_per_origin_max > 0
    }

    /// Gives a connection back, in a state in which the next request can be sent.
    pub(crate) fn release(self, io: Box<dyn Transport>, keep_alive: Option<Duration>) {
        // Before the permit is dropped: whoever waits for it shall find the connection.
        self.origin.put_idle(io, self.born, keep_alive);
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.origin.leased.fetch_sub(1, Relaxed);
    }
}

impl PoolOptions {
    fn connections_max(&self) -> usize {
        self.connections_per_origin_max.clamp(1, 65_535)
    }
}

async fn reap(pool: Weak<Pool>) {
    loop {
        let next = match pool.upgrade() {
            Some(pool) => pool.sweep_or_leave(),
            None => return,
        };
        let Some(next) = next else { return };
        // Not more often than this, however many connections there are.
        sleep_until(next.max(Instant::now() + REAP_PAUSE)).await;
    }
}

/// Origins above which unused ones are forgotten when a new one comes.
const ORIGINS_BEFORE_SWEEP: usize = 256;
const KEEP_ALIVE_MARGIN: Duration = Duration::from_secs(1);
const REAP_PAUSE: Duration = Duration::from_millis(100);
