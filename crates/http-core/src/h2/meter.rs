//! Reads along: which frames pass over the wire, in one direction.
//!
//! The codec answers requests but hides the frames around them. Abuse is a matter of those frames,
//! so every byte is passed by a meter that understands frame headers (RFC 9113 §4.1) and little else.

use smallvec::SmallVec;

use super::priority::Priority;

/// What a meter noticed since it was last asked.
#[derive(Debug, Default)]
pub(super) struct Signals {
    /// Streams whose last frame passed.
    pub(super) ended: SmallVec<[u32; 32]>,
    /// Streams that were reset, and the error code.
    pub(super) resets: SmallVec<[(u32, u32); 8]>,
    /// Streams that changed their priority (RFC 9218 §7.1).
    pub(super) priorities: SmallVec<[(u32, Priority); 4]>,
    /// Bytes of frames that by themselves bring no stream forward.
    pub(super) overhead_bytes: usize,
}

impl Signals {
    /// Whether there is nothing to look at.
    pub(super) fn is_empty(&self) -> bool {
        self.ended.is_empty()
            && self.resets.is_empty()
            && self.priorities.is_empty()
            && self.overhead_bytes == 0
    }

    pub(super) fn clear(&mut self) {
        self.ended.clear();
        self.resets.clear();
        self.priorities.clear();
        self.overhead_bytes = 0;
    }
}

/// Follows the frames of one direction.
#[derive(Debug)]
pub(super) struct Meter {
    signals: Signals,
    head: [u8; FRAME_HEAD],
    head_len: usize,
    frame: Frame,
    /// Payload bytes of `frame` that have not passed yet; before the first frame, of the preface.
    ahead: usize,
    /// The first bytes of a payload that has to be looked at.
    captured: [u8; CAPTURE],
    captured_len: usize,
    /// The net change of the connection's flow-control window by the frames that passed.
    window_delta: i64,
    in_header_block: bool,
    settings_seen: bool,
    /// Frames, and header blocks, that have ended.
    completed: u64,
}

#[derive(Debug, Clone, Copy, Default)]
struct Frame {
    kind: u8,
    flags: u8,
    stream: u32,
    len: usize,
}

impl Meter {
    /// For a direction that begins with `skip` bytes that are no frames.
    pub(super) fn new(skip: usize) -> Self {
        Self {
            signals: Signals::default(),
            head: [0; FRAME_HEAD],
            head_len: 0,
            frame: Frame { kind: PREFACE, len: skip, ..Frame::default() },
            ahead: skip,
            captured: [0; CAPTURE],
            captured_len: 0,
            window_delta: 0,
            in_header_block: false,
            settings_seen: false,
            completed: 0,
        }
    }

    /// Follows the next bytes.
    pub(super) fn pass(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.ahead > 0 {
                let (now, rest) = bytes.split_at(self.ahead.min(bytes.len()));
                self.pass_payload(now);
                bytes = rest;
            } else {
                bytes = self.pass_head(bytes);
            }
        }
    }

    pub(super) fn signals(&mut self) -> &mut Signals {
        &mut self.signals
    }

    /// The number of the frame, or of the header block of several frames, that has begun and not
    /// ended. Content is not meant: it has a pace of its own.
    pub(super) fn inside(&self) -> Option<u64> {
        let is_silent = self.frame.kind == PREFACE && self.ahead == self.frame.len;
        let has_more = self.ahead > 0 && self.frame.kind != DATA && !is_silent;
        (self.head_len > 0 || self.in_header_block || has_more).then_some(self.completed)
    }

    /// Whether the first SETTINGS frame has passed.
    pub(super) fn settings_seen(&self) -> bool {
        self.settings_seen
    }

    /// Bytes to the next place where something is known: the end of the frame, or of its head.
    pub(super) fn to_boundary(&self) -> usize {
        if self.ahead > 0 { self.ahead } else { FRAME_HEAD - self.head_len }
    }

    /// WINDOW_UPDATE octets for the connection minus DATA octets that passed.
    pub(super) fn window_delta(&self) -> i64 {
        self.window_delta
    }

    fn pass_head<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let want = (FRAME_HEAD - self.head_len).min(bytes.len());
        let (now, rest) = bytes.split_at(want);
        if let Some(room) = self.head.get_mut(self.head_len..self.head_len + want) {
            room.copy_from_slice(now);
        }
        self.head_len += want;
        if self.head_len == FRAME_HEAD {
            self.head_len = 0;
            let [l0, l1, l2, kind, flags, s0, s1, s2, s3] = self.head;
            self.frame = Frame {
                kind,
                flags,
                stream: u32::from_be_bytes([s0 & 0x7f, s1, s2, s3]),
                len: u32::from_be_bytes([0, l0, l1, l2]) as usize,
            };
            self.ahead = self.frame.len;
            self.captured_len = 0;
            self.begin_frame();
            if self.ahead == 0 {
                self.end_frame();
            }
        }
        rest
    }

    fn pass_payload(&mut self, bytes: &[u8]) {
        if matches!(self.frame.kind, RST_STREAM | WINDOW_UPDATE | PRIORITY_UPDATE) {
            let room = self.captured.get_mut(self.captured_len..).unwrap_or_default();
            let len = room.len().min(bytes.len());
            for (to, from) in room.iter_mut().zip(bytes) {
                *to = *from;
            }
            self.captured_len += len;
        }
        self.ahead -= bytes.len();
        if self.ahead == 0 {
            self.end_frame();
        }
    }

    fn begin_frame(&mut self) {
        let Frame { kind, flags, len, .. } = self.frame;
        match kind {
            DATA => {
                self.window_delta -= len as i64;
                if len == 0 {
                    self.signals.overhead_bytes += FRAME_HEAD;
                }
            }
            HEADERS | CONTINUATION | PUSH_PROMISE => {
                self.in_header_block = flags & END_HEADERS == 0;
                if kind == CONTINUATION {
                    self.signals.overhead_bytes += FRAME_HEAD + len;
                }
            }
            _ => self.signals.overhead_bytes += FRAME_HEAD + len,
        }
    }

    fn end_frame(&mut self) {
        let Frame { kind, flags, stream, .. } = self.frame;
        self.completed += u64::from(!self.in_header_block);
        match kind {
            DATA | HEADERS if flags & END_STREAM != 0 => self.signals.ended.push(stream),
            RST_STREAM => self.signals.resets.push((stream, self.captured_u32(0))),
            SETTINGS => self.settings_seen = true,
            WINDOW_UPDATE if stream == 0 => {
                self.window_delta += i64::from(self.captured_u32(0) & 0x7fff_ffff);
            }
            PRIORITY_UPDATE if stream == 0 && self.captured_len >= 4 => {
                let value = self.captured.get(4..self.captured_len).unwrap_or_default();
                let stream = self.captured_u32(0) & 0x7fff_ffff;
                self.signals.priorities.push((stream, Priority::parse(value)));
            }
            _ => {}
        }
    }

    fn captured_u32(&self, at: usize) -> u32 {
        let bytes = self.captured.get(at..at + 4).and_then(|four| four.try_into().ok());
        bytes.map_or(0, u32::from_be_bytes)
    }
}

/// Octets of a frame header.
pub(super) const FRAME_HEAD: usize = 9;
const CAPTURE: usize = 36;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PUSH_PROMISE: u8 = 5;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const PRIORITY_UPDATE: u8 = 16;
/// No frame: what stands before the first one.
const PREFACE: u8 = 0xff;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let len = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let mut frame = vec![len[1], len[2], len[3], kind, flags];
        frame.extend_from_slice(&stream.to_be_bytes());
        frame.extend_from_slice(payload);
        frame
    }

    fn session() -> Vec<u8> {
        [
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
            frame(SETTINGS, 0, 0, &[0; 12]),
            frame(HEADERS, END_STREAM | END_HEADERS, 1, b"block"),
            frame(HEADERS, 0, 3, b"block"),
            frame(CONTINUATION, END_HEADERS, 3, b"rest"),
            frame(DATA, 0, 3, &[7; 1000]),
            frame(DATA, END_STREAM, 3, b""),
            frame(RST_STREAM, 0, 1, &8u32.to_be_bytes()),
            frame(WINDOW_UPDATE, 0, 0, &5000u32.to_be_bytes()),
            frame(WINDOW_UPDATE, 0, 3, &5000u32.to_be_bytes()),
            frame(PRIORITY_UPDATE, 0, 0, b"\0\0\0\x03u=1, i"),
        ]
        .concat()
    }

    #[test]
    fn what_passed_does_not_depend_on_how_it_was_cut() {
        let session = session();
        for step in [1, 2, 7, 9, 24, 100, session.len()] {
            let mut meter = Meter::new(24);
            for piece in session.chunks(step) {
                meter.pass(piece);
            }
            assert_eq!(meter.window_delta(), 4000, "step {step}");
            assert!(meter.settings_seen() && meter.inside().is_none(), "step {step}");
            let signals = meter.signals();
            assert_eq!(signals.ended.as_slice(), [1, 3], "step {step}");
            assert_eq!(signals.resets.as_slice(), [(1, 8)], "step {step}");
            let urgent = Priority { urgency: 1, incremental: true };
            assert_eq!(signals.priorities.as_slice(), [(3, urgent)], "step {step}");
            // SETTINGS 21, CONTINUATION 13, empty DATA 9, RST 13, two WINDOW_UPDATE 26, PRIORITY_UPDATE 19.
            assert_eq!(signals.overhead_bytes, 101, "step {step}");
        }
    }

    #[test]
    fn an_unfinished_frame_or_block_is_noticed() {
        let mut meter = Meter::new(24);
        assert_eq!(meter.inside(), None, "nothing was said");
        meter.pass(b"PRI");
        assert_eq!(meter.inside(), Some(0), "the preface goes on");

        let mut meter = Meter::new(0);
        meter.pass(&frame(HEADERS, 0, 1, b"x"));
        assert_eq!(meter.inside(), Some(0), "header block goes on");
        meter.pass(&frame(CONTINUATION, END_HEADERS, 1, b"x"));
        assert_eq!(meter.inside(), None);
        meter.pass(&frame(SETTINGS, 0, 0, &[0; 6])[..12]);
        assert_eq!(meter.inside(), Some(1), "frame goes on");
    }
}
