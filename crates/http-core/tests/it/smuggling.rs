//! Message framing of requests: RFC 9112 §6, and the bugs that others had there.

use crate::support::{answered, refused};

fn post(fields: &str, rest: &str) -> String {
    format!("POST / HTTP/1.1\r\nhost: a\r\n{fields}\r\n{rest}")
}

#[test]
fn content_length() {
    for (rule, value) in [
        ("RFC 9110 §8.6: digits", "-1"),
        ("RFC 9110 §8.6: digits", "+1"),
        ("RFC 9110 §8.6: digits", "0x1"),
        ("RFC 9110 §8.6: digits", "1 "),
        ("RFC 9110 §8.6: digits", "1e1"),
        ("RFC 9110 §8.6: digits", "1.0"),
        ("RFC 9110 §8.6: digits", "1_0"),
        ("RFC 9110 §8.6: digits", "1a"),
        ("RFC 9110 §8.6: digits", "a"),
        ("RFC 9110 §8.6: digits", "\"1\""),
        ("RFC 9110 §8.6: digits", "1;q=1"),
        ("RFC 9110 §8.6: digits", "1 1"),
        ("RFC 9110 §8.6: digits", "\u{661}"),
        ("RFC 9110 §8.6: at least one", ""),
        ("RFC 9112 §6.3: no list", "1,1"),
        ("RFC 9112 §6.3: no list", "1, 1"),
        ("RFC 9112 §6.3: no list", "1, 2"),
        ("RFC 9112 §6.3: no list", ",1"),
        ("RFC 9110 §8.6: overflow", "18446744073709551617"),
        ("RFC 9110 §8.6: overflow", "99999999999999999999"),
        ("RFC 9110 §8.6: overflow", "00000000000000000001"),
    ] {
        // White space around a value is no part of it.
        if value.trim_end() == value {
            refused(rule, post(&format!("content-length: {value}\r\n"), "x"), 400);
        }
    }
    let twice = |a, b| post(&format!("content-length: {a}\r\nContent-Length: {b}\r\n"), "xxx");
    refused("RFC 9112 §6.3: once", twice("1", "1"), 400);
    refused("RFC 9112 §6.3: once", twice("1", "2"), 400);
    refused("RFC 9112 §6.3: once", twice("0", "1"), 400);
    refused("RFC 9112 §5.1", post("content-length : 1\r\n", "x"), 400);
    answered("RFC 9112 §6.3", post("content-length: 3\r\n", "abc"), &["POST / abc"]);
    answered("RFC 9112 §6.3", post("content-length: \t 003 \t\r\n", "abc"), &["POST / abc"]);
    answered("RFC 9112 §6.3", post("content-length: 0\r\n", ""), &["POST / "]);
    answered("RFC 9112 §6.3: none", post("", ""), &["POST / "]);
}

#[test]
fn transfer_encoding() {
    const BODY: &str = "3\r\nabc\r\n0\r\n\r\n";
    for (rule, fields, status) in [
        (
            "RFC 9112 §6.1: with a length",
            "content-length: 3\r\ntransfer-encoding: chunked\r\n",
            400,
        ),
        (
            "RFC 9112 §6.1: with a length",
            "transfer-encoding: chunked\r\ncontent-length: 3\r\n",
            400,
        ),
        (
            "RFC 9112 §6.1: with a length",
            "transfer-encoding: chunked\r\ncontent-length: 0\r\n",
            400,
        ),
        ("RFC 9112 §6.1: with a length", "transfer-encoding: x\r\ncontent-length: 3\r\n", 400),
        ("RFC 9112 §7.1: once", "transfer-encoding: chunked, chunked\r\n", 400),
        ("RUSTSEC-2021-0020", "transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n", 400),
        ("RFC 9112 §6.3: last", "transfer-encoding: chunked, gzip\r\n", 400),
        ("RFC 9112 §6.3: last", "transfer-encoding: chunked\r\ntransfer-encoding: x\r\n", 400),
        ("RFC 9112 §6.1: unknown", "transfer-encoding: x\r\ntransfer-encoding: chunked\r\n", 501),
        ("RFC 9112 §6.1: unknown", "transfer-encoding: gzip, chunked\r\n", 501),
        ("RFC 9112 §6.1: unknown", "transfer-encoding: gzip\r\n", 501),
        ("RFC 9112 §6.1: unknown", "transfer-encoding: identity\r\n", 501),
        ("RFC 9112 §6.1: unknown", "transfer-encoding: xchunked\r\n", 501),
        ("RFC 9112 §6.1: unknown", "transfer-encoding: chunkedx\r\n", 501),
        ("RFC 9112 §6.1: unknown", "transfer-encoding: \"chunked\"\r\n", 501),
        ("RFC 9112 §6.1: unknown", "transfer-encoding: chunk\ted\r\n", 501),
        ("RFC 9112 §7.1: no parameters", "transfer-encoding: chunked;q=1\r\n", 400),
        ("RFC 9112 §7.1: no parameters", "transfer-encoding: chunked ; a\r\n", 400),
        ("RFC 9112 §7.1: no parameters", "transfer-encoding: chunked;\r\n", 400),
        ("RFC 9110 §5.6.1: an element", "transfer-encoding:\r\n", 400),
        ("RFC 9110 §5.6.1: an element", "transfer-encoding: ,chunked\r\n", 400),
        ("RFC 9110 §5.6.1: an element", "transfer-encoding: chunked,\r\n", 400),
        ("RFC 9110 §5.5", "transfer-encoding: \u{b}chunked\r\n", 400),
        ("RFC 9110 §5.5", "transfer-encoding: chunked\0\r\n", 400),
        ("tiny-http#173", "transfer-encoding : chunked\r\n", 400),
        ("openlitespeed#392", "transfer-encoding\t: chunked\r\n", 400),
        ("RFC 9112 §5.2", "transfer-encoding:\r\n chunked\r\n", 400),
        ("RFC 9112 §5.2", "transfer-encoding: x\r\n , chunked\r\n", 400),
        ("RFC 9112 §2.2", "x: y\ntransfer-encoding: chunked\r\n", 400),
        ("RFC 9112 §2.2", "x: y\rtransfer-encoding: chunked\r\n", 400),
    ] {
        refused(rule, post(fields, BODY), status);
    }
    for value in ["chunked", "Chunked", "CHUNKED", "\tchunked \t"] {
        let input = post(&format!("Transfer-encoding: {value}\r\n"), BODY);
        answered("RFC 9112 §7.1", input, &["POST / abc"]);
    }
    for fields in ["transfer-encoding: chunked\r\n", "transfer-encoding: x\r\n"] {
        let input = format!("POST / HTTP/1.0\r\n{fields}\r\n{BODY}");
        refused("RFC 9112 §6.1: not on HTTP/1.0", input, 400);
    }
}

#[test]
fn any_method_may_have_a_body() {
    let next = "GET /next HTTP/1.1\r\nhost: a\r\n\r\n";
    for method in ["GET", "DELETE", "OPTIONS", "TRACE", "PATCH", "X"] {
        let head = format!("{method} / HTTP/1.1\r\nhost: a\r\n");
        let (length, chunked) = (
            format!("{head}content-length: {}\r\n\r\n{next}{next}", next.len()),
            format!(
                "{head}transfer-encoding: chunked\r\n\r\n{:x}\r\n{next}\r\n0\r\n\r\n{next}",
                next.len()
            ),
        );
        let text = format!("{method} / {next}");
        answered("RFC 9112 §6", length, &[&text, "GET /next "]);
        answered("RFC 9112 §6", chunked, &[&text, "GET /next "]);
    }
}

#[test]
fn nothing_behind_a_refused_request_is_looked_at() {
    let next = "GET /next HTTP/1.1\r\nhost: a\r\n\r\n";
    let broken = post("transfer-encoding: chunked\r\ncontent-length: 1\r\n", "0\r\n\r\n");
    refused("RFC 9112 §6.1", format!("{broken}{next}"), 400);
    refused("actix-web#2767", format!("{}{next}", post("content-length: 1, 1\r\n", "x")), 400);
}

#[test]
fn bodies_and_requests_do_not_mix() {
    let next = "GET /next HTTP/1.1\r\nhost: a\r\n\r\n";
    answered(
        "RFC 9112 §9.3.2",
        format!("{}{next}{}{next}", post("content-length: 1\r\n", "x"), post("", "")),
        &["POST / x", "GET /next ", "POST / ", "GET /next "],
    );
    answered(
        "RFC 9112 §9.6: nothing counts behind `close`",
        format!("{}{next}", post("connection: close\r\ncontent-length: 1\r\n", "x")),
        &["POST / x"],
    );
}
