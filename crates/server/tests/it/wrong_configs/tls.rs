//! Certificates: the server's and its clients'.

use std::fs;

use super::{Row, prepare, row};
use crate::process::{hearth, run, site};

/// A TLS listener, and a site with this in its `tls`.
macro_rules! with_tls {
    ($rest:literal) => {
        concat!(
            "listeners = [{ address = '127.0.0.1:0', tls = true }]\n",
            "[[sites]]\nroot = 'site'\n[sites.tls]\n",
            $rest
        )
    };
}

/// A site with a certificate, and this for `client_auth` in line 7.
macro_rules! with_client_auth {
    ($value:literal) => {
        concat!(
            with_tls!("certificate = 'a.test.pem'\nkey = 'a.test.key'\n"),
            "client_auth = ",
            $value,
            "\n"
        )
    };
}

pub(super) const ROWS: &[Row] = &[
    row(
        "TLS without a certificate",
        "listeners = [{ address = '127.0.0.1:0', tls = true }]\n[[sites]]\nroot = 'site'\n",
        "H-TLS-005",
        "1:26",
        "has no certificate",
        "tls = { certificate",
    ),
    row(
        "certificate without TLS",
        "[[sites]]\nroot = 'site'\ntls = { certificate = 'a.test.pem', key = 'a.test.key' }\n",
        "H-SRV-004",
        "3:7",
        "no listener speaks TLS",
        "tls = true",
    ),
    row(
        "certificate that is missing",
        "listeners = [{ address = '127.0.0.1:0', tls = true }]\n[[sites]]\nroot = 'site'\ntls = { certificate = 'none.pem', key = 'a.test.key' }\n",
        "H-TLS-001",
        "4:23",
        "none.pem: No such file or directory",
        "correct the path",
    ),
    row(
        "certificate that cannot be read",
        "listeners = [{ address = '127.0.0.1:0', tls = true }]\n[[sites]]\nroot = 'site'\ntls = { certificate = 'site', key = 'a.test.key' }\n",
        "H-TLS-001",
        "4:23",
        "cannot read",
        "path",
    ),
    row(
        "certificate that is empty",
        "listeners = [{ address = '127.0.0.1:0', tls = true }]\n[[sites]]\nroot = 'site'\ntls = { certificate = 'empty.pem', key = 'a.test.key' }\n",
        "H-TLS-001",
        "4:23",
        "empty.pem is empty",
        "write it anew",
    ),
    row(
        "certificate and key mixed up",
        "listeners = [{ address = '127.0.0.1:0', tls = true }]\n[[sites]]\nroot = 'site'\ntls = { certificate = 'a.test.key', key = 'a.test.pem' }\n",
        "H-TLS-001",
        "4:23",
        "holds a private key, not a certificate",
        "mixed up",
    ),
    row(
        "certificate that is damaged",
        "listeners = [{ address = '127.0.0.1:0', tls = true }]\n[[sites]]\nroot = 'site'\ntls = { certificate = 'damaged.pem', key = 'a.test.key' }\n",
        "H-TLS-001",
        "4:23",
        "damaged.pem is damaged",
        "copy it anew",
    ),
    row(
        "key of another certificate",
        "listeners = [{ address = '127.0.0.1:0', tls = true }]\n[[sites]]\nroot = 'site'\ntls = { certificate = 'a.test.pem', key = 'b.test.key' }\n",
        "H-TLS-003",
        "4:43",
        "does not belong to the certificate",
        "requested with",
    ),
    row(
        "key that is missing",
        "listeners = [{ address = '127.0.0.1:0', tls = true }]\n[[sites]]\nroot = 'site'\ntls = { certificate = 'a.test.pem', key = 'none.key' }\n",
        "H-TLS-002",
        "4:43",
        "none.key: No such file or directory",
        "correct the path",
    ),
    row(
        "key with a password",
        "listeners = [{ address = '127.0.0.1:0', tls = true }]\n[[sites]]\nroot = 'site'\ntls = { certificate = 'a.test.pem', key = 'locked.key' }\n",
        "H-TLS-004",
        "4:43",
        "protected by a password",
        "openssl pkey",
    ),
    row(
        "redirect to https without TLS",
        "[[sites]]\nroot = 'site'\nredirect_to_https = true\n",
        "H-SRV-004",
        "3:21",
        "no listener speaks TLS",
        "tls = true",
    ),
    row(
        "certificate without its key",
        with_tls!("certificate = 'a.test.pem'\n"),
        "H-TLS-002",
        "5:15",
        "a certificate without its key",
        "add `key`",
    ),
    row(
        "key without its certificate",
        with_tls!("key = 'a.test.key'\n"),
        "H-TLS-001",
        "5:7",
        "a private key without its certificate",
        "add `certificate`",
    ),
    row(
        "clients asked by a site without a certificate",
        with_tls!("client_auth = { ca_file = 'clients.pem' }\n"),
        "H-TLS-005",
        "4:1",
        "the site has no certificate",
        "`tls.acme`",
    ),
    row(
        "authorities that are missing",
        with_client_auth!("{ ca_file = 'none.pem' }"),
        "H-TLS-007",
        "7:27",
        "none.pem: No such file or directory",
        "correct the path",
    ),
    row(
        "authorities that are a folder",
        with_client_auth!("{ ca_file = 'site' }"),
        "H-TLS-007",
        "7:27",
        "cannot read",
        "correct the path",
    ),
    row(
        "authorities in an empty file",
        with_client_auth!("{ ca_file = 'empty.pem' }"),
        "H-TLS-007",
        "7:27",
        "empty.pem: it holds no certificate",
        "-----BEGIN CERTIFICATE",
    ),
    row(
        "a key for an authority",
        with_client_auth!("{ ca_file = 'a.test.key' }"),
        "H-TLS-007",
        "7:27",
        "a.test.key: it holds no certificate",
        "it holds a private key",
    ),
    row(
        "authorities that are damaged",
        with_client_auth!("{ ca_file = 'damaged.pem' }"),
        "H-TLS-007",
        "7:27",
        "certificate number 1 is damaged",
        "copy it anew",
    ),
    row(
        "a client for an authority",
        with_client_auth!("{ ca_file = 'clients.client.pem' }"),
        "H-TLS-007",
        "7:27",
        "certificate number 1 (CN=client of clients) is not an authority's",
        "who issued it",
    ),
    row(
        "revocations that are missing",
        with_client_auth!("{ ca_file = 'clients.pem', crl_file = 'none.crl' }"),
        "H-TLS-009",
        "7:53",
        "none.crl: No such file or directory",
        "correct the path",
    ),
    row(
        "authorities for revocations",
        with_client_auth!("{ ca_file = 'clients.pem', crl_file = 'clients.pem' }"),
        "H-TLS-009",
        "7:53",
        "clients.pem: it holds no list of revocations",
        "openssl crl",
    ),
    row(
        "revocations that are damaged",
        with_client_auth!("{ ca_file = 'clients.pem', crl_file = 'damaged.crl' }"),
        "H-TLS-009",
        "7:53",
        "damaged.crl: list number 1 is damaged",
        "openssl crl",
    ),
    row(
        "no authorities",
        with_client_auth!("{ mode = 'require' }"),
        "H-CFG-007",
        "7:15",
        "lacks the key `ca_file`",
        "add `ca_file = …`",
    ),
    row(
        "unknown way to ask clients",
        with_client_auth!("{ ca_file = 'clients.pem', mode = 'request' }"),
        "H-CFG-009",
        "7:49",
        "cannot be `request`",
        "`optional`",
    ),
    row(
        "clients asked without TLS",
        "[[sites]]\nroot = 'site'\n[sites.tls]\ncertificate = 'a.test.pem'\nkey = 'a.test.key'\nclient_auth = { ca_file = 'clients.pem' }\n",
        "H-SRV-004",
        "3:1",
        "asks for client certificates, but no listener speaks TLS",
        "tls = true",
    ),
    row(
        "browsers sent to TLS without TLS",
        "[[sites]]\nroot = 'site'\n[sites.tls]\ncertificate = 'a.test.pem'\nkey = 'a.test.key'\nhsts = { max_age = '365d' }\n",
        "H-SRV-004",
        "3:1",
        "over TLS only, but no listener speaks TLS",
        "tls = true",
    ),
    row(
        "built into browsers for a month",
        with_tls!(
            "certificate = 'a.test.pem'\nkey = 'a.test.key'\nhsts = { max_age = '30d', subdomains = true, preload = true }\n"
        ),
        "H-TLS-010",
        "7:56",
        "do not build this in",
        "`max_age = \"365d\"`",
    ),
    row(
        "built into browsers without the hosts beneath",
        with_tls!(
            "certificate = 'a.test.pem'\nkey = 'a.test.key'\nhsts = { max_age = '365d', preload = true }\n"
        ),
        "H-TLS-010",
        "7:38",
        "do not build this in",
        "`subdomains = true`",
    ),
    row(
        "how long browsers remember is not said",
        with_tls!("certificate = 'a.test.pem'\nkey = 'a.test.key'\nhsts = { subdomains = true }\n"),
        "H-CFG-007",
        "7:8",
        "lacks the key `max_age`",
        "add `max_age = …`",
    ),
    row(
        "clients required where nobody asks",
        "listeners = [{ address = '127.0.0.1:0', tls = true }, { address = '127.0.0.1:0' }]\n[[sites]]\nroot = 'site'\n[sites.tls]\ncertificate = 'a.test.pem'\nkey = 'a.test.key'\nclient_auth = { ca_file = 'clients.pem' }\n",
        "H-TLS-008",
        "7:15",
        "requires client certificates, but 127.0.0.1:0 is in the clear",
        "`redirect_to_https = true`",
    ),
    row(
        "clients of an address",
        "listeners = [{ address = '127.0.0.1:0', tls = true }]\n[[sites]]\nroot = 'site'\n[[sites]]\nhosts = ['a.test', '127.0.0.1']\nroot = 'site'\n[sites.tls]\ncertificate = 'a.test.pem'\nkey = 'a.test.key'\nclient_auth = { ca_file = 'clients.pem' }\n",
        "H-TLS-008",
        "10:15",
        "do not name in the handshake",
        "the same `client_auth`",
    ),
];

#[test]
fn a_certificate_for_another_name_is_doubtful() {
    let dir = site();
    prepare(dir.path());
    let file = dir.path().join("hearth.toml");
    let text = "listeners = [{ address = '127.0.0.1:0', tls = true }]\n[[sites]]\nroot = 'site'\n\
                hosts = ['b.test']\ntls = { certificate = 'a.test.pem', key = 'a.test.key' }\n";
    fs::write(&file, text).unwrap();
    let check = run(hearth().args(["check", "-c"]).arg(&file));
    let said = String::from_utf8_lossy(&check.stderr);
    assert!(said.contains("warning[H-TLS-006]") && said.contains("`b.test`"), "{said}");
    assert_eq!(check.status.code(), Some(0), "a warning is no reason not to serve");
}

/// A chain in a wrong order is put right, one with an issuer that has ended is served as it is, and both are told.
#[test]
fn a_doubtful_chain_is_told() {
    use rcgen::{CertificateParams, Issuer, KeyPair};

    use crate::certificates::authority;
    let dir = site();
    let (root_key, middle_key) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let root = Issuer::new(authority("root"), root_key);
    let mut middle = authority("middle");
    let good = middle.signed_by(&middle_key, &root).unwrap().pem();
    middle.not_before = rcgen::date_time_ymd(2001, 1, 1);
    middle.not_after = rcgen::date_time_ymd(2002, 1, 1);
    let ended = middle.signed_by(&middle_key, &root).unwrap().pem();
    let key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(vec!["a.test".to_owned()]).unwrap();
    let leaf = leaf.signed_by(&key, &Issuer::new(authority("middle"), middle_key)).unwrap().pem();
    fs::write(dir.path().join("key.pem"), key.serialize_pem()).unwrap();
    let file = dir.path().join("hearth.toml");
    let text = "listeners = [{ address = '127.0.0.1:0', tls = true }]\n[[sites]]\nroot = 'site'\n\
                hosts = ['a.test']\ntls = { certificate = 'chain.pem', key = 'key.pem' }\n";
    fs::write(&file, text).unwrap();
    for (chain, want) in [
        ([&leaf, &good], ""),
        ([&good, &leaf], "put in order"),
        ([&leaf, &ended], "certificate number 2 (CN=middle) has expired"),
        ([&leaf, &leaf], "do not belong to the chain"),
    ] {
        fs::write(dir.path().join("chain.pem"), chain.map(String::as_str).concat()).unwrap();
        let check = run(hearth().args(["check", "-c"]).arg(&file));
        let said = String::from_utf8_lossy(&check.stderr);
        assert_eq!(check.status.code(), Some(0), "{want}: {said}");
        assert_eq!(said.contains("warning[H-TLS-006]"), !want.is_empty(), "{want}: {said}");
        assert!(said.contains(want), "{want}: {said}");
    }
}

/// An authority whose own time is over vouches for its clients all the same, and that is told.
#[test]
fn authorities_that_have_ended_are_told() {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};
    let dir = site();
    prepare(dir.path());
    let mut ended = CertificateParams::new(Vec::new()).unwrap();
    ended.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    ended.not_after = rcgen::date_time_ymd(2002, 1, 1);
    let ended = ended.self_signed(&KeyPair::generate().unwrap()).unwrap().pem();
    fs::write(dir.path().join("ended.pem"), ended).unwrap();
    let file = dir.path().join("hearth.toml");
    fs::write(&file, with_client_auth!("{ ca_file = 'ended.pem' }")).unwrap();
    let check = run(hearth().args(["check", "-c"]).arg(&file));
    let said = String::from_utf8_lossy(&check.stderr);
    assert!(said.contains("warning[H-TLS-007]") && said.contains("has expired"), "{said}");
    assert_eq!(check.status.code(), Some(0), "a warning is no reason not to serve");
}
