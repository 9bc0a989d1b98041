//! Handshakes do not keep established connections waiting.

use std::{
    io::Write as _,
    net::TcpStream,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use hearth_http_core::{Request, Response, handler_fn};
use hearth_net::{CertMap, CertStore, NetLimits, TlsConfig, testing::ClientHello};
use rustls::{
    server::{ClientHello as Hello, ResolvesServerCert},
    sign::CertifiedKey,
};

use crate::support::{certificate, client_config, eventually, start_with, tls_connect};

/// Counts how often the server was about to say hello.
#[derive(Debug)]
struct CountsHellos {
    inner: CertStore,
    hellos: Arc<AtomicUsize>,
}

impl ResolvesServerCert for CountsHellos {
    fn resolve(&self, hello: Hello<'_>) -> Option<Arc<CertifiedKey>> {
        self.hellos.fetch_add(1, SeqCst);
        self.inner.resolve(hello)
    }
}

/// Clients of the flood.
const FLOOD: usize = 200;

#[test]
fn a_request_waits_for_few_handshakes() {
    let per_turn = NetLimits::default().handshakes_per_turn_max;
    let between = worked_on_before_a_request(per_turn);
    assert!(between <= 4 * per_turn, "{between} handshakes were worked on before the request");
    // It is that limit that does it.
    let between = worked_on_before_a_request(FLOOD);
    assert!(between > 4 * per_turn, "{between} handshakes were worked on before the request");
}

/// While the worker is held up, two hundred clients say hello, and then one that has been there before asks
/// for something. When the worker goes on, all of that is ready at once. Answers how many handshakes were worked
/// on before the request.
fn worked_on_before_a_request(per_turn: usize) -> usize {
    let mut map = CertMap::new();
    map.set_default(certificate(&["a.test"]));
    let hellos = Arc::new(AtomicUsize::new(0));
    let resolver = CountsHellos { inner: CertStore::new(map), hellos: hellos.clone() };
    let config = TlsConfig::builder(Arc::new(resolver)).build().expect("options");
    let seen = Arc::new(AtomicUsize::new(0));
    let (counted, noted) = (hellos.clone(), seen.clone());
    let handler = handler_fn(move |request: Request| {
        match request.path() {
            // Long enough for all that is to be ready then.
            "/block" => std::thread::sleep(Duration::from_millis(1500)),
            "/count" => noted.store(counted.load(SeqCst), SeqCst),
            _ => {}
        }
        async { Response::text("hello") }
    });
    let mut limits = NetLimits::default();
    limits.handshakes_per_turn_max = per_turn;
    let server = start_with(handler, limits, |listener| listener.tls(config));
    let client = client_config(&[]);
    let connect = || tls_connect(server.address(), "a.test", &client).expect("a handshake");
    let (mut blocks, mut asks) = (connect(), connect());
    for client in [&mut blocks, &mut asks] {
        client.get("/").expect("an answer");
    }
    let mut flood: Vec<_> =
        (0..FLOOD).map(|_| TcpStream::connect(server.address()).expect("it listens")).collect();
    eventually("all are let in", || server.handle.stats().open == FLOOD as u64 + 2);
    blocks.send("/block").expect("sent");
    std::thread::sleep(Duration::from_millis(100));
    let before = hellos.load(SeqCst);
    let said = ClientHello::new("a.test").record();
    for stream in &mut flood {
        stream.write_all(&said).expect("sent");
    }
    asks.send("/count").expect("sent");
    asks.answer().expect("an answer");
    let between = seen.load(SeqCst) - before;
    println!(
        "{between} of {FLOOD} handshakes were worked on before the request, {per_turn} in a turn"
    );
    eventually("everybody was told hello", || hellos.load(SeqCst) == before + FLOOD);
    drop(flood);
    eventually("they are gone", || server.handle.stats().tls_failed == FLOOD as u64);
    between
}
