//! Cases from arbitrary bytes.

/// Joins fragments, each chosen by a byte: most combinations are nearly right, which is where
/// parsers err.
pub(super) fn assemble(data: &[u8], fragments: &[&[u8]]) -> Vec<u8> {
    let mut case = Vec::new();
    for &byte in data {
        match fragments.get(usize::from(byte) % (fragments.len() + 2)) {
            Some(fragment) => case.extend_from_slice(fragment),
            // A few bytes stand for themselves, so that nothing is out of reach.
            None => case.push(byte),
        }
    }
    case
}

/// What heads are made of.
pub(super) const HEAD_FRAGMENTS: &[&[u8]] = &[
    b"GET / HTTP/1.1\r\nhost: a\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\ncontent-length: 3\r\n",
    b"\r\n",
    b"\r\n\r\n",
    b"GET ",
    b"OPTIONS * HTTP/1.1\r\n",
    b"POST http://a:80/b?c HTTP/1.0\r\n",
    b"/",
    b"/a%20b?c=d",
    b" HTTP/1.1\r\n",
    b" HTTP/1.0\r\n",
    b" HTTP/2.0\r\n",
    b"host: a\r\n",
    b"Host: [::1]:80\r\n",
    b"content-length: 5\r\n",
    b"Content-Length: 00\r\n",
    b"transfer-encoding: chunked\r\n",
    b"Transfer-Encoding: gzip, chunked\r\n",
    b"connection: close\r\n",
    b"connection: keep-alive, upgrade\r\n",
    b"upgrade: websocket\r\n",
    b"expect: 100-continue\r\n",
    b"te: trailers\r\n",
    b"x: y\r\n",
    b"x-long-name: a value, with \"more\" \t in it  \r\n",
    b"x:",
    b":",
    b" ",
    b"\t",
    b"\r",
    b"\n",
    b",",
    b";",
    b"chunked",
    b"1",
    b"0",
    b"-",
    b"a",
    b"#",
    b"?",
    b"\0",
    b"\x7f",
    b"\xc3\xa9",
    b" folded\r\n",
    b"CONNECT a:1 HTTP/1.1\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
];

/// What header sections are made of; most of these are in order.
pub(super) const FIELD_FRAGMENTS: &[&[u8]] = &[
    b"content-length: 5\r\n",
    b"content-length: 0\r\n",
    b"Content-Length:\t18446744073709551615\r\n",
    b"transfer-encoding: chunked\r\n",
    b"transfer-encoding: Chunked \r\n",
    b"transfer-encoding: identity\r\n",
    b"Transfer-Encoding:,chunked\r\n",
    b"host: b\r\n",
    b"connection: close\r\n",
    b"connection: keep-alive , upgrade\r\n",
    b"connection: host\r\n",
    b"upgrade: h2c\r\n",
    b"expect: 100-Continue\r\n",
    b"expect: x\r\n",
    b"te: gzip, trailers\r\n",
    b"x: y\r\n",
    b"y:\r\n",
    b"z: a, \"b\" \t\xc3\xa9 \r\n",
    b"long: ................................................................\r\n",
    b"x: y\r\n",
    b"cookie: a=b; c=d\r\n",
    b"accept: */*\r\n",
];

/// What chunked bodies are made of.
pub(super) const CHUNK_FRAGMENTS: &[&[u8]] = &[
    b"5\r\nhello\r\n",
    b"0\r\n\r\n",
    b"0\r\n",
    b"\r\n",
    b"1\r\nx\r\n",
    b"A\r\n0123456789\r\n",
    b"3;a=b\r\nabc\r\n",
    b"3 ; a = \"b;c\" ;d\r\nabc\r\n",
    b"3;a=\"\\\"\";b\r\nabc\r\n",
    b"\\",
    b"a",
    b";a=",
    b"0;last\r\n",
    b"x-sum: 1\r\n",
    b"content-length: 1\r\n",
    b"x:",
    b"5",
    b"ffffffffffffffff",
    b"0000000000000000",
    b"hello",
    b";",
    b"=",
    b"\"",
    b" ",
    b"\t",
    b"\r",
    b"\n",
    b"x",
    b"-",
    b"+",
    b"\0",
    b"\x7f",
];
