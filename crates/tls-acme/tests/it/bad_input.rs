//! Authorities that answer garbage, or never.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use hearth_tls_acme::{
    Authority, CertRequest, Code, LocalCa, Manager, ManagerOptions, MemoryStorage, Outcome, Storage,
};
use rustls::{
    RootCertStore,
    client::verify_server_cert_signed_by_trust_anchor,
    pki_types::{CertificateDer, UnixTime, pem::PemObject as _},
    server::ParsedCertificate,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use crate::support::name;

/// Answers every request with `text`; nothing where that is empty.
async fn serve(text: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut buffer = [0; 4096];
                while stream.read(&mut buffer).await.is_ok_and(|len| len > 0) {
                    if !text.is_empty() && stream.write_all(text.as_bytes()).await.is_err() {
                        break;
                    }
                }
            });
        }
    });
    format!("http://{address}/dir")
}

#[tokio::test]
async fn garbage_and_silence_are_named() {
    let rows = [
        ("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello", Code::Garbage),
        ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}", Code::Garbage),
        ("HTTP/1.1 200 OK\r\ncontent-length: 12\r\n\r\n{\"newOrder\":1", Code::Garbage),
        ("HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n", Code::Garbage),
        ("SSH-2.0-OpenSSH\r\n", Code::Garbage),
        ("HTTP/1.1 500 Oops\r\ncontent-length: 0\r\n\r\n", Code::ServerError),
        ("HTTP/1.1 429 Slow\r\nretry-after: 7200\r\ncontent-length: 0\r\n\r\n", Code::RateLimited),
        ("", Code::Unreachable),
    ];
    for (text, want) in rows {
        let mut authority = Authority::new("odd", serve(text).await);
        authority.timeout = Duration::from_millis(300);
        let mut options = ManagerOptions::new(Arc::new(MemoryStorage::new()));
        options.authorities = vec![authority];
        options.challenges.http01 = true;
        let clock = options.clock.clone();
        let manager = Manager::new(options);
        let outcome = manager.issue(&CertRequest::new([name("a.test")]).unwrap()).await;
        let Outcome::TryLater { at, why } = outcome else { panic!("{outcome:?}") };
        assert_eq!(why.code, want, "{text:?}: {why}");
        let wait = at.duration_since(clock.now()).unwrap().as_secs();
        let range = if want == Code::RateLimited { 7100..7300 } else { 50..70 };
        assert!(range.contains(&wait), "{text:?}: {wait}");
    }
}

/// An order that is never done is given up after its time, and gone on with, not made anew, when the authority
/// has thought about it.
#[tokio::test(flavor = "multi_thread")]
async fn an_order_that_is_never_done_is_named() {
    let authority = crate::stand_in::StandIn::start();
    authority.mind.lock().is_stuck = true;
    let mut options = ManagerOptions::new(Arc::new(MemoryStorage::new()));
    options.authorities = vec![authority.authority("standin")];
    options.challenges.http01 = true;
    options.order_timeout = Duration::from_millis(500);
    let manager = Manager::new(options);
    let request = CertRequest::new([name("a.test")]).unwrap();
    let Outcome::TryLater { why, .. } = manager.issue(&request).await else { panic!("it is done") };
    assert_eq!(why.code, Code::ServerError, "{why}");
    assert!(why.sentence.contains("not done within"), "{why}");
    authority.mind.lock().is_stuck = false;
    manager.issue(&request).await.done().unwrap();
    assert_eq!(authority.orders(), 1, "the same order");
}

/// Nobody listens; the site goes on with a certificate of its own making.
#[tokio::test]
async fn a_site_without_an_authority_is_served() {
    let mut options = ManagerOptions::new(Arc::new(MemoryStorage::new()));
    let port = crate::support::free_port();
    options.authorities = vec![Authority::new("gone", format!("http://127.0.0.1:{port}/dir"))];
    options.challenges.http01 = true;
    let manager = Manager::new(options);
    manager.manage([CertRequest::new([name("a.test")]).unwrap()]).await.unwrap();
    manager.tick().await;
    assert_eq!(manager.attentions().first().map(|one| one.code), Some(Code::Unreachable));
    let served: Vec<_> = manager.cert_store().load().iter().map(|(name, _)| name).collect();
    assert_eq!(served, [""], "the self-signed one, as default");
}

/// Where this machine has an authority of its own, those who trust it see no warning until there is a better
/// certificate; a damaged one keeps nobody from being served.
#[tokio::test]
async fn the_local_authority_stands_in() {
    let storage: Arc<dyn Storage> = Arc::new(MemoryStorage::new());
    let authority = LocalCa::load_or_create(&storage, SystemTime::now()).await.unwrap();
    for is_damaged in [false, true] {
        if is_damaged {
            storage.store("local-ca/root.pem", b"?").await.unwrap();
        }
        let mut options = ManagerOptions::new(storage.clone());
        options.challenges.http01 = true;
        let manager = Manager::new(options);
        manager.manage([CertRequest::new([name("nas.lan")]).unwrap()]).await.unwrap();
        let map = manager.cert_store().load();
        let (_, served) = map.iter().next().unwrap();
        assert_eq!(served.names(), ["nas.lan".into()]);
        let trusts = trusts(authority.root_pem(), &served.key().cert[0]);
        assert_eq!(trusts, !is_damaged);
    }
}

/// What a client decides that trusts this root.
fn trusts(root_pem: &str, certificate: &CertificateDer<'_>) -> bool {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(root_pem.as_bytes()).unwrap()).unwrap();
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    verify_server_cert_signed_by_trust_anchor(
        &ParsedCertificate::try_from(certificate).unwrap(),
        &roots,
        &[],
        UnixTime::now(),
        provider.signature_verification_algorithms.all,
    )
    .is_ok()
}
