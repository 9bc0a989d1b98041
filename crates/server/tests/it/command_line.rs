//! Arguments, help and the banner.

use std::fs;

use crate::{
    client::get,
    process::{Server, hearth, run, site, wait_for},
};

#[test]
fn help_and_mistakes() {
    let help = run(hearth().arg("--help"));
    assert_eq!(help.status.code(), Some(0));
    let text = String::from_utf8(help.stdout).unwrap();
    for command in ["serve", "check", "db", "reference"] {
        assert!(text.contains(command), "{text}");
    }
    let version = run(hearth().arg("--version"));
    assert!(String::from_utf8(version.stdout).unwrap().starts_with("hearth 0."));
    for wrong in [
        &["serv"][..],
        &["serve", "--lissen", "80"],
        &["serve", "--workers", "many"],
        &["serve", "--tls-cert", "a.pem"],
        &["serve", "-c", "a.toml", "dir"],
        &["serve", "-c", "a.toml", "--spa"],
        &[],
    ] {
        let output = run(hearth().args(wrong));
        assert_eq!(output.status.code(), Some(2), "{wrong:?}");
    }
    let typo = run(hearth().args(["serve", "--lissen", "80"]));
    assert!(String::from_utf8_lossy(&typo.stderr).contains("--listen"));
}

/// The commands of `jsonstore`, which has tests of its own.
#[cfg(target_os = "linux")]
#[test]
fn a_document_store_is_looked_into() {
    let dir = tempfile::tempdir().unwrap();
    let store = dir.path().join("store");
    let db = |arguments: &[&str]| {
        let output = run(hearth().arg("db").arg(&store).args(arguments));
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    };
    let ada = r#"{"_id":1,"name":"Ada"}"#;
    assert_eq!(db(&["put", "people", ada]).1, "1\n");
    assert_eq!(
        db(&["find", "people", r#"{"name":"Ada"}"#]),
        (Some(0), format!("{ada}\n"), String::new())
    );
    let (code, _, error) = db(&["find", "people", r#"{"name":{"$no":1}}"#]);
    assert!(code == Some(1) && error.starts_with("hearth: invalid query"), "{error}");
    assert_eq!(db(&["fimd"]).0, Some(2));

    // The folder may come after `shell`, and a script goes in there.
    let script = dir.path().join("script");
    fs::write(&script, "get people 1\nverify\n").unwrap();
    let mut shell = hearth();
    shell.args(["db", "shell"]).arg(&store).stdin(fs::File::open(&script).unwrap());
    let output = run(&mut shell);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.starts_with(ada) && text.contains("all sound"), "{text}");
}

#[test]
fn the_banner_says_where() {
    let dir = site();
    let root = dir.path().join("site");
    let mut server =
        Server::start(dir.path(), &["--listen", "127.0.0.1:0", root.to_str().unwrap()]);
    let address = server.address(0);
    assert_eq!(server.banner["event"], "listening");
    assert_eq!(server.banner["urls"][0]["url"], format!("http://{address}/"));
    assert_eq!(server.banner["listeners"][0]["tls"], false);
    assert_eq!(server.banner["pid"], server.banner["pid"].as_u64().unwrap());
    server.signal("TERM");
    assert_eq!(server.wait().code(), Some(0));
    assert_eq!(server.rest_of_stdout(), "", "a program reads one line");
}

#[test]
fn the_current_folder_or_its_file() {
    let dir = site();
    let root = dir.path().join("site");
    let mut command = hearth();
    command.args(["serve", "--json", "--listen", "127.0.0.1:0"]).current_dir(&root);
    let server = Server::start_with(dir.path(), &mut command);
    assert_eq!(get(server.address(0), "a", "/").text(), "<h1>home</h1>\n");
    drop(server);
    fs::write(dir.path().join("hearth.toml"), "[[sites]]\nroot = 'site/docs'\n").unwrap();
    command.current_dir(dir.path());
    let server = Server::start_with(dir.path(), &mut command);
    assert_eq!(get(server.address(0), "a", "/").text(), "<h1>docs</h1>\n");
    drop(server);
    // Who names a folder does not get the file in it.
    command.arg(".");
    let server = Server::start_with(dir.path(), &mut command);
    assert_eq!(get(server.address(0), "a", "/site/").text(), "<h1>home</h1>\n");
}

#[test]
fn variables() {
    let dir = site();
    let root = dir.path().join("site");
    let mut command = hearth();
    command.args(["serve", "--json"]).arg(&root).env("PORT", "0");
    let server = Server::start_with(dir.path(), &mut command);
    assert!(server.address(0).ip().is_unspecified(), "a container is reached from outside");
    drop(server);
    command.env("HEARTH_LOG", "debug").args(["--listen", "127.0.0.1:0"]);
    let server = Server::start_with(dir.path(), &mut command);
    assert!(server.address(0).ip().is_loopback(), "an argument wins over a variable");
}

#[test]
fn the_reference_is_printed() {
    let schema = run(hearth().args(["reference", "schema"]));
    let schema: serde_json::Value = serde_json::from_slice(&schema.stdout).unwrap();
    assert_eq!(schema["$defs"]["Listener"]["required"][0], "address");
}

#[test]
fn the_next_free_port() {
    let dir = site();
    let root = dir.path().join("site");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let arguments = ["--port-fallback", "--listen", &address, root.to_str().unwrap()];
    let server = Server::start(dir.path(), &arguments);
    assert!(server.address(0).port() > taken.local_addr().unwrap().port());
    assert_eq!(get(server.address(0), "a", "/").status, 200);
}

#[cfg(target_os = "linux")]
#[test]
fn the_browser_is_opened() {
    use std::os::unix::fs::PermissionsExt;
    let dir = site();
    let program = dir.path().join("xdg-open");
    fs::write(&program, "#!/bin/sh\necho \"$1\" > opened.part && mv opened.part opened\n").unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let path = std::env::join_paths([dir.path(), "/usr/bin".as_ref(), "/bin".as_ref()]).unwrap();
    let mut command = hearth();
    command.args(["serve", "--json", "--open", "--listen", "127.0.0.1:0", "site"]);
    command.current_dir(dir.path()).env("PATH", path);
    let server = Server::start_with(dir.path(), &mut command);
    let opened = dir.path().join("opened");
    wait_for(|| opened.exists(), || server.log());
    let url = fs::read_to_string(opened).unwrap();
    assert_eq!(url.trim(), format!("http://{}/", server.address(0)));
}

#[cfg(target_os = "linux")]
#[test]
fn files_may_be_as_many_as_the_system_allows() {
    let dir = site();
    let server =
        Server::start(dir.path(), &["--listen", "127.0.0.1:0", dir.path().to_str().unwrap()]);
    let limits = fs::read_to_string(format!("/proc/{}/limits", server.banner["pid"])).unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    let mut words = line.split_whitespace().skip(3);
    assert_eq!(words.next(), words.next(), "{line}");
}
