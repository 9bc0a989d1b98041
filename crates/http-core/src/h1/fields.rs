//! What the fields of a head mean for the connection: framing, persistence, expectations.

use http::Method;

use super::{
    refusal::Refusal,
    target::{Target, is_authority, is_same_authority},
};
use crate::head::Span;

/// How the content of a request is delimited (RFC 9112 §6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    Chunked,
    Length(u64),
    None,
}

/// What a connection must know of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Facts {
    pub(crate) framing: Framing,
    pub(crate) is_http11: bool,
    pub(crate) is_head: bool,
    /// Whether the peer wants to go on after this exchange (RFC 9112 §9.3).
    pub(crate) persists: bool,
    /// `Expect: 100-continue` of an HTTP/1.1 peer.
    pub(crate) expects_continue: bool,
    /// `TE: trailers`.
    pub(crate) accepts_trailers: bool,
    /// `Upgrade`, and `upgrade` among the connection options.
    pub(crate) offers_upgrade: bool,
}

impl Facts {
    /// What is known where there is no request, or none that was understood.
    pub(crate) const NONE: Self = Self {
        framing: Framing::None,
        is_http11: true,
        is_head: false,
        persists: false,
        expects_continue: false,
        accepts_trailers: false,
        offers_upgrade: false,
    };
}

/// Looks at each field once, then says what they mean together.
#[derive(Debug, Default)]
pub(crate) struct FieldCheck {
    /// Where the last Host field's value lies.
    host: Option<Span>,
    many_hosts: bool,
    length: Option<u64>,
    codings: Codings,
    close: bool,
    keep_alive: bool,
    upgrade_option: bool,
    upgrade_field: bool,
    expects_continue: bool,
    unknown_expectation: bool,
    accepts_trailers: bool,
}

/// The last Host that was found in order: requests that come together name the same one, and need no second
/// look at it.
#[derive(Debug, Default)]
pub(crate) struct KnownHost {
    text: [u8; 32],
    len: usize,
}

impl KnownHost {
    fn is_valid(&mut self, host: &[u8]) -> bool {
        if self.len > 0 && self.text.get(..self.len) == Some(host) {
            return true;
        }
        let is_valid = is_authority(host);
        if is_valid && let Some(text) = self.text.get_mut(..host.len()) {
            text.copy_from_slice(host);
            self.len = host.len();
        }
        is_valid
    }
}

/// What stood in all `Transfer-Encoding` fields together.
#[derive(Debug, Default)]
struct Codings {
    any: bool,
    chunked: bool,
    malformed: bool,
    unknown: bool,
}

impl FieldCheck {
    /// Looks at one field line, whose value lies at `span` of the head.
    pub(crate) fn field(&mut self, name: &[u8], value: &[u8], span: Span) -> Result<(), Refusal> {
        // Most names are told apart from the few that matter by their length alone.
        match name.len() {
            2 if name.eq_ignore_ascii_case(b"te") => {
                // A weight may follow (RFC 9110 §10.1.4); nobody sends one with `trailers`.
                self.accepts_trailers |= list(value).any(|t| t.eq_ignore_ascii_case(b"trailers"));
            }
            4 if name.eq_ignore_ascii_case(b"host") => {
                self.many_hosts |= self.host.is_some();
                self.host = Some(span);
            }
            6 if name.eq_ignore_ascii_case(b"expect") => {
                let known = value.eq_ignore_ascii_case(b"100-continue");
                self.expects_continue |= known;
                self.unknown_expectation |= !known;
            }
            7 if name.eq_ignore_ascii_case(b"upgrade") => self.upgrade_field = true,
            10 if name.eq_ignore_ascii_case(b"connection") => self.connection(value)?,
            14 if name.eq_ignore_ascii_case(b"content-length") => {
                // Strict: RFC 9110 §8.6 would allow equal repeats, which nobody needs.
                if self.length.is_some() {
                    return Err(Refusal::Length);
                }
                self.length = Some(parse_length(value).ok_or(Refusal::Length)?);
            }
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => self.codings.field(value),
            _ => {}
        }
        Ok(())
    }

    /// Where the last Host field's value lies.
    pub(crate) fn host(&self) -> Option<Span> {
        self.host
    }

    /// What all the fields of the head mean.
    pub(crate) fn finish(
        &self,
        head: &[u8],
        method: &Method,
        is_http11: bool,
        target: &Target,
        known: &mut KnownHost,
    ) -> Result<Facts, Refusal> {
        let framing = self.framing(is_http11)?;
        let host = self.host.map(|host| host.of(head));
        // RFC 9112 §3.2: exactly one Host; HTTP/1.0 knew none.
        let host_is_missing = host.is_none() && is_http11;
        if self.many_hosts || host_is_missing || host.is_some_and(|host| !known.is_valid(host)) {
            return Err(Refusal::Host);
        }
        if let (Some(authority), Some(host)) = (target.authority, host)
            && !is_same_authority(authority.of(head), host, target.default_port)
        {
            return Err(Refusal::Host);
        }
        // RFC 9110 §10.1.1: an HTTP/1.0 peer cannot expect anything.
        if self.unknown_expectation && is_http11 {
            return Err(Refusal::Expectation);
        }
        Ok(Facts {
            framing,
            is_http11,
            is_head: method == Method::HEAD,
            persists: !self.close && (is_http11 || self.keep_alive),
            expects_continue: self.expects_continue && is_http11,
            accepts_trailers: self.accepts_trailers,
            offers_upgrade: self.upgrade_field && self.upgrade_option && is_http11,
        })
    }

    /// RFC 9112 §6.3, without the cases that are merely tolerated there.
    fn framing(&self, is_http11: bool) -> Result<Framing, Refusal> {
        let codings = &self.codings;
        if !codings.any {
            return Ok(match self.length {
                None | Some(0) => Framing::None,
                Some(length) => Framing::Length(length),
            });
        }
        if self.length.is_some() {
            return Err(Refusal::ConflictingLength);
        }
        if !is_http11 || codings.malformed || !(codings.chunked || codings.unknown) {
            return Err(Refusal::TransferCoding);
        }
        if codings.unknown {
            return Err(Refusal::TransferCodingUnknown);
        }
        Ok(Framing::Chunked)
    }

    fn connection(&mut self, value: &[u8]) -> Result<(), Refusal> {
        for option in list(value) {
            match option.len() {
                5 if option.eq_ignore_ascii_case(b"close") => self.close = true,
                7 if option.eq_ignore_ascii_case(b"upgrade") => self.upgrade_option = true,
                10 if option.eq_ignore_ascii_case(b"keep-alive") => self.keep_alive = true,
                // A proxy would have to drop these fields, and with them the framing.
                4 if option.eq_ignore_ascii_case(b"host") => return Err(Refusal::ConnectionOption),
                14 if option.eq_ignore_ascii_case(b"content-length") => {
                    return Err(Refusal::ConnectionOption);
                }
                17 if option.eq_ignore_ascii_case(b"transfer-encoding") => {
                    return Err(Refusal::ConnectionOption);
                }
                _ => {}
            }
        }
        Ok(())
    }
}

impl Codings {
    fn field(&mut self, value: &[u8]) {
        self.any = true;
        for coding in list(value) {
            let name = coding.split(|&byte| byte == b';').next().unwrap_or_default();
            let is_chunked = name.trim_ascii_end().eq_ignore_ascii_case(b"chunked");
            // `chunked` stands once, last, and without parameters (RFC 9112 §7.1).
            self.malformed |= self.chunked || coding.is_empty();
            self.malformed |= is_chunked && name.len() != coding.len();
            self.chunked |= is_chunked;
            self.unknown |= !is_chunked && !coding.is_empty();
        }
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
