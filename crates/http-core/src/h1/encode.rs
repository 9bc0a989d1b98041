//! Response heads, straight into the output.

use std::time::Instant;

use http::{HeaderName, HeaderValue, StatusCode};

use super::{
    date::put_date,
    fields::{Facts, list, parse_length},
};
use crate::Response;

/// How the content of a response is delimited (RFC 9112 §6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outgoing {
    Chunked,
    Length(u64),
    /// No content, whatever the body holds.
    None,
    UntilClose,
}

/// What was decided while the head was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) framing: Outgoing,
    /// Whether the connection ends with this response.
    pub(crate) close: bool,
}

/// What a response's head depends on beside the response.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Context<'a> {
    pub(crate) facts: &'a Facts,
    /// Whether the connection shall end with this response.
    pub(crate) close: bool,
    /// The `server` field, unless the handler set one.
    pub(crate) server: Option<&'a HeaderValue>,
    pub(crate) now: Instant,
}

/// What the handler's own fields say about those that are the connection's business.
#[derive(Default)]
struct Seen {
    close: bool,
    date: bool,
    length: Option<u64>,
    server: bool,
}

/// Appends the head of `response`.
pub(crate) fn put_head(out: &mut Vec<u8>, response: &Response, context: &Context<'_>) -> Plan {
    let status = response.status();
    if let Some(prepared) = response.as_prepared() {
        out.extend_from_slice(&prepared.h1);
        let len = prepared.body.len() as u64;
        let is_bodiless = context.facts.is_head || has_no_content(status);
        let framing = if is_bodiless { Outgoing::None } else { Outgoing::Length(len) };
        let plan = Plan { framing, close: context.close };
        put_tail(out, &Seen { server: prepared.has_server, ..Seen::default() }, plan, context);
        return plan;
    }
    put_status_line(out, status);
    let seen = put_fields(out, response);
    let framing = put_framing(out, response, seen.length, context.facts);
    let close = context.close || seen.close || framing == Outgoing::UntilClose;
    let plan = Plan { framing, close };
    put_tail(out, &seen, plan, context);
    plan
}

/// Appends the head of a switch of protocols (RFC 9110 §15.2.2).
pub(crate) fn put_switch(out: &mut Vec<u8>, response: &Response, context: &Context<'_>) {
    put_status_line(out, StatusCode::SWITCHING_PROTOCOLS);
    let seen = put_fields(out, response);
    out.extend_from_slice(b"connection: upgrade\r\n");
    put_server_and_date(out, &seen, context);
    out.extend_from_slice(b"\r\n");
}

/// Appends `103 Early Hints` (RFC 8297).
pub(crate) fn put_early_hints(out: &mut Vec<u8>, links: &[HeaderValue]) {
    put_status_line(out, StatusCode::EARLY_HINTS);
    for link in links {
        put_field(out, &http::header::LINK, link);
    }
    out.extend_from_slice(b"\r\n");
}

/// Appends one field line. The types admit no line end, so that no value can end the head.
#[inline]
pub(crate) fn put_field(out: &mut Vec<u8>, name: &HeaderName, value: &HeaderValue) {
    out.extend_from_slice(name.as_str().as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value.as_bytes());
    out.extend_from_slice(b"\r\n");
}

#[inline]
pub(crate) fn put_status_line(out: &mut Vec<u8>, status: StatusCode) {
    if status == StatusCode::OK {
        return out.extend_from_slice(b"HTTP/1.1 200 OK\r\n");
    }
    let line: &[u8] = match status {
        StatusCode::NO_CONTENT => b"HTTP/1.1 204 No Content\r\n",
        StatusCode::PARTIAL_CONTENT => b"HTTP/1.1 206 Partial Content\r\n",
        StatusCode::NOT_MODIFIED => b"HTTP/1.1 304 Not Modified\r\n",
        StatusCode::NOT_FOUND => b"HTTP/1.1 404 Not Found\r\n",
        _ => {
            out.extend_from_slice(b"HTTP/1.1 ");
            out.extend_from_slice(status.as_str().as_bytes());
            out.push(b' ');
            out.extend_from_slice(status.canonical_reason().unwrap_or_default().as_bytes());
            out.extend_from_slice(b"\r\n");
            return;
        }
    };
    out.extend_from_slice(line);
}

#[inline]
pub(crate) fn put_length(out: &mut Vec<u8>, len: u64) {
    out.extend_from_slice(b"content-length: ");
    match len {
        0..10 => out.push(digit(len)),
        10..100 => out.extend_from_slice(&[digit(len / 10), digit(len % 10)]),
        _ => out.extend_from_slice(itoa::Buffer::new().format(len).as_bytes()),
    }
    out.extend_from_slice(b"\r\n");
}

/// The decimal digit of a number below ten.
fn digit(number: u64) -> u8 {
    b'0' + number as u8
}

/// Whether a response with this status never has content (RFC 9110 §6.4.1).
pub(crate) fn has_no_content(status: StatusCode) -> bool {
    status.is_informational()
        || status == StatusCode::NO_CONTENT
        || status == StatusCode::NOT_MODIFIED
}

/// Whether the connection, and no handler, decides about this field.
pub(crate) fn is_framing_field(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "connection" | "content-length" | "keep-alive" | "proxy-connection" | "transfer-encoding"
    )
}

#[inline]
fn put_fields(out: &mut Vec<u8>, response: &Response) -> Seen {
    let mut seen = Seen::default();
    for (name, value) in response.headers().iter() {
        if is_framing_field(name) {
            match name.as_str() {
                "connection" => {
                    seen.close |= list(value.as_bytes()).any(|o| o.eq_ignore_ascii_case(b"close"));
                }
                "content-length" => seen.length = parse_length(value.as_bytes()),
                _ => {}
            }
            continue;
        }
        seen.date |= *name == http::header::DATE;
        seen.server |= *name == http::header::SERVER;
        put_field(out, name, value);
    }
    seen
}

/// Decides how the content is delimited, and says so. A length that the handler set counts only
/// where the body itself does not tell: for a stream, and for the answer to a HEAD.
fn put_framing(
    out: &mut Vec<u8>,
    response: &Response,
    declared: Option<u64>,
    facts: &Facts,
) -> Outgoing {
    let status = response.status();
    if has_no_content(status) {
        return Outgoing::None;
    }
    let len = match (response.body_len(), declared) {
        (Some(0), Some(declared)) if facts.is_head => Some(declared),
        (None, declared) => declared,
        (len, _) => len,
    };
    let framing = match len {
        Some(len) => {
            put_length(out, len);
            Outgoing::Length(len)
        }
        None if facts.is_http11 => {
            out.extend_from_slice(b"transfer-encoding: chunked\r\n");
            Outgoing::Chunked
        }
        // HTTP/1.0 knows no chunks: the end of the connection ends the content.
        None => Outgoing::UntilClose,
    };
    match framing {
        _ if facts.is_head => Outgoing::None,
        Outgoing::Length(0) => Outgoing::None,
        framing => framing,
    }
}

#[inline]
fn put_tail(out: &mut Vec<u8>, seen: &Seen, plan: Plan, context: &Context<'_>) {
    if plan.close {
        out.extend_from_slice(b"connection: close\r\n");
    } else if !context.facts.is_http11 {
        out.extend_from_slice(b"connection: keep-alive\r\n");
    }
    put_server_and_date(out, seen, context);
    out.extend_from_slice(b"\r\n");
}

#[inline]
fn put_server_and_date(out: &mut Vec<u8>, seen: &Seen, context: &Context<'_>) {
    if let (Some(server), false) = (context.server, seen.server) {
        put_field(out, &http::header::SERVER, server);
    }
    if !seen.date {
        put_date(out, context.now);
    }
}
