//! Certificates and those who vouch for clients, changed on the disk while the server runs, as curl and openssl see it.

use std::{
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::{Duration, SystemTime},
};

use hearth_e2e::{
    peers,
    program::{self, Program},
};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyIdMethod, KeyPair, RevokedCertParams,
};
use rustls::{
    ClientConfig,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use tempfile::TempDir;

use super::{connect, connect_to, get, s_client, text, trust::TrustAll};
use crate::servers;

const DAY: Duration = Duration::from_secs(86_400);

type Authority = CertifiedIssuer<'static, KeyPair>;

/// A server whose only site is for clients of `authority.pem` that are not in `revoked.pem`; Ada has number 1 and Bob 2.
struct Office {
    program: Program,
    tls: SocketAddr,
    folder: TempDir,
    authority: Authority,
}

impl Office {
    fn start() -> Self {
        let folder = TempDir::new().expect("a folder");
        let path = |name: &str| folder.path().join(name);
        fs::write(path("index.html"), "hello").expect("a file");
        let tls: SocketAddr = ([127, 0, 0, 1], program::free_port().expect("a port")).into();
        fs::write(path("hearth.toml"), sites(tls, &[("", OWN)])).expect("the configuration");
        let authority = authority("first");
        put(folder.path(), "own.pem", &own(80));
        put(folder.path(), "authority.pem", &authority.as_ref().pem());
        put(folder.path(), "revoked.pem", &list(&authority, &[], 1));
        for (who, number) in [("ada", 1), ("bob", 2)] {
            client(folder.path(), who, number, &authority);
        }
        let mut command = servers::serve(folder.path());
        let program = Program::start(&mut command, tls, &path("hearth.log")).expect("hearth");
        Self { program, tls, folder, authority }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn put(&self, name: &str, content: &str) {
        put(self.folder.path(), name, content);
    }

    /// What curl is told, as somebody.
    #[track_caller]
    fn check(&self, who: &str, is_let_in: bool, when: &str) {
        let Some(curl) = peers::find("curl") else { return };
        let (chain, key) = (self.path(&format!("{who}.pem")), self.path(&format!("{who}.key")));
        let mut command = Command::new(curl);
        command.args(["--silent", "--insecure", "--max-time", "20", "--cert", text(&chain)]);
        command.args(["--key", text(&key), &format!("https://{}/", self.tls)]);
        let output = peers::run(30, &mut command).expect("curl");
        let said = String::from_utf8_lossy(&output.stdout);
        assert_eq!(
            output.status.success(),
            is_let_in,
            "{who}, {when}: {said}{}",
            self.program.log()
        );
        assert_eq!(said == "hello", is_let_in, "{who}, {when}: {said}");
    }

    /// Orders to read the files, and waits until the log says this once more.
    fn reload(&self, words: &str) {
        reload(&self.program, words);
    }

    fn config(&self, who: &str) -> Arc<ClientConfig> {
        let pem = |name: String| fs::read(self.path(&name)).expect("a file");
        let chain = CertificateDer::from_pem_slice(&pem(format!("{who}.pem"))).expect("a chain");
        let key = PrivateKeyDer::from_pem_slice(&pem(format!("{who}.key"))).expect("a key");
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider);
        let builder = builder.with_safe_default_protocol_versions().expect("versions");
        let builder = builder.dangerous().with_custom_certificate_verifier(Arc::new(TrustAll));
        Arc::new(builder.with_client_auth_cert(vec![chain], key).expect("a client"))
    }
}

/// A configuration with these sites: host, and which clients are let in.
fn sites(tls: SocketAddr, sites: &[(&str, &str)]) -> String {
    let mut config = format!("listeners = [{{ address = '{tls}', tls = true }}]\n");
    for (host, client_auth) in sites {
        let hosts = if host.is_empty() { String::new() } else { format!("hosts = ['{host}']\n") };
        config += &format!(
            "[[sites]]\nroot = '.'\n{hosts}[sites.tls]\ncertificate = 'own.pem'\nkey = 'own.pem'\n{client_auth}"
        );
    }
    config
}

const OWN: &str = "client_auth = { ca_file = 'authority.pem', crl_file = 'revoked.pem' }\n";

/// In one step, as whoever replaces a file should.
fn put(folder: &Path, name: &str, content: &str) {
    let temporary = folder.join(format!("{name}.new"));
    fs::write(&temporary, content).expect("written");
    fs::rename(temporary, folder.join(name)).expect("renamed");
}

fn params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

fn authority(name: &str) -> Authority {
    let mut params = params(name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("signed")
}

fn client(folder: &Path, who: &str, number: u64, authority: &Authority) {
    let mut params = params(who);
    params.serial_number = Some(number.into());
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let key = KeyPair::generate().expect("a key");
    let certificate = params.signed_by(&key, &**authority).expect("signed");
    put(folder, &format!("{who}.pem"), &certificate.pem());
    put(folder, &format!("{who}.key"), &key.serialize_pem());
}

/// A list of `authority` with these numbers on it, which ends so many days from now.
fn list(authority: &Authority, numbers: &[u64], days: i32) -> String {
    let now = SystemTime::now();
    let end =
        if days < 0 { now - days.unsigned_abs() * DAY } else { now + days.unsigned_abs() * DAY };
    let revoked = |number: &u64| RevokedCertParams {
        serial_number: (*number).into(),
        revocation_time: now.into(),
        reason_code: None,
        invalidity_date: None,
    };
    let params = CertificateRevocationListParams {
        this_update: (now - 30 * DAY).into(),
        next_update: end.into(),
        crl_number: 1_u64.into(),
        issuing_distribution_point: None,
        revoked_certs: numbers.iter().map(revoked).collect(),
        key_identifier_method: KeyIdMethod::Sha256,
    };
    params.signed_by(&**authority).expect("signed").pem().expect("PEM")
}

/// A certificate for the server with its key, which ends so many days from now.
fn own(days: u32) -> String {
    let mut params = params("own");
    params.not_before = (SystemTime::now() - 90 * DAY).into();
    params.not_after = (SystemTime::now() + days * DAY - DAY / 2).into();
    let key = KeyPair::generate().expect("a key");
    params.self_signed(&key).expect("signed").pem() + &key.serialize_pem()
}

/// Orders to read the files, and waits until the log says this once more.
fn reload(program: &Program, words: &str) {
    let count = |log: &str| log.matches(words).count();
    let before = count(&program.log());
    program.signal("HUP").expect("told");
    program.log_until(|log| count(log) > before).expect(words);
}

#[test]
fn who_is_revoked_does_not_come_in_any_more() {
    let Some(openssl) = peers::find("openssl") else { return };
    let office = Office::start();
    office.check("ada", true, "first");
    office.check("bob", true, "first");
    let [mut ada, mut bob] =
        ["ada", "bob"].map(|who| connect(office.tls, &office.config(who)).expect("a connection"));
    for stream in [&mut ada, &mut bob] {
        get(stream).expect("an answer");
    }
    let (chain, key) = (office.path("bob.pem"), office.path("bob.key"));
    let shown = ["-cert", text(&chain), "-key", text(&key)];
    let ask = |more: &[&str]| {
        let named = ("localhost", "localhost");
        let more = [&shown, more].concat();
        s_client(&openssl, office.tls, office.folder.path(), named, &more)
    };
    for version in ["-tls1_2", "-tls1_3"] {
        let session = office.path("session");
        let said = ask(&[version, "-sess_out", text(&session)]);
        assert!(said.contains("\r\n\r\nhello"), "{version}: {said}");
        assert!(!session.exists(), "{version}: there is nothing to be resumed past a check");
    }

    office.put("revoked.pem", &list(&office.authority, &[2], 1));
    office.reload("who vouches for clients was read anew");
    office.check("ada", true, "Bob is revoked");
    office.check("bob", false, "Bob is revoked");
    for version in ["-tls1_2", "-tls1_3"] {
        let said = ask(&[version]);
        assert!(said.contains("certificate revoked") && !said.contains("HTTP/1.1"), "{said}");
    }
    // Connections of before are looked at again, once for all their requests.
    for _ in 0..2 {
        get(&mut ada).expect("Ada is as good as before");
        let said = request(&mut bob).expect("an answer");
        assert!(said.starts_with("HTTP/1.1 421 "), "{said}");
    }

    // Nobody has to say that a file has changed.
    office.put("revoked.pem", &list(&office.authority, &[1], 1));
    let is_told = |log: &str| log.matches("was read anew").count() == 2;
    office.program.log_until(is_told).expect("the second line");
    office.check("ada", false, "Ada is revoked");
    office.check("bob", true, "Ada is revoked");
    let said = request(&mut ada).expect("an answer");
    assert!(said.starts_with("HTTP/1.1 421 "), "{said}");
}

#[test]
fn files_that_cannot_be_used_change_nothing() {
    let office = Office::start();
    let revoked = list(&office.authority, &[2], 1);
    office.put("revoked.pem", &revoked);
    office.reload("was read anew");
    for (name, content, code) in [
        ("revoked.pem", "", "H-TLS-009"),
        ("revoked.pem", &revoked[..revoked.len() / 2], "H-TLS-009"),
        ("authority.pem", "nobody", "H-TLS-007"),
    ] {
        let before = fs::read_to_string(office.path(name)).expect("a file");
        office.put(name, content);
        office.reload(code);
        office.check("ada", true, name);
        office.check("bob", false, name);
        office.put(name, &before);
    }
    fs::remove_file(office.path("revoked.pem")).expect("removed");
    office.reload("H-TLS-009");
    office.check("ada", true, "the list is gone");
    office.check("bob", false, "the list is gone");
    // A list that has ended, or is another authority's, lets nobody in: who kept it back has something to hide.
    let foreign = list(&authority("second"), &[], 1);
    for (what, content, words) in [
        ("ended", list(&office.authority, &[], -1), "has ended: none of its clients is let in"),
        ("foreign", foreign, "there is no list of revocations of CN=first"),
    ] {
        office.put("revoked.pem", &content);
        office.reload(words);
        office.check("ada", false, what);
    }
}

#[test]
fn other_authorities_vouch_from_then_on() {
    let office = Office::start();
    let second = authority("second");
    client(office.folder.path(), "eve", 1, &second);
    office.check("eve", false, "first");
    office.put("revoked.pem", &list(&second, &[], 1));
    office.put("authority.pem", &second.as_ref().pem());
    office.reload("was read anew");
    office.check("eve", true, "her authority vouches");
    office.check("ada", false, "hers does not any more");
}

#[test]
fn clients_of_sites_that_stay_notice_nothing() {
    const TAKEN: &str = "the configuration was taken over";
    const LAB: &str = "client_auth = { ca_file = 'second.pem' }\n";
    let office = Office::start();
    let second = authority("second");
    office.put("second.pem", &second.as_ref().pem());
    client(office.folder.path(), "eve", 3, &second);
    let to = |name: &str, who: &str| connect_to(office.tls, name, &office.config(who));
    let mut ada = to("localhost", "ada").expect("a connection");
    get(&mut ada).expect("an answer");
    // First in the file, where the office was.
    office.put("hearth.toml", &sites(office.tls, &[("lab.test", LAB), ("", OWN)]));
    office.reload(TAKEN);
    get(&mut ada).expect("it is hers as before");
    let said = request_of(&mut ada, "lab.test").expect("an answer");
    assert!(said.starts_with("HTTP/1.1 421 "), "{said}");
    let mut eve = to("lab.test", "eve").expect("a connection");
    let said = request_of(&mut eve, "lab.test").expect("an answer");
    assert!(said.starts_with("HTTP/1.1 200 "), "{said}");
    let said = request(&mut eve).expect("an answer");
    assert!(said.starts_with("HTTP/1.1 421 "), "{said}");
    office.check("ada", true, "nothing has changed for her");
    office.check("eve", false, "nor for her");
    // The office is open to all, and the laboratory, without certificates of its own, has become a part of it.
    office.put("hearth.toml", &sites(office.tls, &[("", "")]));
    office.reload(TAKEN);
    office.check("eve", true, "nobody is asked");
    for stream in [&mut ada, &mut eve] {
        let said = request_of(stream, "lab.test").expect("an answer");
        assert!(said.starts_with("HTTP/1.1 200 "), "{said}");
    }
    // And back: connections that were for nobody's clients are for nobody's.
    let mut open = to("localhost", "ada").expect("a connection");
    get(&mut open).expect("an answer");
    office.put("hearth.toml", &sites(office.tls, &[("", OWN)]));
    office.reload(TAKEN);
    let said = request(&mut open).expect("an answer");
    assert!(said.starts_with("HTTP/1.1 421 "), "{said}");
    get(&mut ada).expect("who has shown hers is let in again");
    office.check("eve", false, "as at first");
}

fn request(
    stream: &mut rustls::StreamOwned<rustls::ClientConnection, std::net::TcpStream>,
) -> io::Result<String> {
    request_of(stream, "localhost")
}

/// The status line and fields of an answer, whatever its content.
fn request_of(
    stream: &mut rustls::StreamOwned<rustls::ClientConnection, std::net::TcpStream>,
    host: &str,
) -> io::Result<String> {
    use io::{Read as _, Write as _};
    stream.write_all(format!("GET / HTTP/1.1\r\nhost: {host}\r\n\r\n").as_bytes())?;
    let mut answer = Vec::new();
    let mut piece = [0; 4096];
    loop {
        let len = stream.read(&mut piece)?;
        answer.extend_from_slice(piece.get(..len).unwrap_or_default());
        let said = String::from_utf8_lossy(&answer).into_owned();
        let Some((head, content)) = said.split_once("\r\n\r\n") else { continue };
        let lower = head.to_ascii_lowercase();
        let length = lower.lines().find_map(|line| line.strip_prefix("content-length: "));
        let length: usize = length.and_then(|text| text.parse().ok()).unwrap_or_default();
        if len == 0 || content.len() >= length {
            return Ok(said);
        }
    }
}

#[test]
fn a_certificate_is_replaced_while_it_is_served() {
    let Some(openssl) = peers::find("openssl") else { return };
    let root = TempDir::new().expect("a folder");
    fs::write(root.path().join("index.html"), "hello").expect("a file");
    let server = servers::hearth(root.path(), "");
    let folder = server.folder.path().to_path_buf();
    let session = folder.join("session");
    let ask = |more: &[&str]| {
        let said = s_client(&openssl, server.tls, &folder, ("localhost", "localhost"), more);
        assert!(said.contains("hello"), "{said}\n{}", server.program.log());
        said
    };
    let shown = |said: &str| {
        let begin = said.find("-----BEGIN CERTIFICATE-----").expect("a certificate");
        let end = said.find("-----END CERTIFICATE-----").expect("its end");
        said[begin..end].replace("\r\n", "\n")
    };
    let replace = |pem: &str, words: &str| {
        let name = |path: &Path| path.file_name().expect("a name").to_string_lossy().into_owned();
        put(&folder, &name(&server.certificate.chain), pem);
        put(&folder, &name(&server.certificate.key), pem);
        reload(&server.program, words);
    };
    let first = shown(&ask(&["-tls1_3", "-sess_out", text(&session)]));
    let good = own(80);
    replace(&good, "certificates were read anew");
    let said = ask(&["-tls1_3", "-sess_in", text(&session)]);
    assert!(said.contains("Reused"), "sessions go on: {said}");
    let second = shown(&ask(&["-tls1_3"]));
    assert!(good.starts_with(&second) && first != second);
    let certificate_of_another = {
        let (one, other) = (own(80), own(80));
        let (certificate, _) = one.split_once("-----BEGIN PRIVATE").expect("both");
        let (_, key) = other.split_once("-----BEGIN PRIVATE").expect("both");
        format!("{certificate}-----BEGIN PRIVATE{key}")
    };
    let locked =
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    let (certificate, _) = good.split_once("-----BEGIN PRIVATE").expect("both");
    for (pem, words) in [
        (&certificate_of_another[..], "does not belong to the certificate"),
        (&good[..good.len() / 2], "the one before is served"),
        (&format!("{certificate}{locked}"), "is encrypted"),
        ("", "holds no"),
        (&own(0), "expired"),
    ] {
        replace(pem, words);
        assert_eq!(shown(&ask(&["-tls1_3"])), second, "{words}: the one before is served");
    }
}
