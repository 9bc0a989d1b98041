//! How it is stopped.

use std::{
    fs,
    io::{Read, Write},
    path::Path,
};

use crate::{
    client::{connect, get},
    process::{Server, site},
};

fn start(dir: &Path, more: &str) -> Server {
    let config = dir.join("hearth.toml");
    let text =
        format!("{more}\nlisteners = [{{ address = '127.0.0.1:0' }}]\n[[sites]]\nroot = 'site'\n");
    fs::write(&config, text).unwrap();
    Server::start(dir, &["-c", config.to_str().unwrap()])
}

#[test]
fn both_orders_end_it_in_good_order() {
    for name in ["TERM", "INT"] {
        let dir = site();
        let mut server = start(dir.path(), "");
        assert_eq!(get(server.address(0), "a", "/").status, 200);
        server.signal(name);
        assert_eq!(server.wait().code(), Some(0), "{}", server.log());
        assert!(server.log().contains("stopped"), "{}", server.log());
    }
}

#[test]
fn a_request_that_has_begun_is_answered() {
    let dir = site();
    let mut server = start(dir.path(), "");
    let mut stream = connect(server.address(0));
    stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n").unwrap();
    // The server has the first bytes when it answers another connection that came later.
    get(server.address(0), "a", "/");
    server.signal("TERM");
    server.wait_for_log("stopping");
    stream.write_all(b"\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    assert!(text.starts_with("HTTP/1.1 200"), "{text}");
    assert_eq!(server.wait().code(), Some(0), "{}", server.log());
}

#[test]
fn a_second_order_cuts_off() {
    let dir = site();
    let mut server = start(dir.path(), "shutdown_timeout = '1h'");
    let mut stream = connect(server.address(0));
    stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n").unwrap();
    get(server.address(0), "a", "/");
    server.signal("TERM");
    server.wait_for_log("stopping");
    server.signal("INT");
    assert_eq!(server.wait().code(), Some(6), "{}", server.log());
}

#[test]
fn the_grace_period_ends() {
    let dir = site();
    let mut server = start(dir.path(), "shutdown_timeout = '100ms'");
    let mut stream = connect(server.address(0));
    stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n").unwrap();
    get(server.address(0), "a", "/");
    server.signal("TERM");
    assert_eq!(server.wait().code(), Some(6), "{}", server.log());
}
