//! HTTP/1.1 as raw bytes against the running referee: what must be answered, and what must be refused.
//!
//! Each row is one connection: the bytes are sent, our side is closed, and everything that comes back is read as a
//! sequence of responses. A refused request must be the last thing that is answered on its connection.

use std::{
    io::{Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpStream},
    time::Duration,
};

use tempfile::TempDir;

use crate::servers;

/// What a row expects.
enum Want {
    /// These statuses, in this order, and nothing more.
    Answers(&'static [u16]),
    /// One refusal with one of these statuses, then the end, whatever followed in the input.
    Refused(&'static [u16]),
    /// These statuses, and the last one has this content.
    Content(&'static [u16], &'static str),
    /// Closed without an answer, or refused with 400.
    Dropped,
}
use Want::{Answers, Content, Dropped, Refused};

type Row = (&'static str, &'static str, &'static str, Want);

const H: &str = "Host: localhost\r\n";

/// Start lines and targets: RFC 9112 §2 and §3. `{H}` stands for a Host field.
const START: &[Row] = &[
    ("simple", "9112 2.1", "GET / HTTP/1.1\r\n{H}\r\n", Answers(&[200])),
    ("one empty line before", "9112 2.2", "\r\nGET / HTTP/1.1\r\n{H}\r\n", Answers(&[200])),
    ("bare LF after the start line", "9112 2.2", "GET / HTTP/1.1\n{H}\r\n", Refused(&[400])),
    (
        "bare LF after a field",
        "9112 2.2",
        "GET / HTTP/1.1\r\nHost: localhost\n\r\n",
        Refused(&[400]),
    ),
    ("bare LF at the end of the head", "9112 2.2", "GET / HTTP/1.1\r\n{H}\n", Refused(&[400])),
    ("bare CR in the start line", "9112 2.2", "GET /\r HTTP/1.1\r\n{H}\r\n", Refused(&[400])),
    ("bare CR in a field", "9112 2.2", "GET / HTTP/1.1\r\n{H}X: a\rb\r\n\r\n", Refused(&[400])),
    (
        "white space before the first field",
        "9112 2.2",
        "GET / HTTP/1.1\r\n {H}\r\n",
        Refused(&[400]),
    ),
    (
        "tab before the first field",
        "9112 2.2",
        "GET / HTTP/1.1\r\n\tX: y\r\n{H}\r\n",
        Refused(&[400]),
    ),
    ("two spaces after the method", "9112 3", "GET  / HTTP/1.1\r\n{H}\r\n", Refused(&[400])),
    ("two spaces before the version", "9112 3", "GET /  HTTP/1.1\r\n{H}\r\n", Refused(&[400])),
    ("tab after the method", "9112 3", "GET\t/ HTTP/1.1\r\n{H}\r\n", Refused(&[400])),
    ("tab before the version", "9112 3", "GET /\tHTTP/1.1\r\n{H}\r\n", Refused(&[400])),
    ("space before the method", "9112 3", " GET / HTTP/1.1\r\n{H}\r\n", Refused(&[400])),
    ("space after the version", "9112 3", "GET / HTTP/1.1 \r\n{H}\r\n", Refused(&[400])),
    ("no version", "9112 3", "GET /\r\n{H}\r\n", Refused(&[400])),
    ("no target", "9112 3", "GET HTTP/1.1\r\n{H}\r\n", Refused(&[400])),
    ("method only", "9112 3", "GET\r\n\r\n", Refused(&[400])),
    ("lower-case version", "9112 2.3", "GET / http/1.1\r\n{H}\r\n", Refused(&[400, 505])),
    ("version 2.0", "9110 15.6.6", "GET / HTTP/2.0\r\n{H}\r\n", Refused(&[505])),
    ("version 1.2", "9112 2.3", "GET / HTTP/1.2\r\n{H}\r\n", Refused(&[505, 400])),
    ("version 0.9", "9112 2.3", "GET / HTTP/0.9\r\n{H}\r\n", Refused(&[505, 400])),
    ("version 3.0", "9110 15.6.6", "GET / HTTP/3.0\r\n{H}\r\n", Refused(&[505, 400])),
    ("version with two digits", "9112 2.3", "GET / HTTP/1.10\r\n{H}\r\n", Refused(&[400, 505])),
    ("version without a minor", "9112 2.3", "GET / HTTP/1\r\n{H}\r\n", Refused(&[400, 505])),
    ("version with a letter", "9112 2.3", "GET / HTTP/1.x\r\n{H}\r\n", Refused(&[400, 505])),
    ("another protocol", "9112 2.3", "GET / SIP/2.0\r\n{H}\r\n", Refused(&[400, 505])),
    ("HTTP/0.9 request", "9112 2.3", "GET /\r\n\r\n", Refused(&[400])),
    ("unknown method", "9110 9.1", "BREW / HTTP/1.1\r\n{H}\r\n", Answers(&[405])),
    (
        "lower-case method is another method",
        "9110 9.1",
        "get / HTTP/1.1\r\n{H}\r\n",
        Answers(&[405]),
    ),
    ("method with a separator", "9110 9.1", "GE(T / HTTP/1.1\r\n{H}\r\n", Refused(&[400])),
    ("method with a control byte", "9110 9.1", "GE\x01T / HTTP/1.1\r\n{H}\r\n", Refused(&[400])),
    ("method with a colon", "9110 9.1", "GET: / HTTP/1.1\r\n{H}\r\n", Refused(&[400])),
    ("absolute-form", "9112 3.2.2", "GET http://localhost/ HTTP/1.1\r\n{H}\r\n", Answers(&[200])),
    (
        "absolute-form without a path",
        "9112 3.2.2",
        "GET http://localhost HTTP/1.1\r\n{H}\r\n",
        Answers(&[200]),
    ),
    (
        "absolute-form, other host",
        "9112 3.2.2",
        "GET http://other/ HTTP/1.1\r\n{H}\r\n",
        Refused(&[400]),
    ),
    (
        "absolute-form, same host in capitals",
        "9110 4.2.3",
        "GET http://LOCALHOST/ HTTP/1.1\r\n{H}\r\n",
        Answers(&[200]),
    ),
    (
        "absolute-form with userinfo",
        "9110 4.2.4",
        "GET http://u:p@localhost/ HTTP/1.1\r\n{H}\r\n",
        Refused(&[400]),
    ),
    (
        "absolute-form, empty host",
        "9110 4.2.1",
        "GET http:/// HTTP/1.1\r\n{H}\r\n",
        Refused(&[400]),
    ),
    (
        "another scheme",
        "9112 3.2.2",
        "GET ftp://localhost/ HTTP/1.1\r\n{H}\r\n",
        Refused(&[400, 421]),
    ),
    (
        "authority-form with GET",
        "9112 3.2.3",
        "GET localhost:80 HTTP/1.1\r\n{H}\r\n",
        Refused(&[400]),
    ),
    ("asterisk-form with GET", "9112 3.2.4", "GET * HTTP/1.1\r\n{H}\r\n", Refused(&[400])),
    ("asterisk-form with OPTIONS", "9112 3.2.4", "OPTIONS * HTTP/1.1\r\n{H}\r\n", Answers(&[204])),
    ("relative target", "9112 3.2", "GET index.html HTTP/1.1\r\n{H}\r\n", Refused(&[400])),
    ("target with a fragment", "9112 3.2", "GET /#x HTTP/1.1\r\n{H}\r\n", Refused(&[400])),
    ("target with a control byte", "9112 3.2", "GET /\x01 HTTP/1.1\r\n{H}\r\n", Refused(&[400])),
    ("target with NUL", "9112 3.2", "GET /\0 HTTP/1.1\r\n{H}\r\n", Refused(&[400])),
    ("target with DEL", "9112 3.2", "GET /\x7f HTTP/1.1\r\n{H}\r\n", Refused(&[400])),
    ("target with raw UTF-8", "9112 3.2", "GET /\u{e9} HTTP/1.1\r\n{H}\r\n", Refused(&[400])),
    ("target with an encoded NUL", "3986 7.3", "GET /%00 HTTP/1.1\r\n{H}\r\n", Answers(&[400])),
    ("target with a broken escape", "3986 2.1", "GET /%zz HTTP/1.1\r\n{H}\r\n", Answers(&[400])),
    ("target with a cut escape", "3986 2.1", "GET /%4 HTTP/1.1\r\n{H}\r\n", Answers(&[400])),
    (
        "escaped unreserved letters are the letters",
        "3986 2.3",
        "GET /%70laintext HTTP/1.1\r\n{H}\r\n",
        Content(&[200], "Hello, World!"),
    ),
    (
        "query",
        "3986 3.4",
        "GET /plaintext?a=b HTTP/1.1\r\n{H}\r\n",
        Content(&[200], "Hello, World!"),
    ),
    (
        "empty query",
        "3986 3.4",
        "GET /plaintext? HTTP/1.1\r\n{H}\r\n",
        Content(&[200], "Hello, World!"),
    ),
    (
        "CONNECT",
        "9110 9.3.6",
        "CONNECT localhost:80 HTTP/1.1\r\n{H}\r\n",
        Refused(&[400, 404, 405, 501]),
    ),
    ("a TLS record", "-", "\x16\x03\x01\x02\x00\x01\x00\x01\u{fc}\x03\x03", Dropped),
    ("garbage", "-", "!!!!!!!!!!!!!!!!!!!!\r\n\r\n", Refused(&[400])),
    ("nothing but line ends", "9112 2.2", "\r\n\r\n\r\n\r\n", Dropped),
    ("half a head", "9112 8", "GET / HTTP/1.1\r\nHost: loc", Dropped),
];

/// Fields: RFC 9112 §5, RFC 9110 §5, and Host: RFC 9110 §7.2.
const FIELDS: &[Row] = &[
    (
        "space before the colon",
        "9112 5.1",
        "GET / HTTP/1.1\r\nHost : localhost\r\n\r\n",
        Refused(&[400]),
    ),
    ("tab before the colon", "9112 5.1", "GET / HTTP/1.1\r\n{H}X\t: y\r\n\r\n", Refused(&[400])),
    ("space in the name", "9110 5.1", "GET / HTTP/1.1\r\n{H}X Y: z\r\n\r\n", Refused(&[400])),
    ("empty name", "9110 5.1", "GET / HTTP/1.1\r\n{H}: y\r\n\r\n", Refused(&[400])),
    ("no colon", "9112 5", "GET / HTTP/1.1\r\n{H}nothing\r\n\r\n", Refused(&[400])),
    ("folded with a space", "9112 5.2", "GET / HTTP/1.1\r\n{H}X: a\r\n b\r\n\r\n", Refused(&[400])),
    ("folded with a tab", "9112 5.2", "GET / HTTP/1.1\r\n{H}X: a\r\n\tb\r\n\r\n", Refused(&[400])),
    ("NUL in a value", "9110 5.5", "GET / HTTP/1.1\r\n{H}X: a\0b\r\n\r\n", Refused(&[400])),
    (
        "control byte in a value",
        "9110 5.5",
        "GET / HTTP/1.1\r\n{H}X: a\x01b\r\n\r\n",
        Refused(&[400]),
    ),
    ("DEL in a value", "9110 5.5", "GET / HTTP/1.1\r\n{H}X: a\x7fb\r\n\r\n", Refused(&[400])),
    (
        "control byte in a name",
        "9110 5.1",
        "GET / HTTP/1.1\r\n{H}X\x01: b\r\n\r\n",
        Refused(&[400]),
    ),
    ("brackets in a name", "9110 5.1", "GET / HTTP/1.1\r\n{H}X[0]: b\r\n\r\n", Refused(&[400])),
    ("slash in a name", "9110 5.1", "GET / HTTP/1.1\r\n{H}X/Y: b\r\n\r\n", Refused(&[400])),
    ("non-ASCII name", "9110 5.1", "GET / HTTP/1.1\r\n{H}\u{e9}: b\r\n\r\n", Refused(&[400])),
    (
        "non-ASCII value is opaque",
        "9110 5.5",
        "GET / HTTP/1.1\r\n{H}X: \u{e9}\r\n\r\n",
        Answers(&[200]),
    ),
    ("tab within a value", "9110 5.5", "GET / HTTP/1.1\r\n{H}X: a\tb\r\n\r\n", Answers(&[200])),
    ("empty value", "9110 5.5", "GET / HTTP/1.1\r\n{H}X:\r\n\r\n", Answers(&[200])),
    (
        "no space after the colon",
        "9112 5",
        "GET / HTTP/1.1\r\nHost:localhost\r\n\r\n",
        Answers(&[200]),
    ),
    (
        "white space around a value",
        "9112 5",
        "GET / HTTP/1.1\r\nHost:  \t localhost \t \r\n\r\n",
        Answers(&[200]),
    ),
    ("names in any case", "9110 5.1", "GET / HTTP/1.1\r\nhOsT: localhost\r\n\r\n", Answers(&[200])),
    (
        "every token byte in a name",
        "9110 5.6.2",
        "GET / HTTP/1.1\r\n{H}!#$%&'*+-.^_`|~09azAZ: y\r\n\r\n",
        Answers(&[200]),
    ),
    ("no Host", "9112 3.2", "GET / HTTP/1.1\r\n\r\n", Refused(&[400])),
    ("two Hosts", "9112 3.2", "GET / HTTP/1.1\r\n{H}Host: other\r\n\r\n", Refused(&[400])),
    ("two equal Hosts", "9112 3.2", "GET / HTTP/1.1\r\n{H}{H}\r\n", Refused(&[400])),
    ("no Host in HTTP/1.0", "9112 3.2", "GET / HTTP/1.0\r\n\r\n", Answers(&[200])),
    (
        "Host with a port",
        "9110 7.2",
        "GET / HTTP/1.1\r\nHost: localhost:8080\r\n\r\n",
        Answers(&[200]),
    ),
    (
        "Host with an empty port",
        "3986 3.2.3",
        "GET / HTTP/1.1\r\nHost: localhost:\r\n\r\n",
        Answers(&[200]),
    ),
    (
        "Host that is IPv6",
        "3986 3.2.2",
        "GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n",
        Answers(&[200]),
    ),
    (
        "Host with userinfo",
        "9110 7.2",
        "GET / HTTP/1.1\r\nHost: u@localhost\r\n\r\n",
        Refused(&[400]),
    ),
    (
        "Host with a path",
        "9110 7.2",
        "GET / HTTP/1.1\r\nHost: localhost/x\r\n\r\n",
        Refused(&[400]),
    ),
    (
        "Host with a query",
        "9110 7.2",
        "GET / HTTP/1.1\r\nHost: localhost?x\r\n\r\n",
        Refused(&[400]),
    ),
    (
        "Host with a space",
        "9110 7.2",
        "GET / HTTP/1.1\r\nHost: local host\r\n\r\n",
        Refused(&[400]),
    ),
    ("Host that is a list", "9110 7.2", "GET / HTTP/1.1\r\nHost: a, b\r\n\r\n", Refused(&[400])),
    (
        "Host with letters as port",
        "9110 7.2",
        "GET / HTTP/1.1\r\nHost: localhost:x\r\n\r\n",
        Refused(&[400]),
    ),
    (
        "Host with a port too large",
        "9110 7.2",
        "GET / HTTP/1.1\r\nHost: localhost:99999\r\n\r\n",
        Refused(&[400]),
    ),
    (
        "Host with an open bracket",
        "9110 7.2",
        "GET / HTTP/1.1\r\nHost: [::1\r\n\r\n",
        Refused(&[400]),
    ),
    ("Host with a NUL", "9110 7.2", "GET / HTTP/1.1\r\nHost: local\0host\r\n\r\n", Refused(&[400])),
    (
        "another site by Host",
        "9110 7.2",
        "GET / HTTP/1.1\r\nHost: alt.test\r\n\r\n",
        Content(&[200], "ALT"),
    ),
    (
        "another site by Host in capitals",
        "9110 4.2.3",
        "GET / HTTP/1.1\r\nHost: ALT.TEST:80\r\n\r\n",
        Content(&[200], "ALT"),
    ),
    (
        "Expect that is unknown",
        "9110 10.1.1",
        "GET / HTTP/1.1\r\n{H}Expect: magic\r\n\r\n",
        Refused(&[417]),
    ),
    ("unknown field", "9110 5.1", "GET / HTTP/1.1\r\n{H}X-Unknown: y\r\n\r\n", Answers(&[200])),
];

/// Message framing: RFC 9112 §6.
const FRAMING: &[Row] = &[
    (
        "length",
        "9112 6.2",
        "POST /echo HTTP/1.1\r\n{H}Content-Length: 5\r\n\r\nhello",
        Content(&[200], "hello"),
    ),
    (
        "length of nothing",
        "9112 6.2",
        "POST /echo HTTP/1.1\r\n{H}Content-Length: 0\r\n\r\n",
        Content(&[200], ""),
    ),
    ("no framing is no content", "9112 6.3", "POST /echo HTTP/1.1\r\n{H}\r\n", Content(&[200], "")),
    (
        "leading zeros",
        "9110 8.6",
        "POST /echo HTTP/1.1\r\n{H}Content-Length: 005\r\n\r\nhello",
        Content(&[200], "hello"),
    ),
    (
        "length and coding",
        "9112 6.1",
        "POST /echo HTTP/1.1\r\n{H}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        Refused(&[400]),
    ),
    (
        "coding and length",
        "9112 6.1",
        "POST /echo HTTP/1.1\r\n{H}Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
        Refused(&[400]),
    ),
    (
        "two lengths",
        "9112 6.3",
        "POST /echo HTTP/1.1\r\n{H}Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        Refused(&[400]),
    ),
    (
        "two equal lengths",
        "9112 6.3",
        "POST /echo HTTP/1.1\r\n{H}Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
        Refused(&[400]),
    ),
    (
        "list of lengths",
        "9112 6.3",
        "POST /echo HTTP/1.1\r\n{H}Content-Length: 5, 5\r\n\r\nhello",
        Refused(&[400]),
    ),
    (
        "plus sign",
        "9110 8.6",
        "POST /echo HTTP/1.1\r\n{H}Content-Length: +5\r\n\r\nhello",
        Refused(&[400]),
    ),
    (
        "minus sign",
        "9110 8.6",
        "POST /echo HTTP/1.1\r\n{H}Content-Length: -5\r\n\r\nhello",
        Refused(&[400]),
    ),
    (
        "hexadecimal length",
        "9110 8.6",
        "POST /echo HTTP/1.1\r\n{H}Content-Length: 0x5\r\n\r\nhello",
        Refused(&[400]),
    ),
    (
        "fraction",
        "9110 8.6",
        "POST /echo HTTP/1.1\r\n{H}Content-Length: 5.0\r\n\r\nhello",
        Refused(&[400]),
    ),
    (
        "length with a space inside",
        "9110 8.6",
        "POST /echo HTTP/1.1\r\n{H}Content-Length: 5 5\r\n\r\nhello",
        Refused(&[400]),
    ),
    (
        "empty length",
        "9110 8.6",
        "POST /echo HTTP/1.1\r\n{H}Content-Length: \r\n\r\n",
        Refused(&[400]),
    ),
    (
        "length beyond 64 bits",
        "9110 8.6",
        "POST /echo HTTP/1.1\r\n{H}Content-Length: 99999999999999999999\r\n\r\n",
        Refused(&[400, 413]),
    ),
    (
        "length in other digits",
        "9110 8.6",
        "POST /echo HTTP/1.1\r\n{H}Content-Length: \u{665}\r\n\r\nhello",
        Refused(&[400]),
    ),
    (
        "content cut short",
        "9112 6.3",
        "POST /echo HTTP/1.1\r\n{H}Content-Length: 50\r\n\r\nhello",
        Dropped,
    ),
    (
        "GET with content",
        "9110 9.3.1",
        "GET /plaintext HTTP/1.1\r\n{H}Content-Length: 5\r\n\r\nhelloGET / HTTP/1.1\r\n{H}\r\n",
        Answers(&[200, 200]),
    ),
    (
        "unknown coding",
        "9112 6.1",
        "POST /echo HTTP/1.1\r\n{H}Transfer-Encoding: gzip\r\n\r\n",
        Refused(&[400, 501]),
    ),
    (
        "identity",
        "9112 7",
        "POST /echo HTTP/1.1\r\n{H}Transfer-Encoding: identity\r\n\r\n",
        Refused(&[400, 501]),
    ),
    (
        "chunked twice",
        "9112 6.1",
        "POST /echo HTTP/1.1\r\n{H}Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
        Refused(&[400, 501]),
    ),
    (
        "chunked on two lines",
        "9112 6.1",
        "POST /echo HTTP/1.1\r\n{H}Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        Refused(&[400, 501]),
    ),
    (
        "chunked is not last",
        "9112 6.3",
        "POST /echo HTTP/1.1\r\n{H}Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
        Refused(&[400, 501]),
    ),
    (
        "gzip, chunked",
        "9112 6.1",
        "POST /echo HTTP/1.1\r\n{H}Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        Refused(&[400, 501]),
    ),
    (
        "chunked with a parameter",
        "9112 7",
        "POST /echo HTTP/1.1\r\n{H}Transfer-Encoding: chunked;q=1\r\n\r\n0\r\n\r\n",
        Refused(&[400, 501]),
    ),
    (
        "chunked with a vertical tab",
        "9110 5.5",
        "POST /echo HTTP/1.1\r\n{H}Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
        Refused(&[400]),
    ),
    (
        "chunked in quotes",
        "9112 6.1",
        "POST /echo HTTP/1.1\r\n{H}Transfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n",
        Refused(&[400, 501]),
    ),
    (
        "not quite chunked",
        "9112 6.1",
        "POST /echo HTTP/1.1\r\n{H}Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        Refused(&[400, 501]),
    ),
    (
        "empty coding",
        "9112 6.1",
        "POST /echo HTTP/1.1\r\n{H}Transfer-Encoding:\r\n\r\n",
        Refused(&[400, 501]),
    ),
    (
        "chunked in capitals",
        "9112 7",
        "POST /echo HTTP/1.1\r\n{H}Transfer-Encoding: CHUNKED\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        Content(&[200], "hello"),
    ),
    (
        "coding in HTTP/1.0",
        "9112 6.1",
        "POST /echo HTTP/1.0\r\n{H}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        Refused(&[400]),
    ),
    (
        "coding with a space before the colon",
        "9112 5.1",
        "POST /echo HTTP/1.1\r\n{H}Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
        Refused(&[400]),
    ),
    (
        "folded coding",
        "9112 5.2",
        "POST /echo HTTP/1.1\r\n{H}Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
        Refused(&[400]),
    ),
];

/// Chunks: RFC 9112 §7.1. The head of a chunked request stands before each.
const CHUNKS: &[Row] = &[
    ("one", "9112 7.1", "5\r\nhello\r\n0\r\n\r\n", Content(&[200], "hello")),
    ("two", "9112 7.1", "5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n", Content(&[200], "hello world")),
    ("none", "9112 7.1", "0\r\n\r\n", Content(&[200], "")),
    (
        "hexadecimal, both cases",
        "9112 7.1",
        "a\r\n0123456789\r\nB\r\n0123456789a\r\n0\r\n\r\n",
        Content(&[200], "01234567890123456789a"),
    ),
    ("leading zeros", "9112 7.1", "0005\r\nhello\r\n000\r\n\r\n", Content(&[200], "hello")),
    ("extension", "9112 7.1.1", "5;a=b\r\nhello\r\n0;c\r\n\r\n", Content(&[200], "hello")),
    (
        "quoted extension",
        "9112 7.1.1",
        "5;a=\"b;c\"\r\nhello\r\n0\r\n\r\n",
        Content(&[200], "hello"),
    ),
    (
        "white space before an extension",
        "9112 7.1.1",
        "5 ;a=b\r\nhello\r\n0\r\n\r\n",
        Answers(&[200]),
    ),
    ("trailer", "9112 7.1.2", "5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n", Content(&[200], "hello")),
    (
        "pipelined behind",
        "9112 9.3.2",
        "5\r\nhello\r\n0\r\n\r\nGET / HTTP/1.1\r\n{H}\r\n",
        Answers(&[200, 200]),
    ),
    ("empty size", "9112 7.1", "\r\nhello\r\n0\r\n\r\n", Refused(&[400])),
    ("size with a prefix", "9112 7.1", "0x5\r\nhello\r\n0\r\n\r\n", Refused(&[400])),
    ("size with a plus", "9112 7.1", "+5\r\nhello\r\n0\r\n\r\n", Refused(&[400])),
    ("size with a minus", "9112 7.1", "-5\r\nhello\r\n0\r\n\r\n", Refused(&[400])),
    ("size with a space before", "9112 7.1", " 5\r\nhello\r\n0\r\n\r\n", Refused(&[400])),
    ("size with an underscore", "9112 7.1", "1_0\r\nhello\r\n0\r\n\r\n", Refused(&[400])),
    ("size that is no number", "9112 7.1", "g\r\nhello\r\n0\r\n\r\n", Refused(&[400])),
    (
        "size beyond 64 bits",
        "9112 7.1",
        "10000000000000005\r\nhello\r\n0\r\n\r\n",
        Refused(&[400, 413]),
    ),
    ("largest size", "9112 7.1", "ffffffffffffffff\r\nhello\r\n0\r\n\r\n", Refused(&[400, 413])),
    ("size and LF", "9112 7.1", "5\nhello\r\n0\r\n\r\n", Refused(&[400])),
    ("size and CR", "9112 7.1", "5\rhello\r\n0\r\n\r\n", Refused(&[400])),
    ("data without CRLF", "9112 7.1", "5\r\nhello0\r\n\r\n", Refused(&[400])),
    ("data and LF", "9112 7.1", "5\r\nhello\n0\r\n\r\n", Refused(&[400])),
    ("data longer than its size", "9112 7.1", "3\r\nhello\r\n0\r\n\r\n", Refused(&[400])),
    ("LF within an extension", "CVE-2025-55315", "5;a\nb\r\nhello\r\n0\r\n\r\n", Refused(&[400])),
    ("CR within an extension", "9112 7.1.1", "5;a\rb\r\nhello\r\n0\r\n\r\n", Refused(&[400])),
    ("NUL within an extension", "9112 7.1.1", "5;a\0\r\nhello\r\n0\r\n\r\n", Refused(&[400])),
    ("LF after the last size", "9112 7.1", "5\r\nhello\r\n0\n\r\n", Refused(&[400])),
    ("LF at the end", "9112 7.1", "5\r\nhello\r\n0\r\n\n", Refused(&[400])),
    ("trailer without a colon", "9112 7.1.2", "0\r\nnothing\r\n\r\n", Refused(&[400])),
    ("trailer with a space before the colon", "9112 7.1.2", "0\r\nX : y\r\n\r\n", Refused(&[400])),
    ("folded trailer", "9112 5.2", "0\r\nX: y\r\n z\r\n\r\n", Refused(&[400])),
    ("framing in a trailer", "9110 6.5.1", "0\r\nContent-Length: 5\r\n\r\n", Answers(&[400])),
    ("cut within a size", "9112 8", "5", Dropped),
    ("cut within data", "9112 8", "5\r\nhe", Dropped),
    ("cut before the end", "9112 8", "5\r\nhello\r\n0\r\n", Dropped),
];

/// Persistence and pipelining: RFC 9112 §9; methods: RFC 9110 §9.
const CONNECTIONS: &[Row] = &[
    (
        "two pipelined",
        "9112 9.3.2",
        "GET / HTTP/1.1\r\n{H}\r\nGET /plaintext HTTP/1.1\r\n{H}\r\n",
        Content(&[200, 200], "Hello, World!"),
    ),
    (
        "in order",
        "9112 9.3.2",
        "GET /nowhere HTTP/1.1\r\n{H}\r\nGET / HTTP/1.1\r\n{H}\r\n",
        Answers(&[404, 200]),
    ),
    (
        "an empty line between",
        "9112 2.2",
        "GET / HTTP/1.1\r\n{H}\r\n\r\nGET / HTTP/1.1\r\n{H}\r\n",
        Answers(&[200, 200]),
    ),
    (
        "close",
        "9112 9.6",
        "GET / HTTP/1.1\r\n{H}Connection: close\r\n\r\nGET / HTTP/1.1\r\n{H}\r\n",
        Answers(&[200]),
    ),
    (
        "close in capitals",
        "9110 7.6.1",
        "GET / HTTP/1.1\r\n{H}Connection: CLOSE\r\n\r\nGET / HTTP/1.1\r\n{H}\r\n",
        Answers(&[200]),
    ),
    (
        "close in a list",
        "9110 7.6.1",
        "GET / HTTP/1.1\r\n{H}Connection: x, close\r\n\r\nGET / HTTP/1.1\r\n{H}\r\n",
        Answers(&[200]),
    ),
    (
        "close on the second line",
        "9110 7.6.1",
        "GET / HTTP/1.1\r\n{H}Connection: x\r\nConnection: close\r\n\r\nGET / HTTP/1.1\r\n{H}\r\n",
        Answers(&[200]),
    ),
    (
        "keep-alive is the default",
        "9112 9.3",
        "GET / HTTP/1.1\r\n{H}Connection: keep-alive\r\n\r\nGET / HTTP/1.1\r\n{H}\r\n",
        Answers(&[200, 200]),
    ),
    (
        "HTTP/1.0 closes",
        "9112 9.3",
        "GET / HTTP/1.0\r\n{H}\r\nGET / HTTP/1.0\r\n{H}\r\n",
        Answers(&[200]),
    ),
    (
        "HTTP/1.0 keeps when asked",
        "9112 9.3",
        "GET / HTTP/1.0\r\n{H}Connection: keep-alive\r\n\r\nGET / HTTP/1.0\r\n{H}\r\n",
        Answers(&[200, 200]),
    ),
    (
        "a refused request ends it",
        "9112 9.3.2",
        "GET / HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\n{H}\r\n",
        Refused(&[400]),
    ),
    (
        "answered, then refused",
        "9112 9.3.2",
        "GET / HTTP/1.1\r\n{H}\r\nBAD\r\n\r\nGET / HTTP/1.1\r\n{H}\r\n",
        Answers(&[200, 400]),
    ),
    ("HEAD", "9110 9.3.2", "HEAD / HTTP/1.1\r\n{H}\r\n", Content(&[200], "")),
    (
        "HEAD, then GET",
        "9110 9.3.2",
        "HEAD /plaintext HTTP/1.1\r\n{H}\r\nGET /plaintext HTTP/1.1\r\n{H}\r\n",
        Content(&[200, 200], "Hello, World!"),
    ),
    (
        "HEAD of what is missing",
        "9110 9.3.2",
        "HEAD /nowhere HTTP/1.1\r\n{H}\r\nGET / HTTP/1.1\r\n{H}\r\n",
        Answers(&[404, 200]),
    ),
    ("wrong method", "9110 15.5.6", "DELETE /plaintext HTTP/1.1\r\n{H}\r\n", Answers(&[405])),
    ("TRACE", "9110 9.3.8", "TRACE / HTTP/1.1\r\n{H}\r\n", Answers(&[405])),
    (
        "Upgrade to what is unknown is ignored",
        "9110 7.8",
        "GET / HTTP/1.1\r\n{H}Connection: Upgrade\r\nUpgrade: x\r\n\r\n",
        Answers(&[200]),
    ),
    (
        "Upgrade: h2c is ignored",
        "9113 3.1",
        "GET / HTTP/1.1\r\n{H}Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n",
        Answers(&[200]),
    ),
    (
        "unread content, then another request",
        "9112 9.3",
        "POST /plaintext HTTP/1.1\r\n{H}Content-Length: 5\r\n\r\nhelloGET / HTTP/1.1\r\n{H}\r\n",
        Answers(&[405, 200]),
    ),
    (
        "100-continue with content at once",
        "9110 10.1.1",
        "POST /echo HTTP/1.1\r\n{H}Expect: 100-continue\r\nContent-Length: 5\r\n\r\nhello",
        Content(&[200], "hello"),
    ),
    (
        "100-continue without content",
        "9110 10.1.1",
        "GET / HTTP/1.1\r\n{H}Expect: 100-continue\r\n\r\n",
        Answers(&[200]),
    ),
    (
        "100-continue in HTTP/1.0",
        "9110 10.1.1",
        "POST /echo HTTP/1.0\r\n{H}Expect: 100-continue\r\nContent-Length: 5\r\n\r\nhello",
        Content(&[200], "hello"),
    ),
];

#[test]
fn raw_cases() {
    let root = TempDir::new().expect("a folder");
    let server = servers::referee(root.path(), &[]);
    let chunked = "POST /echo HTTP/1.1\r\n{H}Transfer-Encoding: chunked\r\n\r\n";
    let mut failures = Vec::new();
    let mut cases = 0;
    for (table, before) in
        [(START, ""), (FIELDS, ""), (FRAMING, ""), (CHUNKS, chunked), (CONNECTIONS, "")]
    {
        for (name, source, input, want) in table {
            cases += 1;
            let input = format!("{before}{input}").replace("{H}", H);
            if let Err(found) = check(server.address(), &input, want) {
                failures.push(format!("{name} (RFC {source}): {found}"));
            }
        }
    }
    for (name, input, wanted) in large() {
        cases += 1;
        if let Err(found) = check(server.address(), &input, &Refused(wanted)) {
            failures.push(format!("{name}: {found}"));
        }
    }
    assert!(failures.is_empty(), "{} of {cases} cases:\n{}", failures.len(), failures.join("\n"));
    eprintln!("{cases} cases");
}

/// Sizes: what is too large is refused by name.
fn large() -> Vec<(&'static str, String, &'static [u16])> {
    let field = format!("X: {}\r\n", "y".repeat(17 << 10));
    let fields: String = (0..101).map(|n| format!("X-{n}: y\r\n")).collect();
    vec![
        ("target of 9 KiB", format!("GET /{} HTTP/1.1\r\n{H}\r\n", "a".repeat(9 << 10)), &[414]),
        ("target of 20 KiB", format!("GET /{} HTTP/1.1\r\n{H}\r\n", "a".repeat(20 << 10)), &[414]),
        ("target without an end", format!("GET /{}", "a".repeat(64 << 10)), &[414]),
        ("one field of 17 KiB", format!("GET / HTTP/1.1\r\n{H}{field}\r\n"), &[431]),
        ("101 fields", format!("GET / HTTP/1.1\r\n{fields}{H}\r\n"), &[431]),
        (
            "content of 3 MiB by length",
            format!("POST /echo HTTP/1.1\r\n{H}Content-Length: 3145728\r\n\r\n"),
            &[413],
        ),
    ]
}

fn check(address: SocketAddr, input: &str, want: &Want) -> Result<(), String> {
    let output = talk(address, input)?;
    let responses = parse(&output, input)?;
    let statuses: Vec<u16> = responses.iter().map(|response| response.status).collect();
    let found = || format!("{statuses:?}: {}", String::from_utf8_lossy(&output).escape_debug());
    match want {
        Answers(wanted) if statuses == **wanted => Ok(()),
        Content(wanted, content) if statuses == **wanted => {
            let body = responses.last().map(|response| response.body.clone()).unwrap_or_default();
            let same = body == content.as_bytes() || *content == "ALT" && body.starts_with(b"ALT");
            same.then_some(()).ok_or_else(found)
        }
        Refused(wanted) => {
            let [only] = responses.as_slice() else { return Err(found()) };
            let right = wanted.contains(&only.status) && only.close;
            right.then_some(()).ok_or_else(found)
        }
        Dropped if statuses.is_empty() || statuses == [400] || statuses == [408] => Ok(()),
        _ => Err(found()),
    }
}

fn talk(address: SocketAddr, input: &str) -> Result<Vec<u8>, String> {
    let mut stream = TcpStream::connect(address).map_err(|error| error.to_string())?;
    let _ = stream.set_read_timeout(Some(Duration::from_secs(15)));
    // A refusal may come, and the connection close, before all of it was sent.
    let _ = stream.write_all(input.as_bytes());
    let _ = stream.shutdown(Shutdown::Write);
    let mut output = Vec::new();
    stream
        .read_to_end(&mut output)
        .map_err(|error| format!("{error} after {:?}", String::from_utf8_lossy(&output)))?;
    Ok(output)
}

struct Response {
    status: u16,
    close: bool,
    body: Vec<u8>,
}

/// Reads every response; interim ones are left out.
fn parse(output: &[u8], input: &str) -> Result<Vec<Response>, String> {
    let mut heads = input.matches("HEAD /").count();
    let mut responses = Vec::new();
    let mut rest = output;
    while !rest.is_empty() {
        let end = rest.windows(4).position(|window| window == b"\r\n\r\n");
        let end =
            end.ok_or_else(|| format!("no end of head in {:?}", String::from_utf8_lossy(rest)))?;
        let head = String::from_utf8_lossy(&rest[..end]).to_ascii_lowercase();
        rest = &rest[end + 4..];
        let status: u16 = head.get(9..12).and_then(|code| code.parse().ok()).ok_or(head.clone())?;
        if status < 200 {
            continue;
        }
        let field =
            |name: &str| head.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        let bodiless = heads > 0 && {
            heads -= 1;
            true
        };
        let length = match field("content-length:") {
            Some(length) => length.parse::<usize>().map_err(|error| error.to_string())?,
            None if status == 204 || status == 304 => 0,
            None => return Err(format!("no length: {head}")),
        };
        let length = if bodiless { 0 } else { length };
        let body = rest.get(..length).ok_or_else(|| format!("cut short: {head}"))?.to_vec();
        rest = &rest[length..];
        responses.push(Response { status, close: field("connection:") == Some("close"), body });
    }
    Ok(responses)
}
