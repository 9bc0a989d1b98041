//! Listeners, workers and their life.

use std::{
    future::Future,
    io,
    net::SocketAddr,
    sync::{Arc, OnceLock, mpsc},
    thread::JoinHandle,
    time::Duration,
};

use hearth_http_core::Handler;
use parking_lot::Mutex;
use tokio::{
    net::TcpListener,
    runtime::{Builder, Runtime},
    sync::mpsc as orders,
};

use crate::{
    BindError, DrainReport, Listener, NetLimits, Stats,
    drain::{self, Drain},
    listener::Bound,
    per_ip::PerIp,
    ring::Ring,
    service::{Serve, Service},
    watchdog::Watchdog,
    worker::{Acceptor, Order, Other, Worker},
};

/// A server whose sockets are bound: connections queue up, nothing serves them yet.
///
/// [`run`](Self::run) serves until a future says stop; [`start`](Self::start) serves until the
/// [`Handle`] says so.
#[derive(Debug)]
#[must_use]
pub struct Server {
    shared: Arc<Shared>,
    orders: Vec<orders::UnboundedReceiver<Order>>,
}

/// Builds a [`Server`].
#[must_use]
pub struct ServerBuilder {
    threads: Threads,
    limits: NetLimits,
    keep_listeners: bool,
    io: Io,
    listeners: Vec<(Listener, MakeService)>,
}

/// Controls a running server; cheap to clone. When the last is dropped, the server is aborted.
#[derive(Debug, Clone)]
#[must_use = "a server without a handle is aborted"]
pub struct Handle {
    shared: Arc<Shared>,
}

/// Why a server cannot start. The environment must be looked at.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// A thread cannot be started.
    #[error("cannot start a thread")]
    Thread(#[source] io::Error),
    /// A worker's event loop cannot be set up, most often for lack of file descriptors.
    #[error("cannot set up an event loop")]
    EventLoop(#[source] io::Error),
    /// [`Io::IoUring`] was asked for, and the kernel does not have it, or forbids it.
    #[error(
        "io_uring cannot be used here: it takes Linux 6.1, and containers often forbid it; `auto` does without"
    )]
    NoIoUring(#[source] io::Error),
}

/// Threads of a worker that read files for connections which cannot have them sent by the kernel.
const BLOCKING_THREADS_MAX: usize = 64;
/// Turns of connections between two looks for new events, at some 10 to 30 µs each. Many, because a peer
/// that finds several answers need be woken only once.
const EVENT_INTERVAL: u32 = 128;

type MakeService = Box<dyn FnOnce(&Listener, SocketAddr) -> Arc<dyn Serve> + Send>;

/// How a worker waits for its connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Io {
    /// io_uring where the kernel has what is needed (Linux 6.1) and lets us use it, which containers often
    /// do not; what the system has otherwise.
    Auto,
    /// The runtime's: epoll on Linux.
    #[default]
    Epoll,
    /// io_uring, or no start.
    IoUring,
}

impl Io {
    /// The word for it in configuration files and logs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Epoll => "epoll",
            Self::IoUring => "io_uring",
        }
    }

    /// The one that has this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Auto, Self::Epoll, Self::IoUring].into_iter().find(|io| io.name() == name)
    }
}

/// Who does the work.
#[derive(Debug, Clone, Copy)]
enum Threads {
    /// So many workers of one thread each.
    PerWorker(usize),
    /// One worker of so many threads.
    Shared(usize),
}

/// What the server and its handles share.
#[derive(Debug)]
struct Shared {
    limits: Arc<NetLimits>,
    threads: Threads,
    keep_listeners: bool,
    io: Io,
    /// Known from the start on.
    uses_ring: OnceLock<bool>,
    workers: Vec<(Arc<Worker>, orders::UnboundedSender<Order>)>,
    addresses: Vec<SocketAddr>,
    /// Empty after the drain.
    listeners: Mutex<Vec<ServedListener>>,
    running: Mutex<Running>,
}

/// What exists while the server runs.
#[derive(Debug, Default)]
struct Running {
    threads: Vec<JoinHandle<()>>,
    watchdog: Option<Watchdog>,
}

struct ServedListener {
    bound: Bound,
    service: Arc<dyn Serve>,
}

impl Server {
    /// Options and listeners.
    pub fn builder() -> ServerBuilder {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let threads = if cfg!(target_os = "linux") {
            Threads::PerWorker(cores)
        } else {
            Threads::Shared(cores)
        };
        ServerBuilder {
            threads,
            limits: NetLimits::default(),
            keep_listeners: false,
            io: Io::default(),
            listeners: Vec::new(),
        }
    }

    /// Where it listens, in the order of the listeners.
    #[must_use]
    pub fn local_addrs(&self) -> &[SocketAddr] {
        &self.shared.addresses
    }

    /// What controls it, before and after it starts.
    pub fn handle(&self) -> Handle {
        Handle { shared: self.shared.clone() }
    }

    /// Starts the workers and serves until `shutdown` is ready, then drains for at most
    /// [`NetLimits::drain_timeout`].
    ///
    /// # Errors
    /// [`StartError`] if the workers cannot be started.
    ///
    /// # Cancel safety
    /// If the future is dropped, the server is aborted.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> Result<DrainReport, StartError> {
        let handle = self.start()?;
        let mut guard = AbortOnDrop(Some(handle.clone()));
        shutdown.await;
        let report = handle.drain().await;
        guard.0 = None;
        Ok(report)
    }

    /// Starts the workers, which serve until the handle says otherwise.
    ///
    /// # Errors
    /// [`StartError`] if they cannot be started; none runs then.
    pub fn start(self) -> Result<Handle, StartError> {
        let handle = self.handle();
        let Self { shared, orders } = self;
        let uses_ring = shared.choose_io()?;
        let _first = shared.uses_ring.set(uses_ring);
        // Aborts those that run already, should one of the next not start.
        let mut guard = AbortOnDrop(Some(handle.clone()));
        for (index, orders) in orders.into_iter().enumerate() {
            let thread = shared.start_worker(index, orders)?;
            shared.running.lock().threads.push(thread);
        }
        let workers: Vec<_> = shared.workers.iter().map(|(worker, _)| worker.clone()).collect();
        let watchdog =
            Watchdog::start(workers, shared.limits.stall_threshold).map_err(StartError::Thread)?;
        shared.running.lock().watchdog = Some(watchdog);
        guard.0 = None;
        Ok(handle)
    }
}

impl ServerBuilder {
    /// Workers: threads with an event loop and a share of the connections each. Default: one for
    /// each core on Linux; elsewhere as [`shared_runtime`](Self::shared_runtime).
    pub fn workers(mut self, count: usize) -> Self {
        self.threads = Threads::PerWorker(count.max(1));
        self
    }

    /// One event loop for all connections, with so many threads that take work from each other:
    /// for systems that do not spread connections over sockets, and for handlers that block.
    pub fn shared_runtime(mut self, threads: usize) -> Self {
        self.threads = Threads::Shared(threads.max(1));
        self
    }

    /// Bounds on connections.
    pub fn limits(mut self, limits: NetLimits) -> Self {
        self.limits = limits;
        self
    }

    /// While the server drains, keep the sockets open although nothing accepts from them:
    /// connections wait for a successor that gets the same sockets. Default no: what waits is
    /// accepted, then the sockets are closed and later connections refused.
    pub fn keep_listeners(mut self, keep: bool) -> Self {
        self.keep_listeners = keep;
        self
    }

    /// How workers wait for their connections. Has no effect on a [`shared_runtime`](Self::shared_runtime).
    pub fn io(mut self, io: Io) -> Self {
        self.io = io;
        self
    }

    /// Adds a listener whose requests `handler` answers.
    pub fn listen<H: Handler>(mut self, listener: Listener, handler: Arc<H>) -> Self {
        let make: MakeService = Box::new(move |listener, address| {
            Arc::new(Service {
                handler,
                settings: Arc::new(listener.settings.clone()),
                protocol: listener.protocol,
                tls: listener.tls.clone(),
                address,
            })
        });
        self.listeners.push((listener, make));
        self
    }

    /// Makes the sockets.
    ///
    /// # Errors
    /// [`BindError`] says which address cannot be listened on, why, and what to do.
    pub fn bind(self) -> Result<Server, BindError> {
        let workers = match self.threads {
            Threads::PerWorker(count) => count,
            Threads::Shared(_) => 1,
        };
        let limits = Arc::new(self.limits);
        let mut listeners = Vec::new();
        for (mut listener, make) in self.listeners {
            let bound = listener.open(&limits, workers)?;
            let service = make(&listener, bound.address);
            listeners.push(ServedListener { bound, service });
        }
        let per_ip = PerIp::new(&limits);
        let threads = match self.threads {
            Threads::PerWorker(_) => 1,
            Threads::Shared(threads) => threads,
        };
        let (workers, orders): (Vec<_>, _) = (0..workers)
            .map(|number| {
                let (sender, receiver) = orders::unbounded_channel();
                let worker = Worker::new(number, threads, self.keep_listeners, &limits, &per_ip);
                ((worker, sender), receiver)
            })
            .unzip();
        make_acquainted(&workers);
        let shared = Shared {
            limits,
            threads: self.threads,
            keep_listeners: self.keep_listeners,
            io: self.io,
            uses_ring: OnceLock::new(),
            workers,
            addresses: listeners.iter().map(|listener| listener.bound.address).collect(),
            listeners: Mutex::new(listeners),
            running: Mutex::default(),
        };
        Ok(Server { shared: Arc::new(shared), orders })
    }
}

impl Handle {
    /// Where the server listens, in the order of the listeners.
    #[must_use]
    pub fn local_addrs(&self) -> &[SocketAddr] {
        &self.shared.addresses
    }

    /// Descriptors of the listening sockets, address by address, for a successor.
    ///
    /// # Errors
    /// If the process has no descriptor left.
    pub fn sockets(&self) -> io::Result<Vec<(SocketAddr, Vec<std::net::TcpListener>)>> {
        let listeners = self.shared.listeners.lock();
        let duplicate = |bound: &Bound| {
            let sockets = bound.sockets.iter().map(std::net::TcpListener::try_clone);
            Ok((bound.address, sockets.collect::<io::Result<_>>()?))
        };
        listeners.iter().map(|listener| duplicate(&listener.bound)).collect()
    }

    /// How the workers wait: [`Io::IoUring`] or [`Io::Epoll`]; [`Io::Auto`] before the start.
    #[must_use]
    pub fn io(&self) -> Io {
        match self.shared.uses_ring.get() {
            Some(true) => Io::IoUring,
            Some(false) => Io::Epoll,
            None => Io::Auto,
        }
    }

    /// What happened so far.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let mut sum = Stats::default();
        for (worker, _) in &self.shared.workers {
            worker.counters.add_to(&mut sum);
        }
        sum
    }

    /// Stops accepting, lets what is in progress end, and stops the workers: idle connections are
    /// closed at once, new ones have a second for a first request, the others have
    /// [`NetLimits::drain_timeout`], after which they are cut off.
    ///
    /// # Cancel safety
    /// The drain goes on if the future is dropped.
    pub async fn drain(&self) -> DrainReport {
        self.drain_within(self.shared.limits.drain_timeout).await
    }

    /// As [`drain`](Self::drain), with another time limit.
    pub async fn drain_within(&self, time: Duration) -> DrainReport {
        let (report, progress) = mpsc::channel();
        let mut count = 0;
        for (_, orders) in &self.shared.workers {
            count += usize::from(orders.send(Order::Drain(time, report.clone())).is_ok());
        }
        drop(report);
        if !self.shared.keep_listeners {
            self.shared.listeners.lock().clear();
        }
        let shared = self.shared.clone();
        let finish = move |is_stuck: bool| shared.stop(is_stuck);
        drain::conduct(Drain { workers: count, time, progress }, finish).await
    }

    /// Cuts off every connection and stops the workers, without waiting for them.
    pub fn abort(&self) {
        for (_, orders) in &self.shared.workers {
            let _has_ended = orders.send(Order::Abort);
        }
        self.shared.listeners.lock().clear();
        self.shared.running.lock().watchdog = None;
    }
}

impl Shared {
    /// Whether the workers use io_uring.
    fn choose_io(&self) -> Result<bool, StartError> {
        match (self.threads, self.io) {
            (Threads::Shared(_), _) | (_, Io::Epoll) => Ok(false),
            (_, Io::Auto) => Ok(Ring::probe().is_ok()),
            (_, Io::IoUring) => Ring::probe().map(|()| true).map_err(StartError::NoIoUring),
        }
    }

    /// Starts the thread of a worker; returns when its event loop is set up.
    fn start_worker(
        &self,
        index: usize,
        orders: orders::UnboundedReceiver<Order>,
    ) -> Result<JoinHandle<()>, StartError> {
        let worker = self.workers[index].0.clone();
        let (hand_over, handed_over) = mpsc::sync_channel(1);
        let own = worker.clone();
        let uses_ring = self.uses_ring.get().copied().unwrap_or(false);
        // The thread comes first: should it not come, there is no event loop yet that would have to be dropped
        // here, which is within another one.
        let thread = std::thread::Builder::new()
            .name(format!("hearth-worker-{index}"))
            .spawn(move || {
                if let Ok((runtime, acceptors)) = handed_over.recv() {
                    own.run(runtime, acceptors, orders, uses_ring);
                }
            })
            .map_err(StartError::Thread)?;
        let runtime = self.runtime(&worker).map_err(StartError::EventLoop)?;
        let acceptors = {
            let _inside = runtime.enter();
            self.acceptors(index)
        };
        match acceptors {
            Ok(acceptors) => {
                let _it_waits = hand_over.send((runtime, acceptors));
                Ok(thread)
            }
            Err(error) => {
                runtime.shutdown_background();
                Err(StartError::EventLoop(error))
            }
        }
    }

    fn runtime(&self, worker: &Arc<Worker>) -> io::Result<Runtime> {
        let mut builder = match self.threads {
            Threads::PerWorker(_) => Builder::new_current_thread(),
            Threads::Shared(threads) => {
                let mut builder = Builder::new_multi_thread();
                builder.worker_threads(threads);
                builder
            }
        };
        builder.thread_name("hearth-shared").max_blocking_threads(BLOCKING_THREADS_MAX);
        builder.event_interval(EVENT_INTERVAL);
        let (parked, unparked) = (worker.clone(), worker.clone());
        builder
            .on_thread_park(move || parked.pulse.park())
            .on_thread_unpark(move || {
                unparked.pulse.unpark();
                unparked.wheel.expire_clock();
                unparked.pacer.rest();
            })
            .enable_all()
            .build()
    }

    /// The sockets that a worker accepts from: its share of those of each listener, or one that it
    /// shares with others if there are not enough.
    fn acceptors(&self, index: usize) -> io::Result<Vec<Acceptor>> {
        let mut acceptors = Vec::new();
        for ServedListener { bound, service } in &*self.listeners.lock() {
            let own = bound.sockets.iter().skip(index).step_by(self.workers.len());
            let shared = bound.sockets.iter().cycle().skip(index).take(1);
            let is_short = index >= bound.sockets.len();
            for socket in own.chain(shared.filter(|_| is_short)) {
                let listener = TcpListener::from_std(socket.try_clone()?)?;
                let (listener, service) = (Arc::new(listener), service.clone());
                acceptors.push(Acceptor { listener, service });
            }
        }
        Ok(acceptors)
    }

    /// Cleans up after the workers; those that are stuck are left to the end of the process.
    fn stop(&self, is_stuck: bool) {
        self.listeners.lock().clear();
        let running = std::mem::take(&mut *self.running.lock());
        drop(running.watchdog);
        for thread in running.threads.into_iter().filter(|_| !is_stuck) {
            let _panicked = thread.join();
        }
    }
}

/// Tells every worker of the others.
fn make_acquainted(workers: &[(Arc<Worker>, orders::UnboundedSender<Order>)]) {
    for (worker, _) in workers {
        let others = workers.iter().filter(|(other, _)| !Arc::ptr_eq(other, worker));
        let other = |(worker, orders): &(Arc<Worker>, orders::UnboundedSender<Order>)| Other {
            worker: Arc::downgrade(worker),
            orders: orders.downgrade(),
        };
        worker.set_others(others.map(other).collect());
    }
}

/// Aborts the server unless it has ended.
struct AbortOnDrop(Option<Handle>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        if let Some(handle) = &self.0 {
            handle.abort();
        }
    }
}

impl std::fmt::Debug for ServedListener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServedListener").field("bound", &self.bound).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for ServerBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServerBuilder")
            .field("threads", &self.threads)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}
