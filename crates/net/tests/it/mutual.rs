//! Clients that show a certificate, too.

use std::sync::Arc;

use hearth_net::{CertMap, CertStore, NetLimits, TlsConfig, TlsError};
use rcgen::{BasicConstraints, Certificate, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::{
    ClientConfig, HandshakeKind, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer},
    server::WebPkiClientVerifier,
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

/// A server that asks for certificates of `authority`, and may do without.
fn server(authority: &Authority, may_do_without: bool) -> Running {
    let mut roots = RootCertStore::empty();
    let certificate: &Certificate = authority.as_ref();
    roots.add(certificate.der().clone()).expect("an authority");
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
    let verifier = if may_do_without { verifier.allow_unauthenticated() } else { verifier }.build();
    let mut map = CertMap::new();
    map.set_default(support::certificate(&["a.test"]));
    let config = TlsConfig::builder(Arc::new(CertStore::new(map)))
        .client_verifier(verifier.expect("roots"))
        .build()
        .expect("good options");
    start_with(hello(), NetLimits::default(), |listener| listener.tls(config))
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
    let params = CertificateParams::new(vec!["client.test".to_owned()]).expect("a name");
    let signed = params.signed_by(&key, &**authority).expect("signed");
    let chain = vec![CertificateDer::from(signed)];
    let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
    Arc::new(builder.with_client_auth_cert(chain, key).expect("a good pair"))
}

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
