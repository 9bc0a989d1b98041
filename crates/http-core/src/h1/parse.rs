//! From bytes to a request head, line by line.

use std::sync::Arc;

use bytes::{Buf, BytesMut};
use http::{Method, Version};

use super::{
    classes::{is_value_byte, target_len, token_len, value_len},
    fields::{Facts, FieldCheck, KnownHost},
    refusal::Refusal,
    target::Target,
};
use crate::{
    ConnectionInfo, Limits, Request,
    head::{Slot, Slots, Span},
};

/// A request without its body yet, and what its fields mean for the connection.
#[derive(Debug)]
pub(crate) struct Parsed {
    /// Not the bare head: that is large, and would be moved several times on its way into this.
    pub(crate) request: Request,
    pub(crate) facts: Facts,
}

/// Reads the head at the beginning of the input.
///
/// Each line is read once, when it is there; what is there of the last one is read too, which tells
/// garbage early. After that it is only searched for its end, each byte once: however a head
/// trickles in, the work stays linear.
#[derive(Debug, Default)]
pub(crate) struct HeadParser {
    /// Where the line begins that is read next.
    line_start: usize,
    /// Up to here, if that is beyond its beginning, the line was searched for its end in vain.
    searched: usize,
    /// Whether the one empty line was skipped that may stand before a request (RFC 9112 §2.2).
    skipped_line: bool,
    line: Option<RequestLine>,
    slots: Slots,
    check: FieldCheck,
    host: KnownHost,
}

#[derive(Debug)]
struct RequestLine {
    method: Method,
    span: Span,
    target: Target,
    is_http11: bool,
}

/// What reading a line came to, and where the next one begins.
enum Line {
    /// The line that ends the head.
    Empty(usize),
    Partial,
    Whole(usize),
}

impl HeadParser {
    /// Takes a complete head off the front of `input`; `None` where more bytes are needed.
    pub(crate) fn parse(
        &mut self,
        input: &mut BytesMut,
        limits: &Limits,
        info: &Arc<ConnectionInfo>,
    ) -> Result<Option<Parsed>, Refusal> {
        if self.searched == 0 && !self.skip_line(input)? {
            return Ok(None);
        }
        match self.read_lines(input, limits)? {
            Some(len) => self.finish(input, len, info).map(Some),
            None => Ok(None),
        }
    }

    /// Whether nothing of a request has come yet.
    pub(crate) fn is_fresh(&self) -> bool {
        self.searched == 0 && !self.skipped_line
    }

    /// Skips one empty line; answers whether bytes of a head follow.
    #[inline]
    fn skip_line(&mut self, input: &mut BytesMut) -> Result<bool, Refusal> {
        match input.first() {
            Some(b'\r' | b'\n') => self.skip_empty_line(input),
            Some(_) => Ok(true),
            None => Ok(false),
        }
    }

    #[cold]
    fn skip_empty_line(&mut self, input: &mut BytesMut) -> Result<bool, Refusal> {
        match &input[..] {
            [] => Ok(false),
            [b'\n', ..] => Err(Refusal::BareLf),
            [b'\r', ..] if self.skipped_line => Err(Refusal::Malformed),
            [b'\r'] => Ok(false),
            [b'\r', b'\n', ..] => {
                input.advance(2);
                self.skipped_line = true;
                self.skip_line(input)
            }
            [b'\r', ..] => Err(Refusal::Malformed),
            _ => Ok(true),
        }
    }

    /// Reads every line that is there; answers the length of the head if that is all of it.
    fn read_lines(&mut self, text: &[u8], limits: &Limits) -> Result<Option<usize>, Refusal> {
        // Positions in a head are kept in 16 bits.
        let bytes_max = limits.head_bytes_max.min(usize::from(u16::MAX));
        loop {
            let is_searched = self.searched > self.line_start;
            let unread = text.get(self.searched..).unwrap_or_default();
            let line = if is_searched && memchr::memchr(b'\n', unread).is_none() {
                Line::Partial
            } else if self.line.is_none() {
                self.request_line(text, limits)?
            } else {
                self.field_line(text, limits)?
            };
            let (Line::Empty(end) | Line::Whole(end)) = line else {
                self.searched = text.len();
                if self.line.is_none() {
                    check_request_line(text, limits)?;
                }
                if text.len() > bytes_max {
                    return Err(Refusal::HeadTooLarge);
                }
                return Ok(None);
            };
            if end > bytes_max {
                return Err(Refusal::HeadTooLarge);
            }
            if let Line::Empty(_) = line {
                return Ok(Some(end));
            }
            self.line_start = end;
            self.searched = end;
        }
    }

    /// RFC 9112 §3.
    fn request_line(&mut self, text: &[u8], limits: &Limits) -> Result<Line, Refusal> {
        let Some((method, start)) = read_method(text)? else { return Ok(Line::Partial) };
        let rest = text.get(start..).unwrap_or_default();
        let len = target_len(rest);
        let Some((target, behind)) = rest.split_at_checked(len) else { return Ok(Line::Partial) };
        if len > limits.target_bytes_max {
            return Err(Refusal::TargetTooLong);
        }
        let is_http11 = match behind {
            [] => return Ok(Line::Partial),
            [b' ', version @ ..] => read_version(version)?,
            _ => return Err(Refusal::Target),
        };
        let Some(is_http11) = is_http11 else { return Ok(Line::Partial) };
        let span = Span::new(start, start + len);
        let target = Target::parse(&method, target, span)?;
        self.line = Some(RequestLine { method, span, target, is_http11 });
        Ok(Line::Whole(start + len + 1 + VERSION_BYTES))
    }

    /// RFC 9112 §5.
    fn field_line(&mut self, text: &[u8], limits: &Limits) -> Result<Line, Refusal> {
        let start = self.line_start;
        let line = text.get(start..).unwrap_or_default();
        let name_len = token_len(line);
        let Some((name, behind)) = line.split_at_checked(name_len) else {
            return Ok(Line::Partial);
        };
        let behind = match behind {
            [b':', behind @ ..] if name_len > 0 => behind,
            [] => return Ok(Line::Partial),
            [b'\r'] if name_len == 0 => return Ok(Line::Partial),
            [b'\r', b'\n', ..] if name_len == 0 => return Ok(Line::Empty(start + 2)),
            [b'\n', ..] => return Err(Refusal::BareLf),
            _ => return Err(Refusal::Malformed),
        };
        let value_end = value_len(behind);
        let Some((mut value, behind)) = behind.split_at_checked(value_end) else {
            return Ok(Line::Partial);
        };
        match behind {
            [b'\r', b'\n', ..] => {}
            [] | [b'\r'] => return Ok(Line::Partial),
            [b'\n', ..] => return Err(Refusal::BareLf),
            _ => return Err(Refusal::Malformed),
        }
        let mut value_start = start + name_len + 1;
        let end = value_start + value_end + 2;
        while let [b' ' | b'\t', rest @ ..] = value {
            value = rest;
            value_start += 1;
        }
        while let [rest @ .., b' ' | b'\t'] = value {
            value = rest;
        }
        if self.slots.len() >= limits.header_count_max.min(FIELDS_MAX) {
            return Err(Refusal::TooManyFields);
        }
        let slot = Slot {
            name: Span::new(start, start + name_len),
            value: Span::new(value_start, value_start + value.len()),
        };
        self.check.field(name, value, slot.value)?;
        self.slots.push(slot);
        Ok(Line::Whole(end))
    }

    /// Takes the head, all of whose lines were read, off `input`.
    fn finish(
        &mut self,
        input: &mut BytesMut,
        len: usize,
        info: &Arc<ConnectionInfo>,
    ) -> Result<Parsed, Refusal> {
        let line = self.line.as_mut().ok_or(Refusal::Malformed)?;
        let text = input.get(..len).unwrap_or_default();
        let facts =
            self.check.finish(text, &line.method, line.is_http11, &line.target, &mut self.host)?;
        let mut request = Request::vacant(info);
        request.take_text(input, len);
        let head = request.head_mut();
        head.authority = line.target.authority.or(self.check.host());
        // A vacant head has this method already, and most requests too.
        if line.method != Method::GET {
            head.method = std::mem::take(&mut line.method);
        }
        head.version = if line.is_http11 { Version::HTTP_11 } else { Version::HTTP_10 };
        head.target = line.span;
        head.path = line.target.path;
        head.query = line.target.query;
        // The list that the last request left serves for the next head.
        std::mem::swap(&mut head.slots, &mut self.slots);
        self.line = None;
        self.check = FieldCheck::default();
        (self.line_start, self.searched, self.skipped_line) = (0, 0, false);
        Ok(Parsed { request, facts })
    }
}

/// Method and where the target begins; `None` where the method goes on.
fn read_method(text: &[u8]) -> Result<Option<(Method, usize)>, Refusal> {
    if let [b'G', b'E', b'T', b' ', ..] = text {
        return Ok(Some((Method::GET, "GET ".len())));
    }
    let len = token_len(text);
    if len > METHOD_BYTES_MAX {
        return Err(Refusal::Method);
    }
    match text.split_at_checked(len) {
        Some((method, [b' ', ..])) => {
            let method = Method::from_bytes(method).map_err(|_| Refusal::Malformed)?;
            Ok(Some((method, len + 1)))
        }
        Some((_, [])) => Ok(None),
        _ => Err(Refusal::Malformed),
    }
}

/// Whether what ends the request line is HTTP/1.1, not HTTP/1.0; `None` where it goes on.
fn read_version(text: &[u8]) -> Result<Option<bool>, Refusal> {
    match text.first_chunk::<VERSION_BYTES>() {
        Some(b"HTTP/1.1\r\n") => Ok(Some(true)),
        Some(b"HTTP/1.0\r\n") => Ok(Some(false)),
        _ => refuse_version(text),
    }
}

/// Refuses another version, or what is none (RFC 9112 §2.3); `None` where it may become one.
#[cold]
fn refuse_version(text: &[u8]) -> Result<Option<bool>, Refusal> {
    let is_begun = b"HTTP/".iter().zip(text).all(|(known, byte)| known == byte);
    match memchr::memchr(b'\n', text).map(|end| text.split_at(end).0) {
        // A CR is the beginning of the line's end, or bare (RFC 9112 §2.2).
        None if is_begun
            && text.strip_suffix(b"\r").unwrap_or(text).iter().all(|byte| is_value_byte(*byte)) =>
        {
            Ok(None)
        }
        Some([b'H', b'T', b'T', b'P', b'/', major, b'.', minor, b'\r'])
            if major.is_ascii_digit() && minor.is_ascii_digit() =>
        {
            Err(Refusal::Version)
        }
        None | Some([.., b'\r']) => Err(Refusal::Malformed),
        Some(_) => Err(Refusal::BareLf),
    }
}

/// Refuses a request line that is too long already, although it goes on.
fn check_request_line(line: &[u8], limits: &Limits) -> Result<(), Refusal> {
    if line.len() <= limits.target_bytes_max + METHOD_BYTES_MAX + " HTTP/1.1 ".len() {
        return Ok(());
    }
    let has_method = line.iter().take(METHOD_BYTES_MAX + 1).any(|&byte| byte == b' ');
    Err(if has_method { Refusal::TargetTooLong } else { Refusal::Method })
}

/// Upper bound of `header_count_max`.
const FIELDS_MAX: usize = 256;
/// The longest registered method has 17 letters.
const METHOD_BYTES_MAX: usize = 32;
const VERSION_BYTES: usize = "HTTP/1.1\r\n".len();
