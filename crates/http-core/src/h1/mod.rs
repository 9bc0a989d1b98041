//! HTTP/1.1 and 1.0 (RFC 9112).
//!
//! Parsers, decoders and encoders know no transport: bytes and the time go in, decisions and bytes
//! come out. [`Core`] and [`Active`] move the bytes: the first is all that an idle connection owns,
//! the second exists from the first byte of a request until there is nothing to do again.

mod active;
mod body;
pub(crate) mod chunked;
mod classes;
mod clock;
mod core;
mod date;
pub(crate) mod encode;
mod exchange;
mod fields;
mod output;
mod parse;
mod refusal;
mod respond;
mod send;
mod target;
mod trace;
mod upgrade;

use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::Arc,
};

use bytes::{Bytes, BytesMut};

use self::{active::Active, core::Core, exchange::Next};
#[cfg(any(test, feature = "testing"))]
pub(crate) use self::{
    chunked::{ChunkedDecoder, Piece, is_forbidden_trailer, put_end, put_size_line},
    fields::{Facts, Framing},
    parse::HeadParser,
    target::is_authority,
};
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

/// Serves what has come, until there is nothing to do. The handler's future is polled in place, as
/// a part of this one.
async fn serve<T: Transport, H: Handler, W: Watch>(
    core: &mut Core<T, W>,
    handler: &H,
    input: BytesMut,
) -> Result<End, ConnectionError> {
    let mut active = Active::new(core, input);
    loop {
        let slow = match poll_fn(|cx| active.poll_next(cx)).await {
            Next::Idle => return Ok(End::Idle),
            Next::Slow(slow) => slow,
            Next::Request(request) => {
                // `call` itself runs within the block, so that a panic there is caught as well.
                let mut answer = pin!(async move { handler.call(request).await });
                let called = poll_fn(|cx| active.poll_call(cx, answer.as_mut())).await;
                match active.respond(called) {
                    None => continue,
                    Some(slow) => slow,
                }
            }
        };
        if let Some(end) = Slot::new(active.slow(slow)).await? {
            return Ok(end);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Portable, Response, TokioWatch, handler_fn};

    #[test]
    fn activity_fits_into_a_recycled_block() {
        let (io, _peer) = tokio::io::duplex(1);
        let handler = handler_fn(async |_| Response::text("hi"));
        let (settings, info) = (Arc::default(), Arc::default());
        let mut core = Core::new(Portable(io), settings, info, TokioWatch::new());
        let size = size_of_val(&serve(&mut core, &handler, BytesMut::new()));
        assert!(size <= 1024, "{size} bytes");
    }
}
