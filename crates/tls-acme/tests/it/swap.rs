//! Certificates that change under load.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use hearth_http_core::{Response, handler_fn};
use hearth_net::{CertMap, CertStore, Certificate, Listener, Server, TlsConfig};
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
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider);
    let builder = builder.with_safe_default_protocol_versions().expect("versions");
    Arc::new(builder.with_root_certificates(roots).with_no_client_auth())
}

/// One connection with a request; answers whether it was resumed.
async fn visit(address: SocketAddr, config: &Arc<ClientConfig>) -> std::io::Result<bool> {
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
    Ok(tls.get_ref().1.handshake_kind() == Some(rustls::HandshakeKind::Resumed))
}

/// No handshake fails while certificates are swapped a hundred times a second, and clients go on resuming.
#[test]
fn certificates_are_swapped_under_handshakes() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let storage: Arc<dyn Storage> = Arc::new(MemoryStorage::new());
    let now = SystemTime::now();
    let ca = runtime.block_on(LocalCa::load_or_create(&storage, now)).expect("an authority");
    let make = || {
        let pair = ca.issue(&["a.test".parse().expect("a name")], now).expect("issued");
        Certificate::from_pem_slices(pair.chain_pem.as_bytes(), pair.key_pem.as_bytes())
            .expect("usable")
    };
    let map = |certificate: &Certificate| {
        let mut map = CertMap::new();
        map.add(certificate).expect("has a name");
        map
    };
    let certificates: Vec<_> = (0..20).map(|_| make()).collect();
    let store = Arc::new(CertStore::new(map(&certificates[0])));
    let resolver = Arc::new(AcmeResolver::new(TlsAlpn01::new(), store.clone()));
    let tickets = TicketSecret::new();
    let tls = TlsConfig::builder(resolver).tickets(tickets.tickets()).build().expect("tls");
    let handler = Arc::new(handler_fn(async |_| Response::text("hi")));
    let server =
        Server::builder().workers(1).listen(Listener::bind(([127, 0, 0, 1], 0)).tls(tls), handler);
    let server = server.bind().expect("bound");
    let address = server.local_addrs()[0];
    let handle = server.start().expect("started");

    let (total, resumed) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let is_over = Arc::new(AtomicBool::new(false));
    let begin = Instant::now();
    let swaps = runtime.block_on(async {
        let visitors: Vec<_> = (0..16)
            .map(|_| {
                let (total, resumed, is_over) = (total.clone(), resumed.clone(), is_over.clone());
                let config = client(ca.root_pem());
                tokio::spawn(async move {
                    while !is_over.load(Ordering::Relaxed) {
                        let was_resumed =
                            visit(address, &config).await.expect("no handshake fails");
                        total.fetch_add(1, Ordering::Relaxed);
                        resumed.fetch_add(u64::from(was_resumed), Ordering::Relaxed);
                    }
                })
            })
            .collect();
        let mut swaps = 0;
        while begin.elapsed() < Duration::from_secs(3) {
            store.replace(map(&certificates[swaps % certificates.len()]));
            swaps += 1;
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        is_over.store(true, Ordering::Relaxed);
        for visitor in visitors {
            visitor.await.expect("a visitor");
        }
        swaps
    });
    handle.abort();
    let (total, resumed) = (total.load(Ordering::Relaxed), resumed.load(Ordering::Relaxed));
    let rate = total as f64 / begin.elapsed().as_secs_f64();
    println!("{total} handshakes ({rate:.0}/s), {resumed} resumed, {swaps} swaps, none failed");
    assert!(swaps > 50 && total > 200);
    assert!(resumed * 10 > total * 9, "{resumed} of {total} resumed");
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
