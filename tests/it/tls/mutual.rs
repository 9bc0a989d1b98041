//! Sites that ask for client certificates, as curl and openssl meet them: what one site was shown opens no other.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
};

use hearth_e2e::{
    peers,
    program::{self, Program},
};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair,
};
use serde_json::Value;
use tempfile::TempDir;

use super::{on_demand::Authority, text};
use crate::servers;

/// A server with a site for everybody and some for clients with a certificate.
struct Server {
    program: Program,
    tls: SocketAddr,
    folder: TempDir,
}

impl Server {
    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

/// `twin.test` lets the same clients in as `closed.test`, `other.test` those of another authority, and
/// `maybe.test` also those without a certificate.
fn start() -> Server {
    start_with(&[
        ("open.test", ""),
        ("closed.test", "client_auth = { ca_file = 'a.pem', mode = 'require' }\n"),
        ("twin.test", "client_auth = { ca_file = 'a.pem' }\n"),
        ("other.test", "client_auth = { ca_file = 'b.pem' }\n"),
        ("maybe.test", "client_auth = { ca_file = 'a.pem', mode = 'optional' }\n"),
    ])
}

/// A server with these sites: host (empty for all others), and what its `tls` says of clients. `go.test` has nothing
/// but a redirect.
fn start_with(sites: &[(&str, &str)]) -> Server {
    let folder = TempDir::new().expect("a folder");
    let path = |name: &str| folder.path().join(name);
    let names = sites.iter().map(|(host, _)| (*host).to_owned()).filter(|host| !host.is_empty());
    let names: Vec<_> = names.collect();
    let pair = rcgen::generate_simple_self_signed(names).expect("a certificate");
    fs::write(path("cert.pem"), pair.cert.pem()).expect("written");
    fs::write(path("key.pem"), pair.signing_key.serialize_pem()).expect("written");
    clients(folder.path(), "a");
    clients(folder.path(), "b");
    let tls: SocketAddr = ([127, 0, 0, 1], program::free_port().expect("a port")).into();
    let mut config = format!(
        "listeners = [{{ address = '{tls}', tls = true }}]\n\
         access_log = {{ path = 'access.log', format = 'json' }}\n"
    );
    for (host, client_auth) in sites {
        let name = host.split('.').next().filter(|name| !name.is_empty()).unwrap_or("others");
        fs::create_dir(path(name)).expect("a folder");
        fs::write(path(name).join("index.html"), name).expect("a file");
        let hosts = if host.is_empty() { "[]".to_owned() } else { format!("['{host}']") };
        let serves = match name {
            "go" => "redirects = [{ from = '/old', to = '/new' }]".to_owned(),
            name => format!("root = '{name}'"),
        };
        config += &format!(
            "[[sites]]\nhosts = {hosts}\n{serves}\n\
             [sites.tls]\ncertificate = 'cert.pem'\nkey = 'key.pem'\n{client_auth}"
        );
    }
    fs::write(path("hearth.toml"), config).expect("the configuration");
    let mut command = servers::serve(folder.path());
    let program = Program::start(&mut command, tls, &path("hearth.log")).expect("hearth");
    Server { program, tls, folder }
}

/// Writes an authority, `NAME.pem`, and a client of it, `NAME.client.pem` and `NAME.client.key`.
fn clients(folder: &Path, name: &str) {
    let params = |common_name: &str| {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.distinguished_name.push(DnType::CommonName, common_name);
        params
    };
    let mut authority = params(name);
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().expect("a key"));
    let authority = authority.expect("signed");
    let mut client = params("a client");
    client.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let key = KeyPair::generate().expect("a key");
    let client = client.signed_by(&key, &*authority).expect("signed");
    for (file, text) in [
        ("pem", authority.pem()),
        ("client.pem", client.pem()),
        ("client.key", key.serialize_pem()),
    ] {
        fs::write(folder.join(format!("{name}.{file}")), text).expect("written");
    }
}

/// What curl is told: status, version and content; `None` where there is no connection.
fn curl(server: &Server, curl: &Path, version: &str, more: &[&str]) -> Option<(u16, String)> {
    let mut command = Command::new(curl);
    command.args(["--silent", "--insecure", "--max-time", "20", version]);
    command.args(["--connect-to", &format!("::{}", server.tls)]);
    command.args(["--write-out", "\n%{http_code} %{http_version}"]).args(more);
    let output = peers::run(30, &mut command).expect("curl");
    if !output.status.success() {
        return None;
    }
    let said = String::from_utf8(output.stdout).expect("text");
    let (content, status) = said.rsplit_once('\n').expect("a status");
    let (status, spoken) = status.split_once(' ').expect("a version");
    assert_eq!(spoken, if version == "--http2" { "2" } else { "1.1" }, "{more:?}");
    Some((status.parse().expect("a status"), content.to_owned()))
}

#[test]
fn a_request_for_other_clients_is_misdirected() {
    let Some(program) = peers::find("curl") else { return };
    let server = start();
    // Name in the handshake, host of the request, client; status.
    let refused = 0;
    let rows = [
        ("open.test", "open.test", "", 200),
        ("open.test", "closed.test", "", 421),
        ("open.test", "CLOSED.test.", "", 421),
        ("open.test", "closed.test:443", "a", 421),
        ("open.test", "maybe.test", "", 421),
        ("open.test", "nobody.test", "", 404),
        ("closed.test", "closed.test", "", refused),
        ("closed.test", "closed.test", "b", refused),
        ("closed.test", "closed.test", "a", 200),
        ("closed.test", "twin.test", "a", 200),
        ("closed.test", "open.test", "a", 421),
        ("closed.test", "maybe.test", "a", 421),
        ("closed.test", "other.test", "a", 421),
        ("closed.test", "nobody.test", "a", 421),
        ("other.test", "other.test", "b", 200),
        ("other.test", "closed.test", "b", 421),
        ("maybe.test", "maybe.test", "", 200),
        ("maybe.test", "maybe.test", "a", 200),
        ("maybe.test", "maybe.test", "b", refused),
        ("maybe.test", "closed.test", "", 421),
        ("maybe.test", "closed.test", "a", 421),
        ("nobody.test", "open.test", "", 200),
        ("nobody.test", "closed.test", "", 421),
        // Addresses are no server names.
        ("127.0.0.1", "open.test", "", 200),
        ("127.0.0.1", "closed.test", "", 421),
        ("127.0.0.1", "closed.test", "a", 421),
    ];
    for version in ["--http1.1", "--http2"] {
        for (name, host, client, want) in rows {
            let host_field = format!("host: {host}");
            let url = format!("https://{name}/");
            let (chain, key) = (format!("{client}.client.pem"), format!("{client}.client.key"));
            let (chain, key) = (server.path(&chain), server.path(&key));
            let mut more = vec!["--header", &host_field, &url];
            if !client.is_empty() {
                more.extend(["--cert", text(&chain), "--key", text(&key)]);
            }
            let found = curl(&server, &program, version, &more);
            let row = format!("{version}, handshake {name}, request {host}, client {client:?}");
            let status = found.as_ref().map_or(refused, |(status, _)| *status);
            assert_eq!(status, want, "{row}: {found:?}");
            if let (200, Some((_, content))) = (want, found) {
                assert_eq!(Some(content.as_str()), host.split('.').next(), "{row}");
            }
        }
    }
    // The host of the target counts (RFC 9112 §3.2.2).
    let host = ["--header", "host: closed.test", "--request-target", "https://closed.test/"];
    let more = [host.as_slice(), &["https://open.test/"]].concat();
    let found = curl(&server, &program, "--http1.1", &more);
    assert_eq!(found.map(|(status, _)| status), Some(421), "the host of an absolute target");
}

/// Addresses are not named in the handshake, so that whoever names nobody is taken to want them.
#[test]
fn clients_of_an_address_are_asked() {
    let Some(program) = peers::find("curl") else { return };
    let client_auth = "client_auth = { ca_file = 'a.pem' }\n";
    let server = start_with(&[("127.0.0.1", client_auth), ("open.test", "")]);
    let (chain, key) = (server.path("a.client.pem"), server.path("a.client.key"));
    let shown = ["--cert", text(&chain), "--key", text(&key)];
    let ask =
        |more: &[&str]| curl(&server, &program, "--http2", more).map_or(0, |(status, _)| status);
    let (address, open) = ("https://127.0.0.1/", "https://open.test/");
    assert_eq!(ask(&[&shown, [address].as_slice()].concat()), 200);
    assert_eq!(ask(&[address]), 0);
    assert_eq!(ask(&[&shown, ["--header", "host: open.test", address].as_slice()].concat()), 421);
    assert_eq!(ask(&["--header", "host: 127.0.0.1", open]), 421);
    assert_eq!(ask(&[open]), 200);
}

/// A site without files of its own has not those of a closed one either.
#[test]
fn what_the_site_of_other_hosts_has_stays_closed() {
    let Some(program) = peers::find("curl") else { return };
    let client_auth = "client_auth = { ca_file = 'a.pem' }\n";
    let server = start_with(&[("", client_auth), ("go.test", "")]);
    let (chain, key) = (server.path("a.client.pem"), server.path("a.client.key"));
    let shown = ["--cert", text(&chain), "--key", text(&key), "https://any.test/"];
    let found = curl(&server, &program, "--http2", &shown);
    assert_eq!(found, Some((200, "others".to_owned())));
    let ask =
        |more: &[&str]| curl(&server, &program, "--http2", more).map_or(0, |(status, _)| status);
    assert_eq!(ask(&["https://any.test/"]), 0);
    assert_eq!(ask(&["https://127.0.0.1/"]), 0);
    assert_eq!(ask(&["--header", "host: any.test", "https://go.test/"]), 421);
    assert_eq!(ask(&["https://go.test/"]), 404);
    assert_eq!(ask(&["https://go.test/old"]), 308);
}

#[test]
fn who_came_is_in_the_access_log() {
    let (Some(program), Some(openssl)) = (peers::find("curl"), peers::find("openssl")) else {
        return;
    };
    let server = start();
    let (chain, key) = (server.path("a.client.pem"), server.path("a.client.key"));
    let shown = ["--cert", text(&chain), "--key", text(&key), "https://closed.test/"];
    curl(&server, &program, "--http2", &shown).expect("an answer");
    curl(&server, &program, "--http2", &["https://maybe.test/"]).expect("an answer");
    let mut command = Command::new(openssl);
    command.args(["x509", "-noout", "-fingerprint", "-sha256", "-in", text(&chain)]);
    let output = peers::run(30, &mut command).expect("openssl");
    let said = String::from_utf8(output.stdout).expect("text");
    let (_, fingerprint) = said.trim().split_once('=').expect("a fingerprint");
    let fingerprint = fingerprint.replace(':', "").to_lowercase();
    let log = || fs::read_to_string(server.path("access.log")).unwrap_or_default();
    let start = std::time::Instant::now();
    while log().lines().count() < 2 {
        assert!(start.elapsed() < super::PATIENCE, "{}", log());
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    let mut lines: Vec<Value> =
        log().lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    // Two workers write.
    lines.sort_by_key(|line| line["host"].to_string());
    assert_eq!(lines[0]["client_sha256"], fingerprint, "{lines:?}");
    assert_eq!(lines[1]["client_sha256"], Value::Null, "{lines:?}");
}

fn s_client(server: &Server, openssl: &Path, named: (&str, &str), more: &[&str]) -> String {
    super::s_client(openssl, server.tls, server.folder.path(), named, more)
}

/// A session of a site that is open to everybody, or was opened by a certificate, is worth nothing elsewhere.
#[test]
fn a_session_carries_no_trust() {
    let Some(openssl) = peers::find("openssl") else { return };
    let server = start();
    let (session, closed_session) = (server.path("session"), server.path("closed-session"));
    let (chain, key) = (server.path("a.client.pem"), server.path("a.client.key"));
    let shown = ["-cert", text(&chain), "-key", text(&key)];
    for version in ["-tls1_2", "-tls1_3"] {
        let ask = |name_and_host, more: &[&[&str]]| {
            let more = [&[version], more.concat().as_slice()].concat();
            s_client(&server, &openssl, name_and_host, &more)
        };
        let resume: &[&str] = &["-sess_in", text(&session)];
        let open = ("open.test", "open.test");
        let first = ask(open, &[&["-sess_out", text(&session)]]);
        assert!(first.contains("\r\n\r\nopen"), "{first}");
        let again = ask(open, &[resume]);
        assert!(again.contains("Reused, TLSv1"), "there is something to resume: {again}");
        let misdirected = ask(("open.test", "closed.test"), &[resume]);
        assert!(misdirected.contains("Reused, TLSv1"), "{misdirected}");
        assert!(misdirected.contains("HTTP/1.1 421 "), "{misdirected}");
        for host in ["closed.test", "other.test"] {
            let said = ask((host, host), &[resume]);
            assert!(!said.contains("Reused") && !said.contains("HTTP/1.1"), "{host}: {said}");
            assert!(said.contains("alert"), "{host}: {said}");
        }
        let said = ask(("closed.test", "closed.test"), &[resume, &shown]);
        assert!(!said.contains("Reused") && said.contains("\r\n\r\nclosed"), "{said}");
        // A client with a certificate is given nothing that could be resumed without.
        let keep: &[&str] = &["-sess_out", text(&closed_session)];
        let said = ask(("closed.test", "closed.test"), &[&shown, keep]);
        assert!(said.contains("\r\n\r\nclosed"), "{said}");
        assert!(!closed_session.exists(), "{version}: a ticket was given");
    }
}

/// An authority that looks at a name by TLS-ALPN-01 shows no certificate, and gets its certificate out all the
/// same; whoever else comes that way gets nothing.
#[test]
fn a_closed_site_proves_its_name() {
    let folder = TempDir::new().expect("a folder");
    let path = |name: &str| folder.path().join(name);
    let tls: SocketAddr = ([127, 0, 0, 1], program::free_port().expect("a port")).into();
    let Some(authority) = Authority::start(folder.path(), tls.port()) else { return };
    let (Some(curl_program), Some(openssl)) = (peers::find("curl"), peers::find("openssl")) else {
        return;
    };
    clients(folder.path(), "a");
    fs::create_dir(path("site")).expect("a folder");
    fs::write(path("site/index.html"), "closed").expect("a file");
    let config = format!(
        "listeners = [{{ address = '{tls}', tls = true }}]\n\
         [tls.acme]\ndirectory = '{}'\nca_file = 'root.pem'\nstorage = 'certificates'\n\
         challenge = 'tls-alpn-01'\n\
         [[sites]]\nhosts = ['closed.test']\nroot = 'site'\n\
         tls.client_auth = {{ ca_file = 'a.pem' }}\n",
        authority.directory
    );
    fs::write(path("hearth.toml"), config).expect("the configuration");
    let mut command = servers::serve(folder.path());
    command.args(["--log", "info,net=debug"]);
    let program = Program::start(&mut command, tls, &path("hearth.log")).expect("hearth");
    program.log_until(|log| log.contains("a new certificate is in use")).expect("a certificate");
    assert_eq!(authority.issued(), 1);
    // In TLS 1.3 the authority is content before the server judges, so that its certificate proves nothing.
    let is_refused = |log: &str| log.contains("the TLS handshake failed");
    let server = Server { program, tls, folder };
    assert!(!is_refused(&server.program.log()), "{}", server.program.log());
    let (chain, key) = (server.path("a.client.pem"), server.path("a.client.key"));
    let shown = ["--cert", text(&chain), "--key", text(&key), "https://closed.test/"];
    let found = curl(&server, &curl_program, "--http2", &shown);
    assert_eq!(found, Some((200, "closed".to_owned())));
    assert_eq!(curl(&server, &curl_program, "--http2", &["https://closed.test/"]), None);
    server.program.log_until(is_refused).expect("a refusal");
    let as_authority = ["-alpn", "acme-tls/1"];
    let said = s_client(&server, &openssl, ("closed.test", "closed.test"), &as_authority);
    assert!(!said.contains("HTTP/1.1"), "{said}");
}
