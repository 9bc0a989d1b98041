//! Responses, well-formed and not (RFC 9112).

use hearth_http_client::{ClientError, ClientRequest, ErrorKind};
use hearth_http_core::Bytes;
use http::Method;
use proptest::prelude::*;

use crate::support::{Memory, answering_once, client};

type Result = std::result::Result<(u16, Bytes), ClientError>;

async fn ask(method: Method, response: Vec<u8>) -> Result {
    let client = client(&answering_once(response));
    let request = ClientRequest::new(method, "http://peer.test/").expect("request");
    let response = client.send(request).await?;
    let status = response.status().as_u16();
    Ok((status, response.bytes(1 << 20).await?))
}

#[track_caller]
fn check_ok(name: &str, got: &Result, want: &str) {
    match got {
        Ok((200, body)) => assert_eq!(body, want.as_bytes(), "{name}"),
        other => panic!("{name}: {other:?}"),
    }
}

#[tokio::test]
async fn well_formed() {
    for (name, head, body, want) in [
        ("length", "content-length: 5\r\n", "hello", "hello"),
        ("length in odd case", "CoNtEnT-LeNgTh:5\r\n", "hello", "hello"),
        ("§6.3: length 0", "content-length: 0\r\n", "", ""),
        ("chunked", "transfer-encoding: chunked\r\n", "5\r\nhello\r\n0\r\n\r\n", "hello"),
        (
            "chunked in odd case",
            "Transfer-Encoding: Chunked\r\n",
            "5\r\nhello\r\n0\r\n\r\n",
            "hello",
        ),
        (
            "§7.1.1: extension",
            "transfer-encoding: chunked\r\n",
            "5;a=b\r\nhello\r\n0;c\r\n\r\n",
            "hello",
        ),
        (
            "§7.1.2: trailers",
            "transfer-encoding: chunked\r\n",
            "5\r\nhello\r\n0\r\nx-a: 1\r\n\r\n",
            "hello",
        ),
        ("§6.3: until close", "", "hello", "hello"),
        ("§6.3: nothing until close", "", "", ""),
        ("RFC 9110 §5.5: obs-text in a value", "x-a: \u{e4}\r\ncontent-length: 2\r\n", "ok", "ok"),
        ("RFC 9110 §5.5: empty value", "x-a:\r\ncontent-length: 2\r\n", "ok", "ok"),
    ] {
        let got = ask(Method::GET, format!("HTTP/1.1 200 OK\r\n{head}\r\n{body}").into()).await;
        check_ok(name, &got, want);
    }
    let got = ask(Method::GET, b"HTTP/1.0 200 OK\r\n\r\nold".to_vec()).await;
    check_ok("HTTP/1.0", &got, "old");
    let got = ask(Method::GET, b"HTTP/1.1 200\r\ncontent-length: 2\r\n\r\nok".to_vec()).await;
    check_ok("§4: no reason", &got, "ok");
    let got = ask(Method::GET, b"HTTP/1.1 200 \xe4\r\ncontent-length: 2\r\n\r\nok".to_vec()).await;
    check_ok("§4: obs-text in the reason", &got, "ok");
}

#[tokio::test]
async fn malformed_heads() {
    let many_fields = "x: y\r\n".repeat(129);
    let long_field = format!("x: {}\r\n", "y".repeat(64 * 1024));
    let chunked = "transfer-encoding: chunked\r\n";
    for (name, head) in [
        (
            "§2.2: lone LF after the status line",
            "HTTP/1.1 200 OK\ncontent-length: 0\r\n\r\n".to_owned(),
        ),
        ("§2.2: lone LF after a field", "HTTP/1.1 200 OK\r\ncontent-length: 0\n\r\n".to_owned()),
        ("§2.2: lone LF at the end", "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\n".to_owned()),
        ("§2.2: lone CR in a value", "HTTP/1.1 200 OK\r\nx: a\rb\r\n\r\n".to_owned()),
        ("§2.2: empty line before the head", "\r\nHTTP/1.1 200 OK\r\n\r\n".to_owned()),
        ("§2.3: version 2.0", "HTTP/2.0 200 OK\r\n\r\n".to_owned()),
        ("§2.3: version 1.2", "HTTP/1.2 200 OK\r\n\r\n".to_owned()),
        ("§2.3: lower case", "http/1.1 200 OK\r\n\r\n".to_owned()),
        ("not HTTP: SSH", "SSH-2.0-OpenSSH_9.7\r\n".to_owned()),
        ("not HTTP: ICY", "ICY 200 OK\r\n\r\n".to_owned()),
        ("not HTTP: a TLS alert", "\u{15}\u{3}\u{1}\u{0}\u{2}\u{2}\u{46}".to_owned()),
        ("§4: status of two digits", "HTTP/1.1 20 OK\r\n\r\n".to_owned()),
        ("§4: status of four digits", "HTTP/1.1 2000 OK\r\n\r\n".to_owned()),
        ("RFC 9110 §15: status 099", "HTTP/1.1 099 x\r\n\r\n".to_owned()),
        ("RFC 9110 §15: status 600", "HTTP/1.1 600 x\r\n\r\n".to_owned()),
        ("§4: no status", "HTTP/1.1\r\n\r\n".to_owned()),
        (
            "§5.1: space before the colon",
            "HTTP/1.1 200 OK\r\ncontent-length : 0\r\n\r\n".to_owned(),
        ),
        ("§5.2: line folding", "HTTP/1.1 200 OK\r\nx: a\r\n b\r\n\r\n".to_owned()),
        ("§5: field without a name", "HTTP/1.1 200 OK\r\n: a\r\n\r\n".to_owned()),
        ("§5: field without a colon", "HTTP/1.1 200 OK\r\nx\r\n\r\n".to_owned()),
        ("RFC 9110 §5.5: NUL in a value", "HTTP/1.1 200 OK\r\nx: \0\r\n\r\n".to_owned()),
        ("RFC 9110 §5.1: space in a name", "HTTP/1.1 200 OK\r\na b: c\r\n\r\n".to_owned()),
        (
            "§6.3: two equal lengths",
            "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 1\r\n\r\nx".to_owned(),
        ),
        (
            "§6.3: two lengths",
            "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nxx".to_owned(),
        ),
        ("§6.3: list of lengths", "HTTP/1.1 200 OK\r\ncontent-length: 1, 1\r\n\r\nx".to_owned()),
        (
            "RFC 9110 §8.6: signed length",
            "HTTP/1.1 200 OK\r\ncontent-length: +1\r\n\r\nx".to_owned(),
        ),
        (
            "RFC 9110 §8.6: negative length",
            "HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n".to_owned(),
        ),
        ("RFC 9110 §8.6: hex length", "HTTP/1.1 200 OK\r\ncontent-length: 0x1\r\n\r\nx".to_owned()),
        ("RFC 9110 §8.6: empty length", "HTTP/1.1 200 OK\r\ncontent-length:\r\n\r\n".to_owned()),
        (
            "RFC 9110 §8.6: huge length",
            format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", "9".repeat(20)),
        ),
        ("§6.3: both", format!("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n{chunked}\r\n0\r\n\r\n")),
        ("§6.1: coding in HTTP/1.0", format!("HTTP/1.0 200 OK\r\n{chunked}\r\n0\r\n\r\n")),
        (
            "§6.1: coding other than chunked",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n".to_owned(),
        ),
        (
            "§6.1: chunked twice",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked, chunked\r\n\r\n0\r\n\r\n".to_owned(),
        ),
        (
            "§6.1: chunked in two lines",
            format!("HTTP/1.1 200 OK\r\n{chunked}{chunked}\r\n0\r\n\r\n"),
        ),
        (
            "§7: parameter of chunked",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked;a=b\r\n\r\n0\r\n\r\n".to_owned(),
        ),
        ("§6.1: empty coding", "HTTP/1.1 200 OK\r\ntransfer-encoding:\r\n\r\n".to_owned()),
        (
            "RFC 9110 §15.2: 1xx with a length",
            "HTTP/1.1 103 x\r\ncontent-length: 5\r\n\r\nhello".to_owned(),
        ),
        (
            "RFC 9110 §15.2.2: 101 unasked",
            "HTTP/1.1 101 x\r\nupgrade: y\r\nconnection: upgrade\r\n\r\n".to_owned(),
        ),
        ("too many interim responses", "HTTP/1.1 103 x\r\n\r\n".repeat(17)),
        ("too many fields", format!("HTTP/1.1 200 OK\r\n{many_fields}\r\n")),
        ("head too large", format!("HTTP/1.1 200 OK\r\n{long_field}\r\n")),
        ("head too large and without end", format!("HTTP/1.1 200 OK\r\n{}", long_field.trim_end())),
    ] {
        let want = if name.contains("too many fields") || name.contains("too large") {
            ErrorKind::TooLarge
        } else {
            ErrorKind::Protocol
        };
        let error = ask(Method::GET, head.into()).await.expect_err(name);
        assert_eq!(error.kind(), want, "{name}: {error:?}");
        assert!(!error.is_retryable(), "{name}");
    }
}

#[tokio::test]
async fn malformed_content() {
    let chunked = "transfer-encoding: chunked\r\n";
    let length = "content-length: 5\r\n";
    let extension = format!("1;{}\r\nx\r\n0\r\n\r\n", "a".repeat(300));
    let trailer = format!("0\r\nx: {}\r\n\r\n", "y".repeat(9000));
    for (name, head, body, want) in [
        ("§6.3: too short", length, "hell", ErrorKind::Closed),
        ("§8: chunked without an end", chunked, "5\r\nhello\r\n", ErrorKind::Closed),
        ("§8: chunk without an end", chunked, "5\r\nhel", ErrorKind::Closed),
        ("§8: last chunk without an end", chunked, "0\r\n", ErrorKind::Closed),
        ("§7.1: no size", chunked, "\r\nhello\r\n0\r\n\r\n", ErrorKind::Protocol),
        ("§7.1: prefix", chunked, "0x5\r\nhello\r\n0\r\n\r\n", ErrorKind::Protocol),
        ("§7.1: sign", chunked, "+5\r\nhello\r\n0\r\n\r\n", ErrorKind::Protocol),
        ("§7.1: space", chunked, " 5\r\nhello\r\n0\r\n\r\n", ErrorKind::Protocol),
        ("§7.1: no hex", chunked, "g\r\n", ErrorKind::Protocol),
        ("§7.1: overflow", chunked, "fffffffffffffffff\r\n", ErrorKind::Protocol),
        ("§7.1: lone LF behind the size", chunked, "5\nhello\r\n0\r\n\r\n", ErrorKind::Protocol),
        ("§7.1: more data than its size", chunked, "5\r\nhello!\r\n0\r\n\r\n", ErrorKind::Protocol),
        ("§7.1: lone LF behind the data", chunked, "5\r\nhello\n0\r\n\r\n", ErrorKind::Protocol),
        (
            "§7.1.1: lone LF in an extension",
            chunked,
            "5;a\nb\r\nhello\r\n0\r\n\r\n",
            ErrorKind::Protocol,
        ),
        ("§7.1.1: long extension", chunked, &extension, ErrorKind::Protocol),
        (
            "§7.1.2: framing in a trailer",
            chunked,
            "0\r\ncontent-length: 1\r\n\r\n",
            ErrorKind::Protocol,
        ),
        ("§7.1.2: malformed trailer", chunked, "0\r\nx y\r\n\r\n", ErrorKind::Protocol),
        ("§7.1.2: long trailer", chunked, &trailer, ErrorKind::Protocol),
    ] {
        let response = format!("HTTP/1.1 200 OK\r\n{head}\r\n{body}");
        let error = ask(Method::GET, response.into()).await.expect_err(name);
        assert_eq!(error.kind(), want, "{name}: {error:?}");
    }
    let error = ask(Method::GET, Vec::new()).await.expect_err("silence");
    assert_eq!(error.kind(), ErrorKind::Closed);
    let error = ask(Method::GET, b"HTTP/1.1 200 O".to_vec()).await.expect_err("half a head");
    assert_eq!(error.kind(), ErrorKind::Closed);
}

/// RFC 9110 §6.4.1: what has no content, whatever its fields say.
#[tokio::test]
async fn responses_without_content() {
    for (method, head) in [
        (Method::HEAD, "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n"),
        (Method::HEAD, "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"),
        (Method::HEAD, "HTTP/1.1 200 OK\r\n\r\n"),
        (Method::GET, "HTTP/1.1 204 No Content\r\n\r\n"),
        (Method::GET, "HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\n"),
        (
            Method::GET,
            "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n",
        ),
    ] {
        let memory = crate::support::answering(head);
        let client = client(&memory);
        for _ in 0..2 {
            let request = ClientRequest::new(method.clone(), "http://peer.test/").expect("request");
            let response = client.send(request).await.expect(head);
            assert_eq!(response.bytes(0).await.expect(head), "", "{head}");
        }
        assert_eq!(memory.dialed(), 1, "{method} {head}: the connection is used again");
    }
}

/// What a peer sends behind a response is never taken for the next one.
#[tokio::test]
async fn unsolicited_bytes_cost_the_connection() {
    let evil = "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil";
    for response in [
        format!("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok{evil}"),
        format!("HTTP/1.1 204 No Content\r\ncontent-length: 4\r\n\r\n{evil}"),
        // The content that is announced may still come.
        "HTTP/1.1 204 No Content\r\ncontent-length: 4\r\n\r\n".to_owned(),
        format!("HTTP/1.1 204 No Content\r\ntransfer-encoding: chunked\r\n\r\n{evil}"),
        format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n{evil}"),
        format!("HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok{evil}"),
    ] {
        let memory = crate::support::answering(response.clone());
        let client = client(&memory);
        for _ in 0..3 {
            let request = ClientRequest::get("http://peer.test/").expect("request");
            let body =
                client.send(request).await.expect("response").bytes(100).await.expect("body");
            assert_ne!(body, "evil", "{response}");
        }
        assert_eq!(memory.dialed(), 3, "{response}");
        assert_eq!(client.stats().connections_idle, 0);
    }
}

#[tokio::test]
async fn limits_are_the_callers() {
    for response in [
        "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\n\r\nhello",
    ] {
        for (limit, fits) in [(5, true), (4, false)] {
            let client = client(&answering_once(response));
            let request = ClientRequest::get("http://peer.test/").expect("request");
            let got = client.send(request).await.expect("head").bytes(limit).await;
            match got {
                Ok(body) => assert!(fits && body == "hello", "{response} {limit}"),
                Err(error) => {
                    assert!(!fits, "{response} {limit}");
                    assert_eq!(error.kind(), ErrorKind::TooLarge);
                }
            }
        }
    }
}

/// Sends `response` in pieces that end at `splits`.
fn in_pieces(response: Vec<u8>, splits: Vec<usize>) -> std::sync::Arc<Memory> {
    Memory::new(move |_, mut peer| {
        let (response, splits) = (response.clone(), splits.clone());
        async move {
            peer.head().await;
            let mut from = 0;
            for to in splits.into_iter().chain([response.len()]) {
                peer.send(&response[from..to]).await;
                // The client reads what there is before the next piece comes.
                for _ in 0..4 {
                    tokio::task::yield_now().await;
                }
                from = to;
            }
        }
    })
}

async fn ask_in_pieces(
    response: &[u8],
    splits: Vec<usize>,
) -> std::result::Result<(u16, Bytes), ErrorKind> {
    let client = client(&in_pieces(response.to_vec(), splits));
    let request = ClientRequest::get("http://peer.test/").expect("request");
    let response = client.send(request).await.map_err(|error| error.kind())?;
    let status = response.status().as_u16();
    let body = response.bytes(1 << 20).await.map_err(|error| error.kind())?;
    Ok((status, body))
}

#[tokio::test]
async fn a_split_anywhere_changes_nothing() {
    for response in [
        &b"HTTP/1.1 103 Early\r\nlink: x\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello"[..],
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n1\r\n!\r\n0\r\nx: y\r\n\r\n",
        b"HTTP/1.0 404 Not Found\r\nserver: x\r\n\r\ngone",
        b"HTTP/1.1 200 OK\r\nx: y\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhelloX\r\n",
    ] {
        let whole = ask_in_pieces(response, vec![]).await;
        for at in 0..=response.len() {
            assert_eq!(ask_in_pieces(response, vec![at]).await, whole, "split at {at}");
        }
        let every = (0..response.len()).collect();
        assert_eq!(ask_in_pieces(response, every).await, whole, "one byte at a time");
    }
}

/// Pieces of heads and chunks that make it likely to get past the first check.
fn fragments() -> impl Strategy<Value = Vec<u8>> {
    let known = prop::sample::select(vec![
        "HTTP/1.1 200 OK\r\n",
        "HTTP/1.0 200 OK\r\n",
        "HTTP/1.1 204 x\r\n",
        "HTTP/1.1 100 \r\n",
        "\r\n",
        "\r",
        "\n",
        "content-length: 5\r\n",
        "transfer-encoding: chunked\r\n",
        "connection: close\r\n",
        "5\r\n",
        "hello",
        "0\r\n",
        "a: b\r\n",
        ";x=y",
        ": ",
        "ffffffffffffffff\r\n",
        "keep-alive: timeout=5\r\n",
        "location: /x\r\n",
    ]);
    let fragment = prop_oneof![
        8 => known.prop_map(|text| text.as_bytes().to_vec()),
        1 => prop::collection::vec(any::<u8>(), 0..8),
    ];
    prop::collection::vec(fragment, 0..12).prop_map(|parts| parts.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_bytes_never_panic_and_splits_never_matter(
        has_start in any::<bool>(),
        bytes in fragments(),
        splits in prop::collection::vec(any::<prop::sample::Index>(), 0..4),
    ) {
        let mut response = if has_start { b"HTTP/1.1 200 OK\r\n".to_vec() } else { Vec::new() };
        response.extend(bytes);
        let mut splits: Vec<usize> = splits.iter().map(|at| at.index(response.len() + 1)).collect();
        splits.sort_unstable();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
        runtime.block_on(async {
            let whole = ask_in_pieces(&response, vec![]).await;
            let split = ask_in_pieces(&response, splits).await;
            // Where a response is cut short, or is followed by garbage, either may be noticed first.
            assert_eq!(whole, split);
        });
    }
}
