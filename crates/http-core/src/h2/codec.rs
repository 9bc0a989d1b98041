//! The seam to the `h2` crate: no other module names a type of it.
//!
//! What stands here is all that a codec of our own would have to offer: frames, HPACK, stream states
//! and flow control. What a stream is worth, when output leaves and who is sent away is decided above.

use std::{
    future::Future,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri, request::Parts};

pub(super) use h2::Reason;

use super::wire::Wire;
use crate::{Settings, Transport};

/// The frames of one connection.
pub(super) enum Codec<T: Transport> {
    Handshake(Box<h2::server::Handshake<Wire<T>, Bytes>>),
    Open(Box<h2::server::Connection<Wire<T>, Bytes>>),
}

/// A request whose head has arrived.
pub(super) struct Incoming {
    pub(super) stream: u32,
    pub(super) parts: Parts,
    /// `:protocol` of an extended CONNECT (RFC 8441).
    pub(super) protocol: Option<Box<str>>,
    /// `None` where the request ended with its head.
    pub(super) content: Option<Content>,
    pub(super) responder: Responder,
}

/// The content of a request.
pub(super) struct Content(h2::RecvStream);

/// The right to answer a request, or a promised one.
pub(super) enum Responder {
    Asked(h2::server::SendResponse<Bytes>),
    Pushed(h2::server::SendPushedResponse<Bytes>),
}

/// The content of a response on its way.
pub(super) struct Outgoing(h2::SendStream<Bytes>);

/// Pings of ours.
pub(super) struct Pings(h2::PingPong);

/// Why a connection, or a stream, came to an end.
#[derive(Debug)]
pub(super) enum Failure {
    Io(io::Error),
    /// We found a violation.
    Protocol(Reason),
    /// The peer gave up.
    Peer(Reason),
}

/// The stream takes nothing any more.
#[derive(Debug)]
pub(super) struct Gone;

impl<T: Transport> Codec<T> {
    pub(super) fn new(wire: Wire<T>, settings: &Settings) -> Self {
        let limits = &settings.limits;
        // RFC 9113 §6.5.2 counts 32 octets per field line beyond its text. Our own check, on text alone,
        // answers 431 and tells the observer; the codec's, above it, bounds what is decoded at all.
        let list_bytes = limits.head_bytes_max.saturating_add(32 * limits.header_count_max);
        let mut builder = h2::server::Builder::new();
        builder
            .initial_window_size(limits.h2_stream_window.min(WINDOW_MAX))
            .initial_connection_window_size(limits.h2_connection_window.min(WINDOW_MAX))
            .max_concurrent_streams(limits.h2_streams_max)
            .max_frame_size(limits.h2_frame_bytes_max.clamp(FRAME_MIN, FRAME_MAX))
            .max_header_list_size(u32::try_from(list_bytes).unwrap_or(u32::MAX))
            .header_table_size(HEADER_TABLE)
            .max_send_buffer_size(limits.h2_send_buffer_max)
            .max_concurrent_reset_streams(RESET_STREAMS_KEPT)
            .reset_stream_duration(RESET_STREAM_KEPT_FOR)
            .max_pending_accept_reset_streams(RESET_PENDING_ACCEPT)
            .max_local_error_reset_streams(Some(ERROR_RESETS));
        if settings.extended_connect {
            builder.enable_connect_protocol();
        }
        Self::Handshake(Box::new(builder.handshake(wire)))
    }

    /// Reads frames, moves queued ones to the wire, and answers the next request. `None`: closed in
    /// good order.
    pub(super) fn poll_accept(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Incoming, Failure>>> {
        loop {
            match self {
                Self::Open(connection) => {
                    let accepted = ready!(connection.poll_accept(cx));
                    return Poll::Ready(
                        accepted.map(|request| request.map(Incoming::new).map_err(Failure::from)),
                    );
                }
                Self::Handshake(handshake) => match ready!(Pin::new(&mut **handshake).poll(cx)) {
                    Ok(connection) => *self = Self::Open(Box::new(connection)),
                    Err(error) => return Poll::Ready(Some(Err(error.into()))),
                },
            }
        }
    }

    /// Whether the peer has said its preface.
    pub(super) fn is_open(&self) -> bool {
        matches!(self, Self::Open(_))
    }

    /// Two-phase GOAWAY: announces the end, and names the last stream one round trip later.
    pub(super) fn announce_end(&mut self) {
        if let Self::Open(connection) = self {
            connection.graceful_shutdown();
        }
    }

    /// GOAWAY now; every stream ends.
    pub(super) fn abort(&mut self, reason: Reason) {
        if let Self::Open(connection) = self {
            connection.abrupt_shutdown(reason);
        }
    }

    /// Whether streams are open, also such as nobody holds any more.
    pub(super) fn has_streams(&self) -> bool {
        matches!(self, Self::Open(connection) if connection.has_streams())
    }

    /// The means to ping; can be taken once.
    pub(super) fn take_pings(&mut self) -> Option<Pings> {
        match self {
            Self::Open(connection) => connection.ping_pong().map(Pings),
            Self::Handshake(_) => None,
        }
    }
}

impl Incoming {
    fn new(
        (request, responder): (Request<h2::RecvStream>, h2::server::SendResponse<Bytes>),
    ) -> Self {
        let (mut parts, content) = request.into_parts();
        let protocol = match parts.method {
            Method::CONNECT => parts.extensions.remove::<h2::ext::Protocol>(),
            _ => None,
        };
        Self {
            stream: responder.stream_id().as_u32(),
            parts,
            protocol: protocol.map(|protocol| protocol.as_str().into()),
            content: (!content.is_end_stream()).then_some(Content(content)),
            responder: Responder::Asked(responder),
        }
    }
}

impl Content {
    pub(super) fn poll_data(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Failure>>> {
        self.0.poll_data(cx).map_err(Failure::from)
    }

    /// After the data.
    pub(super) fn poll_trailers(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<HeaderMap>, Failure>> {
        self.0.poll_trailers(cx).map_err(Failure::from)
    }

    pub(super) fn is_end(&self) -> bool {
        self.0.is_end_stream()
    }

    /// Lets the peer send as many octets again.
    pub(super) fn release(&mut self, len: usize) {
        // Fails only for more than was received.
        let _ = self.0.flow_control().release_capacity(len);
    }
}

impl Responder {
    /// Sends the head; `end` where no content follows.
    pub(super) fn send_head(
        &mut self,
        status: StatusCode,
        fields: HeaderMap,
        end: bool,
    ) -> Result<Outgoing, Gone> {
        let head = head(status, fields);
        let sent = match self {
            Self::Asked(responder) => responder.send_response(head, end),
            Self::Pushed(responder) => responder.send_response(head, end),
        };
        sent.map(Outgoing).map_err(|_| Gone)
    }

    /// Sends an interim response, for instance 103.
    pub(super) fn send_interim(&mut self, status: StatusCode, fields: HeaderMap) {
        if let Self::Asked(responder) = self {
            // Fails where the stream is gone, which is noticed elsewhere.
            let _ = responder.send_informational(head(status, fields));
        }
    }

    /// Promises a response to a request that was not made; `None` where the peer does not want that.
    pub(super) fn push(&mut self, uri: Uri, fields: HeaderMap) -> Option<(u32, Self)> {
        let Self::Asked(responder) = self else { return None };
        let mut request = Request::new(());
        *request.method_mut() = Method::GET;
        *request.uri_mut() = uri;
        *request.headers_mut() = fields;
        let pushed = responder.push_request(request).ok()?;
        Some((pushed.stream_id().as_u32(), Self::Pushed(pushed)))
    }

    pub(super) fn reset(&mut self, reason: Reason) {
        match self {
            Self::Asked(responder) => responder.send_reset(reason),
            Self::Pushed(responder) => responder.send_reset(reason),
        }
    }
}

impl Outgoing {
    /// How much may be sent now, at most `want`; zero asks for it, and wakes when there is some.
    pub(super) fn poll_room(&mut self, cx: &mut Context<'_>, want: usize) -> Result<usize, Gone> {
        self.0.reserve_capacity(want);
        loop {
            let room = self.0.capacity();
            if room > 0 {
                return Ok(room.min(want));
            }
            // May be ready with nothing once, from room that was given and used before.
            match self.0.poll_capacity(cx) {
                Poll::Pending => return Ok(0),
                Poll::Ready(Some(Ok(_))) => {}
                Poll::Ready(_) => return Err(Gone),
            }
        }
    }

    pub(super) fn send(&mut self, data: Bytes, end: bool) -> Result<(), Gone> {
        self.0.send_data(data, end).map_err(|_| Gone)
    }

    pub(super) fn send_trailers(&mut self, fields: HeaderMap) -> Result<(), Gone> {
        self.0.send_trailers(fields).map_err(|_| Gone)
    }

    pub(super) fn reset(&mut self, reason: Reason) {
        self.0.send_reset(reason);
    }
}

impl Pings {
    pub(super) fn send(&mut self) {
        // Fails while one is under way, which then serves as well.
        let _ = self.0.send_ping(h2::Ping::opaque());
    }

    /// Forgets an answer, so that the next ping can be sent.
    pub(super) fn poll_answer(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.0.poll_pong(cx).map(|_| ())
    }
}

impl From<h2::Error> for Failure {
    fn from(error: h2::Error) -> Self {
        let reason = error.reason().unwrap_or(Reason::INTERNAL_ERROR);
        if error.is_io() {
            Self::Io(error.into_io().unwrap_or_else(|| io::ErrorKind::Other.into()))
        } else if error.is_remote() {
            Self::Peer(reason)
        } else {
            Self::Protocol(reason)
        }
    }
}

fn head(status: StatusCode, fields: HeaderMap) -> Response<()> {
    let mut head = Response::new(());
    *head.status_mut() = status;
    *head.headers_mut() = fields;
    head
}

const WINDOW_MAX: u32 = (1 << 31) - 1;
const FRAME_MIN: u32 = 16 * 1024;
const FRAME_MAX: u32 = (1 << 24) - 1;
const HEADER_TABLE: u32 = 4096;
const RESET_STREAMS_KEPT: usize = 50;
const RESET_STREAM_KEPT_FOR: Duration = Duration::from_secs(1);
const RESET_PENDING_ACCEPT: usize = 20;
/// In the life of a connection; our ledger is stricter in the short run.
const ERROR_RESETS: usize = 1024;
