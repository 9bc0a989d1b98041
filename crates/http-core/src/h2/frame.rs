//! Frames (RFC 9113 §4, §6).

/// The first octets of every frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FrameHead {
    pub(super) len: usize,
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) stream: u32,
}

impl FrameHead {
    pub(super) const LEN: usize = 9;

    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let [l0, l1, l2, kind, flags, s0, s1, s2, s3] = *bytes.first_chunk()?;
        Some(Self {
            len: u32::from_be_bytes([0, l0, l1, l2]) as usize,
            kind,
            flags,
            // RFC 9113 §4.1: the reserved bit is ignored.
            stream: u32::from_be_bytes([s0 & 0x7f, s1, s2, s3]),
        })
    }

    pub(super) fn has(self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    pub(super) fn bytes(self) -> [u8; Self::LEN] {
        let [_, l0, l1, l2] = (self.len as u32).to_be_bytes();
        let [s0, s1, s2, s3] = self.stream.to_be_bytes();
        [l0, l1, l2, self.kind, self.flags, s0, s1, s2, s3]
    }
}

/// Types.
pub(super) mod kind {
    pub(in crate::h2) const DATA: u8 = 0;
    pub(in crate::h2) const HEADERS: u8 = 1;
    pub(in crate::h2) const PRIORITY: u8 = 2;
    pub(in crate::h2) const RST_STREAM: u8 = 3;
    pub(in crate::h2) const SETTINGS: u8 = 4;
    pub(in crate::h2) const PUSH_PROMISE: u8 = 5;
    pub(in crate::h2) const PING: u8 = 6;
    pub(in crate::h2) const GOAWAY: u8 = 7;
    pub(in crate::h2) const WINDOW_UPDATE: u8 = 8;
    pub(in crate::h2) const CONTINUATION: u8 = 9;
    /// RFC 9218 §7.1.
    pub(in crate::h2) const PRIORITY_UPDATE: u8 = 16;
}

/// Flags.
pub(super) mod flag {
    pub(in crate::h2) const ACK: u8 = 0x1;
    pub(in crate::h2) const END_STREAM: u8 = 0x1;
    pub(in crate::h2) const END_HEADERS: u8 = 0x4;
    pub(in crate::h2) const PADDED: u8 = 0x8;
    pub(in crate::h2) const PRIORITY: u8 = 0x20;
}

/// Parameters of SETTINGS.
pub(super) mod setting {
    pub(in crate::h2) const HEADER_TABLE_SIZE: u16 = 1;
    pub(in crate::h2) const ENABLE_PUSH: u16 = 2;
    pub(in crate::h2) const MAX_CONCURRENT_STREAMS: u16 = 3;
    pub(in crate::h2) const INITIAL_WINDOW_SIZE: u16 = 4;
    pub(in crate::h2) const MAX_FRAME_SIZE: u16 = 5;
    pub(in crate::h2) const MAX_HEADER_LIST_SIZE: u16 = 6;
    /// RFC 8441.
    pub(in crate::h2) const ENABLE_CONNECT_PROTOCOL: u16 = 8;
    /// RFC 9218 §2.1.
    pub(in crate::h2) const NO_RFC7540_PRIORITIES: u16 = 9;
}

/// Error codes (RFC 9113 §7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum Reason {
    NoError = 0,
    Protocol = 1,
    Internal = 2,
    FlowControl = 3,
    StreamClosed = 5,
    FrameSize = 6,
    RefusedStream = 7,
    Cancel = 8,
    Compression = 9,
    EnhanceYourCalm = 11,
}

/// What ends the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) reason: Reason,
    /// The rule in words, for the log.
    pub(super) rule: &'static str,
}

impl Fault {
    pub(super) fn protocol(rule: &'static str) -> Self {
        Self { reason: Reason::Protocol, rule }
    }

    pub(super) fn size(rule: &'static str) -> Self {
        Self { reason: Reason::FrameSize, rule }
    }

    pub(super) fn flow(rule: &'static str) -> Self {
        Self { reason: Reason::FlowControl, rule }
    }
}

pub(super) fn put_frame(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    out.extend_from_slice(&FrameHead { len: payload.len(), kind, flags, stream }.bytes());
    out.extend_from_slice(payload);
}

pub(super) fn put_reset(out: &mut Vec<u8>, stream: u32, reason: Reason) {
    put_frame(out, kind::RST_STREAM, 0, stream, &(reason as u32).to_be_bytes());
}

pub(super) fn put_window(out: &mut Vec<u8>, stream: u32, octets: u32) {
    put_frame(out, kind::WINDOW_UPDATE, 0, stream, &octets.to_be_bytes());
}

pub(super) fn put_go_away(out: &mut Vec<u8>, last: u32, reason: Reason) {
    let mut payload = [0; 8];
    for (to, from) in
        payload.iter_mut().zip(last.to_be_bytes().into_iter().chain((reason as u32).to_be_bytes()))
    {
        *to = from;
    }
    put_frame(out, kind::GOAWAY, 0, 0, &payload);
}

pub(super) fn put_settings(out: &mut Vec<u8>, settings: &[(u16, u32)]) {
    let len = settings.len() * 6;
    out.extend_from_slice(&FrameHead { len, kind: kind::SETTINGS, flags: 0, stream: 0 }.bytes());
    for (id, value) in settings {
        out.extend_from_slice(&id.to_be_bytes());
        out.extend_from_slice(&value.to_be_bytes());
    }
}

/// Writes the frames of one header block: HEADERS or PUSH_PROMISE, and CONTINUATION where one frame
/// may not be that large. `write` appends the payload.
pub(super) fn put_block(
    out: &mut Vec<u8>,
    mut head: FrameHead,
    frame_max: usize,
    write: impl FnOnce(&mut Vec<u8>),
) {
    let start = out.len();
    out.extend_from_slice(&[0; FrameHead::LEN]);
    write(out);
    let len = out.len() - start - FrameHead::LEN;
    head.len = len.min(frame_max);
    let is_whole = len <= frame_max;
    head.flags |= if is_whole { flag::END_HEADERS } else { 0 };
    if let Some(place) = out.get_mut(start..start + FrameHead::LEN) {
        place.copy_from_slice(&head.bytes());
    }
    if is_whole {
        return;
    }
    let rest = out.split_off(start + FrameHead::LEN + frame_max);
    let pieces = rest.len().div_ceil(frame_max);
    for (index, piece) in rest.chunks(frame_max).enumerate() {
        let flags = if index + 1 == pieces { flag::END_HEADERS } else { 0 };
        put_frame(out, kind::CONTINUATION, flags, head.stream, piece);
    }
}

/// Takes padding off (RFC 9113 §6.1): the payload without it, or nothing where it is too long.
pub(super) fn unpad(head: FrameHead, payload: &[u8]) -> Option<&[u8]> {
    if !head.has(flag::PADDED) {
        return Some(payload);
    }
    let (padding, rest) = payload.split_first()?;
    rest.get(..rest.len().checked_sub(usize::from(*padding))?)
}

pub(super) fn parse_u32(payload: &[u8]) -> Option<u32> {
    payload.first_chunk().map(|four| u32::from_be_bytes(*four))
}

/// What the client says first (RFC 9113 §3.4).
pub(super) const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// The largest stream identifier.
pub(super) const STREAM_MAX: u32 = (1 << 31) - 1;
/// The largest flow-control window.
pub(super) const WINDOW_MAX: i64 = (1 << 31) - 1;
/// Every window before anything is said (RFC 9113 §6.9.2).
pub(super) const WINDOW_INITIAL: u32 = 65_535;
/// What every peer accepts (RFC 9113 §4.2).
pub(super) const FRAME_SIZE_MIN: u32 = 16 * 1024;
pub(super) const FRAME_SIZE_MAX: u32 = (1 << 24) - 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_survive_the_way() {
        let head = FrameHead { len: 0x01_02_03, kind: 4, flags: 5, stream: 0x0607_0809 };
        assert_eq!(FrameHead::parse(&head.bytes()), Some(head));
        assert_eq!(FrameHead::parse(&[0; 8]), None);
        let reserved = [0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff];
        assert_eq!(FrameHead::parse(&reserved).map(|head| head.stream), Some(STREAM_MAX));
    }

    #[test]
    fn a_large_block_is_continued() {
        for (len, want) in
            [(10, vec![10]), (100, vec![100]), (101, vec![100, 1]), (250, vec![100, 100, 50])]
        {
            let mut out = Vec::new();
            let head = FrameHead { len: 0, kind: kind::HEADERS, flags: 1, stream: 3 };
            put_block(&mut out, head, 100, |out| out.extend((0..len).map(|byte| byte as u8)));
            let mut rest = &out[..];
            let mut heads = Vec::new();
            let mut block = Vec::new();
            while let Some(head) = FrameHead::parse(rest) {
                block.extend_from_slice(&rest[FrameHead::LEN..][..head.len]);
                rest = &rest[FrameHead::LEN + head.len..];
                heads.push(head);
            }
            assert_eq!(heads.iter().map(|head| head.len).collect::<Vec<_>>(), want);
            assert_eq!(block, (0..len).map(|byte| byte as u8).collect::<Vec<_>>());
            let ends: Vec<_> = heads.iter().map(|head| head.has(flag::END_HEADERS)).collect();
            assert_eq!(ends.iter().filter(|end| **end).count(), 1);
            assert_eq!(ends.last(), Some(&true));
            assert!(heads.iter().all(|head| head.stream == 3));
        }
    }

    #[test]
    fn padding() {
        let head = |flags| FrameHead { len: 0, kind: kind::DATA, flags, stream: 1 };
        assert_eq!(unpad(head(0), b"\x02ab"), Some(&b"\x02ab"[..]));
        assert_eq!(unpad(head(8), b"\x02abcd"), Some(&b"ab"[..]));
        assert_eq!(unpad(head(8), b"\x02ab"), Some(&b""[..]));
        assert_eq!(unpad(head(8), b"\x03ab"), None);
        assert_eq!(unpad(head(8), b""), None);
    }
}
