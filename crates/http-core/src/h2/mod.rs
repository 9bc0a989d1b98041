//! HTTP/2 (RFC 9113), the server's side.
//!
//! One task drives one connection: it reads frames, polls the handlers in place, sends what they
//! answer and keeps a ledger of what the peer costs. [`frame`], [`hpack`] and [`link`] know nothing but bytes.

mod channel;
mod frame;
mod head;
mod hpack;
mod ledger;
mod link;
mod output;
mod priority;
mod ready;
mod receive;
mod respond;
mod run;
mod send;
mod slots;
mod streams;
mod timers;
mod upgrade;

use std::{
    future::Future,
    marker::PhantomData,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;

#[cfg(any(test, feature = "testing"))]
pub(crate) use self::hpack::fuzz_hpack;
use self::run::Run;
pub(crate) use self::upgrade::upgrade_prefix;
use crate::{ConnectionError, ConnectionInfo, Handler, Request, Settings, Transport, Watch};

/// Serves one HTTP/2 connection: a future that ends when the connection does.
pub(crate) struct Driver<T: Transport, H: Handler, W: Watch> {
    run: Pin<Box<dyn Future<Output = Result<(), ConnectionError>> + Send>>,
    of: PhantomData<fn(T, H, W)>,
}

impl<T: Transport, H: Handler, W: Watch> Driver<T, H, W> {
    /// A connection over `transport`, of which `early` has been read already.
    pub(crate) fn new(
        transport: T,
        early: Bytes,
        handler: Arc<H>,
        settings: Arc<Settings>,
        info: Arc<ConnectionInfo>,
        watch: W,
    ) -> Self {
        Self::upgraded(transport, early, Bytes::new(), handler, settings, info, watch)
    }

    /// A connection that began as HTTP/1.1 with `Upgrade: h2c`: `request` comes from
    /// [`upgrade_prefix`] and is answered on stream 1; `early` is what was read behind that request.
    pub(crate) fn upgraded(
        transport: T,
        early: Bytes,
        request: Bytes,
        handler: Arc<H>,
        settings: Arc<Settings>,
        info: Arc<ConnectionInfo>,
        watch: W,
    ) -> Self {
        // An async block, because the future of `call` borrows the handler and has no name.
        let call = move |request: Request| {
            let handler = Arc::clone(&handler);
            async move { handler.call(request).await }
        };
        let run = Run::new(transport, early, request, call, settings, info, watch);
        Self { run: Box::pin(run), of: PhantomData }
    }
}

impl<T: Transport, H: Handler, W: Watch> Future for Driver<T, H, W> {
    type Output = Result<(), ConnectionError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.run.as_mut().poll(cx)
    }
}
