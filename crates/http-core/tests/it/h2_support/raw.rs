//! A client that writes frames byte by byte, so that it can misbehave.

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

/// Frame types (RFC 9113 §6).
pub(crate) mod kind {
    pub(crate) const DATA: u8 = 0;
    pub(crate) const HEADERS: u8 = 1;
    pub(crate) const PRIORITY: u8 = 2;
    pub(crate) const RST_STREAM: u8 = 3;
    pub(crate) const SETTINGS: u8 = 4;
    pub(crate) const PUSH_PROMISE: u8 = 5;
    pub(crate) const PING: u8 = 6;
    pub(crate) const GOAWAY: u8 = 7;
    pub(crate) const WINDOW_UPDATE: u8 = 8;
    pub(crate) const CONTINUATION: u8 = 9;
    pub(crate) const PRIORITY_UPDATE: u8 = 16;
}

/// One frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    pub(crate) fn new(kind: u8, flags: u8, stream: u32, payload: impl Into<Vec<u8>>) -> Self {
        Self { kind, flags, stream, payload: payload.into() }
    }

    /// A complete header block without content behind it.
    pub(crate) fn request(stream: u32, fields: &[(&str, &str)]) -> Self {
        Self::new(kind::HEADERS, 5, stream, block(fields))
    }

    /// A GET of `path`.
    pub(crate) fn get(stream: u32, path: &str) -> Self {
        Self::request(stream, &request_fields("GET", path))
    }

    /// The head of a POST to `path` whose content follows.
    pub(crate) fn post(stream: u32, path: &str) -> Self {
        Self { flags: 4, ..Self::request(stream, &request_fields("POST", path)) }
    }

    pub(crate) fn reset(stream: u32, code: u32) -> Self {
        Self::new(kind::RST_STREAM, 0, stream, code.to_be_bytes())
    }

    pub(crate) fn window(stream: u32, octets: u32) -> Self {
        Self::new(kind::WINDOW_UPDATE, 0, stream, octets.to_be_bytes())
    }

    pub(crate) fn settings(settings: &[(u16, u32)]) -> Self {
        let mut payload = Vec::new();
        for (id, value) in settings {
            payload.extend_from_slice(&id.to_be_bytes());
            payload.extend_from_slice(&value.to_be_bytes());
        }
        Self::new(kind::SETTINGS, 0, 0, payload)
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let len = u32::try_from(self.payload.len()).expect("length").to_be_bytes();
        let mut bytes = vec![len[1], len[2], len[3], self.kind, self.flags];
        bytes.extend_from_slice(&self.stream.to_be_bytes());
        bytes.extend_from_slice(&self.payload);
        bytes
    }

    /// The frames of a whole connection; one that is cut off is left out.
    pub(crate) fn parse(mut bytes: &[u8]) -> Vec<Self> {
        let mut frames = Vec::new();
        while let Some(([l0, l1, l2, kind, flags, s0, s1, s2, s3], rest)) =
            bytes.split_first_chunk()
        {
            let len = u32::from_be_bytes([0, *l0, *l1, *l2]) as usize;
            let Some((payload, rest)) = rest.split_at_checked(len) else { break };
            let stream = u32::from_be_bytes([*s0, *s1, *s2, *s3]);
            frames.push(Self::new(*kind, *flags, stream, payload));
            bytes = rest;
        }
        frames
    }

    /// The last stream that GOAWAY names.
    pub(crate) fn last_stream(&self) -> u32 {
        u32::from_be_bytes(self.payload[..4].try_into().expect("a stream"))
    }

    pub(crate) fn is_end(&self) -> bool {
        self.flags & 1 != 0
    }

    /// The error code of RST_STREAM and GOAWAY.
    pub(crate) fn code(&self) -> u32 {
        let at = if self.kind == kind::GOAWAY { 4 } else { 0 };
        u32::from_be_bytes(self.payload[at..at + 4].try_into().expect("a code"))
    }

    /// The status at the beginning of a header block.
    pub(crate) fn status(&self) -> u16 {
        const KNOWN: [u16; 7] = [200, 204, 206, 304, 400, 404, 500];
        match self.payload[0] {
            index @ 0x88..=0x8e => KNOWN[usize::from(index - 0x88)],
            // `:status` literal, its value in Huffman code or not.
            0x08 | 0x18 | 0x48 => {
                let len = usize::from(self.payload[1] & 0x7f);
                let value = &self.payload[2..2 + len];
                if self.payload[1] & 0x80 == 0 {
                    std::str::from_utf8(value).expect("digits").parse().expect("a status")
                } else {
                    huffman_digits(value)
                }
            }
            other => panic!("a header block that begins with {other:#x}"),
        }
    }
}

/// Three digits in the code of RFC 7541, appendix B.
fn huffman_digits(bytes: &[u8]) -> u16 {
    let mut bits = bytes.iter().flat_map(|byte| (0..8).rev().map(move |at| byte >> at & 1));
    let mut take =
        |count| (0..count).fold(0u16, |sum, _| sum << 1 | u16::from(bits.next().unwrap_or(1)));
    let mut status = 0;
    for _ in 0..3 {
        let first = take(5);
        let digit = if first <= 2 { first } else { ((first << 1) | take(1)) - 0b01_1001 + 3 };
        status = status * 10 + digit;
    }
    status
}

pub(crate) fn request_fields<'a>(method: &'a str, path: &'a str) -> [(&'a str, &'a str); 4] {
    [(":method", method), (":scheme", "https"), (":path", path), (":authority", "a.test")]
}

/// Fields as literals without indexing.
pub(crate) fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            integer(&mut block, 0, 7, text.len());
            block.extend_from_slice(text.as_bytes());
        }
    }
    block
}

/// RFC 7541 §5.1.
pub(crate) fn integer(block: &mut Vec<u8>, first: u8, bits: u8, mut value: usize) {
    let max = (1 << bits) - 1;
    if value < max {
        block.push(first | value as u8);
        return;
    }
    block.push(first | max as u8);
    value -= max;
    while value >= 128 {
        block.push((value % 128) as u8 | 0x80);
        value /= 128;
    }
    block.push(value as u8);
}

/// The client's end of a connection.
pub(crate) struct Raw {
    pub(crate) io: DuplexStream,
}

impl Raw {
    /// Says the preface and these settings, and waits until they are acknowledged.
    pub(crate) async fn connect_with(io: DuplexStream, settings: &[(u16, u32)]) -> Self {
        let mut raw = Self { io };
        raw.io.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.expect("preface");
        raw.send(Frame::settings(settings)).await;
        loop {
            let frame = raw.next().await.expect("a frame");
            match (frame.kind, frame.flags) {
                (kind::SETTINGS, 0) => raw.send(Frame::new(kind::SETTINGS, 1, 0, [])).await,
                (kind::SETTINGS, _) => return raw,
                _ => {}
            }
        }
    }

    pub(crate) async fn connect(io: DuplexStream) -> Self {
        Self::connect_with(io, &[]).await
    }

    /// Sends a frame; what the server does with it is seen by reading.
    pub(crate) async fn send(&mut self, frame: Frame) {
        self.send_bytes(&frame.bytes()).await;
    }

    pub(crate) async fn send_bytes(&mut self, bytes: &[u8]) {
        // The server may have closed, which shows when reading.
        let _ = self.io.write_all(bytes).await;
    }

    /// The next frame; `None` at the end of the connection.
    pub(crate) async fn next(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        self.io.read_exact(&mut head).await.ok()?;
        let len = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let mut payload = vec![0; len];
        self.io.read_exact(&mut payload).await.ok()?;
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        Some(Frame { kind: head[3], flags: head[4], stream, payload })
    }

    /// The next frame of one of these types; fails the test if the connection ends first.
    pub(crate) async fn until(&mut self, kinds: &[u8]) -> Frame {
        loop {
            let frame = self.next().await.expect("a frame before the end");
            if kinds.contains(&frame.kind) {
                return frame;
            }
        }
    }

    /// Every frame up to the end of the connection.
    pub(crate) async fn rest(&mut self) -> Vec<Frame> {
        let mut frames = Vec::new();
        while let Some(frame) = self.next().await {
            frames.push(frame);
        }
        frames
    }

    /// Whether the connection still answers: the status of a GET on `stream`.
    pub(crate) async fn probe(&mut self, stream: u32) -> u16 {
        self.send(Frame::get(stream, "/")).await;
        loop {
            let frame = self.until(&[kind::HEADERS]).await;
            if frame.stream == stream {
                return 200;
            }
        }
    }
}
