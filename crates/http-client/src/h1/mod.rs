//! One exchange over HTTP/1.1 (RFC 9112).
//!
//! Nothing is spawned: the future that waits for the head, and then the body as it is read, drive
//! both directions. Dropping either closes the connection; only a finished exchange gives it back.

mod body;
mod encode;
mod head;
mod receive;
mod send;
mod wire;

use std::{
    io,
    pin::pin,
    task::{Context, Poll, ready},
};

use hearth_http_core::{Body, Transport};
use http::{HeaderValue, Method, StatusCode, header};
use tokio::time::{Instant, sleep_until};

pub(crate) use self::wire::is_silent;
#[cfg(feature = "http2")]
pub(crate) use self::{
    body::Limit,
    encode::{is_own, wants_trailers},
    head::parse_length,
};

use self::{
    body::IncomingBody,
    encode::{Outline, put_head},
    head::{HEAD_TOO_LARGE, HeadParser, Malformed, Parsed, TOO_MANY_FIELDS, list},
    receive::Receiver,
    send::{Framing, SendError, Sender},
    wire::Wire,
};
use crate::{
    ClientError, ClientLimits, ErrorKind, TimeoutKind,
    exchange::{Answer, Failure, Order},
    pool::Lease,
};

/// A request on its way over a connection, until the head of its response is there.
struct Exchange<'a> {
    wire: Wire,
    sender: Sender,
    parser: HeadParser,
    limits: ClientLimits,
    method: &'a Method,
    upgrade: Option<&'a HeaderValue>,
    is_sent: bool,
    interim_count: u32,
    /// Whether the peer sent anything at all.
    has_answered: bool,
    write_error: Option<io::Error>,
}

/// Sends a request over `io` and waits for the head of the response.
///
/// # Cancel safety
/// Dropping the future closes the connection and frees its place in the pool.
pub(crate) async fn run(
    io: Box<dyn Transport>,
    lease: Lease,
    order: Order<'_>,
    body: Body,
) -> Result<Answer, Failure> {
    let framing = Framing::of(&body);
    let settings = &order.settings;
    let mut wire = Wire::new(io);
    put_head(
        &mut wire.out,
        &Outline {
            method: order.method,
            path: &order.target.path,
            authority: order.target.authority(),
            headers: order.headers,
            user_agent: order.user_agent,
            settings,
            framing,
            close: !lease.keeps_connections() && settings.upgrade.is_none(),
        },
    );
    let mut exchange = Exchange {
        wire,
        sender: Sender::new(body, framing, settings.expects_continue),
        parser: HeadParser::default(),
        limits: order.limits,
        method: order.method,
        upgrade: settings.upgrade.as_ref(),
        is_sent: false,
        interim_count: 0,
        has_answered: false,
        write_error: None,
    };
    match exchange.head(&order).await {
        Ok(parsed) => Ok(exchange.into_answer(parsed, lease, &order)),
        Err(error) => Err(Failure { error, is_stale: !exchange.has_answered }),
    }
}

impl<'a> Exchange<'a> {
    /// The head of the final response.
    async fn head(&mut self, order: &Order<'_>) -> Result<Parsed, ClientError> {
        let timeouts = order.timeouts;
        let began = Instant::now();
        let mut head_timer = pin!(sleep_until(began + timeouts.response_head));
        let mut hold_timer = pin!(sleep_until(began + timeouts.expect_continue));
        std::future::poll_fn(|cx| {
            loop {
                if let Poll::Ready(result) = self.poll_head(cx) {
                    return Poll::Ready(result);
                }
                // RFC 9110 §10.1.1: a peer may never say `100 Continue`; waiting has an end.
                if self.sender.is_held && hold_timer.as_mut().poll(cx).is_ready() {
                    self.sender.is_held = false;
                    continue;
                }
                if std::mem::take(&mut self.sender.has_progressed) {
                    head_timer.as_mut().reset(Instant::now() + timeouts.response_head);
                }
                ready!(head_timer.as_mut().poll(cx));
                return Poll::Ready(Err(ClientError::timeout(TimeoutKind::ResponseHead)));
            }
        })
        .await
    }

    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<Parsed, ClientError>> {
        loop {
            self.poll_send(cx)?;
            let was_held = self.sender.is_held;
            match self.next_head() {
                Ok(Some(parsed)) => return Poll::Ready(Ok(parsed)),
                Ok(None) if was_held && !self.sender.is_held => continue,
                Ok(None) => {}
                Err(what) => return Poll::Ready(Err(malformed(what))),
            }
            match ready!(self.wire.poll_fill(cx, 0)) {
                Ok(0) => return Poll::Ready(Err(self.closed(io::ErrorKind::UnexpectedEof.into()))),
                Ok(_) => self.has_answered = true,
                Err(error) => return Poll::Ready(Err(self.closed(error))),
            }
        }
    }

    /// Goes on sending. Where the connection fails, the peer may have answered before it closed.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Result<(), ClientError> {
        if self.is_sent {
            return Ok(());
        }
        match self.sender.poll(&mut self.wire, cx) {
            Poll::Pending => Ok(()),
            Poll::Ready(Ok(())) => {
                self.is_sent = true;
                Ok(())
            }
            Poll::Ready(Err(SendError::Wire(error))) => {
                self.is_sent = true;
                self.write_error = Some(error);
                Ok(())
            }
            Poll::Ready(Err(SendError::Body(error))) => {
                let what = "the source of the request's content failed";
                Err(ClientError::new(ErrorKind::Body, what).caused_by(error))
            }
            Poll::Ready(Err(SendError::Length)) => {
                let what = "the request's content is not as long as it said";
                Err(ClientError::new(ErrorKind::Body, what))
            }
        }
    }

    /// The head of a final response in the input; interim ones are taken off (RFC 9110 §15.2).
    fn next_head(&mut self) -> Result<Option<Parsed>, Malformed> {
        while let Some(parsed) =
            self.parser.parse(&mut self.wire.input, self.method, &self.limits)?
        {
            let status = parsed.head.status;
            if !status.is_informational() {
                return Ok(Some(parsed));
            }
            if status == StatusCode::SWITCHING_PROTOCOLS {
                return self.check_switch(&parsed).map(|()| Some(parsed));
            }
            self.sender.is_held &= status != StatusCode::CONTINUE;
            self.interim_count += 1;
            if self.interim_count > self.limits.interim_count_max {
                return Err("too many interim responses");
            }
        }
        Ok(None)
    }

    /// RFC 9110 §7.8: a switch must have been offered, and all of the request sent.
    fn check_switch(&self, parsed: &Parsed) -> Result<(), Malformed> {
        let Some(offered) = self.upgrade else { return Err("a switch that nobody asked for") };
        let Some(chosen) = parsed.head.headers.get(&header::UPGRADE) else {
            return Err("a switch to no protocol");
        };
        let chosen = chosen.as_bytes().trim_ascii();
        if !parsed.switches || !list(offered.as_bytes()).any(|one| one.eq_ignore_ascii_case(chosen))
        {
            return Err("a switch to a protocol that was not offered");
        }
        if !self.is_sent || self.write_error.is_some() {
            return Err("a switch before the end of the request");
        }
        Ok(())
    }

    fn closed(&mut self, error: io::Error) -> ClientError {
        // What went wrong first says more, unless the peer said itself what is wrong.
        let is_said = error.kind() == io::ErrorKind::InvalidData;
        let error = self.write_error.take().filter(|_| !is_said).unwrap_or(error);
        let kind = error.kind();
        ClientError::lost(error, Some(kind))
    }

    fn into_answer(self, parsed: Parsed, lease: Lease, order: &Order<'_>) -> Answer {
        let Parsed { head, framing, persists, keep_alive, .. } = parsed;
        if head.status == StatusCode::SWITCHING_PROTOCOLS {
            return Answer { head, body: Body::Empty, upgraded: Some(self.wire.into_upgraded()) };
        }
        let may_persist = persists && self.write_error.is_none();
        let mut body = IncomingBody {
            wire: Some(self.wire),
            sender: (!self.is_sent).then_some(self.sender),
            receiver: Receiver::new(framing, &order.limits),
            lease: may_persist.then_some(lease),
            keep_alive,
            clock: order.body_clock(),
            bytes_max: None,
        };
        // Without content the connection is free again at once.
        let body = if body.finish_if_over() { Body::Empty } else { Body::stream(body) };
        Answer { head, body, upgraded: None }
    }
}

fn malformed(what: Malformed) -> ClientError {
    let is_size = what == HEAD_TOO_LARGE || what == TOO_MANY_FIELDS;
    let kind = if is_size { ErrorKind::TooLarge } else { ErrorKind::Protocol };
    ClientError::new(kind, what)
}
