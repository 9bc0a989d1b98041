//! Wrong configurations: each is told with its line, what is wrong, and what to do; and `check` and
//! `serve` say the same.

mod keys;
mod limits;
mod listeners;
mod sites;
mod tls;

use std::{fs, net::TcpListener, path::Path, process::Command};

use serde_json::Value;

use crate::{
    process::{hearth, run, site},
    tls::{certificate, clients},
};

/// A wrong configuration and what is said of it.
#[derive(Clone, Copy)]
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

/// By subject.
const ROWS: [&[Row]; 5] = [keys::ROWS, limits::ROWS, listeners::ROWS, sites::ROWS, tls::ROWS];

#[test]
fn each_is_explained_and_check_and_serve_agree() {
    let dir = site();
    prepare(dir.path());
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken_address = taken.local_addr().unwrap().to_string();
    let mut failures = Vec::new();
    for row in ROWS.into_iter().flatten() {
        let file = dir.path().join("hearth.toml");
        fs::write(&file, row.config.replace("{taken}", &taken_address)).unwrap();
        if let Err(failure) = try_row(row, &file) {
            failures.push(format!("--- {}\n{failure}", row.name));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert!(ROWS.concat().len() >= 80);
}

/// Every code can be met. Three are met elsewhere: the one that is a warning, the one for what the system
/// refuses when no configuration is wrong (`descriptors.rs`), and the one for what a running server refuses
/// (`reload.rs`).
#[test]
fn every_code_of_the_server_has_a_row() {
    for code in hearth_server::codes::ALL {
        let is_met = ROWS.into_iter().flatten().any(|row| row.code == code.id());
        let is_elsewhere = ["H-SRV-018", "H-SRV-020", "H-TLS-006"].contains(&code.id());
        assert!(is_met != is_elsewhere, "{code}: {}", code.title());
    }
}

/// Files that are wrong.
fn prepare(dir: &Path) {
    certificate(dir, "a.test");
    certificate(dir, "b.test");
    clients(dir, "clients");
    fs::write(dir.join("empty.pem"), "").unwrap();
    let whole = fs::read_to_string(dir.join("a.test.pem")).unwrap();
    fs::write(dir.join("damaged.pem"), whole.replacen("MII", "!!!", 1)).unwrap();
    let crl = "-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n";
    fs::write(dir.join("damaged.crl"), crl).unwrap();
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
