//! Peers that do not behave: while each of them does its worst, another client is answered as ever, and the
//! server's memory stays bounded.

use std::{
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use hearth_e2e::{
    frames::{
        CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, PING, PRIORITY, RST_STREAM, Raw,
        SETTINGS, WINDOW_UPDATE, field, frame, request,
    },
    h1::Client,
};
use tempfile::TempDir;

use crate::servers;

/// How long each attack goes on.
const ATTACK: Duration = Duration::from_millis(1500);
/// Connections that attack at once.
const ATTACKERS: usize = 8;
/// The slowest answer that the well-behaved client accepts, on a loaded machine with an unoptimised server.
const ANSWER_MAX: Duration = Duration::from_secs(2);
/// What an attack of eight connections may cost at most; one request would be allowed 2 MiB by itself.
const MEMORY_MAX: u64 = 48 << 20;

type Attack = fn(SocketAddr, &dyn Fn() -> bool) -> io::Result<()>;

const ATTACKS: &[(&str, Attack)] = &[
    // HTTP/2.
    ("rapid reset, CVE-2023-44487", rapid_reset),
    ("made you reset, CVE-2025-8671", made_you_reset),
    ("continuation flood, CVE-2024-27316", continuation_flood),
    ("header bomb", header_bomb),
    ("empty data", empty_data),
    ("ping flood", ping_flood),
    ("settings flood", settings_flood),
    ("window stall", window_stall),
    ("stream flood", stream_flood),
    ("malformed streams", malformed_streams),
    ("priority flood", priority_flood),
    // HTTP/1.1.
    ("slow head", slow_head),
    ("slow body", slow_body),
    ("slow read", slow_read),
    ("endless head", endless_head),
    ("many fields", many_fields),
    ("chunk extensions", chunk_extensions),
    ("pipelining without reading", pipelining),
    ("connections without a word", silent_connections),
];

#[test]
fn others_are_served_while_one_attacks() {
    let root = TempDir::new().expect("a folder");
    std::fs::create_dir(root.path().join("s")).expect("a folder");
    std::fs::write(root.path().join("s/10m.bin"), vec![1; 10 << 20]).expect("a file");
    let server = servers::referee(root.path(), &[("WORKERS", "1")]);
    let address = server.address();
    // Once around, so that pools and caches have their size.
    Client::connect(address).and_then(|mut client| client.get("/plaintext")).expect("an answer");
    for (name, attack) in ATTACKS {
        let before = server.program.resident_bytes();
        let stop = Arc::new(AtomicBool::new(false));
        let mut largest = before;
        let mut slowest = Duration::ZERO;
        std::thread::scope(|scope| {
            for _ in 0..ATTACKERS {
                let stop = Arc::clone(&stop);
                scope.spawn(move || {
                    // Being thrown out is what the attacker deserves: it comes back at once.
                    while !stop.load(Relaxed) {
                        let _ = attack(address, &|| !stop.load(Relaxed));
                    }
                });
            }
            let start = Instant::now();
            let mut client = Client::connect(address).expect("a connection");
            while start.elapsed() < ATTACK {
                let asked = Instant::now();
                let answer = client.get("/plaintext");
                let answer = answer.unwrap_or_else(|error| panic!("{name}: {error:#}"));
                assert_eq!(answer.status, 200, "{name}");
                slowest = slowest.max(asked.elapsed());
                largest = largest.max(server.program.resident_bytes());
                std::thread::sleep(Duration::from_millis(5));
            }
            stop.store(true, Relaxed);
        });
        let grown = largest.saturating_sub(before);
        eprintln!("{name}: slowest answer {slowest:?}, {} KiB more memory", grown >> 10);
        assert!(slowest < ANSWER_MAX, "{name}: another client waited {slowest:?}");
        assert!(grown < MEMORY_MAX, "{name}: {grown} bytes more");
    }
}

fn rapid_reset(address: SocketAddr, go_on: &dyn Fn() -> bool) -> io::Result<()> {
    let mut raw = Raw::connect(address, &[])?;
    let block = request("GET", "/plaintext");
    let mut stream = 1;
    while go_on() {
        let mut batch = Vec::new();
        for _ in 0..100 {
            batch.extend(frame(HEADERS, END_STREAM | END_HEADERS, stream, &block));
            batch.extend(frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes()));
            stream += 2;
        }
        raw.send(&batch)?;
    }
    Ok(())
}

/// Valid requests followed by what makes the server reset them: a window update of zero.
fn made_you_reset(address: SocketAddr, go_on: &dyn Fn() -> bool) -> io::Result<()> {
    let mut raw = Raw::connect(address, &[])?;
    let block = request("GET", "/s/10m.bin");
    let mut stream = 1;
    while go_on() {
        let mut batch = Vec::new();
        for _ in 0..100 {
            batch.extend(frame(HEADERS, END_STREAM | END_HEADERS, stream, &block));
            batch.extend(frame(WINDOW_UPDATE, 0, stream, &0_u32.to_be_bytes()));
            stream += 2;
        }
        raw.send(&batch)?;
    }
    Ok(())
}

fn continuation_flood(address: SocketAddr, go_on: &dyn Fn() -> bool) -> io::Result<()> {
    let mut raw = Raw::connect(address, &[])?;
    raw.send(&frame(HEADERS, END_STREAM, 1, &request("GET", "/plaintext")))?;
    let piece = frame(CONTINUATION, 0, 1, &field("x-filler", &"y".repeat(100)).repeat(50));
    while go_on() {
        raw.send(&piece)?;
    }
    Ok(())
}

/// One large field enters the dynamic table, then is named again by one byte each time.
fn header_bomb(address: SocketAddr, go_on: &dyn Fn() -> bool) -> io::Result<()> {
    let mut raw = Raw::connect(address, &[])?;
    let mut stream = 1;
    while go_on() {
        let mut block = request("GET", "/plaintext");
        let mut entry = field("x-bomb", &"z".repeat(120));
        entry[0] = 0x40; // literal with incremental indexing
        block.extend(entry);
        block.extend(std::iter::repeat_n(0x80 | 62, 12_000)); // the newest entry of the dynamic table
        raw.send(&frame(HEADERS, END_STREAM | END_HEADERS, stream, &block))?;
        stream += 2;
    }
    Ok(())
}

fn empty_data(address: SocketAddr, go_on: &dyn Fn() -> bool) -> io::Result<()> {
    let mut raw = Raw::connect(address, &[])?;
    raw.send(&frame(HEADERS, END_HEADERS, 1, &request("POST", "/echo")))?;
    let batch = frame(DATA, 0, 1, &[]).repeat(200);
    while go_on() {
        raw.send(&batch)?;
    }
    Ok(())
}

fn ping_flood(address: SocketAddr, go_on: &dyn Fn() -> bool) -> io::Result<()> {
    let mut raw = Raw::connect(address, &[])?;
    let batch = frame(PING, 0, 0, &[1; 8]).repeat(200);
    while go_on() {
        raw.send(&batch)?;
    }
    Ok(())
}

fn settings_flood(address: SocketAddr, go_on: &dyn Fn() -> bool) -> io::Result<()> {
    let mut raw = Raw::connect(address, &[])?;
    let mut payload = 3_u16.to_be_bytes().to_vec();
    payload.extend(100_u32.to_be_bytes());
    let batch = frame(SETTINGS, 0, 0, &payload).repeat(200);
    while go_on() {
        raw.send(&batch)?;
    }
    Ok(())
}

/// Asks for large files with a window of nothing, and waits.
fn window_stall(address: SocketAddr, go_on: &dyn Fn() -> bool) -> io::Result<()> {
    let mut settings = 4_u16.to_be_bytes().to_vec();
    settings.extend(0_u32.to_be_bytes());
    let mut raw = Raw::connect(address, &settings)?;
    for number in 0..100 {
        let block = request("GET", "/s/10m.bin");
        raw.send(&frame(HEADERS, END_STREAM | END_HEADERS, 1 + 2 * number, &block))?;
    }
    while go_on() && raw.drain() {}
    Ok(())
}

/// Opens streams and never ends their content.
fn stream_flood(address: SocketAddr, go_on: &dyn Fn() -> bool) -> io::Result<()> {
    let mut raw = Raw::connect(address, &[])?;
    let mut stream = 1;
    while go_on() {
        let mut batch = Vec::new();
        for _ in 0..50 {
            batch.extend(frame(HEADERS, END_HEADERS, stream, &request("POST", "/echo")));
            stream += 2;
        }
        raw.send(&batch)?;
    }
    Ok(())
}

fn malformed_streams(address: SocketAddr, go_on: &dyn Fn() -> bool) -> io::Result<()> {
    let mut raw = Raw::connect(address, &[])?;
    let mut block = request("GET", "/plaintext");
    block.extend(field("connection", "close"));
    let mut stream = 1;
    while go_on() {
        let mut batch = Vec::new();
        for _ in 0..50 {
            batch.extend(frame(HEADERS, END_STREAM | END_HEADERS, stream, &block));
            stream += 2;
        }
        raw.send(&batch)?;
    }
    Ok(())
}

fn priority_flood(address: SocketAddr, go_on: &dyn Fn() -> bool) -> io::Result<()> {
    let mut raw = Raw::connect(address, &[])?;
    let mut stream = 1;
    while go_on() {
        let mut batch = Vec::new();
        for _ in 0..200 {
            batch.extend(frame(PRIORITY, 0, stream, &[0, 0, 0, 0, 1]));
            stream += 2;
        }
        raw.send(&batch)?;
    }
    Ok(())
}

fn plain(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address)?;
    stream.set_write_timeout(Some(Duration::from_millis(500)))?;
    stream.set_read_timeout(Some(Duration::from_millis(100)))?;
    Ok(stream)
}

/// Sends `head`, then `piece` every few milliseconds.
fn drip(address: SocketAddr, go_on: &dyn Fn() -> bool, head: &str, piece: &str) -> io::Result<()> {
    let mut stream = plain(address)?;
    stream.write_all(head.as_bytes())?;
    while go_on() {
        stream.write_all(piece.as_bytes())?;
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

/// Sends `head`, then `piece` as fast as it can.
fn flood(address: SocketAddr, go_on: &dyn Fn() -> bool, head: &str, piece: &str) -> io::Result<()> {
    let mut stream = plain(address)?;
    stream.write_all(head.as_bytes())?;
    let batch = piece.repeat(100);
    while go_on() {
        stream.write_all(batch.as_bytes())?;
    }
    Ok(())
}

fn slow_head(address: SocketAddr, go_on: &dyn Fn() -> bool) -> io::Result<()> {
    drip(address, go_on, "GET / HTTP/1.1\r\nhost: localhost\r\n", "x: y\r\n")
}

fn slow_body(address: SocketAddr, go_on: &dyn Fn() -> bool) -> io::Result<()> {
    let head = "POST /echo HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1000000\r\n\r\n";
    drip(address, go_on, head, "z")
}

fn slow_read(address: SocketAddr, go_on: &dyn Fn() -> bool) -> io::Result<()> {
    let mut stream = plain(address)?;
    stream.write_all(b"GET /s/10m.bin HTTP/1.1\r\nhost: localhost\r\n\r\n")?;
    let mut byte = [0];
    while go_on() {
        let _ = stream.read(&mut byte)?;
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

fn endless_head(address: SocketAddr, go_on: &dyn Fn() -> bool) -> io::Result<()> {
    flood(address, go_on, "GET /", "aaaaaaaaaaaaaaaa")
}

fn many_fields(address: SocketAddr, go_on: &dyn Fn() -> bool) -> io::Result<()> {
    flood(address, go_on, "GET / HTTP/1.1\r\nhost: localhost\r\n", "a:b\r\n")
}

fn chunk_extensions(address: SocketAddr, go_on: &dyn Fn() -> bool) -> io::Result<()> {
    let head = "POST /echo HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n";
    flood(address, go_on, head, "1;aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa=b\r\nx\r\n")
}

fn pipelining(address: SocketAddr, go_on: &dyn Fn() -> bool) -> io::Result<()> {
    flood(address, go_on, "", "GET /plaintext HTTP/1.1\r\nhost: localhost\r\n\r\n")
}

fn silent_connections(address: SocketAddr, go_on: &dyn Fn() -> bool) -> io::Result<()> {
    let mut open = Vec::new();
    while go_on() && open.len() < 20 {
        open.push(plain(address)?);
        std::thread::sleep(Duration::from_millis(5));
    }
    while go_on() {
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}
