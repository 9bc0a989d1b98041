//! What scanners find: nothing.

use std::{collections::BTreeMap, net::SocketAddr, path::Path, process::Command};

use hearth_e2e::{peers, program};
use tempfile::TempDir;

use super::{certify, text};
use crate::servers;

/// What testssl reports that is none of the server's doing, and why. Everything else above INFO fails the test.
const ACCEPTED: &[(&str, &str)] = &[
    ("DNS_CAArecord", "localhost has no CAA record; the doctor looks at those of real names"),
    ("engine_problem", "about the scanner's own OpenSSL: it cannot do GOST"),
    (
        "sessionresumption_ticket",
        "its client hangs up before the ticket of TLS 1.3 comes; resumption has tests of its own",
    ),
];

/// A site as an authority would have it certified: the scanners judge the certificate, too.
struct Site {
    _server: program::Program,
    tls: SocketAddr,
    folder: TempDir,
}

fn start() -> Site {
    let folder = TempDir::new().expect("a folder");
    let path = |name: &str| folder.path().join(name);
    certify(folder.path());
    std::fs::write(path("index.html"), "hello").expect("a file");
    let tls: SocketAddr = ([127, 0, 0, 1], program::free_port().expect("a port")).into();
    let config = format!(
        "[[listeners]]\naddress = \"{tls}\"\ntls = true\n\n[[sites]]\nroot = {:?}\n\
         tls = {{ certificate = {:?}, key = {:?}, hsts = {{ max_age = \"365d\" }} }}\n",
        text(folder.path()),
        text(&path("cert.pem")),
        text(&path("key.pem")),
    );
    std::fs::write(path("hearth.toml"), config).expect("the configuration");
    let mut command = servers::serve(folder.path());
    let server = program::Program::start(&mut command, tls, &path("hearth.log")).expect("hearth");
    Site { _server: server, tls, folder }
}

/// Severity and finding, by the name of the check.
fn testssl(scanner: &Path, site: &Site, checks: &[&str]) -> BTreeMap<String, (String, String)> {
    let (port, root) = (site.tls.port(), site.folder.path().join("root.pem"));
    let json = site.folder.path().join("found.json");
    let mut command = Command::new(scanner);
    command.args(["--quiet", "--color", "0", "--warnings", "off", "--ip", "127.0.0.1"]);
    command.args(["--add-ca", text(&root), "--jsonfile", text(&json)]).args(checks);
    command.arg(format!("https://localhost:{port}/"));
    let output = peers::run(400, &mut command).expect("it starts");
    let found = std::fs::read(&json).expect("what it found");
    let found: serde_json::Value = serde_json::from_slice(&found)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stdout)));
    let rows = found.as_array().expect("a list").iter().map(|one| {
        let field = |name: &str| one[name].as_str().unwrap_or_default().to_owned();
        (field("id"), (field("severity"), field("finding")))
    });
    rows.collect()
}

/// Protocols, ciphers, forward secrecy, the server's defaults and its preferences, and every known weakness.
#[test]
fn testssl_finds_nothing() {
    let Some(scanner) = peers::find("testssl") else { return };
    let site = start();
    // Without its tour of every cipher one by one and of browsers, which grades nothing.
    let checks = ["-p", "-s", "-f", "-P", "-S", "-U", "-h"];
    let found = testssl(&scanner, &site, &checks);
    for (id, want) in [
        ("SSLv2", "not offered"),
        ("SSLv3", "not offered"),
        ("TLS1", "not offered"),
        ("TLS1_1", "not offered"),
        ("TLS1_2", "offered"),
        ("TLS1_3", "offered with final"),
        ("secure_renego", "supported"),
        ("heartbleed", "not vulnerable, no heartbeat extension"),
        ("cipherlist_NULL", "not offered"),
        ("HSTS_time", "365 days"),
    ] {
        let (_, finding) = found.get(id).unwrap_or_else(|| panic!("no {id} in {found:#?}"));
        assert!(finding.starts_with(want), "{id}: {finding}");
    }
    assert!(found.len() > 60, "it looked at {} things only", found.len());
    let mut findings = Vec::new();
    for (id, (severity, finding)) in &found {
        let is_good = matches!(severity.as_str(), "OK" | "INFO" | "DEBUG");
        if !is_good && !ACCEPTED.iter().any(|(known, _why)| known == id) {
            findings.push(format!("{severity} {id}: {finding}"));
        }
    }
    assert_eq!(findings, Vec::<String>::new());
    println!("testssl looked at {} things and found nothing", found.len());
}

/// Every element of its report says the safe thing.
#[test]
fn sslscan_finds_nothing() {
    let Some(scanner) = peers::find("sslscan") else { return };
    let site = start();
    let report = site.folder.path().join("report.xml");
    let mut command = Command::new(scanner);
    command.args(["--no-colour", "--sni-name=localhost"]);
    command.arg(format!("--xml={}", text(&report))).arg(site.tls.to_string());
    let output = peers::run(120, &mut command).expect("it starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    let report = std::fs::read_to_string(report).expect("what it found");
    let elements = |name: &str| -> Vec<&str> {
        report
            .lines()
            .map(str::trim)
            .filter(|line| line.starts_with(&format!("<{name} ")))
            .collect()
    };
    let enabled: Vec<_> =
        elements("protocol").into_iter().filter(|line| line.contains("enabled=\"1\"")).collect();
    assert_eq!(
        enabled,
        [
            "<protocol type=\"tls\" version=\"1.2\" enabled=\"1\" />",
            "<protocol type=\"tls\" version=\"1.3\" enabled=\"1\" />"
        ]
    );
    let ciphers = elements("cipher");
    assert_eq!(ciphers.len(), 6, "{ciphers:#?}");
    for cipher in &ciphers {
        // `acceptable` is what it calls every cipher of TLS 1.3.
        let is_good =
            cipher.contains("strength=\"strong\"") || cipher.contains("sslversion=\"TLSv1.3\"");
        let is_modern = cipher.contains("GCM") || cipher.contains("CHACHA20");
        assert!(is_good && is_modern && !cipher.contains("bits=\"112\""), "{cipher}");
    }
    assert!(
        elements("heartbleed").iter().all(|line| line.contains("vulnerable=\"0\"")),
        "{report}"
    );
    assert!(
        elements("compression").iter().all(|line| line.contains("supported=\"0\"")),
        "{report}"
    );
    let insecure = elements("renegotiation")
        .into_iter()
        .find(|line| line.contains("supported=\"1\" secure=\"0\""));
    assert_eq!(insecure, None);
    assert!(elements("group").iter().all(|line| !line.contains("bits=\"80\"")), "{report}");
    assert!(report.contains("<self-signed>false</self-signed>"), "{report}");
    assert!(report.contains("<expired>false</expired>"), "{report}");
}
