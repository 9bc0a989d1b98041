//! The access log and the log, as files.

use std::{fs, path::Path};

use crate::{
    client::{connect, get, get_with},
    process::{Server, site, wait_for},
};

fn start(dir: &Path, more: &str) -> Server {
    let config = dir.join("hearth.toml");
    let text =
        format!("listeners = [{{ address = '127.0.0.1:0' }}]\n{more}\n[[sites]]\nroot = 'site'\n");
    fs::write(&config, text).unwrap();
    Server::start(dir, &["-c", config.to_str().unwrap()])
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// Waits until the file has so many lines.
fn lines(path: &Path, count: usize) -> Vec<String> {
    wait_for(|| read(path).lines().count() >= count, || read(path));
    read(path).lines().map(str::to_owned).collect()
}

#[test]
fn combined() {
    let dir = site();
    let log = dir.path().join("access.log");
    let server = start(dir.path(), "access_log.path = 'access.log'");
    let more = "user-agent: te\"st\r\nreferer: http://a/\r\ncookie: a=secret\r\n";
    get_with(connect(server.address(0)), "a", "/docs/?q=1", more);
    let line = lines(&log, 1).remove(0);
    assert!(line.starts_with("127.0.0.1 - - ["), "{line}");
    let end = "] \"GET /docs/?q=1 HTTP/1.1\" 200 14 \"http://a/\" \"te\\x22st\"";
    assert!(line.ends_with(end), "{line}");
    assert!(!line.contains("secret"));
}

#[test]
fn json_of_a_malformed_request() {
    let dir = site();
    let log = dir.path().join("access.log");
    let server = start(dir.path(), "access_log = { path = 'access.log', format = 'json' }");
    get(server.address(0), "a", "/");
    get_with(connect(server.address(0)), "a", "/x", "content-length: nonsense\r\n");
    // Workers write side by side, so the order is not that of the requests.
    let mut lines = lines(&log, 2);
    lines.sort_by_key(|line| line.contains("\"status\":400"));
    let parse = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap();
    let (good, bad) = (parse(&lines[0]), parse(&lines[1]));
    assert_eq!((&good["status"], &good["target"]), (&200.into(), &"/".into()));
    assert_eq!(good["outcome"], "complete");
    assert_eq!(bad["status"], 400);
    assert_eq!(bad["outcome"], "refused");
}

#[test]
fn reopened_and_rotated() {
    let dir = site();
    let (log, moved) = (dir.path().join("access.log"), dir.path().join("moved.log"));
    let server = start(
        dir.path(),
        // Several workers write side by side, and then the last line need not be in the last file.
        "workers = 1\n\
         access_log = { path = 'access.log', format = 'common', max_size = '4KiB', max_files = 2 }",
    );
    get(server.address(0), "a", "/before");
    lines(&log, 1);
    fs::rename(&log, &moved).unwrap();
    server.signal("USR1");
    wait_for(|| log.exists(), || "not reopened".to_owned());
    for number in 0..200 {
        get(server.address(0), "a", &format!("/{number}"));
    }
    // Workers write side by side, so that a later line may have put the file aside already.
    let young = dir.path().join("access.log.1");
    let has_last = || read(&log).contains("/199 ") || read(&young).contains("/199 ");
    wait_for(has_last, || read(&log));
    assert!(read(&moved).contains("/before") && !read(&moved).contains("/0 "));
    for name in ["access.log", "access.log.1", "access.log.2"] {
        assert!(fs::metadata(dir.path().join(name)).unwrap().len() <= 4096, "{name}");
    }
    assert!(!dir.path().join("access.log.3").exists());
}

#[cfg(target_os = "linux")]
#[test]
fn serving_goes_on_when_the_disk_is_full() {
    let dir = site();
    let server = start(dir.path(), "access_log.path = '/dev/full'");
    for _ in 0..50 {
        assert_eq!(get(server.address(0), "a", "/").status, 200);
    }
    server.wait_for_log("cannot write to the log");
    assert_eq!(server.log().matches("cannot write to the log").count(), 1, "{}", server.log());
}

#[test]
fn the_log_itself_can_be_a_file() {
    let dir = site();
    let log = dir.path().join("hearth.log");
    let mut server = start(dir.path(), "log = { path = 'hearth.log', level = 'info' }");
    server.signal("TERM");
    assert_eq!(server.wait().code(), Some(0));
    let first: serde_json::Value =
        serde_json::from_str(read(&log).lines().next().unwrap()).unwrap();
    assert_eq!(first["message"], "listening");
    assert_eq!(server.log(), "");
}
