//! From bytes to a response head: `httparse`, and the checks that it leaves out.

use std::{mem::MaybeUninit, time::Duration};

use bytes::{Bytes, BytesMut};
use hearth_http_core::Headers;
use http::{HeaderName, HeaderValue, Method, StatusCode, Version};

use crate::{ClientLimits, response::ResponseHead};

/// A complete head and what its fields mean for the connection.
#[derive(Debug)]
pub(crate) struct Parsed {
    pub(crate) head: ResponseHead,
    pub(crate) framing: Incoming,
    /// Whether the connection may carry another exchange.
    pub(crate) persists: bool,
    /// How long the peer keeps an idle connection, where it says so.
    pub(crate) keep_alive: Option<Duration>,
    /// `upgrade` among the connection options.
    pub(crate) switches: bool,
}

/// How a response's content is delimited (RFC 9112 §6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Incoming {
    Chunked,
    Length(u64),
    UntilClose,
}

/// What is wrong with a head, in words.
pub(crate) type Malformed = &'static str;

/// Finds the end of a head, looking at each byte once, then parses it once.
#[derive(Debug, Default)]
pub(crate) struct HeadParser {
    /// Input up to here was searched.
    scanned: usize,
    /// Where the line begins in which the search stands.
    line_start: usize,
    lines: usize,
}

impl HeadParser {
    /// Takes a complete head off the front of `input`; `None` where more bytes are needed.
    pub(crate) fn parse(
        &mut self,
        input: &mut BytesMut,
        method: &Method,
        limits: &ClientLimits,
    ) -> Result<Option<Parsed>, Malformed> {
        if !self.find_end(input, limits)? {
            return Ok(None);
        }
        let head_len = self.scanned;
        *self = Self::default();
        let text = input.split_to(head_len).freeze();
        parse_head(&text, method, limits).map(Some)
    }

    fn find_end(&mut self, input: &[u8], limits: &ClientLimits) -> Result<bool, Malformed> {
        // Something that is not HTTP may send just a few bytes and wait: tell it at once.
        let start_len = input.len().min(START.len());
        if input.get(..start_len) != START.get(..start_len) {
            return Err("the response is not HTTP/1");
        }
        while let Some(offset) =
            memchr::memchr(b'\n', input.get(self.scanned..).unwrap_or_default())
        {
            let at = self.scanned + offset;
            let line = input.get(self.line_start..at).unwrap_or_default();
            // RFC 9112 §2.2 lets a recipient take a lone LF; where parsers disagree, we do not guess.
            let Some(line) = line.strip_suffix(b"\r") else {
                return Err("a line of the head does not end with CR LF");
            };
            self.scanned = at + 1;
            self.line_start = at + 1;
            if self.scanned > limits.head_bytes_max {
                return Err(HEAD_TOO_LARGE);
            }
            if line.is_empty() {
                return Ok(true);
            }
            self.lines += 1;
            if self.lines > limits.header_count_max.min(FIELDS_MAX) + 1 {
                return Err(TOO_MANY_FIELDS);
            }
        }
        self.scanned = input.len();
        if input.len() > limits.head_bytes_max {
            return Err(HEAD_TOO_LARGE);
        }
        Ok(false)
    }
}

fn parse_head(text: &Bytes, method: &Method, limits: &ClientLimits) -> Result<Parsed, Malformed> {
    let mut table = [const { MaybeUninit::uninit() }; FIELDS_MAX];
    let table = table.get_mut(..limits.header_count_max.min(FIELDS_MAX)).unwrap_or_default();
    let mut parsed = httparse::Response::new(&mut []);
    let config = httparse::ParserConfig::default();
    match config.parse_response_with_uninit_headers(&mut parsed, text, table) {
        Ok(httparse::Status::Complete(len)) if len == text.len() => {}
        _ => return Err("malformed head"),
    }
    let version = if parsed.version == Some(1) { Version::HTTP_11 } else { Version::HTTP_10 };
    // RFC 9110 §15: the first digit is one of five.
    let code = parsed.code.filter(|code| (100..=599).contains(code));
    let status = code.and_then(|code| StatusCode::from_u16(code).ok()).ok_or("no such status")?;
    let mut headers = Headers::new();
    let mut fields = FieldCheck::default();
    for field in parsed.headers.iter() {
        let name = HeaderName::from_bytes(field.name.as_bytes());
        let name = name.map_err(|_| "malformed field name")?;
        // Shared with the head's memory, not copied.
        let value = HeaderValue::from_maybe_shared(text.slice_ref(field.value));
        let value = value.map_err(|_| "malformed field value")?;
        fields.field(&name, field.value)?;
        headers.append(name, value);
    }
    let head = ResponseHead { status, version, headers };
    fields.finish(head, method)
}

/// Looks at each field once, then says what they mean together.
#[derive(Debug, Default)]
struct FieldCheck {
    length: Option<u64>,
    coding_count: usize,
    is_chunked: bool,
    close: bool,
    keep_alive: bool,
    keep_alive_timeout: Option<Duration>,
    upgrade: bool,
}

impl FieldCheck {
    fn field(&mut self, name: &HeaderName, value: &[u8]) -> Result<(), Malformed> {
        match name.as_str() {
            "connection" => {
                for option in list(value) {
                    self.close |= option.eq_ignore_ascii_case(b"close");
                    self.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
                    self.upgrade |= option.eq_ignore_ascii_case(b"upgrade");
                }
            }
            "content-length" => {
                // RFC 9110 §8.6 would allow equal repeats, which only confused servers send.
                if self.length.is_some() {
                    return Err("more than one content-length");
                }
                self.length = Some(parse_length(value).ok_or("malformed content-length")?);
            }
            "keep-alive" => {
                let timeout = list(value).find_map(|param| param.strip_prefix(b"timeout="));
                self.keep_alive_timeout = timeout.and_then(parse_length).map(Duration::from_secs);
            }
            "transfer-encoding" => {
                for coding in list(value) {
                    self.coding_count += 1;
                    self.is_chunked = coding.eq_ignore_ascii_case(b"chunked");
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// RFC 9112 §6.3, without the cases that are merely tolerated there.
    fn finish(self, head: ResponseHead, method: &Method) -> Result<Parsed, Malformed> {
        let is_http11 = head.version == Version::HTTP_11;
        let has_coding = self.coding_count > 0;
        if has_coding && self.length.is_some() {
            return Err("both content-length and transfer-encoding");
        }
        if has_coding && !is_http11 {
            return Err("transfer-encoding in HTTP/1.0");
        }
        if has_coding && !(self.is_chunked && self.coding_count == 1) {
            return Err("a transfer coding other than chunked");
        }
        let status = head.status;
        let is_interim = status.is_informational();
        let is_empty = is_interim || status == StatusCode::NO_CONTENT;
        // RFC 9110 §8.6, RFC 9112 §6.1: there is no content, so that a peer that announces some may
        // send it, and it would be taken for the next response.
        let announces_nonsense = is_empty && (has_coding || self.length.is_some_and(|len| len > 0));
        if is_interim && announces_nonsense {
            return Err("an interim response with content");
        }
        let framing = match self.length {
            _ if is_empty || status == StatusCode::NOT_MODIFIED || method == Method::HEAD => {
                Incoming::Length(0)
            }
            _ if has_coding => Incoming::Chunked,
            Some(length) => Incoming::Length(length),
            None => Incoming::UntilClose,
        };
        let persists = !self.close
            && (is_http11 || self.keep_alive)
            && framing != Incoming::UntilClose
            && !announces_nonsense;
        let keep_alive = self.keep_alive_timeout;
        Ok(Parsed { head, framing, persists, keep_alive, switches: self.upgrade })
    }
}

/// The elements of a comma-separated list, without the white space around them.
pub(crate) fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii)
}

/// `1*DIGIT` (RFC 9110 §8.6) that fits; `u64::from_str` would accept a sign.
pub(crate) fn parse_length(value: &[u8]) -> Option<u64> {
    if value.is_empty() || value.len() > 19 || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(value.iter().fold(0, |length, digit| length * 10 + u64::from(digit - b'0')))
}

/// What every response begins with that we understand.
const START: &[u8] = b"HTTP/1.";
/// Upper bound of `header_count_max`: room for the parser's table on the stack.
const FIELDS_MAX: usize = 256;
pub(crate) const HEAD_TOO_LARGE: Malformed = "the head is too large";
pub(crate) const TOO_MANY_FIELDS: Malformed = "the head has too many fields";
