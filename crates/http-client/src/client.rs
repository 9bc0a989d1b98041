//! The client: from a request to a response, with redirects and repeats between.

use std::{sync::Arc, time::Duration};

use hearth_http_core::Transport;
use tokio::time::{Instant, timeout_at};

use crate::{
    ClientError, ClientOptions, ClientRequest, ClientResponse, ClientStats, ErrorKind, TimeoutKind,
    Versions,
    connect::connect,
    exchange::{Answer, Failure, Order},
    h1,
    pool::{Key, Lease, Origin, Pool},
    redirect::Redirects,
    request::{Content, RequestParts},
};

/// A pooled HTTP client. Clones share its connections.
///
/// It runs in the tokio runtime in which it is called. A connection stays with the runtime that made
/// it: a program with a runtime per core keeps one client in each.
///
/// # Tasks
/// One closes connections that were idle too long; it ends when none is left. One drives each HTTP/2
/// connection. Both are aborted when the last clone of the client, and for the latter the last
/// response of the connection, is dropped. HTTP/1.1 needs none.
#[derive(Clone)]
pub struct Client(Arc<Inner>);

struct Inner {
    options: ClientOptions,
    pool: Arc<Pool>,
    #[cfg(feature = "tls")]
    tls: crate::tls::TlsConfigs,
}

/// A connection for one exchange.
enum Link {
    H1 {
        io: Box<dyn Transport>,
        lease: Lease,
    },
    #[cfg(feature = "http2")]
    H2(crate::h2::Handle),
}

impl Client {
    /// A client with these options.
    ///
    /// # Errors
    /// [`ErrorKind::Tls`] where a certificate or key of the options does not work.
    pub fn new(options: ClientOptions) -> Result<Self, ClientError> {
        Ok(Self(Arc::new(Inner {
            pool: Pool::new(options.pool),
            #[cfg(feature = "tls")]
            tls: options.tls.build()?,
            options,
        })))
    }

    /// Sends a request and waits for the head of its response.
    ///
    /// A request that met a kept connection which turned out to be dead, or that the peer refused
    /// unseen, is sent once more, if that does no harm and its content is still there.
    ///
    /// # Errors
    /// [`ClientError::kind`] tells what failed. A response of any status is no error.
    ///
    /// # Cancel safety
    /// Dropping the future closes the HTTP/1.1 connection, or resets the HTTP/2 stream, and frees the
    /// place in the pool. The peer may have acted on the request.
    pub async fn send(&self, request: ClientRequest) -> Result<ClientResponse, ClientError> {
        let total = request.parts.settings.total.or(self.0.options.timeouts.total);
        let deadline = total.map(|total| Instant::now() + total);
        let target = request.parts.target.clone();
        let is_idempotent = request.parts.is_idempotent();
        let exchange = self.follow(request, deadline);
        let result = match deadline {
            None => exchange.await,
            Some(deadline) => {
                let expired = |_| Err(ClientError::timeout(TimeoutKind::Total));
                timeout_at(deadline, exchange).await.unwrap_or_else(expired)
            }
        };
        result.map_err(|error| error.at(target.authority()).idempotent(is_idempotent))
    }

    /// What this client has done so far.
    #[must_use]
    pub fn stats(&self) -> ClientStats {
        self.0.pool.counters.stats(self.0.pool.idle_count())
    }

    /// Sends a request, and where redirects are followed those that it leads to.
    async fn follow(
        &self,
        request: ClientRequest,
        deadline: Option<Instant>,
    ) -> Result<ClientResponse, ClientError> {
        let count_max =
            request.parts.settings.redirects_max.unwrap_or(self.0.options.redirects_max);
        let mut redirects = Redirects::new(request, count_max);
        loop {
            let (request, content) = redirects.current();
            // Far from the stack of whoever waits: this future is large.
            let response = Box::pin(self.exchange(request, content, deadline)).await;
            let response = response.map_err(|error| error.at(request.target.authority()))?;
            if !redirects.follow(&response)? {
                return Ok(response);
            }
            discard(response).await;
        }
    }

    /// One request and its response, with at most one repeat.
    async fn exchange(
        &self,
        request: &RequestParts,
        content: &mut Content,
        deadline: Option<Instant>,
    ) -> Result<ClientResponse, ClientError> {
        let options = &self.0.options;
        let settings = &request.settings;
        let versions = match (&settings.upgrade, settings.versions) {
            // RFC 9113 §8.6: HTTP/2 knows no `upgrade`.
            (Some(_), _) => Versions::Http1,
            (None, versions) => versions.unwrap_or(options.versions),
        };
        let key = Key::new(&request.target, settings.connect_to.as_ref(), versions);
        let origin = self.0.pool.origin(key);
        let order = Order {
            method: &request.method,
            target: &request.target,
            headers: &request.headers,
            user_agent: options.user_agent.as_ref(),
            settings,
            timeouts: options.timeouts,
            limits: options.limits,
            deadline,
        };
        let mut is_repeat = false;
        loop {
            let (link, is_reused) = self.link(&origin, &order, versions, is_repeat).await?;
            let failure = match self.run(link, &origin, order, content).await {
                Ok(answer) => return Ok(into_response(answer, request, deadline)),
                Err(failure) => failure,
            };
            let was_dead = failure.is_stale && is_reused && request.is_idempotent();
            let is_harmless = was_dead || failure.error.is_unprocessed();
            let may_pass = failure.error.kind() == ErrorKind::Closed;
            if is_repeat || !may_pass || !is_harmless || !content.is_there() {
                return Err(failure.error);
            }
            self.0.pool.counters.retried();
            is_repeat = true;
        }
    }

    async fn run(
        &self,
        link: Link,
        _origin: &Origin,
        order: Order<'_>,
        content: &mut Content,
    ) -> Result<Answer, Failure> {
        match link {
            Link::H1 { io, lease } => {
                let body = content.take().unwrap_or_default();
                h1::run(io, lease, order, body).await
            }
            #[cfg(feature = "http2")]
            Link::H2(handle) => {
                let result = crate::h2::run(&handle, order, content).await;
                // A connection that is dead, or is no longer answered, is no use to the next request.
                if let Err(failure) = &result
                    && failure.condemns_connection()
                {
                    _origin.h2.evict(&handle);
                }
                result
            }
        }
    }

    /// A connection, and whether it has been used before.
    async fn link(
        &self,
        origin: &Arc<Origin>,
        order: &Order<'_>,
        versions: Versions,
        is_repeat: bool,
    ) -> Result<(Link, bool), ClientError> {
        #[cfg(feature = "http2")]
        if versions == Versions::Http2 || (versions == Versions::Auto && order.target.is_tls) {
            return self.link_h2(origin, order, versions, is_repeat).await;
        }
        self.link_h1(origin, order, versions, is_repeat).await
    }

    async fn link_h1(
        &self,
        origin: &Arc<Origin>,
        order: &Order<'_>,
        versions: Versions,
        is_repeat: bool,
    ) -> Result<(Link, bool), ClientError> {
        let mut lease = origin.lease(order.timeouts.pool_wait).await?;
        // Where one kept connection was dead, the others probably are, too.
        if !is_repeat && let Some(io) = lease.take_idle() {
            return Ok((Link::H1 { io, lease }, true));
        }
        let (io, _is_h2) = self.connect(order, versions).await?;
        self.0.pool.counters.opened();
        #[cfg(feature = "http2")]
        if _is_h2 {
            let started = crate::h2::Handle::start(io, &order.limits);
            let handle = within(order.timeouts.connect, started).await?;
            origin.h2.set(handle.clone());
            origin.ensure_reaper();
            return Ok((Link::H2(handle), false));
        }
        Ok((Link::H1 { io, lease }, false))
    }

    /// The one connection of an origin that speaks HTTP/2, or may do so.
    #[cfg(feature = "http2")]
    async fn link_h2(
        &self,
        origin: &Arc<Origin>,
        order: &Order<'_>,
        versions: Versions,
        is_repeat: bool,
    ) -> Result<(Link, bool), ClientError> {
        use std::sync::atomic::Ordering::Relaxed;
        let reuse = || {
            let handle = origin.h2.open(self.0.options.pool.age_max)?;
            self.0.pool.counters.reused();
            Some((Link::H2(handle), true))
        };
        if let Some(link) = reuse() {
            return Ok(link);
        }
        let dialing = match origin.h2.is_http1.load(Relaxed) {
            true => None,
            false => {
                let wait = tokio::time::timeout(order.timeouts.pool_wait, origin.h2.dialing.lock());
                Some(wait.await.map_err(|_| ClientError::timeout(TimeoutKind::PoolWait))?)
            }
        };
        if let Some(link) = reuse() {
            return Ok(link);
        }
        let dialing = dialing.filter(|_| !origin.h2.is_http1.load(Relaxed));
        let link = self.link_h1(origin, order, versions, is_repeat).await?;
        if let (Link::H1 { .. }, _) = link {
            if versions == Versions::Http2 {
                let what = "the peer does not speak HTTP/2";
                return Err(ClientError::new(ErrorKind::Protocol, what));
            }
            origin.h2.is_http1.store(true, Relaxed);
        }
        drop(dialing);
        Ok(link)
    }

    /// A new connection, and whether HTTP/2 is spoken on it.
    async fn connect(
        &self,
        order: &Order<'_>,
        versions: Versions,
    ) -> Result<(Box<dyn Transport>, bool), ClientError> {
        let options = &self.0.options;
        let target = order.target;
        let connecting = connect(
            &target.host,
            target.port,
            order.settings.connect_to.as_ref(),
            options.dialer.as_ref(),
            &order.timeouts,
            order.limits.address_count_max,
        );
        if !target.is_tls {
            return Ok((connecting.await?, versions.knows_http2()));
        }
        #[cfg(feature = "tls")]
        {
            let io = connecting.await?;
            self.0.tls.handshake(io, &target.host, versions, &order.timeouts).await
        }
        #[cfg(not(feature = "tls"))]
        Err(ClientError::new(ErrorKind::Request, "this program was built without TLS"))
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("stats", &self.stats()).finish_non_exhaustive()
    }
}

fn into_response(
    answer: Answer,
    request: &RequestParts,
    deadline: Option<Instant>,
) -> ClientResponse {
    ClientResponse {
        head: answer.head,
        body: answer.body,
        target: request.target.clone(),
        upgraded: answer.upgraded,
        is_idempotent: request.is_idempotent(),
        deadline,
    }
}

/// Reads a small body to its end, so that its connection can be used again.
async fn discard(mut response: ClientResponse) {
    let body = std::mem::take(response.body_mut());
    let _ = tokio::time::timeout(DISCARD_TIMEOUT, body.collect(DISCARD_BYTES_MAX)).await;
}

#[cfg(feature = "http2")]
async fn within<T>(
    limit: Duration,
    future: impl Future<Output = Result<T, ClientError>>,
) -> Result<T, ClientError> {
    let expired = |_| Err(ClientError::timeout(TimeoutKind::Connect));
    tokio::time::timeout(limit, future).await.unwrap_or_else(expired)
}

/// Bytes of a redirect's content that are read to keep the connection.
const DISCARD_BYTES_MAX: u64 = 64 * 1024;
const DISCARD_TIMEOUT: Duration = Duration::from_secs(1);
