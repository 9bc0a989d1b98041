//! A connection of a server: finds out which protocol is spoken and drives it.

use std::{
    future::Future,
    io,
    marker::PhantomData,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use crate::{BodyError, ConnectionInfo, Handler, Protocol, Settings, Transport, Watch, h1, h2};

/// Why a connection ended otherwise than in good order.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectionError {
    /// The body of a response failed in the middle, so that the peer got only a part of it.
    #[error("the body of a response failed")]
    BodyFailed(#[source] BodyError),
    /// The source of a response's body panicked in the middle of it.
    #[error("the body of a response panicked")]
    Panicked,
    /// The peer closed, or reset, in the middle of an exchange.
    #[error("the peer went away in the middle of an exchange")]
    PeerGone,
    /// The transport failed: the environment has to be looked at.
    #[error("the transport failed")]
    Io(#[source] io::Error),
    /// The peer violated the protocol and was refused.
    #[error("the peer violated the protocol: {0}")]
    Protocol(&'static str),
    /// A time limit passed.
    #[error("timed out: {0}")]
    Timeout(&'static str),
}

/// Serves one connection: a future that ends when the connection does.
///
/// It owns everything that belongs to the connection; dropping it closes the transport at once. What
/// an idle connection does not need is not allocated while it is idle.
#[must_use = "a connection does nothing until it is polled"]
pub struct Connection<T: Transport, H: Handler, W: Watch> {
    run: Pin<Box<dyn Future<Output = Result<(), ConnectionError>> + Send>>,
    of: PhantomData<fn(T, H, W)>,
}

impl<T: Transport, H: Handler, W: Watch> Connection<T, H, W> {
    /// A connection over `transport` whose requests `handler` answers.
    pub fn new(
        transport: T,
        handler: Arc<H>,
        settings: Arc<Settings>,
        info: Arc<ConnectionInfo>,
        watch: W,
        protocol: Protocol,
    ) -> Self {
        let run: Pin<Box<dyn Future<Output = _> + Send>> = match protocol {
            Protocol::Http2 => {
                let early = bytes::Bytes::new();
                Box::pin(h2::Driver::new(transport, early, handler, settings, info, watch))
            }
            Protocol::Auto | Protocol::Http1 => {
                Box::pin(h1::run(transport, handler, settings, info, watch, protocol))
            }
        };
        Self { run, of: PhantomData }
    }
}

impl<T: Transport, H: Handler, W: Watch> Future for Connection<T, H, W> {
    type Output = Result<(), ConnectionError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.run.as_mut().poll(cx)
    }
}

impl<T: Transport, H: Handler, W: Watch> std::fmt::Debug for Connection<T, H, W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Connection")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Portable, Response, TokioWatch, handler_fn};

    #[test]
    fn idle_connections_are_small() {
        let (io, _peer) = tokio::io::duplex(1);
        let handler = Arc::new(handler_fn(async |_| Response::text("hi")));
        let (settings, info) = (Arc::default(), Arc::default());
        let watch = TokioWatch::new();
        let own = size_of_val(&watch) + size_of_val(&io);
        let connection =
            Connection::new(Portable(io), handler, settings, info, watch, Protocol::Auto);
        let all = size_of_val(&connection) + size_of_val(&*connection.run);
        // Beside the transport and the watch, whose sizes are not ours.
        assert!(all - own <= 128, "{all} bytes, of which {own} are not the connection's");
    }
}
