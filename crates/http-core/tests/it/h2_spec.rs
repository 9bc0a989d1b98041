//! The rules of RFC 9113 and RFC 7541 that a peer can break, and those that must not be broken for it.

use std::time::Duration;

use hearth_http_core::Settings;

use crate::h2_support::{Frame, Raw, Server, block, kind, request_fields, soon};

const PROTOCOL: u32 = 1;
const FLOW: u32 = 3;
const CLOSED: u32 = 5;
const SIZE: u32 = 6;
const REFUSED: u32 = 7;
const COMPRESSION: u32 = 9;

/// What the server must do.
#[derive(Debug, Clone, Copy)]
enum Want {
    /// GOAWAY with one of these codes, then the end of the connection.
    Connection(&'static [u32]),
    /// RST_STREAM, or GOAWAY, with one of these codes.
    Stream(&'static [u32]),
    /// A response with this status on stream 1.
    Status(u16),
    /// Nothing: a PING is answered.
    Alive,
}

use Want::{Alive, Connection, Status, Stream};

struct Case {
    section: &'static str,
    name: &'static str,
    frames: Vec<Frame>,
    want: Want,
}

fn case(section: &'static str, name: &'static str, frames: Vec<Frame>, want: Want) -> Case {
    Case { section, name, frames, want }
}

async fn run(case: &Case, together: bool, context: &str) {
    let (_server, io) = Server::start(Settings::default());
    let mut raw = Raw::connect(io).await;
    if together {
        raw.send_bytes(&case.frames.iter().flat_map(Frame::bytes).collect::<Vec<_>>()).await;
    } else {
        for frame in &case.frames {
            raw.send(frame.clone()).await;
            // The server sees one frame at a time, and may answer in between.
            for _ in 0..10 {
                tokio::task::yield_now().await;
            }
        }
    }
    match case.want {
        Connection(codes) => {
            let last = raw.rest().await.pop().expect(context);
            assert_eq!(last.kind, kind::GOAWAY, "{context}");
            assert!(codes.contains(&last.code()), "{context}: {}", last.code());
        }
        Stream(codes) => {
            let frame = raw.until(&[kind::RST_STREAM, kind::GOAWAY]).await;
            assert!(codes.contains(&frame.code()), "{context}: {frame:?}");
        }
        Status(status) => {
            let frame = soon(raw.until(&[kind::HEADERS, kind::GOAWAY, kind::RST_STREAM])).await;
            assert_eq!((frame.kind, frame.stream), (kind::HEADERS, 1), "{context}: {frame:?}");
            assert_eq!(frame.status(), status, "{context}");
        }
        Alive => {
            raw.send(Frame::new(kind::PING, 0, 0, *b"are you?")).await;
            let ack = Frame::new(kind::PING, 1, 0, *b"are you?");
            while raw.next().await.expect(context) != ack {}
        }
    }
}

async fn check(cases: Vec<Case>) {
    for case in &cases {
        for together in [true, false] {
            let context = format!("§{} {} (together: {together})", case.section, case.name);
            let run = tokio::time::timeout(Duration::from_secs(10), run(case, together, &context));
            assert!(run.await.is_ok(), "{context}: nothing came");
        }
    }
}

fn raw_headers(flags: u8, stream: u32, block: Vec<u8>) -> Frame {
    Frame::new(kind::HEADERS, flags, stream, block)
}

fn get_block() -> Vec<u8> {
    block(&request_fields("GET", "/"))
}

/// A GET whose header block has this behind its first fields.
fn get_with(behind: &[u8]) -> Frame {
    raw_headers(5, 1, [&get_block(), behind].concat())
}

fn get_of(fields: &[(&str, &str)]) -> Frame {
    Frame::request(1, fields)
}

fn data(flags: u8, stream: u32, content: &[u8]) -> Frame {
    Frame::new(kind::DATA, flags, stream, content)
}

#[tokio::test]
async fn what_is_in_order() {
    let priority = |stream, weight| Frame::new(kind::PRIORITY, 0, stream, [0, 0, 0, 0, weight]);
    let padded = [&[4][..], &get_block(), &[0; 4]].concat();
    let with_priority = [&[0, 0, 0, 0, 15][..], &get_block()].concat();
    let (first, rest) = (get_block()[..9].to_vec(), get_block()[9..].to_vec());
    let (middle, last) = rest.split_at(20);
    let post = |path| Frame::post(1, path);
    let trailers = raw_headers(5, 1, block(&[("x-test", "ok")]));
    check(vec![
        case(
            "5.1",
            "PRIORITY on idle stream",
            vec![priority(1, 255), Frame::get(1, "/")],
            Status(200),
        ),
        case(
            "5.3",
            "PRIORITY for a later stream",
            vec![priority(7, 0), Frame::get(1, "/")],
            Status(200),
        ),
        case(
            "5.1",
            "WINDOW_UPDATE half-closed",
            vec![Frame::get(1, "/"), Frame::window(1, 9)],
            Status(200),
        ),
        case("5.1", "RST_STREAM half-closed", vec![Frame::get(1, "/"), Frame::reset(1, 8)], Alive),
        case("5.1", "PRIORITY half-closed", vec![Frame::get(1, "/"), priority(1, 1)], Status(200)),
        case("6.1", "DATA", vec![post("/length"), data(1, 1, b"test")], Status(200)),
        case(
            "6.1",
            "several DATA",
            vec![post("/length"), data(0, 1, b"a"), data(1, 1, b"b")],
            Status(200),
        ),
        case(
            "6.1",
            "padded DATA",
            vec![post("/length"), data(9, 1, b"\x04test\0\0\0\0")],
            Status(200),
        ),
        case("6.1", "DATA of 2^14", vec![post("/length"), data(1, 1, &[7; 1 << 14])], Status(200)),
        case("6.2", "padded HEADERS", vec![raw_headers(13, 1, padded)], Status(200)),
        case("6.2", "HEADERS with priority", vec![raw_headers(37, 1, with_priority)], Status(200)),
        case(
            "6.10",
            "several CONTINUATION",
            vec![
                raw_headers(1, 1, first),
                Frame::new(kind::CONTINUATION, 0, 1, middle),
                Frame::new(kind::CONTINUATION, 4, 1, last),
            ],
            Status(200),
        ),
        case("8.1", "trailers", vec![post("/length"), data(0, 1, b"a"), trailers], Status(200)),
        case("8.1", "HEAD", vec![Frame::request(1, &request_fields("HEAD", "/"))], Status(200)),
        case(
            "8.1",
            "OPTIONS *",
            vec![Frame::request(1, &request_fields("OPTIONS", "*"))],
            Status(404),
        ),
        case("6.8", "GOAWAY", vec![Frame::new(kind::GOAWAY, 0, 0, [0; 8])], Connection(&[0])),
        case(
            "7",
            "RST_STREAM, unknown code",
            vec![Frame::get(1, "/never"), Frame::reset(1, 0xff)],
            Alive,
        ),
        case("6.7", "PING ACK", vec![Frame::new(kind::PING, 1, 0, *b"h2spec--")], Alive),
        case("6.5.2", "unknown setting", vec![Frame::settings(&[(0xff, 1)])], Alive),
        case("4.1", "unknown type", vec![Frame::new(0xff, 0, 0, [7; 8])], Alive),
        case("4.1", "undefined flag", vec![Frame::new(kind::PING, 0xfe, 0, [7; 8])], Alive),
        case("4.1", "reserved bit", vec![Frame::new(kind::PING, 0, 1 << 31, *b"reserved")], Alive),
        case(
            "5.5",
            "unknown frame on a stream",
            vec![Frame::new(0xbb, 0, 1, *b"x"), Frame::get(1, "/")],
            Status(200),
        ),
    ])
    .await;
}

#[tokio::test]
async fn frames_of_a_wrong_form() {
    let one = |kind, flags, stream, payload: &[u8]| vec![Frame::new(kind, flags, stream, payload)];
    check(vec![
        case(
            "4.2",
            "DATA too large",
            vec![Frame::post(1, "/length"), data(1, 1, &[0; 16_385])],
            Connection(&[SIZE]),
        ),
        case(
            "4.2",
            "HEADERS too large",
            one(kind::HEADERS, 5, 1, &[0; 16_385]),
            Connection(&[SIZE]),
        ),
        case("6.1", "DATA on stream 0", one(kind::DATA, 1, 0, b"test"), Connection(&[PROTOCOL])),
        case(
            "6.1",
            "padding longer than DATA",
            vec![Frame::post(1, "/length"), data(9, 1, b"\x09test")],
            Connection(&[PROTOCOL]),
        ),
        case(
            "6.2",
            "HEADERS on stream 0",
            one(kind::HEADERS, 5, 0, &get_block()),
            Connection(&[PROTOCOL]),
        ),
        case(
            "6.2",
            "padding longer than HEADERS",
            vec![raw_headers(13, 1, [&[0xff][..], &get_block()].concat())],
            Connection(&[PROTOCOL]),
        ),
        case(
            "6.3",
            "PRIORITY on stream 0",
            one(kind::PRIORITY, 0, 0, &[0; 5]),
            Connection(&[PROTOCOL]),
        ),
        case("6.3", "PRIORITY of 4 octets", one(kind::PRIORITY, 0, 1, &[0; 4]), Stream(&[SIZE])),
        case(
            "6.4",
            "RST_STREAM on stream 0",
            one(kind::RST_STREAM, 0, 0, &[0; 4]),
            Connection(&[PROTOCOL]),
        ),
        case(
            "6.4",
            "RST_STREAM of 3 octets",
            vec![Frame::get(1, "/never"), Frame::new(kind::RST_STREAM, 0, 1, [0; 3])],
            Connection(&[SIZE]),
        ),
        case(
            "6.5",
            "SETTINGS ACK with content",
            one(kind::SETTINGS, 1, 0, &[0; 6]),
            Connection(&[SIZE]),
        ),
        case(
            "6.5",
            "SETTINGS on stream 1",
            one(kind::SETTINGS, 0, 1, &[]),
            Connection(&[PROTOCOL]),
        ),
        case(
            "6.5",
            "SETTINGS of 3 octets",
            one(kind::SETTINGS, 0, 0, &[0; 3]),
            Connection(&[SIZE]),
        ),
        case("6.5.2", "ENABLE_PUSH 2", vec![Frame::settings(&[(2, 2)])], Connection(&[PROTOCOL])),
        case(
            "6.5.2",
            "window above 2^31-1",
            vec![Frame::settings(&[(4, 1 << 31)])],
            Connection(&[FLOW]),
        ),
        case(
            "6.5.2",
            "MAX_FRAME_SIZE too small",
            vec![Frame::settings(&[(5, 16_383)])],
            Connection(&[PROTOCOL]),
        ),
        case(
            "6.5.2",
            "MAX_FRAME_SIZE too large",
            vec![Frame::settings(&[(5, 1 << 24)])],
            Connection(&[PROTOCOL]),
        ),
        case("6.7", "PING on stream 1", one(kind::PING, 0, 1, &[0; 8]), Connection(&[PROTOCOL])),
        case("6.7", "PING of 6 octets", one(kind::PING, 0, 0, &[0; 6]), Connection(&[SIZE])),
        case(
            "6.8",
            "GOAWAY on stream 1",
            one(kind::GOAWAY, 0, 1, &[0; 8]),
            Connection(&[PROTOCOL]),
        ),
        case(
            "6.9",
            "WINDOW_UPDATE of 3 octets",
            one(kind::WINDOW_UPDATE, 0, 0, &[0; 3]),
            Connection(&[SIZE]),
        ),
        case("6.9", "increment 0", vec![Frame::window(0, 0)], Connection(&[PROTOCOL])),
        case(
            "6.9",
            "increment 0 on a stream",
            vec![Frame::get(1, "/never"), Frame::window(1, 0)],
            Stream(&[PROTOCOL]),
        ),
        case(
            "6.9.1",
            "connection window overflows",
            vec![Frame::window(0, 0x7fff_ffff), Frame::window(0, 0x7fff_ffff)],
            Connection(&[FLOW]),
        ),
        case(
            "6.9.1",
            "stream window overflows",
            vec![
                Frame::get(1, "/never"),
                Frame::window(1, 0x7fff_ffff),
                Frame::window(1, 0x7fff_ffff),
            ],
            Stream(&[FLOW]),
        ),
    ])
    .await;
}

#[tokio::test]
async fn frames_where_they_may_not_stand() {
    let begun = || raw_headers(1, 1, get_block());
    let continuation = |stream| Frame::new(kind::CONTINUATION, 4, stream, block(&[("x", "y")]));
    let reset_post = || [Frame::post(1, "/never"), Frame::reset(1, 8)];
    check(vec![
        case(
            "4.3",
            "PRIORITY in a block",
            vec![begun(), Frame::new(kind::PRIORITY, 0, 1, [0, 0, 0, 0, 1])],
            Connection(&[PROTOCOL]),
        ),
        case(
            "4.3",
            "HEADERS in a block",
            vec![begun(), Frame::get(3, "/")],
            Connection(&[PROTOCOL]),
        ),
        case(
            "5.5",
            "unknown frame in a block",
            vec![begun(), Frame::new(0xbb, 0, 1, *b"x")],
            Connection(&[PROTOCOL]),
        ),
        case("6.10", "DATA in a block", vec![begun(), data(1, 1, b"x")], Connection(&[PROTOCOL])),
        case(
            "6.10",
            "CONTINUATION on stream 0",
            vec![begun(), continuation(0)],
            Connection(&[PROTOCOL]),
        ),
        case(
            "6.10",
            "CONTINUATION behind a block",
            vec![Frame::post(1, "/never"), continuation(1)],
            Connection(&[PROTOCOL]),
        ),
        case(
            "6.10",
            "CONTINUATION behind the last",
            vec![begun(), continuation(1), continuation(1)],
            Connection(&[PROTOCOL]),
        ),
        case(
            "6.10",
            "CONTINUATION behind DATA",
            vec![Frame::post(1, "/never"), data(0, 1, b"x"), continuation(1)],
            Connection(&[PROTOCOL]),
        ),
        case("5.1", "idle: DATA", vec![data(1, 1, b"test")], Connection(&[PROTOCOL])),
        case("5.1", "idle: RST_STREAM", vec![Frame::reset(1, 8)], Connection(&[PROTOCOL])),
        case("5.1", "idle: WINDOW_UPDATE", vec![Frame::window(1, 100)], Connection(&[PROTOCOL])),
        case("5.1", "idle: CONTINUATION", vec![continuation(1)], Connection(&[PROTOCOL])),
        case(
            "5.1",
            "half-closed: DATA",
            vec![Frame::get(1, "/never"), data(1, 1, b"test")],
            Stream(&[CLOSED]),
        ),
        case(
            "5.1",
            "half-closed: HEADERS",
            vec![Frame::get(1, "/never"), Frame::get(1, "/never")],
            Stream(&[CLOSED]),
        ),
        case(
            "5.1",
            "closed: DATA",
            vec![Frame::get(1, "/"), data(1, 1, b"test")],
            Stream(&[CLOSED]),
        ),
        case(
            "5.1",
            "closed: HEADERS",
            vec![Frame::get(1, "/"), Frame::get(1, "/")],
            Stream(&[CLOSED]),
        ),
        case(
            "5.1",
            "reset: DATA",
            reset_post().into_iter().chain([data(1, 1, b"x")]).collect(),
            Stream(&[CLOSED]),
        ),
        case(
            "5.1",
            "reset: HEADERS",
            reset_post().into_iter().chain([Frame::get(1, "/")]).collect(),
            Stream(&[CLOSED]),
        ),
        case(
            "5.1",
            "reset: CONTINUATION",
            reset_post().into_iter().chain([continuation(1)]).collect(),
            Connection(&[PROTOCOL]),
        ),
        case("5.1.1", "even stream", vec![Frame::get(2, "/")], Connection(&[PROTOCOL])),
        case(
            "5.1.1",
            "stream numbers go down",
            vec![Frame::get(5, "/"), Frame::get(3, "/")],
            Connection(&[PROTOCOL]),
        ),
        case(
            "5.1",
            "back to a stream that was closed",
            vec![Frame::get(1, "/"), Frame::get(5, "/"), Frame::get(1, "/")],
            Connection(&[CLOSED]),
        ),
        case(
            "8.4",
            "PUSH_PROMISE",
            vec![
                Frame::get(1, "/never"),
                Frame::new(kind::PUSH_PROMISE, 4, 1, [&[0, 0, 0, 2][..], &get_block()].concat()),
            ],
            Connection(&[PROTOCOL]),
        ),
        case(
            "5.3.1",
            "HEADERS depends on itself",
            vec![raw_headers(37, 1, [&[0, 0, 0, 1, 15][..], &get_block()].concat())],
            Stream(&[PROTOCOL]),
        ),
        case(
            "5.3.1",
            "PRIORITY depends on itself",
            vec![Frame::new(kind::PRIORITY, 0, 1, [0, 0, 0, 1, 15])],
            Stream(&[PROTOCOL]),
        ),
    ])
    .await;
}

#[tokio::test]
async fn malformed_messages() {
    let get = request_fields("GET", "/");
    let post = request_fields("POST", "/");
    let without = |name| get.into_iter().filter(|(known, _)| *known != name).collect::<Vec<_>>();
    let with = |field| get.into_iter().chain([field]).collect::<Vec<_>>();
    let open = |fields: &[(&str, &str)]| Frame { flags: 4, ..Frame::request(1, fields) };
    let announcing = |length| open(&[&post[..], &[("content-length", length)]].concat());
    let stream = |section, name, frame| case(section, name, vec![frame], Stream(&[PROTOCOL]));
    let status = |section, name, frame, status| case(section, name, vec![frame], Status(status));
    check(vec![
        stream("8.2.1", "uppercase name", get_of(&with(("X-TEST", "ok")))),
        stream("8.3", "unknown pseudo-header", get_of(&with((":test", "ok")))),
        stream("8.3", "pseudo-header of a response", get_of(&with((":status", "200")))),
        stream(
            "8.3",
            "pseudo-header behind a field",
            get_of(&[("x-test", "ok"), get[0], get[1], get[2], get[3]]),
        ),
        stream("8.2.2", "connection", get_of(&with(("connection", "keep-alive")))),
        stream("8.2.2", "transfer-encoding", get_of(&with(("transfer-encoding", "chunked")))),
        stream("8.2.2", "upgrade", get_of(&with(("upgrade", "h2c")))),
        stream("8.2.2", "keep-alive", get_of(&with(("keep-alive", "1")))),
        stream("8.2.2", "proxy-connection", get_of(&with(("proxy-connection", "1")))),
        stream("8.2.2", "te", get_of(&with(("te", "trailers, deflate")))),
        stream("8.3.1", "empty path", get_of(&[get[0], get[1], (":path", ""), get[3]])),
        stream("8.3.1", "no method", get_of(&without(":method"))),
        stream("8.3.1", "no scheme", get_of(&without(":scheme"))),
        stream("8.3.1", "two methods", get_of(&with(get[0]))),
        stream("8.3.1", "two schemes", get_of(&with(get[1]))),
        stream("8.3.1", "two paths", get_of(&with(get[2]))),
        stream("8.3.1", "no path", get_of(&without(":path"))),
        status("8.3.1", "no authority", get_of(&without(":authority")), 400),
        status("8.3.1", "another host", get_of(&with(("host", "b.test"))), 400),
        status(
            "8.3.1",
            "userinfo",
            get_of(&[get[0], get[1], get[2], (":authority", "me@a.test")]),
            400,
        ),
        stream("8.2.1", "padded value", get_of(&with(("x-test", " ok")))),
        status("8.2.2", "te: trailers", get_of(&with(("te", "trailers"))), 200),
        stream("8.1.1", "length without content", get_of(&with(("content-length", "1")))),
        stream("8.1.1", "no length", get_of(&with(("content-length", "one")))),
        case(
            "8.1.1",
            "more than announced",
            vec![announcing("1"), data(1, 1, b"test")],
            Stream(&[PROTOCOL]),
        ),
        case(
            "8.1.1",
            "less than announced",
            vec![announcing("9"), data(1, 1, b"test")],
            Stream(&[PROTOCOL]),
        ),
        case(
            "8.1.1",
            "more in several",
            vec![announcing("5"), data(0, 1, b"test"), data(1, 1, b"test")],
            Stream(&[PROTOCOL]),
        ),
        case(
            "8.1",
            "second HEADERS goes on",
            vec![open(&post), data(0, 1, b"x"), raw_headers(4, 1, block(&[("x", "y")]))],
            Stream(&[PROTOCOL]),
        ),
        case(
            "8.1",
            "pseudo-header in trailers",
            vec![open(&post), data(0, 1, b"x"), raw_headers(5, 1, block(&[(":method", "GET")]))],
            Stream(&[PROTOCOL]),
        ),
    ])
    .await;
}

#[tokio::test]
async fn header_compression() {
    let broken = |section, name, behind: &[u8]| {
        case(section, name, vec![get_with(behind)], Connection(&[COMPRESSION]))
    };
    let fine =
        |section, name, behind: &[u8]| case(section, name, vec![get_with(behind)], Status(200));
    // `accept-language: ` with each kind of literal; index 17 is `accept-language`.
    check(vec![
        fine("6.1", "indexed field", &[0x80 | 16]),
        fine("6.2.1", "literal, indexed name", b"\x51\x02en"),
        fine("6.2.1", "literal, indexed name, Huffman", b"\x51\x82\x2c\xbf"),
        fine("6.2.1", "literal, new name", b"\x40\x01x\x02en"),
        fine("6.2.2", "not indexed, indexed name", b"\x0f\x02\x02en"),
        fine("6.2.2", "not indexed, new name", b"\x00\x01x\x02en"),
        fine("6.2.3", "never indexed, indexed name", b"\x1f\x02\x02en"),
        fine("6.2.3", "never indexed, new name", b"\x10\x01x\x02en"),
        case(
            "6.3",
            "table size",
            vec![raw_headers(5, 1, [b"\x20", &get_block()[..]].concat())],
            Status(200),
        ),
        case(
            "6.3",
            "table sizes",
            vec![raw_headers(5, 1, [b"\x20\x3f\x00", &get_block()[..]].concat())],
            Status(200),
        ),
        broken("2.3.3", "index beyond the tables", &[0x80 | 70]),
        broken("2.3.3", "name beyond the tables", b"\x7f\x20\x02en"),
        broken("4.2", "table size at the end", b"\x21"),
        broken("5.2", "padding longer than 7 bits", b"\x00\x01x\x83\x2c\xbf\xff"),
        broken("5.2", "padding of zeros", b"\x00\x01x\x82\x2c\xb8"),
        broken("5.2", "EOS in a string", b"\x00\x01x\x84\xff\xff\xff\xff"),
        broken("6.1", "index 0", &[0x80]),
        broken("5.1", "integer that overflows", b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f"),
        case(
            "6.3",
            "table size above the setting",
            vec![raw_headers(5, 1, [b"\x3f\xe2\x1f", &get_block()[..]].concat())],
            Connection(&[COMPRESSION]),
        ),
        case(
            "4.3",
            "a block that is cut off",
            vec![get_with(b"\x40\x05x")],
            Connection(&[COMPRESSION]),
        ),
    ])
    .await;
}

#[tokio::test]
async fn flow_control_is_obeyed() {
    // RFC 9113 §6.9.2: the window follows the setting, also below zero.
    let (_server, io) = Server::start(Settings::default());
    let mut raw = Raw::connect_with(io, &[(4, 3)]).await;
    raw.send(Frame::get(1, "/bytes/20")).await;
    assert_eq!(soon(raw.until(&[kind::DATA])).await.payload.len(), 3);
    raw.send(Frame::settings(&[(4, 2)])).await;
    raw.send(Frame::window(1, 1)).await;
    raw.send(Frame::new(kind::PING, 0, 0, [0; 8])).await;
    let frame = soon(raw.until(&[kind::DATA, kind::PING])).await;
    assert_eq!(frame.kind, kind::PING, "the window is 0");
    raw.send(Frame::window(1, 1)).await;
    assert_eq!(soon(raw.until(&[kind::DATA])).await.payload.len(), 1);
    // §6.5.3: values count in the order in which they stand.
    raw.send(Frame::settings(&[(4, 100), (4, 7)])).await;
    assert_eq!(soon(raw.until(&[kind::DATA])).await.payload.len(), 5);
    raw.send(Frame::window(1, 11)).await;
    let last = soon(raw.until(&[kind::DATA])).await;
    assert_eq!((last.payload.len(), last.is_end()), (11, true));
}

#[tokio::test]
async fn the_preface() {
    use tokio::io::AsyncWriteExt;
    // §3.4: SETTINGS comes first, and an invalid preface ends the connection.
    let (server, io) = Server::start(Settings::default());
    let mut raw = Raw { io };
    raw.io.write_all(b"INVALID CONNECTION PREFACE\r\n\r\n").await.unwrap();
    let frames = raw.rest().await;
    assert_eq!(frames.first().map(|frame| frame.kind), Some(kind::SETTINGS));
    assert_eq!(
        frames.last().map(|frame| (frame.kind, frame.code())),
        Some((kind::GOAWAY, PROTOCOL))
    );
    drop(raw);
    assert!(soon(server.end()).await.is_err());
}

#[tokio::test]
async fn more_streams_than_were_offered() {
    let (_server, io) = Server::start(Settings::default());
    let mut raw = Raw::connect(io).await;
    for index in 0..=128 {
        raw.send(Frame::get(1 + 2 * index, "/never")).await;
    }
    let frame = soon(raw.until(&[kind::RST_STREAM, kind::GOAWAY])).await;
    assert!(frame.kind == kind::RST_STREAM && [PROTOCOL, REFUSED].contains(&frame.code()));
}
