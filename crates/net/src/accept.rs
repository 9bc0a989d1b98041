//! Takes connections from a socket, as many as may be.

use std::{
    fs::File,
    io,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::mpsc::error::SendError,
};

use crate::{
    per_ip::{Counted, Refusal},
    service::Serve,
    worker::{Acceptor, Adoption, Order, Worker},
};

/// How long nothing is accepted after an error that would come again at once.
const PAUSE: Duration = Duration::from_millis(100);
/// Connections that are turned away at a time, for lack of descriptors.
const TURNED_AWAY_MAX: u64 = 64;
/// Idle connections that are sent away at a time, for lack of descriptors.
const SENT_AWAY: usize = 32;
/// There is one warning about a lack of descriptors in this time.
const WARNING_INTERVAL: Duration = Duration::from_secs(10);

/// A connection's place among those of its worker and of its address; dropping it frees the place.
#[derive(Debug)]
pub(crate) struct Admission {
    pub(crate) worker: Arc<Worker>,
    counted: Counted,
}

/// Accepts for ever.
pub(crate) async fn accept_loop(worker: Arc<Worker>, acceptor: Acceptor) {
    let Acceptor { listener, service } = acceptor;
    let mut reserve = Reserve::new();
    loop {
        worker.room().await;
        match listener.accept().await {
            Ok((stream, peer)) => admit(&worker, stream, peer, &service),
            Err(error) if is_lack(&error) => {
                reserve.turn_away(&worker, &listener, &error);
                tokio::time::sleep(PAUSE).await;
            }
            Err(error) => {
                worker.counters.accept_errors.increment();
                // Most often a peer that left before it was accepted.
                tracing::debug!(%error, worker = worker.number, "cannot accept a connection");
                if !is_about_peer(&error) {
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }
}

/// Accepts what waits in the backlog, before the socket is closed.
pub(crate) fn accept_queued(worker: &Arc<Worker>, acceptor: &Acceptor) {
    for _ in 0..worker.limits.backlog {
        // Past the reactor, which need not know yet of those that came last.
        let Some(stream) = accept_now(&acceptor.listener) else { return };
        let adopted = stream.set_nonblocking(true).and_then(|()| TcpStream::from_std(stream));
        if let Ok(stream) = adopted
            && let Ok(peer) = stream.peer_addr()
        {
            admit(worker, stream, peer, &acceptor.service);
        }
    }
}

/// Serves a connection, if its address may have one more.
fn admit(worker: &Arc<Worker>, stream: TcpStream, peer: SocketAddr, service: &Arc<dyn Serve>) {
    let counted = match worker.per_ip.count(peer.ip()) {
        Ok(counted) => counted,
        Err(refusal) => {
            match refusal {
                Refusal::TooMany => worker.counters.shed_per_ip.increment(),
                Refusal::TooFast => worker.counters.shed_rate.increment(),
            };
            // A reset: the kernel keeps nothing of the connection, and the peer knows at once.
            let _ = socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO));
            return;
        }
    };
    // On Linux both are inherited from the listener.
    #[cfg(not(target_os = "linux"))]
    let _ = stream.set_nodelay(true);
    let Some((other, orders)) = worker.less_busy() else {
        worker.opened();
        service.serve(stream, peer, Admission { worker: worker.clone(), counted });
        return;
    };
    // Counted there at once, so that the next decision knows of it.
    other.opened();
    worker.counters.handed_over.increment();
    let admission = Admission { worker: other, counted };
    match stream.into_std() {
        Ok(stream) => {
            let service = service.clone();
            let adoption = Adoption { stream, peer, service, admission };
            let refused = orders.send(Order::Adopt(Box::new(adoption))).err();
            // The other has ended in the meantime.
            if let Some(SendError(Order::Adopt(mut adoption))) = refused {
                adoption.admission.move_to(worker);
                adoption.serve();
            }
        }
        Err(error) => tracing::warn!(%error, "a connection was lost on its way"),
    }
}

impl Admission {
    /// Gives the place up for one at another worker.
    fn move_to(&mut self, worker: &Arc<Worker>) {
        worker.opened();
        std::mem::replace(&mut self.worker, worker.clone()).closed();
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.worker.counters.panics.increment();
            tracing::error!(worker = self.worker.number, "a connection's task panicked");
        }
        self.worker.per_ip.count_off(self.counted);
        self.worker.closed();
    }
}

/// A descriptor that is kept for the time when there is none.
#[derive(Debug)]
struct Reserve {
    file: Option<File>,
    warned: Option<Instant>,
    turned_away: u64,
}

impl Reserve {
    fn new() -> Self {
        Self { file: File::open("/dev/null").ok(), warned: None, turned_away: 0 }
    }

    /// Closes what waits, so that peers need not wait for what will not come, and makes room.
    fn turn_away(&mut self, worker: &Worker, listener: &TcpListener, error: &io::Error) {
        worker.shed_idle(SENT_AWAY);
        self.file = None;
        let mut count = 0;
        while count < TURNED_AWAY_MAX && accept_now(listener).is_some() {
            count += 1;
        }
        self.file = File::open("/dev/null").ok();
        worker.counters.shed_descriptors.add(count);
        self.turned_away += count;
        if self.warned.is_none_or(|at| at.elapsed() >= WARNING_INTERVAL) {
            tracing::warn!(
                %error,
                worker = worker.number,
                open = worker.counters.open.load(),
                turned_away = self.turned_away,
                "no file descriptor is left for new connections: raise the limit (ulimit -n, \
                 LimitNOFILE) or lower connections_per_worker_max"
            );
            self.warned = Some(Instant::now());
            self.turned_away = 0;
        }
    }
}

/// A connection that waits in the backlog, without asking the reactor.
fn accept_now(listener: &TcpListener) -> Option<std::net::TcpStream> {
    #[cfg(target_os = "linux")]
    let accepted = rustix::net::accept_with(listener, rustix::net::SocketFlags::CLOEXEC).ok();
    #[cfg(all(unix, not(target_os = "linux")))]
    let accepted = rustix::net::accept(listener).ok();
    #[cfg(not(unix))]
    let accepted: Option<std::net::TcpStream> = None;
    #[cfg(not(unix))]
    let _ = listener;
    accepted.map(std::net::TcpStream::from)
}

/// Whether the process or the system lacks what a connection needs.
fn is_lack(error: &io::Error) -> bool {
    #[cfg(unix)]
    {
        use rustix::io::Errno;
        let errno = error.raw_os_error().map(Errno::from_raw_os_error);
        matches!(errno, Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM))
    }
    #[cfg(not(unix))]
    {
        error.kind() == io::ErrorKind::OutOfMemory
    }
}

/// Whether the error is about one connection, so that the next may be accepted at once.
fn is_about_peer(error: &io::Error) -> bool {
    use io::ErrorKind;
    matches!(
        error.kind(),
        ErrorKind::ConnectionAborted
            | ErrorKind::ConnectionRefused
            | ErrorKind::ConnectionReset
            | ErrorKind::Interrupted
    )
}
