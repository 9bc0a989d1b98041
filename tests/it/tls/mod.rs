//! TLS as strangers see it: scanners, peers that break the protocol, floods.

mod flood;
mod grade;
mod mutual;
mod on_demand;
mod refusals;
mod reload;
mod resume;
#[path = "../../../crates/net/tests/it/trust.rs"]
mod trust;

use std::{
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::Path,
    process::Command,
    sync::Arc,
    time::{Duration, SystemTime},
};

use hearth_e2e::peers;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, CrlDistributionPoint, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose,
};
use rustls::{ClientConfig, ClientConnection, StreamOwned, pki_types::ServerName};
use tempfile::TempDir;

use crate::servers::{self, Server};

/// Longer than anything takes, so that a test that hangs fails.
const PATIENCE: Duration = Duration::from_secs(20);

/// The real server with one site, as it is without a word about TLS in its configuration but the certificate.
fn start() -> (TempDir, Server) {
    let root = TempDir::new().expect("a folder");
    std::fs::write(root.path().join("index.html"), "hello").expect("a file");
    let server = servers::hearth(root.path(), "");
    (root, server)
}

/// One answer over a connection that is there already.
fn get(stream: &mut StreamOwned<ClientConnection, TcpStream>) -> io::Result<String> {
    stream.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n")?;
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\nhello") {
        let mut piece = [0; 1024];
        match stream.read(&mut piece)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            len => answer.extend_from_slice(&piece[..len]),
        }
    }
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

fn connect(
    address: SocketAddr,
    config: &Arc<ClientConfig>,
) -> io::Result<StreamOwned<ClientConnection, TcpStream>> {
    connect_to(address, "localhost", config)
}

fn connect_to(
    address: SocketAddr,
    name: &str,
    config: &Arc<ClientConfig>,
) -> io::Result<StreamOwned<ClientConnection, TcpStream>> {
    let mut tcp = TcpStream::connect(address)?;
    tcp.set_read_timeout(Some(PATIENCE))?;
    tcp.set_nodelay(true)?;
    let name = ServerName::try_from(name.to_owned()).expect("a name");
    let mut tls = ClientConnection::new(config.clone(), name).map_err(io::Error::other)?;
    while tls.is_handshaking() {
        tls.complete_io(&mut tcp)?;
    }
    Ok(StreamOwned::new(tls, tcp))
}

/// What `openssl s_client` prints when it asks `host` for its page over a handshake with `name`.
fn s_client(
    openssl: &Path,
    server: SocketAddr,
    folder: &Path,
    (name, host): (&str, &str),
    more: &[&str],
) -> String {
    let request = folder.join("request");
    let said = format!("GET / HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
    std::fs::write(&request, said).expect("written");
    let mut command = Command::new("sh");
    command.args(["-c", "request=$1; shift; exec \"$@\" < \"$request\" 2>&1", "sh"]);
    command.arg(&request).arg(openssl).args(["s_client", "-ign_eof", "-connect"]);
    command.arg(server.to_string()).args(["-servername", name]).args(more);
    let output = peers::run(30, &mut command).expect("openssl");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Writes `cert.pem` for localhost as an authority would have made it, `key.pem`, and the authority's `root.pem`.
fn certify(folder: &Path) {
    let mut root = CertificateParams::new(Vec::new()).expect("no names");
    root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    root.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    root.distinguished_name.push(DnType::CommonName, "A root for tests");
    let root = CertifiedIssuer::self_signed(root, KeyPair::generate().expect("a key"));
    let root = root.expect("signed");
    let mut leaf = CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
    leaf.distinguished_name.push(DnType::CommonName, "localhost");
    leaf.is_ca = IsCa::ExplicitNoCa;
    leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    leaf.use_authority_key_identifier_extension = true;
    let uris = vec!["http://crl.invalid/root.crl".to_owned()];
    leaf.crl_distribution_points = vec![CrlDistributionPoint { uris }];
    let (now, day) = (SystemTime::now(), Duration::from_secs(86_400));
    leaf.not_before = (now - day).into();
    leaf.not_after = (now + 80 * day).into();
    let key = KeyPair::generate().expect("a key");
    let leaf = leaf.signed_by(&key, &*root).expect("signed");
    for (name, text) in
        [("root.pem", root.pem()), ("cert.pem", leaf.pem()), ("key.pem", key.serialize_pem())]
    {
        std::fs::write(folder.join(name), text).expect("written");
    }
}

/// The folder of a test, for programs.
fn text(path: &Path) -> &str {
    path.to_str().expect("a path of ours is text")
}
