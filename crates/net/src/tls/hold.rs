//! Handshakes that wait for what they need.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use rustls::server::ClientHello;

/// Lets handshakes wait between the client's hello and the server's, for instance until the certificate
/// for the name is there. Costs a second look at the hello, so most listeners have none.
pub trait HoldHandshake: fmt::Debug + Send + Sync + 'static {
    /// What this handshake waits for; `None`: nothing.
    ///
    /// Whoever implements this bounds how many wait at once: each of them takes a connection's memory
    /// and one of the places of [`NetLimits::handshakes_per_worker_max`](crate::NetLimits).
    fn hold(&self, hello: &ClientHello<'_>) -> Option<Hold>;
}

/// What a handshake waits for. It goes on when that is over, however it ended.
pub struct Hold {
    over: Pin<Box<dyn Future<Output = ()> + Send>>,
    at_most: Duration,
}

impl Hold {
    /// Waits until `over` is ready, at most for this time. The time that a handshake may take by itself
    /// (`Limits::handshake_timeout`) begins again behind it.
    pub fn new(at_most: Duration, over: impl Future<Output = ()> + Send + 'static) -> Self {
        let over = async move {
            let _either = tokio::time::timeout(at_most, over).await;
        };
        Self { over: Box::pin(over), at_most }
    }

    pub(super) fn at_most(&self) -> Duration {
        self.at_most
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.over.as_mut().poll(cx)
    }
}

impl fmt::Debug for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hold").field("at_most", &self.at_most).finish_non_exhaustive()
    }
}
