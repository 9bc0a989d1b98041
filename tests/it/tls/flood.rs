//! Handshakes in numbers: half-open ones that never end, and whole ones one behind the other.

use std::{
    io::Write as _,
    net::{SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
};

use hearth_net::testing::ClientHello;

use super::{connect, get, start};

/// Half-open handshakes, more than the default of `connections.max_handshakes_per_worker`.
const HALF_OPEN: usize = 1500;
/// Who makes whole handshakes one behind the other.
const FLOODERS: usize = 6;
/// Answers that the established connection gets in the middle of it.
const ANSWERS: usize = 200;
/// A handshake may take that much for a moment, and nothing behind it.
const MEMORY_MAX: u64 = 64 << 20;

/// Connections that were there before go on being answered, new ones are let in, and the oldest of the half-open
/// ones make room. How much is done for others between a request and its answer is counted in
/// `crates/net/tests/it/flood.rs`, without a network between.
#[test]
fn established_connections_are_answered_during_a_flood() {
    let (_root, server) = start();
    let config = server.certificate.client("http/1.1").expect("settings");
    let mut established = connect(server.tls, &config).expect("a handshake");
    get(&mut established).expect("an answer");
    let before = server.program.resident_bytes();
    let is_over = Arc::new(AtomicBool::new(false));
    let made = Arc::new(AtomicU64::new(0));
    let half_open = half_open(server.tls);
    let mut largest = 0;
    std::thread::scope(|scope| {
        for _ in 0..FLOODERS {
            let (is_over, made, config) = (is_over.clone(), made.clone(), config.clone());
            let address = server.tls;
            scope.spawn(move || {
                while !is_over.load(Relaxed) {
                    if connect(address, &config).is_ok() {
                        made.fetch_add(1, Relaxed);
                    }
                }
            });
        }
        let mut most = 0;
        for number in 0..ANSWERS {
            let made_before = made.load(Relaxed);
            get(&mut established).unwrap_or_else(|error| panic!("answer {number}: {error}"));
            most = most.max(made.load(Relaxed) - made_before);
            largest = largest.max(server.program.resident_bytes());
        }
        // Those that come new get in, too.
        let mut new = connect(server.tls, &config).expect("a handshake");
        get(&mut new).expect("an answer");
        while made.load(Relaxed) < 100 {
            std::thread::yield_now();
        }
        is_over.store(true, Relaxed);
        println!(
            "{ANSWERS} answers beside {made:?} handshakes, at most {most} between two of them"
        );
    });
    drop(half_open);
    let grown = largest.saturating_sub(before);
    println!("{} KiB more memory", grown >> 10);
    assert!(grown < MEMORY_MAX, "{grown} bytes more");
}

/// Connections that say nothing, or half of a hello, and stay.
fn half_open(address: SocketAddr) -> Vec<TcpStream> {
    let hello = ClientHello::new("localhost").record();
    let connections = (0..HALF_OPEN).map(|number| {
        let mut stream = TcpStream::connect(address).expect("it listens");
        let said = if number % 2 == 0 { &[] } else { &hello[..hello.len() / 2] };
        // It may have been sent away to make room.
        let _ = stream.write_all(said);
        stream
    });
    connections.collect()
}
