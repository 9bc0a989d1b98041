//! The chunked transfer coding: RFC 9112 §7.1.

use crate::support::{answered, conversation, refused};

fn chunked(body: &str) -> String {
    format!("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n{body}")
}

#[test]
fn good_bodies() {
    for (body, content) in [
        ("0\r\n\r\n", ""),
        ("000\r\n\r\n", ""),
        ("1\r\nx\r\n0\r\n\r\n", "x"),
        ("A\r\n0123456789\r\n0\r\n\r\n", "0123456789"),
        ("a\r\n0123456789\r\n1\r\nx\r\n0\r\n\r\n", "0123456789x"),
        ("0000000000000003\r\nabc\r\n0\r\n\r\n", "abc"),
        ("2\r\n\r\n\r\n0\r\n\r\n", "\r\n"),
        ("3;a\r\nabc\r\n0\r\n\r\n", "abc"),
        ("3;a=b\r\nabc\r\n0;c=d\r\n\r\n", "abc"),
        ("3;a=\"b c;d\\\"\"\r\nabc\r\n0\r\n\r\n", "abc"),
        ("3 ; a = b\r\nabc\r\n0\r\n\r\n", "abc"),
        ("3\t;a\r\nabc\r\n0\r\n\r\n", "abc"),
        ("3;a=b;c=d;e\r\nabc\r\n0\r\n\r\n", "abc"),
        ("3;a=\"\" ;b\r\nabc\r\n0\r\n\r\n", "abc"),
        ("3;a=\"ä\\\\\"\r\nabc\r\n0\r\n\r\n", "abc"),
        ("3\r\nabc\r\n0\r\nx: y\r\n\r\n", "abc"),
        ("3\r\nabc\r\n0\r\nx: y\r\nz:w\r\n\r\n", "abc"),
    ] {
        let next = "GET /next HTTP/1.1\r\nhost: a\r\n\r\n";
        let texts = [format!("POST / {content}"), "GET /next ".into()];
        answered("RFC 9112 §7.1", chunked(body) + next, &[&texts[0], &texts[1]]);
    }
}

#[test]
fn malformed_bodies_reach_no_handler() {
    for (rule, body) in [
        ("§7.1: a size", "\r\nabc\r\n0\r\n\r\n"),
        ("§7.1: a size", ";a\r\nabc\r\n0\r\n\r\n"),
        ("§7.1: hexadecimal", "x\r\nabc\r\n0\r\n\r\n"),
        ("§7.1: no prefix", "0x3\r\nabc\r\n0\r\n\r\n"),
        ("§7.1: no sign", "+3\r\nabc\r\n0\r\n\r\n"),
        ("§7.1: no sign", "-3\r\nabc\r\n0\r\n\r\n"),
        ("§7.1: no space before it", " 3\r\nabc\r\n0\r\n\r\n"),
        ("§7.1: no space behind it", "3 \r\nabc\r\n0\r\n\r\n"),
        ("§7.1: no tab behind it", "3\t\r\nabc\r\n0\r\n\r\n"),
        ("§7.1: no underscore", "1_0\r\nabc\r\n0\r\n\r\n"),
        ("§7.1: no second number", "3 3\r\nabc\r\n0\r\n\r\n"),
        ("§7.1: overflow", "10000000000000003\r\nabc\r\n0\r\n\r\n"),
        ("§7.1: overflow", "fffffffffffffffff\r\nabc\r\n0\r\n\r\n"),
        ("§7.1: too many digits", "00000000000000003\r\nabc\r\n0\r\n\r\n"),
        ("§7.1: CR LF behind the size", "3\nabc\r\n0\r\n\r\n"),
        ("§7.1: CR LF behind the size", "3\rabc\r\n0\r\n\r\n"),
        ("§7.1: CR LF behind the size", "3\r\r\nabc\r\n0\r\n\r\n"),
        ("§7.1: CR LF behind the data", "3\r\nabcd\r\n0\r\n\r\n"),
        ("§7.1: CR LF behind the data", "3\r\nabc\n0\r\n\r\n"),
        ("§7.1: CR LF behind the data", "3\r\nabc\r0\r\n\r\n"),
        ("§7.1: CR LF behind the data", "3\r\nabc0\r\n\r\n"),
        ("§7.1: CR LF behind the data", "3\r\nabc\r\r\n0\r\n\r\n"),
        ("CVE-2025-55315: lone LF in an extension", "3;a\nabc\r\n0\r\n\r\n"),
        ("CVE-2025-22871: lone LF in an extension", "3;a\nb\r\nabc\r\n0\r\n\r\n"),
        ("§7.1.1: lone CR in an extension", "3;a\rb\r\nabc\r\n0\r\n\r\n"),
        ("§7.1.1: control byte in an extension", "3;a\0\r\nabc\r\n0\r\n\r\n"),
        ("§7.1.1: control byte in an extension", "3;a\u{7f}\r\nabc\r\n0\r\n\r\n"),
        ("§7.1.1: a name", "3;\r\nabc\r\n0\r\n\r\n"),
        ("§7.1.1: a name", "3;;a\r\nabc\r\n0\r\n\r\n"),
        ("§7.1.1: a name", "3;=b\r\nabc\r\n0\r\n\r\n"),
        ("§7.1.1: a name", "3;a[\r\nabc\r\n0\r\n\r\n"),
        ("§7.1.1: a name", "3;\"a\"\r\nabc\r\n0\r\n\r\n"),
        ("§7.1.1: a name", "3;a b\r\nabc\r\n0\r\n\r\n"),
        ("§7.1.1: nothing behind it", "3;a \r\nabc\r\n0\r\n\r\n"),
        ("§7.1.1: a value", "3;a=\r\nabc\r\n0\r\n\r\n"),
        ("§7.1.1: a value", "3;a=;b\r\nabc\r\n0\r\n\r\n"),
        ("§7.1.1: one value", "3;a=b=c\r\nabc\r\n0\r\n\r\n"),
        ("§7.1.1: nothing behind it", "3;a=b \r\nabc\r\n0\r\n\r\n"),
        ("§7.1.1: the end of a string", "3;a=\"b\r\nabc\r\n0\r\n\r\n"),
        ("§7.1.1: the end of a string", "3;a=\"b\\\"\r\nabc\r\n0\r\n\r\n"),
        ("§7.1.1: nothing behind a string", "3;a=\"b\"c\r\nabc\r\n0\r\n\r\n"),
        ("§7.1.1: lone LF in a string", "3;a=\"b\n\"\r\nabc\r\n0\r\n\r\n"),
        ("§7.1: CR LF behind the last chunk", "3\r\nabc\r\n0\n\r\n"),
        ("§7.1: CR LF at the end", "3\r\nabc\r\n0\r\n\n"),
        ("§7.1.2: a field line", "3\r\nabc\r\n0\r\nx\r\n\r\n"),
        ("§7.1.2: a field line", "3\r\nabc\r\n0\r\nx : y\r\n\r\n"),
        ("§7.1.2: a field line", "3\r\nabc\r\n0\r\n: y\r\n\r\n"),
        ("§7.1.2: a field line", "3\r\nabc\r\n0\r\nx: y\nz: w\r\n\r\n"),
        ("§7.1.2: a field line", "3\r\nabc\r\n0\r\n x: y\r\n\r\n"),
        ("§7.1.2: a field line", "3\r\nabc\r\n0\r\nx: y\r\n z\r\n\r\n"),
        ("§7.1.2: a field line", "3\r\nabc\r\n0\r\nx: \0\r\n\r\n"),
        ("RFC 9110 §6.5.1: too late", "3\r\nabc\r\n0\r\ncontent-length: 3\r\n\r\n"),
        ("RFC 9110 §6.5.1: too late", "3\r\nabc\r\n0\r\nTransfer-Encoding: chunked\r\n\r\n"),
        ("RFC 9110 §6.5.1: too late", "3\r\nabc\r\n0\r\nhost: b\r\n\r\n"),
        ("RFC 9110 §6.5.1: too late", "3\r\nabc\r\n0\r\nauthorization: x\r\n\r\n"),
        ("RFC 9110 §6.5.1: too late", "3\r\nabc\r\n0\r\ncookie: x\r\n\r\n"),
        ("RFC 9110 §6.5.1: too late", "3\r\nabc\r\n0\r\nif-match: x\r\n\r\n"),
    ] {
        malformed(rule, body);
    }
    malformed("chunk_extension_bytes_max", &format!("3;{}\r\nabc\r\n0\r\n\r\n", "a".repeat(256)));
    let extended = format!("1;{}\r\nx\r\n", "a".repeat(250));
    malformed("chunk_extensions_bytes_max", &format!("{}0\r\n\r\n", extended.repeat(17)));
    malformed("trailer_bytes_max", &format!("0\r\nx: {}\r\n\r\n", "y".repeat(9000)));
    malformed("trailer_count_max", &format!("0\r\n{}\r\n", "x: y\r\n".repeat(33)));
}

/// A body that came with its head is refused before a handler sees it; one that comes in pieces
/// breaks under the handler's hands, whose answer does not count then.
#[track_caller]
fn malformed(rule: &str, body: &str) {
    let next = "GET /next HTTP/1.1\r\nhost: a\r\n\r\n";
    let input = chunked(body) + next;
    if input.len() < 4096 {
        let (answer, calls) = conversation(input.as_bytes(), input.len());
        assert!(answer.starts_with("HTTP/1.1 400 "), "{rule}: {body:?} -> {answer}");
        assert_eq!(calls, 0, "{rule}: {body:?}");
    }
    let (answer, _) = conversation(input.as_bytes(), 1);
    assert!(answer.starts_with("HTTP/1.1 400 "), "{rule}: {body:?} -> {answer}");
    assert!(answer.contains("connection: close"), "{rule}: {body:?} -> {answer}");
    assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{rule}: {body:?} -> {answer}");
}

#[test]
fn cut_short() {
    for body in
        ["", "3", "3\r\n", "3\r\nab", "3\r\nabc", "3\r\nabc\r\n", "3\r\nabc\r\n0\r\n", "0\r\nx"]
    {
        let (answer, _) = conversation(chunked(body).as_bytes(), 1000);
        assert!(answer.starts_with("HTTP/1.1 400 "), "{body:?} -> {answer}");
    }
    let head = "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\nab";
    let (answer, _) = conversation(head.as_bytes(), 1000);
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    refused("no request at all", "POST\r\n\r\n", 400);
}
