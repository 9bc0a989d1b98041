//! A changed configuration, taken over by a server that runs.

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    path::Path,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
};

use crate::{
    client::{connect, get},
    process::{Server, site, wait_for},
    tls::{certificate, get_tls},
};

const TAKEN: &str = "the configuration was taken over";
const REFUSED: &str = "the configuration was not taken over";
const LISTEN: &str = "listeners = [{ address = '127.0.0.1:0' }]\n";

fn write(dir: &Path, text: &str) {
    fs::write(dir.join("hearth.toml"), text).unwrap();
}

fn start(dir: &Path, text: &str) -> Server {
    write(dir, text);
    Server::start(dir, &["-c", dir.join("hearth.toml").to_str().unwrap()])
}

/// Orders it, and waits until it has said so once more.
fn reload(server: &Server, words: &str) {
    let count = || server.log().matches(words).count();
    let before = count();
    server.signal("HUP");
    wait_for(|| count() > before, || format!("no `{words}` in:\n{}", server.log()));
}

/// A response with `content-length`, of a connection that stays open.
fn ask(stream: &mut TcpStream, host: &str, target: &str) -> String {
    stream.write_all(format!("GET {target} HTTP/1.1\r\nhost: {host}\r\n\r\n").as_bytes()).unwrap();
    let mut text = String::new();
    let is_whole = |text: &str| {
        let (head, body) = text.split_once("\r\n\r\n")?;
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "))?;
        (body.len() >= length.parse().unwrap()).then_some(())
    };
    let mut buffer = [0; 4096];
    while is_whole(&text).is_none() {
        let read = stream.read(&mut buffer).unwrap();
        assert!(read > 0, "closed after: {text}");
        text += std::str::from_utf8(&buffer[..read]).unwrap();
    }
    text
}

#[test]
fn other_sites_take_their_place_on_open_connections() {
    let dir = site();
    let server = start(dir.path(), &format!("{LISTEN}[[sites]]\nroot = 'site'\n"));
    let mut open = connect(server.address(0));
    assert!(ask(&mut open, "a.test", "/").ends_with("<h1>home</h1>\n"));
    write(
        dir.path(),
        &format!(
            "{LISTEN}[[sites]]\nhosts = ['b.test']\nroot = 'site/docs'\n[[sites]]\nroot = 'site'\n\
             headers = {{ x-now = 'two' }}\nerror_pages = {{ 404 = '404.html' }}\n\
             redirects = [{{ from = '/old', to = '/new' }}]\n"
        ),
    );
    assert!(!ask(&mut open, "a.test", "/").contains("x-now"), "nobody has ordered it yet");
    reload(&server, TAKEN);
    let home = ask(&mut open, "a.test", "/");
    assert!(home.contains("x-now: two\r\n") && home.ends_with("<h1>home</h1>\n"), "{home}");
    assert!(ask(&mut open, "b.test", "/").ends_with("<h1>docs</h1>\n"));
    assert!(ask(&mut open, "a.test", "/none").ends_with("<h1>nothing here</h1>\n"));
    assert!(ask(&mut open, "a.test", "/old").contains("location: /new\r\n"));
    // The same words, but what they name has changed.
    fs::write(dir.path().join("site/404.html"), "<h1>gone</h1>\n").unwrap();
    reload(&server, TAKEN);
    assert!(ask(&mut open, "a.test", "/none").ends_with("<h1>gone</h1>\n"));
    write(dir.path(), &format!("{LISTEN}[[sites]]\nroot = 'site'\n"));
    reload(&server, TAKEN);
    assert!(!ask(&mut open, "b.test", "/").contains("docs"), "the site is gone");
}

#[test]
fn a_wrong_configuration_changes_nothing() {
    let dir = site();
    let good = format!("{LISTEN}[[sites]]\nroot = 'site'\n");
    let server = start(dir.path(), &good);
    for (wrong, code, at) in [
        ("[[sites]]\nroot = 'none'\n", "H-SRV-001", "hearth.toml:3:8"),
        ("[[sites]]\nrot = 'site'\n", "H-CFG-", "hearth.toml:3:1"),
        (
            "[[sites]]\nroot = 'site'\n[[sites]]\nroot = 'site/docs'\n",
            "H-SRV-003",
            "hearth.toml:4:1",
        ),
    ] {
        write(dir.path(), &format!("{LISTEN}{wrong}"));
        reload(&server, REFUSED);
        let log = server.log();
        let told =
            log.lines().rev().find(|line| line.contains("ERROR") || line.contains("\"error\""));
        let told = told.unwrap_or_else(|| panic!("{log}"));
        assert!(told.contains(code) && told.contains(at), "{told}");
        assert_eq!(get(server.address(0), "a", "/").text(), "<h1>home</h1>\n");
    }
    fs::remove_file(dir.path().join("hearth.toml")).unwrap();
    reload(&server, REFUSED);
    assert_eq!(get(server.address(0), "a", "/").text(), "<h1>home</h1>\n");
    write(dir.path(), &good);
    reload(&server, TAKEN);
}

#[test]
fn what_is_read_at_the_start_takes_a_restart() {
    let dir = site();
    let server = start(dir.path(), &format!("{LISTEN}[[sites]]\nroot = 'site'\n"));
    write(
        dir.path(),
        &format!(
            "workers = 2\n{LISTEN}[limits]\nmax_body_size = '1 MiB'\n[[sites]]\nroot = 'site/docs'\n"
        ),
    );
    reload(&server, REFUSED);
    let log = server.log();
    assert!(log.contains("H-SRV-020") && log.contains("limits.max_body_size, workers"), "{log}");
    // Nothing in part.
    assert_eq!(get(server.address(0), "a", "/").text(), "<h1>home</h1>\n");
}

#[test]
fn certificates_come_and_go_with_their_sites() {
    let dir = site();
    let [one, two] = ["one.test", "two.test"].map(|name| certificate(dir.path(), name));
    let listen = "listeners = [{ address = '127.0.0.1:0', tls = true }]\n";
    let of = |name: &str, root: &str| {
        format!(
            "[[sites]]\nhosts = ['{name}']\nroot = '{root}'\n\
             tls = {{ certificate = '{name}.pem', key = '{name}.key' }}\n"
        )
    };
    let server = start(dir.path(), &format!("{listen}{}", of("one.test", "site")));
    assert_eq!(get_tls(server.address(0), &one, "one.test").text(), "<h1>home</h1>\n");
    write(
        dir.path(),
        &format!("{listen}{}{}", of("two.test", "site/docs"), of("one.test", "site")),
    );
    reload(&server, TAKEN);
    assert_eq!(get_tls(server.address(0), &one, "one.test").text(), "<h1>home</h1>\n");
    assert_eq!(get_tls(server.address(0), &two, "two.test").text(), "<h1>docs</h1>\n");
    // The first site that asks clients for theirs: handshakes were not made for that.
    crate::tls::clients(dir.path(), "clients");
    let asks = "client_auth = { ca_file = 'clients.pem' } }";
    write(
        dir.path(),
        &format!("{listen}{}", of("one.test", "site").replace(" }", &format!(", {asks}"))),
    );
    reload(&server, REFUSED);
    assert!(server.log().contains("takes a restart"), "{}", server.log());
    assert_eq!(get_tls(server.address(0), &two, "two.test").text(), "<h1>docs</h1>\n");
}

/// Two clients that never stop, and as many changes as there is time for.
#[test]
fn no_request_fails_meanwhile() {
    const RELOADS: usize = 20;
    let dir = site();
    let with = |number: usize| {
        format!(
            "{LISTEN}limits = {{ max_requests_per_connection = 1000000 }}\n\
             [[sites]]\nroot = 'site'\nheaders = {{ x-number = '{number}' }}\n"
        )
    };
    let server = start(dir.path(), &with(0));
    let is_over = AtomicBool::new(false);
    let load = |address: SocketAddr| {
        let mut open = connect(address);
        let mut last = 0;
        // At least one after the last change.
        for is_last in std::iter::repeat_with(|| is_over.load(Relaxed)) {
            let text = ask(&mut open, "a.test", "/");
            assert!(
                text.starts_with("HTTP/1.1 200 ") && text.ends_with("<h1>home</h1>\n"),
                "{text}"
            );
            let number = text.split_once("x-number: ").unwrap().1.split_once('\r').unwrap().0;
            let number: usize = number.parse().unwrap();
            assert!(number >= last, "an older configuration came back");
            last = number;
            if is_last {
                break;
            }
        }
        last
    };
    std::thread::scope(|scope| {
        let clients = [0, 1].map(|_| scope.spawn(|| load(server.address(0))));
        for number in 1..=RELOADS {
            write(dir.path(), &with(number));
            reload(&server, TAKEN);
        }
        is_over.store(true, Relaxed);
        for client in clients {
            assert_eq!(client.join().unwrap(), RELOADS);
        }
    });
}
