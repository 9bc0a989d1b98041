//! HTTP/1.1 and 1.0 (RFC 9112).
//!
//! Parsers, decoders and encoders know no transport: bytes and the time go in, decisions and bytes
//! come out. [`Core`] and [`Active`] move the bytes: the first is all that an idle connection owns,
//! the second exists from the first byte of a request until there is nothing to do again.

mod active;
mod body;
mod chunked;
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

use std::{
    future::{Future, poll_fn},
    sync::Arc,
};

use bytes::{Bytes, BytesMut};

use self::{
    active::Active,
    core::{Core, Wake},
};
use crate::{
    ConnectionError, ConnectionInfo, Handler, Protocol, Settings, Transport, Upgraded, Watch,
    h2::Driver, response::OnUpgrade, slot::Slot,
};

/// How a time of activity ended.
enum End {
    /// There is nothing to do; the connection stays.
    Idle,
    Closed,
    /// The peer speaks HTTP/2; these bytes of it were read.
    Http2(Bytes),
    /// The protocol was switched; these bytes behind the request were read.
    Upgrade(OnUpgrade, Bytes),
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
    // A block, not a function: arguments of an `async fn` are stored twice.
    async move {
        loop {
            core.start_idle();
            let input = match poll_fn(|cx| core.poll_idle(cx)).await {
                Wake::Input(input) => input,
                Wake::Close => {
                    // TLS says goodbye; if it cannot at once, so be it.
                    poll_fn(|cx| {
                        let _ = std::pin::Pin::new(&mut core.transport).poll_shutdown(cx);
                        std::task::Poll::Ready(())
                    })
                    .await;
                    return Ok(());
                }
            };
            match Slot::new(serve(&mut core, &*handler, input)).await? {
                End::Idle => {}
                End::Closed => return Ok(()),
                End::Http2(early) => {
                    let Core { transport, settings, info, watch, .. } = core;
                    let driver = Driver::new(transport, early, handler, settings, info, watch);
                    return driver.await;
                }
                End::Upgrade(run, early) => {
                    core.watch.set_deadline(None);
                    run(Upgraded::new(early, Box::new(core.transport))).await;
                    return Ok(());
                }
            }
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
