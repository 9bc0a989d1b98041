//! Encrypted connections.

use std::{
    io::{Read, Write},
    net::TcpStream,
    sync::{Arc, Mutex},
    time::Duration,
};

use hearth_http_core::{FileBody, Request, Response, TlsInfo, handler_fn};
use hearth_net::{CertMap, CertStore, ChooseConfig, NetLimits, Tickets, TlsConfig};

use crate::support::{
    Client, Running, certificate, client_config, eventually, hello, logs, settings, shown, start,
    start_with, tls_config, tls_connect,
};
use crate::trust::TrustAll;

fn start_tls(config: TlsConfig) -> Running {
    start_with(hello(), NetLimits::default(), |listener| listener.tls(config))
}

#[test]
fn answers_over_tls() {
    let server = start_tls(tls_config(&["a.test"]));
    let config = client_config(&["http/1.1"]);
    let mut client = tls_connect(server.address(), "a.test", &config).expect("a handshake");
    for _ in 0..3 {
        assert_eq!(client.get("/").expect("an answer").1, "hello");
    }
    client.stream.conn.send_close_notify();
    client.stream.flush().expect("sent");
    assert!(client.closes().is_some(), "the server says goodbye, too");
    eventually("it is counted off", || server.handle.stats().open == 0);
    let stats = server.handle.stats();
    assert_eq!((stats.tls_handshakes, stats.tls_failed, stats.closed), (1, 0, 1));
}

#[test]
fn the_handler_knows_what_was_agreed_on() {
    let seen: Arc<Mutex<Vec<TlsInfo>>> = Arc::default();
    let noted = seen.clone();
    let handler = handler_fn(move |request: Request| {
        let tls = request.connection().tls.as_deref().expect("encrypted").clone();
        noted.lock().expect("no panic").push(tls);
        async { Response::text("") }
    });
    let config = tls_config(&["a.test"]);
    let server = start_with(handler, NetLimits::default(), |listener| listener.tls(config));
    let client = client_config(&["http/1.1"]);
    for _ in 0..2 {
        let mut client = tls_connect(server.address(), "A.test", &client).expect("a handshake");
        client.get("/").expect("an answer");
    }
    let seen = seen.lock().expect("no panic");
    assert_eq!(seen[0].server_name.as_deref(), Some("a.test"));
    assert_eq!(seen[0].alpn.as_deref(), Some(b"http/1.1".as_slice()));
    assert_eq!(seen[0].version, "TLSv1.3");
    assert_eq!(seen[0].cipher_suite, "TLS13_AES_128_GCM_SHA256");
    assert!(!seen[0].resumed && seen[1].resumed, "the second has a ticket");
    assert_eq!(seen[1].server_name.as_deref(), Some("a.test"));
    assert_eq!(server.handle.stats().tls_resumed, 1);
}

#[test]
fn key_exchange_is_post_quantum() {
    let server = start_tls(tls_config(&["a.test"]));
    let config = client_config(&[]);
    let client = tls_connect(server.address(), "a.test", &config).expect("a handshake");
    let group = client.stream.conn.negotiated_key_exchange_group().expect("one");
    assert_eq!(group.name(), rustls::NamedGroup::X25519MLKEM768);
}

#[test]
fn the_server_chooses_the_cipher() {
    let mut map = CertMap::new();
    map.set_default(certificate(&["a.test"]));
    let builder = TlsConfig::builder(Arc::new(CertStore::new(map)));
    let strong = builder.prefer_aes256().build().expect("good options");
    let rows = [
        (tls_config(&["a.test"]), rustls::CipherSuite::TLS13_AES_128_GCM_SHA256),
        (strong, rustls::CipherSuite::TLS13_AES_256_GCM_SHA384),
    ];
    for (config, want) in rows {
        let server = start_tls(config);
        let client = client_config(&[]);
        let client = tls_connect(server.address(), "a.test", &client).expect("a handshake");
        let suite = client.stream.conn.negotiated_cipher_suite().expect("one");
        assert_eq!(suite.suite(), want);
    }
}

#[test]
fn large_bodies_go_both_ways() {
    let mut file = tempfile::tempfile().expect("a file");
    let content: String = (0..300_000).map(|line| format!("line {line}\n")).collect();
    file.write_all(content.as_bytes()).expect("written");
    let (file, len) = (Arc::new(file), content.len() as u64);
    let handler = handler_fn(move |mut request: Request| {
        let file = FileBody { file: file.clone(), offset: 0, len };
        async move {
            request.body_mut().limit(u64::MAX);
            match request.path() {
                "/file" => Response::new(file),
                _ => Response::new(request.take_body().collect(u64::MAX).await.expect("a body")),
            }
        }
    });
    let config = tls_config(&["a.test"]);
    let server = start_with(handler, NetLimits::default(), |listener| listener.tls(config));
    let config = client_config(&[]);
    let mut client = tls_connect(server.address(), "a.test", &config).expect("a handshake");
    let (_, body) = client.get("/file").expect("an answer");
    assert!(body == content, "the file arrives as it is");
    let head = format!("POST /echo HTTP/1.1\r\nhost: a\r\ncontent-length: {len}\r\n\r\n");
    client.stream.write_all(head.as_bytes()).expect("sent");
    client.stream.write_all(content.as_bytes()).expect("sent");
    client.stream.flush().expect("sent");
    let (_, body) = client.answer().expect("an answer");
    assert!(body == content, "the body comes back as it was");
}

#[test]
fn certificates_are_chosen_by_name_and_swapped_in_use() {
    let mut map = CertMap::new();
    let (one, two, other) =
        (certificate(&["one.test"]), certificate(&["*.two.test"]), certificate(&["other.test"]));
    map.add(&one).expect("it has a name");
    map.add(&two).expect("it has a name");
    let store = Arc::new(CertStore::new(map.clone()));
    let server = start_tls(TlsConfig::builder(store.clone()).build().expect("good options"));
    let config = client_config(&[]);
    let ask = |name: &str| {
        let client = tls_connect(server.address(), name, &config);
        client.map(|client| shown(&client))
    };
    let der = |certificate: &hearth_net::Certificate| certificate.key().cert[0].to_vec();
    assert_eq!(ask("one.test").expect("known"), der(&one));
    assert_eq!(ask("x.two.test").expect("known"), der(&two));
    assert!(ask("other.test").is_err(), "there is no default");
    eventually("it is counted", || server.handle.stats().tls_failed == 1);
    map.set_default(other.clone());
    store.replace(map);
    assert_eq!(ask("other.test").expect("the default"), der(&other));
    assert!(logs().contains("no TLS connection"));
}

#[test]
fn tickets_are_shared_by_configurations() {
    let tickets = Tickets::new();
    let one = certificate(&["a.test"]);
    let config = || {
        let mut map = CertMap::new();
        map.set_default(one.clone());
        let builder = TlsConfig::builder(Arc::new(CertStore::new(map)));
        builder.tickets(tickets.clone()).build().expect("good options")
    };
    let (first, second) = (start_tls(config()), start_tls(config()));
    let client = client_config(&[]);
    tls_connect(first.address(), "a.test", &client).expect("a handshake").get("/").expect("answer");
    let mut resumed = tls_connect(second.address(), "a.test", &client).expect("a handshake");
    resumed.get("/").expect("an answer");
    assert_eq!(resumed.stream.conn.handshake_kind(), Some(rustls::HandshakeKind::Resumed));
}

#[derive(Debug)]
struct ByName(TlsConfig);

impl ChooseConfig for ByName {
    fn choose(&self, hello: &rustls::server::ClientHello<'_>) -> Option<TlsConfig> {
        (hello.server_name() == Some("special.test")).then(|| self.0.clone())
    }
}

#[test]
fn configurations_are_chosen_by_hello() {
    let mut map = CertMap::new();
    map.set_default(certificate(&["special.test"]));
    let special = TlsConfig::builder(Arc::new(CertStore::new(map)));
    let special = special.alpn([b"special".as_slice()]).build().expect("good options");
    let config = tls_config(&["a.test"]).with_choice(Arc::new(ByName(special)));
    let server = start_tls(config);
    let client = client_config(&["special", "http/1.1"]);
    for (name, want) in [("special.test", "special"), ("a.test", "http/1.1")] {
        let mut client = tls_connect(server.address(), name, &client).expect("a handshake");
        assert_eq!(client.stream.conn.alpn_protocol(), Some(want.as_bytes()));
        assert_eq!(client.get("/").expect("an answer").1, "hello");
    }
}

#[test]
fn bad_beginnings_are_refused() {
    let server = start_tls(tls_config(&["a.test"]));
    let mut plain = server.client();
    let (head, body) = plain.get("/").expect("an answer in the clear");
    assert!(head.starts_with("http/1.1 400 "), "{head}");
    assert!(body.contains("https://"), "{body}");

    let mut garbage = server.client();
    garbage.stream.write_all(&[0xff; 100]).expect("sent");
    assert!(garbage.stream.read_to_end(&mut Vec::new()).is_ok());

    // A hello that is cut into records of one byte is legal, and a record of nothing is not.
    let mut empty = server.client();
    empty.stream.write_all(&[22, 3, 1, 0, 0]).expect("sent");
    let mut alert = Vec::new();
    empty.stream.read_to_end(&mut alert).expect("an alert");
    assert_eq!(alert.first(), Some(&21), "{alert:?}");

    drop(server.client());
    eventually("all are counted", || server.handle.stats().tls_failed == 4);
    assert_eq!(server.handle.stats().open, 0);
}

#[test]
fn a_slow_handshake_times_out_or_makes_room() {
    let quick = settings(|settings| {
        settings.limits.handshake_timeout = Duration::from_millis(1500);
    });
    let config = tls_config(&["a.test"]);
    let mut limits = NetLimits::default();
    limits.handshakes_per_worker_max = 2;
    let server = start_with(hello(), limits, |listener| listener.tls(config).settings(quick));
    let mut slow: Vec<_> = (0..3).map(|_| server.client()).collect();
    assert!(slow[0].closes().expect("closed") < Duration::from_millis(1000), "it made room");
    assert_eq!(server.handle.stats().tls_shed, 1);
    let client = client_config(&[]);
    let mut honest = tls_connect(server.address(), "a.test", &client).expect("a handshake");
    assert_eq!(honest.get("/").expect("an answer").1, "hello");
    assert!(slow[2].closes().is_some(), "its time was up");
    assert!(logs().contains("the TLS handshake timed out"));
}

#[test]
fn a_peer_that_stops_reading_gets_all_of_it_later() {
    let content = "0123456789abcdef".repeat(512 * 1024);
    let text = content.clone();
    let config = tls_config(&["a.test"]);
    let handler = handler_fn(move |_| {
        let text = text.clone();
        async { Response::text(text) }
    });
    let server = start_with(handler, NetLimits::default(), |listener| listener.tls(config));
    let client = client_config(&[]);
    let mut client = tls_connect(server.address(), "a.test", &client).expect("a handshake");
    client.send("/").expect("sent");
    std::thread::sleep(Duration::from_millis(300));
    let (_, body) = client.answer().expect("an answer");
    assert!(body == content);
}

#[test]
fn records_may_be_cut_anywhere() {
    // Every byte of the client's side arrives by itself, handshake and request.
    let server = start_tls(tls_config(&["a.test"]));
    let slow = Trickle(TcpStream::connect(server.address()).expect("it listens"));
    slow.0.set_nodelay(true).expect("a socket");
    let name = rustls::pki_types::ServerName::try_from("a.test").expect("a name");
    let tls = rustls::ClientConnection::new(client_config(&[]), name).expect("a client");
    let mut client = Client { stream: rustls::StreamOwned::new(tls, slow) };
    assert_eq!(client.get("/").expect("an answer").1, "hello");
    client.stream.conn.refresh_traffic_keys().expect("TLS 1.3");
    assert_eq!(client.get("/").expect("an answer").1, "hello");
}

#[test]
fn small_fragments_are_put_together() {
    // Handshake messages in records of 32 bytes, with and without a look at the hello beforehand.
    let plain = tls_config(&["a.test"]);
    let choosing = plain.clone().with_choice(Arc::new(ByName(plain.clone())));
    for config in [plain, choosing] {
        let server = start_tls(config);
        let mut client = (*client_config(&[])).clone();
        client.max_fragment_size = Some(32);
        let client = Arc::new(client);
        let mut client = tls_connect(server.address(), "a.test", &client).expect("a handshake");
        for _ in 0..3 {
            assert_eq!(client.get("/").expect("an answer").1, "hello");
            client.stream.conn.refresh_traffic_keys().expect("TLS 1.3");
        }
    }
}

#[test]
fn forged_records_end_the_connection_with_an_alert() {
    let server = start_tls(tls_config(&["a.test"]));
    let client = client_config(&[]);
    let mut client = tls_connect(server.address(), "a.test", &client).expect("a handshake");
    assert_eq!(client.get("/").expect("an answer").1, "hello");
    let mut forged = vec![23, 3, 3, 0, 40];
    forged.extend_from_slice(&[0xaa; 40]);
    client.stream.sock.write_all(&forged).expect("sent");
    let error = client.answer().expect_err("no answer");
    let text = format!("{error:?}");
    assert!(text.contains("BadRecordMac"), "{text}");
    eventually("it is counted off", || server.handle.stats().open == 0);
    assert_eq!(server.handle.stats().panics, 0);
}

#[test]
fn http2_is_spoken_where_it_was_agreed_on() {
    let server = start_tls(tls_config(&["a.test"]));
    let client = client_config(&["h2", "http/1.1"]);
    let mut client = tls_connect(server.address(), "a.test", &client).expect("a handshake");
    assert_eq!(client.stream.conn.alpn_protocol(), Some(b"h2".as_slice()));
    // The preface and empty SETTINGS (RFC 9113 §3.4); the answer is SETTINGS, too.
    client.stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").expect("sent");
    client.stream.flush().expect("sent");
    let mut frame = [0; 9];
    client.stream.read_exact(&mut frame).expect("a frame");
    assert_eq!(frame[3], 4, "{frame:?}");
}

#[test]
fn old_clients_are_served_unless_refused() {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider);
    let builder = builder.with_protocol_versions(&[&rustls::version::TLS12]).expect("versions");
    let builder = builder.dangerous().with_custom_certificate_verifier(Arc::new(TrustAll));
    let old = Arc::new(builder.with_no_client_auth());

    let server = start_tls(tls_config(&["a.test"]));
    for resumed in [false, true] {
        let mut client = tls_connect(server.address(), "a.test", &old).expect("a handshake");
        assert_eq!(client.get("/").expect("an answer").1, "hello");
        let kind = client.stream.conn.handshake_kind();
        assert_eq!(kind == Some(rustls::HandshakeKind::Resumed), resumed);
    }
    let mut map = CertMap::new();
    map.set_default(certificate(&["a.test"]));
    let builder = TlsConfig::builder(Arc::new(CertStore::new(map))).only_tls13();
    let server = start_tls(builder.build().expect("good options"));
    assert!(tls_connect(server.address(), "a.test", &old).is_err());
}

#[test]
fn nothing_is_lost_when_the_server_drains() {
    let server = start_tls(tls_config(&["a.test"]));
    let client = client_config(&[]);
    let mut active = tls_connect(server.address(), "a.test", &client).expect("a handshake");
    active.send("/slow").expect("sent");
    std::thread::sleep(Duration::from_millis(50));
    let report = server.drain();
    assert_eq!((report.open, report.aborted), (1, 0));
    assert_eq!(active.answer().expect("an answer").1, "slow");
}

#[test]
fn plain_and_encrypted_differ_by_listener_only() {
    let server = start(hello());
    let client = client_config(&[]);
    assert!(tls_connect(server.address(), "a.test", &client).is_err());
}

/// Writes one byte at a time.
struct Trickle(TcpStream);

impl Read for Trickle {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        self.0.read(buf)
    }
}

impl Write for Trickle {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.write(bytes.get(..1).unwrap_or_default())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        self.0.flush()
    }
}
