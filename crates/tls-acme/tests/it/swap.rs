//! Certificates that change under load.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use hearth_http_core::{Response, handler_fn};
use hearth_net::{CertMap, CertStore, Certificate, Handle, Listener, Server, TlsConfig};
use hearth_tls_acme::{
    ACME_TLS_ALPN, AcmeResolver, LocalCa, MemoryStorage, Storage, TicketSecret, TlsAlpn01,
};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

fn client(root_pem: &str) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(root_pem.as_bytes()).expect("a root"))
        .expect("usable");
    let mut provider = rustls::crypto::aws_lc_rs::default_provider();
    // What most clients do that are no browsers. The post-quantum one would take half of the time.
    provider.kx_groups = vec![rustls::crypto::aws_lc_rs::kx_group::X25519];
    let builder = ClientConfig::builder_with_provider(Arc::new(provider));
    let builder = builder.with_safe_default_protocol_versions().expect("versions");
    Arc::new(builder.with_root_certificates(roots).with_no_client_auth())
}

/// One connection with a request; answers the certificate that was shown, or `None` where an earlier session was
/// resumed.
async fn visit(
    address: SocketAddr,
    config: &Arc<ClientConfig>,
) -> std::io::Result<Option<CertificateDer<'static>>> {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let tcp = TcpStream::connect(address).await?;
    tcp.set_nodelay(true)?;
    let name = ServerName::try_from("a.test").expect("a name");
    let mut tls = TlsConnector::from(config.clone()).connect(name, tcp).await?;
    tls.write_all(b"GET / HTTP/1.1\r\nhost: a.test\r\nconnection: close\r\n\r\n").await?;
    let mut text = Vec::new();
    // Tickets come with the response.
    let _without_goodbye = tls.read_to_end(&mut text).await;
    assert!(text.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&text));
    let connection = tls.get_ref().1;
    let is_resumed = connection.handshake_kind() == Some(rustls::HandshakeKind::Resumed);
    let shown = connection.peer_certificates().and_then(|chain| chain.first());
    Ok(shown.filter(|_| !is_resumed).map(|own| own.clone().into_owned()))
}

/// A server of one worker whose certificate can be swapped, and certificates to do so.
struct Stage {
    root_pem: String,
    certificates: Vec<Certificate>,
    store: Arc<CertStore>,
    /// How many swaps began and ended; what is served is of a number between them.
    swaps: [AtomicUsize; 2],
    address: SocketAddr,
    handle: Handle,
}

impl Stage {
    async fn start() -> Self {
        let storage: Arc<dyn Storage> = Arc::new(MemoryStorage::new());
        let now = SystemTime::now();
        let ca = LocalCa::load_or_create(&storage, now).await.expect("an authority");
        let make = |_| {
            let pair = ca.issue(&["a.test".parse().expect("a name")], now).expect("issued");
            Certificate::from_pem_slices(pair.chain_pem.as_bytes(), pair.key_pem.as_bytes())
                .expect("usable")
        };
        let certificates: Vec<_> = (0..20).map(make).collect();
        let store = Arc::new(CertStore::new(map(&certificates[0])));
        let resolver = Arc::new(AcmeResolver::new(TlsAlpn01::new(), store.clone()));
        let tickets = TicketSecret::new();
        let tls = TlsConfig::builder(resolver).tickets(tickets.tickets()).build().expect("tls");
        let handler = Arc::new(handler_fn(async |_| Response::text("hi")));
        let listener = Listener::bind(([127, 0, 0, 1], 0)).tls(tls);
        let server = Server::builder().workers(1).listen(listener, handler).bind().expect("bound");
        let address = server.local_addrs()[0];
        let handle = server.start().expect("started");
        let (root_pem, swaps) = (ca.root_pem().to_owned(), Default::default());
        Self { root_pem, certificates, store, swaps, address, handle }
    }

    fn swap(&self) {
        let number = self.swaps[0].fetch_add(1, Ordering::SeqCst) + 1;
        self.store.replace(map(&self.certificates[number % self.certificates.len()]));
        self.swaps[1].store(number, Ordering::SeqCst);
    }

    /// Visits once; answers whether the session was resumed. A full handshake shows the certificate of this
    /// moment.
    async fn visit(&self, config: &Arc<ClientConfig>) -> bool {
        let first = self.swaps[1].load(Ordering::SeqCst);
        let shown = visit(self.address, config).await.expect("no handshake fails");
        let last = self.swaps[0].load(Ordering::SeqCst);
        let Some(shown) = shown else { return true };
        let is_of = |number: usize| {
            let certificate = &self.certificates[number % self.certificates.len()];
            certificate.key().cert[0] == shown
        };
        assert!((first..=last).any(is_of), "an old certificate was shown after swap {first}");
        false
    }
}

fn map(certificate: &Certificate) -> CertMap {
    let mut map = CertMap::new();
    map.add(certificate).expect("has a name");
    map
}

/// No handshake fails while certificates are swapped every few of them, clients go on resuming, and those that do
/// not are shown the certificate of the moment. The rate depends on who else is at work: it is told, and asserted where
/// `cargo xtask bench swap` wants so much.
#[test]
fn certificates_are_swapped_under_handshakes() {
    const VISITORS: usize = 16;
    /// One visit in so many is that of somebody new.
    const NEW_EVERY: usize = 20;
    /// Visits from one swap to the next.
    const SWAP_EVERY: usize = 16;
    let visits = if crate::support::is_long() { 30_000 } else { 2_000 };
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let stage = Arc::new(runtime.block_on(Stage::start()));
    let left = Arc::new(AtomicUsize::new(visits));
    let resumed = Arc::new(AtomicUsize::new(0));
    let (begin, used) = (Instant::now(), processor_time());
    runtime.block_on(async {
        let visitors: Vec<_> = (0..VISITORS)
            .map(|_| {
                let (left, resumed, stage) = (left.clone(), resumed.clone(), stage.clone());
                tokio::spawn(async move {
                    let known = client(&stage.root_pem);
                    let next = || {
                        let one_less = |left: usize| left.checked_sub(1);
                        left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_less).ok()
                    };
                    while let Some(number) = next() {
                        let is_new = number % NEW_EVERY == 0;
                        let config = if is_new { client(&stage.root_pem) } else { known.clone() };
                        let was_resumed = stage.visit(&config).await;
                        assert!(!is_new || !was_resumed);
                        resumed.fetch_add(usize::from(was_resumed), Ordering::SeqCst);
                    }
                })
            })
            .collect();
        let mut swap_at = visits;
        while visitors.iter().any(|visitor| !visitor.is_finished()) {
            if left.load(Ordering::SeqCst) <= swap_at {
                stage.swap();
                swap_at = swap_at.saturating_sub(SWAP_EVERY);
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        for visitor in visitors {
            visitor.await.expect("a visitor");
        }
    });
    stage.handle.abort();
    let (elapsed, used) = (begin.elapsed(), processor_time().saturating_sub(used));
    let (resumed, swaps) = (resumed.load(Ordering::SeqCst), stage.swaps[1].load(Ordering::SeqCst));
    let rate = visits as f64 / elapsed.as_secs_f64();
    println!(
        "{visits} handshakes, {resumed} resumed, {swaps} swaps, none failed: {:.0}/s; {} us of processor time \
         for both sides of one, which is {:.0}/s on two processors",
        rate,
        used.as_micros() / visits as u128,
        2.0 * visits as f64 / used.as_secs_f64(),
    );
    let rate_min = std::env::var("E2E_RATE_MIN").map(|text| text.parse().expect("a number"));
    assert!(rate >= rate_min.unwrap_or(0.0), "only {rate:.0} handshakes per second");
    assert!(swaps > visits / SWAP_EVERY / 2, "{swaps} swaps");
    // Each visitor is new once, and whoever is new on purpose.
    let full = visits / NEW_EVERY + VISITORS;
    assert!(resumed >= visits - full - visits / 50, "{resumed} of {visits} resumed");
}

/// What this process used so far.
fn processor_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // Fields 14 and 15 of proc_pid_stat(5), counted from behind the name; in hundredths of a second.
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields).split_whitespace();
    let ticks = fields.skip(11).take(2).filter_map(|field| field.parse::<u64>().ok());
    Duration::from_millis(10 * ticks.sum::<u64>())
}

/// Who offers only `acme-tls/1` gets a challenge certificate or none; with anything besides it is a client as any
/// other.
#[tokio::test(flavor = "multi_thread")]
async fn only_authorities_see_challenge_certificates() {
    let storage: Arc<dyn Storage> = Arc::new(MemoryStorage::new());
    let now = SystemTime::now();
    let ca = LocalCa::load_or_create(&storage, now).await.expect("an authority");
    let pair = ca.issue(&["a.test".parse().expect("a name")], now).expect("issued");
    let (chain, key) = (pair.chain_pem.as_bytes(), pair.key_pem.as_bytes());
    let mut map = CertMap::new();
    map.add(&Certificate::from_pem_slices(chain, key).expect("usable")).expect("has a name");
    let store = Arc::new(CertStore::new(map));
    let resolver = Arc::new(AcmeResolver::new(TlsAlpn01::new(), store));
    let protocols = [b"h2".as_slice(), b"http/1.1", ACME_TLS_ALPN];
    let tls = TlsConfig::builder(resolver).alpn(protocols).build().expect("tls");
    let handler = Arc::new(handler_fn(async |_| Response::text("hi")));
    let listener = Listener::bind(([127, 0, 0, 1], 0)).tls(tls);
    let server = Server::builder().workers(1).listen(listener, handler).bind().expect("bound");
    let address = server.local_addrs()[0];
    let handle = server.start().expect("started");
    let rows: &[(&[&[u8]], bool)] = &[
        (&[], true),
        (&[b"http/1.1"], true),
        (&[b"http/1.1", ACME_TLS_ALPN], true),
        (&[ACME_TLS_ALPN, b"http/1.1"], true),
        (&[ACME_TLS_ALPN], false),
    ];
    for (offered, want) in rows {
        let mut config = ClientConfig::clone(&client(ca.root_pem()));
        config.alpn_protocols = offered.iter().map(|one| one.to_vec()).collect();
        let visited = visit(address, &Arc::new(config)).await;
        assert_eq!(visited.is_ok(), *want, "{offered:?}: {visited:?}");
    }
    handle.abort();
}
