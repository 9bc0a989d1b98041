//! From bytes to a request head: `httparse`, and the checks that it leaves out.

use std::{mem::MaybeUninit, sync::Arc};

use bytes::{Buf, BytesMut};
use http::{Method, Version};

use super::{
    fields::{Facts, FieldCheck},
    refusal::Refusal,
    target::Target,
};
use crate::{
    Body, ConnectionInfo, Head, Limits, Request,
    head::{Slot, Slots, Span},
};

/// A request without its body yet, and what its fields mean for the connection.
#[derive(Debug)]
pub(crate) struct Parsed {
    /// Not the bare head: that is large, and would be moved several times on its way into this.
    pub(crate) request: Request,
    pub(crate) facts: Facts,
}

/// Finds and parses the head at the beginning of the input.
///
/// A head that does not come whole is parsed when its first bytes and when its request line are
/// there, which tells garbage early; otherwise it is only searched for its end, each byte once, and
/// parsed when that is found. However it trickles in, the work stays linear.
#[derive(Debug, Default)]
pub(crate) struct HeadParser {
    /// Input up to here was searched for the end of the head.
    scanned: usize,
    /// Where the line begins in which the search stands.
    line_start: usize,
    /// Complete lines before that one.
    lines: usize,
    /// Whether the one empty line was skipped that may stand before a request (RFC 9112 §2.2).
    skipped_line: bool,
}

impl HeadParser {
    /// Takes a complete head off the front of `input`; `None` where more bytes are needed.
    pub(crate) fn parse(
        &mut self,
        input: &mut BytesMut,
        limits: &Limits,
        info: &Arc<ConnectionInfo>,
    ) -> Result<Option<Parsed>, Refusal> {
        if self.scanned == 0 {
            if !self.skip_line(input)? {
                return Ok(None);
            }
            if let Some(parsed) = parse_head(input, limits, info)? {
                *self = Self::default();
                return Ok(Some(parsed));
            }
        }
        if !self.find_end(input, limits)? {
            return Ok(None);
        }
        *self = Self::default();
        // The end is there, so that `None` cannot come; if it did, the head would be malformed.
        parse_head(input, limits, info)?.ok_or(Refusal::Malformed).map(Some)
    }

    /// Whether nothing of a request has come yet.
    pub(crate) fn is_fresh(&self) -> bool {
        self.scanned == 0 && !self.skipped_line
    }

    /// Skips one empty line; answers whether bytes of a head follow.
    fn skip_line(&mut self, input: &mut BytesMut) -> Result<bool, Refusal> {
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

    /// Searches what was not searched before for the empty line; refuses as early as can be.
    fn find_end(&mut self, input: &[u8], limits: &Limits) -> Result<bool, Refusal> {
        let mut found = false;
        while let Some(offset) = memchr::memchr(b'\n', input.get(self.scanned..).unwrap_or(b"")) {
            let at = self.scanned + offset;
            let line = input.get(self.line_start..at).unwrap_or_default();
            let Some(line) = line.strip_suffix(b"\r") else { return Err(Refusal::BareLf) };
            if memchr::memchr(b'\r', line).is_some() {
                return Err(Refusal::Malformed);
            }
            if self.lines == 0 {
                check_request_line(line, limits)?;
                httparse::Request::new(&mut [])
                    .parse(input.get(..=at).unwrap_or_default())
                    .map_err(|error| refuse(error, input))?;
            }
            self.lines += 1;
            self.scanned = at + 1;
            self.line_start = at + 1;
            if line.is_empty() {
                found = true;
                break;
            }
            // The request line is no field.
            if self.lines > limits.header_count_max + 1 {
                return Err(Refusal::TooManyFields);
            }
        }
        if found {
            return Ok(true);
        }
        self.scanned = input.len();
        if self.lines == 0 {
            check_request_line(input, limits)?;
        }
        if input.len() > head_bytes_max(limits) {
            return Err(Refusal::HeadTooLarge);
        }
        Ok(false)
    }
}

fn check_request_line(line: &[u8], limits: &Limits) -> Result<(), Refusal> {
    if line.len() <= limits.target_bytes_max + METHOD_BYTES_MAX + " HTTP/1.1 ".len() {
        return Ok(());
    }
    let has_method = line.iter().take(METHOD_BYTES_MAX + 1).any(|&byte| byte == b' ');
    Err(if has_method { Refusal::TargetTooLong } else { Refusal::Method })
}

/// Parses the head if it is complete, and takes it off `input`.
fn parse_head(
    input: &mut BytesMut,
    limits: &Limits,
    info: &Arc<ConnectionInfo>,
) -> Result<Option<Parsed>, Refusal> {
    let mut fields = [const { MaybeUninit::uninit() }; FIELDS_MAX];
    let count_max = limits.header_count_max.min(FIELDS_MAX);
    let mut request = httparse::Request::new(&mut []);
    let status = request
        .parse_with_uninit_headers(input, fields.get_mut(..count_max).unwrap_or_default())
        .map_err(|error| refuse(error, input))?;
    let httparse::Status::Complete(len) = status else { return Ok(None) };
    let text = input.get(..len).unwrap_or_default();
    if len > head_bytes_max(limits) {
        return Err(Refusal::HeadTooLarge);
    }
    let method = request.method.unwrap_or_default();
    if method.len() > METHOD_BYTES_MAX {
        return Err(Refusal::Method);
    }
    let method = Method::from_bytes(method.as_bytes()).map_err(|_| Refusal::Malformed)?;
    let raw_target = request.path.unwrap_or_default().as_bytes();
    if raw_target.len() > limits.target_bytes_max {
        return Err(Refusal::TargetTooLong);
    }
    let target_span = Span::of(text, raw_target);
    let target = Target::parse(&method, raw_target, target_span)?;
    let is_http11 = request.version == Some(1);

    let mut slots = Slots::default();
    let mut check = FieldCheck::default();
    for field in request.headers.iter() {
        let name = Span::of(text, field.name.as_bytes());
        // `httparse` takes a lone LF for a line end; the byte before each line tells.
        ends_with_crlf(text, usize::from(name.start))?;
        check.field(field.name.as_bytes(), field.value)?;
        let value = if field.value.is_empty() {
            Span { start: name.end, end: name.end }
        } else {
            Span::of(text, field.value)
        };
        slots.push(Slot { name, value });
    }
    ends_with_crlf(text, len - 2)?;
    ends_with_crlf(text, len)?;

    let host = check.host().map(|host| Span::of(text, host));
    let authority_of_target = target
        .authority
        .map(|span| text.get(usize::from(span.start)..usize::from(span.end)).unwrap_or_default());
    let facts = check.finish(&method, is_http11, authority_of_target, target.default_port)?;
    let head = Head {
        memory: input.split_to(len).freeze(),
        method,
        version: if is_http11 { Version::HTTP_11 } else { Version::HTTP_10 },
        target: target_span,
        path: target.path,
        query: target.query,
        authority: target.authority.or(host),
        protocol: None,
        slots,
    };
    Ok(Some(Parsed { request: Request::new(head, Body::Empty, info.clone()), facts }))
}

/// Refuses unless CR LF stands right before `at`.
fn ends_with_crlf(text: &[u8], at: usize) -> Result<(), Refusal> {
    match text.get(..at) {
        Some([.., b'\r', b'\n']) => Ok(()),
        _ => Err(Refusal::BareLf),
    }
}

fn refuse(error: httparse::Error, input: &[u8]) -> Refusal {
    match error {
        httparse::Error::TooManyHeaders => Refusal::TooManyFields,
        httparse::Error::Version if names_other_version(input) => Refusal::Version,
        _ => Refusal::Malformed,
    }
}

/// Whether the request line is in order but for a protocol version that we do not speak
/// (RFC 9112 §2.3).
fn names_other_version(input: &[u8]) -> bool {
    let line_len = memchr::memchr(b'\r', input).unwrap_or(input.len());
    let mut parts = input.get(..line_len).unwrap_or_default().split(|&byte| byte == b' ');
    let (method, target, version) = (parts.next(), parts.next(), parts.next());
    let is_version = matches!(version, Some([b'H', b'T', b'T', b'P', b'/', major, b'.', minor])
        if major.is_ascii_digit() && minor.is_ascii_digit());
    let is_filled = |part: Option<&[u8]>| part.is_some_and(|part| !part.is_empty());
    is_version && is_filled(method) && is_filled(target) && parts.next().is_none()
}

/// Positions in a head are kept in 16 bits.
fn head_bytes_max(limits: &Limits) -> usize {
    limits.head_bytes_max.min(usize::from(u16::MAX))
}

/// Upper bound of `header_count_max`: room for the parser's table on the stack.
const FIELDS_MAX: usize = 256;
/// The longest registered method has 17 letters.
const METHOD_BYTES_MAX: usize = 32;
