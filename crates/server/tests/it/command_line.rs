//! Arguments, help and the banner.

use std::fs;

use crate::{
    client::get,
    process::{Server, hearth, run, site},
};

#[test]
fn help_and_mistakes() {
    let help = run(hearth().arg("--help"));
    assert_eq!(help.status.code(), Some(0));
    let text = String::from_utf8(help.stdout).unwrap();
    for command in ["serve", "check", "reference"] {
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
