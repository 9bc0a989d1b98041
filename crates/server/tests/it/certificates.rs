//! `hearth cert`: what it does without an authority elsewhere, and how it ends.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpListener,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    time::{Duration, SystemTime},
};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use serde_json::Value;

use crate::process::{Server, hearth, run};

/// Exit codes, as `docs/src/at-home.md` has them.
const DONE: i32 = 0;
const USAGE: i32 = 2;
const TRY_LATER: i32 = 7;
const REFUSED: i32 = 8;

/// How `hearth cert ARGS` in that folder ends, and what it says to programs.
fn cert(dir: &Path, args: &[&str]) -> (i32, Value) {
    let mut command = hearth();
    command.current_dir(dir).arg("cert").args(args).args(["--json", "--storage", "store"]);
    let output = run(&mut command);
    let said = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
    (output.status.code().unwrap(), said)
}

#[test]
fn the_local_authority_issues() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    fs::create_dir(dir.join("nas")).unwrap();
    fs::write(dir.join("nas/privkey.pem"), "an old one that anybody may read").unwrap();
    let (code, said) = cert(dir, &["local", "nas.lan", "192.168.1.2", "--out", "nas"]);
    assert_eq!((code, &said["result"]), (DONE, &"done".into()), "{said}");
    let mode = fs::metadata(dir.join("nas/privkey.pem")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    for (system, words) in [
        ("debian", "update-ca-certificates"),
        ("fedora", "update-ca-trust"),
        ("firefox", "Authorities"),
        ("macos", "add-trusted-cert"),
        ("windows", "certutil"),
    ] {
        let args = ["cert", "trust", "--system", system, "--storage", "store"];
        let output = run(hearth().current_dir(dir).args(args));
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(said.contains(words) && said.contains("store/local-root.pem"), "{said}");
    }
    let root = fs::read_to_string(dir.join("store/local-root.pem")).unwrap();
    cert(dir, &["local", "b.lan", "--out", "b"]);
    cert(dir, &["trust"]);
    assert_eq!(fs::read_to_string(dir.join("store/local-root.pem")).unwrap(), root, "the same");
    // What it issues is a certificate like any other.
    let (code, said) = cert(dir, &["import", "nas/fullchain.pem", "nas/privkey.pem"]);
    assert_eq!(code, DONE, "{said}");
    assert_eq!(said["certificate"]["names"], serde_json::json!(["nas.lan", "192.168.1.2"]));
    let (_, said) = cert(dir, &["list"]);
    assert_eq!(said["certificates"][0]["id"], "nas.lan", "{said}");
    let (code, said) = cert(dir, &["local", "no name", "--out", "x"]);
    assert_eq!(code, REFUSED, "{said}");
    assert!(!dir.join("x").exists());
    fs::write(dir.join("file"), "").unwrap();
    let (code, said) = cert(dir, &["local", "nas.lan", "--out", "file"]);
    assert_eq!(code, REFUSED, "{said}");
    assert!(said["error"].as_str().unwrap().starts_with("file: "), "{said}");
}

/// What makes an authority of this name.
pub(crate) fn authority(name: &str) -> CertificateParams {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params
}

/// Writes a root, an authority between (and one whose time is over), a certificate (and one that has ended), keys.
fn write_chain(dir: &Path) {
    let write = |name: &str, text: String| fs::write(dir.join(name), text).unwrap();
    let (root_key, middle_key) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let root = Issuer::new(authority("root"), root_key);
    let mut middle = authority("middle");
    let good = middle.signed_by(&middle_key, &root).unwrap().pem();
    middle.not_after = rcgen::date_time_ymd(2002, 1, 1);
    let old = middle.signed_by(&middle_key, &root).unwrap().pem();
    let key = KeyPair::generate().unwrap();
    let mut leaf = CertificateParams::new(vec!["a.test".to_owned()]).unwrap();
    let issuer = Issuer::new(authority("middle"), middle_key);
    let own = leaf.signed_by(&key, &issuer).unwrap().pem();
    leaf.not_after = rcgen::date_time_ymd(2002, 1, 1);
    write("ended.pem", leaf.signed_by(&key, &issuer).unwrap().pem() + &good);
    write("good.pem", own.clone() + &good);
    write("reversed.pem", good + &own);
    write("old-issuer.pem", own.clone() + &old);
    write("damaged.pem", own.replacen("MII", "AAA", 1));
    write("empty.pem", String::new());
    write("key.pem", key.serialize_pem());
    write("other.pem", KeyPair::generate().unwrap().serialize_pem());
    let locked =
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    write("locked.pem", locked.to_owned());
}

#[test]
fn imports_end_as_they_should() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    write_chain(dir);
    for (chain, key, code, words) in [
        ("good.pem", "other.pem", REFUSED, "belongs to the key"),
        ("good.pem", "locked.pem", REFUSED, "encrypted"),
        ("good.pem", "empty.pem", REFUSED, "no private key"),
        ("good.pem", "none.pem", REFUSED, "none.pem: No such file"),
        ("ended.pem", "key.pem", REFUSED, "expired"),
        ("old-issuer.pem", "key.pem", REFUSED, "number 2 (CN=middle) has expired"),
        ("damaged.pem", "key.pem", REFUSED, "damaged"),
        ("empty.pem", "key.pem", REFUSED, "no certificate"),
        ("reversed.pem", "key.pem", DONE, ""),
        ("good.pem", "key.pem", DONE, ""),
        // What is refused leaves alone what there is.
        ("good.pem", "other.pem", REFUSED, "belongs to the key"),
    ] {
        let (ended, said) = cert(dir, &["import", chain, key]);
        assert_eq!(ended, code, "{chain} {key}: {said}");
        let why = said["error"].as_str().unwrap_or_default();
        assert!(why.contains(words), "{chain} {key}: {said}");
    }
    let (_, listed) = cert(dir, &["list"]);
    assert_eq!(listed["certificates"][0]["names"], serde_json::json!(["a.test"]), "{listed}");
}

/// Somebody who answers every connection with this.
fn answering(text: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(text.as_bytes());
        }
    });
    format!("http://{address}/dir")
}

#[test]
fn orders_end_as_they_should() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let closed = format!("http://{closed}/dir");
    let garbage = answering("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello");
    let limits = answering("HTTP/1.1 429 Slow\r\nretry-after: 7200\r\ncontent-length: 0\r\n\r\n");
    let by_file = ["--challenge", "http-01", "--http-port", "0"];
    for (name, directory, more, code, word) in [
        ("a.test", &closed, &by_file[..], TRY_LATER, "acme-unreachable"),
        ("b.test", &garbage, &by_file, TRY_LATER, "acme-garbage"),
        ("c.test", &limits, &by_file, TRY_LATER, "acme-rate-limited"),
        ("*.d.test", &closed, &["--challenge", "dns-01"], REFUSED, ""),
        ("no name", &closed, &by_file, REFUSED, ""),
        ("e.test", &closed, &["--eab-kid", "kid", "--eab-hmac", "?"], REFUSED, ""),
        ("e.test", &closed, &["--eab-kid", "kid"], USAGE, ""),
        ("e.test", &closed, &["--challenge", "tls-sni-01"], USAGE, ""),
    ] {
        let order = ["issue", name, "--directory", directory, "--out", "out"];
        let (ended, said) = cert(dir, &[&order[..], more].concat());
        assert_eq!(ended, code, "{name} {more:?}: {said}");
        assert_eq!(said["code"].as_str().unwrap_or_default(), word, "{name}: {said}");
        let result = [(TRY_LATER, "try-later"), (REFUSED, "refused")];
        if let Some((_, result)) = result.iter().find(|(one, _)| *one == code) {
            assert_eq!(said["result"], *result, "{said}");
            assert!(said["error"].as_str().is_some_and(|why| !why.is_empty()), "{said}");
        }
        assert!(code != TRY_LATER || said["retry_at"].as_u64().is_some_and(|at| at > 0), "{said}");
        assert!(!dir.join("out").exists());
    }
    for (directory, word) in [(&closed, "acme-unreachable"), (&garbage, "acme-garbage")] {
        let (ended, said) = cert(dir, &["roll-account", "--directory", directory]);
        assert_eq!((ended, said["code"].as_str()), (TRY_LATER, Some(word)), "{said}");
    }
    let (ended, said) = cert(dir, &["revoke", "nothing.test"]);
    assert_eq!(ended, REFUSED, "{said}");
}

/// A server without any authority says by itself that a certificate ends.
#[test]
fn the_end_of_a_certificate_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let day = Duration::from_secs(86_400);
    for (days_left, words) in
        [(20, "ends in 19 days"), (2, "ends in 1 days"), (0, "the certificate has ended")]
    {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["a.test".to_owned()]).unwrap();
        params.not_before = (SystemTime::now() - 90 * day).into();
        params.not_after = (SystemTime::now() + days_left * day - day / 2).into();
        fs::write(dir.join("cert.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
        fs::write(dir.join("key.pem"), key.serialize_pem()).unwrap();
        let text = "listeners = [{ address = '127.0.0.1:0', tls = true }]\n[[sites]]\nroot = '.'\n\
                    tls = { certificate = 'cert.pem', key = 'key.pem' }\n";
        fs::write(dir.join("hearth.toml"), text).unwrap();
        let server = Server::start(dir, &["-c", dir.join("hearth.toml").to_str().unwrap()]);
        server.wait_for_log(words);
    }
}
