//! Wrong configurations: each is told with its line, what is wrong, and what to do; and `check` and
//! `serve` say the same.

use std::{fs, net::TcpListener, path::Path, process::Command};

use serde_json::Value;

use crate::{
    process::{hearth, run, site},
    tls::certificate,
};

/// A wrong configuration and what is said of it.
struct Row {
    name: &'static str,
    /// `{taken}` is an address that is in use.
    config: &'static str,
    variable: (&'static str, &'static str),
    code: &'static str,
    /// `line:column`, or where else it comes from.
    place: &'static str,
    message: &'static str,
    help: &'static str,
    exit: i32,
}

const fn row(
    name: &'static str,
    config: &'static str,
    code: &'static str,
    place: &'static str,
    message: &'static str,
    help: &'static str,
) -> Row {
    Row { name, config, variable: ("", ""), code, place, message, help, exit: 3 }
}

const ROWS: &[Row] = &[
    row(
        "unknown key",
        "[[sites]]\nroto = 'site'\n",
        "H-CFG-004",
        "2:1",
        "unknown key `roto`",
        "did you mean `root`?",
    ),
    row(
        "unknown section",
        "[limit]\nmax_headers = 5\n[[sites]]\nroot = 'site'\n",
        "H-CFG-004",
        "1:2",
        "unknown key `limit`",
        "did you mean `limits`?",
    ),
    row(
        "wrong type",
        "workers = 'four'\n[[sites]]\nroot = 'site'\n",
        "H-CFG-005",
        "1:11",
        "`workers` must be an integer from 0 to 65535, found a string",
        "set it to an integer",
    ),
    row(
        "a table where a list belongs",
        "[sites]\nroot = 'site'\n",
        "H-CFG-005",
        "1:1",
        "`sites` must be an array, found a table",
        "array",
    ),
    row(
        "a number in quotes",
        "[[sites]]\nroot = 'site'\n[limits]\nmax_headers = '50'\n",
        "H-CFG-005",
        "4:15",
        "`limits.max_headers` must be a non-negative integer, found a string",
        "write it without quotes: 50",
    ),
    row(
        "negative number",
        "[[sites]]\nroot = 'site'\n[limits]\nmax_headers = -1\n",
        "H-CFG-006",
        "4:15",
        "`limits.max_headers` cannot be -1",
        "non-negative",
    ),
    row(
        "bad size",
        "limits.max_body_size = '10 parsecs'\n[[sites]]\nroot = 'site'\n",
        "H-CFG-006",
        "1:24",
        "`limits.max_body_size` cannot be \"10 parsecs\"",
        "such as",
    ),
    row(
        "duration without a unit",
        "shutdown_timeout = 30\n[[sites]]\nroot = 'site'\n",
        "H-CFG-",
        "1:20",
        "`shutdown_timeout`",
        "s",
    ),
    row(
        "unknown word",
        "[access_log]\npath = 'a.log'\nformat = 'jsno'\n[[sites]]\nroot = 'site'\n",
        "H-CFG-009",
        "3:10",
        "`access_log.format` cannot be `jsno`",
        "did you mean `json`?",
    ),
    row(
        "unknown encoding",
        "[[sites]]\nroot = 'site'\ncompression.encodings = ['gzip', 'lzma']\n",
        "H-CFG-009",
        "3:34",
        "cannot be `lzma`",
        "allowed values",
    ),
    row(
        "unknown protocol",
        "listeners = [{ address = '127.0.0.1:0', protocols = ['h3'] }]\n[[sites]]\nroot = 'site'\n",
        "H-CFG-009",
        "1:54",
        "cannot be `h3`",
        "did you mean `h1`?",
    ),
    row("no TOML", "[[sites]\nroot = 'site'\n", "H-CFG-003", "1:", "", ""),
    row(
        "duplicate key",
        "[[sites]]\nroot = 'site'\nroot = 'site'\n",
        "H-CFG-008",
        "3:1",
        "root",
        "",
    ),
    row(
        "missing key",
        "[[sites]]\nroot = 'site'\nredirects = [{ from = '/a' }]\n",
        "H-CFG-007",
        "3:14",
        "lacks the key `to`",
        "add `to = …`",
    ),
    row("no site", "workers = 1\n", "H-SRV-004", "", "there is no site", "[[sites]]"),
    row(
        "site without content",
        "[[sites]]\nhosts = ['a.test']\n",
        "H-SRV-004",
        "1:1",
        "the site has nothing to serve",
        "`root`",
    ),
    row(
        "root that is missing",
        "[[sites]]\nroot = 'siet'\n",
        "H-SRV-001",
        "2:8",
        "siet cannot be used: No such file or directory",
        "correct the path",
    ),
    row(
        "root that is a file",
        "[[sites]]\nroot = 'site/index.html'\n",
        "H-SRV-001",
        "2:8",
        "is a file, not a folder",
        "the folder it lies in",
    ),
    row(
        "mount that is missing",
        "[[sites]]\nroot = 'site'\nmounts = [{ path = '/m', root = 'none' }]\n",
        "H-SRV-001",
        "3:33",
        "none cannot be used",
        "create it",
    ),
    row(
        "mount without a path",
        "[[sites]]\nroot = 'site'\nmounts = [{ path = 'm', root = 'site' }]\n",
        "H-SRV-013",
        "3:20",
        "`m` is not a path that a folder can lie under",
        "/downloads",
    ),
    row(
        "host with a scheme",
        "[[sites]]\nhosts = ['https://a.test']\nroot = 'site'\n",
        "H-SRV-002",
        "2:10",
        "`https://a.test` is not a host name",
        "without `http://`",
    ),
    row(
        "host twice",
        "[[sites]]\nhosts = ['a.test']\nroot = 'site'\n[[sites]]\nhosts = ['b.test', 'A.test']\nroot = 'site'\n",
        "H-SRV-003",
        "5:20",
        "two sites are for `a.test`",
        "remove the host",
    ),
    row(
        "two default sites",
        "[[sites]]\nroot = 'site'\n[[sites]]\nroot = 'site'\n",
        "H-SRV-003",
        "3:1",
        "two sites are for all hosts",
        "`hosts`",
    ),
    row(
        "address without a port",
        "listeners = [{ address = '127.0.0.1' }]\n[[sites]]\nroot = 'site'\n",
        "H-SRV-005",
        "1:26",
        "`127.0.0.1` is not an address to listen on",
        "the port is missing",
    ),
    row(
        "address with a name",
        "listeners = [{ address = 'example.com:80' }]\n[[sites]]\nroot = 'site'\n",
        "H-SRV-005",
        "1:26",
        "`example.com:80` is not an address",
        "write an IP address",
    ),
    row(
        "listener twice",
        "listeners = [{ address = '127.0.0.1:8081' }, { address = '127.0.0.1:8081' }]\n[[sites]]\nroot = 'site'\n",
        "H-SRV-006",
        "1:58",
        "two listeners on 127.0.0.1:8081",
        "remove one",
    ),
    row(
        "listener in the way of another",
        "listeners = [{ address = ':8081' }, { address = '127.0.0.1:8081' }]\n[[sites]]\nroot = 'site'\n",
        "H-SRV-006",
        "1:49",
        "0.0.0.0:8081 is in the way of 127.0.0.1:8081",
        "change its port",
    ),
    row(
        "no listener",
        "listeners = []\n[[sites]]\nroot = 'site'\n",
        "H-SRV-004",
        "1:13",
        "no listener",
        "leave `listeners` out",
    ),
    Row {
        exit: 4,
        ..row(
            "address in use",
            "listeners = [{ address = '{taken}' }]\n[[sites]]\nroot = 'site'\n",
            "H-SRV-007",
            "1:26",
            "is in use",
            "stop it, or listen on another port",
        )
    },
    Row {
        exit: 5,
        ..row(
            "address of another machine",
            "listeners = [{ address = '192.0.2.1:80' }]\n[[sites]]\nroot = 'site'\n",
            "H-SRV-008",
            "1:26",
            "192.0.2.1",
            "0.0.0.0",
        )
    },
    row(
        "no protocol",
        "listeners = [{ address = '127.0.0.1:0', protocols = [] }]\n[[sites]]\nroot = 'site'\n",
        "H-SRV-017",
        "1:53",
        "without protocols",
        "`h1`",
    ),
    row(
        "upgrade over TLS",
        "listeners = [{ address = '127.0.0.1:0', tls = true, protocols = ['h2c-upgrade'] }]\n[[sites]]\nroot = 'site'\ntls = { certificate = 'a.test.pem', key = 'a.test.key' }\n",
        "H-SRV-017",
        "1:65",
        "in the clear",
        "ALPN",
    ),
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
        "redirect to itself",
        "[[sites]]\nredirects = [{ from = '/a', to = '/a' }]\n",
        "H-SRV-009",
        "2:23",
        "leads to itself",
        "no redirect is for",
    ),
    row(
        "redirects in a circle",
        "[[sites]]\nredirects = [{ from = '/a', to = '/b' }, { from = '/b', to = '/a' }]\n",
        "H-SRV-009",
        "2:23",
        "leads in a circle",
        "no redirect is for",
    ),
    row(
        "redirect to nowhere",
        "[[sites]]\nredirects = [{ from = '/a', to = 'b' }]\n",
        "H-SRV-009",
        "2:34",
        "`b` is not a place that a redirect can lead to",
        "begins with `/`",
    ),
    row(
        "redirect with an unknown parameter",
        "[[sites]]\nredirects = [{ from = '/a/{id}', to = '/b/{nr}' }]\n",
        "H-SRV-009",
        "2:23",
        "`/b/{nr}` uses `{nr}`",
        "parameter of `from`",
    ),
    row(
        "redirect with another status",
        "[[sites]]\nredirects = [{ from = '/a', to = '/b', status = 200 }]\n",
        "H-SRV-011",
        "2:49",
        "200 is not the status of a redirect",
        "308",
    ),
    row(
        "redirects that contradict",
        "[[sites]]\nredirects = [{ from = '/a/{x}', to = '/b' }, { from = '/a/{y}', to = '/c' }]\n",
        "H-SRV-015",
        "2:55",
        "`/a/{y}` is for the same paths as `/a/{x}`",
        "remove one",
    ),
    row(
        "bad pattern",
        "[[sites]]\nredirects = [{ from = '/a/{x', to = '/b' }]\n",
        "H-SRV-013",
        "2:23",
        "`/a/{x` is not a path pattern",
        "/user/{name}",
    ),
    row(
        "bad regular expression",
        "[[sites]]\nredirects = [{ from = '/a/{x:regex([)}', to = '/b' }]\n",
        "H-SRV-013",
        "2:23",
        "is not a path pattern",
        "/user/{name}",
    ),
    row(
        "bad header name",
        "[[sites]]\nroot = 'site'\nheaders = { 'X Frame' = 'DENY' }\n",
        "H-SRV-010",
        "3:13",
        "`X Frame` is not the name of a header field",
        "letters, digits",
    ),
    row(
        "bad header value",
        "[[sites]]\nroot = 'site'\nheaders = { X-A = \"a\\nb\" }\n",
        "H-SRV-010",
        "3:19",
        "the value of `x-a` cannot be sent",
        "visible ASCII",
    ),
    row(
        "header of the server's own",
        "[[sites]]\nroot = 'site'\nheaders = { Content-Length = '5' }\n",
        "H-SRV-010",
        "3:13",
        "`content-length` is set by the server itself",
        "remove it",
    ),
    row(
        "bad status of an error page",
        "[[sites]]\nroot = 'site'\nerror_pages = { 200 = '404.html' }\n",
        "H-SRV-011",
        "3:17",
        "`200` is not the status of an error",
        "400 to 599",
    ),
    row(
        "error page that is missing",
        "[[sites]]\nroot = 'site'\nerror_pages = { 5xx = 'oops.html' }\n",
        "H-SRV-016",
        "3:23",
        "oops.html cannot be read",
        "relative to the root",
    ),
    row(
        "error page outside the root",
        "[[sites]]\nroot = 'site/docs'\nerror_pages = { 404 = '../404.html' }\n",
        "H-SRV-016",
        "3:23",
        "does not lie beneath the root",
        "without `..`",
    ),
    row(
        "bad cache rule",
        "[[sites]]\nroot = 'site'\ncache = [{ files = '*.css', value = \"a\\u0007\" }]\n",
        "H-SRV-010",
        "3:37",
        "cannot be sent in a header field",
        "max-age",
    ),
    row(
        "index that is a path",
        "[[sites]]\nroot = 'site'\nindex = ['../index.html']\n",
        "H-SRV-013",
        "3:10",
        "`../index.html` is not the name of a file",
        "index.html",
    ),
    row(
        "limit out of range",
        "limits.max_header_size = '1 MiB'\n[[sites]]\nroot = 'site'\n",
        "H-SRV-012",
        "1:26",
        "`limits.max_header_size` is too large: 1 MiB",
        "set it to",
    ),
    row(
        "time out of range",
        "limits.keepalive_timeout = '30d'\n[[sites]]\nroot = 'site'\n",
        "H-SRV-012",
        "1:28",
        "`limits.keepalive_timeout` is too large",
        "set it to",
    ),
    row(
        "too many workers",
        "workers = 5000\n[[sites]]\nroot = 'site'\n",
        "H-SRV-012",
        "1:11",
        "`workers` is too large",
        "each core",
    ),
    row(
        "bad network",
        "connections.exempt = ['10.0.0.0/40']\n[[sites]]\nroot = 'site'\n",
        "H-SRV-005",
        "1:23",
        "`10.0.0.0/40` is not a network",
        "10.0.0.0/8",
    ),
    row(
        "folder of the log that is missing",
        "access_log.path = 'none/access.log'\n[[sites]]\nroot = 'site'\n",
        "H-SRV-014",
        "1:19",
        "none, cannot be used",
        "create it",
    ),
    row(
        "log that is a folder",
        "access_log.path = 'site'\n[[sites]]\nroot = 'site'\n",
        "H-SRV-014",
        "1:19",
        "is a folder",
        "name a file in it",
    ),
    row(
        "log file that is too small",
        "access_log = { path = 'a.log', max_size = '10' }\n[[sites]]\nroot = 'site'\n",
        "H-SRV-012",
        "1:43",
        "too small",
        "4 KiB",
    ),
    row(
        "unknown level",
        "log.level = 'info,net=loud'\n[[sites]]\nroot = 'site'\n",
        "H-SRV-014",
        "1:13",
        "`net=loud` is neither a level nor component=level",
        "debug",
    ),
    row(
        "half an account binding",
        "tls.acme.eab_key_id = 'kid'\n[[sites]]\nroot = 'site'\n",
        "H-SRV-019",
        "1:23",
        "`eab_key_id` without `eab_hmac_key`",
        "give both, or none",
    ),
    Row {
        variable: ("HEARTH_LIMITS__MAX_HEADERS", "many"),
        ..row(
            "bad variable",
            "[[sites]]\nroot = 'site'\n",
            "H-CFG-",
            "environment variable HEARTH_LIMITS__MAX_HEADERS",
            "`limits.max_headers`",
            "",
        )
    },
    Row {
        variable: ("HEARTH_LIMITS__MAX_HEDERS", "5"),
        ..row(
            "misspelt variable",
            "[[sites]]\nroot = 'site'\n",
            "H-CFG-004",
            "environment variable HEARTH_LIMITS__MAX_HEDERS",
            "unknown key `max_heders`",
            "did you mean `max_headers`?",
        )
    },
    Row {
        variable: ("PORT", "http"),
        ..row(
            "bad PORT",
            "[[sites]]\nroot = 'site'\n",
            "H-CFG-",
            "environment variable PORT",
            "`port`",
            "",
        )
    },
    Row {
        variable: ("PORT", "8080"),
        ..row(
            "PORT for which of them",
            "listeners = [{ address = '127.0.0.1:1' }, { address = '127.0.0.1:2' }]\n[[sites]]\nroot = 'site'\n",
            "H-SRV-005",
            "environment variable PORT",
            "there are 2 listeners",
            "HEARTH_LISTENERS__0__ADDRESS",
        )
    },
];

#[test]
fn each_is_explained_and_check_and_serve_agree() {
    let dir = site();
    prepare(dir.path());
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken_address = taken.local_addr().unwrap().to_string();
    let mut failures = Vec::new();
    for row in ROWS {
        let file = dir.path().join("hearth.toml");
        fs::write(&file, row.config.replace("{taken}", &taken_address)).unwrap();
        if let Err(failure) = try_row(row, &file) {
            failures.push(format!("--- {}\n{failure}", row.name));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert!(ROWS.len() >= 30);
}

/// Every code can be met. Two are met elsewhere: the one that is a warning, and the one for what the system
/// refuses when no configuration is wrong (`descriptors.rs`).
#[test]
fn every_code_of_the_server_has_a_row() {
    for code in hearth_server::codes::ALL {
        let is_met = ROWS.iter().any(|row| row.code == code.id());
        let is_elsewhere = ["H-SRV-018", "H-TLS-006"].contains(&code.id());
        assert!(is_met != is_elsewhere, "{code}: {}", code.title());
    }
}

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
    use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
    let dir = site();
    let authority = |name: &str| {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params
    };
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

/// Files that are wrong.
fn prepare(dir: &Path) {
    certificate(dir, "a.test");
    certificate(dir, "b.test");
    fs::write(dir.join("empty.pem"), "").unwrap();
    let whole = fs::read_to_string(dir.join("a.test.pem")).unwrap();
    fs::write(dir.join("damaged.pem"), whole.replacen("MII", "!!!", 1)).unwrap();
    let locked =
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    fs::write(dir.join("locked.key"), locked).unwrap();
}

fn command(row: &Row, verb: &str, file: &Path) -> Command {
    let mut command = hearth();
    command.args([verb, "-c"]).arg(file);
    if !row.variable.0.is_empty() {
        command.env(row.variable.0, row.variable.1);
    }
    command
}

fn try_row(row: &Row, file: &Path) -> Result<(), String> {
    let json = run(command(row, "check", file).arg("--json"));
    let report: Value = serde_json::from_slice(&json.stdout)
        .map_err(|error| format!("no JSON: {error}\n{}", String::from_utf8_lossy(&json.stderr)))?;
    let check = run(&mut command(row, "check", file));
    let human = String::from_utf8_lossy(&check.stderr).into_owned();
    let expect =
        |is_so: bool, what: String| if is_so { Ok(()) } else { Err(format!("{what}\n{human}")) };
    let diagnostics = report["diagnostics"].as_array().cloned().unwrap_or_default();
    let errors: Vec<_> = diagnostics.iter().filter(|one| one["severity"] == "error").collect();
    expect(errors.len() == 1, format!("{} errors, want 1", errors.len()))?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let error = errors[0];
    let code = text(&error["code"]);
    expect(code.starts_with(row.code), format!("code {code}, want {}", row.code))?;
    let location = &error["location"];
    let place = match location["origin"].as_str() {
        Some("file") => format!("{}:{}", location["line"], location["column"]),
        Some("environment") => format!("environment variable {}", text(&location["name"])),
        _ => String::new(),
    };
    let same_place =
        if row.place.ends_with(':') { place.starts_with(row.place) } else { place == row.place };
    expect(same_place, format!("at {place}, want {}", row.place))?;
    let (message, help) = (text(&error["message"]), text(&error["help"]));
    let notes = error["notes"].to_string();
    expect(message.contains(row.message), format!("message `{message}`, want `{}`", row.message))?;
    let has_help = help.contains(row.help) || notes.contains(row.help);
    expect(has_help && !help.is_empty(), format!("help `{help}`, want `{}`", row.help))?;
    let serve = run(&mut command(row, "serve", file));
    let served = String::from_utf8_lossy(&serve.stderr);
    expect(served == human, format!("serve says something else:\n{served}"))?;
    for (verb, status) in
        [("check --json", json.status), ("check", check.status), ("serve", serve.status)]
    {
        expect(
            status.code() == Some(row.exit),
            format!("{verb} ends with {status}, want {}", row.exit),
        )?;
    }
    Ok(())
}

#[test]
fn files_that_are_no_configuration() {
    let dir = site();
    let latin1 = dir.path().join("latin1.toml");
    fs::write(&latin1, b"[[sites]]\nroot = 'caf\xe9'\n").unwrap();
    let missing = dir.path().join("none.toml");
    let odd = dir.path().join("hearth.ini");
    fs::write(&odd, "").unwrap();
    for (file, code) in [(latin1, "H-CFG-002"), (missing, "H-CFG-001"), (odd, "H-CFG-011")] {
        let check = run(hearth().args(["check", "-c"]).arg(&file));
        let serve = run(hearth().args(["serve", "-c"]).arg(&file));
        let text = String::from_utf8_lossy(&check.stderr).into_owned();
        assert!(text.contains(code) && text.contains("help:"), "{text}");
        assert_eq!(check.stderr, serve.stderr);
        assert_eq!((check.status.code(), serve.status.code()), (Some(3), Some(3)));
    }
}

#[test]
fn folders_that_cannot_be_served() {
    let dir = site();
    for folder in ["none", "site/index.html"] {
        let folder = dir.path().join(folder);
        let check = run(hearth().arg("check").arg(&folder));
        let serve = run(hearth().args(["serve", "--listen", "127.0.0.1:0"]).arg(&folder));
        let text = String::from_utf8_lossy(&check.stderr).into_owned();
        assert!(text.contains("H-SRV-001"), "{text}");
        assert_eq!(check.stderr, serve.stderr);
        assert_eq!(serve.status.code(), Some(3));
    }
}

#[cfg(target_os = "linux")]
#[test]
fn the_owner_of_a_port_is_named() {
    let dir = site();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let serve = run(hearth().args(["serve", "--listen", &address]).arg(dir.path().join("site")));
    let text = String::from_utf8_lossy(&serve.stderr).into_owned();
    assert_eq!(serve.status.code(), Some(4), "{text}");
    assert!(text.contains(&format!("process {}", std::process::id())), "{text}");
    assert!(text.contains("--port-fallback"), "{text}");
}

#[test]
fn what_is_right_is_said_to_be_so() {
    let dir = site();
    let file = dir.path().join("hearth.toml");
    fs::write(&file, "listeners = [{ address = '127.0.0.1:0' }]\n[[sites]]\nroot = 'site'\n")
        .unwrap();
    let check = run(hearth().args(["check", "-c"]).arg(&file));
    assert_eq!(check.status.code(), Some(0));
    assert_eq!(String::from_utf8_lossy(&check.stdout), "ok: 1 site on 1 listener\n");
}
