//! The documentation that ships with the toolchain, served whole: tens of thousands of files of every size.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use hearth_e2e::{
    h1::{self, Answer},
    h2,
};

use crate::servers::{self, Server};

/// Streams in flight on the HTTP/2 connection.
const STREAMS: usize = 32;

#[test]
fn every_file_over_every_protocol() {
    let root = root();
    let files = Arc::new(files(&root));
    assert!(files.len() > 1000, "only {} files under {}", files.len(), root.display());
    let server = servers::hearth(&root, "");
    over_h1(&server, &root, &files);
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.expect("a runtime");
    runtime.block_on(over_h2(&server, &root, &files, false));
    runtime.block_on(over_h2(&server, &root, &files, true));
}

/// `$(rustc --print sysroot)/share/doc/rust/html`.
pub(crate) fn root() -> PathBuf {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc).args(["--print", "sysroot"]).output().expect("rustc");
    let sysroot = String::from_utf8(output.stdout).expect("a path");
    Path::new(sysroot.trim()).join("share/doc/rust/html")
}

/// Every file below a folder, as the path of a request.
fn files(root: &Path) -> Vec<(String, PathBuf)> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            // Hidden files are not served; the tree has a `.lock` or two.
            let relative = path.strip_prefix(root).expect("below the root");
            let relative = relative.to_str().expect("UTF-8");
            if !relative.split('/').any(|part| part.starts_with('.')) {
                found.push((escape(relative), path));
            }
        }
    }
    found.sort();
    found
}

fn escape(path: &str) -> String {
    let mut out = String::from("/");
    for byte in path.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'-' | b'.' | b'_' | b'~' => {
                out.push(char::from(byte));
            }
            other => out += &format!("%{other:02X}"),
        }
    }
    out
}

#[track_caller]
fn check(target: &str, path: &Path, answer: &Answer) {
    let expected = fs::read(path).expect("the file");
    assert_eq!(answer.status, 200, "{target}");
    let length = expected.len().to_string();
    assert_eq!(answer.field("content-length"), Some(length.as_str()), "{target}");
    assert!(answer.body == expected, "{target}: {} bytes differ", answer.body.len());
    let kind = answer.field("content-type").unwrap_or_default();
    let wanted = match path.extension().and_then(|extension| extension.to_str()) {
        Some("html") => "text/html",
        Some("css") => "text/css",
        Some("js") => "text/javascript",
        Some("svg") => "image/svg+xml",
        Some("png") => "image/png",
        Some("woff2") => "font/woff2",
        Some("json") => "application/json",
        _ => return,
    };
    assert!(kind.starts_with(wanted), "{target}: {kind:?}, wanted {wanted}");
}

fn over_h1(server: &Server, root: &Path, files: &[(String, PathBuf)]) {
    assert!(root.is_dir());
    std::thread::scope(|scope| {
        for half in files.chunks(files.len().div_ceil(2)) {
            scope.spawn(move || {
                let mut client = h1::Client::connect(server.address()).expect("a connection");
                for (number, (target, path)) in half.iter().enumerate() {
                    // Well below the 10,000 requests after which a connection is closed.
                    if number % 5000 == 4999 {
                        client = h1::Client::connect(server.address()).expect("a connection");
                    }
                    let answer = client.get(target).unwrap_or_else(|e| panic!("{target}: {e:#}"));
                    check(target, path, &answer);
                }
            });
        }
    });
}

async fn over_h2(server: &Server, root: &Path, files: &Arc<Vec<(String, PathBuf)>>, tls: bool) {
    assert!(root.is_dir());
    let next = Arc::new(AtomicUsize::new(0));
    let config = || server.certificate.client("h2").expect("TLS settings");
    // As many requests as a connection may carry, then a new one.
    while next.load(Ordering::Relaxed) < files.len() {
        let client = match tls {
            true => h2::Client::connect(server.tls, Some(config())).await,
            false => h2::Client::connect(server.address(), None).await,
        };
        let client = client.expect("a connection");
        let end = (next.load(Ordering::Relaxed) + 5000).min(files.len());
        let tasks: Vec<_> = (0..STREAMS)
            .map(|_| {
                let (client, files, next) = (client.clone(), Arc::clone(files), Arc::clone(&next));
                tokio::spawn(async move {
                    loop {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        if number >= end {
                            return;
                        }
                        let (target, path) = &files[number];
                        let answer = client.get(target).await;
                        let answer = answer.unwrap_or_else(|e| panic!("{target}: {e:#}"));
                        check(target, path, &answer);
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.expect("every file equal");
        }
        next.store(end, Ordering::Relaxed);
    }
}
