//! Switches of protocol (RFC 9110 §7.8).

use std::future::poll_fn;

use bytes::Bytes;
use http::{HeaderValue, StatusCode};

use super::{
    End, Handover,
    active::Active,
    encode::{self, Context},
    fields::{Framing, list},
    respond::CLIENT_CLOSED,
};
use crate::{
    ConnectionError, Head, Outcome, Response, Transport, Watch, h2::upgrade_prefix,
    response::OnUpgrade,
};

impl<T: Transport, W: Watch> Active<'_, T, W> {
    /// Whether the peer offered the protocol to which the handler wants to switch.
    pub(crate) fn is_offered(&self, protocol: Option<&HeaderValue>) -> bool {
        let (Some(head), Some(protocol)) = (self.kept(), protocol) else { return false };
        self.facts.offers_upgrade && offers(head, protocol.as_bytes())
    }

    /// Switches protocols: after the whole request, and before any byte of what follows it is
    /// looked at.
    pub(crate) async fn switch(
        &mut self,
        response: Response,
        run: OnUpgrade,
    ) -> Result<End, ConnectionError> {
        if !self.incoming.is_done() && !matches!(self.drain().await, Ok(true)) {
            self.record(CLIENT_CLOSED, 0, Outcome::PeerGone);
            return Err(ConnectionError::Protocol("an upgrade with an endless body"));
        }
        let now = self.core.watch.now();
        let server = self.core.settings.server.as_ref();
        let context = Context { facts: &self.facts, close: false, server, now };
        encode::put_switch(self.output.buffer(), &response, &context);
        drop(response);
        self.record(StatusCode::SWITCHING_PROTOCOLS, 0, Outcome::Complete);
        poll_fn(|cx| self.poll_flush_or_stall(cx, false)).await?;
        let early = self.input.split().freeze();
        Ok(End::Handover(Box::new(Handover::Upgrade { run, early })))
    }

    /// `Upgrade: h2c` where the listener allows it: the request as the HTTP/2 driver wants it. Never
    /// with a body, and never over TLS, where ALPN has decided already.
    pub(crate) fn h2c_request(&self, head: &Head) -> Option<Bytes> {
        let is_possible = self.core.settings.h2c_upgrade
            && self.facts.framing == Framing::None
            && self.core.info.tls.is_none();
        if !is_possible || !offers(head, b"h2c") {
            return None;
        }
        // RFC 7540 §3.2.1: exactly one, and named as an option of this connection.
        let mut settings = head.header_all("http2-settings");
        let (Some(settings), None) = (settings.next(), settings.next()) else { return None };
        let mut options = head.header_all("connection").flat_map(list);
        if !options.any(|option| option.eq_ignore_ascii_case(b"http2-settings")) {
            return None;
        }
        upgrade_prefix(head, settings).ok()
    }

    /// Goes on as HTTP/2, with `request` as its first stream.
    pub(crate) async fn switch_to_http2(&mut self, request: Bytes) -> Result<End, ConnectionError> {
        let head =
            b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n";
        self.output.buffer().extend_from_slice(head);
        poll_fn(|cx| self.poll_flush_or_stall(cx, false)).await?;
        Ok(self.hand_over_http2(request))
    }
}

fn offers(head: &Head, protocol: &[u8]) -> bool {
    let mut offers = head.header_all("upgrade").flat_map(list);
    offers.any(|offer| offer.eq_ignore_ascii_case(protocol))
}
