//! TLS: a folder with one certificate, and sites with one each.

use std::{fs, net::SocketAddr, path::Path, sync::Arc};

use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::{
    client::{Response, connect, get, get_with},
    process::{Server, site},
};

/// Writes a certificate for `name` and its key, and answers the certificate for a client to trust.
pub(crate) fn certificate(dir: &Path, name: &str) -> rustls::pki_types::CertificateDer<'static> {
    let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
    fs::write(dir.join(format!("{name}.pem")), made.cert.pem()).unwrap();
    fs::write(dir.join(format!("{name}.key")), made.signing_key.serialize_pem()).unwrap();
    made.cert.der().clone()
}

/// Writes an authority for clients, `NAME.pem`, and a client of it, `NAME.client.pem` and `NAME.client.key`.
pub(crate) fn clients(dir: &Path, name: &str) {
    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
    let params = |common_name: String| {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, common_name);
        params
    };
    let mut authority = params(name.to_owned());
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let client = params(format!("client of {name}")).signed_by(&key, &*authority).unwrap();
    fs::write(dir.join(format!("{name}.pem")), authority.pem()).unwrap();
    fs::write(dir.join(format!("{name}.client.pem")), client.pem()).unwrap();
    fs::write(dir.join(format!("{name}.client.key")), key.serialize_pem()).unwrap();
}

pub(crate) fn get_tls(
    address: SocketAddr,
    trusted: &rustls::pki_types::CertificateDer<'static>,
    host: &str,
) -> Response {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = host.to_owned().try_into().unwrap();
    let client = ClientConnection::new(Arc::new(config), name).unwrap();
    get_with(StreamOwned::new(client, connect(address)), host, "/", "")
}

#[test]
fn a_folder_over_tls() {
    let dir = site();
    let trusted = certificate(dir.path(), "example.test");
    let (root, cert, key) = ("site", "example.test.pem", "example.test.key");
    let mut command = crate::process::hearth();
    command.current_dir(dir.path()).args(["serve", "--json", "--listen", "127.0.0.1:0"]);
    command.args(["--tls-cert", cert, "--tls-key", key, root]);
    let server = Server::start_with(dir.path(), &mut command);
    assert_eq!(server.banner["listeners"][0]["tls"], true);
    let url = server.banner["urls"][0]["url"].as_str().unwrap();
    assert!(url.starts_with("https://"), "{url}");
    let home = get_tls(server.address(0), &trusted, "example.test");
    assert_eq!((home.status, home.text().as_str()), (200, "<h1>home</h1>\n"));
}

#[test]
fn certificates_by_name() {
    let dir = site();
    let first = certificate(dir.path(), "one.test");
    let second = certificate(dir.path(), "two.test");
    let config = dir.path().join("hearth.toml");
    let text = r#"
        listeners = [
            { address = "127.0.0.1:0", tls = true },
            { address = "127.0.0.1:0" },
        ]
        [[sites]]
        hosts = ["one.test"]
        root = "site"
        redirect_to_https = true
        tls = { certificate = "one.test.pem", key = "one.test.key" }
        [[sites]]
        hosts = ["two.test"]
        root = "site/docs"
        tls = { certificate = "two.test.pem", key = "two.test.key", hsts = { max_age = "1d" } }
    "#;
    fs::write(&config, text).unwrap();
    let server = Server::start(dir.path(), &["-c", config.to_str().unwrap()]);
    assert_eq!(get_tls(server.address(0), &first, "one.test").text(), "<h1>home</h1>\n");
    let remembered = get_tls(server.address(0), &second, "two.test");
    assert_eq!(remembered.text(), "<h1>docs</h1>\n");
    assert_eq!(remembered.header("strict-transport-security"), Some("max-age=86400"));
    // In the clear the first site leads to TLS, the second is served.
    let port = server.address(0).port();
    let clear = get(server.address(1), "one.test", "/a?b");
    assert_eq!(clear.status, 308);
    assert_eq!(clear.header("location"), Some(format!("https://one.test:{port}/a?b").as_str()));
    let clear = get(server.address(1), "two.test", "/");
    assert_eq!(clear.text(), "<h1>docs</h1>\n");
    assert_eq!(clear.header("strict-transport-security"), None);
}
