//! What peers say that is wrong, or merely odd, and how it ends: a table.
//!
//! After each row another client is answered, and over all of them the server's memory stays what it was.

use std::{
    io::{Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpStream},
    process::Command,
};

use hearth_e2e::peers;
use hearth_net::testing::{ClientHello, extension as ext, record};

use super::{PATIENCE, connect, get, start};

/// What the table as a whole may cost.
const MEMORY_MAX: u64 = 24 << 20;

/// How the server ends, or goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// A fatal alert of this number (RFC 8446 §6), then the end.
    Alert(u8),
    /// The server says hello.
    Hello,
    /// The server says hello, then ends with an alert, in the clear or encrypted.
    HelloThenAlert,
    /// 400 in the clear.
    PlainAnswer,
    /// The end without a word.
    Silence,
}
use End::{Alert, Hello, HelloThenAlert, PlainAnswer, Silence};

const UNEXPECTED_MESSAGE: u8 = 10;
/// Also where an extension is missing: RFC 8446 §9.2 has an alert of its own for that, and rustls says this.
const HANDSHAKE_FAILURE: u8 = 40;
const ILLEGAL_PARAMETER: u8 = 47;
const DECODE_ERROR: u8 = 50;
const PROTOCOL_VERSION: u8 = 70;

struct Row {
    name: &'static str,
    /// What is sent; each part by itself.
    parts: Vec<Vec<u8>>,
    want: End,
}

fn row(name: &'static str, said: impl Into<Vec<u8>>, want: End) -> Row {
    Row { name, parts: vec![said.into()], want }
}

/// A row whose hello is one that everybody accepts, but for this change.
fn changed(name: &'static str, want: End, change: impl FnOnce(&mut ClientHello)) -> Row {
    let mut hello = ClientHello::new("localhost");
    change(&mut hello);
    row(name, hello.record(), want)
}

fn hello() -> ClientHello {
    ClientHello::new("localhost")
}

/// A handshake message in a record, whatever is in it.
fn message(kind: u8, content: &[u8]) -> Vec<u8> {
    let len = u32::try_from(content.len()).expect("it is short").to_be_bytes();
    record(22, 0x0303, &[&[kind], &len[1..], content].concat())
}

/// Records that are none, or none that may come first.
fn records() -> Vec<Row> {
    let half = hello().message().split_at(60).0.to_vec();
    let half = record(22, 0x0301, &half);
    vec![
        row("an unknown type of record", record(99, 0x0303, b"hello"), Alert(DECODE_ERROR)),
        row("zeros", vec![0; 100], Alert(DECODE_ERROR)),
        row("ones", vec![0xff; 100], Alert(DECODE_ERROR)),
        row("a record of version 2.0", record(22, 0x0200, &hello().message()), Alert(DECODE_ERROR)),
        row("a record of version 4.4", record(22, 0x0404, &hello().message()), Alert(DECODE_ERROR)),
        row("a handshake record of nothing", record(22, 0x0301, b""), Alert(DECODE_ERROR)),
        row(
            "a flood of empty records",
            [half.clone(), record(22, 0x0301, b"").repeat(1000)].concat(),
            Alert(DECODE_ERROR),
        ),
        row(
            "a flood of empty application data",
            record(23, 0x0303, b"").repeat(1000),
            Alert(UNEXPECTED_MESSAGE),
        ),
        row(
            "a record of 65,535 bytes",
            [vec![22, 3, 1, 255, 255], vec![1; 65_535]].concat(),
            Alert(DECODE_ERROR),
        ),
        row(
            "a record of one byte too many",
            [vec![22, 3, 1, 0x48, 1], vec![1; 18_433]].concat(),
            Alert(DECODE_ERROR),
        ),
        row("goodbye before hello", record(21, 0x0303, &[1, 0]), Silence),
        row("a fatal alert before hello", record(21, 0x0303, &[2, 80]), Silence),
        row("an alert of three bytes", record(21, 0x0303, &[2, 80, 1]), Alert(DECODE_ERROR)),
        row(
            "application data before hello",
            record(23, 0x0303, b"GET / HTTP/1.1"),
            Alert(UNEXPECTED_MESSAGE),
        ),
        row("change of cipher before hello", record(20, 0x0303, &[1]), Alert(UNEXPECTED_MESSAGE)),
        row("change to an unknown cipher", record(20, 0x0303, &[2]), Alert(DECODE_ERROR)),
        row(
            "a heartbeat before hello, CVE-2014-0160",
            record(24, 0x0303, &[1, 0x40, 0]),
            Alert(DECODE_ERROR),
        ),
        row("the hello of a server", message(2, &[3; 70]), Alert(DECODE_ERROR)),
        row("finished before hello", message(20, &[0; 12]), Alert(UNEXPECTED_MESSAGE)),
        row(
            "a message of 16 MiB",
            record(22, 0x0301, &[1, 255, 255, 255, 3, 3]),
            Alert(DECODE_ERROR),
        ),
        row(
            "hello of SSL 2",
            [vec![0x80, 0x2e, 1, 0, 2, 0, 0x15, 0, 0, 0, 16], vec![7; 37]].concat(),
            Alert(DECODE_ERROR),
        ),
        row(
            "hello of SSL 2 for TLS 1.2",
            [vec![0x80, 0x2e, 1, 3, 3, 0, 0x15, 0, 0, 0, 16], vec![7; 37]].concat(),
            Alert(DECODE_ERROR),
        ),
        row("HTTP/1.1", "GET / HTTP/1.1\r\nhost: localhost\r\n\r\n", PlainAnswer),
        row("HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", PlainAnswer),
        row("SSH", "SSH-2.0-OpenSSH_9.2\r\n", PlainAnswer),
        row("nothing at all", "", Silence),
        row("half a hello", half, Silence),
    ]
}

/// The same hello, cut and sent in odd ways.
fn pieces() -> Vec<Row> {
    let whole = hello().record();
    let cut = |size: usize| -> Vec<u8> {
        hello().message().chunks(size).flat_map(|piece| record(22, 0x0301, piece)).collect()
    };
    let bytes = Row {
        name: "byte by byte",
        parts: whole.iter().map(|byte| vec![*byte]).collect(),
        want: Hello,
    };
    let mut padded = hello();
    padded.set(21, &[0; 15_000]);
    let mut huge = hello();
    huge.set(21, &[0; 60_000]);
    let huge: Vec<u8> =
        huge.message().chunks(16_384).flat_map(|piece| record(22, 0x0301, piece)).collect();
    vec![
        row("hello in one record", whole.clone(), Hello),
        bytes,
        row("records of one byte", cut(1), Hello),
        row("records of a hundred bytes", cut(100), Hello),
        row("padded to a full record", padded.record(), Hello),
        row("a hello of 60 kB", huge, Hello),
        row("two hellos in a row", whole.repeat(2), HelloThenAlert),
        row(
            "two hellos in one record",
            record(22, 0x0301, &hello().message().repeat(2)),
            Alert(UNEXPECTED_MESSAGE),
        ),
        row(
            "a request behind the hello, in the clear",
            [whole.clone(), record(23, 0x0303, b"GET / HTTP/1.1")].concat(),
            HelloThenAlert,
        ),
        row(
            "a heartbeat behind the hello",
            [whole.clone(), record(24, 0x0303, &[1, 0x40, 0])].concat(),
            HelloThenAlert,
        ),
        row("garbage behind the hello", [whole.clone(), vec![0xff; 100]].concat(), HelloThenAlert),
        row(
            "a record that cannot be decrypted",
            [whole, record(23, 0x0303, &[7; 60])].concat(),
            HelloThenAlert,
        ),
    ]
}

/// Hellos that are malformed, or ask for what there is not.
fn fields() -> Vec<Row> {
    let mut longer = hello().message();
    longer.extend([0; 7]);
    longer[3] += 7;
    let mut shorter = hello().message();
    shorter.truncate(shorter.len() - 3);
    shorter[3] -= 3;
    let mut old = ClientHello::tls12("localhost");
    old.version = 0x0301;
    let mut ssl3 = ClientHello::tls12("localhost");
    ssl3.version = 0x0300;
    let mut bare = ClientHello::tls12("localhost");
    bare.extensions = None;
    vec![
        row("bytes behind the extensions", record(22, 0x0301, &longer), Alert(DECODE_ERROR)),
        row("the last extension is cut off", record(22, 0x0301, &shorter), Alert(DECODE_ERROR)),
        row("TLS 1.0", old.record(), Alert(PROTOCOL_VERSION)),
        row("SSL 3", ssl3.record(), Alert(PROTOCOL_VERSION)),
        row("TLS 1.2 without extensions", bare.record(), Alert(HANDSHAKE_FAILURE)),
        changed("no cipher suites", Alert(DECODE_ERROR), |hello| hello.ciphers.clear()),
        changed("unknown cipher suites", Alert(HANDSHAKE_FAILURE), |hello| {
            hello.ciphers = vec![0x0a0a, 0x1399];
        }),
        changed("only ciphers without forward secrecy", Alert(HANDSHAKE_FAILURE), |hello| {
            *hello = ClientHello::tls12("localhost");
            hello.ciphers = vec![0x002f, 0x0035, 0x009c, 0x000a];
        }),
        changed("the signal of a fallback, RFC 7507", Hello, |hello| hello.ciphers.push(0x5600)),
        changed("no compression method", Alert(DECODE_ERROR), |hello| hello.compressions.clear()),
        changed("compression in TLS 1.3, CVE-2012-4929", Alert(ILLEGAL_PARAMETER), |hello| {
            hello.compressions = vec![1];
        }),
        changed("a session id of 33 bytes", Alert(DECODE_ERROR), |hello| {
            hello.session_id = vec![5; 33];
        }),
        changed("a session id of nothing", Hello, |hello| hello.session_id.clear()),
        changed("only TLS 1.1", Alert(PROTOCOL_VERSION), |hello| {
            hello.set(ext::SUPPORTED_VERSIONS, &[2, 3, 2]);
        }),
        changed("a version of the future besides", Hello, |hello| {
            hello.set(ext::SUPPORTED_VERSIONS, &[4, 3, 5, 3, 4]);
        }),
        changed("a list of no versions", Alert(DECODE_ERROR), |hello| {
            hello.set(ext::SUPPORTED_VERSIONS, &[0]);
        }),
        changed("half a version", Alert(DECODE_ERROR), |hello| {
            hello.set(ext::SUPPORTED_VERSIONS, &[1, 3]);
        }),
    ]
}

/// Extensions that are unknown, doubled, empty or contradict each other.
fn extensions() -> Vec<Row> {
    let share = |group: u8, key: &[u8]| {
        let len = u8::try_from(key.len()).expect("it is short");
        [&[0, len + 4, 0, group, 0, len], key].concat()
    };
    let host = |kind: u8, name: &[u8]| {
        let len = u8::try_from(name.len()).expect("it is short");
        [&[0, len + 3, kind, 0, len], name].concat()
    };
    let twice = |kind: u16| {
        move |hello: &mut ClientHello| {
            let list = hello.extensions.as_mut().expect("it has some");
            let one = list.iter().find(|(known, _)| *known == kind).expect("it is there").clone();
            list.push(one);
        }
    };
    let no_key = [0, 8, 0, 2, b'i', b'd', 0, 0, 0, 0, 0, 33, 32].to_vec();
    let psk = [no_key, vec![3; 32]].concat();
    vec![
        changed("an unknown extension", Hello, |hello| hello.set(0x1234, b"what")),
        changed("GREASE, RFC 8701", Hello, |hello| {
            hello.ciphers.insert(0, 0x2a2a);
            hello.set(0x6a6a, b"");
        }),
        changed("an extension twice", Alert(ILLEGAL_PARAMETER), twice(ext::SUPPORTED_GROUPS)),
        changed("an unknown extension twice", Alert(ILLEGAL_PARAMETER), |hello| {
            let list = hello.extensions.as_mut().expect("it has some");
            list.extend([(0x1234, vec![]), (0x1234, vec![])]);
        }),
        changed("no signature algorithms", Alert(HANDSHAKE_FAILURE), |hello| {
            hello.remove(ext::SIGNATURE_ALGORITHMS);
        }),
        changed("a list of no signature algorithms", Alert(DECODE_ERROR), |hello| {
            hello.set(ext::SIGNATURE_ALGORITHMS, &[0, 0]);
        }),
        changed("only signatures by SHA-1", HelloThenAlert, |hello| {
            hello.set(ext::SIGNATURE_ALGORITHMS, &[0, 2, 2, 3]);
        }),
        changed("no groups", Alert(HANDSHAKE_FAILURE), |hello| hello.remove(ext::SUPPORTED_GROUPS)),
        changed("only groups of a thousand bits", Alert(HANDSHAKE_FAILURE), |hello| {
            hello.set(ext::SUPPORTED_GROUPS, &[0, 2, 1, 0]);
            hello.set(ext::KEY_SHARE, &[0, 0]);
        }),
        changed("no key share", Alert(HANDSHAKE_FAILURE), |hello| hello.remove(ext::KEY_SHARE)),
        changed("a list of no key shares: asked again", Hello, |hello| {
            hello.set(ext::KEY_SHARE, &[0, 0]);
        }),
        changed("a key share that is too short", Alert(ILLEGAL_PARAMETER), |hello| {
            hello.set(ext::KEY_SHARE, &share(29, &[9; 31]));
        }),
        changed("a key share of no order", Alert(ILLEGAL_PARAMETER), |hello| {
            hello.set(ext::KEY_SHARE, &share(29, &[0; 32]));
        }),
        changed("a key share of nothing", Alert(DECODE_ERROR), |hello| {
            hello.set(ext::KEY_SHARE, &share(29, &[]));
        }),
        changed("a point that is not on its curve", Alert(ILLEGAL_PARAMETER), |hello| {
            hello.set(ext::SUPPORTED_GROUPS, &[0, 2, 0, 23]);
            hello.set(ext::KEY_SHARE, &share(23, &[&[4][..], &[1; 64]].concat()));
        }),
        changed("two key shares of one group", Alert(ILLEGAL_PARAMETER), |hello| {
            let one = [&[0, 29, 0, 32][..], &[9; 32]].concat();
            hello.set(ext::KEY_SHARE, &[&[0, 72][..], &one, &one].concat());
        }),
        changed(
            "a pre-shared key that is not the last extension",
            Alert(ILLEGAL_PARAMETER),
            |hello| {
                let list = hello.extensions.as_mut().expect("it has some");
                list.insert(0, (ext::PRE_SHARED_KEY, psk.clone()));
            },
        ),
        changed("a pre-shared key that nobody knows", Hello, |hello| {
            hello.set(ext::PRE_SHARED_KEY, &psk);
        }),
        changed("early data without a key", Hello, |hello| hello.set(ext::EARLY_DATA, b"")),
        changed("a cookie that nobody gave", Hello, |hello| hello.set(ext::COOKIE, &[0, 2, 1, 2])),
        changed("the server's name is empty", Alert(DECODE_ERROR), |hello| {
            hello.set(ext::SERVER_NAME, &host(0, b""));
        }),
        changed("the server's name has a zero in it", Alert(ILLEGAL_PARAMETER), |hello| {
            hello.set(ext::SERVER_NAME, &host(0, b"a\0b"));
        }),
        changed("the server's name is an address", Hello, |hello| {
            hello.set(ext::SERVER_NAME, &host(0, b"127.0.0.1"));
        }),
        changed("the server's name is another", Hello, |hello| {
            hello.set(ext::SERVER_NAME, &host(0, b"other.test"));
        }),
        changed("no server's name", Hello, |hello| hello.remove(ext::SERVER_NAME)),
        changed("a list of no protocols", Alert(DECODE_ERROR), |hello| {
            hello.set(ext::ALPN, &[0, 0]);
        }),
        changed("a protocol without a name", Alert(DECODE_ERROR), |hello| {
            hello.set(ext::ALPN, &[0, 1, 0]);
        }),
        changed("only unknown protocols, CVE-2021-3618", HelloThenAlert, |hello| {
            hello.set(ext::ALPN, b"\0\x04\x03ftp");
        }),
        changed("heartbeats offered", Hello, |hello| hello.set(ext::HEARTBEAT, &[1])),
    ]
}

#[test]
fn refusals() {
    let (_root, server) = start();
    let config = server.certificate.client("http/1.1").expect("settings");
    let rows: Vec<Row> =
        [records(), pieces(), fields(), extensions()].into_iter().flatten().collect();
    assert!(rows.len() >= 80, "{}", rows.len());
    let mut wrong = Vec::new();
    let mut before = 0;
    for round in 0..3 {
        for Row { name, parts, want } in &rows {
            let said = say(server.tls, parts);
            if end(&said) != Some(*want) {
                wrong.push(format!("{name}: {want:?} was wanted, {} came", shown(&said)));
            }
            let mut other =
                connect(server.tls, &config).unwrap_or_else(|error| panic!("{name}: {error}"));
            get(&mut other).unwrap_or_else(|error| panic!("{name}: {error}"));
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
        // The first round has filled pools and caches.
        match round {
            0 => before = server.program.resident_bytes(),
            _ => {
                let grown = server.program.resident_bytes().saturating_sub(before);
                assert!(grown < MEMORY_MAX, "{grown} bytes more after {} rows", rows.len());
            }
        }
    }
    assert!(!server.program.log().contains("panicked"), "{}", server.program.log());
    println!("{} rows, three times", rows.len());
}

/// Says it, then nothing more; answers what the server said until its end.
fn say(address: SocketAddr, parts: &[Vec<u8>]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
    stream.set_nodelay(true).expect("a socket");
    for part in parts {
        // It may have heard enough.
        let _ = stream.write_all(part);
    }
    let _ = stream.shutdown(Shutdown::Write);
    let mut said = Vec::new();
    let _reset = stream.read_to_end(&mut said);
    said
}

/// Types and lengths of records, and what is in short ones.
fn shown(mut said: &[u8]) -> String {
    let mut text = String::new();
    while let [kind, 3, _, high, low, rest @ ..] = said {
        let len = (usize::from(*high) << 8 | usize::from(*low)).min(rest.len());
        text += &format!("({kind}, {len} bytes {:?}) ", &rest[..len.min(6)]);
        said = &rest[len..];
    }
    format!("{text}{said:02x?}")
}

fn end(said: &[u8]) -> Option<End> {
    if said.starts_with(b"HTTP/1.1 400 ") {
        return Some(PlainAnswer);
    }
    let mut rest = said;
    let (mut has_hello, mut last) = (false, None);
    while let [kind, 3, _, high, low, behind @ ..] = rest {
        let content = behind.get(..usize::from(*high) << 8 | usize::from(*low))?;
        rest = &behind[content.len()..];
        has_hello |= *kind == 22 && content.first() == Some(&2);
        last = Some((*kind, content));
    }
    match (has_hello, last) {
        (false, None) => Some(Silence),
        (false, Some((21, [2, number]))) => Some(Alert(*number)),
        (true, Some((21, [2, _]))) => Some(HelloThenAlert),
        // An encrypted alert: two bytes, their type and a tag.
        (true, Some((23, content))) if content.len() == 19 => Some(HelloThenAlert),
        (true, _) => Some(Hello),
        _ => None,
    }
}

/// Who has agreed on keys in TLS 1.2 may not agree on others. TLS 1.3 has no such thing.
#[test]
fn renegotiation_is_refused() {
    let Some(openssl) = peers::find("openssl") else { return };
    let (_root, server) = start();
    // `R` on a line of its own makes it renegotiate.
    let line = format!(
        "(sleep 1; echo R; sleep 1) | {} s_client -tls1_2 -connect {} 2>&1",
        openssl.display(),
        server.tls
    );
    let output = peers::run(30, Command::new("sh").args(["-c", &line])).expect("it starts");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("RENEGOTIATING") && text.contains("no renegotiation"), "{text}");
    let config = server.certificate.client("http/1.1").expect("settings");
    get(&mut connect(server.tls, &config).expect("a handshake")).expect("an answer");
}
