//! HTTP/1.1 and 1.0 (RFC 9112).
//!
//! Parsers, decoders and encoders know no transport: bytes and the time go in, decisions and bytes
//! come out. [`Core`] and [`Active`] move the bytes: the first is all that an idle connection owns,
//! the second exists from the first byte of a request until there is nothing to do again.

mod active;
mod body;
pub(crate) mod chunked;
mod clock;
mod core;
mod date;
pub(crate) mod encode;
mod fields;
mod output;
mod parse;
mod refusal;
mod respond;
mod send;
mod target;
mod upgrade;

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    sync::Arc,
};

use bytes::{Bytes, BytesMut};

use self::{active::Active, core::Core};
use crate::{
    ConnectionError, ConnectionInfo, Handler, Protocol, Settings, Transport, Upgraded, Watch,
    h2::Driver, response::OnUpgrade, slot::Slot,
};

/// How a time of activity ended.
enum End {
    Closed,
    /// Somebody else goes on with the transport.
    Handover(Box<Handover>),
    /// There is nothing to do; the connection stays.
    Idle,
}

/// Who goes on, and what was read for him already.
enum Handover {
    /// The peer speaks HTTP/2. After `Upgrade: h2c` its first request came as HTTP/1.1.
    Http2 { early: Bytes, request: Bytes },
    /// The protocol that the handler switched to.
    Upgrade { run: OnUpgrade, early: Bytes },
}

/// Serves a connection.
pub(crate) fn run<T: Transport, H: Handler, W: Watch>(
    transport: T,
    handler: Arc<H>,
    settings: Arc<Settings>,
    info: Arc<ConnectionInfo>,
    watch: W,
    protocol: Protocol,
) -> impl Future<Output = Result<(), ConnectionError>> + Send {
    let mut core = Core::new(transport, settings, info, watch);
    core.sniffs_http2 = protocol == Protocol::Auto;
    // A block, not a function: arguments of an `async fn` are stored twice. Nothing but `core` and
    // `handler` is alive while the connection idles.
    async move {
        let handover = loop {
            core.start_idle();
            let activity = match poll_fn(|cx| core.poll_idle(cx)).await {
                Some(input) => Slot::new(serve(&mut core, &*handler, input)),
                None => return Ok(()),
            };
            match activity.await {
                Ok(End::Idle) => {}
                Ok(End::Closed) => return Ok(()),
                Ok(End::Handover(handover)) => break handover,
                Err(error) => return Err(error),
            }
        };
        (*handover).run(core, handler).await
    }
}

impl Handover {
    /// Boxed, so that a connection that never comes here pays nothing for it.
    fn run<T: Transport, H: Handler, W: Watch>(
        self,
        mut core: Core<T, W>,
        handler: Arc<H>,
    ) -> Pin<Box<dyn Future<Output = Result<(), ConnectionError>> + Send>> {
        core.watch.set_deadline(None);
        let Core { transport, settings, info, watch, .. } = core;
        match self {
            Self::Http2 { early, request } => Box::pin(Driver::upgraded(
                transport, early, request, handler, settings, info, watch,
            )),
            Self::Upgrade { run, early } => Box::pin(async move {
                // The watch lives on: the server counts the connection by it.
                let _watch = watch;
                run(Upgraded::new(early, Box::new(transport))).await;
                Ok(())
            }),
        }
    }
}

/// Serves what has come, until there is nothing to do.
async fn serve<T: Transport, H: Handler, W: Watch>(
    core: &mut Core<T, W>,
    handler: &H,
    input: BytesMut,
) -> Result<End, ConnectionError> {
    Active::new(core, input).run(handler).await
}
