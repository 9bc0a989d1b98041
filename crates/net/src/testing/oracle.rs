//! Whatever a client says first, its handshake ends, and is told why in well-formed records.

use std::{
    collections::VecDeque,
    io,
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll, Waker},
};

use hearth_http_core::Transport;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::hello::{ClientHello, record};
use crate::{
    CertMap, CertStore, Certificate, ChooseConfig, HandshakeError, TlsConfig, tls::Handshake,
};

/// A handshake reads no more than this of a client that never says anything that makes sense.
const TAKEN_MAX: usize = 256 * 1024;

/// The bytes become a hello that was tampered with, in pieces of any size; with what follows it, it is
/// given to a handshake, once as on most listeners and once as on those that look at the hello first.
///
/// # Panics
/// Where a handshake goes on for ever or succeeds, where the two differ in whether the server said hello,
/// or where what was sent is not made of records with an alert at the end of a failure.
pub fn client_hello(data: &[u8]) {
    let mut source = Source(data);
    let said = stream(&mut source);
    let sizes: Vec<usize> = (0..8).map(|_| 1 + source.below(600)).collect();
    let goes_on = source.below(4) == 0;
    let [plain, choosing] =
        [false, true].map(|looks| shake(config(looks), Script::new(&said, &sizes, goes_on)));
    assert_eq!(plain, choosing, "whether the server said hello");
}

/// What a client says.
fn stream(source: &mut Source<'_>) -> Vec<u8> {
    if source.below(8) == 0 {
        return source.0.to_vec();
    }
    let mut hello = match source.below(2) {
        0 => ClientHello::new("a.test"),
        _ => ClientHello::tls12("a.test"),
    };
    for _ in 0..source.below(4) {
        tamper(&mut hello, source);
    }
    let mut message = hello.message();
    for _ in 0..source.below(4) {
        let (at, byte) = (source.below(message.len().max(1)), source.byte());
        match source.below(4) {
            0 => message.truncate(at),
            1 => message.insert(at.min(message.len()), byte),
            2 if at < message.len() => drop(message.remove(at)),
            _ => message.iter_mut().skip(at).take(1).for_each(|one| *one = byte),
        }
    }
    let piece = if source.below(3) == 0 { 1 + source.below(200) } else { 16_384 };
    let mut said: Vec<u8> =
        message.chunks(piece).flat_map(|piece| record(22, 0x0301, piece)).collect();
    if source.below(4) == 0 {
        let at = source.below(said.len().max(1));
        let byte = source.byte();
        said.iter_mut().skip(at).take(1).for_each(|one| *one = byte);
    }
    // Whatever is left of the data follows the hello, as records or as it is.
    match source.below(3) {
        0 => said.extend_from_slice(source.0),
        1 => said.extend(record(source.byte(), 0x0303, source.0)),
        _ => {}
    }
    said
}

/// Changes the hello in a way that leaves every length right.
fn tamper(hello: &mut ClientHello, source: &mut Source<'_>) {
    let list = hello.extensions.get_or_insert_default();
    let at = source.below(list.len().max(1));
    match source.below(10) {
        0 if at < list.len() => drop(list.remove(at)),
        1 => list.extend(list.get(at).cloned()),
        2 if at < list.len() => list.swap(0, at),
        3 => list.push((source.number(), source.bytes(40))),
        4 => {
            let content = source.bytes(40);
            list.iter_mut().skip(at).take(1).for_each(|(_, one)| one.clone_from(&content));
        }
        5 => {
            let (place, byte) = (source.below(40), source.byte());
            let content = list.iter_mut().skip(at).take(1);
            content.flat_map(|(_, one)| one.get_mut(place)).for_each(|one| *one = byte);
        }
        6 => hello.extensions = None,
        7 => hello.session_id = source.bytes(40),
        8 => hello.ciphers = (0..source.below(5)).map(|_| source.number()).collect(),
        _ => hello.version = source.number(),
    }
}

/// Runs a handshake to its end; answers whether the server said hello.
fn shake(config: &Arc<TlsConfig>, script: Script) -> bool {
    let shared = script.shared.clone();
    let mut handshake = Handshake::new(script, config);
    let mut cx = Context::from_waker(Waker::noop());
    let Poll::Ready(result) = handshake.poll(&mut cx) else {
        panic!("the handshake waits for a client that has said all it has to say")
    };
    drop(handshake);
    let shared = shared.lock();
    assert!(shared.taken <= TAKEN_MAX, "{} bytes were taken", shared.taken);
    let kinds = records(&shared.sent);
    match result {
        Ok(_) => panic!("nobody can finish a handshake without the key"),
        Err(HandshakeError::PlainHttp) => assert!(shared.sent.starts_with(b"HTTP/1.1 400 ")),
        Err(HandshakeError::Tls(error)) => {
            let is_told = matches!(kinds.as_deref(), Some([22, ..] | [.., 21]));
            let is_answer = matches!(error, rustls::Error::AlertReceived(_));
            assert!(is_told || is_answer, "{error}: {kinds:?}");
        }
        Err(_) => assert!(kinds.is_some(), "{:?}", shared.sent),
    }
    kinds.is_some_and(|kinds| kinds.first() == Some(&22))
}

/// The types of the records that these bytes are; `None` where they are none.
fn records(mut bytes: &[u8]) -> Option<Vec<u8>> {
    let mut kinds = Vec::new();
    while let [kind, 3, _, high, low, rest @ ..] = bytes {
        let len = usize::from(*high) << 8 | usize::from(*low);
        let is_known = (20..=23).contains(kind) && len <= 16_384 + 256;
        bytes = is_known.then(|| rest.get(len..)).flatten()?;
        kinds.push(*kind);
    }
    bytes.is_empty().then_some(kinds)
}

fn config(looks: bool) -> &'static Arc<TlsConfig> {
    #[derive(Debug)]
    struct Nothing;
    impl ChooseConfig for Nothing {
        fn choose(&self, _: &rustls::server::ClientHello<'_>) -> Option<TlsConfig> {
            None
        }
    }
    static CONFIGS: OnceLock<[Arc<TlsConfig>; 2]> = OnceLock::new();
    let configs = CONFIGS.get_or_init(|| {
        let names = vec!["a.test".to_owned()];
        let pair = rcgen::generate_simple_self_signed(names).expect("a certificate");
        let (chain, key) = (pair.cert.pem(), pair.signing_key.serialize_pem());
        let certificate = Certificate::from_pem_slices(chain.as_bytes(), key.as_bytes());
        let mut map = CertMap::new();
        map.set_default(certificate.expect("a good pair"));
        let config = TlsConfig::builder(Arc::new(CertStore::new(map))).build().expect("options");
        [Arc::new(config.clone()), Arc::new(config.with_choice(Arc::new(Nothing)))]
    });
    configs.get(usize::from(looks)).expect("one of two")
}

/// A client that says what it was given, in pieces, then nothing or the same thing for ever.
struct Script {
    pieces: VecDeque<Vec<u8>>,
    goes_on: bool,
    shared: Arc<Mutex<Shared>>,
}

#[derive(Default)]
struct Shared {
    taken: usize,
    sent: Vec<u8>,
}

impl Script {
    fn new(said: &[u8], sizes: &[usize], goes_on: bool) -> Self {
        let mut rest = said;
        let mut sizes = sizes.iter().cycle();
        let mut pieces = VecDeque::new();
        while let (false, Some(size)) = (rest.is_empty(), sizes.next()) {
            let (piece, behind) = rest.split_at((*size).min(rest.len()));
            pieces.push_back(piece.to_vec());
            rest = behind;
        }
        Self { pieces, goes_on, shared: Arc::default() }
    }
}

impl AsyncRead for Script {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.pieces.is_empty() && this.goes_on {
            this.pieces.push_back(record(22, 0x0303, &[b'z'; 1000]));
        }
        if let Some(mut piece) = this.pieces.pop_front() {
            let rest = piece.split_off(piece.len().min(buf.remaining()));
            buf.put_slice(&piece);
            let mut shared = this.shared.lock();
            shared.taken += piece.len();
            assert!(shared.taken <= 2 * TAKEN_MAX, "it reads for ever");
            if !rest.is_empty() {
                this.pieces.push_front(rest);
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Script {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.shared.lock().sent.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl Transport for Script {}

/// Decisions out of bytes; zeros behind the end.
struct Source<'a>(&'a [u8]);

impl Source<'_> {
    fn byte(&mut self) -> u8 {
        let (first, rest) = self.0.split_first().unwrap_or((&0, &[]));
        self.0 = rest;
        *first
    }

    fn number(&mut self) -> u16 {
        u16::from_be_bytes([self.byte(), self.byte()])
    }

    fn below(&mut self, bound: usize) -> usize {
        let number = if bound > 256 { self.number() } else { u16::from(self.byte()) };
        usize::from(number) % bound.max(1)
    }

    fn bytes(&mut self, max: usize) -> Vec<u8> {
        (0..self.below(max + 1)).map(|_| self.byte()).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_hello_that_was_not_tampered_with_is_answered() {
        for hello in [ClientHello::new("a.test"), ClientHello::tls12("a.test")] {
            for looks in [false, true] {
                let script = Script::new(&hello.record(), &[100], false);
                assert!(shake(config(looks), script), "{hello:?}");
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(
            if std::env::var_os("E2E_LONG").is_some() { 200_000 } else { 3_000 }
        ))]
        #[test]
        fn every_handshake_ends(data in prop::collection::vec(any::<u8>(), 0..300)) {
            client_hello(&data);
        }
    }
}
