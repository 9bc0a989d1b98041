//! Frames that nobody thought of: whatever a peer says, the connection ends in order or goes on.

use proptest::{collection::vec, prelude::*};
use tokio::io::AsyncWriteExt;

use crate::h2_support::{
    App, Frame, Raw, Server, block, kind, pattern, request_fields, settings, soon,
};

/// A frame that is more often right than chance would have it.
fn frame() -> impl Strategy<Value = Frame> {
    const PATHS: &[&str] = &[
        "/",
        "/echo",
        "/length",
        "/bytes/70000",
        "/stream/5000",
        "/panic",
        "/trailers",
        "/hints",
        "/push",
    ];
    let stream = prop_oneof![4 => (0u32..12).prop_map(|half| 2 * half + 1), 1 => 0u32..30];
    let request = (stream.clone(), prop::sample::select(PATHS), any::<bool>(), any::<bool>())
        .prop_map(|(stream, path, ends, whole)| {
            let flags = u8::from(ends) | if whole { 4 } else { 0 };
            let method = if ends { "GET" } else { "POST" };
            Frame { flags, ..Frame::request(stream, &request_fields(method, path)) }
        });
    let data =
        (stream.clone(), vec(any::<u8>(), 0..2000), prop::sample::select(vec![0u8, 1, 8, 9]))
            .prop_map(|(stream, payload, flags)| Frame::new(kind::DATA, flags, stream, payload));
    let window = (stream.clone(), prop_oneof![0u32..100_000, any::<u32>()])
        .prop_map(|(stream, octets)| Frame::window(stream, octets));
    let reset = stream.clone().prop_map(|stream| Frame::reset(stream, 8));
    let setting = (0u16..10, prop_oneof![0u32..100_000, any::<u32>()])
        .prop_map(|setting| Frame::settings(&[setting]));
    let continuation = (stream.clone(), any::<bool>()).prop_map(|(stream, ends)| {
        Frame::new(kind::CONTINUATION, if ends { 4 } else { 0 }, stream, block(&[("x", "y")]))
    });
    let trailers = stream.clone().prop_map(|stream| Frame::request(stream, &[("x-sum", "1")]));
    let anything = (0u8..18, any::<u8>(), stream, vec(any::<u8>(), 0..60))
        .prop_map(|(kind, flags, stream, payload)| Frame::new(kind, flags, stream, payload));
    prop_oneof![6 => request, 6 => data, 3 => window, 1 => reset, 1 => setting, 1 => continuation, 1 => trailers, 2 => anything]
}

/// Says it in pieces, then leaves; the connection must end, and not by a panic.
async fn say(bytes: Vec<u8>, step: usize) {
    let settings = settings(|s| {
        s.push = true;
        s.extended_connect = true;
    });
    let (server, io) = Server::start_with(App, settings, 1 << 16);
    let (mut read, mut write) = tokio::io::split(io);
    let reading =
        tokio::spawn(async move { tokio::io::copy(&mut read, &mut tokio::io::sink()).await });
    for piece in bytes.chunks(step) {
        if write.write_all(piece).await.is_err() {
            break;
        }
        tokio::task::yield_now().await;
    }
    drop(write);
    reading.abort();
    let _ = soon(server.end()).await;
}

fn run(future: impl Future<Output = ()>) {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
    runtime.unwrap().block_on(future);
}

fn preface() -> Vec<u8> {
    [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), Frame::settings(&[]).bytes()].concat()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn frames_of_all_kinds(frames in vec(frame(), 1..60), step in 1usize..3000) {
        let said = frames.iter().flat_map(Frame::bytes);
        run(say(preface().into_iter().chain(said).collect(), step));
    }

    #[test]
    fn octets_of_all_kinds(octets in vec(any::<u8>(), 0..3000), step in 1usize..500) {
        run(say([preface(), octets].concat(), step));
    }

    #[test]
    fn header_blocks_of_all_kinds(octets in vec(any::<u8>(), 0..300)) {
        let block = [block(&request_fields("GET", "/")), octets].concat();
        let frame = Frame::new(kind::HEADERS, 5, 1, block);
        run(say([preface(), frame.bytes()].concat(), 4000));
    }

    /// Windows that are opened bit by bit: what arrives is what was sent, and never more than allowed.
    #[test]
    fn windows_of_all_sizes(
        len in 0usize..100_000,
        initial in 0u32..20_000,
        steps in vec(1u32..30_000, 1..20),
        kind_of_body in prop::sample::select(vec!["bytes", "owned", "file"]),
    ) {
        run(async move {
            let (_server, io) = Server::start(settings(|_| {}));
            let mut raw = Raw::connect_with(io, &[(4, initial)]).await;
            raw.send(Frame::get(1, &format!("/{kind_of_body}/{len}"))).await;
            let mut window = i64::from(initial);
            let mut connection = 65_535;
            let mut steps = steps.into_iter().cycle();
            let mut content = Vec::new();
            loop {
                let wait = std::time::Duration::from_millis(10);
                let Ok(frame) = tokio::time::timeout(wait, raw.next()).await else {
                    let step = steps.next().unwrap_or(1);
                    raw.send(Frame::window(1, step)).await;
                    raw.send(Frame::window(0, step)).await;
                    window += i64::from(step);
                    connection += i64::from(step);
                    continue;
                };
                let frame = frame.expect("the connection goes on");
                if frame.kind == kind::DATA {
                    window -= frame.payload.len() as i64;
                    connection -= frame.payload.len() as i64;
                    assert!(window >= 0 && connection >= 0);
                    content.extend_from_slice(&frame.payload);
                }
                if frame.stream == 1 && frame.is_end() {
                    break;
                }
            }
            assert!(content == pattern(len));
        });
    }

    /// Content in frames of all sizes, padded or not: the handler gets what was sent.
    #[test]
    fn uploads_in_all_pieces(pieces in vec((0usize..9000, 0u8..40), 1..25), step in 100usize..20_000) {
        run(async move {
            let (_server, io) = Server::start(settings(|_| {}));
            let raw = Raw::connect(io).await;
            let mut frames =
                vec![Frame::post(1, "/echo"), Frame::window(0, 1_000_000), Frame::window(1, 1_000_000)];
            let mut sent = Vec::new();
            for (index, (len, padding)) in pieces.iter().enumerate() {
                let content = pattern(*len);
                sent.extend_from_slice(&content);
                let end = u8::from(index + 1 == pieces.len());
                frames.push(if *padding == 0 {
                    Frame::new(kind::DATA, end, 1, content)
                } else {
                    let pad = vec![0; usize::from(*padding)];
                    Frame::new(kind::DATA, 8 | end, 1, [vec![*padding], content, pad].concat())
                });
            }
            let (mut read, mut write) = tokio::io::split(raw.io);
            let bytes: Vec<u8> = frames.iter().flat_map(Frame::bytes).collect();
            tokio::spawn(async move {
                for piece in bytes.chunks(step) {
                    let _ = write.write_all(piece).await;
                    tokio::task::yield_now().await;
                }
                write
            });
            let mut got = Vec::new();
            let mut received = Vec::new();
            let mut is_over = false;
            while !is_over {
                let mut buffer = [0; 4096];
                let len = soon(tokio::io::AsyncReadExt::read(&mut read, &mut buffer)).await.unwrap();
                assert!(len > 0, "the connection goes on");
                received.extend_from_slice(&buffer[..len]);
                let frames = Frame::parse(&received);
                is_over = frames.iter().any(|frame| frame.stream == 1 && frame.is_end());
                if is_over {
                    let data = frames.into_iter().filter(|frame| frame.kind == kind::DATA);
                    got = data.flat_map(|frame| frame.payload).collect();
                }
            }
            assert!(got == sent);
        });
    }
}
