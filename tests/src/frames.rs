//! HTTP/2 frames written by hand, for peers that do not behave (RFC 9113 §4.1, §6).

use std::{
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

/// The client's connection preface (RFC 9113 §3.4).
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Frame types.
pub const DATA: u8 = 0;
/// Frame types.
pub const HEADERS: u8 = 1;
/// Frame types.
pub const PRIORITY: u8 = 2;
/// Frame types.
pub const RST_STREAM: u8 = 3;
/// Frame types.
pub const SETTINGS: u8 = 4;
/// Frame types.
pub const PING: u8 = 6;
/// Frame types.
pub const GOAWAY: u8 = 7;
/// Frame types.
pub const WINDOW_UPDATE: u8 = 8;
/// Frame types.
pub const CONTINUATION: u8 = 9;
/// Flag of DATA and HEADERS.
pub const END_STREAM: u8 = 1;
/// Flag of HEADERS and CONTINUATION.
pub const END_HEADERS: u8 = 4;

/// One frame as bytes.
#[must_use]
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX).to_be_bytes();
    let mut out = Vec::with_capacity(9 + payload.len());
    out.extend_from_slice(&length[1..]);
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
    out
}

/// A field that enters no table, names and values as they are (RFC 7541 §6.2.2). Both below 127 bytes.
#[must_use]
pub fn field(name: &str, value: &str) -> Vec<u8> {
    let mut out = vec![0];
    for text in [name, value] {
        out.push(u8::try_from(text.len().min(126)).unwrap_or(126));
        out.extend_from_slice(&text.as_bytes()[..text.len().min(126)]);
    }
    out
}

/// The header block of a request for `path`.
#[must_use]
pub fn request(method: &str, path: &str) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in
        [(":method", method), (":scheme", "http"), (":path", path), (":authority", "localhost")]
    {
        block.extend(field(name, value));
    }
    block
}

/// A connection that sent its preface and empty settings.
#[derive(Debug)]
pub struct Raw(pub TcpStream);

impl Raw {
    /// Connects and greets; `settings` is the payload of the first SETTINGS frame.
    ///
    /// # Errors
    /// The socket's own.
    pub fn connect(address: SocketAddr, settings: &[u8]) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(Duration::from_millis(100)))?;
        stream.set_write_timeout(Some(Duration::from_millis(500)))?;
        let mut raw = Self(stream);
        raw.send(PREFACE)?;
        raw.send(&frame(SETTINGS, 0, 0, settings))?;
        Ok(raw)
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// The socket's own.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes)
    }

    /// Reads what is there, drops it, and answers whether the peer is still there.
    pub fn drain(&mut self) -> bool {
        let mut buffer = [0; 16 * 1024];
        loop {
            match self.0.read(&mut buffer) {
                Ok(0) => return false,
                Ok(_) => {}
                Err(error) => {
                    return matches!(
                        error.kind(),
                        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
                    );
                }
            }
        }
    }
}
