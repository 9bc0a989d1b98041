//! One worker: its wheel, its counters, and the loop that obeys orders.

use std::{
    io,
    net::SocketAddr,
    pin::pin,
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicU64, AtomicUsize, Ordering},
        mpsc,
    },
    time::{Duration, Instant},
};

use tokio::{
    net::{TcpListener, TcpStream},
    runtime::Runtime,
    sync::{Notify, mpsc as orders},
    task::JoinSet,
};

use crate::{
    NetLimits, TcpTransport,
    accept::{Admission, accept_loop, accept_queued},
    per_ip::PerIp,
    ring::{Ring, RingStream},
    service::Serve,
    stats::Counters,
    tls::Pacer,
    wheel::Wheel,
};

/// How long a drain takes to send the idle ones away: those that were just accepted have a second
/// for their first request, and deadlines come late by a tick.
const SETTLE: Duration = Duration::from_millis(1200);

/// What a worker's thread, its connections and the server's handle share.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) number: usize,
    pub(crate) limits: Arc<NetLimits>,
    /// The sockets stay open during a drain.
    pub(crate) keep_listeners: bool,
    pub(crate) per_ip: Arc<PerIp>,
    pub(crate) counters: Counters,
    /// Watches over connections.
    pub(crate) wheel: Arc<Wheel>,
    /// Watches over handshakes, so that the oldest of them can be found.
    pub(crate) handshakes: Arc<Wheel>,
    /// Lets handshakes take turns.
    pub(crate) pacer: Arc<Pacer>,
    pub(crate) pulse: Pulse,
    /// A connection has ended.
    freed: Notify,
    others: OnceLock<Vec<Other>>,
    /// What its connections use in place of the runtime's sockets, if they do.
    ring: OnceLock<Arc<Ring>>,
}

/// Another worker, to which a connection can be given.
#[derive(Debug)]
pub(crate) struct Other {
    pub(crate) worker: Weak<Worker>,
    pub(crate) orders: orders::WeakUnboundedSender<Order>,
}

/// Signs of life, for the watchdog.
#[derive(Debug)]
pub(crate) struct Pulse {
    pub(crate) threads: usize,
    /// Threads that wait for events.
    pub(crate) parked: AtomicUsize,
    /// How often a thread went to work.
    pub(crate) turns: AtomicU64,
}

/// What a worker is told.
pub(crate) enum Order {
    /// Serve this connection, which another worker has accepted.
    Adopt(Box<Adoption>),
    /// Accept no more; finish within this time; tell how it goes.
    Drain(Duration, mpsc::Sender<Progress>),
    /// Cut everything off.
    Abort,
}

/// A connection on its way to another worker.
pub(crate) struct Adoption {
    pub(crate) stream: std::net::TcpStream,
    pub(crate) peer: SocketAddr,
    pub(crate) service: Arc<dyn Serve>,
    pub(crate) admission: Admission,
}

/// How a drain goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Progress {
    /// Nothing is accepted any more; so many connections are open.
    Stopped { open: u64 },
    /// The idle ones are gone; so many are in the middle of something.
    Settled { open: u64 },
    /// The worker has ended; so many were cut off.
    Ended { aborted: u64 },
}

/// A socket and what serves its connections.
#[derive(Clone)]
pub(crate) struct Acceptor {
    pub(crate) listener: Arc<TcpListener>,
    pub(crate) service: Arc<dyn Serve>,
}

impl Worker {
    pub(crate) fn new(
        number: usize,
        threads: usize,
        keep_listeners: bool,
        limits: &Arc<NetLimits>,
        per_ip: &Arc<PerIp>,
    ) -> Arc<Self> {
        Arc::new(Self {
            number,
            limits: limits.clone(),
            keep_listeners,
            per_ip: per_ip.clone(),
            counters: Counters::default(),
            wheel: Wheel::new(),
            handshakes: Wheel::new(),
            pacer: Pacer::new(limits.handshakes_per_turn_max),
            pulse: Pulse { threads, parked: AtomicUsize::new(0), turns: AtomicU64::new(0) },
            freed: Notify::new(),
            others: OnceLock::new(),
            ring: OnceLock::new(),
        })
    }

    /// Serves until it is told to end. `runtime` is this worker's own.
    pub(crate) fn run(
        self: &Arc<Self>,
        runtime: Runtime,
        acceptors: Vec<Acceptor>,
        orders: orders::UnboundedReceiver<Order>,
        uses_ring: bool,
    ) {
        if uses_ring {
            self.make_ring(&runtime);
        }
        let ended = runtime.block_on(self.obey(acceptors, orders));
        let aborted = self.counters.open.load();
        // Drops every task, which closes every socket; waits for none that blocks.
        runtime.shutdown_background();
        if let Some(ring) = self.ring.get() {
            ring.end();
        }
        if let Some(report) = ended {
            let _nobody_asks = report.send(Progress::Ended { aborted });
        }
    }

    /// Makes the ring, which is the calling thread's.
    fn make_ring(&self, runtime: &Runtime) {
        let _inside = runtime.enter();
        let made = Ring::new().and_then(|ring| {
            runtime.spawn(ring.clone().run()?);
            Ok(ring)
        });
        match made {
            Ok(ring) => {
                let _new = self.ring.set(ring);
            }
            // It was there a moment ago: descriptors ran out.
            Err(error) => {
                tracing::warn!(%error, worker = self.number, "no io_uring: this worker uses epoll");
            }
        }
    }

    /// The transport of a connection that was just accepted.
    ///
    /// # Errors
    /// If the socket cannot be taken from the runtime.
    pub(crate) fn transport(&self, stream: TcpStream) -> io::Result<TcpTransport> {
        match self.ring.get() {
            Some(ring) if !ring.has_failed() => {
                Ok(TcpTransport::on_ring(RingStream::new(ring, stream.into_std()?)))
            }
            _ => Ok(TcpTransport::new(stream)),
        }
    }

    /// Waits until there is room for one more connection.
    pub(crate) async fn room(&self) {
        let max = self.limits.connections_per_worker_max as u64;
        while self.counters.open.load() >= max {
            let mut freed = pin!(self.freed.notified());
            freed.as_mut().enable();
            if self.counters.open.load() < max {
                return;
            }
            self.counters.accept_paused.increment();
            // One in a hundred at a time, those that are idle longest.
            self.shed_idle(self.limits.connections_per_worker_max / 100 + 1);
            freed.await;
        }
    }

    /// Sends idle connections away.
    pub(crate) fn shed_idle(&self, count: usize) {
        let shed = self.wheel.shed_idle(count);
        self.counters.shed_idle.add(shed as u64);
    }

    /// Makes the others known, once.
    pub(crate) fn set_others(&self, others: Vec<Other>) {
        let _known = self.others.set(others);
    }

    /// The worker that should have the next connection instead of this one. The kernel spreads
    /// connections by a hash, so that of a few long ones many may gather here.
    pub(crate) fn less_busy(&self) -> Option<(Arc<Self>, orders::UnboundedSender<Order>)> {
        let others = self.others.get().filter(|others| !others.is_empty())?;
        let open = self.counters.open.load();
        let mut total = open;
        let mut least: Option<(u64, &Other)> = None;
        for other in others {
            let worker = other.worker.upgrade()?;
            if worker.wheel.is_draining() {
                return None;
            }
            let open = worker.counters.open.load();
            total += open;
            if least.is_none_or(|(fewest, _)| open < fewest) {
                least = Some((open, other));
            }
        }
        // With this one more than half as many again as the mean, and one.
        let workers = others.len() as u64 + 1;
        if 2 * workers * (open + 1) <= 3 * total + 2 * workers {
            return None;
        }
        let (_, other) = least.filter(|(fewest, _)| *fewest < open)?;
        Some((other.worker.upgrade()?, other.orders.upgrade()?))
    }

    /// A connection was accepted.
    pub(crate) fn opened(&self) {
        self.counters.accepted.increment();
        self.set_crowded(self.counters.open.increment());
    }

    /// A connection has ended.
    pub(crate) fn closed(&self) {
        self.set_crowded(self.counters.open.decrement());
        self.freed.notify_waiters();
    }

    fn set_crowded(&self, open: u64) {
        let max = self.limits.connections_per_worker_max as u64;
        self.wheel.set_crowded(open * 5 > max * 4);
    }

    /// Answers where to report the end.
    async fn obey(
        self: &Arc<Self>,
        acceptors: Vec<Acceptor>,
        mut orders: orders::UnboundedReceiver<Order>,
    ) -> Option<mpsc::Sender<Progress>> {
        tokio::spawn(self.wheel.clone().run());
        tokio::spawn(self.handshakes.clone().run());
        tokio::spawn(self.pacer.clone().run());
        let mut accepting = JoinSet::new();
        let order = loop {
            if accepting.is_empty() {
                for acceptor in &acceptors {
                    accepting.spawn(accept_loop(self.clone(), acceptor.clone()));
                }
            }
            tokio::select! {
                order = orders.recv() => match order {
                    Some(Order::Adopt(adoption)) => adoption.serve(),
                    order => break order,
                },
                Some(ended) = accepting.join_next() => {
                    self.counters.panics.increment();
                    tracing::error!(?ended, worker = self.number, "accepting begins anew");
                    accepting.shutdown().await;
                }
            }
        };
        match order {
            Some(Order::Drain(grace, report)) => {
                accepting.shutdown().await;
                if !self.keep_listeners {
                    acceptors.iter().for_each(|acceptor| accept_queued(self, acceptor));
                }
                drop(acceptors);
                self.drain(grace, &report, &mut orders).await;
                Some(report)
            }
            _abort => None,
        }
    }

    async fn drain(
        &self,
        grace: Duration,
        report: &mpsc::Sender<Progress>,
        orders: &mut orders::UnboundedReceiver<Order>,
    ) {
        let begin = Instant::now();
        let _ = report.send(Progress::Stopped { open: self.counters.open.load() });
        self.wheel.drain();
        let in_order = async {
            self.empty_within(grace.min(SETTLE)).await;
            // A handshake that takes longer than that is not worth waiting for.
            self.handshakes.drain();
            let _ = report.send(Progress::Settled { open: self.counters.open.load() });
            self.empty_within(grace.saturating_sub(begin.elapsed())).await;
        };
        tokio::select! {
            () = in_order => {}
            () = second_order(orders) => {}
        }
    }

    /// Waits until no connection is open, at most for this time.
    async fn empty_within(&self, time: Duration) {
        let empty = async {
            loop {
                let mut freed = pin!(self.freed.notified());
                freed.as_mut().enable();
                if self.counters.open.load() == 0 {
                    return;
                }
                freed.await;
            }
        };
        let _either = tokio::time::timeout(time, empty).await;
    }
}

/// Waits for another order to end, which means: at once.
async fn second_order(orders: &mut orders::UnboundedReceiver<Order>) {
    while let Some(Order::Adopt(adoption)) = orders.recv().await {
        adoption.serve();
    }
}

impl Adoption {
    pub(crate) fn serve(self) {
        let Self { stream, peer, service, admission } = self;
        match TcpStream::from_std(stream) {
            Ok(stream) => service.serve(stream, peer, admission),
            Err(error) => tracing::warn!(%error, "a connection was lost on its way"),
        }
    }
}

impl Pulse {
    pub(crate) fn park(&self) {
        self.parked.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn unpark(&self) {
        self.parked.fetch_sub(1, Ordering::Relaxed);
        self.turns.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether somebody is at work, and a number that changes with every turn.
    pub(crate) fn read(&self) -> (bool, u64) {
        let is_busy = self.parked.load(Ordering::Relaxed) < self.threads;
        (is_busy, self.turns.load(Ordering::Relaxed))
    }
}
