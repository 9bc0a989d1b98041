//! What the frames of the peer mean (RFC 9113 §5 and §6).

use std::{future::Future, time::Instant};

use bytes::{Buf, BytesMut};

use super::{
    frame::{self, Fault, FrameHead, PREFACE, Reason, flag, kind, setting},
    head::{HeadBuilder, TrailerBuilder, WrongTrailers},
    hpack::Invalid,
    link::{Block, Content},
    priority::Priority,
    run::{Ending, Run, Stop},
    slots::Stage,
};
use crate::{BodyError, Outcome, Request, Response, Transport, Watch};

impl<T, W, C, F> Run<T, W, C, F>
where
    T: Transport,
    W: Watch,
    C: Fn(Request) -> F,
    F: Future<Output = Response>,
{
    /// Takes every whole frame from the input, and of content what there is.
    pub(super) fn receive(&mut self, now: Instant) -> Result<(), Stop> {
        let mut input = std::mem::take(&mut self.input);
        let received = self.receive_from(&mut input, now);
        self.input = input;
        received?;
        let resets = std::mem::take(&mut self.resets);
        if resets > 0 {
            self.ledger.peer_reset(resets, now)?;
        }
        let overhead = std::mem::take(&mut self.overhead);
        if overhead > 0 {
            self.ledger.overhead(overhead, now)?;
        }
        self.caught.take().map_or(Ok(()), |abuse| Err(abuse.into()))
    }

    fn receive_from(&mut self, input: &mut BytesMut, now: Instant) -> Result<(), Stop> {
        while self.ending != Ending::Aborted {
            let has_more = if !self.link.is_open {
                self.receive_preface(input)?
            } else if self.link.content.is_some() {
                self.receive_content(input, now)?
            } else {
                self.receive_frame(input, now)?
            };
            if !has_more {
                return Ok(());
            }
        }
        input.clear();
        Ok(())
    }

    fn receive_preface(&mut self, input: &mut BytesMut) -> Result<bool, Stop> {
        let len = input.len().min(PREFACE.len());
        if input.get(..len) != PREFACE.get(..len) {
            return Err(Fault::protocol("no connection preface").into());
        }
        if len < PREFACE.len() {
            return Ok(false);
        }
        input.advance(len);
        self.link.is_open = true;
        Ok(true)
    }

    fn receive_frame(&mut self, input: &mut BytesMut, now: Instant) -> Result<bool, Stop> {
        let Some(head) = FrameHead::parse(input) else { return Ok(false) };
        if head.len > self.link.frame_max {
            return Err(Fault::size("a frame larger than was announced").into());
        }
        self.check_order(head)?;
        if head.kind == kind::DATA {
            return self.begin_content(head, input, now);
        }
        let len = FrameHead::LEN + head.len;
        let Some(payload) = input.get(FrameHead::LEN..len) else { return Ok(false) };
        self.frame(head, payload, now)?;
        input.advance(len);
        self.link.frames += u64::from(self.link.block.is_none());
        if head.kind == kind::SETTINGS && !self.inserted.is_empty() {
            // The request that came as HTTP/1.1, now that the client's settings are known.
            let request = std::mem::take(&mut self.inserted);
            let mut frames = BytesMut::from(&request[..]);
            while self.receive_frame(&mut frames, now)? {}
        }
        Ok(true)
    }

    /// RFC 9113 §3.4 and §6.10: what may stand here.
    fn check_order(&self, head: FrameHead) -> Result<(), Fault> {
        if let Some(block) = &self.link.block {
            if head.kind != kind::CONTINUATION || head.stream != block.stream {
                return Err(Fault::protocol("a header block is interrupted"));
            }
        } else if !self.link.peer.has_settings
            && (head.kind != kind::SETTINGS || head.has(flag::ACK))
        {
            return Err(Fault::protocol("the first frame is not SETTINGS"));
        }
        let needs_stream = matches!(
            head.kind,
            kind::DATA | kind::HEADERS | kind::PRIORITY | kind::RST_STREAM | kind::CONTINUATION
        );
        let needs_none =
            matches!(head.kind, kind::SETTINGS | kind::PING | kind::GOAWAY | kind::PRIORITY_UPDATE);
        if (needs_stream && head.stream == 0) || (needs_none && head.stream != 0) {
            return Err(Fault::protocol("a frame on the wrong stream"));
        }
        Ok(())
    }

    fn frame(&mut self, head: FrameHead, payload: &[u8], now: Instant) -> Result<(), Stop> {
        if head.kind != kind::HEADERS {
            // By itself it brings no stream forward.
            self.overhead += FrameHead::LEN + head.len;
        }
        match head.kind {
            kind::HEADERS => self.on_headers(head, payload, now)?,
            kind::CONTINUATION => self.on_continuation(head, payload, now)?,
            kind::PRIORITY => self.on_priority(head, payload, now),
            kind::RST_STREAM => self.on_reset(head, payload, now)?,
            kind::SETTINGS => self.on_settings(head, payload)?,
            kind::PUSH_PROMISE => return Err(Fault::protocol("a client cannot push").into()),
            kind::PING => self.on_ping(head, payload)?,
            kind::GOAWAY if head.len < 8 => return Err(Fault::size("GOAWAY").into()),
            kind::GOAWAY => self.link.is_peer_going = true,
            kind::WINDOW_UPDATE => self.on_window(head, payload, now)?,
            kind::PRIORITY_UPDATE => self.on_priority_update(payload)?,
            // RFC 9113 §5.5: unknown types are ignored.
            _ => {}
        }
        Ok(())
    }

    fn on_headers(&mut self, head: FrameHead, payload: &[u8], now: Instant) -> Result<(), Stop> {
        let wrong = || Fault::protocol("padding longer than its frame");
        let mut payload = frame::unpad(head, payload).ok_or_else(wrong)?;
        let mut depends_on_itself = false;
        if head.has(flag::PRIORITY) {
            let (priority, rest) = payload.split_at_checked(5).ok_or_else(wrong)?;
            depends_on_itself = depends_on(priority) == Some(head.stream);
            payload = rest;
        }
        let mut block = Block {
            stream: head.stream,
            ends_stream: head.has(flag::END_STREAM),
            depends_on_itself,
            bytes: BytesMut::new(),
            frames: 1,
        };
        if head.has(flag::END_HEADERS) {
            return self.on_block(&block, payload, now);
        }
        block.bytes.extend_from_slice(payload);
        self.link.block = Some(block);
        Ok(())
    }

    fn on_continuation(
        &mut self,
        head: FrameHead,
        payload: &[u8],
        now: Instant,
    ) -> Result<(), Stop> {
        let Some(mut block) = self.link.block.take() else {
            return Err(Fault::protocol("CONTINUATION without a header block").into());
        };
        block.bytes.extend_from_slice(payload);
        block.frames += 1;
        // CVE-2024-27316: a block that is larger than any that would be accepted, or never ends.
        if block.bytes.len() > self.link.list_max || block.frames > BLOCK_FRAMES_MAX {
            return Err(
                Fault { reason: Reason::EnhanceYourCalm, rule: "an endless header block" }.into()
            );
        }
        if head.has(flag::END_HEADERS) {
            let bytes = std::mem::take(&mut block.bytes);
            return self.on_block(&block, &bytes, now);
        }
        self.link.block = Some(block);
        Ok(())
    }

    /// A whole header block: a request, its trailers, or something that is ignored. It is decoded in
    /// any case, because the next block builds on it.
    fn on_block(&mut self, block: &Block, bytes: &[u8], now: Instant) -> Result<(), Stop> {
        let stream = block.stream;
        if let Some(index) = self.slots.find(stream) {
            return self.on_trailers(index, block, bytes, now);
        }
        if stream.is_multiple_of(2) {
            return Err(Fault::protocol("a client opened a stream of the server").into());
        }
        if !self.link.is_idle(stream) {
            self.decode(bytes, |_| {})?;
            if self.link.was_reset(stream) {
                return Ok(());
            }
            if self.link.was_left_out(stream) {
                return Err(Fault::protocol("stream identifiers go down").into());
            }
            let rule = "HEADERS on a closed stream";
            return Err(Fault { reason: Reason::StreamClosed, rule }.into());
        }
        let mut head = HeadBuilder::new(&mut self.memory, &self.settings.limits);
        self.decode(bytes, |field| head.field(field))?;
        let received = head.finish(&self.settings.limits, &mut self.memory);
        self.link.open(stream);
        if self.link.final_stream.is_some_and(|last| stream > last) {
            // RFC 9113 §6.8: the peer was told that this one is not served.
            return Ok(());
        }
        let lies = |length: Option<u64>| block.ends_stream && length.is_some_and(|len| len > 0);
        let may_extend = self.settings.extended_connect;
        match received {
            Some(received)
                if !block.depends_on_itself
                    && !lies(received.content_length)
                    && (may_extend || !received.is_extended) =>
            {
                self.admit(stream, received, block.ends_stream, now);
            }
            _ => self.refuse_stream(stream, Reason::Protocol, now),
        }
        Ok(())
    }

    fn on_trailers(
        &mut self,
        index: usize,
        block: &Block,
        bytes: &[u8],
        now: Instant,
    ) -> Result<(), Stop> {
        let settings = std::sync::Arc::clone(&self.settings);
        let limits = &settings.limits;
        let mut trailers = TrailerBuilder::default();
        self.decode(bytes, |field| trailers.field(field, limits))?;
        let Some(slot) = self.slots.get(index) else { return Ok(()) };
        if slot.exchange.is_received {
            self.reset(index, Reason::StreamClosed, now);
            return Ok(());
        }
        let trailers = match trailers.finish(limits) {
            // RFC 9113 §8.1: a second header section ends the message.
            Ok(fields)
                if block.ends_stream && slot.exchange.content_left.is_none_or(|len| len == 0) =>
            {
                fields
            }
            Ok(_) | Err(WrongTrailers::Malformed) => {
                self.reset(index, Reason::Protocol, now);
                return Ok(());
            }
            Err(wrong) => {
                let why = match wrong {
                    WrongTrailers::Forbidden => "field not allowed in trailers",
                    _ => "trailer section too large",
                };
                if let Some(channel) = &slot.exchange.channel {
                    channel.fail(BodyError::Malformed(why), Some(http::StatusCode::BAD_REQUEST));
                }
                http::HeaderMap::new()
            }
        };
        self.ended(index, Some(trailers).filter(|fields| !fields.is_empty()), now);
        Ok(())
    }

    fn decode(
        &mut self,
        bytes: &[u8],
        sink: impl FnMut(super::hpack::Field<'_>),
    ) -> Result<(), Fault> {
        let bytes_max = self.link.list_max.saturating_mul(LIST_ABUSE);
        self.link.decoder.decode(bytes, bytes_max, sink).map_err(|invalid| match invalid {
            Invalid::Compression => {
                Fault { reason: Reason::Compression, rule: "a header block cannot be decoded" }
            }
            Invalid::TooLarge => Fault { reason: Reason::EnhanceYourCalm, rule: "a header bomb" },
        })
    }

    fn on_priority(&mut self, head: FrameHead, payload: &[u8], now: Instant) {
        // The scheme of RFC 7540 is not followed, but its frames have a form (RFC 9113 §6.3).
        if head.len != 5 {
            self.refuse_stream(head.stream, Reason::FrameSize, now);
        } else if depends_on(payload) == Some(head.stream) {
            self.refuse_stream(head.stream, Reason::Protocol, now);
        }
    }

    fn on_reset(&mut self, head: FrameHead, payload: &[u8], now: Instant) -> Result<(), Fault> {
        if payload.len() != 4 {
            return Err(Fault::size("RST_STREAM"));
        }
        if self.link.is_idle(head.stream) {
            return Err(Fault::protocol("RST_STREAM on an idle stream"));
        }
        self.resets += 1;
        if let Some(index) = self.slots.find(head.stream) {
            self.close(index, Outcome::PeerGone, now);
        }
        Ok(())
    }

    fn on_settings(&mut self, head: FrameHead, payload: &[u8]) -> Result<(), Fault> {
        if head.has(flag::ACK) {
            return if head.len == 0 { Ok(()) } else { Err(Fault::size("SETTINGS ACK")) };
        }
        if !payload.len().is_multiple_of(6) {
            return Err(Fault::size("SETTINGS"));
        }
        for parameter in payload.chunks_exact(6) {
            let &[i0, i1, v0, v1, v2, v3] = parameter else { continue };
            self.on_setting(u16::from_be_bytes([i0, i1]), u32::from_be_bytes([v0, v1, v2, v3]))?;
        }
        self.link.peer.has_settings = true;
        frame::put_frame(self.link.out.buffer(), kind::SETTINGS, flag::ACK, 0, &[]);
        Ok(())
    }

    fn on_setting(&mut self, id: u16, value: u32) -> Result<(), Fault> {
        match id {
            setting::HEADER_TABLE_SIZE => self.link.encoder.set_peer_limit(value),
            setting::ENABLE_PUSH if value > 1 => return Err(Fault::protocol("ENABLE_PUSH")),
            setting::ENABLE_PUSH => self.link.peer.accepts_push = value == 1,
            setting::MAX_CONCURRENT_STREAMS => self.link.peer.streams_max = value,
            setting::INITIAL_WINDOW_SIZE if i64::from(value) > frame::WINDOW_MAX => {
                return Err(Fault::flow("INITIAL_WINDOW_SIZE"));
            }
            setting::INITIAL_WINDOW_SIZE => return self.on_initial_window(i64::from(value)),
            setting::MAX_FRAME_SIZE => {
                if !(frame::FRAME_SIZE_MIN..=frame::FRAME_SIZE_MAX).contains(&value) {
                    return Err(Fault::protocol("MAX_FRAME_SIZE"));
                }
                self.link.peer.frame_max = value as usize;
            }
            _ => {}
        }
        Ok(())
    }

    /// RFC 9113 §6.9.2: every stream's window moves by the difference, also below zero.
    fn on_initial_window(&mut self, octets: i64) -> Result<(), Fault> {
        let more = octets - self.link.peer.initial_window;
        self.link.peer.initial_window = octets;
        for index in self.slots.indices() {
            let Some(slot) = self.slots.get(index) else { continue };
            slot.exchange.send_window += more;
            if slot.exchange.send_window > frame::WINDOW_MAX {
                return Err(Fault::flow("a stream's window is too large"));
            }
            self.unblock(index);
        }
        Ok(())
    }

    fn on_ping(&mut self, head: FrameHead, payload: &[u8]) -> Result<(), Fault> {
        if payload.len() != 8 {
            return Err(Fault::size("PING"));
        }
        if !head.has(flag::ACK) {
            frame::put_frame(self.link.out.buffer(), kind::PING, flag::ACK, 0, payload);
        } else if payload == END_PING {
            self.name_last_stream();
        }
        Ok(())
    }

    fn on_window(&mut self, head: FrameHead, payload: &[u8], now: Instant) -> Result<(), Fault> {
        let Some(octets) = frame::parse_u32(payload).filter(|_| payload.len() == 4) else {
            return Err(Fault::size("WINDOW_UPDATE"));
        };
        let octets = i64::from(octets & frame::STREAM_MAX);
        if head.stream == 0 {
            self.link.send_window += octets;
            return match octets {
                0 => Err(Fault::protocol("WINDOW_UPDATE by nothing")),
                _ if self.link.send_window > frame::WINDOW_MAX => {
                    Err(Fault::flow("the connection's window is too large"))
                }
                _ => Ok(()),
            };
        }
        if self.link.is_idle(head.stream) {
            return Err(Fault::protocol("WINDOW_UPDATE on an idle stream"));
        }
        let Some(index) = self.slots.find(head.stream) else { return Ok(()) };
        let Some(slot) = self.slots.get(index) else { return Ok(()) };
        slot.exchange.send_window += octets;
        if octets == 0 {
            self.reset(index, Reason::Protocol, now);
        } else if slot.exchange.send_window > frame::WINDOW_MAX {
            self.reset(index, Reason::FlowControl, now);
        } else {
            self.unblock(index);
        }
        Ok(())
    }

    /// RFC 9218 §7.1.
    fn on_priority_update(&mut self, payload: &[u8]) -> Result<(), Fault> {
        let Some((stream, value)) = payload.split_at_checked(4) else {
            return Err(Fault::size("PRIORITY_UPDATE"));
        };
        let stream = frame::parse_u32(stream).unwrap_or_default() & frame::STREAM_MAX;
        if stream == 0 {
            return Err(Fault::protocol("PRIORITY_UPDATE for no stream"));
        }
        if let Some(index) = self.slots.find(stream)
            && let Some(slot) = self.slots.get(index)
        {
            slot.exchange.priority = Priority::parse(value);
            self.turns.change(index, slot.exchange.priority);
        }
        Ok(())
    }

    /// The head of a DATA frame. Its content is taken as it comes, however large the frame is.
    fn begin_content(
        &mut self,
        head: FrameHead,
        input: &mut BytesMut,
        now: Instant,
    ) -> Result<bool, Stop> {
        let mut padding = 0;
        let mut taken = FrameHead::LEN;
        if head.has(flag::PADDED) {
            if head.len == 0 {
                return Err(Fault::protocol("padding longer than its frame").into());
            }
            let Some(octet) = input.get(FrameHead::LEN) else { return Ok(false) };
            padding = usize::from(*octet);
            taken += 1;
        }
        let content = head.len - (taken - FrameHead::LEN);
        let Some(left) = content.checked_sub(padding) else {
            return Err(Fault::protocol("padding longer than its frame").into());
        };
        input.advance(taken);
        self.link.recv_window -= head.len as i64;
        if self.link.recv_window < 0 {
            return Err(Fault::flow("more content than the connection's window").into());
        }
        if self.link.is_idle(head.stream) {
            return Err(Fault::protocol("DATA on an idle stream").into());
        }
        let ends_stream = head.has(flag::END_STREAM);
        if left == 0 && !ends_stream {
            self.overhead += FrameHead::LEN + head.len;
        }
        // The padding and its length count, but nobody takes them.
        self.link.give_back(head.len - left);
        self.check_content(head, left, now);
        self.link.content = Some(Content { stream: head.stream, left, padding, ends_stream });
        Ok(true)
    }

    /// Whether content may come here. Where it may not, it will find no stream.
    fn check_content(&mut self, head: FrameHead, left: usize, now: Instant) {
        let Some(index) = self.slots.find(head.stream) else {
            if !self.link.was_reset(head.stream) {
                self.refuse_stream(head.stream, Reason::StreamClosed, now);
            }
            return;
        };
        let Some(slot) = self.slots.get(index) else { return };
        let exchange = &mut slot.exchange;
        exchange.recv_window -= head.len as i64;
        let announced = exchange.content_left.map(|announced| announced.checked_sub(left as u64));
        if exchange.is_received {
            self.reset(index, Reason::StreamClosed, now);
        } else if exchange.recv_window < 0 {
            self.reset(index, Reason::FlowControl, now);
        } else if announced == Some(None) {
            self.reset(index, Reason::Protocol, now);
        } else {
            exchange.content_left = announced.flatten();
        }
    }

    /// What has come of the content of a DATA frame.
    fn receive_content(&mut self, input: &mut BytesMut, now: Instant) -> Result<bool, Stop> {
        let Some(content) = &mut self.link.content else { return Ok(true) };
        let stream = content.stream;
        let here = content.left.min(input.len());
        content.left -= here;
        if here > 0 {
            let piece = input.split_to(here).freeze();
            self.deliver(stream, piece, now);
        }
        let Some(content) = &mut self.link.content else { return Ok(true) };
        if content.left > 0 {
            return Ok(false);
        }
        let here = content.padding.min(input.len());
        content.padding -= here;
        input.advance(here);
        if content.padding > 0 {
            return Ok(false);
        }
        let ends_stream = content.ends_stream;
        self.link.content = None;
        self.link.frames += 1;
        if ends_stream && let Some(index) = self.slots.find(stream) {
            let Some(slot) = self.slots.get(index) else { return Ok(true) };
            if slot.exchange.content_left.is_some_and(|left| left > 0) {
                self.reset(index, Reason::Protocol, now);
            } else {
                self.ended(index, None, now);
            }
        }
        Ok(true)
    }

    /// Gives content to whom it belongs.
    fn deliver(&mut self, stream: u32, piece: bytes::Bytes, now: Instant) {
        let len = piece.len();
        let slot = self.slots.find(stream).and_then(|index| Some((index, self.slots.get(index)?)));
        let Some((index, slot)) = slot else { return self.link.give_back(len) };
        if let Stage::Draining(left) = &mut slot.stage {
            *left = left.saturating_sub(len as u64);
            let is_enough = *left == 0;
            self.link.give_back(len);
            if is_enough {
                self.reset(index, Reason::NoError, now);
            }
            return;
        }
        let is_wanted =
            slot.exchange.channel.as_ref().is_some_and(|channel| channel.receive(piece));
        if !is_wanted {
            self.link.give_back(len);
        }
    }

    /// The peer has sent all of a stream.
    fn ended(&mut self, index: usize, trailers: Option<http::HeaderMap>, now: Instant) {
        let Some(slot) = self.slots.get(index) else { return };
        slot.exchange.is_received = true;
        if let Some(channel) = &slot.exchange.channel {
            channel.end(trailers);
        }
        if matches!(slot.stage, Stage::Draining(_)) {
            self.close(index, Outcome::Complete, now);
        }
    }
}

/// The stream that a priority of RFC 7540 names.
fn depends_on(priority: &[u8]) -> Option<u32> {
    frame::parse_u32(priority).map(|stream| stream & frame::STREAM_MAX)
}

/// What our last PING but one carries: its answer shows that the peer knows of our GOAWAY.
pub(super) const END_PING: &[u8; 8] = b"the end.";
/// How much larger than announced a header section may be before it is an attack.
const LIST_ABUSE: usize = 4;
const BLOCK_FRAMES_MAX: usize = 32;
