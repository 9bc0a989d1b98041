//! TLS: who is trusted, and what is negotiated.

use std::{net::SocketAddr, sync::Arc};

use hearth_http_client::{
    Actor, Client, ClientError, ClientOptions, ClientRequest, ConnectTo, ErrorKind, TlsOptions,
};
use rcgen::{CertificateParams, KeyPair};
use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer},
    server::WebPkiClientVerifier,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    sync::mpsc,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

/// A certificate that signs itself, and its key.
pub(crate) struct Pair {
    pub(crate) certificate: rcgen::Certificate,
    pub(crate) key: KeyPair,
}

pub(crate) fn pair(names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Pair {
    let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    let mut params = CertificateParams::new(names).expect("names");
    change(&mut params);
    let key = KeyPair::generate().expect("a key");
    let certificate = params.self_signed(&key).expect("a certificate");
    Pair { certificate, key }
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// The configuration of a server that shows `pair`, and asks for one that `clients` signed.
pub(crate) fn server_config(
    pair: &Pair,
    alpn: &[&str],
    clients: Option<&Pair>,
) -> Arc<ServerConfig> {
    let builder = ServerConfig::builder_with_provider(provider());
    let builder = builder.with_safe_default_protocol_versions().expect("versions");
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(clients) => {
            let mut roots = RootCertStore::empty();
            roots.add(clients.certificate.der().clone()).expect("a root");
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider());
            builder.with_client_cert_verifier(verifier.build().expect("a verifier"))
        }
    };
    let chain: Vec<CertificateDer<'static>> = vec![pair.certificate.der().clone()];
    let key = PrivateKeyDer::try_from(pair.key.serialize_der()).expect("a key");
    let mut config = builder.with_single_cert(chain, key).expect("a pair");
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    Arc::new(config)
}

pub(crate) fn trusting(pair: &Pair) -> Client {
    client(TlsOptions::default().with_root_der(pair.certificate.der().to_vec()))
}

fn client(tls: TlsOptions) -> Client {
    let mut options = ClientOptions::default();
    options.tls = tls;
    Client::new(options).expect("a client")
}

type Stream = TlsStream<tokio::net::TcpStream>;

/// A server that hands each connection to `serve` after its handshake; those that fail are dropped.
async fn serve<F: Future<Output = ()> + Send + 'static>(
    config: Arc<ServerConfig>,
    serve: impl Fn(Stream) -> F + Send + 'static,
) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((io, _)) = listener.accept().await {
            if let Ok(stream) = TlsAcceptor::from(config.clone()).accept(io).await {
                tokio::spawn(serve(stream));
            }
        }
    });
    address
}

async fn answer(mut stream: Stream, response: &str) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") && stream.read_buf(&mut head).await.unwrap_or(0) > 0 {}
    let _ = stream.write_all(response.as_bytes()).await;
    let _ = stream.flush().await;
    String::from_utf8(head).expect("text")
}

const OK: &str = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok";

fn get(url: &str, to: SocketAddr) -> ClientRequest {
    ClientRequest::get(url).expect("request").with_connect_to(ConnectTo::Address(to))
}

async fn fetch(client: &Client, url: &str, to: SocketAddr) -> Result<String, ClientError> {
    client.send(get(url, to)).await?.text(100).await
}

async fn ok_server(config: Arc<ServerConfig>) -> SocketAddr {
    serve(config, |stream| async {
        answer(stream, OK).await;
    })
    .await
}

#[tokio::test]
async fn who_is_trusted() {
    let good = pair(&["peer.test", "*.wild.test", "127.0.0.1"], |_| {});
    let expired = pair(&["peer.test"], |params| {
        params.not_before = rcgen::date_time_ymd(2001, 1, 1);
        params.not_after = rcgen::date_time_ymd(2001, 12, 31);
    });
    let address = ok_server(server_config(&good, &[], None)).await;
    for (url, is_ok) in [
        ("https://peer.test/", true),
        ("https://PEER.test:8443/", true),
        ("https://a.wild.test/", true),
        ("https://127.0.0.1/", true),
        ("https://other.test/", false),
        ("https://a.b.wild.test/", false),
        ("https://127.0.0.2/", false),
    ] {
        match fetch(&trusting(&good), url, address).await {
            Ok(text) => assert!(is_ok && text == "ok", "{url}"),
            Err(error) => {
                assert!(!is_ok, "{url}: {error:?}");
                assert_eq!((error.kind(), error.actor()), (ErrorKind::Tls, Actor::Caller));
                assert!(!error.is_retryable(), "{url}");
            }
        }
    }
    let error = fetch(&client(TlsOptions::default()), "https://peer.test/", address).await;
    let error = error.expect_err("nobody is trusted by default");
    assert_eq!(error.to_string(), "peer.test: the TLS handshake failed");
    let source = std::error::Error::source(&error).expect("a source").to_string();
    assert!(source.contains("UnknownIssuer"), "{source}");
    let address = ok_server(server_config(&expired, &[], None)).await;
    let error = fetch(&trusting(&expired), "https://peer.test/", address).await;
    assert_eq!(error.expect_err("expired").kind(), ErrorKind::Tls);
    // A peer that does not speak TLS at all.
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        let (mut io, _) = listener.accept().await.expect("a connection");
        let _ = io.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
    });
    let error = fetch(&trusting(&good), "https://peer.test/", address).await;
    assert_eq!(error.expect_err("no TLS").kind(), ErrorKind::Tls);
}

#[cfg(feature = "webpki-roots")]
#[tokio::test]
async fn public_authorities_do_not_vouch_for_strangers() {
    let own = pair(&["peer.test"], |_| {});
    let address = ok_server(server_config(&own, &[], None)).await;
    let public = client(TlsOptions::default().with_webpki_roots());
    let error = fetch(&public, "https://peer.test/", address).await.expect_err("a stranger");
    assert_eq!(error.kind(), ErrorKind::Tls);
}

#[tokio::test]
async fn client_certificates() {
    let own = pair(&["peer.test"], |_| {});
    let us = pair(&["client.test"], |_| {});
    let stranger = pair(&["client.test"], |_| {});
    let address = ok_server(server_config(&own, &[], Some(&us))).await;
    let root = TlsOptions::default().with_root_pem(own.certificate.pem().as_bytes()).expect("PEM");
    let showing = |pair: &Pair| {
        let chain = pair.certificate.pem();
        let key = pair.key.serialize_pem();
        root.clone().with_identity_pem(chain.as_bytes(), key.as_bytes()).expect("PEM")
    };
    let url = "https://peer.test/";
    assert_eq!(fetch(&client(showing(&us)), url, address).await.expect("response"), "ok");
    for alpn in [&[][..], &["h2", "http/1.1"]] {
        let address = ok_server(server_config(&own, alpn, Some(&us))).await;
        for refused in [root.clone(), showing(&stranger)] {
            let error = fetch(&client(refused), url, address).await.expect_err("refused");
            // In TLS 1.3 the refusal comes when the handshake is over for us.
            assert_eq!(error.kind(), ErrorKind::Tls, "{error:?}");
            assert!(!error.is_retryable());
        }
    }
    let foreign_key = root.clone().with_identity_pem(
        us.certificate.pem().as_bytes(),
        stranger.key.serialize_pem().as_bytes(),
    );
    let mut options = ClientOptions::default();
    options.tls = foreign_key.expect("PEM");
    assert!(!format!("{options:?} {:?}", options.tls).contains("PRIVATE"));
    assert_eq!(Client::new(options).expect_err("no pair").kind(), ErrorKind::Tls);
    for nonsense in ["", "nonsense", "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n"]
    {
        let error = TlsOptions::default().with_root_pem(nonsense.as_bytes());
        assert!(error.expect_err(nonsense).to_string().contains("certificate"));
    }
}

#[tokio::test]
async fn what_is_offered() {
    let own = pair(&["peer.test"], |_| {});
    let (told, mut seen) = mpsc::unbounded_channel();
    let address = serve(server_config(&own, &["http/1.1"], None), move |stream| {
        let told = told.clone();
        async move {
            let connection = stream.get_ref().1;
            let name = connection.server_name().map(str::to_owned);
            let alpn = connection.alpn_protocol().map(<[u8]>::to_vec);
            let kind = connection.handshake_kind();
            answer(stream, OK).await;
            let _ = told.send((name, alpn, kind));
        }
    })
    .await;
    let client = trusting(&own);
    for index in 0..2 {
        assert_eq!(fetch(&client, "https://peer.test/", address).await.expect("response"), "ok");
        let (name, alpn, kind) = seen.recv().await.expect("a connection");
        assert_eq!(name.as_deref(), Some("peer.test"));
        assert_eq!(alpn.as_deref(), Some(&b"http/1.1"[..]));
        let is_resumed = kind == Some(rustls::HandshakeKind::Resumed);
        assert_eq!(is_resumed, index == 1, "the second handshake is a short one: {kind:?}");
    }
}

/// Without a TLS end a response until close may have been cut off by anybody (RFC 8446 §6.1).
#[tokio::test]
async fn truncation_is_noticed() {
    let own = pair(&["peer.test"], |_| {});
    for is_clean in [true, false] {
        let address = serve(server_config(&own, &[], None), move |mut stream| async move {
            let mut head = Vec::new();
            let _ = stream.read_buf(&mut head).await;
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\nhalf").await;
            let _ = stream.flush().await;
            if is_clean {
                let _ = stream.shutdown().await;
            }
        })
        .await;
        match fetch(&trusting(&own), "https://peer.test/", address).await {
            Ok(text) => assert!(is_clean && text == "half"),
            Err(error) => assert!(!is_clean && error.kind() == ErrorKind::Closed, "{error:?}"),
        }
    }
}

#[tokio::test]
async fn no_way_back_from_https() {
    let own = pair(&["peer.test"], |_| {});
    let address = serve(server_config(&own, &[], None), |stream| async {
        let head = "HTTP/1.1 302 x\r\nlocation: http://peer.test/\r\ncontent-length: 0\r\n\r\n";
        answer(stream, head).await;
    })
    .await;
    let request = get("https://peer.test/", address).with_redirects_max(5);
    let error = trusting(&own).send(request).await.expect_err("a downgrade");
    assert_eq!(error.kind(), ErrorKind::Redirect);
}

#[cfg(feature = "http2")]
#[tokio::test]
async fn alpn_chooses_the_protocol() {
    use hearth_http_client::Versions;
    use http::{HeaderValue, Version};
    let own = pair(&["peer.test"], |_| {});
    for (offered, versions, want) in [
        (&["h2", "http/1.1"][..], Versions::Auto, Ok(Version::HTTP_2)),
        (&["http/1.1"], Versions::Auto, Ok(Version::HTTP_11)),
        (&[], Versions::Auto, Ok(Version::HTTP_11)),
        (&["h2", "http/1.1"], Versions::Http1, Ok(Version::HTTP_11)),
        (&["h2"], Versions::Http2, Ok(Version::HTTP_2)),
        (&[], Versions::Http2, Err(ErrorKind::Protocol)),
        (&["http/1.1"], Versions::Http2, Err(ErrorKind::Tls)),
        (&["h2"], Versions::Http1, Err(ErrorKind::Tls)),
    ] {
        let address = serve(server_config(&own, offered, None), |stream| async {
            if stream.get_ref().1.alpn_protocol() != Some(b"h2") {
                answer(stream, OK).await;
                return;
            }
            let mut connection = ::h2::server::handshake(stream).await.expect("a preface");
            while let Some(Ok((_, mut respond))) = connection.accept().await {
                let mut stream =
                    respond.send_response(http::Response::new(()), false).expect("open");
                stream.send_data(hearth_http_core::Bytes::from("ok"), true).expect("open");
            }
        })
        .await;
        let client = trusting(&own);
        // Several at once: where HTTP/2 is chosen they share one connection.
        let mut requests = tokio::task::JoinSet::new();
        for _ in 0..5 {
            let client = client.clone();
            let request = get("https://peer.test/", address).with_versions(versions);
            requests.spawn(async move {
                let response = client.send(request).await.map_err(|error| error.kind())?;
                let version = response.version();
                assert_eq!(response.text(10).await.expect("body"), "ok");
                Ok(version)
            });
        }
        while let Some(got) = requests.join_next().await {
            assert_eq!(got.expect("request"), want, "{offered:?} {versions:?}");
        }
        let opened = client.stats().connections_opened;
        match want {
            Ok(Version::HTTP_2) => assert_eq!(opened, 1),
            Ok(_) => assert_eq!(opened, 5),
            Err(_) => {}
        }
        // A switch of protocols needs HTTP/1.1, whatever else there is.
        if offered.contains(&"http/1.1") {
            let request = get("https://peer.test/", address);
            let request = request.with_upgrade(HeaderValue::from_static("websocket"));
            let response = client.send(request).await.expect("response");
            assert_eq!(response.version(), Version::HTTP_11);
        }
    }
}
