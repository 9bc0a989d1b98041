//! What becomes of an accepted connection.

use std::{
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
};

use hearth_http_core::{
    Connection, ConnectionError, ConnectionInfo, Handler, Protocol, Settings, Watch, WatchEvent,
};
use tokio::net::TcpStream;

use crate::{
    TcpTransport,
    accept::Admission,
    tls::{Handshake, HandshakeError, TlsConfig, TlsTransport},
    wheel::WheelWatch,
};

/// Serves the connections of a listener.
pub(crate) trait Serve: Send + Sync + 'static {
    /// Spawns a task for this connection.
    fn serve(&self, stream: TcpStream, peer: SocketAddr, admission: Admission);
}

/// A handler and how connections are treated.
pub(crate) struct Service<H> {
    pub(crate) handler: Arc<H>,
    pub(crate) settings: Arc<Settings>,
    pub(crate) protocol: Protocol,
    pub(crate) tls: Option<Arc<TlsConfig>>,
    pub(crate) address: SocketAddr,
}

/// A connection in the clear.
struct Plain<H: Handler> {
    connection: Connection<TcpTransport, H, WheelWatch>,
    admission: Admission,
}

/// An encrypted connection.
struct Encrypted<H: Handler> {
    stage: Stage<H>,
    admission: Admission,
}

enum Stage<H: Handler> {
    Handshake(Box<HandshakeStage<H>>),
    Serve(Connection<TlsTransport<TcpTransport>, H, WheelWatch>),
}

struct HandshakeStage<H> {
    handshake: Handshake<TcpTransport>,
    watch: WheelWatch,
    handler: Arc<H>,
    settings: Arc<Settings>,
    /// `None` after the end.
    info: Option<ConnectionInfo>,
}

/// Numbers connections over all servers of the process.
static NEXT_ID: AtomicU64 = AtomicU64::new(1);

impl<H: Handler> Service<H> {
    fn info(&self, stream: &TcpStream, peer: SocketAddr) -> ConnectionInfo {
        let id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
        // A system call only where the listener's address does not tell.
        let local = if self.address.ip().is_unspecified() {
            stream.local_addr().ok()
        } else {
            Some(self.address)
        };
        ConnectionInfo::new(id, Some(peer), local)
    }
}

impl<H: Handler> Serve for Service<H> {
    fn serve(&self, stream: TcpStream, peer: SocketAddr, admission: Admission) {
        let info = self.info(&stream, peer);
        let worker = &admission.worker;
        let transport = match worker.transport(stream) {
            Ok(transport) => transport,
            Err(error) => {
                tracing::warn!(%error, "a connection was lost on its way");
                return;
            }
        };
        let (handler, settings) = (self.handler.clone(), self.settings.clone());
        let Some(tls) = &self.tls else {
            let watch = worker.wheel.watch();
            let info = Arc::new(info);
            let connection =
                Connection::new(transport, handler, settings, info, watch, self.protocol);
            tokio::spawn(Plain { connection, admission });
            return;
        };
        let mut watch = worker.handshakes.watch();
        watch.set_idle_deadline(settings.limits.handshake_timeout);
        if worker.handshakes.len() > worker.limits.handshakes_per_worker_max {
            worker.handshakes.shed_idle(1);
        }
        let handshake = Handshake::new(transport, tls).in_turn(worker.pacer.turn());
        let stage = HandshakeStage { handshake, watch, handler, settings, info: Some(info) };
        tokio::spawn(Encrypted { stage: Stage::Handshake(Box::new(stage)), admission });
    }
}

impl<H: Handler> Future for Plain<H> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        let result = ready!(Pin::new(&mut this.connection).poll(cx));
        this.admission.note_end(result);
        Poll::Ready(())
    }
}

impl<H: Handler> Future for Encrypted<H> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        loop {
            match &mut this.stage {
                Stage::Handshake(stage) => match ready!(stage.poll(cx, &this.admission)) {
                    Some(connection) => this.stage = Stage::Serve(connection),
                    None => return Poll::Ready(()),
                },
                Stage::Serve(connection) => {
                    let result = ready!(Pin::new(connection).poll(cx));
                    this.admission.note_end(result);
                    return Poll::Ready(());
                }
            }
        }
    }
}

impl<H: Handler> HandshakeStage<H> {
    /// The connection; `None` if the handshake failed.
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        admission: &Admission,
    ) -> Poll<Option<Connection<TlsTransport<TcpTransport>, H, WheelWatch>>> {
        let counters = &admission.worker.counters;
        let failure = match self.handshake.poll(cx) {
            Poll::Ready(Ok(transport)) => {
                counters.tls_handshakes.increment();
                return Poll::Ready(self.finish(transport, admission));
            }
            Poll::Ready(Err(failure)) => failure,
            Poll::Pending => {
                if let Some(time) = self.handshake.take_hold() {
                    let timeout = self.settings.limits.handshake_timeout;
                    self.watch.set_idle_deadline(time.saturating_add(timeout));
                }
                match ready!(self.watch.poll_event(cx)) {
                    WatchEvent::Deadline => HandshakeError::TimedOut,
                    WatchEvent::Drain => {
                        counters.tls_shed.increment();
                        return Poll::Ready(None);
                    }
                }
            }
        };
        counters.tls_failed.increment();
        let peer = self.info.as_ref().and_then(|info| info.peer);
        tracing::debug!(?peer, error = &failure as &dyn std::error::Error, "no TLS connection");
        Poll::Ready(None)
    }

    fn finish(
        &mut self,
        mut transport: TlsTransport<TcpTransport>,
        admission: &Admission,
    ) -> Option<Connection<TlsTransport<TcpTransport>, H, WheelWatch>> {
        let tls = transport.take_info()?;
        if tls.resumed {
            admission.worker.counters.tls_resumed.increment();
        }
        let protocol = match tls.alpn.as_deref() {
            Some(b"h2") => Protocol::Http2,
            _ => Protocol::Http1,
        };
        let info = Arc::new(self.info.take()?.with_tls(tls));
        let (handler, settings) = (self.handler.clone(), self.settings.clone());
        let watch = admission.worker.wheel.watch();
        Some(Connection::new(transport, handler, settings, info, watch, protocol))
    }
}

impl Admission {
    fn note_end(&self, result: Result<(), ConnectionError>) {
        let counters = &self.worker.counters;
        match result {
            Ok(()) => counters.closed.increment(),
            Err(error) => {
                tracing::debug!(error = &error as &dyn std::error::Error, "connection failed");
                counters.failed.increment()
            }
        };
    }
}
