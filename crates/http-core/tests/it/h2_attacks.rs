//! Peers that cost more than they are worth: each is sent away, and another connection never notices.

use hearth_http_core::{Abuse, ConnectionError, Outcome, Settings};

use crate::h2_support::{
    Client, Frame, Raw, Server, block, integer, kind, request_fields, settings, soon,
};

const CALM: u32 = 11;
const NEVER: &str = "/never";

/// What a connection came to.
struct End {
    frames: Vec<Frame>,
    abuses: Vec<Abuse>,
    exchanges: Vec<(u16, Outcome, u64)>,
    result: Result<(), ConnectionError>,
}

impl End {
    fn go_away(&self) -> Option<u32> {
        self.frames.iter().rfind(|frame| frame.kind == kind::GOAWAY).map(Frame::code)
    }
}

/// Lets `attack` write frames until the server ends the connection, while another client asks.
async fn attacked(attack: &[Frame], settings: Settings) -> End {
    let (bystander, io) = Server::start(Settings::default());
    let mut client = Client::connect(io).await;
    let (server, io) = Server::start(settings);
    let raw = Raw::connect(io).await;
    let (mut read, mut write) = tokio::io::split(raw.io);
    let bytes: Vec<u8> = attack.iter().flat_map(Frame::bytes).collect();
    tokio::spawn(async move {
        use tokio::io::AsyncWriteExt;
        for piece in bytes.chunks(10_000) {
            if write.write_all(piece).await.is_err() {
                break;
            }
            tokio::task::yield_now().await;
        }
    });
    let reading = tokio::spawn(async move {
        use tokio::io::AsyncReadExt;
        let mut bytes = Vec::new();
        let _ = read.read_to_end(&mut bytes).await;
        bytes
    });
    for _ in 0..10 {
        assert_eq!(soon(client.get("/")).await.text(), "home");
    }
    let log = server.log.clone();
    let result = soon(server.end()).await;
    let bytes = soon(reading).await.expect("the reader");
    assert_eq!(soon(client.get("/")).await.text(), "home");
    assert_eq!(bystander.log.abuses(), []);
    End { frames: Frame::parse(&bytes), abuses: log.abuses(), exchanges: log.exchanges(), result }
}

#[track_caller]
fn sent_away(end: &End, abuse: Abuse) {
    assert_eq!(end.go_away(), Some(CALM), "{:?}", end.frames.last());
    assert_eq!(end.abuses, [abuse]);
    assert!(matches!(end.result, Err(ConnectionError::Protocol(_))));
}

fn odd(index: usize) -> u32 {
    1 + 2 * u32::try_from(index).expect("few streams")
}

#[tokio::test]
async fn rapid_reset() {
    // CVE-2023-44487: the work of a request for the price of two frames.
    let pairs = |index| [Frame::get(odd(index), NEVER), Frame::reset(odd(index), 8)];
    let end = attacked(&(0..5000).flat_map(pairs).collect::<Vec<_>>(), Settings::default()).await;
    assert_eq!(end.go_away(), Some(CALM));
    assert!(end.exchanges.len() <= 250, "{} handlers were started", end.exchanges.len());
}

#[tokio::test]
async fn resets_of_accepted_streams() {
    let (server, io) = Server::start(Settings::default());
    let mut raw = Raw::connect(io).await;
    let mut index = 0;
    // Each request is accepted, because the answer to a ping is awaited, before it is reset.
    let go_away = loop {
        raw.send(Frame::get(odd(index), NEVER)).await;
        raw.send(Frame::new(kind::PING, 0, 0, [7; 8])).await;
        let frame = raw.until(&[kind::PING, kind::GOAWAY]).await;
        if frame.kind == kind::GOAWAY {
            break frame;
        }
        raw.send(Frame::reset(odd(index), 8)).await;
        index += 1;
    };
    assert_eq!(go_away.code(), CALM);
    assert!((100..=200).contains(&index), "after {index} resets");
    assert_eq!(server.log.abuses(), [Abuse::Resets]);
    let gone = server.log.exchanges();
    assert!(
        gone.iter().all(|(status, outcome, _)| (*status, *outcome) == (499, Outcome::PeerGone))
    );
}

#[tokio::test]
async fn made_you_reset() {
    // CVE-2025-8671: a violation within a stream makes the server reset it, and the handler's work is
    // lost just as if the peer had.
    let violations: [fn(u32) -> Frame; 3] = [
        |stream| Frame::window(stream, 0),
        |stream| Frame::new(kind::DATA, 0, stream, *b"after the end"),
        |stream| Frame::window(stream, 0x7fff_ffff),
    ];
    for violate in violations {
        let pairs = |index| [Frame::get(odd(index), NEVER), violate(odd(index))];
        let attack: Vec<_> = (0..5000).flat_map(pairs).collect();
        let end = attacked(&attack, Settings::default()).await;
        // Some violations end the connection by themselves (RFC 9113 §5.1).
        assert!(end.go_away().is_some() && end.result.is_err());
        assert!(end.exchanges.len() <= 200, "{} handlers were started", end.exchanges.len());
    }
}

#[tokio::test]
async fn malformed_requests() {
    let mut fields = request_fields("GET", "/").to_vec();
    fields.push(("host", "b.test"));
    let attack: Vec<_> = (0..5000).map(|index| Frame::request(odd(index), &fields)).collect();
    let end = attacked(&attack, Settings::default()).await;
    sent_away(&end, Abuse::StreamErrors);
    assert!(end.exchanges.len() <= 200);

    let mut fields = request_fields("GET", "/").to_vec();
    fields.push(("connection", "close"));
    let attack: Vec<_> = (0..5000).map(|index| Frame::request(odd(index), &fields)).collect();
    let end = attacked(&attack, Settings::default()).await;
    sent_away(&end, Abuse::StreamErrors);
}

#[tokio::test]
async fn floods_of_frames_that_do_nothing() {
    let one = |frame: Frame| vec![frame; 20_000];
    let floods = [
        ("PING", one(Frame::new(kind::PING, 0, 0, [0; 8]))),
        ("PING ACK", one(Frame::new(kind::PING, 1, 0, [0; 8]))),
        ("SETTINGS", one(Frame::settings(&[]))),
        ("SETTINGS with content", one(Frame::settings(&[(4, 65_535), (3, 100)]))),
        ("PRIORITY", one(Frame::new(kind::PRIORITY, 0, 1, [0, 0, 0, 0, 16]))),
        ("WINDOW_UPDATE", one(Frame::window(0, 1))),
        ("PRIORITY_UPDATE", one(Frame::new(kind::PRIORITY_UPDATE, 0, 0, *b"\0\0\0\x01u=0"))),
        ("unknown", one(Frame::new(0xbb, 0, 0, [1; 10]))),
    ];
    for (name, flood) in floods {
        let end = attacked(&flood, Settings::default()).await;
        assert_eq!(end.go_away(), Some(CALM), "{name}");
        assert_eq!(end.abuses, [Abuse::Overhead], "{name}");
    }
}

#[tokio::test]
async fn floods_of_empty_data() {
    let mut flood = vec![Frame::post(1, "/length")];
    flood.resize(60_000, Frame::new(kind::DATA, 0, 1, []));
    let end = attacked(&flood, Settings::default()).await;
    assert_eq!(end.go_away(), Some(CALM));
}

#[tokio::test]
async fn tiny_data_is_at_worst_too_much() {
    let (server, io) = Server::start(settings(|s| s.limits.body_bytes_max = 1000));
    let mut raw = Raw::connect(io).await;
    raw.send(Frame::post(1, "/length")).await;
    let octets = Frame::new(kind::DATA, 0, 1, *b"x").bytes().repeat(1200);
    raw.send_bytes(&octets).await;
    assert_eq!(soon(raw.until(&[kind::HEADERS])).await.status(), 413);
    assert_eq!(soon(raw.probe(3)).await, 200);
    assert_eq!(server.log.abuses(), []);
}

#[tokio::test]
async fn continuation_flood() {
    // CVE-2024-27316: a header section that never ends.
    let mut flood = vec![Frame { flags: 0, ..Frame::get(1, "/") }];
    flood.resize(50_000, Frame::new(kind::CONTINUATION, 0, 1, block(&[("x", "y")])));
    let end = attacked(&flood, Settings::default()).await;
    assert_eq!(end.go_away(), Some(CALM));
    assert_eq!(end.exchanges, []);
}

#[tokio::test]
async fn header_bomb() {
    // One entry of 4,000 octets in the dynamic table, then one octet for each copy of it.
    let mut bomb = block(&request_fields("GET", "/"));
    bomb.push(0x40);
    integer(&mut bomb, 0, 7, 1);
    bomb.push(b'x');
    integer(&mut bomb, 0, 7, 3900);
    bomb.extend_from_slice(&[b'y'; 3900]);
    bomb.extend_from_slice(&[0x80 | 62; 10_000]);
    let end = attacked(&[Frame::new(kind::HEADERS, 5, 1, bomb)], Settings::default()).await;
    assert_eq!(end.go_away(), Some(CALM));
    assert_eq!(end.exchanges, []);
}

#[tokio::test]
async fn many_fields_and_large_fields_are_refused_in_their_stream() {
    let many: Vec<_> = request_fields("GET", "/").into_iter().chain([("x", "1"); 101]).collect();
    let long = "y".repeat(17_000);
    let large: Vec<_> = request_fields("GET", "/").into_iter().chain([("x", &*long)]).collect();
    for fields in [many, large] {
        let (_server, io) = Server::start(Settings::default());
        let mut raw = Raw::connect(io).await;
        let whole = block(&fields);
        let (first, rest) = whole.split_at(whole.len().min(16_000));
        let ends = if rest.is_empty() { 5 } else { 1 };
        raw.send(Frame::new(kind::HEADERS, ends, 1, first)).await;
        if !rest.is_empty() {
            raw.send(Frame::new(kind::CONTINUATION, 4, 1, rest)).await;
        }
        let frame = soon(raw.until(&[kind::HEADERS])).await;
        assert_eq!((frame.stream, frame.status()), (1, 431));
        assert_eq!(raw.probe(3).await, 200);
    }
}

#[tokio::test]
async fn streams_beyond_the_limit_are_refused() {
    let (server, io) = Server::start(settings(|s| s.limits.h2_streams_max = 10));
    let mut raw = Raw::connect(io).await;
    for index in 0..30 {
        raw.send(Frame::get(odd(index), NEVER)).await;
    }
    for _ in 0..20 {
        let frame = soon(raw.until(&[kind::RST_STREAM, kind::GOAWAY])).await;
        assert_eq!((frame.kind, frame.code()), (kind::RST_STREAM, 7), "REFUSED_STREAM");
    }
    for index in 0..10 {
        raw.send(Frame::reset(odd(index), 8)).await;
    }
    assert_eq!(soon(raw.probe(101)).await, 200);
    assert_eq!(server.log.abuses(), []);
}

#[tokio::test(start_paused = true)]
async fn closed_windows_do_not_hold_responses_for_ever() {
    let (server, io) = Server::start(Settings::default());
    // Initial window 0: nothing may be sent, and nothing ever can.
    let mut raw = Raw::connect_with(io, &[(4, 0)]).await;
    for index in 0..100 {
        raw.send(Frame::get(odd(index), if index % 2 == 0 { "/" } else { "/bytes/100000" })).await;
    }
    for _ in 0..100 {
        let reset = raw.until(&[kind::RST_STREAM]).await;
        assert_eq!(reset.code(), 8);
    }
    let gone = server.log.exchanges();
    assert_eq!(gone.len(), 100);
    assert!(gone.iter().all(|(_, outcome, _)| *outcome == Outcome::PeerGone));
    raw.send(Frame::settings(&[(4, 65_535)])).await;
    assert_eq!(soon(raw.probe(201)).await, 200);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_does_not_read_is_left() {
    let (server, io) = Server::start_with(crate::h2_support::App, Settings::default(), 4096);
    let mut raw = Raw::connect_with(io, &[(4, 0x7fff_ffff)]).await;
    raw.send(Frame::window(0, 0x7fff_0000)).await;
    for index in 0..8 {
        raw.send(Frame::get(odd(index), "/bytes/1000000")).await;
    }
    let ended = server.end().await;
    assert!(matches!(ended, Err(ConnectionError::Timeout(_))), "{ended:?}");
}
