//! Clients that show a certificate, too.

use std::sync::{Arc, Mutex};

use hearth_http_core::{Request, Response, TlsInfo, handler_fn};
use hearth_net::{
    CertMap, CertStore, ChooseConfig, ClientTrust, NetLimits, Tickets, TlsConfig, TlsError,
};
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CertificateRevocationListParams,
    CertifiedIssuer, IsCa, KeyIdMethod, KeyPair, RevokedCertParams,
};
use rustls::{
    ClientConfig, HandshakeKind, NamedGroup, RootCertStore,
    client::{
        ClientSessionMemoryCache, ClientSessionStore, Resumption, Tls12ClientSessionValue,
        Tls13ClientSessionValue,
    },
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName},
    server::{ClientHello, WebPkiClientVerifier, danger::ClientCertVerifier},
    version::{TLS12, TLS13},
};

use crate::support::{self, Running, eventually, hello, start_with, tls_connect};
use crate::trust::TrustAll;

/// Who signs the certificates of clients.
type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority() -> Authority {
    let mut params = CertificateParams::new(Vec::new()).expect("no names");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("signed")
}

/// Who lets clients of `authority` in, except those with this serial number.
fn verifier(
    authority: &Authority,
    may_do_without: bool,
    revoked: Option<u64>,
) -> Arc<dyn ClientCertVerifier> {
    let mut roots = RootCertStore::empty();
    let certificate: &Certificate = authority.as_ref();
    roots.add(certificate.der().clone()).expect("an authority");
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
    let verifier = verifier.with_crls(revoked.map(|serial| revocations(authority, serial)));
    let verifier = if may_do_without { verifier.allow_unauthenticated() } else { verifier };
    verifier.build().expect("roots")
}

fn revocations(
    authority: &Authority,
    serial: u64,
) -> rustls::pki_types::CertificateRevocationListDer<'static> {
    let list = CertificateRevocationListParams {
        this_update: rcgen::date_time_ymd(2024, 1, 1),
        next_update: rcgen::date_time_ymd(2090, 1, 1),
        crl_number: 1.into(),
        issuing_distribution_point: None,
        revoked_certs: vec![RevokedCertParams {
            serial_number: serial.into(),
            revocation_time: rcgen::date_time_ymd(2024, 1, 1),
            reason_code: None,
            invalidity_date: None,
        }],
        key_identifier_method: KeyIdMethod::Sha256,
    };
    list.signed_by(authority).expect("signed").der().clone()
}

/// A server that asks for certificates of `authority`, and may do without.
fn server(authority: &Authority, may_do_without: bool) -> Running {
    let config = config(verifier(authority, may_do_without, None));
    start_with(hello(), NetLimits::default(), |listener| listener.tls(config))
}

fn config(verifier: Arc<dyn ClientCertVerifier>) -> TlsConfig {
    let mut map = CertMap::new();
    map.set_default(support::certificate(&["a.test"]));
    let builder = TlsConfig::builder(Arc::new(CertStore::new(map))).client_verifier(verifier);
    builder.build().expect("good options")
}

/// A client with a certificate of this authority, or without one.
fn client(
    authority: Option<&Authority>,
    version: &'static rustls::SupportedProtocolVersion,
) -> Arc<ClientConfig> {
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[version])
        .expect("a version")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(TrustAll));
    let Some(authority) = authority else { return Arc::new(builder.with_no_client_auth()) };
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::new(vec!["client.test".to_owned()]).expect("a name");
    params.serial_number = Some(SERIAL.into());
    let signed = params.signed_by(&key, &**authority).expect("signed");
    let chain = vec![CertificateDer::from(signed)];
    let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
    Arc::new(builder.with_client_auth_cert(chain, key).expect("a good pair"))
}

/// The number of every client's certificate.
const SERIAL: u64 = 42;

/// Whether a request is answered. In TLS 1.3 the client is done before it is judged, so the handshake alone
/// tells nothing.
fn is_answered(server: &Running, config: &Arc<ClientConfig>) -> bool {
    let Ok(mut client) = tls_connect(server.address(), "a.test", config) else { return false };
    client.get("/").is_ok_and(|(_, body)| body == "hello")
}

#[test]
fn only_clients_of_the_authority_are_served() {
    let (known, unknown) = (authority(), authority());
    let strict = server(&known, false);
    let lenient = server(&known, true);
    let mut refused = 0;
    for version in [&TLS12, &TLS13] {
        for (who, shown, wanted) in [
            ("of the authority", Some(&known), [true, true]),
            ("of another authority", Some(&unknown), [false, false]),
            ("without a certificate", None, [false, true]),
        ] {
            let config = client(shown, version);
            let found = [&strict, &lenient].map(|server| is_answered(server, &config));
            assert_eq!(found, wanted, "{who}, {version:?}");
            refused += found.iter().filter(|answered| !**answered).count() as u64;
        }
    }
    eventually("refusals are counted", || {
        let failed = |server: &Running| server.handle.stats().tls_failed;
        failed(&strict) + failed(&lenient) == refused
    });
}

#[test]
fn every_connection_is_checked_anew() {
    let known = authority();
    let server = server(&known, false);
    for version in [&TLS12, &TLS13] {
        let config = client(Some(&known), version);
        for _ in 0..3 {
            let mut client = tls_connect(server.address(), "a.test", &config).expect("known");
            assert_eq!(client.get("/").expect("an answer").1, "hello");
            let kind = client.stream.conn.handshake_kind();
            assert_ne!(kind, Some(HandshakeKind::Resumed), "{version:?}");
        }
    }
    assert_eq!(server.handle.stats().tls_resumed, 0);
}

/// Another authority, or a list of revocations, holds for the very next connection of a client that was let in
/// before, and so does the way back.
#[test]
fn a_change_of_trust_holds_from_the_next_connection_on() {
    let (known, other) = (authority(), authority());
    let trust = Arc::new(ClientTrust::new(verifier(&known, false, None)));
    let config = config(trust.clone());
    let server = start_with(hello(), NetLimits::default(), |listener| listener.tls(config));
    let clients = [&TLS12, &TLS13].map(|version| client(Some(&known), version));
    let rows = [
        ("the authority", verifier(&known, false, None), true),
        ("another authority", verifier(&other, false, None), false),
        ("another authority, or nobody", verifier(&other, true, None), false),
        ("the authority again", verifier(&known, false, None), true),
        ("the certificate is revoked", verifier(&known, false, Some(SERIAL)), false),
        ("another certificate is revoked", verifier(&known, false, Some(SERIAL + 1)), true),
    ];
    for (what, verifier, want) in rows {
        trust.replace(verifier);
        for client in &clients {
            // Twice, so that there would be a session to resume.
            for _ in 0..2 {
                assert_eq!(is_answered(&server, client), want, "{what}");
            }
        }
    }
    assert_eq!(server.handle.stats().tls_resumed, 0);
}

/// What was asked for, and what was shown, reaches the handler.
#[test]
fn the_handler_knows_who_came() {
    let seen: Arc<Mutex<Vec<TlsInfo>>> = Arc::default();
    let noted = seen.clone();
    let handler = handler_fn(move |request: Request| {
        let tls = request.connection().tls.as_deref().expect("encrypted").clone();
        noted.lock().expect("no panic").push(tls);
        async { Response::text("hello") }
    });
    let known = authority();
    let config = config(verifier(&known, true, None)).with_client_trust(7);
    let server = start_with(handler, NetLimits::default(), |listener| listener.tls(config));
    for version in [&TLS12, &TLS13] {
        for shown in [None, Some(&known)] {
            let client = client(shown, version);
            assert!(is_answered(&server, &client));
            let info = seen.lock().expect("no panic").pop().expect("a request");
            assert_eq!(info.client_trust, 7);
            let found = info.client_certificate;
            assert_eq!(found.is_some(), shown.is_some(), "{version:?}");
            if let Some(certificate) = found {
                let digest = aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256.tls13();
                let digest = digest.expect("a suite").common.hash_provider.hash(&certificate.der);
                assert_eq!(certificate.sha256, digest.as_ref());
                let name = b"client.test";
                assert!(certificate.der.windows(name.len()).any(|part| part == name));
            }
        }
    }
}

/// A session of a name that is open to everybody is worth nothing at one that is not, although all names of a
/// listener have one secret for their tickets.
#[test]
fn a_session_of_an_open_name_opens_no_closed_one() {
    #[derive(Debug)]
    struct ByName(TlsConfig);
    impl ChooseConfig for ByName {
        fn choose(&self, hello: &ClientHello<'_>) -> Option<TlsConfig> {
            (hello.server_name() == Some("closed.test")).then(|| self.0.clone())
        }
    }
    let known = authority();
    let tickets = Tickets::new();
    let store = || {
        let mut map = CertMap::new();
        map.set_default(support::certificate(&["open.test", "closed.test"]));
        Arc::new(CertStore::new(map))
    };
    let closed = TlsConfig::builder(store()).tickets(tickets.clone());
    let closed = closed.client_verifier(verifier(&known, false, None)).build().expect("options");
    let open = TlsConfig::builder(store()).tickets(tickets).build().expect("options");
    let config = open.with_choice(Arc::new(ByName(closed)));
    let server = start_with(hello(), NetLimits::default(), |listener| listener.tls(config));
    for version in [&TLS12, &TLS13] {
        for (shown, want) in [(None, false), (Some(&known), true)] {
            let mut client = (*client(shown, version)).clone();
            client.resumption = Resumption::store(Arc::new(OneForAll::default()));
            let client = Arc::new(client);
            let visit = |name: &str| {
                let mut client = tls_connect(server.address(), name, &client).ok()?;
                let (_, body) = client.get("/").ok()?;
                assert_eq!(body, "hello");
                client.stream.conn.handshake_kind()
            };
            assert!(visit("open.test").is_some());
            let again = visit("open.test");
            assert_eq!(again, Some(HandshakeKind::Resumed), "{version:?}");
            let found = visit("closed.test");
            assert_eq!(found.is_some(), want, "{version:?}");
            assert_ne!(found, Some(HandshakeKind::Resumed), "{version:?}");
        }
    }
}

/// A client's sessions, of whatever name, for every name.
#[derive(Debug)]
struct OneForAll(ClientSessionMemoryCache, ServerName<'static>);

impl Default for OneForAll {
    fn default() -> Self {
        let name = ServerName::try_from("all.test").expect("a name");
        Self(ClientSessionMemoryCache::new(8), name)
    }
}

impl ClientSessionStore for OneForAll {
    fn set_kx_hint(&self, _: ServerName<'static>, group: NamedGroup) {
        self.0.set_kx_hint(self.1.clone(), group);
    }

    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        self.0.kx_hint(&self.1)
    }

    fn set_tls12_session(&self, _: ServerName<'static>, value: Tls12ClientSessionValue) {
        self.0.set_tls12_session(self.1.clone(), value);
    }

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.0.tls12_session(&self.1)
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {
        self.0.remove_tls12_session(&self.1);
    }

    fn insert_tls13_ticket(&self, _: ServerName<'static>, value: Tls13ClientSessionValue) {
        self.0.insert_tls13_ticket(self.1.clone(), value);
    }

    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.0.take_tls13_ticket(&self.1)
    }
}

#[test]
fn what_is_wrong_with_a_certificate_is_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let (chain, key) = (folder.path().join("chain.pem"), folder.path().join("key.pem"));
    let (good, own_key) = support::pem(&["a.test"]);
    let (_, other_key) = support::pem(&["b.test"]);
    let rows = [
        (None, Some(own_key.as_str()), "chain.pem"),
        (Some(""), Some(own_key.as_str()), "chain.pem"),
        (Some(good.as_str()), None, "key.pem"),
        (Some(good.as_str()), Some("nothing"), "key.pem"),
        (Some(good.as_str()), Some(other_key.as_str()), "key"),
    ];
    for (chain_text, key_text, named) in rows {
        for (path, text) in [(&chain, chain_text), (&key, key_text)] {
            match text {
                Some(text) => std::fs::write(path, text).expect("written"),
                None => drop(std::fs::remove_file(path)),
            }
        }
        let error = TlsConfig::from_pem_files(&chain, &key).expect_err("it is wrong");
        let TlsError::Cert(cause) = &error else { panic!("{error}") };
        assert_eq!(error.to_string(), cause.to_string(), "the cause speaks for itself");
        assert!(error.to_string().contains(named), "{error}");
    }
}
