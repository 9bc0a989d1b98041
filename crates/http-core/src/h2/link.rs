//! What both ends of a connection know of each other: settings, windows, tables, and the output.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use super::{
    frame::{self, FrameHead, Reason, WINDOW_INITIAL, flag, kind, setting},
    hpack::{Decoder, Encoder},
    output::Output,
};
use crate::{Limits, Settings};

/// The frames' side of a connection. Nothing in here waits, reads or writes.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) out: Output,
    pub(super) decoder: Decoder,
    pub(super) encoder: Encoder,
    pub(super) peer: Peer,
    /// Octets of content that the peer accepts on the connection.
    pub(super) send_window: i64,
    /// Octets of content that we accept.
    pub(super) recv_window: i64,
    /// Octets that came and are done with, and that the peer was not told of.
    returned: i64,
    recv_window_max: i64,
    pub(super) stream_window: i64,
    /// The largest frame that we accept.
    pub(super) frame_max: usize,
    /// The largest decoded header section that we announce.
    pub(super) list_max: usize,
    /// The highest stream of the peer.
    pub(super) last_stream: u32,
    /// Which of the 64 streams up to the last one the client opened; the lowest bit is the last one.
    opened: u64,
    /// The last stream that a final GOAWAY named.
    pub(super) final_stream: Option<u32>,
    pub(super) next_push: u32,
    /// A header block that is not complete.
    pub(super) block: Option<Block>,
    /// Content that is on its way.
    pub(super) content: Option<Content>,
    /// Streams that we reset, the latest last: what the peer sent before it knew is ignored.
    resets: VecDeque<u32>,
    pub(super) is_open: bool,
    /// Frames, and header blocks, that were received whole.
    pub(super) frames: u64,
    /// The peer has announced its end.
    pub(super) is_peer_going: bool,
}

/// What the peer wants, as far as it has said.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) frame_max: usize,
    pub(super) initial_window: i64,
    pub(super) accepts_push: bool,
    pub(super) streams_max: u32,
    pub(super) has_settings: bool,
}

/// The beginning of a header block.
#[derive(Debug)]
pub(super) struct Block {
    pub(super) stream: u32,
    pub(super) ends_stream: bool,
    pub(super) depends_on_itself: bool,
    pub(super) bytes: BytesMut,
    pub(super) frames: usize,
}

/// A DATA frame whose head has come.
#[derive(Debug, Clone, Copy)]
pub(super) struct Content {
    pub(super) stream: u32,
    /// Octets to come, without the padding.
    pub(super) left: usize,
    pub(super) padding: usize,
    pub(super) ends_stream: bool,
}

impl Link {
    pub(super) fn new(settings: &Settings, is_direct: bool) -> Self {
        let limits = &settings.limits;
        let mut link = Self {
            out: Output::new(is_direct),
            decoder: Decoder::new(HEADER_TABLE as usize),
            encoder: Encoder::new(),
            peer: Peer {
                frame_max: frame::FRAME_SIZE_MIN as usize,
                initial_window: i64::from(WINDOW_INITIAL),
                accepts_push: true,
                streams_max: u32::MAX,
                has_settings: false,
            },
            send_window: i64::from(WINDOW_INITIAL),
            recv_window: i64::from(WINDOW_INITIAL),
            returned: 0,
            recv_window_max: window(limits.h2_connection_window).max(i64::from(WINDOW_INITIAL)),
            stream_window: window(limits.h2_stream_window),
            frame_max: frame_size(limits) as usize,
            // RFC 9113 §6.5.2 counts 32 octets per field beyond its text.
            list_max: limits.head_bytes_max.saturating_add(32 * limits.header_count_max),
            last_stream: 0,
            opened: 0,
            final_stream: None,
            next_push: 2,
            block: None,
            content: None,
            resets: VecDeque::new(),
            is_open: false,
            frames: 0,
            is_peer_going: false,
        };
        link.put_preface(settings);
        link
    }

    /// Our settings, and the window that a setting cannot change.
    fn put_preface(&mut self, settings: &Settings) {
        let limits = &settings.limits;
        let list_max = u32::try_from(self.list_max).unwrap_or(u32::MAX);
        let out = self.out.buffer();
        frame::put_settings(
            out,
            &[
                (setting::HEADER_TABLE_SIZE, HEADER_TABLE),
                (setting::MAX_CONCURRENT_STREAMS, limits.h2_streams_max),
                (setting::INITIAL_WINDOW_SIZE, self.stream_window as u32),
                (setting::MAX_FRAME_SIZE, frame_size(limits)),
                (setting::MAX_HEADER_LIST_SIZE, list_max),
                (setting::ENABLE_CONNECT_PROTOCOL, u32::from(settings.extended_connect)),
                (setting::NO_RFC7540_PRIORITIES, 1),
            ],
        );
        let more = self.recv_window_max - self.recv_window;
        if more > 0 {
            frame::put_window(out, 0, more as u32);
            self.recv_window += more;
        }
    }

    /// The peer may send so many octets again, on the connection.
    pub(super) fn give_back(&mut self, octets: usize) {
        self.returned += octets as i64;
        // Not for every octet: half of the window is told of at once.
        if self.returned >= self.recv_window_max / 2 {
            frame::put_window(self.out.buffer(), 0, self.returned as u32);
            self.recv_window += self.returned;
            self.returned = 0;
        }
    }

    /// Appends a DATA frame.
    pub(super) fn put_data(&mut self, stream: u32, content: Bytes, end: bool) {
        let flags = if end { flag::END_STREAM } else { 0 };
        let head = FrameHead { len: content.len(), kind: kind::DATA, flags, stream };
        self.out.buffer().extend_from_slice(&head.bytes());
        self.send_window -= content.len() as i64;
        if !content.is_empty() {
            self.out.put(content);
        }
    }

    /// Appends a header block; `write` gets the encoder.
    pub(super) fn put_fields(
        &mut self,
        stream: u32,
        end: bool,
        write: impl FnOnce(&mut Encoder, &mut Vec<u8>),
    ) {
        let flags = if end { flag::END_STREAM } else { 0 };
        let head = FrameHead { len: 0, kind: kind::HEADERS, flags, stream };
        let Self { out, encoder, peer, .. } = self;
        frame::put_block(out.buffer(), head, peer.frame_max, |out| {
            encoder.begin(out);
            write(encoder, out);
        });
    }

    /// Appends PUSH_PROMISE; answers the promised stream.
    pub(super) fn put_promise(
        &mut self,
        stream: u32,
        write: impl FnOnce(&mut Encoder, &mut Vec<u8>),
    ) -> u32 {
        let promised = self.next_push;
        self.next_push += 2;
        let head = FrameHead { len: 0, kind: kind::PUSH_PROMISE, flags: 0, stream };
        let Self { out, encoder, peer, .. } = self;
        frame::put_block(out.buffer(), head, peer.frame_max, |out| {
            out.extend_from_slice(&promised.to_be_bytes());
            encoder.begin(out);
            write(encoder, out);
        });
        promised
    }

    /// Appends RST_STREAM, and remembers it.
    pub(super) fn put_reset(&mut self, stream: u32, reason: Reason) {
        frame::put_reset(self.out.buffer(), stream, reason);
        if self.resets.len() >= RESETS_KEPT {
            self.resets.pop_front();
        }
        self.resets.push_back(stream);
    }

    /// Whether frames on this stream may have crossed our reset of it.
    pub(super) fn was_reset(&self, stream: u32) -> bool {
        self.resets.contains(&stream)
    }

    /// Takes note of a stream that the client opens; streams below it that it left out are closed by that.
    pub(super) fn open(&mut self, stream: u32) {
        let skipped = stream.saturating_sub(self.last_stream) / 2;
        self.opened = self.opened.checked_shl(skipped).unwrap_or(0) | 1;
        self.last_stream = stream;
    }

    /// Whether the client left this stream out, as far back as that is known (RFC 9113 §5.1.1).
    pub(super) fn was_left_out(&self, stream: u32) -> bool {
        let back = self.last_stream.saturating_sub(stream) / 2;
        self.opened.checked_shr(back).is_some_and(|opened| opened & 1 == 0)
    }

    /// Whether the stream has not been opened yet.
    pub(super) fn is_idle(&self, stream: u32) -> bool {
        if stream % 2 == 1 { stream > self.last_stream } else { stream >= self.next_push }
    }
}

fn window(octets: u32) -> i64 {
    i64::from(octets).min(frame::WINDOW_MAX)
}

fn frame_size(limits: &Limits) -> u32 {
    limits.h2_frame_bytes_max.clamp(frame::FRAME_SIZE_MIN, frame::FRAME_SIZE_MAX)
}

/// What the peer may keep in its table, and so what ours must hold.
const HEADER_TABLE: u32 = 4096;
const RESETS_KEPT: usize = 256;
