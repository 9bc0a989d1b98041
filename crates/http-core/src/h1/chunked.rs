//! The chunked transfer coding (RFC 9112 §7.1): decoder, and the writer's few bytes.

use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue};

use super::refusal::Refusal;
use crate::{Limits, head::is_token_byte};

/// Takes the chunks of one message off the input. It reads nothing behind the message.
#[derive(Debug, Default)]
pub(crate) struct ChunkedDecoder {
    state: State,
    /// Bytes of extensions so far, of all chunks.
    extension_bytes: usize,
    /// Input up to here was searched for the end of the trailer section.
    scanned: usize,
    trailer_lines: usize,
}

/// What comes next.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum State {
    /// A line with the size of a chunk.
    #[default]
    Size,
    /// So many bytes of content.
    Data(u64),
    /// The CR LF behind the content.
    DataEnd,
    /// The trailer section, or the empty line that ends it.
    Trailers,
    /// Nothing: the message is over.
    End,
}

/// What a decoder found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    /// Some content.
    Data(Bytes),
    /// The trailer section; only the end follows.
    Trailers(HeaderMap),
    /// The message is over.
    End,
    /// Nothing without more input.
    NeedMore,
}

impl ChunkedDecoder {
    /// Takes the next piece off the front of `input`.
    pub(crate) fn decode(
        &mut self,
        input: &mut BytesMut,
        limits: &Limits,
    ) -> Result<Piece, Refusal> {
        loop {
            match self.state {
                State::Size => match self.size_line(input, limits)? {
                    None => return Ok(Piece::NeedMore),
                    Some(0) => self.state = State::Trailers,
                    Some(size) => self.state = State::Data(size),
                },
                State::Data(size) => {
                    if input.is_empty() {
                        return Ok(Piece::NeedMore);
                    }
                    let len = usize::try_from(size).map_or(input.len(), |n| n.min(input.len()));
                    self.state = match size - len as u64 {
                        0 => State::DataEnd,
                        rest => State::Data(rest),
                    };
                    return Ok(Piece::Data(input.split_to(len).freeze()));
                }
                State::DataEnd => {
                    match &input[..] {
                        [b'\r', b'\n', ..] => input.advance(2),
                        [] | [b'\r'] => return Ok(Piece::NeedMore),
                        _ => return Err(Refusal::Chunk),
                    }
                    self.state = State::Size;
                }
                State::Trailers => {
                    let Some(len) = self.trailers_end(input, limits)? else {
                        return Ok(Piece::NeedMore);
                    };
                    self.state = State::End;
                    let section = input.split_to(len).freeze();
                    if len > 2 {
                        return Ok(Piece::Trailers(parse_trailers(&section, limits)?));
                    }
                }
                State::End => return Ok(Piece::End),
            }
        }
    }

    /// Whether nothing more belongs to the message.
    pub(crate) fn is_at_end(&self) -> bool {
        self.state == State::End
    }

    /// `chunk-size [ chunk-ext ] CRLF`: takes the line off and answers the size.
    fn size_line(&mut self, input: &mut BytesMut, limits: &Limits) -> Result<Option<u64>, Refusal> {
        let mut size = 0_u64;
        let mut digits = 0;
        let mut rest = &input[..];
        while let [byte, tail @ ..] = rest
            && let Some(digit) = hex_digit(*byte)
        {
            digits += 1;
            if digits > SIZE_DIGITS_MAX {
                return Err(Refusal::Chunk);
            }
            size = size << 4 | u64::from(digit);
            rest = tail;
        }
        if digits == 0 {
            return if rest.is_empty() { Ok(None) } else { Err(Refusal::Chunk) };
        }
        let extension_max = limits
            .chunk_extension_bytes_max
            .min(limits.chunk_extensions_bytes_max.saturating_sub(self.extension_bytes));
        let Some(extension_len) = extension_len(rest, extension_max)? else { return Ok(None) };
        self.extension_bytes += extension_len;
        input.advance(digits + extension_len + 2);
        Ok(Some(size))
    }

    /// The length of the trailer section with the empty line behind it, once all of it is there.
    fn trailers_end(&mut self, input: &[u8], limits: &Limits) -> Result<Option<usize>, Refusal> {
        while let Some(offset) = memchr::memchr(b'\n', input.get(self.scanned..).unwrap_or(b"")) {
            let at = self.scanned + offset;
            if at >= limits.trailer_bytes_max {
                return Err(Refusal::Trailers);
            }
            match input.get(..at) {
                // An empty line is the end: at the very front, or right behind another line.
                Some(b"\r" | [.., b'\n', b'\r']) if at < limits.trailer_bytes_max => {
                    return Ok(Some(at + 1));
                }
                Some(b"\r" | [.., b'\n', b'\r']) => return Err(Refusal::Trailers),
                Some([.., b'\r']) => {}
                _ => return Err(Refusal::BareLf),
            }
            self.scanned = at + 1;
            self.trailer_lines += 1;
            if self.trailer_lines > limits.trailer_count_max {
                return Err(Refusal::Trailers);
            }
        }
        self.scanned = input.len();
        if input.len() > limits.trailer_bytes_max {
            return Err(Refusal::Trailers);
        }
        Ok(None)
    }
}

/// Length of the chunk extensions at the front of `rest`, which end with CR LF. What they say is not
/// looked at, but they must be well-formed: that is where parsers disagree (CVE-2025-55315).
fn extension_len(rest: &[u8], extension_max: usize) -> Result<Option<usize>, Refusal> {
    let mut place = Place::Complete;
    for (index, &byte) in rest.iter().enumerate() {
        if byte == b'\r' {
            return match (place, rest.get(index + 1)) {
                (Place::Complete | Place::Name | Place::Token, Some(b'\n')) => Ok(Some(index)),
                (Place::Complete | Place::Name | Place::Token, None) => Ok(None),
                _ => Err(Refusal::Chunk),
            };
        }
        if index >= extension_max {
            return Err(Refusal::Chunk);
        }
        place = place.after(byte).ok_or(Refusal::Chunk)?;
    }
    Ok(None)
}

/// Where in `*( BWS ";" BWS name [ BWS "=" BWS ( token / quoted-string ) ] )` (RFC 9112 §7.1.1).
#[derive(Debug, Clone, Copy)]
enum Place {
    /// At the beginning, or behind a quoted string.
    Complete,
    /// White space behind a value, or at the beginning: only a semicolon may follow.
    Blank,
    BeforeName,
    Name,
    AfterName,
    BeforeValue,
    Token,
    Quoted,
    Escaped,
}

impl Place {
    fn after(self, byte: u8) -> Option<Self> {
        Some(match (self, byte) {
            (Self::Quoted, b'"') => Self::Complete,
            (Self::Quoted, b'\\') => Self::Escaped,
            (Self::Quoted | Self::Escaped, b'\t' | b' '..=b'~' | 0x80..) => Self::Quoted,
            (Self::Quoted | Self::Escaped, _) => return None,
            (Self::BeforeName | Self::BeforeValue, b' ' | b'\t') => self,
            (Self::Name | Self::AfterName, b' ' | b'\t') => Self::AfterName,
            (_, b' ' | b'\t') => Self::Blank,
            (Self::Name | Self::AfterName, b'=') => Self::BeforeValue,
            (Self::BeforeName | Self::BeforeValue, b';') => return None,
            (_, b';') => Self::BeforeName,
            (Self::BeforeValue, b'"') => Self::Quoted,
            (Self::BeforeName | Self::Name, _) if is_token_byte(byte) => Self::Name,
            (Self::BeforeValue | Self::Token, _) if is_token_byte(byte) => Self::Token,
            _ => return None,
        })
    }
}

fn parse_trailers(section: &[u8], limits: &Limits) -> Result<HeaderMap, Refusal> {
    let mut fields = [httparse::EMPTY_HEADER; TRAILERS_MAX];
    let count_max = limits.trailer_count_max.min(TRAILERS_MAX);
    let fields = fields.get_mut(..count_max).unwrap_or_default();
    let Ok(httparse::Status::Complete((_, parsed))) = httparse::parse_headers(section, fields)
    else {
        return Err(Refusal::Trailers);
    };
    let mut map = HeaderMap::with_capacity(parsed.len());
    for field in parsed {
        let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| Refusal::Trailers)?;
        let value = HeaderValue::from_bytes(field.value).map_err(|_| Refusal::Trailers)?;
        if is_forbidden_trailer(&name) {
            return Err(Refusal::Trailers);
        }
        map.try_append(name, value).map_err(|_| Refusal::Trailers)?;
    }
    Ok(map)
}

/// Fields that frame, route or authorise a message come too late in a trailer (RFC 9110 §6.5.1).
pub(crate) fn is_forbidden_trailer(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "age"
            | "authorization"
            | "cache-control"
            | "connection"
            | "content-encoding"
            | "content-length"
            | "content-range"
            | "content-type"
            | "cookie"
            | "date"
            | "expect"
            | "expires"
            | "forwarded"
            | "host"
            | "keep-alive"
            | "location"
            | "max-forwards"
            | "pragma"
            | "proxy-authenticate"
            | "proxy-authorization"
            | "proxy-connection"
            | "range"
            | "set-cookie"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
            | "vary"
            | "warning"
            | "www-authenticate"
            | "x-forwarded-for"
            | "x-forwarded-host"
            | "x-forwarded-proto"
            | "x-real-ip"
    ) || name.as_str().starts_with("if-")
}

/// Appends the line before a chunk: the end of the chunk before it, if there was one, and the size.
pub(crate) fn put_size_line(out: &mut Vec<u8>, is_first: bool, size: usize) {
    if !is_first {
        out.extend_from_slice(b"\r\n");
    }
    let digits = (usize::BITS - size.leading_zeros()).div_ceil(4).max(1);
    for index in (0..digits).rev() {
        let digit = (size >> (4 * index)) & 0xf;
        out.push(b"0123456789abcdef".get(digit).copied().unwrap_or(b'0'));
    }
    out.extend_from_slice(b"\r\n");
}

/// Appends the end of a message: the last chunk and the trailer section.
pub(crate) fn put_end(out: &mut Vec<u8>, is_first: bool, trailers: Option<&HeaderMap>) {
    put_size_line(out, is_first, 0);
    for (name, value) in trailers.into_iter().flatten() {
        if !is_forbidden_trailer(name) {
            super::encode::put_field(out, name, value);
        }
    }
    out.extend_from_slice(b"\r\n");
}

fn hex_digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

/// As many as fit into 64 bits.
const SIZE_DIGITS_MAX: usize = 16;
/// Upper bound of `trailer_count_max`: room for the parser's table on the stack.
const TRAILERS_MAX: usize = 128;
