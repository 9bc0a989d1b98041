//! The oracle for request heads.

use std::sync::Arc;

use bytes::BytesMut;

use super::generate::{FIELD_FRAGMENTS, HEAD_FRAGMENTS, assemble};
use crate::{
    ConnectionInfo, Limits,
    h1::{Facts, Framing, HeadParser},
};

/// Judges the head parser on `data`, and on a request made from it.
///
/// # Panics
/// Where it accepts what the model refuses or the other way round, understands it otherwise, or
/// where it matters how the bytes arrive.
pub fn fuzz_head(data: &[u8]) {
    check(data);
    check(&assemble(data, HEAD_FRAGMENTS));
    let fields = assemble(data, FIELD_FRAGMENTS);
    check(&[b"POST /a?b HTTP/1.1\r\nhost: a\r\n", &fields[..], b"\r\n\r\nbody"].concat());
}

/// What a parser made of its input.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Accepted(Box<Understood>),
    Incomplete,
    Refused,
}

/// Everything in a head that has a meaning.
#[derive(Debug, PartialEq, Eq)]
struct Understood {
    line: [String; 2],
    is_http11: bool,
    fields: Vec<(Vec<u8>, Vec<u8>)>,
    framing: Framing,
    facts: Option<Facts>,
    rest: Vec<u8>,
}

fn check(input: &[u8]) {
    let whole = parse([input]);
    for at in split_points(input.len()) {
        let (front, back) = input.split_at(at);
        let split = parse([front, back]);
        match (&whole, &split) {
            (Verdict::Accepted(_), _) | (_, Verdict::Accepted(_)) => {
                assert_eq!(whole, split, "split at {at}: {:?}", input.escape_ascii().to_string());
            }
            // An incomplete head may be refused sooner if it comes at once.
            (Verdict::Incomplete | Verdict::Refused, Verdict::Incomplete | Verdict::Refused) => {}
        }
    }
    let shown = input.escape_ascii().to_string();
    match (whole, model(input)) {
        (Verdict::Accepted(mut seen), Verdict::Accepted(want)) => {
            let facts = seen.facts.take();
            assert_eq!(seen, want, "{shown}");
            check_with_httparse(input, &seen);
            check_again(&seen, facts);
            check_next(input, &seen);
        }
        // What is incomplete may be refused already, or be refused only at its end.
        (Verdict::Refused, Verdict::Refused | Verdict::Incomplete) => {}
        (Verdict::Incomplete, Verdict::Incomplete) => {}
        (seen, want) => panic!("parser: {seen:?}, model: {want:?}, input: {shown}"),
    }
}

/// An accepted head means the same to a parser that others use: two that disagree are how requests
/// are smuggled.
fn check_with_httparse(input: &[u8], seen: &Understood) {
    let shown = input.escape_ascii();
    let mut fields = [httparse::EMPTY_HEADER; 256];
    let mut request = httparse::Request::new(&mut fields);
    let status = request.parse(input).unwrap_or_else(|error| panic!("{error}: {shown}"));
    let rest = status.is_complete().then(|| input.len() - status.unwrap());
    assert_eq!(rest, Some(seen.rest.len()), "{shown}");
    assert_eq!(
        [request.method, request.path],
        [0, 1].map(|at| Some(&seen.line[at][..])),
        "{shown}"
    );
    assert_eq!(request.version, Some(u8::from(seen.is_http11)), "{shown}");
    let fields = request.headers.iter().map(|field| (field.name.as_bytes(), field.value));
    assert!(fields.eq(seen.fields.iter().map(|(n, v)| (&n[..], &v[..]))), "{shown}");
}

/// An accepted head, written down plainly, means the same.
fn check_again(seen: &Understood, facts: Option<Facts>) {
    let version = if seen.is_http11 { "HTTP/1.1" } else { "HTTP/1.0" };
    let mut plain = format!("{} {} {version}\r\n", seen.line[0], seen.line[1]).into_bytes();
    for (name, value) in &seen.fields {
        plain.extend_from_slice(name);
        plain.extend_from_slice(b": ");
        plain.extend_from_slice(value);
        plain.extend_from_slice(b"\r\n");
    }
    plain.extend_from_slice(b"\r\n");
    plain.extend_from_slice(&seen.rest);
    let Verdict::Accepted(mut again) = parse([&plain[..]]) else {
        panic!("refused what it accepted before: {}", plain.escape_ascii());
    };
    assert_eq!(again.facts.take(), facts, "{}", plain.escape_ascii());
    assert_eq!(*again, *seen, "{}", plain.escape_ascii());
}

/// What follows an accepted head is understood as if nothing had come before it.
fn check_next(input: &[u8], seen: &Understood) {
    if seen.rest.is_empty() {
        return;
    }
    let (mut parser, mut buffer) = (HeadParser::default(), BytesMut::new());
    let first = parse_with(&mut parser, &mut buffer, [input]);
    assert!(matches!(first, Verdict::Accepted(_)), "{}", input.escape_ascii());
    let next = parse_with(&mut parser, &mut buffer, [&[][..]]);
    assert_eq!(next, parse([&seen.rest[..]]), "behind another: {}", input.escape_ascii());
}

fn parse<const N: usize>(pieces: [&[u8]; N]) -> Verdict {
    parse_with(&mut HeadParser::default(), &mut BytesMut::new(), pieces)
}

fn parse_with<const N: usize>(
    parser: &mut HeadParser,
    input: &mut BytesMut,
    pieces: [&[u8]; N],
) -> Verdict {
    let (limits, info) = (Limits::default(), Arc::<ConnectionInfo>::default());
    let mut pieces = pieces.into_iter();
    while let Some(piece) = pieces.next() {
        input.extend_from_slice(piece);
        match parser.parse(input, &limits, &info) {
            Ok(None) => {}
            Err(refusal) => {
                assert!(refusal.status().is_client_error() || refusal.status().is_server_error());
                return Verdict::Refused;
            }
            Ok(Some(parsed)) => {
                let head = parsed.request.head();
                let fields = head.fields().map(|(name, value)| (name.to_vec(), value.to_vec()));
                pieces.for_each(|piece| input.extend_from_slice(piece));
                return Verdict::Accepted(Box::new(Understood {
                    line: [head.method().to_string(), head.target().to_owned()],
                    is_http11: parsed.facts.is_http11,
                    fields: fields.collect(),
                    framing: parsed.facts.framing,
                    facts: Some(parsed.facts),
                    rest: input.to_vec(),
                }));
            }
        }
    }
    Verdict::Incomplete
}

/// The same rules, written for the reader: no speed, no increments.
fn model(input: &[u8]) -> Verdict {
    let input = input.strip_prefix(b"\r\n").unwrap_or(input);
    let end = memchr::memmem::find(input, b"\r\n\r\n");
    // A head without fields ends with its request line and the empty line, which overlap here.
    let Some(end) = end else { return Verdict::Incomplete };
    let (head, rest) = input.split_at(end + 4);
    let is_within = head.len() <= Limits::default().head_bytes_max;
    match is_within.then(|| model_lines(head)).flatten() {
        Some(mut understood) => {
            understood.rest = rest.to_vec();
            Verdict::Accepted(Box::new(understood))
        }
        None => Verdict::Refused,
    }
}

fn model_lines(head: &[u8]) -> Option<Understood> {
    let text: Vec<char> = head.iter().map(|&byte| char::from(byte)).collect();
    let text: String = text.into_iter().collect();
    let lines: Vec<&str> = text.strip_suffix("\r\n\r\n")?.split("\r\n").collect();
    let is_broken = |line: &&str| line.is_empty() || line.contains(['\r', '\n']);
    if lines.iter().any(is_broken) {
        return None;
    }
    let (first, rest) = lines.split_first()?;
    let limits = Limits::default();
    if rest.len() > limits.header_count_max {
        return None;
    }
    let [method, target, version] = first.split(' ').collect::<Vec<_>>().try_into().ok()?;
    if !is_token(method) || method.len() > 32 || method == "CONNECT" {
        return None;
    }
    if target.len() > limits.target_bytes_max {
        return None;
    }
    let is_http11 = match version {
        "HTTP/1.1" => true,
        "HTTP/1.0" => false,
        _ => return None,
    };
    let mut fields = Vec::new();
    for line in rest {
        let (name, value) = line.split_once(':')?;
        let value = value.trim_matches([' ', '\t']);
        let is_bad = |c: char| (c < ' ' && c != '\t') || c == '\x7f';
        if !is_token(name) || value.contains(is_bad) {
            return None;
        }
        fields.push((name.to_ascii_lowercase(), value.to_owned()));
    }
    let framing = model_fields(&fields, target, method, is_http11)?;
    let latin = |text: &str| text.chars().map(|c| c as u8).collect::<Vec<_>>();
    let names = rest.iter().filter_map(|line| Some(line.split_once(':')?.0));
    let fields = names.zip(&fields).map(|(name, (_, value))| (latin(name), latin(value)));
    Some(Understood {
        line: [method.to_owned(), target.to_owned()],
        is_http11,
        fields: fields.collect(),
        framing,
        facts: None,
        rest: Vec::new(),
    })
}

fn model_fields(
    fields: &[(String, String)],
    target: &str,
    method: &str,
    is_http11: bool,
) -> Option<Framing> {
    let all = |wanted: &str| -> Vec<&str> {
        fields.iter().filter(|(name, _)| name == wanted).map(|(_, value)| &value[..]).collect()
    };
    let visible = target.chars().all(|c| ('!'..='~').contains(&c) && c != '#');
    let hosts = all("host");
    let lower = target.to_ascii_lowercase();
    let after_scheme = lower.strip_prefix("http://").or_else(|| lower.strip_prefix("https://"));
    let authority = after_scheme.map(|rest| rest.split(['/', '?']).next().unwrap_or_default());
    let is_form = target.starts_with('/')
        || (target == "*" && method == "OPTIONS")
        || authority.is_some_and(is_authority);
    if !visible || !is_form || hosts.len() > 1 || (is_http11 && hosts.is_empty()) {
        return None;
    }
    if let Some(host) = hosts.first() {
        let default = if lower.starts_with("https") { ":443" } else { ":80" };
        let strip = |text: &str| {
            let text = text.to_ascii_lowercase();
            text.strip_suffix(default).unwrap_or(text.trim_end_matches(':')).to_owned()
        };
        if !is_authority(host) || authority.is_some_and(|own| strip(own) != strip(host)) {
            return None;
        }
    }
    if is_http11 && all("expect").iter().any(|v| !v.eq_ignore_ascii_case("100-continue")) {
        return None;
    }
    let options = all("connection").join(",").to_ascii_lowercase();
    let forbidden = ["host", "content-length", "transfer-encoding"];
    if options.split(',').any(|option| forbidden.contains(&option.trim())) {
        return None;
    }
    let (lengths, codings) = (all("content-length"), all("transfer-encoding"));
    match (&lengths[..], &codings[..]) {
        ([], []) => Some(Framing::None),
        ([length], []) => {
            let is_number = (1..=19).contains(&length.len())
                && length.chars().all(|digit| digit.is_ascii_digit());
            let length = is_number.then(|| length.parse::<u64>())?.ok()?;
            Some(if length == 0 { Framing::None } else { Framing::Length(length) })
        }
        ([], [coding]) if coding.eq_ignore_ascii_case("chunked") && is_http11 => {
            Some(Framing::Chunked)
        }
        _ => None,
    }
}

fn is_token(text: &str) -> bool {
    let is_tchar = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    !text.is_empty() && text.chars().all(is_tchar)
}

/// Only the shapes that the generator can make; of others the model knows nothing.
fn is_authority(text: &str) -> bool {
    crate::h1::is_authority(&text.chars().map(|c| c as u8).collect::<Vec<_>>())
}

/// Every point in a short input, a few in a long one.
pub(super) fn split_points(len: usize) -> impl Iterator<Item = usize> {
    (0..=len).step_by((len / 64).max(1))
}
