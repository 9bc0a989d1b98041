//! Sites.

use std::fs;

use crate::{
    client::{connect, get, get_with},
    process::{Server, hearth, run, site},
};

#[test]
fn a_folder() {
    let dir = site();
    let root = dir.path().join("site");
    let server = Server::start(dir.path(), &["--listen", "127.0.0.1:0", root.to_str().unwrap()]);
    let address = server.address(0);
    let home = get(address, "anything.test", "/");
    assert_eq!((home.status, home.text().as_str()), (200, "<h1>home</h1>\n"));
    assert_eq!(home.header("content-type"), Some("text/html; charset=utf-8"));
    assert!(home.header("etag").is_some());
    let folder = get(address, "a", "/docs");
    assert_eq!((folder.status, folder.header("location")), (301, Some("/docs/")));
    assert_eq!(get(address, "a", "/docs/").text(), "<h1>docs</h1>\n");
    assert_eq!(get(address, "a", "/nothing").status, 404);
    assert_eq!(get(address, "a", "/.secret").status, 404);
    assert_eq!(get(address, "a", "/empty/").status, 404);
    assert_ne!(get(address, "a", "/../site/index.html/../../stderr.log").status, 200);
    let css = get_with(connect(address), "a", "/style.css", "accept-encoding: gzip\r\n");
    assert_eq!(css.header("content-encoding"), Some("gzip"));
    assert!(css.body.len() < 1000);
}

#[test]
fn options_of_a_folder() {
    let dir = site();
    let root = dir.path().join("site");
    let arguments = ["--spa", "--listing", "--listen", "127.0.0.1:0", root.to_str().unwrap()];
    let server = Server::start(dir.path(), &arguments);
    let address = server.address(0);
    assert_eq!(get(address, "a", "/some/route").text(), "<h1>home</h1>\n");
    assert_eq!(get(address, "a", "/missing.js").status, 404);
    assert_eq!(get(address, "a", "/empty/").status, 200);
}

/// What the site of all other hosts has, its files and what it says of every response, no other site has.
#[test]
fn the_site_of_other_hosts_shares_nothing() {
    let dir = site();
    let config = dir.path().join("hearth.toml");
    let text = r#"
        listeners = [{ address = "127.0.0.1:0" }]
        [[sites]]
        root = "site"
        headers = { X-Default = "yes" }
        error_pages = { 404 = "404.html" }
        [[sites]]
        hosts = ["a.test"]
        root = "site/docs"
        [[sites]]
        hosts = ["b.test"]
        redirects = [{ from = "/old", to = "/new" }]
    "#;
    fs::write(&config, text).unwrap();
    let server = Server::start(dir.path(), &["-c", config.to_str().unwrap()]);
    let address = server.address(0);
    for (host, path, status, text, marked) in [
        ("other.test", "/", 200, "<h1>home</h1>\n", true),
        ("other.test", "/none", 404, "<h1>nothing here</h1>\n", true),
        ("other.test", "/%", 400, "400 Bad Request", true),
        ("a.test", "/", 200, "<h1>docs</h1>\n", false),
        ("a.test", "/none", 404, "404 Not Found", false),
        ("b.test", "/", 404, "404 Not Found", false),
        ("b.test", "/style.css", 404, "404 Not Found", false),
    ] {
        let found = get(address, host, path);
        assert_eq!(
            (found.status, found.text().trim_end()),
            (status, text.trim_end()),
            "{host}{path}"
        );
        assert_eq!(found.header("x-default").is_some(), marked, "{host}{path}");
    }
}

#[test]
fn sites_by_host() {
    let dir = site();
    let config = dir.path().join("hearth.toml");
    let text = r#"
        listeners = [{ address = "127.0.0.1:0" }]

        [[sites]]
        hosts = ["example.test"]
        root = "site"
        headers = { X-Frame-Options = "DENY" }
        error_pages = { 404 = "404.html" }
        cache = [{ files = "*.css", value = "public, max-age=60" }]
        redirects = [
            { from = "/old/{*rest}", to = "/new/{rest}" },
            { from = "/away", to = "https://example.com/", status = 302 },
        ]
        mounts = [{ path = "/manual", root = "site/docs" }]

        [[sites]]
        hosts = ["*.example.test"]
        root = "site/docs"

        [[sites]]
        redirects = [{ from = "/{*all}", to = "http://example.test/{all}" }]
    "#;
    fs::write(&config, text).unwrap();
    let server = Server::start(dir.path(), &["-c", config.to_str().unwrap()]);
    let address = server.address(0);
    let home = get(address, "example.test", "/");
    assert_eq!(home.text(), "<h1>home</h1>\n");
    assert_eq!(home.header("x-frame-options"), Some("DENY"));
    assert_eq!(get(address, "EXAMPLE.test:8080", "/").text(), "<h1>home</h1>\n");
    assert_eq!(get(address, "www.example.test", "/").text(), "<h1>docs</h1>\n");
    assert_eq!(get(address, "a.b.example.test", "/").text(), "<h1>docs</h1>\n");
    let other = get(address, "other.test", "/a?b=c");
    assert_eq!(other.header("location"), Some("http://example.test/a?b=c"));
    let missing = get(address, "example.test", "/missing");
    assert_eq!((missing.status, missing.text().as_str()), (404, "<h1>nothing here</h1>\n"));
    assert_eq!(missing.header("x-frame-options"), Some("DENY"));
    let css = get(address, "example.test", "/style.css");
    assert_eq!(css.header("cache-control"), Some("public, max-age=60"));
    let old = get(address, "example.test", "/old/a/b");
    assert_eq!((old.status, old.header("location")), (308, Some("/new/a/b")));
    let away = get(address, "example.test", "/away");
    assert_eq!((away.status, away.header("location")), (302, Some("https://example.com/")));
    assert_eq!(get(address, "example.test", "/manual/").text(), "<h1>docs</h1>\n");
}

#[test]
fn limits_of_the_file_hold() {
    let dir = site();
    let config = dir.path().join("hearth.toml");
    let text = "listeners = [{ address = '127.0.0.1:0' }]\nlimits.max_headers = 3\n\
                [[sites]]\nroot = 'site'\n";
    fs::write(&config, text).unwrap();
    let server = Server::start(dir.path(), &["-c", config.to_str().unwrap()]);
    let fine = get_with(connect(server.address(0)), "a", "/", "a: b\r\n");
    assert_eq!(fine.status, 200);
    let many = get_with(connect(server.address(0)), "a", "/", "a: b\r\nc: d\r\n");
    assert_eq!(many.status, 431);
}

#[test]
fn other_formats() {
    let dir = site();
    let json = r#"{ "listeners": [{ "address": "127.0.0.1:0" }], "sites": [{ "root": "site" }] }"#;
    let yaml = "listeners:\n  - address: 127.0.0.1:0\nsites:\n  - root: site\n";
    for (name, text) in [("hearth.json", json), ("hearth.yaml", yaml)] {
        let config = dir.path().join(name);
        fs::write(&config, text).unwrap();
        let server = Server::start(dir.path(), &["-c", config.to_str().unwrap()]);
        assert_eq!(get(server.address(0), "a", "/").text(), "<h1>home</h1>\n", "{name}");
    }
}

#[test]
fn one_protocol_only() {
    use std::io::{Read, Write};
    let dir = site();
    let config = dir.path().join("hearth.toml");
    let text = "listeners = [{ address = '127.0.0.1:0', protocols = ['h1'] }]\n\
                [[sites]]\nroot = 'site'\n";
    fs::write(&config, text).unwrap();
    let server = Server::start(dir.path(), &["-c", config.to_str().unwrap()]);
    assert_eq!(get(server.address(0), "a", "/").status, 200);
    let mut stream = connect(server.address(0));
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 "), "{answer:?}");
}

/// What `auto` says it is can be asked for by name, and nothing else.
#[test]
fn workers_wait_as_they_are_told() {
    let dir = site();
    let config = dir.path().join("hearth.toml");
    let write = |io: &str| {
        let text = format!(
            "io = '{io}'\nlisteners = [{{ address = '127.0.0.1:0' }}]\n[[sites]]\nroot = 'site'\n"
        );
        fs::write(&config, text).unwrap();
    };
    let arguments = ["-c", config.to_str().unwrap()];
    let answers_on = |io: &str| {
        write(io);
        let server = Server::start(dir.path(), &arguments);
        assert_eq!(get(server.address(0), "a", "/").text(), "<h1>home</h1>\n");
        server.wait_for_log("\"io\":");
        server.log()
    };
    assert!(answers_on("epoll").contains("\"io\":\"epoll\""));
    if answers_on("auto").contains("\"io\":\"io_uring\"") {
        assert!(answers_on("io_uring").contains("\"io\":\"io_uring\""));
    } else {
        write("io_uring");
        let output = run(hearth().arg("serve").args(arguments));
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && told.contains("io = \"auto\""), "{told}");
    }
}
